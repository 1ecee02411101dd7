/* Read the results of the user's functions into the solver's memory: once, and without writing to
   them. */
#include "user.h"

#include <math.h>

/* Rows x columns of a tile for transposing: eight columns are a cache line of a row-major source, and
   64 rows of them stay in L1. */
enum { TILE_ROWS = 64, TILE_COLUMNS = 8 };

/* -------------------------------------------------------- errors about shapes

   SciPy's messages, with a note where the mistake can be guessed. */

/* Raise TypeError(message), with a note if `note` is not NULL; steals the reference to the message. */
static void
raise_noted(PyObject *message, const char *note)
{
    PyObject *error = message == NULL ? NULL : PyObject_CallOneArg(PyExc_TypeError, message);
    PyObject *noted = error == NULL || note == NULL ? NULL : PyObject_CallMethod(error, "add_note", "s", note);

    if (error != NULL && (note == NULL || noted != NULL))
        PyErr_SetObject(PyExc_TypeError, error);
    Py_XDECREF(noted);
    Py_XDECREF(error);
    Py_XDECREF(message);
}

void
raise_too_few_residuals(npy_intp m, npy_intp n)
{
    raise_noted(PyUnicode_FromFormat("Improper input: func input vector length N=%zd must not exceed "
                                     "func output vector length M=%zd", (Py_ssize_t)n, (Py_ssize_t)m),
                m > 1 ? NULL : "return the residuals, one by one, not the sum of their squares");
}

static void
raise_jacobian_shape(const callbacks *cb, PyArrayObject *array)
{
    npy_intp rows = cb->col_deriv ? cb->n : cb->m, columns = cb->col_deriv ? cb->m : cb->n;
    int transposed = PyArray_NDIM(array) == 2 && rows != columns
        && PyArray_DIM(array, 0) == columns && PyArray_DIM(array, 1) == rows;
    PyObject *shape = PyArray_IntTupleFromIntp(PyArray_NDIM(array), PyArray_SHAPE(array));
    PyObject *name = shape == NULL ? NULL : PyObject_GetAttrString(cb->dfun, "__name__"), *named = NULL;

    if (name != NULL)
        named = PyUnicode_FromFormat(" '%S'", name);
    else if (shape != NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        named = PyUnicode_FromString("");
    }
    if (named != NULL)
        raise_noted(PyUnicode_FromFormat("leastsq: there is a mismatch between the input and output shape of "
                                         "the 'Dfun' argument%U. Shape should be (%zd, %zd) but it is %S.",
                                         named, (Py_ssize_t)rows, (Py_ssize_t)columns, shape),
                    !transposed ? NULL : cb->col_deriv ? "its transpose has that shape: col_deriv=False"
                                                       : "its transpose has that shape: col_deriv=True");
    Py_XDECREF(named);
    Py_XDECREF(name);
    Py_XDECREF(shape);
}

/* ------------------------------------------------------------------- values */

/* Replace NumPy's error by one of the same type that names the argument, with NumPy's as its cause.
   Errors that are not about a value stay unchanged. */
static void
raise_from_current(const char *what, const char *wanted, PyObject *object)
{
    PyObject *cause_type, *cause, *traceback, *raised_type, *raised, *raised_traceback;
    PyObject *type = PyErr_ExceptionMatches(PyExc_ValueError) ? PyExc_ValueError
                   : PyErr_ExceptionMatches(PyExc_TypeError) ? PyExc_TypeError : NULL;

    if (type == NULL)
        return;
    PyErr_Fetch(&cause_type, &cause, &traceback);
    PyErr_NormalizeException(&cause_type, &cause, &traceback);
    if (traceback != NULL)
        PyException_SetTraceback(cause, traceback);
    PyErr_Format(type, "leastsq: %s %s, got an unusable %s", what, wanted,
                 Py_TYPE(object)->tp_name);
    PyErr_Fetch(&raised_type, &raised, &raised_traceback);
    PyErr_NormalizeException(&raised_type, &raised, &raised_traceback);
    PyException_SetContext(raised, Py_NewRef(cause));
    PyException_SetCause(raised, cause);        /* steals */
    Py_XDECREF(cause_type);
    Py_XDECREF(traceback);
    PyErr_Restore(raised_type, raised, raised_traceback);
}

/* Is this of a type that holds only numbers?  Objects with masks or units, and dates, are of other types. */
static int
holds_numbers(PyObject *object)
{
    if (PyArray_CheckExact(object))
        return !PyTypeNum_ISDATETIME(PyArray_TYPE((PyArrayObject *)object));
    return PyFloat_CheckExact(object) || PyList_CheckExact(object) || PyTuple_CheckExact(object)
        || PyArray_IsScalar(object, Number) || PyLong_Check(object);
}

