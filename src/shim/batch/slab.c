/* Many problems in lock-step: Python's arrays, read and checked, and what the events share. */
#include "batch.h"

#include <stddef.h>

/* lsq_state, field by field. */
static const char INTEGER[] = "i8", REAL[] = "f8";

static const struct {
    const char *name, *format;
    size_t offset;
} fields[] = {
    {"n", INTEGER, offsetof(lsq_state, n)},
    {"maxfev", INTEGER, offsetof(lsq_state, maxfev)},
    {"scaling", INTEGER, offsetof(lsq_state, scaling)},
    {"ftol", REAL, offsetof(lsq_state, ftol)},
    {"xtol", REAL, offsetof(lsq_state, xtol)},
    {"gtol", REAL, offsetof(lsq_state, gtol)},
    {"factor", REAL, offsetof(lsq_state, factor)},
    {"request", INTEGER, offsetof(lsq_state, request)},
    {"info", INTEGER, offsetof(lsq_state, info)},
    {"accepted", INTEGER, offsetof(lsq_state, accepted)},
    {"nfev", INTEGER, offsetof(lsq_state, nfev)},
    {"njev", INTEGER, offsetof(lsq_state, njev)},
    {"iteration", INTEGER, offsetof(lsq_state, iteration)},
    {"fnorm", REAL, offsetof(lsq_state, fnorm)},
    {"xnorm", REAL, offsetof(lsq_state, xnorm)},
    {"gnorm", REAL, offsetof(lsq_state, gnorm)},
    {"radius", REAL, offsetof(lsq_state, radius)},
    {"par", REAL, offsetof(lsq_state, par)},
    {"pnorm", REAL, offsetof(lsq_state, pnorm)},
    {"actual", REAL, offsetof(lsq_state, actual)},
    {"predicted", REAL, offsetof(lsq_state, predicted)},
    {"slope", REAL, offsetof(lsq_state, slope)},
    {"ratio", REAL, offsetof(lsq_state, ratio)},
    {"bounded", INTEGER, offsetof(lsq_state, bounded)},
    {"hits", INTEGER, offsetof(lsq_state, hits)},
    {"probe", INTEGER, offsetof(lsq_state, probe)},
    {"pending", INTEGER, offsetof(lsq_state, pending)},
    {"best_info", INTEGER, offsetof(lsq_state, best_info)},
    {"restarts", INTEGER, offsetof(lsq_state, restarts)},
    {"felt", INTEGER, offsetof(lsq_state, felt)},
    {"touched", INTEGER, offsetof(lsq_state, touched)},
    {"tries", INTEGER, offsetof(lsq_state, tries)},
    {"distrust", REAL, offsetof(lsq_state, distrust)},
    {"best_norm", REAL, offsetof(lsq_state, best_norm)},
    {"tried_norm", REAL, offsetof(lsq_state, tried_norm)},
    {"strategy", INTEGER, offsetof(lsq_state, strategy)},
    {"changes", INTEGER, offsetof(lsq_state, changes)},
    {"past", INTEGER, offsetof(lsq_state, past)},
    {"known", INTEGER, offsetof(lsq_state, known)},
    {"attempt", INTEGER, offsetof(lsq_state, attempt)},
    {"sound", INTEGER, offsetof(lsq_state, sound)},
    {"first_norm", REAL, offsetof(lsq_state, first_norm)},
    {"start_norm", REAL, offsetof(lsq_state, start_norm)},
};

enum { FIELDS = sizeof fields / sizeof fields[0] };

_Static_assert(FIELDS * sizeof(int64_t) == sizeof(lsq_state), "a field of lsq_state is missing");

/* From this many elements on the GIL is released. */
enum { RELEASE_GIL_ELEMENTS = 1 << 12 };

/* lsq_state as what numpy.dtype takes; new reference.  (Python makes the dtype: NumPy's C function
   crashes where memory runs out.) */
