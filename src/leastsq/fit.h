/* One fit of solve.c, as its files share it. */
#ifndef LEASTSQ_FIT_H
#define LEASTSQ_FIT_H

#include "blocked.h"

/* Everything a fit allocates; dropped together. */
typedef struct {
    callbacks cb;
    blocked blocks;             /* in use if blocks.k is set */
    lsq_problem problem;
    lsq_state state;
    double *w;                  /* the state's vectors */
    int64_t *ipvt;
    double *r;                  /* of the last Jacobian, leading dimension ldr */
    int64_t ldr;
    double *f, *spare;          /* m doubles each */
    double *columns;            /* blocked: m x n for differences or a compiled Dfun */
    void *memory;               /* w, ipvt, spare and what else is small */
    PyArrayObject *x, *diag, *lo, *hi;
    PyArrayObject *fvec, *fjac; /* only for full output: f's array, and dense r's */
} fit;

/* result.c */
PyObject *fit_result(fit *f, const arguments *a);

/* covariance.c */
PyObject *fit_covariance(fit *f, PyObject **held);

/* reference.c, with -Dreference=enabled: MINPACK's library */
int reference_refuses(const arguments *a, npy_intp m, npy_intp n);
void reference_fit(const lsq_problem *problem, int64_t m, lsq_state *s, double *w, double *fvec,
                   double *r, int64_t ldr, int64_t *ipvt, double *spare);

/* watch.c: lsq_watch, with the callbacks as data */
int watch_event(const lsq_state *s, const double *w, void *data);

#endif
