"""The drop-in replacement of `scipy.optimize.leastsq`."""

from __future__ import annotations

import operator
import os
import warnings
from functools import partial

import numpy as np

from .. import _build
from .._core import solve
from .._problem.compiled import CFunction, handles, in_python
from .._problem.derivatives import Differences
from .._problem.groups import parse_groups
from .._problem.kinds import PLAIN, plain
from .._problem.losses import LINEAR
from .._problem.problem import Problem, parse_problem
from .._problem.settings import Settings, Watching, first_factor, most_evaluations, parse_strategy
from .._problem.words import LEASTSQ, Words, callers_level, explain_call
from .fit import Fit, why_it_ended
from .info import Info
from .stayed import MAY_STAY, norms_at, stayed
from .status import SUCCESS, Status, message

__all__ = ["leastsq"]

_QUIET = (*SUCCESS, Status.WATCHER)     # no warning: a success, or ended by the user's callback
_QR = {None: 0, "minpack": 1, "blocked": 2}
_REFERENCE = 3                  # in place of one of these: the MINPACK library
_MOST_THREADS = 256


def _qr(qr):
    if not isinstance(qr, str) or qr not in _QR:
        raise ValueError(f"leastsq: qr must be None, 'minpack' or 'blocked', got {qr!r}")
    return _QR[qr]


def _is_reference(engine, **options):
    """Is the MINPACK library wanted?  ValueError if it cannot do what the other arguments ask for."""
    if not isinstance(engine, str) or engine not in ("leastsq", "reference"):
        raise ValueError(f"leastsq: engine must be None, 'leastsq' or 'reference', got {engine!r}")
    if engine == "leastsq":
        return False
    if not _build.reference:
        raise ValueError("leastsq: engine='reference' is not in this build: install MINPACK's library "
                         "(Debian, Ubuntu: minpack-dev) and build leastsq with "
                         "pip install . -Csetup-args=-Dreference=enabled")
    plain = {"qr": (None, "minpack"), "threads": (None, 1), "loss": (LINEAR,), "Dfun": ("2-point",),
             "strategy": ("minpack",)}
    for name, value in options.items():
        if name == "Dfun" and not isinstance(value, str):
            continue
        if not any(value is able or (isinstance(value, (str, int)) and value == able)
                   for able in plain.get(name, (None, False))):
            raise ValueError("leastsq: engine='reference' is the original MINPACK, which cannot do "
                             f"{name}={value!r}")
    return True


def _threads(threads, name="threads"):
    if isinstance(threads, bool) or not hasattr(threads, "__index__"):
        raise TypeError(f"leastsq: {name} must be an integer, got {type(threads).__name__}")
    threads = threads.__index__()
    if not 1 <= threads <= _MOST_THREADS:
        raise ValueError(f"leastsq: {name} must be from 1 to {_MOST_THREADS}, got {threads}")
    return threads


def _default_threads(text):
    """The number of threads when none is asked for, from LEASTSQ_NUM_THREADS."""
    try:
        return _threads(int(text), "LEASTSQ_NUM_THREADS")
    except ValueError:
        raise ValueError("leastsq: LEASTSQ_NUM_THREADS must be an integer from 1 to "
                         f"{_MOST_THREADS}, got {text!r}") from None


_THREADS = _default_threads(os.environ.get("LEASTSQ_NUM_THREADS") or "1")


def _nothing_to_fit(func, args, Dfun, source):
    """All outputs for no parameters, for callers that hold every parameter fixed."""
    x = np.empty(0)
    f = func(x, *args)
    fvec = solve(lambda _: f, [0.0], (), None, True, False, 0.0, 0.0, 0.0, 1, None, 1.0, None, 0, 1, None)[2]
    info = {"fvec": fvec, "nfev": 1} | ({} if Dfun is None else {"njev": 0})
    info |= {"fjac": np.empty((0, np.size(fvec))), "ipvt": np.empty(0, np.intc), "qtf": np.empty(0)}
    return x, None, Info.of(source, info), message(0, ftol=0.0, xtol=0.0, gtol=0.0, maxfev=0), 0


