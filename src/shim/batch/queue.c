/* Where the threads of a batch get their problems from: a bunch at a time. */
#include "batch.h"

npy_intp
batch_next(batch_queue *queue)
{
    batch_crew *all = queue->crew;
    int64_t count = all->job->count;

    if (batch_stopped(queue))
        return -1;
    if (queue->next == queue->end) {
        atomic_fetch_add(&all->done, queue->finished);
        queue->finished = 0;
        queue->next = atomic_load(&all->next) < count ? atomic_fetch_add(&all->next, all->bunch) : count;
        queue->next = queue->next < count ? queue->next : count;
        queue->end = queue->next + all->bunch < count ? queue->next + all->bunch : count;
    }
    return queue->next < queue->end ? queue->next++ : -1;
}
