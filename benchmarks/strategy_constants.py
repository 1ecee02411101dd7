"""The effect of halving or doubling each constant of the strategies, on the fits on which it was chosen.

    python benchmarks/strategy_constants.py [--quick] [--page docs/strategies.md]

The core is built for each value (this needs gfortran) and called through its C interface, on the tuning half of
tests/parity/fit_collections.py with difference Jacobians.  Each fit runs from its own start and from three starts
changed by a tenth.  Fits solved and evaluations are counted as in strategies.py; --quick takes every tenth fit and
one constant.  A full run takes several minutes.
"""
import argparse
import ctypes as ct
import re
import shutil
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
import strategies
from fit_collections import TUNING, all_runs

sys.path[:0] = [str(Path(__file__).resolve().parent.parent / folder) for folder in ("tests/support",)]

import kernels  # noqa: E402

CODES = kernels.CODES
# The file of a constant, its name, its label in the table, and the two other values.
CONSTANTS = [
    ("core/curvature.f90", "ACCELERATION_MOST", "maximum acceleration 3", ("1.5_wp", "6")),
    ("core/curvature.f90", "ALIGNMENT_LEAST", "minimum cosine 0.7 (0.35; 0.85)", ("0.35_wp", "0.85_wp")),
    ("core/curvature.f90", "SCALING_MOST", "maximum β 10", ("5", "20")),
    ("core/curvature.f90", "FEELER_PART", "feeler at p/10", ("0.05_wp", "0.2_wp")),
    ("core/curvature.f90", "FEELING_ITERATIONS", "feelers in three iterations (one; six)", ("1", "6")),
    ("problems/fdjac2.f90", "LEAST_PART", "minimum size in the difference step", ("2.0_wp**(-11)", "2.0_wp**(-9)")),
]
OF_ROBUST = [
    ("core/restarts.f90", "CONDITION_MOST", "condition 10⁴", ("5.0e3_wp", "2.0e4_wp")),
    ("core/restarts.f90", "COSINE_MOST", "cosine 0.01", ("5.0e-3_wp", "2.0e-2_wp")),
    ("core/restarts.f90", "ZERO_RESIDUAL", "zero residual 10⁻⁵", ("5.0e-6_wp", "2.0e-5_wp")),
    ("core/restarts.f90", "RESTART_FACTORS(2)", "radii of the new starts", ("[0.05_wp, 0.005_wp]", "[0.2_wp, 0.02_wp]")),
]
FIRST_RADIUS = 0.3
MOVED = 3                       # further starts of each fit

RESIDUAL = ct.CFUNCTYPE(ct.c_int, ct.c_int64, ct.c_int64, ct.POINTER(ct.c_double), ct.POINTER(ct.c_double), ct.c_void_p)


class Problem(ct.Structure):
    """lsq_problem of core.h."""
    _fields_ = [("data", ct.c_void_p), ("differences", kernels.Differences), ("watch", ct.c_void_p), ("residual", RESIDUAL),
                *((name, ct.c_void_p) for name in ("jacobian", "weigh", "weighed", "kept", "norm", "difference", "factor",
                                                   "settle", "change", "fjac", "damped", "damped_work", "team"))]


def built(folder, changes=()):
    """The core with these (file, constant, value) changed."""
    name = "-".join(f"{constant}={value}" for _, constant, value in changes) or "as it is"
    place = Path(folder) / re.sub(r"\W", "_", name)
    shutil.copytree(kernels.FORTRAN, place / "fortran")
    for file, constant, value in changes:
        source = place / "fortran" / file
        text, found = re.subn(rf"(:: {re.escape(constant)} = )[^!\n]*", rf"\g<1>{value} ", source.read_text())
        assert found == 1, constant
        source.write_text(text)
    plain, kernels.FORTRAN = kernels.FORTRAN, place / "fortran"
    try:
        return kernels.Core(kernels.build("gfortran", "-O2", place))
    finally:
        kernels.FORTRAN = plain


