"""Fits that report success at their start although it is no minimum: how to recognise them, and their message."""

from __future__ import annotations

import numpy as np

from .._problem.words import LEASTSQ
from .status import Status

__all__ = ["MAY_STAY", "NO_STEP", "SIGN", "norms_at", "stayed"]

MAY_STAY = (int(Status.XTOL), int(Status.GTOL))         # successes that a fit may report at its start although it is no minimum

NO_STEP = "No step was accepted"
_FLAT = "All derivatives are zero"
SIGN = " (data - model has minus the model's derivatives)"
_STEEP = 0.1            # a minimum has no cosine this large between the residuals and a column
_ROUNDING = 1e-6        # relative to x: a smaller Gauss-Newton step does not count


def norms_at(fvec, fjac, ipvt, qtf, x, diag, inside=None):
    """
    (norm of f, largest cosine, norm of D*x, R[0, 0]) of a fit that never moved, as returned by `_core.solve`.

    `inside` says which parameters are not at a bound; None: all.
    """
    n = x.size
    R, order = np.triu(fjac.T[:n])[:n], ipvt - 1
    fnorm, size = _norm(np.atleast_1d(fvec)), np.abs(R).max()
    lengths, cosines = np.zeros(n), np.zeros(n)
    if fnorm > 0 and size > 0:
        columns = R/size                # squares of these do not overflow, and those that matter do not vanish
        lengths[order] = np.linalg.norm(columns, axis=0)
        cosines[order] = np.abs(columns.T @ (qtf/fnorm))
    which = lengths > 0 if inside is None else (lengths > 0) & inside
    cosine = float((cosines[which]/lengths[which]).max(initial=0.0))
    scales = np.where(lengths > 0, lengths*size, 1.0) if diag is None else np.asarray(diag, float)
    return fnorm, cosine, _norm(scales*x), float(R[0, 0])


def _norm(vector):
    size = np.abs(vector).max(initial=0.0)
    return float(size*np.linalg.norm(vector/size)) if 0 < size < np.inf else float(size)


def stayed(ier, norms, n, by_differences, words=LEASTSQ):
    """A sentence if a fit that ended at its start with success should not have; else an empty string."""
    fnorm, cosine, xnorm, first = norms
    if not fnorm > 0:
        return ""
    if ier == Status.GTOL and first == 0:
        which = words.labels(range(n)) if n <= 20 else f"all {n} parameters"
        rounds = f"; or, if {words.func} rounds, compute in float64 or give epsfcn, its relative error"*by_differences
        return (f"{_FLAT} at {words.x0}, by {which}, but the residuals are not: the fit cannot leave it. Start elsewhere"
                f"{rounds}.")
    if ier != Status.XTOL or not cosine > _STEEP or not cosine*fnorm > _ROUNDING*xnorm:
        return ""
    if by_differences:
        why = (f"Usually {words.func} is rounded or noisy, so that its differences are no derivatives: compute in float64, or "
               "give epsfcn, its relative error.")
    else:
        why = (f"Usually {words.Dfun} is not the derivative of {words.func}: its sign is wrong{SIGN}, or its scale.")
    return (f"{NO_STEP}: the answer is {words.x0}, which is no minimum by the Jacobian (a column has the cosine {cosine:.2g} "
            f"with the residuals; at a minimum it is 0). {why}")
