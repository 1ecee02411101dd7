"""Intervals, profiles, bands, and the distributions that they use."""
import interval_coverage
import numpy as np
import pytest
import strd

import leastsq
from leastsq import confidence_band, confidence_intervals, covariance
from leastsq._uncertainty import profile as _profile
from leastsq._uncertainty.student import chi2_sf, f_quantile, t_quantile

T = np.array([1.0, 2, 3, 4, 5, 7])
Y = np.array([8.3, 10.3, 19.0, 16.0, 15.6, 19.8])       # Bates and Watts' oxygen demand


def oxygen(x):
    return x[0]*(1 - np.exp(-x[1]*T)) - Y


@pytest.fixture(scope="module")
def best():
    return leastsq.leastsq(oxygen, [20.0, 0.5], ftol=1e-14, xtol=1e-14)[0]


# ---------------------------------------------------------------- distributions

@pytest.mark.parametrize("dof", [0.5, 1, 2, 3, 7, 30, 51, 100, 1e3, 1e5, 9e5, 1e6, 1e9])
def test_t_quantile_agrees_with_scipy(dof):
    stats = pytest.importorskip("scipy.stats")
    for level in (0.01, 0.5, 0.6827, 0.95, 0.99, 0.999, 1 - 1e-8):
        assert t_quantile(level, dof) == pytest.approx(stats.t.isf((1 - level)/2, dof), rel=1e-10)


def test_t_quantile_becomes_the_normal_one():
    assert t_quantile(0.95, np.inf) == pytest.approx(1.959963984540054, rel=1e-14)


