"""A pytest plugin for tools/clients.py: puts this package in SciPy's place, and records the outcome of each test and fit.

    LEASTSQ_SIDE=leastsq LEASTSQ_RECORD=folder PYTHONPATH=tools pytest -p in_place ...

The sides:

* `scipy`: SciPy's names `leastsq`, `curve_fit` and `least_squares` stay unchanged, and calls are counted.
* `leastsq`: they refer to this package, whatever the method, from before the client is imported.  A call that this
  package refuses by name (sparse Jacobians, linear operators) is counted and goes on to SciPy.
* `in_scipy`: `leastsq.in_scipy()` replaces them once all modules of the client and its tests are imported.
* `costs`: both answer each call, SciPy's answer is returned, and the costs of both are recorded.

On every side calls are counted: a test suite without any call shows nothing.
"""
import functools
import json
import os
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import scipy.optimize

import leastsq
from leastsq._problem.losses import parse_loss
from leastsq._scipy.arguments import NotDense

SIDE = os.environ["LEASTSQ_SIDE"]
RECORD = Path(os.environ["LEASTSQ_RECORD"])
THEIRS = {name: getattr(scipy.optimize, name) for name in ("leastsq", "curve_fit", "least_squares")}
# The positions of the arguments that the plugin reads.
ARGUMENTS = {"leastsq": ("func", "x0", "args", "Dfun", "full_output"),
             "curve_fit": ("f", "xdata", "ydata", "p0", "sigma", "absolute_sigma", "check_finite", "bounds", "method"),
             "least_squares": ("fun", "x0", "jac", "bounds", "method")}
calls, outcomes, costs = Counter(), {}, []
state = {"place": None, "test": "", "busy": False}


def by_name(name, arguments, keywords):
    """The arguments that the plugin reads, by name, with SciPy's default method."""
    given = dict(zip(ARGUMENTS[name], arguments)) | keywords
    if name == "least_squares":
        given.setdefault("method", "trf")
    return given


def is_bounded(given):
    """Is any bound finite?  Infinite bounds do not count."""
    try:
        bounds = given.get("bounds", (-np.inf, np.inf))
        low, high = (bounds.lb, bounds.ub) if hasattr(bounds, "lb") else bounds
        return bool(np.any(np.isfinite(np.asarray(low, float))) or np.any(np.isfinite(np.asarray(high, float))))
    except (TypeError, ValueError):
        return False


def put_in_place(name):
    """Replace SciPy's function in both modules: the public one, and the one that defines it."""
    theirs, ours = THEIRS[name], getattr(leastsq, name)

    @functools.wraps(theirs)
    def replacement(*arguments, **keywords):
        if state["busy"]:               # SciPy's curve_fit calls its other two
            return theirs(*arguments, **keywords)
        given = by_name(name, arguments, keywords)
        calls[f"{name} with bounds" if is_bounded(given) else name] += 1
        if SIDE == "costs":
            return both(name, theirs, ours, arguments, keywords, given)
        if SIDE == "leastsq":
            if name == "least_squares" and len(arguments) < 5:
                keywords = {"method": "trf"} | keywords
            try:
                return ours(*arguments, **keywords)
            except NotDense:            # refused by name: the client's later calls are still answered here
                calls[f"{name} refused"] += 1
        state["busy"] = True
        try:
            return theirs(*arguments, **keywords)
        finally:
            state["busy"] = False

    for module in (scipy.optimize, __import__(theirs.__module__, fromlist=[name])):
        setattr(module, name, replacement)


