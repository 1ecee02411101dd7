/* Long residual vectors: the problem whose model comes from row blocks, folded where
   the user's arrays lie (chunks.c).  What is here is its memory, and the model;
   residuals are in residuals.c. */
#include "blocked.h"

#include <math.h>

enum {
    TEAM_FROM = 256,            /* columns from which on several threads share one triangle */
    TOGETHER_ROWS_PER_COLUMN = 96,      /* fewer: one triangle, one accumulator's memory */
    LINE = 64                   /* bytes of a cache line */
};

/* A number of doubles, rounded up to whole cache lines. */
static int64_t
whole_lines(int64_t doubles)
{
    int64_t line = LINE / (int64_t)sizeof(double);

    return (doubles + line - 1) / line * line;
}

int
blocked_init(blocked *b, callbacks *cb, const kernels *k, int threads, double *compiled_fjac,
             double *weighed)
{
    int64_t n = cb->n, pieces = (cb->m + LSQ_BLOCK_ROWS - 1) / LSQ_BLOCK_ROWS, chunks, shared, rows;
    int64_t room = whole_lines(k->room_size(n)), counted = (int64_t)TEAM_COUNTER * threads;
    int folding, sharing = n < TEAM_FROM ? 1 : threads < pieces ? threads : (int)pieces;
    double *counters;

    memset(b, 0, sizeof *b);
    b->cb = cb;
    b->k = k;
    b->compiled_fjac = compiled_fjac;
    b->weighed = weighed;
    b->leaves_trial = blocked_leaves_trial(cb, weighed != NULL);
    b->together = n >= TEAM_FROM && weighed == NULL && cb->m / n < TOGETHER_ROWS_PER_COLUMN;
    b->chunk_rows = chunks_rows(cb->m, n);
    chunks = b->together ? 1 : (cb->m + b->chunk_rows - 1) / b->chunk_rows;
    folding = threads < chunks ? threads : (int)chunks;
    b->work_size = whole_lines(k->work_size(n));
    /* the whole; then an accumulator, and rows, for each of the chunk team; then what the
       triangle team needs */
    shared = chunks == 1 ? 0 : b->work_size * folding;
    rows = weighed == NULL ? 0 : whole_lines(LSQ_BLOCK_ROWS * n * folding);
    b->memory = PyMem_RawMalloc((size_t)(b->work_size + shared + rows + counted
                                         + room * (sharing - 1)) * sizeof(double) + LINE);
    if (b->memory == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    b->whole = (double *)(((uintptr_t)b->memory + LINE - 1) & ~(uintptr_t)(LINE - 1));
    b->rows = b->whole + b->work_size + shared;
    counters = b->rows + rows;
    team_init(&b->chunk_team, cb, folding, counters, NULL, 0);
    team_init(&b->triangle_team, cb, sharing, counters, counters + counted, room);
    return 0;
}

void
blocked_clear(blocked *b)
{
    Py_CLEAR(b->trial);
    Py_CLEAR(b->current);
    PyMem_RawFree(b->memory);
    b->memory = NULL;
}

static int
all_finite(int64_t n, const double *values)
{
    for (int64_t j = 0; j < n; j++)
        if (!isfinite(values[j]))
            return 0;
    return 1;
}

/* FNV-1a (Fowler, Noll, Vo), by element. */
static uint64_t
hash_order(int64_t n, const int64_t *ipvt)
{
    uint64_t hash = 0xcbf29ce484222325;

    for (int64_t j = 0; j < n; j++)
        hash = (hash ^ (uint64_t)ipvt[j]) * 0x100000001b3;
    return hash;
}

/* The model's factors.  An order of the columns that came twice running is tried first
   the next time: towards the end of a fit it seldom changes. */
static void
finish(blocked *b, int64_t n, double *r, int64_t ldr, int64_t *ipvt, double *qtf, double *colnorm)
{
    uint64_t before = b->order;
    double rest;

    b->k->finish(n, b->whole, r, ldr, ipvt, qtf, colnorm, &rest, &b->triangle_team.public, b->settled);
    b->order = hash_order(n, ipvt);
    b->settled = b->order == before;
}

int
blocked_factor(int64_t m, int64_t n, const double *x, const double *fvec, const double *fjac,
               double *r, int64_t ldr, int64_t *ipvt, double *qtf, double *colnorm, void *data)
{
    callbacks *cb = data;
    blocked *b = cb->blocks;
    elements rows = {(const char *)fjac, sizeof(double), (npy_intp)sizeof(double) * m, 0};
    PyArrayObject *values = NULL;
    PyObject *result;
    int status;

    if (cb->cdfun != NULL) {
        status = callbacks_compiled_jacobian(cb, m, n, x, b->compiled_fjac);
        if (status != 0)
            return status;
        rows.data = (const char *)b->compiled_fjac;
    }
    else if (cb->dfun != NULL) {
        callbacks_take_gil(cb);
        result = callbacks_call(cb, cb->dfun, x);
        if (result != NULL) {
            values = jacobian_values(cb, result, 1, &rows);
            Py_DECREF(result);
        }
        callbacks_give_gil(cb);
        if (values == NULL)
            return -1;
    }
    status = b->weighed == NULL ? 0 : loss_weigh(m, fvec, b->weighed, 1, cb);
    if (status == 0)
        status = chunks_fold(b, &rows, b->weighed == NULL ? blocked_at_x(b, fvec) : b->weighed);
    if (status == 0) {
        finish(b, n, r, ldr, ipvt, qtf, colnorm);
        status = b->triangle_team.cancelled ? -1 : 0;
        if (status == 0 && !all_finite(n, colnorm))
            find_not_finite(&rows, m, n, &cb->fault);   /* while the rows are here */
    }
    blocked_model_made(b, values);
    return status;
}
