/* The C declarations of the Fortran core.  They mirror c_api.f90 and the codes in
   fortran/core/kinds.f90 (tests/package/test_invariants.py compares them).

   Arrays are column-major and owned by the caller.  Sizes are 64-bit.  No
   function here allocates, prints, keeps a pointer or touches Python.        */
#ifndef LEASTSQ_CORE_H
#define LEASTSQ_CORE_H

#include "leastsq.h"

/* Why a fit ended: MINPACK's info, then our own. */
enum {
    LSQ_IMPROPER = 0,
    LSQ_FTOL = 1,
    LSQ_XTOL = 2,
    LSQ_FTOL_XTOL = 3,
    LSQ_GTOL = 4,
    LSQ_MAXFEV = 5,
    LSQ_FTOL_TOO_SMALL = 6,
    LSQ_XTOL_TOO_SMALL = 7,
    LSQ_GTOL_TOO_SMALL = 8,
    LSQ_NOT_FINITE = 9,
    LSQ_STOPPED = 10,           /* a callback returned nonzero */
    LSQ_WATCHER = 11,           /* the watcher returned nonzero */
    LSQ_NO_DATA = 12            /* only in batches: a problem has fewer data than free parameters */
};

/* What the ask/tell machine wants next. */
enum {
    LSQ_ASK_DONE = 0,
    LSQ_ASK_NORM = 1,           /* |f| at `trial` */
    LSQ_ASK_MODEL = 2,          /* R, ipvt, Q'f and column norms at `x` */
    LSQ_ASK_CHANGE = 3,         /* J'(f(trial) - f(x)), where f(trial) was just evaluated */
    LSQ_ASK_FEELER = 4          /* the same, but f(trial) must be evaluated first */
};

/* Which steps are taken. */
enum {
    LSQ_STRATEGY_MINPACK = 0,
    LSQ_STRATEGY_FAST = 1,
    LSQ_STRATEGY_ROBUST = 2
};

/* Source of the scale factors (MINPACK's mode). */
enum {
    LSQ_SCALE_COLUMNS = 1,
    LSQ_SCALE_USER = 2
};

/* The columns of the ask/tell machine's vectors w[n x LSQ_VECTORS], or with bounds
   w[n x lsq_core_columns(n, 1, 0)]. */
enum {
    LSQ_X = 0, LSQ_TRIAL, LSQ_STEP, LSQ_DIAG, LSQ_COLNORM, LSQ_QTF,
    LSQ_SCRATCH,                /* four scratch vectors from here on */
    LSQ_VECTORS = LSQ_SCRATCH + 4,
    LSQ_LO = LSQ_VECTORS, LSQ_HI,
    LSQ_SIDE,                   /* -1 at lo, 1 at hi, 0 free */
    LSQ_SLOPE,                  /* J'f/|f| */
    LSQ_LARGEST,                /* largest |x| so far */
    LSQ_FELT,                   /* last x at which f depended on every variable */
    LSQ_LEFT,                   /* the step away from LSQ_FELT; in a search, its best trial */
    LSQ_BEST,                   /* the best x before the restart */
    LSQ_WARY,                   /* bounds at which f or the model was not finite */
    LSQ_NEAR_LO, LSQ_NEAR_HI,   /* the part of the box that a step may reach */
    LSQ_RHS,
    LSQ_TRIANGLE                /* n columns */
};

/* With a strategy other than MINPACK's, the columns after those: lsq_core_columns(n, bounded, 0) + LSQ_C_CHANGE
   and so on. */
enum {
    LSQ_C_CHANGE = 0,           /* told: J'(f(y) - f(x)), where y is the previous x or the trial */
    LSQ_C_LAST_X,               /* the previous x */
    LSQ_C_LARGEST,              /* largest |x| so far; with bounds: LSQ_LARGEST */
    LSQ_C_ALONG, LSQ_C_BEND,    /* a direction, and the curvature known along it */
    LSQ_C_START,                /* x0 */
    LSQ_C_BEST,                 /* the best x before the restart; with bounds: LSQ_BEST */
    LSQ_C_SDIAG,                /* scratch from here on */
    LSQ_C_ANSWER,
    LSQ_C_SCRATCH,
    LSQ_CURVATURE_VECTORS = LSQ_C_SCRATCH + 2
};

