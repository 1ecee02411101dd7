/* Random fits by our core and by MINPACK's library, call by call and bit for bit.

   The number of a case determines everything in it: sizes, residuals, start, tolerances, scales.
   differential.py builds this file and counts the outcomes.  MINPACK's constants are IEEE's, as
   in src/shim/fit/reference.c.

   The two may differ in these cases (enum outcome, below):
   - a tolerance or scale is nan, which is improper input for us;
   - residuals at x0 or a Jacobian are not finite, by MINPACK's own norm: our fit ends there;
   - a gradient D^-1 R'Q'f, a length |D p| or a radius overflows.  The nan that follows goes through
     minima and maxima in lmpar, whose result is the compiler's choice, in MINPACK's library too;
     and MINPACK accepts a step with nan in it, while we reject it.
   All calls before that must be the same, and our answer must be the best point evaluated. */
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"

typedef void (*lmdif_function)(const int *, const int *, double *, double *, int *);
typedef void (*lmder_function)(const int *, const int *, double *, double *, double *, const int *,
                               int *);
void lmdif_(lmdif_function, const int *, const int *, double *, double *, const double *,
            const double *, const double *, const int *, const double *, double *, const int *,
            const double *, const int *, int *, int *, double *, const int *, int *, double *,
            double *, double *, double *, double *);
void lmder_(lmder_function, const int *, const int *, double *, double *, double *, const int *,
            const double *, const double *, const double *, const int *, double *, const int *,
            const double *, const int *, int *, int *, int *, int *, double *, double *, double *,
            double *, double *);
double enorm_(const int *, const double *);

double
dpmpar_(const int *which)
{
    return *which == 1 ? DBL_EPSILON : *which == 2 ? DBL_MIN : DBL_MAX;
}

/* The outcome of a case.  PARTED and those after it are findings. */
enum {
    SAME, IMPROPER_NAN, NOT_FINITE_START, NOT_FINITE_JACOBIAN, STEP_OVERFLOW,
    PARTED, WRONG_END, WRONG_ANSWER, ENDLESS, OUTCOMES
};

enum { MOST_N = 12, MOST_M = 60, MOST_CALLS = 8192, FAMILIES = 12 };

typedef struct {
    uint64_t seed;
    int m, n, family, analytic;         /* analytic: with a Jacobian */
    int jacobian;                       /* by differences, with errors, random */
    double a[MOST_M * MOST_N], t[MOST_M], y[MOST_M], sx[MOST_N], sf[MOST_M], x0[MOST_N];
    double noise;
    uint64_t poison;                    /* one call in `poison` returns bad values; 0: none does */
    double ftol, xtol, gtol, factor, epsfcn;
    int maxfev, scaled;
    double diag[MOST_N];
} problem;

typedef struct {
    int calls, overflow_at;     /* number of calls when a step first overflowed, or -1 */
    uint64_t trace[MOST_CALLS];
    double x[MOST_N], fvec[MOST_M], fjac[MOST_M * MOST_N], qtf[MOST_N], diag[MOST_N];
    int64_t info, nfev, njev, ipvt[MOST_N];
} run;

static _Thread_local const problem *current;    /* MINPACK's callbacks carry no data */
static _Thread_local run *recording;

/* ---------------------------------------------------------- random numbers */

static uint64_t
mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t
next(uint64_t *state)
{
    return mix(*state += 0x9e3779b97f4a7c15u);
}

static int
below(uint64_t *state, int bound)
{
    return (int)(next(state) % (uint64_t)bound);
}

static double
uniform(uint64_t *state)
{
    return (double)(next(state) >> 11) * 0x1p-53;
}

static double
within(uint64_t *state, double low, double high)
{
    return low + (high - low) * uniform(state);
}

/* A number that a user might pass. */
static double
silly(uint64_t *state)
{
    static const double values[] = {
        0, -0.0, 1, -1, 2, 10, 1e-300, 1e300, 1e-308, 5e-324, DBL_MAX, DBL_MIN, DBL_EPSILON,
        INFINITY, -INFINITY, NAN, 1e150, 1e-150, 1e-16, 1e20, 0x1p-52, 0x1p-53};

    return values[below(state, (int)(sizeof values / sizeof *values))];
}

