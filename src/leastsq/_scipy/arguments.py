"""Checks of the arguments that SciPy's functions share, with SciPy's messages."""

from __future__ import annotations

import inspect
import math
import reprlib
from collections.abc import Mapping
from numbers import Real

import numpy as np

from .._problem.arguments import noted, real_array
from .._problem.derivatives import Differences
from .._problem.settings import most_evaluations
from .classes import OptimizeResult

__all__ = ["NotDense", "as_leastsq", "check_tolerances", "check_trust_region", "evaluation_limit", "factors_of_scales",
           "has_finite_bounds", "is_scipys", "linear_parameters", "relative_steps", "scipys_callback"]

_EPS = np.finfo(float).eps
_OTHERS = ("trf", "dogbox")
_TOLERANCES = ("ftol", "xtol", "gtol")
_MOST = 2**52                   # a limit on evaluations that no fit reaches


class NotDense(ValueError):
    """An argument asks for a sparse Jacobian or a linear operator, which this package does not support."""


def is_scipys(method):
    """Is `method` one of SciPy's other methods, which Levenberg-Marquardt replaces?"""
    if isinstance(method, str) and method in (*_OTHERS, "lm"):
        return method != "lm"
    raise noted(ValueError("`method` must be 'trf', 'dogbox' or 'lm'."), f"got {reprlib.repr(method)}")


def has_finite_bounds(bounds):
    """Would SciPy use its methods with bounds?  False for invalid bounds, which are refused when they are parsed."""
    try:
        low, high = (bounds.lb, bounds.ub) if hasattr(bounds, "lb") else bounds
        return bool(np.any(np.asarray(low, float) > -np.inf) or np.any(np.asarray(high, float) < np.inf))
    except (TypeError, ValueError):
        return False


def as_leastsq(jac, options, n, named):
    """
    `jac` and the options of SciPy's methods with bounds, converted to arguments of `leastsq`.

    Parameters
    ----------
    jac : callable, str or None
    options : dict
        The further keyword arguments of `curve_fit`; not changed.
    n : int
        Number of parameters.
    named : bool
        The method was named, so `callback` is called as in SciPy.
    """
    options = {"factor": 1.0} | options
    check_trust_region(*(options.pop(name, None) for name in ("tr_solver", "tr_options", "jac_sparsity")))
    options["maxfev"] = _with_differences(options, jac, n)
    given = {name: options[name] for name in _TOLERANCES if name in options}
    if None in given.values():          # the others decide
        given = dict.fromkeys(_TOLERANCES, 1e-8) | given
        options |= {name: 0.0 if value is None else value for name, value in given.items()}
    values = [options.get(name, 0.0 if name == "gtol" else 1e-8) for name in _TOLERANCES]
    if all(isinstance(value, Real) and 0 <= value for value in values):
        check_tolerances(values, given)
    factors = factors_of_scales(options.pop("x_scale", None), n)
    if factors is not None:
        options["diag"] = factors
    steps = relative_steps(options.pop("diff_step", None), n, "curve_fit")
    if steps is not None and not callable(jac):
        jac = Differences(scheme=jac or "2-point", steps=steps)
    if named and "callback" in options:
        options["callback"] = scipys_callback(options["callback"], True)
    return jac, options


def _with_differences(options, jac, n):
    """The limit for `leastsq`, which counts evaluations for differences too, from `maxfev` or `max_nfev`, which is removed."""
    if "maxfev" in options and "max_nfev" in options:
        raise TypeError("curve_fit: `maxfev` and `max_nfev` are names of the same limit, got both.")
    each = 1 if callable(jac) else 2*n + 1 if jac == "3-point" else n + 1
    name = "maxfev" if "maxfev" in options else "max_nfev"
    limit = options.pop(name, None)
    if name == "maxfev" and isinstance(limit, Real) and limit <= 0:     # as in leastsq
        limit = None
    if limit is None:
        return max(100*n*each, most_evaluations(n, not callable(jac)))
    return min(evaluation_limit(limit, None, True, name)*each, _MOST)


def check_trust_region(tr_solver, tr_options, jac_sparsity):
    """Check SciPy's `tr_solver` and `tr_options`, which change nothing here; refuse a sparse Jacobian."""
    if not (tr_solver is None or isinstance(tr_solver, str) and tr_solver in ("exact", "lsmr")):
        raise noted(ValueError("`tr_solver` must be None, 'exact' or 'lsmr'."), f"got {reprlib.repr(tr_solver)}")
    if not (tr_options is None or isinstance(tr_options, Mapping)):
        raise TypeError(f"`tr_options` must be a dict or None, got {type(tr_options).__name__}.")
    if jac_sparsity is not None:
        raise NotDense(f"`jac_sparsity` must be None, got {reprlib.repr(jac_sparsity)}: the Jacobian is dense here.")


