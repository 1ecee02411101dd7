/* One fit: arguments in, MINPACK's outputs out. */
#include "shim.h"

/* From this many elements of the Jacobian on, the solver's own work outweighs
   handing the GIL back and forth at each callback. */
enum { RELEASE_GIL_ELEMENTS = 1 << 15 };

const char solve_doc[] =
    "solve(func, x0, args, Dfun, full_output, col_deriv, ftol, xtol, gtol, maxfev,\n"
    "      epsfcn, factor, diag)\n--\n\n"
    "One fit.  Returns (x, ier), or with full_output, and always if ier is 9,\n"
    "(x, ier, fvec, nfev, njev, fjac, ipvt, qtf, cov_x or None).";

typedef struct {
    PyObject *func, *x0, *args, *dfun, *epsfcn_object, *diag_object;
    int full_output, col_deriv;
    double ftol, xtol, gtol, factor, epsfcn;
    int64_t maxfev;
} arguments;

/* Everything a fit allocates; dropped together. */
typedef struct {
    callbacks cb;
    PyArrayObject *x, *fvec, *fjac, *qtf, *ipvt, *cov, *diag_array;
    double *memory;             /* scratch, and outputs that are not returned */
    double *diag;
    int64_t *ipvt_core;
    int64_t info, nfev, njev;
} fit;

static int
real_argument(PyObject *object, const char *name, double *value)
{
    *value = PyFloat_AsDouble(object);
    if (*value != -1.0 || !PyErr_Occurred())
        return 0;
    if (PyErr_ExceptionMatches(PyExc_TypeError))
        PyErr_Format(PyExc_TypeError, "leastsq: %s must be a real number, got %s", name,
                     Py_TYPE(object)->tp_name);
    return -1;
}

static int
integer_argument(PyObject *object, const char *name, int64_t *value)
{
    PyObject *index = PyNumber_Index(object);

    if (index == NULL) {
        if (PyErr_ExceptionMatches(PyExc_TypeError))
            PyErr_Format(PyExc_TypeError, "leastsq: %s must be an integer, got %s", name,
                         Py_TYPE(object)->tp_name);
        return -1;
    }
    *value = PyLong_AsLongLong(index);
    Py_DECREF(index);
    if (*value != -1 || !PyErr_Occurred())
        return 0;
    if (PyErr_ExceptionMatches(PyExc_OverflowError))
        PyErr_Format(PyExc_OverflowError, "leastsq: %s must fit in 64 bits, got %R", name, object);
    return -1;
}

static int
flag_argument(PyObject *object, const char *name, int *value)
{
    int64_t number;

    if (PyBool_Check(object) || PyArray_IsScalar(object, Bool)) {
        *value = PyObject_IsTrue(object);
        return *value < 0 ? -1 : 0;
    }
    if (integer_argument(object, name, &number) < 0)
        return -1;
    *value = number != 0;
    return 0;
}

static int
improper(const char *name, const char *wanted, PyObject *got)
{
    PyErr_Format(PyExc_TypeError, "Improper input parameters.: %s must be %s, got %R", name,
                 wanted, got);
    return -1;
}

static int
tolerance_argument(PyObject *object, const char *name, double *value)
{
    if (real_argument(object, name, value) < 0)
        return -1;
    return *value >= 0 ? 0 : improper(name, "zero or positive", object);
}

