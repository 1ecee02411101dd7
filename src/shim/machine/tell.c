/* The ask/tell machine as an object: its two events, and points for a model. */
#include "accumulator/accumulator.h"
#include "machine.h"

#include <math.h>

const char machine_tell_norm_doc[] =
    "tell_norm($self, fnorm, evaluations=1)\n--\n\n"
    "Answer the request \"norm\" with the norm of the residuals at `x_eval`.\n\n"
    "Parameters\n----------\n"
    "fnorm : float, or array_like of shape (m,)\n"
    "    The norm, >= 0; or the residuals, whose norm is then computed with the same bits as in\n"
    "    `leastsq`.  If it is not finite, the step is rejected; at the start the fit ends with\n"
    "    `ier` 9 (after some trials inside, if the start is on bounds).\n"
    "evaluations : int, optional\n"
    "    The number to add to `nfev`.\n\n"
    "Raises\n------\n"
    "RuntimeError\n"
    "    The request is another, or None; or it was answered by other code while `fnorm` was read.\n"
    "TypeError, ValueError\n"
    "    `fnorm` or `evaluations` is of the wrong kind.  The fit has not changed.";
const char machine_tell_model_doc[] =
    "tell_model($self, model, f=None, *, evaluations=0, change=None)\n--\n\n"
    "Answer the request \"model\" with the Jacobian and the residuals at `x_eval`.\n\n"
    "Parameters\n----------\n"
    "model : array_like of shape (m, n), or RowAccumulator\n"
    "    The Jacobian, m >= n, which is factored with the same bits as by ``leastsq(qr=\"minpack\")``; or,\n"
    "    for long data, an accumulator of the rows of J and f.  It is not changed.\n"
    "f : array_like, shape (m,)\n"
    "    The residuals; only with a Jacobian.\n"
    "evaluations : int, optional\n"
    "    The number to add to `nfev`: with differences, the points evaluated for them.\n"
    "change : array_like, shape (n,), optional\n"
    "    With a strategy: ``J.T @ (before - f)``, where J and f are those at `x_eval` and `before` are the\n"
    "    residuals at the previous `x`.\n\n"
    "Raises\n------\n"
    "RuntimeError\n"
    "    The request is another, or None; or it was answered by other code while the arguments were read.\n"
    "TypeError, ValueError\n"
    "    An argument is of the wrong kind or for another n; m < n.  The fit has not changed.";
const char machine_points_doc[] =
    "points($self, /)\n--\n\n"
    "The points at which the residuals are needed for a Jacobian by forward differences.\n\n"
    "Returns\n-------\n"
    "points : ndarray, shape (n, n)\n"
    "    Row j is `x_eval` with x[j] moved, within the bounds.\n"
    "steps : ndarray, shape (n,)\n"
    "    The steps; 0 for a parameter that is fixed by its bounds, whose derivatives must be 0.\n\n"
    "Raises\n------\n"
    "RuntimeError\n"
    "    The request is not \"model\".";

/* Is this answer wanted?  If not, RuntimeError is set. */
static int
wants(int64_t request, int64_t answer, const char *method)
{
    if (request == answer)
        return 1;
    if (request == LSQ_ASK_DONE)
        PyErr_Format(PyExc_RuntimeError, "leastsq: %s: the fit has ended, and there is no request", method);
    else
        PyErr_Format(PyExc_RuntimeError, "leastsq: %s: the request is \"%s\"", method,
                     machine_request_name(request));
    return 0;
}

/* The same for the machine, and the number of its request. */
int
machine_wants_now(machine *m, int64_t answer, const char *method, uint64_t *which)
{
    PyThreadState *released;
    int64_t request;

    if (lock_take((PyObject *)m, &m->lock, 0, &released) < 0)
        return 0;
    request = m->state.s.request;
    *which = m->answers;
    lock_give(&m->lock, released);
    return wants(request, answer, method);
}

/* Is this request, read with the lock held, still the one for which the arguments were read?  Reading them
   may run any code, such as an __array__ that answers the request, or other threads. */
int
machine_still_wants(int64_t request, int64_t answer, const char *method, int same)
{
    if (!wants(request, answer, method))
        return 0;
    if (!same)
        PyErr_Format(PyExc_RuntimeError, "leastsq: %s: the request was answered while this answer was read, "
                     "and the current request is another one", method);
    return same;
}

int
machine_read_evaluations(PyObject *object, int64_t *cost)
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

