"""What a user waits for: imports, whole fits, uncertainties, profiles, an iteration on Dask, fits inside other packages.

    python benchmarks/waiting.py [--json] [--rounds N] [--quick]

A row for each: the median over the rounds, which alternate between the solvers, the range of the middle half, and
the same for a peer, if there is one.  Unlike overhead.py this counts everything, the user's functions too.  Times are
those of the processor, so that other programs do not count, but on Dask by the clock.  Profiles are counted in
evaluations of the residuals: confidence_intervals against a root-finder on SciPy's refits (`naive_limits`), whose
limits must agree.  Packages that are not installed are left out.  --quick is for tests: few rounds, small images, no Dask.
"""
from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import time
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import scipy.optimize
from overhead import decay_with_level, machine
from scipy.stats import t as student

import leastsq as lsq

ROOT = Path(__file__).resolve().parent.parent
IMPORTS = {         # what is imported after NumPy, and a first fit
    "import, leastsq alone": ("from leastsq import leastsq", "from scipy.optimize import leastsq"),
    "import and a first curve_fit": ("from leastsq import curve_fit\n{fit}", "from scipy.optimize import curve_fit\n{fit}"),
}
FIRST_FIT = "t = np.linspace(0, 1, 20)\ncurve_fit(lambda t, a, b: a*np.exp(-b*t), t, 2*np.exp(-t), [1, 2])"


def middle(values):
    """The median and the range of the middle half."""
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return {"median": float(median), "low": float(low), "high": float(high)}


def in_turns(actions, rounds):
    """Milliseconds of the processor for each action, in turns; repeated within a round so that one lasts a few milliseconds."""
    times = {name: [] for name in actions}
    repeats = {}
    for name, action in actions.items():
        took = 0.0
        for _ in range(2):                  # the first call imports, and makes what is made once
            if took < 1:
                began = time.process_time()
                action()
                took = time.process_time() - began
        repeats[name] = max(1, round(0.004/max(took, 1e-6)))
    for _ in range(rounds):
        for name, action in actions.items():
            began = time.process_time()
            for _ in range(repeats[name]):
                action()
            times[name].append(1e3*(time.process_time() - began)/repeats[name])
    return {name: middle(values) for name, values in times.items()}


def row(case, found, unit="ms"):
    """A row of the table: our figures, and those of the peers."""
    return {"case": case, "unit": unit, "ours": found["ours"],
            "peers": {name: values for name, values in found.items() if name != "ours"}}


# ------------------------------------------------------------------- imports

def imports(rounds):
    """In fresh processes, without the start of Python and the import of NumPy."""
    rows = []
    for case, (ours, theirs) in IMPORTS.items():
        times = {"ours": [], "SciPy": []}
        for _ in range(rounds):
            for name, code in (("ours", ours), ("SciPy", theirs)):
                program = ("import time\nimport numpy as np\nbegan = time.process_time()\n"
                           f"{code.format(fit=FIRST_FIT)}\nprint(time.process_time() - began)")
                done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
                times[name].append(1e3*float(done.stdout))
        rows.append(row(case, {name: middle(values) for name, values in times.items()}))
    return rows


# ---------------------------------------------------------------- whole fits

