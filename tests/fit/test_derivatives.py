"""Derivatives by name, by several workers, and the verdicts of check_gradient."""
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest

import problems
import strd
from leastsq import CFunction, _core, check_gradient, leastsq
from leastsq._problem.bounds import Bounds
from leastsq._problem.derivatives import DifferenceJacobian, Differences

T = np.linspace(0, 4, 40)
Y = 2.5 * np.exp(-1.3 * T) + .5
NAMES = ["rosenbrock", "bard", "kowalik_osborne", "osborne1", "helical_valley", "wood",
         "powell_singular", "freudenstein_roth"]


def residual(p):
    return p[0] * np.exp(-p[1] * T) + p[2] - Y


def jacobian(p):
    e = np.exp(-p[1] * T)
    return np.stack([e, -p[0] * T * e, np.ones_like(T)], axis=1)


class Recorded:
    def __init__(self, function):
        self.function, self.points = function, []
        self.lock = threading.Lock()

    def __call__(self, x, *args):
        with self.lock:
            self.points.append(x.copy())
        return self.function(x, *args)


def assert_same(one, other):
    """Equal bit for bit, except below R's diagonal, where lmpar leaves its last trial."""
    n = one[0].size
    for a, b in ((one[0], other[0]), (one[2]["fvec"], other[2]["fvec"]),
                 (np.triu(one[2]["fjac"].T[:n]), np.triu(other[2]["fjac"].T[:n])),
                 (one[2]["fjac"][:, n:], other[2]["fjac"][:, n:]), (one[2]["qtf"], other[2]["qtf"]),
                 (one[2]["ipvt"], other[2]["ipvt"])):
        np.testing.assert_array_equal(a, b)
    assert one[2]["nfev"] == other[2]["nfev"] and one[3:] == other[3:]
    assert list(one[2]) == list(other[2])


# ---------------------------------------------------------------------------
# workers: the same bits as with one worker


@pytest.mark.parametrize("qr", ["minpack", "blocked"])
@pytest.mark.parametrize("name", NAMES)
def test_workers_change_no_bit(name, qr):
    p = problems.problem(name)
    options = {"full_output": True, "qr": qr}
    plain = Recorded(p.residual)
    want = leastsq(plain, p.x0, **options)
    for workers in (1, 3, -1, map, lambda f, points: [f(x) for x in points]):
        func = Recorded(p.residual)
        assert_same(leastsq(func, p.x0, workers=workers, **options), want)
        assert len(func.points) == want[2]["nfev"]
        if workers is map:
            np.testing.assert_array_equal(func.points, plain.points)
    assert_same(leastsq(p.residual, p.x0, Dfun="2-point", **options), want)


@pytest.mark.parametrize("name", ["bard", "osborne1"])
def test_maxfev_counts_differences_too(name):
    p = problems.problem(name)
    nfev = leastsq(p.residual, p.x0, full_output=True)[2]["nfev"]
    for maxfev in [*range(1, 20), nfev - 1, nfev, nfev + 1]:
        want, got = (leastsq(p.residual, p.x0, full_output=True, maxfev=maxfev, workers=w)
                     for w in (None, map))
        assert_same(got, want)


@pytest.mark.parametrize("workers, error, words", [
    (0, ValueError, "workers must be positive, or -1, got 0"), (True, TypeError, "got bool"), ("2", TypeError, "got str"),
    (lambda f, points: None, TypeError, "workers must return the results in the order of the points, got NoneType"),
    (lambda f, points: [], ValueError, "workers must return a result for each of 3 points, got 0"),
    (lambda f, points: map(f, points[1:]), ValueError, "a result for each of 3 points, got 2"),
    (lambda f, points: [f(x) for x in points] * 2, ValueError, "a result for each of 3 points, got 6"),
])
def test_bad_workers_are_named(workers, error, words):
    with pytest.raises(error, match=words):
        leastsq(lambda x: x - np.array([1.0, 2.0, 3.0]), [0, 0, 0], workers=workers)


