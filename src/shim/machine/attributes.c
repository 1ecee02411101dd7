/* The ask/tell machine as an object: its attributes.

   Each getter reads one copy of the state, so its values are consistent. */
#include "covariance.h"
#include "machine.h"

#include <stddef.h>

/* 0, or -1 with an error set */
static int
look(PyObject *self, machine_state *state)
{
    machine *m = (machine *)self;
    PyThreadState *released;

    if (lock_take(self, &m->lock, 0, &released) < 0)
        return -1;
    *state = m->state;
    lock_give(&m->lock, released);
    return 0;
}

/* A new array of the elements of one of the vectors. */
static PyObject *
vector(PyObject *self, int column)
{
    machine *m = (machine *)self;
    npy_intp n = (npy_intp)m->state.s.n;
    PyObject *array = PyArray_SimpleNew(1, &n, NPY_DOUBLE);
    PyThreadState *released;

    if (array == NULL)
        return NULL;
    if (lock_take(self, &m->lock, 0, &released) < 0) {
        Py_DECREF(array);
        return NULL;
    }
    memcpy(PyArray_DATA((PyArrayObject *)array), m->room.w + column * n, (size_t)n * sizeof(double));
    lock_give(&m->lock, released);
    return array;
}

static PyObject *
get_request(PyObject *self, void *closure)
{
    machine_state state;

    (void)closure;
    if (look(self, &state) < 0)
        return NULL;
    if (state.s.request == LSQ_ASK_DONE)
        Py_RETURN_NONE;
    return PyUnicode_FromString(machine_request_name(state.s.request));
}

static PyObject *
get_x_eval(PyObject *self, void *closure)
{
    machine_state state;

    (void)closure;
    if (look(self, &state) < 0)
        return NULL;
    if (state.s.request == LSQ_ASK_DONE)
        Py_RETURN_NONE;
    return vector(self, state.s.request == LSQ_ASK_MODEL ? LSQ_X : LSQ_TRIAL);
}

static PyObject *
get_x(PyObject *self, void *closure)
{
    (void)closure;
    return vector(self, LSQ_X);
}

static PyObject *
get_qtf(PyObject *self, void *closure)
{
    (void)closure;
    return vector(self, LSQ_QTF);
}

static PyObject *
get_ipvt(PyObject *self, void *closure)
{
    machine *m = (machine *)self;
    npy_intp n = (npy_intp)m->state.s.n;
    PyObject *array = PyArray_SimpleNew(1, &n, NPY_INT32);
    PyThreadState *released;
    int32_t *ipvt;

    (void)closure;
    if (array == NULL)
        return NULL;
    ipvt = PyArray_DATA((PyArrayObject *)array);
    if (lock_take(self, &m->lock, 0, &released) < 0) {
        Py_DECREF(array);
        return NULL;
    }
    for (npy_intp j = 0; j < n; j++)
        ipvt[j] = (int32_t)m->room.ipvt[j];
    lock_give(&m->lock, released);
    return array;
}

static PyObject *
get_ier(PyObject *self, void *closure)
{
    machine_state state;

    (void)closure;
    if (look(self, &state) < 0)
        return NULL;
    if (state.s.request != LSQ_ASK_DONE)
        Py_RETURN_NONE;
    return PyLong_FromLongLong(state.s.info);
}

static PyObject *
get_accepted(PyObject *self, void *closure)
{
    machine_state state;

    (void)closure;
    return look(self, &state) < 0 ? NULL : PyBool_FromLong(state.s.accepted != 0);
}

static PyObject *
get_fnorm(PyObject *self, void *closure)
{
    machine_state state;

    (void)closure;
    if (look(self, &state) < 0)
        return NULL;
    return PyFloat_FromDouble(state.s.iteration == 0 && state.s.request == LSQ_ASK_NORM
                              ? Py_NAN : state.s.fnorm);
}

static PyObject *
get_strategy(PyObject *self, void *closure)
{
    static const char *const names[] = {"minpack", "fast", "robust"};
    machine_state state;

    (void)closure;
    return look(self, &state) < 0 ? NULL : PyUnicode_FromString(names[state.s.strategy]);
}

static PyObject *
get_fault(PyObject *self, void *closure)
{
    machine_state state;

    (void)closure;
    if (look(self, &state) < 0)
        return NULL;
    if (!state.fault_found)
        Py_RETURN_NONE;
    return Py_BuildValue("LLd", (long long)state.fault_row, (long long)state.fault_column,
                         state.fault_value);
}

/* Integers and reals; the closure is their offset in the state. */
static PyObject *
get_integer(PyObject *self, void *closure)
{
    machine_state state;
    int64_t value;

    if (look(self, &state) < 0)
        return NULL;
    memcpy(&value, (const char *)&state + (size_t)closure, sizeof value);
    return PyLong_FromLongLong(value);
}

