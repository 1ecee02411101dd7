"""Uncertainties of `FitResult`: intervals, bands, derived quantities, joint regions."""
import numpy as np
import pytest

import leastsq as lsq

T = np.linspace(0, 4, 30)
random = np.random.default_rng(17)
Y = 2.5*np.exp(-1.3*T) + 0.5 + 0.02*random.standard_normal(T.size)
START = [1, 1, 0]


def decay(t, height, rate, level):
    return height*np.exp(-rate*t) + level


def straight(t, slope, level):
    return slope*t + level


RESULT = lsq.fit(decay, T, Y, START, sigma=0.02)
LINE = lsq.fit(straight, T, 2*T + 1 + 0.3*random.standard_normal(T.size), [1, 0])


def test_tools_accept_the_result():
    problem = lsq.curve_fit(decay, T, Y, START, sigma=np.full(30, 0.02), full_output=True, covariance="accurate")
    assert str(lsq.report(RESULT)) == str(RESULT.report()) == repr(RESULT)
    assert np.allclose(lsq.covariance(RESULT).cov, lsq.covariance(problem).cov, rtol=1e-6)
    assert np.allclose(lsq.covariance(RESULT, method="cs").cov, RESULT.cov, rtol=1e-6)
    for method in ("t", "profile"):
        ours, theirs = RESULT.intervals(method=method), lsq.confidence_intervals(problem, method=method)
        assert np.allclose(ours.lower, theirs.lower, rtol=1e-5)
        assert np.allclose(lsq.confidence_intervals(RESULT, method=method).upper, ours.upper)
    assert 0 < lsq.profile_time(RESULT) < np.inf
    band = lsq.confidence_band(problem, T)
    for ours in (RESULT.band(), RESULT.band(T), lsq.confidence_band(RESULT, T)):
        assert np.allclose(ours.lower, band.lower, rtol=1e-6)


def test_intervals_of_one_parameter():
    found = RESULT.intervals(level=0.9)
    assert RESULT["rate"].interval(0.9) == pytest.approx((found.lower[1], found.upper[1]))
    profile = RESULT.profile("rate", points=5)
    assert list(profile.profiles) == [1]
    assert RESULT["rate"].interval(method="profile") == pytest.approx((profile.lower[1], profile.upper[1]))


def test_prediction_bands():
    wide, narrow = RESULT.band(noise=True), RESULT.band()
    assert np.allclose(wide.stderr**2, narrow.stderr**2 + 0.02**2*RESULT.reduced_chi2)
    vector = lsq.fit(decay, T, np.ma.array(Y, mask=T == T[3]), START, sigma=np.linspace(0.01, 0.03, 30))
    band = vector.band(noise=True)
    assert np.isnan(band.stderr[3]) and np.isfinite(np.delete(band.stderr, 3)).all()
    with pytest.raises(ValueError, match="with noise=True sigma is known only at the data"):
        vector.band(np.array([1.0]), noise=True)
    assert vector.band(np.array([1.0]), noise=0.5).stderr > 0.5
    assert (RESULT.band(simultaneous=True).lower < narrow.lower).all()


# ------------------------------------------------------------------ derived

def test_derived_quantities_of_a_linear_model_are_exact():
    derived = LINE.derive(at_2=lambda p: straight(2, **p), zero=lambda p: -p["level"]/p["slope"],
                          slope=lambda p: p["slope"] + 0*p["level"])
    a = np.array([2.0, 1.0])
    assert derived["at_2"].stderr == pytest.approx(np.sqrt(a @ LINE.cov @ a), rel=1e-9)
    assert derived["at_2"].interval() == pytest.approx(derived["at_2"].interval(method="profile"), rel=1e-4)
    slope, level = LINE.x
    g = np.array([level/slope**2, -1/slope])
    assert derived["zero"].stderr == pytest.approx(np.sqrt(g @ LINE.cov @ g), rel=1e-7)
    assert derived.cov[0, 2] == pytest.approx((a @ LINE.cov)[0], rel=1e-7)


def test_a_profile_of_a_ratio_gives_fiellers_interval():
    """The zero of a line is a ratio of two normal numbers, whose interval is known in closed form."""
    t = lsq.confidence_intervals(LINE).t
    (vs, c), (_, vl) = LINE.cov
    slope, level = LINE.x
    roots = np.roots([slope**2 - t*t*vs, 2*(slope*level - t*t*c), level**2 - t*t*vl])
    zero = LINE.derive(zero=lambda p: -p["level"]/p["slope"])["zero"]
    assert np.allclose(sorted(zero.interval(method="profile")), sorted(roots), rtol=1e-4)


