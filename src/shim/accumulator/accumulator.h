/* leastsq.RowAccumulator: the interface for other C files. */
#ifndef LEASTSQ_ACCUMULATOR_H
#define LEASTSQ_ACCUMULATOR_H

#include "module.h"
#include "object.h"
#include "user/user.h"

/* The rows of [J f] that were pushed, as a triangle. */
typedef struct {
    int64_t n, rows;
    not_finite fault;           /* in the first row that is not finite; column n is f */
    double *work;               /* an accumulator of kernels.h, aligned to a cache line */
    void *memory;               /* the allocated block that contains it */
} folded_rows;

typedef struct {
    PyObject_HEAD
    const kernels *k;
    object_lock lock;           /* held by the thread that reads or changes the rows */
    folded_rows content;
} accumulator;

/* type.c */
extern PyType_Spec accumulator_spec;

/* rows.c */
int accumulator_is_much(int64_t rows, int64_t n);
int accumulator_snapshot(accumulator *a, folded_rows *copy);
PyArrayObject *read_rows(PyObject *object, const char *name, npy_intp rows, npy_intp columns,
                         elements *where);
PyObject *accumulator_push(PyObject *self, PyObject *args, PyObject *keywords);
PyObject *accumulator_merge(PyObject *self, PyObject *object);
int accumulator_finite(const kernels *k, int64_t n, const double *work);
extern const char accumulator_push_doc[], accumulator_merge_doc[];

/* attributes.c */
PyObject *accumulator_triangle(PyObject *self, PyObject *ignored);
PyObject *accumulator_repr(PyObject *self);
extern PyGetSetDef accumulator_attributes[];
extern const char accumulator_triangle_doc[];

/* pickle.c */
PyObject *accumulator_reduce(PyObject *self, PyObject *ignored);
PyObject *accumulator_setstate(PyObject *self, PyObject *state);
extern const char accumulator_reduce_doc[], accumulator_setstate_doc[];

#endif
