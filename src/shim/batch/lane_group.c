/* Fits of compiled functions in lanes, all of it in lanes: no bounds, weights or loss, and as many lanes as the
   kernels have.

   A thread has two groups of fits, one fit in each lane.  Some fits want a norm, the others a Jacobian: so as long
   as problems are waiting, one of the two fills a group, once fits have changed places.  What the kernels leave to
   lm_core is told to it, one lane at a time.  Which lane a fit has, and what is in the others, changes no bit of it
   where the function gives the same bits. */
#include "fitter.h"
#include "covariance.h"

#include <stddef.h>

enum { CACHE_LINE = 64 / sizeof(double), WORDS = sizeof(lsq_lanes_state) / sizeof(int64_t) / LSQ_LANES };

_Static_assert(offsetof(lsq_state, ratio) - offsetof(lsq_state, request) == (WORDS - 1) * sizeof(int64_t),
               "lsq_lanes_state has not the fields of lsq_state");

int
in_groups(const batch_job *j)
{
    return j->func->lanes == LSQ_LANES && j->lo == NULL && j->weights == NULL && !loss_is_compiled(&j->loss)
        && j->settings.strategy == LSQ_STRATEGY_MINPACK && batch_lanes_count(j->m, j->settings.n) > 1;
}

/* ------------------------------------------------------------------ the arena */

/* Doubles of one group. */
static npy_intp
group_room(npy_intp m, npy_intp n)
{
    return LSQ_LANES * (n * (LSQ_LANES_VECTORS + n + 1) + m);
}

npy_intp
groups_room(const batch_job *j)
{
    npy_intp m = j->m, n = j->settings.n;

    if (!in_groups(j))
        return 0;
    return 2 * group_room(m, n) + LSQ_LANES * (m * n + m + n * (3 * n + 8)) + n * (LSQ_VECTORS + n + m + 2) + m + CACHE_LINE;
}

static double *
take(double **room, npy_intp size)
{
    double *taken = *room;

    *room += size;
    return taken;
}

void
groups_lay_out(batch_fitter *w, double *room)
{
    const batch_job *j = w->job;
    npy_intp m = j->m, n = j->settings.n, all = LSQ_LANES;

    if (!in_groups(j))
        return;
    memset(room, 0, (size_t)groups_room(j) * sizeof *room);
    room += (CACHE_LINE - (uintptr_t)room / sizeof *room % CACHE_LINE) % CACHE_LINE;
    for (int k = 0; k < 2; k++) {
        lane_group *g = w->groups + k;

        g->w = take(&room, all * n * LSQ_LANES_VECTORS);
        g->r = take(&room, all * n * n);
        g->f = take(&room, all * m);
        g->ipvt = (int64_t *)take(&room, all * n);
        for (npy_intp i = 0; i < all * n; i++)
            g->ipvt[i] = i / all + 1;
        for (int l = 0; l < LSQ_LANES; l++)
            g->problem[l] = -1;
    }
    w->ended.r = take(&room, all * n * n);
    w->ended.ipvt = (int64_t *)take(&room, all * n);
    memcpy(w->ended.ipvt, w->groups[0].ipvt, (size_t)(all * n) * sizeof *w->ended.ipvt);
    w->free = 2 * LSQ_LANES;
    w->a = take(&room, all * m * n);
    w->b = take(&room, all * m);
    w->rdiag = take(&room, all * n);
    w->acnorm = take(&room, all * n);
    w->work = take(&room, 3 * all * n);
    w->lower = take(&room, all * n * n);
    w->cov = take(&room, all * n * n);
    w->came = (int64_t *)take(&room, all * n);
    w->factored = (int64_t *)take(&room, all * n);
    w->places = (int64_t *)take(&room, n);
    w->lane_w = take(&room, n * LSQ_VECTORS);
    w->lane_r = take(&room, n * n);
    w->lane_jac = take(&room, n * m);
    w->lane_f = take(&room, m);
    w->lane_ipvt = (int64_t *)take(&room, n);
}

