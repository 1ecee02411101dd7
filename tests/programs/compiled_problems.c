/* The elementary problems of problems.py, and a few functions that misbehave, as
   compiled functions for test_compiled.py.

   Operations come in the order of problems.py, and sums start from zero and run
   left to right, so that with contraction off both give the same bits.
   A Jacobian is stored by columns: entry (i, j) is at fjac[i + j * m].          */
#include <leastsq.h>
#include <math.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#define UNUSED_DATA (void)data
enum { WATSON_ROWS = 29, MOST_N = 64 };

static void
zero(int64_t m, int64_t n, double *fjac)
{
    memset(fjac, 0, (size_t)(m * n) * sizeof *fjac);
}

static double
sum(int64_t n, const double *x, double start)
{
    for (int64_t j = 0; j < n; j++)
        start = start + x[j];
    return start;
}

/* ---------------------------------------------------------- linear problems */

int
linear_full_rank(int64_t m, int64_t n, const double *x, double *f, void *data)
{
    double all = -(2 * sum(n, x, 0.0) / (double)m + 1);

    UNUSED_DATA;
    for (int64_t i = 0; i < m; i++)
        f[i] = i < n ? all + x[i] : all;
    return 0;
}

int
linear_full_rank_jacobian(int64_t m, int64_t n, const double *x, double *fjac, void *data)
{
    UNUSED_DATA;
    (void)x;
    for (int64_t j = 0; j < n; j++)
        for (int64_t i = 0; i < m; i++)
            fjac[i + j * m] = i == j ? -2 / (double)m + 1 : -2 / (double)m;
    return 0;
}

int
linear_rank1(int64_t m, int64_t n, const double *x, double *f, void *data)
{
    double s = 0.0;

    UNUSED_DATA;
    for (int64_t j = 0; j < n; j++)
        s = s + (double)(j + 1) * x[j];
    for (int64_t i = 0; i < m; i++)
        f[i] = (double)(i + 1) * s - 1;
    return 0;
}

int
linear_rank1_jacobian(int64_t m, int64_t n, const double *x, double *fjac, void *data)
{
    UNUSED_DATA;
    (void)x;
    for (int64_t j = 0; j < n; j++)
        for (int64_t i = 0; i < m; i++)
            fjac[i + j * m] = (double)(i + 1) * (double)(j + 1);
    return 0;
}

static double
row_weight(int64_t m, int64_t i)
{
    return i == m - 1 ? 0 : (double)i;
}

static double
column_weight(int64_t n, int64_t j)
{
    return j == 0 || j == n - 1 ? 0 : (double)(j + 1);
}

int
linear_rank1_zero(int64_t m, int64_t n, const double *x, double *f, void *data)
{
    double s = 0.0;

    UNUSED_DATA;
    for (int64_t j = 0; j < n; j++)
        s = s + column_weight(n, j) * x[j];
    for (int64_t i = 0; i < m; i++)
        f[i] = row_weight(m, i) * s - 1;
    return 0;
}

int
linear_rank1_zero_jacobian(int64_t m, int64_t n, const double *x, double *fjac, void *data)
{
    UNUSED_DATA;
    (void)x;
    for (int64_t j = 0; j < n; j++)
        for (int64_t i = 0; i < m; i++)
            fjac[i + j * m] = row_weight(m, i) * column_weight(n, j);
    return 0;
}

/* ----------------------------------------------------------- small classics */

int
rosenbrock(int64_t m, int64_t n, const double *x, double *f, void *data)
{
    UNUSED_DATA;
    for (int64_t k = 0; k < n && k + 1 < m; k += 2) {       /* extended: pairs */
        f[k] = 10 * (x[k + 1] - x[k] * x[k]);
        f[k + 1] = 1 - x[k];
    }
    return 0;
}

int
rosenbrock_jacobian(int64_t m, int64_t n, const double *x, double *fjac, void *data)
{
    UNUSED_DATA;
    zero(m, n, fjac);
    for (int64_t k = 0; k < n; k += 2) {
        fjac[k + k * m] = -20 * x[k];
        fjac[k + (k + 1) * m] = 10;
        fjac[k + 1 + k * m] = -1;
    }
    return 0;
}

