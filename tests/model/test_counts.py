"""Counts fitted by their likelihood: loss="poisson" in fit and curve_fit."""
import pickle
import warnings

import numpy as np
import pytest

import leastsq as lsq

T = (np.arange(60) + 0.5)/6


def decay(t, height, rate, level):
    return height*np.exp(-rate*t) + level


def peak(t, height, center, width, level):
    return height*np.exp(-0.5*((t - center)/width)**2) + level


def power(t, size, exponent):
    return size*(t + 1)**-exponent


def line(t, level, slope):
    return level + slope*t


def decays(t, a, b, c, d):
    return a*np.exp(-b*t) + c*np.exp(-d*t)


MODELS = {"decay": (decay, [8, 1, 0.5]), "peak": (peak, [20, 5, 0.8, 0.3]), "power": (power, [30, 1.5]),
          "line": (line, [0.5, 0.3]), "decays": (decays, [300, 2, 40, 0.3])}
CASES = [pytest.param(*case, id=name) for name, case in MODELS.items()]


def drawn(model, truth, seed=0):
    return np.random.default_rng(seed).poisson(model(T, *truth)).astype(float)


def fitted(model, truth, y=None, t=T, **options):
    y = drawn(model, truth) if y is None else y
    return lsq.fit(model, t, y, [1.2*value for value in truth], loss="poisson", **options)


def slopes(model, t, x):
    """By complex steps."""
    return np.column_stack([model(t, *(np.array(x, complex) + 1e-100j*unit)).imag/1e-100 for unit in np.eye(len(x))])


def deviance(y, mu):
    return 2*np.sum(mu - y + np.where(y > 0, y*np.log(np.where(y > 0, y, 1)/mu), 0))


# ------------------------------------------------------------------- the likelihood's minimum

@pytest.mark.parametrize(("model", "truth"), CASES)
def test_the_answer_is_that_of_iminuit(model, truth):
    iminuit, cost = pytest.importorskip("iminuit"), pytest.importorskip("iminuit.cost")
    y, fit = drawn(model, truth), fitted(model, truth)

    def loss(x):
        mu = model(T, *x)
        return cost.poisson_chi2(y, mu) if (mu > 0).all() else np.inf

    def gradient(x):
        return 2*slopes(model, T, x).T @ (1 - y/model(T, *x))
    minuit = iminuit.Minuit(loss, np.array(truth)*1.2, grad=gradient)
    minuit.strategy, minuit.tol = 2, 1e-9
    for _ in range(3):
        minuit.migrad()
    assert minuit.valid
    assert fit.x == pytest.approx(np.array(minuit.values), rel=1e-6)
    assert fit.chi2 == pytest.approx(minuit.fval, rel=1e-12)


@pytest.mark.parametrize(("model", "truth"), CASES)
def test_uncertainties_are_those_of_the_inverse_fisher_information(model, truth):
    fit = fitted(model, truth)
    J = slopes(model, T, fit.x)
    wanted = np.linalg.inv(J.T @ (J/model(T, *fit.x)[:, None]))
    scale = np.sqrt(np.diag(wanted))
    assert fit.cov/np.outer(scale, scale) == pytest.approx(wanted/np.outer(scale, scale), abs=1e-6)
    assert fit.covariance.absolute_sigma
    assert fitted(model, truth, absolute_sigma=True).stderr == pytest.approx(fit.stderr, rel=1e-12)


@pytest.mark.parametrize(("model", "truth"), CASES)
@pytest.mark.parametrize("options", [{}, {"bounds": (-1e9, 1e9)}, {"jac": "3-point"}, {"jac": "cs"}, {"workers": 2}],
                         ids=["plain", "bounds", "3-point", "cs", "workers"])
