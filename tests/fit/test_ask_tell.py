"""`LevenbergMarquardt`: a loop written by the user has the iterates of `leastsq`, wherever it is saved and resumed."""
import copy
import doctest
import gc
import inspect
import os
import pickle
import subprocess
import sys
import threading
import tracemalloc
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import leastsq as package
import problems
from leastsq import LevenbergMarquardt, RowAccumulator, leastsq
from leastsq._many.lock_step import STATE

# (some of the classic runs, and some of the paper's other problems)
PROBLEMS = {f"{p.name}-{p.n}-{factor:g}": (p, p.start(factor)) for _, p, factor in problems.minpack_cases()}
PROBLEMS |= {f"{p.name}-{p.n}": (p, p.start()) for p in problems.extra_problems() if p.m >= p.n}
EVERY_PROBLEM = pytest.mark.parametrize("name", PROBLEMS)
BOTH_WAYS = pytest.mark.parametrize("analytic", [False, True], ids=["differences", "analytic"])


def by_differences(lm, f, residual, evaluate=map):
    points, steps = lm.points()
    moving = steps != 0
    J = np.zeros((f.size, lm.n))
    J[:, moving] = np.transpose([(value - f)/h for value, h
                                 in zip(evaluate(residual, points[moving]), steps[moving])])
    return J, int(moving.sum())


def answer(lm, residual, jacobian=None, f=None, tell=None):
    """Answer one request; returns the residuals at x, for the next model."""
    if lm.request == "norm":
        trial = residual(lm.x_eval)
        lm.tell_norm(trial)
        return trial if lm.accepted else f
    J, cost = (jacobian(lm.x_eval), 0) if jacobian else by_differences(lm, f, residual)
    if tell is None:
        lm.tell_model(J, f, evaluations=cost)
    else:
        tell(lm, J, f, cost)
    return f


def drive(lm, residual, jacobian=None, trail=None, **how):
    f = None
    while lm.request:
        if trail is not None:
            trail.append((lm.request, lm.x_eval.tolist(), lm.radius, lm.par, lm.nfev))
        f = answer(lm, residual, jacobian, f, **how)
    return lm


def result(lm):
    cov = lm.cov_x
    return (lm.x.tolist(), None if cov is None else str(cov.tolist()), lm.fnorm, lm.ier, lm.message, lm.nfev,
            lm.njev, lm.success, lm.accepted, lm.radius, lm.par, lm.active_mask.tolist(), repr(lm))


def assert_is_that_of_leastsq(lm, out, fnorm=True):
    x, cov, info, mesg, ier = out
    np.testing.assert_array_equal(lm.x, x)
    if cov is None:
        assert lm.cov_x is None
    else:
        np.testing.assert_array_equal(lm.cov_x, cov)
    assert (lm.ier, lm.message, lm.nfev) == (ier, mesg, info["nfev"])
    assert lm.success == (ier in (1, 2, 3, 4))
    assert lm.njev == info.get("njev", lm.njev)
    assert type(lm.ier) is int


# ---------------------------------------------------------------- parity


@BOTH_WAYS
@EVERY_PROBLEM
def test_every_trial_point_is_that_of_leastsq(name, analytic):
    p, x0 = PROBLEMS[name]
    with np.errstate(all="ignore"):
        asked = []

        def residual(x):
            asked.append(x.tolist())
            return p.residual(x)

        jacobian = p.jacobian if analytic else None
        out = leastsq(residual, x0, Dfun=jacobian, full_output=True, qr="minpack")
        expected, asked = asked, []
        lm = drive(LevenbergMarquardt(x0), residual, jacobian)
    assert asked == expected
    assert_is_that_of_leastsq(lm, out)


@BOTH_WAYS
@pytest.mark.parametrize("options", [
    {"ftol": 1e-12}, {"xtol": 1e-3}, {"gtol": 1e-3}, {"maxfev": 7}, {"factor": 0.1}, {"diag": [3.0, 0.5, 7]},
    {"ftol": 0, "xtol": 0}, {"epsfcn": 1e-6}, {"maxfev": -4}], ids=str)
def test_every_setting_is_that_of_leastsq(options, analytic):
    p = problems.problem("bard")
    jacobian = p.jacobian if analytic else None
    lm = drive(LevenbergMarquardt(p.x0, **options), p.residual, jacobian)
    assert_is_that_of_leastsq(lm, leastsq(p.residual, p.x0, Dfun=jacobian, full_output=True, **options))


