/* Long residual vectors: the model from row blocks, folded where the user's
   arrays lie, by several threads if asked.

   The rows are cut into chunks by a plan that depends on their number and width
   only.  A chunk becomes a triangle in the accumulator of whichever thread took
   it; the triangles are merged in the order of the chunks.  So the number of
   threads changes no bit.  Threads end with the evaluation that began them.  */
#include "blocked.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

enum {
    LEAST_CHUNK_ROWS = 4096,
    CHUNK_ROWS_PER_COLUMN = 16, /* a merge then costs 2 % of its chunk */
    MOST_CHUNKS = 64,
    NORM_CHUNK = 4096,          /* stays in L1 between the copy and the sum */
    PIECE_FLOPS = 50 * 1000 * 1000,     /* some 5 ms: then look for signals */
    PIECE_ROWS = 256,
    WAIT_NANOSECONDS = 20 * 1000 * 1000,
    GANG_FROM = 256,            /* columns that are worth threads of their own */
    LINE = 64                   /* bytes of a cache line */
};

/* A sum of squares between these has lost nothing to under- or overflow, for
   any length. */
static const double LEAST_SAFE_SUM = 1e-260, MOST_SAFE_SUM = 1e300;

int64_t
blocked_chunk_rows(int64_t m, int64_t n)
{
    int64_t least = CHUNK_ROWS_PER_COLUMN * n, most = (m + MOST_CHUNKS - 1) / MOST_CHUNKS;

    least = least < LEAST_CHUNK_ROWS ? LEAST_CHUNK_ROWS : least;
    least = least < most ? most : least;
    return (least + PIECE_ROWS - 1) / PIECE_ROWS * PIECE_ROWS;
}

/* A number of doubles, rounded up to whole cache lines. */
static int64_t
whole_lines(int64_t doubles)
{
    int64_t line = LINE / (int64_t)sizeof(double);

    return (doubles + line - 1) / line * line;
}

/* Is there no need of a second vector of residuals? */
int
blocked_leaves_trial(const callbacks *cb, int weighed)
{
    return cb->cfunc == NULL && !weighed;
}

int
blocked_init(blocked *b, callbacks *cb, const kernels *k, int threads, double *compiled_fjac,
             double *weighed)
{
    int64_t n = cb->n, blocks = (cb->m + PIECE_ROWS - 1) / PIECE_ROWS, chunks, shared, finish, rows;
    int64_t room = whole_lines(k->room_size(n)), counted;
    int gang_size = n < GANG_FROM ? 1 : threads < blocks ? threads : (int)blocks;
    double *counters;

    memset(b, 0, sizeof *b);
    b->cb = cb;
    b->k = k;
    b->compiled_fjac = compiled_fjac;
    b->weighed = weighed;
    b->leaves_trial = blocked_leaves_trial(cb, weighed != NULL);
    b->chunk_rows = blocked_chunk_rows(cb->m, n);
    chunks = (cb->m + b->chunk_rows - 1) / b->chunk_rows;
    b->threads = threads < chunks ? threads : (int)chunks;
    b->together = chunks == 1 && n >= GANG_FROM && weighed == NULL;
    b->work_size = whole_lines(k->work_size(n));
    /* the whole; then one accumulator for each thread, whose room is finish's when
       they are merged; then the threads' rows, and what the gang needs */
    shared = chunks == 1 ? 0 : b->work_size * b->threads;
    finish = whole_lines(k->finish_size(n));
    shared = shared > finish ? shared : finish;
    rows = weighed == NULL ? 0 : whole_lines(PIECE_ROWS * n * b->threads);
    counted = (int64_t)GANG_COUNTER * gang_size;
    b->memory = PyMem_RawMalloc((size_t)(b->work_size + shared + rows + counted
                                         + room * (gang_size - 1)) * sizeof(double) + LINE);
    if (b->memory == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    b->whole = (double *)(((uintptr_t)b->memory + LINE - 1) & ~(uintptr_t)(LINE - 1));
    b->scratch = b->whole + b->work_size;
    b->rows = b->scratch + shared;
    counters = b->rows + rows;
    gang_init(&b->gang, cb, gang_size, counters, counters + counted, room);
    return 0;
}

void
blocked_clear(blocked *b)
{
    Py_CLEAR(b->trial);
    PyMem_RawFree(b->memory);
    b->memory = NULL;
}

/* ---------------------------------------------------------------------------
   Norms and differences */

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

static void
drop(callbacks *cb, PyArrayObject *values)
{
    callbacks_take_gil(cb);
    Py_DECREF(values);
    callbacks_give_gil(cb);
}

int
blocked_norm(int64_t m, int64_t n, const double *x, double *fvec, double *fnorm, void *data)
{
    callbacks *cb = data;
    blocked *b = cb->blocks;
    PyArrayObject *values;
    int status = 0;

    if (b->gang.cancelled)              /* in the damped step before */
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
        drop(cb, values);
    }
    if (b->weighed != NULL) {
        status = loss_weigh(m, fvec, b->weighed, cb);
        *fnorm = copy_and_norm(b->k, m, b->weighed, b->weighed);
    }
    return status;
}

