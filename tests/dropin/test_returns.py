"""The results of leastsq: types, shapes, and the algebra that relates them."""
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from leastsq import leastsq

from enzyme import T, X0, Y, jacobian, residual


def graded(p):
    return p[0] + p[1] * T + p[2] * T ** 3 + p[3] ** 2 / T - (2 / T + T / (7 + T))


def graded_jacobian(p):
    return np.stack([T ** 0, T, T ** 3, 2 * p[3] / T], axis=1)


FITS = {
    "michaelis": (residual, jacobian, X0),
    "graded": (graded, graded_jacobian, (1.0, 1.0, 1.0, 1.0)),
    "square": (lambda p: np.array([10 * (p[1] - p[0] ** 2), 1 - p[0]]),
               lambda p: np.array([[-20 * p[0], 10], [-1, 0.0]]), (-1.2, 1.0)),
    "one": (lambda p: p * T - Y, lambda p: T[:, None], 5.0)}
CASES = [(name, method) for name in FITS for method in ("lmdif", "lmder", "col_deriv")]
EVERY_FIT = pytest.mark.parametrize("name, method", CASES)


def last_differenced(points, n):
    """The last point at which forward differences were taken: it is followed by n points in a row
    that differ from it by a tiny step in one component each."""
    for i in range(len(points) - n, 0, -1):
        for base in points[i - 1::-1]:
            steps = np.array(points[i:i + n]) - base
            step = np.diag(steps)
            if np.array_equal(steps, np.diag(step)) and np.all(
                    (0 < abs(step)) & (abs(step) <= 2e-8 * np.maximum(abs(base), 1e-9))):
                return base
    raise AssertionError("no Jacobian was made")


def run(name, method, **options):
    """A fit with full output, its last Jacobian, and the point where that was taken."""
    func, jac, x0 = FITS[name]
    points, bases = [], []

    def traced(p):
        points.append(p.copy())
        return func(p)

    def dfun(p):
        bases.append(p.copy())
        return jac(p).T if method == "col_deriv" else jac(p)

    x, cov, info, mesg, ier = leastsq(
        traced, x0, Dfun=None if method == "lmdif" else dfun, col_deriv=method == "col_deriv",
        full_output=True, **options)
    base = last_differenced(points, x.size) if method == "lmdif" else bases[-1]
    return SimpleNamespace(x=x, cov=cov, info=info, mesg=mesg, ier=ier, func=func, base=base,
                           jac=jac(base), tolerance=1e-6 if method == "lmdif" else 1e-12,
                           n=x.size, m=np.size(func(x)))


# ------------------------------------------------------------ types and shapes


@EVERY_FIT
def test_short_result_is_x_and_ier(name, method):
    func, jac, x0 = FITS[name]
    result = leastsq(func, x0, Dfun=None if method == "lmdif" else jac)
    assert type(result) is tuple and len(result) == 2
    assert type(result[1]) is int and result[1] in (1, 2, 3, 4)
    assert type(result[0]) is np.ndarray and result[0].dtype == np.float64
    assert result[0].shape == (np.size(x0),)


@EVERY_FIT
def test_full_result_has_the_documented_types_and_shapes(name, method):
    fit = run(name, method)
    keys = ["fvec", "nfev", "njev", "fjac", "ipvt", "qtf"]
    if method == "lmdif":
        keys.remove("njev")
    assert isinstance(fit.info, dict) and list(fit.info) == keys
    assert type(fit.info.copy()) is dict
    assert type(fit.ier) is int and type(fit.mesg) is str
    assert all(type(fit.info[key]) is int for key in keys if key in ("nfev", "njev"))
    shapes = {"fvec": (fit.m,), "fjac": (fit.n, fit.m), "ipvt": (fit.n,), "qtf": (fit.n,)}
    for key, shape in shapes.items():
        array = fit.info[key]
        assert type(array) is np.ndarray and array.shape == shape, key
        assert array.dtype == (np.int32 if key == "ipvt" else np.float64), key
        assert array.flags.c_contiguous and array.flags.writeable and array.flags.aligned
    assert type(fit.x) is np.ndarray and fit.x.dtype == np.float64 and fit.x.shape == (fit.n,)
    assert type(fit.cov) is np.ndarray and fit.cov.dtype == np.float64
    assert fit.cov.shape == (fit.n, fit.n) and fit.cov.flags.c_contiguous
    assert fit.cov.flags.writeable and fit.x.flags.writeable


