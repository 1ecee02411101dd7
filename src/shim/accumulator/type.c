/* leastsq.RowAccumulator: the type. */
#include "accumulator.h"

static PyObject *
new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"n", NULL};
    const module_state *state = state_of(type);
    PyObject *object;
    accumulator *a;
    int64_t n;

    if (state == NULL || !PyArg_ParseTupleAndKeywords(args, keywords, "O:RowAccumulator", names, &object)
        || integer_argument(object, "n", &n) < 0)
        return NULL;
    if (n < 1) {
        PyErr_Format(PyExc_ValueError, "leastsq: n must be at least 1, got %lld", (long long)n);
        return NULL;
    }
    if (n > MOST_COLUMNS)
        return PyErr_NoMemory();
    a = (accumulator *)type->tp_alloc(type, 0);
    if (a == NULL)
        return NULL;
    a->k = state->kernels;
    a->content.n = n;
    a->content.work = aligned_room(a->k->work_size(n), &a->content.memory);
    if (a->content.memory == NULL)
        PyErr_NoMemory();
    if (a->content.memory == NULL || lock_make(&a->lock) < 0) {
        Py_DECREF(a);
        return NULL;
    }
    a->k->empty(n, a->content.work);
    return (PyObject *)a;
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
    accumulator *a = (accumulator *)self;
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    PyMem_RawFree(a->content.memory);
    lock_free(&a->lock);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"push", (PyCFunction)(void (*)(void))accumulator_push, METH_VARARGS | METH_KEYWORDS,
     accumulator_push_doc},
    {"merge", accumulator_merge, METH_O, accumulator_merge_doc},
    {"triangle", accumulator_triangle, METH_NOARGS, accumulator_triangle_doc},
    {"__reduce__", accumulator_reduce, METH_NOARGS, accumulator_reduce_doc},
    {"__setstate__", accumulator_setstate, METH_O, accumulator_setstate_doc},
    {NULL, NULL, 0, NULL},
};

static const char doc[] =
    "RowAccumulator(n)\n--\n\n"
    "The rows of a Jacobian and their residuals, folded into one small triangle.\n\n"
    "A step of Levenberg-Marquardt needs only the n + 1 rows of the triangle T of a QR\n"
    "factorization, ``T.T @ T == A.T @ A`` with ``A = [J f]``, instead of the m rows of J and f.\n"
    "Rows can be pushed in any number at a time, and accumulators can be merged, so that the data may\n"
    "be larger than memory or lie on many machines.  J'J is never formed, so no digits are lost.\n\n"
    "Parameters\n----------\n"
    "n : int\n"
    "    Columns of J, at least 1.\n\n"
    "Attributes\n----------\n"
    "n : int\n"
    "    Columns of J.\n"
    "rows : int\n"
    "    Rows folded in so far.\n"
    "fnorm : float\n"
    "    The norm of their f.\n"
    "finite : bool\n"
    "    Whether all rows and the norms of their columns are finite.  If not, no number that comes from\n"
    "    those columns is.\n"
    "fault : tuple of (int, int, float), or None\n"
    "    The first row that is not finite, counted from 0 over all pushed and merged rows; its column,\n"
    "    which is n for f; and the value.\n\n"
    "Raises\n------\n"
    "TypeError, ValueError\n"
    "    `n` is not an integer, or less than 1.\n"
    "MemoryError\n"
    "    There is no memory for about ``n*(n + 512)`` numbers.\n\n"
    "Notes\n-----\n"
    "How rows are split into pushes changes no bit of the triangle; the order of merging changes\n"
    "its rounding.  Up to 255 rows wait to be folded; pickling and copying fold them first, so\n"
    "that the copy and the original continue with the same bits.  A pickle holds the triangle, which\n"
    "is some ``4*n**2`` bytes, and can be read on another kind of processor.  Several threads may use\n"
    "one accumulator: they take turns.  Long work releases the GIL.\n\n"
    "Examples\n--------\n"
    ">>> import numpy as np\n"
    ">>> from leastsq import RowAccumulator\n"
    ">>> t = np.linspace(0, 1, 1000)\n"
    ">>> J, f = np.column_stack([np.ones(1000), t]), 1 + 2*t\n"
    ">>> first, second = RowAccumulator(2), RowAccumulator(2)\n"
    ">>> first.push(J[:600], f[:600])\n"
    ">>> second.push(J[600:], f[600:])\n"
    ">>> first.merge(second)\n"
    ">>> first\n"
    "<leastsq.RowAccumulator: n=2, rows=1000>\n"
    ">>> T = first.triangle()\n"
    ">>> np.linalg.lstsq(T[:, :2], T[:, 2], rcond=None)[0].round(6)\n"
    "array([1., 2.])";

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)doc},
    {Py_tp_new, new},
    {Py_tp_dealloc, dealloc},
    {Py_tp_traverse, traverse},
    {Py_tp_repr, accumulator_repr},
    {Py_tp_methods, methods},
    {Py_tp_getset, accumulator_attributes},
    {0, NULL},
};

PyType_Spec accumulator_spec = {
    .name = "leastsq.RowAccumulator",
    .basicsize = sizeof(accumulator),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};