/* The same two of several problems at once, with m = n = 2. */
int
rosenbrock_in_lanes(int64_t m, int64_t n, int64_t lanes, const double *x, double *f, void *const *data, int32_t *status)
{
    (void)m;
    (void)n;
    (void)data;
    (void)status;
    for (int64_t l = 0; l < lanes; l++) {
        f[l] = 10 * (x[lanes + l] - x[l] * x[l]);
        f[lanes + l] = 1 - x[l];
    }
    return 0;
}

int
rosenbrock_jacobian_in_lanes(int64_t m, int64_t n, int64_t lanes, const double *x, double *fjac, void *const *data,
                             int32_t *status)
{
    (void)m;
    (void)n;
    (void)data;
    (void)status;
    for (int64_t l = 0; l < lanes; l++) {
        fjac[l] = -20 * x[l];
        fjac[lanes + l] = -1;
        fjac[2 * lanes + l] = 10;
        fjac[3 * lanes + l] = 0;
    }
    return 0;
}

int
powell_singular(int64_t m, int64_t n, const double *x, double *f, void *data)
{
    const double s5 = sqrt(5.0), s10 = sqrt(10.0);

    UNUSED_DATA;
    (void)m;
    for (int64_t k = 0; k < n; k += 4) {                    /* extended: fours */
        double u = x[k + 1] - 2 * x[k + 2], v = x[k] - x[k + 3];

        f[k] = x[k] + 10 * x[k + 1];
        f[k + 1] = s5 * (x[k + 2] - x[k + 3]);
        f[k + 2] = u * u;
        f[k + 3] = s10 * (v * v);
    }
    return 0;
}

int
powell_singular_jacobian(int64_t m, int64_t n, const double *x, double *fjac, void *data)
{
    const double s5 = sqrt(5.0), s10 = sqrt(10.0);

    UNUSED_DATA;
    zero(m, n, fjac);
    for (int64_t k = 0; k < n; k += 4) {
        double u = x[k + 1] - 2 * x[k + 2], v = x[k] - x[k + 3];
        double *block = fjac + k + k * m;

        block[0] = 1;
        block[m] = 10;
        block[1 + 2 * m] = s5;
        block[1 + 3 * m] = -s5;
        block[2 + m] = 2 * u;
        block[2 + 2 * m] = -4 * u;
        block[3] = 2 * s10 * v;
        block[3 + 3 * m] = -2 * s10 * v;
    }
    return 0;
}

int
freudenstein_roth(int64_t m, int64_t n, const double *x, double *f, void *data)
{
    double a = x[0], b = x[1];

    UNUSED_DATA;
    (void)m;
    (void)n;
    f[0] = -13 + a + ((5 - b) * b - 2) * b;
    f[1] = -29 + a + ((b + 1) * b - 14) * b;
    return 0;
}

int
freudenstein_roth_jacobian(int64_t m, int64_t n, const double *x, double *fjac, void *data)
{
    double b = x[1];

    UNUSED_DATA;
    (void)n;
    fjac[0] = 1;
    fjac[1] = 1;
    fjac[m] = (10 - 3 * b) * b - 2;
    fjac[1 + m] = (3 * b + 2) * b - 14;
    return 0;
}

/* data: y[m] */
int
bard(int64_t m, int64_t n, const double *x, double *f, void *data)
{
    const double *y = data;

    (void)n;
    for (int64_t i = 0; i < m; i++) {
        double u = (double)(i + 1), v = 16 - u, w = u < v ? u : v;

        f[i] = y[i] - (x[0] + u / (v * x[1] + w * x[2]));
    }
    return 0;
}

int
bard_jacobian(int64_t m, int64_t n, const double *x, double *fjac, void *data)
{
    UNUSED_DATA;
    (void)n;
    for (int64_t i = 0; i < m; i++) {
        double u = (double)(i + 1), v = 16 - u, w = u < v ? u : v;
        double d = v * x[1] + w * x[2], g = u / (d * d);

        fjac[i] = -1;
        fjac[i + m] = g * v;
        fjac[i + 2 * m] = g * w;
    }
    return 0;
}

