"""Fits with long residual vectors: the solver's own time, compared with SciPy's.

    python benchmarks/large.py [--quick] [--json] [--chart out/large.png] [--crossover]

The figure is the time of a fit minus the time in the user's functions, per iteration (per
Jacobian), with one thread of BLAS.  It is processor time, so that other programs matter
little, but wall time with two threads.  Dfun returns the same existing array in C order each
time, so that the order of the pivots repeats.  Solvers, numpy.linalg.qr(mode="r") and a
matrix product (the peak) run interleaved in one process; each figure is the best of several
rounds.  FLOPs are counted as 2 n² (m - n/3) for every solver, whatever it really performs.
Peak memory is measured in a separate process for each solver, above the user's arrays.

--crossover: small problems, to find the size from which a QR by blocks is faster.
"""
from __future__ import annotations

import os
import sys

# Before NumPy is imported: its BLAS on one thread, with the kernels of this processor.
FOREIGN = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "LEASTSQ_NUM_THREADS")
if os.environ.get("OPENBLAS_NUM_THREADS") != "1" or any(name in os.environ for name in FOREIGN):
    clean = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    os.execve(sys.executable, [sys.executable, *sys.argv], clean | {"OPENBLAS_NUM_THREADS": "1"})

import argparse  # noqa: E402
import gc  # noqa: E402
import json  # noqa: E402
import platform  # noqa: E402
import subprocess  # noqa: E402
import time  # noqa: E402
from dataclasses import asdict, dataclass  # noqa: E402
from functools import partial  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import scipy  # noqa: E402
from scipy.optimize import leastsq as scipy_leastsq  # noqa: E402

import leastsq as package  # noqa: E402

SOLVERS = {
    "blocked": partial(package.leastsq, qr="blocked", threads=1),
    "blocked, 1 thread": partial(package.leastsq, qr="blocked", threads=1),  # wall time
    "blocked, 2 threads": partial(package.leastsq, qr="blocked", threads=2),
    "minpack": partial(package.leastsq, qr="minpack"),
    "SciPy": scipy_leastsq,
}
SHAPES = [(1_000_000, 3), (1_000_000, 10), (100_000, 50), (100_000, 100), (20_000, 300), (2_000, 1_000)]
WANTED = dict(zip(SHAPES, (5, 6, 7, 10, 10, 4)))    # wanted ratios to SciPy, one thread
ALONE = ("blocked", "minpack", "SciPy", "numpy qr")  # in the grid: one thread
BY_N = [(100_000, n) for n in (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300)]
BY_M = [(m, n) for n in (3, 10, 50) for m in (1_000, 3_000, 10_000, 30_000, 100_000, 300_000,
                                              1_000_000, 3_000_000, 10_000_000) if m * n <= 100_000_000]
PEAK_SIZE = 1500                # of the square matrices whose product is the peak
LEAST_ROUNDS = 3


def megaflops(m: int, n: int) -> float:
    return 2e-6 * n * n * (m - n / 3)


# ------------------------------------------------------------- one problem

