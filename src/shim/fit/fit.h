/* One fit by `solve`: its arguments, memory and results. */
#ifndef LEASTSQ_FIT_H
#define LEASTSQ_FIT_H

#include "blocked/blocked.h"

/* arguments.c */
enum { QR_AUTO = 0, QR_MINPACK = 1, QR_BLOCKED = 2, QR_REFERENCE = 3 };

typedef struct {
    PyObject *func, *x0, *args, *dfun, *diag_object;
    int full_output, col_deriv;
    double ftol, xtol, gtol, factor;
    double precision;           /* relative error of func */
    int has_precision;          /* 0: use the precision of the dtype that func returns */
    int64_t maxfev;
    int qr, threads;
    PyObject *lo, *hi;          /* None, or float64 arrays */
    PyObject *loss;             /* NULL: none; a number or a callable */
    double loss_scale;
    PyObject *watcher;          /* NULL: none */
    int strategy;               /* core.h's */
} arguments;

int arguments_parse(arguments *a, PyObject *const *args, Py_ssize_t nargs);

/* Everything that a fit owns, dropped together: the last argument of every function that the
   core calls. */
typedef struct {
    callbacks cb;
    robust_loss loss;
    PyObject *watcher;          /* borrowed, NULL: none */
    int64_t watched_request;    /* the request that the next event answers */
    blocked blocks;             /* the blocked provider, in use if blocks.k is set */
    not_finite fault;           /* in the residuals or the Jacobian, once searched */
    lsq_problem problem;
    lsq_state state;
    double *w;                  /* the state's vectors */
    int64_t *ipvt;
    double *r;                  /* of the last Jacobian, leading dimension ldr */
    int64_t ldr;
    double *f, *spare;          /* m doubles each */
    double *columns;            /* blocked: m x n for differences or a compiled Dfun */
    void *memory;               /* one block for w, ipvt, spare and the other arrays that are not NumPy's */
    PyArrayObject *x, *diag, *lo, *hi;
    PyArrayObject *fvec, *fjac; /* only for full output: the arrays of f and of a dense r */
} fit;

/* answers.c: the functions that answer the core's requests */
void fit_set_answers(fit *f);

/* watch.c: lsq_watch */
int fit_watch(const lsq_state *s, const double *w, void *data);

/* result.c */
PyObject *fit_result(fit *f, const arguments *a);

/* reference.c, with -Dreference=enabled: MINPACK's library */
int reference_refuses(const arguments *a, npy_intp m, npy_intp n);
void reference_fit(const lsq_problem *problem, int64_t m, lsq_state *s, double *w, double *fvec,
                   double *r, int64_t ldr, int64_t *ipvt, double *spare);

/* solve.c, derivatives.c: for module.c */
PyObject *solve(PyObject *module, PyObject *const *args, Py_ssize_t nargs);
PyObject *chkder(PyObject *module, PyObject *const *args, Py_ssize_t nargs);
PyObject *difference_steps(PyObject *module, PyObject *const *args, Py_ssize_t nargs);
extern const char solve_doc[], chkder_doc[], difference_steps_doc[];

#endif
