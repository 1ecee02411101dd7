/* Fits of compiled functions, several at a time: what a thread does without the GIL.

   Each fit has a slot and goes on until its Jacobian is to be factored; when all have come
   to that, their Jacobians are factored together.  When a fit ends, the next problem takes
   its slot.  Which problems are in the slots at the same time changes no bit. */
#include "batch.h"
#include "covariance.h"

enum { INTERRUPTED = 1 };       /* returned to the core: what stops a fit is in `code` */

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

/* A thread's work; its arena follows. */
struct batch_fitter {
    const batch_job *job;
    queue queue;
    leastsq_residual func;
    leastsq_jacobian dfun;
    double *weighed, *scratch;
    batch_lanes *lanes;
    int count;                  /* of slots */
    slot slots[LSQ_LANES];
};

/* ------------------------------------------------------------ the problems */

static int
stopped(const queue *q)
{
    return atomic_load_explicit(&q->supply->stop, memory_order_relaxed);
}

/* The next problem; -1: there is none, or the job is stopped. */
static npy_intp
next_problem(queue *q)
{
    batch_supply *all = q->supply;

    if (stopped(q))
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

/* ----------------------------------- one fit, from its start to its results */

static int
residual(int64_t m, int64_t n, const double *x, double *fvec, void *data)
{
    slot *s = data;
    int code;

    s->calls++;
    if (stopped(&s->fitter->queue))
        return INTERRUPTED;
    if (s->no_residuals)
        unwritten(fvec, m);
    code = s->fitter->func(m, n, x, fvec, s->func_data);
    s->code = code;
    if (code == 0) {
        s->no_residuals = 0;
        if (s->weights != NULL)
            for (int64_t i = 0; i < m; i++)
                fvec[i] = weighted(fvec[i], s->weights[i]);
    }
    return code;
}

static int
jacobian(int64_t m, int64_t n, const double *x, double *fjac, slot *s)
{
    int code;

    if (stopped(&s->fitter->queue))
        return INTERRUPTED;
    if (s->state.njev == 0)
        unwritten(fjac, m * n);
    code = s->fitter->dfun(m, n, x, fjac, s->dfun_data);
    s->code = code;
    if (code == 0 && s->weights != NULL)
        for (int64_t j = 0; j < n; j++)
            for (int64_t i = 0; i < m; i++)
                fjac[i + j * m] = weighted(fjac[i + j * m], s->weights[i]);
    return code;
}

/* May x leave its bounds at all? */
static int
bounded(npy_intp n, const double *lo, const double *hi)
{
    for (npy_intp j = 0; j < n; j++)
        if (lo[j] > -Py_HUGE_VAL || hi[j] < Py_HUGE_VAL)
            return 1;
    return 0;
}

static void
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

/* Tell the core the norm that it asked for; 0, or what stops the fit. */
static int
tell_norm(slot *s)
{
    const batch_job *j = s->fitter->job;
    npy_intp m = j->m, n = j->settings.n;
    double *fitted = s->trial, *passed = s->f;
    int status;

    s->calls = 0;
    status = residual(m, n, s->w + LSQ_TRIAL * n, s->trial, s);
    if (status != 0)
        return status;
    if (loss_is_compiled(&j->loss)) {
        fitted = s->fitter->weighed;
        loss_weigh_known(m, s->trial, &s->loss, fitted, 0);
    }
    lsq_tell_norm(&s->state, s->w, s->fjac, m, s->ipvt, lsq_enorm(m, fitted), 1);
    if (s->state.accepted) {
        s->f = s->trial;
        s->trial = passed;
    }
    return 0;
}

/* What a strategy asks for: f at the trial is known, but for a feeler; 0, or what stops the fit. */
static int
tell_change(slot *s)
{
    const batch_job *j = s->fitter->job;
    npy_intp m = j->m, n = j->settings.n;
    int feeler = s->state.request == LSQ_ASK_FEELER, status = 0;

    s->calls = 0;
    if (feeler)
        status = residual(m, n, s->w + LSQ_TRIAL * n, s->trial, s);
    if (status != 0)
        return status;
    lsq_change_along(m, n, s->kept, s->f, s->trial,
                     s->w + (lsq_core_columns(n, s->state.bounded, 0) + LSQ_C_CHANGE) * n,
                     loss_is_compiled(&j->loss) ? s->kept + m * n : NULL);
    lsq_tell_change(&s->state, s->w, s->fjac, m, s->ipvt, feeler, 1, NULL, NULL);
    return 0;
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

/* The Jacobian at x, and in `trial` f, both weighed; 0, or what stops the fit. */
static int
make_jacobian(slot *s)
{
    const batch_job *j = s->fitter->job;
    npy_intp m = j->m, n = j->settings.n;
    lsq_differences how = {j->precision, s->state.bounded || loss_is_compiled(&j->loss), NULL, NULL, NULL};
    double *x = s->w + LSQ_X * n, *weighed = s->fitter->weighed;
    int status;

    if (j->lo != NULL) {
        how.lo = s->w + LSQ_LO * n;
        how.hi = s->w + LSQ_HI * n;
        how.largest = s->w + LSQ_LARGEST * n;
    }
    if (s->state.strategy && !s->state.bounded) {       /* whose vectors lie where bounds' would */
        how.lo = how.hi = NULL;
        how.largest = s->w + (lsq_core_columns(n, 0, 0) + LSQ_C_LARGEST) * n;
    }
    s->calls = 0;
    if (j->dfun != NULL)
        status = jacobian(m, n, x, s->fjac, s);
    else
        lsq_fdjac2(residual, s, m, n, x, s->f, s->fjac, &how, s->w + LSQ_SCRATCH * n, &status);
    if (status != 0)
        return status;
    if (loss_is_compiled(&j->loss)) {
        loss_weigh_known(m, s->f, &s->loss, weighed, 1);
        for (npy_intp k = 0; k < n; k++)
            for (npy_intp i = 0; i < m; i++)
                s->fjac[i + k * m] *= weighed[m + i];
    }
    if (s->state.strategy)
        keep(s);
    memcpy(s->trial, loss_is_compiled(&j->loss) ? weighed : s->f, (size_t)m * sizeof *s->f);
    return 0;
}

/* 1: a Jacobian is there to be factored; 0: the fit has ended. */
static int
slot_go_on(slot *s)
{
    int status = 0;

    while (s->state.request != LSQ_ASK_MODEL && s->state.request != LSQ_ASK_DONE && status == 0)
        status = s->state.request == LSQ_ASK_NORM ? tell_norm(s) : tell_change(s);
    if (s->state.request == LSQ_ASK_MODEL && status == 0) {
        status = make_jacobian(s);
        if (status == 0)
            return 1;
    }
    if (status != 0) {
        s->state.info = LSQ_STOPPED;
        s->state.nfev += s->calls;          /* the last of them said stop */
    }
    return 0;
}

/* Write the results, and free the slot. */
static void
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

/* ------------------------------------- the several fits of a thread, in slots */

/* Lay out the arena behind *w, or with w NULL nothing; the bytes of both. */
static size_t
lay_out(batch_fitter *w, const batch_job *j)
{
    npy_intp m = j->m, n = j->settings.n, columns = lsq_core_columns(n, j->lo != NULL, j->settings.strategy);
    npy_intp kept = j->settings.strategy ? m * (n + 1) : 0, each = n * columns + 2 * m + m * n + n + kept, size;
    int slots = batch_lanes_count(m, n);

    size = slots * each + 2 * m + covariance_work(n, 1);
    if (w != NULL) {
        double *room = (double *)(w + 1);

        w->count = slots;
        for (int q = 0; q < slots; q++, room += each) {
            slot *s = w->slots + q;

            s->fitter = w;
            s->k = -1;
            s->w = room;
            s->f = s->w + n * columns;
            s->trial = s->f + m;
            s->fjac = s->trial + m;
            s->ipvt = (int64_t *)(s->fjac + m * n);
            s->kept = kept ? s->fjac + m * n + n : NULL;
        }
        w->weighed = room;
        w->scratch = w->weighed + 2 * m;
        w->lanes = batch_lanes_make(w->scratch + covariance_work(n, 1), j->kernels, m, n);
    }
    return sizeof *w + (size_t)size * sizeof(double) + batch_lanes_bytes(m, n);
}

size_t
batch_fitter_size(const batch_job *job)
{
    return lay_out(NULL, job);
}

batch_fitter *
batch_fitter_make(void *memory, const batch_job *j, batch_supply *supply)
{
    batch_fitter *w = memory;

    memset(w, 0, sizeof *w);
    lay_out(w, j);
    w->job = j;
    w->queue.supply = supply;
    w->func = (leastsq_residual)j->func->function;
    w->dfun = j->dfun == NULL ? NULL : (leastsq_jacobian)j->dfun->function;
    return w;
}

/* Take one problem after another until the slot's fit has a Jacobian: 1; or until no problem
   is left: 0. */
static int
occupy(slot *s)
{
    for (;;) {
        if (s->k < 0) {
            npy_intp k = next_problem(&s->fitter->queue);

            if (k < 0)
                return 0;
            slot_begin(s, k);
        }
        if (slot_go_on(s))
            return 1;
        slot_conclude(s);
        s->fitter->queue.finished++;
    }
}

void
batch_fit(batch_fitter *w)
{
    const batch_job *j = w->job;
    batch_model models[LSQ_LANES];
    slot *waiting[LSQ_LANES];
    int count;

    do {
        count = 0;
        for (int q = 0; q < w->count; q++) {
            slot *s = w->slots + q;

            if (!occupy(s))
                continue;
            waiting[count] = s;
            models[count++] = (batch_model){s->fjac, s->trial, s->w, s->ipvt};
        }
        batch_factor(w->lanes, models, count);
        for (int q = 0; q < count; q++) {
            slot *s = waiting[q];
            int64_t cost = j->dfun != NULL ? 0 : s->calls;

            lsq_tell_model(&s->state, s->w, s->fjac, j->m, s->ipvt, cost);
        }
    } while (count > 0);
}
