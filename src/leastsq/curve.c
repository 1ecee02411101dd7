/* A model with its data as a callable: the type, and the calls of the model. */
#include "curve.h"

#include <numpy/arrayscalars.h>
#include <structmember.h>

enum { INLINE_PARAMETERS = 14 };

/* f(xdata, *parameters), which stand in `vector` from its third place on, and are given up. */
static PyObject *
call_model(const curve *c, PyObject **vector, npy_intp n)
{
    PyObject *result;

    vector[1] = c->xdata;
    result = PyObject_Vectorcall(c->f, vector + 1, (size_t)(n + 1) | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    for (npy_intp k = 0; k < n; k++)
        Py_DECREF(vector[k + 2]);
    return result;
}

/* f at n numbers, which lie `stride` bytes apart: each a new np.float64, as from an array. */
static PyObject *
model_at(const curve *c, npy_intp n, const char *x, npy_intp stride)
{
    PyObject *room[INLINE_PARAMETERS + 2], **vector = room, *result = NULL;
    npy_intp made = 0;

    if (n > INLINE_PARAMETERS && (vector = PyMem_Malloc((size_t)(n + 2) * sizeof *vector)) == NULL)
        return PyErr_NoMemory();
    for (; made < n; made++) {
        PyObject *number = PyArrayScalar_New(Double);
        if (number == NULL)
            break;
        PyArrayScalar_ASSIGN(number, Double, *(const double *)(x + made * stride));
        vector[made + 2] = number;
    }
    if (made == n)
        result = call_model(c, vector, n);
    else
        while (made > 0)
            Py_DECREF(vector[--made + 2]);
    if (vector != room)
        PyMem_Free(vector);
    return result;
}

/* f(xdata, *params) */
static PyObject *
model_of(const curve *c, PyObject *params)
{
    PyArrayObject *x = (PyArrayObject *)params;
    PyObject *items, **vector, *result = NULL;
    npy_intp n;

    if (curve_is_plain(params, 1))
        return model_at(c, PyArray_DIM(x, 0), PyArray_BYTES(x), PyArray_STRIDE(x, 0));
    if ((items = PySequence_Tuple(params)) == NULL)
        return NULL;
    n = PyTuple_GET_SIZE(items);
    vector = PyMem_Malloc((size_t)(n + 2) * sizeof *vector);
    if (vector == NULL)
        PyErr_NoMemory();
    else {
        for (npy_intp k = 0; k < n; k++)
            vector[k + 2] = Py_NewRef(PyTuple_GET_ITEM(items, k));
        result = call_model(c, vector, n);
    }
    PyMem_Free(vector);
    Py_DECREF(items);
    return result;
}

static PyObject *
curve_call(PyObject *self, PyObject *const *args, size_t flagged, PyObject *keywords)
{
    const curve *c = (const curve *)self;
    PyObject *result, *values;

    if (PyVectorcall_NARGS(flagged) != 1 || (keywords != NULL && PyTuple_GET_SIZE(keywords) > 0)) {
        PyErr_SetString(PyExc_TypeError, "a Curve takes one argument, the parameters");
        return NULL;
    }
    result = model_of(c, args[0]);
    if (result == NULL)
        return NULL;
    values = curve_values(c, result);
    Py_DECREF(result);
    return values;
}

/* Borrowed, NULL if it is something else.  The function is nobody else's. */
const curve *
as_curve(PyObject *object)
{
    return PyVectorcall_Function(object) == curve_call ? (const curve *)object : NULL;
}

/* For the solver: without an array of x, nor one of what is made of the result. */
static PyObject *
for_solver(const curve *c, const callbacks *cb, const double *x)
{
    if (PyErr_CheckSignals() < 0)       /* the model may be pure C */
        return NULL;
    return model_at(c, cb->n, (const char *)x, sizeof *x);
}

int
curve_residual(const curve *c, callbacks *cb, const double *x, double *fvec)
{
    PyObject *result = for_solver(c, cb, x);
    int status = result == NULL ? -1 : curve_read_residual(c, cb, result, fvec);

    Py_XDECREF(result);
    return status;
}

int
curve_jacobian(const curve *c, callbacks *cb, const double *x, double *fjac)
{
    PyObject *result = for_solver(c, cb, x);
    int status = result == NULL ? -1 : curve_read_jacobian(c, cb, result, fjac);

    Py_XDECREF(result);
    return status;
}

/* ---------------------------------------------------------------------- the type */

static PyObject *
unless_none(PyObject *object)
{
    return object == Py_None ? NULL : Py_NewRef(object);
}

static PyObject *
new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    curve *c;

    if (PyTuple_GET_SIZE(args) != 4 || (keywords != NULL && PyDict_GET_SIZE(keywords) > 0)) {
        PyErr_SetString(PyExc_TypeError, "Curve takes 4 positional arguments");
        return NULL;
    }
    c = (curve *)type->tp_alloc(type, 0);
    if (c == NULL)
        return NULL;
    c->vectorcall = curve_call;
    c->f = Py_NewRef(PyTuple_GET_ITEM(args, 0));
    c->xdata = Py_NewRef(PyTuple_GET_ITEM(args, 1));
    c->ydata = unless_none(PyTuple_GET_ITEM(args, 2));
    c->weights = unless_none(PyTuple_GET_ITEM(args, 3));
    return (PyObject *)c;
}

/* No tp_clear, as tuples have none: it never changes, so that there is always something
   else in a cycle that can be cleared. */
static int
traverse(PyObject *self, visitproc visit, void *arg)
{
    const curve *c = (const curve *)self;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(c->f);
    Py_VISIT(c->xdata);
    Py_VISIT(c->ydata);
    Py_VISIT(c->weights);
    return 0;
}

static void
dealloc(PyObject *self)
{
    curve *c = (curve *)self;
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    Py_XDECREF(c->f);
    Py_XDECREF(c->xdata);
    Py_XDECREF(c->ydata);
    Py_XDECREF(c->weights);
    type->tp_free(self);
    Py_DECREF(type);
}

/* The user's function, for errors about what it returned. */
static PyObject *
name(PyObject *self, void *closure)
{
    const curve *c = (const curve *)self;
    PyObject *own = PyObject_GetAttrString(c->f, "__name__");

    (void)closure;
    if (own != NULL || !PyErr_ExceptionMatches(PyExc_AttributeError))
        return own;
    PyErr_Clear();
    return PyUnicode_FromString(c->ydata == NULL ? "jac" : "f");
}

static PyObject *
reduce(PyObject *self, PyObject *ignored)
{
    const curve *c = (const curve *)self;

    (void)ignored;
    return Py_BuildValue("O(OOOO)", Py_TYPE(self), c->f, c->xdata, c->ydata == NULL ? Py_None : c->ydata,
                         c->weights == NULL ? Py_None : c->weights);
}

static PyMethodDef methods[] = {
    {"__reduce__", reduce, METH_NOARGS, "For workers in other processes."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef attributes[] = {
    {"__name__", name, NULL, "The model's.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(curve, vectorcall), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Curve(f, xdata, ydata, weights, /)\n--\n\n"
                "Of params: weights*(f(xdata, *params) - ydata).  Without `ydata`, rows of\n"
                "derivatives, each times its weight; without `weights`, as they are."},
    {Py_tp_new, new},
    {Py_tp_dealloc, dealloc},
    {Py_tp_traverse, traverse},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_methods, methods},
    {Py_tp_getset, attributes},
    {Py_tp_members, members},
    {0, NULL},
};

PyType_Spec curve_spec = {
    .name = "leastsq._core.Curve",
    .basicsize = sizeof(curve),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};
