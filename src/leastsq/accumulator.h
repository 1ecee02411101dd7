/* leastsq.RowAccumulator, as the C files that use one see it. */
#ifndef LEASTSQ_ACCUMULATOR_H
#define LEASTSQ_ACCUMULATOR_H

#include "blocked.h"

/* The rows of [J f] that were pushed, as far as anybody needs them. */
typedef struct {
    int64_t n, rows;
    not_finite fault;           /* in the first row that is not finite; column n is f */
    double *work;               /* an accumulator of tsqr.h, on a cache line */
    void *memory;               /* that it lies in */
} folded_rows;

typedef struct {
    PyObject_HEAD
    const kernels *k;
    PyThread_type_lock lock;    /* held by whoever looks at the rows */
    folded_rows content;
} accumulator;

/* accumulator.c */
extern PyType_Spec accumulator_spec;
PyThreadState *accumulator_enter(accumulator *a, int release);
void accumulator_leave(accumulator *a, PyThreadState *released);
int accumulator_is_much(int64_t rows, int64_t n);
int accumulator_snapshot(accumulator *a, folded_rows *copy);
accumulator *as_accumulator(PyObject *object, PyTypeObject *type);
double *aligned_room(int64_t doubles, void **memory);

/* accumulator_rows.c */
PyObject *accumulator_push(PyObject *self, PyObject *args, PyObject *keywords);
PyObject *accumulator_merge(PyObject *self, PyObject *object);
int accumulator_finite(const kernels *k, int64_t n, const double *work);
extern const char accumulator_push_doc[], accumulator_merge_doc[];

/* accumulator_view.c */
PyObject *accumulator_triangle(PyObject *self, PyObject *ignored);
PyObject *accumulator_repr(PyObject *self);
extern PyGetSetDef accumulator_attributes[];
extern const char accumulator_triangle_doc[];

/* accumulator_state.c */
PyObject *accumulator_reduce(PyObject *self, PyObject *ignored);
PyObject *accumulator_setstate(PyObject *self, PyObject *state);
extern const char accumulator_reduce_doc[], accumulator_setstate_doc[];

/* pickled.c: numbers as bytes that say what they are of, and whether they are whole */
enum { PICKLED_ACCUMULATOR = 0x4171736c, PICKLED_MACHINE = 0x4d71736c };    /* "lsqA", "lsqM" */

PyObject *pickled_new(size_t size, void **payload);
void pickled_seal(PyObject *bytes, uint32_t kind);
const void *pickled_open(PyObject *state, uint32_t kind, const char *of, size_t *size);
PyObject *pickled_reduce(PyObject *self, PyObject *made_of, PyObject *bytes);
PyObject *pickled_attributes(PyObject *self, PyObject *state);

#endif
