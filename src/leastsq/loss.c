/* Robust losses.

   SciPy's definition: the cost is half the sum of C^2 rho((f/C)^2), with C the
   scale.  That is a least-squares problem in g(f) = sign(f) C sqrt(rho((f/C)^2)),
   whose Jacobian is J with its rows times g'(f): so the solver stays as it is,
   and what it fits is g.  */
#include "shim.h"

#include <math.h>

/* Each gives sqrt(rho(a^2)) and its derivative in a >= 0.  Below 1 through
   rho(a^2)/a^2, which loses no digits; above, with no square that overflows. */

static double
soft_l1(double a, double *slope)
{
    double s = hypot(1, a), q = sqrt(2 / (s + 1));

    *slope = 1 / (s * q);
    return a * q;
}

static double
huber(double a, double *slope)
{
    double root;

    if (a <= 1) {
        *slope = 1;
        return a;
    }
    root = sqrt(2 * a - 1);
    *slope = 1 / root;
    return root;
}

static double
cauchy(double a, double *slope)
{
    double root;

    if (a < 1) {
        double z = a * a, q = z > 0 ? sqrt(log1p(z) / z) : 1;
        *slope = 1 / ((1 + z) * q);
        return a * q;
    }
    root = sqrt(2 * log(a) + log1p(1 / a / a));
    *slope = 1 / (a + 1 / a) / root;
    return root;
}

static double
arctan_loss(double a, double *slope)
{
    double z = a * a, root;

    if (a < 1) {
        double q = z > 0 ? sqrt(atan(z) / z) : 1;
        *slope = 1 / ((1 + z * z) * q);
        return a * q;
    }
    root = sqrt(atan(z));
    *slope = a / (1 + z * z) / root;
    if (!(z < HUGE_VAL))
        *slope = 0;
    return root;
}

/* `which`: NULL, a number in this order, or a callable. */
int
loss_choose(robust_loss *loss, PyObject *which, double scale)
{
    static double (*const known[])(double, double *) = {soft_l1, huber, cauchy, arctan_loss};
    long number;

    loss->scale = scale;
    if (which == NULL)
        return 0;
    if (PyCallable_Check(which)) {
        loss->callable = which;
        return 0;
    }
    number = PyLong_AsLong(which);
    if (PyErr_Occurred())
        return -1;
    if (number < 0 || number >= (long)(sizeof known / sizeof known[0])) {
        PyErr_Format(PyExc_ValueError, "solve: no loss has the number %ld", number);
        return -1;
    }
    loss->rho = known[number];
    return 0;
}

/* rho and rho' of a callable at z = (f/C)^2: a new float64 array of at least two
   rows of m. */
static PyArrayObject *
call_loss(PyObject *callable, int64_t m, const double *f, double scale)
{
    npy_intp dims[1] = {m};
    PyArrayObject *z = (PyArrayObject *)PyArray_SimpleNew(1, dims, NPY_DOUBLE), *rho;
    PyObject *result;
    double *values;

    if (z == NULL)
        return NULL;
    values = PyArray_DATA(z);
    for (int64_t i = 0; i < m; i++)
        values[i] = (f[i] / scale) * (f[i] / scale);
    result = PyObject_CallOneArg(callable, (PyObject *)z);
    Py_DECREF(z);
    if (result == NULL)
        return NULL;
    rho = as_real_array(result, "the array that loss returns");
    Py_DECREF(result);
    if (rho == NULL)
        return NULL;
    if (PyArray_NDIM(rho) != 2 || PyArray_DIM(rho, 0) != 3 || PyArray_DIM(rho, 1) != m) {
        PyObject *shape = PyArray_IntTupleFromIntp(PyArray_NDIM(rho), PyArray_SHAPE(rho));
        if (shape != NULL)
            PyErr_Format(PyExc_ValueError, "leastsq: the array that loss returns must have shape "
                         "(3, %lld), got %S", (long long)m, shape);
        Py_XDECREF(shape);
        Py_DECREF(rho);
        return NULL;
    }
    result = PyArray_FROM_OTF((PyObject *)rho, NPY_DOUBLE, NPY_ARRAY_CARRAY_RO);
    Py_DECREF(rho);
    return (PyArrayObject *)result;
}

void
loss_weigh_values(int64_t m, const double *f, double scale, const double *value,
                  const double *slope, double *weighed)
{
    for (int64_t i = 0; i < m; i++) {
        double z = (f[i] / scale) * (f[i] / scale);
        double q = sqrt(z > 0 ? value[i] / z : slope[i]);

        if (!isfinite(f[i])) {      /* not finite is not robust */
            weighed[i] = weighed[m + i] = f[i];
            continue;
        }
        weighed[i] = z < HUGE_VAL ? f[i] * q : copysign(scale * sqrt(value[i]), f[i]);
        /* never 0 for what the loss could not say: the fit would take J for 0 */
        weighed[m + i] = q == 0 ? 0 : isfinite(value[i]) ? slope[i] / q : value[i];
    }
}

void
loss_weigh_known(int64_t m, const double *f, const robust_loss *loss, double *weighed)
{
    double scale = loss->scale;

    for (int64_t i = 0; i < m; i++) {
        if (isfinite(f[i]))
            weighed[i] = copysign(scale * loss->rho(fabs(f[i]) / scale, &weighed[m + i]), f[i]);
        else
            weighed[i] = weighed[m + i] = f[i];     /* not finite is not robust */
    }
}

static int
weigh_by_callable(callbacks *cb, int64_t m, const double *f, double *weighed)
{
    double scale = cb->loss.scale;
    PyArrayObject *rho;
    const double *value;

    callbacks_take_gil(cb);
    rho = call_loss(cb->loss.callable, m, f, scale);
    if (rho != NULL) {
        value = PyArray_DATA(rho);
        loss_weigh_values(m, f, scale, value, value + m, weighed);
        Py_DECREF(rho);
    }
    callbacks_give_gil(cb);
    return rho == NULL ? -1 : 0;
}

/* lsq_weigh, with the callbacks as data. */
int
loss_weigh(int64_t m, const double *f, double *weighed, void *data)
{
    callbacks *cb = data;

    if (cb->loss.rho == NULL)
        return weigh_by_callable(cb, m, f, weighed);
    loss_weigh_known(m, f, &cb->loss, weighed);
    return 0;
}

const char loss_weigh_doc[] =
    "weigh(loss, scale, f, /)\n--\n\n"
    "Residuals g(f) whose squares are the loss, and g'(f): shape (2, m).";

PyObject *
loss_weigh_array(PyObject *Py_UNUSED(module), PyObject *args)
{
    callbacks cb = {0};
    PyObject *which, *object, *weighed = NULL;
    PyArrayObject *f;
    double scale;

    if (!PyArg_ParseTuple(args, "OdO:weigh", &which, &scale, &object)
        || loss_choose(&cb.loss, which, scale) < 0)
        return NULL;
    f = (PyArrayObject *)PyArray_FROMANY(object, NPY_DOUBLE, 1, 1, NPY_ARRAY_CARRAY_RO);
    if (f != NULL) {
        npy_intp dims[2] = {2, PyArray_DIM(f, 0)};
        weighed = PyArray_SimpleNew(2, dims, NPY_DOUBLE);
        if (weighed != NULL
            && loss_weigh(dims[1], PyArray_DATA(f), PyArray_DATA((PyArrayObject *)weighed), &cb) < 0)
            Py_CLEAR(weighed);
        Py_DECREF(f);
    }
    return weighed;
}
