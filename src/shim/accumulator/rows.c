/* leastsq.RowAccumulator: pushing, merging and copying rows. */
#include "accumulator.h"

#include <math.h>

const char accumulator_push_doc[] =
    "push($self, /, J, f)\n--\n\n"
    "Fold rows in.\n\n"
    "Parameters\n----------\n"
    "J : array_like, shape (k, n)\n"
    "    Rows of the Jacobian: real numbers that fit in float64.  float64 and float32 are\n"
    "    read in place, in any order and with any strides.\n"
    "f : array_like, shape (k,)\n"
    "    Their residuals.\n\n"
    "Raises\n------\n"
    "TypeError, ValueError\n"
    "    `J` or `f` has the wrong type or shape; nothing is folded in.";
const char accumulator_merge_doc[] =
    "merge($self, other, /)\n--\n\n"
    "Fold in all rows of another `RowAccumulator` of the same n, after those of this one.\n\n"
    "`other` does not change.  Raises TypeError if `other` is something else, and ValueError if it is\n"
    "this one or has another n.";

/* With at least this much work, in multiplications, the GIL is released. */
static const double RELEASE_GIL_WORK = 1 << 13;

/* Does folding this many rows of n columns take long enough to release the GIL? */
int
accumulator_is_much(int64_t rows, int64_t n)
{
    return ((double)rows + (double)n) * (double)n * (double)n > RELEASE_GIL_WORK;
}

