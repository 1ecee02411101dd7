"""Fits of compiled functions: our solver compared with Debian's MINPACK and cminpack, GSL and Ceres' TinySolver.

    python benchmarks/compiled.py [--json] [--rounds N] [--instructions]

The same C residual and Jacobian (compiled.c) go through this package's core, libminpack,
libcminpack, GSL and TinySolver, all called from C: an exponential decay with n = 3, m = 100 and a 2-D
Gaussian with n = 5, m = 25, by differences (lmdif) and with derivatives (lmder).  The
solver's own cost is the time of a fit minus that of its function calls, which are
recorded once and timed separately.  Then the same fits from Python: the cost of entry and
exit, and the speed of two threads together.

GSL and TinySolver are other Levenberg-Marquardts, with other steps and other tests of
convergence, set to the same tolerance of x: they also differ in how often they call the
functions, which "calls" says.  TinySolver takes derivatives only.

All solvers run interleaved; each figure is the best of many short rounds.  On a machine
that is never quiet, --instructions counts instructions with valgrind instead.

Needs a C compiler, gfortran, meson and ninja.  libminpack1, libcminpack1, libgsl-dev, libceres-dev (its headers and
Eigen's, and a C++ compiler) and valgrind are Debian packages; those that are missing are left out.
"""
from __future__ import annotations

import argparse
import ctypes as ct
import gc
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from overhead import machine

from leastsq import CFunction, leastsq

ROOT = Path(__file__).resolve().parent.parent
SOURCE = Path(__file__).with_name("programs") / "compiled.c"
SOLVERS = ("leastsq", "libminpack", "libcminpack", "GSL", "TinySolver")
# libraries made here: what they are compiled with; those that do not compile are not installed
OWN_LIBRARIES = {"compiled_gsl": ("cc", "c", ["-lgsl", "-lgslcblas", "-lm"]),
                 "compiled_ceres": ("c++", "cpp", ["-I/usr/include/eigen3"])}
PROBLEMS = {"decay": "decay n=3 m=100", "gaussian": "2-D Gaussian n=5 m=25"}
METHODS = ("lmdif", "lmder")
BATCH = 20                      # fits per round: short, to find quiet moments
THREAD_SECONDS = 0.05


class Outcome(ct.Structure):
    _fields_ = [("x", ct.c_double * 5), ("info", ct.c_int64), ("nfev", ct.c_int64), ("njev", ct.c_int64)]


# ------------------------------------------------------------------- building

