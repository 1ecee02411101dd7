/* malloc, calloc and realloc that fail on demand, and a count of the blocks in use.
   For starve.py; to be preloaded (LD_PRELOAD) into a process that uses glibc.     */
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <unwind.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);
void __libc_free(void *block);

static atomic_int hungry;               /* allocations are counted, and may fail */
static atomic_long made, first, last, live;

/* Start addresses of functions whose allocations, and those of the functions that they call, never fail. */
enum { MOST_SPARED = 8 };
static _Unwind_Ptr spared[MOST_SPARED];
static int spared_count;
static atomic_int learning;             /* record the caller of the next allocation as one of these */

/* Restart the count at 1; allocations number k to `end` will fail. */
void
starve(long k, long end)
{
    atomic_store(&made, 0);
    atomic_store(&first, k);
    atomic_store(&last, end);
}

/* Start (1) or stop (0) counting and failing; returns the previous setting. */
int
hunger(int now)
{
    return atomic_exchange(&hungry, now);
}

/* The number of allocations counted. */
long
counted(void)
{
    return atomic_load(&made);
}

/* The number of blocks in use. */
long
blocks(void)
{
    return atomic_load(&live);
}

typedef int example(void *first, void *second, void *third, void *null);

/* Spare the allocations of this function, or of the one that it only jumps to.  It must allocate when
   it is called with these arguments.  Returns 0, or -1 if it did not allocate or the table is full. */
int
spare(example *function, void *first_argument, void *second, void *third)
{
    int before = spared_count;

    atomic_store(&learning, 1);
    (void)function(first_argument, second, third, NULL);
    atomic_store(&learning, 0);
    return spared_count > before ? 0 : -1;
}

/* The callers of malloc, innermost first. */
typedef struct {
    _Unwind_Ptr last;           /* the caller that was examined last */
    _Unwind_Ptr example;        /* the function that `spare` called, if it is among the callers */
    int is_spared;
} askers;

static _Unwind_Reason_Code
look_at(struct _Unwind_Context *context, void *data)
{
    askers *seen = data;
    _Unwind_Ptr function = _Unwind_GetRegionStart(context);

    for (int k = 0; k < spared_count; k++)
        seen->is_spared |= function == spared[k];
    if (function == (_Unwind_Ptr)spare)
        seen->example = seen->last;
    seen->last = function;
    return seen->is_spared || seen->example != 0 ? _URC_NORMAL_STOP : _URC_NO_REASON;
}

static askers
who_asks(void)
{
    askers seen = {0, 0, 0};

    _Unwind_Backtrace(look_at, &seen);
    return seen;
}

static void
learn(void)
{
    _Unwind_Ptr function = who_asks().example;

    if (function != 0 && spared_count < MOST_SPARED)
        spared[spared_count++] = function;
}

static int
fails(void)
{
    long number;

    if (atomic_exchange(&learning, 0))
        learn();
    if (!atomic_load(&hungry))
        return 0;
    number = atomic_fetch_add(&made, 1) + 1;
    if (number < atomic_load(&first) || number > atomic_load(&last))
        return 0;
    if (spared_count > 0 && who_asks().is_spared)
        return 0;
    errno = ENOMEM;
    return 1;
}

static void *
one_more(void *block)
{
    if (block != NULL)
        atomic_fetch_add(&live, 1);
    return block;
}

void *
malloc(size_t size)
{
    return fails() ? NULL : one_more(__libc_malloc(size));
}

void *
calloc(size_t count, size_t size)
{
    return fails() ? NULL : one_more(__libc_calloc(count, size));
}

void *
realloc(void *block, size_t size)
{
    if (fails())
        return NULL;
    return block == NULL ? one_more(__libc_malloc(size)) : __libc_realloc(block, size);
}

void
free(void *block)
{
    if (block != NULL)
        atomic_fetch_sub(&live, 1);
    __libc_free(block);
}
