"""The names of functions and parameters in errors and warnings: each public function has its own names for its arguments."""

from __future__ import annotations

import functools
import inspect
import re
import sys
from dataclasses import dataclass
from types import FunctionType, MethodType

from .arguments import noted

__all__ = ["LEASTSQ", "LEAST_SQUARES", "VECTORS", "Words", "callers_level", "explain_call", "is_python", "of_curve_fit",
           "raised_here", "unlike_call"]

_SCIPYS = ("there is a mismatch between the input", "Improper input: func input vector")     # SciPy's messages stay unchanged
_AS_REAL = ("use two real numbers for each complex one: return np.ascontiguousarray(values).view(float), "
            "real and imaginary parts in turn")
# common names of an argument that holds all parameters
VECTORS = {"p", "par", "pars", "param", "params", "parameters", "theta", "beta", "coef", "coeff", "coeffs", "popt"}


@dataclass(frozen=True, slots=True)
class Words:
    """
    The names that one public function has for its arguments.

    Attributes
    ----------
    caller : str
        The public function.
    func, Dfun, x0 : str
        The names of its arguments for the residual function, the Jacobian and the start.
    names : tuple of str or None
        The names of the parameters; None: ``x[0]``, ``x[1]``, ...
    """

    caller: str = "leastsq"
    func: str = "func"
    Dfun: str = "Dfun"
    x0: str = "x0"
    names: tuple | None = None

    def label(self, j):
        """The name of parameter j."""
        if self.names is not None:
            return self.names[j]
        return f"{'p' if self.x0 == 'p0' else 'x'}[{j}]"

    def labels(self, which):
        """The names of several parameters, as a list in a sentence."""
        return _listed([self.label(j) for j in which])

    def of(self, text):
        """A message of this package that speaks of `leastsq` and its arguments, with the names of this function instead."""
        if self.caller == "leastsq":
            return text
        text = re.sub("^leastsq(: |[(])", rf"{self.caller}\1", text)
        if self.x0 == "p0":
            text = re.sub(r"\bfunc\(x\)\[(\d+)\]", r"f(xdata, *p)[\1] - ydata[\1]", text).replace("func(x)", "f(xdata, *p)")
            text = re.sub(r"\b(at|with a complex) x\b(?! =|\[)", r"\1 p", text).replace("at x = ", "at p = ")
        text = re.sub(r"\bx\[(\d+)\]", lambda found: self.label(int(found[1])), text)
        for theirs, ours in (("func", self.func), ("Dfun", self.Dfun), ("x0", self.x0)):
            text = re.sub(rf"\b{theirs}\b", ours, text)
        return text

    def translate(self, error):
        """Put these names into the message of an error that this package raised; SciPy's messages stay unchanged."""
        if (type(error) in (TypeError, ValueError, OverflowError) and len(error.args) == 1 and isinstance(error.args[0], str)
                and error.args[0].startswith("leastsq") and not any(words in error.args[0] for words in _SCIPYS)):
            error.args = (self.of(error.args[0]),)


LEASTSQ = Words()
LEAST_SQUARES = Words("least_squares", "fun", "jac", "x0")


def of_curve_fit(names):
    """The `Words` of `curve_fit` for a model with these parameters, or None."""
    return Words("curve_fit", "f", "jac", "p0", names)


def _listed(words):
    """Words joined as in "one, two and three"."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def raised_here(error):
    """Was the error raised by this package, or by the call of a user's function before the function began?

    Otherwise the function itself raised it.
    """
    ours, trace = __name__.split(".")[0], error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").split(".")[0] != ours:
            return False
        trace = trace.tb_next
    return True


def explain_call(error, words, func, Dfun, args):
    """Add notes to an error for which `raised_here` is true, in a fit that calls its functions as ``func(x, *args)``."""
    text = str(error)
    if not raised_here(error):
        return
    if "float64" in text and "dtype complex" in text and "returns" in text:
        noted(error, _AS_REAL)
        return
    for name, function in ((words.func, func), (words.Dfun, Dfun)):
        wanted = unlike_call(function, 1 + len(args))
        if wanted is None:
            continue
        note = f"{name} is called as {name}(x{', *args' if args else ''})"
        if args:
            note += (f", with the {len(args)} entries of args after x: to pass a tuple as one argument use args=(value,)"
                     if len(args) > 1 else ", with the one entry of args after x")
        else:
            note += ": one array x holds all parameters; pass further arguments as args=(value, ...)"
        noted(error, f"{note}.  It takes {wanted}")
        return


def unlike_call(function, count):
    """The signature of a Python function that cannot take `count` positional arguments; else None."""
    if not is_python(function):
        return None
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    try:
        signature.bind(*[None]*count)
    except TypeError:
        return re.sub(r"\) ->.*", ")", str(signature))
    return None


def callers_level(level):
    """`level` as `warnings.warn` counts it, plus the functions that stand in for SciPy's, so a warning names the user's line."""
    frame = sys._getframe(1)
    for _ in range(level - 1):
        frame = frame and frame.f_back
    while frame is not None and "__leastsq_stands_in__" in frame.f_globals:
        frame, level = frame.f_back, level + 1
    return level


def is_python(function):
    """Is it a function written in Python, whose own errors show in tracebacks?"""
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, (FunctionType, MethodType)):
        return True
    return callable(function) and isinstance(type(function).__call__, FunctionType)