BOUNDS = {
    "none finite": ([-np.inf]*3, [np.inf]*3),
    "idle": ([-9]*3, [9]*3),
    "start on one": ([1, -9, -9], [9]*3),
    "active": ([0, 0, 1.5], [0.05, 9, 2]),
    "fixed": ([0, 1, -9], [9, 1, 9]),
    "all but one fixed": ([1, 1, 0], [1, 1, 9]),
    "close to start": ([1, 1, 1], [1 + 1e-9, 1 + 1e-12, 1 + 1e-3]),
}


@BOTH_WAYS
@pytest.mark.parametrize("bounds", BOUNDS)
def test_bounds_are_those_of_leastsq(bounds, analytic):
    p, bounds = problems.problem("bard"), BOUNDS[bounds]
    x0 = np.clip(p.x0, *bounds)
    jacobian = p.jacobian if analytic else None
    asked = []

    def residual(x):
        asked.append(x.tolist())
        return p.residual(x)

    out = leastsq(residual, x0, Dfun=jacobian, full_output=True, bounds=bounds)
    expected, asked = asked, []
    lm = drive(LevenbergMarquardt(x0, bounds=bounds), residual, jacobian)
    assert asked == expected
    assert_is_that_of_leastsq(lm, out)
    np.testing.assert_array_equal(lm.active_mask, out[2]["active_mask"])
    assert lm.bounds is None if np.isinf(bounds[0]).all() else (np.array(lm.bounds) == bounds).all()
    if lm.cov_x is not None:
        held = lm.active_mask != 0
        assert np.isnan(lm.cov_x[held]).all() and np.isfinite(lm.cov_x[np.ix_(~held, ~held)]).all()


def through_accumulators(blocks):
    def tell(lm, J, f, cost):
        total = RowAccumulator(lm.n)
        for rows in np.array_split(np.arange(len(f)), blocks):
            part = RowAccumulator(lm.n)
            part.push(J[rows], f[rows])
            total.merge(pickle.loads(pickle.dumps(part)))
        lm.tell_model(total, evaluations=cost)
    return tell


@BOTH_WAYS
@pytest.mark.parametrize("blocks", [1, 5])
@pytest.mark.parametrize("name", ["bard", "kowalik_osborne", "osborne1", "osborne2"])
def test_accumulators_agree_to_rounding(name, blocks, analytic):
    p = problems.problem(name)
    jacobian = p.jacobian if analytic else None
    x, cov, info, _, ier = leastsq(p.residual, p.x0, Dfun=jacobian, full_output=True)
    lm = drive(LevenbergMarquardt(p.x0), p.residual, jacobian, tell=through_accumulators(blocks))
    assert lm.success and ier in (1, 2, 3)
    np.testing.assert_allclose(lm.fnorm, np.linalg.norm(info["fvec"]), rtol=1e-9)
    np.testing.assert_allclose(lm.x, x, rtol=2e-4)
    np.testing.assert_allclose(lm.cov_x, cov, rtol=0.02, atol=0.02*np.abs(cov).max())


