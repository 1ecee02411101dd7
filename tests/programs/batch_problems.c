/* A curve through 8 points for test_batch.py, and functions that misbehave.

   Operations come in the order of the curve in test_batch.py, so that with
   contraction off both give the same bits.                                      */
#include <leastsq.h>
#include <stddef.h>
#include <time.h>

/* x0/(1 + x1 t) + x2 - y at t = 0, 1/4, ...; data: y[m] */
int
curve(int64_t m, int64_t n, const double *x, double *f, void *data)
{
    const double *y = data;

    (void)n;
    for (int64_t i = 0; i < m; i++)
        f[i] = x[0] / (1 + x[1] * (0.25 * (double)i)) + x[2] - y[i];
    return 0;
}

int
curve_jacobian(int64_t m, int64_t n, const double *x, double *fjac, void *data)
{
    (void)n;
    (void)data;
    for (int64_t i = 0; i < m; i++) {
        double t = 0.25 * (double)i, below = 1 + x[1] * t;

        fjac[i] = 1 / below;
        fjac[i + m] = -x[0] * t / (below * below);
        fjac[i + 2 * m] = 1;
    }
    return 0;
}

/* The curve, unless y[0] is negative. */
int
stops_below_zero(int64_t m, int64_t n, const double *x, double *f, void *data)
{
    const double *y = data;

    return y[0] < 0 ? 7 : curve(m, n, x, f, data);
}

int
jacobian_stops_below_zero(int64_t m, int64_t n, const double *x, double *fjac, void *data)
{
    const double *y = data;

    return y[0] < 0 ? 8 : curve_jacobian(m, n, x, fjac, data);
}

/* The curve, after a millisecond. */
int
slow_curve(int64_t m, int64_t n, const double *x, double *f, void *data)
{
    struct timespec millisecond = {0, 1000000};

    nanosleep(&millisecond, NULL);
    return curve(m, n, x, f, data);
}
