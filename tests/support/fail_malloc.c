/* malloc, calloc and realloc that fail on demand, and a count of the blocks in use;
   to be preloaded (LD_PRELOAD) into a process of glibc's.  For starve.py.         */
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);
void __libc_free(void *block);

static atomic_int hungry;               /* allocations are counted, and may fail */
static atomic_long made, first, last, live;

/* Count from 1 again; numbers k to `end` are to fail. */
void
starve(long k, long end)
{
    atomic_store(&made, 0);
    atomic_store(&first, k);
    atomic_store(&last, end);
}

/* Begin to count (and fail), or leave off; what it was before. */
int
hunger(int now)
{
    return atomic_exchange(&hungry, now);
}

/* Allocations counted. */
long
counted(void)
{
    return atomic_load(&made);
}

/* Blocks in use. */
long
blocks(void)
{
    return atomic_load(&live);
}

static int
fails(void)
{
    long number;

    if (!atomic_load(&hungry))
        return 0;
    number = atomic_fetch_add(&made, 1) + 1;
    if (number < atomic_load(&first) || number > atomic_load(&last))
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
