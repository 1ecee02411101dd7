/* One fit of compiled functions, from its start to its results. */
#include "batch_seats.h"

enum { INTERRUPTED = 1 };       /* returned to the core: what stops a fit is in `code` */

static int
residual(int64_t m, int64_t n, const double *x, double *fvec, void *data)
{
    seat *s = data;
    int code;

    s->calls++;
    if (batch_stopped(&s->fitter->queue))
        return INTERRUPTED;
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
jacobian(int64_t m, int64_t n, const double *x, double *fjac, seat *s)
{
    int code;

    if (batch_stopped(&s->fitter->queue))
        return INTERRUPTED;
    code = s->fitter->dfun(m, n, x, fjac, s->dfun_data);
    s->code = code;
    if (code == 0 && s->weights != NULL)
        for (int64_t j = 0; j < n; j++)
            for (int64_t i = 0; i < m; i++)
                fjac[i + j * m] = weighted(fjac[i + j * m], s->weights[i]);
    return code;
}

void
seat_begin(seat *s, npy_intp k)
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
        s->state.bounded = batch_bounded(n, lo, hi);
    }
    lsq_start(&s->state, s->w);
}

/* The norm that the core asked for; 0, or what stops the fit. */
static int
tell_norm(seat *s)
{
    const batch_job *j = s->fitter->job;
    npy_intp m = j->m, n = j->settings.n;
    double *fitted = s->trial, *passed = s->f;
    int status;

    s->calls = 0;
    status = residual(m, n, s->w + LSQ_TRIAL * n, s->trial, s);
    if (status != 0)
        return status;
    if (j->loss.rho != NULL) {
        fitted = s->fitter->weighed;
        loss_weigh_known(m, s->trial, &j->loss, fitted, 0);
    }
    lsq_tell_norm(&s->state, s->w, s->fjac, m, s->ipvt, lsq_enorm(m, fitted), 1);
    if (s->state.accepted) {
        s->f = s->trial;
        s->trial = passed;
    }
    return 0;
}

/* The Jacobian at x, and in `trial` f, both weighed; 0, or what stops the fit. */
static int
make_jacobian(seat *s)
{
    const batch_job *j = s->fitter->job;
    npy_intp m = j->m, n = j->settings.n;
    const double *lo = j->lo == NULL ? NULL : s->w + LSQ_LO * n;
    const double *hi = j->lo == NULL ? NULL : s->w + LSQ_HI * n;
    const double *largest = j->lo == NULL ? NULL : s->w + LSQ_LARGEST * n;
    double *x = s->w + LSQ_X * n, *weighed = s->fitter->weighed;
    int status;

    s->calls = 0;
    if (j->dfun != NULL)
        status = jacobian(m, n, x, s->fjac, s);
    else
        lsq_fdjac2(residual, s, m, n, x, s->f, s->fjac, j->epsfcn, s->w + LSQ_SCRATCH * n, &status,
                   lo, hi, largest);
    if (status != 0)
        return status;
    if (j->loss.rho == NULL) {
        memcpy(s->trial, s->f, (size_t)m * sizeof *s->f);
        return 0;
    }
    loss_weigh_known(m, s->f, &j->loss, weighed, 1);
    memcpy(s->trial, weighed, (size_t)m * sizeof *weighed);
    for (npy_intp k = 0; k < n; k++)
        for (npy_intp i = 0; i < m; i++)
            s->fjac[i + k * m] *= weighed[m + i];
    return 0;
}

int
seat_go_on(seat *s)
{
    int status = 0;

    while (s->state.request == LSQ_ASK_NORM && status == 0)
        status = tell_norm(s);
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

void
seat_conclude(seat *s)
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