def test_curve_fit_is_fit(model, truth, options):
    y, fit = drawn(model, truth), fitted(model, truth)
    popt, pcov, info, _, ier = lsq.curve_fit(model, T, y, np.multiply(truth, 1.2), loss="poisson", full_output=True, **options)
    assert ier in (1, 2, 3)
    assert np.abs(popt - fit.x).max() < 1e-3*fit.stderr.min()
    assert np.sqrt(np.diag(pcov)) == pytest.approx(fit.stderr, rel=1e-4)
    assert np.sum(info["fvec"]**2) == pytest.approx(deviance(y, model(T, *popt)), rel=1e-12)
    for given in (False, True):
        assert np.array_equal(pcov, lsq.curve_fit(model, T, y, np.multiply(truth, 1.2), loss="poisson", absolute_sigma=given,
                                                  **options)[1])


def test_a_jacobian_of_the_model_is_scored():
    def jac(t, *p):
        return slopes(decay, t, p)
    fit, exact = fitted(*MODELS["decay"]), fitted(*MODELS["decay"], jac=jac)
    assert exact.x == pytest.approx(fit.x, rel=1e-5)
    assert exact.stderr == pytest.approx(fit.stderr, rel=1e-5)
    assert exact.nfev + exact.njev <= 25
    popt, pcov = lsq.curve_fit(decay, T, drawn(*MODELS["decay"]), [9, 1.2, 0.6], jac=jac, loss="poisson")
    assert popt == pytest.approx(exact.x, rel=1e-5)
    assert np.sqrt(np.diag(pcov)) == pytest.approx(exact.stderr, rel=1e-5)


def test_residuals_are_model_minus_data_and_their_squares_sum_to_the_deviance():
    y, fit = drawn(*MODELS["decay"]), fitted(*MODELS["decay"])
    assert fit.chi2 == pytest.approx(deviance(y, fit.predict()), rel=1e-12)
    assert np.sum(fit.residuals**2) == pytest.approx(fit.chi2, rel=1e-14)
    assert (np.sign(fit.residuals) == np.sign(fit.predict() - y)).all()


def test_counts_need_not_be_integers():
    y = drawn(*MODELS["line"])
    x, doubled = fitted(line, [0.5, 0.3], y=y).x, fitted(line, [0.5, 0.3], y=y/3).x
    assert 3*doubled == pytest.approx(x, rel=1e-5)


def test_a_trial_with_an_impossible_mean_is_a_rejected_step():
    def falling(t, level, slope):
        return level - slope*t
    y, seen = np.array([30, 22, 20, 9, 8, 2, 0, 1.0]), []
    t = np.arange(8.0)

    def watched(t, level, slope):
        seen.append((falling(t, level, slope)[y > 0] <= 0).any())
        return falling(t, level, slope)
    fit = lsq.fit(watched, t, y, [40, 1], loss="poisson")
    assert any(seen)
    assert fit.success
    mu = falling(t, *fit.x)
    assert (mu[y > 0] > 0).all()
    assert np.abs((1 - y/mu) @ np.column_stack([np.ones(8), -t])).max() < 1e-2


def test_priors_are_added_to_the_likelihood():
    y, (center, width) = drawn(*MODELS["decay"]), (1.3, 0.05)
    fit = fitted(*MODELS["decay"], prior={"rate": (center, width)})
    J, mu = slopes(decay, T, fit.x), fit.predict()
    gradient = J.T @ (1 - y/mu)
    gradient[1] += (fit["rate"] - center)/width**2
    information = J.T @ (J/mu[:, None])
    information[1, 1] += width**-2
    assert np.abs(gradient*fit.stderr).max() < 1e-4
    assert fit.cov == pytest.approx(np.linalg.inv(information), rel=1e-5)
    assert fit.report().counts.deviance == pytest.approx(deviance(y, mu), rel=1e-12)


def test_evaluations_are_few():
    took = []
    for seed in range(30):
        y = drawn(decay, [8, 1, 0.5], seed)
        fit = fitted(decay, [8, 1, 0.5], y=y, jac=lambda t, *p: slopes(decay, t, p),
                     bounds={"rate": (0, None), "level": (0, None)})
        took.append(fit.nfev + fit.njev)
    assert np.median(took) <= 15


