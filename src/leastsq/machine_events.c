/* The ask/tell machine as an object: the event of a norm, and what both events share. */
#include "machine.h"

#include <math.h>

const char machine_tell_norm_doc[] =
    "tell_norm($self, fnorm, evaluations=1)\n--\n\n"
    "Answer the request \"norm\": here is the norm of the residuals at `x_eval`.\n\n"
    "Parameters\n----------\n"
    "fnorm : float, or array_like of shape (m,)\n"
    "    The norm, >= 0; or the residuals, whose norm is then taken as `leastsq` does, to the\n"
    "    bit.  One that is not finite makes a rejected step, or at the start ends the fit with\n"
    "    `ier` 9.\n"
    "evaluations : int, optional\n"
    "    What it adds to `nfev`.\n\n"
    "Raises\n------\n"
    "RuntimeError\n"
    "    Something else is wanted, or nothing.\n"
    "TypeError, ValueError\n"
    "    `fnorm` or `evaluations` is of the wrong kind.  The fit has not changed.";

/* Is this wanted?  If not, RuntimeError is set. */
int
machine_wants(int64_t request, int64_t answer, const char *method)
{
    if (request == answer)
        return 1;
    if (request == LSQ_ASK_DONE)
        PyErr_Format(PyExc_RuntimeError, "leastsq: %s: the fit has ended, nothing is wanted", method);
    else
        PyErr_Format(PyExc_RuntimeError, "leastsq: %s: the request is \"%s\"", method,
                     request == LSQ_ASK_NORM ? "norm" : "model");
    return 0;
}

int
machine_wants_now(machine *m, int64_t answer, const char *method)
{
    PyThreadState *released = lock_take(m->lock, 0);
    int64_t request = m->state.s.request;

    lock_give(m->lock, released);
    return machine_wants(request, answer, method);
}

int
machine_evaluations(PyObject *object, int64_t *cost)
{
    if (object == NULL)
        return 0;
    if (integer_argument(object, "evaluations", cost) < 0)
        return -1;
    if (*cost >= 0 && *cost <= INT32_MAX)
        return 0;
    PyErr_Format(PyExc_ValueError, "leastsq: evaluations must be from 0 to 2**31 - 1, got %lld",
                 (long long)*cost);
    return -1;
}

void
machine_take_fault(machine_state *state, const not_finite *fault)
{
    state->fault_found = fault->found;
    state->fault_row = fault->row;
    state->fault_column = fault->column;
    state->fault_value = fault->value;
}

/* A number, or the norm of the residuals; 0, or -1 with an error set. */
static int
read_norm(PyObject *object, double *fnorm, not_finite *fault)
{
    PyArrayObject *array = as_real_array(object, "fnorm"), *values = NULL;

    if (array == NULL)
        return -1;
    if (PyArray_NDIM(array) <= 1)
        values = (PyArrayObject *)PyArray_FROM_OTF((PyObject *)array, NPY_DOUBLE, NPY_ARRAY_CARRAY_RO);
    else
        PyErr_Format(PyExc_ValueError, "leastsq: fnorm must be a number or a vector of residuals, "
                     "got an array of %d dimensions", PyArray_NDIM(array));
    Py_DECREF(array);
    if (values == NULL)
        return -1;
    if (PyArray_NDIM(values) == 0)
        *fnorm = *(double *)PyArray_DATA(values);
    else {
        elements where = {PyArray_BYTES(values), sizeof(double), 0, 0};
        *fnorm = lsq_enorm(PyArray_SIZE(values), PyArray_DATA(values));
        if (!isfinite(*fnorm))
            find_not_finite(&where, PyArray_SIZE(values), 1, fault);
    }
    Py_DECREF(values);
    if (!(*fnorm < 0))
        return 0;
    PyErr_Format(PyExc_ValueError, "leastsq: fnorm must not be negative, got %R", object);
    return -1;
}

/* Scratch for the damped step by blocks; 0, or -1 with MemoryError set. */
int
machine_scratch(const machine *m, double **work, void **memory)
{
    *work = aligned_room(m->k->work_size(m->state.s.n), memory);
    if (*memory != NULL)
        return 0;
    PyErr_NoMemory();
    return -1;
}

/* From so many variables on a step takes long enough to release the GIL. */
int
machine_long_step(const machine *m)
{
    return m->state.s.n > 40;
}

PyObject *
machine_tell_norm(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"fnorm", "evaluations", NULL};
    machine *m = (machine *)self;
    PyObject *object, *evaluations = NULL;
    PyThreadState *released;
    not_finite fault = {0};
    int64_t cost = 1, request;
    double fnorm, *work;
    void *memory = NULL;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O|O:tell_norm", names, &object, &evaluations)
        || !machine_wants_now(m, LSQ_ASK_NORM, "tell_norm") || machine_evaluations(evaluations, &cost) < 0
        || read_norm(object, &fnorm, &fault) < 0 || machine_scratch(m, &work, &memory) < 0)
        return NULL;
    released = lock_take(m->lock, machine_long_step(m));
    request = m->state.s.request;
    if (request == LSQ_ASK_NORM) {
        lsq_tell_norm_blocked(&m->state.s, m->room.w, m->room.r, m->state.s.n, m->room.ipvt, fnorm,
                              cost, m->state.by_blocks ? m->k->qrsolv : NULL, work);
        if (m->state.s.info == LSQ_NOT_FINITE)
            machine_take_fault(&m->state, &fault);
    }
    lock_give(m->lock, released);
    PyMem_RawFree(memory);
    return machine_wants(request, LSQ_ASK_NORM, "tell_norm") ? Py_NewRef(Py_None) : NULL;
}
