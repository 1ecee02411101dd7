/* leastsq.RowAccumulator: its attributes, which do not change its rows. */
#include "accumulator.h"

const char accumulator_triangle_doc[] =
    "triangle($self, /)\n--\n\n"
    "The triangle of all rows.\n\n"
    "Returns\n-------\n"
    "T : ndarray, shape (n + 1, n + 1)\n"
    "    Upper triangular, ``T.T @ T == A.T @ A`` for the rows ``A = [J f]``: so ``T[:, :n]`` and\n"
    "    ``T[:, n]`` are a J and an f that can be pushed instead of them.";

PyObject *
accumulator_triangle(PyObject *self, PyObject *ignored)
{
    accumulator *a = (accumulator *)self;
    folded_rows copy;
    npy_intp columns = (npy_intp)a->content.n + 1, dims[2] = {columns, columns};
    int64_t ldt, place = a->k->triangle(a->content.n, &ldt);
    PyArrayObject *array = (PyArrayObject *)PyArray_ZEROS(2, dims, NPY_DOUBLE, 0);
    double *target;

    (void)ignored;
    if (array == NULL)
        return NULL;
    if (accumulator_snapshot(a, &copy) < 0) {
        Py_DECREF(array);
        return NULL;
    }
    target = PyArray_DATA(array);
    for (npy_intp j = 0; j < columns; j++)
        memcpy(target + j * (columns + 1), copy.work + place + j * (ldt + 1),
               (size_t)(columns - j) * sizeof *target);
    PyMem_RawFree(copy.memory);
    return (PyObject *)array;
}

static PyObject *
get_fnorm(PyObject *self, void *closure)
{
    accumulator *a = (accumulator *)self;
    folded_rows copy;
    int64_t n = a->content.n, ldt, place = a->k->triangle(n, &ldt);
    double *first, norm;

    (void)closure;
    if (accumulator_snapshot(a, &copy) < 0)
        return NULL;
    first = copy.work + place;          /* row 0 takes the last column, whose first it ends with */
    for (int64_t j = 1; j <= n; j++)
        first[j - 1] = first[j * ldt + n];
    norm = a->k->norm(n + 1, first);
    PyMem_RawFree(copy.memory);
    return PyFloat_FromDouble(norm);
}

static PyObject *
get_finite(PyObject *self, void *closure)
{
    accumulator *a = (accumulator *)self;
    folded_rows copy;
    int finite;

    (void)closure;
    if (accumulator_snapshot(a, &copy) < 0)
        return NULL;
    finite = !copy.fault.found && accumulator_finite(a->k, copy.n, copy.work);
    PyMem_RawFree(copy.memory);
    return PyBool_FromLong(finite);
}

static PyObject *
get_fault(PyObject *self, void *closure)
{
    accumulator *a = (accumulator *)self;
    PyThreadState *released;
    not_finite fault;

    (void)closure;
    if (lock_take(self, &a->lock, 0, &released) < 0)
        return NULL;
    fault = a->content.fault;
    lock_give(&a->lock, released);
    if (!fault.found)
        Py_RETURN_NONE;
    return Py_BuildValue("nnd", (Py_ssize_t)fault.row, (Py_ssize_t)fault.column, fault.value);
}

/* -1 with an error set */
static int64_t
rows_of(PyObject *self)
{
    accumulator *a = (accumulator *)self;
    PyThreadState *released;
    int64_t rows;

    if (lock_take(self, &a->lock, 0, &released) < 0)
        return -1;
    rows = a->content.rows;
    lock_give(&a->lock, released);
    return rows;
}

static PyObject *
get_rows(PyObject *self, void *closure)
{
    int64_t rows = rows_of(self);

    (void)closure;
    return rows < 0 ? NULL : PyLong_FromLongLong(rows);
}

static PyObject *
get_n(PyObject *self, void *closure)
{
    (void)closure;
    return PyLong_FromLongLong(((accumulator *)self)->content.n);
}

PyObject *
accumulator_repr(PyObject *self)
{
    long long n = ((accumulator *)self)->content.n, rows = rows_of(self);

    return rows < 0 ? NULL : PyUnicode_FromFormat("<%s: n=%lld, rows=%lld>", Py_TYPE(self)->tp_name, n, rows);
}

PyGetSetDef accumulator_attributes[] = {
    {"n", get_n, NULL, "Columns of J.", NULL},
    {"rows", get_rows, NULL, "Rows folded in so far.", NULL},
    {"fnorm", get_fnorm, NULL, "The norm of f.", NULL},
    {"finite", get_finite, NULL, "Is everything finite?", NULL},
    {"fault", get_fault, NULL, "(row, column, value) of the first that is not finite, or None.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
