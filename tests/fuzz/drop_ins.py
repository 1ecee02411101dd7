"""Random arguments for curve_fit and least_squares, of this package and of SciPy: see arguments.py.

Where SciPy does not use Levenberg-Marquardt (with bounds it uses trf), the answers agree within the tolerances
of the two methods.
"""
from __future__ import annotations

import functools

import numpy as np

from arguments import PublicFunction, fails, without_advice
from leastsq import curve_fit, least_squares
from test_curve_fit import COV, SD, Decay, X, Y, marked


def decay(x, a, b):
    return a*np.exp(-b*np.asarray(x))


def decay_jac(x, a, b):
    x = np.asarray(x)
    return np.stack([np.exp(-b*x), -a*x*np.exp(-b*x)], axis=1)


def model(change):
    def f(x, a, b):
        return change(decay(x, a, b))
    return f


def derivatives(change):
    def jac(x, a, b):
        return change(decay_jac(x, a, b))
    return jac


class Bounds:
    def __init__(self, lb, ub):
        self.lb, self.ub = lb, ub


CURVE_FIT_ARGUMENTS = {
    "f": {"plain": decay, "list": model(list), "tuple": model(tuple), "float32": model(np.float32),
          "object": model(lambda f: f.astype(object)), "integers": model(np.rint), "masked": model(np.ma.array),
          "strided": model(lambda f: np.repeat(f, 2)[::2]), "callable": Decay(), "partial": functools.partial(decay),
          "stars": lambda x, *p: decay(x, *p), "default": lambda x, a, b=2: decay(x, a, b),
          "keyword": lambda x, a, *, b=2: decay(x, a, b), "one": lambda x, a: decay(x, a, 1),
          "idle": lambda x, a, b: decay(x, a, 1) + 0*b, "three": lambda x, a, b, c: decay(x, a, b) + c,
          "column": model(lambda f: f[:, None]), "scalar": model(np.mean), "short": model(lambda f: f[:5]),
          "empty": model(lambda f: f[:0]), "complex": model(lambda f: f + 0j), "none": model(lambda f: None),
          "text": model(lambda f: "abc"), "nan": model(lambda f: f*np.nan), "raises": fails, "no parameters": np.cos,
          "not callable": 3, "log": lambda x, a, b: np.log(a - 1.2) + b*np.asarray(x)},
    "xdata": {"array": X, "list": X.tolist(), "tuple": tuple(X), "float32": np.float32(X), "2-D": X[None],
              "nan": marked(X, np.nan, 3), "inf": marked(X, np.inf, 2), "integers": list(range(12)), "range": range(12),
              "masked": np.ma.array(X, mask=X > 2), "short": X[:7], "empty": [], "None": None, "text": ["q"]*12,
              "complex": X + 0j, "object": X.astype(object), "dict": {"t": X}},
    "ydata": {"array": Y, "list": Y.tolist(), "float32": np.float32(Y), "integers": [1, 0]*6, "column": Y[:, None],
              "nan": marked(Y, np.nan, 2, 7), "inf": marked(Y, np.inf, 2), "masked": np.ma.array(Y, mask=Y > 9),
              "short": Y[:7], "two": Y[:2], "one": Y[:1], "scalar": 2.0, "empty": [], "None": None,
              "text": ["q"]*12, "complex": Y + 0j, "object": Y.astype(object), "swapped": Y.astype(">f8")},
    "p0": {"none": None, "list": [1.0, 1.0], "array": np.array([2.0, .1]), "integers": (1, 2), "2-D": [[1.0, 2.0]],
           "float32": np.float32([1, 2]), "scalar": 2.0, "three": [1.0, 1, 0], "empty": [], "nan": [1.0, np.nan],
           "text": "ab", "strings": ["1", "2"], "complex": [1j, 1], "zeros": [0.0, 0.0], "far": [1e3, -20.0],
           "bools": [True, True], "object": np.array([1.0, 2.0], object)},
    "sigma": {"none": None, "vector": SD, "scalar": .3, "list": SD.tolist(), "integers": list(range(1, 13)),
              "one": [.3], "covariance": COV, "column": SD[:, None], "negative": -SD, "zero": marked(SD, 0, 3),
              "nan": marked(SD, np.nan, 3), "inf": marked(SD, np.inf, 3), "short": SD[:5], "small": np.eye(5),
              "3-D": np.ones((2, 2, 3)), "not definite": -COV, "nan matrix": COV*np.nan, "text": "x",
              "complex": SD + 0j, "lower": np.tril(COV), "singular": np.ones((12, 12)), "empty": [],
              "bools": [True]*12, "masked": np.ma.array(SD)},
    "absolute_sigma": {"no": False, "yes": True, "1": 1, "0": 0, "none": None, "text": "x"},
    "check_finite": {"none": None, "yes": True, "no": False, "0": 0},
    "bounds": {"none": (-np.inf, np.inf), "wide": ([-9, -9], [9, 9]), "tight": ([0, 0], [2, .5]), "one": (0, 3),
               "half": (0, np.inf), "infinite": ([-np.inf]*2, [np.inf]*2), "object": Bounds([0, 0], [2, 3]),
               "crossed": ([2, 2], [1, 1]), "long": ([0]*3, [9]*3), "nan": ([0, np.nan], [9, 9]), "text": ("a", "b"),
               "three": (0, 1, 2), "outside": ([5, 5], [9, 9])},
    "method": {"none": None, "lm": "lm"},
    "jac": {"none": None, "right": decay_jac, "lists": derivatives(np.ndarray.tolist), "fortran": derivatives(np.asfortranarray),
            "float32": derivatives(np.float32), "columns": derivatives(np.transpose), "flat": derivatives(np.ravel),
            "short": derivatives(lambda j: j[:-1]), "nan": derivatives(lambda j: j*np.nan), "raises": fails,
            "complex": derivatives(lambda j: j + 0j), "zeros": derivatives(lambda j: 0*j), "number": 3, "word": "4-point",
            "no rank": derivatives(lambda j: j[:, [0, 0]])},
    "full_output": {"yes": True, "no": False, "1": 1, "0": 0, "none": None},
    "nan_policy": {"none": None, "raise": "raise", "omit": "omit", "propagate": "propagate", "word": "ignore", "3": 3},
    # keywords of leastsq
    "maxfev": {None: None, "0": 0, "3": 3, "50": 50, "text": "7"},
    "ftol": {None: None, "large": 1e-2, "tiny": 1e-20, "negative": -1.0, "text": "x"},
    "epsfcn": {None: None, "1e-10": 1e-10, "text": "x"},
    "factor": {None: None, "1": 1.0, "zero": 0},
    "diag": {None: None, "graded": (1, 2), "long": [1, 2, 3]},
    "col_deriv": {None: None, "yes": True},
    "max_nfev": {None: None, "3": 3},
    "args": {None: None, "one": (1,)},
    "foo": {None: None, "3": 3},
}


