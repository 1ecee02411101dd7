/* A fit of compiled functions in its slot: the next problem, the beginning, what the core is told, the
   results.  Who calls the functions is in fitter.c and lane_fitter.c. */
#include "fitter.h"
#include "covariance.h"

/* ------------------------------------------------------------ the problems */

int
fitter_stopped(const queue *q)
{
    return atomic_load_explicit(&q->supply->stop, memory_order_relaxed);
}

/* The next problem; -1: there is none, or the job is stopped. */
npy_intp
fitter_next(queue *q)
{
    batch_supply *all = q->supply;

    if (fitter_stopped(q))
        return -1;
    if (q->next == q->end) {
        int64_t count = all->count;

        atomic_fetch_add(&all->done, q->finished);
        q->finished = 0;
        q->next = atomic_load(&all->next) < count ? atomic_fetch_add(&all->next, all->group) : count;
        q->next = q->next < count ? q->next : count;
        q->end = q->next + all->group < count ? q->next + all->group : count;
    }
    return q->next < q->end ? q->next++ : -1;
}

/* ------------------------------------------------------------------- one fit */

/* May x leave its bounds at all? */
static int
bounded(npy_intp n, const double *lo, const double *hi)
{
    for (npy_intp j = 0; j < n; j++)
        if (lo[j] > -Py_HUGE_VAL || hi[j] < Py_HUGE_VAL)
            return 1;
    return 0;
}

void
slot_begin(slot *s, npy_intp k)
{
    const batch_job *j = s->fitter->job;
    npy_intp n = j->settings.n;
    size_t vector = (size_t)n * sizeof(double);
    char *data = j->data == NULL ? NULL : j->data + k * j->stride;
    double *lo = s->w + LSQ_LO * n, *hi = s->w + LSQ_HI * n;

    s->k = k;
    s->func_data = data != NULL ? data : j->func->data;
    s->dfun_data = data != NULL || j->dfun == NULL ? data : j->dfun->data;
    s->weights = j->weights == NULL ? NULL : j->weights + k * j->m;
    s->loss = j->loss;
    if (j->loss.counts != NULL)
        s->loss.counts += k * j->m;
    s->code = 0;
    s->no_residuals = 1;
    s->state = j->settings;
    memcpy(s->w + LSQ_X * n, j->x + k * n, vector);
    if (j->diag != NULL)
        memcpy(s->w + LSQ_DIAG * n, j->diag + k * j->diag_stride, vector);
    if (j->lo != NULL) {
        memcpy(lo, j->lo + k * j->lo_stride, vector);
        memcpy(hi, j->hi + k * j->hi_stride, vector);
        memset(s->w + LSQ_LARGEST * n, 0, vector);      /* the machine's, if it is bounded */
        s->state.bounded = bounded(n, lo, hi);
        if (s->state.bounded)
            s->state.factor = j->bounded_factor;
    }
    lsq_start(&s->state, s->w);
}

/* The norm of the residuals in `trial`, with the loss. */
double
slot_norm(const slot *s)
{
    const batch_job *j = s->fitter->job;

    if (!loss_is_compiled(&s->loss))
        return lsq_enorm(j->m, s->trial);
    loss_weigh_known(j->m, s->trial, &s->loss, s->fitter->weighed, 0);
    return lsq_enorm(j->m, s->fitter->weighed);
}

/* Tell the core the norm that it asked for. */
void
slot_tell_norm(slot *s, double norm)
{
    double *passed = s->f;

    lsq_tell_norm(&s->state, s->w, s->fjac, s->fitter->job->m, s->ipvt, norm, 1);
    if (s->state.accepted) {
        s->f = s->trial;
        s->trial = passed;
    }
}

/* Keep the Jacobian that is to be factored; and what it says of f at the x before, which is in `trial`. */
static void
keep(slot *s)
{
    const batch_job *j = s->fitter->job;
    npy_intp m = j->m, n = j->settings.n;
    const double *weights = NULL;

    memcpy(s->kept, s->fjac, (size_t)(m * n) * sizeof *s->kept);
    if (loss_is_compiled(&j->loss))
        weights = memcpy(s->kept + m * n, s->fitter->weighed + m, (size_t)m * sizeof *s->kept);
    if (s->state.past != LSQ_PAST_WANTED)
        return;
    lsq_change_along(m, n, s->kept, s->f, s->trial,
                     s->w + (lsq_core_columns(n, s->state.bounded, 0) + LSQ_C_CHANGE) * n, weights);
    s->state.past = LSQ_PAST_TOLD;
}

/* The loss's weights to the Jacobian, and to f, which goes into `trial`. */
void
slot_weigh_model(slot *s)
{
    npy_intp m = s->fitter->job->m, n = s->state.n;
    double *fitted = s->f, *weighed = s->fitter->weighed;

    if (loss_is_compiled(&s->loss)) {
        fitted = weighed;
        loss_weigh_known(m, s->f, &s->loss, weighed, 1);
        for (npy_intp k = 0; k < n; k++)
            for (npy_intp i = 0; i < m; i++)
                s->fjac[i + k * m] *= weighed[m + i];
    }
    if (s->state.strategy)
        keep(s);
    memcpy(s->trial, fitted, (size_t)m * sizeof *fitted);
}

/* A function said stop, at the last of `calls`. */
void
slot_end(slot *s)
{
    s->state.info = LSQ_STOPPED;
    s->state.request = LSQ_ASK_DONE;
    s->state.nfev += s->calls;
}

/* Write the results, and free the slot. */
void
slot_conclude(slot *s)
{
    const batch_job *j = s->fitter->job;
    npy_intp m = j->m, n = j->settings.n, k = s->k;

    s->k = -1;
    memcpy(j->x + k * n, s->w + LSQ_X * n, (size_t)n * sizeof *s->w);
    j->ier[k] = s->state.info;
    j->nfev[k] = s->state.nfev;
    j->njev[k] = s->state.njev;
    j->code[k] = s->code;
    j->fnorm[k] = s->no_residuals ? Py_NAN : s->state.fnorm;
    for (npy_intp i = 0; s->no_residuals && i < m; i++)
        s->f[i] = Py_NAN;
    if (j->fvec != NULL)
        memcpy(j->fvec + k * m, s->f, (size_t)m * sizeof *s->f);
    if (j->multipliers != NULL)
        lsq_multipliers(&s->state, s->w, j->multipliers + k * n);
    if (j->cov != NULL)
        batch_covariance(&s->state, s->w, s->fjac, m, s->ipvt, j->cov + k * n * n,
                         s->fitter->scratch);
}
