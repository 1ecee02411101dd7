"""Fits without a start: NIST's 27 from several seeds, and the bounded families.

    python benchmarks/without_start.py [--seeds 0 1 2] [--families judging|tuning|none] [--quick]

Evaluations are all calls of the model: to find linear parameters, at the points of the search, in the refinement, and in the
fit.  *Solved*: at most a thousandth above NIST's sum of squares, or at most 1 % above the lowest known cost of a problem of
tests/parity/families.py, whose starts are not used.  --quick takes every tenth problem.
"""
import argparse
import inspect
import json
import sys
import warnings
from pathlib import Path

import numpy as np

import leastsq as lsq
from leastsq._model import search

TESTS = Path(__file__).resolve().parent.parent / "tests"
sys.path[:0] = [str(TESTS / "support"), str(TESTS / "parity")]
import families  # noqa: E402
import nist27  # noqa: E402


def nist(seeds):
    for seed in seeds:
        search.SEED = seed
        missed, calls = [], []
        for name in nist27.NAMES:
            d = nist27.load(name)
            before = d.count[0]
            result = lsq.fit(d.model, d.x, d.y)
            calls.append(d.count[0] - before)
            if not d.is_solved(result.chi2, d.starts[0]):
                missed.append(f"{name} ({result.chi2/d.rss:.3g} times the least)")
        print(f"NIST, seed {seed}: {27 - len(missed)} of 27, calls {np.median(calls):.0f} at the median, {max(calls)} at most; "
              f"missed {', '.join(missed) or 'none'}", flush=True)


def of_family(family, step):
    """(problems missed, calls) of a family."""
    p = family.problems
    golden = {row["family"]: row for row in json.loads((TESTS / "golden" / "families_scipy.json").read_text())["families"]}
    best = np.array([np.inf if v is None else v for v in golden[family.name]["best"]])
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    missed, calls = [], []
    for i in range(0, families.COUNT, step):
        def model(t, *x):
            with np.errstate(all="ignore"):
                return family.model(t, *x)
        model.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in ("t", *family.names)])
        sigma = np.broadcast_to(1/p.weight[i], p.y[i].shape)
        result = lsq.fit(model, p.t[i], p.y[i], sigma=sigma, bounds=list(zip(p.low[i], p.high[i])), ftol=1e-8, xtol=1e-8,
                         gtol=1e-8)
        missed.append(bool(families.missed(np.array(result.chi2/2), best[i])))
        calls.append(result.nfev)
    return np.array(missed), np.array(calls)


def bounded(half, step):
    every, count = [], []
    for family in families.half(half):
        missed, calls = of_family(family, step)
        every.append(missed)
        count.append(calls)
        print(f"{family.name:23} missed {missed.sum():3} of {missed.size}, calls {np.median(calls):.0f} at the median",
              flush=True)
    every = np.concatenate(every)
    print(f"{half.upper()}: the least cost known in {100*(1 - every.mean()):.2f} % of {every.size}, calls "
          f"{np.median(np.concatenate(count)):.0f} at the median")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=(0, 1, 2))
    parser.add_argument("--families", choices=("judging", "tuning", "none"), default="judging")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    nist(options.seeds)
    search.SEED = 0
    if options.families != "none":
        bounded(options.families, 10 if options.quick else 1)


if __name__ == "__main__":
    main()
