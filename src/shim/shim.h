/* What the shim's C files share: the user's functions as the core's callbacks. */
#ifndef LEASTSQ_SHIM_H
#define LEASTSQ_SHIM_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#define NPY_NO_DEPRECATED_API NPY_1_25_API_VERSION
#define NPY_TARGET_VERSION NPY_1_25_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL leastsq_array_api
#ifndef LEASTSQ_IMPORT_ARRAY
#define NO_IMPORT_ARRAY
#endif
#include <numpy/arrayobject.h>

#include <stdatomic.h>

#include "core.h"
#include "kernels.h"

enum { INLINE_ARGUMENTS = 6 };

/* user/compiled.c: a compiled function, in a capsule of this name. */
#define COMPILED_CAPSULE "leastsq._core.compiled"

typedef struct {
    void *function;             /* leastsq_residual or leastsq_jacobian */
    void *data;
    int64_t m;
} compiled;

PyObject *compiled_new(PyObject *module, PyObject *const *args, Py_ssize_t nargs);
const compiled *as_compiled(PyObject *object);
extern const char compiled_doc[];

/* fit/chkder.c */
PyObject *chkder(PyObject *module, PyObject *const *args, Py_ssize_t nargs);
extern const char chkder_doc[];

/* user/curve.c: curve_fit's residuals and derivatives, called without an array of x */
typedef struct curve curve;
typedef struct callbacks callbacks;

const curve *as_curve(PyObject *object);
int curve_residual(const curve *c, callbacks *cb, const double *x, double *fvec);
int curve_jacobian(const curve *c, callbacks *cb, const double *x, double *fjac);

/* The first element that is not finite; row and column count from 0. */
typedef struct {
    int found;
    npy_intp row, column;
    double value;
} not_finite;

/* user/loss.c: a robust loss, SciPy's definitions; `rho` NULL: a Python callable. */
typedef struct {
    double (*rho)(double a, double *slope, double *curvature);  /* a = |f|/scale; see user/loss.c */
    PyObject *callable;         /* borrowed, or NULL */
    double scale;
} robust_loss;

struct blocked;

/* One fit's functions and what is known of their results.  Lives on the stack
   of the call that made it. */
struct callbacks {
    PyObject *func;             /* borrowed from the caller's arguments */
    PyObject *dfun;             /* borrowed, NULL: forward differences */
    const compiled *cfunc;      /* not NULL: func is compiled; func owns it */
    const compiled *cdfun;      /* likewise */
    const curve *curve, *dcurve;        /* not NULL: func, Dfun is one */
    PyObject *args;             /* borrowed tuple */
    PyObject **vector;          /* vectorcall's: [free slot, x, *args], borrowed */
    PyObject *inline_vector[INLINE_ARGUMENTS + 2];
    PyArrayObject *x;           /* owned: the x handed out last */
    PyArrayObject *first;       /* owned: func's first result until it is read */
    PyThreadState *released;    /* not NULL while the GIL is released */
    atomic_int *fitter_in_python;       /* the module state's */
    int64_t polled;             /* when signals were last looked for, ms */
    npy_intp m, n;              /* m is -1 until func was called */
    double eps;                 /* of the dtype that func returned first */
    int scalar;                 /* func returned 0-d first */
    int col_deriv;
    int stop_code;              /* what a compiled function returned, if not 0 */
    const char *stopped_by;     /* "func", "Dfun" or NULL */
    not_finite fault;           /* in what they returned, once looked for */
    robust_loss loss;
    PyObject *watcher;          /* borrowed, NULL: nobody looks on */
    int64_t watched_models;     /* that it was told of */
    struct blocked *blocks;     /* the blocked provider, if that is used */
};

/* user/callbacks.c */
int callbacks_init(callbacks *cb, PyObject *func, PyObject *dfun, PyObject *args,
                   npy_intp n, int col_deriv);
void callbacks_clear(callbacks *cb);
int callbacks_first(callbacks *cb, const double *x);
PyObject *callbacks_call(callbacks *cb, PyObject *function, const double *x);
int callbacks_poll_signals(callbacks *cb);
int callbacks_compiled_residual(callbacks *cb, int64_t m, int64_t n, const double *x, double *fvec);
int callbacks_compiled_jacobian(callbacks *cb, int64_t m, int64_t n, const double *x, double *fjac);
int callbacks_residual(int64_t m, int64_t n, const double *x, double *fvec, void *data);
int callbacks_jacobian(int64_t m, int64_t n, const double *x, double *fjac, void *data);