def both(name, theirs, ours, arguments, keywords, given):
    """Return SciPy's answer, and record its cost in `costs` with that of this package for the same call."""
    if name == "least_squares":
        called = arguments, {"method": "trf"} | keywords if len(arguments) < 5 else keywords
    elif name == "leastsq" and len(arguments) > 4:
        called = (*arguments[:4], True, *arguments[5:]), keywords
    else:
        called = arguments, keywords | {"full_output": True}
    numbers = np.random.get_state()                         # noqa: NPY002 (the client may use it)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        started, cost, error, start = None, None, None, None
        try:
            with np.errstate(all="ignore"):
                watched, started = (called, None) if "workers" in keywords else watch(name, *called)     # may be pickled
                result = ours(*watched[0], **watched[1])
                cost, start = costs_of(name, result, given, started)
        except NotDense:
            pass                        # counted with the side `leastsq`
        except Exception as caught:
            error = f"{type(caught).__name__}: {caught}"[:200]
    np.random.set_state(numbers)                            # noqa: NPY002
    line = {"test": state["test"], "function": name, "bounded": is_bounded(given), "ours": cost, "our error": error,
            "start": start}
    costs.append(line)
    state["busy"] = True
    try:
        result = theirs(*called[0], **called[1])
    except Exception as caught:
        line["their error"] = f"{type(caught).__name__}: {caught}"[:200]
        raise
    finally:
        state["busy"] = False
    line["theirs"] = costs_of(name, result, given)[0]
    if name == "least_squares" or given.get("full_output"):
        return result
    return result[:2] if name == "curve_fit" else (result[0], result[4])


def watch(name, arguments, keywords):
    """The call, with a function that stores the point of its first call."""
    first, what = [], ARGUMENTS[name][0]
    function = arguments[0] if arguments else keywords[what]

    @functools.wraps(function, updated=())
    def watched(*values, **more):
        if not first:
            first.append(np.array(values[1:] if name == "curve_fit" else values[0], float))
        return function(*values, **more)
    if arguments:
        return ((watched, *arguments[1:]), keywords), first
    return (arguments, keywords | {what: watched}), first


def costs_of(name, result, given, started=None):
    """Half the sum of squares, or of the losses, at the end; for results of this package also at the start."""
    loss = parse_loss(given.get("loss", "linear"), given.get("f_scale", 1.0))

    def cost(f):
        return 0.5*float(loss.values(np.atleast_1d(np.asarray(f, float)))[0].sum())
    if name == "least_squares":
        end, problem = result.cost, getattr(result, "problem", None)
    else:
        end, problem = cost(result[2]["fvec"]), getattr(result[2], "problem", None)
    if not started or problem is None:
        return float(end), None
    return float(end), cost(problem.func(np.atleast_1d(started[0]), *problem.args))


if SIDE == "in_scipy":
    pass                                # pytest_collection_finish does it
else:
    with warnings.catch_warnings():     # give the only warning about another algorithm here, not in a test
        warnings.simplefilter("ignore")
        leastsq.curve_fit(lambda x, a: a*x, [1.0, 2.0], [1.0, 2.1], method="trf")
    for public in THEIRS:
        put_in_place(public)


def pytest_collection_finish():
    """All modules are imported: `in_scipy` must find the names in them."""
    if SIDE == "in_scipy":
        state["place"] = leastsq.in_scipy()


def pytest_runtest_logstart(nodeid):
    state["test"] = nodeid


def pytest_runtest_logreport(report):
    """The worst outcome of setup, call and teardown."""
    if report.when == "call" or report.outcome != "passed":
        crash = getattr(report.longrepr, "reprcrash", None)
        outcome = "xfailed" if hasattr(report, "wasxfail") and report.skipped else report.outcome
        outcomes[report.nodeid] = [outcome, crash.message.split("\n")[0] if crash else ""]


def pytest_sessionfinish():
    """Each process of pytest-xdist writes its own file."""
    if state["place"] is not None:
        state["place"].restore()
        calls.update(state["place"].calls)
    RECORD.mkdir(parents=True, exist_ok=True)
    record = {"calls": calls, "outcomes": outcomes, "costs": costs}
    (RECORD / f"{os.getpid()}.json").write_text(json.dumps(record), encoding="utf-8")
