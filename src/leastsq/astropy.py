"""
The fitter for models of astropy (not a requirement of this package).

`LeastsqFitter` is a plugin in the entry point group ``astropy.modeling``: with both packages installed it is also
``astropy.modeling.fitting.LeastsqFitter``.
"""

from __future__ import annotations

# astropy loads its plugins while it imports this, and must find the fitter's module complete: so the class is in another one
import astropy.modeling.fitting     # noqa: F401

from ._scipy.astropy_fitter import LeastsqFitter

__all__ = ["LeastsqFitter"]