/* data: y[m], u[m] */
int
kowalik_osborne(int64_t m, int64_t n, const double *x, double *f, void *data)
{
    const double *y = data, *u = y + m;

    (void)n;
    for (int64_t i = 0; i < m; i++)
        f[i] = y[i] - x[0] * (u[i] * (u[i] + x[1])) / (u[i] * (u[i] + x[2]) + x[3]);
    return 0;
}

int
kowalik_osborne_jacobian(int64_t m, int64_t n, const double *x, double *fjac, void *data)
{
    const double *u = (const double *)data + m;

    (void)n;
    for (int64_t i = 0; i < m; i++) {
        double top = u[i] * (u[i] + x[1]), bottom = u[i] * (u[i] + x[2]) + x[3];
        double g = x[0] * top / (bottom * bottom);

        fjac[i] = -top / bottom;
        fjac[i + m] = -x[0] * u[i] / bottom;
        fjac[i + 2 * m] = g * u[i];
        fjac[i + 3 * m] = g;
    }
    return 0;
}

/* s = sum x_j t^j, ds = sum x_j j t^(j-1); powers and slopes are the terms' factors. */
static void
watson_row(int64_t row, int64_t n, const double *x, double *powers, double *slopes, double *s,
           double *ds)
{
    double t = (double)(row + 1) / WATSON_ROWS;

    *s = *ds = 0.0;
    for (int64_t j = 0; j < n; j++) {
        powers[j] = j == 0 ? 1.0 : t * powers[j - 1];
        slopes[j] = j == 0 ? 0.0 : (double)j * powers[j - 1];
        *s = *s + powers[j] * x[j];
        *ds = *ds + slopes[j] * x[j];
    }
}

int
watson(int64_t m, int64_t n, const double *x, double *f, void *data)
{
    double powers[MOST_N], slopes[MOST_N], s, ds;

    UNUSED_DATA;
    (void)m;
    for (int64_t i = 0; i < WATSON_ROWS; i++) {
        watson_row(i, n, x, powers, slopes, &s, &ds);
        f[i] = ds - s * s - 1;
    }
    f[29] = x[0];
    f[30] = x[1] - x[0] * x[0] - 1;
    return 0;
}

int
watson_jacobian(int64_t m, int64_t n, const double *x, double *fjac, void *data)
{
    double powers[MOST_N], slopes[MOST_N], s, ds;

    UNUSED_DATA;
    zero(m, n, fjac);
    for (int64_t i = 0; i < WATSON_ROWS; i++) {
        watson_row(i, n, x, powers, slopes, &s, &ds);
        for (int64_t j = 0; j < n; j++)
            fjac[i + j * m] = slopes[j] - 2 * s * powers[j];
    }
    fjac[29] = 1;
    fjac[30] = -2 * x[0];
    fjac[30 + m] = 1;
    return 0;
}

int
chebyquad(int64_t m, int64_t n, const double *x, double *f, void *data)
{
    double y[MOST_N], previous[MOST_N], current[MOST_N];

    UNUSED_DATA;
    for (int64_t j = 0; j < n; j++) {
        y[j] = 2 * x[j] - 1;
        previous[j] = 1;
        current[j] = y[j];
    }
    for (int64_t k = 0; k < m; k++) {
        double i = (double)(k + 1), target = (k + 1) % 2 == 0 ? -1 / (i * i - 1) : 0.0;

        f[k] = sum(n, current, 0.0) * (1 / (double)n) - target;
        for (int64_t j = 0; j < n; j++) {
            double next = 2 * y[j] * current[j] - previous[j];

            previous[j] = current[j];
            current[j] = next;
        }
    }
    return 0;
}

int
chebyquad_jacobian(int64_t m, int64_t n, const double *x, double *fjac, void *data)
{
    UNUSED_DATA;
    for (int64_t j = 0; j < n; j++) {
        double y = 2 * x[j] - 1, t0 = 1, t1 = y, d0 = 0, d1 = 2;

        for (int64_t k = 0; k < m; k++) {
            double t2 = 2 * y * t1 - t0, d2 = 4 * t1 + 2 * y * d1 - d0;

            fjac[k + j * m] = d1 / (double)n;
            t0 = t1;
            t1 = t2;
            d0 = d1;
            d1 = d2;
        }
    }
    return 0;
}