# ------------------------------------------------------------------------------- relations

def test_permuted_bins_make_no_difference():
    y, order = drawn(*MODELS["decay"]), np.random.default_rng(5).permutation(T.size)
    plain, permuted = fitted(*MODELS["decay"], y=y), fitted(*MODELS["decay"], y=y[order], t=T[order])
    assert permuted.x == pytest.approx(plain.x, rel=1e-5)
    assert permuted.stderr == pytest.approx(plain.stderr, rel=1e-5)
    assert permuted.chi2 == pytest.approx(plain.chi2, rel=1e-9)
    assert permuted.residuals == pytest.approx(plain.residuals[order], rel=1e-4, abs=1e-5)


def test_split_bins_make_no_difference_where_the_model_is_constant_in_them():
    y, random = drawn(*MODELS["decay"]), np.random.default_rng(6)
    part = random.binomial(y.astype(int), 0.3).astype(float)

    def split(t, height, rate, level):
        mu = decay(T, height, rate, level)
        return np.concatenate([0.3*mu, 0.7*mu])
    plain = fitted(*MODELS["decay"], y=y)
    twice = fitted(split, MODELS["decay"][1], y=np.concatenate([part, y - part]), t=np.tile(T, 2))
    assert twice.x == pytest.approx(plain.x, rel=1e-5)
    assert twice.stderr == pytest.approx(plain.stderr, rel=1e-5)


def test_merged_bins_make_no_difference_where_the_model_is_constant_over_them():
    counts = np.random.default_rng(7).poisson(4.0, (12, 5)).astype(float)

    def steps(x, a, b):
        return np.where(x < 6, a, a*b)
    x = np.arange(12.0)
    apart = lsq.fit(steps, np.repeat(x, 5), counts.ravel(), [3, 1.1], loss="poisson")
    merged = lsq.fit(lambda x, a, b: 5*steps(x, a, b), x, counts.sum(axis=1), [3, 1.1], loss="poisson")
    assert merged.x == pytest.approx(apart.x, rel=1e-6)
    assert merged.stderr == pytest.approx(apart.stderr, rel=1e-6)
    assert merged.x[0] == pytest.approx(counts[:6].mean(), rel=1e-6)


def test_other_units_of_a_parameter_scale_it():
    plain = fitted(*MODELS["decay"])
    scaled = lsq.fit(lambda t, height, rate, level: decay(t, height, rate/1e6, level), T, drawn(*MODELS["decay"]),
                     [9.6, 1.2e6, 0.6], loss="poisson")
    assert scaled.x/[1, 1e6, 1] == pytest.approx(plain.x, rel=1e-6)
    assert scaled.stderr/[1, 1e6, 1] == pytest.approx(plain.stderr, rel=1e-5)


def test_masked_counts_in_several_sets_are_fitted_like_one_set():
    y = drawn(*MODELS["decay"])
    masked = fitted(*MODELS["decay"], y=np.ma.array(np.append(y, -5), mask=[False]*60 + [True]), t=np.append(T, 2))
    both = lsq.fit([decay, decay], [T[:20], T[20:]], [y[:20], y[20:]], [9.6, 1.2, 0.6], loss="poisson")
    for other in (masked, both):
        assert other.x == pytest.approx(fitted(*MODELS["decay"]).x, rel=1e-5)
        assert other.stderr == pytest.approx(fitted(*MODELS["decay"]).stderr, rel=1e-5)
    assert sum(part for *_, part in both.report().sets) == pytest.approx(both.chi2)