static double
tolerance(uint64_t *state)
{
    static const double usual[] = {1.49012e-8, 1.49012e-8, 0, 1e-12, 1e-4, DBL_EPSILON, 1e-2};

    return below(state, 12) == 0 ? silly(state) : usual[below(state, 7)];
}

/* Powers of ten: mostly moderate ones, sometimes from the whole range. */
static double
magnitude(uint64_t *state, int wild)
{
    double most = wild ? 300 : 6;

    return pow(10, floor(within(state, -most, most + 1)));
}

/* --------------------------------------------------------------- problems */

static void
make(problem *p, uint64_t number)
{
    uint64_t state = mix(number + 0x5eed), *s = &state;
    int wild_x = below(s, 10) == 0, wild_f = below(s, 10) == 0, graded = below(s, 4) == 0;

    memset(p, 0, sizeof *p);
    p->seed = next(s);
    p->n = below(s, 8) == 0 ? 1 + below(s, MOST_N) : 1 + below(s, 5);
    p->m = p->n + (below(s, 4) == 0 ? 0 : below(s, below(s, 4) == 0 ? MOST_M - MOST_N : 12));
    p->family = below(s, FAMILIES);
    p->analytic = below(s, 2);
    p->jacobian = below(s, 4);
    p->noise = below(s, 4) == 0 ? pow(10, within(s, -16, 0)) : 0;
    p->poison = below(s, 6) == 0 ? 2 + (uint64_t)below(s, 60) : 0;
    for (int k = 0; k < p->m * p->n; k++)
        p->a[k] = below(s, 12) == 0 ? 0 : within(s, -2, 2);
    if (below(s, 5) == 0)               /* dependent columns: two equal ones, or one of zeros */
        for (int j = below(s, p->n), k = below(s, p->n), i = 0; i < p->m; i++)
            p->a[i + j * p->m] = j == k ? 0 : p->a[i + k * p->m];
    if (below(s, 8) == 0)               /* rank one */
        for (int k = p->m; k < p->m * p->n; k++)
            p->a[k] = p->a[k % p->m] * (1 + k / p->m);
    for (int i = 0; i < p->m; i++) {
        p->t[i] = below(s, 3) == 0 ? i : within(s, 0, 4);
        p->y[i] = within(s, -3, 3);
        p->sf[i] = graded ? magnitude(s, 0) : 1;
    }
    for (int j = 0; j < p->n; j++) {
        p->sx[j] = graded || wild_x ? magnitude(s, wild_x) : 1;
        p->x0[j] = below(s, 6) == 0 ? (double)(below(s, 5) - 2)
                                    : within(s, -2, 2) * magnitude(s, below(s, 40) == 0) * 1e-3;
        p->x0[j] /= below(s, 3) == 0 ? p->sx[j] : 1;
        if (below(s, 200) == 0)
            p->x0[j] = silly(s);
        p->diag[j] = below(s, 60) == 0 ? silly(s) : within(s, 0.01, 2) * magnitude(s, below(s, 20) == 0);
    }
    if (wild_f) {
        double scale = magnitude(s, 1);
        for (int i = 0; i < p->m; i++)
            p->sf[i] *= scale * (below(s, 10) == 0 ? magnitude(s, 1) : 1);
    }
    p->ftol = tolerance(s);
    p->xtol = tolerance(s);
    p->gtol = below(s, 2) ? 0 : tolerance(s);
    p->factor = below(s, 3) ? 100 : below(s, 6) ? magnitude(s, 0) : silly(s);
    p->epsfcn = below(s, 2) ? 0 : below(s, 6) ? pow(10, within(s, -18, 1)) : silly(s);
    if (isnan(p->epsfcn))               /* MINPACK takes the MAX of it and the precision, and Fortran does not say */
        p->epsfcn = 0;                  /* which that is: gfortran 12 makes it the precision, gfortran 14 nan */
    p->maxfev = below(s, 6) == 0 ? 1 + below(s, 20) : 20 + below(s, below(s, 20) == 0 ? 2000 : 200);
    p->scaled = below(s, 4) == 0;
}

