/* The blocked provider: the model of long residual vectors, from the rows of [J f] that are folded
   into one triangle, chunk by chunk. */
#ifndef LEASTSQ_BLOCKED_H
#define LEASTSQ_BLOCKED_H

#include "module.h"
#include "user/user.h"

enum { MOST_THREADS = 256 };

/* team.c: threads that work on one thing, and how they wait for each other.  Each counter
   has a cache line of its own. */
enum { TEAM_COUNTER = 8 };

typedef struct {
    lsq_team public;            /* first: what the kernels see */
    callbacks *cb;
    int threads;                /* wanted */
    double *counters;           /* room for as many; the caller's */
    atomic_int begun, cancelled;
} team;

void team_init(team *t, callbacks *cb, int threads, double *counters, double *room,
               int64_t room_size);
int team_cancelled(team *t, int64_t number);

typedef struct {
    callbacks *cb;
    const robust_loss *loss;    /* NULL: none */
    const kernels *k;
    team chunk_team, triangle_team;     /* fold chunks side by side; work on one large triangle */
    int together;               /* there is one chunk only, and the triangle team folds it */
    PyArrayObject *trial;       /* owned: func's last values, until it is known what they are */
    int leaves_trial;           /* do they stay there? */
    PyArrayObject *current;     /* owned: those at x, where nobody else has the array; or NULL */
    int returns_residuals;      /* are those at x wanted after the fit? */
    int64_t chunk_rows;
    int64_t work_size;          /* of an accumulator, in doubles */
    double *whole;              /* the accumulator of all rows; then one for each of the chunk team */
    double *compiled_fjac;      /* room for a compiled Jacobian; the caller's */
    double *weighed;            /* with a loss: lsq_weigh's, the caller's */
    double *rows;               /* then room for weighted rows, for each of the chunk team */
    int keeps;                  /* with a strategy: is the last Jacobian kept for blocked_change? */
    double *changes;            /* then n sums for each chunk */
    double *kept_weights;       /* then with a loss: those of its rows, the caller's */
    PyArrayObject *kept;        /* owned: Dfun's array; NULL where the rows are in memory of the fit's */
    elements kept_rows;         /* data NULL: it is not there */
    uint64_t order;             /* of the last model: a hash of its permutation */
    int settled;                /* was that the order of the one before, too? */
    not_finite fault;           /* in a Jacobian whose column norms are not finite */
    void *memory;
} blocked;

/* Residuals at the x before, and where J'(before - f) is wanted; both NULL: it is not. */
typedef struct {
    const double *before;
    double *change;
} blocked_past;

/* chunks.c */
int64_t chunks_rows(int64_t m, int64_t n);
int chunks_fold(blocked *b, const elements *rows, const double *fvec, const double *residuals,
                const blocked_past *past);

/* change.c: change += J'(other - f) of rows `from` to `to`, both weighted where weights is not NULL */
void rows_change(const elements *rows, int64_t from, int64_t to, int64_t n, const double *f,
                 const double *other, const double *weights, double *change);

/* provider.c */
int blocked_leaves_trial(const callbacks *cb, int weighed);
int blocked_init(blocked *b, callbacks *cb, const robust_loss *loss, const kernels *k, int threads,
                 double *compiled_fjac, double *weighed, int strategic);
void blocked_clear(blocked *b);
PyArrayObject *blocked_residuals(blocked *b);

/* As lsq_norm, lsq_settle, lsq_difference, lsq_factor and lsq_change. */
int blocked_norm(blocked *b, const double *x, double *fvec, double *fnorm);
void blocked_settle(blocked *b, int accepted, double *fvec);
int blocked_difference(blocked *b, const double *x, const double *fvec, double h, double *column);
int blocked_factor(blocked *b, const double *x, const double *fvec, const double *fjac, double *r,
                   int64_t ldr, int64_t *ipvt, double *qtf, double *colnorm, const blocked_past *past);
int blocked_change(blocked *b, const double *fvec, const double *other, double *change);

#endif