/* ------------------------------------------------- one lane, as lm_core knows it */

static inline void
from_lane(npy_intp count, const double *lane, double *vector)
{
    for (npy_intp k = 0; k < count; k++)
        vector[k] = lane[k * LSQ_LANES];
}

static inline void
to_lane(npy_intp count, const double *vector, double *lane)
{
    for (npy_intp k = 0; k < count; k++)
        lane[k * LSQ_LANES] = vector[k];
}

static inline double *
vector_of(const batch_fitter *w, const lane_group *g, npy_intp vector)
{
    return g->w + vector * w->job->settings.n * LSQ_LANES;
}

/* A lane's fields of lsq_state, one after another, into the group's, or the reverse. */
static void
set_state(lane_group *g, int l, const lsq_state *s)
{
    const char *from = (const char *)&s->request;

    for (size_t k = 0; k < WORDS; k++)
        memcpy((int64_t *)&g->state + k * LSQ_LANES + l, from + k * sizeof(int64_t), sizeof(int64_t));
}

static void
get_state(const lane_group *g, int l, lsq_state *s)
{
    char *to = (char *)&s->request;

    for (size_t k = 0; k < WORDS; k++)
        memcpy(to + k * sizeof(int64_t), (const int64_t *)&g->state + k * LSQ_LANES + l, sizeof(int64_t));
}

/* Copy a lane out into `lane_w`, `lane_r` and `lane_ipvt`, and its state. */
static lsq_state
take_out(const batch_fitter *w, const lane_group *g, int l)
{
    npy_intp n = w->job->settings.n;
    lsq_state s = w->begun;

    get_state(g, l, &s);
    from_lane(n * LSQ_SCRATCH, g->w + l, w->lane_w);
    for (npy_intp j = 0; j < n; j++) {
        from_lane(j + 1, g->r + j * n * LSQ_LANES + l, w->lane_r + j * n);
        w->lane_ipvt[j] = g->ipvt[j * LSQ_LANES + l];
    }
    return s;
}

/* Copy it back. */
static void
put_back(const batch_fitter *w, lane_group *g, int l, const lsq_state *s)
{
    npy_intp n = w->job->settings.n;
    double *pivoted = vector_of(w, g, LSQ_LANES_PIVOTED) + l;

    set_state(g, l, s);
    to_lane(n * LSQ_SCRATCH, w->lane_w, g->w + l);
    for (npy_intp j = 0; j < n; j++) {
        to_lane(j + 1, w->lane_r + j * n, g->r + j * n * LSQ_LANES + l);
        g->ipvt[j * LSQ_LANES + l] = w->lane_ipvt[j];
        pivoted[j * LSQ_LANES] = w->lane_w[LSQ_STEP * n + w->lane_ipvt[j] - 1];
    }
}

static void
begin(batch_fitter *w, lane_group *g, int l, npy_intp k)
{
    const batch_job *j = w->job;
    npy_intp n = j->settings.n;
    char *data = j->data == NULL ? NULL : j->data + k * j->stride;
    const double *x = j->x + k * n, *diag = j->diag == NULL ? NULL : j->diag + k * j->diag_stride;

    if (w->begun.n == 0 || j->diag_stride != 0) {       /* else it starts as the fit before did */
        w->begun = j->settings;
        memcpy(w->lane_w + LSQ_X * n, x, (size_t)n * sizeof *x);
        if (diag != NULL)
            memcpy(w->lane_w + LSQ_DIAG * n, diag, (size_t)n * sizeof *diag);
        lsq_start(&w->begun, w->lane_w);
    }
    set_state(g, l, &w->begun);
    to_lane(n, x, vector_of(w, g, LSQ_X) + l);
    to_lane(n, x, vector_of(w, g, LSQ_TRIAL) + l);
    if (diag != NULL)
        to_lane(n, diag, vector_of(w, g, LSQ_DIAG) + l);
    g->problem[l] = k;
    w->free--;
    g->data[0][l] = data != NULL ? data : j->func->data;
    g->data[1][l] = data != NULL || j->dfun == NULL ? data : j->dfun->data;
    g->code[l] = 0;
    g->no_residuals[l] = 1;
}

