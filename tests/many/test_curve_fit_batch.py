"""`curve_fit_batch` fits each curve as `curve_fit` does alone, whatever the shape of the data."""
import copy
import math
import pickle

import numpy as np
import pytest

from leastsq import CFunction, Status, confidence_band, curve_fit, curve_fit_batch, report

T = np.linspace(0.1, 3, 24)
SHAPE = (4, 3)
COUNT = math.prod(SHAPE)


def hyperbola(t, a, b):
    """Made of operations that have the same rounding everywhere."""
    return a*t/(b + t)


def slopes(t, a, b):
    return np.stack([t/(b + t), -a*t/(b + t)**2], axis=-1)


def plane(x, a, b, c):
    return a*x[0] + b*x[1] + c


@pytest.fixture(scope="module")
def image():
    rng = np.random.default_rng(5)
    truth = rng.uniform(1, 2, (*SHAPE, 2))
    return hyperbola(T, truth[..., :1], truth[..., 1:]) + 0.02*rng.standard_normal((*SHAPE, T.size))


def every(shape=SHAPE):
    return list(np.ndindex(*shape))


def alone_equals(result, i, **options):
    """Assert that problem i has the bits of `curve_fit` for the same data."""
    popt, pcov, info, _, ier = curve_fit(full_output=True, **options)
    np.testing.assert_array_equal(result.popt[i], popt)
    np.testing.assert_allclose(result.pcov[i], pcov, rtol=1e-9)
    assert (result.ier[i], result.nfev[i]) == (ier, info["nfev"])


@pytest.mark.parametrize("jac", [None, slopes])
@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("sigma", ["none", "number", "shared", "own"])
def test_each_curve_is_fitted_as_by_curve_fit(image, sigma, absolute, jac):
    rng = np.random.default_rng(6)
    sigma = {"none": None, "number": 0.5, "shared": rng.uniform(0.5, 2, T.size), "own": rng.uniform(0.5, 2, image.shape)}[sigma]
    result = curve_fit_batch(hyperbola, T, image, sigma=sigma, absolute_sigma=absolute, jac=jac, return_fvec=True)
    assert result.success.shape == SHAPE and result.success.all()
    np.testing.assert_array_equal(result.stderr**2, np.sqrt(np.diagonal(result.pcov, axis1=-2, axis2=-1))**2)
    for i in every():
        one = sigma[i] if np.shape(sigma) == image.shape else np.full(T.size, sigma) if np.ndim(sigma) == 0 and sigma else sigma
        alone_equals(result, i, f=hyperbola, xdata=T, ydata=image[i], sigma=one, absolute_sigma=absolute, jac=jac)
        residual = hyperbola(T, *result.popt[i]) - image[i]
        np.testing.assert_allclose(result.fvec[i], residual if one is None else residual/one, atol=1e-14)


@pytest.mark.parametrize("slab", [None, 1, 5])
def test_each_curve_may_have_its_own_start_and_points(image, slab):
    rng = np.random.default_rng(7)
    x, p0 = T*rng.uniform(0.9, 1.1, (*SHAPE, 1)), rng.uniform(0.5, 3, (*SHAPE, 2))
    result = curve_fit_batch(hyperbola, x, image, p0, slab=slab)
    for i in every():
        alone_equals(result, i, f=hyperbola, xdata=x[i], ydata=image[i], p0=p0[i])


@pytest.mark.parametrize("own", [False, True])
def test_several_predictors(own):
    rng = np.random.default_rng(8)
    x = rng.uniform(-1, 1, (2, 7, 24) if own else (2, 24))
    y = rng.standard_normal((7, 24))
    result = curve_fit_batch(plane, x, y)
    for i in range(7):
        alone_equals(result, i, f=plane, xdata=x[:, i] if own else x, ydata=y[i], p0=[1, 1, 1])


def test_shared_x_marks_predictors_that_have_the_shape_of_the_data():
    rng = np.random.default_rng(9)
    x, y = rng.uniform(-1, 1, (2, 24)), rng.standard_normal((2, 24))
    with pytest.raises(ValueError, match="each problem's own, unless shared_x=True") as caught:
        curve_fit_batch(lambda x, a, b: a*x[:1] + b*x[-1:], x, y)
    assert "f must treat each problem as if it were alone" in str(caught.value)
    result = curve_fit_batch(plane, x, y, shared_x=True)
    for i in range(2):
        alone_equals(result, i, f=plane, xdata=x, ydata=y[i], p0=[1, 1, 1])
    with pytest.raises(IndexError) as caught:
        curve_fit_batch(plane, x, y)
    assert "f was called for one problem" in caught.value.__notes__[0]