static void
take_fault(machine_state *state, const not_finite *fault)
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

/* A vector of length n, copied; 0, or -1 with an error set. */
int
machine_read_vector(PyObject *object, int64_t n, double *values)
{
    PyArrayObject *array = as_real_array(object, "change"), *copy = NULL;
    int status = -1;

    if (array == NULL)
        return -1;
    if (PyArray_NDIM(array) == 1 && PyArray_DIM(array, 0) == n)
        copy = (PyArrayObject *)PyArray_FROM_OTF((PyObject *)array, NPY_DOUBLE, NPY_ARRAY_CARRAY_RO);
    else
        PyErr_Format(PyExc_ValueError, "leastsq: change must have shape (%lld,), got %s", (long long)n,
                     PyArray_NDIM(array) == 1 ? "a vector of another length"
                                              : "an array with another number of dimensions");
    Py_DECREF(array);
    if (copy != NULL) {
        memcpy(values, PyArray_DATA(copy), (size_t)n * sizeof *values);
        Py_DECREF(copy);
        status = 0;
    }
    return status;
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

/* With more than 40 variables a step takes long enough to release the GIL. */
int
machine_is_long_step(const machine *m)
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
    uint64_t which;
    int same;
    double fnorm, *work;
    void *memory = NULL;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O|O:tell_norm", names, &object, &evaluations)
        || !machine_wants_now(m, LSQ_ASK_NORM, "tell_norm", &which) || machine_read_evaluations(evaluations, &cost) < 0
        || read_norm(object, &fnorm, &fault) < 0 || machine_scratch(m, &work, &memory) < 0)
        return NULL;
    if (lock_take(self, &m->lock, machine_is_long_step(m), &released) < 0) {
        PyMem_RawFree(memory);
        return NULL;
    }
    request = m->state.s.request;
    same = m->answers == which;
    if (same && request == LSQ_ASK_NORM) {
        m->answers++;
        lsq_tell_norm_blocked(&m->state.s, m->room.w, m->room.r, m->state.s.n, m->room.ipvt, fnorm,
                              cost, m->state.by_blocks ? m->k->qrsolv : NULL, work);
        if (m->state.s.info == LSQ_NOT_FINITE)
            take_fault(&m->state, &fault);
    }
    lock_give(&m->lock, released);
    PyMem_RawFree(memory);
    return machine_still_wants(request, LSQ_ASK_NORM, "tell_norm", same) ? Py_NewRef(Py_None) : NULL;
}

/* ------------------------------------------------------ the event of a model */

/* The model that a provider made of J and f; r is n x n. */
typedef struct {
    double *r, *qtf, *colnorm, *scratch;        /* 2n, or none */
    int64_t *ipvt;
    void *memory;
    not_finite fault;
    double *change;             /* NULL: not told */
} model;

