"""The solver without a loop ("ask and tell"): the caller answers its requests."""

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
    A fit that asks for residuals and Jacobians and is told them: the caller writes the loop.

    Parameters
    ----------
    x0 : array_like
        Starting estimate; n real numbers of any shape.  Not modified.
    ftol, xtol, gtol, factor, diag, bounds, epsfcn : optional
        As in `leastsq`.  `epsfcn` is for `points`; None: the machine precision of float64.
    maxfev : int, optional
        Limit on the evaluations that are told.  Zero or less: 200*(n + 1) if the first model told took
        evaluations (differences), 100*(n + 1) if it took none.
    strategy : {"minpack", "fast", "robust"}, optional
        As in `leastsq`.  "fast" and "robust" make two more kinds of requests, both of which may be declined.

    Attributes
    ----------
    request : {"norm", "model", "change", "feeler", None}
        "norm": the norm of the residuals; "model": the Jacobian with the residuals.  With a strategy also
        the change of the residuals along the last Jacobian: at the last trial that was told ("change"), or at a point
        that is evaluated only for this ("feeler").  None: the fit has ended.
    x_eval : ndarray, shape (n,), or None
        The point for which the answer is wanted; a copy.  For a "change", the point of the last norm.
    accepted : bool
        Whether the last trial that was told became `x`; the next model then needs the
        residuals of that trial.
    x : ndarray, shape (n,)
        The best point so far; a copy.
    fnorm : float
        The norm of the residuals at `x`; nan before the first norm is told.
    ier : int or None
        Why the fit ended, a member of `Status`: 1 to 4 are success.  None before the end.
    message : str or None
        The same as a sentence, with the words of `leastsq`.
    success : bool
        Whether the fit has ended with success.
    cov_x : ndarray, shape (n, n), or None
        As returned by `leastsq`.
    active_mask : ndarray of int, shape (n,)
        -1 for a parameter at its lower bound, 1 at its upper bound, else 0.
    multipliers : ndarray, shape (n,), or None
        As in the infodict of `leastsq`; None without bounds.
    nfev, njev : int
        Numbers of evaluations and of models told.
    iteration : int
        1 + the number of accepted steps; 0 at the start.
    radius, par, gnorm : float
        The radius of the trust region; the Levenberg-Marquardt parameter; the largest cosine between the
        residuals and a column of the Jacobian.
    actual, predicted, ratio : float
        The actual and the predicted relative reduction of the sum of squares by the last trial,
        and their ratio.
    ipvt, qtf : ndarray, shape (n,)
        From the last model, as in the infodict of `leastsq`.
    fault : tuple of (int, int, float), or None
        After `ier` 9: row, column and value of the first number that was not finite, if that number was told;
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
        ``J.T @ (other - f)``, with the same bits as in `leastsq`.
    points()
        The n points and steps for a Jacobian by forward differences.

    Raises
    ------
    TypeError, ValueError
        An argument is refused, as by `leastsq`.
    RuntimeError
        Raised by the methods if the request is another, or None.  An answer that is refused does
        not change the fit.

    See Also
    --------
    leastsq : the same with a loop.

    Notes
    -----
    The iterates have the bits of `leastsq` if `tell_norm` gets the residuals and
    `tell_model` the Jacobian; with a strategy, also if `change` computes the changes, and `tell_model` gets the change
    to the residuals at the previous x.  With accumulators the iterates agree to rounding.

    A trial norm that is not finite is a rejected step.  At the start, or in a model, numbers that are not finite
    end the fit with `ier` 9; if `x` is on one of its bounds, the fit tries points inside first.

    An instance can be pickled at any time, and continues in another process with the same iterates.  A pickle has about
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

    The same with a strategy, which also needs the residuals at the previous point:

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
