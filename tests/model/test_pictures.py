"""Pictures of `FitResult`: each kind of data gets a suitable one."""
import numpy as np
import pytest

pytest.importorskip("matplotlib").use("Agg")
import matplotlib.pyplot as plt     # noqa: E402

import leastsq as lsq               # noqa: E402
from test_exports import EVERYTHING, RESULT     # noqa: E402


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.mark.parametrize("of, axes", [("plain", 2), ("missing", 2), ("matrix", 2), ("prior", 2), ("image", 6), ("complex", 4),
                                      ("sets", 4)])
def test_the_picture_suits_the_data(of, axes):
    figure = EVERYTHING[of]().plot(title="a title", xlabel="x", ylabel="y")
    assert len(figure.axes) == axes
    figure.canvas.draw()


@pytest.mark.parametrize("of", EVERYTHING)
def test_residuals_and_correlations_of_everything(of):
    result = EVERYTHING[of]()
    for figure in (result.plot_residuals(), lsq.plot.residuals(result), result.plot_correlation(), lsq.plot.correlation(result)):
        figure.canvas.draw()


def test_profiles_and_regions():
    names = [ax.get_xlabel() for ax in RESULT.plot_profile(points=2).axes]
    assert names[:2] == ["height", "rate_1"]
    figure = RESULT.contour("height", "rate_1", points=8).plot()
    assert figure.axes[0].get_xlabel() == "height"
    _, ax = plt.subplots()
    assert RESULT.contour("height", "rate_1", points=8).plot(ax=ax) is ax.figure


def test_what_plot_fit_cannot_draw_is_an_error():
    with pytest.raises(TypeError, match="use result.plot"):
        lsq.plot.fit(EVERYTHING["sets"]())
    with pytest.raises(TypeError, match="prediction can only be given for one data set"):
        EVERYTHING["complex"]().plot(prediction=True)
    assert len(lsq.plot.fit(EVERYTHING["missing"](), prediction=0.02).axes) == 2


def test_data_over_several_predictors_are_drawn_in_order():
    result = lsq.fit(lambda x, a, b: a*x[0] + b*x[1], np.array([np.arange(9.0), np.ones(9)]), 2*np.arange(9.0) + 1, [1, 1])
    result.plot().canvas.draw()
    lsq.fit(lambda x, a: a, np.arange(4.0), np.array([1, 2, 3, 2]) + 1j, [1]).plot().canvas.draw()
