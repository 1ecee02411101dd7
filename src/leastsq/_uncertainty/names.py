"""What the user tells a tool about a fit: parameters, names, which are fixed, and the problem."""

from __future__ import annotations

from functools import partial

import numpy as np

from .._problem.bounds import parse_bounds
from .._problem.compiled import CFunction, call_compiled
from .._problem.losses import LINEAR, parse_loss
from .._problem.problem import Problem
from .._problem.weights import Weighted


def _parameters(x):
    x = np.asarray(x)
    if x.dtype.kind not in "fiub":
        raise TypeError(f"x must be real numbers, got dtype {x.dtype}")
    x = np.array(x, dtype=float).reshape(-1)
    if x.size == 0 or not np.isfinite(x).all():
        raise ValueError(f"x must be finite numbers, got {x}")
    return x


def _names(names, n):
    if names is None:
        return None
    if isinstance(names, str):
        names = names.replace(",", " ").split()
    names = tuple(map(str, names))
    if len(names) != n:
        raise ValueError(f"names must be {n} names, got {len(names)}")
    return names


def _mask(fixed, n):
    mask = np.zeros(n, dtype=bool)
    if fixed is None:
        return mask
    fixed = np.asarray(fixed)
    if fixed.dtype == bool:
        if fixed.shape != (n,):
            raise ValueError(f"fixed must be a mask of {n} values or indices, got shape {fixed.shape}")
        return fixed.copy()
    if fixed.size:
        if fixed.dtype.kind not in "iu" or fixed.min() < -n or fixed.max() >= n:
            raise ValueError(f"fixed must be indices from 0 to {n - 1}, got {fixed}")
        mask[fixed] = True
    return mask


def loose_problem(func, args, Dfun, x, *, sigma=None, absolute_sigma=False, names=None, bounds=None, loss=LINEAR,
                  f_scale=1.0):
    """The `Problem` of a function and facts about it that were told one by one."""
    if not isinstance(args, tuple):
        args = (args,)
    parsed = None
    if bounds is not None:
        parsed = parse_bounds(bounds, x.shape, "x")
        parsed.check_start(x, "x")
        parsed = parsed if parsed.finite else None
    if sigma is not None:
        func, Dfun = (_python(function, sigma, n) for function, n in ((func, None), (Dfun, x.size)))
    return Problem(func, args, Dfun, bounds=parsed, loss=parse_loss(loss, f_scale), names=_names(names, x.size), sigma=sigma,
                   absolute_sigma=bool(absolute_sigma))


def _python(function, sigma, columns):
    """A function divided by sigma, in Python; what is no function stays, for others to refuse."""
    if isinstance(function, CFunction):
        function = partial(call_compiled, function, columns=columns)
    return Weighted(function, sigma) if callable(function) else function
