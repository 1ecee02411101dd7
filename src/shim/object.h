/* What the types of the extension share: memory, locks, pickles. */
#ifndef LEASTSQ_OBJECT_H
#define LEASTSQ_OBJECT_H

#include "python.h"

/* Columns whose n*n numbers take bytes that 64 bits count. */
enum { MOST_COLUMNS = 1 << 28 };

double *aligned_room(int64_t doubles, void **memory);
PyThreadState *lock_take(PyThread_type_lock lock, int release);
void lock_give(PyThread_type_lock lock, PyThreadState *released);

/* Numbers as bytes that say what they are of, and whether they are whole */
enum { PICKLED_ACCUMULATOR = 0x4171736c, PICKLED_MACHINE = 0x4d71736c };    /* "lsqA", "lsqM" */

PyObject *pickled_new(size_t size, void **payload);
void pickled_seal(PyObject *bytes, uint32_t kind);
const void *pickled_open(PyObject *state, uint32_t kind, const char *of, size_t *size);
PyObject *pickled_reduce(PyObject *self, PyObject *made_of, PyObject *bytes);
PyObject *pickled_attributes(PyObject *self, PyObject *state);

#endif