def test_workers_keep_to_bounds_and_bits():
    lo, hi = np.array([0, 1.0, .5]), np.array([3.0, 1.0, .5 + 1e-10])
    for bounds, x0 in ((([0, 0, .6], [2.0, 1.1, 9]), [2, 1, .6]), ((lo, hi), [3, 1, .5])):
        want, func = leastsq(residual, x0, bounds=bounds, full_output=True), Recorded(residual)
        assert_same(leastsq(func, x0, bounds=bounds, full_output=True, workers=2), want)
        points = np.array(func.points)
        assert np.all((bounds[0] <= points) & (points <= bounds[1]))


def test_single_precision_takes_its_own_step():
    def single(p):
        return residual(p).astype(np.float32)
    want = leastsq(single, [2, 1, .4], full_output=True)
    assert_same(leastsq(single, [2, 1, .4], full_output=True, workers=map), want)
    for epsfcn in (1e-10, 1e-30):
        assert_same(*(leastsq(residual, [2, 1, .4], full_output=True, epsfcn=epsfcn, workers=w)
                      for w in (None, map)))


def test_one_output_buffer_is_enough_for_one_worker():
    buffer = np.empty(T.size)

    def reused(p):
        buffer[:] = residual(p)
        return buffer
    want = leastsq(residual, [2, 1, .4], full_output=True)
    for Dfun in ("2-point", "3-point"):
        got = leastsq(reused, [2, 1, .4], Dfun=Dfun, workers=1, full_output=True)
        np.testing.assert_allclose(got[0], want[0], rtol=1e-6)


def test_pools_as_workers():
    want = leastsq(residual, [2, 1, .4], full_output=True)
    with ThreadPoolExecutor(2) as pool:
        assert_same(leastsq(residual, [2, 1, .4], full_output=True, workers=pool.map), want)
    import multiprocessing
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        got = leastsq(np.square, [2.0, 1], full_output=True, workers=pool.map)
        assert_same(got, leastsq(np.square, [2.0, 1], full_output=True))


def test_threads_run_in_parallel():
    together = threading.Barrier(3, timeout=10)
    first = []

    def func(p):
        if first:
            if len(first) < 4:
                first.append(1)
                together.wait()
        else:
            first.append(1)
        return residual(p)
    leastsq(func, [2, 1, .4], workers=3)
    assert len(first) == 4


@pytest.mark.parametrize("workers, error", [(0, ValueError), (-2, ValueError), (2.5, TypeError),
                                            ("a", TypeError), (True, TypeError)])
def test_bad_workers(workers, error):
    with pytest.raises(error, match="workers must be"):
        leastsq(residual, [2, 1, .4], workers=workers)


def test_options_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match="workers evaluate differences"):
        leastsq(residual, [2, 1, .4], Dfun=jacobian, workers=2)
    with pytest.raises(TypeError, match="must be callable, None or one of"):
        leastsq(residual, [2, 1, .4], Dfun="4-point")
    compiled = CFunction.__new__(CFunction)
    for options in ({"Dfun": "cs"}, {"Dfun": "3-point"}, {"workers": 2}):
        with pytest.raises(TypeError, match="Python function, got a CFunction"):
            leastsq(compiled, [2, 1, .4], **options)
    with pytest.raises(TypeError, match="func must be callable"):
        leastsq(3, [1.0], Dfun="cs")


@pytest.mark.parametrize("workers", [map, 2])
def test_exceptions_arrive_unchanged_from_every_call(workers):
    class Mine(Exception):
        pass
    for k in range(1, 13):
        calls = []

        def func(p):
            calls.append(1)
            if len(calls) == k:
                raise Mine
            return residual(p)
        with pytest.raises(Mine):
            leastsq(func, [2, 1, .4], workers=workers)


@pytest.mark.parametrize("bad, error", [(np.ones(3), ValueError), (np.ones((40, 1)), ValueError),
                                        (np.ones(40) * 1j, TypeError)])
def test_another_shape_at_a_difference_is_named(bad, error):
    calls = []

    def func(p):
        calls.append(1)
        return residual(p) if len(calls) != 3 else bad
    with pytest.raises(error, match="leastsq: func"):
        leastsq(func, [2, 1, .4], workers=map)


# ---------------------------------------------------------------------------
# 3-point and cs