def near(a, b, rtol):
    a, b = np.asarray(a, float), np.asarray(b, float)
    return a.shape == b.shape and np.allclose(a, b, rtol=rtol, atol=rtol*(1e-9 + np.abs(b[np.isfinite(b)]).max(initial=0)),
                                              equal_nan=True)


def same_curve(ours, theirs):
    """Parameters to 1e-6 (1e-3 with bounds, where SciPy uses trf), the covariance to 1e-3 (1e-2); messages of failures differ."""
    if len(ours) != len(theirs):
        return False
    bounded = len(theirs) == 5 and "ipvt" not in theirs[2]
    if not (near(ours[0], theirs[0], 1e-3 if bounded else 1e-6) and near(ours[1], theirs[1], 1e-2 if bounded else 1e-3)):
        return False
    if len(ours) == 2 or bounded:
        return True
    return (ours[2]["nfev"] == theirs[2]["nfev"] and near(ours[2]["fvec"], theirs[2]["fvec"], 1e-6)
            and np.shape(ours[2]["fvec"]) == np.shape(theirs[2]["fvec"])
            and without_advice(ours[3]) == theirs[3] and ours[4] == theirs[4] and ours[2].keys() == theirs[2].keys())


def same_optimum(ours, theirs):
    names = ("x", "cost", "fun", "jac", "grad", "active_mask")
    return (ours.keys() - {"multipliers"} == theirs.keys() and ours.success == theirs.success
            and near(ours.cost, theirs.cost, 1e-6) and near(ours.x, theirs.x, 1e-4)
            and all(np.shape(ours[name]) == np.shape(theirs[name]) and type(ours[name]) is type(theirs[name])
                    for name in names))


def residual(x, *args, **kwargs):
    return x[0]*np.exp(-x[1]*X) - Y


def derivative(x, *args, **kwargs):
    return decay_jac(X, *x)


def changed(function, change):
    def fun(x, *args, **kwargs):
        return change(function(x))
    return fun


