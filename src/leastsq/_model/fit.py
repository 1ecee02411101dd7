"""`fit`: the front door for people, with a model, data and parameters by name."""

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
        ``model(x, a, b, ...)``: its arguments after x are the parameters, but for those that are keyword-only or have
        a bool, a string or None as their default.  It returns what is compared with y.  A list: several
        data sets, in which parameters of one name are one parameter.
    x : object
        What the model is called with, as it is: an array of shape (m,) or (k, m), a tuple, a dict, a DataFrame.
        (A list of numbers becomes an array.)  With several models a list of as many, or one for all.
    y : array_like
        The data, of any shape; complex (both parts are residuals), masked, or a pandas Series.  With several
        models a list of as many.
    start : dict or sequence, optional
        Where to start: a number for each parameter, by name or in order.  Numbers that are defaults of the model's
        arguments need not be given.  None: parameters without one are searched for, on scales that bounds, priors and data
        suggest, and linear ones are solved for (but for `separable` False, or a loss).  `search` of the result says what was
        found; nothing says that no better minimum exists.
    sigma : float or array_like, optional
        Standard deviations of y: a number, or as many as y has, in its shape; or the covariance matrix, shape (m, m).
        Points whose sigma is infinite do not count.  For complex y a real sigma is that of each part, a complex one has
        that of both.  With several models a number for all or a list.
    absolute_sigma : bool, optional
        The sizes of sigma are known, and not only their ratios: uncertainties are then not multiplied by the root of
        reduced chi2.
    bounds : dict or sequence, optional
        (lower, upper) of a parameter, by name or in order; None for no bound.
    fixed : dict or sequence, optional
        Names of the parameters that keep their starts; or a dict of them and the values that they keep.
    prior : dict or sequence, optional
        (mean, width) of what is known of a parameter beforehand: another residual, (parameter - mean)/width.
        Needs `sigma`, with which the width is compared, or counts.  No loss applies to it, and reduced chi2 does not scale it.
    own : str or sequence of str, optional
        With several models: the parameters that each data set has for itself, named "height[0]", "height[1]", ...
        `start`, `bounds`, `fixed` and `prior` say of "height" what holds for each, of "height[1]" what holds for
        one; a start may also be a number for each.  Differences of parameters of different sets are made together.
    separable : bool, str or sequence of str, optional
        Parameters in which the model is linear, all of them together: they are solved for inside each evaluation, and need no
        start; steps are made by the others alone.  True: those that probing finds, in order; `message` says which.  The
        answer and its uncertainties are those of the whole model.
    starts : int, optional
        How many places are tried without a start; None: by the number of parameters that are searched for.
    jac : callable, list of them or {"2-point", "3-point", "cs", "jax"}, optional
        ``jac(x, a, b, ...)``, the derivatives of the model, of the shape of y and then one column for each parameter.
        None: forward differences; a word: as in `leastsq`; "jax": by JAX, if it is installed, for a model that is
        written with `jax.numpy`: compiled, and in double precision whatever JAX's setting is.
    loss, f_scale : str or callable, float, optional
        A robust loss for outliers, as in `leastsq`; f_scale is compared with residuals over sigma.  Or "poisson" for
        counts, without `sigma` and `f_scale`: the model is their expectation, the deviance is minimized, and
        uncertainties are those of the inverse Fisher information, whatever `absolute_sigma` says.
    nan_policy : {"raise", "omit"}, optional
        What is made of nan in y, sigma or x: an error, or such points do not count.
    strategy : {"fast", "minpack", "robust"}, optional
        How steps are made, as in `leastsq`, whose default is "minpack"; those of counts are made by scoring.
    ftol, xtol, gtol : float, optional
        When to stop, as in `leastsq`; of counts ftol is 1e-11 if it is not given.
    maxfev : int, optional
        Most evaluations of the model; None: 200 for each parameter and 200 more (100 with `jac`).
    callback, verbose, workers : optional
        As in `leastsq`.

    Returns
    -------
    FitResult
        The parameters by name, their uncertainties (made when they are first asked for), and all that can be asked of a fit.

    Raises
    ------
    TypeError
        An argument is of the wrong kind; there are fewer data than free parameters.
    ValueError
        A name that no parameter has; a start or a fixed value outside the bounds; a width or a sigma that is not positive; data
        that are empty or not finite; shapes that do not agree; a prior without sigma; a model that is not linear in what
        `separable` names; `separable` with a loss; without a start, a model that is finite nowhere.  Of counts: negative
        ones, sigma or f_scale beside them, a model that is not positive at the start where something was counted.
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
    curve_fit, leastsq : SciPy's functions, for scripts that have them.

    Notes
    -----
    Residuals are (model - y)/sigma; the sum of their squares is least at the answer.  nan, masks and sigma act on them, and x
    is never cut.  The arrays that functions are called with are their own, fresh at each call; `args`, blocks and
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

    Two data sets, which share the rate, of which something is known beforehand:

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
        raise ValueError(f"{DOOR}: starts is the number of places that are tried where there is no start, and there is one")
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
        if dtype in PRECISION:          # steps that are short for float64 see nothing but rounding: again, with longer ones
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
    """The fit itself; with linear parameters that are solved for, if `linear` is no None."""
    if linear is None:
        return Fit(problem, start, settings, watching)
    return SeparableFit(problem, start, linear, settings, watching)


