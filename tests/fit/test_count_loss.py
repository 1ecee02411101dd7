"""Poisson's loss in the core: the deviance, the rows for scoring, and means that are impossible."""
import numpy as np
import pytest

from leastsq._core import weigh
from leastsq._problem.counts import deviance_moments

mpmath = pytest.importorskip("mpmath", reason="mpmath, which this compares with, is not installed")

PAIRS = [(y, y*factor) for y in (0.3, 1.0, 2.0, 17.0, 1e4, 1e9)
         for factor in (1e-200, 1e-30, 1e-3, 0.5, 0.8, 0.82, 0.9, 1 - 1e-5, 1 - 1e-12, 1.0, 1 + 1e-9, 1.001, 1.2, 1.23, 3.0, 1e6)]


def exact(y, mu):
    with mpmath.workdps(60):
        y, mu = mpmath.mpf(y), mpmath.mpf(mu)
        deviance = 2*((y*mpmath.log(y/mu) if y else 0) - y + mu)
        return float(mpmath.sign(mu - y)*mpmath.sqrt(deviance))


def weighed(y, mu, model):
    return weigh(np.array(y, float, ndmin=1), 1.0, np.array(mu, float, ndmin=1), model)


def test_deviance_residuals_have_all_digits_near_the_mean_and_far_from_it():
    y, mu = np.array(PAIRS).T
    assert weighed(y, mu, False)[0] == pytest.approx([exact(*pair) for pair in PAIRS], rel=2e-14, abs=0)


def test_where_nothing_was_counted_the_deviance_is_twice_the_mean():
    mu = np.array([0.0, 5e-324, 1e-12, 0.3, 1e5])
    assert weighed(np.zeros(5), mu, False)[0] == pytest.approx(np.sqrt(2*mu), rel=1e-15, abs=0)


@pytest.mark.parametrize(("y", "mu"), [(3, 0), (3, -1e-300), (0, -1e-3), (1, np.nan), (1, np.inf)])
def test_a_mean_that_no_count_has_is_not_finite(y, mu):
    for model in (False, True):
        assert not np.isfinite(weighed(y, mu, model)[0, 0])


def test_the_model_has_fishers_weights_and_the_deviances_gradient():
    y, mu = np.array([0, 0, 1, 5, 5, 900.0]), np.array([0.2, 3, 0.01, 5, 8, 700])
    f, factors = weighed(y, mu, True)
    assert factors == pytest.approx(1/np.sqrt(mu), rel=1e-15)
    assert f == pytest.approx((mu - y)/np.sqrt(mu), rel=1e-14)
    assert f*factors == pytest.approx(1 - y/mu, rel=1e-14, abs=1e-16)      # half the deviance's derivative


def test_an_expectation_of_zero_has_a_finite_weight_and_the_right_gradient():
    f, factors = weighed(0, 0, True)[:, 0]
    assert np.isfinite(factors)
    assert f*factors == pytest.approx(1, rel=1e-15)


def test_rows_below_the_counts_are_squared():
    assert weigh(np.array([2.0]), 1.0, np.array([2.0, -3.0]), False)[0].tolist() == [0, -3]
    assert weigh(np.array([2.0]), 1.0, np.array([2.0, -3.0]), True)[:, 1].tolist() == [-3, 1]


@pytest.mark.parametrize("mu", [1e-8, 0.01, 0.3, 1.0, 4.0, 30.0, 63.9, 64.1, 200.0])
def test_moments_of_the_deviance_are_those_of_the_distribution(mu):
    with mpmath.workdps(30):
        total = [mpmath.mpf(0)]*2
        for k in range(int(mu + 16*mu**0.5 + 40)):
            chance = mpmath.exp(k*mpmath.log(mu) - mu - mpmath.loggamma(k + 1))
            part = 2*((k*mpmath.log(k/mpmath.mpf(mu)) if k else 0) - k + mpmath.mpf(mu))
            total = [total[0] + chance*part, total[1] + chance*part**2]
        wanted = float(total[0]), float(total[1] - total[0]**2)
    found = [float(part[0]) for part in deviance_moments(np.array([mu]))]
    assert found == pytest.approx(wanted, rel=1e-6)


def test_moments_go_from_zero_to_those_of_chi_squared():
    expectation, variance = deviance_moments(np.array([0.0, 1e12]))
    assert (expectation[0], variance[0]) == (0, 0)
    assert (expectation[1], variance[1]) == pytest.approx((1, 2), rel=1e-11)


def test_moments_of_many_means_are_those_of_each():
    mean = np.random.default_rng(1).uniform(0, 100, 700)
    together = np.array(deviance_moments(mean))
    alone = np.array([deviance_moments(mean[k:k + 1]) for k in range(0, 700, 50)])[:, :, 0].T
    assert together[:, ::50] == pytest.approx(alone, rel=1e-13)
