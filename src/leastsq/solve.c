/* One fit: arguments in, MINPACK's outputs out. */
#include "shim.h"

/* From this many elements of the Jacobian on, the solver's own work outweighs
   handing the GIL back and forth at each callback. */
enum { RELEASE_GIL_ELEMENTS = 1 << 15 };

const char solve_doc[] =
    "solve(func, x0, args, Dfun, full_output, col_deriv, ftol, xtol, gtol, maxfev,\n"
    "      epsfcn, factor, diag)\n--\n\n"
    "One fit.  Returns (x, ier), or with full_output, and always if ier is 9 or 10,\n"
    "(x, ier, fvec, nfev, njev, fjac, ipvt, qtf, cov_x or None, stop code and who\n"
    "returned it).";

/* Everything a fit allocates; dropped together. */
typedef struct {
    callbacks cb;
    PyArrayObject *x, *fvec, *fjac, *qtf, *ipvt, *cov, *diag_array;
    double *memory;             /* scratch, and outputs that are not returned */
    double *diag;
    int64_t *ipvt_core;
    int64_t info, nfev, njev;
} fit;

static double *
new_array(PyArrayObject **array, int ndim, npy_intp *dims, int type)
{
    *array = (PyArrayObject *)PyArray_SimpleNew(ndim, dims, type);
    return *array == NULL ? NULL : PyArray_DATA(*array);
}