TOLERANCE = {"usual": 1e-8, "none": None, "large": 1e-3, "tiny": 1e-20, "negative": -1.0, "text": "x", "zero": 0, "nan": np.nan}
LEAST_SQUARES_ARGUMENTS = {
    "fun": {"plain": residual} | {name: changed(residual, change) for name, change in {
        "list": list, "float32": np.float32, "object": lambda f: f.astype(object), "2-D": lambda f: f[:, None],
        "scalar": np.sum, "one": lambda f: f[:1], "empty": lambda f: f[:0], "complex": lambda f: f + 0j,
        "none": lambda f: None, "text": lambda f: "abc", "nan": lambda f: f*np.nan, "masked": np.ma.array,
        "strided": lambda f: np.repeat(f, 2)[::2]}.items()} | {"raises": fails, "number": 3},
    "x0": {"list": [1.0, 1.0], "array": np.array([.5, 2]), "integers": (1, 2), "2-D": [[1.0, 1.0]], "scalar": 1.0,
           "three": [1.0, 1, 1], "empty": [], "nan": [np.nan, 1], "complex": [1j, 1], "text": "ab", "none": None,
           "float32": np.float32([1, 1]), "object": np.array([1.0, 1.0], object), "zeros": [0.0, 0.0]},
    "jac": {"2-point": "2-point", "3-point": "3-point", "cs": "cs", "right": derivative} | {
        name: changed(derivative, change) for name, change in {
            "lists": np.ndarray.tolist, "columns": np.transpose, "flat": np.ravel, "short": lambda j: j[:-1],
            "nan": lambda j: j*np.nan, "complex": lambda j: j + 0j, "zeros": lambda j: 0*j, "none": lambda j: None,
            "float32": np.float32, "no rank": lambda j: j[:, [0, 0]]}.items()} | {
        "raises": fails, "number": 3, "word": "4-point", "None": None},
    "bounds": {"none": (-np.inf, np.inf), "wide": ([-9, -9], [9, 9]), "tight": ([0, 0], [2, .5]), "one": (0, 3),
               "crossed": ([2, 2], [1, 1]), "long": ([0]*3, [9]*3), "object": Bounds([0, 0], [2, 3]),
               "three": (0, 1, 2), "outside": ([5, 5], [9, 9]), "text": ("a", "b"), "none at all": None},
    "ftol": TOLERANCE, "xtol": TOLERANCE, "gtol": TOLERANCE,
    "x_scale": {"none": None, "jac": "jac", "vector": [1.0, 2.0], "scalar": 2.0, "zero": 0.0, "negative": [1.0, -1],
                "long": [1.0]*3, "text": "x", "nan": np.nan},
    "loss": {"linear": "linear", "soft_l1": "soft_l1", "huber": "huber", "cauchy": "cauchy", "arctan": "arctan",
             "word": "median", "number": 3, "none": None},
    "f_scale": {"1": 1.0, "0.1": .1, "integer": 2, "zero": 0, "negative": -1.0, "text": "x", "nan": np.nan},
    "diff_step": {"none": None, "scalar": 1e-6, "vector": [1e-6, 1e-7], "long": [1e-6]*3, "zero": 0.0, "text": "x"},
    "tr_solver": {"none": None, "exact": "exact"},
    "max_nfev": {"none": None, "3": 3, "100": 100, "zero": 0, "negative": -1, "float": 50.0, "text": "x"},
    "verbose": {"0": 0, "3": 3, "9": 9, "text": "x"},
    "args": {"none": (), "one": (1.0,), "scalar": 2.0, "None": None, "list": [1, 2]},
    "kwargs": {"none": None, "one": {"k": 1}, "empty": {}, "number": 3},
}


def by_trf(scipys):
    """SciPy's function, with trf for bounds and losses, which its "lm" does not have."""
    def solver(fun, x0, bounds, loss, **options):
        free = isinstance(bounds, tuple) and len(bounds) == 2 and np.ndim(bounds[0]) == 0 and bounds[0] == -np.inf
        return scipys(fun, x0, bounds=bounds, loss=loss, method="lm" if free and loss == "linear" else "trf", **options)
    return solver


def bounded(c):
    return c["bounds"] not in ("none", "infinite")


def refused_by_type(c):
    return c["f"] in ("object", "complex", "column") or c["ydata"] == "column" or c["xdata"] == "2-D" \
        or c["jac"] == "complex" or c["sigma"] == "complex" or c["p0"] == "complex"


