"""Bounds in the ask/tell core: what they mean, and never a trial outside."""
import numpy as np
import pytest

import problems
from bounded import CONVERGED, fit
from kernels import CODES, _p, assert_same_bits


def _line(t=np.linspace(0, 1, 7)):
    y = 1 + 2 * t + .1 * np.cos(20 * t)
    a = np.stack([np.ones_like(t), t, t * t], axis=1)
    return lambda x: a @ x - y, lambda x: a


INF = np.full(3, np.inf)


def test_infinite_bounds_change_nothing_but_rounding(core):
    for name in ("bard", "kowalik_osborne", "osborne1", "wood", "beale", "helical_valley"):
        p = problems.problem(name)
        wide = np.full(p.n, np.inf)
        free = fit(core, p.residual, p.jacobian, p.x0, factor=100.0)
        got = fit(core, p.residual, p.jacobian, p.x0, -wide, wide, factor=100.0)
        assert got.state.nfev == free.state.nfev and got.state.info == free.state.info
        np.testing.assert_allclose(got.x, free.x, rtol=1e-9, atol=1e-12)


def test_perfect_data_end_in_success(core):
    """f falls to rounding errors, whose direction is any: no reason to see a stall."""
    rng = np.random.default_rng(1)
    t = np.linspace(0, 3, 20)

    def jacobian(x):
        e = np.exp(-x[1] * t)
        return np.stack([e, -x[0] * t * e, np.ones(20)], axis=1)
    for _ in range(50):
        truth = rng.uniform(.5, 2, 3)
        y = truth[0] * np.exp(-truth[1] * t) + truth[2]
        got = fit(core, lambda x: x[0] * np.exp(-x[1] * t) + x[2] - y, jacobian,
                  truth * rng.uniform(.6, 1.6, 3), np.zeros(3), np.full(3, 10.0))
        assert got.state.info in CONVERGED and got.cost < 1e-26


def test_linear_problem_on_a_face_takes_a_few_steps(core):
    """Part of the way to the bound, until the model has proved right; then onto it."""
    residual, jacobian = _line()
    hi = np.array([np.inf, np.inf, -1.0])
    got = fit(core, residual, jacobian, [0.0, 0, -3], -INF, hi, factor=100.0)
    a, rhs = jacobian(None)[:, :2], -residual(np.array([0.0, 0, -1]))
    want = np.linalg.lstsq(a, rhs, rcond=None)[0]
    np.testing.assert_allclose(got.x[:2], want, rtol=1e-12)
    assert got.x[2] == -1 and len(got.accepted) <= 4


def test_fixed_variable_is_as_if_it_were_not_there(core):
    p = problems.problem("osborne1")
    keep = np.array([0, 1, 3, 4])
    lo, hi = np.full(5, -np.inf), np.full(5, np.inf)
    lo[2] = hi[2] = x2 = -1.3

    def whole(x):
        return np.insert(x, 2, x2)

    x0 = np.array([.5, 1.5, x2, .01, .02])
    reduced = fit(core, lambda x: p.residual(whole(x)), lambda x: p.jacobian(whole(x))[:, keep],
                  x0[keep], -INF.repeat(2)[:4], INF.repeat(2)[:4], factor=100.0)
    got = fit(core, p.residual, p.jacobian, x0, lo, hi, factor=100.0)
    assert got.x[2] == x2
    assert got.state.nfev == reduced.state.nfev and got.state.info == reduced.state.info
    np.testing.assert_allclose(got.x[keep], reduced.x, rtol=1e-9)


def test_all_fixed_ends_at_once(core):
    p = problems.problem("bard")
    got = fit(core, p.residual, p.jacobian, p.x0, p.x0, p.x0)
    assert got.state.info == CODES["LSQ_GTOL"] and got.state.nfev == 1
    assert_same_bits(got.x, p.x0, "x")


def test_start_at_a_constrained_minimum_ends_at_once(core):
    residual, jacobian = (lambda x: x - np.array([2.0, 3.0])), (lambda x: np.eye(2))
    one = np.ones(2)
    got = fit(core, residual, jacobian, one, -one, one)
    assert got.state.info == CODES["LSQ_GTOL"] and got.state.nfev == 1 and got.state.gnorm == 0


def test_minimum_that_lies_exactly_on_a_bound(core):
    """The multiplier is zero: the bound may hold or not."""
    for name, x in (("rosenbrock", [1, 1]), ("beale", [3, .5])):
        p = problems.problem(name)
        hi = np.array(x, float)
        got = fit(core, p.residual, p.jacobian, np.minimum(p.x0, hi), np.full(p.n, -np.inf), hi)
        assert got.state.info in CONVERGED
        np.testing.assert_allclose(got.x, hi, rtol=1e-6)


def test_start_on_a_bound_with_the_gradient_inwards_leaves_it(core):
    p = problems.problem("bard")
    lo = p.x0.copy()
    lo[0] = 0.0
    got = fit(core, p.residual, p.jacobian, lo, lo, INF)
    assert np.all(got.x[:1] > lo[:1]) and _ssq_close(p, got.x, 8.21487730657e-3)


def _ssq_close(p, x, want):
    return abs(p.ssq(x) - want) < 1e-6 * want


def test_zero_columns_and_held_variables(core):
    """A free variable without influence stays where it is."""
    p = problems.problem("linear_rank1_zero")
    hi = np.array([np.inf, .5, np.inf, np.inf, np.inf])
    got = fit(core, p.residual, p.jacobian, np.minimum(p.x0, hi), np.full(5, -np.inf), hi)
    assert _ssq_close(p, got.x, p.minima[0].ssq)
    assert got.x[0] == p.x0[0] and got.x[4] == p.x0[4]


