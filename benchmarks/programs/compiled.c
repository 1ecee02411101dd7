/* The C half of benchmarks/compiled.py: two problems, five solvers, timed from C.

   usage: compiled SOLVER PROBLEM METHOD fits|calls COUNT FOLDER   (for counting instructions)

   MINPACK's libraries are loaded at run time and called through their documented
   interfaces, GSL and Ceres' TinySolver as libraries made of compiled_gsl.c and
   compiled_ceres.cpp; a missing one is left out.                             */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core.h"

enum { MOST_M = 100, MOST_N = 5, MOST_CALLS = 400, SIDE = 5, DECAY_M = 100 };
enum { LEASTSQ, LIBMINPACK, LIBCMINPACK, GSL, TINYSOLVER, SOLVERS };
enum { DECAY, GAUSSIAN, PROBLEMS };
enum { LMDIF, LMDER, METHODS };

static const double TOLERANCE = 1.49012e-8;
static const double FACTOR = 100;

/* ------------------------------------------------------------ the functions */

/* a exp(-k t) + c; data: t[m], y[m] */
int
decay(int64_t m, int64_t n, const double *x, double *fvec, void *data)
{
    const double *t = data, *y = t + m;

    (void)n;
    for (int64_t i = 0; i < m; i++)
        fvec[i] = x[0] * exp(-x[1] * t[i]) + x[2] - y[i];
    return 0;
}

int
decay_jacobian(int64_t m, int64_t n, const double *x, double *fjac, void *data)
{
    const double *t = data;

    (void)n;
    for (int64_t i = 0; i < m; i++) {
        double e = exp(-x[1] * t[i]);

        fjac[i] = e;
        fjac[i + m] = -x[0] * t[i] * e;
        fjac[i + 2 * m] = 1;
    }
    return 0;
}

/* a exp(-r^2/2) + b, r the distance from (u0, v0) in units of s, on a grid of
   SIDE by SIDE pixels; x: a, u0, v0, s, b; data: y[m] */
int
gaussian(int64_t m, int64_t n, const double *x, double *fvec, void *data)
{
    const double *y = data;

    (void)n;
    for (int64_t i = 0; i < m; i++) {
        double u = ((double)(i % SIDE) - x[1]) / x[3], v = ((double)(i / SIDE) - x[2]) / x[3];

        fvec[i] = x[0] * exp(-0.5 * (u * u + v * v)) + x[4] - y[i];
    }
    return 0;
}

int
gaussian_jacobian(int64_t m, int64_t n, const double *x, double *fjac, void *data)
{
    (void)n;
    (void)data;
    for (int64_t i = 0; i < m; i++) {
        double u = ((double)(i % SIDE) - x[1]) / x[3], v = ((double)(i / SIDE) - x[2]) / x[3];
        double e = exp(-0.5 * (u * u + v * v)), slope = x[0] * e / x[3];

        fjac[i] = e;
        fjac[i + m] = slope * u;
        fjac[i + 2 * m] = slope * v;
        fjac[i + 3 * m] = slope * (u * u + v * v);
        fjac[i + 4 * m] = 1;
    }
    return 0;
}

typedef struct {
    const char *name;
    int m, n;
    double start[MOST_N];
    leastsq_residual residual;
    leastsq_jacobian jacobian;
    double data[2 * MOST_M];
} problem;

static problem problems[PROBLEMS] = {
    {"decay", DECAY_M, 3, {1, 1, 0}, decay, decay_jacobian, {0}},
    {"gaussian", SIDE * SIDE, 5, {800, 2, 2, 1.5, 80}, gaussian, gaussian_jacobian, {0}},
};

/* Noise that is the same on every machine: uniform in -1/2..1/2. */
static double
noise(void)
{
    static uint64_t seed = 1;

    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(seed >> 11) * 0x1p-53 - 0.5;
}

void
prepare(void)
{
    const double decay_truth[] = {2.5, 1.3, 0.5};
    const double gaussian_truth[] = {1000, 2.2, 1.7, 1.1, 100};
    problem *p = &problems[DECAY];

    for (int i = 0; i < p->m; i++) {
        p->data[i] = 4.0 * i / (p->m - 1);
        p->data[p->m + i] = 0;
    }
    p->residual(p->m, p->n, decay_truth, p->data + p->m, p->data);
    for (int i = 0; i < p->m; i++)
        p->data[p->m + i] += 0.15 * noise();
    p = &problems[GAUSSIAN];
    memset(p->data, 0, sizeof p->data);
    p->residual(p->m, p->n, gaussian_truth, p->data, p->data);
    for (int i = 0; i < p->m; i++)
        p->data[i] += 60 * noise();
}

