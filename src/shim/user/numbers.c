/* Numbers that the user passes, scalars and vectors: they are read, checked, and refused by name. */
#include "user.h"

int
real_argument(PyObject *object, const char *name, double *value)
{
    *value = PyFloat_AsDouble(object);
    if (*value != -1.0 || !PyErr_Occurred())
        return 0;
    if (PyErr_ExceptionMatches(PyExc_TypeError))
        PyErr_Format(PyExc_TypeError, "leastsq: %s must be a real number, got %s", name,
                     Py_TYPE(object)->tp_name);
    return -1;
}

int
integer_argument(PyObject *object, const char *name, int64_t *value)
{
    PyObject *index = PyNumber_Index(object);

    if (index == NULL) {
        if (PyErr_ExceptionMatches(PyExc_TypeError))
            PyErr_Format(PyExc_TypeError, "leastsq: %s must be an integer, got %s", name,
                         Py_TYPE(object)->tp_name);
        return -1;
    }
    *value = PyLong_AsLongLong(index);
    Py_DECREF(index);
    if (*value != -1 || !PyErr_Occurred())
        return 0;
    if (PyErr_ExceptionMatches(PyExc_OverflowError))
        PyErr_Format(PyExc_OverflowError, "leastsq: %s must fit in 64 bits, got %R", name, object);
    return -1;
}

int
flag_argument(PyObject *object, const char *name, int *value)
{
    int64_t number;

    if (PyBool_Check(object) || PyArray_IsScalar(object, Bool)) {
        *value = PyObject_IsTrue(object);
        return *value < 0 ? -1 : 0;
    }
    if (integer_argument(object, name, &number) < 0)
        return -1;
    *value = number != 0;
    return 0;
}

int
improper(const char *name, const char *wanted, PyObject *got)
{
    PyErr_Format(PyExc_TypeError, "Improper input parameters. %s must be %s, got %R", name,
                 wanted, got);
    return -1;
}

int
tolerance_argument(PyObject *object, const char *name, double *value)
{
    if (real_argument(object, name, value) < 0)
        return -1;
    return *value >= 0 ? 0 : improper(name, "zero or positive", object);
}

/* A new 1-D float64 array with the values of x0. */
PyArrayObject *
arguments_start_point(PyObject *x0)
{
    PyArrayObject *array = as_real_array(x0, "x0"), *x = NULL;
    npy_intp n;

    if (array == NULL)
        return NULL;
    n = PyArray_SIZE(array);
    x = (PyArrayObject *)PyArray_SimpleNew(1, &n, NPY_DOUBLE);
    if (x != NULL && PyArray_TYPE(array) == NPY_DOUBLE && PyArray_ISCARRAY_RO(array))
        memcpy(PyArray_DATA(x), PyArray_DATA(array), (size_t)n * sizeof(double));
    else if (x != NULL && PyArray_CopyAnyInto(x, array) < 0)
        Py_CLEAR(x);
    Py_DECREF(array);
    return x;
}

/* Is there at least one parameter?  1, or 0 with an error set. */
int
arguments_has_parameters(PyArrayObject *x)
{
    if (PyArray_SIZE(x) > 0)
        return 1;
    PyErr_SetString(PyExc_TypeError,
                    "Improper input parameters. x0 must have at least one element, got none");
    return 0;
}

/* A copy of n positive scale factors (func may change the original); NULL with an error set if they are
   something else. */
PyArrayObject *
arguments_scale_factors(PyObject *diag, npy_intp n)
{
    PyArrayObject *array = as_real_array(diag, "diag"), *doubles;
    const double *values;

    if (array == NULL)
        return NULL;
    if (PyArray_NDIM(array) != 1 || PyArray_DIM(array, 0) != n) {
        PyObject *shape = PyArray_IntTupleFromIntp(PyArray_NDIM(array), PyArray_SHAPE(array));
        if (shape != NULL)
            PyErr_Format(PyExc_ValueError,
                         "leastsq: diag must have one entry for each of the %zd parameters, "
                         "got shape %S", (Py_ssize_t)n, shape);
        Py_XDECREF(shape);
        Py_DECREF(array);
        return NULL;
    }
    doubles = (PyArrayObject *)PyArray_FROM_OTF((PyObject *)array, NPY_DOUBLE,
                                                NPY_ARRAY_CARRAY_RO | NPY_ARRAY_ENSURECOPY);
    Py_DECREF(array);
    if (doubles == NULL)
        return NULL;
    values = PyArray_DATA(doubles);
    for (npy_intp j = 0; j < n; j++) {
        if (!(values[j] > 0)) {
            improper("every entry of diag", "positive", diag);
            Py_DECREF(doubles);
            return NULL;
        }
    }
    return doubles;
}

/* Read n bounds, which Python has prepared. */
PyArrayObject *
arguments_bounds(PyObject *bounds, npy_intp n)
{
    PyArrayObject *array = (PyArrayObject *)PyArray_FROMANY(bounds, NPY_DOUBLE, 1, 1,
                                                            NPY_ARRAY_CARRAY_RO);

    if (array != NULL && PyArray_DIM(array, 0) != n) {
        PyErr_Format(PyExc_ValueError, "leastsq: bounds must have one entry for each of the %zd "
                     "parameters, got %zd", (Py_ssize_t)n, (Py_ssize_t)PyArray_DIM(array, 0));
        Py_CLEAR(array);
    }
    return array;
}
