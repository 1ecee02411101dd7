/* A model with its data as a callable, which returns residuals, or weighted rows of derivatives: the
   arithmetic, the calls of the model, the type. */
#include "user.h"

#include <float.h>
#include <math.h>
#include <numpy/arrayscalars.h>
#include <structmember.h>

enum { INLINE_PARAMETERS = 14 };

/* Never changes after it is made. */
struct curve {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *f, *xdata;
    PyObject *ydata;            /* NULL if f returns derivatives */
    PyObject *weights;          /* a float or an array; NULL if there are none */
};

/* ------------------------------------------- arithmetic on the model's result

   A model usually returns a plain float64 array, for which one pass writes the residuals directly to
   the place where the solver needs them.  Everything else, and all values of which NumPy might warn,
   goes through Python's operators.  Both give the same bits. */

/* Is it a plain float64 array of this many dimensions, with any strides? */
static int
is_plain(PyObject *object, int dimensions)
{
    PyArrayObject *array = (PyArrayObject *)object;

    return PyArray_CheckExact(object) && PyArray_NDIM(array) == dimensions
        && PyArray_TYPE(array) == NPY_DOUBLE && PyArray_ISBEHAVED_RO(array);
}

/* One factor for each row, `step` elements apart from `data` on. */
typedef struct {
    double one;
    const double *data;
    npy_intp step;
} factors;

/* Are there no weights, one, or a vector of m? */
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
    if (!is_plain(c->weights, 1) || PyArray_DIM(array, 0) != m || !PyArray_IS_C_CONTIGUOUS(array))
        return 0;
    w->data = PyArray_DATA(array);
    w->step = 1;
    return 1;
}

/* Would NumPy give no warning for this product?  True if it is finite and lost no digits by underflow. */
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

