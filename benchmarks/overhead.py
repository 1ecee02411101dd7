"""The solver's own cost per fit, compared with SciPy's.

    python benchmarks/overhead.py [--json] [--rounds N]

The figure is the time of a fit minus the time of the user's functions: the points at which
a solver calls them are recorded once, and the calls alone, at these points in this order,
are timed separately.  Each solver is charged only for its own calls (SciPy evaluates the
residuals twice and the Jacobian once more per fit).  For curve_fit the user's functions are
the model and its derivatives; residuals and weights are part of curve_fit's own cost.  fit is
compared with SciPy's curve_fit in the same way.  It computes uncertainties on first use,
which is measured separately, without the calls of the model.  lmfit's Model.fit comes last,
if it is installed.

Both solvers run interleaved in one process on the same Python functions; each
figure is the best of several rounds of many fits.
"""
from __future__ import annotations

import argparse
import gc
import json
import platform
import sys
import time
from collections.abc import Callable
from copy import copy
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import scipy
from scipy.optimize import curve_fit as scipy_curve_fit
from scipy.optimize import leastsq as scipy_leastsq

import leastsq as package
from leastsq import curve_fit as our_curve_fit
from leastsq import fit as our_fit
from leastsq import leastsq as our_leastsq

SOLVERS = {"ours": our_leastsq, "scipy": scipy_leastsq}
CURVE_FITS = {"ours": our_curve_fit, "scipy": scipy_curve_fit}


def fit_of(model, t, y, start, **options):
    result = our_fit(model, t, y, start, strategy="minpack", **options)     # the same steps as SciPy's
    return result.x, result


def uncertainties_of(model, t, y, start, **options):
    result = our_fit(model, t, y, start, strategy="minpack", **options)
    return result.x, result.stderr


def without_bounds(model, t, y, start, bounds=None, **options):
    """SciPy's curve_fit, whose bounds are two sides, where fit takes pairs."""
    if bounds is not None:
        options["bounds"] = tuple(np.array(side, float) for side in zip(*bounds))
    return scipy_curve_fit(model, t, y, start, **options)


FITS = {"ours": fit_of, "scipy": without_bounds}
UNCERTAINTIES = {"ours": uncertainties_of, "scipy": without_bounds}
ROUND_SECONDS = 0.002           # of one case and solver: short, so that some rounds fall in quiet moments


# -------------------------------------------------------------- the problems

@dataclass(frozen=True)
class Problem:
    name: str
    start: np.ndarray
    residual: Callable
    jacobian: Callable          # (m, n)
    jacobian_by_rows: Callable  # (n, m), for col_deriv
    t: np.ndarray               # the data, for curve_fit
    y: np.ndarray
    model: Callable             # model(t, *p)
    derivatives: Callable       # derivatives(t, *p): (m, n)


def decay_with_level() -> Problem:
    """a exp(-k t) + c: n = 3, m = 100."""
    t = np.linspace(0, 4, 100)
    y = 2.5 * np.exp(-1.3 * t) + 0.5 + 0.05 * np.random.default_rng(1).standard_normal(t.size)
    ones = np.ones_like(t)

    def residual(p):
        a, k, c = p
        return a * np.exp(-k * t) + c - y

    def by_rows(p):
        a, k, c = p
        e = np.exp(-k * t)
        return np.array([e, -a * t * e, ones])

    def model(t, a, k, c):
        return a * np.exp(-k * t) + c

    return Problem("decay n=3 m=100", np.array([1.0, 1.0, 0.0]), residual, lambda p: by_rows(p).T, by_rows,
                   t, y, model, lambda t, *p: by_rows(p).T)


def decay() -> Problem:
    """a exp(-k t): n = 2, m = 20."""
    t = np.linspace(0, 3, 20)
    y = 2.5 * np.exp(-1.3 * t) + 0.05 * np.random.default_rng(2).standard_normal(t.size)

    def residual(p):
        a, k = p
        return a * np.exp(-k * t) - y

    def by_rows(p):
        a, k = p
        e = np.exp(-k * t)
        return np.array([e, -a * t * e])

    def model(t, a, k):
        return a * np.exp(-k * t)

    return Problem("decay n=2 m=20", np.array([1.0, 1.0]), residual, lambda p: by_rows(p).T, by_rows,
                   t, y, model, lambda t, *p: by_rows(p).T)


