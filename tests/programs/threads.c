/* Our Fortran and its team of threads without Python, for ThreadSanitizer and valgrind
   (tools/sanitize.sh).  THREADS threads fit compiled functions at the same time, fold row
   blocks into one accumulator each, which are merged, and work as a team on one triangle.
   Each result must have the bits that one thread gives.                                 */
#include "../../src/shim/blocked/team.c"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 8, M = 64, N = 3, ROUNDS = 20 };

LSQ_TSQR_DECLARE(baseline);
static const lsq_tsqr_kernels kernel = LSQ_TSQR_TABLE(baseline);

/* There are no Python signals here. */
int
callbacks_poll_signals(callbacks *cb)
{
    (void)cb;
    return 0;
}

static void *
room(int64_t doubles)
{
    size_t size = (size_t)(doubles * (int64_t)sizeof(double) + 63) / 64 * 64;
    void *p = aligned_alloc(64, size);

    if (p == NULL)
        exit(2);
    memset(p, 0, size);
    return p;
}

static void
in_threads(void *(*body)(void *), void *jobs, size_t size)
{
    pthread_t threads[THREADS];

    for (int k = 0; k < THREADS; k++)
        if (pthread_create(&threads[k], NULL, body, (char *)jobs + (size_t)k * size) != 0)
            exit(2);
    for (int k = 0; k < THREADS; k++)
        pthread_join(threads[k], NULL);
}

static int
differ(const char *what, const void *a, const void *b, size_t size)
{
    if (memcmp(a, b, size) == 0)
        return 0;
    printf("threads: %s: bits differ from those of one thread\n", what);
    return 1;
}

/* -------------------------------------------------------------------- fits */

static int
residual(int64_t m, int64_t n, const double *x, double *fvec, void *data)
{
    const double *t = data, *y = t + m;

    (void)n;
    for (int64_t i = 0; i < m; i++)
        fvec[i] = x[0] * exp(-x[1] * t[i]) + x[2] - y[i];
    return 0;
}

static int
jacobian(int64_t m, int64_t n, const double *x, double *fjac, void *data)
{
    const double *t = data;

    (void)n;
    for (int64_t i = 0; i < m; i++) {
        double e = exp(-x[1] * t[i]);
        fjac[i] = e;
        fjac[m + i] = -x[0] * t[i] * e;
        fjac[2 * m + i] = 1;
    }
    return 0;
}

typedef struct {
    double start, x[2][N], fvec[2][M], cov[N * N];
    int64_t info[2], nfev[2], njev[2];
    double *data;
} fit;

static void *
fits(void *argument)
{
    fit *f = argument;
    double diag[N], fjac[M * N], qtf[N], room[2 * N * N];
    double *work = malloc((size_t)lsq_work_size(M, N) * sizeof *work);
    int64_t ipvt[N];

    for (int round = 0; round < ROUNDS && work != NULL; round++)
        for (int analytic = 0; analytic < 2; analytic++) {
            double *x = f->x[analytic];
            x[0] = f->start, x[1] = 1 / f->start, x[2] = 0;
            if (analytic)
                lsq_lmder(residual, jacobian, f->data, M, N, x, f->fvec[1], fjac, 1e-12, 1e-12, 0, 400,
                          diag, LSQ_SCALE_COLUMNS, 100, &f->info[1], &f->nfev[1], &f->njev[1], ipvt, qtf, work);
            else
                lsq_lmdif(residual, f->data, M, N, x, f->fvec[0], 1e-12, 1e-12, 0, 400, 0, diag,
                          LSQ_SCALE_COLUMNS, 100, &f->info[0], &f->nfev[0], &f->njev[0], fjac, ipvt, qtf, work);
            lsq_covar(N, fjac, M, ipvt, 0, f->cov, room);
        }
    free(work);
    return NULL;
}

static int
check_fits(double *data)
{
    fit alone[THREADS], together[THREADS];
    int wrong = 0;

    memset(alone, 0, sizeof alone);
    for (int k = 0; k < THREADS; k++) {
        alone[k].start = 1 + k / 4.0;
        alone[k].data = data;
    }
    memcpy(together, alone, sizeof alone);
    for (int k = 0; k < THREADS; k++)
        fits(&alone[k]);
    in_threads(fits, together, sizeof *together);
    for (int k = 0; k < THREADS; k++)
        if (alone[k].info[0] < 1 || alone[k].info[0] > 3 || alone[k].info[1] < 1 || alone[k].info[1] > 3) {
            printf("threads: fit %d ended with %lld, %lld\n", k, (long long)alone[k].info[0], (long long)alone[k].info[1]);
            wrong = 1;
        }
    return wrong | differ("fits", alone, together, sizeof alone);
}

