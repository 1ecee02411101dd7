"""What fits to data in blocks are made of; `leastsq_blocks` and others are its doors.

Three parts.  `Problem` has what is done where a block is: its norm, or its rows of J and f
folded into a `RowAccumulator`.  A scheduler has what is done with all blocks, as `Mapped`
has it for any map: two methods, `norm` and `model`.  `fit` asks a scheduler what
`LevenbergMarquardt` asks, for this scheduler or another.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ._ask_tell import LevenbergMarquardt
from ._checks import check_sizes, flag, real_array
from ._core import RowAccumulator, weigh
from ._derivatives import EPS, PRECISION, SCHEMES, Differences
from ._door import Door
from ._status import message, not_finite_message

__all__ = ["Mapped", "Model", "Norm", "Point", "Problem", "at_block", "fit",
           "merge_models", "merge_norms"]

_SUCCESS = (1, 2, 3, 4)
_NOT_FINITE, _WATCHER = 9, 11
_SAFE_SUM = 1e-260, 1e300       # a sum of squares between has lost nothing to under- or overflow


class Fault(NamedTuple):
    """The first element that is not finite."""

    block: int
    row: int                    # of the block
    column: int
    value: float


class Norm(NamedTuple):
    """What is known of the residuals of some blocks."""

    rows: int
    norm: float
    eps: float                  # precision of what func returned; inf: it was nothing
    fault: Fault | None


class Model(NamedTuple):
    """What is known of J and f of some blocks."""

    rows: int
    accumulator: RowAccumulator
    evaluations: int            # that leastsq counts
    fault: Fault | None


class Point(NamedTuple):
    """Where a Jacobian is wanted, and what its differences need to know."""

    x: np.ndarray
    epsfcn: float
    largest: np.ndarray         # |x| so far
    checked: bool               # not the first one


def merge_norms(parts):
    """The `Norm` of all blocks that the parts are of."""
    rows, norms, eps, faults = zip(*parts)
    return Norm(sum(rows), math.hypot(*norms), min(eps), _first(faults))


def merge_models(parts):
    """The `Model` of all blocks that the parts are of, which stay as they are.

    The order of the parts decides about roundings.
    """
    rows, total, evaluations, faults = 0, None, 0, []
    for part in parts:
        total = RowAccumulator(part.accumulator.n) if total is None else total
        total.merge(part.accumulator)
        rows += part.rows
        evaluations = max(evaluations, part.evaluations)
        faults.append(part.fault)
    return Model(rows, total, evaluations, _first(faults))


def _first(faults):
    return min((fault for fault in faults if fault is not None), default=None,
               key=lambda fault: fault[:2])


@dataclass(frozen=True, eq=False)
class Problem:
    """What is done where a block is; pickles if the user's functions and arguments do.

    Parameters are those of `leastsq`, checked; `Dfun` is a function or the name of a
    scheme of differences, `low` and `high` are n bounds or None, and `loss` is a number of
    ``loss.c``, a function or None.
    """

    func: Callable[..., Any]
    Dfun: Callable[..., Any] | str
    args: tuple[Any, ...]
    col_deriv: bool
    low: np.ndarray | None
    high: np.ndarray | None
    loss: int | Callable[..., Any] | None
    f_scale: float

    def residuals(self, x, block):
        """A new float64 array, and the precision of func."""
        value = self.func(x.copy(), block, *self.args)
        array = real_array(value, "the array that func returns", "leastsq_blocks")
        if array.ndim > 1:
            raise ValueError("leastsq_blocks: the array that func returns must be 0-d or 1-D, got "
                             f"shape {array.shape}")
        return np.array(array, float, ndmin=1), PRECISION.get(array.dtype, EPS)

    def norm(self, x, index, block):
        """The block's `Norm`."""
        f, eps = self.residuals(x, block)
        if self.loss is not None:
            f = weigh(self.loss, self.f_scale, f, False)[0]
        norm = _norm(f)
        fault = None if math.isfinite(norm) else _find_fault(index, f)
        return Norm(f.size, norm, eps if f.size else math.inf, fault)

    def model(self, point, index, block):
        """The block's `Model`."""
        x = point.x
        f, _ = self.residuals(x, block)
        if callable(self.Dfun):
            jacobian, evaluations = self._given(x, block, f.size), 0
        else:
            maker = Differences(self.func, self.Dfun, self.low, self.high, None, point.epsfcn)
            maker.largest, maker.checked = point.largest, point.checked
            jacobian = maker.jacobian_at(x, f, (block, *self.args))
            evaluations = maker.evaluations
        if self.loss is not None:
            f, weights = weigh(self.loss, self.f_scale, f, True)
            jacobian = jacobian*weights[:, None]
        accumulator = RowAccumulator(x.size)
        accumulator.push(jacobian, f)
        fault = accumulator.fault
        fault = fault if fault is None else Fault(index, *fault)
        return Model(f.size, accumulator, evaluations, fault)

    def _given(self, x, block, rows):
        jacobian = real_array(self.Dfun(x.copy(), block, *self.args), "the array that Dfun returns", "leastsq_blocks")
        wanted = (x.size, rows) if self.col_deriv else (rows, x.size)
        if 1 in wanted and jacobian.ndim < 3 and jacobian.size == rows*x.size:
            jacobian = jacobian.reshape(wanted)
        if jacobian.shape != wanted:
            raise ValueError(f"leastsq_blocks: the array that Dfun returns must have shape {wanted} for "
                             f"the {rows} residuals of this block, got {jacobian.shape}")
        return jacobian.T if self.col_deriv else jacobian