def fits(rounds):
    """One small fit by each function, and what one asks for afterwards."""
    problem = decay_with_level()
    model, t, y, start = problem.model, problem.t, problem.y, problem.start
    theirs = scipy.optimize
    bounds = ([0, 0, -5], [9, 9, 5])
    fit = lsq.leastsq(problem.residual, start, full_output=True)
    cases = {
        "leastsq": (lambda f: f.leastsq(problem.residual, start), lsq, theirs),
        "leastsq, Dfun": (lambda f: f.leastsq(problem.residual, start, Dfun=problem.jacobian), lsq, theirs),
        "curve_fit": (lambda f: f.curve_fit(model, t, y, start), lsq, theirs),
        "curve_fit, bounds": (lambda f: f.curve_fit(model, t, y, start, bounds=bounds), lsq, theirs),
        "least_squares": (lambda f: f.least_squares(problem.residual, start, method="lm"), lsq, theirs),
        "least_squares, bounds": (lambda f: f.least_squares(problem.residual, start, bounds=bounds), lsq, theirs),
        "fit, against curve_fit": (lambda f: f.fit(model, t, y, start) if f is lsq else f.curve_fit(model, t, y, start),
                                   lsq, theirs),
        "fit and its standard errors, against curve_fit": (
            lambda f: f.fit(model, t, y, start).stderr if f is lsq else f.curve_fit(model, t, y, start), lsq, theirs),
        "covariance": (lambda f: f.covariance(fit), lsq, None),
        "report, printed": (lambda f: str(f.report(fit)), lsq, None),
        "confidence_intervals, profile": (lambda f: f.confidence_intervals(fit, method="profile"), lsq, None),
    }
    rows = []
    for case, (call, ours, peer) in cases.items():
        actions = {"ours": lambda call=call, ours=ours: call(ours)}
        if peer is not None:
            actions["SciPy"] = lambda call=call, peer=peer: call(peer)
        rows.append(row(f"{case}, n=3 m=100", in_turns(actions, rounds)))
    return rows


# ------------------------------------------------------------------ profiles

def naive_limits(residual, x, stderr, worst):
    """The limits of each parameter by a root-finder on refits of all the others, which begin at the answer."""
    limits = []
    for j in range(x.size):
        others = np.delete(np.arange(x.size), j)

        def excess(value, j=j, others=others):
            def held(rest):
                point = np.empty(x.size)
                point[others], point[j] = rest, value
                return residual(point)
            best = scipy.optimize.leastsq(held, x[others], full_output=True)[2]["fvec"]
            return best @ best - worst

        for side in (-1, 1):
            reach = 1.0
            while excess(x[j] + side*reach*stderr[j]) < 0:
                reach *= 2
            root = scipy.optimize.brentq(lambda step, j=j, side=side: excess(x[j] + side*step*stderr[j]), 0.0, reach, xtol=1e-3)
            limits.append(x[j] + side*root*stderr[j])
    return np.array(limits).reshape(-1, 2)


def profiles():
    """Evaluations of the residuals for 95 % limits of all parameters."""
    problem = decay_with_level()
    count = 0

    def residual(p):
        nonlocal count
        count += 1
        return problem.residual(p)

    fit = lsq.leastsq(residual, problem.start, full_output=True)
    count = 0
    found = lsq.confidence_intervals(fit, method="profile")
    ours = count
    x, f = fit[0], fit[2]["fvec"]
    dof = f.size - x.size
    worst = f @ f*(1 + student.ppf(0.975, dof)**2/dof)
    stderr = lsq.covariance(fit).stderr
    count = 0
    naive = naive_limits(residual, x, stderr, worst)
    apart = np.abs(naive - np.stack([found.lower, found.upper], axis=1)).max(axis=1)/stderr
    if apart.max() > 0.01:
        raise SystemExit(f"profiles: the limits disagree by {apart} standard errors")
    figures = {name: {"median": value, "low": value, "high": value} for name, value in (("ours", ours), ("naive refits", count))}
    return [row("profiles of 3 parameters, evaluations", figures, "evaluations")]


# ------------------------------------------------------------------- clusters

def on_dask(rounds):
    """An iteration of a fit in 8 blocks, its functions called by one worker and by two (docs/scale.md): the best fit."""
    if not find_spec("distributed"):
        return []
    import scale
    rows = scale.fits_on_dask(rounds)
    return [row(f"Dask, {found['workers']} worker{'s'*(found['workers'] > 1)}: an iteration, n=10, 8 blocks",
                {"ours": middle([1e3*found["seconds"]/found["njev"]])}) for found in rows]