def test_a_model_that_mixes_problems_is_refused(image):
    with pytest.raises(ValueError, match="curve_fit_batch: f must treat each problem as if it were alone"):
        curve_fit_batch(lambda t, a, b: hyperbola(t, a, b)/np.max(b), T, image, p0=np.arange(1, 25).reshape(*SHAPE, 2))


@pytest.mark.parametrize("jac", [None, slopes])
def test_bounds_and_losses(image, jac):
    rng = np.random.default_rng(10)
    high = np.stack([np.full(SHAPE, np.inf), rng.uniform(1, 3, SHAPE)], axis=-1)
    high[0, 0] = 9
    spoiled = image.copy()
    spoiled[..., ::8] += 1
    result = curve_fit_batch(hyperbola, T, spoiled, bounds=(0, high), loss="soft_l1", f_scale=0.05, jac=jac)
    assert (result.active_mask == 1).any() and result.success.all()
    for i in every():
        popt, pcov, info, _, _ = curve_fit(hyperbola, T, spoiled[i], bounds=(0, high[i]), loss="soft_l1", f_scale=0.05, jac=jac,
                                           full_output=True)
        np.testing.assert_array_equal(result.popt[i], popt)
        held = info["active_mask"] != 0
        np.testing.assert_array_equal(result.active_mask[i], info["active_mask"])
        assert np.isnan(result.stderr[i][held]).all() and np.isfinite(result.stderr[i][~held]).all()
        if not held.any():
            np.testing.assert_allclose(result.pcov[i], pcov, rtol=1e-2)        # of the last Jacobian, not of one at popt


def test_a_fixed_parameter_has_no_variance(image):
    result = curve_fit_batch(hyperbola, T, image, p0=[1.0, 1.5], bounds=([0, 1.5], [9, 1.5]))
    assert (result.popt[..., 1] == 1.5).all() and (result.stderr[..., 1] == 0).all()
    for i in every():
        _, pcov = curve_fit(hyperbola, T, image[i], p0=[1.0, 1.5], bounds=([0, 1.5], [9, 1.5]))
        np.testing.assert_allclose(result.pcov[i], pcov, rtol=1e-6)


@pytest.mark.parametrize("how", ["omit", "masked", "sigma"])
def test_points_that_are_left_out(image, how):
    rng = np.random.default_rng(11)
    keep = rng.random(image.shape) > 0.3
    keep[1, 1], keep[2, 0], keep[3, 2, 1:] = True, False, False
    if how == "sigma":
        result = curve_fit_batch(hyperbola, T, image, sigma=np.where(keep, 1.0, np.inf))
    elif how == "omit":
        result = curve_fit_batch(hyperbola, T, np.where(keep, image, np.nan), nan_policy="omit")
    else:
        result = curve_fit_batch(hyperbola, T, np.ma.array(np.where(keep, image, np.nan), mask=~keep))
    assert result.ier[2, 0] == result.ier[3, 2] == Status.NO_DATA
    assert np.isnan(result.popt[2, 0]).all() and np.isnan(result.pcov[2, 0]).all() and not result.success[2, 0]
    for i in every():
        if i in ((2, 0), (3, 2)):
            continue
        popt, pcov = curve_fit(hyperbola, T[keep[i]], image[i][keep[i]])
        np.testing.assert_allclose(result.popt[i], popt, rtol=1e-6)
        np.testing.assert_allclose(result.pcov[i], pcov, rtol=1e-5)
        found = report(result.fit(i))
        assert (found.m, found.dof) == (keep[i].sum(), keep[i].sum() - 2)
        np.testing.assert_allclose(found.stderr, result.stderr[i], rtol=1e-5)


def test_nan_in_separate_and_in_shared_points(image):
    x = np.array(np.broadcast_to(T, image.shape))
    x[0, 1, 3] = np.nan
    result = curve_fit_batch(hyperbola, x, image, nan_policy="omit")
    keep = np.arange(T.size) != 3
    np.testing.assert_allclose(result.popt[0, 1], curve_fit(hyperbola, T[keep], image[0, 1][keep])[0], rtol=1e-6)
    np.testing.assert_array_equal(result.popt[0, 0], curve_fit(hyperbola, T, image[0, 0])[0])
    everywhere = curve_fit_batch(hyperbola, x[0, 1], image, nan_policy="omit")
    for i in every():
        np.testing.assert_allclose(everywhere.popt[i], curve_fit(hyperbola, T[keep], image[i][keep])[0], rtol=1e-6)


