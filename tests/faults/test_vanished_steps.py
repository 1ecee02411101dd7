"""Starts so close to zero that a difference step changes nothing."""
import warnings

import entries
import numpy as np
import pytest
from compiled_problems import SIGNATURE

import leastsq as package
from leastsq import CFunction, StrictWarning, _build, curve_fit, least_squares, leastsq, leastsq_batch, leastsq_blocks

T = np.linspace(1, 2, 20)
Y = 1 + 2*T
STARTS = [1e-11, -1e-11, 1e-13, 1e-17, -1e-17, 1e-300]
ADVICE = r"Not fitted: x\[\d\] = .*, so close to zero that no difference step changed a residual\. Start from exactly 0, or"


def line(p):
    return p[0]*T + p[1] - Y


def shift(p):
    return p - 3.0


def counted(func):
    def call(*args):
        call.points.append(np.array(args[0], copy=True))
        return func(*args)
    call.points = []
    return call


@pytest.mark.parametrize("small", STARTS)
@pytest.mark.parametrize("options", [{}, {"qr": "blocked"}, {"workers": 1}, {"epsfcn": 1e-15}, {"diag": [1.0, 2.0]}] +
                         [{"engine": "reference"}]*_build.reference, ids=str)
def test_where_bits_are_promised_the_message_names_the_parameter(options, small):
    func = counted(line)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x, cov, info, message, ier = leastsq(func, [1.0, small], full_output=True, **options)
    assert x[1] == small and ier in (1, 2, 3, 4) and info["nfev"] == len(func.points)
    assert np.isclose(x[0], T @ Y/(T @ T)) and cov is None            # the best fit without x[1]
    assert message.endswith(f"\n  Not fitted: x[1] = {small:g}, so close to zero that no difference step changed a residual. "
                            "Start from exactly 0, or from the right size.")
    with pytest.warns(RuntimeWarning, match=ADVICE):
        short = leastsq(line, [1.0, small], **options)
    assert short[0].tobytes() == x.tobytes() and short[1] == ier


def test_the_points_are_those_of_the_original():
    if not _build.reference:
        pytest.skip("not built with MINPACK's library")
    for small in STARTS:
        funcs = counted(line), counted(line)
        got, want = (leastsq(f, [1.0, small], full_output=True, engine=e) for f, e in zip(funcs, (None, "reference")))
        assert np.array(funcs[0].points).tobytes() == np.array(funcs[1].points).tobytes()
        assert got[3] == want[3] and got[0].tobytes() == want[0].tobytes()


def test_other_fits_get_no_such_message():
    cases = [(line, [1.0, 0.0]), (line, [1.0, 1e-5]), (line, [1.0, 1e-6]), (shift, [1e-5]),
             (lambda p: np.append(line([p[0], 1.0]), 0.0), [1.0, 0.5]),            # x[1] has an ordinary size, and no effect
             (lambda p: 1e12*p - 1.0, [1e-12]), (lambda p: 0*p, [1e-9]),            # has an effect; has nothing to fit
             (lambda p: np.array([(p[0]*1e9)**2 - 1, p[0]*1e9 - 1]), [1e-9])]
    for func, start in cases:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            message = leastsq(func, start, full_output=True)[3]
            leastsq(func, start)
        assert "Not fitted" not in message
    # with an exact Jacobian there are no steps
    assert "Not fitted" not in leastsq(lambda p: 0*p + 1, [1e-9], Dfun=lambda p: np.zeros((1, 1)), full_output=True)[3]
    assert "Not fitted" not in leastsq(line, [1.0, 1e-11], bounds=([-9, 1e-11], [9, 1e-11]), full_output=True)[3]      # fixed


def test_several_parameters_are_named_and_failures_keep_their_reason():
    def func(p):
        return np.append(p[0] + 1.0, p[1:] - 3.0)
    message = leastsq(func, [1.0] + [1e-12]*6, full_output=True)[3]
    assert "x[1] = 1e-12, x[2] = 1e-12, x[3] = 1e-12, x[4] = 1e-12 and 2 more, so close" in message
    with pytest.warns(RuntimeWarning, match=r"(?s)maxfev = 2.*Not fitted"):
        leastsq(lambda p: [10*(p[0] - 2)**3, p[1] - 3.0], [1.0, 1e-12], maxfev=2)


