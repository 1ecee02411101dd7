/* The blocked provider: the model of long residual vectors, made by folding the rows of [J f] into one
   triangle, chunk by chunk. */
#ifndef LEASTSQ_BLOCKED_H
#define LEASTSQ_BLOCKED_H

#include "module.h"
#include "user/user.h"

enum { MOST_THREADS = 256 };

/* team.c: threads that work on one task, and wait for each other by counters.  Each counter has a cache
   line of its own. */
enum { TEAM_COUNTER = 8 };

typedef struct {
    lsq_team public;            /* first member: the part that the kernels see */
    callbacks *cb;
    int threads;                /* the number that was asked for */
    double *counters;           /* one for each thread; owned by the caller */
    atomic_int begun, cancelled;
} team;

void team_init(team *t, callbacks *cb, int threads, double *counters, double *room,
               int64_t room_size);
int team_cancelled(team *t, int64_t number);

typedef struct {
    callbacks *cb;
    const robust_loss *loss;    /* NULL if there is none */
    const kernels *k;
    team chunk_team, triangle_team;     /* for folding chunks in parallel; for one large triangle */
    int together;               /* does the triangle team fold all rows as one chunk? */
    PyArrayObject *trial;       /* owned: func's last result, until the trial is accepted or rejected */
    int leaves_trial;           /* do residuals stay in the arrays that func returns? */
    PyArrayObject *current;     /* owned: the residuals at x, if the array has no other reference; or NULL */
    int returns_residuals;      /* are the residuals at x needed after the fit? */
    int64_t chunk_rows;
    int64_t work_size;          /* of an accumulator, in doubles */
    double *whole;              /* of all rows, followed by one for each thread of the chunk team */
    double *compiled_fjac;      /* memory for a compiled Jacobian; owned by the caller */
    double *weighed;            /* with a loss: lsq_weigh's; owned by the caller */
    double *rows;               /* with a loss: weighted rows, for each thread of the chunk team */
    int keeps;                  /* with a strategy: is the last Jacobian kept for blocked_change? */
    double *changes;            /* with a strategy: n sums for each chunk */
    double *kept_weights;       /* with a strategy and a loss: the weights of the kept rows; owned by the caller */
    PyArrayObject *kept;        /* owned: Dfun's array; NULL if the rows are in memory of the fit */
    elements kept_rows;         /* the rows of the kept Jacobian; data is NULL if none is kept */
    uint64_t order;             /* a hash of the permutation of the last model */
    int settled;                /* did the last two models have the same permutation? */
    int64_t *places;            /* the inverse of the last model's permutation, from 1; NULL if columns are
                                   always pushed in J's order */
    int ordered;                /* are the columns of the next model pushed to `places`? */
    not_finite fault;           /* in a Jacobian whose column norms are not finite */
    void *memory;
} blocked;

/* The residuals at the x before, and where to store J'(before - f); both NULL if it is not wanted. */
typedef struct {
    const double *before;
    double *change;
} blocked_past;

/* chunks.c */
int64_t chunks_rows(int64_t m, int64_t n);
int chunks_fold(blocked *b, const elements *rows, const double *fvec, const double *residuals,
                const blocked_past *past);

/* change.c: change += J'(other - f) over the rows `from` to `to`; J and the residuals are weighted unless
   weights is NULL */
void rows_change(const elements *rows, int64_t from, int64_t to, int64_t n, const double *f,
                 const double *other, const double *weights, double *change);

/* provider.c */
int blocked_leaves_trial(const callbacks *cb, int weighed);
int blocked_init(blocked *b, callbacks *cb, const robust_loss *loss, const kernels *k, int threads,
                 double *compiled_fjac, double *weighed, int strategic);
void blocked_clear(blocked *b);
PyArrayObject *blocked_residuals(blocked *b);

/* With the signatures of lsq_norm, lsq_settle, lsq_difference, lsq_factor and lsq_change. */
int blocked_norm(blocked *b, const double *x, double *fvec, double *fnorm);
void blocked_settle(blocked *b, int accepted, double *fvec);
int blocked_difference(blocked *b, const double *x, const double *fvec, double h, double *column);
int blocked_factor(blocked *b, const double *x, const double *fvec, const double *fjac, double *r,
                   int64_t ldr, int64_t *ipvt, double *qtf, double *colnorm, const blocked_past *past);
int blocked_change(blocked *b, const double *fvec, const double *other, double *change);

#endif
