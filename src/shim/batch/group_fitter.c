/* Fits of compiled functions whose every step runs in lanes: without bounds, weights or loss, and with as many lanes
   as the kernels have.

   A thread has two groups of fits, one fit in each lane.  Some fits need a norm, the others a Jacobian: while
   problems are waiting, one of the two kinds fills a group after fits have been exchanged.  Events that the kernels
   leave to lm_core are passed to it, one lane at a time.  A fit's bits depend neither on its lane nor on the other
   lanes, if the function returns the same bits. */
#include "fitter.h"

/* ------------------------------------------------------- one call of a function */

/* The lane whose x lane l evaluates: l itself, or the last of the first `count` lanes that is still running. */
static int
stands_for(const lane_group *g, int count, int l)
{
    int k = l < count || count < 1 ? l : count - 1;

    for (int turn = 0; turn < count && g->code[k] != 0; turn++)
        k = k == 0 ? count - 1 : k - 1;
    return k;
}

/* Call func or Dfun for the first `count` lanes, at x of all lanes; `code` of each gets its status.  x is copied
   where a lane evaluates another's x. */
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
    from_group(w->job->m, w->out + l, w->lane_f);
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
    call(w, g, count, group_vector(w, g, LSQ_TRIAL), 0);
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
            lsq_state s = group_take_out(w, g, l);

            lsq_tell_norm(&s, w->lane_w, w->lane_r, j->settings.n, w->lane_ipvt, norms[l], 1);
            group_put_back(w, g, l, &s);
        }
        kept[l] = wanted[l] && g->state.accepted[l];
    }
    j->kernels->keep(j->m, kept, w->out, g->f);
    for (int l = 0; l < count; l++)
        group_give_back(w, g, l);
}

/* --------------------------------------------------------------------- models */

static void
find_differences(batch_fitter *w, lane_group *g, int count)
{
    const batch_job *j = w->job;
    npy_intp m = j->m, n = j->settings.n;
    double relative = lsq_relative_step(j->precision), *x = group_vector(w, g, LSQ_X);

    for (int l = 0; l < count; l++) {
        double *own = w->lane_w, *moved = own + n, *steps = moved + n;

        g->calls[l] = 0;
        from_group(n, x + l, own);
        lsq_difference_steps(n, own, &relative, 0, moved, steps, NULL, NULL, NULL);
        to_group(n, moved, w->moved + l);
        to_group(n, steps, w->steps + l);
    }
    for (npy_intp k = 0; k < n && !fitter_stopped(&w->queue); k++) {
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
    call(w, g, count, group_vector(w, g, LSQ_X), 1);
}

/* A model that the kernels leave alone. */
static void
factor_alone(const batch_fitter *w, const lane_group *g, int l)
{
    npy_intp m = w->job->m, n = w->job->settings.n;

    from_group(m * n, w->jac + l, w->lane_jac);
    from_group(m, g->f + l, w->lane_f);
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
            lsq_state s = group_take_out(w, g, l);

            if (!wanted[l])
                factor_alone(w, g, l);
            lsq_tell_model(&s, w->lane_w, w->lane_r, n, w->lane_ipvt, g->calls[l]);
            group_put_back(w, g, l, &s);
        }
        group_give_back(w, g, l);
    }
}

/* -------------------------------------------------------------------- the fits */

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
    if (fitter_stopped(&w->queue))
        return -1;
    for (int q = 0; q < 2 * LSQ_LANES && w->free > 0; q++) {
        lane_group *g = w->groups + q / LSQ_LANES;
        int l = q % LSQ_LANES;

        while (g->problem[l] < 0) {
            npy_intp k = fitter_next(&w->queue);

            if (k < 0)
                return fitter_stopped(&w->queue) ? -1 : 0;
            group_begin(w, g, l, k);
            group_give_back(w, g, l);         /* improper settings end it at once */
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
            group_exchange(w, g, count, h, other);
            continue;
        }
        do
            last--;
        while (last > count && !wants(g, last, request));
        if (last <= count)
            return count;
        group_exchange(w, g, count, g, last);
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
            group_covariances(w);
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