def fit(core, run, x0, strategy, factor):
    """(solved, evaluations), by differences."""
    n, f0 = x0.size, run.residual(x0)
    m = f0.size
    calls = [0]

    def residual(_m, _n, x, fvec, _data):
        calls[0] += 1
        np.ctypeslib.as_array(fvec, (m,))[:] = run.residual(np.ctypeslib.as_array(x, (n,)).copy())
        return 0
    columns, base = core.lib.lsq_core_columns(n, 0, strategy), core.lib.lsq_core_columns(n, 0, 0)
    w, room = np.zeros((columns, n)), [np.zeros(m*n), np.zeros(m), np.zeros(m), np.zeros(m*n)]
    r, fvec, spare, kept = room
    ipvt = np.arange(1, n + 1, dtype=np.int64)
    w[CODES["LSQ_X"]] = x0
    s = kernels.State(n=n, maxfev=200*(n + 1), scaling=CODES["LSQ_SCALE_COLUMNS"], ftol=1.49012e-8, xtol=1.49012e-8,
                      factor=factor, strategy=strategy, changes=int(strategy > 0))
    problem = Problem(residual=RESIDUAL(residual), kept=kept.ctypes.data if strategy else None)
    if strategy:
        problem.differences.largest = w[base + CODES["LSQ_C_LARGEST"]].ctypes.data
    core.lib.lsq_fit(ct.byref(problem), ct.c_int64(m), ct.byref(s), *(ct.c_void_p(a.ctypes.data) for a in (w, fvec, r)),
                     ct.c_int64(m), *(ct.c_void_p(a.ctypes.data) for a in (ipvt, spare)))
    return run.solved(float(np.sum(run.residual(w[CODES["LSQ_X"]])**2))), calls[0]


def starts(run):
    """The fit's own start and the changed ones, the same in every process."""
    yield run.x0
    for k in range(MOVED):
        draw = np.random.RandomState(zlib.crc32(f"{run.name}~{k}".encode()))
        yield run.x0*(1 + 0.1*draw.standard_normal(run.x0.size))


def measure(core, runs, strategy, factor=FIRST_RADIUS):
    with np.errstate(all="ignore"):
        return {(run.name, k): fit(core, run, x0, strategy, factor) for run in runs for k, x0 in enumerate(starts(run))}


def said(base, measured):
    row = strategies.compare(base, measured, list(base))
    return f"{row['solved']}, {row['total']:.2f} / {row['geometric mean']:.2f}"


def table(quick):
    """The table as Markdown."""
    runs = [run for run in all_runs().values() if run.half == TUNING][::20 if quick else 1]
    robust = CODES["LSQ_STRATEGY_ROBUST"]
    fast = CODES["LSQ_STRATEGY_FAST"]
    with tempfile.TemporaryDirectory() as folder:
        core = built(folder)
        base = measure(core, runs, CODES["LSQ_STRATEGY_MINPACK"], 100.0)
        solved, radii = sum(one for one, _ in base.values()), (FIRST_RADIUS/2, 2*FIRST_RADIUS)
        lines = [f"| {len(base)} fits, of which MINPACK solves {solved} | halved: solved, evaluations | doubled |",
                 "| --- | --- | --- |", f'| "fast", unchanged | {said(base, measure(core, runs, fast))} | |',
                 f"| first radius {FIRST_RADIUS} | "
                 + " | ".join(said(base, measure(core, runs, fast, radius)) for radius in radii) + " |"]
        for constants, strategy in ((CONSTANTS, fast), (OF_ROBUST, robust)):
            if strategy == robust:
                lines.append(f'| "robust", unchanged | {said(base, measure(core, runs, robust))} | |')
            for file, name, shown, values in constants[:1 if quick else None]:
                both = [said(base, measure(built(folder, [(file, name, value)]), runs, strategy)) for value in values]
                lines.append(f"| {shown} | " + " | ".join(both) + " |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--page", type=Path, help="write the table into this page")
    options = parser.parse_args()
    made = table(options.quick)
    if options.page:
        strategies.put(options.page, "constants", made)
    else:
        print(made, end="")


if __name__ == "__main__":
    main()
