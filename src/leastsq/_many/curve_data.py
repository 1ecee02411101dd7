"""Model and data of `curve_fit_batch`: rows of residuals and of Jacobians, weights, and points to leave out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._problem.arguments import noted, real_array
from .._problem.kinds import PLAIN, returned, unmasked

__all__ = ["DOOR", "Curves", "Model", "read_curves"]

DOOR = "curve_fit_batch"
_SAME_ROW = 1e-6                # larger relative differences between a row alone and among others are not rounding
_SHOWN = 60                     # limit on the characters of an array in a message


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """Data of B problems with m points each, the user's shape of the problems, and the points to leave out."""

    shape: tuple[int, ...]          # the shape of the problems; B is its product
    y: np.ndarray                   # (B, m), 0 where left out
    x: Any                          # each problem's own, (B, ..., m); or shared, as passed to f
    own: bool                       # has each problem its own x?
    weights: np.ndarray | None      # (B, m), 0 where left out; None: all are 1

    def rows(self):
        """The arrays that have a row for each problem: the `data` of a batch."""
        return (self.y, self.x) if self.own else (self.y,)


class Model:
    """``f(xdata, a, b, ...)`` of k problems, parameters of shape (k, 1), and its derivatives, as functions of rows."""

    __slots__ = ("f", "jac", "tried", "x")

    def __init__(self, f, jac, x):
        self.f, self.jac, self.x = f, jac, x        # x: the shared xdata
        self.tried = False                          # was one problem alone compared with the same among others?

    def residual(self, p, y, *own):
        """``f - y``, shape (k, m)."""
        values = self.values(p, y.shape, own)
        if not self.tried:
            self.tried = True
            if len(p) > 1:
                self.compare(values[0], p, y.shape, own)
        return values - y

    def values(self, p, shape, own):
        """The values of f, shape (k, m)."""
        return _table(self.call(self.f, "f", p, own), shape, "f")

    def compare(self, values, p, shape, own):
        """Refuse a function whose values for the first problem depend on the other problems."""
        try:
            alone = self.values(p[:1].copy(), (1, shape[1]), tuple(x[:1].copy() for x in own))[0]
        except Exception as error:
            noted(error, f"{DOOR}: f was called for one problem, as when all others are done: with parameters of shape (1, 1)")
            raise
        with np.errstate(all="ignore"):
            same = np.allclose(alone, values, rtol=_SAME_ROW, atol=_SAME_ROW*np.abs(alone).max(), equal_nan=True)
        if not same:
            raise ValueError(
                f"{DOOR}: f must treat each problem as if it were alone, got other values for the first one together with "
                f"{len(p) - 1} others, {_shown(values)}, than alone, {_shown(alone)}: parameters have shape (k, 1), points are "
                "along the last axis, and sums or extremes must be along that axis; xdata of the shape of ydata is each "
                "problem's own, unless shared_x=True")

    def jacobian(self, p, y, *own):
        """The derivatives of f, shape (k, m, n)."""
        found, shape = self.call(self.jac, "jac", p, own), (*y.shape, p.shape[1])
        if isinstance(found, (list, tuple)):
            if len(found) != shape[2]:
                raise TypeError(f"{DOOR}: jac must return a derivative for each of the {shape[2]} parameters, got {len(found)}")
            made = np.empty((len(p), shape[2], shape[1]))       # by columns, as the batch needs them
            for j, column in enumerate(found):
                made[:, j] = _table(column, y.shape, "jac", f"[{j}]", flat=True)
            return made.transpose(0, 2, 1)
        found = real_array(returned(found, "jac", DOOR), "the array that jac returns", DOOR)
        if found.shape != shape:
            hint = "; return a list of them, or use numpy.stack(..., axis=-1)" if found.shape == (shape[2], *y.shape) else ""
            raise TypeError(f"{DOOR}: jac must return shape {shape}, or a list of {shape[2]} derivatives, "
                            f"got {found.shape}{hint}")
        return found

    def call(self, function, name, p, own):
        x = np.moveaxis(own[0], 0, -2) if own else self.x
        try:
            return function(x, *p.T.copy()[:, :, None])
        except TypeError as error:
            if "only length-1 arrays" in str(error) or "only 0-dimensional arrays" in str(error):
                noted(error, f"{DOOR}: {name} is called for all problems at once, with parameters of shape ({len(p)}, 1): use "
                             "numpy's functions instead of math's, numpy.where instead of if")
            raise