# as in arguments.py; an outcome is "result" or an exception
CURVE_FIT_ROWS = [
    ("improper input", lambda c: bounded(c) and (c["factor"] == "zero" or c["ftol"] == "negative"), ("RuntimeError",)),
    ("diag of the wrong length", lambda c: c["diag"] == "long" or c["diag"] == "graded" and (
        c["f"] in ("one", "three", "keyword", "no parameters") or c["p0"] in ("scalar", "three")), ("ValueError",)),
    ("not finite", lambda c: c["ydata"] == "None" or c["xdata"] == "empty" or c["f"] in ("nan", "log") or c["jac"] == "nan"
     or c["p0"] in ("nan", "far"), ("RuntimeError",)),
    ("not finite, and not omitted", lambda c: {c["xdata"], c["ydata"]} & {"nan", "inf"}, ("RuntimeError",)),
    ("sigma of zero or nan", lambda c: c["sigma"] in ("zero", "nan"), ("ValueError",)),
    ("residuals or derivatives not real, or 2-D", refused_by_type, ("TypeError", "ValueError")),
    ("p0 without elements", lambda c: c["p0"] == "empty", ("ValueError",)),
    ("p0 is float64 from the start", lambda c: c["p0"] == "bools", ("result",)),
    ("checked before f is called", lambda c: bounded(c) or c["p0"] in ("strings", "text", "object"), ("ValueError", "TypeError")),
    ("checked though not used", lambda c: c["epsfcn"] == "text" and c["jac"] != "none"
     or c["check_finite"] == "yes" and c["nan_policy"] in ("word", "3", "propagate"), ("TypeError", "ValueError")),
    ("nan_policy looks at arrays only", lambda c: c["xdata"] in ("range", "None", "dict") and c["nan_policy"] != "none",
     ("result", "TypeError", "ValueError")),
    ("n is counted, not taken from bounds", lambda c: c["f"] in ("one", "three", "keyword") and c["bounds"] != "none",
     ("result", "ValueError")),
    ("a number as sigma, where nan is left out", lambda c: c["sigma"] in ("one", "scalar") and c["nan_policy"] == "omit",
     ("result",)),
    ("numbers left out before f is called", lambda c: c["nan_policy"] == "omit" and c["xdata"] == "empty",
     ("ValueError", "TypeError")),
    ("a number as sigma, with jac", lambda c: c["sigma"] == "scalar" and c["jac"] != "none",
     ("result", "TypeError", "RuntimeError")),
    ("rows weighted before their shape is checked", lambda c: c["jac"] == "flat" and c["sigma"] != "none", ("ValueError",)),
    ("another whitening rounds otherwise", lambda c: c["sigma"] in ("covariance", "lower"), ("result",)),
    ("bounds of an object of any class", lambda c: c["bounds"] == "object", ("result",)),
    ("Levenberg-Marquardt has bounds", lambda c: bounded(c), ("result", "RuntimeError", "TypeError", "UFuncTypeError", "Mine")),
    ("settings checked before functions are called", lambda c: c["ftol"] == "text", ("TypeError",)),
]
# an outcome is `status` or an exception
LEAST_SQUARES_ROWS = [
    ("improper input", lambda c: any(c[name] in ("negative", "nan") for name in ("ftol", "xtol", "gtol")), ("TypeError",)),
    ("tolerances below SciPy's least", lambda c: any(c[name] in ("tiny", "none", "zero") for name in ("ftol", "xtol", "gtol")),
     (0, 1, 2, 3, 4, "ValueError", "TypeError", "Mine")),
    ("f_scale is checked", lambda c: c["f_scale"] in ("zero", "negative", "nan", "text"), ("ValueError", "TypeError")),
    ("ill-typed", lambda c: c["x0"] in ("text", "none", "object", "empty") or c["max_nfev"] in ("float", "text"),
     ("TypeError", "ValueError")),
    ("derivatives not real", lambda c: c["jac"] in ("complex", "none") or c["fun"] in ("complex", "object", "2-D"),
     ("TypeError", "ValueError")),
    ("a Jacobian that is not finite is a failure", lambda c: c["jac"] == "nan", (-3,)),
    ("no option is ignored", lambda c: c["tr_solver"] != "none" or c["diff_step"] in ("zero", "long", "text", "vector"),
     ("ValueError", "TypeError")),
    ("no fewer residuals than parameters", lambda c: c["fun"] in ("one", "scalar", "empty"), ("ValueError",)),
    ("another path to a point that is not a minimum, or hardly one", lambda c: c["jac"] == "no rank" or c["fun"] == "float32"
     or "large" in (c["ftol"], c["xtol"], c["gtol"]), (0, 1, 2, 3, 4)),
    ("trf is elsewhere after three evaluations", lambda c: c["max_nfev"] == "3", (0,)),
    ("complex steps need complex residuals", lambda c: c["fun"] == "float32" and c["jac"] == "cs", ("TypeError",)),
    ("trf stays where it starts in a corner", lambda c: c["x0"] == "zeros" and c["bounds"] != "none", (1, 2, 3, 4)),
    ("bounds None, or of an object of any class", lambda c: c["bounds"] in ("none at all", "object"),
     (0, 1, 2, 3, 4, "ValueError")),
    ("a table of iterations", lambda c: c["verbose"] == "3", (0, 1, 2, 3, 4, "TypeError")),
]
CURVE_FIT = PublicFunction(curve_fit, CURVE_FIT_ARGUMENTS, CURVE_FIT_ROWS, same_curve, end=lambda result: "result")
LEAST_SQUARES = PublicFunction(least_squares, LEAST_SQUARES_ARGUMENTS, LEAST_SQUARES_ROWS, same_optimum,
                               end=lambda result: result.status, peer=by_trf)
