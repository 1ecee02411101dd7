"""Losses: parsing, the values of robust losses and their derivatives, and the variance of robust estimates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .arguments import real_array

__all__ = ["LEAST_SQUARES", "LINEAR", "POISSON", "DataLoss", "Loss", "parse_loss"]

LINEAR = "linear"
POISSON = "poisson"
_CODES = {LINEAR: None, "soft_l1": 0, "huber": 1, "cauchy": 2, "arctan": 3}      # loss.c's
_LEAST_SQUARE = 1e-300          # lower limit of scale**2: residuals are divided by the scale and squared
_LEAST_WEIGHT = np.finfo(float).eps     # lower limit of the squared weight of a Jacobian's row (SciPy's)


@dataclass(frozen=True, slots=True, eq=False)
class Loss:
    """
    The loss of each residual, ``scale**2*rho((residual/scale)**2)``; or Poisson's deviance of `counts`.

    With counts, a `Problem`'s function returns deviance residuals, whose squares are summed, and the solver calls its
    `mean`.
    """

    rho: str | Callable = LINEAR
    scale: float = 1.0
    counts: np.ndarray | None = field(default=None, repr=False)

    @property
    def is_linear(self):
        return isinstance(self.rho, str) and self.rho == LINEAR

    @property
    def is_poisson(self):
        return self.counts is not None

    @property
    def is_robust(self):
        """Is something other than squares summed?"""
        return not (self.is_linear or self.is_poisson)

    def of_data(self):
        """The loss of the data alone; the residuals of priors are squared instead."""
        return Loss(self.rho.rho, self.scale) if isinstance(self.rho, DataLoss) else self

    @property
    def code(self):
        """The core's argument: None for least squares, a number of ``loss.c``, the user's function, or counts."""
        if self.is_poisson:
            return self.counts
        return _CODES[self.rho] if isinstance(self.rho, str) else self.rho

    @property
    def options(self):
        """The arguments of `leastsq` for this loss."""
        return {"loss": self if self.is_poisson else self.rho, "f_scale": self.scale}

    def values(self, residuals):
        """
        The loss of each residual, and its first two derivatives.

        Returns an array of shape (3, m): ``scale**2*rho(z)``, ``rho'(z)`` and ``rho''(z)/scale**2``
        with ``z = (residuals/scale)**2``.
        """
        return _values(self.rho, self.scale, residuals)

    def cost(self, residuals):
        """The sum of squares, or of the losses."""
        return float(self.values(residuals)[0].sum() if self.is_robust else np.sum(residuals*residuals))

    def row_weights(self, residuals):
        """The weights of a Jacobian's rows with which ``J.T @ J`` approximates the Hessian, shape (m,)."""
        if not self.is_robust:
            return np.ones(np.shape(residuals))         # for counts, scoring has weighted the rows
        _, slope, curvature = self.values(residuals)
        return np.sqrt(np.maximum(slope + 2*curvature*residuals**2, _LEAST_WEIGHT))

    def variance(self, residuals, n):
        """
        Huber's variance of an estimate of n parameters that minimizes the losses of m > n residuals.

        Returns
        -------
        psi : ndarray, shape (m,)
            Half of each loss's derivative with respect to its residual, which replaces the
            residual in the gradient.
        twice_cost : float
            The sum of the losses.
        bend : float
            The mean of psi': the curvature of the cost in units of the curvature of a sum of squares.
        variance : float
            The factor of ``inv(J.T @ J)`` in the covariance: Huber's estimate with his correction of
            order n/m (Robust Statistics, 1981, section 7.6).  nan if the cost is not curved
            upwards.
        """
        m = residuals.size
        rho, slope, curvature = self.values(residuals)
        psi = slope*residuals
        bends = slope + 2*curvature*residuals**2
        if isinstance(self.rho, DataLoss):
            bends = bends[:m - self.rho.others]
        bend = float(bends.mean())
        if not (bend > 0 and m > n):
            return psi, float(rho.sum()), bend, np.nan
        correction = 1 + n/bends.size*bends.var()/bend**2
        return psi, float(rho.sum()), bend, float(correction**2*(psi @ psi)/(m - n)/bend**2)


class DataLoss:
    """A loss of the data's residuals alone: the last `others` residuals, those of priors, are squared."""

    def __init__(self, rho, others):
        self.rho, self.others = rho, others

    def __repr__(self):
        return repr(self.rho)

    def __call__(self, z):
        values, m = np.empty((3, z.size)), z.size - self.others
        values[:, :m] = _rho(self.rho, z[:m])
        values[:, m:] = [z[m:], np.ones(self.others), np.zeros(self.others)]
        return values


LEAST_SQUARES = Loss()


def parse_loss(loss, f_scale):
    """The `Loss` made of a user's `loss` and `f_scale`; a `Loss` is returned unchanged."""
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, str) and loss == POISSON:
        raise ValueError("`loss='poisson'` needs the counts and a model of their expectation separately, but residual functions "
                         "combine them: use `fit`, `curve_fit` or `leastsq_batch`.")
    if not (isinstance(loss, str) and loss in _CODES or not isinstance(loss, str) and callable(loss)):
        raise ValueError(f"`loss` must be one of {list(_CODES)} or a callable, got {loss!r}.")
    try:
        scale = float(f_scale)
    except (TypeError, ValueError):
        raise TypeError(f"`f_scale` must be a real number, got {type(f_scale).__name__}.") from None
    if not 0 < scale < np.inf:
        raise ValueError(f"`f_scale` must be positive and finite, got {f_scale!r}.")
    if not _LEAST_SQUARE <= scale*scale < np.inf:
        raise ValueError(f"`f_scale` must be between about 1e-150 and 1e150, so a float64 holds its square, got {f_scale!r}.")
    return Loss(loss, scale)


def _values(loss, f_scale, residuals):
    rho = _rho(loss, (residuals/f_scale)**2)
    rho[0] *= f_scale**2
    rho[2] /= f_scale**2
    return rho


def _rho(loss, z):
    """The loss and its two derivatives at z, the squared residuals in units of scale**2."""
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
    return rho
