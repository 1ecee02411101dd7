"""Run the test suites of packages that fit with SciPy, with SciPy and with this package: `make clients`.

An environment of its own (build/clients) holds the clients of [dependency-groups] clients in pyproject.toml and
this package.  Each suite runs unchanged and with tools/in_place.py, which puts this package in SciPy's place; the outcomes
are compared.  Differences that come from a private habit of SciPy's are listed in HABITS with the reason; any other
difference, or a suite without any fit, is a failure.  In a further run both answer each call: a fit whose final cost exceeds
SciPy's by 1 % is a failure too, except in the clients of COSTS.  Some suites also run under `leastsq.in_scipy()`, with the
same outcomes.

    python tools/clients.py [--only lmfit,astropy] [--jobs 2] [--json out/clients.json]
"""
import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

from pythons import candidates, find_pythons
from wheels import environment, program

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "clients"
OLDEST_PYTHON = (3, 12)                 # that of SciPy 1.18, whose bits are MINPACK's
SIDES = ("scipy", "leastsq")
WITH_IN_SCIPY = ("lmfit", "photutils", "peakutils")
MISS = 1.01                             # times SciPy's cost is a failure
ROUNDING = 1e-12                        # times the cost at the start counts as zero

# The tests of each client: modules that contain tests, or `sdist` if only the sdist has tests.
CLIENTS = {
    "scipy": ["scipy.optimize.tests.test_minpack", "scipy.optimize.tests.test_least_squares"],
    "lmfit": "sdist",
    "astropy": ["astropy.modeling"],
    "photutils": ["photutils.isophote", "photutils.centroids", "photutils.profiles", "photutils.psf"],
    "hyperspy": ["hyperspy.tests.model"],
    "statsmodels": ["statsmodels.miscmodels", "statsmodels.tsa.tests.test_arima_process"],
    "peakutils": "sdist",
    "scikit-gstat": ["skgstat.tests"],
    "pyabel": ["abel.tests"],
    "impedance": ["impedance.tests.test_fitting"],         # the others read files that are in no package
    "specparam": ["specparam.tests"],
    "cirq-core": ["cirq.experiments"],
    "qiskit-experiments": "sdist",
}
# For an sdist: the folder with the tests, and the parts of it that are run.
FOLDERS = {"qiskit-experiments": ("test", ["test/curve_analysis", "test/library/characterization"])}

# Tests of SciPy's private habits: {client: {pattern of the test's name: reason}}.
MORE_THAN_SCIPY = "the test expects an error for something that SciPy's method 'lm' cannot do; this package can"
HABITS = {
    "scipy": {
        r"TestCurveFit::test_bounds$": MORE_THAN_SCIPY,
        r"TestLM::test_(bounds_not_supported|loss|callback_with_lm_method)$": MORE_THAN_SCIPY,
        r"test_small_tolerances_for_lm$": MORE_THAN_SCIPY,
        r"Test(TRF|Dogbox)::test_numerical_jac$": "the test expects a dense fit to take as many evaluations as a sparse "
                                                  "one, which this package refuses by name and SciPy computes",
        r"test_fp32_gh12991$": "the test compares with Nelder-Mead, which ends 7e-5 from the straight line of least squares; "
                               "float32 residuals end 3.4e-5 from it here, on the other side",
        r"test_gh_18793_and_19351$": "the test expects status 1 for a gradient below 1e-15: gtol is absolute in SciPy; here "
                                     "it is a cosine, which does not depend on units",
    },
    "lmfit": {
        r"test_parameters_usersyms$": "the test counts calls: SciPy's leastsq makes two more than it reports",
        r"test_manypeaks_speed$": "the test limits the time by the clock, which a busy machine exceeds with either",
        r"test_least_squares_jacobian_types$": "the test's jac returns sparse matrices and linear operators, which this package "
                                               "refuses by name",
    },
    "scikit-gstat": {
        r"FittingProcedure::test_(fit_sigma_\w+|fit_bounds|fit_p0|fitted_model|implicit_run_fit_\w+)$":
            "the curve is flat from the first lag on, so that range and sill are not determined: the test asserts trf's point of "
            "many with the same cost",
        r"test_azimuth$": "the same",
        r"test_parameter_property_sum_models$": "the sum has several minima, and the one found here costs 1.2 % more",
        r"test_find_best_model$": "a step reaches the range 0, its bound, where the model divides by zero; trf never evaluates "
                                  "on a bound",
        r"test_find_best_model_future_cv$": "the same, in one of the folds",
    },
    "cirq-core": {
        r"qubit_characterizations_test.py::test_single_qubit_randomized_benchmarking$":
            "all data are 1: any rate fits exactly with the amplitude 0, and the test wants the rate 1",
    },
    "qiskit-experiments": {r"test_t2ramsey_run_end2end$": "passes with this package, fails with SciPy"},
    "impedance": {
        r"test_circuit_fit$": "the test asserts the digits at which trf stopped, at a higher cost",
    },
    "astropy": {
        r"test_non_linear_lsq_fitter_with_weights\[TRFLSQFitter\]$": "the test expects a warning that the fit failed, which it "
                                                                    "does not do here",
        r"TestFitInfo::test_(all|subset)$": "the test compares the number of evaluations with trf's",
        r"test_models_fitting\[DogBoxLSQFitter-model36\]$": "a fit far from its data, whose other steps lead to x_0 < 0, where "
                                                             "astropy's power law is nan and its fitter raises",
    },
}