@pytest.mark.parametrize("sigma", ["none", "number", "list"])
def test_curves_of_different_lengths(sigma):
    rng = np.random.default_rng(12)
    x = [np.linspace(0.1, 3, m) for m in (9, 24, 2, 1, 13)]
    y = [hyperbola(t, 1.5, 1.1) + 0.02*rng.standard_normal(t.size) for t in x]
    sigma = {"none": None, "number": 0.7, "list": [rng.uniform(0.5, 2, t.size) for t in x]}[sigma]
    result = curve_fit_batch(hyperbola, x, y, sigma=sigma)
    assert result.ier[3] == Status.NO_DATA and np.isinf(result.pcov[2]).all()
    for i in (0, 1, 4):
        one = sigma[i] if isinstance(sigma, list) else sigma
        popt, pcov = curve_fit(hyperbola, x[i], y[i], sigma=None if one is None else np.broadcast_to(one, len(x[i])))
        np.testing.assert_allclose(result.popt[i], popt, rtol=1e-6)
        np.testing.assert_allclose(result.pcov[i], pcov, rtol=1e-5)


def test_one_curve_and_opaque_points(image):
    result = curve_fit_batch(lambda x, a, b: hyperbola(x["t"], a, b), {"t": T}, image[0, 0])
    assert result.popt.shape == (2,) and result.success.shape == ()
    assert repr(result) == "<CurveFitBatchResult of 1 fits: 1 converged>"
    np.testing.assert_array_equal(result.popt, curve_fit(hyperbola, T, image[0, 0])[0])
    assert "relative reductions" in result.message(0)


def test_derivatives_may_be_a_list(image):
    made = curve_fit_batch(lambda t, a, b, c: a*t + b*np.exp(-t) + c, T, image,
                           jac=lambda t, a, b, c: [t, np.exp(-t), 1.0])
    for i in every():
        popt, _ = curve_fit(lambda t, a, b, c: a*t + b*np.exp(-t) + c, T, image[i],
                            jac=lambda t, a, b, c: np.stack([t, np.exp(-t), np.ones_like(t)], axis=-1))
        np.testing.assert_allclose(made.popt[i], popt, rtol=1e-10)


def test_a_curve_that_fails_does_not_stop_the_others(image):
    spoiled = image.copy()
    spoiled[1, 2, 3] = np.inf
    result = curve_fit_batch(hyperbola, T, spoiled, check_finite=False)
    assert result.ier[1, 2] == Status.NOT_FINITE and result.success.sum() == COUNT - 1
    assert "not finite at p0 = [1. 1.]" in result.message((1, 2)) and np.isnan(result.pcov[1, 2]).all()
    short = curve_fit_batch(hyperbola, T, image, maxfev=4)
    assert (short.ier == Status.MAXFEV).all()


def test_results_know_what_was_fitted(image):
    result = curve_fit_batch(hyperbola, T, image, sigma=0.02, absolute_sigma=True)
    found = report(result.fit((1, 2)))
    assert "a" in str(found) and "b" in str(found)
    np.testing.assert_allclose(found.stderr, result.stderr[1, 2], rtol=1e-6)
    assert confidence_band(result.fit((1, 2)), T).lower.shape == T.shape
    popt, pcov = result
    assert popt.shape == (*SHAPE, 2) and pcov.shape == (*SHAPE, 2, 2)
    for again in (pickle.loads(pickle.dumps(result)), copy.copy(result)):
        np.testing.assert_array_equal(again.pcov, result.pcov)
        assert again.message((0, 1)) == result.message((0, 1)) and repr(again) == repr(result)
        with pytest.raises(ValueError, match="does not know what was fitted"):
            again.fit((0, 0))
    with pytest.raises(IndexError, match="a problem has 2 indices here, got 1"):
        result.fit(0)


def test_the_users_arrays_are_not_changed(image):
    x, y, p0 = T.copy(), image.copy(), np.ones((*SHAPE, 2))
    curve_fit_batch(hyperbola, x, y, p0, sigma=np.ones(T.size), nan_policy="omit")
    np.testing.assert_array_equal(x, T)
    np.testing.assert_array_equal(y, image)
    assert (p0 == 1).all() and x.flags.writeable and y.flags.writeable