static uint64_t
hash(const double *x, int n, uint64_t h)
{
    uint64_t bits;

    for (int j = 0; j < n; j++) {
        double value = isnan(x[j]) ? NAN : x[j];        /* IEEE 754 leaves the bits of nan open */
        memcpy(&bits, &value, sizeof bits);
        h = mix(h ^ bits) + 0x9e3779b97f4a7c15u;
    }
    return h;
}

static double
model(const problem *p, int i, const double *x)
{
    double t = p->t[i], sum = 0, s, x1 = x[(1 % p->n)], x2 = x[2 % p->n];
    const double *a = p->a + i;

    for (int j = 0; j < p->n; j++)
        sum += a[j * p->m] * x[j];
    switch (p->family) {
    case 0:
        return sum;
    case 1:
        return x[0] * exp(-x1 * t) + x2;
    case 2:
        return x[0] / (1 + x1 * t) + sum / (1 + x2 * x2);
    case 3:
        return sum * sum;
    case 4:
        return x[0] * sin(x1 * t + x2) + sum;
    case 5:
        s = 0;
        for (int j = p->n - 1; j >= 0; j--)
            s = s * t + x[j];
        return s;
    case 6:
        return 10 * (x[(i + 1) % p->n] - x[i % p->n] * x[i % p->n]);
    case 7:
        return sqrt(sum + 1) + log(x[0] + 3);
    case 8:
        return fabs(sum) + floor(x[0] * t);
    case 9:
        return 0 * sum;
    case 10:
        return x[0] * exp(-x1 * (t - x2) * (t - x2)) + sum * sum * sum;
    default:
        return pow(fabs(x[0]), x1) * t + tanh(sum);
    }
}

static void
evaluate(const problem *p, const double *x, double *f)
{
    double z[MOST_N];
    uint64_t h = hash(x, p->n, p->seed), state = h;
    static const double spoils[] = {NAN, INFINITY, -INFINITY, 1e308, -DBL_MAX, 1e200, 0};

    for (int j = 0; j < p->n; j++)
        z[j] = x[j] * p->sx[j];
    for (int i = 0; i < p->m; i++) {
        f[i] = (model(p, i, z) - (p->family == 9 ? p->y[0] : p->y[i])) * p->sf[i];
        if (p->noise > 0)
            f[i] *= 1 + p->noise * (uniform(&state) - 0.5);
    }
    if (p->poison && h % p->poison == 0 && (h >> 40) % 8)
        f[(h >> 32) % (uint64_t)p->m] = spoils[(h >> 20) % 7];
}

/* The Jacobian may be wrong: both solvers get the same one. */
static void
differentiate(const problem *p, const double *x, double *fjac)
{
    double moved[MOST_N], f[MOST_M];
    uint64_t h = hash(x, p->n, ~p->seed), state = h;

    memcpy(moved, x, sizeof *x * (size_t)p->n);
    evaluate(p, x, f);
    for (int j = 0; j < p->n; j++) {
        double *column = fjac + j * p->m, step = fabs(x[j]) * 1e-6 + 1e-9 / p->sx[j];

        moved[j] = x[j] + step;
        evaluate(p, moved, column);
        moved[j] = x[j];
        for (int i = 0; i < p->m; i++) {
            column[i] = (column[i] - f[i]) / step;
            if (p->jacobian == 1)
                column[i] *= 1 + 0.3 * (uniform(&state) - 0.5);
            if (p->jacobian == 2 && h % 3 == 0)
                column[i] = uniform(&state) - 0.5;
        }
    }
}

/* -------------------------------------------------------------------- runs */

static int
note(int kind, const double *x)
{
    if (recording->calls >= MOST_CALLS)
        return -1;
    recording->trace[recording->calls++] = hash(x, current->n, (uint64_t)kind);
    return 0;
}