/* m residuals in one pass; 0 if the arrays are not plain, or NumPy might warn. */
static int
subtract(const curve *c, PyObject *result, npy_intp m, double *out)
{
    enum { DENSE = sizeof(double) };
    PyArrayObject *returned = (PyArrayObject *)result, *data = (PyArrayObject *)c->ydata;
    npy_intp r_stride, y_stride;
    const char *r, *y;
    factors w;

    if (c->ydata == NULL || !is_plain(result, 1) || !is_plain(c->ydata, 1) || PyArray_DIM(returned, 0) != m
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

/* Rows of derivatives, multiplied by their weights; new reference. */
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

/* The model's result without masks and units; new reference. */
static PyObject *
numbers_of(const curve *c, PyObject *result)
{
    return plain_numbers(result, c->ydata == NULL ? "the array that jac returns" : "the array that f returns",
                         "curve_fit");
}

/* The same by Python's operators, for any objects. */
static PyObject *
by_operators(const curve *c, PyObject *result)
{
    PyObject *plain = numbers_of(c, result), *difference, *weighted;

    if (plain == NULL)
        return NULL;
    if (c->ydata == NULL) {
        weighted = c->weights == NULL ? Py_NewRef(plain) : weigh_rows(c->weights, plain);
        Py_DECREF(plain);
        return weighted;
    }
    difference = PyNumber_Subtract(plain, c->ydata);
    Py_DECREF(plain);
    if (difference == NULL || c->weights == NULL)
        return difference;
    weighted = PyNumber_Multiply(c->weights, difference);
    Py_DECREF(difference);
    return weighted;
}

static PyObject *
values(const curve *c, PyObject *result)
{
    if (c->ydata != NULL && is_plain(result, 1)) {
        npy_intp m = PyArray_DIM((PyArrayObject *)result, 0);
        PyObject *array = PyArray_SimpleNew(1, &m, NPY_DOUBLE);
        if (array == NULL || subtract(c, result, m, PyArray_DATA((PyArrayObject *)array)))
            return array;
        Py_DECREF(array);
    }
    return by_operators(c, result);
}

static int
read_curve_residual(const curve *c, callbacks *cb, PyObject *result, double *fvec)
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

static int
read_curve_jacobian(const curve *c, callbacks *cb, PyObject *result, double *fjac)
{
    PyArrayObject *rows = (PyArrayObject *)result;
    npy_intp m = cb->m, n = cb->n;
    int64_t all = 1;
    PyObject *values;
    int status;
    factors w;

    if (c->weights != NULL && !cb->col_deriv && is_plain(result, 2) && PyArray_DIM(rows, 0) == m && PyArray_DIM(rows, 1) == n
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
    if ((values = by_operators(c, result)) == NULL)
        return -1;
    status = read_jacobian(cb, values, fjac);
    Py_DECREF(values);
    return status;
}

/* ------------------------------------------------------- calls of the model */

/* f(xdata, *parameters).  The parameters are in `vector` from its third element on, and are released. */
static PyObject *
call_model(const curve *c, PyObject **vector, npy_intp n)
{
    PyObject *result;

    vector[1] = c->xdata;
    result = PyObject_Vectorcall(c->f, vector + 1, (size_t)(n + 1) | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    for (npy_intp k = 0; k < n; k++)
        Py_DECREF(vector[k + 2]);
    return result;
}

/* f at n numbers, `stride` bytes apart; each is passed as a new np.float64, like an element of an array. */
static PyObject *
model_at(const curve *c, npy_intp n, const char *x, npy_intp stride)
{
    PyObject *room[INLINE_PARAMETERS + 2], **vector = room, *result = NULL;
    npy_intp made = 0;

    if (n > INLINE_PARAMETERS && (vector = PyMem_Malloc((size_t)(n + 2) * sizeof *vector)) == NULL)
        return PyErr_NoMemory();
    for (; made < n; made++) {
        PyObject *number = PyArrayScalar_New(Double);
        if (number == NULL)
            break;
        PyArrayScalar_ASSIGN(number, Double, *(const double *)(x + made * stride));
        vector[made + 2] = number;
    }
    if (made == n)
        result = call_model(c, vector, n);
    else
        while (made > 0)
            Py_DECREF(vector[--made + 2]);
    if (vector != room)
        PyMem_Free(vector);
    return result;
}

/* f(xdata, *params) */
static PyObject *
model_of(const curve *c, PyObject *params)
{
    PyArrayObject *x = (PyArrayObject *)params;
    PyObject *items, **vector, *result = NULL;
    npy_intp n;

    if (is_plain(params, 1))
        return model_at(c, PyArray_DIM(x, 0), PyArray_BYTES(x), PyArray_STRIDE(x, 0));
    if ((items = PySequence_Tuple(params)) == NULL)
        return NULL;
    n = PyTuple_GET_SIZE(items);
    vector = PyMem_Malloc((size_t)(n + 2) * sizeof *vector);
    if (vector == NULL)
        PyErr_NoMemory();
    else {
        for (npy_intp k = 0; k < n; k++)
            vector[k + 2] = Py_NewRef(PyTuple_GET_ITEM(items, k));
        result = call_model(c, vector, n);
    }
    PyMem_Free(vector);
    Py_DECREF(items);
    return result;
}

static PyObject *
curve_call(PyObject *self, PyObject *const *args, size_t flagged, PyObject *keywords)
{
    const curve *c = (const curve *)self;
    PyObject *result, *less_data;

    if (PyVectorcall_NARGS(flagged) != 1 || (keywords != NULL && PyTuple_GET_SIZE(keywords) > 0)) {
        PyErr_SetString(PyExc_TypeError, "a Curve takes one argument, the parameters");
        return NULL;
    }
    result = model_of(c, args[0]);
    if (result == NULL)
        return NULL;
    less_data = values(c, result);
    Py_DECREF(result);
    return less_data;
}

/* Borrowed; NULL if `object` is not a Curve. */
const curve *
as_curve(PyObject *object)
{
    return PyVectorcall_Function(object) == curve_call ? (const curve *)object : NULL;
}

/* For the solver: makes no array for x, and none for the residuals. */
static PyObject *
for_solver(const curve *c, const callbacks *cb, const double *x)
{
    if (PyErr_CheckSignals() < 0)       /* the model may be pure C */
        return NULL;
    return model_at(c, cb->n, (const char *)x, sizeof *x);
}

int
curve_residual(const curve *c, callbacks *cb, const double *x, double *fvec)
{
    PyObject *result = for_solver(c, cb, x);
    int status = result == NULL ? -1 : read_curve_residual(c, cb, result, fvec);

    Py_XDECREF(result);
    return status;
}

int
curve_jacobian(const curve *c, callbacks *cb, const double *x, double *fjac)
{
    PyObject *result = for_solver(c, cb, x);
    int status = result == NULL ? -1 : read_curve_jacobian(c, cb, result, fjac);

    Py_XDECREF(result);
    return status;
}

/* ---------------------------------------------------------------------- the type */

static PyObject *
unless_none(PyObject *object)
{
    return object == Py_None ? NULL : Py_NewRef(object);
}

static PyObject *
new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    curve *c;

    if (PyTuple_GET_SIZE(args) != 4 || (keywords != NULL && PyDict_GET_SIZE(keywords) > 0)) {
        PyErr_SetString(PyExc_TypeError, "Curve takes 4 positional arguments");
        return NULL;
    }
    c = (curve *)type->tp_alloc(type, 0);
    if (c == NULL)
        return NULL;
    c->vectorcall = curve_call;
    c->f = Py_NewRef(PyTuple_GET_ITEM(args, 0));
    c->xdata = Py_NewRef(PyTuple_GET_ITEM(args, 1));
    c->ydata = unless_none(PyTuple_GET_ITEM(args, 2));
    c->weights = unless_none(PyTuple_GET_ITEM(args, 3));
    return (PyObject *)c;
}

/* No tp_clear, like tuples: a Curve never changes, so a cycle always contains another object that can
   be cleared. */
static int
traverse(PyObject *self, visitproc visit, void *arg)
{
    const curve *c = (const curve *)self;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(c->f);
    Py_VISIT(c->xdata);
    Py_VISIT(c->ydata);
    Py_VISIT(c->weights);
    return 0;
}

static void
dealloc(PyObject *self)
{
    curve *c = (curve *)self;
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    Py_XDECREF(c->f);
    Py_XDECREF(c->xdata);
    Py_XDECREF(c->ydata);
    Py_XDECREF(c->weights);
    type->tp_free(self);
    Py_DECREF(type);
}

/* The user's function, for errors about its result. */
static PyObject *
name(PyObject *self, void *closure)
{
    const curve *c = (const curve *)self;
    PyObject *own = PyObject_GetAttrString(c->f, "__name__");

    (void)closure;
    if (own != NULL || !PyErr_ExceptionMatches(PyExc_AttributeError))
        return own;
    PyErr_Clear();
    return PyUnicode_FromString(c->ydata == NULL ? "jac" : "f");
}

static PyObject *
reduce(PyObject *self, PyObject *ignored)
{
    const curve *c = (const curve *)self;

    (void)ignored;
    return Py_BuildValue("O(OOOO)", Py_TYPE(self), c->f, c->xdata, c->ydata == NULL ? Py_None : c->ydata,
                         c->weights == NULL ? Py_None : c->weights);
}

static PyMethodDef methods[] = {
    {"__reduce__", reduce, METH_NOARGS, "Pickle, for workers in other processes."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef attributes[] = {
    {"__name__", name, NULL, "The model's name.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(curve, vectorcall), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Curve(f, xdata, ydata, weights, /)\n--\n\n"
                "A function of params: the residuals weights*(f(xdata, *params) - ydata).  Without\n"
                "`ydata`, the rows of derivatives, each times its weight if there are `weights`."},
    {Py_tp_new, new},
    {Py_tp_dealloc, dealloc},
    {Py_tp_traverse, traverse},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_methods, methods},
    {Py_tp_getset, attributes},
    {Py_tp_members, members},
    {0, NULL},
};

PyType_Spec curve_spec = {
    .name = "leastsq._core.Curve",
    .basicsize = sizeof(curve),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};
