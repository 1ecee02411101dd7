"""The usual causes of wrong error bars: noisy functions, redundant parameters in odd units, data changed after
the fit, exact data, no degrees of freedom, huge offsets, float32."""
import zlib

import numpy as np
import pytest

import leastsq
from leastsq import confidence_band, confidence_intervals, covariance, curve_fit, report

T = np.linspace(0, 4, 40)
Y = 3*np.exp(-T) + 0.5 + 0.01*np.random.default_rng(0).standard_normal(40)


def decay(t, height, rate, level):
    return height*np.exp(-rate*t) + level


FIT = curve_fit(decay, T, Y, [3, 1, 0.5], full_output=True, covariance="accurate", ftol=1e-12, xtol=1e-12)
RIGHT = FIT[2]["covariance"].stderr


# ----------------------------------------------------------------- noisy functions

def _random(x, amplitude):
    return amplitude*np.random.default_rng(zlib.crc32(x.tobytes())).standard_normal(40)


def _smooth(x, amplitude):
    return amplitude*np.sin(1e5*x.sum()*(1 + np.arange(40)/7))


@pytest.mark.parametrize("method", [None, "3-point"])
@pytest.mark.parametrize("noise", [_random, _smooth])
@pytest.mark.parametrize("amplitude", 10.0**np.arange(-10, -2))
def test_noise_of_the_function_below_that_of_the_data_does_not_change_standard_errors(amplitude, noise, method):
    found = covariance(lambda x: decay(T, *x) - Y + noise(x, amplitude), FIT[0], method=method)
    assert found.rank == 3
    assert found.stderr == pytest.approx(RIGHT, rel=max(0.02, 100*amplitude))


@pytest.mark.parametrize("amplitude", [0.1, 1.0])
def test_noise_of_the_function_above_that_of_the_data_gives_no_small_standard_errors(amplitude):
    with np.errstate(all="ignore"):
        found = covariance(lambda x: decay(T, *x) - Y + _random(x, amplitude), FIT[0])
    assert (found.stderr > 0.5*RIGHT*amplitude/0.01).all()


@pytest.mark.parametrize("options", [
    {"epsfcn": 1e-7}, {"jac": "3-point"}, {"jac": "3-point", "bounds": (0, 9)}, {"jac": "3-point", "covariance": "accurate"}])
def test_float32_models_have_the_standard_errors_of_float64(options):
    def single(t, height, rate, level):
        return np.float32(height)*np.exp(-np.float32(rate)*t.astype(np.float32)) + np.float32(level)
    pcov = curve_fit(single, T, Y, [3, 1, 0.5], **options)[1]
    assert np.sqrt(np.diag(pcov)) == pytest.approx(RIGHT, rel=0.05)


# ----------------------------------------------------------- redundant parameters, any units

REDUNDANT = {
    "the product of a and b": (lambda a, b: a*b, (6.0, 0.5)),
    "the ratio of a and b": (lambda a, b: a/b, (6.0, 2.0)),
    "sum": (lambda a, b: a + b, (1.0, 2.0)),
    "difference": (lambda a, b: a - b, (5.0, 2.0)),
    None: (lambda a, b: a*b**2, (0.75, 2.0)),
}


@pytest.mark.parametrize("method", [None, "3-point", "2-point", "cs"])
@pytest.mark.parametrize("units", [(1, 1), (1e-9, 1e9), (1e12, 1e12), (1e-12, 1e-12), (1e7, 1)], ids=str)
@pytest.mark.parametrize("words", REDUNDANT)
def test_redundant_parameters_are_found_in_any_units(words, units, method):
    combine, (a, b) = REDUNDANT[words]

    def residual(x):
        return combine(x[0]/units[0], x[1]/units[1])*np.exp(-x[2]*T) + x[3] - Y
    found = covariance(residual, [a*units[0], b*units[1], 1.0, 0.5], method=method, names="a b rate level")
    assert found.rank == 3
    assert np.isinf(found.stderr).tolist() == [True, True, False, False]
    told = found.explain()
    assert "Changing a by" in told and "and b by" in told
    if words is None:
        assert "to first order" in told and "determine only the" not in told
    elif words.startswith("the "):
        assert f"The data determine only {words}." in told
    elif method is None:
        sign = "+" if words == "sum" else "-"
        assert f"the {words} of a and b" in told or f"The data determine only a {sign} " in told


