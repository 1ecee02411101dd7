"""One model fitted to many curves at once."""

from __future__ import annotations

import math

import numpy as np

from .._problem.arguments import flag, real_array, tolerances, whole_number
from .._problem.bounds import parse_bounds
from .._problem.compiled import CFunction
from .._problem.derivatives import forward_differences
from .._problem.kinds import PLAIN, plain
from .._problem.losses import LINEAR, POISSON, parse_loss
from .._problem.problem import Problem
from .._problem.settings import Settings, most_evaluations
from .._problem.words import of_curve_fit
from .._scipy.curve_fit import count_parameters, parameter_names
from .arguments import scale_factors
from .batch_result import BatchResult
from .curve_data import DOOR, Model, read_curves
from .curves_result import CurveFitBatchResult
from .lock_step import Job, lock_step
from .progress import progress_of

__all__ = ["CurveFitBatchResult", "curve_fit_batch"]


def curve_fit_batch(f, xdata, ydata, p0=None, sigma=None, absolute_sigma=False, check_finite=None, bounds=None,
                    jac=None, *, shared_x=None, nan_policy=None, ftol=1.49012e-8, xtol=1.49012e-8, gtol=0.0,
                    maxfev=0, epsfcn=None, factor=None, diag=None, loss=LINEAR, f_scale=1.0, slab=None,
                    return_fvec=False, progress=False):
    r"""
    Fit one model to many curves at once: `curve_fit` for the pixels of an image, voxels, spectra.

    Each fit has the same iterates as `curve_fit` of that curve alone, for the same function
    values.  A fit that fails is marked in ``success`` and ``ier`` and does not affect the others; there are no warnings.

    Parameters
    ----------
    f : callable
        The model ``f(xdata, a, b, ...)``, written with NumPy's functions as for `curve_fit`.  It is called for
        k of the problems at once: each parameter is an array of shape (k, 1), which broadcasts against
        the points along the last axis of `xdata`; it returns shape (k, m).  A row must not depend on other
        problems: sums over points are along the last axis.
    xdata : array_like or object
        The independent variable.  Shared: usually of shape (m,), or (p, m) for p predictors; an object
        that is not an array, list or tuple is passed to `f` unchanged.  Each problem's own: of the shape of `ydata`, or
        (p, ..., m), with axes before that; `f` then gets shape (k, m), or (p, k, m), the rows of
        the k problems.
    ydata : array_like, shape (..., m), or list of B arrays
        The data, with points along the last axis; the other axes are the problems.  Masked points are left out.  A
        list of arrays of different lengths has one array for each problem; `xdata` is then such a list too, and
        `sigma` a number or such a list.  The arrays are padded internally, `xdata` with its last point, and the
        padding is left out.
    p0 : array_like, shape (n,) or (..., n), optional
        Starting estimates, for all problems or for each.  None: as in `curve_fit`, ones, or a point within the
        bounds.
    sigma : float or array_like, shape (m,) or (..., m), optional
        Standard deviations of `ydata`; infinite ones leave points out.  None: ones.
    absolute_sigma : bool, optional
        As in `curve_fit`: if False, `pcov` is scaled so that each reduced chi-squared is one.
    check_finite : bool, optional
        Raise an error if `xdata` or `ydata` holds nan or infinity.  None: True, unless `nan_policy` is given.
        False: problems whose residuals are not finite end with ``ier`` 9.
    bounds : 2-tuple or object with lb and ub, optional
        Lower and upper bounds: each a number, shape (n,), or (..., n) for each problem.  ``lo = hi``
        fixes a parameter.
    jac : callable, optional
        ``jac(xdata, a, b, ...)``: the derivatives of `f` with respect to the parameters, shape (k, m, n), or a list of n
        arrays that broadcast to (k, m).  None: forward differences.
    shared_x : bool, optional
        Whether `xdata` is the same for all problems.  None: it is each problem's own if its last axes have the shape
        of `ydata`.
    nan_policy : {None, 'raise', 'omit'}, optional
        With nan in `xdata` or `ydata`: raise an error, or leave the points out.  None: `check_finite` decides.
    ftol, xtol, gtol, maxfev, epsfcn, loss, f_scale : optional
        As in `leastsq`, for each problem.
    factor : float, optional
        As in `leastsq`.  None: 100, or 1 with bounds, as in `curve_fit`.
    diag : array_like, shape (n,) or (..., n), optional
        As in `leastsq`, for all problems or for each.
    slab, progress : optional
        As in `leastsq_batch`.
    return_fvec : bool, optional
        Return the residuals at the solutions.

    Returns
    -------
    CurveFitBatchResult
        Arrays ``popt``, ``pcov``, ``stderr``, ``success``, ``ier``, ``nfev``, ``fnorm``, ``reduced_chi2``, ``fvec`` and
        ``active_mask`` with the axes of the problems first; ``message(i)``; ``fit(i)`` for `report` and the other
        tools.  ``popt, pcov = curve_fit_batch(...)`` unpacks it.

    Raises
    ------
    ValueError
        Shapes of arrays do not agree, or arrays are empty; data are not finite; `sigma` is zero or nan; `p0`
        is outside the bounds, or the bounds are bad; `f` mixes problems, or returns the wrong shape; an unknown
        `nan_policy` or `loss`; the number of parameters is not known.
    TypeError
        More free parameters than points; an argument of the wrong type, such as a `CFunction`; an improper
        tolerance, `factor` or `diag`; `jac` returns the wrong shape.
    Exception
        Whatever `f` or `jac` raises, with a note that names the problems for which it was called.

    See Also
    --------
    curve_fit : one fit.
    leastsq_batch : for residuals of any form, also compiled.

    Notes
    -----
    After the first call `f` is called once more, for the first problem alone, to check that this gives the same values.

    A problem with fewer points left than free parameters ends with ``ier`` 12; its `popt` and `pcov` are nan.

    Examples
    --------
    A decay in each pixel of an image of 30 times 40:

    >>> import numpy as np
    >>> from leastsq import curve_fit_batch
    >>> def decay(t, amplitude, rate):
    ...     return amplitude*np.exp(-rate*t)
    >>> t = np.linspace(0, 4, 20)
    >>> truth = np.random.default_rng(1).uniform(1, 2, (30, 40, 2))
    >>> image = decay(t, truth[..., :1], truth[..., 1:]) + 0.01*np.cos(40*t)
    >>> result = curve_fit_batch(decay, t, image)
    >>> result
    <CurveFitBatchResult of 30 x 40 fits: 1200 converged>
    >>> result.popt.shape, result.pcov.shape
    ((30, 40, 2), (30, 40, 2, 2))
    >>> bool(abs(result.popt - truth).max() < 0.05)
    True

    One pixel lacks a point, and another has no points:

    >>> image[0, 0, 3] = image[2, 3] = np.nan
    >>> result = curve_fit_batch(decay, t, image, nan_policy="omit")
    >>> result
    <CurveFitBatchResult of 30 x 40 fits: 1199 converged, 1 NO_DATA>
    >>> result.popt[2, 3]
    array([nan, nan])

    Curves of different lengths, each with its own points:

    >>> times = [np.linspace(0, 3, m) for m in (9, 14, 6)]
    >>> curves = [decay(x, a, 1.5) for x, a in zip(times, (1.0, 2.0, 3.0))]
    >>> popt, pcov = curve_fit_batch(decay, times, curves)
    >>> popt.round(6)
    array([[1. , 1.5],
           [2. , 1.5],
           [3. , 1.5]])
    """
    _check_functions(f, jac)
    absolute_sigma, return_fvec = flag(absolute_sigma, "absolute_sigma", DOOR), flag(return_fvec, "return_fvec", DOOR)
    curves = read_curves(xdata, ydata, sigma, shared_x=None if shared_x is None else flag(shared_x, "shared_x", DOOR),
                         policy=_policy(check_finite, nan_policy))
    count, m = curves.y.shape
    x, bounds = _starts(f, p0, bounds, curves.shape)
    n = x.shape[1]
    free = n if bounds is None else bounds.free.sum(-1)
    if np.max(free) > m:
        raise TypeError(f"{DOOR}: the number of free parameters, {np.max(free)}, must not exceed the number of points of a "
                        f"problem, {m}")
    if factor is None:
        factor = 100 if bounds is None else 1
    ftol, xtol, gtol, factor = tolerances(ftol, xtol, gtol, factor, DOOR)
    maxfev = whole_number(maxfev, "maxfev", door=DOOR)
    diag = diag if diag is None else _each(diag, "diag", n, curves.shape)
    settings = Settings(ftol, xtol, gtol, maxfev if maxfev > 0 else most_evaluations(n, jac is None), factor,
                        scale_factors(diag, count, n, DOOR))
    if isinstance(loss, str) and loss == POISSON:
        raise ValueError(f"{DOOR}: loss='poisson' is for leastsq_batch, which takes counts and their expectation separately, and "
                         "for curve_fit and fit")
    names = parameter_names(f, n)
    model = Model(f, jac, None if curves.own else curves.x)
    problem = Problem(model.residual, (), None if jac is None else model.jacobian, False, forward_differences(epsfcn, DOOR),
                      bounds, parse_loss(loss, f_scale), names=names, absolute_sigma=absolute_sigma)
    job = Job(problem, settings, x, curves.rows(), curves.weights, door=DOOR, names=("f", "jac"))
    result = BatchResult(x.copy(), settings, bounds, True, return_fvec)
    with progress_of(progress, count) as show:
        lock_step(job, result, None if slab is None else whole_number(slab, "slab", 1, DOOR), show)
    return CurveFitBatchResult(result.finish(job), curves, model, absolute_sigma, of_curve_fit(names))


