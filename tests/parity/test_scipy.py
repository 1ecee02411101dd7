"""Compared with scipy.optimize.leastsq: the same results, status codes, messages, warnings and exceptions,
except for the differences that are asserted here."""
import warnings
from functools import partial

import numpy as np
import pytest

import guards
import problems
from leastsq import leastsq

scipy = pytest.importorskip("scipy", reason="SciPy, which this compares with, is not installed")
from scipy.optimize import leastsq as scipy_leastsq  # noqa: E402

# SciPy 1.15 to 1.17 read one element too many in the QR factorization.
# Before 1.15 it was the Fortran with decimal constants, compiled with any options.
SAME_BITS = guards.scipy_has_minpacks_bits()
ZERO_BASED = guards.scipy_version() >= (1, 15)

from enzyme import T, X0, Y, by_columns, jacobian, residual  # noqa: E402


def outcome(solver, func, x0, **options):
    """The result or exception of a solver, and its warnings."""
    with warnings.catch_warnings(record=True) as caught, np.errstate(all="ignore"):
        warnings.simplefilter("always")
        try:
            result = solver(func, x0, **options)
        except Exception as error:
            result = error
    return result, [(w.category, str(w.message)) for w in caught]


def assert_same(func, x0, bits=True, **options):
    """Assert that both solvers give the same, bit for bit where SciPy has MINPACK's bits."""
    (ours, our_warnings), (theirs, their_warnings) = (
        outcome(solver, func, x0, **options) for solver in (leastsq, scipy_leastsq))
    assert our_warnings == their_warnings
    assert type(ours) is type(theirs), (ours, theirs)
    if isinstance(ours, Exception):     # ".Shape" in some versions
        assert str(ours) == str(theirs).replace(".Shape", ". Shape")
        return
    assert len(ours) == len(theirs) and ours[-1] == theirs[-1]
    bits = bits and SAME_BITS

    def compare(a, b):
        assert type(a) is type(b)
        if isinstance(a, np.ndarray):
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
        if bits:
            np.testing.assert_array_equal(a, b)
        else:
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8)

    compare(ours[0], theirs[0])
    if len(ours) == 2:
        return
    _, cov, info, mesg, ier = ours
    _, their_cov, their_info, their_mesg, _ = theirs
    assert mesg.partition("\n  All derivatives are zero")[0] == their_mesg and list(info) == list(their_info)
    if bits:
        assert (cov is None) == (their_cov is None)
    if cov is not None and their_cov is not None:
        # Inverses of R computed in two ways agree the better, the farther R is from singular.
        scale = np.sqrt(np.outer(np.diag(cov), np.diag(cov)))
        r = np.triu(info["fjac"].T[:len(cov)])
        loss = np.linalg.cond(r / np.linalg.norm(r, axis=0)) * 1e-14
        if loss < 1e-3:
            np.testing.assert_allclose(cov / scale, their_cov / scale, rtol=0,
                                       atol=max(loss, 1e-12))
    info["ipvt"] = info["ipvt"] - np.int32(ZERO_BASED)
    for key in info if bits else ("fvec",):
        compare(info[key], their_info[key])


# ------------------------------------------------------------- the collection

RUNS = [(f"{number}-{p.name}-{p.n}x{p.m}-{factor:g}", p, factor)
        for number, p, factor in problems.minpack_cases()]
RUNS += [(f"{p.name}-{p.n}x{p.m}", p, 1.0) for p in problems.extra_problems()]


@guards.NEEDS_SCIPYS_BITS
@pytest.mark.parametrize("name, problem, factor", RUNS, ids=[run[0] for run in RUNS])
@pytest.mark.parametrize("method", ["lmdif", "lmder", "col_deriv"])
def test_collection_at_default_options(name, problem, factor, method):
    options = {"lmdif": {}, "lmder": {"Dfun": problem.jacobian},
               "col_deriv": {"Dfun": lambda x: problem.jacobian(x).T, "col_deriv": True}}[method]
    assert_same(problem.residual, problem.start(factor), full_output=True, **options)


