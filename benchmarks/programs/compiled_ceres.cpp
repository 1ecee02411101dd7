// Ceres' TinySolver for benchmarks/programs/compiled.c, a library that it loads.  Headers of Ceres and Eigen only.
//
// It wants derivatives, and solves normal equations.  Its tests on the cost and the gradient are absolute, and off.
#include <algorithm>
#include <cstdint>

#include <ceres/tiny_solver.h>
#include <ceres/version.h>

#include "leastsq.h"

namespace {

template <int N>
struct Problem {
    typedef double Scalar;
    enum { NUM_RESIDUALS = Eigen::Dynamic, NUM_PARAMETERS = N };
    leastsq_residual residual;
    leastsq_jacobian jacobian;
    void *data;
    int m;
    mutable std::int64_t nfev, njev;

    int NumResiduals() const { return m; }

    bool operator()(const double *x, double *f, double *columns) const
    {
        nfev++;
        if (residual(m, N, x, f, data))
            return false;
        if (columns == nullptr)
            return true;
        njev++;
        return jacobian(m, N, x, columns, data) == 0;
    }
};

template <int N>
int solve(leastsq_residual f, leastsq_jacobian j, void *data, int m, double tolerance, double *x, std::int64_t *nfev,
          std::int64_t *njev)
{
    static thread_local ceres::TinySolver<Problem<N>> solver;
    Problem<N> problem = {f, j, data, m, 0, 0};
    Eigen::Matrix<double, N, 1> point(x);

    solver.options.parameter_tolerance = tolerance;
    solver.options.gradient_tolerance = solver.options.function_tolerance = solver.options.cost_threshold = 0;
    solver.options.max_num_iterations = 200;
    solver.Solve(problem, &point);
    std::copy_n(point.data(), N, x);
    *nfev = problem.nfev;
    *njev = problem.njev;
    return solver.summary.iterations < 200 ? 0 : 1;
}

}  // namespace

extern "C" const char *version(void) { return CERES_VERSION_STRING; }

// A fit from x, which becomes the answer.  Zero on success; without a Jacobian it cannot.
extern "C" int fit(leastsq_residual f, leastsq_jacobian j, void *data, int m, int n, double tolerance, double *x,
                   std::int64_t *nfev, std::int64_t *njev)
{
    if (j == nullptr)
        return 1;
    if (n == 3)
        return solve<3>(f, j, data, m, tolerance, x, nfev, njev);
    if (n == 5)
        return solve<5>(f, j, data, m, tolerance, x, nfev, njev);
    return 1;
}