/* The object without masks and units if that is possible, or an error that names them: see
   leastsq/_problem/kinds.py.  New reference. */
static PyObject *
without_more(PyObject *object, const char *what, const char *door)
{
    PyObject *kinds = PyImport_ImportModule("leastsq._problem.kinds"), *plain;

    if (kinds == NULL)
        return NULL;
    plain = PyObject_CallMethod(kinds, "plain", "Oss", object, what, door);
    Py_DECREF(kinds);
    return plain;
}

/* The same, with a fast path for plain numbers. */
PyObject *
plain_numbers(PyObject *object, const char *what, const char *door)
{
    return holds_numbers(object) ? Py_NewRef(object) : without_more(object, what, door);
}

/* `object` as an array whose dtype casts safely to float64; new reference. */
PyArrayObject *
as_real_array(PyObject *object, const char *what)
{
    PyObject *plain = plain_numbers(object, what, "leastsq");
    PyArrayObject *array;
    PyArray_Descr *wanted;
    int castable;

    if (plain == NULL)
        return NULL;
    array = (PyArrayObject *)PyArray_FROM_O(plain);
    Py_DECREF(plain);
    if (array == NULL) {
        raise_from_current(what, "must be an array of real numbers", object);
        return NULL;
    }
    if (PyArray_TYPE(array) == NPY_DOUBLE)
        return array;
    wanted = PyArray_DescrFromType(NPY_DOUBLE);
    castable = PyArray_CanCastArrayTo(array, wanted, NPY_SAFE_CASTING);
    Py_DECREF(wanted);
    if (castable)
        return array;
    if (PyTypeNum_ISDATETIME(PyArray_TYPE(array))) {            /* refused, with advice */
        Py_XDECREF(without_more((PyObject *)array, what, "leastsq"));
        Py_DECREF(array);
        return NULL;
    }
    PyErr_Format(PyExc_TypeError,
                 "leastsq: %s must be real numbers that fit in float64, got %s of dtype %S",
                 what, Py_TYPE(object)->tp_name, (PyObject *)PyArray_DESCR(array));
    Py_DECREF(array);
    return NULL;
}

static int
is_plain_vector(PyObject *object)
{
    PyArrayObject *array = (PyArrayObject *)object;

    return PyArray_CheckExact(object) && PyArray_NDIM(array) == 1
        && PyArray_TYPE(array) == NPY_DOUBLE && PyArray_ISCARRAY_RO(array);
}

static int
is_vector(PyArrayObject *array)
{
    PyObject *shape;

    if (PyArray_NDIM(array) <= 1)
        return 1;
    shape = PyArray_IntTupleFromIntp(PyArray_NDIM(array), PyArray_SHAPE(array));
    if (shape != NULL)
        PyErr_Format(PyExc_ValueError,
                     "leastsq: the array that func returns must be 0-d or 1-D, got shape %S",
                     shape);
    Py_XDECREF(shape);
    return 0;
}

/* Read the first result: it gives m and the precision, and its values are kept until the solver asks
   for them. */
int
measure_residual(callbacks *cb, PyObject *result)
{
    PyArrayObject *array = as_real_array(result, "the array that func returns");
    int status = -1;

    if (array == NULL)
        return -1;
    if (is_vector(array)) {
        int type = PyArray_TYPE(array);
        cb->m = PyArray_SIZE(array);
        cb->scalar = PyArray_NDIM(array) == 0;
        cb->eps = type == NPY_FLOAT ? 0x1p-23 : type == NPY_HALF ? 0x1p-10 : 0x1p-52;
        cb->first = (PyArrayObject *)PyArray_FROMANY((PyObject *)array, NPY_DOUBLE, 0, 1,
                                                     NPY_ARRAY_CARRAY_RO);
        status = cb->first == NULL ? -1 : 0;
    }
    Py_DECREF(array);
    return status;
}

static int
right_size(const callbacks *cb, PyArrayObject *array)
{
    npy_intp size = PyArray_SIZE(array);

    if (size == cb->m)
        return 1;
    PyErr_Format(PyExc_ValueError,
                 "leastsq: the array returned by func changed size between calls: "
                 "it had %zd elements, now %zd", (Py_ssize_t)cb->m, (Py_ssize_t)size);
    return 0;
}

