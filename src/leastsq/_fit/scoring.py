"""Scoring of counts, corrected by secants: with Fisher's information alone, fits of low counts converge only linearly.

(The error shrinks by a factor of 0.3 to 0.7 in each step.)  The part of the deviance's curvature that is not in Fisher's
information is learned from the gradients at successive points, as NL2SOL learns the part that J.T @ J leaves out
(J. E. Dennis, D. M. Gay, R. E. Welsch, ACM TOMS 7, 1981, 348-368: the update and its sizing).
"""

from __future__ import annotations

import numpy as np

from .._core import weigh
from .._problem.kinds import returned

__all__ = ["Scoring"]

_LEAST, _MOST = 0.05, 10.0      # limits of the curvature along any direction, in units of Fisher's information
_VISIBLE = 0.02                 # corrections smaller than this, in the same units, improve no step
_SINGULAR = 1e6                 # from this condition number of the columns on, scoring is not corrected
_STEEP = 0.1                    # the correction is used if steps can reduce the residuals by less than this fraction


class Scoring:
    """
    Functions that the solver calls in place of the expected counts and their Jacobian.

    Parameters
    ----------
    counts : ndarray, shape (m,)
    mean, derivative : callable
        Expected counts, followed by the residuals of priors; and their Jacobian.
    col_deriv : bool
    free : ndarray of bool, shape (n,), or None
        The parameters that no bounds fix; None: all.
    """

    def __init__(self, counts, mean, derivative, col_deriv, free=None):
        self.counts, self.user_mean, self.derivative, self.col_deriv, self.free = counts, mean, derivative, col_deriv, free
        self._last = None       # (x, mean) of the last evaluation
        self._before = None     # (x, gradient) of the previous Jacobian
        self._rest = None       # the curvature minus Fisher's information, learned from secants

    def mean(self, x, *args):
        at = x.copy()
        value = returned(self.user_mean(x, *args))
        self._last = at, np.array(value)
        return value

    def jacobian(self, x, *args):
        """The Jacobian; or rows with the same gradient, whose product ``J.T @ J`` has the deviance's curvature."""
        at = x.copy()
        given = self.derivative(x, *args)
        J = np.asarray(given)
        J = J.T if self.col_deriv else J
        bent = self._bent(at, J)
        if bent is None:
            return given
        return np.ascontiguousarray(bent.T) if self.col_deriv else bent

    def _bent(self, x, J):
        mean = None if self._last is None or not np.array_equal(self._last[0], x) else np.atleast_1d(self._last[1])
        if mean is None or mean.dtype.kind not in "fiu" or J.shape != (mean.size, x.size) or J.dtype.kind not in "fiu":
            return None
        f, factors = weigh(self.counts, 1.0, np.asarray(mean, float), True)
        rows = J*factors[:, None]
        which = rows.any(axis=0) if self.free is None else rows.any(axis=0) & self.free
        if not (np.isfinite(f).all() and np.isfinite(rows).all() and 0 < np.count_nonzero(which) < mean.size):
            self._before = None
            return None
        gradient = rows.T @ f
        self._learn(x, gradient, rows)
        self._before = x, gradient
        if self._rest is None:
            return None
        made = _with_curvature(rows[:, which], f, gradient[which], self._rest[np.ix_(which, which)])
        if made is None:
            return None
        rows[:, which] = made
        return rows/factors[:, None]

    def _learn(self, x, gradient, rows):
        """Add a secant: along the last step the curvature must give the change of the gradient."""
        if self._before is None:
            return
        step, change = x - self._before[0], gradient - self._before[1]
        slope = float(change @ step)
        if not slope > 0:
            self._rest = None           # no minimum is near: start anew
            return
        wanted = change - rows.T @ (rows @ step)
        rest = np.zeros((x.size, x.size)) if self._rest is None else self._rest
        known = float(step @ rest @ step)
        if known != 0:
            rest = rest*min(1.0, abs(float(step @ wanted)/known))
        off = wanted - rest @ step
        self._rest = (rest + (np.outer(off, change) + np.outer(change, off))/slope
                      - float(off @ step)*np.outer(change, change)/slope**2)


def _with_curvature(rows, f, gradient, rest):
    """Rows M with the same gradient ``M.T @ f`` and ``M.T @ M`` near ``rows.T @ rows + rest``; None: use the same rows."""
    information = rows.T @ rows
    scale = np.sqrt(np.diag(information))       # norms of the columns
    try:
        inverse = np.linalg.inv(np.linalg.cholesky(information/np.outer(scale, scale)))
        values, V = np.linalg.eigh(inverse @ (rest/np.outer(scale, scale)) @ inverse.T)
    except np.linalg.LinAlgError:
        return None
    if not (np.isfinite(values).all() and np.abs(inverse).max() < _SINGULAR and np.abs(values).max() > _VISIBLE):
        return None
    along = inverse @ (gradient/scale)          # the part of f in the column space of `rows`, in an orthonormal basis
    across = f - rows @ (along @ inverse/scale)
    size, total = float(across @ across), float(f @ f)
    if not size > (1 - _STEEP**2)*total > 0:
        return None
    roots = np.sqrt(np.clip(1 + values, _LEAST, _MOST))
    bend = (V*roots) @ V.T                      # in that basis
    made = rows @ (inverse.T @ bend @ np.linalg.inv(inverse.T)*scale/scale[:, None])
    return made + np.outer(across, gradient - (np.linalg.inv(inverse) @ (bend @ along))*scale)/size
