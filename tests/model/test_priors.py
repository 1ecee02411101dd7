"""Priors of `fit`: rows of the residuals, which neither a loss nor reduced chi-squared affects."""
import numpy as np
import pytest

import leastsq as lsq

T = np.linspace(0, 4, 30)
SIGMA = 0.02
Y = 2.5*np.exp(-1.3*T) + 0.5 + 0.03*np.random.default_rng(7).standard_normal(T.size)
START = [1, 1, 0]
PRIOR = {"rate": (1.25, 0.01), "level": (0.52, 0.02)}


def decay(t, height, rate, level):
    return height*np.exp(-rate*t) + level


def test_a_prior_acts_like_a_datum():
    result = lsq.fit(decay, T, Y, START, sigma=SIGMA, absolute_sigma=True, prior=PRIOR)

    def model(t, height, rate, level):
        return np.concatenate([decay(T, height, rate, level), [rate, level]])
    data = lsq.fit(model, None, np.concatenate([Y, [1.25, 0.52]]), START, absolute_sigma=True,
                   sigma=np.concatenate([np.full(30, SIGMA), [0.01, 0.02]]))
    assert np.allclose(result.x, data.x, rtol=1e-8)
    assert np.allclose(result.cov, data.cov, rtol=1e-6)
    assert (result.chi2, result.dof) == (pytest.approx(data.chi2), 30 + 2 - 3)
    for method in ("t", "profile"):
        a, b = result.intervals(method=method), data.intervals(method=method)
        assert np.allclose(a.lower, b.lower, rtol=1e-5) and np.allclose(a.upper, b.upper, rtol=1e-5)


def test_the_report_separates_data_and_priors():
    result = lsq.fit(decay, T, Y, START, sigma=SIGMA, prior=PRIOR)
    found = result.report()
    r = (decay(T, *result.x) - Y)/SIGMA
    pulls = [(result["rate"] - 1.25)/0.01, (result["level"] - 0.52)/0.02]
    assert found.chi2_data == pytest.approx(r @ r)
    assert found.chi2_priors == pytest.approx(np.dot(pulls, pulls))
    assert [name for name, *_ in found.pulls] == ["rate", "level"]
    assert [pull for *_, pull in found.pulls] == pytest.approx(pulls)
    assert result.chi2 == pytest.approx(found.chi2_data + found.chi2_priors)
    assert found.m == 30 and found.dof == 30 + 2 - 3
    assert result.reduced_chi2 == pytest.approx((found.chi2_data + found.chi2_priors)/(30 + 2 - 3))
    assert result.residuals.shape == (30,)
    for words in ("of the priors", "how many of their widths", "1.250 ± 0.010"):
        assert words in str(found)
    assert "1.250 ± 0.010" in found._repr_html_()


def test_a_contradiction_between_data_and_prior_is_reported():
    assert "contradict" in str(lsq.fit(decay, T, Y, START, sigma=SIGMA, prior={"rate": (0.3, 0.01)}))


def test_the_width_of_a_prior_is_not_scaled():
    """A parameter that only the prior determines has the prior's width, whatever the scatter of the data."""
    for scatter in (0.1, 1, 10):
        y = Y*scatter
        result = lsq.fit(lambda t, a, b, c, other: decay(t, a, b, c) + 0*other, T, y, [*START, 0], sigma=SIGMA,
                         prior={"other": (3, 0.7)})
        assert result["other"] == pytest.approx(3) and result["other"].stderr == pytest.approx(0.7)
        plain = lsq.fit(decay, T, y, START, sigma=SIGMA)
        assert result["b"].stderr == pytest.approx(plain["rate"].stderr, rel=1e-5)     # dof: 1 datum, 1 parameter more


@pytest.mark.parametrize("loss", ["linear", "huber", "cauchy"])
def test_a_wide_prior_changes_nothing(loss):
    y = Y.copy()
    y[4] += 1
    plain = lsq.fit(decay, T, y, START, sigma=SIGMA, loss=loss)
    wide = lsq.fit(decay, T, y, START, sigma=SIGMA, loss=loss, prior={"rate": (0, 1e7)})
    assert np.allclose(wide.x, plain.x, rtol=1e-5)
    assert np.allclose(wide.cov*(wide.dof/plain.dof), plain.cov, rtol=5e-3)
    a, b = (one.intervals("rate", method="profile") for one in (plain, wide))
    assert (b.upper[1] - b.lower[1]) == pytest.approx(a.upper[1] - a.lower[1], rel=0.03)


@pytest.mark.parametrize("loss", ["soft_l1", "huber", "cauchy", "arctan"])
def test_no_loss_applies_to_a_prior(loss):
    """The square of a narrow prior far away is not damped: the parameter goes there, as if it were fixed."""
    options = {"sigma": SIGMA, "loss": loss, "f_scale": 5, "ftol": 1e-12, "xtol": 1e-12}
    narrow = lsq.fit(decay, T, Y, [2, 1.1, 0.4], prior={"rate": (1.1, 1e-5)}, **options)
    held = lsq.fit(decay, T, Y, [2, 1.1, 0.4], fixed={"rate": 1.1}, **options)
    assert narrow["rate"] == pytest.approx(1.1, abs=1e-4)
    assert np.allclose(narrow.x, held.x, rtol=1e-3)
    assert np.allclose(narrow.stderr[[0, 2]], held.stderr[[0, 2]], rtol=0.1)    # Huber's correction depends on n
    assert narrow["rate"].stderr == pytest.approx(1e-5, rel=1e-3)


def test_uncertainties_with_a_prior_are_those_of_repeated_fits():
    """With more scatter than sigma says and a correct prior, standard errors equal the scatter of repeated fits."""
    random, pulls = np.random.default_rng(11), []
    for _ in range(150):
        y = decay(T, 2.5, 1.3, 0.5) + 0.06*random.standard_normal(T.size)
        prior = {"rate": (1.3 + 0.05*random.standard_normal(), 0.05)}
        result = lsq.fit(decay, T, y, [2, 1, 0], sigma=SIGMA, prior=prior)
        pulls.append((result.x - [2.5, 1.3, 0.5])/result.stderr)
    assert np.allclose(np.std(pulls, axis=0), 1, atol=0.17)


def test_priors_make_up_for_data():
    result = lsq.fit(decay, [0.0, 1.0], [3.0, 1.2], START, sigma=0.1, absolute_sigma=True, prior={"level": (0.5, 0.1)})
    assert result.success and result["level"] == pytest.approx(0.5, abs=1e-3)
