"""Data of users (images, complex numbers, masked arrays, pandas Series), converted to the solver's vector of float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import isfinite
from numbers import Real

import numpy as np

from .._problem.arguments import noted
from .._problem.kinds import PLAIN, unmasked
from .words import DOOR, shapes_differ, sort_of

__all__ = ["NAN_POLICIES", "DataSet", "parse_data"]

NAN_POLICIES = ("raise", "omit")


@dataclass(frozen=True, slots=True, eq=False)
class DataSet:
    """One data set.

    Attributes
    ----------
    x : object
        The first argument of the model, as the user passed it.
    y : ndarray
        The data in the user's shape, float64 or complex128.
    keep : ndarray of bool, shape of y, or None
        A mask of the points that count; None: all.
    values : ndarray, shape (m,)
        The points that count, row by row; if complex, the real parts, then the imaginary parts.
    sigma : None, float or ndarray, shape (m,) or (m, m)
        The standard deviations of values, or their covariance.
    weights : None, float, ndarray of shape (m,) or callable
        Factors of the differences of model and values, or a function that weights them.
    given_sigma : object
        The user's `sigma`, unchanged.
    index : tuple or None
        (type, index, name) if y was a pandas Series.
    """

    x: object
    y: np.ndarray
    keep: np.ndarray | None
    values: np.ndarray
    sigma: object
    weights: object
    given_sigma: object = None
    index: tuple | None = None

    @property
    def is_complex(self):
        return self.y.dtype.kind == "c"

    @property
    def is_plain(self):
        """Is y itself the vector that the solver uses?"""
        return self.values is self.y

    def shaped(self, result, parameters=(), model="the model"):
        """The result of a model as an array of y's shape; `model` is the model's name in messages."""
        if isinstance(result, np.ma.MaskedArray):
            result = np.ma.getdata(result)
        array = np.asarray(result)
        if array.dtype.kind not in "fiubc":
            if result is None:
                raise TypeError(f"{DOOR}: {model} returned None: is its return missing?")
            array = _numbers(array, result, f"the array that {model} returned")
        if array.dtype.kind == "c" and not self.is_complex and not any(isinstance(p, complex) for p in parameters):
            raise TypeError(f"{DOOR}: {model} returned complex numbers, but y is real: return .real or abs() of them, or give a "
                            "complex y, both parts of which are residuals")
        if array.shape != self.y.shape:
            if array.ndim:
                raise shapes_differ(f"the array that {model} returned", array.shape, self.y.shape, self.x)
            array = np.broadcast_to(array, self.y.shape)
        return array

    def flat(self, array):
        """The points of an array of y's shape that count, as a vector of real numbers (for derivatives, as rows)."""
        rest = array.shape[self.y.ndim:]
        rows = array.reshape(-1, *rest) if self.keep is None else array[self.keep]
        return np.concatenate([rows.real, rows.imag]) if self.is_complex else rows

    def natural(self, rows):
        """A vector of m numbers in y's shape, nan where y does not count."""
        if self.is_complex:
            half = rows.size//2
            rows = rows[:half] + 1j*rows[half:]
        if self.keep is None:
            return rows.reshape(self.y.shape)
        out = np.full(self.y.shape, np.nan, rows.dtype)
        out[self.keep] = rows
        return out

    def labelled(self, array):
        """An array of y's shape in the form of the user's y: if that was a Series, a Series with its index and name."""
        if self.index is None:
            return array
        kind, index, name = self.index
        return kind(array, index=index, name=name)

    def where(self, row):
        """The index in y of row number `row`, in words."""
        if self.is_complex:
            half = self.values.size//2
            part, row = (".real", row) if row < half else (".imag", row - half)
        else:
            part = ""
        place = np.unravel_index(row, self.y.shape) if self.keep is None else tuple(k[row] for k in np.nonzero(self.keep))
        return f"[{', '.join(str(int(k)) for k in place)}]{part}"

    def natural_sigma(self):
        """Standard deviations in y's shape, nan where y does not count; a number, or None, if sigma is that."""
        if self.sigma is None or np.ndim(self.sigma) == 0:
            return self.sigma
        return self.natural(np.asarray(self.sigma) if np.ndim(self.sigma) == 1 else np.sqrt(np.diag(self.sigma)))

    @property
    def draws(self):
        """Can a plot show y against x?  Yes if both are vectors of the same length, and x holds real numbers."""
        x = np.asarray(self.x) if not isinstance(self.x, (tuple, list, Mapping)) else None
        return x is not None and self.y.ndim == 1 and x.shape == self.y.shape and x.dtype.kind in "fiu"


