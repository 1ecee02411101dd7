"""Parameters of models by name: read from their signatures, with starts, bounds, fixed values and priors."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import inf, isfinite
from numbers import Real
from types import FunctionType

import numpy as np

from .._problem.bounds import Bounds
from .._problem.groups import Groups
from .words import DOOR, known, real_number, sort_of

__all__ = ["Parameters", "Signature", "groups_of", "parse_parameters", "read_signature"]

_VARIABLE = 0x04 | 0x08         # code flags: the function takes *args or **kwargs


@dataclass(frozen=True, slots=True, eq=False)
class Signature:
    """The parameters of one model.

    Attributes
    ----------
    call : callable
        ``call(x, *parameters)``: the model, with the parameters in order.
    names : tuple of str
    defaults : dict
        The defaults of parameters that have one.
    """

    call: object
    names: tuple
    defaults: dict


@dataclass(frozen=True, slots=True, eq=False)
class Parameters:
    """All parameters of a fit, in order.

    Attributes
    ----------
    names : tuple of str
    start : ndarray, shape (n,)
        The start; for a fixed parameter its value.
    bounds : Bounds or None
        The bounds; for a fixed parameter both are equal.
    limits : tuple of ndarray, shape (n,), or None
        Lower and upper bounds as the user gave them; None: no bounds.
    fixed : ndarray of bool, shape (n,)
    free : int
        The number of parameters that are not fixed.
    bounded : bool
        Does any free parameter have a bound?
    priors : tuple
        (index, mean, width) of each prior.
    places : tuple of ndarray or None
        For each of several data sets, the indices of its model's parameters; None: one set.
    linear : list of int or None
        The parameters that the user declared linear; None: not specified.
    """

    names: tuple
    start: np.ndarray
    bounds: Bounds | None
    limits: tuple | None
    fixed: np.ndarray
    free: int
    bounded: bool
    priors: tuple
    places: tuple | None
    linear: list | None = None


def groups_of(parameters, sets):
    """The `Groups` of parameters that belong to one data set each; None if there are not two sets with such parameters."""
    if parameters.places is None:
        return None
    n = len(parameters.names)
    owners = np.full(n, -1)
    for j in range(n):
        having = [i for i, place in enumerate(parameters.places) if j in place]
        if len(having) == 1:
            owners[j] = having[0]
    if len(set(owners[owners >= 0])) < 2:
        return None
    rows = [np.full(data.values.size, i) for i, data in enumerate(sets)]
    rows.append(np.array([owners[j] for j, _, _ in parameters.priors], int))
    return Groups(owners, np.concatenate(rows), parameters.names)


class _ByName:
    """A model some of whose parameters come after arguments that are not parameters: those are passed by name."""

    def __init__(self, model, count, names):
        self.model, self.count, self.names = model, count, names

    def __call__(self, x, *p):
        return self.model(x, *p[:self.count], **dict(zip(self.names, p[self.count:])))


def read_signature(model, start=None):
    """The `Signature` of a model; for a model with ``*p`` or ``**p`` the names come from the start."""
    if type(model) is FunctionType and not model.__dict__ and not model.__code__.co_flags & _VARIABLE:
        code, defaults = model.__code__, model.__defaults__
        if code.co_argcount > 1 and not defaults:           # the common case, ten times as fast
            return Signature(model, code.co_varnames[1:code.co_argcount], {})
    if not callable(model):
        raise TypeError(f"{DOOR}: model must be a function model(x, a, b, ...) or a list of them, got {sort_of(model)}")
    return _inspected(model, start)


def _inspected(model, start):
    bound = {}
    function = model
    if isinstance(model, partial) and not model.args:       # in its signature arguments after a bound one are keyword-only
        function, bound = model.func, model.keywords
    try:
        arguments = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        arguments = [inspect.Parameter("x", inspect.Parameter.POSITIONAL_ONLY),
                     inspect.Parameter("p", inspect.Parameter.VAR_POSITIONAL)]
    kinds = inspect.Parameter
    if not arguments or arguments[0].kind in (kinds.KEYWORD_ONLY, kinds.VAR_KEYWORD):
        raise TypeError(f"{DOOR}: model must take x as its first argument, got {model!r}")
    if arguments[0].kind is not kinds.VAR_POSITIONAL:
        arguments = arguments[1:]
    positional, named, defaults, straight, more = [], [], {}, True, None
    for one in arguments:
        if one.kind in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD):
            more = more or one.kind
        elif one.kind is kinds.KEYWORD_ONLY or one.name in bound or not _is_parameter(one.default):
            straight = straight and one.kind is kinds.KEYWORD_ONLY and more is None
        else:
            (positional if straight else named).append(one.name)
            if one.default is not kinds.empty:
                defaults[one.name] = float(one.default)
    names = positional + named
    if more is kinds.VAR_POSITIONAL:
        extra = _further_names(start, names)
        positional += extra
        names = positional + named
    elif more is kinds.VAR_KEYWORD and isinstance(start, Mapping):
        named += [name for name in start if name not in names]
        names = positional + named
    if not names:
        raise TypeError(f"{DOOR}: model must have parameters after x, model(x, a, b, ...), got {model!r}")
    call = _ByName(model, len(positional), tuple(named)) if named else model
    return Signature(call, tuple(names), defaults)


def _is_parameter(default):
    """Is an argument with this default a parameter?  Yes without a default, or with a number, which is then its start."""
    return default is inspect.Parameter.empty or isinstance(default, Real) and not isinstance(default, (bool, np.bool_))


def _further_names(start, names):
    """Names for the parameters in ``*p``: those of the start that are not named arguments."""
    if isinstance(start, Mapping):
        return [name for name in start if name not in names]
    count = (0 if start is None else np.size(start)) - len(names)
    return [f"p{j}" for j in range(len(names), len(names) + count)]


# --------------------------------------------------------------- the arguments about parameters

def parse_parameters(signatures, start, bounds, fixed, prior, own, linear=None):
    """
    The `Parameters` of a fit.

    Parameters
    ----------
    signatures : list of Signature
        One for each data set.
    start, bounds, fixed, prior, own
        The arguments of `fit`.
    linear : None, True, str or sequence of str
        Parameters that need no start, which is then nan; True: all parameters.
    """
    if len(signatures) == 1:
        names, places, copies = signatures[0].names, None, None
        if own is not None and len(own):
            raise ValueError(f"{DOOR}: own needs several data sets: a list of models, and of y")
    else:
        names, places, copies = _of_sets(signatures, own)
    values = _starts(start, names, signatures, copies)
    n = len(values)
    if copies is not None:
        names = tuple(one for name in names for one in copies.get(name, (name,)))
    limits = None if bounds is None else _limits(bounds, names, copies)
    held = [False]*n
    if fixed is not None:
        _fix(fixed, names, copies, held, values)
    which = () if linear is None else names if linear is True else linear_names(linear, names, copies)
    missing = [name for name, value in zip(names, values) if value is None and name not in which]
    if missing and start is not None:
        raise ValueError(f"{DOOR}: start must have a value for each parameter, {', '.join(map(repr, missing))} "
                         f"{'have' if len(missing) > 1 else 'has'} none: start={{{', '.join(f'{m!r}: ...' for m in missing)}}}")
    values = np.array(values, float)                # None becomes nan
    sides, bounded = None, False
    if limits is not None or fixed is not None:
        sides = _sides(limits, names, values.tolist(), held)
    if limits is not None:
        bounded = any(not fix and (low > -inf or high < inf) for fix, low, high in zip(held, *limits))
        limits = tuple(np.array(side, float) for side in limits)
    priors = () if prior is None else _priors(prior, names, copies, held)
    return Parameters(names, values, sides, limits, np.array(held), n - sum(held), bounded, priors, places,
                      None if linear is None or linear is True else _not_fixed(which, names, held))


def _not_fixed(which, names, held):
    """The indices of these parameters; a fixed one is refused."""
    places = [names.index(name) for name in which]
    for j in places:
        if held[j]:
            raise ValueError(f"{DOOR}: separable: {names[j]!r} is fixed, so it cannot be solved for")
    return places


def linear_names(given, names, copies=None):
    """The names in a user's `separable`, in the order of the parameters; own parameters are expanded to their copies."""
    given = (given,) if isinstance(given, str) else given
    if not hasattr(given, "__iter__") or not all(isinstance(name, str) for name in given):
        raise TypeError(f"{DOOR}: separable must be True, None or names of parameters, got {sort_of(given)}")
    wanted = set()
    for name in given:
        if copies is not None and name in copies:
            wanted.update(copies[name])
        else:
            known(name, names if copies is None else (*names, *copies), "separable")
            wanted.add(name)
    if not wanted:
        raise ValueError(f"{DOOR}: separable must name at least one parameter, got none: give None to treat all alike")
    return tuple(name for name in names if name in wanted)