def _models_and_data(model, x, y, start, sigma, nan_policy):
    """(the models, the data sets, the signatures), one for each data set."""
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
        raise ValueError(f"{DOOR}: x must be a list of {count}, one for each model, or one for all, got a list of {len(xs)}")
    sigmas = sigma if isinstance(sigma, (list, tuple)) else [sigma]*count
    if len(sigmas) != count:
        raise ValueError(f"{DOOR}: sigma must be a number or a list of {count}, one for each model, got {len(sigmas)}")
    signatures = [read_signature(one, start) for one in model]
    if count == 1:
        return [signatures[0].call], [parse_data(xs[0], y[0], sigmas[0], nan_policy)], signatures
    sets = [parse_data(*one, nan_policy, f"y[{i}]") for i, one in enumerate(zip(xs, y, sigmas))]
    if len({data.weights is None for data in sets}) > 1:
        raise ValueError(f"{DOOR}: sigma must be given for all data sets or for none: else they cannot be compared")
    return [one.call for one in signatures], sets, signatures


def problem_of(models, sets, signatures, parameters, *, jac=None, loss=(LINEAR, 1.0), absolute_sigma=False, workers=None):
    """The `Problem` of models and data, whose residuals are those of all sets, then of the priors; `loss`: with its f_scale."""
    (loss, f_scale), scheme, derivatives = loss, "2-point", None
    if isinstance(jac, str):
        if jac not in SCHEMES:
            words = (*SCHEMES, AUTOMATIC)
            raise ValueError(f"{DOOR}: jac must be a function or one of {', '.join(map(repr, words))}, got {jac!r}; "
                             f"{nearest(jac, words)}")
        if jac == "cs" and any(data.is_complex for data in sets):
            raise ValueError(f"{DOOR}: jac='cs' takes complex steps, which need a real y; '3-point' does with a complex one")
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
            raise ValueError(f"{DOOR}: absolute_sigma must be False with a loss: a loss says that some residuals are larger than "
                             "sigma, and how many is estimated from them")
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
    """Say where the model is no expectation of counts at the start, if that is why there is no fit."""
    found = impossible(problem.func, mean)
    if found is not None:
        k, count, value = found
        at = ", ".join(f"{name} = {float(one):.6g}" for name, one in zip(problem.names, start))
        where = problem.where(k) or f"y[{k}]"
        raise ValueError(f"{DOOR}: the model must be positive with loss='poisson', the expectation of {where} = {count:.6g}, "
                         f"got {value:.6g} at the start: {at}. Start elsewhere, or add the background to the model")


def _about_sets(models, sets, places):
    """What a `Problem` says of the data, of several sets together."""
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
        raise TypeError(f"{DOOR}: {parameters.free} free parameters need at least as many {what}, got {rows}: fix some, or give "
                        "a prior")


def _settings(strategy, ftol, xtol, gtol, maxfev, parameters, separable=False):
    """The `Settings` of a fit."""
    bounded = parameters.bounded or separable
    options = {"factor": 1.0} if bounded else {}        # as curve_fit has it
    return Settings(ftol, xtol, gtol, 0 if maxfev is None else maxfev, strategy=strategy, **options)


def _message(out, njev, fault, problem, settings, maxfev, linear, said):
    """Why the fit ended, in a sentence; what is at a bound; which parameters were solved for; and what more is said."""
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
    """Was an error raised by this package, and not by what the user gave?"""
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame.f_globals.get("__name__", "").partition(".")[0] == __name__.partition(".")[0] \
        and DOOR + ":" not in str(error)
