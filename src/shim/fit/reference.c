/* The system's MINPACK library of 1980, called with lsq_fit's arguments, for comparisons
   (built with -Dreference=enabled).

   Its callbacks carry no user data, so a thread-local pointer leads to the running fit.
   The pointer is restored after every call of a user's function, and after the fit, because
   fits may nest, run in threads and, with greenlets, take turns within a thread.

   The library is changed in two ways: residuals at x0 and Jacobians that are not finite end
   the fit, and its machine constants, truncated decimals, are replaced by exact IEEE ones. */
#include "fit.h"

#include <float.h>
#include <limits.h>

typedef void (*lmdif_function)(const int *m, const int *n, double *x, double *fvec, int *iflag);
typedef void (*lmder_function)(const int *m, const int *n, double *x, double *fvec, double *fjac,
                               const int *ldfjac, int *iflag);

/* Defined in the library. */
void lmdif_(lmdif_function fcn, const int *m, const int *n, double *x, double *fvec,
            const double *ftol, const double *xtol, const double *gtol, const int *maxfev,
            const double *precision, double *diag, const int *mode, const double *factor,
            const int *nprint, int *info, int *nfev, double *fjac, const int *ldfjac, int *ipvt,
            double *qtf, double *wa1, double *wa2, double *wa3, double *wa4);
void lmder_(lmder_function fcn, const int *m, const int *n, double *x, double *fvec,
            double *fjac, const int *ldfjac, const double *ftol, const double *xtol,
            const double *gtol, const int *maxfev, double *diag, const int *mode,
            const double *factor, const int *nprint, int *info, int *nfev, int *njev, int *ipvt,
            double *qtf, double *wa1, double *wa2, double *wa3, double *wa4);
double dpmpar_(const int *which);

/* The linker uses this function in place of the library's. */
double
dpmpar_(const int *which)
{
    switch (*which) {
    case 1:
        return DBL_EPSILON;
    case 2:
        return DBL_MIN;
    default:
        return DBL_MAX;
    }
}

/* iflag: the two requests, and the answer that ends the fit. */
enum { RESIDUAL = 1, DERIVATIVES = 2, STOP = -1 };

typedef struct {
    const lsq_problem *problem;
    const double *fvec;         /* f at the best point */
    double *point;              /* the last point at which the residual was wanted, other than for differences */
    double *fjac;
    int64_t residuals, jacobians;
    int columns;                /* differences made for the next Jacobian */
    int64_t info;               /* why this file ended the fit, or 0 */
} original;

static _Thread_local original *running;

static int
finite_columns(int m, int n, const double *fjac)
{
    for (int j = 0; j < n; j++)
        if (!(lsq_enorm(m, fjac + (size_t)j * (size_t)m) <= DBL_MAX))
            return 0;
    return 1;
}

static void
stop(original *o, int64_t info, int *iflag)
{
    o->info = info;
    *iflag = STOP;
}

static void
residual(int m, int n, const double *x, double *fvec, int *iflag)
{
    original *o = running;
    int status;

    memcpy(o->point, x, (size_t)n * sizeof *x);
    status = o->problem->residual(m, n, x, fvec, o->problem->data);
    running = o;
    o->residuals++;
    if (status != 0)
        stop(o, LSQ_STOPPED, iflag);
    else if (o->residuals == 1 && !(lsq_enorm(m, fvec) <= DBL_MAX))
        stop(o, LSQ_NOT_FINITE, iflag);
}

/* The library writes a column after this function returns, and factors the Jacobian directly after the
   last one.  So the last column is computed here too, to check all columns before. */
static void
difference(int m, int n, double *x, const double *moved, int *iflag)
{
    original *o = running;
    double *last = o->fjac + (size_t)(n - 1) * (size_t)m;
    double relative = lsq_relative_step(o->problem->differences.precision), unused, h;

    if (++o->columns < n)
        return;
    o->columns = 0;
    o->jacobians++;
    lsq_difference_steps(1, o->point + n - 1, &relative, 0, &unused, &h, NULL, NULL, NULL);
    for (int i = 0; i < m; i++)
        last[i] = (moved[i] - o->fvec[i]) / h;
    if (!finite_columns(m, n, o->fjac)) {
        memcpy(x, o->point, (size_t)n * sizeof *x);
        stop(o, LSQ_NOT_FINITE, iflag);
    }
}