/* Run the solver; 0, or -1 with an error set. */
static int
run(fit *f, const arguments *a)
{
    npy_intp m = f->cb.m, n = f->cb.n, dims[2] = {n, m};
    int64_t mode = f->diag_array != NULL ? LSQ_SCALE_USER : LSQ_SCALE_COLUMNS;
    int64_t maxfev = a->maxfev > 0 ? a->maxfev : (a->dfun ? 100 : 200) * ((int64_t)n + 1);
    size_t work = (size_t)lsq_work_size(m, n), count = work + 2 * (size_t)n;
    double *fvec, *fjac, *qtf, *x = PyArray_DATA(f->x);

    if (m > PY_SSIZE_T_MAX / (npy_intp)sizeof(double) / (n + 16)) {
        PyErr_NoMemory();
        return -1;
    }
    if ((fvec = new_array(&f->fvec, 1, &m, NPY_DOUBLE)) == NULL
        || (fjac = new_array(&f->fjac, 2, dims, NPY_DOUBLE)) == NULL
        || (qtf = new_array(&f->qtf, 1, &n, NPY_DOUBLE)) == NULL)
        return -1;
    f->memory = PyMem_RawMalloc(count * sizeof(double));
    if (f->memory == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    f->diag = f->memory + work;
    f->ipvt_core = (int64_t *)(f->diag + n);
    if (f->diag_array != NULL)
        memcpy(f->diag, PyArray_DATA(f->diag_array), (size_t)n * sizeof(double));
    for (npy_intp j = 0; j < n; j++)    /* should the fit end before a model */
        f->ipvt_core[j] = j + 1;

    if (f->cb.cfunc || f->cb.cdfun || m * n >= RELEASE_GIL_ELEMENTS)
        f->cb.released = PyEval_SaveThread();
    if (a->dfun == NULL)
        lsq_lmdif(callbacks_residual, &f->cb, m, n, x, fvec, a->ftol, a->xtol, a->gtol, maxfev,
                  a->epsfcn_object == Py_None ? f->cb.eps : a->epsfcn, f->diag, mode, a->factor,
                  &f->info, &f->nfev, &f->njev, fjac, f->ipvt_core, qtf, f->memory);
    else
        lsq_lmder(callbacks_residual, callbacks_jacobian, &f->cb, m, n, x, fvec, fjac, a->ftol,
                  a->xtol, a->gtol, maxfev, f->diag, mode, a->factor, &f->info, &f->nfev,
                  &f->njev, f->ipvt_core, qtf, f->memory);
    if (f->cb.released) {
        PyEval_RestoreThread(f->cb.released);
        f->cb.released = NULL;
    }
    return PyErr_Occurred() ? -1 : 0;
}

/* cov_x, or None where the fit failed or R has a zero on its diagonal. */
static PyObject *
covariance(fit *f)
{
    npy_intp n = f->cb.n, dims[2] = {n, n};
    int converged = f->info >= LSQ_FTOL && f->info <= LSQ_GTOL;
    double *cov, *scratch = NULL;

    if (!converged)
        Py_RETURN_NONE;
    cov = new_array(&f->cov, 2, dims, NPY_DOUBLE);
    if (cov == NULL)
        return NULL;
    scratch = PyMem_RawMalloc((size_t)n * (size_t)n * sizeof(double));
    if (scratch == NULL)
        return PyErr_NoMemory();
    if (lsq_covar(n, PyArray_DATA(f->fjac), f->cb.m, f->ipvt_core, 0.0, cov, scratch) < n)
        Py_CLEAR(f->cov);
    PyMem_RawFree(scratch);
    return Py_NewRef(f->cov != NULL ? (PyObject *)f->cov : Py_None);
}

static PyObject *
result(fit *f, const arguments *a)
{
    npy_intp n = f->cb.n;
    PyObject *cov, *fvec;
    int32_t *ipvt;

    if (!a->full_output && f->info < LSQ_NOT_FINITE)
        return Py_BuildValue("OL", f->x, (long long)f->info);
    ipvt = (int32_t *)new_array(&f->ipvt, 1, &n, NPY_INT32);
    if (ipvt == NULL)
        return NULL;
    for (npy_intp j = 0; j < n; j++)
        ipvt[j] = (int32_t)f->ipvt_core[j];
    cov = covariance(f);
    if (cov == NULL)
        return NULL;
    fvec = f->cb.scalar ? PyFloat_FromDouble(*(double *)PyArray_DATA(f->fvec))
                        : Py_NewRef(f->fvec);
    if (fvec == NULL) {
        Py_DECREF(cov);
        return NULL;
    }
    return Py_BuildValue("OLNLLOOONis", f->x, (long long)f->info, fvec, (long long)f->nfev,
                         (long long)f->njev, f->fjac, f->ipvt, f->qtf, cov, f->cb.stop_code,
                         f->cb.stopped_by);
}

PyObject *
solve(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    arguments a;
    fit f;
    PyObject *answer = NULL;

    (void)module;
    memset(&a, 0, sizeof a);
    memset(&f, 0, sizeof f);
    f.cb.vector = f.cb.inline_vector;
    if (arguments_parse(&a, args, nargs) < 0 || (f.x = arguments_start_point(a.x0)) == NULL)
        goto done;
    if (a.diag_object != Py_None
        && (f.diag_array = arguments_scale_factors(a.diag_object, PyArray_DIM(f.x, 0))) == NULL)
        goto done;
    if (callbacks_init(&f.cb, a.func, a.dfun, a.args, PyArray_DIM(f.x, 0), a.col_deriv) < 0
        || callbacks_first(&f.cb, PyArray_DATA(f.x)) < 0)
        goto done;
    if (f.cb.cdfun != NULL && f.cb.cdfun->m != f.cb.m) {
        PyErr_Format(PyExc_ValueError,
                     "leastsq: the compiled Dfun is for m = %lld residuals, func has %zd",
                     (long long)f.cb.cdfun->m, (Py_ssize_t)f.cb.m);
        goto done;
    }
    if (f.cb.m < f.cb.n) {
        PyErr_Format(PyExc_TypeError,
                     "Improper input: func input vector length N=%zd must not exceed func output "
                     "vector length M=%zd", (Py_ssize_t)f.cb.n, (Py_ssize_t)f.cb.m);
        goto done;
    }
    if (run(&f, &a) == 0)
        answer = result(&f, &a);
done:
    callbacks_clear(&f.cb);
    Py_XDECREF(f.x);
    Py_XDECREF(f.fvec);
    Py_XDECREF(f.fjac);
    Py_XDECREF(f.qtf);
    Py_XDECREF(f.ipvt);
    Py_XDECREF(f.cov);
    Py_XDECREF(f.diag_array);
    PyMem_RawFree(f.memory);
    return answer;
}
