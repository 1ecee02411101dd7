"""leastsq with bounds and callbacks: SciPy's minima, no point outside the bounds, every bad input.

Without them the bits are unchanged.
"""
import contextlib
import io
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

import leastsq as package
import problems
from bounded import BY_DIFFERENCES, CASES, ELSEWHERE, as_good
from docstrings import run_examples
from leastsq import Status, leastsq, leastsq_batch

ROOT = Path(__file__).resolve().parents[2]
T = np.linspace(0, 4, 60)
Y = 2.5 * np.exp(-1.3 * T) + .5 + .02 * np.random.default_rng(3).standard_normal(T.size)
X0 = [2.0, 1.0, .4]
QR = ["minpack", "blocked"]


def residual(p):
    return p[0] * np.exp(-p[1] * T) + p[2] - Y


def jacobian(p):
    e = np.exp(-p[1] * T)
    return np.stack([e, -p[0] * T * e, np.ones_like(T)], axis=1)


class Recorded:
    def __init__(self, function):
        self.function, self.points = function, []

    def __call__(self, x, *args):
        self.points.append(x.copy())
        return self.function(x, *args)


# ---------------------------------------------------------------------------
# bounds


@pytest.fixture(scope="module")
def bounded():
    """(case, problem, points, result) of a fit by differences, for every fifth problem."""
    fits = []
    for case in CASES[::5]:
        p = problems.problem(case["problem"], n=case["n"], m=case["m"])
        func = Recorded(p.residual)
        with np.errstate(all="ignore"):
            out = leastsq(func, case["x0"], bounds=(case["lo"], case["hi"]), factor=1.0,
                          ftol=1e-12, xtol=1e-12, full_output=True, maxfev=5000)
        fits.append((case, p, np.array(func.points), out))
    return fits


def test_never_an_evaluation_outside_the_bounds(bounded):
    for case, _, points, out in bounded:
        assert np.all((case["lo"] <= points) & (points <= case["hi"])), case["name"]
        assert len(points) == out[2]["nfev"]


@pytest.mark.parametrize("qr", QR)
def test_minima_are_those_of_trf(qr):
    compared = 0
    for case in CASES[::3]:
        # osborne1: at its corners columns are dependent, and rounding decides which minimum is found
        if case["name"] in ELSEWHERE or case["problem"] == "osborne1":
            continue
        p = problems.problem(case["problem"], n=case["n"], m=case["m"])
        with np.errstate(all="ignore"):
            x = leastsq(p.residual, case["x0"], Dfun=p.jacobian, bounds=(case["lo"], case["hi"]),
                        factor=1.0, ftol=1e-12, xtol=1e-12, maxfev=3000,
                        full_output=True, qr=qr)[0]
            cost = .5 * p.ssq(x)
        assert as_good(case, cost), (case["name"], cost)
        compared += 1
    assert compared >= 140


@pytest.mark.slow
def test_minima_by_differences_are_those_of_trf():
    missed = set()
    for case in CASES:
        p = problems.problem(case["problem"], n=case["n"], m=case["m"])
        with np.errstate(all="ignore"):
            x = leastsq(p.residual, case["x0"], bounds=(case["lo"], case["hi"]), factor=1.0,
                        maxfev=3000 * (p.n + 1), full_output=True)[0]
            if not as_good(case, .5 * p.ssq(x)):
                missed.add(case["name"])
    assert missed <= ELSEWHERE.keys() | BY_DIFFERENCES.keys(), missed


@pytest.mark.parametrize("how", [{}, {"qr": "blocked"}, {"Dfun": "2-point", "workers": 2},
                                 {"Dfun": "3-point"}, {"Dfun": "cs"}], ids=str)
