"""Nonlinear least squares: MINPACK's Levenberg–Marquardt, made to be trusted.

``from leastsq import leastsq`` replaces ``from scipy.optimize import leastsq``.
"""

from ._build import version as __version__
from ._config import show_config
from ._leastsq import leastsq
from ._status import Status

__all__ = ["Status", "__version__", "leastsq", "show_config"]
