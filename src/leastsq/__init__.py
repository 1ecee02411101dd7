"""Nonlinear least squares: MINPACK's Levenberg–Marquardt, made to be trusted.

``from leastsq import leastsq`` replaces ``from scipy.optimize import leastsq``.
"""

from . import plot
from ._ask_tell import LevenbergMarquardt
from ._batch import BatchResult, leastsq_batch
from ._blocks import leastsq_blocks
from ._build import version as __version__
from ._compiled import CFunction, get_include
from ._config import show_config
from ._confidence import (
    BandResult,
    ConfidenceResult,
    confidence_band,
    confidence_intervals,
    profile_time,
)
from ._core import RowAccumulator
from ._covariance import CovarianceResult, covariance
from ._curve_fit import OptimizeWarning, curve_fit
from ._gradient_check import GradientCheck, check_gradient
from ._least_squares import OptimizeResult, least_squares
from ._leastsq import leastsq
from ._report import Report, report
from ._status import Status
from ._strict import StrictError, StrictWarning

__all__ = [
    "BandResult", "BatchResult", "CFunction", "ConfidenceResult", "CovarianceResult", "GradientCheck",
    "LevenbergMarquardt", "OptimizeResult", "OptimizeWarning", "Report", "RowAccumulator", "Status", "StrictError",
    "StrictWarning", "__version__", "check_gradient", "confidence_band", "confidence_intervals", "covariance", "curve_fit",
    "get_include", "least_squares", "leastsq", "leastsq_batch", "leastsq_blocks", "plot", "profile_time",
    "report", "show_config",
]


def __dir__():
    """The public names: what completion shows."""
    return sorted(__all__)
