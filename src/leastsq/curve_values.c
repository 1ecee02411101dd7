/* Residuals and weighted rows from what a model and its derivatives returned.

   A model commonly returns a plain float64 array, and what is made of that takes one pass
   here, straight to where the solver wants it.  All else, and every value that NumPy might
   warn of, goes the way that Python's operators go.  Both give the same bits. */
#include "curve.h"

#include <float.h>
#include <math.h>

/* Of float64 in memory, wherever the elements lie? */
int
curve_is_plain(PyObject *object, int dimensions)
{
    PyArrayObject *array = (PyArrayObject *)object;

    return PyArray_CheckExact(object) && PyArray_NDIM(array) == dimensions
        && PyArray_TYPE(array) == NPY_DOUBLE && PyArray_ISBEHAVED_RO(array);
}

/* One factor for each row: `data`, `step` elements apart. */
typedef struct {
    double one;
    const double *data;
    npy_intp step;
} factors;

/* Are the weights none, one, or m of them in a row? */
static int
plain_weights(const curve *c, npy_intp m, factors *w)
{
    PyArrayObject *array = (PyArrayObject *)c->weights;

    w->one = 1.0;               /* which changes no bit */
    w->data = &w->one;
    w->step = 0;
    if (c->weights == NULL)
        return 1;
    if (PyFloat_CheckExact(c->weights)) {
        w->one = PyFloat_AS_DOUBLE(c->weights);
        return 1;
    }
    if (!curve_is_plain(c->weights, 1) || PyArray_DIM(array, 0) != m || !PyArray_IS_C_CONTIGUOUS(array))
        return 0;
    w->data = PyArray_DATA(array);
    w->step = 1;
    return 1;
}

/* Is there nothing to warn of?  The product neither overflowed nor was infinite or nan from
   the first, and lost no digits close to zero. */
static inline int64_t
quiet(double product, double factor)
{
    return (fabs(product) <= DBL_MAX) & ((fabs(product) >= DBL_MIN) | (factor == 0));
}

static inline __attribute__((always_inline)) int
subtract_strided(npy_intp m, const char *r, npy_intp r_stride, const char *y, npy_intp y_stride,
                 const double *w, npy_intp step, double *out)
{
    int64_t all = 1;

    for (npy_intp i = 0; i < m; i++) {
        double difference = *(const double *)(r + i * r_stride) - *(const double *)(y + i * y_stride);
        double product = w[i * step] * difference;
        out[i] = product;
        all &= quiet(product, difference);
    }
    return (int)all;
}

/* m residuals in one pass; 0: the arrays are no plain ones, or there is something to warn of. */
static int
subtract(const curve *c, PyObject *result, npy_intp m, double *out)
{
    enum { DENSE = sizeof(double) };
    PyArrayObject *returned = (PyArrayObject *)result, *data = (PyArrayObject *)c->ydata;
    npy_intp r_stride, y_stride;
    const char *r, *y;
    factors w;

    if (c->ydata == NULL || !curve_is_plain(result, 1) || !curve_is_plain(c->ydata, 1) || PyArray_DIM(returned, 0) != m
        || PyArray_DIM(data, 0) != m || !plain_weights(c, m, &w))
        return 0;
    r = PyArray_BYTES(returned);
    y = PyArray_BYTES(data);
    r_stride = PyArray_STRIDE(returned, 0);
    y_stride = PyArray_STRIDE(data, 0);
    if (r_stride != DENSE || y_stride != DENSE)
        return subtract_strided(m, r, r_stride, y, y_stride, w.data, w.step, out);
    if (w.step == 0)
        return subtract_strided(m, r, DENSE, y, DENSE, w.data, 0, out);
    return subtract_strided(m, r, DENSE, y, DENSE, w.data, 1, out);
}

/* Rows of derivatives, each times its weight; new reference. */
static PyObject *
weigh_rows(PyObject *weights, PyObject *result)
{
    PyArrayObject *rows = (PyArrayObject *)PyArray_FROM_OF(result, NPY_ARRAY_ENSUREARRAY);
    PyObject *factor = NULL, *weighted = NULL;

    if (rows != NULL && PyArray_NDIM(rows) > 1) {
        PyArrayObject *array = (PyArrayObject *)PyArray_FROM_O(weights);
        npy_intp column[2] = {array == NULL ? 0 : PyArray_SIZE(array), 1};
        PyArray_Dims shape = {column, 2};
        factor = array == NULL ? NULL : PyArray_Newshape(array, &shape, NPY_CORDER);
        Py_XDECREF(array);
    }
    else if (rows != NULL)
        factor = Py_NewRef(weights);
    if (factor != NULL)
        weighted = PyNumber_Multiply(factor, (PyObject *)rows);
    Py_XDECREF(factor);
    Py_XDECREF(rows);
    return weighted;
}

/* As Python does it, with any objects. */
static PyObject *
by_operators(const curve *c, PyObject *result)
{
    PyObject *difference, *weighted;

    if (c->ydata == NULL)
        return c->weights == NULL ? Py_NewRef(result) : weigh_rows(c->weights, result);
    difference = PyNumber_Subtract(result, c->ydata);
    if (difference == NULL || c->weights == NULL)
        return difference;
    weighted = PyNumber_Multiply(c->weights, difference);
    Py_DECREF(difference);
    return weighted;
}

PyObject *
curve_values(const curve *c, PyObject *result)
{
    if (c->ydata != NULL && curve_is_plain(result, 1)) {
        npy_intp m = PyArray_DIM((PyArrayObject *)result, 0);
        PyObject *array = PyArray_SimpleNew(1, &m, NPY_DOUBLE);
        if (array == NULL || subtract(c, result, m, PyArray_DATA((PyArrayObject *)array)))
            return array;
        Py_DECREF(array);
    }
    return by_operators(c, result);
}

int
curve_read_residual(const curve *c, callbacks *cb, PyObject *result, double *fvec)
{
    PyObject *values;
    int status;

    if (subtract(c, result, cb->m, fvec))
        return 0;
    if ((values = by_operators(c, result)) == NULL)
        return -1;
    status = read_residual(cb, values, fvec);
    Py_DECREF(values);
    return status;
}

int
curve_read_jacobian(const curve *c, callbacks *cb, PyObject *result, double *fjac)
{
    PyArrayObject *rows = (PyArrayObject *)result;
    npy_intp m = cb->m, n = cb->n;
    int64_t all = 1;
    PyObject *values;
    int status;
    factors w;

    if (c->weights == NULL)
        return read_jacobian(cb, result, fjac);
    if (!cb->col_deriv && curve_is_plain(result, 2) && PyArray_DIM(rows, 0) == m && PyArray_DIM(rows, 1) == n
        && plain_weights(c, m, &w)) {
        if (read_jacobian(cb, result, fjac) < 0)
            return -1;
        for (npy_intp j = 0; j < n; j++) {
            for (npy_intp i = 0; i < m; i++) {
                double derivative = fjac[i + j * m];
                fjac[i + j * m] *= w.data[i * w.step];
                all &= quiet(fjac[i + j * m], derivative);
            }
        }
        if (all)
            return 0;
    }
    if ((values = weigh_rows(c->weights, result)) == NULL)
        return -1;
    status = read_jacobian(cb, values, fjac);
    Py_DECREF(values);
    return status;
}