/* The covariances of the fits that have ended, LSQ_LANES of them at a time. */
static void
make_covariances(batch_fitter *w)
{
    const batch_job *j = w->job;
    npy_intp n = j->settings.n;
    const lane_group *g = &w->ended;
    int64_t full[LSQ_LANES];

    if (w->ended_count == 0)
        return;
    j->kernels->covar(n, g->r, g->ipvt, w->cov, w->lower, full);
    for (int l = 0; l < w->ended_count; l++) {
        double *cov = j->cov + g->problem[l] * n * n;

        if (full[l])
            from_lane(n * n, w->cov + l, cov);
        for (npy_intp i = 0; !full[l] && i < n * n; i++)
            cov[i] = Py_NAN;
    }
    w->ended_count = 0;
}

/* As batch_covariance, together with others. */
static void
keep_for_covariance(batch_fitter *w, const lane_group *g, int l, npy_intp k)
{
    const batch_job *j = w->job;
    npy_intp n = j->settings.n;
    lane_group *ended = &w->ended;
    int to = w->ended_count;

    if (g->state.info[l] < LSQ_FTOL || g->state.info[l] > LSQ_GTOL) {
        for (npy_intp i = 0; i < n * n; i++)
            j->cov[k * n * n + i] = Py_NAN;
        return;
    }
    for (npy_intp i = 0; i < n; i++) {
        for (npy_intp row = 0; row <= i; row++)
            ended->r[(row + i * n) * LSQ_LANES + to] = g->r[(row + i * n) * LSQ_LANES + l];
        ended->ipvt[i * LSQ_LANES + to] = g->ipvt[i * LSQ_LANES + l];
    }
    ended->problem[to] = k;
    w->ended_count++;
    if (w->ended_count == LSQ_LANES)
        make_covariances(w);
}

/* Write the results of a fit that has ended, and free its lane. */
static void
conclude(batch_fitter *w, lane_group *g, int l)
{
    const batch_job *j = w->job;
    npy_intp m = j->m, n = j->settings.n, k = g->problem[l];

    g->problem[l] = -1;
    from_lane(n, vector_of(w, g, LSQ_X) + l, j->x + k * n);
    j->ier[k] = g->state.info[l];
    j->nfev[k] = g->state.nfev[l];
    j->njev[k] = g->state.njev[l];
    j->code[k] = g->code[l];
    j->fnorm[k] = g->no_residuals[l] ? Py_NAN : g->state.fnorm[l];
    for (npy_intp i = 0; j->fvec != NULL && i < m; i++)
        j->fvec[k * m + i] = g->no_residuals[l] ? Py_NAN : g->f[i * LSQ_LANES + l];
    if (j->cov != NULL)
        keep_for_covariance(w, g, l, k);
    w->free++;
    w->queue.finished++;
}

/* Has a function stopped the fit, or has that ended by itself? */
static inline void
give_back(batch_fitter *w, lane_group *g, int l)
{
    if (g->code[l] != 0) {
        g->state.info[l] = LSQ_STOPPED;
        g->state.request[l] = LSQ_ASK_DONE;
        g->state.nfev[l] += g->calls[l];
    }
    if (g->state.request[l] == LSQ_ASK_DONE)
        conclude(w, g, l);
}

/* ------------------------------------------------------- one call of a function */

/* The lane that stands in lane l: itself, or the last of the first `count` that is still going on. */
static int
stands_for(const lane_group *g, int count, int l)
{
    int k = l < count || count < 1 ? l : count - 1;

    for (int turn = 0; turn < count && g->code[k] != 0; turn++)
        k = k == 0 ? count - 1 : k - 1;
    return k;
}

