"""What `curve_fit` makes of a model, data and their errors: residuals and their Jacobian."""

from __future__ import annotations

from functools import partial
from math import isfinite, isnan

import numpy as np

from .._core import Curve
from .._problem.arguments import noted, real_array

__all__ = ["apply_nan_policy", "jacobian_of", "real_data", "residual_of", "weigher"]


def real_data(values, name, finite):
    """As `numpy.asarray` or `numpy.asarray_chkfinite`, to floats; errors say of what."""
    try:
        array = np.asarray(values, float)
        if finite and not isfinite(np.vdot(array, array)):      # or the squares overflow
            np.asarray_chkfinite(array)
    except (TypeError, ValueError) as error:
        error.add_note(_what_is_wrong(values, name))
        raise
    return array


def _what_is_wrong(values, name):
    try:
        bad = np.argwhere(~np.isfinite(np.asarray(values, float)))
    except (TypeError, ValueError):
        return f"`{name}` must be real numbers, got {type(values).__name__}"
    where = tuple(map(int, bad[0]))
    return f"`{name}`{list(where)} is {np.asarray(values, float)[where]}, the first of {len(bad)} that are not finite"


def apply_nan_policy(policy, xdata, ydata, sigma):
    """Refuse nan, or leave it out; of `xdata` that is an array of floats."""
    if policy == "propagate":
        raise ValueError("`nan_policy='propagate'` is not supported by this function.")
    if policy not in ("raise", "omit"):
        raise ValueError("nan_policy must be one of {None, 'raise', 'omit'}")
    bad = np.isnan(ydata)
    if isinstance(xdata, np.ndarray):
        in_x = np.isnan(xdata)
        bad = bad | in_x.any(axis=tuple(range(in_x.ndim - 1)))
    if not bad.any():
        return xdata, ydata, sigma
    if policy == "raise":
        raise ValueError("The input contains nan values")
    good = ~bad
    if isinstance(xdata, np.ndarray):
        xdata = xdata[..., good]
    if sigma is not None:
        sigma = np.asarray(sigma)
        if sigma.ndim == 1 and sigma.size == good.size:
            sigma = sigma[good]
        elif sigma.ndim == 2 and sigma.shape == (good.size, good.size):
            sigma = sigma[np.ix_(good, good)]
    return xdata, ydata[good], sigma


def weigher(sigma, m):
    """What divides residuals, or the rows of a Jacobian, by `sigma`: factors, or a function; or None."""
    if sigma is None:
        return None
    sigma = real_array(sigma, "sigma", "curve_fit")
    if sigma.ndim <= 1 and sigma.size == 1:
        return 1.0/_usable(sigma).item()
    if sigma.shape == (m,):
        return 1.0/_usable(sigma)
    if sigma.shape != (m, m):
        raise noted(ValueError("`sigma` has incorrect shape."),
                    f"got {sigma.shape}; one number, shape ({m},) or ({m}, {m}) are right for {m} data")
    try:
        lower = np.linalg.cholesky(real_data(sigma, "sigma", True))
    except np.linalg.LinAlgError as error:
        least = np.linalg.eigvalsh(np.asarray(sigma, float))[0]
        raise noted(ValueError("`sigma` must be positive definite."),
                    f"the least eigenvalue of it, of its lower triangle to be exact, is {least:.3g}") from error
    whiten = np.linalg.inv(lower)       # once; NumPy has no triangular solver
    return partial(np.matmul, whiten)


def _usable(sigma):
    if np.count_nonzero(sigma) < sigma.size or isnan(np.vdot(sigma, sigma)):     # squares: nan of nan alone
        bad = np.isnan(sigma) | (sigma == 0)
        raise ValueError("`sigma` must not be zero or nan, got "
                         f"{np.ravel(sigma)[np.argmax(bad)]} at index {np.argmax(bad)}.")
    return sigma


def residual_of(f, xdata, ydata, weigh):
    """``weigh*(f(xdata, *params) - ydata)`` as a function of params."""
    if not callable(weigh):
        return Curve(f, xdata, ydata, weigh)
    return partial(_chained, weigh, Curve(f, xdata, ydata, None))


def _chained(last, first, params):
    return last(first(params))


def jacobian_of(jac, xdata, weigh):
    """The derivatives of that, from those of f."""
    if not callable(weigh):
        return Curve(jac, xdata, None, weigh)

    def derivatives(params):
        return weigh(np.asarray(jac(xdata, *params)))
    derivatives.__name__ = getattr(jac, "__name__", "jac")      # errors name it
    return derivatives
