"""The solver without a loop: what it asks for, anybody may answer, anywhere."""

from __future__ import annotations

import numpy as np

from .._core import Machine
from .._problem.arguments import real_array
from .._problem.bounds import Bounds, parse_bounds
from .._problem.settings import first_factor, parse_strategy
from .status import SUCCESS, Status, message, not_finite_message

__all__ = ["LevenbergMarquardt"]


class LevenbergMarquardt(Machine):
    """
    A fit that asks and is told: the loop, and where the residuals are, is yours.

    Parameters
    ----------
    x0 : array_like
        Starting estimate; n real numbers of any shape.  Not modified.
    ftol, xtol, gtol, factor, diag, bounds, epsfcn : optional
        As in `leastsq`.  `epsfcn` is for `points`; None: the machine precision of float64.
    maxfev : int, optional
        Most evaluations, as told.  Zero or less: 200*(n + 1) if the first model told took
        evaluations (differences), 100*(n + 1) if it took none.
    strategy : {"minpack", "fast", "robust"}, optional
        As in `leastsq`.  The other two ask for two things more, both of which may be declined.

    Attributes
    ----------
    request : {"norm", "model", "change", "feeler", None}
        What is wanted: the norm of the residuals, or the Jacobian with the residuals.  With a strategy also
        how the residuals change along the last Jacobian: to the trial that was told last ("change"), or to a point that is
        only for that ("feeler").  None: the fit has ended.
    x_eval : ndarray, shape (n,), or None
        Where it is wanted; a copy.  For a "change", where the last norm was.
    accepted : bool
        Whether the trial that was told last was taken as `x`: then its residuals are
        those that the next model wants.
    x : ndarray, shape (n,)
        The best point so far; a copy.
    fnorm : float
        The norm of the residuals there; nan before it is told.
    ier : int or None
        Why the fit ended, a member of `Status`: 1 to 4 are success.  None before that.
    message : str or None
        The same in words, those of `leastsq`.
    success : bool
        Whether it ended, and well.
    cov_x : ndarray, shape (n, n), or None
        As `leastsq` returns it.
    active_mask : ndarray of int, shape (n,)
        -1 for a parameter at its lower bound, 1 at its upper one, else 0.
    multipliers : ndarray, shape (n,), or None
        As in the infodict of `leastsq`; None without bounds.
    nfev, njev : int
        Evaluations and models told.
    iteration : int
        1 and the number of steps taken; 0 at the start.
    radius, par, gnorm : float
        Of the trust region; the Levenberg-Marquardt parameter; the largest cosine of the
        residuals and a column of the Jacobian.
    actual, predicted, ratio : float
        Of the last trial: the relative reduction of the sum of squares, what the model said of it,
        and their ratio.
    ipvt, qtf : ndarray, shape (n,)
        Of the last model, as `leastsq` returns them.
    fault : tuple of (int, int, float), or None
        After `ier` 9, row, column and value of the first number that was not finite, if it was told;
        column n is f.
    n, maxfev, ftol, xtol, gtol, bounds, strategy
        The settings.

    Methods
    -------
    tell_norm(fnorm, evaluations=1)
        Answer "norm": a number, or the residuals.
    tell_model(model, f=None, *, evaluations=0, change=None)
        Answer "model": J and f, or a `RowAccumulator` of their rows.
    tell_change(change, evaluations=None)
        Answer "change" and "feeler": ``J.T @ (other - f)``, or None.
    change(J, f, other)
        That, summed as `leastsq` does.
    points()
        The n points and steps for a Jacobian by forward differences.

    Raises
    ------
    TypeError, ValueError
        An argument is refused, as by `leastsq`.
    RuntimeError
        From the methods: something else is wanted, or nothing.  An answer that is refused does
        not change the fit.

    See Also
    --------
    leastsq : the same with a loop.

    Notes
    -----
    The iterates are those of `leastsq`, to the bit, if `tell_norm` is given the residuals and
    `tell_model` the Jacobian; with a strategy, if `change` makes what it asks for, and `tell_model` is told the change
    to the residuals of the x before.  With accumulators they agree to rounding.

    A trial norm that is not finite is a rejected step; at the start, or in a model, it
    ends the fit with `ier` 9, or if `x` is on one of its bounds makes it look inside.

    It can be pickled at any time, and goes on elsewhere with the same iterates.  A pickle takes some
    ``4*n**2`` bytes, is checked when it is read, and can be read by any 64-bit little-endian
    machine.

    Examples
    --------
    >>> import numpy as np
    >>> from leastsq import LevenbergMarquardt
    >>> t, y = np.array([0.0, 1.0, 2.0]), np.array([2.0, 1.0, 0.5])
    >>> def residual(x):
    ...     return x[0]*np.exp(-x[1]*t) - y
    >>> lm = LevenbergMarquardt([1.0, 1.0])
    >>> while lm.request:
    ...     if lm.request == "norm":
    ...         trial = residual(lm.x_eval)
    ...         lm.tell_norm(trial)
    ...         if lm.accepted:
    ...             f = trial
    ...     else:
    ...         points, steps = lm.points()
    ...         rows = [(residual(point) - f)/step for point, step in zip(points, steps)]
    ...         lm.tell_model(np.transpose(rows), f, evaluations=lm.n)
    >>> lm.x.round(6), lm.success
    (array([2.      , 0.693147]), True)

    The same with a strategy, which wants the residuals of the point before to be kept as well:

    >>> lm, before = LevenbergMarquardt([1.0, 1.0], strategy="fast"), None
    >>> while lm.request:
    ...     if lm.request == "norm":
    ...         trial = residual(lm.x_eval)
    ...         lm.tell_norm(trial)
    ...         if lm.accepted:
    ...             f, before = trial, (f if lm.iteration > 1 else None)
    ...     elif lm.request == "change":
    ...         lm.tell_change(lm.change(J, f, trial))
    ...     elif lm.request == "feeler":
    ...         lm.tell_change(lm.change(J, f, residual(lm.x_eval)))
    ...     else:
    ...         points, steps = lm.points()
    ...         J = np.transpose([(residual(point) - f)/step for point, step in zip(points, steps)])
    ...         change = None if before is None else lm.change(J, f, before)
    ...         lm.tell_model(J, f, evaluations=lm.n, change=change)
    >>> lm.x.round(6), lm.success
    (array([2.      , 0.693147]), True)
    """

    __slots__ = ()

    def __new__(cls, x0, *, ftol=1.49012e-8, xtol=1.49012e-8, gtol=0.0, maxfev=0, factor=100,
                diag=None, bounds=None, epsfcn=None, strategy="minpack"):
        low = high = None
        if bounds is not None:
            start = real_array(x0, "x0", "LevenbergMarquardt")
            parsed = parse_bounds(bounds, (start.size,))
            parsed.check_start(start)
            if parsed.finite:
                low, high = parsed.low, parsed.high
        number = parse_strategy(strategy, "LevenbergMarquardt")
        return super().__new__(cls, x0, ftol, xtol, gtol, maxfev, first_factor(factor, number, low is not None), diag, low, high,
                               epsfcn, number)

    @property
    def success(self):
        return self.ier in SUCCESS

    @property
    def message(self):
        ier = self.ier
        if ier is None:
            return None
        x, bounds = self.x, self.bounds
        if ier == Status.NOT_FINITE:
            said = self._not_finite(x)
        else:
            said = message(ier, ftol=self.ftol, xtol=self.xtol, gtol=self.gtol, maxfev=self.maxfev)
        return said if bounds is None else said + Bounds(*bounds).describe(x, self.multipliers)

    def _not_finite(self, x):
        at = f"at x = {np.array2string(x, threshold=20)}"
        if self.fault is not None and self.fault[1] == self.n:
            return f"Residuals are not finite: f[{self.fault[0]}] is {self.fault[2]} {at}."
        if self.njev == 0 and np.isnan(self.fnorm) and self.fault is None:
            return f"The norm of the residuals is nan {at}."
        return not_finite_message(x, self.njev, self.fault)

    @property
    def active_mask(self):
        bounds = self.bounds
        return np.zeros(self.n, np.int64) if bounds is None else Bounds(*bounds).active_mask(self.x)

    def __repr__(self):
        doing = f"wants the {self.request}" if self.request else f"ended with ier {self.ier}"
        return f"<{type(self).__name__}: n={self.n}, nfev={self.nfev}, fnorm={self.fnorm:g}, {doing}>"