def _of_sets(signatures, own):
    """(all names in order, each own parameter once; the indices of each set's parameters; the copies of own parameters)."""
    names = tuple(dict.fromkeys(name for one in signatures for name in one.names))
    own = () if own is None else (own,) if isinstance(own, str) else tuple(own)
    for name in own:
        known(name, names, "own")
    copies = {name: tuple(f"{name}[{i}]" for i, one in enumerate(signatures) if name in one.names) for name in own}
    flat = [one for name in names for one in copies.get(name, (name,))]
    where = {name: j for j, name in enumerate(flat)}
    places = tuple(np.array([where[f"{name}[{i}]" if name in copies else name] for name in one.names])
                   for i, one in enumerate(signatures))
    return names, places, copies


def _entries(given, names, copies, what, wanted):
    """(name, value) for each entry of a dict, or of a sequence in order; own parameters are expanded to their copies."""
    if isinstance(given, Mapping):
        pairs = given.items()
    else:
        base = _base_names(names, copies)
        if isinstance(given, (str, bytes)) or not hasattr(given, "__len__"):
            raise TypeError(f"{DOOR}: {what} must be a dict or a sequence of {wanted}, got {sort_of(given)}")
        if len(given) not in (len(base), len(names)):
            raise ValueError(f"{DOOR}: {what} must be {wanted}, one for each of the {len(base)} parameters "
                             f"{', '.join(base)}, got {len(given)}")
        pairs = zip(base if len(given) == len(base) else names, given)
    for name, value in pairs:
        if copies is not None and name in copies:
            for copy in copies[name]:
                yield copy, value
        else:
            known(name, names if copies is None else (*names, *copies), what)
            yield name, value


