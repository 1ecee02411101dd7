"""Uncertainties of the results of a batch, and single fits taken out of a batch."""
import copy
import pickle

import numpy as np
import pytest

from leastsq import CFunction, Status, confidence_intervals, covariance, curve_fit, leastsq_batch, report

T = np.linspace(0.1, 3, 30)


def decay(t, a, b):
    return a*np.exp(-b*t)


def many(x, t):
    return x[:, :1]*np.exp(-x[:, 1:]*t)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(2)
    truth = rng.uniform(1, 2, (6, 2))
    return many(truth, T) + 0.02*rng.standard_normal((6, 30))


def fitted(y, **options):
    return leastsq_batch(lambda x, y: many(x, T) - y, np.ones((len(y), 2)), y, **options)


def test_standard_errors_are_those_of_curve_fit(data):
    result = fitted(data)
    for i, y in enumerate(data):
        popt, pcov, info, _, _ = curve_fit(decay, T, y, full_output=True)
        np.testing.assert_allclose(result.stderr[i], np.sqrt(np.diag(pcov)), rtol=1e-6)
        assert result.reduced_chi2[i] == pytest.approx(info["fvec"] @ info["fvec"]/28)
    assert fitted(data, return_cov=False).stderr is None


def test_data_without_weight_do_not_count(data):
    keep = np.random.default_rng(3).random(data.shape) > 0.3
    keep[4], keep[5, 2:] = False, False
    result = fitted(np.where(keep, data, np.nan), weights=keep)
    assert result.ier[4] == Status.NO_DATA and result.ier[5] != Status.NO_DATA
    assert np.isnan(result.stderr[4]).all() and np.isinf(result.stderr[5]).all() and np.isnan(result.reduced_chi2[5])
    for i in range(4):
        _, pcov = curve_fit(decay, T[keep[i]], data[i, keep[i]])
        np.testing.assert_allclose(result.stderr[i], np.sqrt(np.diag(pcov)), rtol=1e-5)
        found = report(result.fit(i))
        assert (found.m, found.dof) == (keep[i].sum(), keep[i].sum() - 2)
        np.testing.assert_allclose(found.stderr, result.stderr[i], rtol=1e-4)


@pytest.mark.parametrize("threads", [1, 2])
def test_only_problems_without_data_end_where_functions_are_compiled(compiled_decay, data, threads):
    weights = np.ones(data.shape)
    weights[[0, 3]] = 0
    result = leastsq_batch(compiled_decay, np.ones((6, 2)), data.copy(), weights=weights, threads=threads, return_fvec=True,
                           bounds=(0, np.tile([9.0, 9.0], (6, 1))), diag=np.ones((6, 2)))
    want = leastsq_batch(compiled_decay, np.ones((6, 2)), data.copy(), return_fvec=True, bounds=(0, 9), diag=[1.0, 1.0])
    assert result.ier[[0, 3]].tolist() == [12, 12] and "fewer data" in result.message(0)
    good = [1, 2, 4, 5]
    for name in ("x", "ier", "nfev", "cov_x", "fvec", "fnorm"):
        np.testing.assert_array_equal(getattr(result, name)[good], getattr(want, name)[good])
    nothing = leastsq_batch(compiled_decay, np.ones((6, 2)), data.copy(), weights=np.zeros(data.shape))
    assert (nothing.ier == 12).all() and np.isnan(nothing.x).all()


@pytest.fixture(scope="module")
def compiled_decay(data):
    numba = pytest.importorskip("numba")
    del numba

    def residual(x, out, data):
        for i in range(out.size):
            out[i] = x[0]*np.exp(-x[1]*(0.1 + i*0.1)) - data[i]
    return CFunction.from_numba(residual, 30, data[0].copy())


@pytest.mark.parametrize("options", [{}, {"bounds": (0, [1.2, 9])}, {"loss": "soft_l1", "f_scale": 0.02},
                                     {"Dfun": lambda x, y: np.stack([np.exp(-x[:, 1:]*T), -x[:, :1]*T*np.exp(-x[:, 1:]*T)], 2)}],
                         ids=["plain", "bounds", "loss", "Dfun"])
def test_one_fit_is_a_full_output_for_every_tool(data, options):
    result = fitted(data, **options)
    for i in (0, -1):
        fit = result.fit(i)
        x, cov_x, info, message, ier = fit
        np.testing.assert_array_equal(x, result.x[i])
        np.testing.assert_array_equal(cov_x, result.cov_x[i])
        assert (message, ier, info["nfev"]) == (result.message(i if i >= 0 else 6 + i), result.ier[i], result.nfev[i])
        np.testing.assert_allclose(info["fvec"], decay(T, *x) - data[i], atol=1e-15)
        R = np.triu(info["fjac"].T[:2])
        J = np.empty((2, 2))
        J[:, info["ipvt"] - 1] = R
        assert ("active_mask" in info) == ("bounds" in options) and ("njev" in info) == ("Dfun" in options)
        if not options:
            np.testing.assert_allclose(np.linalg.inv(J.T @ J), cov_x, rtol=1e-3)
        assert report(fit).m == 30 and covariance(fit).rank in (1, 2)
        assert np.isfinite(confidence_intervals(fit).upper).any()


def test_a_batch_itself_is_not_a_fit_and_a_copy_knows_no_functions(data):
    result = fitted(data)
    with pytest.raises(TypeError, match=r"result\.fit\(i\)"):
        report(result)
    with pytest.raises(IndexError):
        result.fit(6)
    for other in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result)):
        np.testing.assert_array_equal(other.stderr, result.stderr)
        with pytest.raises(ValueError, match="does not know what was fitted"):
            other.fit(0)


def test_failed_fits_can_be_taken_out_too(data):
    spoiled = data.copy()
    spoiled[1] = np.nan
    x, cov_x, info, message, ier = fitted(spoiled).fit(1)
    assert ier == Status.NOT_FINITE and cov_x is None and np.isnan(info["fvec"]).all() and info["fjac"].shape == (2, 30)
    assert "(ier 9)" in str(report((x, cov_x, info, message, ier)))