def test_large_counts_are_fitted_as_by_least_squares():
    y = np.random.default_rng(2).poisson(decay(T, 1e8, 0.3, 1e7)).astype(float)
    fit = lsq.fit(decay, T, y, [2e8, 0.4, 2e7], loss="poisson")
    weighted = lsq.fit(decay, T, y, [2e8, 0.4, 2e7], sigma=np.sqrt(y), absolute_sigma=True)
    assert np.abs((fit.x - weighted.x)/weighted.stderr).max() < 1e-2
    assert fit.stderr == pytest.approx(weighted.stderr, rel=1e-3)
    assert fit.report().p_value == pytest.approx(weighted.report().p_value, abs=1e-3)


# -------------------------------------------------------------------------- reports and tools

def test_profiles_at_low_counts_follow_the_likelihood():
    y = np.array([2.0, 0, 1])
    fit = lsq.fit(lambda t, mean: mean + 0*t, np.arange(3.0), y, [2], loss="poisson", bounds={"mean": (0, None)})
    found = fit.intervals(method="profile")
    for limit in (found.lower[0], found.upper[0]):
        assert deviance(y, np.full(3, limit)) - fit.chi2 == pytest.approx(3.841459, rel=1e-4)
    assert found.upper[0] - 1 > 1.2*(1 - found.lower[0])


def test_a_rate_at_its_bound_zero_has_an_upper_limit():
    fit = lsq.fit(lambda t, mean: mean + 0*t, np.arange(10.0), np.zeros(10), [2], loss="poisson", bounds={"mean": (0, None)})
    found = fit.intervals(method="profile")
    assert fit.x[0] == pytest.approx(0, abs=1e-9)
    assert (found.lower[0], found.upper[0]) == pytest.approx((0, 3.841459/20), rel=1e-4, abs=1e-9)


def test_a_peak_at_its_bound_zero_has_an_upper_limit():
    y = np.array([3, 2, 4, 3, 0, 1, 0, 2, 4, 3, 2, 5.0])

    def line_and_peak(t, height, level):
        return height*np.exp(-0.5*(t - 5.5)**2) + level
    fit = lsq.fit(line_and_peak, np.arange(12.0), y, [1, 1], loss="poisson", bounds={"height": (0, None), "level": (0, None)})
    assert fit.x[0] == 0
    assert fit.covariance.held[0]
    found = fit.intervals(method="profile")
    level = np.linspace(1, 5, 20001)
    least = min(deviance(y, line_and_peak(np.arange(12.0), found.upper[0], one)) for one in level)
    assert least - fit.chi2 == pytest.approx(3.841459, abs=1e-4)
    assert found.lower[0] == 0


def test_the_report_compares_the_deviance_with_its_distribution():
    said = fitted(*MODELS["decay"]).report()
    sums = lsq._problem.counts.deviance_moments(decay(T, *said.x))
    assert (said.counts.expectation, said.counts.variance) == pytest.approx([part.sum() for part in sums])
    assert 0.001 < said.p_value < 0.999
    assert not [text for text in said.warnings if "scatter" in text or "dispersed" in text]
    assert "deviance" in str(said)
    assert "chi-squared" not in str(said)
    assert "sum of squares" not in str(said)


def test_probabilities_of_the_deviance_are_right_where_those_of_chi_squared_are_not():
    mean, level, of_chi2 = np.full(60, 0.4), [], []
    for seed in range(200):
        y = np.random.default_rng(seed).poisson(mean).astype(float)
        said = lsq.fit(lambda t, mean: mean + 0*t, T, y, [1], loss="poisson", bounds={"mean": (0, None)}).report()
        level.append(said.p_value)
        of_chi2.append(said.reduced_chi2)
    assert np.mean(level) == pytest.approx(0.5, abs=0.08)
    assert np.mean(np.array(level) < 0.2) == pytest.approx(0.2, abs=0.09)
    assert np.mean(of_chi2) < 0.95          # if taken as chi squared, the deviance of low counts seems too small