/* ------------------------------------------- one triangle; many accumulators */

enum { COLUMNS = 300, ROWS = 700 };     /* of a triangle that a team works on */

typedef struct {
    double *rows, *work;
} share;

static void *
fold(void *argument)
{
    share *s = argument;

    kernel.empty(COLUMNS, s->work);
    kernel.push(COLUMNS, ROWS, s->rows, LSQ_FLOAT64, (COLUMNS + 1) * 8, 8, NULL, LSQ_FLOAT64, 0, s->work, NULL);
    kernel.fold(COLUMNS, s->work);
    return NULL;
}

typedef struct {
    double r[COLUMNS * COLUMNS], qtf[COLUMNS], norms[COLUMNS], rest, x[COLUMNS], sdiag[COLUMNS];
    int64_t ipvt[COLUMNS];
} model;

static void
factor(int threads, const double *rows, model *out)
{
    int64_t size = kernel.room_size(COLUMNS);
    double *work = room(kernel.work_size(COLUMNS)), *rooms = room(THREADS * size), *wa = room(COLUMNS);
    double *counters = room(THREADS * TEAM_COUNTER), *diag = room(COLUMNS);
    team t;

    team_init(&t, NULL, threads, counters, rooms, size);
    for (int j = 0; j < COLUMNS; j++)
        diag[j] = 1 + j % 5;
    kernel.empty(COLUMNS, work);
    kernel.push_by(COLUMNS, ROWS, rows, LSQ_FLOAT64, (COLUMNS + 1) * 8, 8, rows + COLUMNS, LSQ_FLOAT64,
                   (COLUMNS + 1) * 8, work, NULL, &t.public);
    kernel.finish(COLUMNS, work, out->r, COLUMNS, out->ipvt, out->qtf, out->norms, &out->rest, &t.public, LSQ_ORDER_UNKNOWN);
    kernel.qrsolv(COLUMNS, out->r, COLUMNS, out->ipvt, diag, out->qtf, out->x, out->sdiag, wa, work, &t.public);
    free(work), free(rooms), free(wa), free(counters), free(diag);
}

static int
check_triangle(const double *rows)
{
    model *alone = room(2 * (int64_t)sizeof(model) / 8), *together = alone + 1;
    int wrong;

    factor(1, rows, alone);
    factor(THREADS, rows, together);
    wrong = differ("triangle", alone, together, sizeof *alone);
    free(alone);
    return wrong;
}

static int
check_accumulators(double *rows)
{
    share alone[THREADS], together[THREADS];
    int64_t size = kernel.work_size(COLUMNS);
    int wrong = 0;

    for (int k = 0; k < THREADS; k++) {
        alone[k] = (share){rows + k, room(size)};           /* different rows for each thread: shifted by one */
        together[k] = (share){rows + k, room(size)};
        fold(&alone[k]);
    }
    in_threads(fold, together, sizeof *together);
    for (int k = 1; k < THREADS; k++) {
        kernel.merge(COLUMNS, alone[0].work, alone[k].work);
        kernel.merge(COLUMNS, together[0].work, together[k].work);
    }
    wrong = differ("accumulators", alone[0].work, together[0].work, (size_t)size * 8);
    for (int k = 0; k < THREADS; k++)
        free(alone[k].work), free(together[k].work);
    return wrong;
}

int
main(void)
{
    double data[2 * M], *rows = room(ROWS * (COLUMNS + 1) + THREADS);
    uint64_t state = 1;
    int wrong;

    for (int i = 0; i < M; i++) {
        data[i] = i / 16.0;
        data[M + i] = 3 * exp(-0.7 * data[i]) + 0.5 + (i * 7 % 11 - 5) / 500.0;
    }
    for (int64_t i = 0; i < ROWS * (COLUMNS + 1) + THREADS; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        rows[i] = (double)(state >> 11) / 9007199254740992.0 - 0.5;
    }
    wrong = check_fits(data);
    wrong |= check_triangle(rows);
    wrong |= check_accumulators(rows);
    free(rows);
    return wrong;
}
