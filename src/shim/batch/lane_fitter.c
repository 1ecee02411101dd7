/* Fits of compiled functions that take several problems at once, one in each lane: those with bounds, weights or
   a loss, or other numbers of lanes than the kernels have (group_fitter.c has the others).

   A thread has twice as many fits at work, in slots, as a function has lanes.  Some want a norm, the
   others a Jacobian: so as long as problems are waiting one of the two fills all lanes.  When fewer
   are left, the last one stands in the lanes that remain.  Each fit goes its own way; which lane
   it has, and what is in the others, changes no bit of it where the function gives the same bits. */
#include "fitter.h"

enum { CACHE_LINE = 64 / sizeof(double) };

/* Doubles for `numbers` numbers of each lane, in whole cache lines. */
static npy_intp
lines(const batch_job *j, npy_intp numbers)
{
    return (numbers * j->func->lanes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
}

npy_intp
lanes_room(const batch_job *j)
{
    npy_intp m = j->m, n = j->settings.n;

    if (j->func->lanes == 0)
        return 0;
    return 3 * lines(j, n) + lines(j, m) + lines(j, m * n) + 2 * lines(j, 1) + CACHE_LINE;
}

void
lanes_lay_out(batch_fitter *w, double *room)
{
    const batch_job *j = w->job;
    npy_intp m = j->m, n = j->settings.n;

    w->wide = j->func->lanes;
    if (w->wide == 0)
        return;
    room += (CACHE_LINE - (uintptr_t)room / sizeof *room % CACHE_LINE) % CACHE_LINE;
    w->x = room;
    w->moved = w->x + lines(j, n);
    w->steps = w->moved + lines(j, n);
    w->out = w->steps + lines(j, n);
    w->jac = w->out + lines(j, m);
    w->data = (void **)(w->jac + lines(j, m * n));
    w->status = (int32_t *)(w->data + lines(j, 1));
}

/* ------------------------------------------------------- one call of a function */

/* A lane's numbers into a vector, or the reverse. */
static inline void
from_lane(npy_intp count, npy_intp wide, const double *lane, double *vector)
{
    for (npy_intp k = 0; k < count; k++)
        vector[k] = lane[k * wide];
}

static inline void
to_lane(npy_intp count, npy_intp wide, const double *vector, double *lane)
{
    for (npy_intp k = 0; k < count; k++)
        lane[k * wide] = vector[k];
}

/* The slot in each lane: that of the same number, or the last one still going on. */
static int
lane_of(slot *const *slots, int count, int l)
{
    int k = l < count ? l : count - 1;

    for (int turn = 0; turn < count && slots[k]->code != 0; turn++)
        k = k == 0 ? count - 1 : k - 1;
    return k;
}

/* Put a vector of every slot into x, and what else a call needs. */
static void
set_out(batch_fitter *w, slot *const *slots, int count, npy_intp vector, int derivatives)
{
    npy_intp n = w->job->settings.n, wide = w->wide;

    for (int l = 0; l < wide; l++) {
        const slot *s = slots[lane_of(slots, count, l)];

        to_lane(n, wide, s->w + vector * n, w->x + l);
        w->data[l] = derivatives ? s->dfun_data : s->func_data;
    }
}

/* Call func or Dfun: what each slot's lane said is in its `code`. */
static void
call(batch_fitter *w, slot *const *slots, int count, int derivatives)
{
    const batch_job *j = w->job;
    const compiled *function = derivatives ? j->dfun : j->func;
    int code;

    memset(w->status, 0, (size_t)w->wide * sizeof *w->status);
    code = ((leastsq_lanes_residual)function->function)(
        j->m, j->settings.n, w->wide, w->x, derivatives ? w->jac : w->out, w->data, w->status);
    for (int l = 0; l < count; l++)
        if (slots[l]->code == 0)
            slots[l]->code = code != 0 ? code : w->status[l];
}

/* A fit that a function stopped; or that has ended by itself. */
static void
give_back(slot *s)
{
    if (s->code != 0)
        slot_end(s);
    if (s->state.request != LSQ_ASK_DONE)
        return;
    slot_conclude(s);
    s->fitter->queue.finished++;
}

/* ------------------------------------------------------------------- the norms */

/* The residuals in lane l, weighted. */
static void
take_residuals(const batch_fitter *w, const slot *s, int l, double *fvec)
{
    npy_intp m = w->job->m;

    from_lane(m, w->wide, w->out + l, fvec);
    if (s->weights != NULL)
        for (npy_intp i = 0; i < m; i++)
            fvec[i] = weighted(fvec[i], s->weights[i]);
}

static void
find_norms(batch_fitter *w, slot *const *slots, int count)
{
    const batch_job *j = w->job;
    double norms[LSQ_LANES];
    int64_t plain[LSQ_LANES] = {0};
    int begins = 0, together = w->wide == LSQ_LANES && j->weights == NULL && !loss_is_compiled(&j->loss);

    for (int l = 0; l < count; l++)
        begins |= slots[l]->no_residuals;
    if (begins)
        unwritten(w->out, w->job->m * w->wide);
    set_out(w, slots, count, LSQ_TRIAL, 0);
    call(w, slots, count, 0);
    if (together)
        j->kernels->norms(j->m, w->out, norms, plain);
    for (int l = 0; l < count; l++) {
        slot *s = slots[l];

        s->calls = 1;
        if (s->code == 0) {
            s->no_residuals = 0;
            take_residuals(w, s, l, s->trial);
            slot_tell_norm(s, together && plain[l] ? norms[l] : slot_norm(s));
        }
        give_back(s);
    }
}

/* --------------------------------------------------------------- the Jacobians */

/* A function of one problem, which stands in all lanes: for lsq_fdjac2. */
static int
alone(int64_t m, int64_t n, const double *x, double *fvec, void *data)
{
    slot *s = data;
    batch_fitter *w = s->fitter;

    s->calls++;
    if (fitter_stopped(&w->queue))
        return INTERRUPTED;
    for (npy_intp l = 0; l < w->wide; l++) {
        to_lane(n, w->wide, x, w->x + l);
        w->data[l] = s->func_data;
    }
    call(w, &s, 1, 0);
    if (s->code == 0)
        take_residuals(w, s, 0, fvec);
    (void)m;
    return s->code;
}

static lsq_differences
differences(const slot *s)
{
    const batch_job *j = s->fitter->job;
    npy_intp n = j->settings.n;
    lsq_differences how = {j->precision, s->state.bounded || loss_is_compiled(&j->loss), NULL, NULL, NULL};

    if (j->lo != NULL) {
        how.lo = s->w + LSQ_LO * n;
        how.hi = s->w + LSQ_HI * n;
        how.largest = s->w + LSQ_LARGEST * n;
    }
    return how;
}

/* Column k of all Jacobians, from residuals where x[k] has moved; 0 where it is fixed. */
static void
difference(batch_fitter *w, slot *const *slots, int count, npy_intp k)
{
    npy_intp m = w->job->m, n = w->job->settings.n, wide = w->wide;
    int wanted = 0;

    for (int l = 0; l < wide; l++) {
        int q = lane_of(slots, count, l);
        const slot *s = slots[q];

        to_lane(n, wide, s->w + LSQ_X * n, w->x + l);
        w->data[l] = s->func_data;
        w->x[k * wide + l] = w->moved[q * n + k];
        wanted |= w->steps[q * n + k] != 0;
    }
    if (wanted)
        call(w, slots, count, 0);
    for (int l = 0; l < count; l++) {
        slot *s = slots[l];
        double h = w->steps[l * n + k], *column = w->jac + k * m * wide + l, *moved = s->trial;

        if (h != 0 && s->state.info != LSQ_STOPPED)
            s->calls++;
        if (s->code != 0)
            s->state.info = LSQ_STOPPED;        /* and is called no more */
        if (h == 0) {
            for (npy_intp i = 0; i < m; i++)
                column[i * wide] = 0;
            continue;
        }
        take_residuals(w, s, l, moved);
        for (npy_intp i = 0; i < m; i++)
            column[i * wide] = (moved[i] - s->f[i]) / h;
    }
}

/* Is a column zero whose step may grow? */
static int
vanishes(const batch_fitter *w, const slot *s, int l)
{
    npy_intp m = w->job->m, n = w->job->settings.n, i;

    for (npy_intp k = 0; k < n; k++) {
        const double *column = w->jac + k * m * w->wide + l;

        for (i = 0; i < m && column[i * w->wide] == 0; i++)
            continue;
        if (i == m && w->steps[l * n + k] != 0 && s->w[LSQ_X * n + k] != 0)
            return 1;
    }
    return 0;
}

static void
find_differences(batch_fitter *w, slot *const *slots, int count)
{
    const batch_job *j = w->job;
    npy_intp m = j->m, n = j->settings.n;
    double relative = lsq_relative_step(j->precision);

    for (int l = 0; l < count; l++) {
        lsq_differences how = differences(slots[l]);

        slots[l]->calls = 0;
        lsq_difference_steps(n, slots[l]->w + LSQ_X * n, &relative, 0, w->moved + l * n, w->steps + l * n,
                             how.lo, how.hi, how.largest);
    }
    for (npy_intp k = 0; k < n && !fitter_stopped(&w->queue); k++)
        difference(w, slots, count, k);
    for (int l = 0; l < count; l++) {
        slot *s = slots[l];
        lsq_differences how = differences(s);
        int status;

        if (s->code != 0 || !how.grows || !vanishes(w, s, l))
            continue;
        s->calls = 0;                   /* once more alone, with steps that grow */
        lsq_fdjac2(alone, s, m, n, s->w + LSQ_X * n, s->f, s->fjac, &how, s->w + LSQ_SCRATCH * n, &status);
        to_lane(m * n, w->wide, s->fjac, w->jac + l);
    }
}

/* Dfun's Jacobians, weighted. */
static void
find_derivatives(batch_fitter *w, slot *const *slots, int count)
{
    npy_intp m = w->job->m, n = w->job->settings.n;
    int begins = 0;

    for (int l = 0; l < count; l++) {
        begins |= slots[l]->state.njev == 0;
        slots[l]->calls = 0;
    }
    if (begins)
        unwritten(w->jac, m * n * w->wide);
    set_out(w, slots, count, LSQ_X, 1);
    call(w, slots, count, 1);
    for (int l = 0; l < count && w->job->weights != NULL; l++)
        for (npy_intp k = 0; k < m * n; k++)
            w->jac[k * w->wide + l] = weighted(w->jac[k * w->wide + l], slots[l]->weights[k % m]);
}

static void
find_models(batch_fitter *w, slot **slots, int count)
{
    const batch_job *j = w->job;
    npy_intp m = j->m, n = j->settings.n;
    batch_model models[LSQ_LANES];
    int most = batch_lanes_count(m, n), going = 0, together;

    if (j->dfun != NULL)
        find_derivatives(w, slots, count);
    else
        find_differences(w, slots, count);
    for (int first = 0; first < count; first += together) {
        together = 0;
        going = 0;
        for (int l = first; l < count && going < most; l++, together++) {
            slot *s = slots[l];

            if (s->code != 0) {
                give_back(s);
                continue;
            }
            slots[first + going] = s;           /* those that go on stand first */
            models[going++] = (batch_model){s->fjac, s->trial, s->w, s->ipvt, w->jac + l, s->f, w->wide};
            if (!loss_is_compiled(&j->loss))
                continue;
            from_lane(m * n, w->wide, w->jac + l, s->fjac);
            slot_weigh_model(s);
            models[going - 1].lane = NULL;
        }
        batch_factor(w->lanes, models, going);
        for (int q = 0; q < going; q++) {
            slot *s = slots[first + q];

            lsq_tell_model(&s->state, s->w, s->fjac, m, s->ipvt, j->dfun != NULL ? 0 : s->calls);
            give_back(s);
        }
    }
}

/* -------------------------------------------------------------------- the fits */

/* A problem for each free slot, as long as there are any; -1 if the job is to stop. */
static int
fill(batch_fitter *w)
{
    if (fitter_stopped(&w->queue))
        return -1;
    for (int q = 0; q < w->count; q++) {
        slot *s = w->slots + q;

        while (s->k < 0) {
            npy_intp k = fitter_next(&w->queue);

            if (k < 0)
                return fitter_stopped(&w->queue) ? -1 : 0;
            slot_begin(s, k);
            give_back(s);               /* improper settings end it at once */
        }
    }
    return 0;
}

/* The first slots that want this, at most one for each lane. */
static int
wanting(batch_fitter *w, int64_t request, slot **slots)
{
    int count = 0;

    for (int q = 0; q < w->count && count < w->wide; q++)
        if (w->slots[q].k >= 0 && w->slots[q].state.request == request)
            slots[count++] = w->slots + q;
    return count;
}

void
fit_in_lanes(batch_fitter *w)
{
    slot *norms[MOST_LANES], *models[MOST_LANES];

    while (fill(w) == 0) {
        int waiting = wanting(w, LSQ_ASK_NORM, norms), ready = wanting(w, LSQ_ASK_MODEL, models);

        if (waiting == 0 && ready == 0)
            return;
        if (waiting >= ready)
            find_norms(w, norms, waiting);
        else
            find_models(w, models, ready);
    }
}