def test_over_dispersion_and_smoothing_are_reported():
    random, mean = np.random.default_rng(3), decay(T, 40, 1, 5)
    noisy = fitted(decay, [40, 1, 5], y=random.poisson(mean*random.gamma(3, 1/3, T.size)).astype(float)).report()
    assert any("over-dispersed" in text for text in noisy.warnings)
    assert noisy.counts.dispersion > 2
    smooth = fitted(decay, [40, 1, 5], y=mean + 0.1*random.standard_normal(T.size)).report()
    assert any("less than Poisson's" in text for text in smooth.warnings)


def test_bands_of_new_counts_have_poissons_variance():
    fit = fitted(*MODELS["decay"])
    inner, outer = fit.band(T[:5]), fit.band(T[:5], noise=True)
    assert outer.stderr**2 - inner.stderr**2 == pytest.approx(inner.fit, rel=1e-9)


def test_tools_take_the_loss_of_the_fit_and_no_other():
    fit = fitted(*MODELS["decay"])
    assert lsq.covariance(fit, loss="poisson").stderr == pytest.approx(fit.stderr)
    with pytest.raises(ValueError, match="must be those of the fit, 'poisson'"):
        lsq.covariance(fit, loss="cauchy")
    with pytest.raises(ValueError, match="absolute_sigma must be that of the fit"):
        lsq.covariance(fit, absolute_sigma=False)
    assert "Poisson's variance" in repr(fit.covariance)


def test_derived_quantities_are_profiled_by_the_likelihood():
    fit = fitted(*MODELS["decay"])
    low, high = fit.derive(half=lambda p: np.log(2)/p["rate"])["half"].interval(method="profile")
    found = fit.intervals("rate", method="profile")
    assert (np.log(2)/high, np.log(2)/low) == pytest.approx((found.lower[1], found.upper[1]), rel=1e-3)


def test_files_and_pickles_keep_the_loss(tmp_path):
    fit = fitted(*MODELS["decay"])
    fit.save(tmp_path/"fit.json")
    again = lsq.load(tmp_path/"fit.json", decay)
    assert again.chi2 == pytest.approx(fit.chi2, rel=1e-12)
    assert again.intervals("rate", method="profile").upper[1] == pytest.approx(fit.intervals("rate", method="profile").upper[1])
    without = lsq.load(tmp_path/"fit.json")
    assert "deviance" in str(without.report())
    assert np.isnan(without.report().p_value)
    assert pickle.loads(pickle.dumps(fit)).stderr == pytest.approx(fit.stderr)


def test_a_float32_model_has_the_same_answer():
    def single(t, height, rate, level):
        return decay(t, height, rate, level).astype(np.float32)
    plain, rounded = fitted(*MODELS["decay"]), fitted(single, MODELS["decay"][1], y=drawn(*MODELS["decay"]))
    assert np.abs((rounded.x - plain.x)/plain.stderr).max() < 0.02
    assert rounded.stderr == pytest.approx(plain.stderr, rel=1e-2)


def test_pictures_show_deviance_residuals():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    fit, y = fitted(*MODELS["decay"]), drawn(*MODELS["decay"])
    figure = fit.plot()
    below = figure.axes[1]
    assert below.get_ylabel() == "deviance residual"
    shown = np.concatenate([line.get_ydata() for line in below.lines if len(line.get_ydata()) == 60])
    assert np.sort(shown) == pytest.approx(np.sort(-fit.residuals), abs=1e-9)
    assert fit.plot_residuals().axes[0].get_ylabel() == "deviance residual"
    curve = lsq.curve_fit(decay, T, y, [9, 1, 1], loss="poisson", full_output=True)
    assert lsq.plot.fit(curve, prediction=True).axes[1].get_ylabel() == "deviance residual"
    both = lsq.fit([decay, decay], T, [y, y], [9, 1, 1], loss="poisson").plot()
    assert both.axes[2].get_ylabel() == "deviance residual"
    matplotlib.pyplot.close("all")


# ------------------------------------------------------------------------------- bad input

Y = drawn(decay, [8, 1, 0.5])