def test_full_result_has_five_items_in_order():
    result = leastsq(residual, X0, full_output=True)
    assert type(result) is tuple
    x, cov_x, info, mesg, ier = result
    assert [type(item) for item in (x, cov_x, dict(info), mesg, ier)] == [np.ndarray, np.ndarray, dict, str, int]


@EVERY_FIT
def test_results_of_two_fits_share_no_memory(name, method):
    one, two = run(name, method), run(name, method)
    arrays = [a for fit in (one, two)
              for a in (fit.x, fit.cov, *(fit.info[k] for k in ("fvec", "fjac", "ipvt", "qtf")))]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i])


def test_results_have_no_other_references():
    result = leastsq(residual, X0, full_output=True)
    control = (np.ones(2), {"fvec": np.ones(2)})
    for i in (0, 1):
        assert sys.getrefcount(result[i]) == sys.getrefcount(control[0])
    assert sys.getrefcount(result[2]) == sys.getrefcount(control[1])
    for key in ("fvec", "fjac", "ipvt", "qtf"):
        assert sys.getrefcount(result[2][key]) == sys.getrefcount(control[1]["fvec"])


@pytest.mark.parametrize("scalar", [float, np.float64, np.array, np.float32])
@pytest.mark.parametrize("dfun", [None, lambda p: [[2.0]]], ids=["lmdif", "lmder"])
def test_scalar_residual_comes_back_as_a_scalar(scalar, dfun):
    *_, info, _, ier = leastsq(lambda p: scalar(2 * p[0] - 3), 1.0, Dfun=dfun, full_output=True)
    assert type(info["fvec"]) is np.float64 and abs(info["fvec"]) < 1e-6
    assert info["fjac"].shape == (1, 1) and info["qtf"].shape == info["ipvt"].shape == (1,)


def test_vector_of_one_residual_comes_back_as_a_vector():
    info = leastsq(lambda p: [2 * p[0] - 3], 1.0, full_output=True)[2]
    assert type(info["fvec"]) is np.ndarray and info["fvec"].shape == (1,)


# ------------------------------------------------------------------- meaning


@EVERY_FIT
@pytest.mark.parametrize("options", [{}, {"maxfev": 1}, {"maxfev": 9}, {"ftol": 0, "xtol": 0},
                                     {"gtol": 1.0}, {"factor": 0.1, "maxfev": 5}], ids=str)
def test_fvec_is_func_of_x(name, method, options):
    fit = run(name, method, **options)
    np.testing.assert_array_equal(fit.info["fvec"], fit.func(fit.x))


@EVERY_FIT
def test_ipvt_is_one_based_permutation(name, method):
    fit = run(name, method)
    assert sorted(fit.info["ipvt"]) == list(range(1, fit.n + 1))


def test_ipvt_names_the_longest_column_first():
    scale = np.array([1.0, 100.0, 10.0])
    ipvt = leastsq(lambda p: scale * p - 1, np.ones(3), full_output=True)[2]["ipvt"]
    np.testing.assert_array_equal(ipvt, [2, 3, 1])