static int
our_residual(int64_t m, int64_t n, const double *x, double *fvec, void *data)
{
    (void)m, (void)n, (void)data;
    evaluate(current, x, fvec);
    return note(1, x);
}

static int
our_jacobian(int64_t m, int64_t n, const double *x, double *fjac, void *data)
{
    (void)m, (void)n, (void)data;
    differentiate(current, x, fjac);
    return note(2, x);
}

static int
overflows(double value)
{
    return !(fabs(value) <= DBL_MAX);
}

/* Are the numbers finite from which lmpar starts: the gradient, which gives its upper bound for
   the parameter, and the length of the undamped step? */
static int
start_overflows(const run *r, const double *w)
{
    int n = current->n, m = current->m, rank = n;
    double gradient[MOST_N], step[MOST_N];
    const double *diag = w + LSQ_DIAG * n, *qtf = w + LSQ_QTF * n;

    for (int j = 0; j < n; j++) {
        double sum = 0;
        for (int i = 0; i <= j; i++)
            sum += r->fjac[i + j * m] * qtf[i];
        gradient[j] = sum / diag[r->ipvt[j] - 1];
        if (r->fjac[j + j * m] == 0 && rank == n)
            rank = j;
        step[j] = rank < n ? 0 : qtf[j];
    }
    for (int j = rank - 1; j >= 0; j--) {
        step[j] /= r->fjac[j + j * m];
        for (int i = 0; i < j; i++)
            step[i] -= r->fjac[i + j * m] * step[j];
    }
    for (int j = 0; j < n; j++)
        step[j] *= diag[r->ipvt[j] - 1];
    return overflows(enorm_(&n, gradient)) || overflows(enorm_(&n, step));
}

static int
our_watch(const lsq_state *s, const double *w, void *data)
{
    run *r = recording;

    (void)data;
    if (r->overflow_at < 0 && s->request == LSQ_ASK_NORM && s->njev > 0
        && (start_overflows(r, w) || overflows(s->radius) || overflows(s->pnorm) || overflows(s->par)
            || (s->iteration == 1 && overflows(s->factor * s->xnorm))))
        r->overflow_at = r->calls;
    return 0;
}

static void
their_differences(const int *m, const int *n, double *x, double *fvec, int *iflag)
{
    (void)m, (void)n;
    evaluate(current, x, fvec);
    if (note(1, x) < 0)
        *iflag = -1;
}

static void
theirs(const int *m, const int *n, double *x, double *fvec, double *fjac, const int *ld, int *iflag)
{
    (void)m, (void)n, (void)ld;
    if (*iflag == 1)
        evaluate(current, x, fvec);
    else
        differentiate(current, x, fjac);
    if (note(*iflag, x) < 0)
        *iflag = -1;
}

static void
fit_ours(const problem *p, run *r)
{
    int64_t n = p->n;
    double w[MOST_N * LSQ_VECTORS], spare[MOST_M];
    lsq_state s = {0};
    lsq_problem record = {0};

    s.n = n, s.maxfev = p->maxfev, s.scaling = p->scaled ? LSQ_SCALE_USER : LSQ_SCALE_COLUMNS;
    s.ftol = p->ftol, s.xtol = p->xtol, s.gtol = p->gtol, s.factor = p->factor;
    record.differences.precision = p->epsfcn;
    record.watch = our_watch;
    record.residual = our_residual;
    record.jacobian = p->analytic ? our_jacobian : NULL;
    for (size_t k = 0; k < sizeof w / sizeof *w; k++)
        w[k] = NAN;
    memcpy(w + LSQ_X * n, p->x0, sizeof(double) * (size_t)n);
    memcpy(w + LSQ_DIAG * n, p->diag, sizeof(double) * (size_t)n);
    recording = r;
    lsq_fit(&record, p->m, &s, w, r->fvec, r->fjac, p->m, r->ipvt, spare);
    r->info = s.info, r->nfev = s.nfev, r->njev = s.njev;
    memcpy(r->x, w + LSQ_X * n, sizeof(double) * (size_t)n);
    memcpy(r->qtf, w + LSQ_QTF * n, sizeof(double) * (size_t)n);
    memcpy(r->diag, w + LSQ_DIAG * n, sizeof(double) * (size_t)n);
}