int
brown_almost_linear(int64_t m, int64_t n, const double *x, double *f, void *data)
{
    double s = sum(n, x, -((double)n + 1.0)), product = x[0];

    UNUSED_DATA;
    for (int64_t j = 0; j < n; j++)
        f[j] = x[j] + s;
    for (int64_t j = 1; j < n; j++)
        product = x[j] * product;
    f[m - 1] = product - 1;
    return 0;
}

int
brown_almost_linear_jacobian(int64_t m, int64_t n, const double *x, double *fjac, void *data)
{
    double left = 1, right[MOST_N];

    UNUSED_DATA;
    right[n - 1] = 1;
    for (int64_t j = n - 2; j >= 0; j--)
        right[j] = j == n - 2 ? x[n - 1] : right[j + 1] * x[j + 1];
    for (int64_t j = 0; j < n; j++) {
        for (int64_t i = 0; i < m; i++)
            fjac[i + j * m] = i == j ? 2 : 1;
        if (j > 0)
            left = j == 1 ? x[0] : left * x[j - 1];
        fjac[m - 1 + j * m] = left * right[j];
    }
    return 0;
}

/* ------------------------------------------------- the rest of the collection */

int
brown_badly_scaled(int64_t m, int64_t n, const double *x, double *f, void *data)
{
    UNUSED_DATA;
    (void)m;
    (void)n;
    f[0] = x[0] - 1e6;
    f[1] = x[1] - 2e-6;
    f[2] = x[0] * x[1] - 2;
    return 0;
}

int
brown_badly_scaled_jacobian(int64_t m, int64_t n, const double *x, double *fjac, void *data)
{
    UNUSED_DATA;
    zero(m, n, fjac);
    fjac[0] = 1;
    fjac[1 + m] = 1;
    fjac[2] = x[1];
    fjac[2 + m] = x[0];
    return 0;
}

int
beale(int64_t m, int64_t n, const double *x, double *f, void *data)
{
    double b = x[1];

    UNUSED_DATA;
    (void)m;
    (void)n;
    f[0] = 1.5 - x[0] * (1 - b);
    f[1] = 2.25 - x[0] * (1 - b * b);
    f[2] = 2.625 - x[0] * (1 - b * b * b);
    return 0;
}

int
beale_jacobian(int64_t m, int64_t n, const double *x, double *fjac, void *data)
{
    double b = x[1];

    UNUSED_DATA;
    (void)n;
    fjac[0] = -(1 - b);
    fjac[1] = -(1 - b * b);
    fjac[2] = -(1 - b * b * b);
    fjac[m] = x[0];
    fjac[1 + m] = 2 * x[0] * b;
    fjac[2 + m] = 3 * x[0] * b * b;
    return 0;
}

int
wood(int64_t m, int64_t n, const double *x, double *f, void *data)
{
    const double s90 = sqrt(90.0), s10 = sqrt(10.0);

    UNUSED_DATA;
    (void)m;
    (void)n;
    f[0] = 10 * (x[1] - x[0] * x[0]);
    f[1] = 1 - x[0];
    f[2] = s90 * (x[3] - x[2] * x[2]);
    f[3] = 1 - x[2];
    f[4] = s10 * (x[1] + x[3] - 2);
    f[5] = (x[1] - x[3]) / s10;
    return 0;
}

int
wood_jacobian(int64_t m, int64_t n, const double *x, double *fjac, void *data)
{
    const double s90 = sqrt(90.0), s10 = sqrt(10.0);

    UNUSED_DATA;
    zero(m, n, fjac);
    fjac[0] = -20 * x[0];
    fjac[m] = 10;
    fjac[1] = -1;
    fjac[2 + 2 * m] = -2 * s90 * x[2];
    fjac[2 + 3 * m] = s90;
    fjac[3 + 2 * m] = -1;
    fjac[4 + m] = s10;
    fjac[4 + 3 * m] = s10;
    fjac[5 + m] = 1 / s10;
    fjac[5 + 3 * m] = -1 / s10;
    return 0;
}

