"""Bounds in the ask/tell core: minima as good as SciPy's, never a trial outside.

golden/bounded_scipy.json holds the bounded problems, and where SciPy's trf and
dogbox end on them.
"""
import ctypes as ct
import json
from dataclasses import dataclass, field

import numpy as np
import pytest

import problems
from conftest import HERE
from kernels import CODES, State, _p, assert_same_bits

CASES = json.loads((HERE / "golden" / "bounded_scipy.json").read_text())["cases"]

CONVERGED = (1, 2, 3, 4)

# Families where one start leads to several minima, and a solver finds the one
# that its first steps happen to choose.
MANY_MINIMA = {
    "chebyquad": "as many minima as orders of the points, one on each face",
    "brown_almost_linear": "1/2 at a vertex and 0 inside",
    "trigonometric": "periodic",
    "gulf": "flat where the exponentials have died out",
    "box3d": "a saddle on the face x1 = x2",
    "osborne1": "the two exponentials change places",
    "osborne2": "the Gaussians change places",
    "kowalik_osborne": "the corner of the box is stationary",
    "beale": "stationary along x2 = 1",
    "biggs_exp6": "the three exponentials change places",
    "broyden_tridiagonal": "minima on several faces",
    "watson": "nearly singular: the last 1e-6 take thousands of steps",
}

# Starts where a column of the Jacobian is so long that MINPACK's D, which never
# shrinks, slows that variable down for good (unbounded, MINPACK crawls there as
# well).  With D = 1 they arrive.
D_GROWN_TOO_LARGE = ("biggs_exp6-6-13-cut-corner", "biggs_exp6-6-13-nonneg-corner",
                     "chebyquad-8-8-nonneg-random", "chebyquad-9-9-nonneg-random",
                     "chebyquad-10-10-nonneg-random", "osborne1-5-33-cut-corner",
                     "watson-9-31-cut-standard")


@dataclass
class Fit:
    x: np.ndarray
    state: State
    trials: list = field(default_factory=list)
    accepted: list = field(default_factory=list)
    triangle: np.ndarray = None
    ipvt: np.ndarray = None

    @property
    def cost(self):
        return self.state.fnorm ** 2 / 2


def fit(core, residual, jacobian, x0, lo=None, hi=None, *, ftol=1.49012e-8, xtol=1.49012e-8,
        gtol=0.0, maxfev=3000, factor=1.0, diag=None):
    """A fit by asking and telling; without bounds if `lo` is None."""
    x0 = np.array(x0, float)
    n = x0.size
    bounded = int(lo is not None)
    columns = core.lib.lsq_core_columns(n, bounded)
    canary = np.full(n * columns + 5, -1.5)
    w = canary[:n * columns].reshape((n, columns), order="F")
    w[:] = np.nan
    mode = CODES["LSQ_SCALE_COLUMNS" if diag is None else "LSQ_SCALE_USER"]
    s = State(n=n, maxfev=maxfev, scaling=mode, ftol=ftol, xtol=xtol, gtol=gtol, factor=factor,
              bounded=bounded)
    w[:, CODES["LSQ_X"]] = x0
    if diag is not None:
        w[:, CODES["LSQ_DIAG"]] = diag
    if bounded:
        w[:, CODES["LSQ_LO"]], w[:, CODES["LSQ_HI"]] = lo, hi
    r, ipvt = np.full((n, n), np.nan, order="F"), np.arange(1, n + 1)
    out = Fit(x0, s, triangle=r, ipvt=ipvt)
    core.lib.lsq_start(ct.byref(s), _p(w))
    f = tried = None
    with np.errstate(all="ignore"):
        while s.request != CODES["LSQ_ASK_DONE"]:
            if s.request == CODES["LSQ_ASK_NORM"]:
                trial = w[:, CODES["LSQ_TRIAL"]].copy()
                out.trials.append(trial)
                tried = residual(trial)
                core.lib.lsq_tell_norm(ct.byref(s), _p(w), _p(r), n, _p(ipvt), core.enorm(tried), 1)
                if s.accepted:
                    f = tried
                    out.accepted.append(trial)
            else:
                a, pivots, rdiag, norms, qtf = core.qrfac(
                    jacobian(w[:, CODES["LSQ_X"]].copy()), True, f)
                r[:], ipvt[:] = a[:n], pivots
                r[np.diag_indices(n)] = rdiag
                w[:, CODES["LSQ_QTF"]], w[:, CODES["LSQ_COLNORM"]] = qtf[:n], norms
                core.lib.lsq_tell_model(ct.byref(s), _p(w), _p(r), n, _p(ipvt), 0)
    assert np.all(canary[n * columns:] == -1.5), "written past the end"
    if bounded:
        for trial in out.trials:
            assert np.all((lo <= trial) & (trial <= hi)), "a trial outside the bounds"
    out.x = w[:, CODES["LSQ_X"]].copy()
    return out


@pytest.fixture(scope="module")
def fits(core):
    """{case's name: (case, fit)}, fitted when asked for."""
    done = {}

    def get(case, **options):
        key = case["name"], *sorted(options.items())
        if key not in done:
            p = problems.problem(case["problem"], n=case["n"], m=case["m"])
            done[key] = fit(core, p.residual, p.jacobian, case["x0"], np.array(case["lo"]),
                            np.array(case["hi"]), **options)
        return done[key]
    return get


def _as_good(case, cost):
    """At trf's minimum to 1e-6, or below it; zero is a cost 1e-13 of the start's."""
    p = problems.problem(case["problem"], n=case["n"], m=case["m"])
    with np.errstate(all="ignore"):
        start = p.ssq(case["x0"])
    return cost <= case["trf"] * (1 + 1e-6) + 1e-13 * min(start, 1e3)


