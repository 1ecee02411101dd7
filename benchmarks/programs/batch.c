/* The C half of benchmarks/batch.py: a Gaussian spot, and a loop over libcminpack. */
#include <dlfcn.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>

enum { SIDE = 5, M = SIDE * SIDE, N = 5 };

/* Residuals of a exp(-(u^2 + v^2)/2) + b, u and v the distances from (u0, v0) in units of s,
   on a grid of SIDE by SIDE pixels.  x: a, u0, v0, s, b; data: y[M]. */
int
gaussian(int64_t m, int64_t n, const double *x, double *fvec, void *data)
{
    const double *y = data;
    double along[SIDE], across[SIDE];

    (void)m;
    (void)n;
    for (int i = 0; i < SIDE; i++) {
        double u = (i - x[1]) / x[3], v = (i - x[2]) / x[3];

        along[i] = exp(-0.5 * u * u);
        across[i] = x[0] * exp(-0.5 * v * v);
    }
    for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++)
            fvec[i * SIDE + j] = across[i] * along[j] + x[4] - y[i * SIDE + j];
    return 0;
}

int
gaussian_jacobian(int64_t m, int64_t n, const double *x, double *fjac, void *data)
{
    double along[SIDE], across[SIDE], u[SIDE], v[SIDE], scale = x[0] / x[3];

    (void)m;
    (void)n;
    (void)data;
    for (int i = 0; i < SIDE; i++) {
        u[i] = (i - x[1]) / x[3];
        v[i] = (i - x[2]) / x[3];
        along[i] = exp(-0.5 * u[i] * u[i]);
        across[i] = exp(-0.5 * v[i] * v[i]);
    }
    for (int i = 0; i < SIDE; i++) {
        for (int j = 0; j < SIDE; j++) {
            double e = across[i] * along[j], *row = fjac + i * SIDE + j;

            row[0] = e;
            row[M] = scale * e * u[j];
            row[2 * M] = scale * e * v[i];
            row[3 * M] = scale * e * (u[j] * u[j] + v[i] * v[i]);
            row[4 * M] = 1;
        }
    }
    return 0;
}

static int
either(void *data, int m, int n, const double *x, double *fvec, double *fjac, int ldfjac, int iflag)
{
    (void)ldfjac;
    return iflag == 1 ? gaussian(m, n, x, fvec, data) : gaussian_jacobian(m, n, x, fjac, data);
}

typedef int (*lmder)(int (*)(void *, int, int, const double *, double *, double *, int, int),
                     void *, int, int, double *, double *, double *, int, double, double, double,
                     int, double *, int, double, int, int *, int *, int *, double *, double *,
                     double *, double *, double *);

/* Fit `count` rows of x in place by libcminpack's lmder; returns -1 if it is not installed. */
int
loop_over_cminpack(int64_t count, double *x, double *y, int32_t *info)
{
    void *library = dlopen("libcminpack.so.1", RTLD_NOW | RTLD_LOCAL);
    lmder fit = library == NULL ? 0 : (lmder)dlsym(library, "lmder");
    double fvec[M], fjac[M * N], diag[N], qtf[N], wa1[N], wa2[N], wa3[N], wa4[M];
    int nfev, njev, ipvt[N];

    if (fit == 0)
        return -1;
    for (int64_t k = 0; k < count; k++)
        info[k] = fit(either, y + k * M, M, N, x + k * N, fvec, fjac, M, 1.49012e-8, 1.49012e-8, 0,
                      100 * (N + 1), diag, 1, 100, 0, &nfev, &njev, ipvt, qtf, wa1, wa2, wa3, wa4);
    return 0;
}
