/* chkder.f90's two modes, for Python. */
#include "fit.h"

const char chkder_doc[] =
    "chkder(x) or chkder(x, fvec, fjac, fvecp)\n--\n\n"
    "The point beside x where MINPACK's chkder wants f; or, with f there as fvecp, its\n"
    "measure of each row of fjac, shape (m, n).";

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