def _check_functions(f, jac):
    for name, function in (("f", f), ("jac", jac)):
        if isinstance(function, CFunction):
            raise TypeError(f"{DOOR}: {name} must be a Python function of xdata and the parameters, got a CFunction, which is "
                            "for leastsq_batch")
        if not callable(function) and not (function is None and name == "jac"):
            raise TypeError(f"{DOOR}: {name} must be callable, got {type(function).__name__}")


def _policy(check_finite, nan_policy):
    if nan_policy not in (None, "raise", "omit"):
        raise ValueError(f"{DOOR}: nan_policy must be None, 'raise' or 'omit', got {nan_policy!r}")
    if nan_policy == "omit":
        return "omit"
    check = nan_policy is None if check_finite is None else flag(check_finite, "check_finite", DOOR)
    return "check" if check or nan_policy == "raise" else "ignore"


def _each(value, name, n, problems):
    """An argument for all problems, or for each, as an array of shape (n,) or (B, n)."""
    if type(value) not in PLAIN:
        value = plain(value, name, DOOR)
    array = real_array(value, name, DOOR)
    if array.ndim == 0 or array.shape == (1,):
        array = array.reshape(1)
    if array.shape == (n,) or array.shape == (*problems, n):
        return array if array.ndim == 1 else array.reshape(math.prod(problems), n)
    wanted = f"({n},)" if not problems else f"({n},) or {(*problems, n)}"
    raise ValueError(f"{DOOR}: {name} must have shape {wanted}, got {array.shape}")