def test_the_other_functions_that_promise_bits_say_it_too():
    with pytest.warns(package.OptimizeWarning):
        message = curve_fit(lambda t, a, b: a*t + b, T, Y, [1.0, 1e-11], full_output=True)[3]
    assert "Not fitted" in message
    assert "Not fitted" in least_squares(line, [1.0, 1e-11]).message
    assert "Not fitted" not in least_squares(line, [1.0, 1e-4]).message
    result = leastsq_batch(lambda x: x[:, :1]*T + x[:, 1:] - Y, [[1.0, 1e-11], [1.0, 0.0], [1.0, 1.0]])
    assert ["Not fitted" in result.message(i) for i in range(3)] == [True, False, False]


@pytest.mark.parametrize("small", STARTS[:5])
@pytest.mark.parametrize("options", [{"bounds": (-9, 9)}, {"bounds": (-9, 9), "qr": "blocked"}, {"loss": "soft_l1"},
                                     {"loss": "huber", "qr": "blocked"}, {"bounds": (-9, 9), "loss": "cauchy", "workers": 1},
                                     {"bounds": (-9, 9), "Dfun": "3-point"}, {"Dfun": "3-point"}], ids=str)
def test_where_no_bits_are_promised_the_step_grows(options, small):
    func = counted(line)
    x, cov, info, message, ier = leastsq(func, [1.0, small], full_output=True, **options)
    assert ier in (1, 2, 3, 4) and info["nfev"] == len(func.points) and "Not fitted" not in message
    np.testing.assert_allclose(x, [2, 1], rtol=1e-6)
    if "bounds" in options:
        assert np.abs(func.points).max() <= 9


def test_steps_grow_by_a_factor_and_no_more_than_three_times():
    root = 2.0**-26
    for small, growths in ((1e-11, 1), (1e-13, 2), (1e-17, 3), (1e-30, 3)):
        func = counted(shift)
        leastsq(func, [small], bounds=(-9, 9), maxfev=1, full_output=True)
        steps = np.ravel(func.points[1:2 + growths]) - small
        np.testing.assert_allclose(steps, [root*small*1e4**k for k in range(growths + 1)], rtol=1e-6)
    dead = counted(lambda p: p[:1]*T + 0*p[1] - Y)          # x[1] of ordinary size: one growth, at each Jacobian
    for p1, growths in ((1.0, 1), (1e-6, 1), (1e-9, 3), (0.0, 0), (5e-324, 3)):
        dead.points.clear()
        _, _, info, message, _ = leastsq(dead, [1.0, p1], bounds=(-9, 9), maxfev=1, full_output=True)
        assert info["nfev"] == len(dead.points) == 1 + 2 + growths + 1
        assert ("Not fitted" in message) == (0 < p1 < 1e-6)


@pytest.mark.parametrize("how", [{}, {"qr": "blocked"}, {"workers": 1}], ids=str)
@pytest.mark.parametrize("start", [[4.0, 0.02], [2.0, 0.015], [0.3, 0.01], [0.4, 0.015]], ids=str)
def test_a_parameter_on_a_plateau_leaves_the_others_their_minimum(start, how):
    """A variogram whose range is shorter than the first lag: a longer step would reach a slope far away."""
    lags = np.array([0.4, 1.2, 2.4, 3.2])
    values = np.array([0.01933, 0.01967, 0.01918, 0.0193])

    def shape(r):
        q = np.minimum(lags/max(r, 1e-300), 1)
        return 1.5*q - 0.5*q**3
    x, ier = leastsq(lambda p: p[1]*shape(p[0]) - values, start, bounds=([0, 0], [4, 0.02]), factor=1.0, **how)
    best = (shape(x[0]) @ values)/(shape(x[0]) @ shape(x[0]))
    assert ier in (1, 2, 3, 4) and x[1] == pytest.approx(best, rel=1e-6)


