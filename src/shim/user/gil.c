/* The GIL between threads that fit.

   A thread that finds the GIL taken goes to sleep, and waking it takes longer than
   a small fit.  Threads that fit with compiled functions need the GIL for two
   microseconds out of ten or twenty.  So they tell each other when they have it,
   and wait for the other's two microseconds awake.  Who has waited in vain (the
   other does something else by now) goes on like everybody; the notice is then
   this thread's.  It is no more than a hint: no order of memory hangs on it.      */
#include "shim.h"

#include <time.h>

/* Nanoseconds, about what falling asleep and being woken takes; and between looks at the clock. */
enum { LONGEST_WAIT = 40000, PAUSES = 8 };

#ifdef Py_GIL_DISABLED
static void
wait_awake(atomic_int *fitter_in_python)
{
    (void)fitter_in_python;             /* nobody waits for anybody */
}
#else
static int64_t
nanoseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Until the notice is up in this thread's name.  It goes up before the GIL is
   taken: a thread that comes between would find no notice and the GIL taken. */
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
callbacks_take_gil(callbacks *cb)
{
    if (cb->released == NULL)
        return;
    wait_awake(cb->fitter_in_python);
    PyEval_RestoreThread(cb->released);
}

void
callbacks_give_gil(callbacks *cb)
{
    if (cb->released != NULL)
        gil_release(cb);
}

void
gil_release(callbacks *cb)
{
    cb->released = PyEval_SaveThread();
    atomic_store_explicit(cb->fitter_in_python, 0, memory_order_relaxed);
}

void
gil_restore(callbacks *cb)
{
    callbacks_take_gil(cb);
    cb->released = NULL;
}
