/* The covariance of a fit, and what holds its variables at their bounds. */
#include "fit.h"

#include <math.h>

/* Parameters from which on the blocked provider's covariance is the quicker. */
enum { COVAR_BY_BLOCKS = 64 };

static int
converged(const fit *f)
{
    return f->state.info >= LSQ_FTOL && f->state.info <= LSQ_GTOL;
}

int64_t
covariance_between_bounds(npy_intp n, const double *r, int64_t ldr, const int64_t *ipvt, double *w,
                          double *cov, double *work)
{
    double *side = w + LSQ_SIDE * n;
    int64_t determined = lsq_free_covar(n, r, ldr, ipvt, w + LSQ_X * n, w + LSQ_LO * n,
                                        w + LSQ_HI * n, cov, side, work);

    for (npy_intp i = 0; i < n; i++)
        for (npy_intp j = 0; j < n; j++)
            if (side[i] != 0 || side[j] != 0)
                cov[i + j * n] = NAN;
    return determined;
}

/* With bounds: what holds each variable there, as lsq_multipliers; else None.  `cov`, if not
   NULL, is the covariance of those between, nan for the others; *rank as lsq_covar's. */
static PyObject *
multipliers(fit *f, double *cov, int64_t *rank)
{
    npy_intp n = f->cb.n;
    double *work;
    PyObject *array;

    if (!f->state.bounded)
        Py_RETURN_NONE;
    if (cov != NULL) {
        work = PyMem_RawMalloc((size_t)n * (size_t)(2 * n + 1) * sizeof(double));
        if (work == NULL)
            return PyErr_NoMemory();
        *rank = covariance_between_bounds(n, f->r, f->ldr, f->ipvt, f->w, cov, work);
        PyMem_RawFree(work);
    }
    array = PyArray_SimpleNew(1, &n, NPY_DOUBLE);
    if (array != NULL)
        lsq_multipliers(&f->state, f->w, PyArray_DATA((PyArrayObject *)array));
    return array;
}

/* cov and its rank; -1 with an error set.  A fit by blocks lends its threads, which
   look for signals, and its accumulator's room. */
static int64_t
covariance(fit *f, double *cov)
{
    npy_intp n = f->cb.n;
    blocked *b = &f->blocks;
    double *scratch;
    int64_t rank;

    if (b->whole != NULL && n >= COVAR_BY_BLOCKS) {
        gil_release(&f->cb);
        rank = b->k->covar(n, f->r, f->ldr, f->ipvt, 0.0, cov, b->whole, &b->gang.public);
        gil_restore(&f->cb);
        return b->gang.cancelled ? -1 : rank;
    }
    scratch = PyMem_RawMalloc((size_t)n * (size_t)n * sizeof(double));
    if (scratch == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    rank = b->k != NULL && n >= COVAR_BY_BLOCKS
               ? b->k->covar(n, f->r, f->ldr, f->ipvt, 0.0, cov, scratch, NULL)
               : lsq_covar(n, f->r, f->ldr, f->ipvt, 0.0, cov, scratch);
    PyMem_RawFree(scratch);
    return rank;
}

/* cov_x, None where the fit failed or R has a zero on its diagonal; and multipliers. */
PyObject *
fit_covariance(fit *f, PyObject **held)
{
    npy_intp n = f->cb.n, dims[2] = {n, n};
    PyObject *cov;
    double *values;
    int64_t rank = 0;

    *held = NULL;
    if (!converged(f)) {
        *held = multipliers(f, NULL, NULL);
        Py_RETURN_NONE;
    }
    cov = PyArray_SimpleNew(2, dims, NPY_DOUBLE);
    if (cov == NULL)
        return NULL;
    values = PyArray_DATA((PyArrayObject *)cov);
    *held = multipliers(f, values, &rank);
    if (!f->state.bounded) {
        rank = covariance(f, values);
        if (rank < 0) {
            Py_DECREF(cov);
            return NULL;
        }
        rank = rank == n;
    }
    if (rank != 0)
        return cov;
    Py_DECREF(cov);
    Py_RETURN_NONE;
}
