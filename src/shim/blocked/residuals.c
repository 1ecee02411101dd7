/* Residuals of the blocked provider: their norms and differences, and where they lie. */
#include "blocked.h"

#include <math.h>

enum { NORM_CHUNK = 4096 };     /* stays in L1 between the copy and the sum */

/* A sum of squares between these has lost nothing to under- or overflow, for
   any length. */
static const double LEAST_SAFE_SUM = 1e-260, MOST_SAFE_SUM = 1e300;

/* Is there no need of a second vector of residuals? */
int
blocked_leaves_trial(const callbacks *cb, int weighed)
{
    return cb->cfunc == NULL && !weighed;
}

/* target = source, and its norm, in one pass over memory. */
static double
copy_and_norm(const kernels *k, int64_t m, const double *source, double *target)
{
    double total = 0, norm;

    for (int64_t i = 0; i < m; i += NORM_CHUNK) {
        int64_t length = m - i < NORM_CHUNK ? m - i : NORM_CHUNK;
        if (source != target)
            memcpy(target + i, source + i, (size_t)length * sizeof *target);
        norm = k->norm(length, target + i);
        total += norm * norm;
    }
    if (total > LEAST_SAFE_SUM && total < MOST_SAFE_SUM)
        return sqrt(total);
    return k->norm(m, target);
}

static void
difference_into(int64_t m, const double *restrict moved, const double *restrict fvec, double h,
                double *restrict column)
{
    for (int64_t i = 0; i < m; i++)
        column[i] = (moved[i] - fvec[i]) / h;
}

static void
difference_in_place(int64_t m, const double *restrict fvec, double h, double *restrict column)
{
    for (int64_t i = 0; i < m; i++)
        column[i] = (column[i] - fvec[i]) / h;
}

/* func's values at x as an owned array, with the GIL taken only meanwhile. */
static PyArrayObject *
evaluate(callbacks *cb, const double *x)
{
    PyArrayObject *values = cb->first;
    PyObject *result;

    cb->first = NULL;
    if (values != NULL)
        return values;
    callbacks_take_gil(cb);
    result = callbacks_call(cb, cb->func, x);
    if (result != NULL) {
        values = residual_values(cb, result);
        Py_DECREF(result);
    }
    callbacks_give_gil(cb);
    return values;
}

/* Give up two arrays, either of which may be NULL. */
void
blocked_drop(callbacks *cb, PyArrayObject *one, PyArrayObject *other)
{
    if (one == NULL && other == NULL)
        return;
    callbacks_take_gil(cb);
    Py_XDECREF(one);
    Py_XDECREF(other);
    callbacks_give_gil(cb);
}

int
blocked_norm(int64_t m, int64_t n, const double *x, double *fvec, double *fnorm, void *data)
{
    callbacks *cb = data;
    blocked *b = cb->blocks;
    PyArrayObject *values;
    int status = 0;

    if (b->triangle_team.cancelled)              /* in the damped step before */
        return -1;
    if (cb->cfunc != NULL) {
        status = callbacks_compiled_residual(cb, m, n, x, fvec);
        if (status != 0)
            return status;
        *fnorm = copy_and_norm(b->k, m, fvec, fvec);
    }
    else {
        values = evaluate(cb, x);
        if (values == NULL)
            return -1;
        if (b->leaves_trial) {
            double *where = PyArray_DATA(values);
            *fnorm = copy_and_norm(b->k, m, where, where);
            b->trial = values;
            return 0;
        }
        *fnorm = copy_and_norm(b->k, m, PyArray_DATA(values), fvec);
        blocked_drop(cb, values, NULL);
    }
    if (b->weighed != NULL) {
        status = loss_weigh(m, fvec, b->weighed, 0, cb);
        *fnorm = copy_and_norm(b->k, m, b->weighed, b->weighed);
    }
    return status;
}

/* Is ours the only way to this array and its memory?  Then it cannot change. */
static int
nobody_else_has(const PyArrayObject *array)
{
#ifdef Py_GIL_DISABLED
    (void)array;                /* counts of references say less there */
    return 0;
#else
    return Py_REFCNT(array) == 1 && PyArray_CheckExact((const PyObject *)array)
        && PyArray_NDIM(array) == 1 && PyArray_ISCARRAY(array)
        && PyArray_CHKFLAGS(array, NPY_ARRAY_OWNDATA) && PyArray_BASE((PyArrayObject *)array) == NULL
        && ((const PyArrayObject_fields *)array)->weakreflist == NULL;
#endif
}

/* A Python function's residuals stay in its own array until the trial is judged: no
   code of the user's runs before.  Then that array serves as f(x), or they are copied. */
void
blocked_settle(int64_t m, int accepted, double *fvec, void *data)
{
    callbacks *cb = data;
    blocked *b = cb->blocks;
    PyArrayObject *values = b->trial, *before = b->current;

    b->trial = NULL;
    if (!accepted)
        before = NULL;
    else if (nobody_else_has(values)) {
        b->current = values;
        values = NULL;
    }
    else {
        b->current = NULL;
        memcpy(fvec, PyArray_DATA(values), (size_t)m * sizeof *fvec);
    }
    blocked_drop(cb, before, values);
}

/* Done with a model's Jacobian, and with f(x) too if nobody asks for it in the end: until
   there is another x, only the model is needed.  So it does not lie beside f(trial). */
void
blocked_model_made(blocked *b, PyArrayObject *jacobian)
{
    PyArrayObject *at_x = b->returns_residuals ? NULL : b->current;

    if (at_x != NULL)
        b->current = NULL;
    blocked_drop(b->cb, jacobian, at_x);
}

/* f(x) as an array, which is the caller's now; NULL: it is where it was asked for. */
PyArrayObject *
blocked_residuals(blocked *b)
{
    PyArrayObject *values = b->current;

    b->current = NULL;
    return values;
}

/* Where f(x) is. */
const double *
blocked_at_x(const blocked *b, const double *fvec)
{
    return b->current != NULL ? PyArray_DATA(b->current) : fvec;
}

int
blocked_difference(int64_t m, int64_t n, const double *x, const double *fvec, double h,
                   double *column, void *data)
{
    callbacks *cb = data;
    PyArrayObject *values;
    int status;

    if (cb->cfunc != NULL) {
        status = callbacks_compiled_residual(cb, m, n, x, column);
        if (status == 0)
            difference_in_place(m, fvec, h, column);
        return status;
    }
    values = evaluate(cb, x);
    if (values == NULL)
        return -1;
    difference_into(m, PyArray_DATA(values), blocked_at_x(cb->blocks, fvec), h, column);
    blocked_drop(cb, values, NULL);
    return 0;
}
