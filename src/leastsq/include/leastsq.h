/* Compiled residuals and Jacobians for leastsq.

   Write a function of one of these types in any language that can make a C
   function, and hand a pointer to it to Python's leastsq.CFunction:

       #include <math.h>
       #include <leastsq.h>

       int decay(int64_t m, int64_t n, const double *x, double *fvec, void *data)
       {
           const double *t = data, *y = t + m;
           (void)n;
           for (int64_t i = 0; i < m; i++)
               fvec[i] = x[0] * exp(-x[1] * t[i]) + x[2] - y[i];
           return 0;
       }

   leastsq.get_include() is this header's directory.

   A function may be called without Python's lock held, and from several threads
   at once: it keeps no state of its own outside `data`.  It must not write into
   x, nor keep a pointer.                                                        */
#ifndef LEASTSQ_H
#define LEASTSQ_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Residuals: fvec[i], i < m, at the parameters x[j], j < n.
   Returns 0; anything else ends the fit with ier 10. */
typedef int (*leastsq_residual)(int64_t m, int64_t n, const double *x, double *fvec,
                                void *data);

/* Jacobian, column by column: fjac[i + j*m] is the derivative of residual i with
   respect to x[j].  Returns 0; anything else ends the fit with ier 10. */
typedef int (*leastsq_jacobian)(int64_t m, int64_t n, const double *x, double *fjac,
                                void *data);

/* The name of a PyCapsule that holds a pointer to either. */
#define LEASTSQ_SIGNATURE "int (int64_t, int64_t, const double *, double *, void *)"

/* The same for several problems at once, for leastsq_batch: CFunction(..., lanes=8).  A loop over
   the lanes that is innermost becomes vector instructions, exp included where the compiler has a
   vector exp, whose error is up to 4 units in the last place.  GCC with glibc: -O3 -march=native
   -fopenmp-simd -D__FAST_MATH__ and -lmvec, "#pragma omp simd" before the loop.  (-ffast-math does it,
   too, but also reorders sums and assumes that nothing is nan; never link with it.)

       int decay(int64_t m, int64_t n, int64_t lanes, const double *x, double *fvec,
                 void *const *data, int32_t *status)
       {
           for (int64_t i = 0; i < m; i++)
               for (int64_t l = 0; l < LANES; l++)        // a constant, as given to CFunction
                   fvec[i*LANES + l] = x[l] * exp(-x[LANES + l] * t[i]) - ((const double *)data[l])[i];
           return 0;
       }

   `lanes` is always what CFunction was given: where fewer problems are left, the last one stands
   in all lanes that remain.  x and the results are 64-byte aligned:

       x[j*lanes + l]                  parameter j of the problem in lane l
       fvec[i*lanes + l]               its residual i
       fjac[(i + j*m)*lanes + l]       the derivative of that with respect to parameter j
       data[l]                         its data
       status[l]                       0; what else is written there ends its fit with ier 10

   What is computed in one lane must not depend on the others.  The function returns 0; anything else
   ends the fits in all lanes.                                                                       */
typedef int (*leastsq_lanes_residual)(int64_t m, int64_t n, int64_t lanes, const double *x, double *fvec,
                                      void *const *data, int32_t *status);
typedef int (*leastsq_lanes_jacobian)(int64_t m, int64_t n, int64_t lanes, const double *x, double *fjac,
                                      void *const *data, int32_t *status);

/* The name of a PyCapsule that holds a pointer to either of these. */
#define LEASTSQ_LANES_SIGNATURE \
    "int (int64_t, int64_t, int64_t, const double *, double *, void *const *, int32_t *)"

#ifdef __cplusplus
}
#endif

#endif