/* A Python function's residuals stay in its own array until the trial is judged: no
   code of the user's runs before. */
void
blocked_settle(int64_t m, int accepted, double *fvec, void *data)
{
    callbacks *cb = data;
    blocked *b = cb->blocks;
    PyArrayObject *values = b->trial;

    b->trial = NULL;
    if (accepted)
        memcpy(fvec, PyArray_DATA(values), (size_t)m * sizeof *fvec);
    drop(cb, values);
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
    difference_into(m, PyArray_DATA(values), fvec, h, column);
    drop(cb, values);
    return 0;
}

/* ---------------------------------------------------------------------------
   The model */

/* One evaluation's chunks, shared by its threads. */
typedef struct {
    const blocked *b;
    const elements *rows;
    const double *fvec;
    int64_t chunks;
    atomic_llong next;          /* the chunk that nobody has taken */
    atomic_int cancelled;
    pthread_mutex_t lock;       /* of what follows */
    pthread_cond_t turned;
    int64_t merged;             /* chunks that are in the whole */
} job;

typedef struct {
    job *job;
    int number;                 /* 0 is the calling thread */
} worker;

/* A few rows with their weights, column by column. */
static void
weight_rows(const elements *rows, int64_t first, int64_t count, int64_t n, const double *weights,
            double *target)
{
    for (int64_t j = 0; j < n; j++) {
        const char *from = rows->data + first * rows->row_stride + j * rows->column_stride;
        for (int64_t i = 0; i < count; i++, from += rows->row_stride)
            target[i + j * count] = weights[first + i]
                * (rows->single ? (double)*(const float *)from : *(const double *)from);
    }
}

/* Push rows `first` to `first + count`, weighted with a robust loss. */
static void
push_rows(const job *j, int64_t first, int64_t count, double *accumulator, int number)
{
    const blocked *b = j->b;
    const elements *rows = j->rows;
    int64_t n = b->cb->n, size = sizeof(double);

    if (b->weighed != NULL) {
        double *room = b->rows + (int64_t)number * PIECE_ROWS * n;
        weight_rows(rows, first, count, n, b->weighed + b->cb->m, room);
        b->k->push(n, count, room, LSQ_FLOAT64, size, count * size, j->fvec + first, LSQ_FLOAT64,
                   size, accumulator);
    }
    else
        b->k->push(n, count, rows->data + first * rows->row_stride,
                   rows->single ? LSQ_FLOAT32 : LSQ_FLOAT64, rows->row_stride,
                   rows->column_stride, j->fvec + first, LSQ_FLOAT64, size, accumulator);
}

/* Push a chunk's rows, piece by piece.  The calling thread looks for signals in
   between and cancels the job; the others notice. */
static void
push_chunk(job *j, int64_t chunk, double *accumulator, int number)
{
    const blocked *b = j->b;
    int64_t n = b->cb->n, first = chunk * b->chunk_rows, last = first + b->chunk_rows;
    int64_t piece = PIECE_FLOPS / (2 * n * n) / PIECE_ROWS * PIECE_ROWS;

    piece = piece < PIECE_ROWS || b->weighed != NULL ? PIECE_ROWS : piece;
    last = last < b->cb->m ? last : b->cb->m;
    b->k->empty(n, accumulator);
    for (int64_t row = first; row < last && !atomic_load(&j->cancelled); row += piece) {
        push_rows(j, row, last - row < piece ? last - row : piece, accumulator, number);
        if (number == 0 && callbacks_poll_signals(b->cb) < 0)
            atomic_store(&j->cancelled, 1);
    }
}