def _base_names(names, copies):
    if copies is None:
        return names
    of = {copy: name for name, all_of in copies.items() for copy in all_of}
    return tuple(dict.fromkeys(of.get(name, name) for name in names))


def _starts(start, names, signatures, copies):
    """The starts in order, None where there is none."""
    defaults = {}
    for one in reversed(signatures):
        defaults.update(one.defaults)
    if isinstance(start, Mapping):
        if copies is None and len(start) == len(names) and all(type(start.get(name)) in (int, float) for name in names):
            return [_finite(start[name], name) for name in names]           # the common case
        given = dict(start)
    elif start is None:
        given = {}
    elif isinstance(start, (str, bytes, set, frozenset)) or not hasattr(start, "__len__"):
        raise TypeError(f"{DOOR}: start must be a dict of numbers or a sequence of them in order, got {sort_of(start)}")
    else:
        flat = [one for name in names for one in (copies or {}).get(name, (name,))]
        if len(start) not in (len(names), len(flat)):
            raise ValueError(f"{DOOR}: start must have {len(names)} values, for {', '.join(names)}, got {len(start)}")
        given = dict(zip(names if len(start) == len(names) else flat, start))
    values = []
    for name in names:
        if copies is not None and name in copies:
            values += _own_starts(name, given, defaults.get(name), copies[name])
            continue
        value = given.pop(name, None)
        if value is None:
            value = defaults.get(name)
        values.append(None if value is None else _finite(value, name))
    for name in given:
        known(name, [*names, *(one for all_of in (copies or {}).values() for one in all_of)], "start")
    return values


def _own_starts(name, given, default, copies):
    """The starts of an own parameter: one number for all sets, or one for each; an entry for a single set takes precedence."""
    value = given.pop(name, default)
    if value is not None and np.ndim(value):
        if len(value) != len(copies):
            raise ValueError(f"{DOOR}: start[{name!r}] must be a number or {len(copies)} numbers, one for each data set that "
                             f"has it, got {len(value)}")
        values = list(value)
    else:
        values = [value]*len(copies)
    values = [given.pop(copy, value) for copy, value in zip(copies, values)]
    return [None if value is None else _finite(value, copy) for copy, value in zip(copies, values)]


