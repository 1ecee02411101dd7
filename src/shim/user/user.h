/* The user's arguments: functions and their results, losses, numbers.  Nothing in this folder depends on
   fits. */
#ifndef LEASTSQ_USER_H
#define LEASTSQ_USER_H

#include "python.h"

/* gil.c: the GIL of a thread that fits.  `release` and `restore` are for the whole fit; `take` and
   `give` are for a call of Python within it, and do nothing where the fit keeps the GIL. */
typedef struct {
    PyThreadState *released;    /* not NULL while the GIL is released */
    atomic_int *fitter_in_python;       /* points into the module's state */
} gil;

void gil_release(gil *g);
void gil_restore(gil *g);
void gil_take(gil *g);
void gil_give(gil *g);

/* compiled.c: a compiled function, in a capsule of this name. */
#define COMPILED_CAPSULE "leastsq._core.compiled"

enum { MOST_LANES = 16 };       /* limit on the lanes of a compiled function */

typedef struct {
    void *function;             /* leastsq_residual or leastsq_jacobian; of lanes, if there are any */
    void *data;
    int64_t m;
    int64_t lanes;              /* problems at once; 0: one, by the functions without lanes */
} compiled;

/* Prepare memory before a compiled function writes into it for the first time: elements that it leaves
   out are then reported as not finite, and old contents of memory are never fitted. */
static inline void
unwritten(double *room, int64_t count)
{
    for (int64_t k = 0; k < count; k++)
        room[k] = Py_NAN;
}

PyObject *compiled_new(PyObject *module, PyObject *const *args, Py_ssize_t nargs);
const compiled *as_compiled(PyObject *object);
extern const char compiled_doc[];

/* callbacks.c: func and Dfun, and the facts about their results.  Lives on the stack of the call that
   made it. */
enum { INLINE_ARGUMENTS = 6 };

typedef struct curve curve;

typedef struct {
    PyObject *func;             /* borrowed from the caller's arguments */
    PyObject *dfun;             /* borrowed; NULL for forward differences */
    const compiled *cfunc;      /* not NULL if func is compiled; owned by func */
    const compiled *cdfun;      /* likewise */
    const curve *curve, *dcurve;        /* not NULL if func or Dfun is one */
    PyObject *args;             /* borrowed tuple */
    PyObject **vector;          /* for vectorcall: [free slot, x, *args], borrowed */
    PyObject *inline_vector[INLINE_ARGUMENTS + 2];
    PyArrayObject *x;           /* owned: the x of the last call */
    PyArrayObject *first;       /* owned: func's first result, until it is read */
    gil gil;
    int64_t polled;             /* time of the last check for signals, in ms */
    npy_intp m, n;              /* m is -1 until func has been called */
    double eps;                 /* epsilon of the dtype of func's first result */
    int scalar;                 /* was func's first result 0-d? */
    int col_deriv;
    int wrote_residuals, wrote_jacobian;        /* have cfunc, cdfun been called? */
    int stop_code;              /* a compiled function's return value, if not 0 */
    const char *stopped_by;     /* "func", "Dfun" or NULL */
} callbacks;

int callbacks_init(callbacks *cb, PyObject *func, PyObject *dfun, PyObject *args,
                   npy_intp n, int col_deriv);
void callbacks_clear(callbacks *cb);
int callbacks_first(callbacks *cb, const double *x);
PyObject *callbacks_call(callbacks *cb, PyObject *function, const double *x);
int callbacks_poll_signals(callbacks *cb);
int callbacks_compiled_residual(callbacks *cb, const double *x, double *fvec);
int callbacks_compiled_jacobian(callbacks *cb, const double *x, double *fjac);
int callbacks_residual(callbacks *cb, const double *x, double *fvec);
int callbacks_jacobian(callbacks *cb, const double *x, double *fjac);

/* curve.c: the callable that curve_fit makes of a model and data.  It returns the residuals
   weights*(f(xdata, *params) - ydata), or the rows of derivatives weights*f(xdata, *params).  The solver
   calls it without making an array for x. */
extern PyType_Spec curve_spec;
const curve *as_curve(PyObject *object);
int curve_residual(const curve *c, callbacks *cb, const double *x, double *fvec);
int curve_jacobian(const curve *c, callbacks *cb, const double *x, double *fjac);

/* read.c: the results of func and Dfun as float64 */
typedef struct {
    const char *data;           /* of element (0, 0) */
    npy_intp row_stride, column_stride;     /* in bytes */
    int single;                 /* float32, not float64 */
} elements;

/* The first element that is not finite; row and column count from 0. */
typedef struct {
    int found;
    npy_intp row, column;
    double value;
} not_finite;

PyArrayObject *residual_values(callbacks *cb, PyObject *result);
PyArrayObject *jacobian_values(callbacks *cb, PyObject *result, int singles, elements *where);
void find_not_finite(const elements *where, npy_intp m, npy_intp n, not_finite *fault);
int read_residual(callbacks *cb, PyObject *result, double *fvec);
int measure_residual(callbacks *cb, PyObject *result);
int read_jacobian(callbacks *cb, PyObject *result, double *fjac);
PyArrayObject *as_real_array(PyObject *object, const char *what);
PyObject *plain_numbers(PyObject *object, const char *what, const char *door);
void raise_too_few_residuals(npy_intp m, npy_intp n);

/* loss.c: a robust loss by SciPy's definitions; or Poisson's, for which f is the expected counts.  One of
   the first three members is not NULL. */
typedef struct {
    double (*rho)(double a, double *slope, double *curvature);  /* a = |f|/scale; see loss.c */
    PyObject *callable;         /* borrowed, or NULL */
    const double *counts;       /* borrowed, or NULL: the observed counts */
    int64_t counted;            /* the number of counts: they belong to the first rows; the other rows are squared */
    double scale;
} robust_loss;

int loss_choose(robust_loss *loss, PyObject *which, double scale);
static inline int
loss_is_compiled(const robust_loss *loss)
{
    return loss->rho != NULL || loss->counts != NULL;
}
/* Like lsq_weigh: for any kind of loss; for one that needs no Python; for the rho, rho' and rho'' of a
   callable, `stride` apart. */
int loss_weigh(const robust_loss *loss, gil *g, int64_t m, const double *f, double *weighed, int model);
void loss_weigh_known(int64_t m, const double *f, const robust_loss *loss, double *weighed, int model);
void loss_weigh_values(int64_t m, const double *f, double scale, const double *rho, int64_t stride,
                       double *weighed, int model);
PyObject *loss_weigh_array(PyObject *module, PyObject *args);
extern const char loss_weigh_doc[];

/* numbers.c */
int integer_argument(PyObject *object, const char *name, int64_t *value);
int real_argument(PyObject *object, const char *name, double *value);
int flag_argument(PyObject *object, const char *name, int *value);
int tolerance_argument(PyObject *object, const char *name, double *value);
int improper(const char *name, const char *wanted, PyObject *got);
PyArrayObject *arguments_start_point(PyObject *x0);
int arguments_has_parameters(PyArrayObject *x);
PyArrayObject *arguments_scale_factors(PyObject *diag, npy_intp n);
PyArrayObject *arguments_bounds(PyObject *bounds, npy_intp n);

#endif
