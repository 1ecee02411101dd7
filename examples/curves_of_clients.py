"""Fit the curves of xarray, astropy, hyperspy and DIPY all at once with `curve_fit_batch`, and compare with their own loops.

    python examples/curves_of_clients.py [--size N]

* xarray: a cube of (time, y, x), a decay in every pixel, some of which are missing: `DataArray.curvefit`.
* astropy: a cube of spectra, a Gaussian line over a background in each: `parallel_fit_dask`.
* hyperspy: the same spectra: `multifit` of a model of two components.
* DIPY: diffusion-weighted signals of voxels along 33 directions, a tensor in each: `nlls_fit_tensor`.

Each package fits one curve after the other.  Here each has a model written for one curve, and one call for all curves.
A package that is not installed is left out.  Parameters differ because the fits stop at different points; the table
compares the differences with the standard errors.

Exit status: 0, or 1 if parameters differ by more than a hundredth of their standard errors.
"""
from __future__ import annotations

import argparse
import importlib.util
import math
import sys
import time
import warnings

import numpy as np

from leastsq import CurveFitBatchResult, curve_fit_batch

# ------------------------------------------------------------------- xarray

TIMES = np.linspace(0, 4, 30)


def decay(t, amplitude, rate, offset):
    return amplitude * np.exp(-rate * t) + offset


def pixels(size: int) -> np.ndarray:
    """A cube (time, y, x) with noise, and a twentieth of its points missing."""
    rng = np.random.default_rng(1)
    shape = (size, size, 1)
    clean = decay(TIMES, rng.uniform(2, 4, shape), rng.uniform(0.5, 2, shape), rng.uniform(0, 1, shape))
    cube = clean + 0.05 * rng.standard_normal(clean.shape)
    cube[rng.random(cube.shape) < 0.05] = np.nan
    return np.moveaxis(cube, -1, 0)


def fit_pixels(cube) -> CurveFitBatchResult:
    """All pixels of a DataArray with the coordinate t, which may be any of its axes."""
    return curve_fit_batch(decay, cube["t"].values, cube.transpose(..., "t").values, [3, 1, 0.5], nan_policy="omit")


def pixels_by_xarray(cube) -> np.ndarray:
    start = {"amplitude": 3, "rate": 1, "offset": 0.5}
    return cube.curvefit("t", decay, p0=start)["curvefit_coefficients"].values


# ------------------------------------------------------------------ astropy

WAVELENGTHS = np.linspace(-5, 5, 60)
FWHM = 2 * math.sqrt(2 * math.log(2))   # of a line whose standard deviation is 1


def line(x, amplitude, mean, stddev, background):
    return amplitude * np.exp(-0.5 * ((x - mean) / stddev)**2) + background


def line_slopes(x, amplitude, mean, stddev, background):
    z = (x - mean) / stddev
    bell = np.exp(-0.5 * z**2)
    slope = amplitude * bell * z / stddev
    return [bell, slope, slope * z, 1.0]


def spectra(size: int) -> np.ndarray:
    """A cube (wavelength, y, x) of counts."""
    rng = np.random.default_rng(2)
    shape = (size, size, 1)
    clean = line(WAVELENGTHS, rng.uniform(5, 9, shape), rng.uniform(-1, 1, shape), rng.uniform(0.7, 1.5, shape),
                 rng.uniform(1, 2, shape))
    return np.moveaxis(clean + 0.1 * rng.standard_normal(clean.shape), -1, 0)


def fit_spectra(cube: np.ndarray) -> CurveFitBatchResult:
    return curve_fit_batch(line, WAVELENGTHS, np.moveaxis(cube, 0, -1), [7, 0, 1, 1.5], jac=line_slopes)


def spectra_by_astropy(cube: np.ndarray) -> np.ndarray:
    from astropy import units
    from astropy.modeling.fitting import LMLSQFitter, parallel_fit_dask
    from astropy.modeling.models import Const1D, Gaussian1D
    model = Gaussian1D(7, 0, 1) + Const1D(1.5)
    fitted = parallel_fit_dask(model=model, fitter=LMLSQFitter(), data=cube, fitting_axes=0,
                               world=(WAVELENGTHS * units.one,), scheduler="synchronous")
    return np.stack([getattr(fitted, name) for name in ("amplitude_0", "mean_0", "stddev_0", "amplitude_1")], axis=-1)


def spectra_by_hyperspy(cube: np.ndarray) -> np.ndarray:
    import hyperspy.api as hs
    signal = hs.signals.Signal1D(np.moveaxis(cube, 0, -1))
    axis = signal.axes_manager[-1]
    axis.offset, axis.scale = WAVELENGTHS[0], WAVELENGTHS[1] - WAVELENGTHS[0]
    bell, level = hs.model.components1D.GaussianHF(height=7, centre=0, fwhm=FWHM), hs.model.components1D.Offset(1.5)
    model = signal.create_model()
    model.extend([bell, level])
    model.multifit(optimizer="lm", show_progressbar=False)
    parts = [bell.height, bell.centre, bell.fwhm, level.offset]
    values = np.stack([part.map["values"] for part in parts], axis=-1) / [1, 1, FWHM, 1]
    return values * np.sign(values[..., 2:3]) ** [0, 0, 1, 0]           # widths of either sign are the same line


