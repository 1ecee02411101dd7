"""A pytest plugin for tools/clients.py: this package in SciPy's place, and what became of each test.

    LEASTSQ_SIDE=leastsq LEASTSQ_RECORD=folder PYTHONPATH=tools pytest -p in_place ...

With the side `leastsq` the names that SciPy's users import (`leastsq`; `curve_fit` and `least_squares` where the
method is Levenberg-Marquardt's) are this package's, from before the client is imported.  With `scipy`
they stay.  Either way calls are counted, for a test suite that makes none says nothing.
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
    """Is it a call that this package answers?  The other methods are not its business."""
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
    """The worst of setting up, calling and tearing down."""
    if report.when == "call" or report.outcome != "passed":
        crash = getattr(report.longrepr, "reprcrash", None)
        outcome = "xfailed" if hasattr(report, "wasxfail") and report.skipped else report.outcome
        outcomes[report.nodeid] = [outcome, crash.message.split("\n")[0] if crash else ""]


def pytest_sessionfinish():
    """Each process of pytest-xdist leaves its own file."""
    RECORD.mkdir(parents=True, exist_ok=True)
    (RECORD / f"{os.getpid()}.json").write_text(json.dumps({"calls": calls, "outcomes": outcomes}), encoding="utf-8")