/* Make a copy with all rows folded, which the caller owns; 0, or -1 with an error set. */
int
accumulator_snapshot(accumulator *a, folded_rows *copy)
{
    int64_t size = a->k->work_size(a->content.n);
    void *memory;
    double *work = aligned_room(size, &memory);
    PyThreadState *released;

    if (memory == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (lock_take((PyObject *)a, &a->lock, accumulator_is_much(LSQ_MOST_WAITING, a->content.n), &released) < 0) {
        PyMem_RawFree(memory);
        return -1;
    }
    *copy = a->content;
    memcpy(work, copy->work, (size_t)size * sizeof *work);
    lock_give(&a->lock, NULL);
    a->k->fold(copy->n, work);
    if (released != NULL)
        PyEval_RestoreThread(released);
    copy->work = work;
    copy->memory = memory;
    return 0;
}

/* `object`, borrowed, as an accumulator of the module to which `type` belongs; NULL with TypeError set if
   it is not one. */
static accumulator *
as_accumulator(PyObject *object, PyTypeObject *type)
{
    const module_state *state = state_of(type);

    if (state == NULL)
        return NULL;
    if (PyObject_TypeCheck(object, (PyTypeObject *)state->accumulator_type))
        return (accumulator *)object;
    PyErr_Format(PyExc_TypeError, "leastsq: other must be a RowAccumulator, got %s",
                 Py_TYPE(object)->tp_name);
    return NULL;
}

/* `object` as an array of float64, or of float32 if it is one, with any strides: of shape (rows, columns),
   or (rows,) if `columns` is 0.  -1 rows allow any number.  New reference. */
PyArrayObject *
read_rows(PyObject *object, const char *name, npy_intp rows, npy_intp columns, elements *where)
{
    PyArrayObject *array = as_real_array(object, name), *values = NULL;
    PyObject *shape;
    int type, matrix = columns > 0;

    if (array == NULL)
        return NULL;
    type = PyArray_TYPE(array) == NPY_FLOAT ? NPY_FLOAT : NPY_DOUBLE;
    if (PyArray_NDIM(array) == 1 + matrix && (rows < 0 || PyArray_DIM(array, 0) == rows)
        && (!matrix || PyArray_DIM(array, 1) == columns))
        values = (PyArrayObject *)PyArray_FROM_OTF((PyObject *)array, type,
                                                   NPY_ARRAY_ALIGNED | NPY_ARRAY_NOTSWAPPED);
    else if ((shape = PyArray_IntTupleFromIntp(PyArray_NDIM(array), PyArray_SHAPE(array))) != NULL) {
        if (matrix)
            PyErr_Format(PyExc_ValueError, "leastsq: %s must have shape (k, %zd), got %S", name,
                         (Py_ssize_t)columns, shape);
        else
            PyErr_Format(PyExc_ValueError, "leastsq: %s must have an entry for each row of J, "
                         "shape (%zd,), got %S", name, (Py_ssize_t)rows, shape);
        Py_DECREF(shape);
    }
    Py_DECREF(array);
    if (values != NULL)
        *where = (elements){PyArray_BYTES(values), PyArray_STRIDE(values, 0),
                            matrix ? PyArray_STRIDE(values, 1) : (npy_intp)sizeof(double),
                            type == NPY_FLOAT};
    return values;
}

/* 1 if all values are certainly finite; 0 if some may not be. */
static int
surely_finite(const kernels *k, const elements *e, int64_t first, int64_t rows, int64_t columns)
{
    const char *data = e->data + first * e->row_stride;
    int64_t size = sizeof(double);

    if (e->single)
        return 0;
    if (e->column_stride == size && e->row_stride == columns * size)
        return isfinite(k->norm(rows * columns, (const double *)data));
    if (e->row_stride != size)
        return 0;
    for (int64_t j = 0; j < columns; j++)
        if (!isfinite(k->norm(rows, (const double *)(data + j * e->column_stride))))
            return 0;
    return 1;
}

/* The first row from `first` on that is not finite, if there is one. */
static void
find_row(const kernels *k, const elements *jac, const elements *f, int64_t n, int64_t first,
         int64_t rows, not_finite *fault)
{
    if (surely_finite(k, jac, first, rows, n) && surely_finite(k, f, first, rows, 1))
        return;
    for (int64_t i = first; i < first + rows && !fault->found; i++) {
        for (int64_t j = 0; j <= n; j++) {
            const elements *e = j < n ? jac : f;
            const char *at = e->data + i * e->row_stride + (j < n ? j * e->column_stride : 0);
            double value = e->single ? (double)*(const float *)at : *(const double *)at;
            if (!isfinite(value)) {
                *fault = (not_finite){1, (npy_intp)i, (npy_intp)j, value};
                break;
            }
        }
    }
}

/* After folding, values that are not finite show on the diagonal. */
int
accumulator_finite(const kernels *k, int64_t n, const double *work)
{
    int64_t ldt, place = k->triangle(n, &ldt);

    for (int64_t j = 0; j <= n; j++)
        if (!isfinite(work[place + j * (ldt + 1)]))
            return 0;
    return 1;
}

/* Push rows, and find values that are not finite: check the last rows, which may still wait, and all rows
   if the triangle is no longer finite. */
static void
push_rows(const kernels *k, folded_rows *c, const elements *jac, const elements *f, int64_t rows)
{
    not_finite fault = {0};
    int64_t last = rows < LSQ_MOST_WAITING ? rows : LSQ_MOST_WAITING;

    k->push(c->n, rows, jac->data, jac->single ? LSQ_FLOAT32 : LSQ_FLOAT64, jac->row_stride,
            jac->column_stride, f->data, f->single ? LSQ_FLOAT32 : LSQ_FLOAT64, f->row_stride,
            c->work, NULL);
    if (!c->fault.found) {
        if (last < rows && !accumulator_finite(k, c->n, c->work))
            find_row(k, jac, f, c->n, 0, rows - last, &fault);
        if (!fault.found)
            find_row(k, jac, f, c->n, rows - last, last, &fault);
        if (fault.found) {
            c->fault = fault;
            c->fault.row += c->rows;
        }
    }
    c->rows += rows;
}

PyObject *
accumulator_push(PyObject *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"J", "f", NULL};
    accumulator *a = (accumulator *)self;
    PyObject *jac_object, *f_object;
    PyArrayObject *jac, *f;
    elements where_jac, where_f;
    PyThreadState *released;
    npy_intp rows;
    int status;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "OO:push", names, &jac_object, &f_object))
        return NULL;
    jac = read_rows(jac_object, "J", -1, a->content.n, &where_jac);
    if (jac == NULL)
        return NULL;
    rows = PyArray_DIM(jac, 0);
    f = read_rows(f_object, "f", rows, 0, &where_f);
    if (f == NULL) {
        Py_DECREF(jac);
        return NULL;
    }
    status = rows == 0 ? 0 : lock_take(self, &a->lock, accumulator_is_much(rows, a->content.n), &released);
    if (rows > 0 && status == 0) {
        push_rows(a->k, &a->content, &where_jac, &where_f, rows);
        lock_give(&a->lock, released);
    }
    Py_DECREF(jac);
    Py_DECREF(f);
    return status < 0 ? NULL : Py_NewRef(Py_None);
}

PyObject *
accumulator_merge(PyObject *self, PyObject *object)
{
    accumulator *a = (accumulator *)self;
    accumulator *other = as_accumulator(object, Py_TYPE(self));
    folded_rows *c = &a->content, copy;
    PyThreadState *released;

    if (other == NULL)
        return NULL;
    if (other == a) {
        PyErr_SetString(PyExc_ValueError, "leastsq: other must be another RowAccumulator, got "
                        "the same one");
        return NULL;
    }
    if (other->content.n != c->n) {
        PyErr_Format(PyExc_ValueError, "leastsq: other must have n = %lld, got n = %lld",
                     (long long)c->n, (long long)other->content.n);
        return NULL;
    }
    if (accumulator_snapshot(other, &copy) < 0)     /* so that no thread holds two locks */
        return NULL;
    if (lock_take(self, &a->lock, accumulator_is_much(c->n, c->n), &released) < 0) {
        PyMem_RawFree(copy.memory);
        return NULL;
    }
    a->k->merge(c->n, c->work, copy.work);
    if (!c->fault.found && copy.fault.found) {
        c->fault = copy.fault;
        c->fault.row += c->rows;
    }
    c->rows += copy.rows;
    lock_give(&a->lock, released);
    PyMem_RawFree(copy.memory);
    Py_RETURN_NONE;
}
