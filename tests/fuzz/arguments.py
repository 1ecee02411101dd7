"""Random arguments for leastsq, curve_fit and least_squares (drop_ins.py), compared with SciPy's functions.

    python tests/fuzz/arguments.py --cases 100000

The outcomes must be the same, or differ as a row of the README's table or of drop_ins.py says: the row's
condition must hold for the arguments, and our outcome must be the one that the row gives.  A difference
without a row is a finding.  Needs SciPy 1.18 or newer, whose bits are MINPACK's.
"""
from __future__ import annotations

import argparse
import collections
import contextlib
import io
import random
import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

import numpy as np

for room in ("support", "fit", "dropin"):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / room))
import guards  # noqa: E402
from enzyme import by_columns, jacobian, residual  # noqa: E402
from leastsq import leastsq  # noqa: E402


class Mine(Exception):
    pass


def fails(*args, **kwargs):
    raise Mine("of the user")


def returning(change):
    """The residuals, converted to something else."""
    def func(p, *args):
        return change(residual(p))
    return func


def derivatives(change):
    def Dfun(p, *args):
        return change(jacobian(p))
    return Dfun


def _spoil(value):
    def change(f):
        f[3] = value
        return f
    return change


# name of an argument: {name of a value: value}; the first value is drawn most often
FUNC = {
    "plain": returning(lambda f: f), "list": returning(list), "tuple": returning(tuple),
    "float32": returning(np.float32), "float16": returning(np.float16), "integers": returning(np.rint),
    "int64": returning(lambda f: np.rint(9*f).astype(int)), "bools": returning(lambda f: f > 0),
    "strided": returning(lambda f: np.repeat(f, 2)[::2]), "backwards": returning(lambda f: f[::-1]),
    "swapped": returning(lambda f: f.astype(">f8")), "masked": returning(np.ma.array),
    "one": returning(lambda f: f[:1]), "as many": returning(lambda f: f[:2]), "0-d": returning(np.sum),
    "complex": returning(lambda f: f + 0j), "object": returning(lambda f: f.astype(object)),
    "longdouble": returning(lambda f: f.astype(np.longdouble)), "2-D": returning(lambda f: f[:, None]),
    "none": returning(lambda f: [None]*f.size), "text": returning(lambda f: [str(v) for v in f]),
    "empty": returning(lambda f: f[:0]),
    "nan": returning(_spoil(np.nan)), "inf": returning(_spoil(np.inf)), "raises": fails,
    "zero": returning(lambda f: 0*f), "not callable": 3, "wrong arguments": lambda: 0,
}
DFUN = {
    "none": None, "right": derivatives(lambda j: j), "columns": lambda p, *args: by_columns(p),
    "lists": derivatives(lambda j: j.tolist()), "fortran": derivatives(np.asfortranarray),
    "float32": derivatives(np.float32), "short": derivatives(lambda j: j[:-1]), "flat": derivatives(np.ravel),
    "complex": derivatives(lambda j: j + 0j), "nan": derivatives(lambda j: j*np.nan), "raises": fails,
    "zeros": derivatives(lambda j: 0*j), "no rank": derivatives(lambda j: j[:, [0, 0]]),
    "object": derivatives(lambda j: j.astype(object)), "not callable": 3,
}
X0 = {
    "list": [1.0, 1.0], "array": np.array([2.0, 3.0]), "float32": np.float32([1.5, 1]), "integers": [1, 2],
    "bools": [True, True], "2-D": [[1.0], [2.0]], "zeros": [0.0, 0.0], "far": [1e6, -3.0],
    "strided": np.arange(1.0, 5.0)[::2], "complex": [1j, 1], "object": np.array([1.0, 2.0], object),
    "text": ["a", "b"], "empty": [], "none": None, "nan": [np.nan, 1.0], "inf": [1.0, np.inf],
    "longdouble": np.longdouble([1, 2]), "swapped": np.array([1.0, 2.0], ">f8"),
}
TOLERANCES = {"usual": 1.49012e-8, "zero": 0, "large": 1e-2, "one": 1, "tiny": 1e-20, "true": True,
              "float32": np.float32(1e-4), "array": np.array(1e-6), "negative": -1e-8, "nan": np.nan,
              "inf": np.inf, "none": None, "text": "x", "complex": 1j}
