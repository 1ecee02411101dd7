"""The replacement of `scipy.optimize.least_squares`, always with Levenberg–Marquardt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from .._fit.filled import Filled
from .._fit.fit import Fit
from .._fit.stayed import MAY_STAY, norms_at, stayed
from .._fit.status import Status, not_finite_message, stopped_message, vanished_message
from .._problem.arguments import improper, jacobian_array, noted
from .._problem.compiled import CFunction, call_compiled
from .._problem.derivatives import SCHEMES, DifferenceJacobian, Differences
from .._problem.kinds import PLAIN, plain, returned
from .._problem.problem import parse_problem
from .._problem.settings import Settings, Watching, parse_strategy
from .._problem.words import LEAST_SQUARES, explain_call, raised_here
from .._uncertainty.covariance import by_option, check_option
from .arguments import (
    NotDense,
    check_tolerances,
    check_trust_region,
    evaluation_limit,
    factors_of_scales,
    is_scipys,
    relative_steps,
    scipys_callback,
)
from .classes import OptimizeResult
from .outcome import STATUS, in_place_of, scipys_sentence, too_few, warn_in_place_of

__all__ = ["least_squares"]


def least_squares(fun, x0, jac="2-point", bounds=(-np.inf, np.inf), method="lm", ftol=1e-8,
                  xtol=1e-8, gtol=1e-8, x_scale=None, loss="linear", f_scale=1.0, diff_step=None,
                  tr_solver=None, tr_options=None, jac_sparsity=None, max_nfev=None, verbose=0,
                  args=(), kwargs=None, callback=None, workers=None, *, covariance=None, absolute_sigma=False,
                  strategy="minpack"):
    r"""
    Minimize a robust sum of squares between bounds.

    ::

        minimize 0.5*sum(rho(fun(x)**2))    subject to lb <= x <= ub

    Parameters
    ----------
    fun : callable or CFunction
        Residuals ``fun(x, *args, **kwargs)``: m real numbers for n parameters, m >= n.  With bounds, or with 'trf' or
        'dogbox', there may be fewer residuals than free parameters; `message` then says that many answers are as good.
    x0 : float or array_like, shape (n,)
        Starting estimate, within the bounds.
    jac : {"2-point", "3-point", "cs"}, callable or CFunction, optional
        Forward differences, central differences, complex steps, or the Jacobian
        ``jac(x, *args, **kwargs)`` of shape (m, n).  If `fun` and `jac` are both compiled, the fit
        runs without Python.
    bounds : 2-tuple or object with lb and ub, optional
        Lower and upper bounds: each a number, or n numbers.  ``lb = ub`` fixes a
        parameter.
    method : {"lm", "trf", "dogbox"}, optional
        Always Levenberg–Marquardt, with bounds in a projected trust region.  "trf" and "dogbox" are the methods that
        SciPy needs for bounds and losses; `message` says that Levenberg–Marquardt answered in their place.
    ftol, xtol, gtol : float or None, optional
        Relative error wanted in the cost and in `x`; largest cosine wanted
        between the residuals and a column of the Jacobian.  None: no such test.
    x_scale : {None, "jac"} or array_like, optional
        Scales of the parameters, n positive numbers or one number.  None or "jac": from the
        columns of the Jacobian.
    loss : {"linear", "soft_l1", "huber", "cauchy", "arctan"} or callable, optional
        rho.  A callable takes ``z`` and returns rho, rho' and rho'', shape (3, m).
    f_scale : float, optional
        ``rho_(f**2) = f_scale**2*rho((f/f_scale)**2)``, > 0.
    diff_step : None, float or array_like, shape (n,), optional
        Relative steps of the differences.  None: from the machine precision.
    tr_solver, tr_options : optional
        Arguments of SciPy's other methods; they change nothing here.
    jac_sparsity : None
        Any other value is refused: the Jacobian is dense.
    max_nfev : int, optional
        Limit on the evaluations of `fun`, not counting those for differences.  None: 100*n.  May be a float with bounds, or
        with 'trf' or 'dogbox'.
    verbose : {0, 1, 2, 3}, optional
        As in `leastsq`.
    args, kwargs : tuple and dict, optional
        Further arguments of `fun` and `jac`.
    callback : callable, optional
        ``callback(x)``, or ``callback(intermediate_result)`` if its argument has that
        name: an `OptimizeResult` with x, cost, optimality, nfev, njev, nit.  Called once per
        iteration; a true result or StopIteration ends the fit.
    workers : int or map-like callable, optional
        As in `leastsq`.
    covariance : {None, "accurate", "richardson", "3-point", "2-point", "cs"}, optional
        Also return the covariance of `x`, from new derivatives at `x` by this
        method of `leastsq.covariance`; "accurate": by `jac` if that is a function, by
        complex steps if it is "cs", else by "richardson".
    absolute_sigma : bool, optional
        For `covariance`: the residuals are divided by the standard deviations of the data,
        so the covariance is not scaled.
    strategy : {"minpack", "fast", "robust"}, optional
        How steps are chosen, as in `leastsq`.

    Returns
    -------
    result : OptimizeResult
        ``x``; ``cost``; ``fun``, the residuals; ``jac``, the Jacobian at x, its rows
        weighted by the loss so that ``jac.T @ jac`` approximates the Hessian; ``grad``,
        the gradient of the cost; ``optimality``, the largest component of the gradient
        that no bound holds; ``active_mask``, -1 at a lower bound, 1 at an upper bound, else 0;
        with bounds ``multipliers``, the slope of the cost along a parameter that its bound holds, 0 for other
        parameters, nan for a parameter at a bound at which the cost does not depend on it;
        ``nfev``, not counting differences; ``njev``, None with differences, except with 'trf' and 'dogbox', which
        count those Jacobians; ``status``; ``message``; ``success``, ``status > 0``; with `covariance`, ``covariance``, a
        `CovarianceResult`.

        ``status`` has SciPy's codes: 4 to 1 success, 0 `max_nfev`, -2 `callback`; and -3 for a
        Jacobian that is not finite.

    Raises
    ------
    ValueError
        An option is unknown, or not for this method; bad bounds; `x0` is outside the bounds; the
        residuals are not finite at `x0`, or too few; `jac` returns the wrong shape, or a sparse matrix.
    TypeError
        A wrong type; `args` or `kwargs` with a `CFunction`.
    ArithmeticError
        A compiled function returned a value other than 0.

    Warns
    -----
    OptimizeWarning
        'trf' or 'dogbox' was named, but Levenberg–Marquardt answered.  Once in a process.

    Notes
    -----
    The arrays that functions are called with are their own, fresh at each call; `args`, blocks and
    other data of the caller's are handed on as they are.

    SciPy's `least_squares` with method "lm" gives the same fits, without bounds or
    losses.  The first trust region has MINPACK's factor 100 without bounds, and 1
    with bounds or with 'trf' or 'dogbox'.

    Examples
    --------
    A level and a decay, with five outliers in the data:

    >>> import numpy as np
    >>> from leastsq import least_squares
    >>> t = np.linspace(0, 4, 40)
    >>> y = 2.5*np.exp(-1.3*t) + 0.5
    >>> y[::9] += 4
    >>> def fun(x):
    ...     return x[0]*np.exp(-x[1]*t) + x[2] - y
    >>> least_squares(fun, [1, 1, 1]).x.round(1)
    array([5.5, 9.3, 1.3])
    >>> fit = least_squares(fun, [1, 1, 1], loss="soft_l1", f_scale=0.01, bounds=(0, np.inf))
    >>> fit.x.round(2), fit.success
    (array([2.51, 1.31, 0.5 ]), True)
    """
    other = is_scipys(method)
    check_trust_region(tr_solver, tr_options, jac_sparsity)
    compiled = isinstance(fun, CFunction) or isinstance(jac, CFunction)
    if isinstance(fun, CFunction) and isinstance(jac, str) and jac == "cs":
        raise TypeError("`jac` 'cs' needs a Python function of complex numbers, got a CFunction.")
    if isinstance(fun, CFunction) and isinstance(jac, str):
        fun = partial(call_compiled, fun)       # differences are made here
    if compiled and (args or kwargs):
        raise TypeError("`args` and `kwargs` must be empty with a CFunction, which gets its data through "
                        "CFunction(..., data=).")
    if not (callable(fun) or isinstance(fun, CFunction)):
        raise TypeError(f"`fun` must be callable or a CFunction, got {type(fun).__name__}.")
    if not (callable(jac) or isinstance(jac, CFunction) or isinstance(jac, str) and jac in SCHEMES):
        raise ValueError(f"`jac` must be '2-point', '3-point', 'cs', callable or a CFunction, got {jac!r}.")
    if type(x0) not in PLAIN:
        x0 = plain(x0, "x0", "least_squares")
    x0 = np.atleast_1d(x0)
    if x0.ndim > 1:
        raise ValueError("`x0` must have at most 1 dimension.")
    if np.iscomplexobj(x0):
        raise ValueError("`x0` must be real.")
    n = x0.size
    if n == 0:
        raise ValueError("`x0` must have at least one element, got none.")
    ftol, xtol, gtol = _tolerances(ftol=ftol, xtol=xtol, gtol=gtol)
    diag = factors_of_scales(x_scale, n)
    step = relative_steps(diff_step, n, "least_squares")
    try:
        args = tuple(args)
    except TypeError:
        raise TypeError(f"`args` must be a tuple, got {type(args).__name__}: one argument a is (a,).") from None
    if not (kwargs is None or isinstance(kwargs, Mapping)):
        raise TypeError(f"`kwargs` must be a dict, got {type(kwargs).__name__}.")
    if kwargs:
        fun = partial(fun, **kwargs)
        jac = jac if isinstance(jac, str) else partial(jac, **kwargs)
    parse_strategy(strategy, "least_squares")
    check_option(covariance)
    if absolute_sigma and covariance is None:
        raise ValueError("`absolute_sigma` is for `covariance`, which is None.")

    try:
        user = parse_problem(fun, x0, args, jac, False, Differences(workers=workers, steps=step), bounds, (loss, f_scale))
        is_free = not other and user.bounds is None         # a problem for SciPy's "lm"
        functions = _Functions(user, n, is_free, method)
        limit, tell = evaluation_limit(max_nfev, 100*n, not is_free), scipys_callback(callback, other)
        if other and limit == 1:        # MINPACK takes a step before it checks the limit
            tell = _at_once
        settings = Settings(ftol, xtol, gtol, limit, 100.0 if is_free else 1.0, diag, strategy=strategy)
        fit = Fit(functions.problem, x0, settings, Watching(tell, False, verbose), count_differences=False)
        out = fit.solve(True)
        if tell is _at_once and out[1] == Status.WATCHER:
            out = out[0], int(Status.MAXFEV), *out[2:]
        result = _result(fit, out, functions, user, other)
    except (TypeError, ValueError, OverflowError) as error:
        if raised_here(error):
            LEAST_SQUARES.translate(error)
            explain_call(error, LEAST_SQUARES, fun, jac, args)
        raise
    if covariance is not None:
        user = replace(user, absolute_sigma=bool(absolute_sigma))
        result["covariance"] = by_option(covariance, user, result.x)
    object.__setattr__(result, "problem", user)
    if other:
        result["message"] += in_place_of(method)
        warn_in_place_of(method, 2)
    return result


def _at_once(_):
    """A callback that ends a fit at its start."""
    return True


class _Functions:
    """
    The functions that the solver calls: call the user's, check with SciPy's messages, and remember the last Jacobian.

    Parameters
    ----------
    user : Problem
    n : int
        Number of parameters.
    enough : bool
        At least as many residuals as free parameters are required.
    method : str
        The user's `method`, for messages.
    """

    def __init__(self, user, n, enough, method):
        func, jac = user.func, user.Dfun
        self.method = method
        self.user, self.last, self.njev = user, None, 0
        self.fewest = user.free_count(n) if enough else 0
        self.m = func.m if isinstance(func, CFunction) else None
        self.differences = None
        if jac is None:
            self.differences = DifferenceJacobian(func, user.differences, user.bounds, grows=user.grows)
            func, self._jacobian = self.differences.residual, self.differences.jacobian
        else:
            self._jacobian = partial(call_compiled, jac, columns=n) if isinstance(jac, CFunction) else jac
        self._fun = func
        if self.m is None:
            func = self.fun
        if not isinstance(jac, CFunction):
            jac = self.jac
        # (workers together with a user's Jacobian are refused, as by leastsq)
        differences = Differences() if user.by_differences else user.differences
        self.filled = None if enough else Filled(func, jac, False, n, 1)
        if self.filled is not None:
            func, jac = self.filled.func, self.filled.Dfun
        self.problem = replace(user, func=func, Dfun=jac, differences=differences)

    def fun(self, x, *args):
        residuals = returned(self._fun(x, *args), "fun", "least_squares")
        if self.m is None:
            self._count(residuals)
        return residuals

    def _count(self, residuals):
        try:
            array = np.asarray(residuals)
        except (TypeError, ValueError):
            return                      # the core raises
        if array.dtype.kind in "biuf":
            self.m = array.size
            if self.m < self.fewest:
                raise noted(ValueError("Method 'lm' doesn't work when the number of residuals is less than the number of "
                                       "variables."), f"fun returned {self.m} for {self.fewest} free parameters"
                            + "; return the residuals, one by one, not the sum of their squares"*(self.m == 1))

    def jac(self, x, *args):            # errors use this name
        where = x.copy()
        jacobian = returned(self._jacobian(x, *args), "jac", "least_squares")
        if self.differences is None and self.m is not None:
            _check_form(jacobian, (self.m, x.size), self.method)
        self.last = where, jacobian
        return jacobian

    def jacobian_at(self, x, f):
        """The Jacobian at the answer, shape (m, n)."""
        args = self.user.args
        if self.last is not None and np.array_equal(self.last[0], x):
            jacobian = self.last[1]
        elif self.differences is not None:
            jacobian = self.differences.jacobian_at(x, f, args)
        else:
            self.njev = 1
            jacobian = self._jacobian(x.copy(), *args)
        return jacobian_array(jacobian, (f.size, x.size), "jac", "least_squares")


def _check_form(jacobian, wanted, method):
    """Refuse wrong Jacobians with SciPy's messages, before the core does with those of `leastsq`."""
    if hasattr(jacobian, "toarray") or hasattr(jacobian, "matvec"):
        raise noted(NotDense(f"method='{method}' works only with dense Jacobian matrices."),
                    f"jac returned {type(jacobian).__name__}; leastsq needs a dense array, such as its toarray()")
    shape = jacobian.shape if isinstance(jacobian, np.ndarray) else wanted      # the core checks other objects
    if shape == wanted or 1 in wanted and np.size(jacobian) == wanted[0]*wanted[1]:
        return
    error = ValueError(f"The return value of `jac` has wrong shape: expected {wanted}, actual {shape}.")
    raise noted(error, "its transpose has that shape") if shape == wanted[::-1] else error