METHODS = {                     # where derivatives come from: keywords of leastsq
    "lmdif": lambda problem: {},
    "lmder": lambda problem: {"Dfun": problem.jacobian},
    "lmder col_deriv": lambda problem: {"Dfun": problem.jacobian_by_rows, "col_deriv": True},
}
CURVE_FIT = {                   # the same for curve_fit, with and without sigma
    "curve_fit": lambda problem: {},
    "curve_fit sigma": lambda problem: {"sigma": np.full(problem.y.size, 0.05), "absolute_sigma": True},
    "curve_fit jac": lambda problem: {"jac": problem.derivatives},
    "curve_fit sigma jac": lambda problem: {"sigma": np.full(problem.y.size, 0.05), "jac": problem.derivatives},
}
FIT = {
    "fit": lambda problem: {},
    "fit sigma": lambda problem: {"sigma": np.full(problem.y.size, 0.05)},
    "fit bounds": lambda problem: {"bounds": [(-9.0, 9.0)]*problem.start.size},
    "fit, stderr": lambda problem: {},
}


# ----------------------------------------------------------- the measurement

def arguments(problem, method):
    """(solvers, positional arguments with the user's function first, keywords, the name of its derivatives)."""
    if method in CURVE_FIT:
        return CURVE_FITS, (problem.model, problem.t, problem.y, problem.start), CURVE_FIT[method](problem), "jac"
    if method in FIT:
        solvers = UNCERTAINTIES if method == "fit, stderr" else FITS
        return solvers, (problem.model, problem.t, problem.y, problem.start), FIT[method](problem), "jac"
    return SOLVERS, (problem.residual, problem.start), METHODS[method](problem), "Dfun"


def recorded_calls(solver, positional, keywords, derivatives):
    """The calls of the user's functions in one fit: [(function, arguments), ...]."""
    calls = []

    def recorder(function):
        def recording(*args):
            calls.append((function, tuple(map(copy, args))))
            return function(*args)
        return recording

    keywords = dict(keywords)
    if derivatives in keywords:
        keywords[derivatives] = recorder(keywords[derivatives])
    solver(recorder(positional[0]), *positional[1:], **keywords)
    return calls


def time_of(action, repetitions: int) -> float:
    """Seconds of this thread per call of `action` (other programs' time does not count)."""
    times = range(repetitions)
    began = time.thread_time()
    for _ in times:
        action()
    return (time.thread_time() - began) / repetitions


@dataclass
class Case:
    """One problem, method and full_output: microseconds per fit for each solver."""

    problem: str
    method: str
    full_output: bool
    residual_calls: dict[str, int]
    jacobian_calls: dict[str, int]
    fit: dict[str, float]
    functions: dict[str, float]
    own: dict[str, float]
    ratio: float                # SciPy's own cost / ours


def measure(problem: Problem, method: str, full_output: bool, rounds: int) -> Case:
    solvers, positional, keywords, derivatives = arguments(problem, method)
    if method not in FIT:
        keywords["full_output"] = full_output
    calls = {name: recorded_calls(solver, positional, keywords, derivatives) for name, solver in solvers.items()}

    def fits(solver):
        return lambda: solver(*positional, **keywords)

    def bare(sequence):
        def run():
            for function, args in sequence:
                function(*args)
        return run

    same = [fits(solver)()[0] for solver in solvers.values()]
    if not np.allclose(*same, rtol=1e-6):
        raise SystemExit(f"{problem.name}, {method}: the solvers disagree: {same}")

    actions = {("fit", name): fits(solver) for name, solver in solvers.items()}
    actions |= {("functions", name): bare(calls[name]) for name in SOLVERS}
    repetitions = max(1, int(ROUND_SECONDS / max(time_of(action, 20) for action in actions.values())))
    best = dict.fromkeys(actions, np.inf)
    for _ in range(rounds):
        for key, action in actions.items():
            best[key] = min(best[key], time_of(action, repetitions))

    micro = {key: 1e6 * seconds for key, seconds in best.items()}
    own = {name: micro["fit", name] - micro["functions", name] for name in SOLVERS}

    def count(name):
        return sum(called is positional[0] for called, _ in calls[name])

    return Case(problem.name, method, full_output,
                {name: count(name) for name in SOLVERS},
                {name: len(calls[name]) - count(name) for name in SOLVERS},
                {name: micro["fit", name] for name in SOLVERS},
                {name: micro["functions", name] for name in SOLVERS},
                own, own["scipy"] / own["ours"])