# ------------------------------------------------------- inside other packages

def in_astropy(rounds):
    """Our fitter and TRFLSQFitter on the same models."""
    if not find_spec("astropy"):
        return []
    from astropy.modeling import fitting, models

    from leastsq.astropy import LeastsqFitter
    x = np.linspace(-5, 5, 100)
    y = 7*np.exp(-0.5*((x - 0.3)/1.1)**2) + 1.5 + 0.1*np.random.default_rng(1).standard_normal(x.size)
    limits = {"amplitude": (0, 20), "stddev": (0.1, 5)}
    tied = models.Gaussian1D(6, 0, 1, bounds=limits) + models.Const1D(1)
    tied.amplitude_1.tied = lambda model: model.amplitude_0/5
    cases = {"Gaussian1D": models.Gaussian1D(6, 0, 1), "Gaussian1D, bounds": models.Gaussian1D(6, 0, 1, bounds=limits),
             "Gaussian1D + Const1D, bounds": models.Gaussian1D(6, 0, 1, bounds=limits) + models.Const1D(1),
             "Gaussian1D + Const1D, a tie": tied}
    rows = []
    for case, start in cases.items():
        actions = {"ours": lambda start=start: LeastsqFitter()(start, x, y),
                   "TRFLSQFitter": lambda start=start: fitting.TRFLSQFitter()(start, x, y)}
        rows.append(row(f"astropy, {case}, m=100", in_turns(actions, rounds)))
    return rows


def in_lmfit(rounds):
    """lmfit's Model.fit on our leastsq and on SciPy's."""
    if not find_spec("lmfit"):
        return []
    sys.path.insert(0, str(ROOT / "examples"))
    import lmfit_on_leastsq

    def by_ours():
        with lmfit_on_leastsq.ours():
            lmfit_on_leastsq.fit()

    return [row("lmfit, two peaks on a line, m=400", in_turns({"ours": by_ours, "SciPy": lmfit_on_leastsq.fit}, rounds))]


def of_clients(size):
    """Images and cubes whose packages loop over their pixels, and one call of curve_fit_batch."""
    sys.path.insert(0, str(ROOT / "examples"))
    import curves_of_clients as clients
    rows = []
    for name, (ours, theirs) in clients.pairs(size).items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = in_turns({"ours": ours, "its own loop": theirs}, 3 if size > 5 else 1)
        rows.append(row(f"{name}, {size*size} curves at once", found))
    return rows


# ---------------------------------------------------------------------- main

def table(rows, where):
    lines = [f"leastsq {where['leastsq']}, NumPy {where['numpy']}, SciPy {where['scipy']}, Python {where['python']}",
             f"{where['processor']}, {where['system']}; medians, and in brackets the middle half", ""]

    def text(values):
        return f"{values['median']:9.4g} ({values['low']:.3g} to {values['high']:.3g})"

    for one in rows:
        line = f"{one['case']:<58} {text(one['ours'])} {one['unit']}"
        for name, values in one["peers"].items():
            line += f"; {name} {text(values)}: {values['median']/one['ours']['median']:.1f}"
        lines.append(line)
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--rounds", type=int, default=31, help="rounds to take the median of (default 31)")
    parser.add_argument("--quick", action="store_true", help="for tests: few rounds, small images, no Dask")
    options = parser.parse_args()
    rounds = 3 if options.quick else options.rounds
    with contextlib.redirect_stdout(sys.stderr):            # what a package prints
        rows = [*imports(min(rounds, 9)), *fits(rounds), *profiles(), *([] if options.quick else on_dask(3)), *in_astropy(rounds),
                *in_lmfit(rounds), *of_clients(4 if options.quick else 20)]
    where = machine()
    print(json.dumps({"machine": where, "rows": rows}, indent=1) if options.json else table(rows, where))


if __name__ == "__main__":
    main()