@pytest.mark.parametrize("name", strd.NAMES)
@pytest.mark.parametrize("scheme, digits", [("3-point", 6.5), ("cs", 9)])
def test_jacobians_of_nist_models(name, scheme, digits):
    data = strd.load(name)
    maker = DifferenceJacobian(data.residual, Differences(scheme))
    got = maker.jacobian_at(data.certified, data.residual(data.certified))
    want = data.jacobian(data.certified)
    scale = np.abs(want).max(axis=0)
    assert np.all(np.abs(got - want) <= 10 ** -digits * scale)


def test_exact_derivatives_count_their_calls():
    for scheme, each in (("3-point", 6), ("cs", 3)):
        func = Recorded(residual)
        x, _, info, _, ier = leastsq(func, [2, 1, .4], Dfun=scheme, full_output=True)
        assert len(func.points) == info["nfev"] and ier in (1, 2, 3, 4) and "njev" not in info
        np.testing.assert_allclose(x, [2.5, 1.3, .5], rtol=1e-7)


@pytest.mark.parametrize("lo, hi", [
    ([-9, -9, -9.0], [9, 9, 9.0]), ([2, -9, -9], [9, 1, 9.0]), ([2, 1, .4], [2, 2, 9.0]),
    ([2 - 1e-12, 1, .4 - 1e-5], [2 + 1e-7, 1 + 1e-9, .4 + 1e-9])])
@pytest.mark.parametrize("scheme", ["3-point", "cs", "2-point"])
def test_difference_points_stay_within_bounds(scheme, lo, hi):
    x, lo, hi = np.array([2.0, 1, .4]), np.array(lo, float), np.array(hi, float)
    func = Recorded(residual)
    maker = DifferenceJacobian(func, Differences(scheme), Bounds(lo, hi))
    got = maker.jacobian_at(x, residual(x))
    points = np.array(func.points).real
    assert np.all((lo <= points) & (points <= hi)) and len(points) == maker.evaluations
    free = lo < hi
    assert np.all(got[:, ~free] == 0)
    error = {"2-point": 1e-3, "3-point": 1e-5, "cs": 1e-12}[scheme]
    np.testing.assert_allclose(got[:, free], jacobian(x)[:, free], atol=error)


@pytest.mark.parametrize("func", [
    lambda p: residual(p).real,
    lambda p: np.abs(residual(p)),
    lambda p: np.array([float(np.real(v)) for v in residual(p)]),
    lambda p: residual(p.real),
], ids=["real", "abs", "float", "real part"])
def test_a_dropped_imaginary_part_is_reported(func):
    with pytest.raises(TypeError, match=r"drops the imaginary part .*3-point"):
        leastsq(func, [2, 1, .4], Dfun="cs")


@pytest.mark.parametrize("func", [
    lambda p: residual(np.array([p[0], p[1].real, p[2]])),
    lambda p: residual(np.conj(p)),
    lambda p: np.append(residual(p), 5 * np.abs(p[0] - 7)),
], ids=["one parameter", "conj", "one residual"])
def test_functions_that_are_not_analytic_are_detected(func):
    with pytest.raises(ValueError, match="disagrees with a difference"):
        leastsq(func, [2, 1, .4], Dfun="cs")


def test_check_of_complex_steps_passes_correct_functions():
    for name in strd.NAMES:
        data = strd.load(name)
        for start in data.starts:
            with np.errstate(all="ignore"):
                leastsq(data.residual, start, Dfun="cs", full_output=True, maxfev=2000)


# ---------------------------------------------------------------------------
# check_gradient

X = np.array([2.0, 1.1, .4])


def test_right_jacobian():
    check = check_gradient(residual, X, jacobian)
    assert check.ok and len(check.wrong) == 0 and "agrees" in str(check)
    assert check.error.max() < 1e-7 and np.all(check.rows > .5)
    assert check_gradient(residual, X, lambda p: jacobian(p).T, col_deriv=True).ok


@pytest.mark.parametrize("name", ["bard", "kowalik_osborne", "osborne1", "osborne2", "rosenbrock",
                                  "brown_dennis", "helical_valley", "jennrich_sampson", "wood"])
