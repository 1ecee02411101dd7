"""A `FitResult` to JSON (numbers and names, no code), and back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, replace

import numpy as np

from .._build import version
from .._problem.bounds import Bounds
from .._uncertainty.covariance import CovarianceResult
from .data import parse_data
from .fit import problem_of
from .parameters import Parameters, read_signature
from .result import FitResult, Models
from .words import sort_of

__all__ = ["load", "record", "restored", "save"]

_FORMAT = 1
_NOT_STORED = ("problem", "loss")       # fields of a CovarianceResult


def save(result, path):
    """Write a result to a file; called by `FitResult.save`."""
    text = json.dumps(record(result), allow_nan=False, indent=1)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text + "\n")


def load(path, model=None, *, x=None, loss=None):
    """
    Read a `FitResult` from a file that its method `save` wrote.

    Parameters
    ----------
    path : str or path
    model : callable or list of them, optional
        The model or models that were fitted, because a file holds no code.  None: the result has its parameters,
        uncertainties, report and exports, but no predictions, bands, profiles or derived quantities.
    x : object, optional
        The x of the fit, if JSON could not hold it: it holds numbers, arrays, and tuples, dicts
        and pandas objects made of them.
    loss : callable, optional
        The loss of the fit, if it was a function.

    Returns
    -------
    FitResult

    Raises
    ------
    ValueError
        The file was not written by `save`; the model has other parameters, or other residuals at the answer, than the model
        of the fit.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import leastsq as lsq
    >>> t, y = np.arange(6.0), np.array([5.1, 3.0, 1.9, 1.2, 0.6, 0.4])
    >>> def decay(t, height, rate):
    ...     return height*np.exp(-rate*t)
    >>> path = os.path.join(tempfile.mkdtemp(), "decay.json")
    >>> lsq.fit(decay, t, y, [1, 1]).save(path)
    >>> lsq.load(path)["rate"]
    rate = 0.504 ± 0.012
    >>> lsq.load(path, decay).predict(np.array([10.0])).round(3)
    array([0.033])
    """
    with open(path, encoding="utf-8") as file:
        try:
            stored = json.load(file)
        except ValueError as error:
            raise ValueError(f"load: {path} is not JSON: {error}") from None
    if not isinstance(stored, dict) or stored.get("format") != _FORMAT or "leastsq" not in stored:
        raise ValueError(f"load: {path} must be a file that FitResult.save wrote, in format {_FORMAT}")
    return restored(stored, model, x, loss)


# ------------------------------------------------------------------ to JSON

def record(result):
    """A result as a dict that can be written as JSON."""
    parameters, problem = result._models.parameters, result.problem
    rho = problem.loss.of_data().rho
    try:
        spreads = [_of_covariance(one) for one in result._made_once()]
    except ValueError:                  # no covariance: the fit failed
        spreads = None
    limits = parameters.limits
    return {
        "leastsq": version, "format": _FORMAT, "names": list(parameters.names), "x": _coded(result.x),
        "start": _coded(parameters.start), "fixed": parameters.fixed.tolist(),
        "bounds": None if limits is None else [_coded(side) for side in limits],
        "priors": [list(one) for one in parameters.priors],
        "places": None if parameters.places is None else [place.tolist() for place in parameters.places],
        "loss": rho if isinstance(rho, str) else None, "f_scale": problem.loss.scale,
        "absolute_sigma": bool(problem.absolute_sigma), "strategy": result.strategy, "nfev": int(result.nfev),
        "njev": None if result.njev is None else int(result.njev), "status": result.status, "message": result.message,
        "fvec": _coded(result._fvec), "covariances": spreads,
        "data": [{"x": _coded(data.x), "y": _coded(data.y), "keep": _coded(data.keep), "sigma": _coded(data.given_sigma),
                  "index": None if data.index is None else _of_index(*data.index)} for data in result._models.sets]}


def _of_covariance(found):
    return {one.name: _coded(getattr(found, one.name)) for one in fields(CovarianceResult) if one.name not in _NOT_STORED}


def _of_index(kind, index, name):
    return {"index": _coded(np.asarray(index)), "name": name if isinstance(name, (str, int)) else None}


def _coded(value):
    """Numbers, arrays and containers of them, for JSON; {"missing": type} for other objects."""
    if value is None or isinstance(value, (str, bool, int)) and type(value) in (str, bool, int):
        return value
    if isinstance(value, (float, np.floating)) and np.ndim(value) == 0:
        return {"number": _float(float(value))}
    if isinstance(value, np.ma.MaskedArray):
        return {"masked": _coded(np.ma.getdata(value)), "mask": np.ma.getmaskarray(value).tolist()}
    if hasattr(value, "columns") and hasattr(value, "items"):
        return {"dataframe": {str(name): _coded(np.asarray(column)) for name, column in value.items()}}
    if hasattr(value, "to_numpy") and hasattr(value, "index"):
        return {"series": _coded(np.asarray(value)), **_of_index(type(value), value.index, value.name)}
    if isinstance(value, (list, tuple)):
        parts = [_coded(one) for one in value]
        bad = next((one for one in parts if isinstance(one, dict) and "missing" in one), None)
        return bad or {type(value).__name__ if type(value) in (list, tuple) else "tuple": parts}
    if isinstance(value, Mapping):
        parts = {name: _coded(one) for name, one in value.items()}
        bad = next((one for one in parts.values() if isinstance(one, dict) and "missing" in one), None)
        return bad or {"dict": parts}
    array = np.asarray(value)
    if array.dtype.kind in "biu":
        return {"array": array.tolist(), "dtype": str(array.dtype)}
    if array.dtype.kind == "f":
        return {"array": [_float(one) for one in array.astype(float).ravel().tolist()], "shape": list(array.shape),
                "dtype": str(array.dtype)}
    if array.dtype.kind == "c":
        return {"real": _coded(array.real), "imag": _coded(array.imag)}
    if array.dtype.kind == "U":
        return {"array": array.tolist(), "dtype": "str"}
    return {"missing": type(value).__name__}


def _float(number):
    return number if math.isfinite(number) else repr(number)


# ------------------------------------------------------------------ and back

def restored(stored, model=None, x=None, loss=None):
    """The `FitResult` made of a record."""
    names = tuple(stored["names"])
    limits = None if stored["bounds"] is None else tuple(_decoded(side) for side in stored["bounds"])
    fixed, start = np.array(stored["fixed"], bool), _decoded(stored["start"])
    bounds = None
    if limits is not None or fixed.any():
        low, high = limits or (np.full(fixed.size, -np.inf), np.full(fixed.size, np.inf))
        bounds = Bounds(np.where(fixed, start, low), np.where(fixed, start, high))
        bounds = bounds if bounds.finite else None
    places = None if stored["places"] is None else tuple(np.array(place, int) for place in stored["places"])
    priors = tuple((int(j), *pair) for j, *pair in stored["priors"])
    parameters = Parameters(names, start, bounds, limits, fixed, int((~fixed).sum()), limits is not None, priors, places)
    rho = stored["loss"] if loss is None else loss
    if loss is not None and stored["loss"] is not None:
        raise ValueError(f"load: loss must be the loss of the fit, {stored['loss']!r}, got {sort_of(loss)}")
    if rho is None and model is not None:
        raise ValueError("load: loss must be given with model: the loss of the fit was a function, and a file holds no code")
    xs = x if places is not None and isinstance(x, list) else [x]*len(stored["data"])
    sets = [_data_of(one, given, model is not None) for one, given in zip(stored["data"], xs)]
    end = stored["nfev"], stored["njev"], stored["status"], stored["message"]
    answer, fvec = _decoded(stored["x"]), _decoded(stored["fvec"])
    if model is None:
        models = Models((), (), tuple(sets), parameters)
        problem = problem_of([_absent]*len(sets), sets, None, parameters, loss=(rho or _absent, stored["f_scale"]),
                             absolute_sigma=stored["absolute_sigma"])
        problem = replace(problem, func=None, in_blocks=True, rows=fvec.size)
    else:
        models, problem = _with_models(model, sets, parameters, rho, stored)
    result = FitResult._made(models, problem, answer, fvec, end, stored["strategy"])
    if model is not None:
        result._as_fitted().check("load")
        result._count[0] = 0
    if stored["covariances"] is not None:
        result._spreads = tuple(_covariance_of(one, problem) for one in stored["covariances"])
    return result


def _absent(*_):
    raise ValueError("this result was read from a file, or copied, without its code: use load(path, model=...)")


def _with_models(model, sets, parameters, rho, stored):
    given = list(model) if isinstance(model, (list, tuple)) else [model]*len(sets)
    if len(given) != len(sets):
        raise ValueError(f"load: model must be a list of {len(sets)}, one for each data set, got {len(given)}")
    wanted = [parameters.names] if parameters.places is None else [
        tuple(parameters.names[j] for j in place) for place in parameters.places]
    signatures = []
    for i, (one, names) in enumerate(zip(given, wanted)):
        plain = tuple(name.removesuffix(f"[{i}]") for name in names) if parameters.places is not None else names
        signature = read_signature(one, dict.fromkeys(plain, 1.0))
        if signature.names != plain:
            raise ValueError(f"load: the model must have the parameters of the fit, {', '.join(plain)}, got "
                             f"{', '.join(signature.names)}")
        signatures.append(signature)
    calls = [one.call for one in signatures]
    problem = problem_of(calls, sets, signatures, parameters, loss=(rho, stored["f_scale"]),
                         absolute_sigma=stored["absolute_sigma"])
    return Models(tuple(calls), tuple(signatures), tuple(sets), parameters), problem


def _data_of(stored, x, needed):
    """A `DataSet`; uses the given x if the file has none."""
    own = _decoded(stored["x"])
    if isinstance(own, _Missing):
        if x is None and needed:
            raise ValueError(f"load: x must be given with model: JSON cannot hold the x of the fit, {own.kind}")
        own = x
    y, keep, sigma = _decoded(stored["y"]), _decoded(stored["keep"]), _decoded(stored["sigma"])
    if keep is not None:
        y = np.ma.array(np.where(keep, y, 0), mask=~keep)
    if sigma is not None and keep is not None and np.shape(sigma) == keep.shape:
        sigma = np.where(keep, np.ma.getdata(sigma), 1.0)
    data = parse_data(own, y, sigma, "omit")
    if stored["index"] is not None:
        data = replace(data, index=_index_of(stored["index"]))
    return data


def _index_of(stored):
    try:
        import pandas
    except ImportError:
        return None
    index = _decoded(stored["index"])
    return pandas.Series, None if isinstance(index, _Missing) else index, stored["name"]


def _covariance_of(stored, problem):
    values = {name: _decoded(value) for name, value in stored.items()}
    values["names"] = tuple(values["names"])
    return CovarianceResult(**values, loss=problem.loss.rho, problem=problem)


class _Missing:
    def __init__(self, kind):
        self.kind = kind


def _decoded(value):
    if not isinstance(value, dict):
        return value
    if "number" in value:
        return float(value["number"])
    if "missing" in value:
        return _Missing(value["missing"])
    if "masked" in value:
        return np.ma.array(_decoded(value["masked"]), mask=value["mask"])
    if "dataframe" in value or "series" in value:
        import pandas
        if "dataframe" in value:
            return pandas.DataFrame({name: _decoded(one) for name, one in value["dataframe"].items()})
        index = _decoded(value["index"])
        return pandas.Series(_decoded(value["series"]), index=None if isinstance(index, _Missing) else index, name=value["name"])
    if "real" in value:
        return _decoded(value["real"]) + 1j*_decoded(value["imag"])
    if "dict" in value:
        return {name: _decoded(one) for name, one in value["dict"].items()}
    for kind, make in (("tuple", tuple), ("list", list)):
        if kind in value:
            return make(_decoded(one) for one in value[kind])
    if "shape" in value:
        return np.array([float(one) for one in value["array"]], value["dtype"]).reshape(value["shape"])
    return np.array(value["array"], None if value["dtype"] == "str" else value["dtype"])
