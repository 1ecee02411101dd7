"""Many fits by functions of eight problems at once, in C, Fortran, Cython and numba: how to make them, and what they gain.

    python examples/lanes.py [--fits N] [--rounds N]

Fits a exp(-k t) + c to 30 points, with derivatives, by functions of one problem and by functions of eight, whose loops
over the problems a compiler makes vectors of, exp included.  The sources are in examples/lanes, numba's functions below;
FLAGS says what each compiler needs.  What is not installed is left out.
"""
from __future__ import annotations

import argparse
import ctypes
import importlib.util
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from leastsq import CFunction, get_include, leastsq_batch

SOURCES = Path(__file__).with_suffix("")
LANES, M = 8, 30

# -fopenmp-simd makes vectors of loops; -march=native: the widest of this processor, which the library then needs.
# C: math.h declares vector functions, such as exp, if it believes in -ffast-math.  That itself would also let the compiler
# reorder sums, contract, and assume that nothing is nan, so that fits lose the bits that they have alone and residuals
# that are not finite may go unnoticed; in a command that links, GCC before 13 would flush denormal numbers to zero in the
# whole process.  gfortran knows the vector functions without it.
# Cython writes no directive that a loop is to be a vector: exp must not set errno, and the loop not be unrolled before.
VECTORS = ["-O3", "-march=native", "-fopenmp-simd", "-fPIC", "-shared"]
FLAGS = {"C": [*VECTORS, "-D__FAST_MATH__"], "Fortran": VECTORS,
         "Cython": [*VECTORS, "-D__FAST_MATH__", "-fno-math-errno", "--param=max-completely-peel-times=4"],
         "C without a vector exp": VECTORS}

Pair = tuple[CFunction, CFunction]


def build(compiler: str, folder: str, source: Path, flags: list[str]) -> str:
    """The library made of a source; a RuntimeError says what is missing."""
    program = shutil.which(compiler)
    if program is None:
        raise RuntimeError(f"there is no {compiler}")
    library = str(Path(folder) / (source.stem + sysconfig.get_config_var("EXT_SUFFIX")))
    command = [program, *flags, f"-I{get_include()}", str(source), "-o", library, "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if done.returncode:
        raise RuntimeError(f"{compiler}: {done.stderr.strip().splitlines()[-1]}")
    return library


def of_library(library: ctypes.CDLL, lanes: int | None = LANES) -> Pair:
    names = ("decay", "decay_jacobian") if lanes is None else ("decay_in_lanes", "decay_jacobian_in_lanes")
    return tuple(CFunction(getattr(library, name), M, lanes=lanes) for name in names)


def in_c(folder: str, flags: list[str], lanes: int | None = LANES) -> Pair:
    return of_library(ctypes.CDLL(build("gcc", folder, SOURCES / "decay.c", flags)), lanes)


def in_fortran(folder: str, flags: list[str]) -> Pair:
    return of_library(ctypes.CDLL(build("gfortran", folder, SOURCES / "decay.f90", flags)))


def in_cython(folder: str, flags: list[str]) -> Pair:
    """An extension module, whose functions are capsules; their names are their signatures."""
    if importlib.util.find_spec("Cython") is None:
        raise RuntimeError("there is no Cython")
    shutil.copy(SOURCES / "decay_cython.pyx", folder)
    subprocess.run([sys.executable, "-m", "cython", "-3", "decay_cython.pyx"], cwd=folder, check=True, capture_output=True)
    path = build("gcc", folder, Path(folder) / "decay_cython.c", [*flags, f"-I{sysconfig.get_path('include')}"])
    spec = importlib.util.spec_from_file_location("decay_cython", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    capsules = module.__pyx_capi__
    return tuple(CFunction(capsules[name], M, lanes=LANES) for name in ("decay_in_lanes", "decay_jacobian_in_lanes"))


def residual_of_a_point(i, x, points):
    return x[0] * np.exp(-x[1] * points[0, i]) + x[2] - points[1, i]


def slopes_of_a_point(i, x, row, points):
    e = np.exp(-x[1] * points[0, i])
    row[0] = e
    row[1] = -x[0] * points[0, i] * e
    row[2] = 1


def in_numba(folder: str, flags: list[str]) -> Pair:
    """Functions of one point: numba makes the loops.  Its exp is one of vectors only if it finds SVML."""
    points = np.zeros((2, M))
    return (CFunction.from_numba(residual_of_a_point, M, points, lanes=LANES),
            CFunction.from_numba(slopes_of_a_point, M, points, jacobian=True, lanes=LANES))


def numba_has_svml() -> bool:
    """Does numba have Intel's vector functions?  It wants them in its LLVM, and their library (intel-cmplr-lib-rt)."""
    try:
        from numba.core import config
        return bool(config.USING_SVML)
    except ImportError:
        return False


MAKERS: dict[str, Callable[[str], Pair]] = {
    "C, one problem at a time": lambda folder: in_c(folder, FLAGS["C"], None),
    "C without a vector exp": lambda folder: in_c(folder, FLAGS["C without a vector exp"]),
    "C": lambda folder: in_c(folder, FLAGS["C"]),
    "Fortran": lambda folder: in_fortran(folder, FLAGS["Fortran"]),
    "Cython": lambda folder: in_cython(folder, FLAGS["Cython"]),
    f"numba {'with' if numba_has_svml() else 'without'} SVML": lambda folder: in_numba(folder, []),
}


def problems(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Starts (count, 3) and data (count, 2, M): t and y of each."""
    rng = np.random.default_rng(1)
    a, k, c = rng.uniform([1, 0.8, 0], [3, 2, 1], (count, 3)).T[..., None]
    t = np.broadcast_to(np.linspace(0, 4, M), (count, M))
    y = a * np.exp(-k * t) + c + 0.02 * rng.standard_normal((count, M))
    return np.tile([1.5, 1.0, 0.3], (count, 1)), np.stack([t, y], axis=1)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Fits by functions of eight problems at once.")
    parser.add_argument("--fits", type=int, default=50_000, help="number of fits (default 50000)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds to take the best of (default 7)")
    options = parser.parse_args(arguments)

    starts, data = problems(options.fits)
    best: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as parent:
        made = {}
        for name, make in MAKERS.items():
            try:
                made[name] = make(tempfile.mkdtemp(dir=parent))
            except (RuntimeError, ImportError, OSError, subprocess.CalledProcessError) as error:
                print(f"Without {name}: {error}")
        reference = None
        for _ in range(options.rounds):
            for name, (residual, jacobian) in made.items():
                for column, threads in enumerate((1, 2)):
                    clock = time.process_time if threads == 1 else time.perf_counter
                    began = clock()
                    result = leastsq_batch(residual, starts, data, Dfun=jacobian, threads=threads)
                    seconds = clock() - began
                    row = best.setdefault(name, [np.inf, np.inf])
                    row[column] = min(row[column], seconds)
                reference = result.x if reference is None else reference
                if not result.success.all() or not np.allclose(result.x, reference, rtol=1e-5):
                    raise SystemExit(f"{name} disagrees")
    print(f"Microseconds per fit of a exp(-k t) + c to {M} points, with covariances: of one processor's time, and as two\n"
          "threads take by the clock.\n")
    print(f"{'':<26}{'1 thread':>10}{'2 threads':>11}")
    for name, seconds in best.items():
        one, two = (1e6 * value / options.fits for value in seconds)
        print(f"{name:<26}{one:10.2f}{two:11.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
