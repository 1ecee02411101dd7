/* Calls to the user's functions: vectorcall with a prebuilt argument vector and
   a fresh, owned x. */
#include "shim.h"

int
callbacks_init(callbacks *cb, PyObject *func, PyObject *dfun, PyObject *args,
               npy_intp n, int col_deriv)
{
    Py_ssize_t nargs = PyTuple_GET_SIZE(args);

    memset(cb, 0, sizeof *cb);
    cb->func = func;
    cb->dfun = dfun;
    cb->args = args;
    cb->n = n;
    cb->m = -1;
    cb->col_deriv = col_deriv;
    cb->vector = cb->inline_vector;
    if (nargs > INLINE_ARGUMENTS) {
        cb->vector = PyMem_Malloc((size_t)(nargs + 2) * sizeof *cb->vector);
        if (cb->vector == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    cb->vector[0] = NULL;
    cb->vector[1] = NULL;
    for (Py_ssize_t k = 0; k < nargs; k++)
        cb->vector[k + 2] = PyTuple_GET_ITEM(args, k);
    return 0;
}

void
callbacks_clear(callbacks *cb)
{
    if (cb->vector != cb->inline_vector)
        PyMem_Free(cb->vector);
    cb->vector = cb->inline_vector;
    Py_CLEAR(cb->x);
    Py_CLEAR(cb->first);
}

/* May the x of the last call be handed out again?  Only if nobody kept it (nor
   a weak reference to it) and nobody changed its make. */
static int
reusable(const callbacks *cb)
{
#ifdef Py_GIL_DISABLED
    (void)cb;
    return 0;                   /* reference counts do not tell here */
#else
    const PyArrayObject *x = cb->x;
    return x != NULL && Py_REFCNT(x) == 1 && PyArray_CheckExact(x)
        && ((const PyArrayObject_fields *)x)->weakreflist == NULL
        && PyArray_NDIM(x) == 1 && PyArray_DIM(x, 0) == cb->n
        && PyArray_TYPE(x) == NPY_DOUBLE && PyArray_BASE(x) == NULL
        && PyArray_CHKFLAGS(x, NPY_ARRAY_CARRAY | NPY_ARRAY_OWNDATA)
        && PyArray_ISNOTSWAPPED(x);
#endif
}

static PyObject *
call(callbacks *cb, PyObject *function, const double *x)
{
    size_t nargs = 1 + (size_t)PyTuple_GET_SIZE(cb->args);

    if (PyErr_CheckSignals() < 0)   /* the function may be pure C */
        return NULL;
    if (!reusable(cb)) {
        npy_intp dims[1] = {cb->n};
        Py_XSETREF(cb->x, (PyArrayObject *)PyArray_SimpleNew(1, dims, NPY_DOUBLE));
        if (cb->x == NULL)
            return NULL;
    }
    memcpy(PyArray_DATA(cb->x), x, (size_t)cb->n * sizeof *x);
    cb->vector[1] = (PyObject *)cb->x;
    return PyObject_Vectorcall(function, cb->vector + 1,
                               nargs | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
}

/* The solver's first evaluation: it tells m, before anything is allocated.  The
   solver reads it when it asks for f(x0). */
int
callbacks_first(callbacks *cb, const double *x)
{
    PyObject *result = call(cb, cb->func, x);
    int status;

    if (result == NULL)
        return -1;
    status = measure_residual(cb, result);
    Py_DECREF(result);
    return status;
}

static void
take_gil(callbacks *cb)
{
    if (cb->released)
        PyEval_RestoreThread(cb->released);
}

static void
give_gil(callbacks *cb)
{
    if (cb->released)
        cb->released = PyEval_SaveThread();
}

int
callbacks_residual(int64_t m, int64_t n, const double *x, double *fvec, void *data)
{
    callbacks *cb = data;
    PyObject *result;
    int status = -1;

    (void)n;
    if (cb->first != NULL) {
        /* known to be float64, contiguous and m long; its data goes where it is
           needed, the array itself when the GIL is held */
        memcpy(fvec, PyArray_DATA(cb->first), (size_t)m * sizeof *fvec);
        take_gil(cb);
        Py_CLEAR(cb->first);
        give_gil(cb);
        return 0;
    }
    take_gil(cb);
    result = call(cb, cb->func, x);
    if (result != NULL) {
        status = read_residual(cb, result, fvec);
        Py_DECREF(result);
    }
    give_gil(cb);
    return status;
}

int
callbacks_jacobian(int64_t m, int64_t n, const double *x, double *fjac, void *data)
{
    callbacks *cb = data;
    PyObject *result;
    int status = -1;

    (void)m;
    (void)n;
    take_gil(cb);
    result = call(cb, cb->dfun, x);
    if (result != NULL) {
        status = read_jacobian(cb, result, fjac);
        Py_DECREF(result);
    }
    give_gil(cb);
    return status;
}
