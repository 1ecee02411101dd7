"""One fit with its residual in Python, in C and in numba: how to do it, and when it is worth it.

    python examples/compiled.py [--rounds N]

Fits a exp(-k t) + c to 20, 100, 1000 and 10000 points, with and without derivatives.
The C functions are in compiled.c, which this script compiles; numba's are below.
Without a C compiler, or without numba, that part is left out.
"""
from __future__ import annotations

import argparse
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from leastsq import CFunction, get_include, leastsq

SOURCE = Path(__file__).with_suffix(".c")
SIZES = (20, 100, 1000, 10_000)
START = (1.0, 1.0, 0.0)
PAYS = 1.5                      # a speed-up that is worth the trouble


def data(m: int) -> np.ndarray:
    """t and y, shape (2, m): the data of all residuals below."""
    t = np.linspace(0, 4, m)
    y = 2.5 * np.exp(-1.3 * t) + 0.5 + 0.05 * np.random.default_rng(1).standard_normal(m)
    return np.array([t, y])


# ------------------------------------------------------------------- Python

def in_python(points: np.ndarray):
    t, y = points

    def residual(x):
        return x[0] * np.exp(-x[1] * t) + x[2] - y

    def jacobian(x):
        e = np.exp(-x[1] * t)
        return np.array([e, -x[0] * t * e, np.ones_like(t)]).T

    return residual, jacobian


# ------------------------------------------------------------------------ C

def compile_c() -> ctypes.CDLL:
    """compiled.c, compiled and loaded as a library."""
    compiler = os.environ.get("CC") or shutil.which("cc")
    if compiler is None:
        raise RuntimeError("there is no C compiler (cc)")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "compiled.so"
        subprocess.run([*compiler.split(), "-O2", "-shared", "-fPIC", f"-I{get_include()}", SOURCE, "-o", library,
                        "-lm"], check=True)
        return ctypes.CDLL(str(library))


def in_c(library: ctypes.CDLL, points: np.ndarray):
    m = points.shape[1]
    return CFunction(library.decay, m, points), CFunction(library.decay_jacobian, m, points)


# -------------------------------------------------------------------- numba

def residual_for_numba(x, out, points):
    for i in range(out.size):
        out[i] = x[0] * np.exp(-x[1] * points[0, i]) + x[2] - points[1, i]


def jacobian_for_numba(x, out, points):
    for i in range(out.shape[0]):
        e = np.exp(-x[1] * points[0, i])
        out[i, 0] = e
        out[i, 1] = -x[0] * points[0, i] * e
        out[i, 2] = 1


def in_numba(points: np.ndarray):
    m = points.shape[1]
    return (CFunction.from_numba(residual_for_numba, m, points),
            CFunction.from_numba(jacobian_for_numba, m, points, jacobian=True))


# --------------------------------------------------------------- comparison

def time_of(action: Callable[[], object], rounds: int) -> float:
    """Best time of one call, in seconds."""
    began = time.perf_counter()
    action()
    repetitions = max(1, int(0.002 / (time.perf_counter() - began)))
    best = np.inf
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(repetitions):
            action()
        best = min(best, (time.perf_counter() - began) / repetitions)
    return best


def makers() -> dict[str, Callable]:
    """The languages that are available: name -> function of the data that makes residual and Jacobian."""
    found = {"Python": in_python}
    try:
        library = compile_c()
        found["C"] = lambda points: in_c(library, points)
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        print(f"Without C: {error}")
    try:
        in_numba(data(3))
        found["numba"] = in_numba
    except ImportError as error:
        print(f"Without numba: {error}")
    return found


def compare(found: dict[str, Callable], m: int, derivatives: bool, rounds: int) -> dict[str, float]:
    """Seconds per fit for each language; all results must agree."""
    points = data(m)
    seconds, solutions = {}, {}
    for name, make in found.items():
        residual, jacobian = make(points)
        options = {"Dfun": jacobian} if derivatives else {}
        solutions[name], ier = leastsq(residual, START, **options)
        if ier not in (1, 2, 3, 4) or not np.allclose(solutions[name], solutions["Python"], rtol=1e-5):
            raise SystemExit(f"{name} disagrees: {solutions}, ier {ier}")
        seconds[name] = time_of(lambda: leastsq(residual, START, **options), rounds)   # noqa: B023
    return seconds


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="A residual in Python, in C and in numba.")
    parser.add_argument("--rounds", type=int, default=20, help="rounds to take the best of (default 20)")
    options = parser.parse_args(arguments)

    found = makers()
    print("Microseconds per fit of a exp(-k t) + c to m points; in brackets, times as fast as Python.\n")
    print("     m  derivatives" + "".join(f"{name:>18}" for name in found))
    most = {}                                   # the largest m for which it pays
    for derivatives in (False, True):
        for m in SIZES:
            seconds = compare(found, m, derivatives, options.rounds)
            row = f"{m:6d}  {'given' if derivatives else 'differences':<11}"
            for name, value in seconds.items():
                gain = seconds["Python"] / value
                row += f"{1e6 * value:11.1f}" + (f" {f'({gain:.1f}x)':>6}" if name != "Python" else " " * 7)
                if name != "Python" and gain >= PAYS:
                    most[name] = max(m, most.get(name, 0))
            print(row)
    print()
    for name in list(found)[1:]:
        if name in most:
            print(f"{name} pays ({PAYS} times as fast or more) up to m = {most[name]} here.")
        else:
            print(f"{name} does not pay here.")
    print("Compiled functions save Python's time per call, some microseconds; where the arithmetic of a call takes\n"
          "much longer, NumPy's loops are as good.  Other Python threads run during compiled fits.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
