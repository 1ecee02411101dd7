"""Many small fits at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .. import _core
from .._problem.arguments import flag, real_array, tolerances, whole_number
from .._problem.bounds import parse_bounds
from .._problem.compiled import CFunction
from .._problem.counts import refuse_beside
from .._problem.derivatives import forward_differences
from .._problem.losses import LINEAR, POISSON, parse_loss
from .._problem.problem import Problem
from .._problem.settings import Settings, most_evaluations, parse_strategy
from .arguments import (check_count_sizes, check_sizes, counts_and_weights, data_and_weights, scale_factors, start_points,
                        thread_count)
from .batch_result import BatchResult
from .lock_step import Job, lock_step
from .progress import progress_of

__all__ = ["BatchResult", "leastsq_batch"]


def leastsq_batch(func, x0, data=(), args=(), Dfun=None, col_deriv=False, ftol=1.49012e-8,
                  xtol=1.49012e-8, gtol=0.0, maxfev=0, epsfcn=None, factor=100, diag=None, *,
                  weights=None, counts=None, bounds=None, loss=LINEAR, f_scale=1.0, threads=1, slab=None,
                  return_cov=True, return_fvec=False, progress=False, strategy="minpack"):
    r"""
    Fit many independent problems of the same kind: pixels, spectra, wells.

    Each problem goes through exactly the iterates that `leastsq` would give it
    alone, for the same function values.  Whatever befalls one (residuals that
    are not finite, no convergence) shows in its entry of ``ier`` and does not
    touch the others; nothing is warned.

    Parameters
    ----------
    func : callable or CFunction
        Residuals.  A Python function is called as ``func(x, *rows, *args)`` for
        some k of the problems: x has shape (k, n), ``rows`` are the rows of each
        array of `data` for these problems, copied from it, and it
        returns shape (k, m), m >= n.  Row i of the result must not depend on
        other rows than the i-th.  A `CFunction` is called for one problem at a
        time, or for several in lanes (``CFunction(..., lanes=8)``), without Python.
    x0 : array_like, shape (B, n)
        Starting estimates.  Not modified.
    data : ndarray or tuple of ndarray, optional
        Arrays of shape (B, ...), what belongs to each problem.  They are read while the fits run: do not change
        them meanwhile.  What is masked in one of shape (B, m) has the weight 0.  With a
        `CFunction`, one array: the function's last argument is the address of
        the problem's row, in place of the CFunction's own data.
    args : tuple, optional
        Further arguments of `func` and `Dfun`, the same for all problems.
        Anything but a tuple is taken as the one further argument.
    Dfun : callable or CFunction, optional
        Jacobians, called like `func`; returns shape (k, m, n).  If None, they are
        estimated by forward differences, in n calls for all k problems.
    col_deriv : bool, optional
        `Dfun` returns shape (k, n, m).
    ftol, xtol, gtol, maxfev, epsfcn, factor : optional
        As in `leastsq`, for each problem.
    diag : array_like, shape (n,) or (B, n), optional
        As in `leastsq`, for all problems or for each.  Where an entry of a
        problem's row is not positive, ``ier`` is 0.
    weights : array_like, shape (B, m), optional
        What residuals and rows of Jacobians are multiplied by.  Where it is 0
        the residual counts as absent, even if it is not finite.  A problem with fewer data left than
        free parameters ends with ``ier`` 12, x and cov_x nan.
    counts : array_like, shape (B, m), optional
        What was counted, with ``loss="poisson"``, zero or more.  What is masked counts as
        absent.  `weights` and `f_scale` must not be given then.
    bounds : 2-tuple or object with lb and ub, optional
        Lower and upper bounds of the parameters, as in `leastsq`: each a number, or
        shape (n,) for all problems, or (B, n) for each; ``lo = hi`` fixes a
        parameter.  No function is called outside.  A start that is nan ends with
        ``ier`` 0.
    loss : {"linear", "soft_l1", "huber", "cauchy", "arctan", "poisson"} or callable, optional
        As in `leastsq`, of the weighted residuals.  A callable gets z of shape (k,
        m) and returns shape (3, k, m); compiled functions want one of the names.
        "poisson": `func` returns the expectations of `counts` instead of residuals (and
        `Dfun` their derivatives), and the deviance is minimized.
    f_scale : float, optional
        As in `leastsq`, the same for all problems.
    threads : int or None, optional
        Threads for compiled functions; None: one for each processor that the
        process may use.  Python functions are called in the calling thread.
    slab : int, optional
        Most problems at work at once with Python functions; None: 32768/m, but
        not less than 1 nor more than 4096.
    return_cov : bool, optional
        Compute ``cov_x``.
    return_fvec : bool, optional
        Return the residuals at the solutions.
    progress : bool or callable, optional
        Show the progress, with tqdm if it is installed; or a function
        ``progress(done, total)``, called now and then.
    strategy : {"minpack", "fast", "robust"}, optional
        Which steps are taken, as in `leastsq`.  A `CFunction` with lanes wants "minpack".

    Returns
    -------
    BatchResult
        Arrays ``x``, ``ier``, ``success``, ``nfev``, ``njev``, ``fnorm``,
        ``cov_x``, ``stderr``, ``reduced_chi2``, ``fvec``, ``active_mask`` and ``multipliers``, a row for each problem;
        ``message(i)``; and ``fit(i)``, problem i as `leastsq` returns it, for `report` and the other tools.

    Raises
    ------
    TypeError
        An argument, or what a function returns, has the wrong type; n > m; a
        tolerance, `factor` or a shared `diag` is out of its range; `Dfun` returns
        the wrong shape; only one of `func` and `Dfun` is compiled; a callable
        `loss` with compiled ones.
    ValueError
        Arrays whose shapes do not go together; `func` or `loss` returns the wrong
        shape; `bounds` nan, or the lower above the upper; `x0` outside of them;
        `loss` or `f_scale` is not one of its values; counts that are negative or not finite, or are missing, or
        come with another loss, `weights` or `f_scale`; a `strategy` other than "minpack" with lanes.
    Exception
        Whatever `func`, `Dfun` or `loss` raises, with a note that says for which problems
        it was called.

    See Also
    --------
    leastsq : one fit.

    Notes
    -----
    The arrays that functions are called with are their own, fresh at each call; `args`, blocks and
    other data of the caller's are handed on as they are.

    Python functions are called for a slab of problems.  Problems that are done
    leave it and others take their places, so slow ones hold up nobody.  Beside
    input and output a slab of S problems takes ``8*S*(m*(n + 2) + n**2 + 12*n +
    44)`` bytes and the rows of `data`, plus what `func` needs for S problems;
    bounds add ``8*S*(n**2 + 13*n) + 8*B*n``, a callable `loss` ``40*S*m``, a strategy other than
    "minpack" ``8*S*(m*(n + 2) + 11*n)``.  Compiled functions take about ``130*m*(n + 2) + 1000*n``
    bytes for each thread, with 8 lanes twice that; with such a strategy ``64*m*(n + 1) + 700*n`` more.

    The QR factorization is MINPACK's for every m, as ``leastsq(..., qr="minpack")``.
    ``fnorm``, ``fvec`` and ``cov_x`` are those of the weighted residuals; ``fnorm``
    and ``cov_x`` also of the loss.  Of counts ``fnorm**2`` is the deviance, ``fvec`` holds deviance
    residuals, and ``cov_x`` is the inverse Fisher information, from which ``stderr`` is made unscaled.
    A start with an expectation that is negative, or zero where something was counted, has ``ier`` 9.

    Examples
    --------
    Fit a decay to each of 500 pixels:

    >>> import numpy as np
    >>> from leastsq import leastsq_batch
    >>> t = np.linspace(0, 3, 20)
    >>> truth = np.random.default_rng(1).uniform(1, 2, (500, 2))
    >>> def decay(x, t):
    ...     return x[:, :1]*np.exp(-x[:, 1:]*t)
    >>> y = decay(truth, t)
    >>> result = leastsq_batch(lambda x, y, t: decay(x, t) - y, np.ones((500, 2)), y, t)
    >>> result
    <BatchResult of 500 fits: 500 converged>
    >>> np.allclose(result.x, truth)
    True

    No rate may be above 1.5, and one datum in ten is spoiled:

    >>> y[:, ::10] += 3
    >>> result = leastsq_batch(lambda x, y, t: decay(x, t) - y, np.ones((500, 2)), y, t,
    ...                        bounds=(0, [np.inf, 1.5]), loss="soft_l1", f_scale=0.05)
    >>> slow = truth[:, 1] < 1.4
    >>> np.allclose(result.x[slow], truth[slow], atol=0.2)
    True
    >>> set(result.active_mask[truth[:, 1] > 1.7, 1].tolist())
    {1}
    """
    x = start_points(x0)
    count, n = x.shape
    args = args if isinstance(args, tuple) else (args,)
    ftol, xtol, gtol, factor = tolerances(ftol, xtol, gtol, factor)
    maxfev = whole_number(maxfev, "maxfev")
    if maxfev <= 0:
        maxfev = most_evaluations(n, Dfun is None)
    differences = forward_differences(epsfcn, "leastsq_batch")
    parse_strategy(strategy, "leastsq_batch")
    diag = scale_factors(diag, count, n)
    if weights is not None:
        weights = np.array(real_array(weights, "weights"))
    data, weights = data_and_weights(data, weights, count)
    if bounds is not None:
        bounds = parse_bounds(bounds, x.shape, door="leastsq_batch")
        bounds.check_starts(x)
        bounds = bounds if bounds.finite else None
    settings = Settings(ftol, xtol, gtol, maxfev, factor, diag, strategy=strategy)
    if counts is not None or isinstance(loss, str) and loss == POISSON:
        loss, weights = counts_and_weights(counts, loss, weights, count)
        refuse_beside("leastsq_batch", None, None if f_scale == 1.0 else f_scale, strategy)
    else:
        loss = parse_loss(loss, f_scale)
    col_deriv, return_cov, return_fvec = (flag(value, name) for value, name in (
        (col_deriv, "col_deriv"), (return_cov, "return_cov"), (return_fvec, "return_fvec")))
    threads = thread_count(threads)
    slab = None if slab is None else whole_number(slab, "slab", 1)
    problem = Problem(func, args, Dfun, col_deriv, differences, bounds, loss)
    job = Job(problem, settings, x, data, weights)

    compiled = isinstance(func, CFunction)
    if Dfun is not None and isinstance(Dfun, CFunction) is not compiled:
        raise TypeError("leastsq_batch: func and Dfun must both be CFunctions or neither, got "
                        f"{type(func).__name__} and {type(Dfun).__name__}")
    for function, name in ((func, "func"), (Dfun, "Dfun")):
        if not (compiled or callable(function) or (function is None and name == "Dfun")):
            raise TypeError(f"leastsq_batch: {name} must be callable or a CFunction, "
                            f"got {type(function).__name__}")
    if compiled and callable(loss.code):
        raise TypeError("leastsq_batch: loss must be one of the names with a CFunction, which "
                        f"runs without Python, got {type(loss.rho).__name__}")
    result = BatchResult(x.copy(), settings, bounds, return_cov, return_fvec)
    with progress_of(progress, count) as show:
        if compiled:
            _fit_compiled(problem, settings, data, weights, min(threads, count), show, result)
        else:
            lock_step(job, result, slab, show)
    return result.finish(job)


def _fit_compiled(problem, settings, data, weights, threads, show, result):
    func, Dfun, bounds = problem.func, problem.Dfun, problem.bounds
    count, n = result.x.shape
    if problem.args:
        raise TypeError("leastsq_batch: args must be empty with a CFunction, which gets a row of "
                        f"data, got {len(problem.args)} arguments")
    if func.lanes is not None and settings.number:
        raise ValueError(f"leastsq_batch: strategy must be 'minpack' with lanes, got {settings.strategy!r} and a CFunction with "
                         f"{func.lanes} of them: the other strategies want one without lanes")
    check_sizes(n, func.m, weights, count)
    check_count_sizes(problem.loss, func.m)
    if Dfun is not None and Dfun.m != func.m:
        raise ValueError(f"leastsq_batch: the compiled Dfun is for m = {Dfun.m} residuals, func has "
                         f"{func.m}")
    if Dfun is not None and Dfun.lanes != func.lanes:
        raise ValueError(f"leastsq_batch: the compiled Dfun must have the lanes of func, {func.lanes}, got {Dfun.lanes}")
    if len(data) > 1:
        raise TypeError("leastsq_batch: a CFunction gets one address, so data must be one array, got "
                        f"{len(data)}")
    for array in data:
        _check_rows(array, func, "func")
        if Dfun is not None:
            _check_rows(array, Dfun, "Dfun")
    result.set_size(func.m)
    result._code = np.zeros(count, np.int32)
    poor = result.without_data(weights)
    if poor is not None and poor.any():
        good = ~poor
        part = BatchResult(result.x[good], result._settings, None if bounds is None else bounds.row(good),
                           result.cov_x is not None, result.fvec is not None)
        part.set_size(func.m)
        part._code = np.zeros(part.ier.size, np.int32)
        diag = settings.diag if settings.diag is None or settings.diag.ndim == 1 else settings.diag[good]
        if part.ier.size:
            loss = problem.loss
            loss = replace(loss, counts=np.ascontiguousarray(loss.counts[good])) if loss.is_poisson else loss
            _run_compiled(replace(problem, bounds=part._bounds, loss=loss), replace(settings, diag=diag),
                          tuple(np.ascontiguousarray(array[good]) for array in data), weights[good],
                          min(threads, part.ier.size), show, part)
        result.take(good, part)
        return
    _run_compiled(problem, settings, data, weights, threads, show, result)


def _run_compiled(problem, settings, data, weights, threads, show, result):
    func, Dfun, bounds, loss = problem.func, problem.Dfun, problem.bounds, problem.loss
    address, stride = (data[0].ctypes.data, data[0].strides[0]) if data else (0, 0)
    if weights is not None:
        weights = np.ascontiguousarray(weights, np.float64)
    numbers = (settings.ftol, settings.xtol, settings.gtol, settings.maxfev, problem.differences.relative_error(),
               settings.first_factor(False), settings.first_factor(True), settings.number)
    _core.batch_compiled(func._handle, None if Dfun is None else Dfun._handle, address, stride,
                         result.x, weights, settings.diag, None if bounds is None else (bounds.low, bounds.high),
                         None if loss.is_linear else (loss.code, loss.scale), numbers, result.ier, result.nfev,
                         result.njev, result.fnorm, result.cov_x, result.fvec, result.multipliers, result._code,
                         threads, show)


def _check_rows(array, function, name):
    """Can a C function read a row of this array where it expects its own data?"""
    row = array[0]
    if not row.flags.c_contiguous:
        raise ValueError("leastsq_batch: each row of data must be C-contiguous, got an array of shape "
                         f"{array.shape} with strides {array.strides}")
    if row.dtype.hasobject:
        raise TypeError(f"leastsq_batch: data must be plain numbers, got dtype {array.dtype}")
    own = function.data
    if isinstance(own, np.ndarray) and (own.dtype, own.shape) != (row.dtype, row.shape):
        raise ValueError(f"leastsq_batch: rows of data must be like the data that {name} was made "
                         f"with, {own.dtype} of shape {own.shape}, got {row.dtype} of shape {row.shape}")
