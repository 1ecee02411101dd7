"""Residuals of models, data and priors as a function of one vector of parameters; and their Jacobian."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import frexp, isfinite, ldexp

import numpy as np

from .._core import Curve
from .._problem.counts import CountResiduals, check_counts
from .words import DOOR

__all__ = ["Rounded", "counts_of", "diagnose", "jacobian_of", "model_of_sets", "precision_of", "residual_of", "values_of"]


class _Flat:
    """A model that returns only the values that are compared with the data, as a vector."""

    def __init__(self, model, data, name):
        self.model, self.data, self.name = model, data, name

    def __call__(self, x, *p):
        data = self.data
        return data.flat(data.shaped(self.model(x, *p), p, self.name))


class _Joined:
    """The residuals of several data sets, one set after the other."""

    def __init__(self, parts, places):
        self.parts, self.places = parts, places

    def __call__(self, p):
        return np.concatenate([np.atleast_1d(part(p[place])) for part, place in zip(self.parts, self.places)])


class _WithPriors:
    """Residuals, followed by one for each prior: the distance of the parameter from the mean, in widths."""

    def __init__(self, func, priors):
        self.func = func
        which, mean, width = zip(*priors)
        self.which, self.mean, self.width = np.array(which), np.array(mean), np.array(width)

    def __call__(self, p):
        return np.concatenate([np.atleast_1d(self.func(p)), (p[self.which] - self.mean)/self.width])


def _chained(weigh, curve, p):
    return weigh(curve(p))


def _of_set(model, data, name):
    """``weights*(model(x, *p) - values)`` as a function of p."""
    if not (data.is_plain and data.index is None and _follows(data.x, data.y)):
        model = _Flat(model, data, name)
    if callable(data.weights):
        return partial(_chained, data.weights, Curve(model, data.x, data.values, None))
    return Curve(model, data.x, data.values, data.weights)


def _follows(x, y):
    """Is x an array with a point for each value of y?  Then a model of array operations returns y's shape."""
    return type(x) is np.ndarray and x.ndim > 0 and x.shape[-1] == y.size


def _names_of(models):
    """The name of each model in messages."""
    return ["the model"] if len(models) == 1 else [f"model {i}" for i in range(len(models))]


def residual_of(models, sets, parameters):
    """The residuals, of all sets and then of the priors, as a function of the parameters."""
    parts = [_of_set(*one, name) for *one, name in zip(models, sets, _names_of(models))]
    func = parts[0] if parameters.places is None else _Joined(parts, parameters.places)
    return _WithPriors(func, parameters.priors) if parameters.priors else func


def counts_of(models, sets, parameters):
    """The deviance residuals of counts, of all sets and then of the priors; and their loss."""
    names = ["y"] if len(sets) == 1 else [f"y[{i}]" for i in range(len(sets))]
    for data, name in zip(sets, names):
        if data.is_complex:
            raise ValueError(f"{DOOR}: {name} must be counts with loss='poisson', got complex numbers")
        check_counts(data.values, DOOR, name, data.where)
    counts = sets[0].values if len(sets) == 1 else np.concatenate([data.values for data in sets])
    loss = check_counts(counts, DOOR, "y")
    mean = residual_of(models, [without_values(data) for data in sets], parameters)
    return CountResiduals(mean, loss.counts, len(parameters.priors)), loss


def without_values(data):
    """The same data with zeros in place of the values, so model - y is the model itself."""
    zeros = np.zeros_like(data.values)
    return replace(data, values=zeros, y=zeros if data.is_plain else data.y)


class _JacobianOfSet:
    """The derivatives of one set's residuals, shape (m, n of this model)."""

    def __init__(self, jac, data, names):
        self.jac, self.data, self.names = jac, data, names

    def __call__(self, p):
        data, count = self.data, len(self.names)
        rows = np.asarray(self.jac(data.x, *p))
        wanted = (*data.y.shape, count)
        if rows.shape != wanted:
            raise ValueError(f"{DOOR}: the array that jac returned must have the shape {wanted}, that of y and then a column for "
                             f"each of {', '.join(self.names)}, got {rows.shape}")
        rows = data.flat(rows)
        if data.weights is None:
            return rows
        if callable(data.weights):
            return data.weights(rows)
        return rows*(data.weights if np.ndim(data.weights) == 0 else data.weights[:, None])