@pytest.mark.parametrize("x0, lo, hi", [
    ([2.0, 0], [0, 0], [1, 1]), ([-1.0, 0], [0, 0], [1, 1]), ([.5, .5], [1, 0], [0, 1]),
    ([.5, .5], [np.nan, 0], [1, 1]), ([.5, .5], [0, 0], [1, np.nan]), ([np.nan, 0], [0, 0], [1, 1]),
])
def test_improper_bounds_or_start(core, x0, lo, hi):
    got = fit(core, None, None, x0, np.array(lo, float), np.array(hi, float))
    assert got.state.info == CODES["LSQ_IMPROPER"] and not got.trials


@pytest.mark.parametrize("name, lo, hi, x0", [
    ("osborne1", [.439, 1.064, -1.929, -.0913, -.0822], [.6375, 2.37, -.5353, .0111, .1243],
     [.4842, 1.885, -1.763, -.0695, .1067]),
    ("brown_badly_scaled", [0, 3e-5], [1e6, 100], [0, 3e-5]),
])
def test_stall_far_from_a_minimum_is_not_convergence(core, name, lo, hi, x0):
    """The radius is small by rejections or from the start, the gradient is not."""
    p = problems.problem(name)
    got = fit(core, p.residual, p.jacobian, x0, np.array(lo, float), np.array(hi, float))
    assert got.state.info not in CONVERGED or got.state.gnorm < 1e-2
    assert got.cost < 1e4


# ---------------------------------------------------------------------------
# differences and covariance


def test_difference_points_stay_within_bounds(core):
    x = np.array([1.0, 1.0, 1.0, 1.0, 0.0])
    lo = np.array([0, 0, 1 - 1e-12, 1.0, -1])
    hi = np.array([2, 1, 1 + 2e-12, 1.0, 0])
    fjac, trace, status = core.fdjac2(lambda z: np.append(z * z, z.sum()), x, lo=lo, hi=hi)
    points = np.array([point for _, point in trace])
    assert status == 0 and len(points) == 4         # none for the fixed one
    assert np.all((lo <= points) & (points <= hi))
    h = 2.0 ** -26
    assert points[0, 0] == 1 + h and points[1, 1] == 1 - h
    assert points[2, 2] == hi[2] and points[3, 4] == -h
    np.testing.assert_allclose(np.diag(fjac)[[0, 1, 4]], [2, 2, 0], atol=1e-7)
    assert np.all(fjac[:, 3] == 0)


def test_difference_jacobian_has_the_same_bits_within_wide_bounds(core):
    p = problems.problem("kowalik_osborne")
    wide = np.full(p.n, np.inf)
    free = core.fdjac2(p.residual, p.x0)[0]
    assert_same_bits(core.fdjac2(p.residual, p.x0, lo=-wide, hi=wide)[0], free, "fjac")


def test_difference_steps_keep_the_size_that_a_variable_had(core):
    x, wide = np.array([1e-20, -1e-20, .5]), np.ones(3)
    _, trace, _ = core.fdjac2(lambda z: z, x, lo=-wide, hi=wide, largest=np.array([.25, 1.0, 1e-3]))
    steps = np.diag([point for _, point in trace]) - x
    np.testing.assert_allclose(steps, 2.0 ** -26 * np.array([2.0 ** -12, 2.0 ** -10, .5]), rtol=1e-8)


def test_covariance_of_the_free_variables(core):
    p = problems.problem("osborne2")
    lo, hi = np.full(11, -np.inf), np.full(11, np.inf)
    hi[[2, 8]] = .6, 2.3
    lo[9] = 4.6
    got = fit(core, p.residual, p.jacobian, np.clip(p.x0, lo, hi), lo, hi)
    n = p.n
    cov, side = np.full((n, n), np.nan, order="F"), np.empty(n)
    work = np.full(n * (2 * n + 1), np.nan)
    determined = core.lib.lsq_free_covar(n, _p(got.triangle), n, _p(got.ipvt), _p(got.x), _p(lo),
                                         _p(hi), _p(cov), _p(side), _p(work))
    held = (got.x == lo) | (got.x == hi)
    assert determined == 1 and held.any()
    np.testing.assert_array_equal(side, np.where(got.x == lo, -1, np.where(got.x == hi, 1, 0)))
    a = np.zeros((n, n))
    a[:, got.ipvt - 1] = np.triu(got.triangle)
    a = a[:, ~held]
    np.testing.assert_allclose(cov[np.ix_(~held, ~held)], np.linalg.inv(a.T @ a), rtol=1e-6)
    assert np.all(cov[held] == 0) and np.all(cov[:, held] == 0)


def test_covariance_tells_dependent_free_columns(core):
    n = 3
    r = np.asfortranarray([[2.0, 1, 1], [0, 0, 0], [0, 0, 0]])
    ipvt, x, lo, hi = np.array([1, 2, 3]), np.zeros(3), np.array([0.0, -1, -1]), np.ones(3)
    cov, side, work = np.empty((n, n), order="F"), np.empty(n), np.empty(n * (2 * n + 1))
    assert core.lib.lsq_free_covar(n, _p(r), n, _p(ipvt), _p(x), _p(lo), _p(hi), _p(cov),
                                   _p(side), _p(work)) == 0
