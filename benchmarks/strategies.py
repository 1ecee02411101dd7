"""Fits solved and evaluations needed: leastsq's strategies, SciPy's trf and geodesic acceleration.

    python benchmarks/strategies.py [--exact] [--half tuning|judging] [--collection NAME] [--lists] [--json]
    python benchmarks/strategies.py --page docs/strategies.md      # write its tables (needs SciPy)
    python benchmarks/strategies.py --picture docs/pictures/strategies.png      # (needs Matplotlib)

The collections and their two halves are those of tests/parity/fit_collections.py.  An evaluation is a call of the residual:
a difference Jacobian takes n of them, and an exact one (--exact) counts 1.  *Solved*: the sum of squares is at most
(1 + 1e-3) of the best known one, plus 1e-12 of that at the start.  Evaluations are compared over the fits that both
solve: the ratio of the totals to MINPACK's, and the geometric mean of the ratios.
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
    """{name: solver(f, x0, jacobian)} of the solvers that are installed."""
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
    """The fits that `other` solves, gains and loses compared with `base`, and its evaluations where both solve."""
    solved = {n for n in names if other[n][0]}
    before = {n for n in names if base[n][0]}
    both = sorted(solved & before)
    ratios = [other[n][1]/base[n][1] for n in both]
    return {
        "runs": len(names), "solved": len(solved), "gained": sorted(solved - before), "lost": sorted(before - solved),
        "total": sum(other[n][1] for n in both)/max(sum(base[n][1] for n in both), 1),
        "geometric mean": float(np.exp(np.mean(np.log(ratios)))) if both else None,
    }


def tables(exact, which=lambda run: True):
    """{group: {solver: result of `compare`}}, for the collections of each half, the halves, and NIST with MGH."""
    runs = {name: run for name, run in fit_collections.all_runs().items() if which(run)}
    with np.errstate(all="ignore"):
        measured = {name: {n: measure(run, solve, exact) for n, run in runs.items()} for name, solve in solvers().items()}
    groups = {}
    for n, run in runs.items():
        for group in ((run.half, run.collection), (run.half, "all"), ("both", "NIST and MGH")):
            if group[0] != "both" or run.collection in ("NIST", "MGH"):
                groups.setdefault(group, []).append(n)
    return {" ".join(group): {name: compare(measured[BASE], results, names) for name, results in measured.items()}
            for group, names in groups.items()}


# ---------------------------------------------------------------- the page

COLUMNS = ("both NIST and MGH", "tuning all", "judging all")
BEGIN, END = "<!-- {}: written by a script -->\n", "<!-- end -->"


def cell(name, row):
    if name == BASE:
        return str(row["solved"])
    return (f"{row['solved']} (+{len(row['gained'])} −{len(row['lost'])}), "
            f"{row['total']:.2f} / {row['geometric mean']:.2f}")


def page_table(title, table):
    """The table as Markdown."""
    runs = [table[column][BASE]["runs"] for column in COLUMNS]
    lines = [f"| {title} | NIST and MGH ({runs[0]}) | tuning half ({runs[1]}) | judging half ({runs[2]}) |",
             "| --- | --- | --- | --- |"]
    for name in table[COLUMNS[0]]:
        shown = f'"{name}"' if name in (BASE, "fast", "robust") else name
        lines.append(f"| {shown} | " + " | ".join(cell(name, table[column][name]) for column in COLUMNS) + " |")
    return "\n".join(lines) + "\n"


def write_page(page):
    """Write the tables between their marks."""
    for name, exact in (("difference Jacobians", False), ("exact Jacobians", True)):
        put(page, name, page_table(name, tables(exact)))


def put(page, name, table):
    """Write the text into the page, between the marks of this name."""
    text, begin = page.read_text(encoding="utf-8"), BEGIN.format(name)
    first = text.index(begin) + len(begin)
    page.write_text(text[:first] + table + text[text.index(END, first):], encoding="utf-8")


def rosenbrock(x):
    return np.array([10*(x[1] - x[0]**2), 1 - x[0]])


def draw(file):
    """Draw the paths of both strategies along Rosenbrock's valley."""
    import matplotlib
    matplotlib.use("agg")
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    x, y = np.meshgrid(np.linspace(-1.7, 1.5, 300), np.linspace(-1.1, 2.1, 300))
    axes.contour(x, y, np.log10((10*(y - x**2))**2 + (1 - x)**2 + 1e-3), 12, colors="0.8", linewidths=0.7)
    for name, style in ((BASE, "o--"), ("fast", "s-")):
        _, _, info, _, _ = leastsq.leastsq(rosenbrock, [-1.2, 1.0], strategy=name, history=True, full_output=True)
        history = info["history"]
        path = history["x"][history["accepted"]]
        axes.plot(*path.T, style, markersize=4, linewidth=1.2, label=f'"{name}": {info["nfev"]} evaluations')
    axes.set(xlabel="$x_1$", ylabel="$x_2$", xlim=(-1.7, 1.5), ylim=(-1.1, 2.1))
    axes.legend(frameon=False)
    figure.savefig(file, dpi=150)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--exact", action="store_true", help="use exact Jacobians, which count 1")
    parser.add_argument("--half", choices=[fit_collections.TUNING, fit_collections.JUDGING], help="one half only")
    parser.add_argument("--collection", choices=["NIST", "MGH", "published", "PALMER", "made"], help="one collection only")
    parser.add_argument("--lists", action="store_true", help="name the fits gained and lost")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--page", type=Path, help="write the tables into this page")
    parser.add_argument("--picture", type=Path, help="draw paths along a curved valley into this file")
    options = parser.parse_args(arguments)
    if options.picture:
        draw(options.picture)
    if options.page:
        write_page(options.page)
    if options.page or options.picture:
        return
    table = tables(options.exact, lambda run: options.half in (None, run.half) and options.collection in (None, run.collection))
    if options.half or options.collection:
        table.pop("both NIST and MGH", None)
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
