"""Write bounded_scipy.json: bounded versions of the problem collection, and the points at
which SciPy's least_squares ends on them.

    python tests/golden/make_bounded_scipy.py        (SciPy 1.18.1, two minutes)

Boxes: "classic", chosen by hand so that some bounds are active at the minimum; "cut",
in which half of the variables cannot reach the free minimum; "nonneg", x >= 0; "tight",
a small box around the standard start.  Starts: the standard one moved into the box, the
lower corner, and a random one.
"""
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import scipy
from scipy.optimize import least_squares

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))
import problems  # noqa: E402

CLASSIC = {
    "rosenbrock": ([-50, 0], [.5, 100]),
    "freudenstein_roth": ([0, -30], [20, -.9]),
    "powell_badly_scaled": ([0, 1], [1, 9]),
    "brown_badly_scaled": ([0, 3e-5], [1e6, 100]),
    "beale": ([.6, .5], [10, 100]),
    "jennrich_sampson": ([.26, 0], [10, 20]),
    "helical_valley": ([-100, -1, -1], [.8, 1, 1]),
    "bard": ([.1, 0, 0], [50, 100, 50]),
    "gaussian": ([.398, 1, -.5], [4.2, 2, .1]),
    "meyer": ([.006, 0, 0], [2, 3e5, 3e4]),
    "gulf": ([.01, 0, 0], [100, 50, 10]),
    "box3d": ([0, 5, 0], [2, 9.5, 20]),
    "powell_singular": ([.1, -20, -1, -1], [100, 20, 1, 50]),
    "wood": ([-100] * 4, [0, 10, 100, 100]),
    "kowalik_osborne": ([0, -1, .13, .12], [10, 12, 13, 12]),
    "brown_dennis": ([-10, 0, -100, -20], [100, 15, 0, .2]),
    "osborne1": ([0, 0, -50, 0, 0], [50, 1.9, -.1, 10, 10]),
    "biggs_exp6": ([0, 0, 0, 1, 0, 0], [2, 8, 1, 7, 5, 5]),
    "osborne2": ([1, .5, 0, .6, 0, 0, 0, 0, 0, 0, 0], [150, 100, 50, 70, 8, 5, 5, 9, 2.1, 10, 10]),
    "watson": ([-.015, -1e3, -1, -1e3, -3, -2], [1e3, .9, 1e3, .8, 1e3, 1]),
}


def collection():
    seen = {}
    for _, p, _ in problems.minpack_cases():
        seen.setdefault((p.name, p.n, p.m), p)
    return [p for p in [*seen.values(), *problems.extra_problems()] if p.n <= 12]


def boxes(p, rng):
    if len(CLASSIC.get(p.name, ([],))[0]) == p.n:
        yield "classic", *(np.array(b, float) for b in CLASSIC[p.name])
    x = least_squares(p.residual, p.x0, p.jacobian, method="lm").x
    span = np.maximum(np.abs(x - p.x0), .1 * (1 + np.abs(x)))
    lo, hi = np.minimum(x, p.x0) - span, np.maximum(x, p.x0) + span
    cut = rng.random(p.n) < .5
    cut[rng.integers(p.n)] = True
    wall = p.x0 + rng.uniform(.1, .9, p.n) * (x - p.x0)
    wall = np.where(np.abs(x - p.x0) < 1e-3 * (1 + np.abs(x)), x - .3 * span, wall)
    yield "cut", np.where(cut & (x < p.x0), wall, lo), np.where(cut & (x >= p.x0), wall, hi)
    yield "nonneg", np.zeros(p.n), np.full(p.n, np.inf)
    half = .3 * (1 + np.abs(p.x0))
    yield "tight", p.x0 - half * rng.random(p.n), p.x0 + half * rng.random(p.n)


def starts(p, lo, hi, rng):
    inside = np.clip(p.x0, lo, hi)
    yield "standard", inside
    yield "corner", np.where(np.isfinite(lo), lo, inside)
    top = np.where(np.isfinite(hi), hi, inside + 1)
    yield "random", np.clip(lo + rng.random(p.n) * (top - lo), lo, hi)


def run(p, lo, hi, x0, method, **tolerances):
    try:
        return least_squares(p.residual, x0, p.jacobian, bounds=(lo, hi), method=method,
                             max_nfev=3000, **tolerances)
    except ValueError:          # not finite on the way
        return None


def main():
    np.seterr(all="ignore")
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(6)
    tight = {"ftol": 1e-13, "xtol": 1e-13, "gtol": 1e-13}
    rows = []
    for p in collection():
        for box, lo, hi in boxes(p, rng):
            assert np.all(lo < hi)
            for start, x0 in starts(p, lo, hi, rng):
                f, j = p.residual(x0), p.jacobian(x0)
                if not (np.isfinite(f).all() and np.isfinite(j).all()):
                    continue
                best = {m: run(p, lo, hi, x0, m, **tight) for m in ("trf", "dogbox")}
                usual = run(p, lo, hi, x0, "trf")
                if None in (best["trf"], usual):
                    continue
                rows.append({
                    "name": f"{p.name}-{p.n}-{p.m}-{box}-{start}", "problem": p.name,
                    "n": p.n, "m": p.m, "lo": lo.tolist(), "hi": hi.tolist(),
                    "x0": x0.tolist(), "trf": best["trf"].cost,
                    "dogbox": best["dogbox"].cost if best["dogbox"] else None,
                    "usual": usual.cost, "nfev": int(usual.nfev)})
    with open(HERE / "bounded_scipy.json", "w") as out:
        out.write(f'{{"scipy": "{scipy.__version__}", "cases": [\n')
        out.write(",\n".join(json.dumps(row) for row in rows))
        out.write("\n]}\n")


if __name__ == "__main__":
    main()