ARGUMENTS = {
    "func": FUNC, "x0": X0, "Dfun": DFUN,
    "args": {"none": (), "one": (1.0,), "scalar": 2.0, "list": [3.0, 4.0], "None": None},
    "full_output": {"yes": True, "no": False, "1": 1, "0": 0, "2": 2, "numpy": np.True_, "none": None,
                    "text": "yes", "float": 1.0},
    "col_deriv": {"no": False, "yes": True, "1": 1, "none": None, "text": "yes"},
    "ftol": TOLERANCES, "xtol": TOLERANCES, "gtol": {"no": 0.0} | TOLERANCES,
    "maxfev": {"default": 0, "negative": -1, "1": 1, "5": 5, "50": 50, "true": True, "float": 3.5,
               "numpy": np.int32(40), "none": None, "text": "7"},
    "epsfcn": {"none": None, "zero": 0, "1e-4": 1e-4, "1": 1, "negative": -1.0, "inf": np.inf, "nan": np.nan,
               "text": "x"},
    "factor": {"100": 100, "1": 1, "0.1": 0.1, "1e6": 1e6, "zero": 0, "negative": -1, "nan": np.nan,
               "none": None, "text": "x"},
    "diag": {"none": None, "ones": [1.0, 1.0], "integers": [1, 3], "graded": np.array([1e-3, 1e3]),
             "zero": [0.0, 1.0], "negative": [1.0, -1.0], "nan": [1.0, np.nan], "long": [1.0, 2.0, 3.0],
             "text": "ab", "complex": [1j, 1]},
}


def improper(c):
    return (any(c[t] in ("negative", "nan") for t in ("ftol", "xtol", "gtol")) or c["x0"] == "empty"
            or c["factor"] in ("zero", "negative", "nan") or c["diag"] in ("zero", "negative", "nan")
            or c["epsfcn"] == "nan")


def ill_typed(c):
    return (c["x0"] in ("complex", "object", "text", "none", "longdouble")
            or c["func"] == "not callable" or c["Dfun"] == "not callable" or c["epsfcn"] == "text"
            or c["diag"] in ("text", "complex")
            or any(c[name] in ("none", "text", "complex", "float") for name in (
                "full_output", "col_deriv", "xtol", "ftol", "maxfev", "factor"))
            or c["gtol"] in ("none", "text", "complex"))


# (the README's row, its condition, our outcome: an exception's name, or ier)
ROWS = [
    ("improper input", improper, ("TypeError",)),
    ("diag of the wrong length", lambda c: c["diag"] == "long", ("ValueError",)),
    ("residuals or derivatives not real, or 2-D", lambda c: c["func"] in (
        "complex", "object", "longdouble", "2-D") or c["Dfun"] in ("complex", "object"),
     ("TypeError", "ValueError")),
    ("checked before func is called", ill_typed, ("TypeError",)),
    ("the first x has the dtype of x0", lambda c: c["x0"] == "bools", tuple(range(1, 10))),
    ("a bool of NumPy's", lambda c: c["full_output"] == "numpy", (1, 2, 3, 4, 5, 6, 7, 8)),
    ("a warning where every derivative is zero at the start", lambda c: c["full_output"] in ("no", "0") and (
        c["func"] == "integers" or c["Dfun"] == "zeros" or c["x0"] == "inf"), (4,)),
    ("residuals None or strings", lambda c: c["func"] in ("none", "text"), ("TypeError",)),
    ("not finite", lambda c: c["func"] in ("nan", "inf") or c["Dfun"] == "nan" or c["x0"] in (
        "nan", "inf", "far") or c["epsfcn"] == "inf", (9,)),
]


def same_array(a, b):
    return type(a) is type(b) and (np.array_equal(a, b, equal_nan=True) if isinstance(a, (np.ndarray, float))
                                   else a == b)


def same_result(ours, theirs):
    if len(ours) != len(theirs) or ours[-1] != theirs[-1] or not same_array(ours[0], theirs[0]):
        return False
    if len(ours) == 2:
        return True
    info, other = ours[2], dict(theirs[2])
    other["ipvt"] = other["ipvt"] + np.int32(1)             # the README's first row
    message = theirs[3]
    for said in ("-1", "True"):                             # the row about maxfev
        message = message.replace(f"maxfev = {said}.", f"maxfev = {_limit(ours)}.")
    if (ours[1] is None) != (theirs[1] is None) or without_advice(ours[3]) != message or list(info) != list(other):
        return False
    # SciPy inverts with LAPACK
    if ours[1] is not None and not np.allclose(ours[1], theirs[1], rtol=1e-6, atol=0):
        return False
    return all(same_array(np.asarray(info[key]), np.asarray(other[key])) for key in info)