/* Call func or Dfun for the first `count` lanes, at x of all lanes: what it said of each is in its `code`.  x is
   copied where a lane stands for another. */
static void
call(batch_fitter *w, lane_group *g, int count, const double *x, int derivatives)
{
    const batch_job *j = w->job;
    const compiled *function = derivatives ? j->dfun : j->func;
    int32_t *status = w->status;
    int code, own = count == LSQ_LANES;

    for (int l = 0; l < count; l++)
        own &= g->code[l] == 0;
    memcpy(w->data, g->data[derivatives], sizeof g->data[derivatives]);
    if (!own) {
        if (x != w->x)
            x = memcpy(w->x, x, (size_t)(j->settings.n * LSQ_LANES) * sizeof *x);
        for (int l = 0; l < LSQ_LANES; l++) {
            int k = stands_for(g, count, l);

            w->data[l] = g->data[derivatives][k];
            for (npy_intp i = 0; i < j->settings.n && k != l; i++)
                w->x[i * LSQ_LANES + l] = w->x[i * LSQ_LANES + k];
        }
    }
    memset(status, 0, LSQ_LANES * sizeof *status);
    code = ((leastsq_lanes_residual)function->function)(
        j->m, j->settings.n, LSQ_LANES, x, derivatives ? w->jac : w->out, w->data, status);
    for (int l = 0; l < count; l++)
        if (g->code[l] == 0)
            g->code[l] = code != 0 ? code : status[l];
}

/* --------------------------------------------------------------------- norms */

/* |f| where the kernel is not sure of it. */
static double
guarded_norm(batch_fitter *w, int l)
{
    from_lane(w->job->m, w->out + l, w->lane_f);
    return lsq_enorm(w->job->m, w->lane_f);
}

static void
find_norms(batch_fitter *w, lane_group *g, int count)
{
    const batch_job *j = w->job;
    double norms[LSQ_LANES];
    int64_t plain[LSQ_LANES], wanted[LSQ_LANES] = {0}, told[LSQ_LANES], kept[LSQ_LANES] = {0};
    int begins = 0;

    for (int l = 0; l < count; l++) {
        begins |= g->no_residuals[l];
        g->calls[l] = 1;
    }
    if (begins)
        unwritten(w->out, j->m * LSQ_LANES);
    call(w, g, count, vector_of(w, g, LSQ_TRIAL), 0);
    j->kernels->norms(j->m, w->out, norms, plain);
    for (int l = 0; l < count; l++) {
        if (g->code[l] != 0)
            continue;
        wanted[l] = 1;
        g->no_residuals[l] = 0;
        if (!plain[l])
            norms[l] = guarded_norm(w, l);
    }
    j->kernels->tell_norm(&j->settings, wanted, norms, &g->state, g->w, g->r, g->ipvt, w->lower, told);
    for (int l = 0; l < count; l++) {
        if (wanted[l] && !told[l]) {
            lsq_state s = take_out(w, g, l);

            lsq_tell_norm(&s, w->lane_w, w->lane_r, j->settings.n, w->lane_ipvt, norms[l], 1);
            put_back(w, g, l, &s);
        }
        kept[l] = wanted[l] && g->state.accepted[l];
    }
    j->kernels->keep(j->m, kept, w->out, g->f);
    for (int l = 0; l < count; l++)
        give_back(w, g, l);
}

/* --------------------------------------------------------------------- models */