# Where the default tolerances are reached far from the end of a slow descent: residuals
# that are large and a Jacobian that is nearly singular, or (chebyquad) a D that has grown.
SLOW = ("watson-9-31-cut-standard", "watson-9-31-cut-corner", "watson-9-31-cut-random",
        "chebyquad-8-8-nonneg-random")

# Minima that are not trf's: `test_other_minima_are_minima` looks at each.
OTHER_MINIMA = (
    "kowalik_osborne-4-11-classic-corner", "chebyquad-8-8-cut-random",
    "chebyquad-8-8-tight-standard", "chebyquad-8-8-tight-corner", "chebyquad-8-8-tight-random",
    "chebyquad-9-9-cut-random", "chebyquad-10-10-cut-corner", "chebyquad-10-10-nonneg-standard",
    "chebyquad-10-10-tight-standard", "chebyquad-10-10-tight-corner", "osborne1-5-33-cut-random",
    "beale-2-3-cut-corner", "trigonometric-10-10-nonneg-random",
    "broyden_tridiagonal-10-10-nonneg-random", "gulf-3-10-nonneg-random")

# The one that is missed for good: a valley on which the exponentials have changed places, with
# a D a thousand times too large from a start where they explode.  trf gets across.
MISSED = ("biggs_exp6-6-13-nonneg-corner",)


@pytest.mark.parametrize("case", [c for c in CASES if c["name"] not in OTHER_MINIMA + MISSED],
                         ids=lambda case: case["name"])
def test_minimum_is_as_low_as_scipys(fits, case):
    name = case["name"]
    options = {}
    if name in D_GROWN_TOO_LARGE:
        options = {"diag": 1.0}
    if name in SLOW:
        options = {"ftol": 1e-14, "xtol": 1e-14, "maxfev": 20000}
    got = fits(case, **options)
    assert _as_good(case, got.cost), (got.cost, case["trf"], got.state.info)


@pytest.mark.parametrize("name", OTHER_MINIMA)
def test_other_minima_are_minima(fits, name):
    """No descent along any free variable, and nothing lower nearby within the bounds."""
    (case,) = [c for c in CASES if c["name"] == name]
    got = fits(case, ftol=1e-14, xtol=1e-14, maxfev=20000)
    assert got.state.info in CONVERGED
    p = problems.problem(case["problem"], n=case["n"], m=case["m"])
    x, lo, hi = got.x, np.array(case["lo"]), np.array(case["hi"])
    f, jac = p.residual(x), p.jacobian(x)
    slope = jac.T @ f
    held = (x <= lo) & (slope >= 0) | (x >= hi) & (slope <= 0)
    assert np.all(np.abs(slope[~held]) <= 1e-6 * np.linalg.norm(jac[:, ~held], axis=0) * np.linalg.norm(f))
    rng = np.random.default_rng(0)
    size = np.minimum(hi - lo, 1 + np.abs(x))
    with np.errstate(all="ignore"):
        for reach in (1e-2, 1e-3, 1e-4):
            for _ in range(100):
                other = np.clip(x + reach * size * rng.standard_normal(p.n), lo, hi)
                assert not p.ssq(other) < 2 * got.cost * (1 - 1e-9)


def test_nearly_all_minima_are_reached(fits):
    """449 or more of 471 with the default tolerances and D; the others have their names above."""
    missed = {case["name"] for case in CASES if not _as_good(case, fits(case).cost)}
    assert missed <= {*OTHER_MINIMA, *SLOW, *MISSED, *D_GROWN_TOO_LARGE}, missed
    assert len(missed) <= 22, missed


def test_evaluations_are_mostly_fewer_than_trfs(fits):
    ratios = []
    for case in CASES:
        got = fits(case)
        if _as_good(case, got.cost) and case["usual"] <= got.cost * (1 + 1e-4) + 1e-12:
            ratios.append(got.state.nfev / case["nfev"])
    assert len(ratios) > 0.7 * len(CASES)
    assert np.mean(np.array(ratios) <= 1) > 0.75
    assert np.median(ratios) < 0.75


def test_active_sets_change_on_the_way(fits):
    """A bound that held an iterate lets go again before the end."""
    left = 0
    for case in CASES:
        got = fits(case)
        lo, hi = np.array(case["lo"]), np.array(case["hi"])
        on = [(x == lo) | (x == hi) for x in got.accepted]
        left += any(np.any(sides & ~on[-1]) for sides in on[1:])
    assert left > 20


# ---------------------------------------------------------------------------
# what bounds mean


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


def test_linear_problem_on_a_face_takes_one_step(core):
    residual, jacobian = _line()
    hi = np.array([np.inf, np.inf, -1.0])
    got = fit(core, residual, jacobian, [0.0, 0, -3], -INF, hi, factor=100.0)
    a, rhs = jacobian(None)[:, :2], -residual(np.array([0.0, 0, -1]))
    want = np.linalg.lstsq(a, rhs, rcond=None)[0]
    np.testing.assert_allclose(got.x[:2], want, rtol=1e-12)
    assert got.x[2] == -1 and len(got.accepted) <= 3


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


def test_rejected_steps_into_a_corner_are_not_tried_twice(fits):
    for case in CASES:
        trials = fits(case).trials
        again = sum(np.array_equal(a, b) for a, b in zip(trials, trials[1:]))
        assert again <= 2, case["name"]


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