/* Wait for a turn, with the lock; the calling thread looks for signals now and then. */
static void
wait_for_turn(job *j, int number)
{
    struct timespec until;

    if (number != 0) {
        pthread_cond_wait(&j->turned, &j->lock);
        return;
    }
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += WAIT_NANOSECONDS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&j->turned, &j->lock, &until);
    pthread_mutex_unlock(&j->lock);
    if (callbacks_poll_signals(j->b->cb) < 0)
        atomic_store(&j->cancelled, 1);
    pthread_mutex_lock(&j->lock);
}

/* Merge a chunk's triangle when those before it are in. */
static void
merge_chunk(job *j, int64_t chunk, double *accumulator, int number)
{
    const blocked *b = j->b;

    pthread_mutex_lock(&j->lock);
    while (j->merged < chunk)
        wait_for_turn(j, number);
    if (!atomic_load(&j->cancelled)) {
        if (chunk == 0)
            memcpy(b->whole, accumulator, (size_t)b->work_size * sizeof(double));
        else
            b->k->merge(b->cb->n, b->whole, accumulator);
    }
    j->merged++;
    pthread_cond_broadcast(&j->turned);
    pthread_mutex_unlock(&j->lock);
}

static void
work_off(job *j, int number)
{
    double *accumulator = j->b->whole + (number + 1) * j->b->work_size;

    for (;;) {
        int64_t chunk = atomic_fetch_add(&j->next, 1);
        if (chunk >= j->chunks)
            return;
        push_chunk(j, chunk, accumulator, number);
        merge_chunk(j, chunk, accumulator, number);
    }
}

static void *
run_worker(void *argument)
{
    worker *w = argument;

    work_off(w->job, w->number);
    return NULL;
}

/* The triangle of all rows, in b->whole. */
static int
accumulate(blocked *b, const elements *rows, const double *fvec)
{
    job j = {.b = b, .rows = rows, .fvec = fvec,
             .chunks = (b->cb->m + b->chunk_rows - 1) / b->chunk_rows};
    pthread_t threads[MOST_THREADS];
    worker workers[MOST_THREADS];
    int started = 0;

    if (b->together) {
        b->k->empty(b->cb->n, b->whole);
        b->k->push_by(b->cb->n, b->cb->m, rows->data, rows->single ? LSQ_FLOAT32 : LSQ_FLOAT64,
                      rows->row_stride, rows->column_stride, fvec, LSQ_FLOAT64, sizeof(double),
                      b->whole, &b->gang.public);
        return b->gang.cancelled ? -1 : 0;
    }
    if (j.chunks == 1) {
        push_chunk(&j, 0, b->whole, 0);
        return j.cancelled ? -1 : 0;
    }
    pthread_mutex_init(&j.lock, NULL);
    pthread_cond_init(&j.turned, NULL);
    /* a thread that cannot be had leaves its share to the others */
    for (; started < b->threads - 1; started++) {
        workers[started] = (worker){&j, started + 1};
        if (pthread_create(&threads[started], NULL, run_worker, &workers[started]) != 0)
            break;
    }
    work_off(&j, 0);
    for (int k = 0; k < started; k++)
        pthread_join(threads[k], NULL);
    pthread_cond_destroy(&j.turned);
    pthread_mutex_destroy(&j.lock);
    return j.cancelled ? -1 : 0;
}

static int
all_finite(int64_t n, const double *values)
{
    for (int64_t j = 0; j < n; j++)
        if (!isfinite(values[j]))
            return 0;
    return 1;
}

int
blocked_factor(int64_t m, int64_t n, const double *x, const double *fvec, const double *fjac,
               double *r, int64_t ldr, int64_t *ipvt, double *qtf, double *colnorm, void *data)
{
    callbacks *cb = data;
    blocked *b = cb->blocks;
    double rest;
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
    status = b->weighed == NULL ? 0 : loss_weigh(m, fvec, b->weighed, cb);
    if (status == 0)
        status = accumulate(b, &rows, b->weighed == NULL ? fvec : b->weighed);
    if (status == 0) {
        b->k->finish(n, b->whole, r, ldr, ipvt, qtf, colnorm, &rest, b->scratch,
                     &b->gang.public);
        status = b->gang.cancelled ? -1 : 0;
        if (status == 0 && !all_finite(n, colnorm))
            find_not_finite(&rows, m, n, &cb->fault);   /* while the rows are here */
    }
    if (values != NULL)
        drop(cb, values);
    return status;
}