@pytest.mark.parametrize("n", [3, 63, 64, 80])
@pytest.mark.parametrize("bounds", [None, (-0.2, 0.2)])
def test_an_accumulator_has_the_steps_of_the_blocked_fit(n, bounds):
    """Also with enough parameters for the damped step to be computed by blocks."""
    rng = np.random.default_rng(n)
    m = 4*n
    A, y = rng.standard_normal((m, n)), 3*rng.standard_normal(m)

    def residual(x):
        return A @ (x + x**3/3) - y

    def jacobian(x):
        return A*(1 + x**2)

    options = {"factor": 0.3, "bounds": bounds, "ftol": 1e-12, "xtol": 1e-12}
    x, cov, info, mesg, ier = leastsq(residual, np.zeros(n), Dfun=jacobian, full_output=True, qr="blocked",
                                      **options)
    lm = drive(LevenbergMarquardt(np.zeros(n), **options), residual, jacobian, tell=through_accumulators(3))
    np.testing.assert_allclose(lm.x, x, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(lm.cov_x, cov, rtol=1e-5, atol=1e-9)
    assert lm.success and (lm.active_mask != 0).any() == (bounds is not None)


def test_a_norm_may_be_a_number():
    p = problems.problem("bard")
    lm = LevenbergMarquardt(p.x0)
    for fnorm in (np.float32(3), 2, np.array(1.5)):
        other = LevenbergMarquardt(p.x0)
        other.tell_norm(fnorm)
        assert other.fnorm == fnorm and other.accepted
    while lm.request:
        if lm.request == "norm":
            lm.tell_norm(float(np.linalg.norm(p.residual(lm.x_eval))))
        else:
            lm.tell_model(p.jacobian(lm.x_eval), p.residual(lm.x_eval))
    np.testing.assert_allclose(lm.x, leastsq(p.residual, p.x0)[0], rtol=1e-6)


@pytest.mark.parametrize("convert", [np.asfortranarray, lambda a: a[::-1].copy()[::-1], lambda a: a.tolist(),
                                     lambda a: a.astype(">f8")], ids=["F", "reversed", "list", "swapped"])
def test_a_model_of_any_layout(convert):
    p = problems.problem("bard")
    expected = result(drive(LevenbergMarquardt(p.x0), p.residual, p.jacobian))
    lm = drive(LevenbergMarquardt(p.x0), lambda x: np.asarray(p.residual(x)), lambda x: convert(p.jacobian(x)))
    assert result(lm) == expected


def test_what_is_told_is_not_written_to():
    p = problems.problem("bard")
    lm = LevenbergMarquardt(p.x0)
    f, J = p.residual(p.x0), np.asfortranarray(p.jacobian(p.x0))
    kept = f.copy(), J.copy()
    lm.tell_norm(f)
    lm.tell_model(J, f)
    np.testing.assert_array_equal(f, kept[0])
    np.testing.assert_array_equal(J, kept[1])


def test_arrays_handed_out_are_copies():
    x0 = np.ones(3)
    lm = LevenbergMarquardt(x0, bounds=(0, 9))
    for array in (lm.x, lm.x_eval, *lm.bounds):
        array[:] = 5
    x0[:] = 7
    np.testing.assert_array_equal(lm.x, 1)
    np.testing.assert_array_equal(lm.x_eval, 1)
    np.testing.assert_array_equal(lm.bounds, [[0]*3, [9]*3])


def test_default_maxfev_depends_on_where_the_jacobian_comes_from():
    for cost, limit in ((0, 100), (3, 200)):
        lm = LevenbergMarquardt(np.zeros(3))
        lm.tell_norm([1, 1, 1])
        lm.tell_model(-np.eye(3), [1, 1, 1], evaluations=cost)
        assert lm.maxfev == limit*4
    assert LevenbergMarquardt(np.zeros(3), maxfev=17).maxfev == 17


def test_evaluations_are_counted():
    lm = LevenbergMarquardt(np.zeros(2))
    lm.tell_norm([1, 2], evaluations=5)
    lm.tell_model(np.eye(2), [1, 2], evaluations=11)
    assert (lm.nfev, lm.njev) == (16, 1)
    lm.tell_norm(1e9, 0)
    assert (lm.nfev, lm.njev, lm.accepted) == (16, 1, False)


# ---------------------------------------------------------------- points


def test_points_are_where_leastsq_calls_func():
    x0 = np.array([1.0, 0.0, -3.0, 1e-300, 1e10])
    for options in ({}, {"epsfcn": 1e-4}, {"bounds": ([1, -1, -4, -1, 0], [1 + 1e-12, 0, 9, 1e-9, 1e10])},
                    {"bounds": ([1, 0, -4, -1, 0], [1, 1, 9, 1, 1e11])}):
        asked = []

        def residual(x):
            asked.append(x)
            return [1, 1, 1, 1e300, 1]*(x - [0, 1, 2, 0, 4])        # the difference steps change it

        leastsq(residual, x0, maxfev=1, full_output=True, **options)
        lm = LevenbergMarquardt(x0, **options)
        with pytest.raises(RuntimeError, match='points: the request is "norm"'):
            lm.points()
        lm.tell_norm(residual(x0))
        points, steps = lm.points()
        assert points.shape == (5, 5) and steps.shape == (5,)
        fixed = steps == 0
        assert fixed.sum() == (options.get("bounds") is not None and options["bounds"][1][0] == 1)
        np.testing.assert_array_equal(points[~fixed], asked[1:1 + (~fixed).sum()])
        np.testing.assert_array_equal(points[fixed], np.broadcast_to(x0, (fixed.sum(), 5)))
        root = np.sqrt(max(options.get("epsfcn", 0), 2.0**-52))
        if "bounds" not in options:
            np.testing.assert_array_equal(steps, np.where(x0 == 0, root, root*np.abs(x0)))
        if "bounds" in options:
            low, high = options["bounds"]
            np.testing.assert_array_equal(x0 + steps, points.diagonal())
            assert ((points >= low) & (points <= high)).all()


def test_points_may_be_evaluated_by_any_pool():
    p = problems.problem("osborne1")
    with ThreadPoolExecutor(3) as pool:
        def tell(lm, J, f, cost):
            J, cost = by_differences(lm, f, p.residual, pool.map)
            lm.tell_model(J, f, evaluations=cost)
        lm = drive(LevenbergMarquardt(p.x0), p.residual, tell=tell)
    assert_is_that_of_leastsq(lm, leastsq(p.residual, p.x0, full_output=True))


# ---------------------------------------------------------------- pickles


@BOTH_WAYS
@pytest.mark.parametrize("how", ["pickle", "protocol 0", "copy", "deepcopy"])
@pytest.mark.parametrize("name", ["bard-3-1", "meyer-3-1", "osborne2-11-1", "powell_singular-4-10"])
def test_a_fit_that_is_saved_at_every_step_ends_the_same(name, how, analytic):
    p, x0 = PROBLEMS[name]
    jacobian = p.jacobian if analytic else None
    hop = {"pickle": lambda lm: pickle.loads(pickle.dumps(lm)), "copy": copy.copy, "deepcopy": copy.deepcopy,
           "protocol 0": lambda lm: pickle.loads(pickle.dumps(lm, 0))}[how]
    straight = []
    expected = result(drive(LevenbergMarquardt(x0), p.residual, jacobian, trail=straight))
    lm, f, trail = LevenbergMarquardt(x0), None, []
    while lm.request:
        lm = hop(lm)
        trail.append((lm.request, lm.x_eval.tolist(), lm.radius, lm.par, lm.nfev))
        f = answer(lm, p.residual, jacobian, f)
    assert trail == straight and result(hop(lm)) == expected


@pytest.mark.parametrize("n, bounds, tell", [(5, ([-1]*5, [0.3]*5), None), (70, None, through_accumulators(2)),
                                             (70, (-0.2, 0.3), through_accumulators(2))])
def test_a_saved_fit_with_bounds_or_accumulators_ends_the_same(n, bounds, tell):
    rng = np.random.default_rng(n)
    A, y = rng.standard_normal((3*n, n)), rng.standard_normal(3*n)

    def residual(x):
        return A @ np.expm1(x) - y

    def jacobian(x):
        return A*np.exp(x)

    def start():
        return LevenbergMarquardt(np.zeros(n), bounds=bounds, factor=0.5)

    straight = []
    expected = result(drive(start(), residual, jacobian, trail=straight, tell=tell))
    assert len(straight) > 5
    lm, f = start(), None
    for step in straight:
        left_behind, f_behind = pickle.loads(pickle.dumps(lm)), f
        lm = pickle.loads(pickle.dumps(lm))
        assert (lm.request, lm.x_eval.tolist(), lm.radius, lm.par, lm.nfev) == step
        f = answer(lm, residual, jacobian, f, tell)
    assert result(lm) == expected
    answer(left_behind, residual, jacobian, f_behind, tell)
    assert result(left_behind) == expected


def test_a_pickle_continues_in_another_process(tmp_path):
    p = problems.problem("bard")
    lm = LevenbergMarquardt(p.x0)
    f = None
    for _ in range(5):
        f = answer(lm, p.residual, p.jacobian, f)
    path = tmp_path / "fit.pickle"
    path.write_bytes(pickle.dumps((lm, f)))
    code = ("import pickle, sys, problems\np = problems.problem('bard')\nlm, f = pickle.load(open(sys.argv[1], 'rb'))\n"
            "while lm.request:\n"
            "    if lm.request == 'norm':\n"
            "        t = p.residual(lm.x_eval); lm.tell_norm(t); f = t if lm.accepted else f\n"
            "    else:\n        lm.tell_model(p.jacobian(lm.x_eval), f)\n"
            "print(lm.x.tolist(), lm.ier, lm.nfev)")
    folder = os.path.dirname(problems.__file__)
    done = subprocess.run([sys.executable, "-c", code, path], check=True, capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": folder})
    while lm.request:
        f = answer(lm, p.residual, p.jacobian, f)
    assert done.stdout.split("\n")[0] == f"{lm.x.tolist()} {lm.ier} {lm.nfev}"


@pytest.fixture(params=[None, (0, 9)], ids=["free", "bounded"])
def halfway(request):
    p = problems.problem("bard")
    lm, f = LevenbergMarquardt(p.x0, bounds=request.param), None
    for _ in range(4):
        f = answer(lm, p.residual, p.jacobian, f)
    return lm


def refused(state, error=ValueError, n=3):
    lm = LevenbergMarquardt(np.ones(n))
    before = lm.__reduce__()[2]
    with pytest.raises(error, match="LevenbergMarquardt"):
        lm.__setstate__(state)
    assert lm.__reduce__()[2] == before


def test_every_damaged_byte_is_noticed(halfway):
    state = halfway.__reduce__()[2][0]
    for k in range(len(state)):
        refused((state[:k] + bytes([state[k] ^ 0x20]) + state[k + 1:], None))
        refused((state[:k], None))
    refused((state, None), n=4)
    refused((RowAccumulator(3).__reduce__()[2][0], None))
    for nothing in (None, state, (state,), (state, 1)):
        refused(nothing, TypeError)


def sealed(state, word, value):
    """The state with one word changed and a valid checksum: a deliberate change."""
    words = np.frombuffer(state, np.uint64).copy()
    words[2 + word] = np.array(value, np.int64 if isinstance(value, int) else float).view(np.uint64)
    check = 0xcbf29ce484222325
    for w in words[2:].tolist():
        check = ((check ^ w)*0x100000001b3) % 2**64
    words[1] = check
    return words.tobytes()


def test_an_impossible_state_is_refused_even_with_a_valid_checksum(halfway):
    state = halfway.__reduce__()[2][0]
    s = {name: k for k, name in enumerate(
        ["n", "maxfev", "scaling", "ftol", "xtol", "gtol", "factor", "request", "info", "accepted", "nfev",
         "njev", "iteration"])}
    refused_words = [(s["n"], 4), (s["n"], 0), (s["maxfev"], 0), (s["scaling"], 3), (s["ftol"], np.nan),
                     (s["factor"], 0.0), (s["request"], 3), (s["request"], 0), (s["info"], 9), (s["info"], 12),
                     (s["accepted"], 2), (s["nfev"], -1), (s["njev"], 0), (s["iteration"], 0)]
    x = STATE.itemsize//8 + 7               # after the machine's own state
    bounded = halfway.bounds is not None
    ipvt = len(state)//8 - 2 - 6 - 3
    refused_words += [(ipvt, 4), (ipvt, 0), (ipvt + 1, 1 << 40)]
    if bounded:
        refused_words += [(x, 10.0), (x, np.nan)]       # x[0]
    assert np.frombuffer(state)[2 + x] == halfway.x[0]
    unchanged = sealed(state, 0, 3)
    assert unchanged == state
    for word, value in refused_words:
        refused((sealed(state, word, value), None))


# ---------------------------------------------------------------- misuse


def raises(lm, error, match, method, *args, **kwargs):
    before = lm.__reduce__()[2]
    with pytest.raises(error, match=match):
        getattr(lm, method)(*args, **kwargs)
    assert lm.__reduce__()[2] == before


def test_the_wrong_answer_is_refused_and_changes_nothing():
    p = problems.problem("bard")
    lm, f = LevenbergMarquardt(p.x0), None
    J, r = p.jacobian(p.x0), p.residual(p.x0)
    a = RowAccumulator(3)
    a.push(J, r)
    wrong = {"norm": [("tell_model", J, r), ("tell_model", a), ("points",)], "model": [("tell_norm", r)]}
    while lm.request:
        for method, *args in wrong[lm.request]:
            raises(lm, RuntimeError, f'{method}: the request is "{lm.request}"', method, *args)
        f = answer(lm, p.residual, p.jacobian, f)
    for method, *args in wrong["norm"] + wrong["model"]:
        raises(lm, RuntimeError, f"{method}: the fit has ended", method, *args)
    assert lm.x_eval is None and lm.request is None


@pytest.mark.parametrize("fnorm, error, match", [
    (-1.0, ValueError, "fnorm must not be negative, got -1.0"), (-np.inf, ValueError, "negative"),
    ("1", TypeError, "fnorm must be real"), (None, TypeError, "fnorm must be real"), (1j, TypeError, "fnorm must"),
    (np.ones((3, 1)), ValueError, "fnorm must be a number or a vector .* 2 dimensions")])
def test_a_norm_of_the_wrong_kind_is_refused(fnorm, error, match):
    raises(LevenbergMarquardt(np.ones(3)), error, match, "tell_norm", fnorm)


@pytest.mark.parametrize("evaluations, error", [(-1, ValueError), (1 << 31, ValueError), (1.0, TypeError),
                                                (None, TypeError), (1 << 70, OverflowError)])
def test_evaluations_of_the_wrong_kind_are_refused(evaluations, error):
    lm = LevenbergMarquardt(np.ones(3))
    raises(lm, error, "evaluations must", "tell_norm", 1.0, evaluations)
    lm.tell_norm(1.0)
    raises(lm, error, "evaluations must", "tell_model", np.eye(3), np.ones(3), evaluations=evaluations)


def pushed(J, f):
    a = RowAccumulator(J.shape[1])
    a.push(J, f)
    return a


@pytest.mark.parametrize("model, error, match", [
    ((np.ones((5, 2)), np.ones(5)), ValueError, r"J must have shape \(k, 3\), got \(5, 2\)"),
    ((np.ones(3), np.ones(1)), ValueError, "J must"),
    ((np.ones((2, 3)), np.ones(2)), ValueError, "J must have at least as many rows as columns"),
    ((np.ones((5, 3)), np.ones(4)), ValueError, r"f must .* shape \(5,\), got \(4,\)"),
    ((np.ones((5, 3), complex), np.ones(5)), TypeError, "J must be real"),
    ((np.ones((5, 3)), ["a"]*5), TypeError, "f must be real"),
    ((np.ones((5, 3)),), TypeError, "f is missing"),
    ((None, None), TypeError, "f is missing"),
    ((pushed(np.ones((5, 3)), np.ones(5)), np.ones(5)), TypeError, "f must be left out"),
    ((pushed(np.ones((5, 2)), np.ones(5)),), ValueError, "accumulator must have n = 3, got n = 2"),
    ((RowAccumulator(3),), ValueError, "at least n = 3 rows, got 0")])
def test_a_model_of_the_wrong_kind_is_refused(model, error, match):
    lm = LevenbergMarquardt(np.ones(3))
    lm.tell_norm(1.0)
    raises(lm, error, match, "tell_model", *model)


@pytest.mark.parametrize("options, error, match", [
    ({"ftol": -1}, TypeError, "ftol must be zero or positive"), ({"xtol": np.nan}, TypeError, "xtol must"),
    ({"gtol": "x"}, TypeError, "gtol must be a real number"), ({"factor": 0}, TypeError, "factor must be positive"),
    ({"maxfev": 1.5}, TypeError, "maxfev must be an integer"), ({"diag": [1, 2]}, ValueError, "diag must have"),
    ({"diag": [1, 2, -3]}, TypeError, "diag must be positive"), ({"epsfcn": np.nan}, TypeError, "epsfcn must"),
    ({"bounds": (2, 3)}, ValueError, "infeasible"), ({"bounds": (0, np.nan)}, ValueError, "nan"),
    ({"bounds": 3}, ValueError, "2 elements"), ({"x0": []}, TypeError, "x0 must have at least one"),
    ({"x0": ["1"]}, TypeError, "x0 must be real"), ({"x0": [1j]}, TypeError, "x0 must be real"),
    ({"nonsense": 1}, TypeError, "nonsense")], ids=str)
def test_impossible_settings_are_refused_as_by_leastsq(options, error, match):
    with pytest.raises(error, match=match):
        LevenbergMarquardt(**({"x0": np.ones(3)} | options))
    if "nonsense" not in options:
        with pytest.raises(error, match=match):
            leastsq(lambda x: x, options.get("x0", np.ones(3)), **{k: v for k, v in options.items() if k != "x0"})


# ---------------------------------------------------------------- what is not finite


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_trial_that_is_not_finite_is_a_rejected_step(value):
    p = problems.problem("bard")
    for told in (value, np.r_[p.residual(p.x0)[:-1], value]):
        lm = LevenbergMarquardt(p.x0)
        f = answer(lm, p.residual)
        f = answer(lm, p.residual, p.jacobian, f)
        x, radius = lm.x, lm.radius
        lm.tell_norm(told)
        assert (lm.request, lm.accepted, lm.fault, lm.ier) == ("norm", False, None, None)
        assert lm.radius < radius and (lm.x == x).all()
        while lm.request:
            f = answer(lm, p.residual, p.jacobian, f)
        assert lm.success


@BOTH_WAYS
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_reported_as_by_leastsq(value, analytic):
    p = problems.problem("bard")

    def bad_residual(x):
        return np.where(np.arange(p.m) == 7, value, p.residual(x))

    def bad_jacobian(x):
        J = p.jacobian(x)
        J[4, 1] = value
        return J

    for residual, jacobian in ((bad_residual, p.jacobian), (p.residual, bad_jacobian)):
        lm = drive(LevenbergMarquardt(p.x0), residual, jacobian)
        assert_is_that_of_leastsq(lm, leastsq(residual, p.x0, Dfun=jacobian, full_output=True))
        assert lm.ier == 9 and pickle.loads(pickle.dumps(lm)).message == lm.message
        assert lm.fault is not None


def test_in_an_accumulator_or_a_norm_it_is_reported_too():
    lm = LevenbergMarquardt([1.0, 2.0])
    lm.tell_norm(np.nan)
    assert (lm.ier, lm.message) == (9, "The norm of the residuals is nan at x = [1. 2.].")
    lm = LevenbergMarquardt([1.0, 2.0])
    lm.tell_norm([1e308, 1.7e308, 1e308])
    assert (lm.ier, lm.message) == (9, "The norm of the residuals overflows at x = [1. 2.].")
    for column, said in ((1, "derivative of residual 2 with respect to x[1]"), (2, "f[2] is inf")):
        rows = np.arange(12.0).reshape(4, 3)
        rows[2, column] = np.inf
        for told in ((pushed(rows[:, :2], rows[:, 2]),), (rows[:, :2], rows[:, 2])):
            lm = LevenbergMarquardt([1.0, 2.0])
            lm.tell_norm(1.0)
            lm.tell_model(*told)
            assert lm.ier == 9 and said in lm.message and lm.fault == (2, column, np.inf)
            assert lm.cov_x is None and not lm.success and lm.njev == 1
    lm = LevenbergMarquardt([1.0])
    lm.tell_norm(1.0)
    lm.tell_model([[1.5e308], [1.5e308]], [1, 1])
    assert (lm.ier, lm.message) == (9, "The norm of a column of the Jacobian overflows at x = [1.].")


# ---------------------------------------------------------------- the object


class Tagged(LevenbergMarquardt):
    pass


def test_subclasses_keep_their_attributes():
    lm = Tagged([1.0, 2.0], bounds=(0, 9))
    lm.tag = "x"
    for again in (pickle.loads(pickle.dumps(lm)), copy.copy(lm)):
        assert type(again) is Tagged and again.tag == "x" and again.bounds is not None
    lm.self = lm
    gone = weakref.ref(lm)
    del lm, again
    gc.collect()
    assert gone() is None


def test_misspelled_attributes_are_errors():
    lm = LevenbergMarquardt([1.0])
    for name in ("x", "request", "ier", "radius", "anything"):
        with pytest.raises(AttributeError):
            setattr(lm, name, 1)
    assert repr(lm) == "<LevenbergMarquardt: n=1, nfev=0, fnorm=nan, wants the norm>"
    assert (lm.ier, lm.message, lm.success, lm.cov_x, lm.iteration) == (None, None, False, None, 0)


def test_too_many_parameters_are_a_memory_error():
    with pytest.raises(MemoryError):
        LevenbergMarquardt(np.broadcast_to(1.0, 1 << 23))       # n*n numbers: 2**49 bytes


def test_memory_may_run_out_at_any_allocation():
    """Each event then raises MemoryError, changes nothing, and succeeds the next time."""
    run_out = pytest.importorskip("_testcapi")
    J, f = np.eye(3, 2), np.ones(3)
    rows = pushed(J, f)

    def fresh(requests):
        lm = LevenbergMarquardt([1.0, 2.0], bounds=(0, 9))
        for _ in range(requests):
            lm.tell_norm(f) if lm.request == "norm" else lm.tell_model(J, f)
        return lm

    norm, model, saved = fresh(0), fresh(1), fresh(1).__reduce__()[2]
    events = [(norm, lambda lm: lm.tell_norm(f)), (model, lambda lm: lm.tell_model(J, f)),
              (model, lambda lm: lm.tell_model(rows)), (model, lambda lm: lm.points()),
              (norm, lambda lm: lm.__setstate__(saved)), (norm, lambda lm: lm.__reduce__()),
              (norm, lambda lm: lm.bounds), (rows, lambda a: a.push(J, f)), (rows, lambda a: a.merge(pushed(J, f))),
              (rows, lambda a: a.triangle()), (rows, lambda a: a.fnorm), (rows, lambda a: a.__reduce__()),
              (rows, lambda a: RowAccumulator(4)), (rows, lambda a: a.__setstate__(rows.__reduce__()[2])),
              (norm, lambda lm: LevenbergMarquardt([1.0], diag=[2.0]))]
    total = 0
    for thing, event in events:
        failures = 0
        for k in range(1000):
            again = copy.copy(thing)
            before = again.__reduce__()[2]
            error = None
            run_out.set_nomemory(k, k + 1)
            try:
                event(again)
            except MemoryError as caught:
                error = caught
            finally:
                run_out.remove_mem_hooks()
            if error is None:
                break
            failures += 1
            assert again.__reduce__()[2] == before
        assert failures < 1000
        total += failures
    assert total > 30


def test_an_array_may_answer_while_it_is_read():
    lm = LevenbergMarquardt([1.0, 2.0])

    class Array:
        def __array__(self, *args, **kwargs):
            lm.tell_norm(2.0)
            return np.array(3.0)

    with pytest.raises(RuntimeError, match='the request is "model"'):
        lm.tell_norm(Array())
    assert lm.fnorm == 2.0 and lm.nfev == 1


def answers_of(lm):
    return lm.x, lm.request, lm.nfev, lm.njev, lm.radius, lm.fnorm, lm.x_eval


@pytest.mark.parametrize("how", ["array", "evaluations", "thread", "state"])
@pytest.mark.parametrize("tell", ["norm", "model"])
def test_no_answer_is_taken_for_the_next_request_of_the_same_kind(tell, how):
    p = problems.problem("rosenbrock")
    at_model = LevenbergMarquardt(p.x0)
    at_model.tell_norm(p.residual(p.x0))
    stale = {"norm": 1e9, "model": (p.jacobian(p.x0), p.residual(p.x0))}
    lm = LevenbergMarquardt(p.x0)
    lm.tell_norm(p.residual(p.x0))
    if tell == "norm":
        lm.tell_model(*stale["model"])
    state = lm.__reduce__()[2]

    def answer():
        """Continue until the machine makes the same kind of request again."""
        if how == "state":
            lm.__setstate__(state)
            return
        for _ in range(50):
            if lm.request == "norm":
                f = p.residual(lm.x_eval)
                lm.tell_norm(f)
            else:
                lm.tell_model(p.jacobian(lm.x), p.residual(lm.x))
            if lm.request == tell:
                return

    class Late:
        def __init__(self, value):
            self.value = value

        def __array__(self, dtype=None, copy=None):
            if how == "thread":
                thread = threading.Thread(target=answer)
                thread.start()
                thread.join()
            else:
                answer()
            self.seen = answers_of(lm)
            return np.asarray(self.value)

        def __index__(self):
            self.__array__()
            return 1
    late = Late(1 if how == "evaluations" else stale["norm"] if tell == "norm" else stale["model"][0])
    with pytest.raises(RuntimeError, match="was answered while this answer was read"):
        if tell == "norm":
            lm.tell_norm(*((1e9, late) if how == "evaluations" else (late,)))
        elif how == "evaluations":
            lm.tell_model(*stale["model"], evaluations=late)
        else:
            lm.tell_model(late, stale["model"][1])
    np.testing.assert_equal(answers_of(lm), late.seen)          # the refused answer changed nothing
    while lm.request:
        if lm.request == "norm":
            lm.tell_norm(p.residual(lm.x_eval))
        else:
            lm.tell_model(p.jacobian(lm.x), p.residual(lm.x))
    assert lm.success and np.allclose(lm.x, 1)


def test_only_one_of_many_threads_answers():
    p = problems.problem("bard")
    lm, f = LevenbergMarquardt(p.x0), p.residual(p.x0)
    for _ in range(200):
        fresh, refusals, start = LevenbergMarquardt(p.x0), [], threading.Barrier(3)

        def tell():
            start.wait()
            try:
                fresh.tell_norm(f)
            except RuntimeError as error:
                refusals.append(error)

        threads = [threading.Thread(target=tell) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(refusals) == 2 and fresh.nfev == 1
    drive(lm, p.residual)


def test_nothing_leaks():
    p = problems.problem("bard")

    def use():
        lm = drive(LevenbergMarquardt(p.x0, bounds=(0, 9), diag=np.ones(3)), p.residual, p.jacobian)
        again = pickle.loads(pickle.dumps(lm))
        result(again)
        for wrong in (lambda: lm.tell_norm(1), lambda: lm.points(), lambda: LevenbergMarquardt([1.0], diag=[-1]),
                      lambda: lm.__setstate__((b"", None))):
            with pytest.raises((RuntimeError, TypeError, ValueError)):
                wrong()
        lm = LevenbergMarquardt(p.x0)
        lm.tell_norm(1.0)
        for wrong in ((np.ones((3, 2)), np.ones(3)), (np.ones((2, 3)), np.ones(2)), (np.ones((4, 3)), np.ones(3)),
                      (RowAccumulator(2),), (RowAccumulator(3),)):
            with pytest.raises(ValueError):
                lm.tell_model(*wrong)

    def growth():
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(300):
            use()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before

    for _ in range(100):        # fills caches of the interpreter
        use()
    tracemalloc.start()
    try:
        growth()                # fills those that only a traced process has
        count = sys.getrefcount(LevenbergMarquardt), sys.getrefcount(p.x0)
        assert min(growth() for _ in range(3)) < 10000      # 12000 if each use lost the smallest object
        assert (sys.getrefcount(LevenbergMarquardt), sys.getrefcount(p.x0)) == count
    finally:
        tracemalloc.stop()


def test_attributes_in_the_docstring_exist():
    section = inspect.cleandoc(LevenbergMarquardt.__doc__).split("Attributes\n")[1].split("Methods\n")[0]
    names = [name.strip() for line in section.splitlines() if line and not line.startswith((" ", "-"))
             for name in line.split(" : ")[0].split(",")]
    lm = LevenbergMarquardt([1.0])
    assert len(names) > 15
    for name in names:
        getattr(lm, name)
    for base in (package._core.Machine.tell_norm, package._core.Machine.tell_model, package._core.Machine.points):
        assert "Raises\n------" in base.__doc__
    assert doctest.run_docstring_examples(LevenbergMarquardt, {}) is None