def test_each_pair_of_three_factors_is_named_with_the_others_held():
    found = covariance(lambda x: x[0]*x[1]*x[2]*np.exp(-T) - Y, [2.0, 3.0, 0.5], names="a b c")
    assert found.rank == 1 and np.isinf(found.stderr).all()
    assert found.explain().count("With the others held, the data determine only the product of") == 2


# ----------------------------------------------------- data changed after the fit

TOOLS = {
    "report": report, "covariance": covariance, "intervals": confidence_intervals, "band": confidence_band,
    "prediction": lambda fit: confidence_band(fit, noise=True), "elsewhere": lambda fit: confidence_band(fit, T + 1),
    "profiles": lambda fit: confidence_intervals(fit, method="profile"), "profile_time": leastsq.profile_time,
}


@pytest.mark.parametrize("options", [
    {}, {"covariance": "accurate"}, {"bounds": (0, 9)}, {"sigma": 0.01}, {"sigma": np.full(40, 0.01)},
    {"sigma": 1e-4*np.eye(40), "absolute_sigma": True}], ids=["plain", "accurate", "bounds", "number", "vector", "matrix"])
@pytest.mark.parametrize("changed", ["y", "y by little", "x", "sigma"])
@pytest.mark.parametrize("tool", TOOLS)
def test_data_overwritten_after_the_fit_are_an_error_in_every_tool(tool, changed, options):
    base, x = np.concatenate([Y, Y]), T.copy()
    if "sigma" in options:
        options = options | {"sigma": np.array(options["sigma"])}
    fit = curve_fit(decay, x, base[:40], [3, 1, 0.5], full_output=True, **options)         # y is a view
    if changed == "y":
        base[3] += 1
    elif changed == "y by little":
        base[:40] += 1e-4*np.cos(np.arange(40))
    elif changed == "x":
        x += 0.1
    elif "sigma" in options:
        options["sigma"] *= 5
    else:
        return
    with pytest.raises(ValueError, match="is not what it was"):
        TOOLS[tool](fit)


# ------------------------------------------------------ exact data, no freedom, offsets

@pytest.mark.parametrize("offset", [0.0, 1.0, 1e6])
@pytest.mark.parametrize("options", [{}, {"bounds": (-9, 1e7)}, {"jac": "cs"}])
def test_exact_data_are_a_minimum_without_patterns(offset, options):
    fit = curve_fit(decay, T, decay(T, 2, 0.7, offset), [1.5, 1, offset], full_output=True, **options)
    told = "\n".join(report(fit).warnings)
    assert "minimum" not in told and "random" not in told


def test_with_known_sigma_as_many_data_as_parameters_give_intervals():
    fit = curve_fit(lambda t, a, b: a*np.exp(-b*t), T[:2], Y[:2], [3, 1], sigma=[0.1, 0.1], absolute_sigma=True,
                    full_output=True)
    found, profiles = confidence_intervals(fit), confidence_intervals(fit, method="profile")
    assert found.upper - found.x == pytest.approx(1.959964*np.sqrt(np.diag(fit[1])), rel=1e-4)
    assert np.isfinite(profiles.lower).all() and profiles.reasons == found.reasons == []
    assert "nothing is left" not in "\n".join(report(fit).warnings)


def test_a_fit_of_a_julian_date_that_xtol_ended_early_is_not_a_minimum():
    """xtol is relative to two million days, that is 0.04 days."""
    def dip(t, depth, centre, width):
        return 1 - depth*np.exp(-((t - centre)/width)**2/2)
    t = 2457957 + np.linspace(-0.1, 0.1, 80)
    y = dip(t, 0.01, 2457957.02, 0.02) + 0.001*np.random.default_rng(1).standard_normal(80)
    early = report(curve_fit(dip, t, y, [0.008, 2457957.015, 0.025], jac="cs", full_output=True))
    assert any("minimum" in text for text in early.warnings)
    fit = curve_fit(dip, t, y, [0.008, 2457957.015, 0.025], jac="cs", xtol=1e-15, full_output=True)
    assert not any("minimum" in text for text in report(fit).warnings)
    origin = curve_fit(dip, t - 2457957, y, [0.008, 0.015, 0.025], full_output=True, covariance="accurate", jac="cs")
    for method in (None, "3-point", "cs"):
        assert covariance(fit, method=method).stderr == pytest.approx(np.sqrt(np.diag(origin[1])), rel=1e-3)


