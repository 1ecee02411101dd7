"""show_config: how this package was built, for bug reports."""

from __future__ import annotations

import platform

import numpy as np

from . import _build, _core

__all__ = ["show_config"]


def show_config(mode="stdout"):
    """
    Show how this copy of leastsq was built and what it runs on.

    Parameters
    ----------
    mode : {"stdout", "dicts"}, optional
        Print a table, or return the same as a dict of strings.

    Returns
    -------
    dict or None
        With ``mode="dicts"``: version, compilers and their flags, kernels in
        use, and the versions of Python and NumPy that run it.

    Raises
    ------
    ValueError
        `mode` is neither of these.

    Examples
    --------
    >>> import leastsq
    >>> leastsq.show_config("dicts")["version"] == leastsq.__version__
    True
    """
    if mode not in ("stdout", "dicts"):
        raise ValueError(f"show_config: mode must be 'stdout' or 'dicts', got {mode!r}")
    facts = {
        "version": _build.version,
        "fortran": f"{_build.fortran_compiler}  {_build.fortran_flags}",
        "c": f"{_build.c_compiler}  {_build.c_flags}",
        "kernels": f"minpack (MINPACK's bits), blocked for {_core.isa}",
        "reference": "MINPACK's own library" if _build.reference else "not in this build",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "numpy": np.__version__,
        "platform": platform.platform(),
    }
    if mode == "dicts":
        return facts
    for name, value in facts.items():
        print(f"{name:10s}{value}")
    return None
