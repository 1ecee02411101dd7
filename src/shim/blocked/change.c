/* The change of the residuals along the rows of a Jacobian, in any layout of the rows. */
#include "blocked.h"

enum {
    PIECE = 256,                /* rows at a time: their differences are computed once for all columns */
    LANES = 8                   /* independent sums, which the processor adds in parallel */
};

static double
at(const char *where, int single)
{
    return single ? (double)*(const float *)where : *(const double *)where;
}

/* For columns of adjacent float64: the sum of one column, in lanes. */
static double
along_column(int64_t count, const double *restrict column, const double *restrict difference)
{
    double lanes[LANES] = {0}, total = 0;
    int64_t i = 0;

    for (; i + LANES <= count; i += LANES)
        for (int q = 0; q < LANES; q++)
            lanes[q] += column[i + q] * difference[i + q];
    for (; i < count; i++)
        total += column[i] * difference[i];
    for (int q = 0; q < LANES; q++)
        total += lanes[q];
    return total;
}

/* For rows of adjacent float64: four rows at a time, because `change` is loaded and stored for each step. */
static void
along_rows(int64_t count, int64_t n, const char *rows, npy_intp stride, const double *difference,
           double *restrict change)
{
    int64_t i = 0;

    for (; i + 4 <= count; i += 4) {
        const double *restrict one = (const double *)(rows + i * stride);
        const double *restrict two = (const double *)(rows + (i + 1) * stride);
        const double *restrict three = (const double *)(rows + (i + 2) * stride);
        const double *restrict four = (const double *)(rows + (i + 3) * stride);
        const double *d = difference + i;

        for (int64_t j = 0; j < n; j++)
            change[j] += (one[j] * d[0] + two[j] * d[1]) + (three[j] * d[2] + four[j] * d[3]);
    }
    for (; i < count; i++) {
        const double *restrict row = (const double *)(rows + i * stride), d = difference[i];
        for (int64_t j = 0; j < n; j++)
            change[j] += row[j] * d;
    }
}

void
rows_change(const elements *rows, int64_t from, int64_t to, int64_t n, const double *f, const double *other,
            const double *weights, double *change)
{
    npy_intp size = sizeof(double), down = rows->row_stride, across = rows->column_stride;
    double difference[PIECE];

    for (int64_t first = from; first < to; first += PIECE) {
        int64_t count = to - first < PIECE ? to - first : PIECE;
        const char *start = rows->data + first * down;

        for (int64_t i = 0; i < count; i++) {
            difference[i] = other[first + i] - f[first + i];
            if (weights != NULL)        /* the rows of J are not weighted yet */
                difference[i] *= weights[first + i] * weights[first + i];
        }
        if (!rows->single && down == size)
            for (int64_t j = 0; j < n; j++)
                change[j] += along_column(count, (const double *)(start + j * across), difference);
        else if (!rows->single && across == size)
            along_rows(count, n, start, down, difference, change);
        else
            for (int64_t j = 0; j < n; j++)
                for (int64_t i = 0; i < count; i++)
                    change[j] += at(start + i * down + j * across, rows->single) * difference[i];
    }
}