def test_an_undetermined_parameter_does_not_make_other_standard_errors_doubtful():
    """pcov counts it as a degree of freedom and covariance(fit) does not: this must not look like a better derivative."""
    with pytest.warns(leastsq.OptimizeWarning, match="could not be estimated"):
        fit = curve_fit(lambda t, a, b, c, d: decay(t, a, b, c) + 0*d, T, Y, [3, 1, 0.5, 1], bounds=(-9, 9), full_output=True)
    assert not any("derivatives" in text for text in report(fit).warnings)


@pytest.mark.parametrize("first, degree, tolerance", [(0, 6, 1e-3), (1, 6, 1e-3), (1, 8, 1e-3), (10, 5, 1e-2), (100, 3, 1e-2)])
def test_pcov_between_bounds_is_right_or_infinite_for_badly_conditioned_models(first, degree, tolerance):
    mpmath = pytest.importorskip("mpmath")
    x = np.linspace(first, first + 1, 40)
    V, p0 = np.vander(x, degree + 1), np.ones(degree + 1)
    sigma = 1e-3*np.ptp(V @ p0)

    def polynomial(x, *p):
        return np.vander(x, degree + 1) @ np.array(p)
    pcov = curve_fit(polynomial, x, V @ p0 + sigma*np.cos(1.7*np.arange(40)), p0, sigma=sigma, absolute_sigma=True,
                     bounds=(-1e9, 1e9))[1]
    with mpmath.workdps(60):
        exact = mpmath.matrix(V.tolist())
        inverse = (exact.T*exact)**-1
        right = [sigma*float(mpmath.sqrt(inverse[j, j])) for j in range(degree + 1)]
    assert np.sqrt(np.diag(pcov)) == pytest.approx(right, rel=tolerance)


def test_a_result_of_scipy_with_a_loss_is_recognised_by_its_cost():
    optimize = pytest.importorskip("scipy.optimize")
    found = report(optimize.least_squares(lambda p: decay(T, *p) - Y, [3, 1, 0.5], loss="soft_l1", f_scale=0.005))
    assert any("had a loss" in text for text in found.warnings)
    assert not any("minimum" in text for text in found.warnings)
    plain = report(optimize.least_squares(lambda p: decay(T, *p) - Y, [3, 1, 0.5], xtol=1e-12, ftol=1e-12))
    assert plain.warnings == [] and plain.stderr == pytest.approx(RIGHT, rel=1e-4)


@pytest.mark.parametrize("options", [{}, {"loss": "soft_l1", "f_scale": 0.01}, {"bounds": (-9, 9)}])
def test_a_pickled_result_is_still_called_a_minimum(options):
    import pickle
    fit = pickle.loads(pickle.dumps(curve_fit(decay, T, Y, [3, 1, 0.5], full_output=True, **options)))
    assert not any("minimum" in text for text in report(fit).warnings)


def test_intervals_of_fixed_parameters_only_can_be_shown():
    fit = curve_fit(decay, T, Y, [3, 1, 0.5], bounds=([3, 1, 0.5], [3, 1, 0.5]), full_output=True)
    assert "it is fixed" in repr(confidence_intervals(fit))


def test_a_pickled_result_says_that_sigma_may_have_been_absolute():
    import pickle
    whole = curve_fit(decay, T, Y, [3, 1, 0.5], sigma=np.full(T.size, 0.3), absolute_sigma=True, full_output=True)
    bare = pickle.loads(pickle.dumps(whole))
    assert any("absolute_sigma=True here" in note for note in report(bare).warnings)
    told = report(bare, absolute_sigma=True)
    np.testing.assert_allclose(told.stderr, report(whole).stderr, rtol=1e-6)
    assert not any("absolute_sigma=True here" in note for note in told.warnings + report(whole).warnings)
