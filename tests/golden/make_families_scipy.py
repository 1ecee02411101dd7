"""Write families_scipy.json: for every problem of families.py the best minimum known, and the points at
which SciPy's trf (with its defaults, and with x_scale="jac") and dogbox end.

    python tests/golden/make_families_scipy.py        (SciPy 1.18.1 and leastsq, half an hour)

Costs are half the sum of squares, evaluations are calls of the function.  The best minimum is the
lowest cost that leastsq_batch reaches with tight tolerances from many starts (the truth, rough guesses, random points
in the box), or that SciPy found.
"""
import json
import sys
import warnings
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import scipy
from scipy.optimize import least_squares

from leastsq import leastsq_batch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "parity"))
import families  # noqa: E402

METHODS = {"trf": {}, "trf_jac": {"x_scale": "jac"}, "dogbox": {"method": "dogbox"}}
STARTS = 40


def best_known(problems, found):
    """The lowest cost from many starts, among them the points at which SciPy's methods end."""
    family, rng = problems.family, np.random.default_rng(0)
    lowest, where = np.full(families.COUNT, np.inf), problems.truth.clip(problems.low, problems.high)
    usual = np.where(problems.truth == 0, .3*problems.truth.mean(0), problems.truth)
    for k in range(-1 - len(found), STARTS):
        if k == -1:
            x0 = problems.truth
        elif k < -1:
            x0 = found[k + 1]
        elif k < STARTS*3//4:
            x0 = np.array([families.start_of(rng, family, family.shift or {}, *row, families.ROUGH)
                           for row in zip(usual, problems.low, problems.high)])
        else:
            size = np.where(np.isfinite(problems.high - problems.low), problems.high - problems.low,
                            4*np.abs(problems.truth) + .1)
            floor = np.where(np.isfinite(problems.low), problems.low, problems.truth - size/2)
            x0 = floor + size*rng.random(size.shape)
        lowest, where = lower(problems, x0.clip(problems.low, problems.high), lowest, where)
    return lower(problems, where, lowest, where)


def lower(problems, x0, lowest, where):
    fit = leastsq_batch(problems.residual, x0, problems.data, bounds=(problems.low, problems.high), factor=1,
                        ftol=1e-13, xtol=1e-13, maxfev=3000, return_cov=False)
    cost = np.where(np.isfinite(fit.fnorm), fit.fnorm**2/2, np.inf)
    better = cost < lowest
    return np.where(better, cost, lowest), np.where(better[:, None], fit.x, where)


def by_scipy(name):
    """Costs, evaluations and end points of each method."""
    np.seterr(all="ignore")
    warnings.simplefilter("ignore")
    problems = families.FAMILIES[name].problems
    out = {}
    for method, options in METHODS.items():
        costs, calls, ends = [], [], []
        for i in range(families.COUNT):
            residual, count = problems.one(i), [0]

            def counted(x):
                count[0] += 1
                return residual(x)
            try:
                fit = least_squares(counted, problems.x0[i], bounds=(problems.low[i], problems.high[i]), **options)
                costs.append(float(fit.cost))
                ends.append(fit.x)
            except ValueError:          # not finite on the way
                costs.append(np.inf)
                ends.append(problems.x0[i])
            calls.append(count[0])
        out[method] = costs, calls, np.array(ends)
    lowest, _ = best_known(problems, [ends for *_, ends in out.values()])
    return name, out, lowest


def digits(values, of):
    return [float(f"{v:.{of}g}") if np.isfinite(v) else None for v in values]


def main():
    rows = []
    with Pool(2) as pool:
        for name, out, lowest in pool.imap(by_scipy, families.FAMILIES):
            row = {"family": name, "check": float(f"{families.FAMILIES[name].problems.y.sum():.8g}"),
                   "best": digits(lowest, 10)}
            for method, (costs, calls, _) in out.items():
                row[method] = {"cost": digits(costs, 7), "evaluations": calls}
            rows.append(row)
            print(name, *(int(families.missed(np.array(c), lowest).sum()) for c, _, _ in out.values()), flush=True)
    with open(HERE / "families_scipy.json", "w") as file:
        file.write(f'{{"scipy": "{scipy.__version__}", "families": [\n')
        file.write(",\n".join(json.dumps(row, separators=(",", ":")) for row in rows))
        file.write("\n]}\n")


if __name__ == "__main__":
    main()
