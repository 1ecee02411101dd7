"""Arguments that SciPy's functions share, checked, in its words."""

from __future__ import annotations

import numpy as np

from .._problem.arguments import noted

__all__ = ["evaluation_limit", "factors_of_scales"]


def factors_of_scales(x_scale, n):
    """What SciPy calls `x_scale` as `diag`, one over the scales; None: from the Jacobian."""
    if x_scale is None or isinstance(x_scale, str) and x_scale == "jac":
        return None
    try:
        scales = np.asarray(x_scale, float)
        proper = bool(np.all(np.isfinite(scales)) and np.all(scales > 0))
    except (TypeError, ValueError):
        proper = False
    if not proper:
        raise noted(ValueError("`x_scale` must be 'jac' or array_like with positive numbers."), f"got {x_scale!r}")
    if scales.ndim > 0 and scales.shape != (n,):
        raise noted(ValueError("Inconsistent shapes between `x_scale` and `x0`."), f"got {scales.shape} and ({n},)")
    return np.array(np.broadcast_to(1/scales, n))


def evaluation_limit(max_nfev, default):
    """SciPy's `max_nfev` as an integer."""
    if max_nfev is None:
        return default
    if not hasattr(max_nfev, "__index__") or max_nfev <= 0:
        raise noted(ValueError("`max_nfev` must be None or positive integer."), f"got {max_nfev!r}")
    return max_nfev.__index__()
