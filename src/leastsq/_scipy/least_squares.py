"""The replacement of `scipy.optimize.least_squares`, by Levenberg–Marquardt alone."""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from .._fit.fit import Fit
from .._fit.stayed import norms_at, stayed
from .._fit.status import Status, not_finite_message, stopped_message, vanished_message
from .._problem.arguments import improper, jacobian_array, noted, real_array
from .._problem.compiled import CFunction, call_compiled
from .._problem.derivatives import SCHEMES, DifferenceJacobian, Differences
from .._problem.kinds import PLAIN, plain, returned
from .._problem.problem import parse_problem
from .._problem.settings import Settings, Watching, parse_strategy
from .._problem.words import LEAST_SQUARES, explain_call, raised_here
from .._uncertainty.covariance import by_option, check_option
from .arguments import evaluation_limit, factors_of_scales

__all__ = ["OptimizeResult", "least_squares"]

_EPS = np.finfo(float).eps
_STATUS = {1: 2, 2: 3, 3: 4, 4: 1, 5: 0, 6: 2, 7: 3, 8: 1, 9: -3, 11: -2}
_MESSAGES = {
    -2: "`callback` ended the fit.",
    0: "The maximum number of function evaluations is exceeded.",
    1: "`gtol` termination condition is satisfied.",
    2: "`ftol` termination condition is satisfied.",
    3: "`xtol` termination condition is satisfied.",
    4: "Both `ftol` and `xtol` termination conditions are satisfied.",
}
_MAY_STAY = (int(Status.XTOL), int(Status.GTOL))
_TO_ROUNDING = {6: "No further reduction of the cost is possible.",
                7: "No further improvement of `x` is possible.",
                8: "The residuals are orthogonal to the Jacobian to machine precision."}


