"""Nonlinear least squares: MINPACK's Levenberg–Marquardt, made to be trusted.

``from leastsq import leastsq`` replaces ``from scipy.optimize import leastsq``.
"""

from importlib import import_module
from types import FunctionType

from . import plot
from ._build import version as __version__
from ._config import show_config
from ._core import RowAccumulator
from ._fit.ask_tell import LevenbergMarquardt
from ._fit.gradient_check import GradientCheck, check_gradient
from ._fit.leastsq import leastsq
from ._fit.status import Status
from ._fit.strict import StrictError, StrictWarning
from ._fit.watch import State
from ._many.batch import BatchResult, leastsq_batch
from ._many.blocks import leastsq_blocks
from ._problem.compiled import CFunction, get_include
from ._scipy.classes import OptimizeResult, OptimizeWarning
from ._scipy.curve_fit import curve_fit
from ._scipy.least_squares import least_squares
from ._uncertainty.confidence import (
    BandResult,
    ConfidenceResult,
    confidence_band,
    confidence_intervals,
    profile_time,
)
from ._uncertainty.covariance import CovarianceResult, covariance
from ._uncertainty.format import format_value
from ._uncertainty.profile import Profile
from ._uncertainty.report import Report, report

__all__ = [
    "BandResult", "BatchResult", "CFunction", "ConfidenceResult", "CovarianceResult", "CurveFitBatchResult",
    "FitParameter", "FitResult", "GradientCheck", "LevenbergMarquardt", "OptimizeResult", "OptimizeWarning",
    "Report", "RowAccumulator", "Status", "StrictError", "StrictWarning", "__version__", "check_gradient",
    "confidence_band", "confidence_intervals", "covariance", "curve_fit", "curve_fit_batch", "fit", "format_value",
    "get_include", "in_scipy", "least_squares", "leastsq", "leastsq_batch", "leastsq_blocks", "load", "plot", "profile_time",
    "report", "show_config",
]

# Pickles name this package, not its folders, which may change.  For the public names, and for the classes that a
# ConfidenceResult holds and a callback gets.
def _name_here(things):
    for thing in things:
        if isinstance(thing, (type, FunctionType)) and thing is not RowAccumulator:
            thing.__module__ = __name__


_name_here([*map(globals().get, __all__), Profile, State])

# Imported on first use, so a script that uses only the drop-in replacements does not wait for them.  Names in one group are
# imported together, because functions of the group return instances of its classes.
_LATER = [
    {"FitParameter": "_model.fitted_parameter", "FitResult": "_model.result", "fit": "_model.fit", "load": "_model.stored"},
    {"CurveFitBatchResult": "_many.curves", "curve_fit_batch": "_many.curves"},
    {"in_scipy": "_scipy.in_scipy"},
]


def __getattr__(name):
    for group in _LATER:
        if name in group:
            found = {one: getattr(import_module(f".{place}", __name__), one) for one, place in group.items()}
            _name_here(found.values())
            globals().update(found)
            return found[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    """The public names, for completion."""
    return sorted(__all__)