# Clients in which some fits may have a higher cost, and the rule that replaces the limit.
COSTS = dict.fromkeys(("specparam", "astropy", "qiskit-experiments"), "not more fits cost more than cost less")


def say(*words):
    print("clients:", *words, flush=True)


def requirements(group="clients"):
    with open(ROOT / "pyproject.toml", "rb") as file:
        return tomllib.load(file)["dependency-groups"][group]


def set_up():
    """The environment with the clients, and with the package as it is now."""
    pythons = find_pythons(candidates(), OLDEST_PYTHON)
    if not pythons:
        raise SystemExit("clients: SciPy 1.18 needs Python 3.12 or newer, and none was found")
    name, python = next(iter(pythons.items()))
    say(f"an environment of {name} with", ", ".join(requirements()))
    folder = environment(FOLDER / "environment", python, requirements())
    command = [program(folder), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([str(word) for word in (*command, *requirements("clients-alone"))], check=True)
    if subprocess.run([str(word) for word in (*command, "--force-reinstall", ROOT)], check=False).returncode:
        raise SystemExit("clients: this package did not install")
    return folder


def tests_of(name, folder):
    """What pytest collects, and the folders from which tests import each other."""
    if CLIENTS[name] != "sdist":
        return ["--pyargs", *CLIENTS[name]], []
    (pinned,) = [text for text in requirements() if text.startswith(f"{name}==")]
    place = FOLDER / "sdists" / pinned
    tests, paths = FOLDERS.get(name, ("tests", ["tests"]))
    if not (place / tests).exists():
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([str(program(folder)), "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", name,
                        "--dest", str(place), pinned], check=True)
        (archive,) = place.glob("*.tar.gz")
        with tarfile.open(archive) as sdist:                # only the tests: the package is the installed one
            sdist.extraction_filter = getattr(tarfile, "data_filter", None)     # since Python 3.11.4
            for member in sdist:
                member.name = member.name.partition("/")[2]
                if member.name.startswith(f"{tests}/"):
                    sdist.extract(member, place)
    return [str(place / path) for path in paths], [str(place)] if name in FOLDERS else []


def run(name, side, folder, jobs):
    """{test: (outcome, last line)}, {function: calls} and the costs of each fit."""
    record = FOLDER / "records" / name / side
    shutil.rmtree(record, ignore_errors=True)
    work = FOLDER / "work"                                  # not a folder with another's pytest.ini
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    (work / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    tests, beside = tests_of(name, folder)
    surroundings = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "tools"), *beside]), "LEASTSQ_SIDE": side,
                                 "LEASTSQ_RECORD": str(record), "MPLBACKEND": "Agg", "PYTHONHASHSEED": "0"}
    with open(FOLDER / f"{name}-{side}.log", "w", encoding="utf-8") as log:
        subprocess.run([str(program(folder)), "-m", "pytest", "-p", "in_place", "-p", "no:cacheprovider", "-q", "-ra",
                        "--tb=short", "-c", str(work / "pytest.ini"), "--rootdir", str(work), "--continue-on-collection-errors",
                        *(["-n", str(jobs)] if jobs > 1 else []), *tests],
                       cwd=work, env=surroundings, stdout=log, stderr=subprocess.STDOUT, check=False)
    calls, outcomes, costs = {}, {}, []
    for path in record.glob("*.json"):
        found = json.loads(path.read_text(encoding="utf-8"))
        outcomes |= found["outcomes"]
        costs += found["costs"]
        for function, number in found["calls"].items():
            calls[function] = calls.get(function, 0) + number
    return outcomes, calls, costs


def habit(name, test):
    """The reason for the difference of a test, if it is listed in HABITS."""
    return next((reason for pattern, reason in HABITS.get(name, {}).items() if re.search(pattern, test)), None)


def compare_costs(name, fits):
    """The number of fits that both made, how many had bounds, and the fits that cost more here, or less."""
    found = {"fits": 0, "bounded": 0, "more": [], "less": [], "failed here": [], "failed in SciPy": []}
    for fit in fits:
        if habit(name, fit["test"]):
            continue
        if fit.get("theirs") is None or fit["ours"] is None:
            if fit["our error"] and fit.get("theirs") is not None:
                found["failed here"].append(fit)
            elif "their error" in fit and fit["ours"] is not None:
                found["failed in SciPy"].append(fit)
            continue
        found["fits"] += 1
        found["bounded"] += fit["bounded"]
        least = ROUNDING*(fit["start"] or 0.0)
        for ours, theirs, where in ((fit["ours"], fit["theirs"], "more"), (fit["theirs"], fit["ours"], "less")):
            if ours > MISS*theirs + least:
                found[where].append(fit)
    return found


