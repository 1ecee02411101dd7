/* One fit: memory, the solver, and MINPACK's outputs out. */
#include "blocked.h"

#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>
#endif

/* From this many elements of the Jacobian on, the solver's own work outweighs
   handing the GIL back and forth at each callback. */
enum { RELEASE_GIL_ELEMENTS = 1 << 15 };

/* From this much on (m*n elements, m rows), a QR from row blocks pays: see
   docs/performance.md.  Below, MINPACK's own, with MINPACK's bits. */
enum { BLOCKED_ELEMENTS = 1 << 15, BLOCKED_ROWS = 1 << 10 };

const char solve_doc[] =
    "solve(func, x0, args, Dfun, full_output, col_deriv, ftol, xtol, gtol, maxfev,\n"
    "      epsfcn, factor, diag, qr, threads)\n--\n\n"
    "One fit.  Returns (x, ier), or with full_output, and always if ier is 9 or 10,\n"
    "(x, ier, fvec, nfev, njev, fjac, ipvt, qtf, cov_x or None, fault, stop).";

/* Bytes from which on NumPy asks the system for huge pages. */
enum { LARGE_ARRAY = 1 << 22 };

/* Everything a fit allocates; dropped together. */
typedef struct {
    callbacks cb;
    blocked blocks;             /* in use if blocks.k is set */
    PyArrayObject *x, *fvec, *fjac, *qtf, *ipvt, *cov, *diag_array;
    double *memory;             /* scratch */
    double *columns;            /* blocked: m x n for differences or a compiled Dfun */
    double *r;                  /* of the last Jacobian, leading dimension ldr */
    int64_t ldr;
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

static int
use_blocks(const arguments *a, npy_intp m, npy_intp n)
{
    if (a->qr != QR_AUTO)
        return a->qr == QR_BLOCKED;
    return m >= BLOCKED_ROWS && m * n >= BLOCKED_ELEMENTS;
}

/* Memory for the dense provider, or the blocked one. */
static int
allocate(fit *f, const arguments *a, const kernels *k)
{
    npy_intp m = f->cb.m, n = f->cb.n, dims[2] = {n, m};
    size_t size, work;
    int by_blocks;

    if (m > PY_SSIZE_T_MAX / (npy_intp)sizeof(double) / (n + 16)) {
        PyErr_NoMemory();
        return -1;
    }
    by_blocks = use_blocks(a, m, n);
    if (new_array(&f->fvec, 1, &m, NPY_DOUBLE) == NULL
        || new_array(&f->qtf, 1, &n, NPY_DOUBLE) == NULL)
        return -1;
    if (!by_blocks) {
        f->r = new_array(&f->fjac, 2, dims, NPY_DOUBLE);
        f->ldr = m;
        if (f->r == NULL)
            return -1;
    }
    work = (size_t)lsq_work_size(m, n);
    size = work + 2 * (size_t)n + (by_blocks ? (size_t)n * (size_t)n : 0);
    f->memory = PyMem_RawMalloc(size * sizeof(double));
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
    if (!by_blocks)
        return 0;
    f->r = f->diag + 2 * n;
    f->ldr = n;
    memset(f->r, 0, (size_t)n * (size_t)n * sizeof(double));
    if (f->cb.dfun == NULL || f->cb.cdfun != NULL) {
        f->columns = PyMem_RawMalloc((size_t)m * (size_t)n * sizeof(double));
        if (f->columns == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    if (blocked_init(&f->blocks, &f->cb, k, a->threads) < 0)
        return -1;
    f->blocks.compiled_fjac = f->columns;
    return 0;
}

/* Run the solver; 0, or -1 with an error set. */
static int
run(fit *f, const arguments *a)
{
    npy_intp m = f->cb.m, n = f->cb.n;
    int64_t mode = f->diag_array != NULL ? LSQ_SCALE_USER : LSQ_SCALE_COLUMNS;
    int64_t maxfev = a->maxfev > 0 ? a->maxfev : (a->dfun ? 100 : 200) * ((int64_t)n + 1);
    double epsfcn = a->epsfcn_object == Py_None ? f->cb.eps : a->epsfcn;
    double *x = PyArray_DATA(f->x), *fvec = PyArray_DATA(f->fvec), *qtf = PyArray_DATA(f->qtf);

    if (f->cb.cfunc || f->cb.cdfun || f->blocks.k || m * n >= RELEASE_GIL_ELEMENTS)
        f->cb.released = PyEval_SaveThread();
    if (f->blocks.k != NULL)
        lsq_blocked(blocked_norm, blocked_difference, blocked_factor, f->blocks.k->qrsolv,
                    f->blocks.whole, &f->blocks, m, n, x, fvec, f->r, a->ftol, a->xtol, a->gtol,
                    maxfev, epsfcn, f->diag, mode, a->factor, &f->info, &f->nfev, &f->njev,
                    f->cb.dfun == NULL ? f->columns : NULL, f->ipvt_core, qtf, f->memory);
    else if (a->dfun == NULL)
        lsq_lmdif(callbacks_residual, &f->cb, m, n, x, fvec, a->ftol, a->xtol, a->gtol, maxfev,
                  epsfcn, f->diag, mode, a->factor, &f->info, &f->nfev, &f->njev, f->r,
                  f->ipvt_core, qtf, f->memory);
    else
        lsq_lmder(callbacks_residual, callbacks_jacobian, &f->cb, m, n, x, fvec, f->r, a->ftol,
                  a->xtol, a->gtol, maxfev, f->diag, mode, a->factor, &f->info, &f->nfev,
                  &f->njev, f->ipvt_core, qtf, f->memory);
    if (f->cb.released) {
        PyEval_RestoreThread(f->cb.released);
        f->cb.released = NULL;
    }
    return PyErr_Occurred() ? -1 : 0;
}

/* Where is what is not finite?  The blocked provider has looked already. */
static void
find_fault(fit *f)
{
    npy_intp m = f->cb.m, size = sizeof(double);
    elements residuals = {PyArray_BYTES(f->fvec), size, 0, 0};
    elements jacobian = {(const char *)f->r, size, m * size, 0};

    if (f->njev == 0)
        find_not_finite(&residuals, m, 1, &f->cb.fault);
    else if (f->blocks.k == NULL)
        find_not_finite(&jacobian, m, f->cb.n, &f->cb.fault);
}

/* NumPy asks for huge pages in large arrays; one element would then fill 2 MB,
   and a column's R the whole of a fjac that is mostly zeros. */
static void
ask_for_small_pages(void *start, size_t size)
{
#ifdef MADV_NOHUGEPAGE
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = ((uintptr_t)start + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)start + size) / page * page;

    if (size >= LARGE_ARRAY && first < end)
        (void)madvise((void *)first, end - first, MADV_NOHUGEPAGE);   /* a hint */
#else
    (void)start, (void)size;
#endif
}

/* After a fit that ended with half a model, or none: nan in place of it.  After
   a blocked one: R in its place in zeros, whose pages stay untouched. */
static int
settle_factors(fit *f)
{
    npy_intp m = f->cb.m, n = f->cb.n, dims[2] = {n, m};
    int failed = f->info >= LSQ_NOT_FINITE;
    double *qtf = PyArray_DATA(f->qtf), *fjac;

    for (npy_intp j = 0; failed && j < n; j++)
        qtf[j] = Py_NAN;
    if (f->blocks.k == NULL) {
        for (npy_intp k = 0; failed && k < m * n; k++)
            f->r[k] = Py_NAN;
        return 0;
    }
    PyMem_RawFree(f->columns);
    f->columns = NULL;
    f->fjac = (PyArrayObject *)PyArray_ZEROS(2, dims, NPY_DOUBLE, 0);
    if (f->fjac == NULL)
        return -1;
    fjac = PyArray_DATA(f->fjac);
    ask_for_small_pages(fjac, (size_t)PyArray_NBYTES(f->fjac));
    for (npy_intp j = 0; j < n; j++)
        for (npy_intp i = 0; i <= j; i++)
            fjac[i + j * m] = failed ? Py_NAN : f->r[i + j * n];
    return 0;
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
    if (lsq_covar(n, f->r, f->ldr, f->ipvt_core, 0.0, cov, scratch) < n)
        Py_CLEAR(f->cov);
    PyMem_RawFree(scratch);
    return Py_NewRef(f->cov != NULL ? (PyObject *)f->cov : Py_None);
}

/* "residual" or "Jacobian" with row, column and value; None if all is finite. */
static PyObject *
fault(const fit *f)
{
    const not_finite *where = &f->cb.fault;

    if (!where->found)
        Py_RETURN_NONE;
    return Py_BuildValue("nnd", (Py_ssize_t)where->row, (Py_ssize_t)where->column, where->value);
}

static PyObject *
result(fit *f, const arguments *a)
{
    npy_intp n = f->cb.n;
    PyObject *cov = NULL, *fvec = NULL, *where = NULL, *stop = NULL;
    int32_t *ipvt;

    if (!a->full_output && f->info < LSQ_NOT_FINITE)
        return Py_BuildValue("OL", f->x, (long long)f->info);
    if (f->info == LSQ_NOT_FINITE)
        find_fault(f);
    ipvt = (int32_t *)new_array(&f->ipvt, 1, &n, NPY_INT32);
    if (ipvt == NULL || settle_factors(f) < 0)
        return NULL;
    for (npy_intp j = 0; j < n; j++)
        ipvt[j] = (int32_t)f->ipvt_core[j];
    cov = covariance(f);
    fvec = f->cb.scalar ? PyFloat_FromDouble(*(double *)PyArray_DATA(f->fvec))
                        : Py_NewRef(f->fvec);
    where = fault(f);
    stop = f->cb.stopped_by == NULL ? Py_NewRef(Py_None)
                                    : Py_BuildValue("si", f->cb.stopped_by, f->cb.stop_code);
    /* N steals; a NULL among them becomes the error that is set */
    return Py_BuildValue("OLNLLOOONNN", f->x, (long long)f->info, fvec, (long long)f->nfev,
                         (long long)f->njev, f->fjac, f->ipvt, f->qtf, cov, where, stop);
}

PyObject *
solve(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    const module_state *state = PyModule_GetState(module);
    arguments a;
    fit f;
    PyObject *answer = NULL;

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
    if (allocate(&f, &a, state->kernels) == 0 && run(&f, &a) == 0)
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
    PyMem_RawFree(f.columns);
    blocked_clear(&f.blocks);
    return answer;
}