int
penalty1(int64_t m, int64_t n, const double *x, double *f, void *data)
{
    const double a = sqrt(1e-5);
    double s = 0.0;

    UNUSED_DATA;
    for (int64_t j = 0; j < n; j++) {
        f[j] = a * (x[j] - 1);
        s = s + x[j] * x[j];
    }
    f[m - 1] = s - 0.25;
    return 0;
}

int
penalty1_jacobian(int64_t m, int64_t n, const double *x, double *fjac, void *data)
{
    UNUSED_DATA;
    zero(m, n, fjac);
    for (int64_t j = 0; j < n; j++) {
        fjac[j + j * m] = sqrt(1e-5);
        fjac[m - 1 + j * m] = 2 * x[j];
    }
    return 0;
}

static double
variably_dimensioned_sum(int64_t n, const double *x)
{
    double s = 0.0;

    for (int64_t j = 0; j < n; j++)
        s = s + (double)(j + 1) * (x[j] - 1);
    return s;
}

int
variably_dimensioned(int64_t m, int64_t n, const double *x, double *f, void *data)
{
    double s = variably_dimensioned_sum(n, x);

    UNUSED_DATA;
    (void)m;
    for (int64_t j = 0; j < n; j++)
        f[j] = x[j] - 1;
    f[n] = s;
    f[n + 1] = s * s;
    return 0;
}

int
variably_dimensioned_jacobian(int64_t m, int64_t n, const double *x, double *fjac, void *data)
{
    double s = variably_dimensioned_sum(n, x);

    UNUSED_DATA;
    zero(m, n, fjac);
    for (int64_t j = 0; j < n; j++) {
        fjac[j + j * m] = 1;
        fjac[n + j * m] = (double)(j + 1);
        fjac[n + 1 + j * m] = 2 * s * (double)(j + 1);
    }
    return 0;
}

/* The neighbours of x[j]; zero beyond the ends. */
static double
at(int64_t n, const double *x, int64_t j)
{
    return j < 0 || j >= n ? 0.0 : x[j];
}

int
discrete_boundary_value(int64_t m, int64_t n, const double *x, double *f, void *data)
{
    double h = 1 / ((double)n + 1);

    UNUSED_DATA;
    (void)m;
    for (int64_t j = 0; j < n; j++) {
        double t = (double)(j + 1) * h, c = x[j] + t + 1;

        f[j] = 2 * x[j] - at(n, x, j - 1) - at(n, x, j + 1) + h * h * (c * c * c) / 2;
    }
    return 0;
}

int
discrete_boundary_value_jacobian(int64_t m, int64_t n, const double *x, double *fjac, void *data)
{
    double h = 1 / ((double)n + 1);

    UNUSED_DATA;
    zero(m, n, fjac);
    for (int64_t j = 0; j < n; j++) {
        double t = (double)(j + 1) * h, c = x[j] + t + 1;

        fjac[j + j * m] = 2 + 1.5 * h * h * (c * c);
        if (j > 0)
            fjac[j + (j - 1) * m] = fjac[j - 1 + j * m] = -1;
    }
    return 0;
}

static double
kernel(double ti, double tj)
{
    return tj <= ti ? (1 - ti) * tj : ti * (1 - tj);
}

int
discrete_integral(int64_t m, int64_t n, const double *x, double *f, void *data)
{
    double h = 1 / ((double)n + 1);

    UNUSED_DATA;
    (void)m;
    for (int64_t i = 0; i < n; i++) {
        double s = 0.0;

        for (int64_t j = 0; j < n; j++) {
            double t = (double)(j + 1) * h, c = x[j] + t + 1;

            s = s + kernel((double)(i + 1) * h, t) * (c * c * c);
        }
        f[i] = x[i] + h * s / 2;
    }
    return 0;
}