const double *problem_data(int which) { return problems[which].data; }
const double *problem_start(int which) { return problems[which].start; }
int problem_m(int which) { return problems[which].m; }
int problem_n(int which) { return problems[which].n; }

/* -------------------------------------------------------------- the solvers */

/* The results of a fit. */
typedef struct {
    double x[MOST_N];
    int64_t info, nfev, njev;
} outcome;

/* One for each thread.  `current` is needed because libminpack's callbacks get no data. */
static _Thread_local problem *current;
static _Thread_local double fvec[MOST_M], fjac[MOST_M * MOST_N], diag[MOST_N], qtf[MOST_N];
static _Thread_local double work[2 * MOST_M + 20 * MOST_N];
static _Thread_local double wa1[MOST_N], wa2[MOST_N], wa3[MOST_N], wa4[MOST_M];

/* The calls of one fit, in order: the point, and what was evaluated. */
static struct { double x[MOST_N]; int jacobian; } calls[MOST_CALLS];
static int called, recording;

static int
residual(int64_t m, int64_t n, const double *x, double *f, void *data)
{
    memcpy(calls[called].x, x, (size_t)n * sizeof *x);
    calls[called++].jacobian = 0;
    return current->residual(m, n, x, f, data);
}

static int
jacobian(int64_t m, int64_t n, const double *x, double *j, void *data)
{
    memcpy(calls[called].x, x, (size_t)n * sizeof *x);
    calls[called++].jacobian = 1;
    return current->jacobian(m, n, x, j, data);
}

static void
fit_leastsq(int method, outcome *o)
{
    problem *p = current;
    leastsq_residual f = recording ? residual : p->residual;
    leastsq_jacobian j = recording ? jacobian : p->jacobian;
    int64_t ipvt[MOST_N], maxfev = (method == LMDIF ? 200 : 100) * (p->n + 1);

    if (method == LMDIF)
        lsq_lmdif(f, p->data, p->m, p->n, o->x, fvec, TOLERANCE, TOLERANCE, 0, maxfev, 0, diag,
                  LSQ_SCALE_COLUMNS, FACTOR, &o->info, &o->nfev, &o->njev, fjac, ipvt, qtf, work);
    else
        lsq_lmder(f, j, p->data, p->m, p->n, o->x, fvec, fjac, TOLERANCE, TOLERANCE, 0, maxfev,
                  diag, LSQ_SCALE_COLUMNS, FACTOR, &o->info, &o->nfev, &o->njev, ipvt, qtf, work);
}

typedef void (*fortran_fcn)(const int *, const int *, const double *, double *, int *);
typedef void (*fortran_fcn_jac)(const int *, const int *, const double *, double *, double *,
                                const int *, int *);
static void (*lmdif_)(fortran_fcn, const int *m, const int *n, double *x, double *fvec,
                      const double *ftol, const double *xtol, const double *gtol,
                      const int *maxfev, const double *epsfcn, double *diag, const int *mode,
                      const double *factor, const int *nprint, int *info, int *nfev,
                      double *fjac, const int *ldfjac, int *ipvt, double *qtf, double *,
                      double *, double *, double *);
static void (*lmder_)(fortran_fcn_jac, const int *m, const int *n, double *x, double *fvec,
                      double *fjac, const int *ldfjac, const double *ftol, const double *xtol,
                      const double *gtol, const int *maxfev, double *diag, const int *mode,
                      const double *factor, const int *nprint, int *info, int *nfev, int *njev,
                      int *ipvt, double *qtf, double *, double *, double *, double *);

static void
fortran_residual(const int *m, const int *n, const double *x, double *f, int *flag)
{
    (void)flag;
    (recording ? residual : current->residual)(*m, *n, x, f, current->data);
}

static void
fortran_either(const int *m, const int *n, const double *x, double *f, double *j, const int *ldj,
               int *flag)
{
    (void)ldj;
    if (*flag == 1)
        (recording ? residual : current->residual)(*m, *n, x, f, current->data);
    else
        (recording ? jacobian : current->jacobian)(*m, *n, x, j, current->data);
}

