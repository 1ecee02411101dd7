/* Fits of compiled functions, several at a time: what a thread does without the GIL.

   Each has a seat and goes on until it needs its Jacobian factored; when all do, they
   are factored together.  A fit that ends leaves its seat to the next problem.  Who sits
   beside whom changes no bit. */
#include "batch_seats.h"

/* Lay out the arena behind *w, or with w NULL nothing; the bytes of both. */
static size_t
lay_out(batch_fitter *w, const batch_job *j)
{
    npy_intp m = j->m, n = j->settings.n, columns = lsq_core_columns(n, j->lo != NULL);
    npy_intp each = n * columns + 2 * m + m * n + n, size;
    int seats = batch_lanes_count(m, n);

    size = seats * each + 2 * m + n * (2 * n + 1);
    if (w != NULL) {
        double *room = (double *)(w + 1);

        w->count = seats;
        for (int q = 0; q < seats; q++, room += each) {
            seat *s = w->seats + q;

            s->fitter = w;
            s->k = -1;
            s->w = room;
            s->f = s->w + n * columns;
            s->trial = s->f + m;
            s->fjac = s->trial + m;
            s->ipvt = (int64_t *)(s->fjac + m * n);
        }
        w->weighed = room;
        w->scratch = w->weighed + 2 * m;
        w->lanes = batch_lanes_make(w->scratch + n * (2 * n + 1), j->kernels, m, n);
    }
    return sizeof *w + (size_t)size * sizeof(double) + batch_lanes_bytes(m, n);
}

size_t
batch_fitter_size(const batch_job *job)
{
    return lay_out(NULL, job);
}

batch_fitter *
batch_fitter_make(void *memory, const batch_job *j, batch_queue queue)
{
    batch_fitter *w = memory;

    memset(w, 0, sizeof *w);
    lay_out(w, j);
    w->job = j;
    w->queue = queue;
    w->func = (leastsq_residual)j->func->function;
    w->dfun = j->dfun == NULL ? NULL : (leastsq_jacobian)j->dfun->function;
    return w;
}

/* Until this seat's fit has a Jacobian, one problem after another: 1; or there is none
   left: 0. */
static int
occupy(seat *s)
{
    for (;;) {
        if (s->k < 0) {
            npy_intp k = batch_next(&s->fitter->queue);

            if (k < 0)
                return 0;
            seat_begin(s, k);
        }
        if (seat_go_on(s))
            return 1;
        seat_conclude(s);
        s->fitter->queue.finished++;
    }
}

void
batch_fit(batch_fitter *w)
{
    const batch_job *j = w->job;
    batch_model models[LSQ_LANES];
    seat *waiting[LSQ_LANES];
    int count;

    do {
        count = 0;
        for (int q = 0; q < w->count; q++) {
            seat *s = w->seats + q;

            if (!occupy(s))
                continue;
            waiting[count] = s;
            models[count++] = (batch_model){s->fjac, s->trial, s->w, s->ipvt};
        }
        batch_factor(w->lanes, models, count);
        for (int q = 0; q < count; q++) {
            seat *s = waiting[q];
            int64_t cost = j->dfun != NULL ? 0 : s->calls;

            lsq_tell_model(&s->state, s->w, s->fjac, j->m, s->ipvt, cost);
        }
    } while (count > 0);
}
