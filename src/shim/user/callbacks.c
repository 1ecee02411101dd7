/* Calls of the user's functions.  Python functions are called by vectorcall, with a prebuilt
   argument vector and a new array x.  Compiled functions are called directly, without
   the GIL, with a check for signals now and then. */
#include "user.h"

#include <time.h>

/* A Ctrl-C waits at most this long after the end of the running evaluation.  A much shorter time
   would be useless, because a busy Python thread gives up the GIL only after 5 ms. */
enum { POLL_MILLISECONDS = 50 };

#ifdef CLOCK_MONOTONIC_COARSE
#define POLL_CLOCK CLOCK_MONOTONIC_COARSE       /* 5 ns; CLOCK_MONOTONIC takes 25 */
#else
#define POLL_CLOCK CLOCK_MONOTONIC
#endif

static int64_t
milliseconds(void)
{
    struct timespec now;

    clock_gettime(POLL_CLOCK, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int
callbacks_init(callbacks *cb, PyObject *func, PyObject *dfun, PyObject *args,
               npy_intp n, int col_deriv)
{
    Py_ssize_t nargs = PyTuple_GET_SIZE(args);

    memset(cb, 0, sizeof *cb);
    cb->func = func;
    cb->dfun = dfun;
    cb->cfunc = as_compiled(func);
    cb->cdfun = dfun == NULL ? NULL : as_compiled(dfun);
    cb->curve = nargs > 0 ? NULL : as_curve(func);
    cb->dcurve = nargs > 0 || dfun == NULL ? NULL : as_curve(dfun);
    cb->args = args;
    cb->n = n;
    cb->m = -1;
    cb->polled = cb->cfunc || cb->cdfun ? milliseconds() : 0;
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

/* Reuse the x of the last call only if no other reference to it exists (not even a weak
   one) and its dtype, shape and flags are unchanged. */
static int
reusable(const callbacks *cb)
{
#ifdef Py_GIL_DISABLED
    (void)cb;
    return 0;                   /* reference counts say nothing here */
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

PyObject *
callbacks_call(callbacks *cb, PyObject *function, const double *x)
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

/* Determine m before anything is allocated, from func's first result, which is kept until the
   solver asks for f(x0).  The m of a compiled function is known. */
int
callbacks_first(callbacks *cb, const double *x)
{
    PyObject *result;
    int status;

    if (cb->cfunc != NULL) {
        cb->m = cb->cfunc->m;
        cb->eps = 0x1p-52;
        return 0;
    }
    result = callbacks_call(cb, cb->func, x);
    if (result == NULL)
        return -1;
    status = measure_residual(cb, result);
    Py_DECREF(result);
    return status;
}

/* Has a signal handler raised?  Checked every POLL_MILLISECONDS. */
int
callbacks_poll_signals(callbacks *cb)
{
    int64_t now = milliseconds();
    int status;

    if (now - cb->polled < POLL_MILLISECONDS)
        return 0;
    cb->polled = now;
    gil_take(&cb->gil);
    status = PyErr_CheckSignals();
    gil_give(&cb->gil);
    return status;
}

/* After a call of a compiled function: did it return a stop code, or did a signal arrive? */
static int
after_compiled(callbacks *cb, int code, const char *name)
{
    if (code != 0) {
        cb->stop_code = code;
        cb->stopped_by = name;
        return code;
    }
    return callbacks_poll_signals(cb);
}

int
callbacks_compiled_residual(callbacks *cb, const double *x, double *fvec)
{
    leastsq_residual function = (leastsq_residual)cb->cfunc->function;

    if (!cb->wrote_residuals)
        unwritten(fvec, cb->m);
    cb->wrote_residuals = 1;
    return after_compiled(cb, function(cb->m, cb->n, x, fvec, cb->cfunc->data), "func");
}

int
callbacks_compiled_jacobian(callbacks *cb, const double *x, double *fjac)
{
    leastsq_jacobian function = (leastsq_jacobian)cb->cdfun->function;

    if (!cb->wrote_jacobian)
        unwritten(fjac, cb->m * cb->n);
    cb->wrote_jacobian = 1;
    return after_compiled(cb, function(cb->m, cb->n, x, fjac, cb->cdfun->data), "Dfun");
}

int
callbacks_residual(callbacks *cb, const double *x, double *fvec)
{
    PyObject *result;
    int status = -1;

    if (cb->cfunc != NULL)
        return callbacks_compiled_residual(cb, x, fvec);
    if (cb->first != NULL) {
        /* the array is float64, contiguous and of length m; its data are copied where they are
           needed, and the array is released when the GIL is held */
        memcpy(fvec, PyArray_DATA(cb->first), (size_t)cb->m * sizeof *fvec);
        gil_take(&cb->gil);
        Py_CLEAR(cb->first);
        gil_give(&cb->gil);
        return 0;
    }
    gil_take(&cb->gil);
    if (cb->curve != NULL)
        status = curve_residual(cb->curve, cb, x, fvec);
    else if ((result = callbacks_call(cb, cb->func, x)) != NULL) {
        status = read_residual(cb, result, fvec);
        Py_DECREF(result);
    }
    gil_give(&cb->gil);
    return status;
}

int
callbacks_jacobian(callbacks *cb, const double *x, double *fjac)
{
    PyObject *result;
    int status = -1;

    if (cb->cdfun != NULL)
        return callbacks_compiled_jacobian(cb, x, fjac);
    gil_take(&cb->gil);
    if (cb->dcurve != NULL)
        status = curve_jacobian(cb->dcurve, cb, x, fjac);
    else if ((result = callbacks_call(cb, cb->dfun, x)) != NULL) {
        status = read_jacobian(cb, result, fjac);
        Py_DECREF(result);
    }
    gil_give(&cb->gil);
    return status;
}
