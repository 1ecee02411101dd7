/* The arguments of a fit, as Python passes them to `solve`. */
#include "fit.h"

/* None, or (lo, hi, loss, f_scale, watcher, strategy), which Python has checked. */
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
    if (!PyArg_ParseTuple(extras, "OOOdOi", &a->lo, &a->hi, &a->loss, &a->loss_scale, &a->watcher, &a->strategy))
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
    a->has_precision = args[10] != Py_None;
    if (a->has_precision && real_argument(args[10], "epsfcn", &a->precision) < 0)
        return -1;
    if (a->precision != a->precision)
        return improper("epsfcn", "a number or None", args[10]);
    return 0;
}
