"""The residuals of `curve_fit` and their Jacobian, from a model, data and their uncertainties."""

from __future__ import annotations

from functools import partial

import numpy as np

from .._core import Curve
from .._problem.kinds import returned

__all__ = ["apply_nan_policy", "jacobian_of", "residual_of"]


def apply_nan_policy(policy, xdata, ydata, sigma):
    """Refuse nan in the data, or leave those points out; `xdata` is checked only if it is an array of floats."""
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
        xdata.flags.writeable = False               # the model sees it at every call
    if sigma is not None:
        sigma = np.asarray(sigma)
        if sigma.ndim == 1 and sigma.size == good.size:
            sigma = sigma[good]
        elif sigma.ndim == 2 and sigma.shape == (good.size, good.size):
            sigma = sigma[np.ix_(good, good)]
    return xdata, ydata[good], sigma


def residual_of(f, xdata, ydata, weigh):
    """``weigh*(f(xdata, *params) - ydata)`` as a function of params."""
    if not callable(weigh):
        return Curve(f, xdata, ydata, weigh)
    return partial(_chained, weigh, Curve(f, xdata, ydata, None))


def _chained(last, first, params):
    return last(first(params))


def jacobian_of(jac, xdata, weigh):
    """The weighted rows of derivatives as a function of params, from the derivatives of f."""
    if not callable(weigh):
        return Curve(jac, xdata, None, weigh)

    def derivatives(params):
        return weigh(np.asarray(returned(jac(xdata, *params), "jac", "curve_fit")))
    derivatives.__name__ = getattr(jac, "__name__", "jac")      # errors name it
    return derivatives