def test_a_parameter_that_passes_near_zero_keeps_its_derivative(how):
    """With MINPACK's step the difference would be zero there."""
    (case,) = [c for c in CASES if c["name"] == "rosenbrock-2-2-classic-random"]
    p = problems.problem(case["problem"], n=case["n"], m=case["m"])
    func = Recorded(p.residual)
    bounds = case["lo"], case["hi"]
    x, ier = leastsq(func, case["x0"], bounds=bounds, factor=1.0, **how)
    sizes = np.abs(np.array(func.points, complex))
    assert sizes[sizes > 0].min() < 1e-8, "no point passes near zero"
    assert ier in (1, 2, 3, 4) and as_good(case, .5 * p.ssq(x))
    if "2-point" in how.values():
        np.testing.assert_array_equal(x, leastsq(p.residual, case["x0"], bounds=bounds, factor=1.0)[0])
    if not how:
        many = leastsq_batch(lambda x, problem: np.array([p.residual(row) for row in x]), [case["x0"]] * 2,
                             (np.arange(2),), bounds=bounds, factor=1.0)
        np.testing.assert_array_equal(many.x, [x, x])


def test_active_mask_shows_the_bounds(bounded):
    for case, _, _, (x, _, info, mesg, _) in bounded:
        mask = info["active_mask"]
        np.testing.assert_array_equal(mask == -1, x == case["lo"])
        np.testing.assert_array_equal(mask == 1, (x == case["hi"]) & (x != case["lo"]))
        held = info["multipliers"]
        assert ("Held:" in mesg) == (np.any(held * mask < 0) or np.any(np.equal(case["lo"], case["hi"])))
        assert np.all(held[mask == 0] == 0) and ("nothing depends" in mesg.lower()) == np.isnan(held).any()


@pytest.mark.parametrize("qr", QR)
@pytest.mark.parametrize("Dfun", [None, jacobian, "3-point", "cs"])
def test_a_bounded_fit_works_with_every_qr_and_dfun(qr, Dfun):
    out = leastsq(residual, [2, 1, .6], bounds=([0, 0, .6], [3, 1.1, 2]), Dfun=Dfun, qr=qr,
                  full_output=True, ftol=1e-12, xtol=1e-12)
    x, cov, info, mesg, ier = out
    assert ier in (1, 2, 3, 4) and x[1] == 1.1
    mask = info["active_mask"]
    held = mask != 0
    assert np.isnan(cov[held]).all() and np.isnan(cov[:, held]).all()
    free = jacobian(x)[:, ~held]
    np.testing.assert_allclose(cov[np.ix_(~held, ~held)], np.linalg.inv(free.T @ free), rtol=1e-5)
    gradient = jacobian(x).T @ residual(x)
    assert gradient[1] < 0 and np.all(np.abs(gradient[~held]) < 1e-5)
    assert "x[1] at the upper bound (multiplier" in mesg
    np.testing.assert_allclose(info["multipliers"], np.where(held, gradient, 0), rtol=1e-4)


def test_a_fixed_parameter_stays_and_is_named():
    x, cov, info, mesg, ier = leastsq(residual, [2, 1, .4], full_output=True,
                                      bounds=([-np.inf, 1, 0], [np.inf, 1, .45]))
    assert x[1] == 1 and np.isnan(cov[1]).all() and info["active_mask"][1] == -1
    assert "x[1] fixed" in mesg


def test_start_on_a_bound_leaves_it():
    x, ier = leastsq(residual, [2, 0, 0], bounds=(0, 10))
    np.testing.assert_allclose(x, leastsq(residual, X0)[0], rtol=1e-5)


def test_infinite_bounds_change_no_bit():
    free = leastsq(residual, X0, full_output=True)
    for bounds in ((-np.inf, np.inf), ([-np.inf] * 3, np.inf)):
        got = leastsq(residual, X0, full_output=True, bounds=bounds)
        np.testing.assert_array_equal(got[0], free[0])
        np.testing.assert_array_equal(got[2]["fjac"], free[2]["fjac"])
        assert got[3:] == free[3:] and not got[2]["active_mask"].any()
    assert "active_mask" not in free[2] and "history" not in free[2]


def test_bounds_object_and_scalars():
    class Bounds:
        lb, ub = 0, [9, 9, 9]
    np.testing.assert_array_equal(leastsq(residual, X0, bounds=Bounds())[0],
                                  leastsq(residual, X0, bounds=(0, 9))[0])


