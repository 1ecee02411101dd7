/* The covariance of a fit, from R, and the multipliers of its bounds: for single fits, the ask/tell machine and
   batches. */
#ifndef LEASTSQ_COVARIANCE_H
#define LEASTSQ_COVARIANCE_H

#include "module.h"

/* With at least this many parameters, the covariance by blocks is faster than MINPACK's. */
enum { COVARIANCE_BY_BLOCKS = 64 };

int64_t covariance_work(int64_t n, int64_t bounded);
int covariance(const lsq_state *s, double *w, const double *r, int64_t ldr, const int64_t *ipvt,
               const kernels *k, lsq_team *team, double *cov, double *work);
PyObject *covariance_array(const lsq_state *s, double *w, const double *r, int64_t ldr,
                           const int64_t *ipvt, const kernels *k);
PyObject *multipliers_array(const lsq_state *s, const double *w);

#endif
