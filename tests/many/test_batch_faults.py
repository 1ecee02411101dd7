"""leastsq_batch when something goes wrong: bad input, exceptions, stops; and reports of progress."""
import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from leastsq import CFunction, Status, leastsq_batch
from test_batch import (METHODS, M, arrays, assert_same, compiled, curve, curve_jacobian,
                        curve_jacobian_by_column, curves, library, methods, quiet)

assert compiled and library and quiet       # fixtures


# ---------------------------------------------------------------------------
# bad input


def compiled_only(x):
    raise AssertionError("must not be called")


@pytest.mark.parametrize("x0", [np.zeros((0, 3)), np.zeros((3, 0)), np.zeros(3), 1.0, np.zeros((2, 3, 1)), []],
                         ids=["no problems", "no parameters", "1-D", "scalar", "3-D", "empty"])
def test_starts_must_have_a_row_for_each_problem(x0, compiled):
    for func in (compiled_only, compiled[0]):
        with pytest.raises(ValueError, match=r"x0 must have a row for each problem, shape \(B, n\).*got \("):
            leastsq_batch(func, x0)


@pytest.mark.parametrize("keywords, error, message", [
    (dict(x0=np.zeros((4, 3), complex)), TypeError, "x0 must be real numbers .* complex128"),
    (dict(data=np.zeros((3, M))), ValueError,
     r"data must have a row for each of the 4 rows of x0, shape \(4, \.\.\.\), got \(3, 8\)"),
    (dict(x0=[[1, 2, 3], [1]]), ValueError, "x0 must be an array of real numbers, got an unusable list"),
    (dict(data=(np.zeros((4, M)), 1.0)), ValueError, r"data\[1\] must have .* got \(\)"),
    (dict(weights=np.ones((4, M - 1))), ValueError, r"weights must have .* shape \(4, 8\), got \(4, 7\)"),
    (dict(weights=np.ones(M)), ValueError, r"weights must have .* shape \(4, 8\), got \(8,\)"),
    (dict(weights=np.ones((4, M), complex)), TypeError, "weights must be real numbers"),
    (dict(diag=np.ones(4)), ValueError, r"diag must have shape \(3,\) or \(4, 3\), got \(4,\)"),
    (dict(diag=[1, 0, 1]), TypeError, "every entry of diag must be positive"),
    (dict(ftol=-1), TypeError, "ftol must be zero or positive, got -1"),
    (dict(xtol=np.nan), TypeError, "xtol must be zero or positive, got nan"),
    (dict(gtol=None), TypeError, "gtol must be a real number, got NoneType"),
    (dict(ftol="a"), TypeError, "ftol must be a real number, got str"),
    (dict(factor=0), TypeError, "factor must be positive"),
    (dict(epsfcn=np.nan), TypeError, "epsfcn must be a number or None"),
    (dict(maxfev=1.5), TypeError, "maxfev must be an integer, got float"),
    (dict(maxfev=2**63), OverflowError, "maxfev must fit in 64 bits, got 9223372036854775808"),
    (dict(col_deriv="no"), TypeError, "col_deriv must be an integer, got str"),
    (dict(return_cov="no"), TypeError, "return_cov must be an integer, got str"),
    (dict(return_fvec=None), TypeError, "return_fvec must be an integer, got NoneType"),
    (dict(threads=0), ValueError, "threads must be at least 1, got 0"),
    (dict(threads=1.0), TypeError, "threads must be an integer, got float"),
    (dict(slab=0), ValueError, "slab must be at least 1, got 0"),
    (dict(unknown=1), TypeError, "unknown"),
], ids=lambda value: ",".join(value) if isinstance(value, dict) else "")
@pytest.mark.parametrize("kind", ["python", "compiled"])
def test_a_bad_argument_is_named(kind, keywords, error, message, compiled):
    x0, y = curves(4)
    func = curve if kind == "python" else compiled[0]
    keywords = {"x0": x0, "data": y} | keywords
    if keywords.get("data") is not y and isinstance(keywords["data"], tuple) and kind == "compiled":
        keywords["data"] = (y, 1.0)
    with pytest.raises(error, match=message):
        leastsq_batch(func, **keywords)


def test_functions_of_two_kinds_do_not_go_together(compiled):
    x0, y = curves(4)
    with pytest.raises(TypeError, match="both be CFunctions or neither, got function and CFunction"):
        leastsq_batch(curve, x0, y, Dfun=compiled[1])
    with pytest.raises(TypeError, match="both be CFunctions or neither, got CFunction and function"):
        leastsq_batch(compiled[0], x0, y, Dfun=curve_jacobian)
    with pytest.raises(TypeError, match="func must be callable or a CFunction, got int"):
        leastsq_batch(3, x0, y)
    with pytest.raises(TypeError, match="Dfun must be callable or a CFunction, got int"):
        leastsq_batch(curve, x0, y, Dfun=3)