OPTIONS = [{"ftol": 1e-3}, {"xtol": 1e-3}, {"gtol": 1e-3}, {"ftol": 0.0, "xtol": 0.0},
           {"ftol": 1e-15, "xtol": 1e-15}, {"maxfev": 1}, {"maxfev": 7}, {"maxfev": 40},
           {"factor": 0.1}, {"factor": 1}, {"factor": 1e4}, {"epsfcn": 1e-6}, {"epsfcn": 1e-10},
           {"epsfcn": 0}, {"factor": 0.1, "diag": "ones"}, {"factor": 10.0, "diag": "powers"},
           {"gtol": 0.1, "ftol": 1e-12, "factor": 0.5, "maxfev": 30}]
ELEMENTARY = [run for run in RUNS if run[1].elementary and run[2] == 1.0]


@guards.NEEDS_SCIPYS_BITS
@pytest.mark.parametrize("name, problem, factor", ELEMENTARY, ids=[run[0] for run in ELEMENTARY])
@pytest.mark.parametrize("with_dfun", [False, True], ids=["lmdif", "lmder"])
def test_elementary_problems_under_every_option(name, problem, factor, with_dfun):
    scales = {"ones": np.ones(problem.n), "powers": 10.0 ** (np.arange(problem.n) % 5 - 2)}
    for chosen in OPTIONS:
        options = dict(chosen)
        if "diag" in options:
            options["diag"] = scales[options["diag"]]
        if with_dfun:
            options["Dfun"] = problem.jacobian
        for full_output in (True, False):
            assert_same(problem.residual, problem.start(), full_output=full_output, **options)


# ------------------------------------------------------ arguments, on any version

METHODS = {"lmdif": {}, "lmder": {"Dfun": jacobian},
         "col_deriv": {"Dfun": by_columns, "col_deriv": True}}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("full_output", [False, True, 0, 1], ids=repr)
@pytest.mark.parametrize("options", OPTIONS[:14] + [
    {}, {"maxfev": 0}, {"args": (T,)}, {"args": (T, Y)}, {"args": T},
    {"diag": [1.0, 2.0]}, {"diag": (3, 4)}, {"diag": np.float32([1, 2])}, {"factor": np.inf},
    {"ftol": np.inf}, {"xtol": np.inf}, {"gtol": np.inf}, {"ftol": 2}, {"xtol": np.float32(1e-4)},
    {"epsfcn": -1.0}, {"gtol": 1.0}], ids=str)
def test_options(method, full_output, options):
    assert_same(residual, X0, full_output=full_output, **METHODS[method], **options)


@pytest.mark.parametrize("maxfev", [-1, -5])
@pytest.mark.parametrize("method", METHODS)
def test_negative_maxfev_is_the_default(maxfev, method):
    assert_same(residual, X0, maxfev=maxfev, full_output=True, **METHODS[method])
    (ours, warned), (theirs, their) = (outcome(solver, lambda p: np.exp(-p), 0.0, maxfev=maxfev)
                                       for solver in (leastsq, scipy_leastsq))
    np.testing.assert_allclose(ours[0], theirs[0])
    assert ours[1] == theirs[1] == 5
    # Our message has the limit that was used, SciPy's the argument.
    ((_, text),), ((_, their_text),) = warned, their
    assert text.replace(" 400.", f" {maxfev}.") == their_text


@pytest.mark.parametrize("x0", [
    [1, 1], (1.0, 1), [[1.0, 1.0]], np.ones((2, 1)), np.ones(2, "f4"), np.ones(2, "i2"),
    np.ones(2, ">f8"), np.ones(4)[::2], np.ones(2)[::-1]], ids=lambda v: f"{type(v).__name__}")
def test_starts(x0):
    assert_same(residual, x0, full_output=True)


@pytest.mark.parametrize("x0", [1, 1.0, [1.0], np.float64(1), np.array(1), np.array([[1.0]])],
                         ids=repr)
@pytest.mark.parametrize("convert", [float, np.float64, np.array, lambda v: [v],
                                     lambda v: np.array([v, v / 2])],
                         ids=["float", "float64", "0-d", "list", "two"])
def test_scalar_problems(x0, convert):
    assert_same(lambda p: convert(3 / p[0] - 2 * p[0]), x0, full_output=True)


