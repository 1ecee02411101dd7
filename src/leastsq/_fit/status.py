"""Why a fit ended: one enum, and one sentence for each of its members."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

__all__ = ["SUCCESS", "Status", "message", "not_finite_message", "stopped_message", "vanished_message"]


class Status(IntEnum):
    """Why a fit ended; `leastsq` returns it as the plain integer `ier`.

    1 to 4 are success.  0 to 8 are MINPACK's ``info``.
    """

    IMPROPER = 0
    FTOL = 1
    XTOL = 2
    FTOL_XTOL = 3
    GTOL = 4
    MAXFEV = 5
    FTOL_TOO_SMALL = 6
    XTOL_TOO_SMALL = 7
    GTOL_TOO_SMALL = 8
    NOT_FINITE = 9
    STOPPED = 10
    WATCHER = 11
    NO_DATA = 12


SUCCESS = (1, 2, 3, 4)


def message(ier, *, ftol, xtol, gtol, maxfev):
    """The sentence for `ier` (0 to 8, 11 and 12): SciPy's, line breaks included, for scripts compare them."""
    match ier:          # in a third of the time of str.format
        case 1:
            return ("Both actual and predicted relative reductions in the sum of squares\n"
                    f"  are at most {ftol:f}")
        case 2:
            return f"The relative error between two consecutive iterates is at most {xtol:f}"
        case 3:
            return ("Both actual and predicted relative reductions in the sum of squares\n"
                    f"  are at most {ftol:f} and the relative error between two consecutive "
                    f"iterates is at \n  most {xtol:f}")
        case 4:
            return ("The cosine of the angle between func(x) and any column of the\n"
                    f"  Jacobian is at most {gtol:f} in absolute value")
        case 0:
            return "Improper input parameters."
        case 5:
            return f"Number of calls to function has reached maxfev = {maxfev:d}."
        case 6:
            return (f"ftol={ftol:f} is too small, no further reduction in the sum of squares\n"
                    "  is possible.")
        case 7:
            return (f"xtol={xtol:f} is too small, no further improvement in the approximate\n"
                    "  solution is possible.")
        case 8:
            return (f"gtol={gtol:f} is too small, func(x) is orthogonal to the columns of\n"
                    "  the Jacobian to machine precision.")
        case 11:
            return "The callback ended the fit."
        case 12:
            return "There are fewer data with a nonzero weight than free parameters."
    raise KeyError(ier)


def stopped_message(name, code):
    """The sentence for `ier` 10: compiled function `name` returned `code`."""
    return f"The compiled {name} stopped the fit by returning {code}."


def vanished_message(x, which):
    """A line about parameters whose difference steps changed no residual in any Jacobian; an empty string for None."""
    if which is None:
        return ""
    where = ", ".join(f"x[{j}] = {x[j]:g}" for j in which[:4]) + (f" and {len(which) - 4} more" if len(which) > 4 else "")
    return (f"\n  Not fitted: {where}, so close to zero that no difference step changed a residual. Start from exactly 0, "
            "or from the right size.")


def not_finite_message(x, njev, fault, block=None, loss=None):
    """The sentence for `ier` 9: which number is not finite, and at which x.

    Parameters
    ----------
    x : ndarray, shape (n,)
        The point at which a number is not finite.
    njev : int
        Number of Jacobians computed; 0: the number is a residual.
    fault : tuple of (int, int, float) or None
        Row, column and value of the first element that is not finite; None if
        all are finite and their norm overflows.
    block : int, optional
        The block of data in which the row is counted.
    loss : str, callable or None, optional
        The loss of the fit; the result of a callable may be the cause.
    """
    if callable(loss):
        return not_finite_message(x, njev, fault, block) + " Or the result of loss there is not finite."
    block = "" if block is None else f" in block {block}"
    at = f"at x = {np.array2string(x, threshold=20)}"
    if njev == 0 and fault is None:
        return f"The norm of the residuals overflows {at}."
    if njev == 0:
        row, _, value = fault
        return f"Residuals are not finite at x0: func(x)[{row}]{block} is {value} {at}."
    if fault is None:
        return f"The norm of a column of the Jacobian overflows {at}."
    row, column, value = fault
    return (f"The Jacobian is not finite: the derivative of residual {row} with respect "
            f"to x[{column}] (row {row}, column {column}){block} is {value} {at}.")
