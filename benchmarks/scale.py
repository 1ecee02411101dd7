"""The cost of blocks besides their evaluation, a tree of merges over 10 000 of them, and fits on Dask.

    python benchmarks/scale.py [--blocks 10000] [--fan-in 8] [--rounds 5] [--json]
    python benchmarks/scale.py --dask [--rounds 5] [--json]

Prints three tables, or with --dask another one; docs/scale.md explains them.

* *An iteration*: one model and one norm of B blocks whose residuals and Jacobian are precomputed,
  so that only the solver's share is left; by the builtin map and by two processes. Bytes are
  those of the pickles that a driver receives.
* *A merge*: a triangle folded into another, its pickling, and the work of a node of the tree: it
  loads `fan-in` triangles, merges them, and dumps one.
* *A tree*: every merge of the tree is made and timed.  The clock is virtual: a node begins when
  the last of its children has arrived, which takes the latency plus bytes/bandwidth; all nodes of
  a level work at the same time, each for the processor time that it took here.  The next column is
  the model's value: depth x (latency + fan-in x bytes/bandwidth + node).
* *On Dask*: the same fit of a compute-bound residual by one worker process and by two, and the bytes
  that the driver's connections received in an iteration (a model and its norms), Dask's own messages
  included.
"""
from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import pickle
import socket
import statistics
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing, suppress

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np  # noqa: E402

from leastsq._many.block_fit import BlockTask, Mapped, Point, merge_models  # noqa: E402
from leastsq._problem.derivatives import Differences  # noqa: E402

ROWS = 64                       # of a block, or n + 1 if that is larger
SIZES = 3, 10, 30, 100          # n
COUNTS = 10, 100, 1000
LATENCY, BANDWIDTH = 100e-6, 1e9    # of the virtual network: s, bytes/s
READY: dict[int, tuple[np.ndarray, np.ndarray]] = {}


def ready(n):
    """A Jacobian and residuals, the same for all blocks."""
    if n not in READY:
        rng = np.random.default_rng(n)
        rows = max(ROWS, n + 1)
        READY[n] = rng.standard_normal((rows, n)), rng.standard_normal(rows)
    return READY[n]


def residuals(x, block):
    return ready(x.size)[1]


def jacobian(x, block):
    return ready(x.size)[0]


def problem():
    return BlockTask(residuals, Dfun=jacobian)


def point(n):
    return Point(np.ones(n), Differences(), np.ones(n), True)


def best(action, rounds):
    """Seconds of the fastest of several rounds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


# --------------------------------------------------------------- an iteration

def iteration(n, blocks, map_of, rounds):
    """Seconds of one model and one norm of `blocks` blocks."""
    scheduler, at = Mapped(range(blocks), map_of, problem()), point(n)

    def both():
        scheduler.model(at)
        scheduler.norm(at.x)
    both()
    return best(both, rounds)


def received(n):
    """Bytes of one block's model and norm."""
    p, at = problem(), point(n)
    return len(pickle.dumps((0, p.model(at, 0, 0)))) + len(pickle.dumps((0, p.norm(at.x, 0, 0))))


