"""Nonlinear least squares: MINPACK's Levenberg–Marquardt, made to be trusted.

``from leastsq import leastsq`` replaces ``from scipy.optimize import leastsq``.
"""

from ._batch import BatchResult, leastsq_batch
from ._build import version as __version__
from ._compiled import CFunction, get_include
from ._config import show_config
from ._curve_fit import OptimizeWarning, curve_fit
from ._leastsq import leastsq
from ._status import Status

__all__ = ["BatchResult", "CFunction", "OptimizeWarning", "Status", "__version__", "curve_fit",
           "get_include", "leastsq", "leastsq_batch", "show_config"]