static void
fit_theirs(const problem *p, run *r)
{
    double wa1[MOST_N], wa2[MOST_N], wa3[MOST_N], wa4[MOST_M];
    int info = 0, nfev = 0, njev = 0, nprint = 0, mode = p->scaled ? 2 : 1, ipvt[MOST_N] = {0};

    memcpy(r->x, p->x0, sizeof r->x);
    memcpy(r->diag, p->diag, sizeof r->diag);
    recording = r;
    if (p->analytic)
        lmder_(theirs, &p->m, &p->n, r->x, r->fvec, r->fjac, &p->m, &p->ftol, &p->xtol, &p->gtol,
               &p->maxfev, r->diag, &mode, &p->factor, &nprint, &info, &nfev, &njev, ipvt, r->qtf,
               wa1, wa2, wa3, wa4);
    else
        lmdif_(their_differences, &p->m, &p->n, r->x, r->fvec, &p->ftol, &p->xtol, &p->gtol,
               &p->maxfev, &p->epsfcn, r->diag, &mode, &p->factor, &nprint, &info, &nfev, r->fjac,
               &p->m, ipvt, r->qtf, wa1, wa2, wa3, wa4);
    r->info = info, r->nfev = nfev, r->njev = njev;
    for (int j = 0; j < p->n; j++)
        r->ipvt[j] = ipvt[j];
}

/* -------------------------------------------------------------- comparison */

static int
same(const double *a, const double *b, int n)
{
    return hash(a, n, 0) == hash(b, n, 0);
}

static int
any_nan_setting(const problem *p)
{
    int found = isnan(p->ftol) || isnan(p->xtol) || isnan(p->gtol) || isnan(p->factor);

    for (int j = 0; j < p->n; j++)
        found |= p->scaled && isnan(p->diag[j]);
    return found;
}

/* Is our answer the best point evaluated, with its residuals, and no worse than x0? */
static int
sound(const problem *p, const run *r)
{
    double f[MOST_M], f0[MOST_M];

    evaluate(p, r->x, f);
    evaluate(p, p->x0, f0);
    return same(f, r->fvec, p->m) && (r->njev == 0 || enorm_(&p->m, f) <= enorm_(&p->m, f0));
}

static int
finite_columns(const problem *p, const double *fjac)
{
    for (int j = 0; j < p->n; j++)
        if (!(enorm_(&p->m, fjac + j * p->m) <= DBL_MAX))
            return 0;
    return 1;
}

/* Are all calls and all results the same? */
static int
equal(const problem *p, const run *a, const run *b)
{
    if (a->calls != b->calls || a->info != b->info || a->nfev != b->nfev
        || (p->analytic && a->njev != b->njev)
        || memcmp(a->trace, b->trace, sizeof *a->trace * (size_t)a->calls) != 0)
        return 0;
    return a->info == LSQ_IMPROPER
        || (same(a->x, b->x, p->n) && same(a->fvec, b->fvec, p->m) && same(a->diag, b->diag, p->n)
            && same(a->qtf, b->qtf, p->n) && same(a->fjac, b->fjac, p->m * p->n)
            && memcmp(a->ipvt, b->ipvt, sizeof *a->ipvt * (size_t)p->n) == 0);
}

