"""Pictures show what they should, and only they need matplotlib."""
import subprocess
import sys

import numpy as np
import pytest

import leastsq

T = np.arange(6.0)
Y = np.array([5.1, 3.0, 1.9, 1.2, 0.6, 0.4])


def model(t, height, rate):
    return height*np.exp(-rate*t)


def residual(x):
    return model(T, *x) - Y


@pytest.fixture(scope="module")
def x():
    return leastsq.leastsq(residual, [1.0, 1.0], ftol=1e-13, xtol=1e-13)[0]


@pytest.fixture(scope="module")
def plt():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    return plt


@pytest.fixture(autouse=True)
def closed(plt):
    yield
    plt.close("all")


def drawn(figure, tmp_path):
    """Assert that the figure can be saved without a warning and is not empty."""
    figure.savefig(tmp_path / "figure.png")
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    assert (pixels < 128).any() and (pixels > 250).all(axis=-1).mean() > 0.3
    return figure


def test_fit_shows_data_curve_band_and_residuals(x, tmp_path, plt):
    found = leastsq.curve_fit(model, T, Y, x, ftol=1e-13, xtol=1e-13, full_output=True)
    figure = drawn(leastsq.plot.fit(found, prediction=True, title="decay", xlabel="t"), tmp_path)
    top, below = figure.axes
    labels = [text.get_text() for text in top.get_legend().get_texts()]
    assert labels == ["95 % of new data", "95 % confidence", "data", "fit"]
    assert np.array_equal(top.lines[0].get_ydata(), Y)
    assert below.lines[-1].get_ydata() == pytest.approx(-residual(x))
    assert below.get_xlabel() == "t"


def test_fit_draws_into_given_axes_with_error_bars_and_a_plain_matrix(x, tmp_path, plt):
    figure, ax = plt.subplots()
    cov = leastsq.covariance(residual, x).cov
    assert leastsq.plot.fit((x, cov), x=T, y=Y, model=model, sigma=0.1, ax=ax) is figure
    assert figure.axes == [ax] and ax.containers
    drawn(figure, tmp_path)


def test_residuals_of_a_weighted_fit_are_drawn_in_sigmas(plt):
    sigma = 0.1*np.arange(1.0, 7)
    found = leastsq.curve_fit(model, T, Y, [5.0, 0.5], sigma=sigma, absolute_sigma=True, full_output=True)
    below = leastsq.plot.fit(found).axes[1]
    assert below.get_ylabel() == "residual / σ"
    assert below.lines[-1].get_ydata() == pytest.approx(-found[2]["fvec"])
    left = leastsq.plot.residuals(found).axes[0]
    assert left.lines[-1].get_ydata() == pytest.approx(-found[2]["fvec"])


def test_a_picture_asks_for_what_it_cannot_know():
    found = leastsq.leastsq(residual, [5.0, 0.5], full_output=True)
    with pytest.raises(TypeError, match="x, y, model must be given"):
        leastsq.plot.fit(found)
    assert len(leastsq.plot.fit(found, x=T, y=Y, model=model).axes) == 2
    with pytest.raises(ValueError, match="noise=True cannot know"):
        leastsq.plot.fit(found, x=T, y=Y, model=model, prediction=True)
    assert len(leastsq.plot.fit(found, x=T, y=Y, model=model, prediction=0.1).axes) == 2
    known = leastsq.curve_fit(model, T, Y, full_output=True)
    with pytest.raises(ValueError, match="y must be that of the fit"):
        leastsq.plot.fit(known, y=Y + 1)


def test_pictures_follow_the_current_style(plt):
    found = leastsq.curve_fit(model, T, Y, full_output=True)
    with plt.style.context("dark_background"):
        figure = leastsq.plot.fit(found)
        top = figure.axes[0]
        first = plt.rcParams["axes.prop_cycle"].by_key()["color"][0]
        assert top.get_facecolor()[:3] == (0, 0, 0) and top.lines[0].get_color() == first
        assert max(top.collections[0].get_facecolor()[0][:3]) < 0.6


def test_the_histogram_counts_all_residuals(tmp_path):
    f = np.random.default_rng(0).standard_normal(60)
    figure = drawn(leastsq.plot.residuals(7*f, np.arange(60)), tmp_path)
    left, right = figure.axes
    assert sum(patch.get_width() for patch in right.patches if patch.get_height() == 0.5) == 60
    assert np.std(left.lines[-1].get_ydata()) == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("history", [
    {"fnorm": [9.0, 20.0, 2.0, 1.0], "gnorm": [0.9, 0.9, 0.1, 1e-9], "radius": [np.nan, 5, 5, 5],
     "accepted": [True, False, True, True]},
    {"fnorm": [3.0, 1.0, 0.0]},
])
def test_convergence_shows_what_the_history_has(history, tmp_path):
    figure = drawn(leastsq.plot.convergence(history), tmp_path)
    assert len(figure.axes) == len([key for key in history if key != "accepted"])


def test_convergence_takes_objects_and_refuses_the_rest():
    class Record:
        fnorm = np.array([2.0, 1.0])
    assert len(leastsq.plot.convergence(Record()).axes) == 1
    with pytest.raises(ValueError, match="at least one of fnorm"):
        leastsq.plot.convergence({"f": [1]})


def test_correlation_writes_every_number(x, tmp_path):
    spread = leastsq.covariance(residual, x, names=["height", "rate"])
    figure = drawn(leastsq.plot.correlation(spread, title="decay"), tmp_path)
    labels = [text.get_text() for text in figure.axes[0].texts]
    assert labels == ["1", f"{spread.correlation[0, 1]:.2f}", f"{spread.correlation[0, 1]:.2f}", "1"]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()][:2] == ["height", "rate"]


def test_correlation_of_undetermined_parameters_has_dashes(tmp_path):
    spread = leastsq.covariance(lambda x: (x[0] + x[1])*T - Y, [1.0, 1.0])
    figure = drawn(leastsq.plot.correlation(spread), tmp_path)
    assert "–" in [text.get_text() for text in figure.axes[0].texts]


def test_profile_draws_a_panel_for_each_parameter(x, tmp_path):
    found = leastsq.confidence_intervals(residual, x, method="profile", points=5, names=["height", "rate"])
    figure = drawn(leastsq.plot.profile(found, title="decay"), tmp_path)
    assert [ax.get_xlabel() for ax in figure.axes] == ["height", "rate"]
    assert len(leastsq.plot.profile(found, [1]).axes) == 1
    with pytest.raises(TypeError, match="method='profile'"):
        leastsq.plot.profile(leastsq.confidence_intervals(residual, x))


def test_without_matplotlib_only_pictures_fail(tmp_path):
    (tmp_path / "matplotlib.py").write_text("raise ImportError('none here')")
    done = subprocess.run([sys.executable, "-c", "\n".join([
        "import sys", f"sys.path.insert(0, {str(tmp_path)!r})", "import leastsq, numpy as np",
        "assert 'matplotlib' not in sys.modules and 'scipy' not in sys.modules",
        "print(leastsq.covariance(lambda x: np.arange(3.0) - x[0], [1.0]).rank)",
        "try: leastsq.plot.correlation([[1.0]])",
        "except ImportError as error: print(error)"])], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["1", "leastsq.plot needs matplotlib: pip install matplotlib"]