class OptimizeResult(dict):
    """A dict whose keys are attributes too, as `scipy.optimize.OptimizeResult`.

    That of a fit has an attribute ``problem`` besides, what was fitted, which copies and pickles leave out.
    """

    __slots__ = ("problem",)

    def __reduce__(self):
        return OptimizeResult, (dict(self),)

    def copy(self):
        return OptimizeResult(self)

    __copy__ = copy

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    __setattr__ = dict.__setitem__
    __delattr__ = dict.__delitem__

    def __dir__(self):
        return list(self.keys())

    def __repr__(self):
        width = max(map(len, self), default=0)
        lines = []
        for name, value in self.items():
            text = repr(value) if not isinstance(value, np.ndarray) else np.array2string(
                value, threshold=30, edgeitems=3, precision=4)
            lines.append(f"{name:>{width}}: " + text.replace("\n", "\n" + " "*(width + 2)))
        return "\n".join(lines) or "OptimizeResult()"


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
        Residuals ``fun(x, *args, **kwargs)``: m real numbers for n parameters, m >= n, or
        at least as many as the bounds leave free.
    x0 : float or array_like, shape (n,)
        Starting estimate, within the bounds.
    jac : {"2-point", "3-point", "cs"}, callable or CFunction, optional
        Forward differences, central ones, complex steps, or the Jacobian
        ``jac(x, *args, **kwargs)`` of shape (m, n).  A compiled one for a compiled `fun` lets
        the fit run without Python.
    bounds : 2-tuple or object with lb and ub, optional
        Lower and upper bounds: each a number, or n of them.  ``lb = ub`` fixes a
        parameter.
    method : {"lm"}, optional
        Levenberg–Marquardt, between bounds by a projected trust region.
    ftol, xtol, gtol : float or None, optional
        Relative error wanted in the cost and in `x`; largest cosine wanted
        between the residuals and a column of the Jacobian.  None: no such test.
    x_scale : {None, "jac"} or array_like, optional
        Scales of the parameters, n positive numbers or one.  None or "jac": from the
        columns of the Jacobian.
    loss : {"linear", "soft_l1", "huber", "cauchy", "arctan"} or callable, optional
        rho.  A callable takes ``z`` and returns rho, rho' and rho'', shape (3, m).
    f_scale : float, optional
        ``rho_(f**2) = f_scale**2*rho((f/f_scale)**2)``, > 0.
    diff_step : None, float or array_like, shape (n,), optional
        Relative steps of the differences.  None: from the machine precision.
    tr_solver, tr_options, jac_sparsity : None
        For SciPy's other methods; anything else is refused.
    max_nfev : int, optional
        Most evaluations of `fun`, without those for differences.  None: 100*n.
    verbose : {0, 1, 2, 3}, optional
        As `leastsq`'s.
    args, kwargs : tuple and dict, optional
        Further arguments of `fun` and `jac`.
    callback : callable, optional
        ``callback(x)``, or ``callback(intermediate_result)`` if its argument has that
        name: an `OptimizeResult` with x, cost, optimality, nfev, njev, nit.  Once per
        iteration; true or StopIteration ends the fit.
    workers : int or map-like callable, optional
        As `leastsq`'s.
    covariance : {None, "accurate", "richardson", "3-point", "2-point", "cs"}, optional
        Also return the covariance of `x`, from derivatives made afresh there by that
        method of `leastsq.covariance`; "accurate": by `jac` if that is a function, by
        complex steps if it is "cs", else by "richardson".
    absolute_sigma : bool, optional
        For `covariance`: the residuals are divided by the errors of the data, so that
        the covariance needs no scale from them.
    strategy : {"minpack", "fast", "robust"}, optional
        Which steps are taken, as in `leastsq`.

    Returns
    -------
    result : OptimizeResult
        ``x``; ``cost``; ``fun``, the residuals; ``jac``, the Jacobian at x, its rows
        weighted by the loss so that ``jac.T @ jac`` approximates the Hessian; ``grad``,
        the gradient of the cost; ``optimality``, the largest component of the gradient
        that no bound holds; ``active_mask``, -1 at a lower bound, 1 at an upper one, else 0;
        with bounds ``multipliers``, the slope of the cost along a parameter that its bound holds, 0 for
        others, nan for one at a bound where nothing depends on it;
        ``nfev``, without differences; ``njev``, None with differences; ``status``;
        ``message``; ``success``, ``status > 0``; with `covariance`, ``covariance``, a
        `CovarianceResult`.

        ``status`` is SciPy's: 4 to 1 success, 0 `max_nfev`, -2 `callback`; and -3 for a
        Jacobian that is not finite.

    Raises
    ------
    ValueError
        An option is unknown, or not for this method; bad bounds; `x0` outside; the
        residuals are not finite at `x0`, or fewer than the free parameters; `jac`
        returns the wrong shape, or a sparse matrix.
    TypeError
        A wrong type; `args` or `kwargs` with a `CFunction`.
    ArithmeticError
        A compiled function returned something else than 0.

    Notes
    -----
    The arrays that functions are called with are their own, fresh at each call; `args`, blocks and
    other data of the caller's are handed on as they are.

    SciPy's `least_squares` with method "lm" gives the same fits, without bounds or
    losses.  The first trust region has the factor 100 of MINPACK without bounds and 1
    with them.

    Examples
    --------
    A level and a decay, five of the data spoiled:

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
    if method != "lm":
        raise ValueError(f"`method` must be 'lm', got {method!r}: Levenberg–Marquardt is the one "
                         "method here, with and without bounds.")
    for name, value in (("tr_solver", tr_solver), ("tr_options", tr_options), ("jac_sparsity", jac_sparsity)):
        if value is not None and not (name == "tr_options" and value == {}):
            raise ValueError(f"`{name}` is not supported by method 'lm' and must be None, got {reprlib.repr(value)}: "
                             "it is for SciPy's 'trf' and 'dogbox'.")
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
    max_nfev = evaluation_limit(max_nfev, 100*n)
    ftol, xtol, gtol = _tolerances(ftol=ftol, xtol=xtol, gtol=gtol)
    diag = factors_of_scales(x_scale, n)
    step = _relative_steps(diff_step, n)
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
        functions = _Functions(user, n)
        fit = Fit(functions.problem, x0, Settings(ftol, xtol, gtol, max_nfev, 100.0 if user.bounds is None else 1.0, diag,
                                              strategy=strategy),
                  Watching(_callback(callback), False, verbose), count_differences=False)
        result = _result(fit, fit.solve(True), functions, user)
    except (TypeError, ValueError, OverflowError) as error:
        if raised_here(error):
            LEAST_SQUARES.translate(error)
            explain_call(error, LEAST_SQUARES, fun, jac, args)
        raise
    if covariance is not None:
        user = replace(user, absolute_sigma=bool(absolute_sigma))
        result["covariance"] = by_option(covariance, user, result.x)
    object.__setattr__(result, "problem", user)
    return result


