"""What leastsq refuses, with which messages, and how a fit may end."""
import re
import sys
import warnings
from functools import partial

import guards
import numpy as np
import pytest

from leastsq import leastsq

from enzyme import At, T, X0, Y, by_columns, jacobian, residual
nan, inf = np.nan, np.inf


WITH_AND_WITHOUT = pytest.mark.parametrize("dfun", [None, jacobian], ids=["lmdif", "lmder"])
BOTH_OUTPUTS = pytest.mark.parametrize("full_output", [False, True], ids=["short", "full"])


# ------------------------------------------------------- improper arguments


@BOTH_OUTPUTS
@pytest.mark.parametrize("dfun", [None, lambda x: np.zeros((1, 2))], ids=["lmdif", "lmder"])
@pytest.mark.parametrize("m", [0, 1])
def test_more_parameters_than_residuals_are_refused(m, dfun, full_output):
    with pytest.raises(TypeError, match="Improper input: func input vector length N=2 must "
                                        f"not exceed func output vector length M={m}"):
        leastsq(lambda x: x[:m], X0, Dfun=dfun, full_output=full_output)


def test_scalar_residual_of_two_parameters_is_refused():
    with pytest.raises(TypeError, match="^Improper input: func input vector length N=2"):
        leastsq(lambda x: x[0], X0)


IMPROPER = [(name, value) for name in ("ftol", "xtol", "gtol")
            for value in (-1.0, -5e-324, -inf, nan)]
IMPROPER += [("factor", value) for value in (0, 0.0, -1.0, -inf, nan)]
IMPROPER += [("epsfcn", nan)]
IMPROPER += [("diag", value) for value in (
    [1.0, 0.0], [0, 1], [-1.0, 1.0], [1.0, -5e-324], [1.0, nan], [nan, nan],
    np.array([1.0, -0.0]), (1, -inf))]


@BOTH_OUTPUTS
@WITH_AND_WITHOUT
@pytest.mark.parametrize("name, value", IMPROPER, ids=str)
def test_improper_value_is_refused_by_name(name, value, dfun, full_output):
    with pytest.raises(TypeError, match="^Improper input") as error:
        leastsq(residual, X0, Dfun=dfun, full_output=full_output, **{name: value})
    assert name in str(error.value)


NOTHING = pytest.mark.parametrize("x0", [[], (), np.empty(0), np.empty((2, 0))], ids=repr)


@NOTHING
def test_no_parameters_are_refused(x0):
    with pytest.raises(TypeError, match="^Improper input") as error:
        leastsq(lambda p: T, x0)
    assert "x0" in str(error.value)


@WITH_AND_WITHOUT
@NOTHING
def test_no_parameters_with_full_output_are_answered_as_by_scipy(x0, dfun):
    """lmfit's conf_interval2d fixes all parameters, and reads ier and fvec."""
    seen = []

    def constant(p, offset):
        seen.append(p)
        return T + offset

    x, cov_x, info, mesg, ier = leastsq(constant, x0, 2.0, Dfun=dfun, full_output=True)
    assert (x.shape, cov_x, mesg, ier) == ((0,), None, "Improper input parameters.", 0)
    assert list(info) == ["fvec", "nfev", *(["njev"] if dfun else []), "fjac", "ipvt", "qtf"]
    assert np.array_equal(info["fvec"], T + 2.0) and info["nfev"] == len(seen) == 1 and seen[0].shape == (0,)
    assert (info["fjac"].shape, info["ipvt"].shape, info["qtf"].shape) == ((0, T.size), (0,), (0,))


@pytest.mark.parametrize("wrong", [T[:, None], T + 0j, "text"], ids=["2-D", "complex", "text"])
def test_no_parameters_still_need_residuals(wrong):
    with pytest.raises((TypeError, ValueError), match="func"):
        leastsq(lambda p: wrong, [], full_output=True)


def test_no_parameters_do_not_hide_another_error():
    with pytest.raises(TypeError, match="ftol"):
        leastsq(lambda p: T, [], ftol=None, full_output=True)


@pytest.mark.parametrize("diag", [
    [], [1.0], [1.0, 1.0, 1.0], np.ones(2000), [[1.0, 1.0]], np.ones((2, 1)), 1.0], ids=np.shape)
@BOTH_OUTPUTS
def test_diag_of_wrong_shape_is_refused(diag, full_output):
    with pytest.raises(ValueError, match="diag"):
        leastsq(residual, X0, diag=diag, full_output=full_output)