@pytest.mark.parametrize("convert", [list, tuple, np.float32, np.float16, lambda r: r[::-1],
                                     lambda r: np.round(99 * r).astype(int),
                                     lambda r: r.astype(">f8"), lambda r: r > 0],
                         ids=["list", "tuple", "float32", "float16", "reversed", "int", "swapped",
                              "bool"])
@pytest.mark.parametrize("method", METHODS)
def test_kinds_of_residuals(convert, method):
    assert_same(lambda p: convert(residual(p)), X0, full_output=True, **METHODS[method])


@pytest.mark.parametrize("convert", [
    np.asfortranarray, np.ndarray.tolist, np.float32, lambda j: np.repeat(j, 2, axis=0)[::2],
    lambda j: np.rint(4 * j).astype(int), lambda j: j.astype(">f8")],
    ids=["F", "list", "float32", "strided", "int", "swapped"])
@pytest.mark.parametrize("col_deriv", [0, 1])
def test_kinds_of_jacobians(convert, col_deriv):
    dfun = by_columns if col_deriv else jacobian
    assert_same(residual, X0, Dfun=lambda p: convert(dfun(p)), col_deriv=col_deriv,
                full_output=True)


def test_exactly_singular_jacobian():
    for dfun in (None, lambda p: np.stack([T, 0 * T], axis=1)):
        assert_same(lambda p: p[0] * T - Y, (5.0, 7.0), Dfun=dfun, full_output=True)


def corner(a, b):
    return lambda x: np.array([x[0] - a, b])


@pytest.mark.parametrize("func, x0", [(corner(0.0, 1.0), 1e-9), (corner(1e-17, 1.0), 0.0),
                                      (corner(1.0, 1e-3), 1 + 2.0 ** -52)], ids=["6", "8", "7"])
@pytest.mark.parametrize("maxfev", [0, 1])
@pytest.mark.parametrize("full_output", [False, True])
def test_tolerances_too_small(func, x0, maxfev, full_output):
    assert_same(func, x0, ftol=0, xtol=0, maxfev=maxfev, full_output=full_output)


@pytest.mark.parametrize("limit", [0.9, 1.2, 1.9])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_trial_points_not_finite(limit, value):
    def func(p):
        return residual(p) if p[1] > limit else np.full(12, value)

    for method in METHODS:
        assert_same(func, (9.0, 2.0), full_output=True, **METHODS[method])


# ---------------------------------------------------------------- exceptions


def my_jacobian(p):
    return by_columns(p)


