"""Checks of the arguments of `leastsq_batch`; errors name the argument."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np

from .._problem.arguments import improper, real_array, whole_number
from .._problem.counts import check_counts
from .._problem.kinds import PLAIN, unmasked
from .._problem.losses import POISSON

__all__ = ["check_count_sizes", "check_sizes", "counts_and_weights", "data_and_weights", "scale_factors", "start_points",
           "thread_count"]


def start_points(x0):
    """x0 as a new float64 array of shape (B, n)."""
    array = real_array(x0, "x0")
    if array.ndim != 2 or array.size == 0:
        raise ValueError("leastsq_batch: x0 must have a row for each problem, shape (B, n) with "
                         f"B and n at least 1, got {array.shape}")
    return np.array(array, np.float64, order="C")


def data_and_weights(data, weights, count):
    """A pair: the tuple of arrays, each with a row for each of `count` problems; and weights, 0 where an array is masked."""
    arrays, masks = [], []
    for k, array in enumerate(data if isinstance(data, tuple) else (data,)):
        name = f"data[{k}]" if isinstance(data, tuple) else "data"
        if type(array) not in PLAIN:
            array, mask = unmasked(array, name, "leastsq_batch")
            if mask is not None:
                masks.append((name, mask))
        array = np.asarray(array)
        if array.ndim == 0 or array.shape[0] != count:
            raise ValueError(f"leastsq_batch: {name} must have a row for each of the {count} rows of "
                             f"x0, shape ({count}, ...), got {array.shape}")
        arrays.append(array)
    for name, mask in masks:
        shape = masks[0][1].shape if weights is None else weights.shape
        if mask.ndim != 2 or mask.shape != shape:
            raise ValueError(f"leastsq_batch: {name} is masked, but its shape {mask.shape} does not show which residuals "
                             f"to leave out{f' of {shape}' if mask.ndim == 2 else ''}: give weights with 0 for those")
        weights = np.where(mask, 0.0, np.ones(shape) if weights is None else weights)
    return tuple(arrays), weights


def counts_and_weights(counts, loss, weights, count):
    """A pair: the `Loss` for counts of shape (B, m); and weights, 0 where counts are masked, or None."""
    if not (isinstance(loss, str) and loss == POISSON):
        raise ValueError(f"leastsq_batch: counts must be given with loss='poisson' only, got loss={loss!r}")
    if counts is None:
        raise ValueError("leastsq_batch: loss='poisson' needs counts, shape (B, m); func returns only their expectations")
    if weights is not None:
        raise ValueError("leastsq_batch: weights must not be given with loss='poisson': the variance of counts is their "
                         "expectation. To leave some out, mask them in counts")
    mask = None
    if type(counts) not in PLAIN:
        counts, mask = unmasked(counts, "counts", "leastsq_batch")
    counts = real_array(counts, "counts")
    if counts.ndim != 2 or len(counts) != count:
        raise ValueError(f"leastsq_batch: counts must have a row for each of the {count} rows of x0, shape ({count}, m), got "
                         f"{counts.shape}")
    counts = np.array(counts, np.float64, order="C")
    if mask is not None:
        counts[mask] = 0.0              # with a mean of 0 these contribute nothing to the deviance
        weights = np.where(mask, 0.0, 1.0)

    def where(k):
        return str([int(i) for i in np.unravel_index(k, counts.shape)])
    parsed = check_counts(counts.ravel(), "leastsq_batch", "counts", where)
    return replace(parsed, counts=counts), weights


def scale_factors(diag, count, n, door="leastsq_batch"):
    """diag as float64 of shape (n,), all positive, or (B, n)."""
    if diag is None:
        return None
    array = real_array(diag, "diag", door)
    if array.shape not in ((n,), (count, n)):
        raise ValueError(f"{door}: diag must have shape ({n},) or ({count}, {n}), "
                         f"got {array.shape}")
    if array.ndim == 1 and (words := improper("diag", array, diag)):
        raise TypeError(words)
    return np.array(array, np.float64, order="C")


def thread_count(threads):
    """The number of threads; None: one for each processor that this process may use."""
    if threads is not None:
        return whole_number(threads, "threads", 1)
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def check_count_sizes(loss, m):
    """Check that each row has as many counts as func returns expectations."""
    if loss.is_poisson and loss.counts.shape[1] != m:
        raise ValueError(f"leastsq_batch: counts must have an entry for each of the {m} expectations that func returns, shape "
                         f"{(len(loss.counts), m)}, got {loss.counts.shape}")


def check_sizes(n, m, weights, count):
    """Check that `count` problems can have n parameters, m residuals and these weights."""
    if n > m:
        raise TypeError(f"Improper input: func input vector length N={n} must not exceed func output "
                        f"vector length M={m}")
    if weights is not None and weights.shape != (count, m):
        raise ValueError("leastsq_batch: weights must have an entry for each residual of each "
                         f"problem, shape {(count, m)}, got {weights.shape}")