def compare(name, folder, jobs):
    """The findings about one client."""
    (theirs, their_calls, _), (ours, our_calls, _) = (run(name, side, folder, jobs) for side in SIDES)
    costs = compare_costs(name, run(name, "costs", folder, jobs)[2])
    placed, placed_calls = run(name, "in_scipy", folder, jobs)[:2] if name in WITH_IN_SCIPY else (ours, {})
    unlike = sorted(test for test in ours.keys() | placed.keys() if ours.get(test, [None])[0] != placed.get(test, [None])[0])
    differences = {test: {"scipy": theirs.get(test), "leastsq": ours.get(test)} for test in sorted(theirs.keys() | ours.keys())
                   if theirs.get(test, [None])[0] != ours.get(test, [None])[0]}
    for test, difference in differences.items():
        difference["habit"] = habit(name, test)
    passed = sum(outcome == "passed" for outcome, _ in ours.values())
    return {"version": version(name, folder), "tests": len(ours), "passed": passed,
            "passed with scipy": sum(outcome == "passed" for outcome, _ in theirs.values()),
            "calls": our_calls, "calls of scipy": their_calls, "differences": differences, "costs": costs,
            "calls in_scipy": placed_calls, "unlike in_scipy": unlike}


def what_costs_more(name, costs):
    """Print the comparison of costs, and return the failures."""
    more, less = (len(costs[which]) for which in ("more", "less"))
    say(f"{name}, call by call: {costs['fits']} fits by both, {costs['bounded']} with bounds; {more} cost more here by 1 %, "
        f"{less} less; {len(costs['failed here'])} failed here alone, {len(costs['failed in SciPy'])} in SciPy alone")
    lines = [f"{name}: {fit['function']} in {fit['test']} costs {fit['ours']:.6g}, with SciPy {fit['theirs']:.6g}"
             for fit in costs["more"]]
    failed = [f"{name}: {fit['function']} in {fit['test']} fails, not with SciPy: {fit['our error']}"
              for fit in costs["failed here"]]
    for line in (lines + failed)[:10]:
        print("   ", line)
    if name in COSTS:
        return failed + ([f"{name}: {COSTS[name]}, but {more} do, and {less} less"] if more > less else [])
    return failed + lines


def version(name, folder):
    done = subprocess.run([str(program(folder)), "-c", "import sys; from importlib.metadata import version; "
                           "print(version(sys.argv[1]))", name], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def main():
    parser = argparse.ArgumentParser(description="Test suites of SciPy's users, with SciPy and with leastsq.")
    parser.add_argument("--only", default=",".join(CLIENTS), help="some of these, separated by commas")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes of one suite")
    parser.add_argument("--list", action="store_true", help="print the suites and their pinned versions")
    parser.add_argument("--json", type=Path, default=ROOT / "out" / "clients.json", help="the file for all results")
    options = parser.parse_args()
    if options.list:
        pinned = requirements()
        for name, modules in CLIENTS.items():
            print(*(text for text in pinned if text.startswith(f"{name}==")), modules)
        return
    folder = set_up()
    report, wrong = {}, []
    for name in options.only.split(","):
        report[name] = found = compare(name, folder, options.jobs)
        calls = ", ".join(f"{number} x {function}" for function, number in sorted(found["calls"].items()))
        say(f"{name} {found['version']}: {found['tests']} tests, {found['passed']} passed (with SciPy "
            f"{found['passed with scipy']}), {len(found['differences'])} differ; {calls or 'no fit'}")
        for test, difference in found["differences"].items():
            theirs, ours = ((difference[side] or ["not there"])[0] for side in SIDES)
            print(f"    {test}: {theirs} with SciPy, {ours} with leastsq"
                  f"\n        {difference['habit'] or (difference['leastsq'] or ['', ''])[1]}")
        if not found["calls"]:
            wrong.append(f"{name} made no fit")
        wrong += what_costs_more(name, found["costs"])
        if found["calls in_scipy"]:
            say(f"{name} with in_scipy(): {sum(found['calls in_scipy'].values())} calls answered, "
                f"{len(found['unlike in_scipy'])} outcomes unlike those above")
        wrong += [f"{name} with in_scipy(): {test}" for test in found["unlike in_scipy"]]
        wrong += [f"{name}: {test}" for test, difference in found["differences"].items() if not difference["habit"]]
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if wrong:
        sys.exit("clients: not as with SciPy:\n    " + "\n    ".join(wrong))
    say(f"no difference that is not a habit of SciPy's; {options.json} has all of it")


if __name__ == "__main__":
    main()