@pytest.mark.parametrize("diag", [[1, "a"], "ab", [1, 1j], [1, None], [1, [2, 3]], {}], ids=repr)
def test_diag_that_is_no_vector_of_reals_is_refused(diag):
    with pytest.raises((TypeError, ValueError)):
        leastsq(residual, X0, diag=diag)


@pytest.mark.parametrize("convert", [list, tuple, np.array, lambda d: np.repeat(d, 2)[::2],
                                     lambda d: np.array(d, "f4"), lambda d: np.array(d, ">i4")])
@pytest.mark.parametrize("writeable", [True, False])
def test_diag_of_any_real_kind_is_used_and_left_alone(convert, writeable):
    diag = convert([2, 64])
    if isinstance(diag, np.ndarray):
        diag.flags.writeable = writeable
    x, ier = leastsq(residual, X0, diag=diag, factor=0.1)
    np.testing.assert_array_equal(x, leastsq(residual, X0, diag=[2.0, 64.0], factor=0.1)[0])
    assert ier in (1, 2, 3)
    np.testing.assert_array_equal(diag, [2, 64])


@pytest.mark.parametrize("spoilt", [0.0, nan, 5.0])
def test_diag_changed_by_func_during_the_fit_does_not_matter(spoilt):
    diag = np.array([2.0, 64.0])

    def func(p):
        diag[:] = spoilt
        return residual(p)

    x, ier = leastsq(func, X0, diag=diag, factor=0.1)
    np.testing.assert_array_equal(x, leastsq(residual, X0, diag=[2.0, 64.0], factor=0.1)[0])


@pytest.mark.parametrize("option", ["ftol", "xtol", "gtol", "factor"])
def test_infinite_options_are_not_improper(option):
    assert leastsq(residual, X0, **{option: inf})[1] in (1, 2, 3, 4)


# ----------------------------------------------------- how a fit may end: ier


def corner(a, b):
    """Residuals (x - a, b), whose minimum at a leaves b."""
    return lambda x: np.array([x[0] - a, b])


def gradient(x):
    return [[1.0], [0.0]]


ZERO = dict(ftol=0, xtol=0, gtol=0)
ONCE = ZERO | dict(maxfev=1)
BOTH = ("Both actual and predicted relative reductions in the sum of squares\n"
        "  are at most %f")
CONSECUTIVE = "elative error between two consecutive iterates is at "
COSINE = ("The cosine of the angle between func(x) and any column of the\n"
          "  Jacobian is at most %f in absolute value")
FTOL_TOO_SMALL = ("ftol=0.000000 is too small, no further reduction in the sum of squares\n"
                  "  is possible.")
XTOL_TOO_SMALL = ("xtol=0.000000 is too small, no further improvement in the approximate\n"
                  "  solution is possible.")
GTOL_TOO_SMALL = ("gtol=0.000000 is too small, func(x) is orthogonal to the columns of\n"
                  "  the Jacobian to machine precision.")
ENDS = {
    "1": (residual, X0, dict(ftol=0.25, xtol=0), 1, BOTH % 0.25),
    "2": (residual, X0, dict(ftol=0, xtol=0.25), 2, f"The r{CONSECUTIVE}most 0.250000"),
    "3": (corner(1.0, 2.0), 1.25, dict(ftol=0.25, xtol=0.75), 3,
          BOTH % 0.25 + f" and the r{CONSECUTIVE}\n  most 0.750000"),
    "4": (residual, X0, dict(gtol=1.0), 4, COSINE % 1),
    "4 at zero": (lambda x: 0 * x, X0, {}, 4, COSINE % 0),
    "5": (residual, X0, dict(maxfev=1), 5, "Number of calls to function has reached maxfev = 1."),
    "6": (corner(0.0, 1.0), 1e-9, ZERO, 6, FTOL_TOO_SMALL),
    "7": (corner(1.0, 1e-3), 1 + 2.0 ** -52, ZERO, 7, XTOL_TOO_SMALL),
    "8": (corner(1e-17, 1.0), 0.0, ZERO, 8, GTOL_TOO_SMALL),
    "1 over 5": (residual, X0, dict(ftol=inf, xtol=0, maxfev=1), 1, BOTH % inf),
    "6 over 5": (corner(0.0, 1.0), 1e-9, ONCE, 6, FTOL_TOO_SMALL),
    "7 over 6 and 5": (corner(1.0, 1e-3), 1 + 2.0 ** -52, ONCE, 7, XTOL_TOO_SMALL),
    "8 over 6 and 5": (corner(1e-17, 1.0), 0.0, ONCE, 8, GTOL_TOO_SMALL)}


