/* Fold all rows into one triangle, by several threads on request.

   The rows are divided into chunks by a plan that depends only on their number and
   width.  Each chunk becomes a triangle in the accumulator of the thread that took it;
   the triangles are merged in the order of the chunks.  So the number of threads changes
   no bit.  Where the rows are few compared with the columns, there is only one
   triangle, into which the triangle team folds the rows.                         */
#include "blocked.h"

enum {
    LEAST_CHUNK_ROWS = 4096,
    CHUNK_ROWS_PER_COLUMN = 16, /* so that a merge costs 2 % of its chunk */
    MOST_CHUNKS = 64,
    PIECE_FLOPS = 50 * 1000 * 1000      /* between checks for signals: about 5 ms */
};

/* The chunks of one evaluation, which the chunk team shares. */
typedef struct {
    blocked *b;
    const elements *rows;
    const double *fvec;         /* the residuals that are folded: with a loss, those of its model */
    const double *residuals;    /* the residuals that func returned */
    const blocked_past *past;
    int64_t chunks;
    atomic_llong next;          /* the first chunk that no thread has taken */
} job;

int64_t
chunks_rows(int64_t m, int64_t n)
{
    int64_t least = CHUNK_ROWS_PER_COLUMN * n, most = (m + MOST_CHUNKS - 1) / MOST_CHUNKS;

    least = least < LEAST_CHUNK_ROWS ? LEAST_CHUNK_ROWS : least;
    least = least < most ? most : least;
    return (least + LSQ_BLOCK_ROWS - 1) / LSQ_BLOCK_ROWS * LSQ_BLOCK_ROWS;
}

/* Copy a few rows with their weights, by columns. */
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
push_rows(const job *j, int64_t first, int64_t count, double *accumulator, int64_t number)
{
    const blocked *b = j->b;
    const elements *rows = j->rows;
    const int64_t *places = b->ordered ? b->places : NULL;
    int64_t n = b->cb->n, size = sizeof(double);

    if (b->weighed != NULL) {
        double *room = b->rows + number * LSQ_BLOCK_ROWS * n;
        weight_rows(rows, first, count, n, b->weighed + b->cb->m, room);
        b->k->push(n, count, room, LSQ_FLOAT64, size, count * size, j->fvec + first, LSQ_FLOAT64,
                   size, accumulator, places);
    }
    else
        b->k->push(n, count, rows->data + first * rows->row_stride,
                   rows->single ? LSQ_FLOAT32 : LSQ_FLOAT64, rows->row_stride,
                   rows->column_stride, j->fvec + first, LSQ_FLOAT64, size, accumulator, places);
}

/* Push the rows of a chunk, piece by piece.  Not 0 if it was cancelled meanwhile. */
static int
push_chunk(const job *j, int64_t chunk, double *accumulator, int64_t number)
{
    const blocked *b = j->b;
    int64_t n = b->cb->n, first = chunk * b->chunk_rows, last = first + b->chunk_rows;
    int64_t piece = PIECE_FLOPS / (2 * n * n) / LSQ_BLOCK_ROWS * LSQ_BLOCK_ROWS;
    double *change = NULL;

    piece = piece < LSQ_BLOCK_ROWS || b->weighed != NULL ? LSQ_BLOCK_ROWS : piece;
    last = last < b->cb->m ? last : b->cb->m;
    b->k->empty(n, accumulator);
    if (j->past->before != NULL) {      /* here, while the piece is in the cache */
        change = b->changes + chunk * n;
        memset(change, 0, (size_t)n * sizeof *change);
        piece = LSQ_BLOCK_ROWS;
    }
    for (int64_t row = first; row < last; row += piece) {
        int64_t count = last - row < piece ? last - row : piece;

        if (change != NULL)
            rows_change(j->rows, row, row + count, n, j->residuals, j->past->before,
                        b->weighed == NULL ? NULL : b->weighed + b->cb->m, change);
        push_rows(j, row, count, accumulator, number);
        if (team_cancelled(&j->b->chunk_team, number))
            return -1;
    }
    return 0;
}

/* The work of one thread of the chunk team.  Counter 0 is the number of chunks merged so far. */
static void
fold_chunks(int64_t number, void *data)
{
    job *j = data;
    blocked *b = j->b;
    lsq_team *folding = &b->chunk_team.public;
    double *accumulator = b->whole + (number + 1) * b->work_size;

    for (;;) {
        int64_t chunk = atomic_fetch_add(&j->next, 1);
        if (chunk >= j->chunks || push_chunk(j, chunk, accumulator, number) != 0
            || folding->await(folding, number, 0, chunk))
            return;
        if (chunk == 0)
            memcpy(b->whole, accumulator, (size_t)b->work_size * sizeof(double));
        else
            b->k->merge(b->cb->n, b->whole, accumulator);
        if (folding->reach(folding, number, 0, chunk + 1))
            return;
    }
}

/* Add the changes of all chunks, in the order of the chunks. */
static int
add_changes(const job *j)
{
    int64_t n = j->b->cb->n;
    double *change = j->past->change;

    if (j->past->before == NULL)
        return 0;
    memset(change, 0, (size_t)n * sizeof *change);
    for (int64_t chunk = 0; chunk < j->chunks; chunk++)
        for (int64_t k = 0; k < n; k++)
            change[k] += j->b->changes[chunk * n + k];
    return 0;
}

/* Make the triangle of all rows, in b->whole, and the change that `past` asks for.  -1 if a signal handler has
   raised. */
int
chunks_fold(blocked *b, const elements *rows, const double *fvec, const double *residuals,
            const blocked_past *past)
{
    job j = {.b = b, .rows = rows, .fvec = fvec, .residuals = residuals, .past = past,
             .chunks = (b->cb->m + b->chunk_rows - 1) / b->chunk_rows};

    if (b->together) {
        b->k->empty(b->cb->n, b->whole);
        b->k->push_by(b->cb->n, b->cb->m, rows->data, rows->single ? LSQ_FLOAT32 : LSQ_FLOAT64,
                      rows->row_stride, rows->column_stride, fvec, LSQ_FLOAT64, sizeof(double),
                      b->whole, b->ordered ? b->places : NULL, &b->triangle_team.public);
        if (past->before != NULL) {
            memset(past->change, 0, (size_t)b->cb->n * sizeof *past->change);
            rows_change(rows, 0, b->cb->m, b->cb->n, residuals, past->before, NULL, past->change);
        }
        return b->triangle_team.cancelled ? -1 : 0;
    }
    if (j.chunks == 1)
        return push_chunk(&j, 0, b->whole, 0) != 0 ? -1 : add_changes(&j);
    b->chunk_team.public.run(&b->chunk_team.public, fold_chunks, &j);
    return b->chunk_team.cancelled ? -1 : add_changes(&j);
}