@pytest.mark.parametrize("bounds, words", [
    ((0,), "must contain 2 elements"), (3, "must contain 2 elements"),
    (([0, 0], 1), "Inconsistent shapes"), ((0, [1, 1, 1, 1]), "Inconsistent shapes"),
    ((np.nan, 9), r"must not be nan, got .*x\[0\]"), ((0, [9, np.nan, 9]), r"nan.*x\[1\]"),
    (([0, 3, 0], [9, 2, 9]), r"lower bound must be at most .*\[3.0, 2.0\] for x\[1\]"),
    ((0, [9, 9, .3]), r"`x0` is infeasible: x\[2\] = 0.4 is outside"),
    ((2.5, 9), "`x0` is infeasible"),
])
def test_bad_bounds(bounds, words):
    func = Recorded(residual)
    with pytest.raises(ValueError, match=words):
        leastsq(func, X0, bounds=bounds)
    assert not func.points


def test_every_infeasible_start_is_refused():
    """For each bounded problem, the start moved beyond one bound and then beyond the other."""
    refused = 0
    for case in CASES:
        lo, hi, x0 = (np.array(case[key], float) for key in ("lo", "hi", "x0"))
        for side, away in ((lo, -1), (hi, 1)):
            for j in np.flatnonzero(np.isfinite(side))[:2]:
                start = x0.copy()
                start[j] = side[j] + away * max(1e-9, 1e-9 * abs(side[j]))
                with pytest.raises(ValueError, match=rf"`x0` is infeasible: x\[{j}\]"):
                    leastsq(lambda x: pytest.fail("evaluated"), start, bounds=(lo, hi))
                refused += 1
    assert refused > 2 * len(CASES)


def test_nan_start_is_refused():
    with pytest.raises(ValueError, match=r"`x0` must not be nan, got x\[1\] = nan"):
        leastsq(residual, [2, np.nan, 0], bounds=(0, 9))


@pytest.mark.parametrize("maxfev, got", [(1.5, "float"), ("9", "str"), (None, "NoneType")])
def test_maxfev_is_named(maxfev, got):
    for options in ({}, {"bounds": (0, 9)}):
        with pytest.raises(TypeError, match=f"leastsq: maxfev must be an integer, got {got}"):
            leastsq(residual, [2, 1, 0], maxfev=maxfev, **options)


def test_failures_have_the_same_messages_with_bounds():
    with pytest.warns(RuntimeWarning, match="maxfev = 3"):
        assert leastsq(residual, X0, bounds=(0, 9), maxfev=3)[1] == 5
    with pytest.warns(RuntimeWarning, match=r"func\(x\)\[0\] is nan"):
        assert leastsq(lambda p: residual(p) * np.nan, X0, bounds=(0, 9))[1] == 9
    with pytest.raises(TypeError, match="must not exceed"):
        leastsq(lambda p: p[:2], X0, bounds=(0, 9))


# ---------------------------------------------------------------------------
# callbacks


@pytest.mark.parametrize("qr", QR)
def test_callback_once_per_iteration(qr):
    states = []
    x, _, info, _, ier = leastsq(residual, X0, callback=states.append, qr=qr, full_output=True,
                                 Dfun=jacobian)
    assert ier in (1, 2, 3) and [s.iteration for s in states] == list(range(1, len(states) + 1))
    assert [s.njev for s in states] == list(range(1, info["njev"] + 1))
    for s in states:
        f, j = residual(s.x), jacobian(s.x)
        assert s.fnorm == pytest.approx(np.linalg.norm(f), rel=1e-13)
        assert s.cost == .5 * s.fnorm ** 2 and s.radius > 0
        cosines = np.abs(j.T @ f) / np.linalg.norm(j, axis=0) / np.linalg.norm(f)
        assert s.gnorm == pytest.approx(cosines.max(), abs=1e-9)
    np.testing.assert_array_equal(states[0].x, X0)
    assert all(np.diff([s.cost for s in states]) < 0)


