/* What curve_fit makes of a model and data, a callable of one point: residuals
   weights*(f(xdata, *params) - ydata), or the rows of derivatives weights*f(xdata, *params). */
#ifndef LEASTSQ_CURVE_H
#define LEASTSQ_CURVE_H

#include "shim.h"

/* Nothing changes once it is made. */
struct curve {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *f, *xdata;
    PyObject *ydata;            /* NULL: f returns derivatives */
    PyObject *weights;          /* a float, or an array; NULL: none */
};

/* curve.c */
extern PyType_Spec curve_spec;

/* curve_values.c: what f returned, less the data, weighted: as a new object, or where the
   solver wants it */
int curve_is_plain(PyObject *object, int dimensions);
PyObject *curve_values(const curve *c, PyObject *result);
int curve_read_residual(const curve *c, callbacks *cb, PyObject *result, double *fvec);
int curve_read_jacobian(const curve *c, callbacks *cb, PyObject *result, double *fjac);

#endif
