/* leastsq.RowAccumulator: its pickle, which holds the triangle. */
#include "accumulator.h"

#include <math.h>

const char accumulator_reduce_doc[] =
    "__reduce__($self, /)\n--\n\nFor pickle and copy: the triangle, after folding the waiting rows.";
const char accumulator_setstate_doc[] =
    "__setstate__($self, state, /)\n--\n\n"
    "Replace all rows by those of a state.  ValueError if it is damaged, or of another n.";

/* The header before the rows of the triangle, each of which is stored from its diagonal on. */
typedef struct {
    int64_t n, rows, found, row, column;
    double value;
} pickled;

static size_t
pickled_size(int64_t n)
{
    return sizeof(pickled) + (size_t)(n + 1) * (size_t)(n + 2) / 2 * sizeof(double);
}

PyObject *
accumulator_reduce(PyObject *self, PyObject *ignored)
{
    accumulator *a = (accumulator *)self;
    folded_rows *c = &a->content;
    int64_t n = c->n, ldt, place = a->k->triangle(n, &ldt);
    PyThreadState *released;
    pickled p;
    void *payload;
    char *next;
    PyObject *bytes = pickled_new(pickled_size(n), &payload);

    (void)ignored;
    if (bytes == NULL)
        return NULL;
    next = (char *)payload + sizeof p;
    if (lock_take(self, &a->lock, 1, &released) < 0) {
        Py_DECREF(bytes);
        return NULL;
    }
    a->k->fold(n, c->work);
    p = (pickled){n, c->rows, c->fault.found, c->fault.row, c->fault.column, c->fault.value};
    memcpy(payload, &p, sizeof p);
    for (int64_t j = 0; j <= n; j++) {
        size_t size = (size_t)(n + 1 - j) * sizeof(double);
        memcpy(next, c->work + place + j * ldt + j, size);
        next += size;
    }
    pickled_seal(bytes, PICKLED_ACCUMULATOR);
    lock_give(&a->lock, released);
    return pickled_reduce(self, Py_BuildValue("OL", Py_TYPE(self), (long long)n), bytes);
}

static int
sound(const pickled *p)
{
    if (p->rows < 0 || (p->found != 0 && p->found != 1))
        return 0;
    return !p->found || (p->row >= 0 && p->row < p->rows && p->column >= 0 && p->column <= p->n
                         && !isfinite(p->value));
}

PyObject *
accumulator_setstate(PyObject *self, PyObject *state)
{
    accumulator *a = (accumulator *)self;
    folded_rows *c = &a->content;
    int64_t n = c->n, ldt, place = a->k->triangle(n, &ldt);
    PyThreadState *released;
    pickled p;
    size_t size;
    const char *next = pickled_open(state, PICKLED_ACCUMULATOR, "RowAccumulator", &size);

    if (next == NULL)
        return NULL;
    if (size >= sizeof p)
        memcpy(&p, next, sizeof p);
    if (size < sizeof p || p.n != n || size != pickled_size(n) || !sound(&p)) {
        PyErr_Format(PyExc_ValueError, "leastsq: the state of this RowAccumulator is not one of "
                     "n = %lld", (long long)n);
        return NULL;
    }
    next += sizeof p;
    if (lock_take(self, &a->lock, 1, &released) < 0)
        return NULL;
    a->k->empty(n, c->work);
    for (int64_t j = 0; j <= n; j++) {
        size = (size_t)(n + 1 - j) * sizeof(double);
        memcpy(c->work + place + j * ldt + j, next, size);
        next += size;
    }
    c->rows = p.rows;
    c->fault = (not_finite){(int)p.found, (npy_intp)p.row, (npy_intp)p.column, p.value};
    lock_give(&a->lock, released);
    return pickled_attributes(self, state);
}
