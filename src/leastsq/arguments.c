/* The arguments of a fit: read, checked, refused by name. */
#include "shim.h"

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

static int
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

/* None, or (lo, hi, loss, f_scale, watcher), which Python has checked. */
static int
parse_extras(arguments *a, PyObject *extras)
{
    a->lo = a->hi = Py_None;
    if (extras == Py_None)
        return 0;
    if (!PyTuple_Check(extras)) {
        PyErr_SetString(PyExc_TypeError, "solve: extras must be a tuple or None");
        return -1;
    }
    if (!PyArg_ParseTuple(extras, "OOOdO", &a->lo, &a->hi, &a->loss, &a->loss_scale, &a->watcher))
        return -1;
    if (a->loss == Py_None)
        a->loss = NULL;
    if (a->watcher == Py_None)
        a->watcher = NULL;
    return 0;
}

int
arguments_parse(arguments *a, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 16) {
        PyErr_Format(PyExc_TypeError, "solve takes 16 arguments, got %zd", nargs);
        return -1;
    }
    a->func = args[0];
    a->x0 = args[1];
    a->args = args[2];
    a->dfun = args[3] == Py_None ? NULL : args[3];
    a->epsfcn_object = args[10];
    a->diag_object = args[12];
    if (!PyCallable_Check(a->func) && as_compiled(a->func) == NULL) {
        PyErr_Format(PyExc_TypeError, "leastsq: func must be callable or a CFunction, got %s",
                     Py_TYPE(a->func)->tp_name);
        return -1;
    }
    if (a->dfun != NULL && !PyCallable_Check(a->dfun) && as_compiled(a->dfun) == NULL) {
        PyErr_Format(PyExc_TypeError, "leastsq: Dfun must be callable, a CFunction or None, got %s",
                     Py_TYPE(a->dfun)->tp_name);
        return -1;
    }
    if (!PyTuple_Check(a->args)) {
        PyErr_SetString(PyExc_TypeError, "solve: args must be a tuple");
        return -1;
    }
    if (flag_argument(args[4], "full_output", &a->full_output) < 0
        || flag_argument(args[5], "col_deriv", &a->col_deriv) < 0
        || tolerance_argument(args[6], "ftol", &a->ftol) < 0
        || tolerance_argument(args[7], "xtol", &a->xtol) < 0
        || tolerance_argument(args[8], "gtol", &a->gtol) < 0
        || integer_argument(args[9], "maxfev", &a->maxfev) < 0
        || real_argument(args[11], "factor", &a->factor) < 0)
        return -1;
    a->qr = (int)PyLong_AsLong(args[13]);
    a->threads = (int)PyLong_AsLong(args[14]);
    if (PyErr_Occurred() || parse_extras(a, args[15]) < 0)
        return -1;
    if (!(a->factor > 0))
        return improper("factor", "positive", args[11]);
    if (a->epsfcn_object != Py_None) {
        if (real_argument(a->epsfcn_object, "epsfcn", &a->epsfcn) < 0)
            return -1;
        if (a->epsfcn != a->epsfcn)
            return improper("epsfcn", "a number or None", a->epsfcn_object);
    }
    return 0;
}

/* A new 1-D float64 array with x0's values. */
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

/* Is there anything to fit?  1, or 0 with an error set. */
int
arguments_has_parameters(PyArrayObject *x)
{
    if (PyArray_SIZE(x) > 0)
        return 1;
    PyErr_SetString(PyExc_TypeError,
                    "Improper input parameters. x0 must have at least one element, got none");
    return 0;
}

/* n positive scale factors, a copy, for func may change the original; NULL with
   an error set if they are not that. */
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

/* n bounds, as Python made them. */
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