/* LSQ_C_CHANGE for f at the previous x, when a model is asked for. */
enum {
    LSQ_PAST_NONE = 0,
    LSQ_PAST_WANTED = 1,        /* LSQ_C_CHANGE may be told with the model */
    LSQ_PAST_TOLD = 2           /* set by the caller that has told it */
};

/* The kind of trial: a step of the model, or with bounds a probe. */
enum {
    LSQ_PROBE_NONE = 0,
    LSQ_PROBE_START,            /* a start on a bound, moved inside */
    LSQ_PROBE_END,              /* variables near their bounds, put onto them */
    LSQ_PROBE_BACK,             /* back from a region where f does not depend on a variable */
    LSQ_PROBE_SEARCH,           /* inside the box, if there is no point to go back to */
    LSQ_PROBE_RETURN,           /* to LSQ_BEST, which was better */
    LSQ_PROBE_RETREAT           /* inside, from bounds at which f or the model is not finite */
};

/* The signatures that users implement for compiled functions. */
typedef leastsq_residual lsq_residual;
typedef leastsq_jacobian lsq_jacobian;

/* lm_state.f90: lm_state_t. */
typedef struct {
    /* set by the caller before lsq_start */
    int64_t n, maxfev, scaling;
    double ftol, xtol, gtol, factor;
    /* set by the machine */
    int64_t request, info, accepted, nfev, njev, iteration;
    double fnorm, xnorm, gnorm, radius, par, pnorm;
    double actual, predicted, slope, ratio;
    /* 1: the vectors have LSQ_LO and LSQ_HI, both set before lsq_start; 0 if not */
    int64_t bounded;
    /* set by the machine, with bounds */
    int64_t hits, probe, pending, best_info, restarts, felt, touched, tries;
    double distrust, best_norm, tried_norm;
    /* set by the caller before lsq_start.  changes is 1 if ASK_CHANGE and ASK_FEELER will be answered */
    int64_t strategy, changes;
    /* set by the machine, with a strategy; past also by the caller that tells a model */
    int64_t past, known, attempt, sound;
    double first_norm, start_norm;
} lsq_state;

/* Did the fit end in a success?  All other codes are failures. */
static inline int
lsq_succeeded(const lsq_state *s)
{
    return s->info >= LSQ_FTOL && s->info <= LSQ_GTOL;
}

/* Whole fits: MINPACK's argument order (without nprint, ldfjac), `work` of
   lsq_work_size(m, n) doubles.  `diag` is read if mode is LSQ_SCALE_USER and
   holds the scale factors used on return.  fjac is m x n.  ipvt is one-based. */
int64_t lsq_work_size(int64_t m, int64_t n);
void lsq_lmdif(lsq_residual fcn, void *data, int64_t m, int64_t n, double *x,
               double *fvec, double ftol, double xtol, double gtol, int64_t maxfev,
               double precision, double *diag, int64_t mode, double factor,
               int64_t *info, int64_t *nfev, int64_t *njev, double *fjac,
               int64_t *ipvt, double *qtf, double *work);
void lsq_lmder(lsq_residual fcn, lsq_jacobian jac, void *data, int64_t m, int64_t n,
               double *x, double *fvec, double *fjac, double ftol, double xtol,
               double gtol, int64_t maxfev, double *diag, int64_t mode,
               double factor, int64_t *info, int64_t *nfev, int64_t *njev,
               int64_t *ipvt, double *qtf, double *work);

/* Of the functions below, a status other than 0 ends the fit. */

/* Called with the state after an event; may read s and w but not change them. */
typedef int (*lsq_watch)(const lsq_state *s, const double *w, void *data);
/* A robust loss: sets weighed[0..m) to the residuals whose squares are the loss; with `model`, to
   the model's residuals, and weighed[m..2m) to the weights of the rows of J. */