def _norm(f):
    total = float(f @ f)
    if _SAFE_SUM[0] <= total <= _SAFE_SUM[1]:
        return math.sqrt(total)
    largest = float(np.abs(f).max(initial=0))
    if not 0 < largest < math.inf:
        return largest
    f = f/largest
    return largest*math.sqrt(f @ f)


def _find_fault(index, f):
    bad = np.flatnonzero(~np.isfinite(f))
    return Fault(index, int(bad[0]), 0, float(f[bad[0]])) if bad.size else None


def at_block(task, numbered_block):
    """(index, ``task(index, block)``) for a pair of them; errors name the block."""
    index, block = numbered_block
    try:
        return index, task(index, block)
    except StopIteration as error:      # as it is, it would end a map without a word
        raise RuntimeError(f"leastsq_blocks: StopIteration was raised in block {index}") from error
    except BaseException as error:
        error.add_note(f"leastsq_blocks: in block {index}")
        raise


class Mapped:
    """The scheduler for any map that takes a function and an iterable.

    `norm` and `model` are a scheduler's contract: each evaluates all blocks, and raises
    ValueError if a block has not the number of rows that it had before.
    """

    def __init__(self, blocks, map, problem):       # noqa: A002
        self.blocks, self.map, self.problem = blocks, map, problem
        self._rows = None           # of each block

    def norm(self, x):
        return merge_norms(self._evaluate(partial(self.problem.norm, x)))

    def model(self, point):
        return merge_models(self._evaluate(partial(self.problem.model, point)))

    def _evaluate(self, task):
        """What the task gives for each block, as it comes; the first error ends it."""
        count, rows = 0, {}

        def numbered():
            nonlocal count
            for block in self.blocks:
                pair = count, block
                del block           # the map may drop it before the next one is there
                count += 1
                yield pair
                del pair

        results = self.map(partial(at_block, task), numbered())
        if not isinstance(results, Iterable):
            raise TypeError(f"leastsq_blocks: map must return an iterable of results, got {type(results).__name__}")
        for answer in results:
            if not isinstance(answer, tuple):
                raise TypeError("leastsq_blocks: map must give the results of the function that it is called with, "
                                f"got {type(answer).__name__}")
            index, result = answer
            rows[index] = result.rows
            if self._rows is not None and self._rows.get(index) != result.rows:
                raise ValueError(
                    "leastsq_blocks: the array returned by func changed size between calls: for block "
                    f"{index} it had {self._rows.get(index, 'no')} elements, now {result.rows}")
            yield result
        if count == 0:
            raise ValueError("leastsq_blocks: blocks must have at least one block, got none")
        if len(rows) != count:
            raise ValueError(f"leastsq_blocks: map must return a result for each of the {count} blocks, "
                             f"got {len(rows)}")
        if self._rows is not None and len(rows) != len(self._rows):
            raise ValueError("leastsq_blocks: blocks must be the same in each iteration, got "
                             f"{len(self._rows)} blocks, then {len(rows)}")
        self._rows = rows


