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

extern PyType_Spec curve_spec;

#endif