typedef int (*lsq_weigh)(int64_t m, const double *f, double *weighed, int model, void *data);
/* fvec = f(x) and its norm. */
typedef int (*lsq_norm)(int64_t m, int64_t n, const double *x, double *fvec, double *fnorm,
                        void *data);
/* Called once the trial is accepted or rejected: if it is accepted and lsq_norm kept its residuals
   elsewhere, copy them into fvec. */
typedef void (*lsq_settle)(int64_t m, int accepted, double *fvec, void *data);
/* column = (f(x) - fvec)/h. */
typedef int (*lsq_difference)(int64_t m, int64_t n, const double *x, const double *fvec,
                              double h, double *column, void *data);
/* R (upper triangle of r), ipvt, Q'f and column norms of J at x, where f is fvec.  J is fjac; if
   that is NULL, this function makes J.  Unless `before` is NULL, also change = J'(before - f). */
typedef int (*lsq_factor)(int64_t m, int64_t n, const double *x, const double *fvec,
                          const double *fjac, double *r, int64_t ldr, int64_t *ipvt,
                          double *qtf, double *colnorm, const double *before, double *change,
                          void *data);
/* change = J'(other - fvec), with J of the last model.  Returns 0 if J is no longer available. */
typedef int (*lsq_change)(int64_t m, int64_t n, const double *fvec, const double *other, double *change,
                          void *data);
/* qrsolv by blocks; `work` is an accumulator's. */
struct lsq_team;
typedef void (*lsq_damped)(int64_t n, double *r, int64_t ldr, const int64_t *ipvt,
                           const double *diag, const double *qtb, double *x, double *sdiag,
                           double *wa, double *work, struct lsq_team *team);

/* fdjac2.f90: differences_t.  How forward differences are made. */
typedef struct {
    double precision;           /* relative error of f */
    int64_t grows;              /* 1: a step that changes no residual grows; 0: MINPACK's steps */
    const double *lo, *hi, *largest;    /* columns of w: all with bounds, only largest with a strategy; else NULL */
} lsq_differences;

/* problem_record.f90: problem_record_t.  Members that are not needed are NULL. */
typedef struct {
    void *data;                 /* every function's last argument */
    lsq_differences differences;
    lsq_watch watch;
    /* dense */
    lsq_residual residual;
    lsq_jacobian jacobian;      /* NULL: differences */
    lsq_weigh weigh;
    double *weighed;            /* with weigh: 2m doubles */
    double *kept;               /* with a strategy: m x n doubles, with weigh m more; or NULL */
    /* blocked, if factor is not NULL */
    lsq_norm norm;
    lsq_difference difference;
    lsq_factor factor;
    lsq_settle settle;          /* or NULL; with it `spare` may be fvec itself */
    lsq_change change;          /* or NULL */
    double *fjac;               /* memory for an m x n difference Jacobian; NULL: factor makes J */
    lsq_damped damped;
    double *damped_work;
    struct lsq_team *team;      /* damped's last argument, or NULL: kernels.h */
} lsq_problem;

/* A whole fit.  On entry s holds the settings and w the start, as for lsq_start; on return they hold
   the answer.  Dense: r is m x n and ldr is m; blocked: r is n x n.  spare holds m doubles. */
void lsq_fit(const lsq_problem *problem, int64_t m, lsq_state *s, double *w, double *fvec,
             double *r, int64_t ldr, int64_t *ipvt, double *spare);

/* The ask/tell machine: n-sized, see fortran/core/lm_core.f90. */
int64_t lsq_core_columns(int64_t n, int64_t bounded, int64_t strategy);
void lsq_start(lsq_state *s, double *w);
void lsq_tell_norm(lsq_state *s, double *w, double *r, int64_t ldr,
                   const int64_t *ipvt, double fnorm, int64_t cost);
void lsq_tell_model(lsq_state *s, double *w, double *r, int64_t ldr,
                    const int64_t *ipvt, int64_t cost);