static void
fit_libminpack(int method, outcome *o)
{
    const double zero = 0;
    const int mode = 1, nprint = 0, m = current->m, n = current->n;
    int info, nfev, njev = 0, ipvt[MOST_N], maxfev = (method == LMDIF ? 200 : 100) * (n + 1);

    if (method == LMDIF)
        lmdif_(fortran_residual, &m, &n, o->x, fvec, &TOLERANCE, &TOLERANCE, &zero, &maxfev,
               &zero, diag, &mode, &FACTOR, &nprint, &info, &nfev, fjac, &m, ipvt, qtf, wa1, wa2,
               wa3, wa4);
    else
        lmder_(fortran_either, &m, &n, o->x, fvec, fjac, &m, &TOLERANCE, &TOLERANCE, &zero,
               &maxfev, diag, &mode, &FACTOR, &nprint, &info, &nfev, &njev, ipvt, qtf, wa1, wa2,
               wa3, wa4);
    o->info = info;
    o->nfev = nfev;
    o->njev = njev;
}

typedef int (*c_fcn)(void *data, int m, int n, const double *x, double *fvec, int flag);
typedef int (*c_fcn_jac)(void *data, int m, int n, const double *x, double *fvec, double *fjac,
                         int ldfjac, int flag);
static int (*lmdif)(c_fcn, void *data, int m, int n, double *x, double *fvec, double ftol,
                    double xtol, double gtol, int maxfev, double epsfcn, double *diag, int mode,
                    double factor, int nprint, int *nfev, double *fjac, int ldfjac, int *ipvt,
                    double *qtf, double *, double *, double *, double *);
static int (*lmder)(c_fcn_jac, void *data, int m, int n, double *x, double *fvec, double *fjac,
                    int ldfjac, double ftol, double xtol, double gtol, int maxfev, double *diag,
                    int mode, double factor, int nprint, int *nfev, int *njev, int *ipvt,
                    double *qtf, double *, double *, double *, double *);

static int
c_residual(void *data, int m, int n, const double *x, double *f, int flag)
{
    (void)flag;
    return (recording ? residual : current->residual)(m, n, x, f, data);
}

static int
c_either(void *data, int m, int n, const double *x, double *f, double *j, int ldj, int flag)
{
    (void)ldj;
    if (flag == 1)
        return (recording ? residual : current->residual)(m, n, x, f, data);
    return (recording ? jacobian : current->jacobian)(m, n, x, j, data);
}

static void
fit_libcminpack(int method, outcome *o)
{
    const int m = current->m, n = current->n;
    int nfev, njev = 0, ipvt[MOST_N], maxfev = (method == LMDIF ? 200 : 100) * (n + 1);

    if (method == LMDIF)
        o->info = lmdif(c_residual, current->data, m, n, o->x, fvec, TOLERANCE, TOLERANCE, 0,
                        maxfev, 0, diag, 1, FACTOR, 0, &nfev, fjac, m, ipvt, qtf, wa1, wa2, wa3,
                        wa4);
    else
        o->info = lmder(c_either, current->data, m, n, o->x, fvec, fjac, m, TOLERANCE, TOLERANCE,
                        0, maxfev, diag, 1, FACTOR, 0, &nfev, &njev, ipvt, qtf, wa1, wa2, wa3,
                        wa4);
    o->nfev = nfev;
    o->njev = njev;
}

/* The solvers that are libraries of their own: `fit` of compiled_gsl.c and compiled_ceres.cpp. */
typedef int (*own_library)(leastsq_residual, leastsq_jacobian, void *data, int m, int n,
                           double tolerance, double *x, int64_t *nfev, int64_t *njev);
static own_library fit_of[SOLVERS];
static const char *(*version_of[SOLVERS])(void);

static void
fit_by(int solver, int method, outcome *o)
{
    leastsq_residual f = recording ? residual : current->residual;
    leastsq_jacobian j = recording ? jacobian : current->jacobian;

    o->njev = 0;
    o->info = fit_of[solver](f, method == LMDIF ? NULL : j, current->data, current->m, current->n,
                             TOLERANCE, o->x, &o->nfev, &o->njev);
}

