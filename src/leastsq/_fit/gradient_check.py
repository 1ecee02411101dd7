"""check_gradient: does the user's Jacobian belong to the user's function?"""

from __future__ import annotations

import numpy as np

from .._core import chkder
from .._problem.derivatives import EPS, DifferenceJacobian, Differences, steps_of
from .._problem.kinds import returned

__all__ = ["GradientCheck", "check_gradient"]


class GradientCheck(dict):
    """The result of `check_gradient`; the keys are also attributes.

    Attributes
    ----------
    ok : bool
        No entry is wrong.
    wrong : ndarray, shape (k, 2)
        Row and column of each wrong entry; with "chkder" the wrong rows, shape (k,).
    error : ndarray, shape (m, n)
        Absolute differences between `Dfun` and `numerical`; None with "chkder".
    numerical : ndarray, shape (m, n)
        The Jacobian by central differences; None with "chkder".
    rows : ndarray, shape (m,)
        MINPACK's chkder measure of each residual: 1 right, 0 wrong, about 0.5 in doubt.
    message : str
        A sentence that says what is wrong.
    """

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}") from None

    def __dir__(self):
        return [*super().__dir__(), *self]

    def __str__(self):
        return self["message"]

    def __repr__(self):
        return f"<{type(self).__name__}: {'ok' if self.get('ok') else 'not ok'}, {self.get('message')}>"


def check_gradient(func, x, Dfun, args=(), *, col_deriv=False, rtol=1e-4, method="differences"):
    """
    Compare a Jacobian with differences of its function.

    Parameters
    ----------
    func : callable
        Residuals ``func(x, *args)``, m real numbers.
    x : array_like
        The point of the comparison, n real numbers.  Not the solution, nor a point with
        many zeros, where mistakes stay hidden.
    Dfun : callable
        Jacobian ``Dfun(x, *args)``, shape (m, n).
    args : tuple, optional
        Further arguments of both.
    col_deriv : bool, optional
        `Dfun` returns shape (n, m).
    rtol : float, optional
        An entry is wrong if its relative difference is larger than this, after
        allowing for the estimated error of the difference itself.
    method : {"differences", "chkder"}, optional
        "differences": every entry, by central differences.  "chkder": every row, by
        MINPACK's chkder alone, for large Jacobians: two calls to `func` in all.

    Returns
    -------
    check : GradientCheck
        `ok`, `wrong`, `error`, `numerical`, `rows`, `message`; prints as its message.

    Raises
    ------
    ValueError
        `func` is not finite at `x`; the result of `Dfun` has the wrong shape (a transposed one is
        reported, except with "chkder"); `method` is unknown.

    Notes
    -----
    The arrays that functions are called with are their own, fresh at each call; `args`, blocks and
    other data of the caller's are handed on as they are.

    `rows` have the bits of MINPACK's chkder [1]_, which takes one step along all variables at
    once and measures the logarithm of the disagreement.  It costs one evaluation; the entries
    cost 4*n more.  It cannot see mistakes that cancel along that step.  Rows that it cannot
    check, because their residuals are zero or do not move, are 1 here, but 0, as in
    MINPACK, with ``method="chkder"``.

    References
    ----------
    .. [1] J. J. Moré, B. S. Garbow, K. E. Hillstrom, "User guide for MINPACK-1",
       Argonne National Laboratory report ANL-80-74 (1980).

    Examples
    --------
    >>> import numpy as np
    >>> from leastsq import check_gradient
    >>> t = np.linspace(0.1, 2, 4)
    >>> def func(x):
    ...     return x[0]*np.exp(-x[1]*t)
    >>> def Dfun(x):
    ...     e = np.exp(-x[1]*t)
    ...     return np.stack([e, x[0]*t*e], axis=1)      # a minus is missing
    >>> check = check_gradient(func, [2.0, 0.7], Dfun)
    >>> check.ok
    False
    >>> print(check)
    The sign of column 1 of the Jacobian (derivatives with respect to x[1]) is flipped.
    """
    if method not in ("differences", "chkder"):
        raise ValueError(f"check_gradient: method must be 'differences' or 'chkder', got {method!r}")
    if not isinstance(args, tuple):
        args = (args,)
    x = np.array(x, float).ravel()
    f = np.atleast_1d(np.array(returned(func(x.copy(), *args), "func", "check_gradient"), float))
    if f.ndim > 1 or not np.isfinite(f).all():
        raise ValueError("check_gradient: func(x) must be one-dimensional and finite, "
                         f"got {f}")
    given = np.atleast_1d(np.array(returned(Dfun(x.copy(), *args), "Dfun", "check_gradient"), float))
    if given.ndim == 1:
        given = given.reshape((f.size, -1) if x.size == 1 or f.size > 1 else (1, -1))
    if col_deriv:
        given = given.T
    if method == "chkder" and given.shape == (f.size, x.size):
        return _by_rows(given, f, x, func, args)
    if method == "chkder":
        raise ValueError(f"check_gradient: the Jacobian must have shape {(f.size, x.size)}, got {given.shape}")
    coarse, numerical = (_central(func, args, x, f, root) for root in (2.0**-15, 2.0**-17))
    shape = f.size, x.size
    if given.shape == shape[::-1] and shape[0] != shape[1]:
        return _verdict(given.T, numerical, coarse, f, (func, x, args), rtol, transposed=True)
    if given.shape != shape:
        raise ValueError(f"check_gradient: the Jacobian must have shape {shape}, "
                         f"got {given.shape}")
    return _verdict(given, numerical, coarse, f, (func, x, args), rtol, transposed=False)


