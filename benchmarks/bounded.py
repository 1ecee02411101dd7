"""Realistic bounded fits: how many end on another minimum, and after how many evaluations.

    python benchmarks/bounded.py [--half tuning|judging] [--family NAME ...] [--units SEED] [--quick]

The 30 families of tests/parity/families.py, 200 problems each, against the golden results of SciPy 1.18.1's trf
(with its defaults, and with x_scale="jac") and dogbox.  A fit *misses* if its cost is more than 1 % above the best
known; evaluations are calls of the function, differences included, compared where both fits end within 0.1 %
of the best known.  --units multiplies the unit of every parameter by a random power of ten, from 1e-3 to
1e3.  --quick takes every tenth problem.
"""
import argparse
import json
import sys
from pathlib import Path

import numpy as np

from leastsq import leastsq_batch

TESTS = Path(__file__).resolve().parent.parent / "tests"
sys.path.insert(0, str(TESTS / "parity"))
import families  # noqa: E402

GOLDEN = {row["family"]: row for row in
          json.loads((TESTS / "golden" / "families_scipy.json").read_text())["families"]}
PEERS = ("trf", "trf_jac", "dogbox")


def costs(values):
    return np.array([np.inf if v is None else v for v in values])


def fit(family, which=slice(None), units=None):
    """(costs, evaluations, ends) of these problems."""
    p, n = family.problems, family.n
    u = np.ones(n) if units is None else 10.0**np.random.default_rng([units, n]).uniform(-3, 3, n)

    def residual(x, *data):
        return p.residual(x/u, *data)
    got = leastsq_batch(residual, p.x0[which]*u, tuple(d[which] for d in p.data),
                        bounds=(p.low[which]*u, p.high[which]*u), factor=1, ftol=1e-8, xtol=1e-8, gtol=1e-8,
                        maxfev=100*n*(n + 1), return_cov=False)
    return np.where(np.isfinite(got.fnorm), got.fnorm**2/2, np.inf), got.nfev, got


def row(family, which, units):
    """Numbers of one family."""
    golden, p = GOLDEN[family.name], family.problems
    best = costs(golden["best"])[which]
    cost, evaluations, got = fit(family, which, units)
    start = (p.residual(p.x0, *p.data)[which]**2).sum(1)/2

    def solved(cost):
        return cost <= (1 + 1e-3)*best + 1e-12*np.minimum(start, 1e3)
    out = {"ours": families.missed(cost, best)}
    for peer in PEERS:
        theirs, count = costs(golden[peer]["cost"])[which], np.array(golden[peer]["evaluations"])[which]
        out[peer] = families.missed(theirs, best)
        both = solved(cost) & solved(theirs)
        out["of " + peer] = evaluations[both], count[both]
    out["starts"], out["ended"] = p.starts[which], got.ier
    return out


def ratio(ours, theirs):
    return f"{ours.sum()/max(theirs.sum(), 1):5.2f} {np.exp(np.mean(np.log(ours/theirs))) if ours.size else 0:5.2f}"


def table(rows):
    print(f"{'family':23} {'misses':>6} {'trf':>5} {'jac':>5} {'dogbox':>6}   {'rough':>7} {'bound':>7} {'corner':>7}"
          "   evaluations/trf's  jac's")

    def line(name, some):
        misses = {who: sum(int(r[who].sum()) for r in some) for who in ("ours", *PEERS)}
        better = "trf" if misses["trf"] <= misses["trf_jac"] else "trf_jac"
        kinds = [f"{sum(int(r['ours'][r['starts'] == k].sum()) for r in some)}/"
                 f"{sum(int(r[better][r['starts'] == k].sum()) for r in some)}"
                 for k in (families.ROUGH, families.ON_BOUND, families.CORNER)]
        ratios = [ratio(*(np.concatenate([r["of " + peer][k] for r in some]) for k in (0, 1))) for peer in PEERS[:2]]
        print(f"{name:23} {misses['ours']:6} {misses['trf']:5} {misses['trf_jac']:5} {misses['dogbox']:6}   "
              + " ".join(f"{k:>7}" for k in kinds) + f"   {ratios[0]}   {ratios[1]}"
              + ("  <-" if misses["ours"] > misses[better] + 3 and len(some) == 1 else ""))
    for name, r in rows.items():
        line(name, [r])
    for half in ("tuning", "judging"):
        some = [r for name, r in rows.items() if families.FAMILIES[name].half == half]
        if some:
            line(half.upper(), some)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--half", choices=("tuning", "judging"))
    parser.add_argument("--family", nargs="*", choices=tuple(families.FAMILIES), default=())
    parser.add_argument("--units", type=int, metavar="SEED")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    which = slice(None, None, 10) if options.quick else slice(None)
    if options.quick:                   # problems of every kind of start
        which = np.arange(families.COUNT)[np.arange(families.COUNT)//5 % 10 == 0]
    some = [f for f in families.ALL if (not options.half or f.half == options.half)
            and (not options.family or f.name in options.family)]
    table({family.name: row(family, which, options.units) for family in some})


if __name__ == "__main__":
    main()