def jacobian_of(jacs, sets, signatures, parameters):
    """The Jacobian of `residual_of`, from the models' own derivatives."""
    parts = [_JacobianOfSet(jac, data, one.names) for jac, data, one in zip(jacs, sets, signatures)]
    n = len(parameters.names)
    places = parameters.places or [np.arange(n)]
    below = np.zeros((len(parameters.priors), n))
    for row, (j, _, width) in enumerate(parameters.priors):
        below[row, j] = 1/width

    def jacobian(p):
        rows = [below]
        for part, place, at in zip(parts, places, range(len(parts))):
            own = part(p[place])
            whole = np.zeros((len(own), n))
            whole[:, place] = own
            rows.insert(at, whole)
        return np.concatenate(rows)
    jacobian.__name__ = "jac"
    return jacobian


def values_of(model, complex_data, shape=None):
    """``model(x, *p)`` as a vector of real numbers; `shape`, a list, gets its original shape and whether it was complex."""
    def values(x, *p):
        result = model(x, *p)
        result = np.asarray(np.ma.getdata(result) if isinstance(result, np.ma.MaskedArray) else result)
        if shape is not None:
            shape[:] = [result.shape, result.dtype.kind == "c"]
        flat = result.ravel()
        return np.concatenate([flat.real, flat.imag]) if complex_data or flat.dtype.kind == "c" else flat
    return values


def model_of_sets(models, sets, places):
    """``model(x, *p)`` of all sets, with a list of their x: all values in one vector."""
    parts = [values_of(model, data.is_complex) for model, data in zip(models, sets)]

    def joined(x, *p):
        p = np.array(p)
        return np.concatenate([part(one, *p[place]) for part, one, place in zip(parts, x, places)])
    return joined


class Rounded:
    """Residuals in the precision of the models' results, which determines the steps of the solver and the tools."""

    def __init__(self, func, dtype):
        self.func, self.dtype = func, dtype

    def __call__(self, p):
        return self.func(p).astype(self.dtype)


def precision_of(models, sets, parameters, x, fvec):
    """
    The least precise dtype that models return, if three values of a model look as if it were less than float64; else None.

    Differences of models and data are always float64.  So values are tested first, without an evaluation, and only
    then is a model called.
    """
    first, found = 0, []
    for model, data, place in zip(models, sets, parameters.places or [slice(None)]):
        m = data.values.size
        if not callable(data.weights) and not all(_is_short(data, fvec[first + k], k) for k in (0, m//2, m - 1)):
            first += m
            continue
        first += m
        found.append(np.asarray(model(data.x, *x[place])).dtype)
    reals = [np.empty(0, dtype).real.dtype for dtype in found if dtype.kind in "fc"]
    return min(reals, key=lambda dtype: dtype.itemsize) if reals else None


def _is_short(data, residual, k):
    """Can a float32 hold the model's value number k, up to the rounding of the residual?"""
    weights, y = data.weights, float(data.values[k])
    difference = float(residual)/(1.0 if weights is None else weights if type(weights) is float else float(weights[k]))
    value, size = difference + y, abs(difference) + abs(y)
    if not isfinite(size) or value == 0:
        return value == 0
    bits = ldexp(frexp(value)[0], 24)           # an integer, if 24 bits hold the value
    return abs(bits - round(bits)) <= ldexp(1e-15, 24)*size/abs(value)


def diagnose(models, sets, parameters, error):
    """A better error if the result of a model is wrong; else the same error."""
    places = parameters.places or [slice(None)]
    for model, data, place, name in zip(models, sets, places, _names_of(models)):
        p = parameters.start[place]
        try:
            result = model(data.x, *p)
        except Exception:
            return error
        try:
            data.shaped(result, p, name)
        except (TypeError, ValueError) as found:
            return found
    return error