def lmfits(problem: Problem, rounds: int) -> float | None:
    """Microseconds of lmfit's Model.fit, without the calls of the model."""
    try:
        import lmfit
    except ImportError:
        return None
    names = problem.model.__code__.co_varnames[1:problem.start.size + 1]
    start = dict(zip(names, map(float, problem.start)))

    def fitted(function, model=None):
        model = lmfit.Model(function) if model is None else model
        return model.fit(problem.y, model.make_params(**start), t=problem.t)

    calls = []

    def recording(*p):
        calls.append(p)
        return problem.model(problem.t, *p)

    text = f"lambda t, {', '.join(names)}: recording({', '.join(names)})"
    fitted(eval(text, {"recording": recording}))

    def bare():
        for p in calls:
            problem.model(problem.t, *p)

    model = lmfit.Model(problem.model)
    best = [min(time_of(action, 5) for _ in range(max(rounds // 10, 3))) for action in (lambda: fitted(None, model), bare)]
    return 1e6 * (best[0] - best[1])


def machine() -> dict[str, str]:
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines()
                 if line.startswith("model name")]
        processor = names[0] if names else processor
    return {"processor": processor, "system": platform.platform(), "python": platform.python_version(),
            "numpy": np.__version__, "scipy": scipy.__version__, "leastsq": package.__version__}


# ---------------------------------------------------------------- the report

def report(cases: list[Case], where: dict[str, str]) -> str:
    lines = [f"leastsq {where['leastsq']} against SciPy {where['scipy']}; NumPy {where['numpy']}, "
             f"Python {where['python']}",
             f"{where['processor']}, {where['system']}",
             "",
             "Solver-side cost per fit: time of the fit minus time of the same calls of the user's functions.",
             "",
             "                                                         calls func+Dfun     own cost (µs)    whole fit (µs)",
             "problem           method              full SciPy / ours    ours    SciPy      ours    SciPy      ours    SciPy"]
    for case in cases:
        counts = {name: f"{case.residual_calls[name]}+{case.jacobian_calls[name]}" for name in SOLVERS}
        lines.append(f"{case.problem:<17} {case.method:<19} {'yes' if case.full_output else 'no':<4} {case.ratio:>11.2f}x "
                     f"{counts['ours']:>7} {counts['scipy']:>8} {case.own['ours']:>9.1f} {case.own['scipy']:>8.1f} "
                     f"{case.fit['ours']:>9.1f} {case.fit['scipy']:>8.1f}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Solver-side cost per fit against SciPy.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--rounds", type=int, default=200, help="rounds to take the best of (default 200)")
    options = parser.parse_args()

    gc.disable()
    cases = [measure(problem, method, full_output, options.rounds)
             for problem in (decay_with_level(), decay())
             for method in (*METHODS, *CURVE_FIT, *FIT)
             for full_output in ((False,) if method in FIT else (False, True))]
    where = machine()
    beside = lmfits(decay_with_level(), options.rounds)
    if options.json:
        print(json.dumps({"machine": where, "unit": "microseconds per fit",
                          "lmfit's Model.fit, decay n=3 m=100, own cost": beside,
                          "cases": [asdict(case) for case in cases]}, indent=1))
    else:
        print(report(cases, where))
        if beside is not None:
            print(f"\nlmfit's Model.fit, decay n=3 m=100: own cost {beside:.0f} µs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
