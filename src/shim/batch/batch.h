/* Many problems, in two ways: in lock-step, by functions of many problems; and one by one, by
   compiled functions in threads.  Python owns the arrays of both. */
#ifndef LEASTSQ_BATCH_H
#define LEASTSQ_BATCH_H

#include "module.h"
#include "user/user.h"

/* The problems at work at once.  Python's slab is a tuple of arrays with a row for each
   problem: state, w, r, ipvt, fvec; with a strategy also before and kept.  r is n x n: of a Jacobian,
   only R is kept.  w has the columns of lm_core's vectors, with or without those for bounds. */
typedef struct {
    lsq_state *state;
    double *w, *r, *fvec;
    double *before, *kept;      /* NULL, or: residuals at the x before; J as factored, and weights of its rows */
    int64_t *ipvt;
    npy_intp size, m, n, columns;
    const int64_t *slots;       /* the rows that the event is for */
    npy_intp count;
} slab;

/* slab.c: the data of a C-contiguous array of this type and shape; -1 in `shape`
   is any size, and is filled in.  NULL with an error set if it is not that. */
void *batch_array(PyObject *object, const char *name, int type, int ndim, npy_intp *shape);
void *batch_optional(PyObject *object, const char *name, int type, int ndim, npy_intp *shape,
                     int *failed);

int batch_read_slab(PyObject *arrays, PyObject *slots, slab *s);
PyObject *batch_state_layout(void);

/* A loss for the problems of one event: Python's (number, scale) of one that has a name,
   (rho, rho' and rho'' at their residuals, scale), or (counts, scale); None is none. */
typedef struct {
    robust_loss known;          /* with counts: those of the first */
    const double *values;       /* NULL, or 3 x count x m */
    int none;
} slab_loss;

int batch_is_tuple(PyObject *object, const char *name);
int batch_read_loss(PyObject *object, const slab *s, slab_loss *loss);
void batch_weigh(const slab *s, const slab_loss *loss, npy_intp k, const double *f, double *weighed,
                 int model);
int batch_takes(const char *name, Py_ssize_t wanted, Py_ssize_t nargs);
PyThreadState *batch_release(const slab *s);
void batch_restore(PyThreadState *released);

/* events.c: the events of the ask/tell machine, for many problems, and their results */
PyObject *batch_start(PyObject *module, PyObject *const *args, Py_ssize_t nargs);
PyObject *batch_wanting(PyObject *module, PyObject *const *args, Py_ssize_t nargs);
PyObject *batch_points(PyObject *module, PyObject *const *args, Py_ssize_t nargs);
PyObject *batch_tell_norm(PyObject *module, PyObject *const *args, Py_ssize_t nargs);
PyObject *batch_tell_model(PyObject *module, PyObject *const *args, Py_ssize_t nargs);
PyObject *batch_difference(PyObject *module, PyObject *const *args, Py_ssize_t nargs);
PyObject *batch_collect(PyObject *module, PyObject *const *args, Py_ssize_t nargs);
extern const char batch_start_doc[], batch_wanting_doc[], batch_points_doc[],
    batch_tell_norm_doc[], batch_tell_model_doc[],
    batch_difference_doc[], batch_collect_doc[];

/* lanes.c: the models of one event, at most batch_lanes_count at a time, in batch_lanes_bytes
   of memory */
typedef struct {
    double *fjac;               /* J, m x n; then R in its upper triangle */
    double *f;                  /* m residuals; then used up */
    double *w;                  /* lm_core's vectors: gets Q'f and the column norms */
    int64_t *ipvt;
    const double *lane;         /* not NULL: J is here, element (i, j) at (i + j*m)*lanes, */
    const double *residuals;    /* and f here; fjac and f are room only */
    npy_intp lanes;
} batch_model;

typedef struct batch_lanes batch_lanes;

int batch_lanes_count(npy_intp m, npy_intp n);  /* LSQ_LANES, or 1 for large problems */
size_t batch_lanes_bytes(npy_intp m, npy_intp n);
batch_lanes *batch_lanes_make(void *memory, const lsq_lanes_kernels *loops, npy_intp m, npy_intp n);
void batch_factor(batch_lanes *lanes, const batch_model *models, int count);

/* events.c: as covariance(), with nan for what cannot be had; work for a fit with bounds */
void batch_covariance(const lsq_state *state, double *w, const double *r, int64_t ldr,
                      const int64_t *ipvt, double *cov, double *work);

/* Whole fits of compiled functions. */
typedef struct {
    const compiled *func, *dfun;        /* dfun NULL: forward differences; both of the same lanes */
    char *data;                 /* of the first problem; NULL: the functions' own */
    npy_intp stride;            /* in bytes, to the next problem's */
    npy_intp count, m;
    lsq_state settings;         /* of every problem, n among them */
    double precision;           /* of func: its relative error */
    double bounded_factor;      /* the settings' factor, for problems with bounds */
    robust_loss loss;           /* none, if it is not compiled; with counts: those of the first */
    const lsq_lanes_kernels *kernels;
    const double *weights, *diag, *lo, *hi;     /* may be NULL; lo and hi together */
    npy_intp diag_stride, lo_stride, hi_stride; /* 0: one for all */
    double *x, *fnorm;
    double *cov, *fvec, *multipliers;   /* may be NULL */
    int64_t *ier, *nfev, *njev;
    int32_t *code;              /* what a function returned that ended the fit */
} batch_job;

/* Two cache lines, for processors fetch lines in pairs: what one thread writes lies this far
   from what others read. */
enum { BATCH_APART = 128 };

/* The problems of a job, which its threads take a group at a time. */
typedef struct {                        /* NOLINT(*.Padding): it is meant */
    int64_t count, group;
    atomic_int stop;                    /* not 0: every thread ends as soon as it can */
    _Alignas(BATCH_APART) _Atomic int64_t next;     /* the first problem that no thread has */
    _Atomic int64_t done;
} batch_supply;

/* fitter.c, and lane_fitter.c or group_fitter.c where functions have lanes: one thread's work, in memory of this size */
typedef struct batch_fitter batch_fitter;

size_t batch_fitter_size(const batch_job *job);
batch_fitter *batch_fitter_make(void *memory, const batch_job *job, batch_supply *supply);
void batch_fit(batch_fitter *fitter);

/* threads.c: fit all problems in a pool of threads; 0, or -1 with an error set */
int batch_run(const batch_job *job, int threads, PyObject *progress);

/* compiled_job.c */
PyObject *batch_compiled(PyObject *module, PyObject *args);
extern const char batch_compiled_doc[];

static inline double *
batch_vectors(const slab *s, int64_t slot)
{
    return s->w + slot * s->columns * s->n;
}

/* A residual that counts `weight` times; 0 leaves out even what is not finite. */
static inline double
weighted(double residual, double weight)
{
    return weight == 0 ? 0 : residual * weight;
}

#endif
