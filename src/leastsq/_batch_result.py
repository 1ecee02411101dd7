"""What `leastsq_batch` returns."""

from __future__ import annotations

import numpy as np

from ._losses import active_mask, held
from ._status import Status, message

__all__ = ["BatchResult"]

_FIRST_FAILURE = 5


class BatchResult:
    """
    The fits of `leastsq_batch`: arrays with a row for each problem.

    Attributes
    ----------
    x : ndarray, shape (B, n)
        The solutions, or the best points found.
    ier : ndarray of int64, shape (B,)
        Why each fit ended, a member of `Status`; 1, 2, 3 and 4 are success.
    success : ndarray of bool, shape (B,)
        Whether `ier` is one of these.
    nfev, njev : ndarray of int64, shape (B,)
        Number of evaluations of the residuals, with those for forward
        differences, and of Jacobians, of either kind.
    fnorm : ndarray, shape (B,)
        Euclidean norm of the (weighted) residuals at `x`; with a loss the root of
        twice the cost.  nan where there are none.
    cov_x : ndarray, shape (B, n, n), or None
        Inverses of ``J.T @ J``, as in `leastsq`; nan where it is singular or the
        fit failed, and in the rows and columns of parameters at a bound.  None if
        it was not wanted.
    fvec : ndarray, shape (B, m), or None
        The (weighted) residuals at `x`.  None unless it was wanted.
    active_mask : ndarray of int8, shape (B, n), or None
        -1 for a parameter at its lower bound, 1 at its upper one, else 0.  None
        without bounds.
    """

    __slots__ = ("_bounds", "_code", "_multipliers", "_settings", "_wants_fvec", "active_mask", "cov_x", "fnorm", "fvec",
                 "ier", "nfev", "njev", "x")

    def __init__(self, x, settings, cov, fvec, bounds):
        count, n = x.shape
        self.x = x
        self.ier, self.nfev, self.njev = (np.zeros(count, np.int64) for _ in range(3))
        self.fnorm = np.empty(count)
        self.cov_x = np.empty((count, n, n)) if cov else None
        self.fvec = None
        self.active_mask = None
        self._bounds = bounds       # None, or lower and upper ones, each (n,) or (B, n)
        self._multipliers = None if bounds is None else np.zeros((count, n))    # as leastsq's
        self._code = None           # what compiled functions returned
        self._settings = settings   # ftol, xtol, gtol, maxfev
        self._wants_fvec = fvec

    def set_size(self, m):
        """The number of residuals, once known."""
        if self._wants_fvec:
            self.fvec = np.empty((self.ier.size, m))

    def find_active(self):
        """Which parameters are at a bound, once `x` is known."""
        if self._bounds is not None:
            self.active_mask = active_mask(self.x, *self._bounds, np.int8)

    @property
    def success(self):
        return (self.ier >= 1) & (self.ier < _FIRST_FAILURE)

    def message(self, i):
        """
        Why a fit ended.

        Parameters
        ----------
        i : int
            Which problem.

        Returns
        -------
        str
        """
        if self._bounds is None:
            return self._reason(i)
        if self.ier[i] == Status.IMPROPER and np.isnan(self.x[i]).any():
            return f"x0 = {np.array2string(self.x[i], threshold=20)} is not within the bounds."
        low, high = (side if side.ndim == 1 else side[i] for side in self._bounds)
        return self._reason(i) + held(self.x[i], low, high, self._multipliers[i])

    def _reason(self, i):
        ier = int(self.ier[i])
        at = np.array2string(self.x[i], threshold=20)
        if ier == Status.STOPPED:
            return f"A compiled function stopped the fit by returning {self._code[i]}."
        if ier != Status.NOT_FINITE:
            return message(ier, **self._settings)
        if self.njev[i] == 0:
            return f"The residuals, or their norm, are not finite at x0 = {at}."
        return f"The Jacobian, or the norm of a column, is not finite at x = {at}."

    def __repr__(self):
        counts = np.bincount(self.ier, minlength=len(Status))
        converged = counts[1:_FIRST_FAILURE].sum()
        parts = [f"{converged} converged"]
        parts += [f"{counts[s]} {s.name}" for s in Status if s not in (1, 2, 3, 4) and counts[s]]
        return f"<BatchResult of {self.ier.size} fits: {', '.join(parts)}>"