def both_ways(y=Y, start=(9, 1, 1), **options):
    return [lambda: lsq.fit(decay, T, y, list(start), loss="poisson", **options),
            lambda: lsq.curve_fit(decay, T, y, list(start), loss="poisson", **options)]


@pytest.mark.parametrize("way", [0, 1])
@pytest.mark.parametrize(("options", "words"), [
    ({"y": np.where(np.arange(60) == 7, -2, Y)}, r"must be counts.*got -2 at y(data)?\[7\]"),
    ({"y": np.where(np.arange(60) == 7, np.nan, Y)}, "finite|NaN"),
    ({"y": np.where(np.arange(60) == 7, np.inf, Y)}, "finite|infs"),
    ({"sigma": 2.0}, "sigma must not be given with loss='poisson'"),
    ({"sigma": np.sqrt(Y + 1)}, "sigma must not be given with loss='poisson'"),
    ({"f_scale": 0.5}, "f_scale must not be given with loss='poisson'"),
    ({"start": (-9, 1, 1)}, r"y(data)?\[0\] = .*got -7.*(height = -9|p0 = \[-9)"),
    ({"start": (9, 1, -2)}, r"y(data)?\[\d+\] = .*got -.*(level = -2|p0 = \[ ?9)"),
    ({"start": (0, 1, 0)}, r"y(data)?\[0\] = .*got 0 at"),
], ids=["negative", "nan", "inf", "sigma", "sigmas", "f_scale", "start below", "start partly below", "start zero"])
def test_bad_counts_and_starts_are_refused_by_name(way, options, words):
    with pytest.raises(ValueError, match=words):
        both_ways(**options)[way]()


def test_complex_counts_are_refused():
    with pytest.raises(ValueError, match="must be counts with loss='poisson', got complex"):
        lsq.fit(decay, T, Y*(1 + 1j), [9, 1, 1], loss="poisson")


@pytest.mark.parametrize("call", [
    lambda f: lsq.leastsq(f, [9, 1, 1], loss="poisson"), lambda f: lsq.least_squares(f, [9, 1, 1], loss="poisson"),
    lambda f: lsq.leastsq_blocks(lambda p, b: f(p), [9, 1, 1], [0], loss="poisson"),
    lambda f: lsq.covariance(f, [9, 1, 1], loss="poisson"), lambda f: lsq.confidence_intervals(f, [9, 1, 1], loss="poisson")],
    ids=["leastsq", "least_squares", "leastsq_blocks", "covariance", "confidence_intervals"])
def test_residual_functions_are_refused_by_name(call):
    with pytest.raises(ValueError, match=r"loss='poisson'.*use `fit`, `curve_fit` or `leastsq_batch`"):
        call(lambda p: decay(T, *p) - Y)


def test_strategies_are_refused_by_name():
    y = drawn(decay, [8, 1, 0.5], 0)
    with pytest.raises(ValueError, match="^curve_fit: strategy must not be given with loss='poisson', got 'fast'"):
        lsq.curve_fit(decay, T, y, [8, 1, 0.5], loss="poisson", strategy="fast")
    with pytest.raises(ValueError, match="^fit: strategy must not be given with loss='poisson', got 'robust'"):
        lsq.fit(decay, T, y, [8, 1, 0.5], loss="poisson", strategy="robust")


@pytest.mark.parametrize("option", [{"strict": True}, {"engine": "reference"}])
def test_options_for_squared_residuals_are_refused(option):
    with pytest.raises(ValueError, match=f"{next(iter(option))} must not be given with loss='poisson'"):
        lsq.curve_fit(decay, T, Y, [9, 1, 1], loss="poisson", **option)


def test_a_model_that_is_not_finite_at_the_start_fails_with_a_warning():
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fit = lsq.fit(lambda t, a: a/(t - T[3]), T, Y, [1], loss="poisson")
    assert not fit.success
    assert "inf" in str(said[-1].message) or "nan" in str(said[-1].message)