def test_derived_quantities_know_what_is_fixed_held_or_unknown():
    fixed = lsq.fit(decay, T, Y, START, fixed={"level": 0.5})
    assert fixed.derive(a=lambda p: p["level"])["a"].stderr == 0
    assert fixed.derive(a=lambda p: p["rate"] + p["level"])["a"].stderr == pytest.approx(fixed["rate"].stderr)
    held = lsq.fit(decay, T, Y, START, bounds={"level": (None, 0.4)})
    assert held.derive(a=lambda p: p["level"])["a"].stderr == 0
    unknown = lsq.fit(lambda t, a, b: a*b*t, T, 2*T, [1, 1])
    derived = unknown.derive(a=lambda p: p["a"], product=lambda p: p["a"]*p["b"])
    assert np.isinf(derived["a"].stderr)
    with pytest.raises(ValueError, match="a has no profile: the data do not determine it"):
        derived["a"].interval(method="profile")


def test_a_derived_quantity_is_a_float():
    derived = RESULT.derive(halflife=lambda p: np.log(2)/p["rate"])
    assert derived["halflife"]*2 == 2*np.log(2)/RESULT["rate"]
    assert repr(derived["halflife"]) == f"halflife = {lsq.format_value(derived['halflife'])}"
    assert list(derived) == ["halflife"] and len(derived) == 1
    assert set(derived.to_dict()) == {"parameters", "covariance", "correlation"}
    with pytest.raises(KeyError, match="did you mean 'halflife'"):
        derived["half_life"]


@pytest.mark.parametrize("function, error", [
    (lambda p: p["rat"], "there is no parameter 'rat'; did you mean 'rate'"), (3, "halflife must be a function"),
    (lambda p: T*p["rate"], "halflife must return a real number"), (lambda p: "no", "halflife must return a real number")])
def test_bad_functions_are_refused(function, error):
    with pytest.raises((KeyError, TypeError), match=error):
        RESULT.derive(halflife=function)
    with pytest.raises(TypeError, match="a function must be given by name"):
        RESULT.derive()


# ------------------------------------------------------------------ joint regions

@pytest.mark.parametrize("absolute", [False, True])
def test_the_region_of_a_linear_model_is_an_ellipse(absolute):
    line = lsq.fit(straight, T, 2*T + 1 + 0.3*np.cos(9*T), [1, 0], sigma=0.2, absolute_sigma=absolute)
    region = line.contour("slope", "level", level=0.9, points=24)
    for side, ellipse in zip((region.x, region.y), region.ellipse):
        assert np.allclose([side.min(), side.max()], [ellipse.min(), ellipse.max()], rtol=1e-3)
    assert (region.x[0], region.y[0]) == (region.x[-1], region.y[-1]) and region.x.size == 25
    off = np.array([region.x, region.y]).T - line.x
    from scipy.stats import chi2, f
    limit = chi2.ppf(0.9, 2) if absolute else 2*f.ppf(0.9, 2, 28)
    assert np.allclose(np.einsum("ki,ij,kj->k", off, np.linalg.inv(line.cov), off), limit, rtol=1e-3)


def test_at_points_of_a_region_the_best_fit_of_the_others_reaches_the_limit():
    region = RESULT.contour("rate", "level", points=8)
    from scipy.stats import f
    limit = RESULT.chi2*(1 + 2/27*f.ppf(0.95, 2, 27))
    for rate, level in zip(region.x, region.y):
        refit = lsq.fit(decay, T, Y, START, sigma=0.02, fixed={"rate": rate, "level": level})
        assert refit.chi2 == pytest.approx(limit, rel=1e-3)
    assert "joint confidence region: rate from" in repr(region)


OXYGEN = np.array([1.0, 2, 3, 4, 5, 7]), np.array([8.3, 10.3, 19.0, 16.0, 15.6, 19.8])


def oxygen(t, plateau, rate):
    return plateau*(1 - np.exp(-rate*t))


def test_a_bent_region_is_followed_into_its_tail():
    """Rays from the answer see little of the region; the profiles of the parameters give its ends."""
    from scipy.stats import f
    result = lsq.fit(oxygen, *OXYGEN, [20, 0.5])
    region = result.contour("plateau", "rate", level=0.8, points=30)
    limit = result.chi2*(1 + 2/4*f.ppf(0.8, 2, 4))
    sums = [np.sum((oxygen(OXYGEN[0], *point) - OXYGEN[1])**2) for point in zip(region.x, region.y)]
    assert np.allclose(sums, limit, rtol=1e-3) and region.x.size == 31 and region.bounded
    level = 1 - 2*(1 - 0.5*(1 + _two_sided(np.sqrt(2*f.ppf(0.8, 2, 4)), 4)))
    profile = result.intervals(level=level, method="profile")
    for side, low, high in zip((region.x, region.y), profile.lower, profile.upper):
        assert [side.min(), side.max()] == pytest.approx([low, high], rel=1e-4)
    around = np.diff(np.arctan2(region.y - result["rate"], (region.x - result["plateau"])/30))
    assert abs(np.sum((around + np.pi) % (2*np.pi) - np.pi)) == pytest.approx(2*np.pi)         # once around


