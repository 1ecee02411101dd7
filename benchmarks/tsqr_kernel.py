"""The speed of the row accumulator alone, compared with numpy.linalg.qr and the peak of dgemm.

    python benchmarks/tsqr_kernel.py [--isa v3,v4] [--rounds 7] [--shapes 100000x10,2000x1000]

All peers run on one thread, interleaved; each figure is the best of several rounds.
FLOPs are counted as 2 n² (m - n/3) for every peer, whatever it really performs.  `push`
folds the rows; `finish` is the column-pivoted QR of the triangle, which numpy does not do.
"""
from __future__ import annotations

import argparse
import os
import pathlib
import sys
import tempfile
import time

# Before NumPy is imported: one thread for its BLAS.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np  # noqa: E402

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "support"))
import tsqr_build  # noqa: E402

SHAPES = "1000000x3,1000000x10,100000x10,100000x20,100000x50,100000x100,20000x300,2000x1000"
PEAK_SIZE = 1200            # of the square matrices whose product is the peak


def seconds(action) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


class Contestant:
    """One instruction set on one matrix, with a workspace that is made once, as in a fit."""

    def __init__(self, library, a, f) -> None:
        self.library, self.a, self.f = library, a, f
        self.accumulator = tsqr_build.Accumulator(library, a.shape[1])
        self.model = tsqr_build.Model(a.shape[1])

    def push(self) -> None:
        accumulator = self.accumulator
        self.library.empty(accumulator.n, accumulator.work.ctypes.data)
        accumulator.push(self.a, self.f)

    def finish(self) -> None:
        n, model = self.accumulator.n, self.model
        self.library.finish(n, self.accumulator.work.ctypes.data, model.r.ctypes.data, n,
                            model.ipvt.ctypes.data, model.qtf.ctypes.data,
                            model.column_norms.ctypes.data, model.rest.ctypes.data, None, 0)


def compare(m: int, n: int, libraries, rounds: int) -> list[tuple[str, float, float]]:
    """(peer, best seconds, part of these in finish) for one shape."""
    rng = np.random.default_rng(0)
    fortran = np.asfortranarray(rng.standard_normal((m, n)))
    c, f = np.ascontiguousarray(fortran), rng.standard_normal(m)
    peak = rng.standard_normal((PEAK_SIZE, PEAK_SIZE))
    contestants = {f"{library.isa} {order}": Contestant(library, a, f)
                   for library in libraries for order, a in [("F", fortran), ("C", c)]}
    best: dict[str, tuple[float, float]] = {}

    def note(name: str, push: float, finish: float = 0.0) -> None:
        old = best.get(name, (np.inf, np.inf))
        best[name] = (min(old[0], push), min(old[1], finish))

    for turn in range(rounds):
        for name, contestant in contestants.items():
            note(name, seconds(contestant.push), seconds(contestant.finish))
        if turn < max(2, rounds // 3):
            note("numpy qr", seconds(lambda: np.linalg.qr(c, mode="r")))
        note("dgemm", seconds(lambda: peak @ peak))
    return [(name, push + finish, finish) for name, (push, finish) in best.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--isa", default=",".join(tsqr_build.supported()))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--shapes", default=SHAPES)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as where:
        libraries = [tsqr_build.Library(tsqr_build.build(isa, pathlib.Path(where)), isa)
                     for isa in options.isa.split(",")]
        for shape in options.shapes.split(","):
            m, n = map(int, shape.split("x"))
            print(f"\n{m} x {n}")
            for name, total, finish in compare(m, n, libraries, options.rounds):
                work = 2 * PEAK_SIZE**3 if name == "dgemm" else 2 * n**2 * (m - n / 3)
                print(f"  {name:12s} {total * 1e3:9.2f} ms  {work / total / 1e9:6.1f} GFLOP/s"
                      + (f"   finish {finish * 1e3:8.3f} ms" if finish else ""))


if __name__ == "__main__":
    main()