def test_right_jacobians_of_the_classics(name):
    p = problems.problem(name)
    x = p.x0 * 1.01 + .013
    assert check_gradient(p.residual, x, p.jacobian).ok
    i, j = np.unravel_index(np.argmax(np.abs(p.jacobian(x))), (p.m, p.n))

    def wrong(x):
        out = np.array(p.jacobian(x))
        out[i, j] *= 1.01
        return out
    check = check_gradient(p.residual, x, wrong)
    assert not check.ok and check.wrong.tolist() == [[i, j]]
    assert f"residual {i} with respect to x[{j}]" in check.message


def test_transposed_jacobian():
    check = check_gradient(residual, X, lambda p: jacobian(p).T)
    assert not check.ok and "transposed" in check.message
    p = problems.problem("helical_valley")              # square
    check = check_gradient(p.residual, p.x0 + .1, lambda x: p.jacobian(x).T)
    assert not check.ok and "transposed" in check.message
    check = check_gradient(residual, X, lambda p: 2 * jacobian(p).T)
    assert "transposed" in check.message and "wrong" in check.message


def test_flipped_signs():
    check = check_gradient(residual, X, lambda p: -jacobian(p))
    assert not check.ok and check.message == "The sign of the whole Jacobian is flipped."
    check = check_gradient(residual, X, lambda p: jacobian(p) * [1, -1, 1])
    assert "sign of column 1" in check.message and set(check.wrong[:, 1]) == {1}
    check = check_gradient(residual, X, lambda p: jacobian(p) * [-1, -1, 1])
    assert "signs of columns [0, 1]" in check.message


def test_rows_are_those_of_chkder():
    def wrong(p):
        out = jacobian(p)
        out[7] *= 1.5
        return out
    rows = check_gradient(residual, X, wrong).rows
    assert rows[7] < .3 and np.all(np.delete(rows, 7) > .5)


def test_checking_rows_only_takes_two_calls(minpack):
    calls = []

    def counted(p):
        calls.append(p)
        return residual(p)

    def wrong(p):
        out = jacobian(p)
        out[[3, 7]] *= [[1.001], [1.5]]
        return out
    good = check_gradient(counted, X, jacobian, method="chkder")
    assert good.ok and len(calls) == 2 and good.wrong.size == 0 and good.error is None
    bad = check_gradient(residual, X, wrong, method="chkder")
    assert not bad.ok and bad.wrong.tolist() == [3, 7]
    assert str(bad).startswith("2 of 40 rows of the Jacobian disagree") and "the worst is row 7" in str(bad)
    point = minpack.chkder_point(X, lib="fortran-ieee")
    want = minpack.chkder(X, residual(X), wrong(X), residual(point), lib="fortran-ieee")
    np.testing.assert_array_equal(bad.rows, want)
    rows = check_gradient(residual, X, wrong).rows
    np.testing.assert_array_equal(rows, want)
    transposed = check_gradient(residual, X, lambda p: jacobian(p).T, method="chkder", col_deriv=True)
    np.testing.assert_array_equal(transposed.rows, good.rows)


def test_rows_that_cannot_be_checked_are_named():
    check = check_gradient(lambda x: np.array([x[0], 0.0, 3.0]), [2.0], lambda x: np.array([[1.0], [0], [0]]),
                           method="chkder")
    assert check.ok and check.rows.tolist()[1:] == [0, 0] and "Not checked: 1, 2, whose residuals are zero" in str(check)
    still = check_gradient(lambda x: np.array([3.0]), [2.0], lambda x: np.array([[1.0]]), method="chkder")
    assert not still.ok and "nothing was checked" in str(still)


def test_arguments_and_refusals():
    with pytest.raises(ValueError, match="method must be 'differences' or 'chkder', got 'rows'"):
        check_gradient(residual, X, jacobian, method="rows")
    with pytest.raises(ValueError, match=r"must have shape \(40, 3\), got \(3, 40\)"):
        check_gradient(residual, X, lambda p: jacobian(p).T, method="chkder")
    assert check_gradient(lambda x, a: a * x, [1.0, 2], lambda x, a: a * np.eye(2), args=3.0).ok
    assert check_gradient(lambda x: x[0] ** 2, 3.0, lambda x: 2 * x).ok
    with pytest.raises(ValueError, match="finite"):
        check_gradient(lambda x: x * np.nan, [1.0], lambda x: x)
    with pytest.raises(ValueError, match=r"must have shape \(40, 3\), got \(2, 2\)"):
        check_gradient(residual, X, lambda x: np.eye(2))