# --------------------------------------------------------------------- DIPY

def design(directions: int = 32, b: float = 1.0) -> np.ndarray:
    """DIPY's design matrix (33, 7): Dxx, Dxy, Dyy, Dxz, Dyz, Dzz in um2/ms, and -log S0."""
    turn = np.arange(directions) * math.pi * (3 - math.sqrt(5))
    z = 1 - (2 * np.arange(directions) + 1) / directions
    x, y = np.sqrt(1 - z**2) * np.cos(turn), np.sqrt(1 - z**2) * np.sin(turn)
    rows = -b * np.stack([x * x, 2 * x * y, y * y, 2 * x * z, 2 * y * z, z * z, np.full(directions, 1 / b)], axis=1)
    return np.concatenate([[[0, 0, 0, 0, 0, 0, -1]], rows])


def signal(matrix, *tensor):
    return np.exp(sum(column * part for column, part in zip(matrix.T, tensor)))


def signal_slopes(matrix, *tensor):
    return signal(matrix, *tensor)[..., None] * matrix


def voxels(size: int) -> np.ndarray:
    """Signals (y, x, 33) of tensors about one of 0.7 um2/ms."""
    rng = np.random.default_rng(3)
    axis = rng.standard_normal((size, size, 3))
    axis /= np.linalg.norm(axis, axis=-1, keepdims=True)
    tensor = 0.4 * np.eye(3) + rng.uniform(0, 1, (size, size, 1, 1)) * axis[..., None] * axis[..., None, :]
    parts = [tensor[..., i, j, None] for i, j in ((0, 0), (0, 1), (1, 1), (0, 2), (1, 2), (2, 2))]
    clean = signal(design(), *parts, np.full((size, size, 1), -np.log(100.0)))
    return clean + 1.0 * rng.standard_normal(clean.shape)


def first_guess(matrix: np.ndarray, data: np.ndarray) -> np.ndarray:
    """The linear fit of the logarithms, from which DIPY starts."""
    return np.log(np.maximum(data, 1e-4)) @ np.linalg.pinv(matrix).T


def fit_voxels(matrix: np.ndarray, data: np.ndarray) -> CurveFitBatchResult:
    return curve_fit_batch(signal, matrix, data, first_guess(matrix, data), jac=signal_slopes)


def voxels_by_dipy(matrix: np.ndarray, data: np.ndarray) -> np.ndarray:
    from dipy.reconst.dti import nlls_fit_tensor
    start = first_guess(matrix, data).reshape(-1, 7)
    flat, _ = nlls_fit_tensor(matrix, data, return_lower_triangular=True, init_params=start)
    return flat.reshape(*data.shape[:-1], 7)


# ---------------------------------------------------------------------- main

def pairs(size: int) -> dict:
    """What fits all the curves at once, and the client's own loop, of each client that is installed."""
    found = {}
    if importlib.util.find_spec("xarray"):
        import xarray
        cube = xarray.DataArray(pixels(size), dims=("t", "y", "x"), coords={"t": TIMES})
        found["xarray"] = lambda: fit_pixels(cube), lambda: pixels_by_xarray(cube)
    if importlib.util.find_spec("astropy"):
        data = spectra(size)
        found["astropy"] = lambda: fit_spectra(data), lambda: spectra_by_astropy(data)
    if importlib.util.find_spec("hyperspy"):
        same = spectra(size)
        found["hyperspy"] = lambda: fit_spectra(same), lambda: spectra_by_hyperspy(same)
    if importlib.util.find_spec("dipy"):
        matrix, signals = design(), voxels(size)
        found["DIPY"] = lambda: fit_voxels(matrix, signals), lambda: voxels_by_dipy(matrix, signals)
    return found


def compare(name: str, ours, theirs) -> bool:
    """Print the times and the differences; do parameters agree within a hundredth of their standard errors?"""
    start = time.perf_counter()
    result = ours()
    ours_took = time.perf_counter() - start
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = theirs()
    took = time.perf_counter() - start
    apart = np.abs((result.popt - values) / result.stderr).max()
    print(f"{name:8} {repr(result):52} {ours_took:8.3f} s {took:8.3f} s {took / ours_took:7.1f} {apart:10.1e}")
    return bool(apart < 0.01)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=30, help="pixels of an edge of the images")
    size = parser.parse_args().size
    right = []
    print(f"{'client':8} {'':52} {'at once':>10} {'its loop':>10} {'ratio':>7} {'difference, stderr':>10}")
    for name, (ours, theirs) in pairs(size).items():
        right.append(compare(name, ours, theirs))
    if not right:
        print("none of xarray, astropy, hyperspy and DIPY is installed")
    return 0 if all(right) else 1


if __name__ == "__main__":
    sys.exit(main())