def check_tolerances(values, given):
    """Refuse tolerances that are all below the machine epsilon."""
    if all(value < _EPS for value in values):
        raise noted(ValueError(f"At least one of the tolerances must be higher than machine epsilon ({_EPS:.2e})."),
                    "got " + ", ".join(f"{name}={value!r}" for name, value in given.items()))


def factors_of_scales(x_scale, n):
    """`diag` for SciPy's `x_scale`, one over the scales; None: scales from the Jacobian."""
    if x_scale is None or isinstance(x_scale, str) and x_scale == "jac":
        return None
    try:
        scales = np.asarray(x_scale, float)
        proper = bool(np.all(np.isfinite(scales)) and np.all(scales > 0))
    except (TypeError, ValueError):
        proper = False
    if not proper:
        raise noted(ValueError("`x_scale` must be 'jac' or array_like with positive numbers."), f"got {x_scale!r}")
    if scales.ndim > 0 and scales.shape != (n,):
        raise noted(ValueError("Inconsistent shapes between `x_scale` and `x0`."), f"got {scales.shape} and ({n},)")
    return np.array(np.broadcast_to(1/scales, n))


def evaluation_limit(max_nfev, default, fractions=False, name="max_nfev"):
    """SciPy's `max_nfev` as an integer; with `fractions` a float is rounded up, with the effect that it has in SciPy."""
    if max_nfev is None:
        return default
    if hasattr(max_nfev, "__index__") and max_nfev > 0:
        return min(max_nfev.__index__(), _MOST)
    if fractions and isinstance(max_nfev, Real) and max_nfev > 0:
        return _MOST if max_nfev > _MOST else math.ceil(max_nfev)
    words = f"`{name}` must be None or positive." if fractions else f"`{name}` must be None or positive integer."
    raise noted(ValueError(words), f"got {max_nfev!r}")


def relative_steps(diff_step, n, door):
    """`diff_step`, checked: None, or positive numbers."""
    if diff_step is None:
        return None
    step = real_array(diff_step, "`diff_step`", door).astype(float)
    if step.ndim > 0 and step.shape != (n,):
        raise noted(ValueError("Inconsistent shapes between `diff_step` and `x0`."), f"got {step.shape} and ({n},)")
    if not np.all(np.abs(step) > 0) or not np.all(np.isfinite(step)):
        raise ValueError(f"`diff_step` must be finite and not zero, got {diff_step!r}.")
    return np.abs(step)


def scipys_callback(callback, named):
    """The user's ``callback(x)`` or ``callback(intermediate_result)`` as a function of a `State`.

    With `named`, if one of SciPy's methods was named, it is called after each step but not at the start, and its result
    does not end the fit; only StopIteration does.
    """
    if callback is None:
        return None
    if not callable(callback):
        raise TypeError(f"`callback` must be callable or None, got {type(callback).__name__}.")
    try:
        wants_result = "intermediate_result" in inspect.signature(callback).parameters
    except (TypeError, ValueError):
        wants_result = False

    def tell(state):
        if named and state.iteration == 1:
            return None
        done = state.iteration - named
        if wants_result:
            said = callback(intermediate_result=OptimizeResult(
                x=state.x, cost=state.cost, optimality=state.gnorm, nfev=state.nfev, njev=state.njev, nit=done))
        else:
            said = callback(state.x)
        return None if named else said
    return tell


def linear_parameters(separable, names):
    """The argument `separable` for `leastsq`, from that of `curve_fit`."""
    from .._projection.separable import Linear  # not at the top: most fits have none
    if separable is True:
        return Linear("curve_fit", names)
    given = (separable,) if isinstance(separable, str) else separable
    if not hasattr(given, "__iter__") or not all(isinstance(name, str) for name in given):
        raise TypeError(f"curve_fit: separable must be True, None or names of parameters, got {separable!r}")
    given = tuple(given)
    for name in given or ("",):
        if names is None or name not in names:
            known = "the names of f's parameters are not known" if names is None else f"f has {', '.join(names)}"
            raise ValueError(f"curve_fit: separable must be names of parameters, got {separable!r}: {known}")
    return Linear("curve_fit", names, [names.index(name) for name in given])