def _two_sided(t, dof):
    from scipy.stats import t as student
    return 2*student.cdf(t, dof) - 1


def test_an_unbounded_region_says_so():
    result = lsq.fit(oxygen, *OXYGEN, [20, 0.5])
    region = result.contour("plateau", "rate", level=0.95, points=12)
    assert not region.bounded and "the data do not bound it" in repr(region)
    within = lsq.fit(oxygen, *OXYGEN, [20, 0.5], bounds={"rate": (0.1, 3), "plateau": (0, 50)})
    assert within.contour("plateau", "rate", level=0.95, points=12).bounded


def test_an_interval_of_a_derived_quantity_ends_where_its_parameter_does():
    result = lsq.fit(oxygen, *OXYGEN, [20, 0.5], bounds={"rate": (0.3, 0.8)})
    low, high = result.derive(halflife=lambda p: np.log(2)/p["rate"])["halflife"].interval(method="profile")
    assert (low, high) == pytest.approx((np.log(2)/0.8, np.log(2)/0.3))


def test_a_region_ends_at_bounds():
    result = lsq.fit(decay, T, Y, [1, 1, 0.5], bounds={"level": (0.495, None), "rate": (None, 1.32)})
    region = result.contour("rate", "level", points=12)
    assert np.nanmin(region.y) >= 0.495 - 1e-12 and np.nanmax(region.x) <= 1.32 + 1e-12


def test_regions_follow_priors():
    result = lsq.fit(decay, T, Y, START, sigma=0.02, absolute_sigma=True, prior={"rate": (1.3, 1e-4)})
    region = result.contour("rate", "level", points=8)
    assert np.allclose(region.x, 1.3, atol=3e-4)


@pytest.mark.parametrize("ask, error", [
    (lambda r: r.contour("rate", "levl"), "did you mean 'level'"), (lambda r: r.contour("rate", "rate"), "must differ"),
    (lambda r: r.contour("rate", "level", level=95), "between 0 and 1"),
    (lambda r: r.contour("rate", "level", points=2), "from 4 up"),
    (lambda r: r.intervals(["rat"]), "did you mean 'rate'"), (lambda r: r.intervals(level=2), "between 0 and 1"),
    (lambda r: r["rate"].interval(method="hesse"), "method must be"), (lambda r: r.predict(T, dataset=1), "from 0 to 0"),
    (lambda r: r.derive(a=lambda p: p["rate"])["a"].interval(method="x"), "'t' or 'profile'"),
    (lambda r: r.derive(a=lambda p: p["rate"])["a"].interval(1.5), "between 0 and 1"),
    (lambda r: r.derive(a=lambda p: 3)["a"].interval(method="profile"), "no free parameter changes it"),
    (lambda r: lsq.fit(decay, T, Y, START, fixed="rate").contour("rate", "level"), "must be a free parameter")])
def test_questions_without_an_answer_are_errors(ask, error):
    with pytest.raises(ValueError, match=error):
        ask(RESULT)


# ------------------------------------------------------------------ coverage

@pytest.mark.parametrize("prior", [None, {"rate": (1.3, 0.05)}])
def test_intervals_cover_the_truth_as_often_as_they_say(prior):
    truth, held, fits = np.array([2.5, 1.3, 0.5]), np.zeros(4), 200
    for seed in range(fits):
        rng = np.random.default_rng(seed)
        y = decay(T, *truth) + 0.1*rng.standard_normal(T.size)
        given = None if prior is None else {"rate": (1.3 + 0.05*rng.standard_normal(), 0.05)}
        result = lsq.fit(decay, T, y, [2, 1, 0], sigma=0.1, absolute_sigma=prior is not None, prior=given)
        found = result.intervals(level=0.9)
        held[:3] += (found.lower <= truth) & (truth <= found.upper)
        low, high = result.derive(halflife=lambda p: np.log(2)/p["rate"])["halflife"].interval(0.9)
        held[3] += low <= np.log(2)/1.3 <= high
    assert np.allclose(held/fits, 0.9, atol=3.5*np.sqrt(0.09/fits))
