"""A pytest plugin for tools/clients.py: puts this package in SciPy's place, and records the outcome of each test.

    LEASTSQ_SIDE=leastsq LEASTSQ_RECORD=folder PYTHONPATH=tools pytest -p in_place ...

With the side `leastsq`, SciPy's names `leastsq`, `curve_fit` and `least_squares` (the last two where the method is
Levenberg-Marquardt) refer to this package from before the client is imported.  With `scipy` they stay
unchanged.  In both cases calls are counted: a test suite without any call shows nothing.
"""
import functools
import json
import os
from collections import Counter
from pathlib import Path

import scipy.optimize

import leastsq

SIDE = os.environ["LEASTSQ_SIDE"]
RECORD = Path(os.environ["LEASTSQ_RECORD"])
calls = Counter()
outcomes = {}


def levenberg_marquardt(name, arguments, keywords):
    """Does this package have the method of this call?  SciPy answers the others."""
    if name == "leastsq":
        return True
    position, default = {"curve_fit": (8, None), "least_squares": (4, "trf")}[name]
    method = arguments[position] if len(arguments) > position else keywords.get("method", default)
    return method == "lm" or (name == "curve_fit" and method is None and "bounds" not in keywords and len(arguments) < 8)


def put_in_place(name):
    """SciPy's name, wherever it is looked up: public, and where SciPy itself defines it."""
    theirs, ours = getattr(scipy.optimize, name), getattr(leastsq, name)

    @functools.wraps(theirs)
    def replacement(*arguments, **keywords):
        if not levenberg_marquardt(name, arguments, keywords):
            return theirs(*arguments, **keywords)
        calls[name] += 1
        return (ours if SIDE == "leastsq" else theirs)(*arguments, **keywords)

    for module in (scipy.optimize, __import__(theirs.__module__, fromlist=[name])):
        setattr(module, name, replacement)


for public in ("leastsq", "curve_fit", "least_squares"):
    put_in_place(public)


def pytest_runtest_logreport(report):
    """The worst outcome of setup, call and teardown."""
    if report.when == "call" or report.outcome != "passed":
        crash = getattr(report.longrepr, "reprcrash", None)
        outcome = "xfailed" if hasattr(report, "wasxfail") and report.skipped else report.outcome
        outcomes[report.nodeid] = [outcome, crash.message.split("\n")[0] if crash else ""]


def pytest_sessionfinish():
    """Each process of pytest-xdist writes its own file."""
    RECORD.mkdir(parents=True, exist_ok=True)
    (RECORD / f"{os.getpid()}.json").write_text(json.dumps({"calls": calls, "outcomes": outcomes}), encoding="utf-8")
