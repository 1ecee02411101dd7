"""Run the test suites of packages that fit with SciPy, with SciPy and with this package: `make clients`.

An environment of its own (build/clients) holds the clients of [dependency-groups] clients in pyproject.toml and
this package.  Each suite runs twice, as it is and with tools/in_place.py's names in SciPy's place; only what
becomes another outcome counts.  A difference that is a private habit of SciPy's stands in HABITS with its reason;
any other, or a suite that never called a fit, fails.

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

# What is run of each: modules with tests in them, or `sdist` where only that has the tests.
CLIENTS = {
    "scipy": ["scipy.optimize.tests.test_minpack", "scipy.optimize.tests.test_least_squares"],
    "lmfit": "sdist",
    "astropy": ["astropy.modeling"],
    "photutils": ["photutils.isophote", "photutils.centroids", "photutils.profiles", "photutils.psf"],
    "hyperspy": ["hyperspy.tests.model"],
    "statsmodels": ["statsmodels.miscmodels", "statsmodels.tsa.tests.test_arima_process"],
    "peakutils": "sdist",
}

# Tests of SciPy's private habits: {client: {pattern of the test's name: reason}}.
MORE_THAN_SCIPY = "the test wants what SciPy's method 'lm' cannot do to be refused; here it is done"
TRF_ALONE = "the test passes tr_solver, which SciPy's method 'lm' ignores; here it is refused by name"
HABITS = {
    "scipy": {
        r"TestCurveFit::test_bounds$": MORE_THAN_SCIPY,
        r"TestLM::test_(bounds_not_supported|loss|callback_with_lm_method)$": MORE_THAN_SCIPY,
        r"test_small_tolerances_for_lm$": MORE_THAN_SCIPY,
        r"TestLM::test_rosenbrock$": TRF_ALONE,
    },
    "lmfit": {
        r"test_parameters_usersyms$": "the test counts calls: SciPy's leastsq makes two more than it reports",
        r"test_manypeaks_speed$": "the test limits the time by the clock, which a busy machine exceeds with either",
    },
}


def say(*words):
    print("clients:", *words, flush=True)


def requirements():
    with open(ROOT / "pyproject.toml", "rb") as file:
        return tomllib.load(file)["dependency-groups"]["clients"]


def set_up():
    """The environment with the clients, and with the package as it is now."""
    pythons = find_pythons(candidates(), OLDEST_PYTHON)
    if not pythons:
        raise SystemExit("clients: SciPy 1.18 needs Python 3.12 or newer, and none was found")
    name, python = next(iter(pythons.items()))
    say(f"an environment of {name} with", ", ".join(requirements()))
    folder = environment(FOLDER / "environment", python, requirements())
    command = [program(folder), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
               "--force-reinstall", ROOT]
    if subprocess.run([str(word) for word in command], check=False).returncode:
        raise SystemExit("clients: this package did not install")
    return folder


def tests_of(name, folder):
    """What pytest is told to collect."""
    if CLIENTS[name] != "sdist":
        return ["--pyargs", *CLIENTS[name]]
    (pinned,) = [text for text in requirements() if text.startswith(f"{name}==")]
    place = FOLDER / "sdists" / pinned
    if not (place / "tests").exists():
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([str(program(folder)), "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", name,
                        "--dest", str(place), pinned], check=True)
        (archive,) = place.glob("*.tar.gz")
        with tarfile.open(archive) as sdist:                # the tests alone: the package is the installed one
            sdist.extraction_filter = getattr(tarfile, "data_filter", None)     # since Python 3.11.4
            for member in sdist:
                member.name = member.name.partition("/")[2]
                if member.name.startswith("tests/"):
                    sdist.extract(member, place)
    return [str(place / "tests")]


def run(name, side, folder, jobs):
    """{test: (outcome, last words)} and {function: calls}."""
    record = FOLDER / "records" / name / side
    shutil.rmtree(record, ignore_errors=True)
    work = FOLDER / "work"                                  # not a folder with another's pytest.ini
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    (work / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    surroundings = os.environ | {"PYTHONPATH": str(ROOT / "tools"), "LEASTSQ_SIDE": side, "LEASTSQ_RECORD": str(record),
                                 "MPLBACKEND": "Agg", "PYTHONHASHSEED": "0"}
    with open(FOLDER / f"{name}-{side}.log", "w", encoding="utf-8") as log:
        subprocess.run([str(program(folder)), "-m", "pytest", "-p", "in_place", "-p", "no:cacheprovider", "-q", "-ra",
                        "--tb=short", "-c", str(work / "pytest.ini"), "--rootdir", str(work), "--continue-on-collection-errors",
                        *(["-n", str(jobs)] if jobs > 1 else []), *tests_of(name, folder)],
                       cwd=work, env=surroundings, stdout=log, stderr=subprocess.STDOUT, check=False)
    calls, outcomes = {}, {}
    for path in record.glob("*.json"):
        found = json.loads(path.read_text(encoding="utf-8"))
        outcomes |= found["outcomes"]
        for function, number in found["calls"].items():
            calls[function] = calls.get(function, 0) + number
    return outcomes, calls


def compare(name, folder, jobs):
    """What there is to say of one client."""
    (theirs, their_calls), (ours, our_calls) = (run(name, side, folder, jobs) for side in SIDES)
    differences = {test: {"scipy": theirs.get(test), "leastsq": ours.get(test)} for test in sorted(theirs.keys() | ours.keys())
                   if theirs.get(test, [None])[0] != ours.get(test, [None])[0]}
    for test, difference in differences.items():
        difference["habit"] = next((reason for pattern, reason in HABITS.get(name, {}).items()
                                    if re.search(pattern, test)), None)
    passed = sum(outcome == "passed" for outcome, _ in ours.values())
    return {"version": version(name, folder), "tests": len(ours), "passed": passed,
            "passed with scipy": sum(outcome == "passed" for outcome, _ in theirs.values()),
            "calls": our_calls, "calls of scipy": their_calls, "differences": differences}


def version(name, folder):
    done = subprocess.run([str(program(folder)), "-c", "import sys; from importlib.metadata import version; "
                           "print(version(sys.argv[1]))", name], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def main():
    parser = argparse.ArgumentParser(description="Test suites of SciPy's users, with SciPy and with leastsq.")
    parser.add_argument("--only", default=",".join(CLIENTS), help="some of these, with commas between")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes of one suite")
    parser.add_argument("--list", action="store_true", help="print the suites and the versions they are pinned to")
    parser.add_argument("--json", type=Path, default=ROOT / "out" / "clients.json", help="where all results go")
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
        wrong += [f"{name}: {test}" for test, difference in found["differences"].items() if not difference["habit"]]
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if wrong:
        sys.exit("clients: not as with SciPy:\n    " + "\n    ".join(wrong))
    say(f"no difference that is not a habit of SciPy's; {options.json} has all of it")


if __name__ == "__main__":
    main()
