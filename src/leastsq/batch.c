/* Many problems in lock-step: the events of lm_core, each for a list of problems.

   The two events without a Jacobian, and what they share with those that have one
   (batch_model.c).                                                              */
#include "batch.h"

const char batch_start_doc[] =
    "batch_start(slab, slots)\n--\n\nlsq_start for every slot.";
const char batch_tell_norm_doc[] =
    "batch_tell_norm(slab, slots, f, weights)\n--\n\n"
    "Here are the residuals at every slot's trial; weights may be None.";

const char batch_collect_doc[] =
    "batch_collect(slab, slots, problems, x, ier, nfev, njev, fnorm, cov, fvec)\n--\n\n"
    "Copy every slot's results into the rows `problems` of the others; cov, fvec may be None.";

/* From this many elements on the GIL is released. */
enum { RELEASE_GIL_ELEMENTS = 1 << 12 };

void *
batch_array(PyObject *object, const char *name, int type, int ndim, npy_intp *shape)
{
    PyArrayObject *array = (PyArrayObject *)object;
    int right = PyArray_Check(object) && PyArray_TYPE(array) == type
        && PyArray_NDIM(array) == ndim && PyArray_ISCARRAY_RO(array);

    for (int k = 0; right && k < ndim; k++) {
        if (shape[k] < 0)
            shape[k] = PyArray_DIM(array, k);
        right = PyArray_DIM(array, k) == shape[k];
    }
    if (right)
        return PyArray_DATA(array);
    PyErr_Format(PyExc_ValueError, "batch: %s has not the wanted type, shape or layout", name);
    return NULL;
}

void *
batch_optional(PyObject *object, const char *name, int type, int ndim, npy_intp *shape,
               int *failed)
{
    void *data = object == Py_None ? NULL : batch_array(object, name, type, ndim, shape);

    *failed |= object != Py_None && data == NULL;
    return data;
}

/* 0, or -1 with an error set. */
int
batch_read_slab(PyObject *arrays, PyObject *slots, slab *s)
{
    npy_intp state[1] = {-1}, w[3] = {-1, LSQ_VECTORS, -1}, matrix[3], list[1] = {-1};

    if (!PyTuple_Check(arrays) || PyTuple_GET_SIZE(arrays) != 5) {
        PyErr_SetString(PyExc_TypeError, "batch: a slab is a tuple of five arrays");
        return -1;
    }
    s->state = batch_array(PyTuple_GET_ITEM(arrays, 0), "state", NPY_VOID, 1, state);
    if (s->state == NULL)
        return -1;
    if (PyArray_ITEMSIZE((PyArrayObject *)PyTuple_GET_ITEM(arrays, 0)) != sizeof(lsq_state)) {
        PyErr_SetString(PyExc_ValueError, "batch: state is not a record of lsq_state");
        return -1;
    }
    w[0] = s->size = state[0];
    if ((s->w = batch_array(PyTuple_GET_ITEM(arrays, 1), "w", NPY_DOUBLE, 3, w)) == NULL)
        return -1;
    matrix[0] = s->size;
    matrix[1] = matrix[2] = s->n = w[2];
    s->r = batch_array(PyTuple_GET_ITEM(arrays, 2), "r", NPY_DOUBLE, 3, matrix);
    s->ipvt = s->r == NULL ? NULL
        : batch_array(PyTuple_GET_ITEM(arrays, 3), "ipvt", NPY_INT64, 2, matrix);
    matrix[1] = -1;
    s->fvec = s->ipvt == NULL ? NULL
        : batch_array(PyTuple_GET_ITEM(arrays, 4), "fvec", NPY_DOUBLE, 2, matrix);
    s->m = matrix[1];
    s->slots = s->fvec == NULL ? NULL : batch_array(slots, "slots", NPY_INT64, 1, list);
    s->count = list[0];
    if (s->slots == NULL)
        return -1;
    for (npy_intp k = 0; k < s->count; k++) {
        if (s->slots[k] < 0 || s->slots[k] >= s->size || s->state[s->slots[k]].n != s->n) {
            PyErr_SetString(PyExc_ValueError, "batch: a slot is out of range or not set up");
            return -1;
        }
    }
    return 0;
}

int
batch_takes(const char *name, Py_ssize_t wanted, Py_ssize_t nargs)
{
    if (nargs == wanted)
        return 1;
    PyErr_Format(PyExc_TypeError, "%s takes %zd arguments, got %zd", name, wanted, nargs);
    return 0;
}

PyThreadState *
batch_release(const slab *s)
{
    return s->count * s->m * s->n < RELEASE_GIL_ELEMENTS ? NULL : PyEval_SaveThread();
}

void
batch_restore(PyThreadState *released)
{
    if (released != NULL)
        PyEval_RestoreThread(released);
}

PyObject *
batch_start(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    slab s;

    (void)module;
    if (!batch_takes("batch_start", 2, nargs) || batch_read_slab(args[0], args[1], &s) < 0)
        return NULL;
    for (npy_intp k = 0; k < s.count; k++)
        lsq_start(s.state + s.slots[k], s.w + s.slots[k] * LSQ_VECTORS * s.n);
    Py_RETURN_NONE;
}

