"""The drop-in replacement of `scipy.optimize.curve_fit`.

(The file is long because of its docstring, and because of SciPy's numbers, warnings and messages.)
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from math import isnan
from types import FunctionType

import numpy as np

from .._fit.filled import Filled
from .._fit.leastsq import leastsq
from .._fit.stayed import MAY_STAY, NO_STEP, SIGN
from .._fit.status import SUCCESS, Status
from .._problem.arguments import improper, noted, real_array, real_data
from .._fit.automatic import AUTOMATIC, by_jax
from .._problem.bounds import parse_bounds
from .._problem.compiled import CFunction
from .._problem.kinds import PLAIN, plain, without_mask
from .._problem.derivatives import SCHEMES
from .._problem.losses import LINEAR, POISSON
from .._problem.weights import count_finite, weigher
from .._problem.words import of_curve_fit
from .._uncertainty.covariance import check_option
from .arguments import as_leastsq, is_scipys, linear_parameters
from .classes import warn
from .curve_counts import check_start, count_residuals
from .curve_covariance import accurate_covariance, scipys_covariance, warn_of_lost_steps, with_infinities
from .curve_data import apply_nan_policy, jacobian_of, residual_of
from .explain import count_unknown, explain_error, not_a_function, ran_out, unknown_option, why_no_covariance
from .outcome import FULFILLED, STATUS, in_place_of, scipys_sentence, too_few, warn_in_place_of

__all__ = ["count_parameters", "curve_fit", "parameter_names"]

_NO_BOUNDS = (-np.inf, np.inf)
_OUR_LINES = ("\n  No step", "\n  All deriv", "\n  Held", "\n  At a bound", "\n  Nothing depends",
              "\n  Not fitted")         # beginnings of the lines after SciPy's sentence
_CLOSE_TO_ZERO = 1e-6           # below this value of parameter**2/variance the forward difference is checked
# arguments of leastsq, except those that are arguments of curve_fit under other names
_OPTIONS = frozenset(("ftol", "xtol", "gtol", "maxfev", "epsfcn", "factor", "diag", "col_deriv", "qr", "threads", "loss",
                      "f_scale", "callback", "history", "verbose", "workers", "strict", "engine", "strategy",
                      "groups"))
_ARGUMENTS = ("f", "xdata", "ydata", "p0", "sigma", "absolute_sigma", "check_finite", "bounds", "method", "jac", "full_output",
              "nan_policy", "covariance", "separable")


def curve_fit(f, xdata, ydata, p0=None, sigma=None, absolute_sigma=False, check_finite=None,
              bounds=_NO_BOUNDS, method=None, jac=None, *, full_output=False, nan_policy=None,
              covariance=None, separable=None, **kwargs):
    r"""
    Fit a function to data by nonlinear least squares.

    The model is ``ydata = f(xdata, *params) + error``.

    Parameters
    ----------
    f : callable
        The model ``f(xdata, a, b, ...)``: the independent variable first, then
        each of the n parameters as a separate argument.  It returns an array
        from which `ydata` can be subtracted.
    xdata : array_like or object
        The independent variable: usually of shape (m,), or (k, m) for k
        predictors.  Lists, tuples and arrays are converted to float64; other
        objects are passed to `f` unchanged.
    ydata : array_like, shape (m,)
        The data.
    p0 : array_like, optional
        Starting estimate, n numbers.  None: ones, where n is the number of positional
        parameters of `f` after its first; with bounds, the middle of two finite bounds, or
        one unit inside a single one.
    sigma : float or array_like, shape (m,) or (m, m), optional
        Uncertainty of `ydata`.  A number or a vector holds standard deviations:
        ``sum((r/sigma)**2)`` is minimized, where r are the residuals.  A matrix
        is their covariance: ``r @ inv(sigma) @ r`` is minimized; only its lower
        triangle is read.  None: ones.
    absolute_sigma : bool, optional
        `sigma` is in the units of `ydata`, and `pcov` follows from it.  If False,
        only ratios within `sigma` count, and `pcov` is scaled so that the reduced
        chi-squared at the solution is one.
    check_finite : bool, optional
        Raise an error if `ydata`, or an `xdata` that is converted, holds nan or
        infinity.  None: True, unless `nan_policy` is given.
    bounds : 2-tuple or object with lb and ub, optional
        Lower and upper bounds of the parameters: each a number, or n numbers.
        ``lo = hi`` fixes a parameter.
    method : {None, 'lm', 'trf', 'dogbox'}, optional
        Always Levenberg–Marquardt, with bounds and without.  'trf' and 'dogbox' are the methods that SciPy needs
        for bounds and losses.  Here they change only `ier` and `mesg`, which are SciPy's, the rules for `callback`, and
        that there may be fewer data than parameters.
    jac : callable or {"2-point", "3-point", "cs", "jax"}, optional
        ``jac(xdata, a, b, ...)``, the derivatives of `f` with respect to the
        parameters, shape (m, n), without regard to `sigma`.  None: forward
        differences; a string: as for `Dfun` of `leastsq`; "jax": by JAX, as in `fit`.
    full_output : bool, optional
        Also return `infodict`, `mesg` and `ier`.
    nan_policy : {None, 'raise', 'omit'}, optional
        With nan in `xdata` or `ydata`: raise an error, or leave those points out together
        with their `sigma`.  None: `check_finite` decides.
    covariance : {None, "accurate", "richardson", "3-point", "2-point", "cs"}, optional
        How `pcov` is computed.  None: from the fit's own derivatives, as in SciPy.
        Otherwise from new derivatives at `popt`, by this method of
        `leastsq.covariance`; "accurate": by `jac` if that is a function, by complex
        steps if it is "cs", else by "richardson".
    separable : True, str or sequence of str, optional
        Names of parameters in which `f` is linear (in all of them together), or True to find them by probing.  They are
        solved for inside each evaluation, as in `fit`; `pcov` is for all parameters.
    loss : str or callable, optional
        A robust loss, as in `leastsq`; or "poisson", for counts: `f` is their expectation, and the
        deviance, ``2*sum(y*log(y/f) - y + f)``, is minimized.  `sigma` and `f_scale` must not be given; the default of
        `ftol` is 1e-11.
    **kwargs
        Further arguments of `leastsq`: `ftol`, `xtol`, `gtol`, `maxfev`, `epsfcn`,
        `factor` (1 with bounds, if not given), `diag`, `f_scale`, `callback`,
        `workers`, `strategy`, `groups`, ...  With bounds, or with 'trf' or 'dogbox', also those of `least_squares`:
        `x_scale`, `diff_step`, `max_nfev` or `maxfev` (not counting evaluations for differences; may be a float),
        tolerances that are None; `tr_solver` and `tr_options` change nothing.

    Returns
    -------
    popt : ndarray, shape (n,)
        The parameters.
    pcov : ndarray, shape (n, n)
        Their covariance, in linear approximation at the solution; the square
        roots of its diagonal are the standard errors of the parameters.  Filled with inf if it
        could not be estimated.  With bounds or a loss, or if `callback` ended the fit, from ``J.T @ J`` for J
        at `popt`, as in SciPy, but computed with columns scaled to length one: bounds that hold
        parameters do not change it, a parameter without effect has the variance inf, fixed
        parameters have the variance 0, and data with an infinite `sigma` do not count.  With `covariance`: as from
        `leastsq.covariance`, infinite only for parameters that the data
        do not determine; nan for parameters at a bound, which count as known; with a
        loss, Huber's.  With ``loss="poisson"`` the inverse Fisher information, regardless of `absolute_sigma`.
    infodict : dict
        As from `leastsq`; ``fvec`` holds the residuals ``f(xdata, *popt) - ydata``,
        divided by `sigma`; for counts the deviance residuals, ``sign(f - y)*sqrt(2*(y*log(y/f) - y + f))``.
        With `covariance`, ``infodict["covariance"]`` is the
        `CovarianceResult`.  Only with `full_output`.
    mesg : str
        Why the fit ended.  Only with `full_output`.
    ier : int
        A member of `Status`: 1 to 4, or 11 if `callback` ended the fit, whose best
        parameters are returned.  With 'trf' or 'dogbox' the ``status`` of `least_squares`, 1 to 4.  Only with `full_output`.

    Raises
    ------
    ValueError
        Data are not finite, or empty; counts are negative, come with `sigma`, or are positive where `f` at `p0` is
        not; `sigma` has the wrong shape, is zero, or is not positive definite; bad bounds, or `p0` outside them; an unknown
        `method`, `nan_policy` or `covariance`; any `jac_sparsity`; `covariance` with a loss and `absolute_sigma`; the
        number of parameters is not known.
    RuntimeError
        The fit failed, or a setting is improper, such as a negative tolerance.
    TypeError
        More parameters than data, without bounds and without 'trf' or 'dogbox'; arguments that `leastsq` refuses.
    Exception
        Whatever `f` or `jac` raises, unchanged.

    Warns
    -----
    OptimizeWarning
        `pcov` could not be estimated.  Or a parameter is so close to zero, compared with its standard error, that
        MINPACK's forward differences, whose step is relative to it, are lost in rounding: its variance may be
        wrong, and is right with ``covariance="accurate"``.  Or no step from `p0` was accepted, because `jac` is
        wrong or `f` is rounded.  Or nothing depends on a parameter at its bound.  Or 'trf' or 'dogbox' was named, but
        Levenberg–Marquardt answered; this warning is given once in a process.

    See Also
    --------
    leastsq : The solver, for residuals of any form.

    Notes
    -----
    Results are those of ``scipy.optimize.curve_fit`` with its method ``'lm'``.
    A model that is not finite at `p0` raises a RuntimeError that names the point;
    SciPy reports success at `p0`.  ``infodict["ipvt"]`` counts from one.

    The arrays that functions are called with are their own, fresh at each call; `args`, blocks and
    other data of the caller's are handed on as they are.

    Examples
    --------
    >>> import numpy as np
    >>> from leastsq import curve_fit
    >>> def decay(t, amplitude, rate):
    ...     return amplitude*np.exp(-rate*t)
    >>> t = np.linspace(0, 4, 9)
    >>> y = decay(t, 2.5, 1.3) + 0.01*np.cos(40*t)
    >>> popt, pcov = curve_fit(decay, t, y)
    >>> popt.round(2)
    array([2.51, 1.31])
    >>> np.sqrt(np.diag(pcov)).round(3)      # standard errors
    array([0.007, 0.007])

    With known uncertainties of the data, correlated between neighbours:

    >>> sigma = 0.01**2*(np.eye(9) + 0.3*np.eye(9, k=1) + 0.3*np.eye(9, k=-1))
    >>> popt, pcov = curve_fit(decay, t, y, sigma=sigma, absolute_sigma=True)
    >>> popt.round(2)
    array([2.51, 1.31])

    With a rate of at most 1.2, and an outlier in the data:

    >>> y[3] += 2
    >>> curve_fit(decay, t, y, bounds=(0, [np.inf, 1.2]), loss="soft_l1", f_scale=0.02)[0].round(2)
    array([2.49, 1.2 ])
    """
    named = method is not None and is_scipys(method)
    if "args" in kwargs:
        raise ValueError("'args' is not a supported keyword argument.")
    if type(jac) is str and jac == AUTOMATIC and callable(f):
        f, jac = by_jax(f, "curve_fit")
    if not (type(f) is FunctionType and (jac is None or type(jac) is FunctionType)):
        _check_functions(f, jac, p0, xdata, ydata)
    if covariance is not None:
        check_option(covariance)
    if kwargs.get("history") and not full_output:
        raise ValueError("curve_fit: history=True needs full_output=True, because infodict holds the history")
    started = p0 is not None
    if not started:
        n = count_parameters(f)
        bounds = _finite_bounds(bounds, n)
        p0 = np.ones(n) if bounds is None else bounds.inside()
    else:
        if type(p0) not in PLAIN:
            p0 = plain(p0, "p0", "curve_fit")
        p0 = np.atleast_1d(p0)
        n = p0.size
        if p0.dtype != float:
            real_array(p0, "p0", "curve_fit")
        if n == 0:
            raise ValueError("`p0` must have at least one element, got none.")
        bounds = _finite_bounds(bounds, n)
    as_scipys = named or bounds is not None         # SciPy's curve_fit would call its least_squares
    scheme = jac
    if as_scipys:
        scheme, kwargs = as_leastsq(jac, kwargs, n, named)

    if check_finite is None:
        check_finite = nan_policy is None
    if not (type(xdata) in PLAIN and type(ydata) in PLAIN and type(sigma) in PLAIN):
        xdata, ydata, sigma = without_mask(xdata, ydata, sigma)
    ydata = real_data(ydata, "ydata", check_finite)
    if isinstance(xdata, (list, tuple, np.ndarray)):
        xdata = real_data(xdata, "xdata", check_finite)
    if ydata.size == 0:
        raise ValueError("`ydata` must not be empty!")
    if nan_policy is not None:
        xdata, ydata, sigma = apply_nan_policy(nan_policy, xdata, ydata, sigma)
    free = n
    if bounds is not None:
        bounds.check_start(p0, "p0")
        free = int(bounds.free.sum())
    if ydata.size != 1 and free > ydata.size and not as_scipys:
        raise noted(TypeError(f"The number of func parameters={free} must not exceed the number of data points={ydata.size}"),
                    f"{_words(f, n).labels(range(n))}: fix some of them (bounds with lo = hi), or give "
                    "more data")

    weigh = weigher(sigma, ydata.size)
    loss = kwargs.get("loss", LINEAR) if kwargs else LINEAR
    poisson = isinstance(loss, str) and loss == POISSON
    if poisson:
        residual, absolute_sigma = count_residuals(f, xdata, ydata, sigma, kwargs), True
    else:
        residual = residual_of(f, xdata, ydata, weigh)
    derivatives = jacobian_of(jac, xdata, weigh) if callable(jac) else scheme
    func, Dfun, filled = residual, derivatives, None
    if kwargs:
        _check_options(kwargs)
        if kwargs.get("strict"):
            kwargs["strict"] = _words(f, n)
    if as_scipys:
        if bounds is not None:
            kwargs["bounds"] = bounds.low, bounds.high
        if free > ydata.size:
            filled = Filled(residual, derivatives, kwargs.get("col_deriv", False), n, 1)
            func, Dfun = filled.func, filled.Dfun
        if named:
            warn_in_place_of(method, 2)
    projects = separable is not None and separable is not False
    if projects:
        kwargs = {"factor": 1.0} | kwargs
        kwargs["separable"] = linear_parameters(separable, parameter_names(f, n))
    try:
        popt, pcov, info, mesg, ier = leastsq(func, p0, Dfun=Dfun, full_output=1, **kwargs)
    except (TypeError, ValueError, OverflowError) as error:
        explain_error(error, _words(f, n), f, jac, xdata, ydata, n)
        raise
    if poisson:
        check_start(residual, ier, info, p0)
    if filled is not None:
        info["fvec"] = filled.own(info["fvec"])
        info.derive(_with_functions, residual, derivatives)
    ended = ier in SUCCESS or ier == Status.WATCHER
    if as_scipys:
        ended = STATUS[ier] > 0 or ier == Status.WATCHER and not named
        mesg = _in_scipys_words(mesg, ier, named)
    if not ended:
        words = _words(f, n)
        mesg = words.of(mesg) if ier == Status.NOT_FINITE else _in_our_words(mesg, f, n)
        failure = RuntimeError("Optimal parameters not found: " + mesg)
        raise ran_out(failure, words, popt, info["fvec"], started) if ier == Status.MAXFEV else failure
    if as_scipys or ier in MAY_STAY and "\n" in mesg:      # there are lines that are not SciPy's
        mesg = _in_our_words(mesg, f, n)
        if NO_STEP in mesg:
            warn(mesg[mesg.index(NO_STEP):], 2)
    if bounds is not None:
        _warn_of_no_effect(mesg, info)
    promised = not (as_scipys or projects) and ier in SUCCESS and loss == LINEAR      # MINPACK's numbers
    if filled is not None:
        mesg += too_few(info["fvec"].size, free)
    if named:
        mesg, ier = mesg + in_place_of(method), STATUS[ier]
    elif as_scipys:
        ier = FULFILLED.get(ier, ier)
    if full_output or covariance is not None:
        info.derive(_with_data, f, n, xdata, ydata, sigma, absolute_sigma)

    fvec = info["fvec"]
    count = fvec.size
    if covariance is not None:
        pcov = accurate_covariance(covariance, popt, info)
        return (popt, pcov, info, mesg, ier) if full_output else (popt, pcov)
    if not promised:
        pcov, chi_squared = scipys_covariance(popt, info, weigh, ydata)
        count = count_finite(sigma, count)
    elif pcov is not None and not absolute_sigma:
        chi_squared = np.add.reduce(np.square(fvec), axis=None)     # np.sum, but faster
    if pcov is not None and not absolute_sigma:
        freedom = count - free
        pcov = pcov*(chi_squared/freedom) if freedom > 0 else None
    if pcov is not None and promised:
        for value, variance in zip(popt.tolist(), pcov.diagonal().tolist()):     # one comparison: the fast path
            if not _CLOSE_TO_ZERO*variance <= value*value:          # infinite and nan, too
                break
        else:
            return (popt, pcov, info, mesg, ier) if full_output else (popt, pcov)
        if jac is None and np.isfinite(pcov).all():
            warn_of_lost_steps(popt, info, weigh, ydata, kwargs.get("epsfcn"))
    if pcov is None or isnan(np.vdot(pcov, pcov)):      # a sum of squares is nan only if an element is
        why = why_no_covariance(_words(f, n), popt, info, count,
                                np.ones(n, bool) if bounds is None else bounds.free, absolute_sigma)
        pcov = with_infinities(pcov, n)
        warn("Covariance of the parameters could not be estimated" + why, 2)
    if full_output:
        return popt, pcov, info, mesg, ier
    return popt, pcov


def _with_functions(problem, func, Dfun):
    """The problem with the functions before rows of zeros were added."""
    return replace(problem, func=func, Dfun=Dfun if callable(Dfun) else None)


def _with_data(problem, f, n, xdata, ydata, sigma, absolute_sigma):
    """The problem with its model, data and names."""
    return replace(problem, model=f, xdata=xdata, ydata=ydata, sigma=sigma, absolute_sigma=bool(absolute_sigma),
                   names=parameter_names(f, n))


def _warn_of_no_effect(mesg, info):
    """Warn of parameters at bounds at which nothing depends on them, with the lines of the message."""
    if np.isnan(info["multipliers"]).any():
        said = [line.strip(" .") for line in mesg.splitlines() if line.startswith("  Nothing depends on ")]
        warn("; ".join(f"n{line[1:]}" for line in said), 3)


def _check_functions(f, jac, p0, xdata, ydata):
    """Refuse arguments that are not callable, with SciPy's messages, and a note that names the argument."""
    for name, function in (("f", f), ("jac", jac)):
        if isinstance(function, CFunction):
            raise TypeError(f"`{name}` must be a Python function of xdata and the parameters, got a CFunction, which is for "
                            "leastsq and least_squares.")
    if isinstance(jac, str) and jac not in SCHEMES:
        raise TypeError(f"`jac` must be callable, None or one of {[*SCHEMES, AUTOMATIC]}, got {jac!r}.")
    for name, function in (("f", f), ("jac", jac)):
        if not (callable(function) or name == "jac" and (jac is None or isinstance(jac, str))):
            words = (f"{f!r} is not a callable object" if name == "f" and p0 is None else
                     f"{type(function).__name__!r} object is not callable")
            raise not_a_function(TypeError(words), name, function, xdata, ydata)