@EVERY_FIT
@pytest.mark.parametrize("options", [{}, {"maxfev": 1}, {"factor": 0.1, "maxfev": 7}], ids=str)
def test_r_and_qtf_belong_to_the_last_jacobian(name, method, options):
    fit = run(name, method, **options)
    r = np.triu(fit.info["fjac"].T[:fit.n])
    permuted = fit.jac[:, fit.info["ipvt"] - 1]
    scale = np.abs(permuted).max() ** 2 * fit.m
    np.testing.assert_allclose(r.T @ r, permuted.T @ permuted, rtol=fit.tolerance,
                               atol=fit.tolerance * scale)
    np.testing.assert_allclose(r.T @ fit.info["qtf"], permuted.T @ fit.func(fit.base),
                               rtol=fit.tolerance, atol=fit.tolerance * scale)
    assert np.all(np.diff(np.abs(np.diag(r))) <= 1e-12 * abs(r[0, 0]))


def test_r_may_belong_to_another_point_than_x():
    fit = run("michaelis", "lmder", maxfev=1)
    assert not np.array_equal(fit.base, fit.x)
    np.testing.assert_array_equal(fit.base, X0)


@EVERY_FIT
def test_cov_x_is_the_symmetric_inverse_of_jtj(name, method):
    fit = run(name, method)
    np.testing.assert_array_equal(fit.cov, fit.cov.T)
    np.testing.assert_allclose(fit.cov @ (fit.jac.T @ fit.jac), np.eye(fit.n),
                               atol=1e-3 if method == "lmdif" else 1e-7)


def test_cov_x_is_not_scaled_by_the_residuals():
    def jac(scale):
        return lambda p: scale * jacobian(p)

    one = leastsq(residual, X0, Dfun=jac(1.0), full_output=True)[1]
    eight = leastsq(lambda p: 8 * residual(p), X0, Dfun=jac(8.0), full_output=True)[1]
    np.testing.assert_allclose(one, 64 * eight, rtol=1e-9)


@pytest.mark.parametrize("dfun", [False, True])
@pytest.mark.parametrize("options, ier", [({"maxfev": 1}, 5), ({"ftol": 0, "xtol": 0}, 7)])
def test_cov_x_is_none_without_success(options, ier, dfun):
    _, cov, _, _, got = leastsq(residual, X0, Dfun=jacobian if dfun else None,
                                full_output=True, **options)
    assert got in (5, 6, 7, 8) and cov is None and (ier != 5 or got == 5)


@pytest.mark.parametrize("dfun", [None, lambda p: np.stack([T, 0 * T], axis=1)],
                         ids=["lmdif", "lmder"])
def test_cov_x_is_none_when_r_is_exactly_singular(dfun):
    x, cov, info, _, ier = leastsq(lambda p: p[0] * T - Y, (5.0, 7.0), Dfun=dfun,
                                   full_output=True)
    assert ier in (1, 2, 3) and cov is None and x[1] == 7
    assert info["fjac"].T[1, 1] == 0


def test_cov_x_exists_when_r_is_nearly_singular():
    def func(p):
        return np.array([p[0] + p[1] - 3, p[0] + p[1] * (1 + 2.0 ** -40) - 3, 1.0])

    jac = np.array([[1.0, 1.0], [1.0, 1 + 2.0 ** -40], [0.0, 0.0]])
    _, cov, _, _, ier = leastsq(func, (1.0, 1.0), Dfun=lambda p: jac, full_output=True)
    assert ier in (1, 2, 3, 4) and cov is not None and np.all(np.diag(cov) > 1e23)


@pytest.mark.parametrize("method", ["lmdif", "lmder"])
@pytest.mark.parametrize("maxfev", [1, 2, 3])
def test_maxfev_still_makes_one_jacobian_and_one_step(maxfev, method):
    fit = run("michaelis", method, maxfev=maxfev)
    if method == "lmdif":
        assert fit.info["nfev"] == 4                        # x0, two columns, one trial
    else:
        assert (fit.info["nfev"], fit.info["njev"]) == (max(maxfev, 2), max(maxfev, 2) - 1)
    assert fit.ier == 5 and not np.array_equal(fit.x, X0)