class _Functions:
    """The user's functions as the solver calls them: they check in SciPy's words, and remember the last Jacobian."""

    def __init__(self, user, n):
        func, jac = user.func, user.Dfun
        self.user, self.last, self.njev = user, None, 0
        self.free = user.free_count(n)
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
        # (workers beside a Jacobian of the user's are refused, as by leastsq)
        differences = Differences() if user.by_differences else user.differences
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
            return                      # the core says what is wrong with them
        if array.dtype.kind in "biuf":
            self.m = array.size
            if self.m < self.free:
                raise noted(ValueError("Method 'lm' doesn't work when the number of residuals is less than the number of "
                                       "variables."), f"fun returned {self.m} for {self.free} free parameters"
                            + "; return the residuals, one by one, not the sum of their squares"*(self.m == 1))

    def jac(self, x, *args):            # errors name it so
        where = x.copy()
        jacobian = returned(self._jacobian(x, *args), "jac", "least_squares")
        if self.differences is None and self.m is not None:
            _check_form(jacobian, (self.m, x.size))
        self.last = where, jacobian
        return jacobian

    def jacobian_at(self, x, f):
        """Shape (m, n), at the answer."""
        args = self.user.args
        if self.last is not None and np.array_equal(self.last[0], x):
            jacobian = self.last[1]
        elif self.differences is not None:
            jacobian = self.differences.jacobian_at(x, f, args)
        else:
            self.njev = 1
            jacobian = self._jacobian(x.copy(), *args)
        return jacobian_array(jacobian, (f.size, x.size), "jac", "least_squares")


def _check_form(jacobian, wanted):
    """Refuse in SciPy's words what the core would in those of `leastsq`."""
    if hasattr(jacobian, "toarray") or hasattr(jacobian, "matvec"):
        raise noted(ValueError("method='lm' works only with dense Jacobian matrices."),
                    f"jac returned {type(jacobian).__name__}; its toarray() may be what is wanted")
    shape = jacobian.shape if isinstance(jacobian, np.ndarray) else wanted      # the core reads other things
    if shape == wanted or 1 in wanted and np.size(jacobian) == wanted[0]*wanted[1]:
        return
    error = ValueError(f"The return value of `jac` has wrong shape: expected {wanted}, actual {shape}.")
    raise noted(error, "its transpose has that shape") if shape == wanted[::-1] else error


def _result(fit, out, functions, user):
    x, ier, fvec, nfev, njev = out[:5]
    f, loss, bounds = np.atleast_1d(fvec), user.loss, user.bounds
    if ier == Status.NOT_FINITE and njev == 0:
        raise ValueError("Residuals are not finite in the initial point. "
                         + LEAST_SQUARES.of(not_finite_message(x, 0, out[9], loss=loss.rho)))
    if ier == Status.STOPPED:
        raise ArithmeticError(stopped_message(*out[10]))
    status = _STATUS[ier]
    if ier == Status.NOT_FINITE:
        message = LEAST_SQUARES.of(not_finite_message(x, njev, out[9], loss=loss.rho))
    else:
        message = _TO_ROUNDING.get(ier) or _MESSAGES[status]
        vanished = None if functions.differences is None else functions.differences.vanished
        if vanished is not None and vanished.any():
            message += vanished_message(x, np.flatnonzero(vanished))
        elif ier in _MAY_STAY and np.array_equal(x, fit.x0):
            norms = norms_at(fvec, *out[5:8], x, fit.settings.diag, None if bounds is None else bounds.active_mask(x) == 0)
            said = stayed(ier, norms, x.size, user.by_differences, LEAST_SQUARES)
            message += said and f"\n  {said}"
    message += user.describe_bounds(x, out[11])

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
        njev=None if user.by_differences else njev + functions.njev, status=status, message=message,
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
    if all(value < _EPS for value in values):
        raise noted(ValueError(f"At least one of the tolerances must be higher than machine epsilon ({_EPS:.2e})."),
                    "got " + ", ".join(f"{name}={value!r}" for name, value in given.items()))
    return values


def _relative_steps(diff_step, n):
    if diff_step is None:
        return None
    step = real_array(diff_step, "`diff_step`", "least_squares").astype(float)
    if step.ndim > 0 and step.shape != (n,):
        raise noted(ValueError("Inconsistent shapes between `diff_step` and `x0`."), f"got {step.shape} and ({n},)")
    if not np.all(np.abs(step) > 0) or not np.all(np.isfinite(step)):
        raise ValueError(f"`diff_step` must be finite and not zero, got {diff_step!r}.")
    return np.abs(step)


def _callback(callback):
    """The user's, as one of a `State`."""
    if callback is None:
        return None
    if not callable(callback):
        raise TypeError(f"`callback` must be callable or None, got {type(callback).__name__}.")
    try:
        wants_result = "intermediate_result" in inspect.signature(callback).parameters
    except (TypeError, ValueError):
        wants_result = False
    if not wants_result:
        return lambda state: callback(state.x)
    return lambda state: callback(intermediate_result=OptimizeResult(
        x=state.x, cost=state.cost, optimality=state.gnorm, nfev=state.nfev, njev=state.njev,
        nit=state.iteration))