static int
parse(arguments *a, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 13) {
        PyErr_Format(PyExc_TypeError, "solve takes 13 arguments, got %zd", nargs);
        return -1;
    }
    a->func = args[0];
    a->x0 = args[1];
    a->args = args[2];
    a->dfun = args[3] == Py_None ? NULL : args[3];
    a->epsfcn_object = args[10];
    a->diag_object = args[12];
    if (!PyCallable_Check(a->func)) {
        PyErr_Format(PyExc_TypeError, "leastsq: func must be callable, got %s",
                     Py_TYPE(a->func)->tp_name);
        return -1;
    }
    if (a->dfun != NULL && !PyCallable_Check(a->dfun)) {
        PyErr_Format(PyExc_TypeError, "leastsq: Dfun must be callable or None, got %s",
                     Py_TYPE(a->dfun)->tp_name);
        return -1;
    }
    if (!PyTuple_Check(a->args)) {
        PyErr_SetString(PyExc_TypeError, "solve: args must be a tuple");
        return -1;
    }
    if (flag_argument(args[4], "full_output", &a->full_output) < 0
        || flag_argument(args[5], "col_deriv", &a->col_deriv) < 0
        || tolerance_argument(args[6], "ftol", &a->ftol) < 0
        || tolerance_argument(args[7], "xtol", &a->xtol) < 0
        || tolerance_argument(args[8], "gtol", &a->gtol) < 0
        || integer_argument(args[9], "maxfev", &a->maxfev) < 0
        || real_argument(args[11], "factor", &a->factor) < 0)
        return -1;
    if (!(a->factor > 0))
        return improper("factor", "positive", args[11]);
    if (a->epsfcn_object != Py_None) {
        if (real_argument(a->epsfcn_object, "epsfcn", &a->epsfcn) < 0)
            return -1;
        if (a->epsfcn != a->epsfcn)
            return improper("epsfcn", "a number or None", a->epsfcn_object);
    }
    return 0;
}

/* A new 1-D float64 array with x0's values. */
static PyArrayObject *
start_point(PyObject *x0)
{
    PyArrayObject *array = as_real_array(x0, "x0"), *x = NULL;
    npy_intp n;

    if (array == NULL)
        return NULL;
    n = PyArray_SIZE(array);
    if (n == 0)
        PyErr_SetString(PyExc_TypeError,
                        "Improper input parameters.: x0 must have at least one element, got none");
    else
        x = (PyArrayObject *)PyArray_SimpleNew(1, &n, NPY_DOUBLE);
    if (x != NULL && PyArray_CopyAnyInto(x, array) < 0)
        Py_CLEAR(x);
    Py_DECREF(array);
    return x;
}

/* n positive scale factors; NULL with an error set if they are not that. */
static PyArrayObject *
scale_factors(PyObject *diag, npy_intp n)
{
    PyArrayObject *array = as_real_array(diag, "diag"), *doubles;
    const double *values;

    if (array == NULL)
        return NULL;
    if (PyArray_NDIM(array) != 1 || PyArray_DIM(array, 0) != n) {
        PyObject *shape = PyArray_IntTupleFromIntp(PyArray_NDIM(array), PyArray_SHAPE(array));
        if (shape != NULL)
            PyErr_Format(PyExc_ValueError,
                         "leastsq: diag must have one entry for each of the %zd parameters, "
                         "got shape %S", (Py_ssize_t)n, shape);
        Py_XDECREF(shape);
        Py_DECREF(array);
        return NULL;
    }
    doubles = (PyArrayObject *)PyArray_FROM_OTF((PyObject *)array, NPY_DOUBLE, NPY_ARRAY_CARRAY_RO);
    Py_DECREF(array);
    if (doubles == NULL)
        return NULL;
    values = PyArray_DATA(doubles);
    for (npy_intp j = 0; j < n; j++) {
        if (!(values[j] > 0)) {
            improper("every entry of diag", "positive", diag);
            Py_DECREF(doubles);
            return NULL;
        }
    }
    return doubles;
}

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
    for (npy_intp j = 0; j < n; j++) {  /* should the fit end before a model */
        f->ipvt_core[j] = j + 1;
        qtf[j] = Py_NAN;
    }

    if (m * n >= RELEASE_GIL_ELEMENTS)
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
    return f->info == LSQ_STOPPED ? -1 : 0;
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

    if (!a->full_output && f->info != LSQ_NOT_FINITE)
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
    return Py_BuildValue("OLNLLOOON", f->x, (long long)f->info, fvec, (long long)f->nfev,
                         (long long)f->njev, f->fjac, f->ipvt, f->qtf, cov);
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
    if (parse(&a, args, nargs) < 0 || (f.x = start_point(a.x0)) == NULL)
        goto done;
    if (a.diag_object != Py_None
        && (f.diag_array = scale_factors(a.diag_object, PyArray_DIM(f.x, 0))) == NULL)
        goto done;
    if (callbacks_init(&f.cb, a.func, a.dfun, a.args, PyArray_DIM(f.x, 0), a.col_deriv) < 0
        || callbacks_first(&f.cb, PyArray_DATA(f.x)) < 0)
        goto done;
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
