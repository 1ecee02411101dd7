"""Robust losses: SciPy's trf minimum with the same loss, on contaminated data."""
import numpy as np
import pytest

import strd
from leastsq import leastsq
from leastsq._problem.losses import Loss

LOSSES = ["soft_l1", "huber", "cauchy", "arctan"]
QR = ["minpack", "blocked"]


@pytest.fixture(scope="module")
def scipys():
    return pytest.importorskip("scipy.optimize",
                               reason="SciPy, which this compares with, is not installed").least_squares


def cost(loss, f_scale, residuals):
    return .5 * Loss(loss, f_scale).values(np.asarray(residuals))[0].sum()


def soft_l1(z):
    return np.array([2 * (np.sqrt(1 + z) - 1), (1 + z) ** -.5, -.5 * (1 + z) ** -1.5])


def contaminated(m):
    rng = np.random.default_rng(m)
    t = np.linspace(0, 4, m)
    y = 2.5 * np.exp(-1.3 * t) + .5 + .02 * rng.standard_normal(m)
    y[rng.choice(m, m // 10, replace=False)] += rng.choice([-3, 3, 5], m // 10)

    def residual(p):
        return p[0] * np.exp(-p[1] * t) + p[2] - y

    def jacobian(p):
        e = np.exp(-p[1] * t)
        return np.stack([e, -p[0] * t * e, np.ones(m)], axis=1)
    return residual, jacobian


@pytest.mark.parametrize("qr", QR)
@pytest.mark.parametrize("loss", [*LOSSES, soft_l1])
@pytest.mark.parametrize("m", [40, 3000])
def test_contaminated_data(scipys, loss, qr, m):
    residual, jacobian = contaminated(m)
    want = scipys(residual, [2, 1, .4], jacobian, loss=loss, f_scale=.05, ftol=1e-13, xtol=1e-13,
                  gtol=1e-13)
    for Dfun in (None, jacobian, "3-point"):
        x, ier = leastsq(residual, [2, 1, .4], Dfun=Dfun, loss=loss, f_scale=.05, qr=qr,
                         ftol=1e-10, xtol=1e-10)
        assert ier in (1, 2, 3, 4)
        assert cost(loss, .05, residual(x)) <= want.cost * (1 + 1e-6)
        np.testing.assert_allclose(x, want.x, rtol=2e-4)
        if loss != "arctan":
            np.testing.assert_allclose(x, [2.5, 1.3, .5], rtol=.03 if m > 1000 else .1)


def spoiled(name):
    """A data set of NIST with a tenth of its data made outliers: data, residuals, f_scale."""
    data = strd.load(name)
    rng = np.random.default_rng([len(name), data.m])
    spread = np.sqrt(data.rss / (data.m - data.n))
    spoil = np.zeros(data.m)
    which = rng.choice(data.m, max(1, data.m // 10), replace=False)
    spoil[which] = rng.choice([-1, 1], which.size) * rng.uniform(20, 50, which.size) * spread

    def residual(b):
        return data.residual(b) + spoil
    return data, residual, 2 * spread


@pytest.mark.parametrize("name", strd.NAMES)
@pytest.mark.parametrize("loss", LOSSES)
def test_nist_with_outliers(scipys, name, loss):
    """Losses with several minima start from the certified parameters, from which both solvers reach the
    same minimum."""
    data, residual, scale = spoiled(name)
    want = scipys(residual, data.certified, data.jacobian, loss=loss, f_scale=scale, x_scale="jac",
                  ftol=1e-13, xtol=1e-13, gtol=1e-15, max_nfev=2000)
    for qr in QR:
        x, _, info, _, ier = leastsq(residual, data.certified, Dfun=data.jacobian, loss=loss,
                                     f_scale=scale, qr=qr, full_output=True, maxfev=5000,
                                     ftol=1e-12, xtol=1e-12)
        assert ier in (1, 2, 3, 4)
        got = cost(loss, scale, info["fvec"])
        assert got <= want.cost * (1 + 1e-6), (got / want.cost, ier)


def test_nist_with_outliers_from_nists_starts():
    """All 56 fits with soft_l1 and huber, and 100 of 112 with all losses (trf: 52 and 96); a few less where
    another libm rounds differently.  arctan has a minimum for each set of points that it ignores."""
    reached = dict.fromkeys(LOSSES, 0)
    for name in strd.NAMES:
        data, residual, scale = spoiled(name)
        for loss in LOSSES:
            costs = []
            for start in (data.certified, *data.starts):
                with np.errstate(all="ignore"):
                    info = leastsq(residual, start, Dfun=data.jacobian, loss=loss, f_scale=scale, maxfev=1000,
                                   qr="minpack", full_output=True, ftol=1e-12, xtol=1e-12)[2]
                    costs.append(cost(loss, scale, info["fvec"]))
            reached[loss] += sum(other <= costs[0] * (1 + 1e-6) for other in costs[1:])
    assert reached["soft_l1"] + reached["huber"] >= 54 and reached["cauchy"] >= 25
    assert sum(reached.values()) >= 94, reached


def test_residuals_in_infodict_are_those_of_func():
    residual, _ = contaminated(40)
    x, _, info, _, _ = leastsq(residual, [2, 1, .4], loss="huber", f_scale=.05, full_output=True)
    np.testing.assert_array_equal(info["fvec"], residual(x))


def test_loss_of_small_residuals_is_linear():
    residual, _ = contaminated(40)
    plain = leastsq(residual, [2, 1, .4])[0]
    for loss in LOSSES:
        np.testing.assert_allclose(leastsq(residual, [2, 1, .4], loss=loss, f_scale=1e7)[0], plain,
                                   rtol=1e-6)


def test_linear_by_name_changes_no_bit():
    residual, _ = contaminated(40)
    plain, named = (leastsq(residual, [2, 1, .4], full_output=True, **options)
                    for options in ({}, {"loss": "".join(["lin", "ear"]), "f_scale": 3.0}))
    np.testing.assert_array_equal(plain[0], named[0])
    np.testing.assert_array_equal(plain[2]["fjac"], named[2]["fjac"])


@pytest.mark.parametrize("loss", LOSSES)
def test_values_and_derivatives(loss):
    f = np.array([-3.0, -.9, 0, 1e-9, .5, 1.5, 40])
    h = 1e-6
    rho, slope, curvature = Loss(loss, 2.0).values(f)
    known = {"soft_l1": lambda z: 2 * (np.sqrt(1 + z) - 1), "cauchy": np.log1p, "arctan": np.arctan,
             "huber": lambda z: np.where(z <= 1, z, 2 * np.sqrt(z) - 1)}[loss]
    z = (f / 2) ** 2
    np.testing.assert_allclose(rho, 4 * known(z), rtol=1e-7, atol=1e-15)
    np.testing.assert_allclose(slope, (known(z + h) - known(np.maximum(z - h, 0))) /
                               np.where(z > h, 2 * h, z + h), rtol=1e-4)
    high, low = Loss(loss, 2.0).values(2 * np.sqrt(z + h))[1], slope
    np.testing.assert_allclose(curvature * 4, (high - low) / h, rtol=1e-3, atol=1e-6)