def count_parameters(f):
    """The number of positional parameters of `f` after its first."""
    if type(f) is FunctionType and not f.__dict__:      # ten times as fast
        count = f.__code__.co_argcount
    else:
        kinds = [p.kind for p in inspect.signature(f).parameters.values()]
        count = (kinds.count(inspect.Parameter.POSITIONAL_ONLY)
                 + kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD))
    if count < 2:
        raise count_unknown(ValueError("Unable to determine number of fit parameters."), f)
    return count - 1


def _finite_bounds(bounds, n):
    """The `Bounds` of n parameters; None if none is finite."""
    if bounds is _NO_BOUNDS:
        return None
    parsed = parse_bounds(bounds, (n,), "p0")
    return parsed if parsed.finite else None


def _check_options(kwargs):
    """Refuse unknown options.  Values that MINPACK calls improper raise RuntimeError, as in SciPy's `curve_fit`."""
    for name in kwargs:
        if name not in _OPTIONS:
            raise unknown_option(name, (*_ARGUMENTS, *_OPTIONS))
    for name in ("ftol", "xtol", "gtol", "factor", "diag"):
        given = kwargs.get(name)
        try:
            value = np.asarray(given)
        except ValueError:                  # rows of several lengths
            continue
        # leastsq refuses values of other kinds
        if value.dtype.kind in "fiu" and (words := improper(name, value, given)):
            raise RuntimeError("Optimal parameters not found: " + words)


def _our_lines(mesg):
    """The index at which the lines after SciPy's sentence begin."""
    return min((mesg.index(start) for start in _OUR_LINES if start in mesg), default=len(mesg))


def _in_our_words(mesg, f, n):
    """The message with the model's names in the lines after SciPy's sentence."""
    first = _our_lines(mesg)
    return mesg[:first] + _words(f, n).of(mesg[first:].replace(SIGN, "")) if mesg[first:] else mesg


def _in_scipys_words(mesg, ier, named):
    """The message, with the sentence of SciPy's methods with bounds if one of these was named or the fit failed."""
    if ier == Status.NOT_FINITE or not named and (ier in SUCCESS or ier == Status.WATCHER):
        return mesg
    return scipys_sentence(ier) + mesg[_our_lines(mesg):]


def _words(f, n):
    """The names of the arguments and parameters in messages."""
    return of_curve_fit(parameter_names(f, n))


def parameter_names(f, n):
    """The names of the parameters of `f` after its first, if there are n of them; else None."""
    try:
        names = tuple(inspect.signature(f).parameters)[1:]
    except (TypeError, ValueError):
        return None
    return names if len(names) == n else None
