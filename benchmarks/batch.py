"""Fits per second: many small problems at once, compared with loops over single fits.

    python benchmarks/batch.py [--json] [--rounds N] [--sizes 100,10000,...] [--memory]

Two kinds of problem.  `decay`: a exp(-k t) + b + c t with n = 4, m = 32, residuals in
NumPy, without and with derivatives.  `spot`: a Gaussian on 5 x 5 pixels with n = 5, m =
25, residuals and derivatives compiled, also for eight problems at once (`lanes`).
All solvers get the same data, starts and default
tolerances, and run interleaved; each figure is the best of several rounds.  Loops are
timed on at most 2000 fits, because their rate does not depend on the number of fits.

The last column is the rate of leastsq_batch divided by that of the peer.  Without "cov_x" no
covariances are computed in the compiled case, as in libcminpack.  With --memory the output
is instead the memory that the fits take in addition to their data, starts and results.

A rate is per second of the process's processor time, that is per core; for two
threads, per second of wall time.  Loops over SciPy, numba and libcminpack are left out
where these are not installed.
"""
from __future__ import annotations

import argparse
import ctypes
import gc
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from leastsq import CFunction, leastsq, leastsq_batch

try:
    from scipy.optimize import leastsq as scipy_leastsq
except ImportError:
    scipy_leastsq = None
try:
    import numba
except ImportError:
    numba = None

LOOP = 2000
OTHER_MINIMA = ("leastsq_batch, bounds", "leastsq_batch, huber")
SIZES = (100, 1000, 10_000, 100_000, 1_000_000)


# ------------------------------------------------------------------ the decay

M = 32
T = np.linspace(0, 4, M)


def decay_residual(x, y):
    return x[:, :1] * np.exp(-x[:, 1:2] * T) + x[:, 2:3] + x[:, 3:] * T - y


def decay_jacobian(x, y):
    """(k, n, m), for col_deriv."""
    e = np.exp(-x[:, 1:2] * T)
    jacobian = np.empty((len(x), 4, M))
    jacobian[:, 0] = e
    jacobian[:, 1] = -x[:, :1] * T * e
    jacobian[:, 2] = 1
    jacobian[:, 3] = T
    return jacobian


def one_residual(p, y):
    return p[0] * np.exp(-p[1] * T) + p[2] + p[3] * T - y


def one_jacobian(p, y):
    e = np.exp(-p[1] * T)
    jacobian = np.empty((4, M))
    jacobian[0] = e
    jacobian[1] = -p[0] * T * e
    jacobian[2] = 1
    jacobian[3] = T
    return jacobian


def decays(count):
    rng = np.random.default_rng(1)
    truth = rng.uniform([1, 0.8, 0, -0.1], [3, 2, 1, 0.1], (count, 4))
    y = decay_residual(truth, 0) + 0.02 * rng.standard_normal((count, M))
    return np.tile([1.5, 1.0, 0.3, 0.0], (count, 1)), y


def decay_solvers(derivatives):
    batch = dict(Dfun=decay_jacobian, col_deriv=True) if derivatives else {}
    single = dict(Dfun=one_jacobian, col_deriv=True) if derivatives else {}

    def loop(solver, residual, keywords):
        def run(x0, y):
            return np.array([solver(residual, start, (row,), **keywords)[0]
                             for start, row in zip(x0, y, strict=True)])
        return run

    solvers = {"leastsq_batch": lambda x0, y: leastsq_batch(decay_residual, x0, y, **batch).x,
               "loop over leastsq": loop(leastsq, one_residual, single)}
    if scipy_leastsq is not None:
        solvers["loop over SciPy"] = loop(scipy_leastsq, one_residual, single)
        if numba is not None:
            compiled = numba.njit(one_residual)
            keywords = dict(Dfun=numba.njit(one_jacobian), col_deriv=True) if derivatives else {}
            solvers["loop over SciPy, numba"] = loop(scipy_leastsq, compiled, keywords)
    return solvers


def own_time(count=20_000, rounds=15):
    """Microseconds a fit of leastsq_batch besides the decay's functions: with differences, and with derivatives."""
    x0, y = decays(count)
    spent = 0.0

    def timed(function):
        def call(*args):
            nonlocal spent
            began = time.process_time()
            result = function(*args)
            spent += time.process_time() - began
            return result
        return call

    best = []
    for keywords in ({}, dict(Dfun=timed(decay_jacobian), col_deriv=True)):
        own = np.inf
        for _ in range(rounds):
            spent, began = 0.0, time.process_time()
            leastsq_batch(timed(decay_residual), x0, y, **keywords)
            own = min(own, time.process_time() - began - spent)
        best.append(own / count * 1e6)
    return best