BAD = [
    (dict(f=None), TypeError, "f must be callable, got NoneType"),
    (dict(f=CFunction.__new__(CFunction)), TypeError, "got a CFunction, which is for leastsq_batch"),
    (dict(jac="2-point"), TypeError, "jac must be callable, got str"),
    (dict(ydata=1.0), ValueError, "ydata must have a row of data for each problem"),
    (dict(ydata=np.empty((0, 4))), ValueError, "ydata must have a row of data for each problem"),
    (dict(ydata="abc"), TypeError, "ydata must be real numbers"),
    (dict(xdata=T[:-1]), ValueError, r"xdata must have the 24 points of ydata along an axis"),
    (dict(xdata=T, shared_x=False), ValueError, "each problem's own must have the shape of ydata"),
    (dict(p0=[]), ValueError, "p0 must have at least one element"),
    (dict(p0=np.ones((2, 2))), ValueError, r"p0 must have shape \(2,\) or \(4, 3, 2\), got \(2, 2\)"),
    (dict(p0=["a"]), TypeError, "p0 must be real numbers"),
    (dict(sigma=np.ones(3)), ValueError, r"sigma must be standard deviations, a number or an array of shape \(24,\)"),
    (dict(sigma=np.zeros(24)), ValueError, r"sigma must not be zero or nan, got 0.0 at \[0, 0, 0\]"),
    (dict(bounds=(2, 3)), None, None),
    (dict(bounds=(2, 3), p0=[1, 1]), ValueError, r"curve_fit_batch: p0 is infeasible: .* got p0\[0\] = 1.0 outside \[2.0, 3.0\]"),
    (dict(bounds=(3, 2)), ValueError, "curve_fit_batch: each lower bound must be at most the upper bound"),
    (dict(bounds=np.ones((4, 3, 5))), ValueError, "curve_fit_batch: bounds must contain 2 elements"),
    (dict(bounds=(np.zeros((4, 2)), 9)), ValueError, "curve_fit_batch: the lower bounds must have shape"),
    (dict(nan_policy="propagate"), ValueError, "nan_policy must be None, 'raise' or 'omit'"),
    (dict(ftol="x"), TypeError, "curve_fit_batch: ftol must be a real number"),
    (dict(ftol=-1), TypeError, "ftol must be zero or positive"),
    (dict(maxfev=1.5), TypeError, "curve_fit_batch: maxfev must be an integer"),
    (dict(diag=[1, 0]), TypeError, "every entry of diag must be positive"),
    (dict(slab=0), ValueError, "curve_fit_batch: slab must be at least 1"),
    (dict(loss="none"), ValueError, "`loss` must be one of"),
    (dict(loss="poisson"), ValueError, "loss='poisson' is for leastsq_batch, which takes counts and their expectation"),
    (dict(f=lambda t, *p: t), ValueError, "Unable to determine number of fit parameters"),
    (dict(f=lambda t, a, b: t), ValueError, r"f must return a row for each problem, shape \(12, 24\) .* got \(24,\)"),
    (dict(f=lambda t, a, b: math.exp(a)*t), TypeError, "length-1|0-dimensional"),
    (dict(jac=lambda t, a, b: [t]), TypeError, "jac must return a derivative for each of the 2 parameters, got 1"),
    (dict(jac=lambda t, a, b: slopes(t, a, b).transpose(2, 0, 1)), TypeError, "return a list of them, or use numpy.stack"),
    (dict(xdata=[T, T[1:]], ydata=[T, T[:-2]]), ValueError, r"xdata\[1\] must have 22 points as ydata\[1\], got shape \(23,\)"),
    (dict(xdata=T, ydata=[T, T[:-2]]), ValueError, "xdata must be a list of 2 arrays with the lengths of those of ydata"),
    (dict(ydata=np.ones((3, 1)), xdata=np.ones(1)), TypeError, "the number of free parameters, 2, must not exceed"),
]


@pytest.mark.parametrize(("changed", "error", "text"), BAD)
def test_wrong_arguments_are_refused_by_name(image, changed, error, text):
    options = dict(f=hyperbola, xdata=T, ydata=image) | changed
    if error is None:
        assert curve_fit_batch(**options).popt.min() >= 2
        return
    with pytest.raises(error, match=text):
        curve_fit_batch(**options)


@pytest.mark.parametrize("name", ["xdata", "ydata"])
@pytest.mark.parametrize("options", [{}, {"nan_policy": "raise"}])
def test_values_that_are_not_finite_are_refused_with_their_place(image, name, options):
    given = {"xdata": T.copy(), "ydata": image.copy()}
    given[name].flat[5] = np.nan
    with pytest.raises(ValueError, match=rf"curve_fit_batch: {name} must be finite, got nan at \[.*5\], the first of 1"):
        curve_fit_batch(hyperbola, **given, **options)


def test_exceptions_of_the_model_say_for_which_problems_it_was_called(image):
    def raises(t, a, b):
        raise KeyError("mine")
    with pytest.raises(KeyError) as caught:
        curve_fit_batch(raises, T, image)
    assert caught.value.__notes__ == ["curve_fit_batch: raised by f, called for 12 of 12 problems, 0 to 11"]
