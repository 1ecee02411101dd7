"""Thirty spectra with a shared width: differences of their other parameters made together, compared with SciPy's jac_sparsity.

    python benchmarks/groups.py
"""
import time

import numpy as np
from scipy.optimize import least_squares

import leastsq as lsq
from leastsq import leastsq

SETS, POINTS = 30, 60
T = np.linspace(-5, 5, POINTS)
RNG = np.random.default_rng(0)
OWN = np.stack([RNG.uniform(1, 3, SETS), RNG.uniform(-2, 2, SETS), RNG.uniform(0, 1, SETS)], axis=1)
Y = OWN[:, :1]*np.exp(-0.5*((T - OWN[:, 1:2])/1.2)**2) + OWN[:, 2:] + 0.02*RNG.standard_normal((SETS, POINTS))
START = np.concatenate([[1.2], OWN.ravel()])*1.2 + 0.1
CALLS = [0]


def peak(t, h, c, b, w):
    return h*np.exp(-0.5*((t - c)/w)**2) + b


def residual(x):
    CALLS[0] += 1
    own = x[1:].reshape(SETS, 3)
    return (own[:, :1]*np.exp(-0.5*((T - own[:, 1:2])/x[0])**2) + own[:, 2:] - Y).ravel()


def timed(what, run):
    best, CALLS[0] = np.inf, 0
    for _ in range(5):
        CALLS[0] = 0
        began = time.perf_counter()
        x = run()
        best = min(best, time.perf_counter() - began)
    print(f"{what:44} {CALLS[0]:6} calls {1e3*best:9.1f} ms   chi2 {np.sum(residual(x)**2):.12g}", flush=True)
    return x


def main():
    n, groups = START.size, [None] + [i for i in range(SETS) for _ in range(3)]
    sparsity = np.zeros((SETS*POINTS, n), int)
    sparsity[:, 0] = 1
    for i in range(SETS):
        sparsity[i*POINTS:(i + 1)*POINTS, 1 + 3*i:4 + 3*i] = 1
    dense = timed("leastsq", lambda: leastsq(residual, START)[0])
    grouped = timed("leastsq, groups=", lambda: leastsq(residual, START, groups=groups)[0])
    print("  the same bits:", np.array_equal(dense, grouped))
    timed("SciPy's trf, jac_sparsity=", lambda: least_squares(residual, START, jac_sparsity=sparsity, method="trf").x)
    timed("SciPy's trf, jac_sparsity=, x_scale='jac'",
          lambda: least_squares(residual, START, jac_sparsity=sparsity, method="trf", x_scale="jac").x)
    start = dict(zip(["w", *(f"{name}[{i}]" for i in range(SETS) for name in "hcb")], START))
    result = lsq.fit([peak]*SETS, T, list(Y), start, own=["h", "c", "b"])
    print(f"fit, own=: {result.nfev} evaluations, chi2 {result.chi2:.12g}")


if __name__ == "__main__":
    main()