def _plain_problem(func, args, Dfun, col_deriv, precision):
    return Problem(func, args, Dfun, col_deriv, Differences(precision=precision))


# These two functions are separate because they must be short: if no memory is left at all, CPython loops for ever in an
# exception handler that begins after a function's 256th instruction, because it must allocate the instruction's number.

def _solve(watch, *arguments):
    """The core's `solve` without extras except a strategy; errors from calls with wrong arguments get a note."""
    try:
        return solve(*arguments)
    except TypeError as error:
        func, _, args, Dfun = arguments[:4]
        _explain(error, watch, func, Dfun, args)
        raise


def _solve_with_extras(fit, full_output, watch):
    try:
        return fit.solve(full_output)
    except TypeError as error:
        _explain(error, watch, fit.problem.func, fit.problem.Dfun, fit.problem.args)
        raise


def _explain(error, watch, func, Dfun, args):
    if watch is None:
        explain_call(error, LEASTSQ, func, Dfun, args)
    else:
        explain_call(error, watch.words, watch.user_func, watch.user_Dfun, args)


def leastsq(func, x0, args=(), Dfun=None, full_output=False, col_deriv=False,
            ftol=1.49012e-8, xtol=1.49012e-8, gtol=0.0, maxfev=0, epsfcn=None,
            factor=100, diag=None, *, qr=None, threads=None, bounds=None, loss=LINEAR, f_scale=1.0,
            callback=None, history=False, verbose=0, workers=None, strict=False, engine=None,
            strategy="minpack", groups=None, separable=None):
    r"""
    Minimize the sum of squares of a set of functions.

    ::

        x = arg min(sum(func(y)**2, axis=0))
                 y

    Parameters
    ----------
    func : callable or CFunction
        Residuals ``func(x, *args)``: takes a 1-D float64 array of length n and returns m real numbers, m >= n, as an array
        of at most one dimension, or a sequence.  (With `bounds` that fix parameters, m
        at least the number of the others.)  A `CFunction` is called
        without Python.
    x0 : array_like
        Starting estimate; n real numbers of any shape.  Not modified.
    args : tuple, optional
        Further arguments of `func` and `Dfun`.  An object that is not a tuple is
        the only further argument.  Must be empty if either is a `CFunction`.
    Dfun : callable, CFunction, or {"2-point", "3-point", "cs"}, optional
        Jacobian ``Dfun(x, *args)`` of shape (m, n).  If None or "2-point", it is
        estimated by forward differences; "3-point": by central ones, with two
        calls to `func` for each parameter and about three more digits; "cs": by
        complex steps, exact to rounding, for a `func` that takes complex `x`.
        A `CFunction` writes it column by column.
    full_output : bool, optional
        Return all of the outputs below, and give no warnings.
    col_deriv : bool, optional
        `Dfun` returns derivatives down the columns, shape (n, m).
    ftol : float, optional
        Relative error wanted in the sum of squares, >= 0.
    xtol : float, optional
        Relative error wanted in the solution, >= 0.
    gtol : float, optional
        Largest cosine wanted between the residuals and any column of the
        Jacobian, >= 0.
    maxfev : int, optional
        Maximum number of calls to `func`, tested after each trial step.  Zero
        or less: 100*(n + 1) if `Dfun` is given, 200*(n + 1) otherwise.
    epsfcn : float, optional
        Relative error of `func`; the forward-difference step is
        ``sqrt(epsfcn)*abs(x)``.  None, or less than the machine precision:
        the precision of the dtype that `func` returns.
    factor : float, optional
        The first step is at most ``factor*norm(diag*x0)`` long, > 0.
    diag : sequence, optional
        n positive scale factors for the variables.  None: the norms of the
        Jacobian's columns, which may grow.
    qr : {None, "minpack", "blocked"}, optional
        How the Jacobian is factored.  "minpack": in memory, bit for bit like
        MINPACK.  "blocked": from blocks of rows, several times faster for
        long residual vectors, without a copy of the Jacobian; its answers agree
        to rounding.  None: "blocked" if m >= 1024 and m*n >= 32768.
    threads : int, optional
        Number of threads of a blocked factorization, 1 to 256.  The results have
        the same bits for any number.  None: the environment variable
        ``LEASTSQ_NUM_THREADS`` at the time leastsq is imported, or 1.
    bounds : 2-tuple or object with lb and ub, optional
        Lower and upper bounds of the parameters: each a number, or n numbers;
        ``lo = hi`` fixes a parameter.  `func` is never called outside the bounds
        (of a complex step, the real part counts).  A small `factor`, such as 1,
        often saves evaluations.
    loss : {"linear", "soft_l1", "huber", "cauchy", "arctan"} or callable, optional
        Minimize ``0.5*sum(f_scale**2*rho((func(x)/f_scale)**2))`` with a `rho` that
        gives outliers less weight, defined as in `scipy.optimize.least_squares`.
        A callable returns rho(z), rho'(z) and rho''(z), shape (3, m).
    f_scale : float, optional
        Residuals well below it are inliers, > 0.
    callback : callable, optional
        ``callback(state)``, once per iteration, when the Jacobian has been made.
        `state` has x, fnorm, cost, gnorm (the gradient's measure: the largest
        cosine, as for `gtol`), radius, nfev, njev, iteration.  If it returns true or
        raises StopIteration, the fit ends with the best point so far.
    history : bool, optional
        Record every trial in ``infodict["history"]``; needs `full_output`.
    verbose : {0, 1, 2, 3}, optional
        Print nothing; how the fit ended; a table during the fit; a progress bar, if
        tqdm is installed.
    workers : int or callable, optional
        The points of a difference Jacobian are evaluated in parallel: by this number
        of threads (-1: one for each processor), or by a map, called as
        ``workers(f, points)``, such as ``multiprocessing.Pool.map``.  The iterates
        and `nfev` are the same as with one worker, bit for bit.
    strict : bool, optional
        Watch `func` and `Dfun` for mistakes, with some more calls: a `StrictWarning`
        or `StrictError` says what to change.  A `CFunction` is then called through Python: elements that
        it does not write are nan, and a code other than 0 is an ArithmeticError.
    engine : {None, "leastsq", "reference"}, optional
        The code that fits.  "reference": MINPACK's original library of 1980 instead of this package,
        for comparisons: same arguments, same outputs, same bits.  Only in a build with
        ``-Dreference=enabled``, see `show_config`.  It has no `bounds`, `loss`, `callback`,
        `history`, `verbose`, `workers`, blocked `qr` or `threads`, and allows at most 2**31 - 1
        elements of the Jacobian and calls.
    strategy : {"minpack", "fast", "robust"}, optional
        How steps are chosen.  "minpack": as in MINPACK, bit for bit.  The others bend steps by
        the curvature of `func`, mostly without extra evaluations:
        "fast" for fewer evaluations, "robust" to solve more fits.  They read the default
        `factor` as 0.3, or 1 with `bounds`, and their difference steps depend on the largest value
        that a parameter has had.  The manual's page on strategies has the figures.
    groups : sequence, optional
        A label for each parameter.  Parameters with different labels must change different residuals, such as those of
        different data sets; their differences are made in one evaluation.  None is for a parameter on which any residual may
        depend.  The iterates have the same bits as without groups.  At the first Jacobian each parameter is moved alone,
        which checks the labels.
    separable : callable, optional
        ``separable(a, *args)``: the basis of a model that is linear in its last p parameters c, shape (m, p), for which
        ``func(x, *args)``, with all n parameters x in the order a, c, is ``func([a, 0], *args) + separable(a, *args) @ c``.
        c is solved for inside each evaluation, by variable projection.  `x0` and `diag` are then for a alone, `bounds`
        for all parameters; the outputs are for all parameters, and the last Jacobian is at `x`.

    Returns
    -------
    x : ndarray, shape (n,)
        The solution, or the best point found.
    cov_x : ndarray, shape (n, n), or None
        Inverse of ``J.T @ J``; multiply by the residual variance to get the
        covariance of the parameters.  J is the last Jacobian computed, which need
        not be at `x`.  None if it is singular or the fit failed.  Rows and columns
        of parameters at a bound are nan; the others are computed as if those parameters were known.
        With a loss, the rows of J are reweighted.  Only with `full_output`.
    infodict : dict
        Only with `full_output`:

        ``fvec``
            ``func(x)``, float64, shape (m,).
        ``nfev``
            Exact number of calls to `func`.
        ``njev``
            Number of calls to `Dfun`; only if there is one.
        ``fjac``
            Shape (n, m): ``triu(fjac.T[:n])`` is the R of a QR factorization
            of the last Jacobian with its columns permuted; below it are its
            Householder vectors, or zeros if the factorization was blocked.  (n, n)
            if m < n.
        ``ipvt``
            The permutation, int32, shape (n,), **counted from one**: column j of
            the permuted Jacobian is column ``ipvt[j] - 1`` of the Jacobian.
        ``qtf``
            ``Q.T @ fvec`` at the point of the last Jacobian, shape (n,).
        ``active_mask``
            Only with `bounds`: -1 for a parameter at its lower bound, 1 at its upper
            bound, else 0; shape (n,).  It shows the position, whether the bound holds the parameter or not.
        ``multipliers``
            Only with `bounds`: the slope of the cost (half the sum of squares) along each
            parameter that a bound holds, shape (n,).  0: not held; nan: at a bound at which
            the cost does not depend on the parameter.
        ``history``
            Only with `history`: a dict of arrays with an entry for the start and for
            each trial, accepted or not: ``x``; ``fnorm`` at it (nan if it was not finite
            or ten times as large as before); ``actual`` and ``predicted``, the relative
            reductions of the sum of squares, and their ``ratio``; ``radius`` and ``par`` of
            the step; ``gnorm`` at the trial or, if it was rejected, at the point that was
            kept (nan if no Jacobian was computed there); ``accepted``; ``nfev``.
            With a loss the norm is the square root of twice the cost.
    mesg : str
        Why the fit ended.  Only with `full_output`.
    ier : int
        A member of `Status`; 1, 2, 3 and 4 are success.

    Raises
    ------
    TypeError
        An argument, or the result of a function, has the wrong type; n > m; a
        tolerance, `factor` or `diag` is out of its range; `Dfun` returns the
        wrong shape; `args` is given with a `CFunction`.
    ValueError
        `func` returns more than one dimension, or a different size than before;
        the length of `diag` is not n; a compiled `Dfun` is for another m;
        `qr`, `threads`, `loss`, `verbose`, `workers`, `engine` or `strategy` is not one of its values;
        "reference" is not in this build, or does not have an option that is given;
        `x0` is outside `bounds`; `bounds` are nan, of the wrong shape, or lower
        above upper; "cs" with a `func` that is not analytic; `history` without
        `full_output`.
    MemoryError
        There is not enough memory; all that was allocated is freed.
    Exception
        Whatever `func` or `Dfun` raises, unchanged.

    Warns
    -----
    RuntimeWarning
        Without `full_output`, if `ier` is 5 to 10, or if it is 2 or 4 and the fit ended
        at `x0` although that is no minimum: no step was accepted, or every derivative
        is zero.  Not if it is 11: then `callback` ended the fit.  Also if a parameter
        starts so close to zero that its differences vanish.

    Notes
    -----
    The arrays that functions are called with are their own, fresh at each call; `args`, blocks and
    other data of the caller's are handed on as they are.

    The algorithm is MINPACK's Levenberg–Marquardt [1]_ [2]_, with the results of
    `scipy.optimize.leastsq`.  The README lists the deliberate differences.
    ``ier`` 9 means that the residuals at `x0` or a Jacobian are not
    finite (with `x0` on one of the `bounds`, also not inside), 10 that a
    compiled function returned a value other than 0.  A trial point with residuals
    that are not finite is a rejected step.  After ``ier`` 9 and 10, ``fjac`` and
    ``qtf`` hold nan.

    References
    ----------
    .. [1] J. J. Moré, "The Levenberg–Marquardt algorithm: implementation and
       theory", Lecture Notes in Mathematics 630 (1978), 105-116.
    .. [2] J. J. Moré, B. S. Garbow, K. E. Hillstrom, "User guide for MINPACK-1",
       Argonne National Laboratory report ANL-80-74 (1980).

    Examples
    --------
    Fit a decay to three points.  There are two forms: the short one returns the
    parameters and why the fit ended, not their covariance; `full_output` returns
    five things.

    >>> import numpy as np
    >>> from leastsq import leastsq
    >>> t, y = np.array([0.0, 1.0, 2.0]), np.array([2.0, 1.0, 0.5])
    >>> def residual(x):
    ...     return x[0]*np.exp(-x[1]*t) - y
    >>> x, ier = leastsq(residual, [1.0, 1.0])
    >>> x, cov_x, info, mesg, ier = leastsq(residual, [1.0, 1.0], full_output=True)
    >>> x.round(6)
    array([2.      , 0.693147])
    >>> ier in (1, 2, 3, 4)
    True

    With an amplitude of at most 1.5; then with an outlier in the data:

    >>> x, cov_x, info, mesg, ier = leastsq(residual, [1.0, 1.0], full_output=True,
    ...                                     bounds=([0, 0], [1.5, np.inf]))
    >>> x.round(2), info["active_mask"]
    (array([1.5 , 0.49]), array([1, 0]))
    >>> y[1] += 3
    >>> x, ier = leastsq(residual, [1.0, 1.0], Dfun="3-point", loss="cauchy", f_scale=0.01)
    >>> x.round(2)
    array([2.  , 0.69])

    The amplitude is a linear parameter, which is solved for; it comes after the rate:

    >>> y[1] -= 3
    >>> x, ier = leastsq(lambda x: x[1]*np.exp(-x[0]*t) - y, [1.0], separable=lambda a: np.exp(-a[0]*t)[:, None])
    >>> x.round(6)
    array([0.693147, 2.      ])
    """
    if not isinstance(args, tuple):
        args = (args,)
    if type(x0) not in PLAIN:
        x0 = plain(x0, "x0", "leastsq")
    watch = fit = None
    if strict:
        from .strict import Watch
        words = strict if isinstance(strict, Words) else LEASTSQ        # Words: those of the public function that calls this one
        if isinstance(func, CFunction) or isinstance(Dfun, CFunction):
            col_deriv = col_deriv and not isinstance(Dfun, CFunction)
            func, Dfun = in_python(func, Dfun, args, np.size(x0))
        watch = Watch(func, Dfun, args, col_deriv, Differences(precision=epsfcn), bounds, words)
        func, Dfun = watch.func, watch.Dfun
    if engine is not None and _is_reference(
            engine, qr=qr, threads=threads, bounds=bounds, loss=loss, callback=callback,
            history=history, verbose=verbose, workers=workers, groups=groups, separable=separable, Dfun=Dfun,
            strategy=strategy):
        qr = _REFERENCE
    else:
        qr = 0 if qr is None else _qr(qr)
    threads = _THREADS if threads is None else _threads(threads)
    if separable is not None:
        from .._projection.separable import from_leastsq        # not at the top: it imports from this folder
        if groups is not None:
            raise ValueError("leastsq: separable cannot be combined with groups")
        fit = from_leastsq(separable, partial(parse_problem, func, args=args, Dfun=Dfun, col_deriv=col_deriv,
                                              differences=Differences(precision=epsfcn, workers=workers), bounds=bounds,
                                              loss=(loss, f_scale)),
                           x0, bounds, args, Settings(ftol, xtol, gtol, maxfev, factor, diag, strategy=strategy),
                           Watching(callback, False, verbose),
                           qr=qr, threads=threads != _THREADS, strict=watch is not None, history=history)
        source, out = fit.problem, _solve_with_extras(fit, True, None)
        Dfun = source.Dfun
    elif (bounds is not None or loss is not LINEAR or f_scale != 1.0 or callback is not None
            or history or verbose or workers is not None or groups is not None
            or type(Dfun) is str or type(Dfun) is Differences):
        if history and not full_output:
            raise ValueError("leastsq: history=True needs full_output=True, because infodict holds the history")
        differences = Differences(precision=epsfcn, workers=workers,
                                  groups=None if groups is None else parse_groups(groups, np.size(x0)))
        source = parse_problem(func, x0, args, Dfun, col_deriv, differences, bounds, (loss, f_scale))
        fit = Fit(source, x0, Settings(ftol, xtol, gtol, maxfev, factor, diag, qr, threads, strategy),
                  Watching(callback, history, verbose))
        out = _solve_with_extras(fit, full_output or bool(verbose), watch)
        Dfun = source.Dfun
    else:
        source = _plain_problem, func, args, Dfun, col_deriv, epsfcn      # a Problem is made of it on first use
        if isinstance(func, CFunction) or isinstance(Dfun, CFunction):
            func, Dfun = handles(func, Dfun, args)
        extras = None
        if strategy != "minpack":
            number = parse_strategy(strategy)
            factor, extras = first_factor(factor, number, False), (None, None, None, 1.0, None, number)
        out = _solve(watch, func, x0, args, Dfun, full_output, col_deriv, ftol, xtol, gtol, maxfev,
                     epsfcn, factor, diag, qr, threads, extras)
        if out is None:
            return _nothing_to_fit(func, args, Dfun, source)
    if watch is not None:
        watch.finish(out[0])
    ier = out[1]
    if not full_output and not verbose and ier in SUCCESS and len(out) < 13:
        if len(out) == 2:
            return out
        if said := stayed(ier, out[2:], out[0].size, Dfun is None):
            warnings.warn(said, RuntimeWarning, callers_level(2))
        return out[:2]

    x, said, vanished = out[0], "", len(out) > 12 and out[12] is not None
    if ier in SUCCESS and not vanished:         # most fits: the quick path
        mesg = message(ier, ftol=ftol, xtol=xtol, gtol=gtol, maxfev=maxfev)
    else:
        maxfev = operator.index(maxfev)
        if maxfev <= 0:
            maxfev = most_evaluations(x.size, Dfun is None)
        mesg = why_it_ended(out, loss, ftol=ftol, xtol=xtol, gtol=gtol, maxfev=maxfev)
    if ier in MAY_STAY and not vanished and (out[13] if len(out) > 13 else np.array_equal(x, np.ravel(x0))):
        inside = None if fit is None or source.bounds is None else source.bounds.active_mask(x) == 0
        said = stayed(ier, norms_at(out[2], *out[5:8], x, diag, inside), x.size, Dfun is None)
        mesg += said and f"\n  {said}"
    if fit is not None:
        mesg += source.describe_bounds(x, *out[11:12])
        if verbose:
            fit.watcher.finish(out[3], mesg)
    if not full_output:
        if ier not in _QUIET or said or vanished and watch is None:     # strict has warned already
            warnings.warn(mesg, RuntimeWarning, callers_level(2))
        return x, ier

    _, _, fvec, nfev, njev, fjac, ipvt, qtf, cov_x = out[:9]
    if ier == Status.STOPPED and nfev == 1 and out[10][0] == "func":
        fvec.fill(np.nan)               # func did not return f(x0)
    info = Info(fvec=np.float64(fvec) if type(fvec) is float else fvec, nfev=nfev)
    info.source = source
    if Dfun is not None:
        info["njev"] = njev
    info["fjac"] = fjac
    info["ipvt"] = ipvt
    info["qtf"] = qtf
    if bounds is not None:
        info |= source.at_bounds(x, out[11])
    if history:
        info["history"] = fit.watcher.history()
    return x, cov_x, info, mesg, ier
