"""Notes and sentences that `curve_fit` adds to errors and warnings; used only after something went wrong."""

from __future__ import annotations

import inspect
import re

import numpy as np

from .._problem.arguments import noted
from .._problem.words import VECTORS, is_python, raised_here, unlike_call

__all__ = ["count_unknown", "explain_error", "not_a_function", "ran_out", "unknown_option", "why_no_covariance"]

_BOUNDED = "this option is for fits with bounds, or with method 'trf' or 'dogbox'"
_ELSEWHERE = {"Dfun": "the derivatives of f are `jac`", "x0": "the start is `p0`", "func": "the model is `f`",
              "max_nfev": f"{_BOUNDED}; did you mean 'maxfev'?",
              "x_scale": f"{_BOUNDED}; `diag` takes factors, 1/x_scale",
              "diff_step": f"{_BOUNDED}; the step here is sqrt(epsfcn)*abs(p)",
              "tr_solver": _BOUNDED, "tr_options": _BOUNDED, "jac_sparsity": _BOUNDED}


def unknown_option(name, known):
    """TypeError for an option that `curve_fit` does not have."""
    error = TypeError(f"curve_fit() got an unexpected keyword argument {name!r}")
    if name in _ELSEWHERE:
        return noted(error, _ELSEWHERE[name])
    import difflib                              # not at the top: needed only for messages
    near = difflib.get_close_matches(name, known, 1, 0.6)
    return noted(error, f"did you mean {near[0]!r}?") if near else error


def not_a_function(error, name, given, xdata, ydata):
    """Add notes about the object that was passed in place of a function, and about a model passed among the data."""
    what = f"an array of shape {np.shape(given)}" if isinstance(given, np.ndarray) else f"{type(given).__name__}"
    noted(error, f"`{name}` must be a function of xdata and the parameters, got {what}")
    if name == "f" and (callable(xdata) or callable(ydata)):
        noted(error, "the model is the first argument: curve_fit(f, xdata, ydata)")
    return error


def count_unknown(error, f):
    """Add a note that says why the number of parameters is not known."""
    try:
        signature = inspect.signature(f)
    except (TypeError, ValueError):
        return noted(error, "the signature of f is not known: give p0, a start for each parameter")
    parameters = signature.parameters.values()
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return noted(error, f"f{signature} takes any number of parameters: give p0, a start for each")
    if any(p.kind is p.KEYWORD_ONLY for p in parameters):
        return noted(error, f"f{signature} has keyword-only arguments; parameters of a fit are passed by position")
    return noted(error, f"f must take xdata and then one argument for each parameter, f(xdata, a, b, ...); it takes {signature}")


def explain_error(error, words, f, jac, xdata, ydata, n):
    """Word an error of the fit for curve_fit, and add notes that help."""
    if not raised_here(error):
        return
    text = str(error)
    if np.ndim(ydata) > 1 and "must be 0-d or 1-D" in text:
        error.args = (f"curve_fit: {_not_flat(ydata)}",)
    elif "must be 0-d or 1-D" in text:
        error.args = ("curve_fit: f must return a 1-D array, one value for each entry of ydata: f(xdata, *p) - ydata has shape "
                      f"{text.rpartition('shape ')[2]}; let f return its values .ravel()",)
    elif "broadcast" in text:
        _unlike_shapes(error, text, f, xdata, ydata)
    elif text.startswith("unsupported operand type(s) for -: "):
        got = text.split("'")[1]
        missing = ": is its return statement missing?" if got == "NoneType" else ""
        noted(error, f"f must return an array of numbers, got {got}{missing}")
    elif "shape of the 'Dfun' argument" in text:
        shape = re.search(r"Shape should be (\(.*?\))", text)[1]
        error.__notes__ = []
        noted(error, f"`jac` must return the derivatives of f in shape {shape}"
                     + (", a row for each point, a column for each parameter" if shape.startswith(f"({ydata.size},") else "")
                     + ("; it returned the transpose: return its .T" if text.endswith(_swapped(shape) + ".") else ""))
    elif text.startswith("Improper input: func input vector"):
        error.__notes__ = []
        noted(error, f"N is the number of parameters, {words.labels(range(n))}; M is the number of data")
    elif text.startswith("leastsq"):
        words.translate(error)
        if "dtype complex" in text and "returns" in text:
            noted(error, "give ydata.view(float) for complex ydata, too")
    else:
        _unlike_arguments(error, f, jac, n)