def _shown(values):
    text = np.array2string(values, threshold=6, precision=4)
    return text if len(text) < _SHOWN else text[:_SHOWN] + "..."


def _table(values, shape, name, which="", flat=False):
    """The result of f, or one derivative, as an array of shape (k, m); with `flat` it may be the same for all problems."""
    array = real_array(returned(values, name, DOOR), f"the array that {name} returns", DOOR)
    if array.shape == shape:
        return array
    if array.shape == (shape[0], 1) or flat and array.shape in ((), (1,), shape[1:], (1, shape[1])):
        return np.broadcast_to(array, shape)
    raise ValueError(f"{DOOR}: {name} must return a row for each problem{', ' if which else ''}{which and 'in ' + name + which}, "
                     f"shape {shape} for parameters of shape ({shape[0]}, 1), got {array.shape}")


def read_curves(xdata, ydata, sigma, *, shared_x, policy):
    """
    The `Curves` made of the user's data.

    Parameters
    ----------
    xdata, ydata, sigma, shared_x : object
        As given.
    policy : {"check", "omit", "ignore"}
        For nan: raise an error (as for infinities), leave the points out, or pass it on.
    """
    lengths = _lengths(ydata)
    if lengths is None:
        y, absent = _values(ydata, "ydata")
        if y.ndim == 0 or y.size == 0:
            raise ValueError(f"{DOOR}: ydata must have a row of data for each problem, shape (..., m), got {y.shape}")
        x, own, masked = _shared_or_own(xdata, y.shape, shared_x)
        if masked is not None:
            absent = _either(absent, _of_points(masked, y.shape, own))
        if sigma is not None:
            sigma, masked = _values(sigma, "sigma")
            sigma = _of_shape(sigma, y.shape)
            if masked is not None:
                absent = _either(absent, masked)
    else:
        y, absent = _padded(ydata, lengths, "ydata")
        (x, masked), own = _padded(xdata, lengths, "xdata", last=True), True
        absent |= masked
        if isinstance(sigma, (list, tuple)) or np.ndim(sigma) > 0:
            sigma, masked = _padded(sigma, lengths, "sigma", last=True)
            absent |= masked
        elif sigma is not None:
            sigma = np.broadcast_to(_values(sigma, "sigma")[0], y.shape)
    if policy != "ignore":
        absent = _look(y, "ydata", policy, absent, y.shape, True)
        if isinstance(x, np.ndarray):
            absent = _look(x, "xdata", policy, absent, y.shape, own)
    weights = _weights(sigma, absent, y.shape)
    if absent is not None:
        y = np.where(absent, 0.0, y)
    count = math.prod(y.shape[:-1])
    if own:
        x = np.moveaxis(x.reshape(*x.shape[:x.ndim - y.ndim], count, y.shape[-1]), -2, 0)
    return Curves(y.shape[:-1], np.ascontiguousarray(y.reshape(count, -1)), x, own,
                  None if weights is None else np.array(weights.reshape(count, -1)))


def _lengths(ydata):
    """The lengths of the one-dimensional arrays in a list, if they differ; else None."""
    if not isinstance(ydata, (list, tuple)) or not ydata or np.ndim(ydata[0]) != 1:
        return None
    lengths = [len(row) if np.ndim(row) == 1 else -1 for row in ydata]
    return lengths if len(set(lengths)) > 1 else None


def _values(array, name):
    """A pair: the values as a float64 array, and their mask or None."""
    mask = None
    if type(array) not in PLAIN:
        array, mask = unmasked(array, name, DOOR)
    return np.asarray(real_array(array, name, DOOR), float), mask


