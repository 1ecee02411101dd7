"""A fit on a cluster, here two processes of this machine: blocks, then a Dask array.

    python examples/on_dask.py [--points 2000000] [--blocks 16] [--compare]

Two peaks on a background. Each worker makes its own part of the data, which never
leaves it: x is sent out, and one triangle of 8 x 8 numbers comes back. With --compare the
fit also runs on one worker, and both times are printed.
"""
from __future__ import annotations

import argparse
import time

import numpy as np

TRUTH = np.array([3.0, 2.0, 0.5, 1.5, 5.0, 0.8, 0.4])
START = TRUTH * np.array([1.1, 0.95, 1.2, 0.9, 1.05, 0.8, 1.0])
NOISE = 0.05


def model(x, t):
    y = np.full_like(t, x[6])
    for height, centre, width in x[:6].reshape(2, 3):
        y += height * np.exp(-0.5 * ((t - centre) / width)**2)
    return y


def load(index, points):
    """A block of data. In practice this function would read a file that the worker can see."""
    random = np.random.default_rng(index)
    t = random.uniform(0, 10, points)
    return t, model(TRUTH, t) + NOISE * random.standard_normal(points)


def residual(x, block):
    t, y = block
    return model(x, t) - y


def fit_blocks(client, points, blocks):
    from distributed import wait

    from leastsq.dask import leastsq_blocks
    data = [client.submit(load, index, points // blocks, pure=False) for index in range(blocks)]
    wait(data)
    started = time.perf_counter()
    x, cov_x, info, message, ier = leastsq_blocks(residual, START, data, full_output=True, client=client)
    return x, cov_x, info, ier, time.perf_counter() - started


def fit_array(client, points, blocks):
    import dask.array as da

    from leastsq.dask import leastsq
    t = da.linspace(0, 10, points, chunks=-(-points // blocks))
    noise = da.random.default_rng(1).normal(0, NOISE, size=points, chunks=t.chunks)

    def of_array(x, t):
        y = x[6]
        for height, centre, width in x[:6].reshape(2, 3):
            y = y + height * da.exp(-0.5 * ((t - centre) / width)**2)
        return y

    t, y = client.persist([t, of_array(TRUTH, t) + noise])
    return leastsq(lambda x: of_array(x, t) - y, START, client=client)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="A fit on two worker processes.")
    parser.add_argument("--points", type=int, default=2_000_000)
    parser.add_argument("--blocks", type=int, default=16)
    parser.add_argument("--compare", action="store_true", help="on one worker as well")
    options = parser.parse_args(arguments)
    from distributed import Client, LocalCluster

    seconds = {}
    for workers in (1, 2) if options.compare else (2,):
        with LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster, \
                Client(cluster) as client:
            x, cov_x, info, ier, seconds[workers] = fit_blocks(client, options.points, options.blocks)
            by_array = fit_array(client, options.points // 10, options.blocks)[0] if workers == 2 else None
    error = np.sqrt(np.diag(cov_x)) * NOISE
    print(f"{options.points} points in {options.blocks} blocks: ier {ier}, {info['nfev']} evaluations, "
          f"{seconds[2]:.1f} s on two workers")
    for name, value, sigma, true in zip(("height", "centre", "width") * 2 + ("level",), x, error, TRUTH, strict=True):
        print(f"  {name:7} {value:9.5f} +- {sigma:.5f}   true {true:.5f}")
    print(f"as a Dask array, a tenth of the points: off by at most {np.abs(by_array - TRUTH).max():.4f}")
    if options.compare:
        print(f"one worker {seconds[1]:.1f} s, two {seconds[2]:.1f} s: {seconds[1] / seconds[2]:.2f} times as fast")


if __name__ == "__main__":
    main()
