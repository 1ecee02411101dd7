/* The blocked provider: its memory; residuals, their norms, differences and places; the model, from rows
   that are folded directly from the user's arrays (chunks.c). */
#include "blocked.h"

#include <math.h>

enum {
    TEAM_FROM = 256,            /* with at least this many columns, several threads share one triangle */
    TOGETHER_ROWS_PER_COLUMN = 96,      /* with fewer rows: one triangle and one accumulator */
    ORDER_FROM = 96,            /* with at least this many columns, and with at most */
    ORDER_ROWS_PER_COLUMN = 16, /* this many rows for each, columns are pushed in the last model's order (finish) */
    NORM_PIECE = 4096,          /* stays in L1 between the copy and the sum */
    LINE = 64                   /* bytes of a cache line */
};

/* A sum of squares between these limits has lost nothing to under- or overflow, for any length. */
static const double LEAST_SAFE_SUM = 1e-260, MOST_SAFE_SUM = 1e300;

/* A number of doubles, rounded up to whole cache lines. */
static int64_t
whole_lines(int64_t doubles)
{
    int64_t line = LINE / (int64_t)sizeof(double);

    return (doubles + line - 1) / line * line;
}

/* Do residuals stay in the arrays that func returns, so that one vector of them is enough? */
int
blocked_leaves_trial(const callbacks *cb, int weighed)
{
    return cb->cfunc == NULL && !weighed;
}