def test_gtol_of_zero_stops_only_at_exactly_zero_residuals():
    at_minimum = leastsq(residual, leastsq(residual, X0)[0])[1]
    assert at_minimum in (1, 2, 3)
    x, cov, info, _, ier = leastsq(lambda p: np.append(p, 0.0), (0.0, 0.0), full_output=True)
    assert ier == 4 and info["nfev"] == 3 and not info["fvec"].any()
    np.testing.assert_allclose(cov, np.eye(2))


def test_gtol_is_the_cosine_between_residuals_and_columns():
    cosine = max(abs(jacobian(X0).T @ residual(X0)) / np.linalg.norm(jacobian(X0), axis=0)
                 / np.linalg.norm(residual(X0)))
    for gtol, calls in ((cosine * 1.001, 1), (cosine * 0.999, 2)):
        info = leastsq(residual, X0, Dfun=jacobian, gtol=gtol, full_output=True)[2]
        assert (info["nfev"] > 1) == (calls > 1)


# ------------------------------------------------- scaling and the first step


def first_trial(func, x0, dfun, **options):
    points = []
    leastsq(lambda p: points.append(p.copy()) or func(p), x0, Dfun=dfun, full_output=True,
            maxfev=2, **options)
    return next(p for p in points if not np.array_equal(p, x0))


@pytest.mark.parametrize("factor", [0.01, 0.1])
@pytest.mark.parametrize("diag", [None, [1.0, 1.0], [1.0, 32.0], [40.0, 1.0]], ids=str)
def test_first_step_is_factor_long_in_the_scale(diag, factor):
    first = first_trial(residual, X0, jacobian, factor=factor, diag=diag)
    scale = np.linalg.norm(jacobian(X0), axis=0) if diag is None else np.array(diag)
    length = np.linalg.norm(scale * (first - X0)) / np.linalg.norm(scale * X0)
    assert 0.9 * factor <= length <= 1.1 * factor


@pytest.mark.parametrize("diag", [None, [3.0, 5.0]], ids=str)
def test_first_step_from_the_origin_is_factor_long(diag):
    def linear(p):
        return np.array([p[0] - 50, 2 * p[1] - 50, 1.0])

    first = first_trial(linear, (0.0, 0.0), lambda p: [[1, 0], [0, 2], [0, 0]], factor=0.5,
                        diag=diag)
    scale = np.array([1.0, 2.0] if diag is None else diag)
    assert 0.45 <= np.linalg.norm(scale * first) <= 0.55


def test_scale_is_one_where_a_column_is_zero():
    first = first_trial(lambda p: p[0] * T - Y, (1.0, 3.0),
                        lambda p: np.stack([T, 0 * T], axis=1), factor=0.01)
    scale = np.array([np.linalg.norm(T), 1.0])
    length = np.linalg.norm(scale * (first - [1, 3])) / np.linalg.norm(scale * [1, 3])
    assert 0.009 <= length <= 0.011


def test_default_scaling_does_not_depend_on_the_units_of_x():
    units = np.array([2.0 ** 20, 2.0 ** -30])           # powers of two: no rounding
    one = leastsq(residual, X0, Dfun=jacobian, full_output=True, factor=0.1)
    two = leastsq(lambda p: residual(p / units), X0 * units, full_output=True, factor=0.1,
                  Dfun=lambda p: jacobian(p / units) / units)
    np.testing.assert_allclose(one[0], two[0] / units, rtol=1e-12)
    assert one[2]["nfev"] == two[2]["nfev"]


def test_given_scaling_is_kept_through_the_fit():
    columns = np.linalg.norm(jacobian(X0), axis=0)
    fixed = leastsq(residual, X0, Dfun=jacobian, diag=columns, factor=0.1, full_output=True)
    grown = leastsq(residual, X0, Dfun=jacobian, factor=0.1, full_output=True)
    np.testing.assert_allclose(fixed[0], grown[0], rtol=1e-5)
    # The first steps agree; then the default scale has grown with the columns.
    assert not np.array_equal(fixed[0], grown[0])