def fit(schedule, func, x0, args, Dfun, full_output, col_deriv, tolerances, maxfev, epsfcn, factor,
        diag, bounds, loss, f_scale, callback, history, verbose):
    """
    `leastsq_blocks`, but for how the blocks are evaluated.

    Parameters
    ----------
    schedule : callable
        ``schedule(problem)`` is a scheduler: see `Mapped`.
    tolerances : dict
        ftol, xtol and gtol.
    func, x0, ... :
        Those of `leastsq_blocks`.
    """
    if not isinstance(args, tuple):
        args = (args,)
    full_output, col_deriv = (flag(value, name, "leastsq_blocks") for value, name in
                              ((full_output, "full_output"), (col_deriv, "col_deriv")))
    if history and not full_output:
        raise ValueError("leastsq_blocks: history=True needs full_output=True, for infodict holds it")
    if not callable(func):
        raise TypeError(f"leastsq_blocks: func must be callable, got {type(func).__name__}")
    Dfun = "2-point" if Dfun is None else Dfun
    if not callable(Dfun) and not (isinstance(Dfun, str) and Dfun in SCHEMES):
        raise TypeError(f"leastsq_blocks: Dfun must be callable, None or one of {list(SCHEMES)}, "
                        f"got {Dfun!r}")
    by_differences = isinstance(Dfun, str)
    door = Door(func, x0, None if by_differences else Dfun, maxfev, epsfcn, bounds, loss, f_scale,
                callback, history, verbose)
    lm = LevenbergMarquardt(x0, **tolerances, maxfev=door.maxfev, factor=factor, diag=diag,
                            epsfcn=epsfcn, bounds=None if door.low is None else (door.low, door.high))
    problem = Problem(func, Dfun, args, col_deriv, door.low, door.high, door.loss, door.f_scale)
    try:
        ier, fault = _drive(lm, schedule(problem), epsfcn, door.watcher)
    finally:
        if door.watcher is not None:
            door.watcher.close()

    x = lm.x
    if ier == _NOT_FINITE:
        block, *where = fault or (None,)
        mesg = not_finite_message(x, lm.njev, where or None, block)
    else:
        mesg = message(ier, **tolerances, maxfev=door.maxfev)
    mesg += door.held(x, lm.multipliers)
    if verbose:
        door.watcher.finish(lm.nfev, mesg)
    if not full_output:
        if ier not in (*_SUCCESS, _WATCHER):
            warnings.warn(mesg, RuntimeWarning, stacklevel=3)
        return x, ier
    info = {"fnorm": lm.fnorm, "nfev": lm.nfev}
    if not by_differences:
        info["njev"] = lm.njev
    info["ipvt"], info["qtf"] = lm.ipvt, lm.qtf if ier != _NOT_FINITE else np.full(x.size, np.nan)
    if bounds is not None:
        info["active_mask"] = door.active_mask(x)
        info["multipliers"] = np.zeros(x.size) if lm.multipliers is None else lm.multipliers
    if history:
        info["history"] = door.watcher.history()
    return x, lm.cov_x, info, mesg, ier


def _drive(lm, scheduler, epsfcn, watcher):
    """Answer until it is done; (ier, the last evaluation's fault)."""
    rows, largest, fault = None, 0.0, None
    while lm.request is not None:
        x = lm.x_eval
        wants_model = lm.request == "model"
        if wants_model:
            part = scheduler.model(Point(x, epsfcn, largest, lm.njev > 0))
            largest = np.maximum(largest, np.abs(x))
            fault = part.fault
            lm.tell_model(part.accumulator, evaluations=part.evaluations)
        else:
            part = scheduler.norm(x)
            if rows is None:
                check_sizes(x.size, part.rows, None, None)
                rows, fault = part.rows, part.fault
                epsfcn = part.eps if epsfcn is None else epsfcn
            lm.tell_norm(part.norm)
        if part.rows != rows:
            raise ValueError("leastsq_blocks: the array returned by func changed size between calls: "
                             f"all blocks together had {rows} elements, now {part.rows}")
        if watcher is not None and watcher(
                wants_model, lm.accepted, lm.x, lm.x_eval, lm.fnorm, lm.gnorm, lm.radius, lm.par,
                lm.actual, lm.predicted, lm.ratio, lm.nfev, lm.njev, lm.iteration):
            return _WATCHER, fault
    return lm.ier, fault