static int
allocate_model(model *answer, int64_t n, int64_t scratch)
{
    answer->scratch = aligned_room(scratch + n * (n + 3), &answer->memory);
    if (answer->memory == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    answer->r = answer->scratch + scratch;
    answer->qtf = answer->r + n * n;
    answer->colnorm = answer->qtf + n;
    answer->ipvt = (int64_t *)(answer->colnorm + n);
    return 0;
}

/* The dense model, made from copies of J (by columns) and f; R is copied into the machine's layout. */
static void
factor(const machine *m, int64_t rows, double *jac, double *f, model *answer)
{
    int64_t n = m->state.s.n;
    elements jacobian = {(const char *)jac, sizeof(double), (npy_intp)sizeof(double) * rows, 0};
    elements residuals = {(const char *)f, sizeof(double), 0, 0};

    if (!isfinite(m->k->norm(rows * n, jac)))
        find_not_finite(&jacobian, rows, n, &answer->fault);
    if (!answer->fault.found && !isfinite(m->k->norm(rows, f))) {
        find_not_finite(&residuals, rows, 1, &answer->fault);
        answer->fault.column = n;
    }
    lsq_dense_model(rows, n, jac, f, answer->ipvt, answer->qtf, answer->colnorm, answer->scratch);
    for (int64_t j = 0; j < n; j++)
        memcpy(answer->r + j * n, jac + j * rows, (size_t)(j + 1) * sizeof *jac);
}

/* The model of a Jacobian and residuals; 0, or -1 with an error set. */
static int
from_arrays(machine *m, PyObject *jac_object, PyObject *f_object, model *answer)
{
    npy_intp n = (npy_intp)m->state.s.n, rows;
    elements unused;
    PyArrayObject *jac = read_rows(jac_object, "J", -1, n, &unused), *f, *columns, *rhs;
    PyThreadState *released = NULL;
    int status = -1;

    if (jac == NULL)
        return -1;
    rows = PyArray_DIM(jac, 0);
    f = read_rows(f_object, "f", rows, 0, &unused);
    columns = f == NULL ? NULL : (PyArrayObject *)PyArray_FROM_OTF(
        (PyObject *)jac, NPY_DOUBLE, NPY_ARRAY_FARRAY | NPY_ARRAY_ENSURECOPY);
    rhs = columns == NULL ? NULL : (PyArrayObject *)PyArray_FROM_OTF(
        (PyObject *)f, NPY_DOUBLE, NPY_ARRAY_CARRAY | NPY_ARRAY_ENSURECOPY);
    if (rhs != NULL && rows < n)
        PyErr_Format(PyExc_ValueError, "leastsq: J must have at least as many rows as columns, "
                     "got shape (%zd, %zd)", (Py_ssize_t)rows, (Py_ssize_t)n);
    else if (rhs != NULL && allocate_model(answer, n, 2 * n) == 0) {
        if (accumulator_is_much(rows, n))
            released = PyEval_SaveThread();
        factor(m, rows, PyArray_DATA(columns), PyArray_DATA(rhs), answer);
        if (released != NULL)
            PyEval_RestoreThread(released);
        status = 0;
    }
    Py_DECREF(jac);
    Py_XDECREF(f);
    Py_XDECREF(columns);
    Py_XDECREF(rhs);
    return status;
}

/* The model of an accumulator's rows; 0, or -1 with an error set. */
static int
from_accumulator(machine *m, accumulator *a, model *answer)
{
    int64_t n = m->state.s.n;
    folded_rows copy;
    PyThreadState *released = NULL;
    double rest;

    if (a->content.n != n) {
        PyErr_Format(PyExc_ValueError, "leastsq: the accumulator must have n = %lld, got n = %lld",
                     (long long)n, (long long)a->content.n);
        return -1;
    }
    if (accumulator_snapshot(a, &copy) < 0)
        return -1;
    if (copy.rows < n)
        PyErr_Format(PyExc_ValueError, "leastsq: the accumulator must have at least n = %lld rows, "
                     "got %lld", (long long)n, (long long)copy.rows);
    else if (allocate_model(answer, n, 0) == 0) {
        if (accumulator_is_much(n, n))
            released = PyEval_SaveThread();
        answer->fault = copy.fault;
        a->k->finish(n, copy.work, answer->r, n, answer->ipvt, answer->qtf, answer->colnorm, &rest,
                     NULL, LSQ_ORDER_UNKNOWN);
        if (!isfinite(rest))
            answer->qtf[0] = rest;
        if (released != NULL)
            PyEval_RestoreThread(released);
    }
    PyMem_RawFree(copy.memory);
    return answer->memory == NULL ? -1 : 0;
}

/* Tell the model, with the lock held. */
static void
tell(machine *m, const model *told, int by_blocks, int64_t cost, double *work)
{
    machine_state *state = &m->state;
    int64_t n = state->s.n;
    size_t vector = (size_t)n * sizeof(double);

    if (state->default_maxfev && state->s.njev == 0)    /* like leastsq: it depends on whether J comes from differences */
        state->s.maxfev = (cost > 0 ? 200 : 100) * (n + 1);
    m->answers++;
    state->by_blocks = by_blocks;
    memcpy(m->room.r, told->r, (size_t)n * vector);
    memcpy(m->room.ipvt, told->ipvt, vector);
    memcpy(m->room.w + LSQ_QTF * n, told->qtf, vector);
    memcpy(m->room.w + LSQ_COLNORM * n, told->colnorm, vector);
    if (!isfinite(m->k->norm(n, told->qtf)))    /* residuals that are not finite end the fit too */
        m->room.w[LSQ_COLNORM * n] = Py_NAN;
    if (told->change != NULL && state->s.past == LSQ_PAST_WANTED) {
        memcpy(m->room.w + (lsq_core_columns(n, state->s.bounded, 0) + LSQ_C_CHANGE) * n, told->change, vector);
        state->s.past = LSQ_PAST_TOLD;
    }
    lsq_tell_model_blocked(&state->s, m->room.w, m->room.r, n, m->room.ipvt, cost,
                           by_blocks ? m->k->qrsolv : NULL, work);
    if (state->s.info == LSQ_NOT_FINITE)
        take_fault(state, &told->fault);
}

PyObject *
machine_tell_model(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"model", "f", "evaluations", "change", NULL};
    machine *m = (machine *)self;
    const module_state *module = state_of(Py_TYPE(self));
    PyObject *object, *f = Py_None, *evaluations = NULL, *change = Py_None;
    PyThreadState *released;
    model told = {0};
    int64_t cost = 0, request = LSQ_ASK_DONE;
    uint64_t which;
    int folded, status, same;
    double *work;
    void *memory = NULL;

    if (module == NULL
        || !PyArg_ParseTupleAndKeywords(args, keywords, "O|O$OO:tell_model", names, &object, &f,
                                        &evaluations, &change)
        || !machine_wants_now(m, LSQ_ASK_MODEL, "tell_model", &which)
        || machine_read_evaluations(evaluations, &cost) < 0)
        return NULL;
    folded = PyObject_TypeCheck(object, module->accumulator_type);
    if (folded != (f == Py_None)) {
        PyErr_SetString(PyExc_TypeError, folded
                        ? "leastsq: f must be left out, because the accumulator holds it"
                        : "leastsq: f is missing: tell_model takes a RowAccumulator, or J and f");
        return NULL;
    }
    status = folded ? from_accumulator(m, (accumulator *)object, &told)
                    : from_arrays(m, object, f, &told);
    if (status == 0 && change != Py_None) {
        told.change = PyMem_RawMalloc((size_t)m->state.s.n * sizeof(double));
        status = told.change != NULL ? machine_read_vector(change, m->state.s.n, told.change) : -1;
        if (told.change == NULL)
            PyErr_NoMemory();
    }
    if (status == 0 && (status = machine_scratch(m, &work, &memory)) == 0
        && (status = lock_take(self, &m->lock, machine_is_long_step(m), &released)) == 0) {
        request = m->state.s.request;
        same = m->answers == which;
        if (same && request == LSQ_ASK_MODEL)
            tell(m, &told, folded, cost, work);
        lock_give(&m->lock, released);
        status = machine_still_wants(request, LSQ_ASK_MODEL, "tell_model", same) ? 0 : -1;
    }
    PyMem_RawFree(memory);
    PyMem_RawFree(told.memory);
    PyMem_RawFree(told.change);
    return status < 0 ? NULL : Py_NewRef(Py_None);
}

