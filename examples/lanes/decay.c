/* a exp(-k t) + c minus the data and its derivatives, for eight problems at once: for examples/lanes.py.
   The data of a problem: t[m], then y[m]. */
#include <leastsq.h>
#include <math.h>

enum { LANES = 8 };             /* as given to CFunction */

int
decay_in_lanes(int64_t m, int64_t n, int64_t lanes, const double *x, double *fvec, void *const *data,
               int32_t *status)
{
    (void)n;
    (void)lanes;
    (void)status;
    for (int64_t i = 0; i < m; i++) {
        double t[LANES], y[LANES];

        for (int l = 0; l < LANES; l++) {       /* each problem's data lie elsewhere */
            t[l] = ((const double *)data[l])[i];
            y[l] = ((const double *)data[l])[m + i];
        }
#pragma omp simd
        for (int l = 0; l < LANES; l++)
            fvec[i * LANES + l] = x[l] * exp(-x[LANES + l] * t[l]) + x[2 * LANES + l] - y[l];
    }
    return 0;
}

/* The Jacobian, by columns. */
int
decay_jacobian_in_lanes(int64_t m, int64_t n, int64_t lanes, const double *x, double *fjac, void *const *data,
                        int32_t *status)
{
    (void)n;
    (void)lanes;
    (void)status;
    for (int64_t i = 0; i < m; i++) {
        double t[LANES];

        for (int l = 0; l < LANES; l++)
            t[l] = ((const double *)data[l])[i];
#pragma omp simd
        for (int l = 0; l < LANES; l++) {
            double e = exp(-x[LANES + l] * t[l]);

            fjac[i * LANES + l] = e;
            fjac[(i + m) * LANES + l] = -x[l] * t[l] * e;
            fjac[(i + 2 * m) * LANES + l] = 1;
        }
    }
    return 0;
}

/* One problem alone, for comparison. */
int
decay(int64_t m, int64_t n, const double *x, double *fvec, void *data)
{
    const double *t = data, *y = t + m;

    (void)n;
    for (int64_t i = 0; i < m; i++)
        fvec[i] = x[0] * exp(-x[1] * t[i]) + x[2] - y[i];
    return 0;
}

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
