/* What fits of compiled functions one after another (fitter.c) and several at once
   (lane_fitter.c) share: slots, each with a fit, and the arena of a thread. */
#ifndef LEASTSQ_FITTER_H
#define LEASTSQ_FITTER_H

#include "batch.h"
#include "leastsq.h"

enum { INTERRUPTED = 1, MOST_SLOTS = 2 * MOST_LANES };  /* the former is returned to the core: what
                                                           stops a fit is in `code` */

/* One thread's share of a supply: the group of problems that it has taken. */
typedef struct {
    batch_supply *supply;
    int64_t next, end;
    int64_t finished;           /* not yet added to the supply's `done` */
} queue;

typedef struct {
    batch_fitter *fitter;
    npy_intp k;                 /* the problem; -1: the slot is free */
    lsq_state state;
    double *w, *f, *trial, *fjac;
    double *kept;               /* with a strategy: J as factored, and the weights of its rows */
    int64_t *ipvt;
    void *func_data, *dfun_data;
    const double *weights;
    robust_loss loss;           /* the job's, with this problem's counts */
    int64_t calls;              /* of func */
    int32_t code;
    int no_residuals;           /* func was not called yet, or stopped it at x0 */
} slot;

/* LSQ_LANES fits without bounds, weights and losses.  Number k of lane q is at k*LSQ_LANES + q. */
typedef struct {
    npy_intp problem[LSQ_LANES];        /* -1: the lane is free */
    lsq_lanes_state state;
    double *w;                  /* LSQ_LANES_VECTORS of n */
    double *r;                  /* n x n: R in its upper triangle */
    double *f;                  /* m: the residuals at x */
    int64_t *ipvt;
    void *data[2][LSQ_LANES];   /* func's, Dfun's */
    int32_t code[LSQ_LANES];
    int64_t calls[LSQ_LANES];   /* of func, by the event */
    int no_residuals[LSQ_LANES];        /* func was not called yet, or stopped it at x0 */
} lane_group;

/* A thread's work; its arena follows. */
struct batch_fitter {
    const batch_job *job;
    queue queue;
    leastsq_residual func;
    leastsq_jacobian dfun;
    double *weighed, *scratch;
    batch_lanes *lanes;
    /* Only where functions have lanes: their arguments, `wide` numbers for each of one lane's */
    npy_intp wide;
    double *x, *moved, *steps;  /* n */
    double *out;                /* m */
    double *jac;                /* m x n */
    void **data;
    int32_t *status;
    lane_group groups[2];
    lane_group ended;           /* R and ipvt of the last fits that ended, until their covariances are made */
    int ended_count, free;      /* free: lanes of the groups */
    lsq_state begun;            /* a state at its start, where fits are in groups */
    double *a, *b, *rdiag, *acnorm, *work, *lower, *cov;        /* what the kernels work with, of all lanes */
    int64_t *came, *factored, *places;
    double *lane_w, *lane_r, *lane_jac, *lane_f;        /* one lane's, for lm_core */
    int64_t *lane_ipvt;
    int count;                  /* of slots */
    slot slots[MOST_SLOTS];
};

/* slot.c */
int fitter_stopped(const queue *q);
npy_intp fitter_next(queue *q);
void slot_begin(slot *s, npy_intp k);
void slot_conclude(slot *s);
double slot_norm(const slot *s);
void slot_tell_norm(slot *s, double norm);
void slot_weigh_model(slot *s);
void slot_end(slot *s);

/* lane_fitter.c: the doubles that lanes take, and where they are; the fits */
npy_intp lanes_room(const batch_job *j);
void lanes_lay_out(batch_fitter *w, double *room);
void fit_in_lanes(batch_fitter *w);

/* lane_group.c: the same for fits in groups of lanes, if a job is for these */
int in_groups(const batch_job *j);
npy_intp groups_room(const batch_job *j);
void groups_lay_out(batch_fitter *w, double *room);
lsq_state group_take_out(const batch_fitter *w, const lane_group *g, int l);
void group_put_back(const batch_fitter *w, lane_group *g, int l, const lsq_state *s);
void group_begin(batch_fitter *w, lane_group *g, int l, npy_intp k);
void group_give_back(batch_fitter *w, lane_group *g, int l);
void group_covariances(batch_fitter *w);
void group_exchange(const batch_fitter *w, lane_group *g, int l, lane_group *h, int k);

/* group_fitter.c */
void fit_in_groups(batch_fitter *w);

/* A lane's numbers into a vector, or the reverse; the lanes of one vector. */
static inline void
from_group(npy_intp count, const double *lane, double *vector)
{
    for (npy_intp k = 0; k < count; k++)
        vector[k] = lane[k * LSQ_LANES];
}

static inline void
to_group(npy_intp count, const double *vector, double *lane)
{
    for (npy_intp k = 0; k < count; k++)
        lane[k * LSQ_LANES] = vector[k];
}

static inline double *
group_vector(const batch_fitter *w, const lane_group *g, npy_intp vector)
{
    return g->w + vector * w->job->settings.n * LSQ_LANES;
}

#endif
