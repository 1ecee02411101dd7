"""Standard deviations of data, or their covariance: residuals and the rows of a Jacobian are divided by them."""

from __future__ import annotations

from functools import partial
from math import isnan

import numpy as np

from .arguments import noted, real_array, real_data
from .kinds import returned

__all__ = ["Weighted", "count_finite", "weigher"]


def weigher(sigma, m):
    """
    The factors that multiply residuals or the rows of a Jacobian, or a function that does it; None: no weights.

    For `curve_fit`, with SciPy's messages; like SciPy it accepts negative sigma.
    """
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
                    f"its smallest eigenvalue (of the lower triangle) is {least:.3g}") from error
    whiten = np.linalg.inv(lower)       # once; NumPy has no triangular solver
    return partial(np.matmul, whiten)


def _usable(sigma):
    if np.count_nonzero(sigma) < sigma.size or isnan(np.vdot(sigma, sigma)):     # a sum of squares is nan only if an element is
        bad = np.isnan(sigma) | (sigma == 0)
        raise ValueError("`sigma` must not be zero or nan, got "
                         f"{np.ravel(sigma)[np.argmax(bad)]} at index {np.argmax(bad)}.")
    return sigma


def count_finite(sigma, m):
    """The number of m data that count: not those with an infinite sigma."""
    return int(np.isfinite(sigma).sum()) if np.shape(sigma) == (m,) else m


class Weighted:
    """A residual function, or its Jacobian, whose results are divided by `sigma`."""

    def __init__(self, func, sigma):
        self.func, self.sigma = func, sigma
        self.__name__ = getattr(func, "__name__", "func")
        self._weigh, self._m = None, None

    def __call__(self, x, *args):
        return self.weigh(np.asarray(returned(self.func(x, *args), self.__name__)))

    def weigh(self, rows):
        """Rows, shape (m,) or (m, n), divided by the standard deviations of their data."""
        if rows.ndim == 0:
            rows = rows.reshape(1)
        m = len(rows)
        if self._m != m:
            self._weigh, self._m = _positive(self.sigma, m), m
        if callable(self._weigh):
            return self._weigh(rows)
        return rows*(self._weigh if np.ndim(self._weigh) == 0 or rows.ndim == 1 else self._weigh[:, None])


def _positive(sigma, m):
    """The same as `weigher` for tools that describe a fit: sigma must be positive; data with an infinite sigma get weight 0."""
    sigma = np.asarray(sigma, dtype=float)
    if sigma.shape in ((), (1,), (m,)):
        if not (sigma > 0).all():
            raise ValueError(f"sigma must be positive, got {sigma.min() if not np.isnan(sigma).any() else np.nan:g}")
        return 1/sigma if sigma.shape == (m,) else 1/float(sigma.reshape(()))
    if sigma.shape != (m, m):
        raise ValueError(f"sigma must be a number or have shape ({m},) or ({m}, {m}), got {sigma.shape}")
    try:
        lower = np.linalg.cholesky(sigma)
    except np.linalg.LinAlgError:
        raise ValueError("sigma must be positive definite") from None
    return partial(np.linalg.solve, lower)