int
discrete_integral_jacobian(int64_t m, int64_t n, const double *x, double *fjac, void *data)
{
    double h = 1 / ((double)n + 1);

    UNUSED_DATA;
    for (int64_t j = 0; j < n; j++) {
        double t = (double)(j + 1) * h, c = x[j] + t + 1;

        for (int64_t i = 0; i < m; i++)
            fjac[i + j * m] = (i == j ? 1.0 : 0.0)
                + 1.5 * h * kernel((double)(i + 1) * h, t) * (c * c);
    }
    return 0;
}

int
broyden_tridiagonal(int64_t m, int64_t n, const double *x, double *f, void *data)
{
    UNUSED_DATA;
    (void)m;
    for (int64_t j = 0; j < n; j++)
        f[j] = (3 - 2 * x[j]) * x[j] - at(n, x, j - 1) - 2 * at(n, x, j + 1) + 1;
    return 0;
}

int
broyden_tridiagonal_jacobian(int64_t m, int64_t n, const double *x, double *fjac, void *data)
{
    UNUSED_DATA;
    zero(m, n, fjac);
    for (int64_t j = 0; j < n; j++) {
        fjac[j + j * m] = 3 - 4 * x[j];
        if (j > 0) {
            fjac[j + (j - 1) * m] = -1;
            fjac[j - 1 + j * m] = -2;
        }
    }
    return 0;
}

static double
band(int64_t i, int64_t j)
{
    return i - j <= 5 && i - j >= -1 && i != j ? 1.0 : 0.0;
}

int
broyden_banded(int64_t m, int64_t n, const double *x, double *f, void *data)
{
    UNUSED_DATA;
    (void)m;
    for (int64_t i = 0; i < n; i++) {
        double s = 0.0;

        for (int64_t j = 0; j < n; j++)
            s = s + band(i, j) * (x[j] * (1 + x[j]));
        f[i] = x[i] * (2 + 5 * (x[i] * x[i])) + 1 - s;
    }
    return 0;
}

int
broyden_banded_jacobian(int64_t m, int64_t n, const double *x, double *fjac, void *data)
{
    UNUSED_DATA;
    for (int64_t j = 0; j < n; j++)
        for (int64_t i = 0; i < m; i++)
            fjac[i + j * m] = (i == j ? 2 + 15 * (x[i] * x[i]) : 0.0)
                - band(i, j) * (1 + 2 * x[j]);
    return 0;
}

/* ----------------------------------------------------- for faults and threads */

/* Rosenbrock's function and its Jacobian; call number `stop_at` of either returns `code`. */
typedef struct {
    int64_t calls, stop_at, code;
} counter;

int
counted(int64_t m, int64_t n, const double *x, double *f, void *data)
{
    counter *c = data;

    if (++c->calls == c->stop_at)
        return (int)c->code;
    return rosenbrock(m, n, x, f, NULL);
}

int
counted_jacobian(int64_t m, int64_t n, const double *x, double *fjac, void *data)
{
    counter *c = data;

    if (++c->calls == c->stop_at)
        return (int)c->code;
    return rosenbrock_jacobian(m, n, x, fjac, NULL);
}

/* linear_full_rank; each call sleeps for *data nanoseconds. */
int
slow(int64_t m, int64_t n, const double *x, double *f, void *data)
{
    struct timespec pause = {0, (long)*(int64_t *)data};

    nanosleep(&pause, NULL);
    return linear_full_rank(m, n, x, f, NULL);
}

int
stops(int64_t m, int64_t n, const double *x, double *f, void *data)
{
    UNUSED_DATA;
    (void)m;
    (void)n;
    (void)x;
    (void)f;
    return 12;
}

/* What data points to. */
int
relay(int64_t m, int64_t n, const double *x, double *f, void *data)
{
    leastsq_residual function;

    *(void **)&function = data;
    return function(m, n, x, f, NULL);
}

/* f_i = x_0 - y_i; data: y[m] */
int
mean(int64_t m, int64_t n, const double *x, double *f, void *data)
{
    const double *y = data;

    (void)n;
    for (int64_t i = 0; i < m; i++)
        f[i] = x[0] - y[i];
    return 0;
}

/* A function whose signature must be refused. */
double
half(double x)
{
    return x / 2;
}
