/* Groups of lanes with one fit in each: their memory, one lane in lm_core's form, the start and the end of a fit.
   group_fitter.c has the iterations. */
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

/* ------------------------------------------------- one lane in lm_core's form */

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
lsq_state
group_take_out(const batch_fitter *w, const lane_group *g, int l)
{
    npy_intp n = w->job->settings.n;
    lsq_state s = w->begun;

    get_state(g, l, &s);
    from_group(n * LSQ_SCRATCH, g->w + l, w->lane_w);
    for (npy_intp j = 0; j < n; j++) {
        from_group(j + 1, g->r + j * n * LSQ_LANES + l, w->lane_r + j * n);
        w->lane_ipvt[j] = g->ipvt[j * LSQ_LANES + l];
    }
    return s;
}

/* Copy it back. */
void
group_put_back(const batch_fitter *w, lane_group *g, int l, const lsq_state *s)
{
    npy_intp n = w->job->settings.n;
    double *pivoted = group_vector(w, g, LSQ_LANES_PIVOTED) + l;

    set_state(g, l, s);
    to_group(n * LSQ_SCRATCH, w->lane_w, g->w + l);
    for (npy_intp j = 0; j < n; j++) {
        to_group(j + 1, w->lane_r + j * n, g->r + j * n * LSQ_LANES + l);
        g->ipvt[j * LSQ_LANES + l] = w->lane_ipvt[j];
        pivoted[j * LSQ_LANES] = w->lane_w[LSQ_STEP * n + w->lane_ipvt[j] - 1];
    }
}

void
group_begin(batch_fitter *w, lane_group *g, int l, npy_intp k)
{
    const batch_job *j = w->job;
    npy_intp n = j->settings.n;
    char *data = j->data == NULL ? NULL : j->data + k * j->stride;
    const double *x = j->x + k * n, *diag = j->diag == NULL ? NULL : j->diag + k * j->diag_stride;

    if (w->begun.n == 0 || j->diag_stride != 0) {       /* otherwise it starts like the previous fit */
        w->begun = j->settings;
        memcpy(w->lane_w + LSQ_X * n, x, (size_t)n * sizeof *x);
        if (diag != NULL)
            memcpy(w->lane_w + LSQ_DIAG * n, diag, (size_t)n * sizeof *diag);
        lsq_start(&w->begun, w->lane_w);
    }
    set_state(g, l, &w->begun);
    to_group(n, x, group_vector(w, g, LSQ_X) + l);
    to_group(n, x, group_vector(w, g, LSQ_TRIAL) + l);
    if (diag != NULL)
        to_group(n, diag, group_vector(w, g, LSQ_DIAG) + l);
    g->problem[l] = k;
    w->free--;
    g->data[0][l] = data != NULL ? data : j->func->data;
    g->data[1][l] = data != NULL || j->dfun == NULL ? data : j->dfun->data;
    g->code[l] = 0;
    g->no_residuals[l] = 1;
}

/* The covariances of the fits that have ended, LSQ_LANES of them at a time. */
void
group_covariances(batch_fitter *w)
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
            from_group(n * n, w->cov + l, cov);
        for (npy_intp i = 0; !full[l] && i < n * n; i++)
            cov[i] = Py_NAN;
    }
    w->ended_count = 0;
}

/* As batch_covariance, for several fits at once. */
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
        group_covariances(w);
}

/* Write the results of a fit that has ended, and free its lane. */
static void
conclude(batch_fitter *w, lane_group *g, int l)
{
    const batch_job *j = w->job;
    npy_intp m = j->m, n = j->settings.n, k = g->problem[l];

    g->problem[l] = -1;
    from_group(n, group_vector(w, g, LSQ_X) + l, j->x + k * n);
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

/* Has a function stopped the fit, or has it ended? */
void
group_give_back(batch_fitter *w, lane_group *g, int l)
{
    if (g->code[l] != 0) {
        g->state.info[l] = LSQ_STOPPED;
        g->state.request[l] = LSQ_ASK_DONE;
        g->state.nfev[l] += g->calls[l];
    }
    if (g->state.request[l] == LSQ_ASK_DONE)
        conclude(w, g, l);
}

/* ----------------------------------------------------------------- places in lanes */

/* Exchange two numbers of 8 bytes, or fewer. */
static inline void
exchange(size_t size, void *a, void *b)
{
    char kept[sizeof(int64_t)];

    memcpy(kept, a, size);
    memcpy(a, b, size);
    memcpy(b, kept, size);
}

/* The same for a lane's numbers, which are LSQ_LANES apart. */
static void
exchange_all(npy_intp count, void *a, void *b)
{
    char *one = a, *other = b;

    for (npy_intp k = 0; k < count; k++, one += sizeof(int64_t) * LSQ_LANES, other += sizeof(int64_t) * LSQ_LANES)
        exchange(sizeof(int64_t), one, other);
}

/* Exchange lane l of g and lane k of h. */
void
group_exchange(const batch_fitter *w, lane_group *g, int l, lane_group *h, int k)
{
    npy_intp m = w->job->m, n = w->job->settings.n;

    exchange_all(WORDS, (int64_t *)&g->state + l, (int64_t *)&h->state + k);
    exchange_all(n * (LSQ_LANES_PIVOTED + 1), g->w + l, h->w + k);
    for (npy_intp i = 0; i < n; i++)
        exchange_all(i + 1, g->r + i * n * LSQ_LANES + l, h->r + i * n * LSQ_LANES + k);
    exchange_all(m, g->f + l, h->f + k);
    exchange_all(n, g->ipvt + l, h->ipvt + k);
    exchange(sizeof g->problem[l], g->problem + l, h->problem + k);
    exchange(sizeof g->data[0][l], g->data[0] + l, h->data[0] + k);
    exchange(sizeof g->data[1][l], g->data[1] + l, h->data[1] + k);
    exchange(sizeof g->code[l], g->code + l, h->code + k);
    exchange(sizeof g->calls[l], g->calls + l, h->calls + k);
    exchange(sizeof g->no_residuals[l], g->no_residuals + l, h->no_residuals + k);
}
