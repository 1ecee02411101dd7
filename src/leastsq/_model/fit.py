"""`fit`: fits a model to data, with parameters by name."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial

import numpy as np

from .._fit.fit import Fit, why_it_ended
from .._fit.status import SUCCESS, Status
from .._fit.automatic import AUTOMATIC, by_jax
from .._problem.derivatives import PRECISION, SCHEMES, Differences
from .._problem.counts import COUNTS_FTOL, around, impossible, refuse_beside
from .._problem.losses import LEAST_SQUARES, LINEAR, POISSON, DataLoss, Loss, parse_loss
from .._problem.problem import Problem
from .._problem.settings import Settings, Watching
from .._projection.separable import Linear, SeparableFit, refuse_others
from .data import NAN_POLICIES, parse_data
from .parameters import groups_of, parse_parameters, read_signature
from .residual import (Rounded, counts_of, diagnose, jacobian_of, model_of_sets, precision_of, residual_of, values_of,
                       without_values)
from .result import FitResult, Models
from .search import parse_starts, search
from .words import DOOR, nearest, sort_of

__all__ = ["fit", "problem_of"]

STRATEGIES = ("fast", "minpack", "robust")
_NO_SETTINGS = Settings()


def fit(model, x, y, start=None, *, sigma=None, absolute_sigma=False, bounds=None, fixed=None, prior=None, own=None,
        separable=None, starts=None, jac=None, loss=LINEAR, f_scale=1.0, nan_policy="raise", strategy="fast", ftol=1.49012e-8,
        xtol=1.49012e-8, gtol=0.0, maxfev=None, callback=None, verbose=0, workers=None):
    """
    Fit a model to data, with parameters by name.

    Parameters
    ----------
    model : callable or list of them
        ``model(x, a, b, ...)``: its arguments after x are the parameters, except those that are keyword-only or have
        a bool, a string or None as their default.  It returns the values to compare with y.  A list of models: for several
        data sets; parameters with the same name are one parameter.
    x : object
        The first argument of the model, passed unchanged: an array of shape (m,) or (k, m), a tuple, a dict, a DataFrame.
        (A list of numbers becomes an array.)  With several models a list with one for each, or one for all.
    y : array_like
        The data, of any shape; complex (both parts are residuals), masked, or a pandas Series.  With several
        models a list with one for each.
    start : dict or sequence, optional
        The start: a number for each parameter, by name or in order.  Parameters whose arguments have numbers as defaults
        may be left out.  None: parameters without a default are searched for, on scales that bounds, priors and data
        suggest, and linear ones are solved for (unless `separable` is False, or there is a loss).  `search` of the result
        describes the search, which does not prove that there is no better minimum.
    sigma : float or array_like, optional
        Standard deviations of y: a number, or an array of the shape of y; or the covariance matrix, shape (m, m).
        Points whose sigma is infinite do not count.  For complex y, a real sigma is for each part, and a complex one holds
        those of both parts.  With several models a number for all or a list.
    absolute_sigma : bool, optional
        The sizes of sigma are known, and not only their ratios: uncertainties are then not multiplied by the root of
        reduced chi2.
    bounds : dict or sequence, optional
        (lower, upper) for parameters, by name or in order; None for no bound.
    fixed : dict or sequence, optional
        Names of the parameters that keep their starts; or a dict of names and the values that they keep.
    prior : dict or sequence, optional
        (mean, width) for parameters about which something is known: adds a residual (parameter - mean)/width.
        Needs `sigma`, with which the width is compared, or counts.  No loss applies to it, and reduced chi2 does not scale it.
    own : str or sequence of str, optional
        With several models: the parameters that each data set has separately, named "height[0]", "height[1]", ...
        In `start`, `bounds`, `fixed` and `prior`, "height" stands for all of them, and "height[1]" for one;
        a start may also be a sequence with a number for each.  Differences of parameters of different sets are made together.
    separable : bool, str or sequence of str, optional
        Parameters in which the model is linear, in all of them together: they are solved for inside each evaluation and need
        no start; the steps of the fit are in the other parameters.  True: find them by probing, in order; `message` names
        them.  The answer and its uncertainties are those of the whole model.
    starts : int, optional
        The number of places that are tried without a start; None: depends on the number of parameters that are searched for.
    jac : callable, list of callables or {"2-point", "3-point", "cs", "jax"}, optional
        ``jac(x, a, b, ...)``, the derivatives of the model, of the shape of y with one more axis for the parameters.
        None: forward differences; a string: as in `leastsq`; "jax": by JAX, if it is installed, for a model
        written with `jax.numpy`: compiled, and in double precision regardless of JAX's setting.
    loss, f_scale : str or callable, float, optional
        A robust loss for outliers, as in `leastsq`; f_scale is compared with residuals divided by sigma.  Or "poisson" for
        counts, without `sigma` and `f_scale`: the model is their expectation, the deviance is minimized, and
        uncertainties come from the inverse Fisher information, regardless of `absolute_sigma`.
    nan_policy : {"raise", "omit"}, optional
        With nan in y, sigma or x: raise an error, or leave those points out.
    strategy : {"fast", "minpack", "robust"}, optional
        How steps are chosen, as in `leastsq`, whose default is "minpack"; fits of counts use scoring instead.
    ftol, xtol, gtol : float, optional
        When to stop, as in `leastsq`; for counts the default of ftol is 1e-11.
    maxfev : int, optional
        Limit on the evaluations of the model; None: 200*(n + 1) for n parameters, 100*(n + 1) with `jac`.
    callback, verbose, workers : optional
        As in `leastsq`.

    Returns
    -------
    FitResult
        The parameters by name, their uncertainties (computed on first use), and methods for all that follows from a fit.

    Raises
    ------
    TypeError
        An argument is of the wrong kind; there are fewer data than free parameters.
    ValueError
        A name that no parameter has; a start or a fixed value outside the bounds; a width or a sigma that is not positive; data
        that are empty or not finite; shapes that do not agree; a prior without sigma; a model that is not linear in the
        parameters that `separable` names; `separable` with a loss; without a start, a model that is not finite at any place
        tried.  For counts: negative counts, sigma or f_scale, or a model that is not positive at the start where a count is.
    ImportError
        `jac` is "jax", and JAX is not installed.
    Exception
        Whatever the model raises, unchanged.

    Warns
    -----
    RuntimeWarning
        The fit failed: `success` is False, and `message` says why.

    See Also
    --------
    curve_fit, leastsq : replacements of SciPy's functions, for scripts that use those.

    Notes
    -----
    Residuals are (model - y)/sigma; the sum of their squares is smallest at the answer.  nan, masks and sigma remove residuals,
    but never parts of x.  The arrays that functions are called with are their own, fresh at each call; `args`, blocks and
    other data of the caller's are handed on as they are.

    Examples
    --------
    >>> import numpy as np
    >>> import leastsq as lsq
    >>> def decay(t, height, rate, level=0):
    ...     return height*np.exp(-rate*t) + level
    >>> t = np.linspace(0, 4, 9)
    >>> y = np.array([3.0, 1.84, 1.18, 0.86, 0.68, 0.59, 0.55, 0.53, 0.51])
    >>> result = lsq.fit(decay, t, y, {"height": 1, "rate": 1}, sigma=0.01, bounds={"rate": (0, None)})
    >>> result["rate"]
    rate = 1.277 ± 0.015
    >>> result.derive(halflife=lambda p: np.log(2)/p["rate"])
      halflife  0.5427 ± 0.0066

    Two data sets that share the rate, which has a prior:

    >>> both = lsq.fit([decay, decay], t, [y, 2*y + 1], {"height": 1, "rate": 1}, own=["height", "level"], sigma=0.01,
    ...                prior={"rate": (1.25, 0.02)})
    >>> list(both)
    ['height[0]', 'height[1]', 'rate', 'level[0]', 'level[1]']
    >>> round(both["height[1]"]/both["height[0]"], 3)
    2.0

    Without a start:

    >>> found = lsq.fit(lambda t, height, rate, level: decay(t, height, rate, level), t, y, sigma=0.01)
    >>> found["rate"], "solved for: height, level." in found.message
    (rate = 1.277 ± 0.015, True)
    >>> found.search
    'Without a start: the best of 33 places, found 3 times from the best 3; no other minimum was seen.'
    """
    starts = parse_starts(starts)
    models, sets, signatures = _models_and_data(model, x, y, start, sigma, nan_policy)
    if strategy not in STRATEGIES:
        raise ValueError(f"{DOOR}: strategy must be 'fast', 'minpack' or 'robust', got {sort_of(strategy)}; "
                         f"{nearest(strategy, STRATEGIES)}")
    poisson = isinstance(loss, str) and loss == POISSON
    if poisson:
        refuse_beside(DOOR, sigma, None if f_scale == 1.0 else f_scale, "minpack" if strategy == "fast" else strategy)
        ftol = COUNTS_FTOL if ftol == _NO_SETTINGS.ftol else ftol
    elif prior is not None and len(prior) and any(data.weights is None for data in sets):
        raise ValueError(f"{DOOR}: prior needs sigma: the width of a prior is compared with the standard deviation of the data")
    if isinstance(jac, str) and jac == AUTOMATIC:
        pairs = [by_jax(one, DOOR) for one in models]
        models, jac = [one for one, _ in pairs], [one for _, one in pairs]
    parameters = parse_parameters(signatures, start, bounds, fixed, prior, own, None if separable is False else separable)
    problem = problem_of(models, sets, signatures, parameters, jac=jac, loss=(loss, f_scale),
                         absolute_sigma=absolute_sigma, workers=workers)
    _check_counts(sets, parameters)
    begin, searched, linear = parameters.start, None, None
    searches = start is None and np.isnan(begin).any()
    if separable is not False and (separable is not None or searches and problem.loss.is_linear):
        refuse_others(DOOR, problem.loss)
        linear = Linear(DOOR, parameters.names, parameters.linear)
    settings = _settings("minpack" if poisson else strategy, ftol, xtol, gtol, maxfev, parameters,
                         linear is not None or searches)
    watching = Watching(callback, False, verbose)
    if searches:
        try:
            searched = search(problem, parameters, settings, linear, starts)
        except (TypeError, ValueError) as error:
            if _is_ours(error):
                raise diagnose(models, sets, parameters, error) from None
            raise
        linear, begin = searched.linear, searched.x
        parameters = replace(parameters, start=searched.origin)
    elif starts is not None:
        raise ValueError(f"{DOOR}: starts is the number of places to try without a start, but start is given")
    job = _job(problem, begin, settings, watching, linear)
    try:
        out = job.solve(linear is None)
    except (TypeError, ValueError) as error:
        if _is_ours(error):
            raise diagnose(models, sets, parameters, error) from None
        raise
    nfev = out[3]
    if poisson and out[1] == Status.NOT_FINITE and out[4] == 0:
        _refuse_start(problem, begin, job.mean)
    seen = (sets, out[2]) if not poisson else ([without_values(data) for data in sets], job.mean)
    if problem.Dfun is None and (dtype := precision_of(models, seen[0], parameters, out[0], seen[1])) is not None:
        if dtype in PRECISION:          # with float64's short steps only rounding was seen: fit again with longer steps
            problem = replace(problem, func=around(problem.func, lambda func: Rounded(func, dtype)))
            job = _job(problem, begin, settings, watching, linear)
            out = job.solve(linear is None)
            nfev += out[3]
        nfev += 1
    said = ""
    if searched is not None:
        nfev += searched.nfev
        said = searched.sentence(problem.loss.cost(out[2]), "deviance" if poisson else "chi2")
    ier = int(out[1])
    message = partial(_message, out[:2], out[4], out[9], problem, settings, job.maxfev, getattr(job, "which", ()), said)
    if verbose or ier not in SUCCESS:
        message = message()
    if verbose and job.watcher is not None:
        job.watcher.finish(nfev, message)
    if ier not in SUCCESS and ier != Status.WATCHER:
        warnings.warn(f"{DOOR}: {message}", RuntimeWarning, stacklevel=2)
    return FitResult._made(Models(tuple(models), tuple(signatures), tuple(sets), parameters), problem, out[0], out[2],
                           (nfev, out[4] if problem.Dfun is not None else None, ier, message),
                           strategy, said)


def _job(problem, start, settings, watching, linear):
    """The fit itself; unless `linear` is None, with linear parameters that are solved for."""
    if linear is None:
        return Fit(problem, start, settings, watching)
    return SeparableFit(problem, start, linear, settings, watching)


def _models_and_data(model, x, y, start, sigma, nan_policy):
    """(models, data sets, signatures): three lists with one entry for each data set."""
    if nan_policy not in NAN_POLICIES:
        raise ValueError(f"{DOOR}: nan_policy must be 'raise' or 'omit', got {sort_of(nan_policy)}; "
                         f"{nearest(nan_policy, NAN_POLICIES)}")
    if not isinstance(model, (list, tuple)):
        signature = read_signature(model, start)
        return [signature.call], [parse_data(x, y, sigma, nan_policy)], [signature]
    count = len(model)
    if not count:
        raise ValueError(f"{DOOR}: model must be a function or a list of them, got an empty list")
    if not hasattr(y, "__len__") or len(y) != count:
        got = len(y) if hasattr(y, "__len__") else sort_of(y)
        raise ValueError(f"{DOOR}: y must be a list of {count} data sets, one for each model, got {got}")
    xs = x if isinstance(x, list) else [x]*count
    if len(xs) != count:
        raise ValueError(f"{DOOR}: x must be a list of {count}, one for each model, or one x for all, got a list of {len(xs)}")
    sigmas = sigma if isinstance(sigma, (list, tuple)) else [sigma]*count
    if len(sigmas) != count:
        raise ValueError(f"{DOOR}: sigma must be a number or a list of {count}, one for each model, got {len(sigmas)}")
    signatures = [read_signature(one, start) for one in model]
    if count == 1:
        return [signatures[0].call], [parse_data(xs[0], y[0], sigmas[0], nan_policy)], signatures
    sets = [parse_data(*one, nan_policy, f"y[{i}]") for i, one in enumerate(zip(xs, y, sigmas))]
    if len({data.weights is None for data in sets}) > 1:
        raise ValueError(f"{DOOR}: sigma must be given for all data sets or for none: otherwise they cannot be compared")
    return [one.call for one in signatures], sets, signatures


def problem_of(models, sets, signatures, parameters, *, jac=None, loss=(LINEAR, 1.0), absolute_sigma=False, workers=None):
    """The `Problem` of models and data: residuals of all sets, then of the priors; `loss` is a pair with its f_scale."""
    (loss, f_scale), scheme, derivatives = loss, "2-point", None
    if isinstance(jac, str):
        if jac not in SCHEMES:
            words = (*SCHEMES, AUTOMATIC)
            raise ValueError(f"{DOOR}: jac must be a function or one of {', '.join(map(repr, words))}, got {jac!r}; "
                             f"{nearest(jac, words)}")
        if jac == "cs" and any(data.is_complex for data in sets):
            raise ValueError(f"{DOOR}: jac='cs' takes complex steps, which need a real y; use '3-point' with a complex y")
        scheme = jac
    elif jac is not None:
        jacs = list(jac) if isinstance(jac, (list, tuple)) else [jac]
        if len(jacs) != len(sets) or not all(map(callable, jacs)):
            among = f"or a list of {len(sets)}" if len(sets) > 1 else "a word"
            raise TypeError(f"{DOOR}: jac must be a function, {among} or None, got {sort_of(jac)}")
        derivatives = jacobian_of(jacs, sets, signatures, parameters)
    groups = groups_of(parameters, sets) if derivatives is None else None
    absolute_sigma = _truth(absolute_sigma, "absolute_sigma")
    penalty, residuals = LEAST_SQUARES, None
    if isinstance(loss, str) and loss == POISSON:
        residuals, penalty = counts_of(models, sets, parameters)
        absolute_sigma = True           # the variance is the mean
    elif loss is not LINEAR or f_scale != 1.0:
        penalty = parse_loss(loss, f_scale)
        if absolute_sigma and not penalty.is_linear:
            raise ValueError(f"{DOOR}: absolute_sigma must be False with a loss: a loss assumes that some residuals are larger "
                             "than sigma, and estimates how many from the residuals")
        if parameters.priors and not penalty.is_linear:
            penalty = Loss(DataLoss(penalty.rho, len(parameters.priors)), penalty.scale)
    data, places = sets[0], parameters.places
    if places is None:
        model = values_of(models[0], True) if data.is_complex else models[0]
        about = {"model": model, "xdata": data.x, "ydata": data.values, "sigma": data.sigma}
    else:
        about = _about_sets(models, sets, places)
    return Problem(residual_of(models, sets, parameters) if residuals is None else residuals, (), derivatives,
                   differences=Differences(scheme, None, workers, groups=groups), bounds=parameters.bounds, loss=penalty,
                   names=parameters.names, absolute_sigma=absolute_sigma, priors=parameters.priors, sets=tuple(sets), **about)


def _refuse_start(problem, start, mean):
    """Raise ValueError if the fit failed because the model at the start cannot be the expectation of a count."""
    found = impossible(problem.func, mean)
    if found is not None:
        k, count, value = found
        at = ", ".join(f"{name} = {float(one):.6g}" for name, one in zip(problem.names, start))
        where = problem.where(k) or f"y[{k}]"
        raise ValueError(f"{DOOR}: the model must be positive with loss='poisson', the expectation of {where} = {count:.6g}, "
                         f"got {value:.6g} at the start: {at}. Start elsewhere, or add the background to the model")


def _about_sets(models, sets, places):
    """The arguments of `Problem` about the data, for several sets together."""
    sigma = None
    if sets[0].sigma is not None:
        if any(np.ndim(data.sigma) == 2 for data in sets):
            sigma = np.zeros((sum(data.values.size for data in sets),)*2)
            first = 0
            for data in sets:
                last = first + data.values.size
                sigma[first:last, first:last] = data.sigma if np.ndim(data.sigma) == 2 else np.diag(
                    np.broadcast_to(np.square(data.sigma), data.values.shape))
                first = last
        else:
            sigma = np.concatenate([np.broadcast_to(data.sigma, data.values.shape) for data in sets])
    return {"model": model_of_sets(models, sets, places), "xdata": [data.x for data in sets],
            "ydata": np.concatenate([data.values for data in sets]), "sigma": sigma}


def _truth(value, name):
    if value is True or value is False:
        return value
    if type(value).__name__ in ("bool", "bool_") or type(value) is int and value in (0, 1):
        return bool(value)
    raise TypeError(f"{DOOR}: {name} must be True or False, got {sort_of(value)}")


def _check_counts(sets, parameters):
    rows = sum(data.values.size for data in sets) + len(parameters.priors)
    if rows < parameters.free:
        what = "data and priors" if parameters.priors else "data"
        raise TypeError(f"{DOOR}: {parameters.free} free parameters need at least as many {what}, got {rows}: fix some "
                        "parameters, or give a prior")


def _settings(strategy, ftol, xtol, gtol, maxfev, parameters, separable=False):
    """The `Settings` of a fit."""
    bounded = parameters.bounded or separable
    options = {"factor": 1.0} if bounded else {}        # as in curve_fit
    return Settings(ftol, xtol, gtol, 0 if maxfev is None else maxfev, strategy=strategy, **options)


def _message(out, njev, fault, problem, settings, maxfev, linear, said):
    """Sentences: why the fit ended, the parameters at a bound, the parameters that were solved for, and `said`."""
    ier = out[1]
    if ier == Status.NOT_FINITE and njev == 0 and fault is not None:
        row, _, value = fault
        at = ", ".join(f"{name} = {float(one):.6g}" for name, one in zip(problem.names, out[0]))
        return f"The residual of {problem.where(row) or f'y[{row}]'} is {value} at the start: {at}."
    ended = why_it_ended((*out, None, None, njev, *(None,)*4, fault), problem.loss.rho, maxfev=maxfev, **settings.tolerances())
    sentences = [" ".join(ended.split())]
    if problem.bounds is not None:
        active = problem.bounds.active_mask(out[0])
        free = problem.bounds.free
        for which, side in ((-1, "lower"), (1, "upper")):
            names = [name for name, one, may in zip(problem.names, active, free) if one == which and may]
            if names:
                sentences.append(f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} at the {side} bound.")
    if len(linear):
        sentences.append(f"Linear parameters, which were solved for: {', '.join(problem.names[j] for j in linear)}.")
    if said:
        sentences.append(said)
    if len(sentences) > 1 and not sentences[0].endswith("."):        # SciPy's sentences have no full stop
        sentences[0] += "."
    return " ".join(sentences)


def _is_ours(error):
    """Was an error raised by this package, and not by a user's function?"""
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame.f_globals.get("__name__", "").partition(".")[0] == __name__.partition(".")[0] \
        and DOOR + ":" not in str(error)