def _result(fit, out, functions, user, other):
    x, ier, fvec, nfev, njev = out[:5]
    f, loss, bounds = np.atleast_1d(fvec if functions.filled is None else functions.filled.own(fvec)), user.loss, user.bounds
    if ier == Status.NOT_FINITE and njev == 0:
        raise ValueError("Residuals are not finite in the initial point. "
                         + LEAST_SQUARES.of(not_finite_message(x, 0, out[9], loss=loss.rho)))
    if ier == Status.STOPPED:
        raise ArithmeticError(stopped_message(*out[10]))
    status = STATUS[ier]
    if ier == Status.NOT_FINITE:
        message = LEAST_SQUARES.of(not_finite_message(x, njev, out[9], loss=loss.rho))
    else:
        message = scipys_sentence(ier)
        vanished = None if functions.differences is None else functions.differences.vanished
        if vanished is not None and vanished.any():
            message += vanished_message(x, np.flatnonzero(vanished))
        elif ier in MAY_STAY and np.array_equal(x, fit.x0):
            norms = norms_at(fvec, *out[5:8], x, fit.settings.diag, None if bounds is None else bounds.active_mask(x) == 0)
            said = stayed(ier, norms, x.size, user.by_differences, LEAST_SQUARES)
            message += said and f"\n  {said}"
    message += user.describe_bounds(x, out[11]) + too_few(f.size, user.free_count(x.size))

    jacobian = functions.jacobian_at(x, f)
    rho = loss.values(f)
    grad = jacobian.T @ (rho[1]*f)
    if not loss.is_linear:
        jacobian = jacobian*loss.row_weights(f)[:, None]
    where = user.at_bounds(x, out[11])
    mask = where["active_mask"]
    free = ~((mask < 0) & (grad >= 0) | (mask > 0) & (grad <= 0))
    if bounds is not None:
        free &= bounds.free
    if fit.watcher is not None and fit.watcher.verbose:
        fit.watcher.finish(nfev, message)
    result = OptimizeResult(
        x=x, cost=0.5*rho[0].sum(), fun=f, jac=jacobian, grad=grad,
        optimality=np.abs(grad[free]).max(initial=0.0), active_mask=mask, nfev=nfev,
        njev=None if user.by_differences and not other else njev + functions.njev, status=status, message=message,
        success=status > 0)
    if bounds is not None:
        result["multipliers"] = where["multipliers"]
    return result


def _tolerances(**given):
    values = []
    for name, value in given.items():
        try:
            values.append(0.0 if value is None else float(value))
        except (TypeError, ValueError):
            raise TypeError(f"`{name}` must be a real number or None, got {value!r}.") from None
        if words := improper(name, values[-1], value):
            raise TypeError(words)
    check_tolerances(values, given)
    return values