int
blocked_init(blocked *b, callbacks *cb, const robust_loss *loss, const kernels *k, int threads,
             double *compiled_fjac, double *weighed, int strategic)
{
    int64_t n = cb->n, pieces = (cb->m + LSQ_BLOCK_ROWS - 1) / LSQ_BLOCK_ROWS, chunks, shared, rows, sums;
    int64_t room = whole_lines(k->room_size(n)), counted = (int64_t)TEAM_COUNTER * threads, places;
    int folding, sharing = n < TEAM_FROM ? 1 : threads < pieces ? threads : (int)pieces;
    double *counters;

    memset(b, 0, sizeof *b);
    b->cb = cb;
    b->loss = loss;
    b->k = k;
    b->compiled_fjac = compiled_fjac;
    b->weighed = weighed;
    b->leaves_trial = !strategic && blocked_leaves_trial(cb, weighed != NULL);
    b->keeps = strategic;
    b->together = n >= TEAM_FROM && weighed == NULL && cb->m / n < TOGETHER_ROWS_PER_COLUMN;
    b->chunk_rows = chunks_rows(cb->m, n);
    chunks = b->together ? 1 : (cb->m + b->chunk_rows - 1) / b->chunk_rows;
    folding = threads < chunks ? threads : (int)chunks;
    b->work_size = whole_lines(k->work_size(n));
    /* the accumulator of all rows; an accumulator and rows for each thread of the chunk team; the
       triangle team's memory */
    shared = chunks == 1 ? 0 : b->work_size * folding;
    rows = weighed == NULL ? 0 : whole_lines(LSQ_BLOCK_ROWS * n * folding);
    sums = strategic ? whole_lines(chunks * n) : 0;
    places = n >= ORDER_FROM && cb->m / n <= ORDER_ROWS_PER_COLUMN ? whole_lines(n) : 0;
    b->memory = PyMem_RawMalloc((size_t)(b->work_size + shared + rows + sums + counted + places
                                         + room * (sharing - 1)) * sizeof(double) + LINE);
    if (b->memory == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    b->whole = (double *)(((uintptr_t)b->memory + LINE - 1) & ~(uintptr_t)(LINE - 1));
    b->rows = b->whole + b->work_size + shared;
    b->changes = b->rows + rows;
    b->places = places == 0 ? NULL : (int64_t *)(b->changes + sums);
    counters = b->changes + sums + places;
    team_init(&b->chunk_team, cb, folding, counters, NULL, 0);
    team_init(&b->triangle_team, cb, sharing, counters, counters + counted, room);
    return 0;
}

void
blocked_clear(blocked *b)
{
    Py_CLEAR(b->trial);
    Py_CLEAR(b->current);
    Py_CLEAR(b->kept);
    PyMem_RawFree(b->memory);
    b->memory = NULL;
}

/* ----------------------------------------------------------------- residuals */

/* target = source; returns the norm, from the same pass over memory. */
static double
copy_and_norm(const kernels *k, int64_t m, const double *source, double *target)
{
    double total = 0, norm;

    for (int64_t i = 0; i < m; i += NORM_PIECE) {
        int64_t length = m - i < NORM_PIECE ? m - i : NORM_PIECE;
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

/* func's result at x as an owned array; takes the GIL for this call only. */
static PyArrayObject *
evaluate(callbacks *cb, const double *x)
{
    PyArrayObject *values = cb->first;
    PyObject *result;

    cb->first = NULL;
    if (values != NULL)
        return values;
    gil_take(&cb->gil);
    result = callbacks_call(cb, cb->func, x);
    if (result != NULL) {
        values = residual_values(cb, result);
        Py_DECREF(result);
    }
    gil_give(&cb->gil);
    return values;
}

/* Drop the references to two arrays, either of which may be NULL. */
static void
drop(callbacks *cb, PyArrayObject *one, PyArrayObject *other)
{
    if (one == NULL && other == NULL)
        return;
    gil_take(&cb->gil);
    Py_XDECREF(one);
    Py_XDECREF(other);
    gil_give(&cb->gil);
}

int
blocked_norm(blocked *b, const double *x, double *fvec, double *fnorm)
{
    callbacks *cb = b->cb;
    int64_t m = cb->m;
    PyArrayObject *values;
    int status = 0;

    if (b->triangle_team.cancelled)              /* cancelled in the last damped step */
        return -1;
    if (cb->cfunc != NULL) {
        status = callbacks_compiled_residual(cb, x, fvec);
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
        drop(cb, values, NULL);
    }
    if (b->loss != NULL) {
        status = loss_weigh(b->loss, &cb->gil, m, fvec, b->weighed, 0);
        *fnorm = copy_and_norm(b->k, m, b->weighed, b->weighed);
    }
    return status;
}

/* Is this the only reference to the array, and the array the only one to its memory?  Then nothing else can
   change it. */
static int
nobody_else_has(const PyArrayObject *array)
{
#ifdef Py_GIL_DISABLED
    (void)array;                /* reference counts say less there */
    return 0;
#else
    return Py_REFCNT(array) == 1 && PyArray_CheckExact((const PyObject *)array)
        && PyArray_NDIM(array) == 1 && PyArray_ISCARRAY(array)
        && PyArray_CHKFLAGS(array, NPY_ARRAY_OWNDATA) && PyArray_BASE((PyArrayObject *)array) == NULL
        && ((const PyArrayObject_fields *)array)->weakreflist == NULL;
#endif
}

/* Like nobody_else_has, for a matrix, or for a view of a matrix to which only the view refers: no code of the
   user can change it. */
static int
nobody_else_changes(const PyArrayObject *array)
{
#ifdef Py_GIL_DISABLED
    (void)array;
    return 0;
#else
    PyObject *base;

    for (;;) {
        if (Py_REFCNT(array) != 1 || !PyArray_CheckExact((const PyObject *)array)
            || ((const PyArrayObject_fields *)array)->weakreflist != NULL)
            return 0;
        base = PyArray_BASE((PyArrayObject *)array);
        if (base == NULL)
            return PyArray_CHKFLAGS(array, NPY_ARRAY_OWNDATA);
        if (!PyArray_Check(base))
            return 0;
        array = (const PyArrayObject *)base;
    }
#endif
}

/* Called once the trial is accepted or rejected.  Until then the residuals of a Python function stay in
   the array that it returned, because no code of the user runs meanwhile.  If the trial is accepted, that
   array becomes f(x), or is copied if it has other references. */
void
blocked_settle(blocked *b, int accepted, double *fvec)
{
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
        memcpy(fvec, PyArray_DATA(values), (size_t)b->cb->m * sizeof *fvec);
    }
    drop(b->cb, before, values);
}

/* Release a model's Jacobian, and f(x) too if it is not among the results: until a step is accepted only
   the model is needed, and f(x) need not be in memory together with f(trial). */
static void
model_made(blocked *b, PyArrayObject *jacobian)
{
    PyArrayObject *residuals = b->returns_residuals ? NULL : b->current;

    if (residuals != NULL)
        b->current = NULL;
    drop(b->cb, jacobian, residuals);
}

/* f(x) as an array, a new reference; NULL if f(x) is in the memory that the core passed. */
PyArrayObject *
blocked_residuals(blocked *b)
{
    PyArrayObject *values = b->current;

    b->current = NULL;
    return values;
}

/* The address of f(x). */
static const double *
at_x(const blocked *b, const double *fvec)
{
    return b->current != NULL ? PyArray_DATA(b->current) : fvec;
}

int
blocked_difference(blocked *b, const double *x, const double *fvec, double h, double *column)
{
    callbacks *cb = b->cb;
    int64_t m = cb->m;
    PyArrayObject *values;
    int status;

    if (cb->cfunc != NULL) {
        status = callbacks_compiled_residual(cb, x, column);
        if (status == 0)
            difference_in_place(m, fvec, h, column);
        return status;
    }
    values = evaluate(cb, x);
    if (values == NULL)
        return -1;
    difference_into(m, PyArray_DATA(values), at_x(b, fvec), h, column);
    drop(cb, values, NULL);
    return 0;
}

/* ----------------------------------------------------------------- the model */

static int
all_finite(int64_t n, const double *values)
{
    for (int64_t j = 0; j < n; j++)
        if (!isfinite(values[j]))
            return 0;
    return 1;
}

/* FNV-1a (Fowler, Noll, Vo), by elements. */
static uint64_t
hash_order(int64_t n, const int64_t *ipvt)
{
    uint64_t hash = 0xcbf29ce484222325;

    for (int64_t j = 0; j < n; j++)
        hash = (hash ^ (uint64_t)ipvt[j]) * 0x100000001b3;
    return hash;
}

/* The model's factors.  The order of the columns changes little from one model to the next, and seldom towards the
   end of a fit.  If there are few rows for each column, the triangle is a large part of the cost, and the columns
   have been pushed in the last model's order.  With many rows they are pushed in J's order, in which the zeros of a
   sparse Jacobian stay together; an order that the last two models had is then tried first. */
static void
finish(blocked *b, int64_t n, double *r, int64_t ldr, int64_t *ipvt, double *qtf, double *colnorm)
{
    int64_t expected = b->ordered ? LSQ_ORDER_PUSHED : b->settled ? LSQ_ORDER_LIKELY : LSQ_ORDER_UNKNOWN;
    uint64_t before = b->order;
    double rest;

    if (b->ordered)
        for (int64_t j = 0; j < n; j++)
            ipvt[b->places[j] - 1] = j + 1;
    b->k->finish(n, b->whole, r, ldr, ipvt, qtf, colnorm, &rest, &b->triangle_team.public, expected);
    b->order = hash_order(n, ipvt);
    b->settled = b->order == before;
    b->ordered = b->places != NULL;
    if (b->ordered)
        for (int64_t j = 0; j < n; j++)
            b->places[ipvt[j] - 1] = j + 1;
}

int
blocked_factor(blocked *b, const double *x, const double *fvec, const double *fjac, double *r,
               int64_t ldr, int64_t *ipvt, double *qtf, double *colnorm, const blocked_past *past)
{
    callbacks *cb = b->cb;
    PyArrayObject *kept = b->kept;
    int64_t m = cb->m, n = cb->n;
    elements rows = {(const char *)fjac, sizeof(double), (npy_intp)sizeof(double) * m, 0};
    PyArrayObject *values = NULL;
    PyObject *result;
    int status;

    b->kept = NULL;
    b->kept_rows.data = NULL;
    drop(cb, kept, NULL);
    if (cb->cdfun != NULL) {
        status = callbacks_compiled_jacobian(cb, x, b->compiled_fjac);
        if (status != 0)
            return status;
        rows.data = (const char *)b->compiled_fjac;
    }
    else if (cb->dfun != NULL) {
        gil_take(&cb->gil);
        result = callbacks_call(cb, cb->dfun, x);
        if (result != NULL) {
            values = jacobian_values(cb, result, 1, &rows);
            Py_DECREF(result);
        }
        gil_give(&cb->gil);
        if (values == NULL)
            return -1;
    }
    status = b->loss == NULL ? 0 : loss_weigh(b->loss, &cb->gil, m, fvec, b->weighed, 1);
    if (status == 0)
        status = chunks_fold(b, &rows, b->loss == NULL ? at_x(b, fvec) : b->weighed, fvec, past);
    if (status == 0 && b->kept_weights != NULL)
        memcpy(b->kept_weights, b->weighed + m, (size_t)m * sizeof *b->weighed);
    if (status == 0) {
        finish(b, n, r, ldr, ipvt, qtf, colnorm);
        status = b->triangle_team.cancelled ? -1 : 0;
        if (status == 0 && !all_finite(n, colnorm))
            find_not_finite(&rows, m, n, &b->fault);   /* while the rows are in memory */
    }
    if (status == 0 && b->keeps && (values == NULL || nobody_else_changes(values))) {
        b->kept_rows = rows;
        b->kept = values;
        values = NULL;
    }
    model_made(b, values);
    return status;
}

/* With the signature of lsq_change. */
int
blocked_change(blocked *b, const double *fvec, const double *other, double *change)
{
    if (b->kept_rows.data == NULL)
        return 0;
    memset(change, 0, (size_t)b->cb->n * sizeof *change);
    rows_change(&b->kept_rows, 0, b->cb->m, b->cb->n, fvec, other, b->kept_weights, change);
    return 1;
}
