"""`curve_fit` for counts: ``loss="poisson"``."""

from __future__ import annotations

import numpy as np

from .._fit.status import Status
from .._problem.counts import COUNTS_FTOL, CountResiduals, check_counts, impossible, refuse_beside
from .curve_data import residual_of

__all__ = ["check_start", "count_residuals"]

_NOT_HERE = ("strict", "engine")


def count_residuals(f, xdata, ydata, sigma, kwargs):
    """The deviance residuals of a model and counts; puts the loss and its default `ftol` into `kwargs`."""
    refuse_beside("curve_fit", sigma, kwargs.pop("f_scale", None), kwargs.pop("strategy", "minpack"))
    for name in _NOT_HERE:
        if kwargs.get(name):
            raise ValueError(f"curve_fit: {name} must not be given with loss='poisson', got {kwargs[name]!r}: it is for sums "
                             "of squares")
    kwargs.setdefault("ftol", COUNTS_FTOL)
    kwargs["loss"] = check_counts(ydata.ravel(), "curve_fit", "ydata")
    return CountResiduals(residual_of(f, xdata, np.zeros(ydata.shape), None), kwargs["loss"].counts)


def check_start(residual, ier, info, p0):
    """Refuse a start at which the model cannot be the expectation of the counts."""
    if ier != Status.NOT_FINITE or info.get("njev", 0):
        return
    found = impossible(residual, residual.mean(np.array(p0, float)))
    if found is not None:
        k, count, mean = found
        raise ValueError(f"curve_fit: f(xdata, *p0)[{k}] must be positive with loss='poisson', the expectation of ydata[{k}] = "
                         f"{count:.6g}, got {mean:.6g} at p0 = {np.array2string(np.asarray(p0, float), threshold=20)}: start "
                         "elsewhere, or add the background to the model")