PyObject *
batch_tell_norm(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    slab s;
    npy_intp shape[2];
    const double *f, *weights;
    double *row;
    PyThreadState *released;
    int failed = 0;

    (void)module;
    if (!batch_takes("batch_tell_norm", 4, nargs) || batch_read_slab(args[0], args[1], &s) < 0)
        return NULL;
    shape[0] = s.count;
    shape[1] = s.m;
    f = batch_array(args[2], "f", NPY_DOUBLE, 2, shape);
    weights = batch_optional(args[3], "weights", NPY_DOUBLE, 2, shape, &failed);
    if (f == NULL || failed)
        return NULL;
    row = PyMem_RawMalloc((size_t)s.m * sizeof *row);
    if (row == NULL)
        return PyErr_NoMemory();
    released = batch_release(&s);
    for (npy_intp k = 0; k < s.count; k++) {
        int64_t slot = s.slots[k];
        const double *told = f + k * s.m;

        if (weights != NULL) {
            for (npy_intp i = 0; i < s.m; i++)
                row[i] = weighted(told[i], weights[k * s.m + i]);
            told = row;
        }
        lsq_tell_norm(s.state + slot, s.w + slot * LSQ_VECTORS * s.n, s.r + slot * s.n * s.n,
                      s.n, s.ipvt + slot * s.n, lsq_enorm(s.m, told), 1);
        if (s.state[slot].accepted)
            memcpy(s.fvec + slot * s.m, told, (size_t)s.m * sizeof *told);
    }
    batch_restore(released);
    PyMem_RawFree(row);
    Py_RETURN_NONE;
}

void
batch_covariance(int64_t info, npy_intp n, const double *r, int64_t ldr, const int64_t *ipvt,
                 double *cov, double *scratch)
{
    int64_t rank = 0;

    if (info >= LSQ_FTOL && info <= LSQ_GTOL)
        rank = lsq_covar(n, r, ldr, ipvt, 0.0, cov, scratch);
    for (npy_intp i = 0; rank < n && i < n * n; i++)
        cov[i] = Py_NAN;
}

PyObject *
batch_collect(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    slab s;
    npy_intp matrix[2] = {-1}, cube[3];
    const int64_t *problems;
    int64_t *ier, *nfev, *njev;
    double *x, *fnorm, *cov, *fvec, *scratch;
    int failed = 0;

    (void)module;
    if (!batch_takes("batch_collect", 10, nargs) || batch_read_slab(args[0], args[1], &s) < 0
        || (problems = batch_array(args[2], "problems", NPY_INT64, 1, &s.count)) == NULL)
        return NULL;
    matrix[1] = cube[1] = cube[2] = s.n;
    if ((x = batch_array(args[3], "x", NPY_DOUBLE, 2, matrix)) == NULL
        || (ier = batch_array(args[4], "ier", NPY_INT64, 1, matrix)) == NULL
        || (nfev = batch_array(args[5], "nfev", NPY_INT64, 1, matrix)) == NULL
        || (njev = batch_array(args[6], "njev", NPY_INT64, 1, matrix)) == NULL
        || (fnorm = batch_array(args[7], "fnorm", NPY_DOUBLE, 1, matrix)) == NULL)
        return NULL;
    cube[0] = matrix[0];
    matrix[1] = s.m;
    cov = batch_optional(args[8], "cov", NPY_DOUBLE, 3, cube, &failed);
    fvec = failed ? NULL : batch_optional(args[9], "fvec", NPY_DOUBLE, 2, matrix, &failed);
    for (npy_intp k = 0; !failed && k < s.count; k++)
        failed = problems[k] < 0 || problems[k] >= matrix[0];
    if (failed) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "batch: a problem is out of range");
        return NULL;
    }
    scratch = PyMem_RawMalloc((size_t)s.n * (size_t)s.n * sizeof *scratch);
    if (scratch == NULL)
        return PyErr_NoMemory();
    for (npy_intp k = 0; k < s.count; k++) {
        int64_t slot = s.slots[k], p = problems[k];
        const lsq_state *state = s.state + slot;

        memcpy(x + p * s.n, s.w + (slot * LSQ_VECTORS + LSQ_X) * s.n, (size_t)s.n * sizeof *x);
        ier[p] = state->info;
        nfev[p] = state->nfev;
        njev[p] = state->njev;
        fnorm[p] = state->fnorm;
        if (fvec != NULL)
            memcpy(fvec + p * s.m, s.fvec + slot * s.m, (size_t)s.m * sizeof *fvec);
        if (cov != NULL)
            batch_covariance(state->info, s.n, s.r + slot * s.n * s.n, s.n, s.ipvt + slot * s.n,
                             cov + p * s.n * s.n, scratch);
    }
    PyMem_RawFree(scratch);
    Py_RETURN_NONE;
}
