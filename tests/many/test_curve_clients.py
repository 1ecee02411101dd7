"""`curve_fit_batch` on data of xarray, astropy and DIPY finds what the loops of these packages, and of SciPy, find."""
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))
import curves_of_clients as clients  # noqa: E402

SIZE = 5


def agrees(result, theirs, share=1e-3):
    """Do all parameters of all problems differ by less than this fraction of their standard errors?"""
    assert result.success.all()
    np.testing.assert_array_less(np.abs(result.popt - theirs), share*result.stderr)


def test_pixels_of_xarray():
    xarray = pytest.importorskip("xarray")
    cube = xarray.DataArray(clients.pixels(SIZE), dims=("t", "y", "x"), coords={"t": clients.TIMES})
    result = clients.fit_pixels(cube)
    assert result.success.shape == (SIZE, SIZE)
    agrees(result, clients.pixels_by_xarray(cube))
    theirs = cube.curvefit("t", clients.decay, p0={"amplitude": 3, "rate": 1, "offset": 0.5})["curvefit_covariance"].values
    np.testing.assert_allclose(result.pcov, theirs, rtol=1e-3, atol=1e-7)


def test_spectra_of_astropy():
    pytest.importorskip("astropy")
    pytest.importorskip("dask")
    cube = clients.spectra(SIZE)
    agrees(clients.fit_spectra(cube), clients.spectra_by_astropy(cube))


def test_voxels_of_dipy():
    pytest.importorskip("dipy")
    matrix, data = clients.design(), clients.voxels(SIZE)
    agrees(clients.fit_voxels(matrix, data), clients.voxels_by_dipy(matrix, data))


@pytest.mark.parametrize("which", ["pixels", "spectra", "voxels"])
def test_each_fit_agrees_with_a_loop_over_scipy(which):
    from scipy.optimize import curve_fit
    if which == "pixels":
        y, x, f = np.moveaxis(clients.pixels(SIZE), 0, -1), clients.TIMES, clients.decay
        p0 = np.broadcast_to([3, 1, 0.5], (SIZE, SIZE, 3))
        result = clients.curve_fit_batch(f, x, y, p0, nan_policy="omit")
    elif which == "spectra":
        y, x, f = np.moveaxis(clients.spectra(SIZE), 0, -1), clients.WAVELENGTHS, clients.line
        p0, result = np.broadcast_to([7, 0, 1, 1.5], (SIZE, SIZE, 4)), clients.fit_spectra(clients.spectra(SIZE))
    else:
        x, y, f = clients.design(), clients.voxels(SIZE), clients.signal
        p0, result = clients.first_guess(x, y), clients.fit_voxels(x, y)
    theirs, cov = np.empty(p0.shape), np.empty((*p0.shape, p0.shape[-1]))
    for i in np.ndindex(SIZE, SIZE):
        good = np.isfinite(y[i])
        theirs[i], cov[i] = curve_fit(f, x[good], y[i][good], p0[i])
    agrees(result, theirs)
    scale = np.sqrt(np.diagonal(cov, axis1=-2, axis2=-1))
    scale = scale[..., :, None]*scale[..., None, :]
    np.testing.assert_allclose(result.pcov/scale, cov/scale, atol=1e-3)