PyObject *
batch_state_layout(void)
{
    PyObject *names = PyList_New(0), *formats = PyList_New(0), *offsets = PyList_New(0);
    PyObject *layout = NULL;
    int failed = names == NULL || formats == NULL || offsets == NULL;

    for (int k = 0; !failed && k < FIELDS; k++) {
        PyObject *name = PyUnicode_FromString(fields[k].name);
        PyObject *format = PyUnicode_FromString(fields[k].format);
        PyObject *offset = PyLong_FromSize_t(fields[k].offset);

        failed = name == NULL || format == NULL || offset == NULL || PyList_Append(names, name) < 0
            || PyList_Append(formats, format) < 0 || PyList_Append(offsets, offset) < 0;
        Py_XDECREF(name);
        Py_XDECREF(format);
        Py_XDECREF(offset);
    }
    if (!failed)
        layout = Py_BuildValue("{sOsOsOsn}", "names", names, "formats", formats, "offsets", offsets,
                               "itemsize", (Py_ssize_t)sizeof(lsq_state));
    Py_XDECREF(names);
    Py_XDECREF(formats);
    Py_XDECREF(offsets);
    return layout;
}

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
    npy_intp state[1] = {-1}, w[3] = {-1, -1, -1}, matrix[3], list[1] = {-1};
    int known = 0;

    if (!PyTuple_Check(arrays) || (PyTuple_GET_SIZE(arrays) != 5 && PyTuple_GET_SIZE(arrays) != 7)) {
        PyErr_SetString(PyExc_TypeError, "batch: a slab is a tuple of five arrays, or seven");
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
    s->columns = w[1];
    matrix[0] = s->size;
    matrix[1] = matrix[2] = s->n = w[2];
    for (int k = 0; k < 4; k++)         /* with bounds or without, with a strategy or without */
        known |= s->columns == lsq_core_columns(s->n, k & 1, k & 2);
    if (!known) {
        PyErr_SetString(PyExc_ValueError, "batch: w has not the vectors of lm_core");
        return -1;
    }
    s->r = batch_array(PyTuple_GET_ITEM(arrays, 2), "r", NPY_DOUBLE, 3, matrix);
    s->ipvt = s->r == NULL ? NULL
        : batch_array(PyTuple_GET_ITEM(arrays, 3), "ipvt", NPY_INT64, 2, matrix);
    matrix[1] = -1;
    s->fvec = s->ipvt == NULL ? NULL
        : batch_array(PyTuple_GET_ITEM(arrays, 4), "fvec", NPY_DOUBLE, 2, matrix);
    s->m = matrix[1];
    s->before = s->kept = NULL;
    if (s->fvec != NULL && PyTuple_GET_SIZE(arrays) == 7) {
        s->before = batch_array(PyTuple_GET_ITEM(arrays, 5), "before", NPY_DOUBLE, 2, matrix);
        matrix[1] = s->n + 1;
        matrix[2] = s->m;
        s->kept = s->before == NULL ? NULL
            : batch_array(PyTuple_GET_ITEM(arrays, 6), "kept", NPY_DOUBLE, 3, matrix);
        if (s->kept == NULL)
            return -1;
    }
    s->slots = s->fvec == NULL ? NULL : batch_array(slots, "slots", NPY_INT64, 1, list);
    s->count = list[0];
    if (s->slots == NULL)
        return -1;
    for (npy_intp k = 0; k < s->count; k++) {
        if (s->slots[k] < 0 || s->slots[k] >= s->size || s->state[s->slots[k]].n != s->n
            || (s->state[s->slots[k]].strategy && s->kept == NULL)
            || s->columns < lsq_core_columns(s->n, s->state[s->slots[k]].bounded, s->state[s->slots[k]].strategy)) {
            PyErr_SetString(PyExc_ValueError, "batch: a slot is out of range or not set up");
            return -1;
        }
    }
    return 0;
}

/* What PyArg_ParseTuple takes for granted. */
int
batch_is_tuple(PyObject *object, const char *name)
{
    if (PyTuple_Check(object))
        return 1;
    PyErr_Format(PyExc_TypeError, "batch: %s is a tuple of two, or None", name);
    return 0;
}

/* 0, or -1 with an error set. */
int
batch_read_loss(PyObject *object, const slab *s, slab_loss *loss)
{
    npy_intp shape[3] = {3, s->count, s->m};
    PyObject *which;
    double scale;

    memset(loss, 0, sizeof *loss);
    loss->none = object == Py_None;
    if (loss->none)
        return 0;
    if (!batch_is_tuple(object, "loss") || !PyArg_ParseTuple(object, "Od", &which, &scale))
        return -1;
    if (PyArray_Check(which) && PyArray_NDIM((PyArrayObject *)which) == 2) {
        loss->known.counts = batch_array(which, "counts", NPY_DOUBLE, 2, shape + 1);
        loss->known.counted = s->m;
        return loss->known.counts == NULL ? -1 : 0;
    }
    if (PyArray_Check(which)) {
        loss->known.scale = scale;
        loss->values = batch_array(which, "loss", NPY_DOUBLE, 3, shape);
        return loss->values == NULL ? -1 : 0;
    }
    return loss_choose(&loss->known, which, scale);
}

/* lsq_weigh, of the k-th problem. */
void
batch_weigh(const slab *s, const slab_loss *loss, npy_intp k, const double *f, double *weighed,
            int model)
{
    robust_loss own = loss->known;

    if (own.counts != NULL)
        own.counts += k * s->m;
    if (loss->values == NULL)
        loss_weigh_known(s->m, f, &own, weighed, model);
    else
        loss_weigh_values(s->m, f, loss->known.scale, loss->values + k * s->m, s->count * s->m,
                          weighed, model);
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