def parse_data(x, y, sigma, nan_policy, name="y"):
    """
    The `DataSet` made of a user's x, y and sigma.

    Parameters
    ----------
    x, y, sigma : object
    nan_policy : {"raise", "omit"}
        How to treat nan in y, sigma or x.
    name : str
        The name of y in messages: "y", or "y[1]".
    """
    if type(x) is list and x and all(isinstance(value, Real) for value in x):
        x = np.array(x)
    if type(y) is np.ndarray and y.ndim == 1 and y.dtype == np.float64 and y.size and isfinite(np.vdot(y, y)):
        if sigma is None:
            if _is_plain(x):
                return DataSet(x, y, None, y, None, None)
        elif type(sigma) is float and 0 < sigma < np.inf and _is_plain(x):
            return DataSet(x, y, None, y, sigma, 1/sigma, sigma)
        elif (type(sigma) is np.ndarray and sigma.dtype == np.float64 and sigma.shape == y.shape and sigma.min() > 0
              and sigma.max() < np.inf and _is_plain(x)):
            return DataSet(x, y, None, y, sigma, 1/sigma, sigma)
    index = None
    if hasattr(y, "to_numpy") and hasattr(y, "index") and np.ndim(y) == 1 and hasattr(y, "name"):
        index = type(y), y.index, y.name
    y, bad = _values_of(y, name, nan_policy)
    if index is not None and bad is not None:
        bad = np.asarray(bad)
    for mask in _masks_of_x(x, y.shape, nan_policy):
        bad = mask if bad is None else bad | mask
    given, spread = sigma, None
    if sigma is not None:
        spread, mask = _sigma(sigma, y, bad, nan_policy, name)
        if mask is not None:
            bad = mask if bad is None else bad | mask
    keep = None if bad is None or not bad.any() else ~bad
    if keep is not None and not keep.any():
        raise ValueError(f"{DOOR}: {name} has no value that counts: all {y.size} are masked, nan or have an infinite sigma")
    plain = y.ndim == 1 and y.dtype == np.float64 and keep is None
    data = DataSet(x, y, keep, y, None, None, given, index)
    values = y if plain else np.ascontiguousarray(data.flat(y), np.float64)
    flat, weights = _weights(data, spread, keep, name)
    return DataSet(x, y, keep, values, flat, weights, given, index)


def _is_plain(x):
    """Is x certainly free of nan and masks?"""
    return type(x) is np.ndarray and (x.dtype.kind in "iu" or x.dtype == np.float64 and x.ndim == 1 and isfinite(np.vdot(x, x)))


def _numbers(array, given, name):
    """An array of objects as an array of numbers; TypeError if they are not numbers."""
    try:
        return array.astype(complex if any(isinstance(value, complex) for value in array.ravel()) else float)
    except (TypeError, ValueError):
        raise TypeError(f"{DOOR}: {name} must be real or complex numbers, got {sort_of(given)}") from None


def _values_of(y, name, nan_policy):
    """A pair: y as float64 or complex128, and a mask of the points that do not count, or None."""
    given, bad = y, None
    if type(y) not in PLAIN:
        y, bad = unmasked(y, name, DOOR)
    try:
        array = np.asarray(y)
    except ValueError as error:
        raise noted(ValueError(f"{DOOR}: {name} must be an array of numbers, got {type(given).__name__} of unequal lengths"),
                    str(error)) from None
    if array.dtype.kind not in "fiubc":
        if type(array) is np.ndarray and array.dtype.kind in "mM":
            unmasked(array, name, DOOR)
        array = _numbers(array, given, name)
    array = array.astype(complex if array.dtype.kind == "c" else float, copy=False)
    if array.size == 0:
        raise ValueError(f"{DOOR}: {name} must not be empty, got the shape {array.shape}")
    if array.ndim == 0:
        array = array.reshape(1)
    finite = np.isfinite(array) if bad is None else np.isfinite(array) | bad
    if finite.all():
        return array, bad
    missing = np.isnan(array) if bad is None else np.isnan(array) & ~bad
    wrong = ~finite & ~(missing if nan_policy == "omit" else np.False_)
    if wrong.any():
        where = tuple(map(int, np.argwhere(wrong)[0]))
        more = ": nan_policy='omit' leaves nan out" if np.isnan(array[where]) else ""
        raise ValueError(f"{DOOR}: {name}{list(where)} is {array[where]}, the first of {int(wrong.sum())} that are not "
                         f"finite{more}")
    return array, missing if bad is None else missing | bad


