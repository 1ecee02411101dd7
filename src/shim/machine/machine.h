/* The ask/tell machine as an object, the base of leastsq.LevenbergMarquardt. */
#ifndef LEASTSQ_MACHINE_H
#define LEASTSQ_MACHINE_H

#include "module.h"
#include "object.h"
#include "user/user.h"

/* All numbers that change in a fit.  Every member has 64 bits, because the record is pickled as it is. */
typedef struct {
    lsq_state s;
    int64_t default_maxfev;     /* 1: the first model determines maxfev */
    int64_t by_blocks;          /* 1: the model came from an accumulator */
    int64_t fault_found, fault_row, fault_column;   /* like not_finite; column n is f */
    double fault_value, precision;
} machine_state;

/* r (n x n), ipvt and the vectors of core.h, one after the other. */
typedef struct {
    double *w, *r;
    int64_t *ipvt;
    void *memory;
} machine_room;

typedef struct {
    PyObject_HEAD
    const kernels *k;
    object_lock lock;           /* held by the thread that reads or changes the members below */
    uint64_t answers;           /* requests answered and states restored: the number of the current request */
    machine_state state;
    machine_room room;
} machine;

/* type.c */
extern PyType_Spec machine_spec;

/* memory.c */
int machine_allocate(machine_room *room, int64_t n, int64_t strategy);
int machine_snapshot(machine *m, machine_state *state, machine_room *room);

/* tell.c */
PyObject *machine_tell_norm(PyObject *self, PyObject *args, PyObject *keywords);
PyObject *machine_tell_model(PyObject *self, PyObject *args, PyObject *keywords);
PyObject *machine_points(PyObject *self, PyObject *ignored);
extern const char machine_tell_norm_doc[], machine_tell_model_doc[], machine_points_doc[];

/* change.c */
PyObject *machine_tell_change(PyObject *self, PyObject *args, PyObject *keywords);
PyObject *machine_change(PyObject *unused, PyObject *args, PyObject *keywords);
extern const char machine_tell_change_doc[], machine_change_doc[];

/* tell.c, for change.c: is this answer wanted, and is it still wanted after it was read? */
int machine_wants_now(machine *m, int64_t answer, const char *method, uint64_t *which);
int machine_still_wants(int64_t request, int64_t answer, const char *method, int same);
int machine_read_evaluations(PyObject *object, int64_t *cost);
int machine_read_vector(PyObject *object, int64_t n, double *values);
int machine_scratch(const machine *m, double **work, void **memory);
int machine_is_long_step(const machine *m);

/* The names of requests. */
static inline const char *
machine_request_name(int64_t request)
{
    return request == LSQ_ASK_NORM ? "norm" : request == LSQ_ASK_MODEL ? "model"
        : request == LSQ_ASK_CHANGE ? "change" : "feeler";
}

/* attributes.c */
extern PyGetSetDef machine_attributes[];

/* pickle.c */
PyObject *machine_reduce(PyObject *self, PyObject *ignored);
PyObject *machine_setstate(PyObject *self, PyObject *state);

#endif