def test_a_step_that_leaves_the_domain_is_given_up():
    def func(p):
        with np.errstate(all="ignore"):
            return np.append(p[0] - 2.0, np.where(np.abs(p[1] - 1.0) > 1e-3, np.nan, 1.0))
    for options in ({"bounds": (-9, 9)}, {"loss": "huber"}, {"bounds": (-9, 9), "workers": 1}):
        x, _, _, message, ier = leastsq(func, [1.0, 1.0], full_output=True, **options)
        assert ier in (1, 2, 3, 4) and x[0] == pytest.approx(2.0) and x[1] == 1.0, message


def batch_line(x):
    return x[:, :1]*T + x[:, 1:] - Y


@SIGNATURE
def compiled_line(m, n, x, f, data):
    for i in range(m):
        f[i] = x[0]*T[i] + x[1] - Y[i]
    return 0


@pytest.mark.parametrize("options", [{"bounds": (-9, 9)}, {"loss": "soft_l1"}, {"bounds": (-9, 9), "loss": "huber"}], ids=str)
def test_all_schedulers_go_through_the_same_points(options):
    starts = np.array([[1.0, s] for s in (*STARTS, 0.5, 0.0)] + [[1e-12, 1e-9]])
    alone = [leastsq(line, start, full_output=True, **options) for start in starts]
    points = []
    for start in starts:
        func = counted(line)
        leastsq(func, start, workers=lambda f, p: list(map(f, p)), full_output=True, **options)
        points.append(np.array(func.points))
    for start, (_, _, info, _, _), seen in zip(starts, alone, points):
        func = counted(line)
        leastsq(func, start, full_output=True, **options)
        assert info["nfev"] == len(seen) and sorted(map(bytes, seen)) == sorted(map(bytes, func.points))
    in_step = leastsq_batch(batch_line, starts, **options)
    compiled = leastsq_batch(CFunction(compiled_line, T.size), starts, **options)
    for result in (in_step, compiled):
        np.testing.assert_array_equal(result.nfev, [fit[2]["nfev"] for fit in alone])
        np.testing.assert_allclose(result.x, [fit[0] for fit in alone], rtol=1e-9)
    np.testing.assert_array_equal(in_step.x, [fit[0] for fit in alone])


@pytest.mark.parametrize("options", [{}, {"bounds": (-9, 9)}, {"loss": "soft_l1"}], ids=str)
@pytest.mark.parametrize("small", STARTS[:5])
def test_a_step_grows_only_if_it_changes_no_residual_of_any_block(options, small):
    blocks = [slice(0, 7), slice(7, 8), slice(8, 20)]
    x, ier = leastsq_blocks(lambda p, part: line(p)[part], [1.0, small], blocks, **options)
    np.testing.assert_allclose(x, [2, 1], rtol=1e-6)
    # a parameter of one block has no effect in the others
    calls = counted(lambda p, part: np.append(line(p)[part], p[2] - 1e-8 if part.start == 7 else 0.0))
    x, _, info, _, _ = leastsq_blocks(calls, [1.0, 0.5, 1e-8], blocks, full_output=True, maxfev=1, **options)
    assert info["nfev"] <= 1 + 3 + 1


def test_fits_with_bounds_have_error_bars_from_there():
    for small in STARTS[:5]:
        popt, pcov = curve_fit(lambda t, a, b: a*t + b, T, Y + 0.01*np.cos(30*T), [1.0, small], bounds=(-9, 9))
        want = curve_fit(lambda t, a, b: a*t + b, T, Y + 0.01*np.cos(30*T), [1.0, 0.5], bounds=(-9, 9))
        np.testing.assert_allclose(popt, want[0], rtol=1e-5)
        np.testing.assert_allclose(pcov, want[1], rtol=1e-4)


@pytest.mark.parametrize("small", [*STARTS[:3], 1e-40])
def test_strict_finds_a_vanished_step(small):
    """With a separate message, and only once."""
    with pytest.warns(StrictWarning, match=r"x\[1\] is too near zero .*start from exactly 0") as caught:
        leastsq(line, [1.0, small], strict=True)
    assert len(caught) == 1


def test_entries_that_start_elsewhere_make_no_further_calls():
    """Their Jacobians have no column of zeros, so no step grows."""
    for name in ("bounds", "own loss", "batch, own loss", "threads, loss"):
        assert "Not fitted" not in str(entries.values(entries.ENTRIES[name]()))
