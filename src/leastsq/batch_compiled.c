/* Many problems by compiled functions: what Python hands over, as a job. */
#include "batch.h"

const char batch_compiled_doc[] =
    "batch_compiled(func, dfun, data, stride, x, weights, diag, settings, ier, nfev, njev,\n"
    "               fnorm, cov, fvec, code, threads, progress)\n--\n\n"
    "Fit every row of x in place; data + i*stride is row i's.  weights, diag, cov, fvec and\n"
    "progress (called with the number of fits done) may be None.";

/* The read-only and the optional arrays; 0, or -1 with an error set. */
static int
read_arrays(batch_job *j, PyObject *x, PyObject *weights, PyObject *diag, PyObject *cov,
            PyObject *fvec)
{
    npy_intp matrix[2] = {-1, -1}, shared[1], cube[3];
    int failed = 0;

    j->m = j->func->m;
    j->x = batch_array(x, "x", NPY_DOUBLE, 2, matrix);
    if (j->x == NULL)
        return -1;
    j->count = cube[0] = matrix[0];
    j->n = cube[1] = cube[2] = shared[0] = matrix[1];
    if (j->n < 1 || j->m < j->n || j->count < 1 || (j->dfun != NULL && j->dfun->m != j->m)) {
        PyErr_SetString(PyExc_ValueError, "batch: sizes that do not go together");
        return -1;
    }
    if (j->m > PY_SSIZE_T_MAX / (npy_intp)sizeof(double) / (j->n + 16) / 64) {
        PyErr_NoMemory();
        return -1;
    }
    if (diag != Py_None && PyArray_Check(diag) && PyArray_NDIM((PyArrayObject *)diag) == 1) {
        j->diag = batch_array(diag, "diag", NPY_DOUBLE, 1, shared);
        failed = j->diag == NULL;
    } else {
        j->diag = batch_optional(diag, "diag", NPY_DOUBLE, 2, matrix, &failed);
        j->diag_stride = j->n;
    }
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
    PyObject *progress;
    unsigned long long data;
    Py_ssize_t stride;
    npy_intp list[1];
    int threads;

    (void)module;
    if (!PyArg_ParseTuple(args, "OOKnOOO(dddLdd)OOOOOOOiO", &func, &dfun, &data, &stride, &x,
                          &weights, &diag, &j.ftol, &j.xtol, &j.gtol, &j.maxfev, &j.epsfcn,
                          &j.factor, &ier, &nfev, &njev, &fnorm, &cov, &fvec, &code, &threads,
                          &progress))
        return NULL;
    j.func = as_compiled(func);
    j.dfun = as_compiled(dfun);
    j.data = (char *)(uintptr_t)data;
    j.stride = stride;
    if (j.func == NULL || (j.dfun == NULL && dfun != Py_None) || threads < 1) {
        PyErr_SetString(PyExc_ValueError, "batch: func and dfun are not compiled, or threads < 1");
        return NULL;
    }
    if (read_arrays(&j, x, weights, diag, cov, fvec) < 0)
        return NULL;
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