@pytest.mark.parametrize("Dfun", ["2-point", "3-point", "cs"])
def test_stop_iteration_of_func_arrives(Dfun):
    """It must not be mistaken for the end of the points."""
    calls = []

    def func(x):
        calls.append(x)
        if len(calls) == 3:
            raise StopIteration("mine")
        return x - [1.0, 2.0]
    with pytest.raises(StopIteration, match="mine"):
        leastsq(func, [3.0, 4.0], Dfun=Dfun, workers=1 if Dfun == "2-point" else None)


# ---------------------------------------------------------------- the rule for steps

def steps_by_words(x, relative, largest, low, high):
    """(moved, step) of one coordinate, by the rule in the opening comment of fdjac2.f90."""
    size = abs(x) if largest is None else max(abs(x), 2.0**-10*largest)
    step = relative*size or relative
    if high is not None and x + step > high:
        back = x - step
        moved = back if back >= low else high if high - x > x - low else low
        return moved, moved - x
    return x + step, step


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("sized", [False, True])
@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("relative", ["one", "each"])
def test_steps_have_the_bits_of_the_rule(bounded, sized, many, relative):
    rng = np.random.default_rng(5)
    n, shape = 40, (7, 40) if many else (40,)
    x = rng.standard_normal(shape)*10.0**rng.integers(-12, 6, shape)
    x[..., ::5] = 0
    relative = 2.0**-26 if relative == "one" else 2.0**-rng.integers(3, 40, n)
    largest = np.abs(x)*10.0**rng.integers(0, 6, shape) if sized else None
    low = high = None
    if bounded:
        room = np.abs(x) + 1e-3
        near = lambda: rng.choice([0, 1e-12, 1e-7, 1.0, np.inf], shape)     # noqa: E731
        low, high = x - room*near(), x + room*near()
    moved, steps = _core.difference_steps(x, relative, largest, low, high)
    assert moved.shape == steps.shape == shape
    each = np.broadcast_to(relative, shape)
    for at in np.ndindex(shape):
        given = [None if side is None else side[at] for side in (largest, low, high)]
        assert (moved[at], steps[at]) == steps_by_words(x[at], each[at], *given)
    if bounded:
        assert ((low <= moved) & (moved <= high)).all() and (steps == 0).any() and (steps < 0).any()
    for k, row in enumerate(x if many else [x]):
        sides = [None if side is None else side[k] if many else side for side in (largest, low, high)]
        np.testing.assert_array_equal(_core.difference_steps(row, relative, *sides)[0], moved[k] if many else moved)


def test_steps_of_rows_take_one_pair_of_bounds_for_all():
    x, low, high = np.array([[1.0, 2.0], [3.0, 4.0]]), np.zeros(2), np.array([3.0, 9.0])
    moved, steps = _core.difference_steps(x, .5, None, low, high)
    np.testing.assert_array_equal(moved, [[1.5, 3], [1.5, 6]])
    np.testing.assert_array_equal(steps, moved - x)


def test_nan_stays_nan_in_a_step():
    x = np.array([np.nan, np.inf])
    for largest in (None, np.ones(2)):
        moved, steps = _core.difference_steps(x, .5, largest, None, None)
        assert np.isnan(moved[0]) and np.isnan(steps[0]) and moved[1] == steps[1] == np.inf


@pytest.mark.parametrize("arguments", [
    (np.ones(2), .5, np.ones(3), None, None), (np.ones(2), np.ones(3), None, None, None),
    (np.ones(2), .5, None, np.ones(2), None), (np.ones((2, 2)), .5, np.ones((3, 2)), None, None),
    (np.ones((2, 2, 2)), .5, None, None, None), (1.0, .5, None, None, None)])
def test_steps_of_wrong_shapes_are_refused(arguments):
    with pytest.raises(ValueError, match="must|together|object (too deep|of too small depth)"):
        _core.difference_steps(*arguments)


def test_steps_take_five_arguments():
    with pytest.raises(TypeError, match="5 arguments, got 2"):
        _core.difference_steps(np.ones(2), .5)
