/* One after another, fits of compiled functions: what a thread does without the GIL. */
#include "batch.h"

/* Who fits, and where; its arena follows. */
struct batch_fitter {
    const batch_job *job;
    const atomic_int *stop;     /* not 0: leave it */
    lsq_problem problem;
    lsq_state state;
    double *w, *f, *spare, *r, *scratch;
    int64_t *ipvt;
    leastsq_residual func;
    leastsq_jacobian dfun;
    /* of the problem at work */
    void *func_data, *dfun_data;
    const double *weights;
    int32_t code;
    int no_residuals;           /* func stopped it at x0 */
};

enum { INTERRUPTED = 1 };       /* returned to the core: what stops a fit is in `code` */

static int
residual(int64_t m, int64_t n, const double *x, double *fvec, void *data)
{
    batch_fitter *w = data;
    int code;

    if (atomic_load_explicit(w->stop, memory_order_relaxed))
        return INTERRUPTED;
    code = w->func(m, n, x, fvec, w->func_data);
    w->code = code;
    if (code == 0) {
        w->no_residuals = 0;
        if (w->weights != NULL)
            for (int64_t i = 0; i < m; i++)
                fvec[i] = weighted(fvec[i], w->weights[i]);
    }
    return code;
}

static int
jacobian(int64_t m, int64_t n, const double *x, double *fjac, void *data)
{
    batch_fitter *w = data;
    int code;

    if (atomic_load_explicit(w->stop, memory_order_relaxed))
        return INTERRUPTED;
    code = w->dfun(m, n, x, fjac, w->dfun_data);
    w->code = code;
    if (code == 0 && w->weights != NULL)
        for (int64_t j = 0; j < n; j++)
            for (int64_t i = 0; i < m; i++)
                fjac[i + j * m] = weighted(fjac[i + j * m], w->weights[i]);
    return code;
}

static int
weigh(int64_t m, const double *f, double *weighed, int model, void *data)
{
    const batch_fitter *w = data;

    loss_weigh_known(m, f, &w->job->loss, weighed, model);
    return 0;
}

/* Lay out the arena behind *w, or with w NULL nothing; the bytes of both. */
static size_t
lay_out(batch_fitter *w, const batch_job *j)
{
    npy_intp m = j->m, n = j->settings.n, columns = lsq_core_columns(n, j->lo != NULL);
    npy_intp size = n * columns + m + m + m * n + n * (2 * n + 1) + n;

    size += j->loss.rho != NULL ? 2 * m : 0;
    if (w != NULL) {
        w->w = (double *)(w + 1);
        w->f = w->w + n * columns;
        w->spare = w->f + m;
        w->r = w->spare + m;
        w->scratch = w->r + m * n;
        w->ipvt = (int64_t *)(w->scratch + n * (2 * n + 1));
        w->problem.weighed = (double *)(w->ipvt + n);
    }
    return sizeof *w + (size_t)size * sizeof(double);
}

size_t
batch_fitter_size(const batch_job *job)
{
    return lay_out(NULL, job);
}

/* With all that is the same for every problem. */
batch_fitter *
batch_fitter_make(void *memory, const batch_job *j, const atomic_int *stop)
{
    batch_fitter *w = memory;
    npy_intp n = j->settings.n;

    memset(w, 0, sizeof *w);
    lay_out(w, j);
    w->job = j;
    w->stop = stop;
    w->func = (leastsq_residual)j->func->function;
    w->dfun = j->dfun == NULL ? NULL : (leastsq_jacobian)j->dfun->function;
    w->problem.data = w;
    w->problem.epsfcn = j->epsfcn;
    w->problem.residual = residual;
    w->problem.jacobian = j->dfun == NULL ? NULL : jacobian;
    w->problem.weigh = j->loss.rho == NULL ? NULL : weigh;
    if (j->lo != NULL) {
        w->problem.lo = w->w + LSQ_LO * n;
        w->problem.hi = w->w + LSQ_HI * n;
        w->problem.largest = w->w + LSQ_LARGEST * n;
    }
    return w;
}

/* The k-th problem, from its start to its results. */
void
batch_fit(batch_fitter *w, npy_intp k)
{
    const batch_job *j = w->job;
    npy_intp m = j->m, n = j->settings.n;
    size_t vector = (size_t)n * sizeof(double);
    char *data = j->data == NULL ? NULL : j->data + k * j->stride;
    double *x = w->w + LSQ_X * n, *lo = w->w + LSQ_LO * n, *hi = w->w + LSQ_HI * n;
    lsq_state *s = &w->state;

    w->func_data = data != NULL ? data : j->func->data;
    w->dfun_data = data != NULL || j->dfun == NULL ? data : j->dfun->data;
    w->weights = j->weights == NULL ? NULL : j->weights + k * m;
    w->code = 0;
    w->no_residuals = 1;
    *s = j->settings;
    memcpy(x, j->x + k * n, vector);
    if (j->diag != NULL)
        memcpy(w->w + LSQ_DIAG * n, j->diag + k * j->diag_stride, vector);
    if (j->lo != NULL) {
        memcpy(lo, j->lo + k * j->lo_stride, vector);
        memcpy(hi, j->hi + k * j->hi_stride, vector);
        memset(w->w + LSQ_LARGEST * n, 0, vector);      /* the machine's, if it is bounded */
        s->bounded = batch_bounded(n, lo, hi);
    }
    lsq_fit(&w->problem, m, s, w->w, w->f, w->r, m, w->ipvt, w->spare);
    memcpy(j->x + k * n, x, vector);
    j->ier[k] = s->info;
    j->nfev[k] = s->nfev;
    j->njev[k] = s->njev;
    j->code[k] = w->code;
    j->fnorm[k] = w->no_residuals ? Py_NAN : s->fnorm;
    for (npy_intp i = 0; w->no_residuals && i < m; i++)
        w->f[i] = Py_NAN;
    if (j->fvec != NULL)
        memcpy(j->fvec + k * m, w->f, (size_t)m * sizeof *w->f);
    if (j->cov != NULL)
        batch_covariance(s, w->w, w->r, m, w->ipvt, j->cov + k * n * n, w->scratch);
}