def _finite(value, name):
    if type(value) not in (float, int, np.float64):
        value = real_number(value, f"start[{name!r}]")
    if not isfinite(value):
        raise ValueError(f"{DOOR}: start[{name!r}] must be finite, got {value}")
    return value


def _limits(bounds, names, copies):
    low, high = [-inf]*len(names), [inf]*len(names)
    where = {name: j for j, name in enumerate(names)}
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):
        bounds = list(zip(np.broadcast_to(bounds.lb, len(low)), np.broadcast_to(bounds.ub, len(low))))
    for name, pair in _entries(bounds, names, copies, "bounds", "pairs (lower, upper)"):
        if pair is None:
            continue
        if not (type(pair) is tuple and len(pair) == 2) and (np.size(pair) != 2 or np.ndim(pair) != 1):
            raise ValueError(f"{DOOR}: bounds[{name!r}] must be a pair (lower, upper), None for no bound, got {sort_of(pair)}")
        j, (a, b) = where[name], pair
        low[j] = -inf if a is None else real_number(a, f"the lower bound of {name!r}")
        high[j] = inf if b is None else real_number(b, f"the upper bound of {name!r}")
        if low[j] > high[j]:
            raise ValueError(f"{DOOR}: bounds[{name!r}] must be (lower, upper), got {sort_of(pair)}, whose lower bound is "
                             "larger")
    return low, high


def _fix(fixed, names, copies, held, values):
    """Mark the fixed parameters, and set the values of those that are fixed at a given value."""
    where = {name: j for j, name in enumerate(names)}
    if isinstance(fixed, str):
        fixed = [fixed]
    if not isinstance(fixed, Mapping) and hasattr(fixed, "__len__") and all(isinstance(name, str) for name in fixed):
        fixed = dict.fromkeys(fixed, True)
    for name, value in _entries(fixed, names, copies, "fixed", "names, or True or False"):
        if value is None or value is False or isinstance(value, np.bool_) and not value:
            continue
        j = where[name]
        held[j] = True
        if not isinstance(value, (bool, np.bool_)):
            values[j] = real_number(value, f"fixed[{name!r}]")
            if not isfinite(values[j]):
                raise ValueError(f"{DOOR}: fixed[{name!r}] must be finite, got {values[j]}")


def _sides(limits, names, values, held):
    """The `Bounds`; raises ValueError if the start is outside."""
    low, high = ([-inf]*len(names), [inf]*len(names)) if limits is None else map(list, limits)
    for j, (a, value, b) in enumerate(zip(low, values, high)):
        if not a <= value <= b and value == value:
            what = "fixed" if held[j] else "start"
            raise ValueError(f"{DOOR}: {what}[{names[j]!r}] must be within the bounds {a:g} to {b:g}, got {value:g}")
        if held[j]:
            low[j] = high[j] = value
    if max(low) == -inf and min(high) == inf:
        return None
    return Bounds(np.array(low, float), np.array(high, float))


def _priors(prior, names, copies, held):
    where, priors = {name: j for j, name in enumerate(names)}, {}
    for name, pair in _entries(prior, names, copies, "prior", "pairs (mean, width)"):
        if pair is None:
            continue
        if np.size(pair) != 2 or np.ndim(pair) != 1:
            raise ValueError(f"{DOOR}: prior[{name!r}] must be a pair (mean, width), got {sort_of(pair)}")
        mean, width = (real_number(value, f"the {what} of prior[{name!r}]") for value, what in zip(pair, ("mean", "width")))
        if not isfinite(mean):
            raise ValueError(f"{DOOR}: the mean of prior[{name!r}] must be finite, got {mean}")
        if not 0 < width < inf:
            raise ValueError(f"{DOOR}: the width of prior[{name!r}] must be positive and finite, got {width:g}"
                             + (": use fixed to hold a parameter at a value" if width == 0 else ""))
        if held[where[name]]:
            raise ValueError(f"{DOOR}: prior[{name!r}]: {name} is fixed, but a prior needs a free parameter")
        priors[where[name]] = mean, width
    return tuple((j, *priors[j]) for j in sorted(priors))
