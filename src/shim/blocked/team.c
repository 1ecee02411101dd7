/* A team: threads that work on one task, and their counters.

   The threads live as long as one call of `run`.  A thread that waits for a counter spins
   at first, because in a kernel for large n the wait takes some tenths of a millisecond.
   The calling thread, number 0, checks for signals meanwhile.                          */
#define _POSIX_C_SOURCE 200809L
#include "blocked.h"

#include <pthread.h>
#include <sched.h>
#include <time.h>

enum { SPINS = 2000, YIELDS = 200, NAP = 20000, LOOK = 256 };   /* a nap in nanoseconds */

typedef void body(int64_t number, void *data);

typedef struct {
    team *t;
    body *run;
    void *data;
    int64_t number;
} member;

static atomic_llong *
counter(const team *t, int64_t number)
{
    return (atomic_llong *)t->counters + number * TEAM_COUNTER;
}

/* Is the work cancelled?  Number 0, the calling thread, checks whether a signal handler has raised. */
int
team_cancelled(team *t, int64_t number)
{
    int cancelled = atomic_load_explicit(&t->cancelled, memory_order_relaxed);

    if (number == 0 && !cancelled && callbacks_poll_signals(t->cb) < 0) {
        atomic_store(&t->cancelled, 1);
        return 1;
    }
    return cancelled;
}

static void
rest(int64_t turn)
{
    const struct timespec nap = {0, NAP};

    if (turn > SPINS + YIELDS)
        nanosleep(&nap, NULL);
    else if (turn > SPINS)
        sched_yield();
#if defined(__x86_64__) || defined(__i386__)
    else
        __builtin_ia32_pause();
#endif
}

static int
await(lsq_team *public, int64_t number, int64_t whose, int64_t value)
{
    team *t = (team *)public;

    for (int64_t turn = 0;; turn++) {
        if (atomic_load_explicit(counter(t, whose), memory_order_acquire) >= value)
            return atomic_load_explicit(&t->cancelled, memory_order_relaxed);
        if ((turn > SPINS || turn % LOOK == 0) && team_cancelled(t, number))
            return 1;
        rest(turn);
    }
}

static int
reach(lsq_team *public, int64_t number, int64_t whose, int64_t value)
{
    team *t = (team *)public;

    atomic_store_explicit(counter(t, whose), value, memory_order_release);
    return team_cancelled(t, number);
}

static void *
join_in(void *argument)
{
    member *m = argument;

    for (int64_t turn = 0; !atomic_load(&m->t->begun); turn++)
        rest(turn);
    m->run(m->number, m->data);
    return NULL;
}

/* The helper threads of one `run`, which use data on its stack. */
typedef struct {
    team *t;
    int64_t started;
    pthread_t threads[MOST_THREADS];
    member members[MOST_THREADS];
} helpers;

/* While the interpreter shuts down, Python ends a daemon thread that requests the GIL. */
static void
end_before_the_stack(void *argument)
{
    helpers *h = argument;

    atomic_store(&h->t->cancelled, 1);
    for (int64_t k = 1; k < h->started; k++)
        pthread_join(h->threads[k], NULL);
}

static void
run(lsq_team *public, body *what, void *data)
{
    team *t = (team *)public;
    helpers h;

    h.t = t;
    h.started = 1;
    atomic_store(&t->begun, 0);
    for (int64_t k = 0; k < t->threads; k++)
        atomic_store(counter(t, k), 0);
    /* if a thread cannot be started, the others do its share */
    for (; h.started < t->threads; h.started++) {
        h.members[h.started] = (member){t, what, data, h.started};
        if (pthread_create(&h.threads[h.started], NULL, join_in, &h.members[h.started]) != 0)
            break;
    }
    t->public.size = h.started;
    atomic_store(&t->begun, 1);
    pthread_cleanup_push(end_before_the_stack, &h);
    what(0, data);
    pthread_cleanup_pop(0);
    for (int64_t k = 1; k < h.started; k++)
        pthread_join(h.threads[k], NULL);
}

void
team_init(team *t, callbacks *cb, int threads, double *counters, double *room, int64_t room_size)
{
    t->public = (lsq_team){threads, room_size, room, run, await, reach};
    t->cb = cb;
    t->threads = threads;
    t->counters = counters;
    atomic_init(&t->cancelled, 0);
    atomic_init(&t->begun, 0);
}
