/* The ask/tell machine as an object: its pickle. */
#include "machine.h"

#include <math.h>

enum {
    STEPS = LSQ_SCRATCH,        /* vectors that last from one event to the next, from the first one on */
    BOUNDS = LSQ_WARY + 1 - LSQ_LO,   /* and with bounds, from LSQ_LO on */
    CURVATURE = LSQ_C_BEST + 1  /* and with a strategy, from LSQ_C_CHANGE on */
};

/* The state, followed by the vectors, ipvt, and R by columns down to its diagonal. */
static size_t
pickled_size(int64_t n, int64_t bounded, int64_t strategy)
{
    return sizeof(machine_state)
        + (size_t)n * (size_t)(STEPS + (bounded ? BOUNDS : 0) + (strategy ? CURVATURE : 0) + 1) * sizeof(double)
        + (size_t)n * (size_t)(n + 1) / 2 * sizeof(double);
}

/* x as a tuple of floats, which every version of NumPy reads. */
static PyObject *
numbers(int64_t n, const double *x)
{
    PyObject *tuple = PyTuple_New((Py_ssize_t)n);

    for (int64_t j = 0; tuple != NULL && j < n; j++) {
        PyObject *number = PyFloat_FromDouble(x[j]);
        if (number == NULL)
            Py_CLEAR(tuple);
        else
            PyTuple_SET_ITEM(tuple, (Py_ssize_t)j, number);
    }
    return tuple;
}

PyObject *
machine_reduce(PyObject *self, PyObject *ignored)
{
    machine *m = (machine *)self;
    int64_t n = m->state.s.n;
    size_t vector = (size_t)n * sizeof(double);
    machine_state state;
    machine_room room;
    void *payload;
    char *next;
    PyObject *bytes, *x;

    (void)ignored;
    if (machine_snapshot(m, &state, &room) < 0)
        return NULL;
    bytes = pickled_new(pickled_size(n, state.s.bounded, state.s.strategy), &payload);
    x = bytes == NULL ? NULL : numbers(n, room.w + LSQ_X * n);
    if (x == NULL) {
        PyMem_RawFree(room.memory);
        Py_XDECREF(bytes);
        return NULL;
    }
    next = payload;
    memcpy(next, &state, sizeof state);
    next += sizeof state;
    memcpy(next, room.w, STEPS * vector);
    next += STEPS * vector;
    if (state.s.bounded) {
        memcpy(next, room.w + LSQ_LO * n, BOUNDS * vector);
        next += BOUNDS * vector;
    }
    if (state.s.strategy) {
        memcpy(next, room.w + lsq_core_columns(n, state.s.bounded, 0) * n, CURVATURE * vector);
        next += CURVATURE * vector;
    }
    memcpy(next, room.ipvt, vector);
    next += vector;
    for (int64_t j = 0; j < n; j++) {
        memcpy(next, room.r + j * n, (size_t)(j + 1) * sizeof(double));
        next += (size_t)(j + 1) * sizeof(double);
    }
    pickled_seal(bytes, PICKLED_MACHINE);
    PyMem_RawFree(room.memory);
    return pickled_reduce(self, Py_BuildValue("ON", Py_TYPE(self), x), bytes);
}

/* Does ipvt hold each number from 1 to n once?  `seen` holds n zeros. */
static int
permutation(int64_t n, const int64_t *ipvt, double *seen)
{
    for (int64_t j = 0; j < n; j++) {
        if (ipvt[j] < 1 || ipvt[j] > n || seen[ipvt[j] - 1] != 0)
            return 0;
        seen[ipvt[j] - 1] = 1;
    }
    for (int64_t j = 0; j < n; j++)
        seen[j] = 0;
    return 1;
}

static int
flag(int64_t value)
{
    return value == 0 || value == 1;
}

