"""Parameters, their names, and which of them are fixed: as the user gave them, checked."""

from __future__ import annotations

import numpy as np


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
