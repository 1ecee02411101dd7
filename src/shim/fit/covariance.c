/* The covariance of a fit, and which of its variables are at a bound. */
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

/* With bounds: -1 for a variable at its lower, 1 at its upper one, 0 between;
   else None.  `cov`, if not NULL, is the covariance of those between, nan for the
   others; *rank as lsq_covar's. */
static PyObject *
sides(fit *f, double *cov, int64_t *rank)
{
    npy_intp n = f->cb.n;
    const double *lo = f->w + LSQ_LO * n, *hi = f->w + LSQ_HI * n, *x = f->w + LSQ_X * n;
    double *side = f->w + LSQ_SIDE * n, *work;
    PyObject *array;
    int64_t *values;

    if (!f->state.bounded)
        Py_RETURN_NONE;
    for (npy_intp j = 0; j < n; j++)
        side[j] = x[j] <= lo[j] ? -1 : x[j] >= hi[j] ? 1 : 0;
    if (cov != NULL) {
        work = PyMem_RawMalloc((size_t)n * (size_t)(2 * n + 1) * sizeof(double));
        if (work == NULL)
            return PyErr_NoMemory();
        *rank = covariance_between_bounds(n, f->r, f->ldr, f->ipvt, f->w, cov, work);
        PyMem_RawFree(work);
    }
    array = PyArray_SimpleNew(1, &n, NPY_INT64);
    if (array == NULL)
        return NULL;
    values = PyArray_DATA((PyArrayObject *)array);
    for (npy_intp j = 0; j < n; j++)
        values[j] = (int64_t)side[j];
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
        rank = b->k->covar(n, f->r, f->ldr, f->ipvt, 0.0, cov, b->whole, &b->triangle_team.public);
        gil_restore(&f->cb);
        return b->triangle_team.cancelled ? -1 : rank;
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

/* cov_x, None where the fit failed or R has a zero on its diagonal; and sides. */
PyObject *
fit_covariance(fit *f, PyObject **side)
{
    npy_intp n = f->cb.n, dims[2] = {n, n};
    PyObject *cov;
    double *values;
    int64_t rank = 0;

    *side = NULL;
    if (!converged(f)) {
        *side = sides(f, NULL, NULL);
        Py_RETURN_NONE;
    }
    cov = PyArray_SimpleNew(2, dims, NPY_DOUBLE);
    if (cov == NULL)
        return NULL;
    values = PyArray_DATA((PyArrayObject *)cov);
    *side = sides(f, values, &rank);
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
