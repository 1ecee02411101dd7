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

#ifdef __cplusplus
}
#endif

#endif
