"""lmfit on this package: lmfit's models, parameters and reports, with our Levenberg-Marquardt.

    pip install lmfit
    python examples/lmfit_on_leastsq.py

lmfit's default method calls SciPy's leastsq through one name in its module; `ours` below replaces that name by this
package's function, and restores it afterwards.  Two peaks on a sloping background are fitted both ways: the results
are the same (with SciPy 1.18 to the last bit), with two fewer calls of the model.
"""
import contextlib
from unittest import mock

import lmfit
import numpy as np
import scipy

import leastsq


@contextlib.contextmanager
def ours():
    """A context in which lmfit fits with this package."""
    with mock.patch("lmfit.minimizer.scipy_leastsq", leastsq.leastsq):
        yield


def spectrum():
    """Energy and counts: two peaks that overlap, on a line, with Poisson noise."""
    energy = np.linspace(0, 10, 400)
    expected = (lmfit.lineshapes.gaussian(energy, 900, 4.0, 0.5) + lmfit.lineshapes.lorentzian(energy, 700, 5.6, 0.4)
                + 40 - 2*energy)
    return energy, np.random.default_rng(7).poisson(expected).astype(float)


def two_peaks():
    """The model, and a start with limits: widths and heights positive, the second peak right of the first."""
    model = lmfit.models.GaussianModel(prefix="a_") + lmfit.models.LorentzianModel(prefix="b_") + lmfit.models.LinearModel()
    start = model.make_params(a_amplitude=500, a_center=3.7, a_sigma=0.8, b_amplitude=500, b_sigma=0.8,
                              intercept=30, slope=0)
    start["a_amplitude"].min = start["b_amplitude"].min = 0
    start.add("apart", value=2, min=0.5, max=4)
    start["b_center"].set(expr="a_center + apart")
    return model, start


def fit():
    """lmfit's result."""
    energy, counts = spectrum()
    model, start = two_peaks()
    return model.fit(counts, start, x=energy, weights=1/np.sqrt(np.maximum(counts, 1)))


def main():
    theirs = fit()
    with ours():
        result = fit()
    print(result.fit_report(min_correl=0.5))
    difference = max(abs(result.params[name].value - theirs.params[name].value) / theirs.params[name].stderr
                     for name in result.var_names)
    print(f"\nlargest difference from SciPy {scipy.__version__}: {difference:.1e} standard errors; "
          f"{result.nfev} calls of the model, {theirs.nfev} with SciPy")


if __name__ == "__main__":
    main()