static void
find_differences(batch_fitter *w, lane_group *g, int count)
{
    const batch_job *j = w->job;
    npy_intp m = j->m, n = j->settings.n;
    double relative = lsq_relative_step(j->precision), *x = vector_of(w, g, LSQ_X);

    for (int l = 0; l < count; l++) {
        double *own = w->lane_w, *moved = own + n, *steps = moved + n;

        g->calls[l] = 0;
        from_lane(n, x + l, own);
        lsq_difference_steps(n, own, &relative, 0, moved, steps, NULL, NULL, NULL);
        to_lane(n, moved, w->moved + l);
        to_lane(n, steps, w->steps + l);
    }
    for (npy_intp k = 0; k < n; k++) {
        double *column = w->jac + k * m * LSQ_LANES, *steps = w->steps + k * LSQ_LANES;

        memcpy(w->x, x, (size_t)(n * LSQ_LANES) * sizeof *x);
        memcpy(w->x + k * LSQ_LANES, w->moved + k * LSQ_LANES, LSQ_LANES * sizeof *x);
        for (int l = 0; l < count; l++)
            g->calls[l] += g->code[l] == 0 && steps[l] != 0;
        call(w, g, count, w->x, 0);
        j->kernels->difference(m, w->out, g->f, steps, column);
        for (int l = 0; l < count; l++)
            for (npy_intp i = 0; i < m && steps[l] == 0; i++)
                column[i * LSQ_LANES + l] = 0;
    }
}

static void
find_derivatives(batch_fitter *w, lane_group *g, int count)
{
    int begins = 0;

    for (int l = 0; l < count; l++) {
        begins |= g->state.njev[l] == 0;
        g->calls[l] = 0;
    }
    if (begins)
        unwritten(w->jac, w->job->m * w->job->settings.n * LSQ_LANES);
    call(w, g, count, vector_of(w, g, LSQ_X), 1);
}

/* A model that the kernels leave alone. */
static void
factor_alone(const batch_fitter *w, const lane_group *g, int l)
{
    npy_intp m = w->job->m, n = w->job->settings.n;

    from_lane(m * n, w->jac + l, w->lane_jac);
    from_lane(m, g->f + l, w->lane_f);
    lsq_dense_model(m, n, w->lane_jac, w->lane_f, w->lane_ipvt, w->lane_w + LSQ_QTF * n, w->lane_w + LSQ_COLNORM * n,
                    w->lane_w + LSQ_SCRATCH * n);
    for (npy_intp k = 0; k < n; k++)
        memcpy(w->lane_r + k * n, w->lane_jac + k * m, (size_t)(k + 1) * sizeof(double));
}

static void
find_models(batch_fitter *w, lane_group *g, int count)
{
    const batch_job *j = w->job;
    npy_intp m = j->m, n = j->settings.n;
    size_t order = (size_t)(n * LSQ_LANES) * sizeof *g->ipvt;
    int64_t plain[LSQ_LANES], wanted[LSQ_LANES] = {0}, told[LSQ_LANES];

    if (j->dfun != NULL)
        find_derivatives(w, g, count);
    else
        find_differences(w, g, count);
    memcpy(w->came, g->ipvt, order);
    memcpy(w->factored, g->ipvt, order);
    j->kernels->pack(m, n, w->jac, g->f, g->ipvt, w->a, w->b);
    j->kernels->factor(m, n, w->a, w->b, w->factored, w->rdiag, w->acnorm, plain, w->work, w->places);
    for (int l = 0; l < count; l++)
        wanted[l] = g->code[l] == 0 && plain[l];
    j->kernels->tell_model(&j->settings, wanted, g->calls, m, w->a, w->b, w->came, w->factored, w->rdiag, w->acnorm,
                           &g->state, g->w, g->r, g->ipvt, w->lower, told);
    for (int l = 0; l < count; l++) {
        if (g->code[l] == 0 && !(wanted[l] && told[l])) {
            lsq_state s = take_out(w, g, l);

            if (!wanted[l])
                factor_alone(w, g, l);
            lsq_tell_model(&s, w->lane_w, w->lane_r, n, w->lane_ipvt, g->calls[l]);
            put_back(w, g, l, &s);
        }
        give_back(w, g, l);
    }
}

/* -------------------------------------------------------------------- the fits */

static void
exchange(npy_intp count, double *a, double *b)
{
    for (npy_intp k = 0; k < count * LSQ_LANES; k += LSQ_LANES) {
        double kept = a[k];

        a[k] = b[k];
        b[k] = kept;
    }
}