static void
by_differences(const int *m, const int *n, double *x, double *fvec, int *iflag)
{
    original *o = running;
    int status;

    if (*iflag == RESIDUAL) {
        residual(*m, *n, x, fvec, iflag);
        return;
    }
    status = o->problem->residual(*m, *n, x, fvec, o->problem->data);
    running = o;
    o->residuals++;
    if (status == 0) {
        difference(*m, *n, x, fvec, iflag);
        return;
    }
    memcpy(x, o->point, (size_t)*n * sizeof *x);        /* undo the difference step */
    stop(o, LSQ_STOPPED, iflag);
}

static void
with_jacobian(const int *m, const int *n, double *x, double *fvec, double *fjac,
              const int *ldfjac, int *iflag)
{
    original *o = running;
    int status;

    (void)ldfjac;                       /* m */
    if (*iflag == RESIDUAL) {
        residual(*m, *n, x, fvec, iflag);
        return;
    }
    status = o->problem->jacobian(*m, *n, x, fjac, o->problem->data);
    running = o;
    if (status != 0) {
        stop(o, LSQ_STOPPED, iflag);
        return;
    }
    o->jacobians++;
    if (!finite_columns(*m, *n, fjac))
        stop(o, LSQ_NOT_FINITE, iflag);
}

/* The library counts in 32 bits. */
int
reference_refuses(const arguments *a, npy_intp m, npy_intp n)
{
    if (m > INT_MAX / n)
        PyErr_Format(PyExc_ValueError, "leastsq: engine='reference' counts in 32 bits: m*n must be "
                     "at most %d, got m = %zd, n = %zd", INT_MAX, (Py_ssize_t)m, (Py_ssize_t)n);
    else if (a->maxfev > INT_MAX)
        PyErr_Format(PyExc_ValueError, "leastsq: engine='reference' counts in 32 bits: maxfev must "
                     "be at most %d, got %lld", INT_MAX, (long long)a->maxfev);
    return PyErr_Occurred() != NULL;
}

/* Like lsq_fit, for a dense problem without a watcher, a loss or bounds. */
void
reference_fit(const lsq_problem *problem, int64_t m, lsq_state *s, double *w, double *fvec,
              double *r, int64_t ldr, int64_t *ipvt, double *spare)
{
    int64_t n = s->n;
    original *outer = running, o = {problem, fvec, w + LSQ_TRIAL * n, r, 0, 0, 0, 0};
    double *x = w + LSQ_X * n, *diag = w + LSQ_DIAG * n, *qtf = w + LSQ_QTF * n;
    double *wa = w + LSQ_SCRATCH * n;
    int *pivots = (int *)(wa + 3 * n);
    int rows = (int)m, columns = (int)n, ld = (int)ldr, maxfev = (int)s->maxfev;
    int mode = (int)s->scaling, nprint = 0, info, nfev, njev = 0;

    for (int j = 0; j < columns; j++)
        pivots[j] = j + 1;
    running = &o;
    if (problem->jacobian == NULL)
        lmdif_(by_differences, &rows, &columns, x, fvec, &s->ftol, &s->xtol, &s->gtol, &maxfev,
               &problem->differences.precision, diag, &mode, &s->factor, &nprint, &info, &nfev, r, &ld, pivots,
               qtf, wa, wa + n, wa + 2 * n, spare);
    else
        lmder_(with_jacobian, &rows, &columns, x, fvec, r, &ld, &s->ftol, &s->xtol, &s->gtol,
               &maxfev, diag, &mode, &s->factor, &nprint, &info, &nfev, &njev, pivots, qtf, wa,
               wa + n, wa + 2 * n, spare);
    running = outer;
    s->info = o.info != 0 ? o.info : info;
    s->fnorm = lsq_enorm(m, fvec);
    s->nfev = o.info != 0 ? o.residuals : nfev;
    s->njev = o.info != 0 || problem->jacobian == NULL ? o.jacobians : njev;
    for (int64_t j = 0; j < n; j++)
        ipvt[j] = pivots[j];
}
