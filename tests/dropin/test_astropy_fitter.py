"""The fitter for models of astropy: its answers are TRFLSQFitter's, within bounds, and what it leaves behind is of use."""
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest

import leastsq as lsq

pytest.importorskip("astropy.modeling")
from astropy import units                               # noqa: E402
from astropy.modeling import custom_model, fitting, models          # noqa: E402
from astropy.utils.exceptions import AstropyUserWarning             # noqa: E402

from leastsq.astropy import LeastsqFitter               # noqa: E402

X = np.linspace(-5, 5, 80)
GRID = np.meshgrid(np.linspace(-2, 2, 15), np.linspace(-2, 2, 14))
SIGMA = np.linspace(0.05, 0.15, X.size)


def noise(shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


@custom_model
def arctan(x, height=1.0, slope=1.0):
    return height*np.arctan(slope*x)


def gaussian(**facts):
    return models.Gaussian1D(6, 0, 1, **facts)


def two_lines(**facts):
    """Two lines of one width, which is tied."""
    model = models.Gaussian1D(3, -2, 0.7, **facts) + models.Gaussian1D(2, 2, 1)
    model.stddev_1.tied = lambda m: m.stddev_0
    return model


def data_of(model, scale=0.1):
    inputs = (X.copy(),) if model.n_inputs == 1 else tuple(GRID)
    clean = model(*inputs)
    return *inputs, clean + scale*noise(clean.shape)


# name: (the model that makes the data, the start)
CASES = {
    "derivatives": (models.Gaussian1D(7, 0.3, 1.1), gaussian()),
    "bounds far away": (models.Gaussian1D(7, 0.3, 1.1), gaussian(bounds={"amplitude": (0, 20), "stddev": (0.1, None)})),
    "fixed": (models.Gaussian1D(7, 0.3, 1.1), gaussian(fixed={"mean": True})),
    "compound": (models.Gaussian1D(7, 0.3, 1.1) + models.Const1D(2), gaussian() + models.Const1D(1)),
    "tied": (models.Gaussian1D(4, -1.8, 0.6) + models.Gaussian1D(3, 1.9, 0.6), two_lines()),
    "tied, with derivatives": (models.Gaussian1D(2, 0.3, 1.0), gaussian(tied={"amplitude": lambda m: 2*m.stddev})),
    "two coordinates": (models.Gaussian2D(3, 0.2, -0.1, 0.8, 0.6, theta=0.4), models.Gaussian2D(2, 0, 0, 0.9, 0.5, theta=0.3)),
    "custom": (arctan(2, 1.5), arctan()),
    "polynomial on a domain": (models.Polynomial1D(2, c0=1, c1=-2, c2=0.5, domain=(-5, 5)),
                               models.Polynomial1D(2, domain=(-5, 5)) + models.Const1D(0, fixed={"amplitude": True})),
    "Jacobian by rows": (models.Polynomial1D(2, c0=1, c1=-2, c2=0.5), models.Polynomial1D(2)),
    "planes by rows": (models.Polynomial2D(1, c0_0=1, c1_0=-2, c0_1=0.5), models.Polynomial2D(1)),
}


def fitted(fitter, *args, **options):
    """A fit whose start may be linear in its parameters, of which astropy warns."""
    import warnings
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Model is linear", AstropyUserWarning)
        return fitter(*args, **options)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("estimate", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_parameters_and_covariance_are_those_of_TRFLSQFitter(name, estimate, weighted):
    truth, start = CASES[name]
    *inputs, data = data_of(truth)
    options = {"weights": 1/(0.1 + 0.05*np.cos(np.arange(data.size))).reshape(data.shape) if weighted else None}
    ours, theirs = LeastsqFitter(), fitting.TRFLSQFitter()
    mine = fitted(ours, start, *inputs, data, estimate_jacobian=estimate, **options)
    # with differences: their derivatives ignore ties
    other = fitted(theirs, start, *inputs, data, estimate_jacobian=True, acc=1e-12, **options)
    errors = np.sqrt(np.diag(theirs.fit_info["param_cov"]))
    if not weighted and len(inputs) == 2:               # they count the rows of an image, not its points
        errors *= np.sqrt((len(inputs[-1]) - errors.size)/(data.size - errors.size))
    apart = np.abs(mine.parameters - other.parameters)
    assert apart.max() < 1e-3*errors.max()
    np.testing.assert_allclose(np.sqrt(np.diag(ours.fit_info["param_cov"])), errors, rtol=1e-3)
    assert ours.fit_info.cost <= theirs.fit_info.cost*(1 + 1e-9)
    assert start.parameters.tolist() != mine.parameters.tolist()


def test_a_tie_holds_at_the_answer_and_the_start_is_left_alone():
    start = two_lines()
    before = start.parameters.copy()
    mine = LeastsqFitter()(start, *data_of(CASES["tied"][0]))
    assert mine.stddev_1.value == mine.stddev_0.value != before[2]
    assert start.parameters.tolist() == before.tolist()


def test_a_bound_holds_a_parameter_exactly():
    for fitter in (LeastsqFitter(calc_uncertainties=True), LeastsqFitter()):
        mine = fitter(models.Gaussian1D(4, 0, 1, bounds={"amplitude": (0, 5)}), X, 7*np.exp(-0.5*X**2) + 0.1*noise(X.shape))
        assert mine.amplitude.value == 5
        assert fitter.fit_info.active_mask.tolist() == [1, 0, 0]
        variances = np.diag(fitter.fit_info["param_cov"])
        assert variances[0] == 0 and (variances[1:] > 0).all()


def test_the_model_is_never_evaluated_outside_its_bounds():
    seen = []

    @custom_model
    def root(x, a=1.0):
        seen.append(float(np.ravel(a)[0]))
        return np.sqrt(a)*x

    start = root(0.5, bounds={"a": (0, 4)})
    seen.clear()
    mine = LeastsqFitter()(start, X, 0.01*X)
    assert mine.a.value == pytest.approx(1e-4, rel=1e-3)
    assert len(seen) > 3 and min(seen) >= 0 and max(seen) <= 4


def test_uncertainties_from_afresh_are_those_of_the_last_jacobian_and_reach_the_model():
    x, y = data_of(CASES["compound"][0])
    fitter = LeastsqFitter(calc_uncertainties=True)
    mine = fitter(CASES["compound"][1], x, y)
    quick = LeastsqFitter()
    assert not hasattr(quick(CASES["compound"][1], x, y), "stds") or quick(CASES["compound"][1], x, y).stds is None
    np.testing.assert_allclose(fitter.fit_info["param_cov"], quick.fit_info["param_cov"], rtol=1e-4, atol=1e-9)
    assert mine.stds["mean_0"] == pytest.approx(np.sqrt(fitter.fit_info["param_cov"][1, 1]))
    assert fitter.fit_info["param_names"] == ["amplitude_0", "mean_0", "stddev_0", "amplitude_1"]
    assert fitter.fit_info["covariance"].stderr[1] == mine.stds["mean_0"]


def test_weights_are_absolute_and_unit_weights_are_not():
    x, y = data_of(CASES["derivatives"][0])
    of = {}
    for weight in (None, 10.0, 20.0):
        fitter = LeastsqFitter()
        fitter(gaussian(), x, y, weights=None if weight is None else np.full(x.size, weight))
        of[weight] = np.sqrt(np.diag(fitter.fit_info["param_cov"]))
    np.testing.assert_allclose(of[10.0], 2*of[20.0], rtol=1e-6)
    residuals = 0.1*noise(x.shape)
    assert np.all(np.abs(of[None]/of[10.0] - residuals.std()/0.1) < 0.05)


def test_points_of_weight_zero_do_not_count():
    x, y = data_of(CASES["derivatives"][0])
    weights = np.where(np.arange(x.size) % 5, 10.0, 0.0)
    kept = weights > 0
    one, other = LeastsqFitter(), LeastsqFitter()
    np.testing.assert_allclose(one(gaussian(), x, np.where(kept, y, 100.0), weights=weights).parameters,
                               other(gaussian(), x[kept], y[kept], weights=weights[kept]).parameters, rtol=1e-6)
    np.testing.assert_allclose(one.fit_info["param_cov"], other.fit_info["param_cov"], rtol=1e-4, atol=1e-12)


def test_points_that_are_not_finite_are_named_or_left_out():
    x, y = data_of(CASES["derivatives"][0])
    y[3], x[7] = np.nan, np.inf
    with pytest.raises(fitting.NonFiniteValueError, match=r"1 of 80 residuals are not finite at the start \{'amplitude': 6.0"):
        LeastsqFitter()(gaussian(), x, y)
    with pytest.warns(AstropyUserWarning, match="Non-Finite input data"):
        mine = LeastsqFitter()(gaussian(), x, y, filter_non_finite=True)
    kept = np.isfinite(x) & np.isfinite(y)
    assert mine.parameters.tolist() == LeastsqFitter()(gaussian(), x[kept], y[kept]).parameters.tolist()
    with pytest.raises(ValueError, match="All input data"):
        LeastsqFitter()(gaussian(), x, np.full(x.size, np.nan), filter_non_finite=True)


def test_units():
    x, y = data_of(CASES["derivatives"][0])
    start = models.Gaussian1D(6*units.Jy, 0*units.cm, 10*units.mm, bounds={"amplitude": (0, 20)})
    mine = LeastsqFitter()(start, x*units.cm, y*units.Jy)
    plain = LeastsqFitter()(gaussian(), x, y)
    assert mine.mean.unit == units.cm and mine.amplitude.unit == units.Jy
    np.testing.assert_allclose(mine.parameters, plain.parameters, rtol=1e-5)


def test_outliers_by_astropys_way_and_by_a_loss():
    from astropy.stats import sigma_clip
    x, y = data_of(CASES["derivatives"][0])
    clean = LeastsqFitter()(gaussian(), x, y).parameters
    y[::9] += 5
    removal = fitting.FittingWithOutlierRemoval(LeastsqFitter(), sigma_clip, niter=5, sigma=3.0)
    by_removal, mask = removal(gaussian(), x, y)
    assert mask[::9].all()
    by_loss = LeastsqFitter(loss="soft_l1", f_scale=0.1, strategy="fast")(gaussian(), x, y)
    naive = LeastsqFitter()(gaussian(), x, y)
    for better in (by_removal, by_loss):
        assert np.abs(better.parameters - clean).max() < 0.2*np.abs(naive.parameters - clean).max()


def test_many_spectra_with_dask():
    pytest.importorskip("dask.array")
    if not hasattr(fitting, "parallel_fit_dask"):
        pytest.skip("parallel_fit_dask came with astropy 7")
    cube = np.stack([models.Gaussian1D(a, 0.2, 1.1)(X) for a in (5, 6, 7)], axis=1)
    found = fitting.parallel_fit_dask(model=gaussian(bounds={"amplitude": (0, 6.5)}), fitter=LeastsqFitter(), data=cube,
                                      fitting_axes=0, world=(X*units.one,), scheduler="synchronous")
    np.testing.assert_allclose(found.amplitude.value, [5, 6, 6.5], rtol=1e-6)


def test_tools_for_uncertainties_take_fit_info_and_it_pickles():
    fitter = LeastsqFitter(calc_uncertainties=True)
    fitter(gaussian(), *data_of(CASES["derivatives"][0]))
    assert re.search(r"amplitude +6.984 +± 0.027", str(lsq.report(fitter.fit_info)))
    intervals = lsq.confidence_intervals(fitter.fit_info)
    low, high = intervals.lower[0], intervals.upper[0]
    assert low < 7 < high
    copy = pickle.loads(pickle.dumps(fitter))
    assert type(copy) is LeastsqFitter and copy.fit_info["param_cov"].tolist() == fitter.fit_info["param_cov"].tolist()


def test_tools_do_not_change_the_fitted_model_of_tied_parameters():
    fitter = LeastsqFitter()
    mine = fitter(two_lines(), *data_of(CASES["tied"][0]))
    before = mine.parameters.copy()
    lsq.covariance(fitter.fit_info)
    assert mine.parameters.tolist() == before.tolist()


def test_inplace_sets_the_model_itself():
    start = gaussian()
    assert LeastsqFitter()(start, *data_of(CASES["derivatives"][0]), inplace=True) is start
    assert start.amplitude.value == pytest.approx(7, abs=0.3)


def test_failures_and_what_is_not_determined_are_said():
    x, y = data_of(CASES["derivatives"][0])
    with pytest.warns(AstropyUserWarning, match="may be unsuccessful"):
        LeastsqFitter()(gaussian(), x, y, maxiter=2)
    fitter = LeastsqFitter()
    with pytest.warns(AstropyUserWarning, match="do not determine amplitude_1, amplitude_2, whose variance is infinite"):
        fitter(gaussian() + models.Const1D(1) + models.Const1D(1), x, y)
    assert np.isinf(np.diag(fitter.fit_info["param_cov"])).tolist() == [False, False, False, True, True]
    with pytest.raises(ValueError, match="all parameters of the model are fixed or tied"):
        LeastsqFitter()(gaussian(fixed={"amplitude": True, "mean": True, "stddev": True}), x, y)
    with pytest.raises(ValueError, match="strategy"):
        LeastsqFitter(strategy="quick")(gaussian(), x, y)
    LeastsqFitter()(gaussian(), x[::27], y[::27])           # as many data as parameters
    exact = LeastsqFitter(calc_uncertainties=True)
    exact(gaussian(), x[::27], y[::27])
    assert exact.fit_info["param_cov"] is None


@pytest.mark.parametrize("first", ["from leastsq.astropy import LeastsqFitter", "from astropy.modeling import fitting"])
def test_astropy_loads_it_whatever_is_imported_first(first):
    code = (f"{first}\nfrom astropy.modeling import fitting\nimport leastsq.astropy\n"
            "assert fitting.LeastsqFitter is leastsq.astropy.LeastsqFitter\n")
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_leastsq_does_not_import_astropy():
    subprocess.run([sys.executable, "-c", "import sys, leastsq\nleastsq.fit\nassert 'astropy' not in sys.modules"], check=True)