# ------------------------------------------------------------------- the spot

def spots(count):
    rng = np.random.default_rng(2)
    a, u, v, s, b = rng.uniform([500, 1.5, 1.5, 0.9, 5], [1500, 2.5, 2.5, 1.3, 20], (count, 5)).T[..., None]
    pixel = np.arange(5.0)
    row, column = np.exp(-0.5 * ((pixel - v) / s)**2), np.exp(-0.5 * ((pixel - u) / s)**2)
    image = (a * row)[:, :, None] * column[:, None, :] + b[..., None]
    y = rng.poisson(image).reshape(count, 25).astype(float)
    low = y.min(1)
    return np.column_stack([y.max(1) - low, np.full((count, 2), 2.0), np.ones(count), low]), y


def compile_spot():
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spot.so"
        subprocess.run([compiler, "-O2", "-fPIC", "-shared", "-o", path,
                        Path(__file__).with_name("programs") / "batch.c", "-lm", "-ldl"], check=True)
        return ctypes.CDLL(str(path))


VECTOR_EXP = ["-O3", "-march=native", "-fopenmp-simd", "-D__FAST_MATH__"]     # math.h declares vector functions for the last flag


def compile_lanes():
    """batch_lanes.c as a library; None without GCC and glibc's vector functions."""
    compiler = shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lanes.so"
        done = subprocess.run([compiler, *VECTOR_EXP, "-fPIC", "-shared", "-o", path,
                               Path(__file__).with_name("programs") / "batch_lanes.c", "-lmvec", "-lm"], capture_output=True)
        return None if done.returncode else ctypes.CDLL(str(path))