@pytest.mark.parametrize("func, x0, options, ier, text", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("with_dfun", [False, True])
def test_end_of_a_fit(func, x0, options, ier, text, with_dfun):
    dfun = None
    if with_dfun:
        zeros = np.zeros((2, 2))
        dfun = jacobian if func is residual else gradient if np.isscalar(x0) else lambda x: zeros
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x, cov, info, mesg, got = leastsq(func, x0, Dfun=dfun, full_output=True, **options)
    assert (got, mesg) == (ier, text) and type(got) is int
    assert ier in (1, 2, 3, 4) or cov is None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        short = leastsq(func, x0, Dfun=dfun, **options)
    assert len(short) == 2 and short[1] == ier
    np.testing.assert_array_equal(short[0], x)
    if ier in (1, 2, 3, 4):
        assert not caught
    else:
        assert [(w.category, str(w.message)) for w in caught] == [(RuntimeWarning, mesg)]


@pytest.mark.parametrize("func, options", [
    (residual, dict(maxfev=1)), (lambda x: x + nan, {}),
    (residual, dict(Dfun=lambda x: np.full((12, 2), inf)))], ids=["5", "9", "9 of Dfun"])
def test_warning_points_to_the_line_that_called(func, options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        line = sys._getframe().f_lineno + 1
        leastsq(func, X0, **options)
    (warning,) = caught
    assert warning.category is RuntimeWarning
    assert (warning.filename, warning.lineno) == (__file__, line)


def test_warning_turned_into_an_error_is_raised():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning, match="maxfev = 1"):
            leastsq(residual, X0, maxfev=1)


# ------------------------------------------------------------- not finite: ier 9

START = (1.25, 2.5, 3.75)
GRID = np.arange(1.0, 25.0) / 8


def parabola(p):
    return p[0] + p[1] * GRID + p[2] * GRID ** 2 - 1 / GRID


def parabola_jacobian(p):
    return np.stack([GRID ** 0, GRID, GRID ** 2], axis=1)


def put(value, *index):
    def change(result):
        result[index] = value
        return result
    return change


def assert_failed_at_start(result, *numbers):
    x, cov, info, mesg, ier = result
    assert ier == 9 and type(ier) is int and cov is None
    np.testing.assert_array_equal(x, START)
    for number in (*map(str, numbers), "1.25", "2.5", "3.75"):
        assert re.search(rf"(?<![\d.]){re.escape(number)}(?![\d])", mesg), (number, mesg)
    assert info["fjac"].shape == (3, 24) and info["fvec"].shape == (24,)
    assert info["qtf"].shape == (3,) and np.isnan(info["qtf"]).all()
    assert np.isnan(info["fjac"]).all()                 # no factors of an earlier Jacobian
    np.testing.assert_array_equal(sorted(info["ipvt"]), [1, 2, 3])


@WITH_AND_WITHOUT
@pytest.mark.parametrize("value", [nan, inf, -inf])
@pytest.mark.parametrize("index", [0, 17, 23])
def test_residual_not_finite_at_x0(dfun, value, index):
    func = At(lambda p: put(nan, 23)(put(value, index)(parabola(p))), None, None)
    dfun = dfun and At(parabola_jacobian, None, None)
    result = leastsq(func, START, Dfun=dfun, full_output=True)
    assert_failed_at_start(result, index)
    assert func.calls == result[2]["nfev"] == 1
    assert not dfun or dfun.calls == result[2]["njev"] == 0
    np.testing.assert_array_equal(result[2]["fvec"], func(np.array(START)))
    assert "func" in result[3]


@pytest.mark.parametrize("value", [nan, inf, -inf])
@pytest.mark.parametrize("column", [0, 1, 2])
def test_forward_difference_not_finite(value, column):
    func = At(parabola, put(value, 17), 2 + column)
    result = leastsq(func, START, full_output=True)
    assert_failed_at_start(result, 17, column)
    assert func.calls == result[2]["nfev"]
    np.testing.assert_array_equal(result[2]["fvec"], parabola(START))


@pytest.mark.parametrize("value", [nan, inf, -inf])
@pytest.mark.parametrize("column", [0, 1, 2])
@pytest.mark.parametrize("col_deriv", [False, True])
def test_dfun_not_finite(value, column, col_deriv):
    func = At(parabola, None, None)

    def dfun(p):
        jac = put(value, 17, column)(parabola_jacobian(p))
        return jac.T if col_deriv else jac

    result = leastsq(func, START, Dfun=dfun, col_deriv=col_deriv, full_output=True)
    assert_failed_at_start(result, 17, column)
    assert (func.calls, result[2]["nfev"], result[2]["njev"]) == (1, 1, 1)
    assert "Jacobian" in result[3]


def test_norms_that_overflow_are_not_finite_either():
    huge = np.full(12, 1.7e308)
    for func, dfun in ((lambda p: huge, None), (residual, lambda p: np.stack([huge, T], axis=1))):
        _, cov, _, mesg, ier = leastsq(func, X0, Dfun=dfun, full_output=True)
        assert ier == 9 and cov is None and "overflow" in mesg


@WITH_AND_WITHOUT
def test_later_jacobian_not_finite_ends_at_the_best_point(dfun):
    options = {"Dfun": At(dfun, put(nan, 3, 1), 2)} if dfun else {}
    func = residual if dfun else At(residual, put(nan, 3), 6)
    x, cov, info, mesg, ier = leastsq(func, X0, full_output=True, **options)
    assert ier == 9 and cov is None and "3" in mesg and repr(float(x[0]))[:6] in mesg
    np.testing.assert_array_equal(info["fvec"], residual(x))
    assert info["fvec"] @ info["fvec"] < residual(X0) @ residual(X0)


@BOTH_OUTPUTS
def test_not_finite_warns_only_in_the_short_form(full_output):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = leastsq(lambda p: put(nan, 17)(parabola(p)), START, full_output=full_output)
    assert result[-1] == 9 and len(caught) == (not full_output)
    assert full_output or re.search(r"\b17\b", str(caught[0].message))


@pytest.mark.parametrize("value", [nan, inf, -inf])
@WITH_AND_WITHOUT
def test_trial_not_finite_is_a_rejected_step(dfun, value):
    def func(p):
        return residual(p) if p[1] > 0.9 else np.full(12, value)

    x, ier = leastsq(func, (9.0, 1.0), Dfun=dfun)
    expected, _ = leastsq(residual, X0, Dfun=dfun)
    assert ier in (1, 2, 3)
    np.testing.assert_allclose(x, expected, rtol=1e-5)
    bad = At(residual, put(value, 5), 2 if dfun else 4)
    x, ier = leastsq(bad, X0, Dfun=dfun)
    assert ier in (1, 2, 3) and bad.calls > bad.k
    np.testing.assert_allclose(x, expected, rtol=1e-5)


# ----------------------------------------- what func and Dfun may not return

LONG = guards.LONGDOUBLE
REFUSED = {
    "complex": (lambda a: a + 0j, "complex128"),
    "complex64": (lambda a: a.astype("F"), "complex64"),
    "longdouble": (lambda a: a.astype("longdouble"), str(np.dtype("longdouble"))),
    "object": (lambda a: a.astype(object), "object"), "None": (lambda a: None, ""),
    "dict": (lambda a: {}, ""), "bytes": (lambda a: b"1", ""), "text": (lambda a: "1", ""),
    "strings": (lambda a: a.astype(str), ""), "times": (lambda a: a.astype("m8[s]"), "timedelta64"),
    "generator": (lambda a: iter(a), "")}
REFUSED_CASES = [pytest.param(*v, id=k, marks=[LONG] * (k == "longdouble"))
                 for k, v in REFUSED.items()]


@pytest.mark.parametrize("change, got", REFUSED_CASES)
@pytest.mark.parametrize("k", [1, 2, 4, 5])
@pytest.mark.parametrize("with_dfun", [False, True])
def test_residuals_without_safe_cast_are_refused_at_any_call(change, got, k, with_dfun):
    func = At(residual, change, k)
    with pytest.raises(TypeError, match="func") as error:
        leastsq(func, X0, Dfun=jacobian if with_dfun else None)
    assert got in str(error.value) and ("float64" in str(error.value) or got == "timedelta64")
    assert func.calls == k


@pytest.mark.parametrize("change, got", REFUSED_CASES)
@pytest.mark.parametrize("k", [1, 2])
def test_jacobians_without_safe_cast_are_refused_at_any_call(change, got, k):
    dfun = At(jacobian, change, k)
    with pytest.raises(TypeError, match="Dfun") as error:
        leastsq(residual, X0, Dfun=dfun)
    assert got in str(error.value) and dfun.calls == k


@pytest.mark.parametrize("shape", [(12, 1), (1, 12), (3, 4), (1, 1, 12)], ids=str)
@pytest.mark.parametrize("k", [1, 2, 4])
def test_residuals_in_several_dimensions_are_refused_at_any_call(shape, k):
    func = At(residual, lambda r: r.reshape(shape), k)
    with pytest.raises((TypeError, ValueError), match="func") as error:
        leastsq(func, X0)
    assert str(shape) in str(error.value) and func.calls == k


@pytest.mark.parametrize("bad", [lambda a: [1.0, [2.0, 3.0]], lambda a: [[1.0], [2.0, 3.0]]])
@pytest.mark.parametrize("k", [1, 2])
def test_numpys_own_error_is_the_cause_of_ours(bad, k):
    for name, func, dfun in (("func", At(residual, bad, k), None),
                             ("Dfun", residual, At(jacobian, bad, k))):
        with pytest.raises((TypeError, ValueError), match=name) as error:
            leastsq(func, X0, Dfun=dfun)
        assert isinstance(error.value.__cause__, ValueError)
        assert "inhomogeneous" in str(error.value.__cause__)


@pytest.mark.parametrize("change", [lambda r: r[:-1], lambda r: np.append(r, 0.0),
                                    lambda r: r[:0], lambda r: r[0], lambda r: list(r[:3])],
                         ids=["short", "long", "empty", "0-d", "list"])
@pytest.mark.parametrize("k", [2, 3, 4, 6])
@pytest.mark.parametrize("dfun", [None, jacobian], ids=["lmdif", "lmder"])
def test_residuals_may_not_change_size(change, k, dfun):
    func = At(residual, change, k)
    with pytest.raises(ValueError, match="changed size between calls"):
        leastsq(func, (1.0, 9.0), Dfun=dfun, ftol=0, xtol=0)
    assert func.calls == k


@pytest.mark.parametrize("change", [
    lambda j: j.T, np.ravel, lambda j: j[:-1], lambda j: j[:, :1], lambda j: j[None],
    lambda j: j.reshape(8, 3), lambda j: j[:0], lambda j: j[0, 0], lambda j: np.hstack([j, j])],
    ids=["transposed", "flat", "short", "narrow", "3-D", "other", "empty", "0-d", "wide"])
@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("col_deriv", [False, True])
def test_jacobian_of_wrong_shape_is_refused_at_any_call(change, k, col_deriv):
    dfun = At(by_columns if col_deriv else jacobian, change, k)

    def my_jacobian(p):
        return dfun(p)

    wanted, got = ((2, 12) if col_deriv else (12, 2)), change(dfun.function(np.ones(2))).shape
    with pytest.raises(TypeError, match="Dfun") as error:
        leastsq(residual, X0, Dfun=my_jacobian, col_deriv=col_deriv)
    assert "my_jacobian" in str(error.value)
    assert str(error.value).endswith(f"Shape should be {wanted} but it is {got}.")
    advice = [f"its transpose has that shape: col_deriv={not col_deriv}"]
    assert getattr(error.value, "__notes__", []) == advice * (got == wanted[::-1])
    assert dfun.calls == k


def test_a_sum_of_squares_instead_of_residuals_is_suspected():
    with pytest.raises(TypeError, match="N=2 must not exceed func output vector length M=1") as error:
        leastsq(lambda p: residual(p) @ residual(p), X0)
    assert "not the sum of their squares" in error.value.__notes__[0]


@pytest.mark.parametrize("name", ["no name", None, 42, "{}%s\ud800"])
def test_wrong_shape_of_a_dfun_with_a_strange_name_is_reported_too(name):
    dfun = partial(by_columns)
    if name != "no name":
        dfun.__name__ = name
    shown = f"( '{re.escape(str(name))}')?"
    with pytest.raises(TypeError, match=f"'Dfun' argument{shown}. Shape should be .12, 2. but it"):
        leastsq(residual, X0, Dfun=dfun)


@pytest.mark.parametrize("size", [0, 1, 11, 13, 24])
@pytest.mark.parametrize("k", [1, 2])
def test_jacobian_of_one_column_must_have_the_right_size(size, k):
    dfun = At(lambda p: T, lambda j: np.ones(size), k)
    with pytest.raises((TypeError, ValueError), match="Dfun"):
        leastsq(lambda p: p * p * T - Y, 5.0, Dfun=dfun)
