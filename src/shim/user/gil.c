/* Passing the GIL between threads that fit.

   A thread that finds the GIL taken goes to sleep, and waking it takes longer than a
   small fit.  Threads that fit with compiled functions need the GIL for two microseconds
   out of ten or twenty.  So a thread that has the GIL sets a flag, and a thread that wants
   the GIL spins for those two microseconds while the flag is set.  If the flag stays set
   for too long (its thread is doing something else), the waiting thread takes the flag
   over and requests the GIL in the usual way.  The flag is a hint: correctness does not
   depend on it, nor on the order of memory accesses.                               */
#include "user.h"

#include <time.h>

/* LONGEST_WAIT: nanoseconds, about the time to fall asleep and be woken.  PAUSES: between checks of the clock. */
enum { LONGEST_WAIT = 40000, PAUSES = 8 };

#ifdef Py_GIL_DISABLED
static void
wait_awake(atomic_int *fitter_in_python)
{
    (void)fitter_in_python;             /* without a GIL no thread waits for another */
}
#else
static int64_t
nanoseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Spin until this thread has set the flag.  The flag is set before the GIL is taken: otherwise another
   thread could find the flag clear and the GIL taken. */
static void
wait_awake(atomic_int *fitter_in_python)
{
    int64_t until;

    if (!atomic_exchange_explicit(fitter_in_python, 1, memory_order_relaxed))
        return;
    until = nanoseconds() + LONGEST_WAIT;
    do {
        while (atomic_load_explicit(fitter_in_python, memory_order_relaxed)) {
            if (nanoseconds() > until)
                return;
#if defined(__x86_64__) || defined(__i386__)
            for (int k = 0; k < PAUSES; k++)
                __builtin_ia32_pause();
#endif
        }
    } while (atomic_exchange_explicit(fitter_in_python, 1, memory_order_relaxed));
}
#endif

void
gil_take(gil *g)
{
    if (g->released == NULL)
        return;
    wait_awake(g->fitter_in_python);
    PyEval_RestoreThread(g->released);
}

void
gil_give(gil *g)
{
    if (g->released != NULL)
        gil_release(g);
}

void
gil_release(gil *g)
{
    g->released = PyEval_SaveThread();
    atomic_store_explicit(g->fitter_in_python, 0, memory_order_relaxed);
}

void
gil_restore(gil *g)
{
    gil_take(g);
    g->released = NULL;
}