static PyObject *
get_real(PyObject *self, void *closure)
{
    machine_state state;
    double value;

    if (look(self, &state) < 0)
        return NULL;
    memcpy(&value, (const char *)&state + (size_t)closure, sizeof value);
    return PyFloat_FromDouble(value);
}

static PyObject *
get_bounds(PyObject *self, void *closure)
{
    machine_state state;
    PyObject *lo, *hi;

    (void)closure;
    if (look(self, &state) < 0)
        return NULL;
    if (!state.s.bounded)
        Py_RETURN_NONE;
    lo = vector(self, LSQ_LO);
    hi = lo == NULL ? NULL : vector(self, LSQ_HI);
    if (hi == NULL) {
        Py_XDECREF(lo);
        return NULL;
    }
    return Py_BuildValue("NN", lo, hi);
}

/* The multipliers of the bounds, once there is a model. */
static PyObject *
get_multipliers(PyObject *self, void *closure)
{
    machine_state state;
    machine_room room;
    PyObject *array;

    (void)closure;
    if (machine_snapshot((machine *)self, &state, &room) < 0)
        return NULL;
    array = multipliers_array(&state.s, room.w);
    PyMem_RawFree(room.memory);
    return array;
}

static PyObject *
get_cov_x(PyObject *self, void *closure)
{
    machine_state state;
    machine_room room;
    PyObject *cov;

    (void)closure;
    if (machine_snapshot((machine *)self, &state, &room) < 0)
        return NULL;
    cov = covariance_array(&state.s, room.w, room.r, state.s.n, room.ipvt,
                           state.by_blocks ? ((machine *)self)->k : NULL);
    PyMem_RawFree(room.memory);
    return cov;
}

PyGetSetDef machine_attributes[] = {
    {"request", get_request, NULL,
     "\"norm\", \"model\", with a strategy \"change\" or \"feeler\"; None if the fit has ended.", NULL},
    {"x_eval", get_x_eval, NULL, "The point for which the answer is wanted, a copy; None if the fit has ended.", NULL},
    {"x", get_x, NULL, "The best point so far, a copy.", NULL},
    {"bounds", get_bounds, NULL, "(lower, upper), copies, or None.", NULL},
    {"fnorm", get_fnorm, NULL, "The norm of the residuals at x; nan before the first norm is told.", NULL},
    {"ier", get_ier, NULL, "Why the fit ended, a member of Status; None if it has not.", NULL},
    {"accepted", get_accepted, NULL, "Did the last trial that was told become x?", NULL},
    {"cov_x", get_cov_x, NULL, "Like leastsq's cov_x; None before the fit has ended.", NULL},
    {"multipliers", get_multipliers, NULL, "As in leastsq's infodict; None without bounds.", NULL},
    {"fault", get_fault, NULL,
     "With ier 9: (row, column, value) of the first number that is not finite, or None; column n is f.", NULL},
    {"n", get_integer, NULL, "The number of parameters.",
     (void *)offsetof(machine_state, s.n)},
    {"nfev", get_integer, NULL, "The number of evaluations told.",
     (void *)offsetof(machine_state, s.nfev)},
    {"njev", get_integer, NULL, "The number of models told.",
     (void *)offsetof(machine_state, s.njev)},
    {"iteration", get_integer, NULL, "1 + the number of accepted steps; 0 at the start.",
     (void *)offsetof(machine_state, s.iteration)},
    {"maxfev", get_integer, NULL, "The limit on evaluations.",
     (void *)offsetof(machine_state, s.maxfev)},
    {"strategy", get_strategy, NULL, "As given.", NULL},
    {"ftol", get_real, NULL, "As given.",
     (void *)offsetof(machine_state, s.ftol)},
    {"xtol", get_real, NULL, "As given.",
     (void *)offsetof(machine_state, s.xtol)},
    {"gtol", get_real, NULL, "As given.",
     (void *)offsetof(machine_state, s.gtol)},
    {"gnorm", get_real, NULL, "The largest cosine between f and a column of the last J.",
     (void *)offsetof(machine_state, s.gnorm)},
    {"radius", get_real, NULL, "The radius of the trust region.",
     (void *)offsetof(machine_state, s.radius)},
    {"par", get_real, NULL, "The Levenberg-Marquardt parameter.",
     (void *)offsetof(machine_state, s.par)},
    {"actual", get_real, NULL, "The relative reduction of the sum of squares by the last trial.",
     (void *)offsetof(machine_state, s.actual)},
    {"predicted", get_real, NULL, "The same as predicted by the model.",
     (void *)offsetof(machine_state, s.predicted)},
    {"ratio", get_real, NULL, "actual/predicted.",
     (void *)offsetof(machine_state, s.ratio)},
    {"ipvt", get_ipvt, NULL, "The permutation of the last model, from one, as in leastsq's infodict.", NULL},
    {"qtf", get_qtf, NULL, "Q'f of the last model, as in leastsq's infodict.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
