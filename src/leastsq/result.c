/* MINPACK's outputs, as Python objects. */
#include "fit.h"

#include <math.h>
#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>
#endif

/* Bytes from which on NumPy asks the system for huge pages. */
enum { LARGE_ARRAY = 1 << 22 };

/* Parameters from which on the blocked provider's covariance is the quicker. */
enum { COVAR_BY_BLOCKS = 64 };

static int
converged(const fit *f)
{
    return f->state.info >= LSQ_FTOL && f->state.info <= LSQ_GTOL;
}

/* Did it end with half a model, or none? */
static int
without_model(const fit *f)
{
    return f->state.info == LSQ_NOT_FINITE || f->state.info == LSQ_STOPPED || f->state.njev == 0;
}

/* Where is what is not finite?  The blocked provider has looked already. */
static void
find_fault(fit *f)
{
    npy_intp m = f->cb.m, size = sizeof(double);
    elements residuals = {(const char *)f->f, size, 0, 0};
    elements jacobian = {(const char *)f->r, size, m * size, 0};

    if (f->state.njev == 0)
        find_not_finite(&residuals, m, 1, &f->cb.fault);
    else if (f->blocks.k == NULL)
        find_not_finite(&jacobian, m, f->cb.n, &f->cb.fault);
}

/* NumPy asks for huge pages in large arrays; one element would then fill 2 MB,
   and a column's R the whole of a fjac that is mostly zeros. */
static void
ask_for_small_pages(void *start, size_t size)
{
#ifdef MADV_NOHUGEPAGE
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = ((uintptr_t)start + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)start + size) / page * page;

    if (size >= LARGE_ARRAY && first < end)
        (void)madvise((void *)first, end - first, MADV_NOHUGEPAGE);   /* a hint */
#else
    (void)start, (void)size;
#endif
}

/* The factors for infodict; nan if there are none.  Blocked: R in its place in
   zeros, whose pages stay untouched. */
static int
settle_factors(fit *f)
{
    npy_intp m = f->cb.m, n = f->cb.n, dims[2] = {n, m};
    int none = without_model(f);
    double *fjac;

    if (f->blocks.k == NULL) {
        for (npy_intp k = 0; none && k < m * n; k++)
            f->r[k] = NAN;
        return 0;
    }
    PyMem_RawFree(f->columns);
    f->columns = NULL;
    f->fjac = (PyArrayObject *)PyArray_ZEROS(2, dims, NPY_DOUBLE, 0);
    if (f->fjac == NULL)
        return -1;
    fjac = PyArray_DATA(f->fjac);
    ask_for_small_pages(fjac, (size_t)PyArray_NBYTES(f->fjac));
    for (npy_intp j = 0; j < n; j++)
        for (npy_intp i = 0; i <= j; i++)
            fjac[i + j * m] = none ? NAN : f->r[i + j * n];
    return 0;
}

int64_t
result_free_covariance(npy_intp n, const double *r, int64_t ldr, const int64_t *ipvt, double *w,
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
        *rank = result_free_covariance(n, f->r, f->ldr, f->ipvt, f->w, cov, work);
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

static PyObject *
pivots(const fit *f)
{
    npy_intp n = f->cb.n;
    PyObject *array = PyArray_SimpleNew(1, &n, NPY_INT32);
    int32_t *values;

    if (array == NULL)
        return NULL;
    values = PyArray_DATA((PyArrayObject *)array);
    for (npy_intp j = 0; j < n; j++)
        values[j] = (int32_t)f->ipvt[j];
    return array;
}

static PyObject *
qtf(const fit *f)
{
    npy_intp n = f->cb.n;
    PyObject *array = PyArray_SimpleNew(1, &n, NPY_DOUBLE);
    double *values;

    if (array == NULL)
        return NULL;
    values = PyArray_DATA((PyArrayObject *)array);
    for (npy_intp j = 0; j < n; j++)
        values[j] = without_model(f) ? NAN : f->w[LSQ_QTF * n + j];
    return array;
}

/* Row, column and value of what is not finite; None if all is. */
static PyObject *
fault(const fit *f)
{
    const not_finite *where = &f->cb.fault;

    if (!where->found)
        Py_RETURN_NONE;
    return Py_BuildValue("nnd", (Py_ssize_t)where->row, (Py_ssize_t)where->column, where->value);
}

PyObject *
fit_result(fit *f, const arguments *a)
{
    const lsq_state *s = &f->state;
    PyObject *cov, *fvec, *side = NULL, *stop;

    memcpy(PyArray_DATA(f->x), f->w + LSQ_X * f->cb.n, (size_t)f->cb.n * sizeof(double));
    if (!a->full_output && s->info < LSQ_NOT_FINITE)
        return Py_BuildValue("OL", f->x, (long long)s->info);
    if (s->info == LSQ_NOT_FINITE)
        find_fault(f);
    stop = f->cb.stopped_by == NULL ? Py_NewRef(Py_None)
                                    : Py_BuildValue("si", f->cb.stopped_by, f->cb.stop_code);
    if (!a->full_output)                /* what the message needs; N steals */
        return Py_BuildValue("OLOLLOOOONNO", f->x, (long long)s->info, Py_None,
                             (long long)s->nfev, (long long)s->njev, Py_None, Py_None, Py_None,
                             Py_None, fault(f), stop, Py_None);
    cov = fit_covariance(f, &side);         /* before NaN takes the place of R */
    if (cov == NULL || settle_factors(f) < 0) {
        Py_XDECREF(cov);
        Py_XDECREF(side);
        Py_XDECREF(stop);
        return NULL;
    }
    fvec = f->cb.scalar ? PyFloat_FromDouble(f->f[0]) : Py_NewRef(f->fvec);
    /* a NULL among them becomes the error that is set */
    return Py_BuildValue("OLNLLONNNNNN", f->x, (long long)s->info, fvec, (long long)s->nfev,
                         (long long)s->njev, f->fjac, pivots(f), qtf(f), cov, fault(f), stop,
                         side);
}
