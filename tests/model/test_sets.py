"""Several data sets in one `fit`: parameters of the same name are shared, except `own` ones."""
import numpy as np
import pytest

import leastsq as lsq

random = np.random.default_rng(5)
T = np.linspace(0, 4, 40)
T2 = np.linspace(0, 3, 25)


def decay(t, height, rate):
    return height*np.exp(-rate*t)


def with_level(t, height, rate, level):
    return decay(t, height, rate) + level


A = decay(T, 2.5, 1.3) + 0.02*random.standard_normal(40)
B = decay(T, 1.2, 1.3) + 0.02*random.standard_normal(40)
C = with_level(T2, 3.0, 1.3, 0.4) + 0.05*random.standard_normal(25)


def by_hand(p):
    a, b, c, rate, level = p
    return np.concatenate([(decay(T, a, rate) - A)/0.02, (decay(T, b, rate) - B)/0.02, (with_level(T2, c, rate, level) - C)/0.05])


def three(**options):
    return lsq.fit([decay, decay, with_level], [T, T, T2], [A, B, C], {"height": 1, "rate": 1, "level": 0}, own=["height"],
                   sigma=[0.02, 0.02, 0.05], **options)


def test_parameters_of_the_same_name_are_shared():
    result = three()
    assert result.names == ("height[0]", "height[1]", "height[2]", "rate", "level")
    fit = lsq.leastsq(by_hand, [1, 1, 1, 1, 0], full_output=True)
    assert np.allclose(result.x, fit[0], rtol=1e-7)
    assert np.allclose(result.cov, lsq.covariance(by_hand, result.x).cov, rtol=1e-6)
    assert result.dof == 105 - 5


def test_residuals_predictions_and_the_report_are_given_for_each_set():
    result = three()
    assert [one.shape for one in result.residuals] == [(40,), (40,), (25,)] == [one.shape for one in result.predict()]
    assert np.allclose(np.concatenate(result.residuals), by_hand(result.x))
    assert np.allclose(result.predict(T2, dataset=1), decay(T2, result["height[1]"], result["rate"]))
    parts = result.report().sets
    assert [(name, m) for name, m, _ in parts] == [("y[0]", 40), ("y[1]", 40), ("y[2]", 25)]
    assert sum(chi2 for *_, chi2 in parts) == pytest.approx(result.chi2)
    assert "of y[2], 25 residuals" in str(result)
    band = result.band(T2, dataset=2)
    one = lsq.confidence_band((result.x, result.cov), T2, dof=result.dof,
                              model=lambda t, a, b, c, rate, level: with_level(t, c, rate, level))
    assert np.allclose(band.lower, one.lower) and np.allclose(band.fit, one.fit)


@pytest.mark.parametrize("options", [{}, {"bounds": {"height": (0, 2), "rate": (1.4, None)}}, {"fixed": {"rate": 1.2}}])
def test_own_parameters_only_are_the_same_as_separate_fits(options):
    sets = (A, B, decay(T, 2, 0.7))
    joined = lsq.fit([decay]*3, T, sets, [1, 1.5], own=["height", "rate"], sigma=0.02, absolute_sigma=True, **options)
    for i, y in enumerate(sets):
        alone = lsq.fit(decay, T, y, [1, 1.5], sigma=0.02, absolute_sigma=True, **options)
        for name in ("height", "rate"):
            assert joined[f"{name}[{i}]"] == pytest.approx(alone[name], rel=1e-6)
            assert joined[f"{name}[{i}]"].stderr == pytest.approx(alone[name].stderr, rel=1e-4, nan_ok=True)


def test_an_order_of_sets_is_an_order_of_parameters():
    result = three()
    turned = lsq.fit([with_level, decay, decay], [T2, T, T], [C, B, A], {"height": 1, "rate": 1, "level": 0}, own="height",
                     sigma=[0.05, 0.02, 0.02])
    for a, b in (("height[0]", "height[2]"), ("height[1]", "height[1]"), ("rate", "rate"), ("level", "level")):
        assert result[a] == pytest.approx(turned[b], rel=1e-6)
        assert result[a].stderr == pytest.approx(turned[b].stderr, rel=1e-5)


@pytest.mark.parametrize("start", [{"height": [2, 1, 3], "rate": 1, "level": 0}, [[2, 1, 3], 1, 0], [2, 1, 3, 1, 0],
                                   {"height": 1, "height[0]": 2, "height[2]": 3, "rate": 1, "level": 0}])
def test_starts_of_own_parameters(start):
    result = lsq.fit([decay, decay, with_level], [T, T, T2], [A, B, C], start, own=["height"], sigma=[0.02, 0.02, 0.05])
    assert np.array_equal(result.start, [2, 1, 3, 1, 0])


def test_settings_by_name_hold_for_each_set_and_by_number_for_one():
    result = three(bounds={"height": (0, 2.0), "height[1]": (0, 1.0)}, fixed={"height[2]": 1.0})
    assert [result[f"height[{i}]"].bounds for i in range(3)] == [(0, 2), (0, 1), (0, 2)]
    assert [result[f"height[{i}]"].fixed for i in range(3)] == [False, False, True]
    priors = three(prior={"height": (2, 1), "height[0]": (3, 0.5)})
    assert [priors[f"height[{i}]"].prior for i in range(3)] == [(3, 0.5), (2, 1), (2, 1)]
    everything = three(bounds=[(0, 5), None, None])
    assert [everything[name].bounds for name in everything] == [(0, 5)]*3 + [(-np.inf, np.inf)]*2


def test_sets_may_be_of_any_kind_with_points_left_out():
    keep = random.random(25) > 0.3
    c = np.where(keep, C, np.nan)
    result = lsq.fit([lambda f, gain: gain/(1 + 1j*f), with_level], [T, T2], [2/(1 + 1j*T), c],
                     {"gain": 1, "height": 1, "rate": 1, "level": 0}, nan_policy="omit")
    alone = lsq.fit(with_level, T2[keep], C[keep], [1, 1, 0])
    assert result["gain"] == pytest.approx(2) and result["rate"] == pytest.approx(alone["rate"], rel=1e-6)
    assert result.residuals[0].dtype.kind == "c" and np.array_equal(np.isnan(result.residuals[1]), ~keep)
    assert result.dof == 80 + keep.sum() - 4


def test_sets_have_vectors_matrices_and_derivatives():
    matrix = 0.02**2*(np.eye(40) + 0.2*np.eye(40, k=1) + 0.2*np.eye(40, k=-1))

    def jac(t, a, b):
        return np.column_stack([np.exp(-b*t), -a*t*np.exp(-b*t)])
    sigma = [matrix, np.full(40, 0.02)]
    given = lsq.fit([decay, decay], T, [A, B], [1, 1], own="height", sigma=sigma, jac=[jac, jac])
    made = lsq.fit([decay, decay], T, [A, B], [1, 1], own="height", sigma=sigma)
    assert np.allclose(given.x, made.x, rtol=1e-6) and np.allclose(given.cov, made.cov, rtol=1e-5)
    assert np.isfinite(made.r_squared)


def test_a_list_of_one_set_is_one_set():
    assert np.array_equal(lsq.fit([decay], [T], [A], [1, 1]).x, lsq.fit(decay, T, A, [1, 1]).x)