class Problem:
    """Linear least squares of a given size, with the time spent in its functions."""

    def __init__(self, m: int, n: int, by_columns: bool = False):
        self.clock = time.thread_time
        rng = np.random.default_rng([m, n])
        self.jac = np.empty((m, n))
        for rows in np.array_split(self.jac, max(1, m * n // 10_000_000)):
            rng.standard_normal(out=rows)
        if by_columns:
            self.jac = np.asfortranarray(self.jac)
        self.target = self.jac @ np.ones(n) + rng.standard_normal(m)
        self.start = np.zeros(n)
        self.inside = 0.0
        self.answers = {}

    def residual(self, x):
        began = self.clock()
        f = self.jac @ x
        f -= self.target
        self.inside += self.clock() - began
        return f

    def jacobian(self, x):
        return self.jac

    def fit(self, name: str):
        """Seconds per iteration of the solver itself."""
        self.clock = time.perf_counter if "thread" in name else time.thread_time
        self.inside = 0.0
        began = self.clock()
        x, _, info, _, ier = SOLVERS[name](self.residual, self.start, Dfun=self.jacobian,
                                           full_output=True)
        own = self.clock() - began - self.inside
        if ier not in (1, 2, 3, 4):
            raise SystemExit(f"{self.jac.shape}: {name} ended with ier = {ier}")
        self.answers[name] = x
        return own / info["njev"]


def seconds(action) -> float:
    began = time.thread_time()
    action()
    return time.thread_time() - began


# ------------------------------------------------------- time per iteration

@dataclass
class Row:
    """Milliseconds for one shape, by contestant."""

    m: int
    n: int
    ms: dict[str, float]
    memory: dict[str, float] | None = None  # above the user's arrays, in Jacobians

    def times(self, one: str, other: str) -> float:
        return self.ms[one] / self.ms[other]

    def gflops(self, name: str) -> float:
        return megaflops(self.m, self.n) / self.ms[name]


def measure(m: int, n: int, seconds_each: float, by_columns: bool, contestants) -> Row:
    problem = Problem(m, n, by_columns)
    actions = {name: (lambda name=name: problem.fit(name))
               for name in SOLVERS if name in contestants}
    square = np.random.default_rng(0).standard_normal((PEAK_SIZE, PEAK_SIZE))
    if "numpy qr" in contestants:
        actions["numpy qr"] = lambda: seconds(lambda: np.linalg.qr(problem.jac, mode="r"))
    actions["peak"] = lambda: seconds(lambda: square @ square)
    best = dict.fromkeys(actions, np.inf)
    spent = dict.fromkeys(actions, 0.0)
    for turn in range(1000):
        waiting = [name for name in actions
                   if spent[name] < seconds_each * (4 if turn < LEAST_ROUNDS else 1)]
        if waiting in ([], ["peak"]):
            break
        for name in waiting:
            began = time.perf_counter()
            best[name] = min(best[name], actions[name]())
            spent[name] += time.perf_counter() - began
    answers = list(problem.answers.values())
    if not all(np.allclose(answers[0], answer, rtol=1e-6, atol=1e-8) for answer in answers):
        raise SystemExit(f"{m} x {n}: the solvers disagree")
    row = Row(m, n, {name: 1e3 * best[name] for name in actions})
    row.ms["peak"] *= megaflops(m, n) / (2e-6 * PEAK_SIZE**3)   # the time of the QR's FLOPs at this speed
    return row


# -------------------------------------------------------------- peak memory

def high_water() -> int:
    """The peak of this process's resident memory, in bytes."""
    with open("/proc/self/status", encoding="ascii") as lines:
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def own_peak(name: str, m: int, n: int, differences: bool) -> float:
    """The growth of this process's peak by a fit, in Jacobians."""
    problem = Problem(m, n)
    problem.residual(problem.start)
    before = high_water()
    SOLVERS[name](problem.residual, problem.start, Dfun=None if differences else problem.jacobian)
    return (high_water() - before) / (8 * m * n)


def peak_of(name: str, m: int, n: int, differences: bool) -> float:
    command = [sys.executable, __file__, "--peak", name, str(m), str(n), str(int(differences))]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


# ---------------------------------------------------------------- crossover

def crossover(quick: bool) -> list[dict]:
    """Microseconds of the solver in a whole small fit, by path, with and without Dfun."""
    cases = []
    rounds = 15 if quick else 60
    for n in (1, 2, 3, 5, 8, 12, 20, 30, 50):
        for m in (50, 100, 200, 300, 500, 700, 1000, 1500, 2000, 3000, 5000, 10_000, 20_000):
            if m < 2 * n:
                continue
            problem = Problem(m, n)
            for differences in (False, True):
                best = {"minpack": np.inf, "blocked": np.inf}
                repetitions = max(1, 200_000 // (m * n))
                for _ in range(rounds):
                    for name in best:
                        own = min(small_fit(problem, SOLVERS[name], differences)
                                  for _ in range(repetitions))
                        best[name] = min(best[name], own)
                cases.append({"m": m, "n": n, "differences": differences,
                              **{name: 1e6 * value for name, value in best.items()}})
    return cases


def small_fit(problem: Problem, solver, differences: bool) -> float:
    """Seconds of the solver in one whole fit."""
    problem.inside = 0.0
    began = time.thread_time()
    solver(problem.residual, problem.start, Dfun=None if differences else problem.jacobian, xtol=1e-6)
    return time.thread_time() - began - problem.inside


def crossover_table(cases: list[dict]) -> list[str]:
    lines = ["Solver's time of a fit by blocks / by qr='minpack':", ""]
    widths = sorted({case["m"] for case in cases})
    for differences in (False, True):
        lines += ["forward differences" if differences else "with Dfun",
                  "| n \\ m | " + " | ".join(map(str, widths)) + " |",
                  "| ---: |" + " ---: |" * len(widths)]
        for n in sorted({case["n"] for case in cases}):
            found = {case["m"]: case["blocked"] / case["minpack"] for case in cases
                     if case["n"] == n and case["differences"] == differences}
            lines.append(f"| {n} | " + " | ".join(f"{found[m]:.2f}" if m in found else ""
                                                  for m in widths) + " |")
        lines.append("")
    return lines


# ---------------------------------------------------------------- the report

def machine() -> dict[str, str]:
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines()
                 if line.startswith("model name")]
        processor = f"{names[0]}, {len(names)} cores" if names else processor
    return {"processor": processor, "python": platform.python_version(), "numpy": np.__version__,
            "scipy": scipy.__version__, "leastsq": package.__version__,
            "kernels": package.show_config("dicts")["kernels"]}


def size(number: int) -> str:
    return f"{number:,}".replace(",", " ")


def shapes_table(rows: list[Row]) -> list[str]:
    lines = ["| m x n | blocked | 2 threads | minpack | SciPy | numpy qr | SciPy / blocked | wanted "
             "| numpy qr / blocked | 1 / 2 threads | GFLOP/s | of the peak |",
             "| ---: |" + " ---: |" * 11]
    for row in rows:
        ms = [f"{row.ms[name]:.1f}" for name in
              ("blocked", "blocked, 2 threads", "minpack", "SciPy", "numpy qr")]
        wanted = WANTED.get((row.m, row.n), "")
        lines.append(f"| {size(row.m)} x {size(row.n)} | " + " | ".join(ms)
                     + f" | **{row.times('SciPy', 'blocked'):.1f}** | {wanted}"
                     f" | {row.times('numpy qr', 'blocked'):.1f}"
                     f" | {row.times('blocked, 1 thread', 'blocked, 2 threads'):.2f}"
                     f" | {row.gflops('blocked'):.1f} | {100 * row.times('peak', 'blocked'):.0f} % |")
    return lines


def memory_table(rows: list[Row]) -> list[str]:
    columns = list(rows[0].memory)
    lines = ["| m x n | " + " | ".join(columns) + " |", "| ---: |" + " ---: |" * len(columns)]
    for row in rows:
        lines.append(f"| {size(row.m)} x {size(row.n)} | "
                     + " | ".join(f"{100 * row.memory[name]:.0f} %" if name in row.memory else ""
                                  for name in columns) + " |")
    return lines


def rows_table(rows: list[Row]) -> list[str]:
    """Milliseconds, and GFLOP/s in brackets."""
    columns = list(rows[0].ms)
    lines = ["| m | n | " + " | ".join(columns) + " |", "| ---: | ---: |" + " ---: |" * len(columns)]
    for row in rows:
        lines.append(f"| {size(row.m)} | {row.n} | " + " | ".join(
            f"{row.ms[name]:.3g} ({row.gflops(name):.1f})" for name in columns) + " |")
    return lines


COLOURS = {"blocked": "#0b6e4f", "minpack": "#8c6bb1",
           "SciPy": "#d95f02", "numpy qr": "#1f78b4"}
NAMES = {"blocked": "leastsq", "minpack": "leastsq, qr=\"minpack\"", "numpy qr": "numpy.linalg.qr, no pivoting"}


def chart(by_n: list[Row], by_m: list[Row], where: dict[str, str], path: Path) -> None:
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5.2), layout="constrained")
    n = [row.n for row in by_n]
    for name, colour in COLOURS.items():
        left.plot(n, [row.gflops(name) for row in by_n], "o-", color=colour, ms=4,
                  lw=2.2 if name == "blocked" else 1.4, label=NAMES.get(name, name))
    peak = max(row.gflops("peak") for row in by_n)
    left.axhline(peak, color="0.35", ls="--", lw=1)
    left.annotate(f"matrix product, one thread: {peak:.0f}", (n[0], peak), xytext=(0, 4),
                  textcoords="offset points", color="0.35", fontsize=9)
    left.set(xscale="log", xlabel=f"parameters n, with m = {size(by_n[0].m)} residuals",
             ylabel="GFLOP/s of an iteration", ylim=(0, None),
             title="Speed: 2 n² (m − n/3) over the solver's time")
    left.set_xticks([1, 3, 10, 30, 100, 300], ["1", "3", "10", "30", "100", "300"])
    left.minorticks_off()
    left.legend(frameon=False, loc="center left", fontsize=9)

    styles = dict(zip(sorted({row.n for row in by_m}), (":", "--", "-")))
    for columns, style in styles.items():
        rows = [row for row in by_m if row.n == columns]
        for name in ("blocked", "SciPy"):
            right.plot([row.m for row in rows], [row.ms[name] for row in rows], ls=style, marker="o",
                       ms=4, color=COLOURS[name], lw=1.8)
        for name in ("blocked", "SciPy"):
            right.annotate(f"n = {columns}", (rows[-1].m, rows[-1].ms[name]), fontsize=9, va="center",
                           color=COLOURS[name], xytext=(6, 3 if name == "SciPy" else -7),
                           textcoords="offset points",
                           bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6})
    for name in ("SciPy", "blocked"):
        right.plot([], [], color=COLOURS[name], lw=1.8, label=NAMES.get(name, name))
    right.set(xscale="log", yscale="log", xlabel="residuals m", ylabel="ms per iteration",
              title="Cost of an iteration, one thread")
    right.set_xlim(right=right.get_xlim()[1] * 2.5)
    right.legend(frameon=False, loc="upper left")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.92")
        axes.set_axisbelow(True)
    figure.suptitle(f"leastsq {where['leastsq']} and SciPy {where['scipy']} on {where['processor']}, one thread: "
                    "the solver without the user's functions", fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--quick", action="store_true", help="a minute: the six shapes, no grid")
    parser.add_argument("--crossover", action="store_true", help="only find the size from which blocks are faster")
    parser.add_argument("--chart", type=Path, metavar="PNG", help="draw the grid (needs matplotlib)")
    parser.add_argument("--f-order", action="store_true", help="Dfun's array in Fortran order")
    parser.add_argument("--shapes", metavar="MxN,...", help="other shapes than the six, no grid")
    parser.add_argument("--seconds", type=float, help="for each figure (default 6; --quick: 0.5)")
    parser.add_argument("--peak", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        name, *numbers = options.peak
        print(own_peak(name, *map(int, numbers)))
        return 0

    gc.disable()
    where = machine()
    if options.crossover:
        cases = crossover(options.quick)
        print(json.dumps({"machine": where, "unit": "microseconds per fit", "cases": cases}, indent=1)
              if options.json else "\n".join(crossover_table(cases)))
        return 0

    budget = options.seconds or (0.5 if options.quick else 6.0)
    shapes = SHAPES
    if options.shapes:
        shapes = [tuple(map(int, shape.split("x"))) for shape in options.shapes.split(",")]
    everyone = (*SOLVERS, "numpy qr")
    run = partial(measure, by_columns=options.f_order, contestants=everyone)
    rows = [run(m, n, budget) for m, n in shapes]
    for row in rows:
        row.memory = {f"{name}, {how}": peak_of(name, row.m, row.n, differences)
                      for how, differences in (("Dfun", False), ("differences", True))
                      for name in ("blocked", "SciPy")
                      if not (differences and (options.quick or row.n > 100))}
    alone = partial(measure, by_columns=options.f_order)
    grid = {"by n": [], "by m": []}
    if options.chart or not (options.quick or options.shapes):
        grid = {"by n": [alone(m, n, budget / 4, contestants=ALONE) for m, n in BY_N],
                "by m": [alone(m, n, budget / 8, contestants=("blocked", "SciPy")) for m, n in BY_M]}
    if options.chart:
        chart(grid["by n"], grid["by m"], where, options.chart)
    if options.json:
        print(json.dumps({"machine": where, "unit": "milliseconds per iteration",
                          "shapes": [asdict(row) for row in rows],
                          "grid": {name: [asdict(row) for row in some] for name, some in grid.items()}},
                         indent=1))
        return 0
    print("\n".join(f"{name}: {value}" for name, value in where.items()))
    print("\nMilliseconds per iteration\n", *shapes_table(rows), sep="\n")
    print("\nPeak memory above the user's arrays, in units of the Jacobian\n", *memory_table(rows), sep="\n")
    for some in grid.values():
        if some:
            print("\nMilliseconds per iteration (GFLOP/s)\n", *rows_table(some), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