@pytest.mark.parametrize("stop", [lambda s: s.iteration == 3, lambda s: np.bool_(s.iteration == 3)])
def test_callback_may_stop(stop):
    seen = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x, cov, info, mesg, ier = leastsq(residual, X0, full_output=True,
                                          callback=lambda s: (seen.append(s.x), stop(s))[1])
    assert ier == Status.WATCHER == 11 and cov is None and "callback" in mesg
    np.testing.assert_array_equal(x, seen[-1])
    np.testing.assert_array_equal(info["fvec"], residual(x))
    assert len(seen) == 3
    assert leastsq(residual, X0, callback=stop)[1] == 11          # without a warning too


def test_callback_may_raise():
    def stop(state):
        raise StopIteration
    assert leastsq(residual, X0, callback=stop)[1] == 11

    class Mine(Exception):
        pass

    def fail(state):
        raise Mine
    with pytest.raises(Mine):
        leastsq(residual, X0, callback=fail)


def test_callback_changes_nothing():
    def meddle(state):
        state.x[:] = np.nan
    plain = leastsq(residual, X0, full_output=True)
    for options in ({"callback": meddle}, {"history": True}, {"callback": lambda s: None}):
        got = leastsq(residual, X0, full_output=True, **options)
        np.testing.assert_array_equal(got[0], plain[0])
        np.testing.assert_array_equal(got[2]["fjac"], plain[2]["fjac"])
        assert got[2]["nfev"] == plain[2]["nfev"]


def test_callback_may_fit():
    inner = []
    leastsq(residual, X0, callback=lambda s: inner.append(leastsq(residual, s.x)[1]) or False)
    assert inner and set(inner) <= {1, 2, 3}


def test_callback_must_be_callable():
    with pytest.raises(TypeError, match="callback must be callable"):
        leastsq(residual, X0, callback=3)


# ---------------------------------------------------------------------------
# losses, refused; documentation


@pytest.mark.parametrize("options, error, words", [
    ({"loss": "l1"}, ValueError, "`loss` must be one of .*got 'l1'"),
    ({"loss": None}, ValueError, "`loss` must be one of"),
    ({"loss": "huber", "f_scale": 0}, ValueError, "`f_scale` must be positive"),
    ({"loss": "huber", "f_scale": -1.0}, ValueError, "`f_scale` must be positive"),
    ({"loss": "huber", "f_scale": np.nan}, ValueError, "`f_scale` must be positive"),
    ({"f_scale": np.inf}, ValueError, "`f_scale` must be positive"),
    ({"loss": "huber", "f_scale": "a"}, TypeError, "`f_scale` must be a real number"),
    ({"loss": "huber", "f_scale": None}, TypeError, "`f_scale` must be a real number"),
    ({"loss": lambda z: z}, ValueError, r"loss returns must have shape \(3, 60\)"),
    ({"loss": lambda z: 1 / 0}, ZeroDivisionError, "division"),
])
def test_bad_losses(options, error, words):
    with pytest.raises(error, match=words):
        leastsq(residual, X0, **options)


@pytest.mark.parametrize("row", [0, 1, 2])
def test_a_loss_that_is_not_finite_is_named(row):
    def loss(z):
        rho = np.array([z, np.ones_like(z), np.zeros_like(z)])
        rho[row, 7] = np.nan
        return rho
    *_, mesg, ier = leastsq(residual, X0, loss=loss, full_output=True)
    assert ier == 9 and mesg.endswith("Or the result of loss there is not finite.")
    *_, mesg, ier = leastsq(lambda p: residual(p) * np.nan, X0, loss="huber", full_output=True)
    assert ier == 9 and "loss" not in mesg


def test_page_about_fitting_runs():
    """The examples of docs/fitting.md run one after another."""
    page = (ROOT / "docs" / "fitting.md").read_text(encoding="utf-8")
    names = {}
    with contextlib.redirect_stdout(io.StringIO()):
        for source in re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
            exec(compile(source, "fitting.md", "exec"), names)
    assert names["history"]["nfev"][0] == 1


@pytest.mark.parametrize("name", ["leastsq", "least_squares", "check_gradient"])
def test_examples_of_the_documentation(name):
    wrong, tried = run_examples(getattr(package, name).__doc__)
    assert tried > 3 and wrong == ""
