/* a exp(-k t) + c minus the data, and its derivatives, for examples/compiled.py.
   data: t[m], then y[m] */
#include <leastsq.h>
#include <math.h>

int
decay(int64_t m, int64_t n, const double *x, double *fvec, void *data)
{
    const double *t = data, *y = t + m;

    (void)n;
    for (int64_t i = 0; i < m; i++)
        fvec[i] = x[0] * exp(-x[1] * t[i]) + x[2] - y[i];
    return 0;
}

/* The Jacobian, by columns. */
int
decay_jacobian(int64_t m, int64_t n, const double *x, double *fjac, void *data)
{
    const double *t = data;

    (void)n;
    for (int64_t i = 0; i < m; i++) {
        double e = exp(-x[1] * t[i]);

        fjac[i] = e;
        fjac[i + m] = -x[0] * t[i] * e;
        fjac[i + 2 * m] = 1;
    }
    return 0;
}
