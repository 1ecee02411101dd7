/* The results of a fit (MINPACK's outputs) as Python objects. */
#include "covariance.h"
#include "fit.h"

#include <math.h>
#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>
#endif

/* Variables smaller than this are reported if their differences vanish. */
static const double ORDINARY_SIZE = 1e-6;

/* From this many bytes on NumPy asks the system for huge pages. */
enum { LARGE_ARRAY = 1 << 22 };

/* Did the fit end without a complete model? */
static int
without_model(const fit *f)
{
    return f->state.info == LSQ_NOT_FINITE || f->state.info == LSQ_STOPPED || f->state.njev == 0;
}

/* Find the element that is not finite; the blocked provider has already found it in its Jacobian. */
static void
find_fault(fit *f)
{
    npy_intp m = f->cb.m, size = sizeof(double);
    elements residuals = {(const char *)f->f, size, 0, 0};
    elements jacobian = {(const char *)f->r, size, m * size, 0};

    if (f->state.njev == 0)
        find_not_finite(&residuals, m, 1, &f->fault);
    else if (f->blocks.k == NULL)
        find_not_finite(&jacobian, m, f->cb.n, &f->fault);
    else
        f->fault = f->blocks.fault;
}

/* NumPy asks for huge pages in large arrays.  Writing one element would then fill 2 MB, and writing the R
   part of each column would fill all of a fjac that is mostly zeros. */
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

/* The factors for infodict; nan if there are none.  Blocked: an array of zeros, whose pages stay
   untouched, with R in its place. */
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

/* Row, column and value of the element that is not finite; None if all are finite. */
static PyObject *
fault(const fit *f)
{
    const not_finite *where = &f->fault;

    if (!where->found)
        Py_RETURN_NONE;
    return Py_BuildValue("nnd", (Py_ssize_t)where->row, (Py_ssize_t)where->column, where->value);
}

/* cov_x or None.  A fit by blocks lends its threads, which look for signals, and its accumulator's
   memory. */
static PyObject *
cov_x(fit *f)
{
    npy_intp n = f->cb.n, dims[2] = {n, n};
    blocked *b = &f->blocks;
    PyObject *cov;
    int determined;

    if (b->k == NULL || n < COVARIANCE_BY_BLOCKS || f->state.bounded || !lsq_succeeded(&f->state))
        return covariance_array(&f->state, f->w, f->r, f->ldr, f->ipvt, b->k);
    cov = PyArray_SimpleNew(2, dims, NPY_DOUBLE);
    if (cov == NULL)
        return NULL;
    gil_release(&f->cb.gil);
    determined = covariance(&f->state, f->w, f->r, f->ldr, f->ipvt, b->k, &b->triangle_team.public,
                            PyArray_DATA((PyArrayObject *)cov), b->whole);
    gil_restore(&f->cb.gil);
    if (determined && !b->triangle_team.cancelled)
        return cov;
    Py_DECREF(cov);
    return b->triangle_team.cancelled ? NULL : Py_NewRef(Py_None);
}

/* Did the fit succeed without leaving its start, which f->x still holds? */
static int
stayed(const fit *f)
{
    npy_intp n = f->cb.n;

    return (f->state.info == LSQ_XTOL || f->state.info == LSQ_GTOL)
        && memcmp(PyArray_DATA(f->x), f->w + LSQ_X * n, (size_t)n * sizeof(double)) == 0;
}

/* Is column j of the last Jacobian zero?  Then so is its column of R. */
static int
zero_column(const fit *f, npy_intp j)
{
    npy_intp k = 0;

    while (f->ipvt[k] != j + 1)
        k++;
    for (npy_intp i = 0; i <= k; i++)
        if (f->r[i + k * f->ldr] != 0)
            return 0;
    return 1;
}

/* The variables close to zero whose forward differences vanish, as a new tuple; None if there are
   none.  Their columns were zero in every model, because they are still at their start. */
static PyObject *
vanished(const fit *f)
{
    const double *start = PyArray_DATA(f->x), *x = f->w + LSQ_X * f->cb.n;
    PyObject *list, *tuple;

    if (f->cb.dfun != NULL || without_model(f) || !(f->state.fnorm > 0))
        Py_RETURN_NONE;
    list = NULL;
    for (npy_intp j = 0; j < f->cb.n; j++) {
        PyObject *number;
        int status;

        if (x[j] == 0 || !(fabs(x[j]) < ORDINARY_SIZE) || x[j] != start[j] || !zero_column(f, j)
            || (f->state.bounded && f->w[LSQ_LO * f->cb.n + j] == f->w[LSQ_HI * f->cb.n + j]))
            continue;
        if (list == NULL && (list = PyList_New(0)) == NULL)
            return NULL;
        number = PyLong_FromSsize_t((Py_ssize_t)j);
        status = number == NULL ? -1 : PyList_Append(list, number);
        Py_XDECREF(number);
        if (status < 0) {
            Py_DECREF(list);
            return NULL;
        }
    }
    if (list == NULL)
        Py_RETURN_NONE;
    tuple = PyList_AsTuple(list);
    Py_DECREF(list);
    return tuple;
}

/* The result, given the tuple of vanished(). */
static PyObject *
result_with(fit *f, const arguments *a, PyObject *small)
{
    const lsq_state *s = &f->state;
    int at_start = stayed(f);
    PyObject *cov, *fvec, *stop;

    memcpy(PyArray_DATA(f->x), f->w + LSQ_X * f->cb.n, (size_t)f->cb.n * sizeof(double));
    if (!a->full_output && s->info < LSQ_NOT_FINITE && small == Py_None) {  /* MINPACK's own codes */
        if (at_start)                   /* for the warning: the norms, and r[0], which is 0 if R is */
            return Py_BuildValue("OLdddd", f->x, (long long)s->info, s->fnorm, s->gnorm, s->xnorm, f->r[0]);
        return Py_BuildValue("OL", f->x, (long long)s->info);
    }
    if (s->info == LSQ_NOT_FINITE)
        find_fault(f);
    stop = f->cb.stopped_by == NULL ? Py_NewRef(Py_None)
                                    : Py_BuildValue("si", f->cb.stopped_by, f->cb.stop_code);
    if (!a->full_output)                /* only the facts that the message needs; N steals */
        return Py_BuildValue("OLOLLOOOONNNOi", f->x, (long long)s->info, Py_None,
                             (long long)s->nfev, (long long)s->njev, Py_None, Py_None, Py_None,
                             Py_None, fault(f), stop, multipliers_array(s, f->w), small, at_start);
    cov = cov_x(f);                     /* before settle_factors may overwrite R with nan */
    if (cov == NULL || settle_factors(f) < 0) {
        Py_XDECREF(cov);
        Py_XDECREF(stop);
        return NULL;
    }
    fvec = f->cb.scalar ? PyFloat_FromDouble(f->f[0]) : Py_NewRef(f->fvec);
    /* a NULL argument makes Py_BuildValue fail with the error that is already set */
    return Py_BuildValue("OLNLLONNNNNNOi", f->x, (long long)s->info, fvec, (long long)s->nfev,
                         (long long)s->njev, f->fjac, pivots(f), qtf(f), cov, fault(f), stop,
                         multipliers_array(s, f->w), small, at_start);
}

PyObject *
fit_result(fit *f, const arguments *a)
{
    PyObject *small = vanished(f), *result = small == NULL ? NULL : result_with(f, a, small);

    Py_XDECREF(small);
    return result;
}