/* func's result as a plain vector of m float64; the result itself if it is one.  New reference. */
PyArrayObject *
residual_values(callbacks *cb, PyObject *result)
{
    PyArrayObject *array, *plain = NULL;

    if (is_plain_vector(result))
        return right_size(cb, (PyArrayObject *)result) ? (PyArrayObject *)Py_NewRef(result) : NULL;
    array = as_real_array(result, "the array that func returns");
    if (array == NULL)
        return NULL;
    if (is_vector(array) && right_size(cb, array))
        plain = (PyArrayObject *)PyArray_FROMANY((PyObject *)array, NPY_DOUBLE, 0, 1,
                                                 NPY_ARRAY_CARRAY_RO);
    Py_DECREF(array);
    return plain;
}

int
read_residual(callbacks *cb, PyObject *result, double *fvec)
{
    PyArrayObject *values = residual_values(cb, result);

    if (values == NULL)
        return -1;
    memcpy(fvec, PyArray_DATA(values), (size_t)cb->m * sizeof *fvec);
    Py_DECREF(values);
    return 0;
}

/* fjac[i + j*m] = source(i, j), for a source with these strides in bytes. */
static void
copy_columns(npy_intp m, npy_intp n, const char *source, npy_intp row_stride,
             npy_intp column_stride, double *fjac)
{
    if (row_stride == (npy_intp)sizeof(double)) {
        for (npy_intp j = 0; j < n; j++)
            memcpy(fjac + j * m, source + j * column_stride, (size_t)m * sizeof *fjac);
        return;
    }
    for (npy_intp top = 0; top < m; top += TILE_ROWS) {
        npy_intp bottom = m - top < TILE_ROWS ? m : top + TILE_ROWS;
        for (npy_intp left = 0; left < n; left += TILE_COLUMNS) {
            npy_intp right = n - left < TILE_COLUMNS ? n : left + TILE_COLUMNS;
            for (npy_intp j = left; j < right; j++) {
                const char *from = source + j * column_stride;
                for (npy_intp i = top; i < bottom; i++)
                    fjac[i + j * m] = *(const double *)(from + i * row_stride);
            }
        }
    }
}

/* Dfun's result as float64 (with `singles` also as float32), without a copy where possible.  Returns a
   new reference, and the place of its elements. */
PyArrayObject *
jacobian_values(callbacks *cb, PyObject *result, int singles, elements *where)
{
    npy_intp m = cb->m, n = cb->n;
    PyArrayObject *array = as_real_array(result, "the array that Dfun returns");
    PyArrayObject *values = NULL;
    int vector, matrix, type, by_column = cb->col_deriv != 0;

    if (array == NULL)
        return NULL;
    vector = (m == 1 || n == 1) && PyArray_SIZE(array) == m * n;
    matrix = PyArray_NDIM(array) == 2 && PyArray_DIM(array, by_column) == m
        && PyArray_DIM(array, !by_column) == n;
    type = singles && PyArray_TYPE(array) == NPY_FLOAT ? NPY_FLOAT : NPY_DOUBLE;
    if (!vector && !matrix)
        raise_jacobian_shape(cb, array);
    else
        values = (PyArrayObject *)PyArray_FROM_OTF(
            (PyObject *)array, type,
            NPY_ARRAY_ALIGNED | NPY_ARRAY_NOTSWAPPED | (vector ? NPY_ARRAY_C_CONTIGUOUS : 0));
    Py_DECREF(array);
    if (values == NULL)
        return NULL;
    where->data = PyArray_BYTES(values);
    where->single = type == NPY_FLOAT;
    if (vector) {
        npy_intp size = PyArray_ITEMSIZE(values);
        where->row_stride = n == 1 ? size : m * n * size;
        where->column_stride = n == 1 ? m * n * size : size;
    }
    else {
        where->row_stride = PyArray_STRIDE(values, by_column);
        where->column_stride = PyArray_STRIDE(values, !by_column);
    }
    return values;
}

int
read_jacobian(callbacks *cb, PyObject *result, double *fjac)
{
    elements where;
    PyArrayObject *values = jacobian_values(cb, result, 0, &where);

    if (values == NULL)
        return -1;
    copy_columns(cb->m, cb->n, where.data, where.row_stride, where.column_stride, fjac);
    Py_DECREF(values);
    return 0;
}

/* The first element that is not finite, column by column. */
void
find_not_finite(const elements *where, npy_intp m, npy_intp n, not_finite *fault)
{
    for (npy_intp j = 0; j < n; j++) {
        for (npy_intp i = 0; i < m; i++) {
            const char *at = where->data + i * where->row_stride + j * where->column_stride;
            double value = where->single ? (double)*(const float *)at : *(const double *)at;
            if (!isfinite(value)) {
                *fault = (not_finite){1, i, j, value};
                return;
            }
        }
    }
}