def build(folder: Path) -> tuple[Path, Path]:
    """Build the core with Meson, and compiled.c with it, as a library and as a program."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def run(*command):
        done = subprocess.run([str(word) for word in command], env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")

    core = folder / "core"
    run("meson", "setup", core, ROOT, "--buildtype=release")
    run("ninja", "-C", core, "fortran/libleastsq_core.a")
    library, program = folder / "compiled.so", folder / "compiled"
    common = ["cc", "-O2", "-ffp-contract=off", "-fPIC", f"-I{ROOT / 'fortran' / 'api'}",
              f"-I{ROOT / 'src' / 'leastsq' / 'include'}", SOURCE,
              core / "fortran" / "libleastsq_core.a", "-lm", "-ldl", "-lpthread"]
    run(*common, "-shared", "-o", library)
    run(*common, "-o", program)
    for name, (compiler, suffix, flags) in OWN_LIBRARIES.items():
        if shutil.which(compiler) is None:
            continue
        subprocess.run([compiler, "-O2", "-fPIC", "-shared", f"-I{ROOT / 'src' / 'leastsq' / 'include'}", "-o",
                        str(folder / f"{name}.so"), str(SOURCE.with_name(f"{name}.{suffix}")), *flags],
                       env=environment, capture_output=True, check=False)
    return library, program


def load(path: Path) -> ct.CDLL:
    library = ct.CDLL(str(path))
    library.time_fits.restype = library.time_calls.restype = ct.c_double
    library.solver_version.restype = ct.c_char_p
    library.problem_data.restype = library.problem_start.restype = ct.POINTER(ct.c_double)
    library.prepare()
    return library


# --------------------------------------------------------- the solvers from C

@dataclass
class Solved:
    """One problem, method and solver: calls, and microseconds (or instructions) per fit."""

    problem: str
    method: str
    solver: str
    residual_calls: int
    jacobian_calls: int
    fit: float
    functions: float
    own: float
    instructions: float | None = None       # own


def measure(library: ct.CDLL, solvers: list[int], problem: int, method: int, rounds: int) -> list[Solved]:
    solvers = [solver for solver in solvers if library.has_method(solver, method)]
    fit, functions = dict.fromkeys(solvers, np.inf), dict.fromkeys(solvers, np.inf)
    outcomes = {solver: Outcome() for solver in solvers}
    for _ in range(rounds):
        for solver in solvers:
            library.record(solver, problem, method, ct.byref(outcomes[solver]))
            functions[solver] = min(functions[solver], library.time_calls(BATCH) / BATCH)
            fit[solver] = min(fit[solver], library.time_fits(solver, problem, method, BATCH) / BATCH)
    n = library.problem_n(problem)
    for solver in solvers:
        if not np.allclose(outcomes[solver].x[:n], outcomes[solvers[0]].x[:n], rtol=1e-6):
            raise SystemExit(f"{SOLVERS[solver]} disagrees: {[outcomes[s].x[:n] for s in solvers]}")
    return [Solved(list(PROBLEMS)[problem], METHODS[method], SOLVERS[solver], outcomes[solver].nfev,
                   outcomes[solver].njev if METHODS[method] == "lmder" else 0, 1e6 * fit[solver],
                   1e6 * functions[solver], 1e6 * (fit[solver] - functions[solver])) for solver in solvers]


def instructions(program: Path, solved: Solved) -> float:
    """The solver's own instructions per fit: those of 100 more fits, minus 100 times those of the calls."""
    def count(what, times):
        done = subprocess.run(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program,
                               solved.solver, solved.problem, solved.method, what, str(times), program.parent],
                              capture_output=True, text=True, check=True)
        return int(re.search(r"Collected : (\d+)", done.stderr)[1])

    return ((count("fits", 101) - count("fits", 1)) - (count("calls", 101) - count("calls", 1))) / 100


# ----------------------------------------------------------------- from Python

@dataclass
class FromPython:
    """One problem and method: microseconds per call, fits per second."""

    problem: str
    method: str
    whole: float
    core: float                 # the same fit from C
    entry: float                # whole - core: entry and exit
    one_thread: float
    two_threads: float
    ratio: float                # two threads / one, each the best of many rounds
    median_ratio: float         # median over pairs of successive rounds
    from_c: tuple[float, float]         # the same two ratios from C, without a GIL: the machine's limit


def python_fit(library: ct.CDLL, problem: int, method: int):
    """The fit as a user writes it."""
    m, n = library.problem_m(problem), library.problem_n(problem)
    data = library.problem_data(problem)
    x0 = np.array(library.problem_start(problem)[:n])
    name = list(PROBLEMS)[problem]
    func = CFunction(getattr(library, name), m, data)
    if METHODS[method] == "lmdif":
        return lambda: leastsq(func, x0)
    dfun = CFunction(getattr(library, f"{name}_jacobian"), m, data)
    return lambda: leastsq(func, x0, Dfun=dfun)


def throughput(fit, threads: int) -> float:
    """Calls of `fit` per second by `threads` threads together."""
    counts, stop, ready = [], threading.Event(), threading.Barrier(threads + 1)

    def work():
        done = 0
        ready.wait()
        while done == 0 or not stop.is_set():
            for _ in range(50):
                fit()
            done += 50
        counts.append(done)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    ready.wait()
    began = time.perf_counter()
    time.sleep(THREAD_SECONDS)
    stop.set()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.perf_counter() - began)


