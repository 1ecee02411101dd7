/* How a fit answers the core's requests: with the user's functions, a loss, the blocked provider, a
   watcher. */
#include "fit.h"

static int
residual(int64_t m, int64_t n, const double *x, double *fvec, void *data)
{
    fit *f = data;

    (void)m, (void)n;
    return callbacks_residual(&f->cb, x, fvec);
}

static int
jacobian(int64_t m, int64_t n, const double *x, double *fjac, void *data)
{
    fit *f = data;

    (void)m, (void)n;
    return callbacks_jacobian(&f->cb, x, fjac);
}

static int
weigh(int64_t m, const double *residuals, double *weighed, int model, void *data)
{
    fit *f = data;

    return loss_weigh(&f->loss, &f->cb.gil, m, residuals, weighed, model);
}

static int
norm(int64_t m, int64_t n, const double *x, double *fvec, double *fnorm, void *data)
{
    fit *f = data;

    (void)m, (void)n;
    return blocked_norm(&f->blocks, x, fvec, fnorm);
}

static void
settle(int64_t m, int accepted, double *fvec, void *data)
{
    fit *f = data;

    (void)m;
    blocked_settle(&f->blocks, accepted, fvec);
}

static int
difference(int64_t m, int64_t n, const double *x, const double *fvec, double h, double *column,
           void *data)
{
    fit *f = data;

    (void)m, (void)n;
    return blocked_difference(&f->blocks, x, fvec, h, column);
}

static int
factor(int64_t m, int64_t n, const double *x, const double *fvec, const double *fjac, double *r,
       int64_t ldr, int64_t *ipvt, double *qtf, double *colnorm, const double *before, double *change,
       void *data)
{
    fit *f = data;
    blocked_past past = {before, change};

    (void)m, (void)n;
    return blocked_factor(&f->blocks, x, fvec, fjac, r, ldr, ipvt, qtf, colnorm, &past);
}

static int
change(int64_t m, int64_t n, const double *fvec, const double *other, double *changed, void *data)
{
    fit *f = data;

    (void)m, (void)n;
    return blocked_change(&f->blocks, fvec, other, changed);
}

void
fit_set_answers(fit *f)
{
    lsq_problem *p = &f->problem;
    int by_blocks = f->blocks.k != NULL;

    p->data = f;
    p->watch = f->watcher != NULL ? fit_watch : NULL;
    if (!by_blocks) {
        p->residual = residual;
        p->jacobian = f->cb.dfun != NULL ? jacobian : NULL;
        p->weigh = p->weighed != NULL ? weigh : NULL;
        return;
    }
    p->norm = norm;
    p->difference = difference;
    p->factor = factor;
    p->change = f->state.strategy != LSQ_STRATEGY_MINPACK ? change : NULL;
    p->settle = f->blocks.leaves_trial ? settle : NULL;
    p->fjac = f->cb.dfun == NULL ? f->columns : NULL;
    p->damped = f->blocks.k->qrsolv;
    p->damped_work = f->blocks.whole;
    p->team = &f->blocks.triangle_team.public;
}