static int
compare(const problem *p, const run *a, const run *b)
{
    int common = a->calls < b->calls ? a->calls : b->calls;

    if (a->calls >= MOST_CALLS || b->calls >= MOST_CALLS)
        return ENDLESS;
    if (equal(p, a, b))
        return a->info == LSQ_IMPROPER || sound(p, a) ? SAME : WRONG_ANSWER;
    if (a->info == LSQ_IMPROPER && any_nan_setting(p))
        return a->calls == 0 ? IMPROPER_NAN : WRONG_END;
    if (any_nan_setting(p) && b->info != LSQ_IMPROPER)
        return WRONG_END;
    if (a->overflow_at >= 0 && common > a->overflow_at)
        common = a->overflow_at;
    if (memcmp(a->trace, b->trace, sizeof *a->trace * (size_t)common) != 0)
        return PARTED;
    if (a->info != LSQ_IMPROPER && (!sound(p, a) || a->nfev + (p->analytic ? a->njev : 0) != a->calls))
        return WRONG_ANSWER;
    if (a->info == LSQ_NOT_FINITE && a->calls <= b->calls && a->overflow_at < 0) {
        if (a->njev == 0)
            return a->calls == 1 && !(enorm_(&p->m, a->fvec) <= DBL_MAX) ? NOT_FINITE_START : WRONG_END;
        return finite_columns(p, a->fjac) ? WRONG_END : NOT_FINITE_JACOBIAN;
    }
    if (a->overflow_at >= 0)
        return STEP_OVERFLOW;
    return a->calls == b->calls && a->info == b->info ? WRONG_ANSWER : WRONG_END;
}

static int
try(const problem *p, run *a, run *b)
{
    current = p;
    memset(a, 0, sizeof *a);
    memset(b, 0, sizeof *b);
    a->overflow_at = -1;
    fit_ours(p, a);
    fit_theirs(p, b);
    return compare(p, a, b);
}

/* Run cases first to first + count - 1: counts by outcome, info and family, and the numbers of up to
   `room` findings.  Returns the number of findings. */
int64_t
fuzz(uint64_t first, uint64_t count, int64_t *outcomes, int64_t *infos, int64_t *calls,
     uint64_t *findings, int64_t room)
{
    problem *p = malloc(sizeof *p);
    run *runs = malloc(2 * sizeof *runs);
    int64_t found = 0;

    if (p == NULL || runs == NULL)
        abort();
    for (uint64_t number = first; number < first + count; number++) {
        int outcome;

        make(p, number);
        outcome = try(p, runs, runs + 1);
        outcomes[outcome]++;
        infos[runs[0].info]++;
        *calls += runs[0].calls;
        if (outcome >= PARTED && found++ < room)
            findings[found - 1] = number;
    }
    free(p);
    free(runs);
    return found;
}

/* Print a case. */
void
describe(uint64_t number)
{
    problem *p = malloc(sizeof *p);
    run *r = malloc(2 * sizeof *r);
    int same_calls = 0;

    if (p == NULL || r == NULL)
        abort();
    make(p, number);
    printf("case %llu: outcome %d\n", (unsigned long long)number, try(p, r, r + 1));
    printf("family %d, m %d, n %d, %s (kind %d), noise %g, one call in %llu spoiled\n", p->family,
           p->m, p->n, p->analytic ? "lmder" : "lmdif", p->jacobian, p->noise,
           (unsigned long long)p->poison);
    printf("ftol %g, xtol %g, gtol %g, factor %g, epsfcn %g, maxfev %d\n", p->ftol, p->xtol,
           p->gtol, p->factor, p->epsfcn, p->maxfev);
    while (same_calls < r[0].calls && same_calls < r[1].calls
           && r[0].trace[same_calls] == r[1].trace[same_calls])
        same_calls++;
    printf("%d calls the same, the step overflows after %d\n", same_calls, r[0].overflow_at);
    for (int k = 0; k < 2; k++)
        printf("%s: info %lld, nfev %lld, njev %lld, %d calls, |f| %.17g\n", k ? "theirs" : "ours",
               (long long)r[k].info, (long long)r[k].nfev, (long long)r[k].njev, r[k].calls,
               enorm_(&p->m, r[k].fvec));
    for (int j = 0; j < p->n; j++)
        printf("x0 %.17g, scale %g, diag %g: ours %.17g, theirs %.17g; diag %.17g %.17g; qtf %.17g %.17g\n",
               p->x0[j], p->sx[j], p->scaled ? p->diag[j] : 0, r[0].x[j], r[1].x[j], r[0].diag[j],
               r[1].diag[j], r[0].qtf[j], r[1].qtf[j]);
    fflush(stdout);
    free(p);
    free(r);
}