def measure_python(library: ct.CDLL, problem: int, method: int, rounds: int) -> FromPython:
    fit = python_fit(library, problem, method)
    whole = core = np.inf
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(BATCH):
            fit()
        whole = min(whole, (time.perf_counter() - began) / BATCH)
        core = min(core, library.time_fits(0, problem, method, BATCH) / BATCH)
    def fits_in_c():
        library.time_fits(0, problem, method, BATCH)

    speeds = np.array([[throughput(action, threads) for action in (fit, fits_in_c) for threads in (1, 2)]
                       for _ in range(max(1, rounds // 10))])
    one, two, one_in_c, two_in_c = speeds.max(0)
    median, median_in_c = np.median(speeds[:, 1::2] / speeds[:, ::2], axis=0)
    return FromPython(list(PROBLEMS)[problem], METHODS[method], 1e6 * whole, 1e6 * core, 1e6 * (whole - core),
                      one, two, two / one, median, (two_in_c / one_in_c, median_in_c))


# ---------------------------------------------------------------- the report

def report(solved: list[Solved], python: list[FromPython], where: dict[str, str]) -> str:
    lines = [f"leastsq {where['leastsq']}; NumPy {where['numpy']}, Python {where['python']}",
             f"{where['processor']}, {where['system']}, {os.cpu_count()} processors",
             "",
             "From C.  Own cost: time of a fit less that of its calls of the functions, in microseconds.",
             "",
             "problem                 method  solver        calls     fit  functions    own   ours/its"
             "     fits/s   own instructions"]
    for row in solved:
        ours = next(s for s in solved if (s.problem, s.method, s.solver) == (row.problem, row.method, "leastsq"))
        calls = f"{row.residual_calls}+{row.jacobian_calls}"
        ratio = "" if row is ours else f"{ours.own / row.own:.2f}"
        counted = ""
        if row.instructions is not None:
            counted = f"{row.instructions:9.0f}"
            if row is not ours:
                counted += f" ({ours.instructions / row.instructions:.2f})"
        lines.append(f"{PROBLEMS[row.problem]:<23} {row.method:<7} {row.solver:<12} {calls:>6} {row.fit:>7.2f} "
                     f"{row.functions:>10.2f} {row.own:>6.2f} {ratio:>10} {1e6 / row.fit:>10.0f}   {counted}".rstrip())
    lines += ["",
              "From Python.  Entry and exit: time of leastsq(CFunction, ...) less that of the same fit from C.",
              "",
              "                                                              best of many rounds              median ratio",
              "problem                 method     fit  from C  entry+exit   1 thread  2 threads   ratio (in C)   ratio (in C)"]
    lines += [f"{PROBLEMS[row.problem]:<23} {row.method:<7} {row.whole:>6.2f} {row.core:>7.2f} {row.entry:>11.2f} "
              f"{row.one_thread:>8.0f}/s {row.two_threads:>8.0f}/s {row.ratio:>7.2f} {row.from_c[0]:>6.2f} "
              f"{row.median_ratio:>7.2f} {row.from_c[1]:>6.2f}" for row in python]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Fits of compiled functions against MINPACK and cminpack.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the tables")
    parser.add_argument("--rounds", type=int, default=300, help="rounds to take the best of (default 300)")
    parser.add_argument("--instructions", action="store_true", help="count instructions too (valgrind)")
    options = parser.parse_args()
    if options.instructions and shutil.which("valgrind") is None:
        parser.error("--instructions needs valgrind")

    gc.disable()
    with tempfile.TemporaryDirectory() as folder:
        path, program = build(Path(folder))
        library = load(path)
        there = [solver for solver in range(len(SOLVERS)) if library.available(solver, folder.encode())]
        versions = {SOLVERS[solver]: library.solver_version(solver).decode() for solver in there
                    if SOLVERS[solver] in ("GSL", "TinySolver")}
        cases = [(problem, method) for problem in range(len(PROBLEMS)) for method in range(len(METHODS))]
        solved = [row for case in cases for row in measure(library, there, *case, options.rounds)]
        if options.instructions:
            for row in solved:
                row.instructions = instructions(program, row)
        python = [measure_python(library, *case, options.rounds) for case in cases]
    where = machine()
    if options.json:
        print(json.dumps({"machine": where, "unit": "microseconds per fit", "versions": versions,
                          "from_c": [asdict(s) for s in solved],
                          "from_python": [asdict(p) for p in python]}, indent=1))
    else:
        for solver in range(len(SOLVERS)):
            if solver not in there:
                print(f"Without {SOLVERS[solver]}: it is not installed.")
        print(report(solved, python, where))
    return 0


if __name__ == "__main__":
    sys.exit(main())
