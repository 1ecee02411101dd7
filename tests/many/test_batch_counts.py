"""Batches of counts: loss="poisson" and counts= of leastsq_batch, in lock-step and compiled."""
import numpy as np
import pytest

import leastsq as lsq

T = np.linspace(0.1, 6, 30)
RANDOM = np.random.default_rng(8)
TRUTH = np.column_stack([RANDOM.uniform(3, 60, 40), RANDOM.uniform(0.5, 1.5, 40), RANDOM.uniform(0.3, 3, 40)])
START = TRUTH*1.2


def mean(x):
    return x[:, :1]*np.exp(-x[:, 1:2]*T) + x[:, 2:]


def slopes(x):
    e = np.exp(-x[:, 1:2]*T)
    return np.stack([e, -x[:, :1]*T*e, np.ones_like(e)], axis=2)


COUNTS = RANDOM.poisson(mean(TRUTH)).astype(float)


def batch(counts=COUNTS, x0=START, **options):
    return lsq.leastsq_batch(mean, x0, counts=counts, loss="poisson", **options)


def alone(i, keep=slice(None)):
    def decay(t, height, rate, level):
        return height*np.exp(-rate*t) + level
    return lsq.fit(decay, T[keep], COUNTS[i][keep], START[i], loss="poisson")


@pytest.mark.parametrize("options", [{}, {"Dfun": slopes}, {"slab": 3}, {"bounds": (-1e6, 1e6)}],
                         ids=["plain", "Dfun", "slab", "bounds"])
def test_each_problem_is_fitted_as_alone(options):
    result = batch(ftol=1e-11, return_fvec=True, **options)
    assert result.success.all()
    for i in range(0, 40, 7):
        fit = alone(i)
        assert np.abs((result.x[i] - fit.x)/fit.stderr).max() < 1e-3
        assert result.stderr[i] == pytest.approx(fit.stderr, rel=1e-2)
        assert result.fnorm[i]**2 == pytest.approx(fit.chi2, rel=1e-6)
        assert np.sum(result.fvec[i]**2) == pytest.approx(result.fnorm[i]**2, rel=1e-12)


def test_masked_counts_are_ignored():
    mask = np.zeros(COUNTS.shape, bool)
    mask[:, 3] = mask[5, :6] = True
    spoiled = np.where(mask, -7, COUNTS)
    result = batch(np.ma.array(spoiled, mask=mask), ftol=1e-11)
    for i in (0, 5):
        fit = alone(i, keep=~mask[i])
        assert np.abs((result.x[i] - fit.x)/fit.stderr).max() < 1e-3
        assert result.fnorm[i]**2 == pytest.approx(fit.chi2, rel=1e-6)
        said = lsq.report(result.fit(i))
        assert (said.m, said.counts.deviance) == (fit.report().m, pytest.approx(fit.chi2, rel=1e-6))
        assert said.counts.expectation == pytest.approx(fit.report().counts.expectation, rel=1e-3)


def test_tools_treat_one_fit_of_the_batch_as_counts():
    result, fit = batch(ftol=1e-11), alone(2)
    said = lsq.report(result.fit(2))
    assert said.stderr == pytest.approx(fit.stderr, rel=1e-2)
    assert said.p_value == pytest.approx(fit.report().p_value, rel=1e-2)
    found = lsq.confidence_intervals(result.fit(2), method="profile")
    wanted = fit.intervals(method="profile")
    assert found.lower == pytest.approx(wanted.lower, rel=1e-3)
    assert found.upper == pytest.approx(wanted.upper, rel=1e-3)


def test_a_start_without_a_valid_expectation_fails_only_its_problem():
    start = START.copy()
    start[4, 2] = -100
    result = batch(x0=start)
    assert result.ier[4] == lsq.Status.NOT_FINITE
    assert "expectation of counts" in result.message(4)
    assert result.success.sum() == 39


def test_compiled_functions_give_the_same_fits():
    numba = pytest.importorskip("numba")
    from numba import carray, cfunc, types
    signature = types.intc(types.int64, types.int64, types.CPointer(types.double), types.CPointer(types.double), types.voidptr)

    @cfunc(signature)
    def compiled(m, n, x, f, data):
        p, out = carray(x, n), carray(f, m)
        for i in range(m):
            out[i] = p[0]*np.exp(-p[1]*(0.1 + i*5.9/(m - 1))) + p[2]
        return 0
    func = lsq.CFunction(compiled, T.size)
    for counts in (COUNTS, np.ma.array(COUNTS, mask=np.arange(30) % 7 == np.arange(40)[:, None] % 9)):
        plain = batch(counts, return_fvec=True, ftol=1e-13)
        for threads in (1, 3):
            found = lsq.leastsq_batch(func, START, counts=counts, loss="poisson", threads=threads, return_fvec=True, ftol=1e-13)
            assert np.abs((found.x - plain.x)/plain.stderr).max() < 1e-4
            assert found.stderr == pytest.approx(plain.stderr, rel=1e-5)
            assert found.fvec == pytest.approx(plain.fvec, rel=1e-4, abs=1e-4)
    assert numba is not None


@pytest.mark.parametrize(("options", "words"), [
    ({"counts": None}, r"needs counts, shape \(B, m\)"),
    ({"counts": COUNTS - 5}, r"must be counts.*at counts\[\d+, \d+\]"),
    ({"counts": np.where(COUNTS == COUNTS.max(), np.nan, COUNTS)}, r"must be counts.*got nan at counts\[\d+, \d+\]"),
    ({"counts": COUNTS[:3]}, r"a row for each of the 40 rows of x0, shape \(40, m\), got \(3, 30\)"),
    ({"counts": COUNTS[:, :9]}, r"an entry for each of the 30 expectations.*got \(40, 9\)"),
    ({"weights": np.ones(COUNTS.shape)}, "weights must not be given with loss='poisson'"),
    ({"f_scale": 2.0}, "f_scale must not be given with loss='poisson'"),
], ids=["none", "negative", "nan", "rows", "columns", "weights", "f_scale"])
def test_bad_counts_are_refused_by_name(options, words):
    with pytest.raises(ValueError, match=words):
        batch(**options)


def test_counts_without_the_poisson_loss_are_refused():
    with pytest.raises(ValueError, match="counts must be given with loss='poisson' only, got loss='huber'"):
        lsq.leastsq_batch(mean, START, counts=COUNTS, loss="huber")


def test_results_keep_the_variance_of_counts_in_pickles():
    import pickle
    result = batch()
    assert np.array_equal(pickle.loads(pickle.dumps(result)).stderr, result.stderr)
