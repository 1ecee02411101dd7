"""compiled_problems.c, built as a library with the C compiler of this machine: its functions as
ctypes pointers, and the data of problems.py that they need."""
from __future__ import annotations

import ctypes as ct
import subprocess
from pathlib import Path

import numpy as np

import leastsq
import problems

SOURCE = Path(__file__).parents[1] / "programs" / "compiled_problems.c"
# no fused multiply-adds: the same bits as NumPy's loops
FLAGS = ["-std=c11", "-D_POSIX_C_SOURCE=200809L", "-O2", "-ffp-contract=off", "-Wall", "-Wextra",
         "-Werror", "-shared", "-fPIC"]

DOUBLES = ct.POINTER(ct.c_double)
SIGNATURE = ct.CFUNCTYPE(ct.c_int, ct.c_int64, ct.c_int64, DOUBLES, DOUBLES, ct.c_void_p)

DATA = {"bard": problems.BARD_Y,
        "kowalik_osborne": np.concatenate([problems.KOWALIK_Y, problems.KOWALIK_U])}
ALIASES = {"extended_rosenbrock": "rosenbrock", "extended_powell_singular": "powell_singular"}


class Counter(ct.Structure):
    """`counter`: call number `stop_at` returns `code`; 0 stops at no call."""
    _fields_ = [("calls", ct.c_int64), ("stop_at", ct.c_int64), ("code", ct.c_int64)]


def build(cc, folder):
    """Path of the library, compiled into `folder`."""
    library = Path(folder) / "libcompiled_problems.so"
    subprocess.run([cc, *FLAGS, f"-I{leastsq.get_include()}", SOURCE, "-o", library, "-lm"],
                   check=True, capture_output=True, text=True)
    return library


def functions(library, p):
    """CFunctions of a problem of problems.py: residual and Jacobian."""
    name = ALIASES.get(p.name, p.name)
    data = DATA.get(p.name)
    return (leastsq.CFunction(getattr(library, name), p.m, data),
            leastsq.CFunction(getattr(library, f"{name}_jacobian"), p.m, data))
