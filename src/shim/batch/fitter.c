/* Fits of compiled functions, several at a time: what a thread does without the GIL.

   Each fit has a slot and goes on until its Jacobian is to be factored; when all have come
   to that, their Jacobians are factored together.  When a fit ends, the next problem takes
   its slot.  Which problems are in the slots at the same time changes no bit. */
#include "fitter.h"
#include "covariance.h"

/* ----------------------------------- one fit, from its start to its results */

static int
residual(int64_t m, int64_t n, const double *x, double *fvec, void *data)
{
    slot *s = data;
    int code;

    s->calls++;
    if (fitter_stopped(&s->fitter->queue))
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

    if (fitter_stopped(&s->fitter->queue))
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

/* Find that norm, and tell it; 0, or what stops the fit. */
static int
tell_norm(slot *s)
{
    const batch_job *j = s->fitter->job;
    npy_intp n = j->settings.n;
    int status;

    s->calls = 0;
    status = residual(j->m, n, s->w + LSQ_TRIAL * n, s->trial, s);
    if (status == 0)
        slot_tell_norm(s, slot_norm(s));
    return status;
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

/* The Jacobian at x, and in `trial` f, both weighed; 0, or what stops the fit. */
static int
make_jacobian(slot *s)
{
    const batch_job *j = s->fitter->job;
    npy_intp m = j->m, n = j->settings.n;
    lsq_differences how = {j->precision, s->state.bounded || loss_is_compiled(&j->loss), NULL, NULL, NULL};
    double *x = s->w + LSQ_X * n;
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
    if (status == 0)
        slot_weigh_model(s);
    return status;
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
    if (status != 0)
        slot_end(s);
    return 0;
}

/* ------------------------------------- the several fits of a thread, in slots */

/* Lay out the arena behind *w, or with w NULL nothing; the bytes of both. */
static size_t
lay_out(batch_fitter *w, const batch_job *j)
{
    npy_intp m = j->m, n = j->settings.n, columns = lsq_core_columns(n, j->lo != NULL, j->settings.strategy);
    npy_intp kept = j->settings.strategy ? m * (n + 1) : 0, each = n * columns + 2 * m + m * n + n + kept, size;
    int slots = in_groups(j) ? 0 : j->func->lanes > 0 ? 2 * (int)j->func->lanes : batch_lanes_count(m, n);

    size = lanes_room(j) + groups_room(j) + slots * each + 2 * m + covariance_work(n, 1);
    if (w != NULL) {
        double *room = (double *)(w + 1);

        w->count = slots;
        lanes_lay_out(w, room);
        room += lanes_room(j);
        groups_lay_out(w, room);
        room += groups_room(j);
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
        if (slots > 0)
            w->lanes = batch_lanes_make(w->scratch + covariance_work(n, 1), j->kernels, m, n);
    }
    return sizeof *w + (size_t)size * sizeof(double) + (slots > 0 ? batch_lanes_bytes(m, n) : 0);
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
    w->job = j;
    lay_out(w, j);
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
            npy_intp k = fitter_next(&s->fitter->queue);

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

    if (in_groups(j)) {
        fit_in_groups(w);
        return;
    }
    if (j->func->lanes > 0) {
        fit_in_lanes(w);
        return;
    }
    do {
        count = 0;
        for (int q = 0; q < w->count; q++) {
            slot *s = w->slots + q;

            if (!occupy(s))
                continue;
            waiting[count] = s;
            models[count++] = (batch_model){s->fjac, s->trial, s->w, s->ipvt, NULL, NULL, 0};
        }
        batch_factor(w->lanes, models, count);
        for (int q = 0; q < count; q++) {
            slot *s = waiting[q];
            int64_t cost = j->dfun != NULL ? 0 : s->calls;

            lsq_tell_model(&s->state, s->w, s->fjac, j->m, s->ipvt, cost);
        }
    } while (count > 0);
}
