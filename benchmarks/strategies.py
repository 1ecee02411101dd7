"""Fits solved and evaluations needed: leastsq's strategies, SciPy's trf and geodesic acceleration.

    python benchmarks/strategies.py [--exact] [--half tuning|judging] [--collection NAME] [--lists] [--json]

The collections and their two halves are those of tests/parity/fit_collections.py.  An evaluation is a call of the residual:
a difference Jacobian takes n of them, and an exact one (--exact) counts 1.  *Solved*: the sum of squares is at most
(1 + 1e-3) of the best known one, plus 1e-12 of that at the start.  Evaluations are compared where both solve: their
total over the total of MINPACK, and the geometric mean of the ratios beside it.
"""
import argparse
import inspect
import json
import sys
from pathlib import Path

import accelerated
import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parent.parent / folder) for folder in ("tests/parity", "tests/support", "examples")]

import fit_collections  # noqa: E402

import leastsq  # noqa: E402

BASE = "minpack"


class Counted:
    """A function that counts its calls."""

    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, x):
        self.calls += 1
        return self.function(np.array(x))


def by_leastsq(**options):
    return lambda f, x, jacobian: leastsq.leastsq(f, x, Dfun=jacobian, full_output=True, **options)[0]


def by_trf(f, x, jacobian):
    from scipy.optimize import least_squares
    return least_squares(f, x, jac=jacobian or "2-point", method="trf", x_scale="jac", ftol=1.49012e-8, xtol=1.49012e-8,
                         gtol=None, max_nfev=100*(x.size + 1)).x


def by_acceleration(f, x, jacobian):
    return accelerated.fit(f, x, jacobian)[0]


def solvers():
    """{name: solver(f, x0, jacobian)}, what is there of them."""
    found = {BASE: by_leastsq()}
    if "strategy" in inspect.signature(leastsq.leastsq).parameters:
        found |= {name: by_leastsq(strategy=name) for name in (BASE, "fast", "robust")}
    try:
        import scipy.optimize  # noqa: F401
        found["SciPy trf"] = by_trf
    except ImportError:
        pass
    return found | {"geodesic acceleration": by_acceleration}


def measure(run, solve, exact):
    """(solved, evaluations)."""
    f = Counted(run.residual)
    jacobian = Counted(run.jacobian) if exact else None
    try:
        x = solve(f, run.x0.copy(), jacobian)
    except (ValueError, np.linalg.LinAlgError):         # trf refuses residuals that are not finite
        return False, f.calls
    calls = f.calls + (jacobian.calls if exact else 0)
    return bool(run.solved(float(np.sum(run.residual(np.asarray(x))**2)))), calls


def compare(base, other, names):
    """What `other` solves, gains and loses beside `base`, and its evaluations where both solve."""
    solved = {n for n in names if other[n][0]}
    before = {n for n in names if base[n][0]}
    both = sorted(solved & before)
    ratios = [other[n][1]/base[n][1] for n in both]
    return {
        "runs": len(names), "solved": len(solved), "gained": sorted(solved - before), "lost": sorted(before - solved),
        "total": sum(other[n][1] for n in both)/max(sum(base[n][1] for n in both), 1),
        "geometric mean": float(np.exp(np.mean(np.log(ratios)))) if both else None,
    }


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--exact", action="store_true", help="with exact Jacobians, which count 1")
    parser.add_argument("--half", choices=[fit_collections.TUNING, fit_collections.JUDGING], help="one half only")
    parser.add_argument("--collection", choices=["NIST", "MGH", "published", "PALMER", "made"], help="one collection only")
    parser.add_argument("--lists", action="store_true", help="name what is gained and lost")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    runs = {name: run for name, run in fit_collections.all_runs().items()
            if options.half in (None, run.half) and options.collection in (None, run.collection)}
    np.seterr(all="ignore")
    measured = {name: {n: measure(run, solve, options.exact) for n, run in runs.items()} for name, solve in solvers().items()}

    groups = {}
    for n, run in runs.items():
        for group in ((run.half, run.collection), (run.half, "all"), ("both", "NIST and MGH")):
            if group[0] != "both" or (run.collection in ("NIST", "MGH") and options.half is options.collection is None):
                groups.setdefault(group, []).append(n)
    table = {" ".join(group): {name: compare(measured[BASE], results, names) for name, results in measured.items()}
             for group, names in groups.items()}
    if options.json:
        print(json.dumps(table, indent=1))
        return
    print("exact Jacobians, each counts 1" if options.exact else "difference Jacobians, each counts n")
    for group, rows in table.items():
        title = f"{group}, {next(iter(rows.values()))['runs']} runs"
        print(f"\n{title:30}{'solved':>8}{'gained':>8}{'lost':>6}  evaluations: total, geometric mean")
        for name, row in rows.items():
            print(f"    {name:26}{row['solved']:8}{len(row['gained']):8}{len(row['lost']):6}{row['total']:17.3f}"
                  + (f"{row['geometric mean']:11.3f}" if row["geometric mean"] else ""))
            if options.lists:
                print(*(f"        {what}: {' '.join(row[what])}\n" for what in ("gained", "lost") if row[what]), sep="", end="")


if __name__ == "__main__":
    main()