def _central(func, args, x, f, relative):
    maker = DifferenceJacobian(func, Differences("3-point", steps=relative))
    return maker.jacobian_at(x, f, args)


def _verdict(given, numerical, coarse, f, where, rtol, transposed):
    func, x, args = where

    def misses(matrix):
        scale = np.maximum(np.abs(numerical), np.abs(matrix))
        return ~(np.abs(matrix - numerical) <= rtol*scale + slack)

    column = np.abs(numerical).max(axis=0, initial=0)
    steps = steps_of(x, 2.0**-17)
    slack = (4*np.abs(coarse - numerical) + 1e-10*column
             + 8*EPS*np.maximum(np.abs(f)[:, None], np.abs(x)*column)/steps)
    bad = misses(given)
    wrong = np.argwhere(bad)
    square = given.shape[0] == given.shape[1]
    flipped = bad.any(axis=0) & ~(misses(-given)).any(axis=0)
    if transposed and not bad.any():
        message = "The Jacobian is transposed: rows are for residuals, or pass col_deriv=True."
    elif not bad.any():
        message = "The Jacobian agrees with differences of the function."
    elif square and given.shape[0] > 1 and not misses(given.T).any():
        message = "The Jacobian is transposed: rows are for residuals, or pass col_deriv=True."
    elif flipped.any() and (flipped | ~bad.any(axis=0)).all():
        which = np.flatnonzero(flipped)
        if which.size > 1 and (flipped | (column == 0)).all():
            message = "The sign of the whole Jacobian is flipped."
        elif which.size == 1:
            message = (f"The sign of column {which[0]} of the Jacobian (derivatives with respect "
                       f"to x[{which[0]}]) is flipped.")
        else:
            message = f"The signs of columns {which.tolist()} of the Jacobian are flipped."
    else:
        i, j = wrong[np.argmax(np.abs(given - numerical)[bad])]
        columns = sorted(set(wrong[:, 1].tolist()))
        message = (f"{len(wrong)} of {given.size} entries are wrong, in columns {columns}; the "
                   f"worst is the derivative of residual {i} with respect to x[{j}]: "
                   f"{given[i, j]:.6g} where differences give {numerical[i, j]:.6g}.")
    if transposed and bad.any():
        message = "The Jacobian has the shape of the transposed one. After transposing: " + message
    rows, told = _rows(func, args, x, f, given)
    return GradientCheck(ok=not bad.any() and not transposed, wrong=wrong,
                         error=np.abs(given - numerical), numerical=numerical,
                         rows=np.where(told, rows, 1.0), message=message)


def _rows(func, args, x, f, jacobian):
    """MINPACK's measure of each row, and a mask of the rows that it can check; in the others f is zero or does not move."""
    moved = np.atleast_1d(np.array(returned(func(chkder(x), *args), "func", "check_gradient"), float))
    with np.errstate(all="ignore"):
        told = (f != 0) & (moved != 0) & (np.abs(moved - f) >= 100*EPS*np.abs(f))
    return chkder(x, f, jacobian, moved), told


def _by_rows(given, f, x, func, args):
    """The verdict of MINPACK's chkder alone."""
    rows, told = _rows(func, args, x, f, given)
    bad = np.flatnonzero(told & ~(rows > 0.5))
    if bad.size:
        worst = bad[np.argmin(rows[bad])]
        message = (f"{bad.size} of {f.size} rows of the Jacobian disagree with a step along all variables: {_few(bad)}; "
                   f"the worst is row {worst} ({rows[worst]:.2g}).")
    elif told.any():
        message = "The rows of the Jacobian agree with a step along all variables."
    else:
        message = "No residual moves with a step along all variables: nothing was checked."
    if not told.all() and told.any():
        message += f" Not checked: {_few(np.flatnonzero(~told))}, whose residuals are zero or do not move."
    return GradientCheck(ok=not bad.size and bool(told.any()), wrong=bad, error=None, numerical=None, rows=rows,
                         message=message)


def _few(indices):
    shown = ", ".join(map(str, indices[:5]))
    return f"{shown} and {indices.size - 5} more" if indices.size > 5 else shown