def _padded(rows, lengths, name, last=False):
    """Arrays of these lengths padded to one array, with zeros or their last values, and a mask of the padding."""
    most = max(lengths)
    if not isinstance(rows, (list, tuple)) or len(rows) != len(lengths):
        raise ValueError(f"{DOOR}: {name} must be a list of {len(lengths)} arrays with the lengths of those of ydata, which "
                         f"differ, got {type(rows).__name__}{f' of {len(rows)}' if hasattr(rows, '__len__') else ''}")
    made, absent = [], []
    for i, (row, length) in enumerate(zip(rows, lengths)):
        array, mask = _values(row, f"{name}[{i}]")
        if array.ndim == 0 or array.shape[-1] != length or length == 0 or array.ndim > 1 and not last:
            raise ValueError(f"{DOOR}: {name}[{i}] must have {f'{length} points' if length > 0 else 'points along one axis'} "
                             f"as ydata[{i}], got shape {array.shape}")
        wide = [(0, 0)]*(array.ndim - 1) + [(0, most - length)]
        made.append(np.pad(array, wide, mode="edge") if last else np.pad(array, wide))
        absent.append(np.pad(np.zeros(length, bool) if mask is None else mask.reshape(-1, length).any(axis=0),
                             (0, most - length), constant_values=True))
    if len({array.shape for array in made}) > 1:
        raise ValueError(f"{DOOR}: the arrays of {name} must have the same number of rows, got shapes "
                         f"{', '.join(sorted({str(np.shape(row)) for row in rows}))}")
    return np.stack(made, axis=-2), np.array(absent)


def _shared_or_own(xdata, shape, shared):
    """(xdata, is it each problem's own, a mask of its masked elements or None)."""
    if not isinstance(xdata, (list, tuple, np.ndarray)):        # passed to f unchanged, as in `curve_fit`
        if shared is False:
            raise TypeError(f"{DOOR}: xdata must be an array if it is each problem's own, got {type(xdata).__name__}")
        return xdata, False, None
    x, mask = _values(xdata, "xdata")
    fits = x.ndim >= len(shape) > 1 and x.shape[-len(shape):] == shape
    if shared is False and not fits:
        raise ValueError(f"{DOOR}: xdata that is each problem's own must have the shape of ydata, {shape}, or axes before that, "
                         f"got {x.shape}")
    own = fits if shared is None else not shared
    if not own and x.ndim and x.shape[-1] not in (shape[-1], 1) and x.shape[0] != shape[-1]:
        raise ValueError(f"{DOOR}: xdata must have the {shape[-1]} points of ydata along an axis, or the shape of ydata, "
                         f"{shape}, if it is each problem's own, got {x.shape}")
    if x is not xdata and not own:
        x = x.view()
        x.flags.writeable = False                   # the model sees it at every call
    return x, own, mask


def _of_shape(sigma, shape):
    allowed = ((), (1,), shape[-1:], (*shape[:-1], 1), shape)
    if sigma.shape not in allowed:
        raise ValueError(f"{DOOR}: sigma must be standard deviations, a number or an array of shape {shape[-1:]} or {shape}, "
                         f"got {sigma.shape}")
    return np.broadcast_to(sigma, shape)


def _either(a, b):
    return b if a is None else a | b


def _of_points(flags, shape, own):
    """Convert flags of elements of xdata or ydata to flags of points, which broadcast to the shape of ydata."""
    m = shape[-1]
    if own:
        return flags.reshape(-1, *shape).any(axis=0)
    if flags.ndim and flags.shape[-1] == m:
        return flags.reshape(-1, m).any(axis=0)
    if flags.ndim and flags.shape[0] == m:
        return flags.reshape(m, -1).any(axis=1)
    return flags.any()


def _look(values, name, policy, absent, shape, own):
    """The mask of points to leave out, with "omit" also those where `values` are nan; ValueError if others are not finite."""
    wrong = np.isnan(values) if policy == "omit" else ~np.isfinite(values)
    if not wrong.any():
        return absent
    points = np.broadcast_to(_of_points(wrong, shape, own), shape)
    if policy == "omit":
        return _either(absent, points)
    if absent is not None and not (points & ~absent).any():
        return absent
    first = tuple(map(int, np.argwhere(wrong)[0]))
    raise ValueError(f"{DOOR}: {name} must be finite, got {values[first]} at {list(first)}, the first of "
                     f"{np.count_nonzero(wrong)}: nan_policy='omit' leaves nan out")


def _weights(sigma, absent, shape):
    """The weights of residuals, 0 where points are left out; None: all are 1."""
    if sigma is None:
        return None if absent is None else np.where(absent, 0.0, np.ones(shape))
    unfit = np.isnan(sigma) | (sigma == 0)
    if absent is not None:
        unfit &= ~absent
    if unfit.any():
        first = tuple(map(int, np.argwhere(unfit)[0]))
        raise ValueError(f"{DOOR}: sigma must not be zero or nan, got {sigma[first]} at {list(first)}, the first of "
                         f"{np.count_nonzero(unfit)}")
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = 1.0/sigma
    return weights if absent is None else np.where(absent, 0.0, weights)
