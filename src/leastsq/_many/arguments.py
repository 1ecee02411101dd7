"""Arguments of `leastsq_batch`, checked: what is wrong with them is said by name."""

from __future__ import annotations

import os

import numpy as np

from .._problem.arguments import improper, real_array, whole_number
from .._problem.kinds import PLAIN, unmasked

__all__ = ["check_sizes", "data_and_weights", "scale_factors", "start_points", "thread_count"]


def start_points(x0):
    """x0 as a new float64 array of shape (B, n)."""
    array = real_array(x0, "x0")
    if array.ndim != 2 or array.size == 0:
        raise ValueError("leastsq_batch: x0 must have a row for each problem, shape (B, n) with "
                         f"B and n at least 1, got {array.shape}")
    return np.array(array, np.float64, order="C")


def data_and_weights(data, weights, count):
    """The tuple of arrays, each with a row for each of `count` problems; weights, 0 where one of them is masked."""
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
            raise ValueError(f"leastsq_batch: {name} is masked, and of shape {mask.shape} it does not say which residuals "
                             f"to leave out{f' of {shape}' if mask.ndim == 2 else ''}: give weights=, 0 for those")
        weights = np.where(mask, 0.0, np.ones(shape) if weights is None else weights)
    return tuple(arrays), weights


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
    """How many threads; None: one for each processor that this process may use."""
    if threads is not None:
        return whole_number(threads, "threads", 1)
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def check_sizes(n, m, weights, count):
    """May `count` problems have n parameters, m residuals and these weights?"""
    if n > m:
        raise TypeError(f"Improper input: func input vector length N={n} must not exceed func output "
                        f"vector length M={m}")
    if weights is not None and weights.shape != (count, m):
        raise ValueError("leastsq_batch: weights must have an entry for each residual of each "
                         f"problem, shape {(count, m)}, got {weights.shape}")