def _masks_of_x(x, shape, nan_policy):
    """Masks of y's points at which x is masked, or nan (with "omit"): one for each array in x that has such points."""
    parts = x if isinstance(x, (tuple, list)) else x.values() if isinstance(x, Mapping) else [x]
    if hasattr(x, "columns") and hasattr(x, "items"):               # a DataFrame
        parts = [column for _, column in x.items()]
    for part in parts:
        if isinstance(part, np.ma.MaskedArray) and np.ma.is_masked(part):
            mask = _over_points(np.ma.getmaskarray(part), shape)
            if mask is not None:
                yield mask
            part = np.ma.filled(part, 0) if part.dtype.kind in "fc" else None
        if not hasattr(part, "dtype") or getattr(part.dtype, "kind", "O") not in "fc":
            continue
        array = np.asarray(part)
        if array.dtype.kind not in "fc" or isfinite(abs(np.vdot(array, array))):
            continue
        missing = _over_points(np.isnan(array), shape)
        if missing is None or not missing.any():
            continue
        if nan_policy == "raise":
            where = tuple(map(int, np.argwhere(np.isnan(array))[0]))
            raise ValueError(f"{DOOR}: x{list(where)} is nan: nan_policy='omit' leaves such points out")
        yield missing


def _over_points(mask, shape):
    """A mask of y's points from the mask of an array in x: of y's shape, or with leading axes for several predictors."""
    if mask.shape[-len(shape):] == shape:
        return mask.reshape(-1, *shape).any(axis=0)
    return None


def _sigma(sigma, y, bad, nan_policy, name):
    """A pair: sigma as an array, checked, and a mask of the points that it leaves out, or None."""
    what = "sigma" + name[1:]
    sigma, mask = unmasked(sigma, what, DOOR) if type(sigma) not in PLAIN else (sigma, None)
    try:
        array = np.asarray(sigma)
        array = array.astype(complex if array.dtype.kind == "c" else float, copy=False)
    except (TypeError, ValueError):
        raise TypeError(f"{DOOR}: {what} must be real numbers, got {sort_of(sigma)}") from None
    if array.dtype.kind == "c" and y.dtype.kind != "c":
        raise TypeError(f"{DOOR}: {what} must be real numbers for a real y, got {sort_of(sigma)}")
    if array.ndim <= 1 and array.size == 1:
        array = array.reshape(())
    is_matrix = y.ndim == 1 and y.size > 1 and array.shape == (y.size, y.size)
    if array.ndim and not is_matrix and array.shape != y.shape:
        also = f" or ({y.size}, {y.size})" if y.ndim == 1 else ""
        raise ValueError(f"{DOOR}: {what} must be a number or have the shape of y, {y.shape}{also}, got {array.shape}")
    if is_matrix:
        if array.dtype.kind == "c" or y.dtype.kind == "c":
            raise ValueError(f"{DOOR}: {what} must be standard deviations where y is complex, got a matrix")
        if mask is not None:
            mask = mask.diagonal()
        return array, mask
    parts = (array.real, array.imag) if array.dtype.kind == "c" else (array,)
    leaves_out = mask
    for part in parts:
        counted = np.ones(part.shape, bool) if bad is None or not part.ndim else ~bad
        counted = counted if mask is None else counted & ~mask
        missing = np.isnan(part) & counted
        wrong = ~(part > 0) & counted & ~(missing if nan_policy == "omit" else np.False_)
        if wrong.any():
            where = tuple(map(int, np.argwhere(wrong)[0])) if part.ndim else ()
            raise ValueError(f"{DOOR}: {what}{list(where) if where else ''} must be positive, got {part[where]:g}"
                             + ("; inf leaves a point out" if part.ndim else ""))
        out = missing | np.isinf(part)
        if out.any():
            if not part.ndim:
                raise ValueError(f"{DOOR}: {what} must be finite, got {part:g}")
            leaves_out = out if leaves_out is None else leaves_out | out
    return array, leaves_out


def _weights(data, sigma, keep, name):
    """A pair: sigma of the values, and their weights."""
    if sigma is None:
        return None, None
    if data.is_complex and (sigma.ndim or sigma.dtype.kind == "c"):
        parts = sigma if sigma.dtype.kind == "c" else sigma*(1 + 1j)
        flat = data.flat(np.broadcast_to(parts, data.y.shape))
        return flat, 1/flat
    if sigma.ndim == 0:
        return float(sigma), 1/float(sigma)
    if sigma.shape == data.y.shape:
        flat = data.flat(sigma)
        return flat, 1/flat
    if keep is not None:
        sigma = sigma[np.ix_(keep, keep)]
    try:
        lower = np.linalg.cholesky(sigma)
        if not np.isfinite(lower).all():
            raise np.linalg.LinAlgError
    except np.linalg.LinAlgError:
        raise ValueError(f"{DOOR}: sigma{name[1:]} as a matrix must be positive definite: it is the covariance of y") from None
    return sigma, partial(np.matmul, np.linalg.inv(lower))