/* The same for a model from an accumulator: with many variables `damped` replaces qrsolv. */
void lsq_tell_norm_blocked(lsq_state *s, double *w, double *r, int64_t ldr,
                           const int64_t *ipvt, double fnorm, int64_t cost,
                           lsq_damped damped, double *work); /* or NULL, NULL */
void lsq_tell_model_blocked(lsq_state *s, double *w, double *r, int64_t ldr,
                            const int64_t *ipvt, int64_t cost,
                            lsq_damped damped, double *work);

/* Tell that w holds the answer to LSQ_ASK_CHANGE or LSQ_ASK_FEELER; not `answered`: there is none. */
void lsq_tell_change(lsq_state *s, double *w, double *r, int64_t ldr,
                     const int64_t *ipvt, int64_t cost, int answered,
                     lsq_damped damped, double *work); /* or NULL, NULL */
/* change = J'(f_other - f); unless `weights` is NULL, the difference is weighted like the rows of J. */
void lsq_change_along(int64_t m, int64_t n, const double *jac, const double *f, const double *f_other,
                      double *change, const double *weights);

/* The steps of differences (fdjac2.f90): x[j] is moved to moved[j], within its bounds, by steps[j],
   which is 0 where lo = hi.  Relative steps are `stride` apart; with 0 all are the same.
   lo and hi, or largest, may be NULL. */
double lsq_relative_step(double precision);
void lsq_difference_steps(int64_t n, const double *x, const double *relative, int64_t stride,
                          double *moved, double *steps, const double *lo, const double *hi,
                          const double *largest);

/* Kernels.  covar returns the numerical rank; cov and work are n x n. */
double lsq_enorm(int64_t n, const double *x);
/* The same, given the sum `total` of the squares from first to last. */
double lsq_settled_norm(int64_t n, const double *x, double total);
/* The norms of the n columns of a. */
void lsq_column_norms(int64_t m, int64_t n, const double *a, int64_t lda, double *norms);
void lsq_fdjac2(lsq_residual fcn, void *data, int64_t m, int64_t n, const double *x,
                const double *fvec, double *fjac, const lsq_differences *how, double *xwork,
                int *status);
/* Unless it is NULL, b[m] becomes Q'b. */
void lsq_qrfac(int64_t m, int64_t n, double *a, int64_t lda, int64_t pivot,
               int64_t *ipvt, double *rdiag, double *acnorm, double *wa, double *b);
/* The dense model (dense.f90): the upper triangle of fjac[m x n] becomes R, f[m] becomes Q'f, and
   qtf gets the first n elements of Q'f.  work: 2n doubles. */
void lsq_dense_model(int64_t m, int64_t n, double *fjac, double *f, int64_t *ipvt, double *qtf,
                     double *colnorm, double *work);
/* Several problems at once, one in each lane of a vector: fortran/kernels/lanes.F90 and lane_steps.F90.
   Number k of lane q is at k*LSQ_LANES + q. */
enum { LSQ_LANES = 8 };

/* lane_steps.F90: lanes_state_t.  Fields of lsq_state in their order, each of all lanes. */
typedef struct {
    int64_t request[LSQ_LANES], info[LSQ_LANES], accepted[LSQ_LANES], nfev[LSQ_LANES], njev[LSQ_LANES],
        iteration[LSQ_LANES];
    double fnorm[LSQ_LANES], xnorm[LSQ_LANES], gnorm[LSQ_LANES], radius[LSQ_LANES], par[LSQ_LANES],
        pnorm[LSQ_LANES], actual[LSQ_LANES], predicted[LSQ_LANES], slope[LSQ_LANES], ratio[LSQ_LANES];
} lsq_lanes_state;

/* Columns of the lanes' vectors: those of lsq_state's before LSQ_SCRATCH, then these. */
enum {
    LSQ_LANES_PIVOTED = LSQ_QTF + 1,    /* the step in the order of the pivots */
    LSQ_LANES_VECTORS = LSQ_LANES_PIVOTED + 8
};

