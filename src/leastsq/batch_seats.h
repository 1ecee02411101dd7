/* One fit of compiled functions, and the several that a thread does at a time. */
#ifndef LEASTSQ_BATCH_SEATS_H
#define LEASTSQ_BATCH_SEATS_H

#include "batch.h"

typedef struct {
    batch_fitter *fitter;
    npy_intp k;                 /* the problem; -1: free */
    lsq_state state;
    double *w, *f, *trial, *fjac;
    int64_t *ipvt;
    void *func_data, *dfun_data;
    const double *weights;
    int64_t calls;              /* of func */
    int32_t code;
    int no_residuals;           /* func stopped it at x0 */
} seat;

/* Who fits, and where; its arena follows. */
struct batch_fitter {
    const batch_job *job;
    batch_queue queue;
    leastsq_residual func;
    leastsq_jacobian dfun;
    double *weighed, *scratch;
    batch_lanes *lanes;
    int count;                  /* of the seats that are there */
    seat seats[LSQ_LANES];
};

/* batch_seat.c */
void seat_begin(seat *s, npy_intp k);
int seat_go_on(seat *s);        /* 1: a Jacobian is there to be factored; 0: the fit has ended */
void seat_conclude(seat *s);    /* the results; the seat is free */

#endif