def without_advice(message):
    """SciPy's sentences, without what is added where a fit never left its start."""
    return re.split("\n  (?:No step|All derivatives)", message)[0]


def _limit(ours):
    return ours[3].rsplit(" ", 1)[-1].rstrip(".")


# ------------------------------------------------------- any public function

@dataclass(frozen=True)
class PublicFunction:
    """A function of this package, to be compared with SciPy's function of the same name."""

    function: Callable
    arguments: dict             # {name: {name of a value: value}}; an argument whose value is named None is left out
    rows: list                  # like ROWS
    same: Callable              # (our result, SciPy's result) -> bool
    end: Callable = itemgetter(-1)      # our result -> the outcome in rows
    peer: Callable = lambda scipys: scipys   # SciPy's function -> the function to call


LEASTSQ = PublicFunction(leastsq, ARGUMENTS, ROWS, same_result)


def draw(chance, public):
    """{argument: name of a value}: the first value for each argument except a few."""
    case = {name: next(iter(values)) for name, values in public.arguments.items()}
    for name in chance.sample(sorted(case), chance.choice((1, 1, 2, 2, 3, 4))):
        case[name] = chance.choice(list(public.arguments[name]))
    return case


def outcome(solver, case, public):
    """("result", the result) or (name of an exception, its message), and the warnings."""
    values = {name: public.arguments[name][value] for name, value in case.items() if value is not None}
    with warnings.catch_warnings(record=True) as caught, np.errstate(all="ignore"), \
            contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):   # SciPy prints causes
        warnings.simplefilter("always")
        try:
            end = "result", solver(**values)
        except Exception as error:
            end = type(error).__name__, str(error)
    return *end, [w.category.__name__ for w in caught if "complex" not in str(w.message).lower()]


def changes(case, public):
    return {name: value for name, value in case.items() if value != next(iter(public.arguments[name]))}


def faults(changed, public):
    """The exceptions that each changed argument raises on its own; other draws compare those."""
    usual = {name: next(iter(values)) for name, values in public.arguments.items()}
    return {outcome(public.function, usual | {name: value}, public)[0] for name, value in changed.items()} - {"result"}


def compare(case, public, scipys):
    """None if the outcomes are the same; else the row that explains the difference, or "?" and a description."""
    ours = outcome(public.function, case, public)
    theirs = outcome(public.peer(scipys), case, public)
    related = ours[0] == theirs[0] or (ours[0], theirs[0]) == ("TypeError", "UFuncTypeError")
    if related and ours[2] == theirs[2]:
        if ours[0] != "result" or public.same(ours[1], theirs[1]):
            return None
    end = public.end(ours[1]) if ours[0] == "result" else ours[0]
    for name, condition, ends in public.rows:
        if condition(case) and end in ends:
            return name
    changed = changes(case, public)
    if theirs[0] != "result" and len(changed) > 1 and ours[0] in faults(changed, public):
        return "of several faults, another"
    return f"? {changed}\n    ours:   {ours}\n    theirs: {theirs}"


def run(public, cases, seed, scipys):
    """Returns (counts by row, findings)."""
    chance, rows, findings = random.Random(seed), collections.Counter(), []
    for _ in range(cases):
        verdict = compare(draw(chance, public), public, scipys)
        if verdict is not None and verdict.startswith("?"):
            findings.append(verdict)
        else:
            rows[verdict or "same"] += 1
    return rows, findings


def main():
    import scipy
    import scipy.optimize
    from drop_ins import CURVE_FIT, LEAST_SQUARES
    if not guards.scipy_has_minpacks_bits():
        print(f"arguments: not compared, because SciPy {scipy.__version__} does not have MINPACK's bits (1.18 has)")
        return
    functions = {public.function.__name__: public for public in (LEASTSQ, CURVE_FIT, LEAST_SQUARES)}
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=10_000, help="of each function")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=functions, help="one function")
    parser.add_argument("--show", type=int, default=20, help="the most findings to describe")
    options = parser.parse_args()
    found = 0
    for name in [options.only] if options.only else functions:
        rows, findings = run(functions[name], options.cases, options.seed, getattr(scipy.optimize, name))
        print(f"{options.cases} arguments of {name}:", ", ".join(f"{row} {count}" for row, count in rows.most_common()))
        print(*findings[:options.show], sep="\n", end="\n" if findings else "")
        found += len(findings)
    sys.exit(found > 0)


if __name__ == "__main__":
    main()