static void fit_gsl(int method, outcome *o) { fit_by(GSL, method, o); }
static void fit_tinysolver(int method, outcome *o) { fit_by(TINYSOLVER, method, o); }

static const struct {
    const char *name, *file;
    void (*fit)(int, outcome *);
} solvers[SOLVERS] = {
    {"leastsq", NULL, fit_leastsq},
    {"libminpack", "libminpack.so.1", fit_libminpack},
    {"libcminpack", "libcminpack.so.1", fit_libcminpack},
    {"GSL", "compiled_gsl.so", fit_gsl},
    {"TinySolver", "compiled_ceres.so", fit_tinysolver},
};

/* Load a solver; returns whether it is installed.  Libraries of our own are in `folder`. */
int
available(int solver, const char *folder)
{
    char path[4096];
    void *library;

    if (solver == LEASTSQ)
        return 1;
    if (solver >= GSL)
        snprintf(path, sizeof path, "%s/%s", folder, solvers[solver].file);
    library = dlopen(solver >= GSL ? path : solvers[solver].file, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        return 0;
    if (solver >= GSL) {
        *(void **)&fit_of[solver] = dlsym(library, "fit");
        *(void **)&version_of[solver] = dlsym(library, "version");
        return fit_of[solver] && version_of[solver];
    }
    if (solver == LIBMINPACK) {
        *(void **)&lmdif_ = dlsym(library, "lmdif_");
        *(void **)&lmder_ = dlsym(library, "lmder_");
        return lmdif_ && lmder_;
    }
    *(void **)&lmdif = dlsym(library, "lmdif");
    *(void **)&lmder = dlsym(library, "lmder");
    return lmdif && lmder;
}

/* The version of a solver that is a library of our own, once it is available. */
const char *solver_version(int solver) { return version_of[solver](); }

/* Has a solver this method?  TinySolver wants derivatives. */
int has_method(int solver, int method) { return solver != TINYSOLVER || method == LMDER; }

/* ---------------------------------------------------------- the measurement */

static double
now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Record the calls of one fit; returns its results. */
void
record(int solver, int which, int method, outcome *o)
{
    current = &problems[which];
    memcpy(o->x, current->start, sizeof o->x);
    called = 0;
    recording = 1;
    solvers[solver].fit(method, o);
    recording = 0;
}

/* Seconds for `count` fits. */
double
time_fits(int solver, int which, int method, int count)
{
    outcome o;
    double began;

    current = &problems[which];
    began = now();
    for (int k = 0; k < count; k++) {
        memcpy(o.x, current->start, sizeof o.x);
        solvers[solver].fit(method, &o);
    }
    return now() - began;
}

/* Seconds for `count` repetitions of the calls that `record` recorded last, and nothing else. */
double
time_calls(int count)
{
    double began = now();

    for (int k = 0; k < count; k++)
        for (int c = 0; c < called; c++)
            (calls[c].jacobian ? current->jacobian : current->residual)(
                current->m, current->n, calls[c].x, calls[c].jacobian ? fjac : fvec,
                current->data);
    return now() - began;
}

static int
find(const char *name, const char *const *names, int count)
{
    for (int k = 0; k < count; k++)
        if (strcmp(name, names[k]) == 0)
            return k;
    fprintf(stderr, "compiled: no %s\n", name);
    exit(2);
}

int
main(int argc, char **argv)
{
    const char *const solver_names[] = {"leastsq", "libminpack", "libcminpack", "GSL", "TinySolver"};
    const char *const problem_names[] = {"decay", "gaussian"};
    const char *const method_names[] = {"lmdif", "lmder"};
    outcome o;
    int solver, which, method;

    if (argc != 7) {
        fprintf(stderr, "usage: compiled SOLVER PROBLEM METHOD fits|calls COUNT FOLDER\n");
        return 2;
    }
    solver = find(argv[1], solver_names, SOLVERS);
    which = find(argv[2], problem_names, PROBLEMS);
    method = find(argv[3], method_names, METHODS);
    prepare();
    if (!available(solver, argv[6]))
        return 1;
    record(solver, which, method, &o);
    if (strcmp(argv[4], "fits") == 0)
        time_fits(solver, which, method, atoi(argv[5]));
    else
        time_calls(atoi(argv[5]));
    return 0;
}