@pytest.mark.parametrize("dof", [1, 2, 5, 10, 50, 1000, 100000])
def test_chi2_tail_agrees_with_scipy(dof):
    stats = pytest.importorskip("scipy.stats")
    for ratio in (0.0, 0.01, 0.5, 0.9, 1.0, 1.1, 2.0, 5.0):
        assert chi2_sf(dof*ratio, dof) == pytest.approx(stats.chi2.sf(dof*ratio, dof), rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("dof", [1, 2, 7, 30, 1000, 1e5, 9e5, 1e6, 1e9, np.inf])
@pytest.mark.parametrize("k", [1, 2, 5, 11, 40])
def test_f_quantile_agrees_with_scipy(k, dof):
    stats = pytest.importorskip("scipy.stats")
    for level in (0.01, 0.5, 0.95, 0.999):
        want = stats.chi2.ppf(level, k)/k if dof >= 1e9 else stats.f.ppf(level, k, dof)
        assert f_quantile(level, k, dof) == pytest.approx(want, rel=1e-8 if dof < 1e6 else 1e-4)
    assert f_quantile(0.95, 1, dof) == pytest.approx(t_quantile(0.95, dof)**2, rel=1e-5)


@pytest.mark.parametrize("level, dof", [(0.0, 3), (1.0, 3), (0.95, 0), (0.95, -1), (np.nan, 3)])
def test_quantiles_outside_of_their_range_are_refused(level, dof):
    with pytest.raises(ValueError, match="must be"):
        t_quantile(level, dof)
    with pytest.raises(ValueError, match="must be"):
        f_quantile(level, 2, dof)


# ------------------------------------------------------------------- intervals

def test_for_a_linear_model_profile_and_t_agree():
    A = np.vander(np.linspace(0, 1, 12), 3)
    b = np.sin(5*A[:, 1])

    def line(x):
        return A @ x - b
    x = np.linalg.lstsq(A, b, rcond=None)[0]
    t, profile = (confidence_intervals(line, x, method=m) for m in ("t", "profile"))
    assert profile.lower == pytest.approx(t.lower, rel=1e-6)
    assert profile.upper == pytest.approx(t.upper, rel=1e-6)
    stderr = np.sqrt(np.diag(np.linalg.inv(A.T @ A))*(line(x) @ line(x))/9)
    assert t.upper == pytest.approx(x + 2.262157162740992*stderr, rel=1e-9)


def test_profile_limits_are_where_the_sum_of_squares_says(best):
    """Compared with a fine scan: the best x[0] for given x[1] by a linear fit, the best x[1] for given x[0] by a search."""
    found = confidence_intervals(oxygen, best, method="profile", level=0.9)
    limit = found.covariance.chi2*(1 + found.t**2/4)

    def squares(rate):
        basis = 1 - np.exp(-rate*T)
        return np.sum((Y - basis*(basis @ Y)/(basis @ basis))**2)
    for rate in (found.lower[1], found.upper[1]):
        assert squares(rate) == pytest.approx(limit, rel=1e-4)
    for plateau in (found.lower[0], found.upper[0]):
        rates = np.linspace(0.01, 5, 200001)
        scan = ((plateau*(1 - np.exp(-rates[:, None]*T)) - Y)**2).sum(axis=1)
        assert scan.min() == pytest.approx(limit, rel=1e-4)


@pytest.mark.parametrize("name", [name for name in strd.NAMES if name != "ENSO"])       # it takes too long
def test_profiles_of_nearly_every_nist_set_are_found(name):
    dataset = strd.load(name)
    found = confidence_intervals(dataset.residual, dataset.certified, method="profile")
    assert found.reasons == []
    assert (found.lower < dataset.certified).all() and (dataset.certified < found.upper).all()
    for j, profile in found.profiles.items():
        assert (np.diff(profile.values) > 0).all()
        inside = (profile.values >= profile.lower) & (profile.values <= profile.upper)
        assert (np.diff(profile.tau[inside]) > -1e-6).all()
        assert profile.x[:, j] == pytest.approx(profile.values)


def test_a_side_that_the_data_do_not_bound_is_infinite_with_a_reason():
    y = 19.14*(1 - np.exp(-0.15*T)) + [1.0, -1.2, 0.4, 0.9, -1.0, 0.6]

    def residual(x):
        return x[0]*(1 - np.exp(-x[1]*T)) - y
    x = leastsq.leastsq(residual, [20.0, 0.2])[0]
    found = confidence_intervals(residual, x, method="profile", names=["plateau", "rate"])
    assert found.upper[0] == np.inf and np.isfinite(found.lower).all()
    assert any("plateau, upper limit: none: the data do not bound it" in reason for reason in found.reasons)


def test_a_profile_that_finds_a_better_point_says_that_x_is_not_the_minimum():
    with np.errstate(all="ignore"):
        found = confidence_intervals(oxygen, [30.0, 0.2], method="profile")
    assert np.isnan(found.lower).any() or np.isnan(found.upper).any()
    assert any("x is not the minimum" in reason for reason in found.reasons)


def test_the_end_of_the_domain_gives_nan_with_a_reason():
    def residual(x):
        return oxygen(x) if x[1] > 0.45 else np.full(T.size, np.nan)
    x = leastsq.leastsq(oxygen, [20.0, 0.5], ftol=1e-14, xtol=1e-14)[0]
    found = confidence_intervals(residual, x, method="profile", parameters=[1])
    assert np.isnan(found.lower[1]) and np.isfinite(found.upper[1])
    assert "x[1], lower limit: the " in found.reasons[0]


def test_timeout_gives_nan_with_a_reason(best):
    found = confidence_intervals(oxygen, best, method="profile", timeout=0.0)
    assert np.isnan(found.lower).all() and "the time was up" in found.reasons[0]


def test_one_parameter_alone_needs_no_refit(best):
    found = confidence_intervals(lambda x: oxygen([best[0], x[0]]), [best[1]], method="profile")
    assert found.lower[0] < best[1] < found.upper[0] and found.reasons == []


def test_chosen_parameters_by_name_or_index(best):
    found = confidence_intervals(oxygen, best, method="profile", names=["a", "b"], parameters="b")
    assert list(found.profiles) == [1] and np.isnan(found.lower[0])
    assert list(confidence_intervals(oxygen, best, method="profile", parameters=[-2]).profiles) == [0]
    for wrong in (["c"], [2]):
        with pytest.raises(ValueError, match="no parameter"):
            confidence_intervals(oxygen, best, parameters=wrong, names=["a", "b"], method="profile")


def test_dfun_sigma_and_args_reach_the_refits(best):
    def residual(x, t, y):
        return x[0]*(1 - np.exp(-x[1]*t)) - y

    def jacobian(x, t, y):
        return np.column_stack([1 - np.exp(-x[1]*t), x[0]*t*np.exp(-x[1]*t)])
    plain = confidence_intervals(oxygen, best, method="profile", sigma=2.0, absolute_sigma=True)
    given = confidence_intervals(residual, best, (T, Y), jacobian, method="profile", sigma=np.full(6, 2.0),
                                 absolute_sigma=True)
    assert plain.t == pytest.approx(1.96, abs=1e-3)
    assert given.lower == pytest.approx(plain.lower, rel=1e-4)
    assert given.upper == pytest.approx(plain.upper, rel=1e-4)


def test_undetermined_parameters_have_no_interval_and_a_reason():
    slope, level = np.polyfit(T, Y, 1)
    for method in ("t", "profile"):
        found = confidence_intervals(lambda x: (x[0] + x[1])*T + x[2] - Y, [slope - 0.2, 0.2, level], method=method)
        assert not np.isfinite(found.lower[:2]).any() and np.isfinite(found.lower[2])
        assert "x[0]: the data do not determine it." in found.reasons


@pytest.mark.parametrize("options", [{"level": 0}, {"level": 95}, {"level": "high"}, {"method": "bootstrap"}])
def test_bad_options_are_named(options, best):
    with pytest.raises(ValueError, match=next(iter(options))):
        confidence_intervals(oxygen, best, **options)


def test_time_is_estimated_and_progress_shown(best, capsys, monkeypatch):
    assert 0 < leastsq.profile_time(oxygen, best) < 1
    confidence_intervals(oxygen, best, method="profile", progress=True)
    assert "profiles: 4 limits, about " in capsys.readouterr().err
    monkeypatch.setitem(__import__("sys").modules, "tqdm", None)
    confidence_intervals(oxygen, best, method="profile", progress=True)
    assert "4 of 4 limits\n" in capsys.readouterr().err


def test_points_make_the_curve_smooth(best):
    few, many = (confidence_intervals(oxygen, best, method="profile", points=p).profiles[0] for p in (0, 10))
    assert many.values.size >= few.values.size + 20


def test_refits_start_near_their_solution(best, monkeypatch):
    calls = []
    solve = _profile.leastsq
    monkeypatch.setattr(_profile, "leastsq", lambda *a, **k: calls.append(solve(*a, **k)) or calls[-1])
    confidence_intervals(oxygen, best, method="profile")
    assert np.median([out[2]["nfev"] for out in calls]) <= 8 and len(calls) < 60


# ------------------------------------------------------------- bounds and losses

def inside(low, high):
    """`oxygen`, which must not be called outside the bounds."""
    def residual(x):
        assert (np.asarray(low) <= x).all() and (x <= np.asarray(high)).all(), x
        return oxygen(x)
    return residual


def best_between(low, high, **options):
    start = np.clip([20.0, 0.5], low, np.minimum(high, 1e9))
    return leastsq.leastsq(oxygen, start, bounds=(low, high), ftol=1e-14, xtol=1e-14, **options)[0]


@pytest.mark.parametrize("method", ["t", "profile"])
def test_bounds_far_away_change_no_interval(method, best):
    plain = confidence_intervals(oxygen, best, method=method)
    given = confidence_intervals(oxygen, best, method=method, bounds=(-10, 1000))
    assert given.lower == pytest.approx(plain.lower, rel=1e-5)
    assert given.upper == pytest.approx(plain.upper, rel=1e-5)
    assert given.reasons == []


@pytest.mark.parametrize("method", ["t", "profile"])
def test_an_interval_ends_at_a_bound(method, best):
    low, high = np.array([0, 0.2]), np.array([25.0, 1.5])
    found = confidence_intervals(inside(low, high), best, method=method, bounds=(low, high), points=3)
    assert (found.lower >= low).all() and (found.upper <= high).all()
    assert found.upper[0] == 25 and (method == "profile" or found.lower[1] == 0.2)
    assert any(reason.startswith("x[0], upper limit: its bound") for reason in found.reasons)
    for profile in found.profiles.values():
        assert (low <= profile.x).all() and (profile.x <= high).all()


def test_refits_of_a_profile_keep_within_bounds(best):
    """Compared with a fine scan: the best rate within its bounds for each plateau."""
    low, high = [0, 0.3], [40, 1.0]
    found = confidence_intervals(oxygen, best, method="profile", level=0.9, bounds=(low, high), parameters=0)
    free = confidence_intervals(oxygen, best, method="profile", level=0.9, parameters=0)
    assert found.upper[0] < free.upper[0] - 0.1
    limit = found.covariance.chi2*(1 + found.t**2/4)
    rates = np.linspace(0.3, 1.0, 200001)
    for plateau in (found.lower[0], found.upper[0]):
        scan = ((plateau*(1 - np.exp(-rates[:, None]*T)) - Y)**2).sum(axis=1)
        assert scan.min() == pytest.approx(limit, rel=1e-4)


def test_a_parameter_at_its_bound_has_a_one_sided_profile_and_no_t_interval():
    low, high = np.array([21.0, 0.0]), np.array([np.inf, 9.0])
    x = best_between(low, high)
    assert x[0] == 21
    t = confidence_intervals(oxygen, x, bounds=(low, high), names=["plateau", "rate"])
    assert np.isnan(t.lower[0]) and np.isnan(t.upper[0]) and np.isfinite(t.lower[1])
    assert "plateau: it is at its bound, where the estimate is not normally distributed" in t.reasons[0]
    found = confidence_intervals(inside(low, high), x, bounds=(low, high), method="profile")
    assert found.lower[0] == 21 < found.upper[0] < np.inf and "x[0], lower limit: the parameter is at its bound" in \
        found.reasons[0]
    rates = np.linspace(0.01, 5, 200001)
    limit = found.covariance.chi2*(1 + found.t**2/4)
    scan = ((found.upper[0]*(1 - np.exp(-rates[:, None]*T)) - Y)**2).sum(axis=1)
    assert scan.min() == pytest.approx(limit, rel=1e-4)


@pytest.mark.parametrize("method", ["t", "profile"])
def test_a_fixed_parameter_counts_as_known(method, best):
    bounds = ([best[0], 0], [best[0], 9])
    found = confidence_intervals(inside(*bounds), best, method=method, bounds=bounds)
    alone = confidence_intervals(lambda z: oxygen([best[0], z[0]]), best[1:], method=method)
    assert np.isnan(found.lower[0]) and found.reasons == ["x[0]: it is fixed."]
    assert (found.lower[1], found.upper[1]) == pytest.approx((alone.lower[0], alone.upper[0]), rel=1e-5)
    assert 0 < leastsq.profile_time(oxygen, best, bounds=bounds) < 1


def test_with_a_loss_the_profile_is_that_of_the_losses():
    """The losses alone give tau at the ends of the profile; near the minimum t and profile agree."""
    options = {"loss": "soft_l1", "f_scale": 2.0}
    x = leastsq.leastsq(oxygen, [20.0, 0.5], ftol=1e-14, xtol=1e-14, **options)[0]
    found = confidence_intervals(oxygen, x, method="profile", level=0.9, **options)

    def losses(f):
        return 8*(np.sqrt(1 + (f/2)**2) - 1)
    f = oxygen(x)
    psi, bends = f/np.sqrt(1 + (f/2)**2), (1 + (f/2)**2)**-1.5
    variance = (psi @ psi)/4/bends.mean()*(1 + 2/6*bends.var()/bends.mean()**2)**2
    limit = losses(f).sum() + found.t**2*variance
    rates = np.linspace(0.01, 5, 200001)
    for plateau in (found.lower[0], found.upper[0]):
        scan = losses(plateau*(1 - np.exp(-rates[:, None]*T)) - Y).sum(axis=1)
        assert scan.min() == pytest.approx(limit, rel=1e-4)
    plain = confidence_intervals(oxygen, best_between([0, 0], [np.inf, np.inf]), method="profile", level=0.9)
    assert found.upper[0] != pytest.approx(plain.upper[0], rel=1e-2)


def test_t_and_profile_agree_on_a_line_with_outliers():
    rng = np.random.default_rng(2)
    A = np.vander(np.linspace(-1, 1, 400), 2)
    b = A @ [2.0, 1.0] + 0.1*rng.standard_normal(400)
    b[::10] += 1.0
    options = {"loss": "huber", "f_scale": 0.15}
    x = leastsq.leastsq(lambda x: A @ x - b, [1.0, 1.0], ftol=1e-14, xtol=1e-14, **options)[0]
    t, profile = (confidence_intervals(lambda x: A @ x - b, x, method=m, **options) for m in ("t", "profile"))
    assert profile.upper - profile.lower == pytest.approx(t.upper - t.lower, rel=0.05)


def test_losses_and_absolute_sigma_exclude_each_other(best):
    with pytest.raises(ValueError, match="absolute_sigma must be False with a loss"):
        confidence_intervals(oxygen, best, loss="huber", absolute_sigma=True)


# -------------------------------------------------------------------- coverage

@pytest.mark.parametrize("study", interval_coverage.STUDIES, ids=lambda s: s.name)
def test_coverage_of_95_percent_intervals(study):
    """docs/errors.md has 1000 fits of each; the tolerance here is 2.6 binomial standard deviations (99 %)."""
    t, profile = interval_coverage.run(study, 120)
    assert np.abs(profile.sigmas).max() < 2.6
    if study.bent:              # all misses are at one end, instead of as many at each
        assert t.below[0] <= 1 and t.above[0] >= 6 > profile.above[0]
    else:
        assert np.abs(t.sigmas).max() < 2.6


def test_the_study_prints_a_row_for_each_parameter_and_method(capsys, tmp_path):
    pytest.importorskip("matplotlib").use("Agg")
    picture = tmp_path / "new" / "coverage.png"
    interval_coverage.main(["--fits", "4", "--plot", str(picture)])
    printed = capsys.readouterr().out
    assert sum(line.startswith(("decay ", "enzyme ", "oxygen demand ")) for line in printed.splitlines()) == 14
    assert picture.stat().st_size > 10000


# ------------------------------------------------------------------------ band

def curve(t, plateau, rate):
    return plateau*(1 - np.exp(-rate*t))


@pytest.fixture(scope="module")
def fitted():
    return leastsq.curve_fit(curve, T, Y, [20.0, 0.5], full_output=True, covariance="accurate", ftol=1e-14, xtol=1e-14)


def test_a_band_is_the_propagated_covariance(best, fitted):
    spread = covariance(oxygen, best)
    t = np.linspace(0, 10, 7)
    J = np.column_stack([1 - np.exp(-best[1]*t), best[0]*t*np.exp(-best[1]*t)])
    stderr = np.sqrt(np.einsum("ij,jk,ik->i", J, spread.cov, J))
    band = confidence_band(spread, t, model=curve)
    assert band.stderr == pytest.approx(stderr, rel=1e-8)
    assert band.upper - band.fit == pytest.approx(t_quantile(0.95, 4)*stderr, rel=1e-8)
    same = confidence_band((best, spread.cov), t, model=curve, dof=4)
    assert same.lower == pytest.approx(band.lower, rel=1e-12)
    assert confidence_band((best, spread.cov), t, model=curve).stderr == pytest.approx(stderr, rel=1e-8)
    assert confidence_band(fitted, t).stderr == pytest.approx(stderr, rel=1e-6)
    assert confidence_band(fitted).fit == pytest.approx(curve(T, *best), rel=1e-6)       # at the data


def test_prediction_band_adds_the_noise(best, fitted):
    spread = covariance(fitted)
    narrow, wide = (confidence_band(fitted, T, noise=noise) for noise in (None, True))
    assert wide.stderr**2 - narrow.stderr**2 == pytest.approx(spread.reduced_chi2)
    given = confidence_band(fitted, T, noise=np.sqrt(spread.reduced_chi2))
    assert given.upper == pytest.approx(wide.upper)


def test_prediction_bands_follow_sigma(best):
    sigma = 1 + 0.1*T
    for absolute in (False, True):
        fit = leastsq.curve_fit(curve, T, Y, [20.0, 0.5], sigma=sigma, absolute_sigma=absolute, full_output=True)
        one = 1.0 if absolute else np.sqrt(covariance(fit).reduced_chi2)
        narrow, wide = (confidence_band(fit, noise=noise).stderr for noise in (None, True))
        assert wide**2 - narrow**2 == pytest.approx((one*sigma)**2)
        with pytest.raises(ValueError, match="noise=True knows sigma at the 6 data only"):
            confidence_band(fit, [2.5, 3.5], noise=True)
        assert confidence_band(fit, np.array([2.5]), noise=lambda t: 1 + 0.1*t).stderr > narrow.min()
        number = leastsq.curve_fit(curve, T, Y, [20.0, 0.5], sigma=2.0, absolute_sigma=absolute, full_output=True)
        one = 2.0 if absolute else 2*np.sqrt(covariance(number).reduced_chi2)
        narrow, wide = (confidence_band(number, [2.5], model=None, noise=noise).stderr for noise in (None, True))
        assert wide**2 - narrow**2 == pytest.approx(one**2)


def test_band_ignores_parameters_that_the_curve_does_not_use():
    def residual(x):
        return (x[0] + x[1])*T + x[2] - Y
    spread = covariance(residual, [1.0, 0.2, 9.0])
    assert np.isfinite(confidence_band(spread, T, model=lambda t, a, b, c: np.full(3, c)).stderr).all()
    assert not np.isfinite(confidence_band(spread, T, model=lambda t, a, b, c: a*t).stderr).any()


def test_bad_bands_are_refused(best, fitted):
    with pytest.raises(ValueError, match=r"shape \(2, 2\)"):
        confidence_band((best, np.eye(3)), T, model=curve)
    with pytest.raises(ValueError, match="noise=True"):
        confidence_band((best, np.eye(2)), T, model=curve, noise=True)
    with pytest.raises(ValueError, match="noise and simultaneous exclude each other"):
        confidence_band((best, np.eye(2)), T, model=curve, noise=1.0, simultaneous=True)
    with pytest.raises(ValueError, match="noise=True does not go with a loss"):
        confidence_band(covariance(oxygen, best, loss="huber", f_scale=9.0), T, model=curve, noise=True)
    with pytest.raises(ValueError, match="cannot know whether this function divides"):
        confidence_band(covariance(oxygen, best), T, model=curve, noise=True)
    with pytest.raises(TypeError, match="model must be given"):
        confidence_band(covariance(oxygen, best), T)
    with pytest.raises(TypeError, match="x must be given"):
        confidence_band(covariance(oxygen, best), model=curve)
    with pytest.raises(ValueError, match="model must be that of the fit"):
        confidence_band(fitted, T, model=lambda t, a, b: curve(t, a, b))
    with pytest.raises(ValueError, match="noise must"):
        confidence_band(fitted, T, noise=[1.0, 2.0])


def test_a_simultaneous_band_is_scheffes(best):
    spread = covariance(oxygen, best)
    point, whole = (confidence_band(spread, T, model=curve, simultaneous=s) for s in (False, True))
    assert whole.stderr == pytest.approx(point.stderr)
    assert whole.upper - whole.fit == pytest.approx(np.sqrt(2*f_quantile(0.95, 2, 4))*point.stderr)
    matrix = confidence_band((best, spread.cov), T, model=curve, dof=4, simultaneous=True)
    assert matrix.lower == pytest.approx(whole.lower)

    def line(t, plateau, rate):
        return rate*t
    slope = confidence_band(spread, T, model=line, simultaneous=True)      # one parameter alone: t
    assert slope.upper == pytest.approx(confidence_band(spread, T, model=line).upper, rel=1e-6)


def test_a_simultaneous_band_covers_the_whole_line_as_often_as_it_says():
    """Straight lines over a wide range: 95 % within 2.6 binomial standard deviations; the pointwise band covers fewer."""
    rng = np.random.default_rng(4)
    A = np.column_stack([np.ones(8), np.linspace(0, 1, 8)])
    far, inverse, fits = np.linspace(-20, 20, 201), np.linalg.inv(A.T @ A), 1000
    basis = np.column_stack([np.ones(far.size), far])
    held = {False: 0, True: 0}
    for _ in range(fits):
        y = A @ [1.0, 2.0] + rng.standard_normal(8)
        x = inverse @ A.T @ y
        f = A @ x - y
        for simultaneous in held:
            band = confidence_band((x, inverse*(f @ f)/6), far, model=lambda t, *p: basis @ p, dof=6, method="2-point",
                                   simultaneous=simultaneous)
            truth = basis @ [1.0, 2.0]
            held[simultaneous] += ((band.lower <= truth) & (truth <= band.upper)).all()
    assert abs(held[True]/fits - 0.95) < 2.6*np.sqrt(0.95*0.05/fits)
    assert held[False] < 0.92*fits


def test_a_band_keeps_within_the_bounds_of_the_fit():
    low, high = np.array([21.0, 0.0]), np.array([np.inf, 9.0])
    x = best_between(low, high)
    spread = covariance(oxygen, x, bounds=(low, high))

    def within(t, *x):
        assert (low <= x).all() and (x <= high).all()
        return curve(t, *x)
    band = confidence_band(spread, T, model=within)
    rate = covariance(lambda z: oxygen([21.0, z[0]]), x[1:])
    assert band.stderr == pytest.approx(21*T*np.exp(-x[1]*T)*rate.stderr, rel=1e-6)
