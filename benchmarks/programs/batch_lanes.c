/* The Gaussian spot of benchmarks/batch.c for LANES problems at once, one in each lane of a vector.

   Loops over lanes are innermost.  GCC makes vector instructions of them, and exp becomes glibc's
   vector exp, whose error is up to 4 units in the last place:

       gcc -O3 -march=native -fopenmp-simd -D__FAST_MATH__ ... -lmvec

   -D__FAST_MATH__ only lets math.h say that there is a vector exp.  -ffast-math does so too, and lets the
   compiler besides reorder sums and assume that nothing is nan; used to link, it also has GCC before 13
   flush denormal numbers to zero in the whole process.  */
#include <math.h>
#include <stdint.h>

enum { SIDE = 5, M = SIDE * SIDE, LANES = 8 };

/* Distances from the middle in widths, along one axis, and their bells. */
static inline void
bells(const double *middle, const double *width, double u[SIDE][LANES], double e[SIDE][LANES])
{
    for (int i = 0; i < SIDE; i++) {
#pragma omp simd
        for (int l = 0; l < LANES; l++) {
            u[i][l] = (i - middle[l]) / width[l];
            e[i][l] = exp(-0.5 * u[i][l] * u[i][l]);
        }
    }
}

int
gaussian_in_lanes(int64_t m, int64_t n, int64_t lanes, const double *x, double *fvec,
                  void *const *data, int32_t *status)
{
    double u[SIDE][LANES], v[SIDE][LANES], along[SIDE][LANES], across[SIDE][LANES];
    double y[M][LANES];

    (void)m;
    (void)n;
    (void)lanes;
    (void)status;
    for (int l = 0; l < LANES; l++)
        for (int k = 0; k < M; k++)
            y[k][l] = ((const double *)data[l])[k];
    bells(x + LANES, x + 3 * LANES, u, along);
    bells(x + 2 * LANES, x + 3 * LANES, v, across);
    for (int i = 0; i < SIDE; i++)
#pragma omp simd
        for (int l = 0; l < LANES; l++)
            across[i][l] *= x[l];
    for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++)
#pragma omp simd
            for (int l = 0; l < LANES; l++)
                fvec[(i * SIDE + j) * LANES + l] = across[i][l] * along[j][l] + x[4 * LANES + l]
                                                   - y[i * SIDE + j][l];
    return 0;
}

int
gaussian_jacobian_in_lanes(int64_t m, int64_t n, int64_t lanes, const double *x, double *fjac,
                           void *const *data, int32_t *status)
{
    double u[SIDE][LANES], v[SIDE][LANES], along[SIDE][LANES], across[SIDE][LANES], scale[LANES];

    (void)m;
    (void)n;
    (void)lanes;
    (void)data;
    (void)status;
    bells(x + LANES, x + 3 * LANES, u, along);
    bells(x + 2 * LANES, x + 3 * LANES, v, across);
    for (int l = 0; l < LANES; l++)
        scale[l] = x[l] / x[3 * LANES + l];
    for (int i = 0; i < SIDE; i++) {
        for (int j = 0; j < SIDE; j++) {
            double *row = fjac + (i * SIDE + j) * LANES;

#pragma omp simd
            for (int l = 0; l < LANES; l++) {
                double e = across[i][l] * along[j][l], ul = u[j][l], vl = v[i][l];

                row[l] = e;
                row[M * LANES + l] = scale[l] * e * ul;
                row[2 * M * LANES + l] = scale[l] * e * vl;
                row[3 * M * LANES + l] = scale[l] * e * (ul * ul + vl * vl);
                row[4 * M * LANES + l] = 1;
            }
        }
    }
    return 0;
}

/* The function alone: calls residuals and Jacobian of these LANES problems the given numbers of times. */
int
repeat_in_lanes(int64_t residuals, int64_t jacobians, const double *x, double *out, void *const *data)
{
    int32_t status[LANES] = {0};

    for (int64_t k = 0; k < residuals; k++)
        gaussian_in_lanes(M, 5, LANES, x, out, data, status);
    for (int64_t k = 0; k < jacobians; k++)
        gaussian_jacobian_in_lanes(M, 5, LANES, x, out, data, status);
    return 0;
}
