/* Shared by the extension's types: memory, locks, pickles. */
#ifndef LEASTSQ_OBJECT_H
#define LEASTSQ_OBJECT_H

#include "python.h"

/* The largest n for which 64 bits hold the number of bytes of n*n numbers. */
enum { MOST_COLUMNS = 1 << 28 };

double *aligned_room(int64_t doubles, void **memory);

/* The lock of an object, held by the thread that reads or changes its data. */
typedef struct {
    PyThread_type_lock lock;
    atomic_long process;        /* that last took the lock without the GIL, or an earlier one */
} object_lock;

int lock_make(object_lock *lock);
void lock_free(object_lock *lock);
int lock_take(PyObject *self, object_lock *lock, int release, PyThreadState **released);
void lock_give(object_lock *lock, PyThreadState *released);

/* Bytes that identify the type of the object and contain a checksum */
enum { PICKLED_ACCUMULATOR = 0x4171736c, PICKLED_MACHINE = 0x4d71736c };    /* "lsqA", "lsqM" */

PyObject *pickled_new(size_t size, void **payload);
void pickled_seal(PyObject *bytes, uint32_t kind);
const void *pickled_open(PyObject *state, uint32_t kind, const char *of, size_t *size);
PyObject *pickled_reduce(PyObject *self, PyObject *made_of, PyObject *bytes);
PyObject *pickled_attributes(PyObject *self, PyObject *state);

#endif
