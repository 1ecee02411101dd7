/* What the types of the extension share: memory, locks, pickles. */
#ifndef LEASTSQ_OBJECT_H
#define LEASTSQ_OBJECT_H

#include "python.h"

/* Columns whose n*n numbers take bytes that 64 bits count. */
enum { MOST_COLUMNS = 1 << 28 };

double *aligned_room(int64_t doubles, void **memory);

/* The lock of an object, held by whoever looks at what it guards. */
typedef struct {
    PyThread_type_lock lock;
    atomic_long process;        /* in which a thread last took it without the GIL, or before this one */
} object_lock;

int lock_make(object_lock *lock);
void lock_free(object_lock *lock);
int lock_take(PyObject *self, object_lock *lock, int release, PyThreadState **released);
void lock_give(object_lock *lock, PyThreadState *released);

/* Numbers as bytes that say what they are of, and whether they are whole */
enum { PICKLED_ACCUMULATOR = 0x4171736c, PICKLED_MACHINE = 0x4d71736c };    /* "lsqA", "lsqM" */

PyObject *pickled_new(size_t size, void **payload);
void pickled_seal(PyObject *bytes, uint32_t kind);
const void *pickled_open(PyObject *state, uint32_t kind, const char *of, size_t *size);
PyObject *pickled_reduce(PyObject *self, PyObject *made_of, PyObject *bytes);
PyObject *pickled_attributes(PyObject *self, PyObject *state);

#endif
