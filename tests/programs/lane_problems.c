/* The curve of batch_problems.c in lanes, and functions in lanes that misbehave or check their arguments.

   Operations stand in the order of the curve in test_batch.py, so that with contraction off all
   three have the same bits, whatever the lanes. */
#include <leastsq.h>
#include <math.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

enum { MOST = 16 };

int
lanes_curve(int64_t m, int64_t n, int64_t lanes, const double *x, double *f, void *const *data,
            int32_t *status)
{
    (void)n;
    (void)status;
    for (int64_t i = 0; i < m; i++)
        for (int64_t l = 0; l < lanes; l++)
            f[i * lanes + l] = x[l] / (1 + x[lanes + l] * (0.25 * (double)i)) + x[2 * lanes + l]
                               - ((const double *)data[l])[i];
    return 0;
}

int
lanes_curve_jacobian(int64_t m, int64_t n, int64_t lanes, const double *x, double *fjac,
                     void *const *data, int32_t *status)
{
    (void)n;
    (void)data;
    (void)status;
    for (int64_t i = 0; i < m; i++) {
        for (int64_t l = 0; l < lanes; l++) {
            double t = 0.25 * (double)i, below = 1 + x[lanes + l] * t;

            fjac[i * lanes + l] = 1 / below;
            fjac[(i + m) * lanes + l] = -x[l] * t / (below * below);
            fjac[(i + 2 * m) * lanes + l] = 1;
        }
    }
    return 0;
}

/* Sum of x[j]^2 t^j with any number of parameters: in lanes, and of one problem. */
int
lanes_powers(int64_t m, int64_t n, int64_t lanes, const double *x, double *f, void *const *data,
             int32_t *status)
{
    (void)status;
    for (int64_t i = 0; i < m; i++) {
        for (int64_t l = 0; l < lanes; l++) {
            double t = 0.1 * (double)(i + 1), power = 1, sum = 0;

            for (int64_t j = 0; j < n; j++, power *= t)
                sum += x[j * lanes + l] * x[j * lanes + l] * power;
            f[i * lanes + l] = sum - ((const double *)data[l])[i];
        }
    }
    return 0;
}

int
powers(int64_t m, int64_t n, const double *x, double *f, void *data)
{
    int32_t status;

    return lanes_powers(m, n, 1, x, f, &data, &status);
}

/* A peak on a grid from 0 to 1, whose tails vanish.  data: its width, then y. */
int
lanes_peak(int64_t m, int64_t n, int64_t lanes, const double *x, double *f, void *const *data, int32_t *status)
{
    (void)n;
    (void)status;
    for (int64_t i = 0; i < m; i++) {
        for (int64_t l = 0; l < lanes; l++) {
            const double *own = data[l];
            double u = ((double)i / (double)(m - 1) - x[lanes + l]) / own[0];

            f[i * lanes + l] = x[l] * exp(-u * u) - own[1 + i];
        }
    }
    return 0;
}

int
peak(int64_t m, int64_t n, const double *x, double *f, void *data)
{
    int32_t status;

    return lanes_peak(m, n, 1, x, f, &data, &status);
}

static void
stop_below_zero(int64_t lanes, void *const *data, int32_t *status, int32_t code)
{
    for (int64_t l = 0; l < lanes; l++)
        if (((const double *)data[l])[0] < 0)
            status[l] = code;
}

int
lanes_stop_below_zero(int64_t m, int64_t n, int64_t lanes, const double *x, double *f,
                      void *const *data, int32_t *status)
{
    stop_below_zero(lanes, data, status, 7);
    return lanes_curve(m, n, lanes, x, f, data, status);
}

int
lanes_jacobian_stops_below_zero(int64_t m, int64_t n, int64_t lanes, const double *x, double *fjac,
                                void *const *data, int32_t *status)
{
    stop_below_zero(lanes, data, status, 8);
    return lanes_curve_jacobian(m, n, lanes, x, fjac, data, status);
}

/* Stops if x[0] is larger than its start, 1: in a difference, or after the first step. */
int
lanes_stop_beyond_one(int64_t m, int64_t n, int64_t lanes, const double *x, double *f,
                      void *const *data, int32_t *status)
{
    for (int64_t l = 0; l < lanes; l++)
        if (x[l] > 1 && ((const double *)data[l])[0] < 0)
            status[l] = 9;
    return lanes_curve(m, n, lanes, x, f, data, status);
}

int
lanes_return_six(int64_t m, int64_t n, int64_t lanes, const double *x, double *f, void *const *data,
                 int32_t *status)
{
    lanes_curve(m, n, lanes, x, f, data, status);
    return 6;
}

/* Writes all residuals but the last. */
int
lanes_short_curve(int64_t m, int64_t n, int64_t lanes, const double *x, double *f, void *const *data,
                  int32_t *status)
{
    return lanes_curve(m - 1, n, lanes, x, f, data, status);
}

/* The number of calls, of lanes with a problem that no other lane has, and of calls whose arguments break a promise. */
static int64_t seen[3];

const int64_t *
lanes_seen(int forget)
{
    if (forget)
        memset(seen, 0, sizeof seen);
    return seen;
}

int
lanes_watched_curve(int64_t m, int64_t n, int64_t lanes, const double *x, double *f,
                    void *const *data, int32_t *status)
{
    int64_t own = 1;
    int wrong = (uintptr_t)x % 64 != 0 || (uintptr_t)f % 64 != 0;

    while (own < lanes && data[own] != data[own - 1])
        own++;
    for (int64_t l = own; l < lanes; l++)
        for (int64_t j = 0; j < n; j++)
            wrong |= data[l] != data[own - 1] || x[j * lanes + l] != x[j * lanes + own - 1];
    for (int64_t l = 0; l < lanes; l++)
        wrong |= status[l] != 0;
    seen[0]++;
    seen[1] += own;
    seen[2] += wrong;
    return lanes_curve(m, n, lanes, x, f, data, status);
}

/* Counted, and slow. */
int
lanes_sleepy_curve(int64_t m, int64_t n, int64_t lanes, const double *x, double *f, void *const *data,
                   int32_t *status)
{
    struct timespec pause = {0, 10000000};

    seen[0]++;
    nanosleep(&pause, NULL);
    return lanes_curve(m, n, lanes, x, f, data, status);
}