#define EXCHANGE(a, b) do { char kept_[sizeof(a)]; memcpy(kept_, &(a), sizeof(a)); \
        memcpy(&(a), &(b), sizeof(a)); memcpy(&(b), kept_, sizeof(a)); } while (0)

/* Lane l of g and lane k of h change places. */
static void
change_places(const batch_fitter *w, lane_group *g, int l, lane_group *h, int k)
{
    npy_intp m = w->job->m, n = w->job->settings.n;

    exchange(WORDS, (double *)&g->state + l, (double *)&h->state + k);
    exchange(n * (LSQ_LANES_PIVOTED + 1), g->w + l, h->w + k);
    for (npy_intp i = 0; i < n; i++)
        exchange(i + 1, g->r + i * n * LSQ_LANES + l, h->r + i * n * LSQ_LANES + k);
    exchange(m, g->f + l, h->f + k);
    exchange(n, (double *)g->ipvt + l, (double *)h->ipvt + k);
    EXCHANGE(g->problem[l], h->problem[k]);
    EXCHANGE(g->data[0][l], h->data[0][k]);
    EXCHANGE(g->data[1][l], h->data[1][k]);
    EXCHANGE(g->code[l], h->code[k]);
    EXCHANGE(g->calls[l], h->calls[k]);
    EXCHANGE(g->no_residuals[l], h->no_residuals[k]);
}

static int
wants(const lane_group *g, int l, int64_t request)
{
    return g->state.request[l] == request;      /* a free lane: LSQ_ASK_DONE */
}

static int
wanting(const lane_group *g, int64_t request)
{
    int count = 0;

    for (int l = 0; l < LSQ_LANES; l++)
        count += wants(g, l, request);
    return count;
}

/* A problem for each free lane, as long as there are any; -1 if the job is to stop. */
static int
fill(batch_fitter *w)
{
    for (int q = 0; q < 2 * LSQ_LANES && w->free > 0; q++) {
        lane_group *g = w->groups + q / LSQ_LANES;
        int l = q % LSQ_LANES;

        while (g->problem[l] < 0) {
            npy_intp k = fitter_next(&w->queue);

            if (k < 0)
                return fitter_stopped(&w->queue) ? -1 : 0;
            begin(w, g, l, k);
            give_back(w, g, l);         /* improper settings end it at once */
        }
    }
    return 0;
}

/* Bring those that want this to the front of g, from h while that has any; how many there are. */
static int
gather(const batch_fitter *w, lane_group *g, lane_group *h, int64_t request)
{
    int count = 0, other = 0, last = LSQ_LANES;

    for (; count < LSQ_LANES; count++) {
        if (wants(g, count, request))
            continue;
        while (other < LSQ_LANES && !wants(h, other, request))
            other++;
        if (other < LSQ_LANES) {
            change_places(w, g, count, h, other);
            continue;
        }
        do
            last--;
        while (last > count && !wants(g, last, request));
        if (last <= count)
            return count;
        change_places(w, g, count, g, last);
    }
    return count;
}

void
fit_in_groups(batch_fitter *w)
{
    lane_group *g = w->groups, *h = g + 1;

    while (fill(w) == 0) {
        int waiting = wanting(g, LSQ_ASK_NORM) + wanting(h, LSQ_ASK_NORM);
        int ready = wanting(g, LSQ_ASK_MODEL) + wanting(h, LSQ_ASK_MODEL);
        int64_t request = waiting >= ready ? LSQ_ASK_NORM : LSQ_ASK_MODEL;

        if (waiting == 0 && ready == 0) {
            make_covariances(w);
            return;
        }
        if (wanting(h, request) > wanting(g, request)) {
            lane_group *kept = g;

            g = h;
            h = kept;
        }
        if (request == LSQ_ASK_NORM)
            find_norms(w, g, gather(w, g, h, request));
        else
            find_models(w, g, gather(w, g, h, request));
    }
}
