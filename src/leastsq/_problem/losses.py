"""Robust losses by name: checked, in the form that the core wants."""

from __future__ import annotations

import numpy as np

from .arguments import real_array

__all__ = ["LINEAR", "core_loss", "loss_values", "robust_variance"]

LINEAR = "linear"
_NUMBERS = {LINEAR: None, "soft_l1": 0, "huber": 1, "cauchy": 2, "arctan": 3}      # loss.c's


def core_loss(loss, f_scale):
    """(what `_core.solve` takes as loss, the scale as a float)."""
    if not isinstance(loss, str) and callable(loss):
        number = loss
    elif isinstance(loss, str) and loss in _NUMBERS:
        number = _NUMBERS[loss]
    else:
        raise ValueError(f"`loss` must be one of {list(_NUMBERS)} or a callable, got {loss!r}.")
    try:
        scale = float(f_scale)
    except (TypeError, ValueError):
        raise TypeError(f"`f_scale` must be a real number, got {type(f_scale).__name__}.") from None
    if not 0 < scale < np.inf:
        raise ValueError(f"`f_scale` must be positive and finite, got {f_scale!r}.")
    return number, scale


def loss_values(loss, f_scale, residuals):
    """The loss of each residual, and its first two derivatives, for residuals scaled.

    Returns an array of shape (3, m): ``f_scale**2*rho(z)``, ``rho'(z)`` and
    ``rho''(z)/f_scale**2`` with ``z = (residuals/f_scale)**2``.
    """
    z = (residuals/f_scale)**2
    if not isinstance(loss, str):
        rho = np.array(real_array(loss(z), "the array that loss returns", "leastsq"), float)
        if rho.shape != (3, z.size):
            raise ValueError(f"leastsq: the array that loss returns must have shape (3, {z.size}), got {rho.shape}")
    elif loss == LINEAR:
        rho = np.array([z, np.ones_like(z), np.zeros_like(z)])
    elif loss == "soft_l1":
        root = np.sqrt(1 + z)
        rho = np.array([2*z/(root + 1), 1/root, -0.5/root**3])
    elif loss == "huber":
        root = np.sqrt(np.maximum(z, 1))
        rho = np.where(z <= 1, [z, np.ones_like(z), np.zeros_like(z)],
                       [2*root - 1, 1/root, -0.5/root**3])
    elif loss == "cauchy":
        rho = np.array([np.log1p(z), 1/(1 + z), -1/(1 + z)**2])
    else:
        rho = np.array([np.arctan(z), 1/(1 + z**2), -2*z/(1 + z**2)**2])
    rho[0] *= f_scale**2
    rho[2] /= f_scale**2
    return rho


def robust_variance(loss, f_scale, residuals, n):
    """
    Of an estimate of n parameters that minimizes the losses of m > n residuals.

    Returns
    -------
    psi : ndarray, shape (m,)
        Halves of the losses' derivatives with respect to the residuals: what takes the
        place of the residuals in the gradient.
    twice_cost : float
        Sum of the losses.
    bend : float
        Mean of psi': how curved the cost is, in units of the sum of squares'.
    variance : float
        What ``inv(J.T @ J)`` is to be multiplied by: Huber's estimate with his correction of
        order n/m (Robust Statistics, 1981, section 7.6).  nan if the cost is not curved
        upwards.
    """
    m = residuals.size
    rho, slope, curvature = loss_values(loss, f_scale, residuals)
    psi = slope*residuals
    bends = slope + 2*curvature*residuals**2
    bend = float(bends.mean())
    if not (bend > 0 and m > n):
        return psi, float(rho.sum()), bend, np.nan
    correction = 1 + n/m*bends.var()/bend**2
    return psi, float(rho.sum()), bend, float(correction**2*(psi @ psi)/(m - n)/bend**2)
