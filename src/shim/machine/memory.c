/* The ask/tell machine as an object: its memory, and copies of it. */
#include "machine.h"

/* The number of doubles that last between events: r, ipvt and the vectors; without a strategy, the scratch
   that bounds need (n columns from LSQ_TRIANGLE on) comes last and is left out. */
static size_t
lasting_size(int64_t n, int64_t strategy)
{
    return (size_t)n * (size_t)(n + 1 + (strategy ? lsq_core_columns(n, 1, strategy) : LSQ_TRIANGLE));
}

/* Allocate zeros for n variables, with or without bounds; 0, or -1 with MemoryError set. */
int
machine_allocate(machine_room *room, int64_t n, int64_t strategy)
{
    size_t size = (size_t)n * (size_t)(n + 1 + lsq_core_columns(n, 1, strategy));

    room->memory = n > MOST_COLUMNS ? NULL : PyMem_RawCalloc(size, sizeof(double));
    if (room->memory == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    room->r = room->memory;
    room->ipvt = (int64_t *)(room->r + n * n);
    room->w = room->r + n * (n + 1);
    return 0;
}

/* Copy everything for the caller, who owns the copy; 0, or -1 with an error set. */
int
machine_snapshot(machine *m, machine_state *state, machine_room *room)
{
    PyThreadState *released;
    int status;

    if (lock_take((PyObject *)m, &m->lock, 0, &released) < 0)
        return -1;
    *state = m->state;
    status = machine_allocate(room, state->s.n, state->s.strategy);
    if (status == 0)
        memcpy(room->memory, m->room.memory, lasting_size(state->s.n, state->s.strategy) * sizeof(double));
    lock_give(&m->lock, released);
    return status;
}
