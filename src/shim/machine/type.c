/* The ask/tell machine as an object: its type and construction. */
#include "machine.h"

/* A column of the vectors from an argument that may be None; 0, or -1 with an error set. */
static int
take_vector(machine *m, int column, PyArrayObject *array)
{
    int64_t n = m->state.s.n;

    if (array == NULL)
        return -1;
    memcpy(m->room.w + column * n, PyArray_DATA(array), (size_t)n * sizeof(double));
    Py_DECREF(array);
    return 0;
}

/* Read the settings, which follow x0; 0, or -1 with an error set. */
static int
read_settings(machine_state *state, PyObject *args)
{
    lsq_state *s = &state->s;
    PyObject *epsfcn = PyTuple_GET_ITEM(args, 9);

    if (tolerance_argument(PyTuple_GET_ITEM(args, 1), "ftol", &s->ftol) < 0
        || tolerance_argument(PyTuple_GET_ITEM(args, 2), "xtol", &s->xtol) < 0
        || tolerance_argument(PyTuple_GET_ITEM(args, 3), "gtol", &s->gtol) < 0
        || integer_argument(PyTuple_GET_ITEM(args, 4), "maxfev", &s->maxfev) < 0
        || real_argument(PyTuple_GET_ITEM(args, 5), "factor", &s->factor) < 0
        || (epsfcn != Py_None && real_argument(epsfcn, "epsfcn", &state->precision) < 0))
        return -1;
    if (!(s->factor > 0))
        return improper("factor", "positive", PyTuple_GET_ITEM(args, 5));
    if (state->precision != state->precision)
        return improper("epsfcn", "a number or None", epsfcn);
    state->default_maxfev = s->maxfev <= 0;
    if (state->default_maxfev)
        s->maxfev = 200 * (s->n + 1);
    s->bounded = PyTuple_GET_ITEM(args, 7) != Py_None;
    s->strategy = PyLong_AsLongLong(PyTuple_GET_ITEM(args, 10));
    if (s->strategy == -1 && PyErr_Occurred())
        return -1;
    s->changes = s->strategy != LSQ_STRATEGY_MINPACK;
    s->scaling = PyTuple_GET_ITEM(args, 6) != Py_None ? LSQ_SCALE_USER : LSQ_SCALE_COLUMNS;
    return 0;
}

/* Start the machine in its allocated memory; 0, or -1 with an error set. */
static int
start(machine *m, PyObject *x, PyObject *args)
{
    npy_intp n = (npy_intp)m->state.s.n;
    lsq_state *s = &m->state.s;

    memcpy(m->room.w + LSQ_X * n, PyArray_DATA((PyArrayObject *)x), (size_t)n * sizeof(double));
    if ((s->scaling == LSQ_SCALE_USER
         && take_vector(m, LSQ_DIAG, arguments_scale_factors(PyTuple_GET_ITEM(args, 6), n)) < 0)
        || (s->bounded
            && (take_vector(m, LSQ_LO, arguments_bounds(PyTuple_GET_ITEM(args, 7), n)) < 0
                || take_vector(m, LSQ_HI, arguments_bounds(PyTuple_GET_ITEM(args, 8), n)) < 0)))
        return -1;
    for (int64_t j = 0; j < n; j++)
        m->room.ipvt[j] = j + 1;
    lsq_start(s, m->room.w);
    if (s->request == LSQ_ASK_NORM)
        return 0;
    PyErr_SetString(PyExc_TypeError, "Improper input parameters.");
    return -1;
}

static PyObject *
new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    const module_state *state = state_of(type);
    PyArrayObject *x;
    machine *m;
    int status = -1;

    if (state == NULL)
        return NULL;
    if (PyTuple_GET_SIZE(args) != 11 || (keywords != NULL && PyDict_GET_SIZE(keywords) > 0)) {
        PyErr_SetString(PyExc_TypeError, "Machine takes 11 positional arguments");
        return NULL;
    }
    if ((x = arguments_start_point(PyTuple_GET_ITEM(args, 0))) == NULL)
        return NULL;
    if (!arguments_has_parameters(x)) {
        Py_DECREF(x);
        return NULL;
    }
    m = (machine *)type->tp_alloc(type, 0);
    if (m != NULL) {
        m->k = state->kernels;
        m->state.s.n = PyArray_DIM(x, 0);
        if (lock_make(&m->lock) == 0 && read_settings(&m->state, args) == 0
            && machine_allocate(&m->room, m->state.s.n, m->state.s.strategy) == 0)
            status = start(m, (PyObject *)x, args);
    }
    Py_DECREF(x);
    if (status < 0)
        Py_CLEAR(m);
    return (PyObject *)m;
}

static int
traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static void
dealloc(PyObject *self)
{
    machine *m = (machine *)self;
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    PyMem_RawFree(m->room.memory);
    lock_free(&m->lock);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"tell_norm", (PyCFunction)(void (*)(void))machine_tell_norm, METH_VARARGS | METH_KEYWORDS,
     machine_tell_norm_doc},
    {"tell_model", (PyCFunction)(void (*)(void))machine_tell_model, METH_VARARGS | METH_KEYWORDS,
     machine_tell_model_doc},
    {"tell_change", (PyCFunction)(void (*)(void))machine_tell_change, METH_VARARGS | METH_KEYWORDS,
     machine_tell_change_doc},
    {"change", (PyCFunction)(void (*)(void))machine_change, METH_VARARGS | METH_KEYWORDS | METH_STATIC,
     machine_change_doc},
    {"points", machine_points, METH_NOARGS, machine_points_doc},
    {"__reduce__", machine_reduce, METH_NOARGS, "For pickle and copy."},
    {"__setstate__", machine_setstate, METH_O,
     "__setstate__($self, state, /)\n--\n\nContinue from a pickled state.  ValueError: the state is damaged."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "The ask/tell machine; see leastsq.LevenbergMarquardt."},
    {Py_tp_new, new},
    {Py_tp_dealloc, dealloc},
    {Py_tp_traverse, traverse},
    {Py_tp_methods, methods},
    {Py_tp_getset, machine_attributes},
    {0, NULL},
};

PyType_Spec machine_spec = {
    .name = "leastsq._core.Machine",
    .basicsize = sizeof(machine),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};