PyObject *
machine_points(PyObject *self, PyObject *ignored)
{
    machine *m = (machine *)self;
    npy_intp n = (npy_intp)m->state.s.n, dims[2] = {n, n};
    PyObject *points = PyArray_SimpleNew(2, dims, NPY_DOUBLE), *steps = NULL;
    PyThreadState *released;
    const double *w, *x;
    double *row, relative;
    int64_t request, bounded;

    (void)ignored;
    if (points == NULL || (steps = PyArray_SimpleNew(1, &n, NPY_DOUBLE)) == NULL) {
        Py_XDECREF(points);
        return NULL;
    }
    if (lock_take(self, &m->lock, 0, &released) < 0) {
        Py_DECREF(points);
        Py_DECREF(steps);
        return NULL;
    }
    request = m->state.s.request;
    bounded = m->state.s.bounded;
    w = m->room.w;
    x = w + LSQ_X * n;
    relative = lsq_relative_step(m->state.precision);
    row = PyArray_DATA((PyArrayObject *)points);        /* holds the moved coordinates first */
    lsq_difference_steps(n, x, &relative, 0, row, PyArray_DATA((PyArrayObject *)steps),
                         bounded ? w + LSQ_LO * n : NULL, bounded ? w + LSQ_HI * n : NULL,
                         bounded ? w + LSQ_LARGEST * n
                         : m->state.s.strategy ? w + (lsq_core_columns(n, 0, 0) + LSQ_C_LARGEST) * n : NULL);
    for (npy_intp j = n - 1; j >= 0; j--) {
        double moved = row[j];

        memcpy(row + j * n, x, (size_t)n * sizeof *row);
        row[j + j * n] = moved;
    }
    lock_give(&m->lock, released);
    if (wants(request, LSQ_ASK_MODEL, "points"))
        return Py_BuildValue("NN", points, steps);
    Py_DECREF(points);
    Py_DECREF(steps);
    return NULL;
}