/* Is this a possible state for n variables? */
static int
sound(const machine_state *state, int64_t n)
{
    const lsq_state *s = &state->s;

    return s->n == n && s->maxfev > 0 && s->ftol >= 0 && s->xtol >= 0 && s->gtol >= 0 && s->factor > 0
        && (s->scaling == LSQ_SCALE_COLUMNS || s->scaling == LSQ_SCALE_USER) && flag(s->bounded)
        && s->strategy >= LSQ_STRATEGY_MINPACK && s->strategy <= LSQ_STRATEGY_ROBUST
        && s->request >= LSQ_ASK_DONE && s->request <= (s->strategy ? LSQ_ASK_FEELER : LSQ_ASK_MODEL)
        && flag(s->changes) && flag(s->known) && flag(s->attempt) && flag(s->sound)
        && s->past >= LSQ_PAST_NONE && s->past <= LSQ_PAST_WANTED
        && (s->strategy || !(s->changes || s->known || s->attempt || s->sound || s->past))
        && s->info >= LSQ_IMPROPER && s->info <= LSQ_NOT_FINITE
        && (s->request == LSQ_ASK_DONE) == (s->info != LSQ_IMPROPER) && flag(s->accepted)
        && s->nfev >= 0 && s->njev >= 0 && s->iteration >= 0
        && (s->njev > 0 || s->iteration <= 1) && (s->iteration > 0 || s->njev == 0)
        && flag(state->default_maxfev) && flag(state->by_blocks) && flag(state->fault_found)
        && state->precision == state->precision
        && s->probe >= 0 && s->probe <= LSQ_PROBE_RETREAT && (s->probe == 0 || s->bounded || s->strategy == LSQ_STRATEGY_ROBUST)
        && s->pending >= LSQ_IMPROPER && s->pending <= LSQ_NOT_FINITE
        && s->best_info >= LSQ_IMPROPER && s->best_info <= LSQ_NOT_FINITE
        && s->felt >= 0 && s->felt <= 2 && s->restarts >= 0 && s->tries >= 0;
}

/* Are x, the trial, and (after a restart) the best earlier x within the bounds? */
static int
within(int64_t n, const lsq_state *s, const machine_room *room)
{
    const int columns[] = {LSQ_X, LSQ_TRIAL, LSQ_BEST}, count = s->restarts > 0 ? 3 : 2;
    const double *w = room->w, *lo = w + LSQ_LO * n, *hi = w + LSQ_HI * n;

    for (int k = 0; k < count; k++)
        for (int64_t j = 0; j < n; j++)
            if (!(lo[j] <= w[columns[k] * n + j] && w[columns[k] * n + j] <= hi[j]))
                return 0;
    return 1;
}

/* Read the rest of the payload into memory of zeros; 0 if it is not a possible state. */
static int
read_room(const char *next, int64_t n, const lsq_state *s, machine_room *room)
{
    size_t vector = (size_t)n * sizeof(double);

    memcpy(room->w, next, STEPS * vector);
    next += STEPS * vector;
    if (s->bounded) {
        memcpy(room->w + LSQ_LO * n, next, BOUNDS * vector);
        next += BOUNDS * vector;
    }
    if (s->strategy) {
        memcpy(room->w + lsq_core_columns(n, s->bounded, 0) * n, next, CURVATURE * vector);
        next += CURVATURE * vector;
    }
    memcpy(room->ipvt, next, vector);
    next += vector;
    for (int64_t j = 0; j < n; j++) {
        memcpy(room->r + j * n, next, (size_t)(j + 1) * sizeof(double));
        next += (size_t)(j + 1) * sizeof(double);
    }
    return permutation(n, room->ipvt, room->w + LSQ_SCRATCH * n) && (!s->bounded || within(n, s, room));
}

PyObject *
machine_setstate(PyObject *self, PyObject *pickled)
{
    machine *m = (machine *)self;
    int64_t n = m->state.s.n;
    machine_state state;
    machine_room room, old;
    PyThreadState *released;
    size_t size;
    const char *payload = pickled_open(pickled, PICKLED_MACHINE, "LevenbergMarquardt", &size);
    int good;

    if (payload == NULL)
        return NULL;
    memset(&state, 0, sizeof state);
    room.memory = NULL;
    good = size >= sizeof state;
    if (good)
        memcpy(&state, payload, sizeof state);
    good = good && sound(&state, n) && size == pickled_size(n, state.s.bounded, state.s.strategy);
    if (good && machine_allocate(&room, n, state.s.strategy) < 0)
        return NULL;
    good = good && read_room(payload + sizeof state, n, &state.s, &room);
    if (!good) {
        PyMem_RawFree(room.memory);
        PyErr_Format(PyExc_ValueError, "leastsq: this is not a possible state of a LevenbergMarquardt with "
                     "n = %lld", (long long)n);
        return NULL;
    }
    if (lock_take(self, &m->lock, 0, &released) < 0) {
        PyMem_RawFree(room.memory);
        return NULL;
    }
    old = m->room;
    m->room = room;
    m->state = state;
    m->answers++;
    lock_give(&m->lock, released);
    PyMem_RawFree(old.memory);
    return pickled_attributes(self, pickled);
}
