/* Errors about the shapes of what the user's functions returned: SciPy's words, and
   where the mistake can be guessed a note beneath them. */
#include "shim.h"

/* Raise TypeError(message), which is given up, with a note if it is not NULL. */
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
                m > 1 ? NULL : "func returns the residuals one by one, not the sum of their squares");
}

void
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
