"""A fit to more points than fit in memory: three peaks on a background, 10 parameters.

    python examples/out_of_core.py [--points 2000000] [--block 16384] [--file points.f64]

Makes a file of (t, y) pairs with 16 bytes for each point, maps it into memory, and fits it by
forward differences, one block of points at a time.  The fit needs only a few arrays of a
block's length, whatever the number of points; pages of the file in memory belong to the
system, which can reclaim them.  Prints the time of the fit relative to its evaluations of
the residuals, and the peak of the memory that it took for itself.
"""
from __future__ import annotations

import argparse
import math
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from leastsq import leastsq_blocks

TRUTH = np.array([3.0, 2.0, 0.5, 1.5, 5.0, 0.8, 2.0, 7.5, 0.3, 0.4])
NOISE = 0.05
START = TRUTH*(1 + 0.05*np.array([1, -1, 1, -1, 1, -1, 1, 1, -1, 1]))
CHUNK = 1 << 20             # points made at a time
MIB = 1 << 20


def model(x, t):
    y = np.full_like(t, x[9])
    for height, centre, width in x[:9].reshape(3, 3):
        y += height*np.exp(-0.5*((t - centre)/width)**2)
    return y


def residuals(x, block):
    return model(x, block[:, 0]) - block[:, 1]


class Blocks:
    """Slices of an array, one after another; can be iterated repeatedly."""

    def __init__(self, array, length):
        self.array, self.length = array, length

    def __iter__(self):
        for start in range(0, len(self.array), self.length):
            yield self.array[start:start + self.length]


class Timed:
    """A function that measures its own time."""

    def __init__(self, function):
        self.function, self.seconds = function, 0.0

    def __call__(self, *args):
        start = time.perf_counter()
        result = self.function(*args)
        self.seconds += time.perf_counter() - start
        return result


class PeakMemory:
    """The peak of this process's private memory within this context (Linux)."""

    def __init__(self):
        self.before = self.peak = self.now()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    @staticmethod
    def now():
        """Bytes of memory that are not pages of a file."""
        try:
            status = Path("/proc/self/status").read_text()
        except OSError:
            return math.nan
        return 1024*int(status.split("RssAnon:")[1].split()[0])

    def watch(self):
        while not self.ended.wait(0.005):
            self.peak = max(self.peak, self.now())

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exception):
        self.ended.set()
        self.thread.join()


def make(path, points):
    """Write the file, a chunk of points at a time."""
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        for start in range(0, points, CHUNK):
            rows = np.empty((min(CHUNK, points - start), 2))
            rows[:, 0] = (np.arange(start, start + len(rows)) + 0.5)*(10/points)
            rows[:, 1] = model(TRUTH, rows[:, 0]) + NOISE*rng.standard_normal(len(rows))
            rows.tofile(file)


def fit(path, length):
    data = np.memmap(path, mode="r").view(float).reshape(-1, 2)
    func = Timed(residuals)
    with PeakMemory() as memory:
        start = time.perf_counter()
        x, cov_x, info, message, ier = leastsq_blocks(func, START, Blocks(data, length), full_output=True)
        seconds = time.perf_counter() - start
    errors = np.sqrt(np.diag(cov_x)*info["fnorm"]**2/(len(data) - x.size))
    print(f"{len(data)} points in blocks of {length}: {message}")
    print(f"{'fitted':>12}{'error':>12}{'off, in errors':>16}")
    for value, error, true in zip(x, errors, TRUTH):
        print(f"{value:12.7f}{error:12.2e}{(value - true)/error:16.2f}")
    print(f"evaluations {info['nfev']}, time {seconds:.2f} s, that is {seconds/func.seconds:.2f} of the time in "
          "the residuals")
    print(f"memory {(memory.peak - memory.before)/MIB:.1f} MiB above the start's {memory.before/MIB:.0f} MiB, "
          f"besides the file's {16*len(data)/MIB:.0f} MiB in the page cache")
    good = ier in (1, 2, 3, 4) and bool(np.all(np.abs(x - TRUTH) < 5*errors))
    if not good:
        print("FAILED: the fit is not within five standard errors of the truth")
    return good


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=2_000_000)
    parser.add_argument("--block", type=int, default=1 << 14, help="points in a block")
    parser.add_argument("--file", type=Path, help="keep the points there (default: a temporary file)")
    options = parser.parse_args(arguments)
    if options.points < 1000 or options.block < 1:
        parser.error("--points must be at least 1000 and --block at least 1")
    if options.file is not None:
        make(options.file, options.points)
        return 0 if fit(options.file, options.block) else 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)/"points.f64"
        make(path, options.points)
        return 0 if fit(path, options.block) else 1


if __name__ == "__main__":
    sys.exit(main())