def _starts(f, p0, bounds, problems):
    """A pair: the starts, shape (B, n), and the `Bounds` or None."""
    count = math.prod(problems)
    if p0 is None:
        n = count_parameters(f)
    else:
        p0 = np.atleast_1d(real_array(p0 if type(p0) in PLAIN else plain(p0, "p0", DOOR), "p0", DOOR))
        n = p0.shape[-1]
        if n == 0:
            raise ValueError(f"{DOOR}: p0 must have at least one element, got none")
        p0 = _each(p0, "p0", n, problems)
    if bounds is not None:
        low, high = (bounds.lb, bounds.ub) if hasattr(bounds, "lb") and hasattr(bounds, "ub") else \
            bounds if isinstance(bounds, (tuple, list)) and len(bounds) == 2 else (bounds, None)
        if high is not None:
            bounds = tuple(side if np.ndim(side) < 2 else _each(side, f"the {which} bounds", n, problems)
                           for side, which in ((low, "lower"), (high, "upper")))
        bounds = parse_bounds(bounds, (count, n), "p0", DOOR)
        bounds = bounds if bounds.finite else None
    if p0 is None:
        p0 = np.ones(n) if bounds is None else bounds.inside()
    x = np.array(np.broadcast_to(p0, (count, n)), np.float64, order="C")
    if bounds is not None:
        bounds.check_starts(x, DOOR, "p0")
    return x, bounds