def test_options_that_compiled_functions_cannot_have_are_refused(library, compiled):
    x0, y = curves(4)
    with pytest.raises(TypeError, match="args must be empty"):
        leastsq_batch(compiled[0], x0, y, (1,))
    with pytest.raises(TypeError, match="data must be one array, got 2"):
        leastsq_batch(compiled[0], x0, (y, y))
    with pytest.raises(ValueError, match=r"row of data must be C-contiguous, got .* \(4, 8\)"):
        leastsq_batch(compiled[0], x0, np.asfortranarray(y))
    with pytest.raises(TypeError, match="plain numbers, got dtype object"):
        leastsq_batch(compiled[0], x0, y.astype(object))
    with pytest.raises(ValueError, match="Dfun is for m = 9 residuals, func has 8"):
        leastsq_batch(compiled[0], x0, y, Dfun=CFunction(library.curve_jacobian, 9))
    with pytest.raises(TypeError, match="Improper input: func input vector length N=9 must not exceed"):
        leastsq_batch(compiled[0], np.ones((4, 9)), y)
    made_for = CFunction(library.curve, M, np.zeros(M, np.float32))
    with pytest.raises(ValueError, match=r"func was made with, float32 of shape \(8,\), got float64 of shape \(8,\)"):
        leastsq_batch(made_for, x0, y)


@pytest.mark.parametrize("returned, error, message", [
    (lambda k: np.zeros(k), ValueError, r"shape \(4, m\) for x of shape \(4, 3\), got \(4,\)"),
    (lambda k: np.zeros((M, k)), ValueError, r"shape \(4, m\) .* got \(8, 4\)"),
    (lambda k: np.zeros((k, M, 1)), ValueError, r"got \(4, 8, 1\)"),
    (lambda k: np.zeros((k, 0)), ValueError, r"got \(4, 0\)"),
    (lambda k: np.zeros((k, 2)), TypeError, "length N=3 must not exceed func output vector length M=2"),
    (lambda k: np.zeros((k, M), complex), TypeError, "array that func returns must be real .* complex128"),
    (lambda k: np.zeros((k, M), np.longdouble), TypeError, "longdouble|float128|float96"),
    (lambda k: None, TypeError, "NoneType of dtype object"),
], ids=range(8))
def test_the_wrong_result_of_the_first_call_is_described(returned, error, message):
    x0, y = curves(4)
    with pytest.raises(error, match=message):
        leastsq_batch(lambda x, y: returned(len(x)), x0, y)


@pytest.mark.parametrize("call", [2, 3, 5, 6])
@methods
def test_a_changed_shape_at_a_later_call_is_described(method, call):
    x0, y = curves(4)
    calls = []

    def func(x, y):
        calls.append(1)
        return curve(x, y)[:, :-1] if len(calls) == call else curve(x, y)

    with pytest.raises(ValueError, match=r"changed size between calls: wanted shape \(\d, 8\) for x of shape "
                                         r"\(\d, 3\), got \(\d, 7\)"):
        leastsq_batch(func, x0, y, **METHODS[method])


def test_a_transposed_jacobian_is_recognised():
    x0, y = curves(4)
    with pytest.raises(TypeError, match=r"Dfun must return shape \(4, 8, 3\) for x of shape \(4, 3\), "
                                        r"got \(4, 3, 8\); col_deriv=True is for that"):
        leastsq_batch(curve, x0, y, Dfun=curve_jacobian_by_column)
    with pytest.raises(TypeError, match=r"got \(4, 8, 3\); col_deriv=False is for that"):
        leastsq_batch(curve, x0, y, Dfun=curve_jacobian, col_deriv=True)
    with pytest.raises(TypeError, match=r"got \(4, 8\)$"):
        leastsq_batch(curve, x0, y, Dfun=curve)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
@methods
def test_an_exception_arrives_with_the_problems_that_it_concerns(method, error):
    x0, y = curves(200)
    for call in range(1, 12):
        raised, calls = error("sic"), []

        def counted(function):
            def counting(x, y):
                calls.append(1)
                if len(calls) == call:
                    raise raised
                return function(x, y)
            return counting

        keywords = METHODS[method] | ({"Dfun": counted(METHODS[method]["Dfun"])} if method != "lmdif" else {})
        with pytest.raises(error) as caught:
            leastsq_batch(counted(curve), x0, y, slab=50, **keywords)
        assert caught.value is raised
        (note,) = raised.__notes__
        assert "called for 50 of 200 problems, 0 to 49" in note or call > 1
        assert ("raised by func" in note) or ("raised by Dfun" in note)


