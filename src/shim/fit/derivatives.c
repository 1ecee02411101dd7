/* The parts of the core's derivatives that Python uses: chkder's two modes, and the steps of differences. */
#include "fit.h"

const char chkder_doc[] =
    "chkder(x) or chkder(x, fvec, fjac, fvecp)\n--\n\n"
    "The point near x at which MINPACK's chkder wants f; or, given f at that point as fvecp,\n"
    "chkder's measure of each row of fjac, shape (m, n).";

const char difference_steps_doc[] =
    "difference_steps(x, relative, largest, low, high, /)\n--\n\n"
    "The moved coordinates of x for differences, and the steps, by the rule of fdjac2.f90.\n"
    "x is one point, shape (n,), or k points, shape (k, n); relative is a number or has shape\n"
    "(n,); the others have shape (n,) or that of x, or are None.";

static PyArrayObject *
doubles(PyObject *object, int dimensions)
{
    return (PyArrayObject *)PyArray_FROMANY(object, NPY_DOUBLE, dimensions, dimensions,
                                            NPY_ARRAY_IN_FARRAY);
}

static PyObject *
beside(PyArrayObject *x)
{
    npy_intp n = PyArray_DIM(x, 0);
    PyObject *xp = PyArray_SimpleNew(1, &n, NPY_DOUBLE);

    if (xp != NULL)
        lsq_chkder(1, n, PyArray_DATA(x), NULL, NULL, 1, PyArray_DATA((PyArrayObject *)xp), NULL,
                   1, NULL);
    return xp;
}

static PyObject *
measures(PyArrayObject *x, PyArrayObject *f, PyArrayObject *jac, PyArrayObject *fp)
{
    npy_intp n = PyArray_DIM(x, 0), m = PyArray_DIM(f, 0);
    PyObject *err;

    if (PyArray_DIM(fp, 0) != m || PyArray_DIM(jac, 0) != m || PyArray_DIM(jac, 1) != n) {
        PyErr_SetString(PyExc_ValueError, "chkder: shapes must be (n,), (m,), (m, n) and (m,)");
        return NULL;
    }
    err = PyArray_SimpleNew(1, &m, NPY_DOUBLE);
    if (err != NULL)
        lsq_chkder(m, n, PyArray_DATA(x), PyArray_DATA(f), PyArray_DATA(jac), m, NULL,
                   PyArray_DATA(fp), 2, PyArray_DATA((PyArrayObject *)err));
    return err;
}

PyObject *
chkder(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    PyArrayObject *arrays[4] = {NULL, NULL, NULL, NULL};
    PyObject *answer = NULL;
    Py_ssize_t k;

    (void)module;
    if (nargs != 1 && nargs != 4) {
        PyErr_Format(PyExc_TypeError, "chkder takes 1 or 4 arguments, got %zd", nargs);
        return NULL;
    }
    for (k = 0; k < nargs; k++) {
        arrays[k] = doubles(args[k], k == 2 ? 2 : 1);
        if (arrays[k] == NULL)
            goto done;
    }
    answer = nargs == 1 ? beside(arrays[0])
                        : measures(arrays[0], arrays[1], arrays[2], arrays[3]);
done:
    for (k = 0; k < nargs; k++)
        Py_XDECREF(arrays[k]);
    return answer;
}

/* An array of shape (n,), or of x's shape if that is a matrix; *stride is the step from one row to the
   next.  NULL with an error set if it has neither shape. */
static PyArrayObject *
rows_like(PyObject *object, PyArrayObject *x, npy_intp *stride)
{
    npy_intp n = PyArray_DIM(x, PyArray_NDIM(x) - 1);
    PyArrayObject *array = (PyArrayObject *)PyArray_FROMANY(object, NPY_DOUBLE, 1, PyArray_NDIM(x),
                                                            NPY_ARRAY_CARRAY_RO);

    if (array == NULL)
        return NULL;
    *stride = PyArray_NDIM(array) == 2 ? n : 0;
    if (PyArray_DIM(array, PyArray_NDIM(array) - 1) == n
        && (PyArray_NDIM(array) == 1 || PyArray_DIM(array, 0) == PyArray_DIM(x, 0)))
        return array;
    PyErr_SetString(PyExc_ValueError, "difference_steps: largest, low and high must have x's shape or (n,)");
    Py_DECREF(array);
    return NULL;
}

static PyObject *
steps_of_rows(PyArrayObject *x, PyArrayObject *relative, PyArrayObject *const *limits,
              const npy_intp *strides)
{
    int ndim = PyArray_NDIM(x);
    npy_intp n = PyArray_DIM(x, ndim - 1), count = ndim == 2 ? PyArray_DIM(x, 0) : 1;
    PyObject *moved = PyArray_SimpleNew(ndim, PyArray_DIMS(x), NPY_DOUBLE);
    PyObject *steps = PyArray_SimpleNew(ndim, PyArray_DIMS(x), NPY_DOUBLE);
    const double *row[3] = {NULL, NULL, NULL};

    if (moved == NULL || steps == NULL) {
        Py_XDECREF(moved);
        Py_XDECREF(steps);
        return NULL;
    }
    for (npy_intp k = 0; k < count; k++) {
        for (int q = 0; q < 3; q++)
            if (limits[q] != NULL)
                row[q] = (const double *)PyArray_DATA(limits[q]) + k * strides[q];
        /* (the stride of relative steps is 1 for a vector, 0 for a number) */
        lsq_difference_steps(n, (const double *)PyArray_DATA(x) + k * n, PyArray_DATA(relative),
                             PyArray_NDIM(relative), (double *)PyArray_DATA((PyArrayObject *)moved) + k * n,
                             (double *)PyArray_DATA((PyArrayObject *)steps) + k * n, row[1], row[2],
                             row[0]);
    }
    return Py_BuildValue("NN", moved, steps);
}

PyObject *
difference_steps(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    PyArrayObject *x = NULL, *relative = NULL, *limits[3] = {NULL, NULL, NULL};
    npy_intp strides[3] = {0, 0, 0};
    PyObject *answer = NULL;

    (void)module;
    if (nargs != 5) {
        PyErr_Format(PyExc_TypeError, "difference_steps takes 5 arguments, got %zd", nargs);
        return NULL;
    }
    x = (PyArrayObject *)PyArray_FROMANY(args[0], NPY_DOUBLE, 1, 2, NPY_ARRAY_CARRAY_RO);
    if (x == NULL)
        goto done;
    relative = (PyArrayObject *)PyArray_FROMANY(args[1], NPY_DOUBLE, 0, 1, NPY_ARRAY_CARRAY_RO);
    if (relative == NULL)
        goto done;
    if ((PyArray_NDIM(relative) == 1 && PyArray_DIM(relative, 0) != PyArray_DIM(x, PyArray_NDIM(x) - 1))
        || (args[3] == Py_None) != (args[4] == Py_None)) {
        PyErr_SetString(PyExc_ValueError, "difference_steps: relative must be a number or have shape (n,), "
                        "and low and high come together");
        goto done;
    }
    for (int q = 0; q < 3; q++)
        if (args[q + 2] != Py_None && (limits[q] = rows_like(args[q + 2], x, &strides[q])) == NULL)
            goto done;
    answer = steps_of_rows(x, relative, limits, strides);
done:
    Py_XDECREF(x);
    Py_XDECREF(relative);
    for (int q = 0; q < 3; q++)
        Py_XDECREF(limits[q]);
    return answer;
}