def iterations(rounds):
    rows = []
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        for n in SIZES:
            for blocks in COUNTS:
                rows.append({"n": n, "blocks": blocks,
                             "builtin": iteration(n, blocks, map, rounds),
                             "processes": iteration(n, blocks, pool.map, max(rounds//2, 1)),
                             "bytes": blocks*received(n)})
    return rows


# -------------------------------------------------------------------- a merge

def node(children):
    """A worker's work on the pickles of its children: (pickle of the merged model, processor seconds)."""
    start = time.thread_time()
    merged = pickle.dumps(merge_models([pickle.loads(child) for child in children]))
    return merged, time.thread_time() - start


def copies(n, count):
    """`count` pickles of a block's model, each in memory of its own."""
    model = problem().model(point(n), 0, 0)
    return [pickle.dumps(model) for _ in range(count)]


def merges(fan_in, rounds):
    rows = []
    for n in SIZES:
        sent = copies(n, 100*fan_in)
        parts = [pickle.loads(one) for one in sent[:fan_in]]
        nodes = [node(sent[first:first + fan_in])[1] for first in range(0, len(sent), fan_in)]
        rows.append({"n": n, "bytes": len(sent[0]),
                     "merge": best(lambda parts=parts: merge_models(parts), 20*rounds)/fan_in,
                     "dump": best(lambda parts=parts: pickle.dumps(parts[0]), 20*rounds),
                     "load": best(lambda sent=sent: pickle.loads(sent[0]), 20*rounds),
                     "node": statistics.median(nodes)})
    return rows


# --------------------------------------------------------------------- a tree

def tree(n, blocks, fan_in):
    """Merge the models of `blocks` blocks as a tree of workers would."""
    level = [(0.0, sent) for sent in copies(n, blocks)]     # (time at which it is ready, the pickle)
    depth, moved = 0, 0
    while len(level) > 1:
        above = []
        for first in range(0, len(level), fan_in):
            children = level[first:first + fan_in]
            size = sum(len(child) for _, child in children)
            arrived = max(when for when, _ in children) + LATENCY + size/BANDWIDTH
            merged, seconds = node([child for _, child in children])
            above.append((arrived + seconds, merged))
            moved += size
        level = above
        depth += 1
    (when, last), = level
    total = pickle.loads(last)
    assert total.rows == blocks*len(ready(n)[1])
    jac, f = ready(n)
    wanted = np.linalg.qr(np.column_stack([jac, f]), mode="r")*math.sqrt(blocks)
    off = np.abs(np.abs(total.accumulator.triangle()) - np.abs(wanted)).max()/np.abs(wanted).max()
    return {"n": n, "blocks": blocks, "fan_in": fan_in, "depth": depth,
            "seconds": when, "moved": moved, "driver": len(last), "error": off}


def predicted(n, blocks, fan_in, merge):
    """The model's prediction: (depth, seconds, bytes moved)."""
    depth = math.ceil(math.log(blocks, fan_in) - 1e-9)
    size = merge["bytes"]
    sent, count = 0, blocks
    while count > 1:
        sent += count
        count = math.ceil(count/fan_in)
    return depth, depth*(LATENCY + fan_in*size/BANDWIDTH + merge["node"]), sent*size


def trees(blocks, fan_in, rounds, measured):
    rows = []
    for n, merge in zip(SIZES, measured):
        runs = [tree(n, blocks, fan_in) for _ in range(min(rounds, 3))]
        row = runs[0] | {"seconds": statistics.median(run["seconds"] for run in runs)}
        row["predicted_depth"], row["predicted"], row["predicted_moved"] = predicted(n, blocks, fan_in, merge)
        rows.append(row)
    return rows


# --------------------------------------------------------------------- on Dask

class Counting:
    """A port that forwards to a scheduler's port, and counts the bytes that come from there."""

    def __init__(self, address):
        host, port = address.removeprefix("tcp://").rsplit(":", 1)
        self.there, self.received = (host, int(port)), 0
        self.server = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self.server.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with suppress(OSError):                 # it is closed
            while True:
                near = self.server.accept()[0]
                far = socket.create_connection(self.there)
                for ends in (near, far, False), (far, near, True):
                    threading.Thread(target=self.hand_on, args=ends, daemon=True).start()

    def hand_on(self, source, target, counted):
        with suppress(OSError), source:
            while data := source.recv(1 << 16):
                self.received += len(data)*counted
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def close(self):
        # A thread that waits for a connection would keep the port open.
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()


def waves(x, t):
    """Compute-bound: many operations for each of a block's few residuals, which fit in cache."""
    total = np.zeros_like(t)
    for k in range(1, 1000):
        total += np.exp(-k*np.abs(x[0])*t)*np.cos(k*x[1]*t)/k**2
    return x[2]*total + np.polynomial.polynomial.polyval(t, x[3:]) - np.cos(3*t)


def fits_on_dask(rounds, n=10, blocks=8):
    """Rows of a table for one and two workers: the best of several fits, in turns, and the bytes that the driver received."""
    from distributed import Client, LocalCluster
    data = np.array_split(np.linspace(0, 1, 400*blocks), blocks)
    start = np.r_[1.0, 2.0, 0.5, np.zeros(n - 3)]
    best = {}
    with ExitStack() as stack:
        connections = {}
        for workers in (1, 2):
            cluster = stack.enter_context(LocalCluster(n_workers=workers, threads_per_worker=1, processes=True,
                                                       dashboard_address="127.0.0.1:0"))
            counting = stack.enter_context(closing(Counting(cluster.scheduler_address)))
            connections[workers] = counting, stack.enter_context(Client(counting.address, set_as_default=False))
        for _ in range(rounds + 1):             # the first round is a warm-up
            for workers, connection in connections.items():
                row = {"workers": workers, "n": n, "blocks": blocks, **fit_on_dask(start, data, *connection),
                       "triangle": 4*(n + 1)*(n + 2)}
                best[workers] = min(best.get(workers, row), row, key=lambda row: row["seconds"])
    return list(best.values())


def fit_on_dask(start, data, counting, client):
    """One fit: its time, and the bytes received in an iteration."""
    from leastsq.dask import leastsq_blocks
    models, before, began = [], counting.received, time.perf_counter()
    x, _, info, _, _ = leastsq_blocks(waves, start, data, full_output=True, maxfev=50, client=client,
                                      callback=lambda state: models.append(state.njev))
    return {"seconds": time.perf_counter() - began, "bytes": (counting.received - before)/models[-1],
            "nfev": info["nfev"], "njev": models[-1], "x": x.tolist()}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=10_000, help="leaves of the tree")
    parser.add_argument("--fan-in", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dask", action="store_true", help="fits on one and two Dask workers instead")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.blocks < 2 or options.fan_in < 2 or options.rounds < 1:
        parser.error("--blocks and --fan-in must be at least 2, and --rounds at least 1")
    if options.dask:
        rows = fits_on_dask(options.rounds)
        if options.json:
            print(json.dumps(rows, indent=1))
            return 0
        print(f"{'workers':>8}{'s':>8}{'bytes to the driver per iteration':>34}{'triangles per worker':>22}")
        for row in rows:
            print(f"{row['workers']:8}{row['seconds']:8.2f}{row['bytes']:34.0f}"
                  f"{row['bytes']/row['triangle']/row['workers']:20.2f}")
        print(f"two workers are {rows[0]['seconds']/rows[1]['seconds']:.2f} times as fast")
        return 0
    figures = {"iterations": iterations(options.rounds), "merges": merges(options.fan_in, options.rounds)}
    figures["trees"] = trees(options.blocks, options.fan_in, options.rounds, figures["merges"])
    if options.json:
        print(json.dumps(figures, indent=1))
        return 0
    print("An iteration (a model and a norm), µs per block, and bytes to the driver per block")
    print(f"{'n':>5}{'blocks':>8}{'builtin':>10}{'processes':>11}{'bytes':>9}")
    for row in figures["iterations"]:
        print(f"{row['n']:5}{row['blocks']:8}{1e6*row['builtin']/row['blocks']:10.1f}"
              f"{1e6*row['processes']/row['blocks']:11.1f}{row['bytes']//row['blocks']:9}")
    print("\nA merge, µs")
    print(f"{'n':>5}{'bytes':>8}{'merge':>8}{'dump':>8}{'load':>8}{'node':>8}")
    for row in figures["merges"]:
        print(f"{row['n']:5}{row['bytes']:8}" + "".join(f"{1e6*row[key]:8.1f}" for key in ("merge", "dump", "load", "node")))
    print(f"\nA tree of {options.blocks} blocks, fan-in {options.fan_in}; ms on the virtual clock")
    print(f"{'n':>5}{'depth':>6}{'clock':>9}{'model':>9}{'MB moved':>10}{'model':>9}{'to driver':>11}{'error':>9}")
    for row in figures["trees"]:
        print(f"{row['n']:5}{row['depth']:6}{1e3*row['seconds']:9.2f}{1e3*row['predicted']:9.2f}"
              f"{row['moved']/1e6:10.2f}{row['predicted_moved']/1e6:9.2f}{row['driver']:11}{row['error']:9.0e}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
