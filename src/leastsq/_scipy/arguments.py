"""Arguments that SciPy's functions share, checked, in its words."""

from __future__ import annotations

import numpy as np

from .._problem.arguments import noted
from .._projection.separable import Linear

__all__ = ["evaluation_limit", "factors_of_scales", "linear_parameters"]


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


def linear_parameters(separable, names):
    """Which parameters are linear, as `leastsq` takes it."""
    if separable is True:
        return Linear("curve_fit", names)
    given = (separable,) if isinstance(separable, str) else separable
    if not hasattr(given, "__iter__") or not all(isinstance(name, str) for name in given):
        raise TypeError(f"curve_fit: separable must be True, None or names of parameters, got {separable!r}")
    given = tuple(given)
    for name in given or ("",):
        if names is None or name not in names:
            known = "f does not say its names" if names is None else f"f has {', '.join(names)}"
            raise ValueError(f"curve_fit: separable must be names of parameters, got {separable!r}: {known}")
    return Linear("curve_fit", names, [names.index(name) for name in given])