def function_alone(lanes, solution, y):
    """Microseconds per fit spent in the functions in lanes: 8 residuals and 7 Jacobians for each problem."""
    x = np.zeros(5 * 8 + 8)
    out = np.empty(25 * 5 * 8 + 8)
    x, out = (array[-array.ctypes.data % 64 // 8:] for array in (x, out))
    x[:40].reshape(5, 8)[:] = solution[:8].T
    rows = (ctypes.c_void_p * 8)(*(y[k].ctypes.data for k in range(8)))
    arguments = [ctypes.c_void_p(array.ctypes.data) for array in (x, out)]
    best, turns = np.inf, 5000
    for _ in range(7):
        began = time.process_time()
        lanes.repeat_in_lanes(ctypes.c_int64(8 * turns), ctypes.c_int64(7 * turns), *arguments, rows)
        best = min(best, time.process_time() - began)
    return best / turns / 8 * 1e6


def spot_solvers(library):
    residual, jacobian = CFunction(library.gaussian, 25), CFunction(library.gaussian_jacobian, 25)

    def batch(**keywords):
        keywords = {"return_cov": False} | keywords
        return lambda x0, y: leastsq_batch(residual, x0, y, Dfun=jacobian, **keywords).x

    def loop(x0, y):
        return np.array([leastsq(CFunction(library.gaussian, 25, row), start, Dfun=jacobian)[0]
                         for start, row in zip(x0, y, strict=True)])

    def cminpack(x0, y):
        x, info = x0.copy(), np.zeros(len(x0), np.int32)
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (x, y, info)]
        if library.loop_over_cminpack(ctypes.c_int64(len(x)), *pointers) < 0:
            raise OSError("libcminpack is not installed")
        return x

    solvers = {"leastsq_batch": batch(), "leastsq_batch, cov_x": batch(return_cov=True),
               "leastsq_batch, bounds": batch(bounds=(0, np.inf)),
               "leastsq_batch, huber": batch(loss="huber", f_scale=30.0),
               "leastsq_batch, 2 threads": batch(threads=2),
               "loop over leastsq": loop, "libcminpack from C": cminpack}
    if (lanes := compile_lanes()) is not None:
        eight = [CFunction(function, 25, lanes=8) for function in (lanes.gaussian_in_lanes, lanes.gaussian_jacobian_in_lanes)]

        def in_lanes(**keywords):
            return lambda x0, y: leastsq_batch(eight[0], x0, y, Dfun=eight[1], **keywords).x
        solvers |= {"leastsq_batch, lanes": in_lanes(return_cov=False), "leastsq_batch, lanes, cov_x": in_lanes(),
                    "leastsq_batch, lanes, cov_x, 2 threads": in_lanes(threads=2)}
    try:
        cminpack(*spots(1))
    except OSError:
        del solvers["libcminpack from C"]
    return solvers


# ------------------------------------------------------------ the measurement

def measure(solvers, x0, y, rounds):
    """Fits per second of each solver, the best of `rounds`."""
    best = dict.fromkeys(solvers, 0.0)
    reference = None
    for _ in range(rounds):
        for name, solve in solvers.items():
            rows = slice(LOOP if name.startswith("loop") else None)
            clock = time.perf_counter if "threads" in name else time.process_time
            began = clock()
            x = solve(x0[rows], y[rows])
            seconds = clock() - began
            best[name] = max(best[name], len(x) / seconds)
            reference = x if reference is None else reference
            worst = np.abs(x - reference[:len(x)]).max()
            if name not in OTHER_MINIMA and not worst < 1e-3 * np.abs(reference).max():
                raise SystemExit(f"{name} disagrees by {worst}")
    return {name: round(rate) for name, rate in best.items()}


def memory(field):
    """Bytes in use (VmRSS), or their peak since it was last reset (VmHWM); Linux."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines()
               if line.startswith(field)]
    return 1024 * int(line.split()[1])


def measure_memory(fit, x0, y):
    """The peak of bytes that a batch takes in addition to its input and output."""
    fit(x0[:1000], y[:1000])                        # loads what the first use loads
    gc.collect()
    getattr(ctypes.CDLL(None), "malloc_trim", int)(0)   # else the output would reuse freed memory
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")   # reset the peak
    result = fit(x0, y)
    output = sum(value.nbytes for value in (result.x, result.ier, result.nfev, result.njev,
                                            result.fnorm, result.cov_x))
    return memory("VmHWM") - before - output


def report_memory(sizes, library, as_json):
    cases = {"decay, n=4 m=32, NumPy, differences": (decays, lambda x0, y: leastsq_batch(
        decay_residual, x0, y))}
    if library is not None:
        residual, jacobian = CFunction(library.gaussian, 25), CFunction(library.gaussian_jacobian, 25)
        cases["spot, n=5 m=25, compiled, derivatives"] = (spots, lambda x0, y: leastsq_batch(
            residual, x0, y, Dfun=jacobian, threads=2))
    report = {title: {size: measure_memory(fit, *problems(size)) for size in sizes}
              for title, (problems, fit) in cases.items()}
    if as_json:
        print(json.dumps({"unit": "bytes besides input and output", "cases": report}, indent=1))
        return
    for title, taken in report.items():
        for size, value in taken.items():
            print(f"{title}, B = {size}: {value / 2**20:.1f} MiB besides input and output")


def main():
    parser = argparse.ArgumentParser(description="Fits per second of many small problems.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--rounds", type=int, default=5, help="take the best of this many rounds (default 5)")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="numbers of problems")
    parser.add_argument("--memory", action="store_true", help="memory instead of speed (Linux)")
    options = parser.parse_args()

    sizes = [int(float(text)) for text in options.sizes.split(",")]
    cases = [("decay, n=4 m=32, NumPy, differences", decays, decay_solvers(False)),
             ("decay, n=4 m=32, NumPy, derivatives", decays, decay_solvers(True))]
    library = compile_spot()
    gc.disable()
    if library is None:
        print("no C compiler: the compiled problem is left out", file=sys.stderr)
    else:
        cases.append(("spot, n=5 m=25, compiled, derivatives", spots, spot_solvers(library)))
    if library is not None and not options.memory and not options.json and (lanes := compile_lanes()) is not None:
        x0, y = spots(8)
        solution = leastsq_batch(CFunction(library.gaussian, 25), x0, y).x
        print(f"the spot's functions in lanes alone: {function_alone(lanes, solution, y):.2f} us for 8 residuals and 7 Jacobians")
    if not options.memory and not options.json:
        differences, derivatives = own_time()
        print(f"leastsq_batch's own time a fit of the decay: {differences:.2f} us with differences, {derivatives:.2f} us with "
              "derivatives")
    if options.memory:
        report_memory(sizes, library, options.json)
        return 0
    report = {}
    for title, problems, solvers in cases:
        report[title] = {}
        for size in sizes:
            rates = measure(solvers, *problems(size), options.rounds if size < 1e6 else 1)
            report[title][size] = rates
            if not options.json:
                print(f"{title}, B = {size}")
                for name, rate in rates.items():
                    print(f"    {name:<38} {rate:>9} fits/s   {rates['leastsq_batch'] / rate:6.2f}")
    if options.json:
        print(json.dumps({"unit": "fits per second", "cases": report}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
