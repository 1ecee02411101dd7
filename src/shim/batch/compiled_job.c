/* Many problems by compiled functions: what Python hands over, as a job. */
#include "batch.h"

const char batch_compiled_doc[] =
    "batch_compiled(func, dfun, data, stride, x, weights, diag, bounds, loss, settings, ier,\n"
    "               nfev, njev, fnorm, cov, fvec, multipliers, code, threads, progress)\n--\n\n"
    "Fit every row of x in place; data + i*stride is row i's.  weights, diag, bounds (a pair),\n"
    "loss (its number or the counts, and scale), cov, fvec, multipliers and progress (called with the\n"
    "number of fits done) may be None.";

/* n numbers for all problems, or a row for each: NULL with an error set if neither. */
static const double *
shared_or_own(PyObject *object, const char *name, npy_intp *matrix, npy_intp *stride)
{
    int own = PyArray_Check(object) && PyArray_NDIM((PyArrayObject *)object) == 2;

    *stride = own ? matrix[1] : 0;
    return batch_array(object, name, NPY_DOUBLE, own ? 2 : 1, own ? matrix : matrix + 1);
}

/* The read-only and the optional arrays; 0, or -1 with an error set. */
static int
read_arrays(batch_job *j, PyObject *x, PyObject *weights, PyObject *diag, PyObject *bounds,
            PyObject *cov, PyObject *fvec, PyObject *multipliers)
{
    npy_intp matrix[2] = {-1, -1}, cube[3], n;
    PyObject *lo, *hi;
    int failed = 0;

    j->m = j->func->m;
    j->x = batch_array(x, "x", NPY_DOUBLE, 2, matrix);
    if (j->x == NULL)
        return -1;
    j->count = cube[0] = matrix[0];
    j->settings.n = n = cube[1] = cube[2] = matrix[1];
    if (n < 1 || j->m < n || j->count < 1
        || (j->dfun != NULL && (j->dfun->m != j->m || j->dfun->lanes != j->func->lanes))) {
        PyErr_SetString(PyExc_ValueError, "batch: sizes that do not go together");
        return -1;
    }
    if (j->m > PY_SSIZE_T_MAX / (npy_intp)sizeof(double) / (2 * n + 16) / 128) {
        PyErr_NoMemory();
        return -1;
    }
    if (diag != Py_None
        && (j->diag = shared_or_own(diag, "diag", matrix, &j->diag_stride)) == NULL)
        return -1;
    if (bounds != Py_None
        && (!batch_is_tuple(bounds, "bounds") || !PyArg_ParseTuple(bounds, "OO", &lo, &hi)
            || (j->lo = shared_or_own(lo, "lo", matrix, &j->lo_stride)) == NULL
            || (j->hi = shared_or_own(hi, "hi", matrix, &j->hi_stride)) == NULL))
        return -1;
    j->multipliers = batch_optional(multipliers, "multipliers", NPY_DOUBLE, 2, matrix, &failed);
    matrix[1] = j->m;
    j->weights = failed ? NULL : batch_optional(weights, "weights", NPY_DOUBLE, 2, matrix, &failed);
    j->fvec = failed ? NULL : batch_optional(fvec, "fvec", NPY_DOUBLE, 2, matrix, &failed);
    j->cov = failed ? NULL : batch_optional(cov, "cov", NPY_DOUBLE, 3, cube, &failed);
    return failed ? -1 : 0;
}

PyObject *
batch_compiled(PyObject *module, PyObject *args)
{
    batch_job j = {0};
    PyObject *func, *dfun, *x, *weights, *diag, *ier, *nfev, *njev, *fnorm, *cov, *fvec, *code;
    PyObject *multipliers, *progress, *bounds, *loss, *which;
    lsq_state *s = &j.settings;
    unsigned long long data;
    long long maxfev, strategy;
    Py_ssize_t stride;
    npy_intp list[1];
    double scale;
    int threads;

    j.kernels = &((module_state *)PyModule_GetState(module))->kernels->lanes;
    if (!PyArg_ParseTuple(args, "OOKnOOOOO(dddLdddL)OOOOOOOOiO", &func, &dfun, &data, &stride, &x,
                          &weights, &diag, &bounds, &loss, &s->ftol, &s->xtol, &s->gtol, &maxfev,
                          &j.precision, &s->factor, &j.bounded_factor,
                          &strategy, &ier, &nfev, &njev, &fnorm, &cov, &fvec,
                          &multipliers, &code, &threads, &progress))
        return NULL;
    s->maxfev = maxfev;
    s->strategy = strategy;
    s->changes = strategy != LSQ_STRATEGY_MINPACK;
    s->scaling = diag == Py_None ? LSQ_SCALE_COLUMNS : LSQ_SCALE_USER;
    if (loss != Py_None
        && (!batch_is_tuple(loss, "loss") || !PyArg_ParseTuple(loss, "Od", &which, &scale)
            || loss_choose(&j.loss, which, scale) < 0))
        return NULL;
    j.func = as_compiled(func);
    j.dfun = as_compiled(dfun);
    j.data = (char *)(uintptr_t)data;
    j.stride = stride;
    if (j.func == NULL || (j.dfun == NULL && dfun != Py_None) || threads < 1 || j.loss.callable) {
        PyErr_SetString(PyExc_ValueError,
                        "batch: func, dfun or loss is not compiled, or threads < 1");
        return NULL;
    }
    if (j.func->lanes > 0 && s->strategy != LSQ_STRATEGY_MINPACK) {
        PyErr_SetString(PyExc_ValueError, "batch: a strategy with lanes");
        return NULL;
    }
    if (read_arrays(&j, x, weights, diag, bounds, cov, fvec, multipliers) < 0)
        return NULL;
    if (j.loss.counts != NULL && j.loss.counted != j.count * j.m) {
        PyErr_SetString(PyExc_ValueError, "batch: counts are one for each residual");
        return NULL;
    }
    j.loss.counted = j.m;
    list[0] = j.count;
    if ((j.ier = batch_array(ier, "ier", NPY_INT64, 1, list)) == NULL
        || (j.nfev = batch_array(nfev, "nfev", NPY_INT64, 1, list)) == NULL
        || (j.njev = batch_array(njev, "njev", NPY_INT64, 1, list)) == NULL
        || (j.fnorm = batch_array(fnorm, "fnorm", NPY_DOUBLE, 1, list)) == NULL
        || (j.code = batch_array(code, "code", NPY_INT32, 1, list)) == NULL
        || batch_run(&j, threads, progress) < 0)
        return NULL;
    Py_RETURN_NONE;
}