# ---------------------------------------------------------------------------
# compiled functions that stop the fit, or are slow


def test_a_compiled_function_stops_its_problem_only(library, compiled):
    x0, y = curves(200, seed=30)
    y = np.abs(y)
    y[::7, 0] = -1
    stops = CFunction(library.stops_below_zero, M), CFunction(library.jacobian_stops_below_zero, M)
    wanted = leastsq_batch(compiled[0], x0, y, Dfun=compiled[1], return_fvec=True)
    others = np.arange(200) % 7 != 0
    for func, dfun, code in ((stops[0], compiled[1], 7), (compiled[0], stops[1], 8)):
        result = leastsq_batch(func, x0, y, Dfun=dfun, return_fvec=True, threads=2)
        assert_same_rows(result, wanted, others)
        assert (result.ier[~others] == Status.STOPPED).all()
        assert np.isnan(result.cov_x[~others]).all()
        np.testing.assert_array_equal(result.x[~others], x0[~others])
        assert result.message(7) == f"A compiled function stopped the fit by returning {code}."
        assert repr(result).startswith(f"<BatchResult of 200 fits: {wanted.success[others].sum()} converged")
        assert repr(result).endswith(", 29 STOPPED>")
        there_is_no_f = code == 7
        assert (np.isnan(result.fvec[~others]) == there_is_no_f).all()
        assert (np.isnan(result.fnorm[~others]) == there_is_no_f).all()


def assert_same_rows(result, wanted, rows):
    for name, values in arrays(wanted).items():
        np.testing.assert_array_equal(getattr(result, name)[rows], values[rows], name)


class Alarm(Exception):
    pass


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals")
@pytest.mark.parametrize("threads", [1, 3])
def test_a_signal_ends_a_batch_within_a_tenth_of_a_second(threads, library):
    rung = []

    def ring(*_):
        rung.append(time.monotonic())
        raise Alarm

    x0, y = curves(100_000)
    func = CFunction(library.slow_curve, M)
    before = signal.signal(signal.SIGALRM, ring)
    delays = []
    try:
        for _ in range(3):                  # a busy machine may be late once
            began = time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(Alarm):
                leastsq_batch(func, x0, y, threads=threads)
            delays.append(time.monotonic() - began - 0.05)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert min(delays) < 0.1
    assert len(rung) == 3


def test_threads_end_with_the_call(compiled):
    x0, y = curves(500)
    before = len(os.listdir("/proc/self/task")) if Path("/proc/self/task").exists() else None
    for _ in range(20):
        leastsq_batch(compiled[0], x0, y, threads=4)
    if before is not None:
        assert len(os.listdir("/proc/self/task")) <= before


def test_threads_may_be_many_or_as_many_as_there_are_processors(compiled):
    x0, y = curves(50)
    wanted = leastsq_batch(compiled[0], x0, y)
    for threads in (None, 50, 1000):
        assert_same(leastsq_batch(compiled[0], x0, y, threads=threads), arrays(wanted))


# ---------------------------------------------------------------------------
# progress


@pytest.mark.parametrize("kind", ["python", "compiled"])
def test_progress_gets_the_number_of_finished_problems(kind, compiled):
    x0, y = curves(2000)
    told = []
    leastsq_batch(curve if kind == "python" else compiled[0], x0, y, slab=100,
                  progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (2000, 2000)
    assert {total for _, total in told} == {2000}
    assert told == sorted(told)
    assert len(told) > 20 or kind == "compiled"


@pytest.mark.parametrize("kind", ["python", "compiled"])
def test_an_exception_of_progress_ends_the_batch(kind, compiled, library):
    x0, y = curves(2000)

    def fed_up(done, total):
        raise Alarm

    with pytest.raises(Alarm):
        leastsq_batch(curve if kind == "python" else CFunction(library.slow_curve, M), x0, y,
                      progress=fed_up)


@pytest.mark.parametrize("tqdm", [True, False], ids=["tqdm", "no tqdm"])
def test_progress_is_shown_on_standard_error(tqdm, monkeypatch, compiled, capfd):
    if tqdm:
        pytest.importorskip("tqdm")
        monkeypatch.setitem(sys.modules, "tqdm.auto", __import__("tqdm"))
    else:
        monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    x0, y = curves(300)
    leastsq_batch(curve, x0, y, progress=True)
    leastsq_batch(compiled[0], x0, y, progress=True)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err.count("300/300" if tqdm else "300 of 300 fits") >= 2
    leastsq_batch(curve, x0, y)
    assert capfd.readouterr() == ("", "")