typedef struct {                /* one instruction set's kernels; sizes m >= n > 0 */
    /* lsq_qrfac with b.  Columns may be in any order: ipvt has their numbers, from 1.  Of a, only R
       above the diagonal is valid on return, and nothing of a matrix whose plain[q] is 0.  work: 3*n*LSQ_LANES, places: n. */
    void (*factor)(int64_t m, int64_t n, double *a, double *b, int64_t *ipvt, double *rdiag, double *acnorm,
                   int64_t *plain, double *work, int64_t *places);
    /* The norms of f; where plain is 0, lsq_enorm's differs. */
    void (*norms)(int64_t m, const double *f, double *norms, int64_t *plain);
    /* a becomes jac with each lane's columns in the order of its ipvt; b becomes f. */
    void (*pack)(int64_t m, int64_t n, const double *jac, const double *f, const int64_t *ipvt, double *a,
                 double *b);
    /* f becomes moved in lanes whose mark is 1. */
    void (*keep)(int64_t m, const int64_t *marks, const double *moved, double *f);
    /* column = (moved - f)/step. */
    void (*difference)(int64_t m, const double *moved, const double *f, const double *step, double *column);
    /* The same of one problem alone. */
    void (*difference_alone)(int64_t m, const double *moved, const double *f, double step, double *column);
    /* lsq_tell_norm for the wanted lanes, and lsq_tell_model for those that are wanted and plain, from the
       results of `factor`; `came` is ipvt before it.  For fits without bounds or strategy.  Of `settings` only n,
       the settings and the tolerances are read; lower: n*n*LSQ_LANES.  A lane whose told is 0 is unchanged, except
       that a wanted model is in r, ipvt and w: the caller passes its event to lm_core. */
    void (*tell_norm)(const lsq_state *settings, const int64_t *wanted, const double *norms, lsq_lanes_state *s,
                      double *w, const double *r, const int64_t *ipvt, double *lower, int64_t *told);
    void (*tell_model)(const lsq_state *settings, const int64_t *wanted, const int64_t *cost, int64_t m,
                       const double *a, const double *b, const int64_t *came, const int64_t *factored,
                       const double *rdiag, const double *acnorm, lsq_lanes_state *s, double *w, double *r,
                       int64_t *ipvt, double *lower, int64_t *told);
    /* lsq_covar; where full is 0, cov is meaningless.  inverse: n*n*LSQ_LANES. */
    void (*covar)(int64_t n, const double *r, const int64_t *ipvt, double *cov, double *inverse, int64_t *full);
} lsq_lanes_kernels;

void lsq_qrsolv(int64_t n, double *r, int64_t ldr, const int64_t *ipvt,
                const double *diag, const double *qtb, double *x, double *sdiag,
                double *wa);
void lsq_lmpar(int64_t n, double *r, int64_t ldr, const int64_t *ipvt,
               const double *diag, const double *qtb, double delta, double *par,
               double *x, double *sdiag, double *wa1, double *wa2);
/* MINPACK's chkder: mode 1 sets xp from x; mode 2 sets err, the measure of each row of fjac.
   Arguments that a mode does not need may be NULL. */
void lsq_chkder(int64_t m, int64_t n, const double *x, const double *fvec, const double *fjac,
                int64_t ldfjac, double *xp, const double *fvecp, int64_t mode, double *err);
int64_t lsq_covar(int64_t n, const double *r, int64_t ldr, const int64_t *ipvt,
                  double tol, double *cov, double *work);

/* The multiplier of each variable, by the last model: the slope of |f|^2/2 along the variable if that
   holds it at a bound; 0 if the variable is free or fixed, or the slope is rounding; nan if it is at a
   bound and f does not depend on it there.  Zeros without bounds. */
void lsq_multipliers(const lsq_state *s, const double *w, double *multipliers);

/* Covariance of the variables that are not at a bound, zeros for the others; side is
   -1 at lo, 1 at hi, 0 between.  Returns 0 if J's free columns are dependent.  `work` holds
   n*(2n + 1) doubles. */
int64_t lsq_free_covar(int64_t n, const double *r, int64_t ldr, const int64_t *ipvt,
                       const double *x, const double *lo, const double *hi,
                       double *cov, double *side, double *work);

#endif