def _not_flat(ydata):
    return f"`ydata` must be 1-D, got shape {ydata.shape}: give ydata.ravel(), and let f return its values .ravel()"


def _swapped(shape):
    first, second = shape.strip("()").split(", ")
    return f"({second}, {first})"


def _unlike_shapes(error, text, f, xdata, ydata):
    shapes = re.findall(r"\(\d[\d,]*\)", text)
    if np.ndim(ydata) > 1:
        noted(error, _not_flat(ydata))
    elif is_python(f) and len(shapes) == 2 and shapes[1] == f"({ydata.size},)":
        got, points = shapes[0], np.shape(xdata)[-1:]
        if points and points[0] != ydata.size and got == f"({points[0]},)":
            noted(error, f"`xdata` and `ydata` differ in length: {points[0]} points in xdata, {ydata.size} in ydata")
        else:
            noted(error, f"f must return one value for each of the {ydata.size} entries of ydata, got shape {got}")


def _unlike_arguments(error, f, jac, n):
    """If f or jac cannot be called with xdata and n parameters, add a note that says how it is called."""
    for name, function in (("f", f), ("jac", jac)):
        takes = unlike_call(function, n + 1)
        if takes is None:
            continue
        names = [p.name for p in inspect.signature(function).parameters.values()
                 if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        own = len(names) - 1
        noted(error, f"{name} is called as {name}(xdata, *p) with {n} parameter{'s'*(n != 1)}, as many as `p0` has; it takes "
                     f"{takes}, xdata and {own} parameter{'s'*(own != 1)}")
        if len(names) == 2 and n > 1:
            first = names[0].lower() in VECTORS
            noted(error, "if one argument holds all parameters, give lambda xdata, *p: "
                         f"{name}({'p, xdata' if first else 'xdata, p'}) as {name}")
        return


def ran_out(error, words, popt, fvec, given):
    """Add a note with advice for a fit that reached maxfev."""
    start = "a better p0" if given else "p0 (there was none)"
    values = ", ".join(f"{words.label(j)} = {value:.6g}" for j, value in enumerate(popt[:8])) + ", ..."*(popt.size > 8)
    return noted(error, f"the fit was at {values}, with a sum of squares of {np.vdot(fvec, fvec):.6g}: give {start}, parameters "
                        "of similar size, or a larger maxfev")


def why_no_covariance(words, popt, info, m, free, absolute_sigma):
    """A sentence about the parameters that the data do not determine; empty if they are not known."""
    n = popt.size
    R = np.triu(info["fjac"].T[:n])[:n]
    order = info["ipvt"] - 1
    which = np.flatnonzero(free)
    if np.isfinite(R).all() and R.shape == (n, n):
        columns = np.empty(n)
        columns[order] = np.linalg.norm(R, axis=0)
        idle = which[columns[which] == 0]
        if idle.size == which.size:
            called = ", ".join(words.label(j) for j in range(min(n, 3))) + ", ..."*(n > 3)
            return (f". All derivatives, by {words.labels(idle)}, are zero where the fit ended: does f, which is called as "
                    f"f(xdata, {called}), use them? If so, start elsewhere")
        if idle.size:
            return (f". The derivatives by {words.labels(idle)} are zero where the fit ended: does {words.func} use "
                    f"{'it' if idle.size == 1 else 'them'}?")
        together = _together(R, columns, order)
        if together is not None and m > which.size:
            return f". The data determine {words.labels(together)} only together"
    if m <= which.size and not absolute_sigma:
        return (f". There are no more data than parameters, {m}: give more data, or `sigma` with absolute_sigma=True")
    return ""


def _together(R, columns, order):
    """Parameters that can change together without an effect, or None."""
    with np.errstate(all="ignore"):
        scaled = R/columns[order]
    if not np.isfinite(scaled).all():
        return None
    _, sizes, directions = np.linalg.svd(scaled)
    if sizes[-1] > 1e-10*sizes[0]:
        return None
    part = np.abs(directions[-1])
    return np.sort(order[part > 1e-3*part.max()])
