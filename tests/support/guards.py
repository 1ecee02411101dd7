"""Guards for tests that depend on the processor, the system, Python, NumPy or SciPy, each with the reason.

No other file of the tests asks for a version or a processor; test_invariants.py checks that.
"""
import platform
import re
import sys
from contextvars import ContextVar
from pathlib import Path

import numpy as np
import pytest

IS_LINUX = sys.platform.startswith("linux")
X86_64 = platform.machine() in ("x86_64", "AMD64")


def _numbers(version):
    return tuple(map(int, re.findall(r"\d+", version)[:2]))


def scipy_version():
    """(major, minor); (0, 0) if SciPy is not installed."""
    try:
        import scipy
    except ImportError:
        return 0, 0
    return _numbers(scipy.__version__)


def scipy_has_minpacks_bits():
    """SciPy translated MINPACK into C; from 1.18 on it computes MINPACK's bits (before, `qrfac` read too far)."""
    return scipy_version() >= (1, 18) and X86_64


NEEDS_SCIPYS_BITS = pytest.mark.skipif(not scipy_has_minpacks_bits(),
                                       reason="SciPy >= 1.18 on x86-64 is what the bits are compared with")


def need_scipys_bits():
    if not scipy_has_minpacks_bits():
        pytest.skip("SciPy >= 1.18 on x86-64 is what the bits are compared with")


def need_scipy(version, why):
    """Skip with an older SciPy, whose behaviour differs for the reason given."""
    if scipy_version() < version:
        pytest.skip(f"SciPy {'.'.join(map(str, version))} or newer is what this compares with: {why}")


def processor_flags():
    """The processor's features by their names in /proc/cpuinfo; empty where there is no such file."""
    cpuinfo = Path("/proc/cpuinfo")
    return set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()


def need_processor(flags):
    """Skip unless this is an x86-64 processor with all of these flags."""
    if not X86_64:
        pytest.skip("not an x86-64 processor")
    if lacks := set(flags) - processor_flags():
        pytest.skip(f"this processor lacks {', '.join(sorted(lacks))}")


def need_elf():
    if not IS_LINUX:
        pytest.skip("looks at an ELF file")


LINUX = pytest.mark.skipif(not IS_LINUX, reason="reads /proc")
GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="preloads functions of glibc's malloc")
LONGDOUBLE = pytest.mark.skipif(np.dtype("longdouble").itemsize == 8, reason="longdouble is float64 here")
SUBINTERPRETERS = pytest.mark.skipif(sys.version_info < (3, 12),
                                     reason="no sub-interpreter has a lock of its own before Python 3.12")

# C functions of CPython that leave a corrupt object behind, which crashes later, if one of their allocations fails:
# the first version with the bug, the first without it ((4,): none yet), and arguments with which they allocate.
_RUINOUS = {
    # for `lambda` and `def`: MAKE_FUNCTION then releases its code object twice (gh-122752)
    "PyFunction_NewWithQualName": ((3, 12), (3, 14), lambda: (_numbers.__code__, {}, "name")),
    # for a type's methods and attributes: continues as if the table had grown, with one key too many (gh-109700)
    "PyDict_SetDefaultRef": ((3, 13), (3, 13, 6), lambda: (dict.fromkeys("abcde"), "sixth", None)),
    # for numpy.errstate: releases a token that it could not make
    "PyContextVar_Set": ((3, 7), (4,), lambda: (ContextVar("name"), "value", None)),
}


def ruinous_functions():
    """The functions with such a bug in this Python, with their arguments: starve.py spares their allocations."""
    return [(name, arguments()) for name, (first, mended, arguments) in _RUINOUS.items()
            if first <= sys.version_info[:3] < mended]
