"""The linear least-squares problem inside an evaluation: solves for the linear parameters, within their bounds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["LinearSolution", "solve_linear"]

_RANK = 16*np.finfo(float).eps      # times the longer side: relative singular values below this count as zero
_SLOPE = 1e-12                      # a parameter leaves its bound if the cosine between residuals and its column exceeds this


@dataclass(frozen=True, slots=True, eq=False)
class LinearSolution:
    """
    The c that minimizes the norm of ``offset + columns @ c``.

    Attributes
    ----------
    c : ndarray, shape (p,)
        If columns are dependent, the shortest solution, with columns scaled to length one.
    residual : ndarray, shape (m,)
    basis : ndarray, shape (m, rank)
        An orthonormal basis of the space of the columns that no bound holds.
    """

    c: np.ndarray
    residual: np.ndarray
    basis: np.ndarray

    def project(self, rows):
        """The part of a vector, or of the columns of a matrix, that is orthogonal to the basis."""
        rows = rows - self.basis @ (self.basis.T @ rows)
        return rows - self.basis @ (self.basis.T @ rows)    # again, to remove rounding errors of the first projection


def solve_linear(columns, offset, low=None, high=None):
    """
    Solve for the linear parameters.

    Parameters
    ----------
    columns : ndarray, shape (m, p)
        All finite.
    offset : ndarray, shape (m,)
        All finite.
    low, high : ndarray, shape (p,), optional
        Bounds of c.

    Returns
    -------
    LinearSolution

    Notes
    -----
    With bounds, by the active-set method of P. B. Stark and R. L. Parker, "Bounded-variable least-squares:
    an algorithm and applications", Computational Statistics 10 (1995), 129-141.
    """
    sizes = np.abs(columns).max(axis=0)
    sizes[sizes == 0] = 1.0                 # divided by these, squares of the columns neither overflow nor vanish
    sizes = sizes*np.linalg.norm(columns/sizes, axis=0)
    sizes[sizes == 0] = 1.0
    scaled = columns/sizes
    c, basis = _unbounded(scaled, offset)
    if low is not None:
        within = low*sizes, high*sizes
        if not ((within[0] <= c) & (c <= within[1])).all():
            c, basis = _bounded(scaled, offset, *within, np.clip(c, *within))
            given = np.where(c <= within[0], low, np.where(c >= within[1], high, c/sizes))
            return LinearSolution(given, offset + scaled @ c, basis)
    found = LinearSolution(c/sizes, offset, basis)
    return LinearSolution(found.c, found.project(offset), basis)


def _unbounded(columns, offset):
    """(c, orthonormal basis of the columns) without bounds."""
    left, sizes, right = np.linalg.svd(columns, full_matrices=False)
    rank = int(np.count_nonzero(sizes > _RANK*max(columns.shape)*sizes[0])) if sizes.size else 0
    basis = left[:, :rank]
    return -right[:rank].T @ ((basis.T @ offset)/sizes[:rank]), basis


def _bounded(columns, offset, low, high, c):
    """The same within bounds, starting from a c within them."""
    p = c.size
    free = (low < c) & (c < high)
    for _ in range(20*(p + 1)):
        rest = offset + columns[:, ~free] @ c[~free]
        wanted, basis = _unbounded(columns[:, free], rest)
        within = (low[free] <= wanted) & (wanted <= high[free])
        if not within.all():                # go as far as the first bound on the way
            now, end = c[free], np.where(wanted < low[free], low[free], high[free])
            with np.errstate(all="ignore"):
                parts = np.where(within, np.inf, (end - now)/(wanted - now))
            first = int(np.argmin(parts))
            now = now + parts[first]*(wanted - now)
            now[first] = end[first]
            c[free] = np.clip(now, low[free], high[free])
            free[np.flatnonzero(free)[first]] = False
            continue
        c[free] = wanted
        residual = rest + columns[:, free] @ wanted
        slopes = columns.T @ residual
        inwards = np.where(c <= low, -slopes, slopes)           # descent of the cost away from the bound
        inwards[free | ~(low < high)] = 0.0
        best = int(np.argmax(inwards))
        if not inwards[best] > _SLOPE*np.linalg.norm(residual):
            break
        free[best] = True
    return c, basis