/* user/gil.c: for the whole fit; and for a call of Python's within, which is nothing
   where the fit keeps the GIL */
void gil_release(callbacks *cb);
void gil_restore(callbacks *cb);
void callbacks_take_gil(callbacks *cb);
void callbacks_give_gil(callbacks *cb);

/* user/read.c: what a callback returned, as float64 */
typedef struct {
    const char *data;           /* of element (0, 0) */
    npy_intp row_stride, column_stride;     /* in bytes */
    int single;                 /* float32, not float64 */
} elements;

PyArrayObject *residual_values(callbacks *cb, PyObject *result);
PyArrayObject *jacobian_values(callbacks *cb, PyObject *result, int singles, elements *where);
void find_not_finite(const elements *where, npy_intp m, npy_intp n, not_finite *fault);
int read_residual(callbacks *cb, PyObject *result, double *fvec);
int measure_residual(callbacks *cb, PyObject *result);
int read_jacobian(callbacks *cb, PyObject *result, double *fjac);
PyArrayObject *as_real_array(PyObject *object, const char *what);
void raise_too_few_residuals(npy_intp m, npy_intp n);

/* user/numbers.c */
int integer_argument(PyObject *object, const char *name, int64_t *value);
int real_argument(PyObject *object, const char *name, double *value);
int flag_argument(PyObject *object, const char *name, int *value);
int tolerance_argument(PyObject *object, const char *name, double *value);
int improper(const char *name, const char *wanted, PyObject *got);
PyArrayObject *arguments_start_point(PyObject *x0);
int arguments_has_parameters(PyArrayObject *x);
PyArrayObject *arguments_scale_factors(PyObject *diag, npy_intp n);
PyArrayObject *arguments_bounds(PyObject *bounds, npy_intp n);

/* fit/arguments.c */
enum { QR_AUTO = 0, QR_MINPACK = 1, QR_BLOCKED = 2, QR_REFERENCE = 3 };

typedef struct {
    PyObject *func, *x0, *args, *dfun, *epsfcn_object, *diag_object;
    int full_output, col_deriv;
    double ftol, xtol, gtol, factor, epsfcn;
    int64_t maxfev;
    int qr, threads;
    PyObject *lo, *hi;          /* None, or float64 arrays */
    PyObject *loss;             /* NULL: none; a number or a callable */
    double loss_scale;
    PyObject *watcher;          /* NULL: none */
} arguments;

int arguments_parse(arguments *a, PyObject *const *args, Py_ssize_t nargs);

/* user/loss.c */
int loss_choose(robust_loss *loss, PyObject *which, double scale);
int loss_weigh(int64_t m, const double *f, double *weighed, int model, void *data);
PyObject *loss_weigh_array(PyObject *module, PyObject *args);
extern const char loss_weigh_doc[];
/* As lsq_weigh, by a loss that has a name; by a callable's rho, rho' and rho'', `stride` apart */
void loss_weigh_known(int64_t m, const double *f, const robust_loss *loss, double *weighed, int model);
void loss_weigh_values(int64_t m, const double *f, double scale, const double *rho, int64_t stride,
                       double *weighed, int model);

/* fit/covariance.c: that of variables that are not at a bound, nan for the others; w is
   lm_core's vectors, work holds n*(2n + 1).  0 if they are dependent. */
int64_t covariance_between_bounds(npy_intp n, const double *r, int64_t ldr, const int64_t *ipvt,
                                  double *w, double *cov, double *work);

/* module.c */
typedef struct {
    const lsq_tsqr_kernels *kernels;    /* for this processor */
    atomic_int fitter_in_python;        /* user/gil.c: a thread that fits has the GIL */
    PyTypeObject *accumulator_type, *curve_type, *machine_type;
} module_state;

module_state *state_of(PyTypeObject *type);

/* fit/solve.c */
PyObject *solve(PyObject *module, PyObject *const *args, Py_ssize_t nargs);
extern const char solve_doc[];

#endif