SAME_TEXT = {
    "n > m": (lambda p: p[:1], X0, {}),
    "n > m = 0": (lambda p: [], X0, {}),
    "n > 0-d": (lambda p: p[0], X0, {}),
    "Dfun transposed": (residual, X0, {"Dfun": my_jacobian}),
    "Dfun not by columns": (residual, X0, {"Dfun": jacobian, "col_deriv": True}),
    "Dfun flat": (residual, X0, {"Dfun": lambda p: np.ravel(jacobian(p))}),
    "Dfun without a name": (residual, X0, {"Dfun": partial(by_columns)}),
    "exception": (lambda p: 1 // 0, X0, {}),
    "exception of Dfun": (residual, X0, {"Dfun": lambda p: 1 // 0})}


@pytest.mark.parametrize("full_output", [False, True])
@pytest.mark.parametrize("case", SAME_TEXT)
def test_exceptions_of_the_same_type_and_text(case, full_output):
    func, x0, options = SAME_TEXT[case]
    with pytest.raises(Exception):
        scipy_leastsq(func, x0, **options)
    assert_same(func, x0, full_output=full_output, **options)


SAME_TYPE = [
    dict(maxfev=2.0), dict(maxfev=None), dict(maxfev="9"), dict(maxfev=2 ** 80),
    dict(full_output=None), dict(full_output="a"), dict(full_output=1.0),
    dict(Dfun=jacobian, col_deriv=None), dict(Dfun=by_columns, col_deriv="a"),
    dict(Dfun=by_columns, col_deriv=1.0), dict(ftol=None), dict(xtol=None), dict(gtol=None),
    dict(factor=None), dict(ftol="a"), dict(ftol=1j), dict(ftol=[1e-8]), dict(epsfcn="a"),
    dict(ftol=-1), dict(xtol=-1), dict(gtol=-1), dict(factor=0), dict(factor=-1),
    dict(diag=[1, 0]), dict(diag=[1, -1]), dict(diag=[[1, 1]]), dict(Dfun=3), dict(Dfun="a"),
    dict(foo=1), dict(func=None), dict(func=3), dict(x0=[1, [2, 3]]), dict(args=(1, 2, 3, 4))]


def name_of(options):
    return ",".join(f"{k}={getattr(v, '__name__', v)}" for k, v in options.items())


@pytest.mark.parametrize("options", SAME_TYPE, ids=name_of)
def test_exceptions_of_the_same_type(options):
    options = {"func": residual, "x0": X0} | options
    (ours, _), (theirs, _) = (outcome(solver, **options) for solver in (leastsq, scipy_leastsq))
    assert isinstance(theirs, Exception) and type(ours) is type(theirs), (ours, theirs)


@pytest.mark.parametrize("k", [2, 3, 4])
@pytest.mark.parametrize("method", ["lmdif", "lmder"])
def test_change_of_size(k, method):
    for solver in (leastsq, scipy_leastsq):
        calls = []

        def func(p):
            calls.append(None)
            return residual(p)[:-1] if len(calls) == k else residual(p)

        with pytest.raises(ValueError, match="changed size between calls"):
            solver(func, (1.0, 9.0), **METHODS[method])


# ----------------------------------------------- differences made on purpose


def test_scipy_calls_func_and_dfun_more_often_than_it_says():
    counts = {}
    for solver in (leastsq, scipy_leastsq):
        calls = counts[solver] = [0, 0]

        def func(p):
            calls[0] += 1
            return residual(p)

        def dfun(p):
            calls[1] += 1
            return jacobian(p)

        info = solver(func, X0, Dfun=dfun, full_output=True)[2]
        calls[0] -= info["nfev"]
        calls[1] -= info["njev"]
    assert counts == {leastsq: [0, 0], scipy_leastsq: [2, 1]}


def test_ipvt_is_one_based_here_and_zero_based_in_scipy_since_1_15():
    ours, theirs = (solver(residual, X0, full_output=True)[2]["ipvt"]
                    for solver in (leastsq, scipy_leastsq))
    assert ours.dtype == theirs.dtype == np.int32
    np.testing.assert_array_equal(ours - 1, theirs - (not ZERO_BASED))


@pytest.mark.parametrize("func, dfun", [(lambda p: residual(p) + np.nan, None),
                                        (residual, lambda p: jacobian(p) + np.inf)])
def test_not_finite_is_a_failure_here_and_success_in_scipy(func, dfun):
    (ours, warned), (theirs, _) = (outcome(solver, func, X0, Dfun=dfun)
                                   for solver in (leastsq, scipy_leastsq))
    assert ours[1] == 9 and theirs[1] == 4
    assert [category for category, _ in warned] == [RuntimeWarning]


def test_reused_buffer_is_read_here_and_ends_scipy_at_the_start():
    out = np.empty(T.size)

    def func(p):
        out[:] = residual(p)
        return out

    np.testing.assert_array_equal(leastsq(func, X0)[0], leastsq(residual, X0)[0])
    x, ier = scipy_leastsq(func, X0)
    assert ier == 4 and np.array_equal(x, X0)


def test_step_that_is_no_number_is_an_error_here():
    (ours, _), (theirs, _) = (outcome(solver, residual, X0, epsfcn=np.nan)
                              for solver in (leastsq, scipy_leastsq))
    assert type(ours) is TypeError and "epsfcn" in str(ours) and theirs[-1] == 1


@pytest.mark.parametrize("options", [dict(ftol=-1), dict(factor=0), dict(diag=[1, 0])], ids=str)
def test_improper_input_is_an_error_in_the_full_form_here(options):
    (ours, _), (theirs, _) = (outcome(solver, residual, X0, full_output=True, **options)
                              for solver in (leastsq, scipy_leastsq))
    assert type(ours) is TypeError and theirs[-1] == 0
