"""Every public entry point to a fit, with a small problem for each.

Tests go through these entries to inject faults, exhaust memory, interrupt fits, or run all of them at once.
An entry is called with `wrap`: wrap(function, name) gets each of the user's functions and returns the function
to call instead.  The entry returns what the user would get.
"""
import ctypes as ct
import importlib.util

import numpy as np
from enzyme import T, X0, Y, by_columns, jacobian, residual

from leastsq import (
    CFunction,
    LevenbergMarquardt,
    RowAccumulator,
    _core,
    confidence_intervals,
    covariance,
    curve_fit,
    curve_fit_batch,
    least_squares,
    leastsq,
    leastsq_batch,
    leastsq_blocks,
)

LONG = 9000                     # enough rows for three chunks of the blocked QR
_T = np.linspace(1.0, 13.0, LONG)
_Y = 3 * _T / (2 + _T) + np.resize([1, -2, 3, -1, 0, 2, -3, 1, 1, -2, 0, 1], LONG) / 64
STARTS = np.array([[1.0, 1.0], [2.0, 1.0], [1.5, 3.0]])


def long_residual(p):
    return p[0] * _T / (p[1] + _T) - _Y


def long_jacobian(p):
    return np.stack([_T / (p[1] + _T), -p[0] * _T / (p[1] + _T) ** 2], axis=1)


def huber(z):
    """rho and its derivatives; half of the residuals are beyond."""
    root = np.sqrt(np.maximum(z, 1))
    return np.array([np.where(z > 1, 2 * root - 1, z), 1 / root,
                     np.where(z > 1, -0.5 / (z * root + (z == 0)), 0)])


def model(t, a, b):
    return a * t / (b + t)


def slopes(t, a, b):
    return jacobian((a, b), t)


def batch_residual(x):
    return x[:, :1] * T / (x[:, 1:] + T) - Y


def batch_jacobian(x):
    below = x[:, 1:] + T
    return np.stack([T / below, -x[:, :1] * T / below ** 2], axis=2)


def nothing(state):
    return None


def same(function, name):
    return function


def fit(func=residual, Dfun=None, **options):
    """An entry of leastsq; names in `functions` are options that are functions."""
    def entry(wrap=same):
        given = dict(options)
        for name in ("loss", "callback"):
            if callable(given.get(name)):
                given[name] = wrap(given[name], name)
        if Dfun is not None:
            given["Dfun"] = wrap(Dfun, "Dfun") if callable(Dfun) else Dfun
        return leastsq(wrap(func, "func"), X0, **given)
    return entry


def curve(jac=None, **options):
    def entry(wrap=same):
        jac_given = wrap(jac, "jac") if callable(jac) else jac
        return curve_fit(wrap(model, "func"), T, Y, X0, full_output=True,
                         jac=jac_given, **options)
    return entry


def squares(jac="2-point", **options):
    def entry(wrap=same):
        given = {name: wrap(value, name) if callable(value) else value for name, value in options.items()}
        return least_squares(wrap(residual, "func"), X0,
                             jac=jac if isinstance(jac, str) else wrap(jac, "jac"), **given)
    return entry


def batch(Dfun=None, function=None, **options):
    function = function or batch_residual

    def entry(wrap=same):
        given = {name: wrap(value, name) if callable(value) else value for name, value in options.items()}
        return leastsq_batch(wrap(function, "func"), STARTS, return_fvec=True,
                             Dfun=None if Dfun is None else wrap(Dfun, "Dfun"), **given)
    return entry


def slopes_of_curves(t, a, b):
    """As curve_fit_batch's jac: (..., k, m, 2)."""
    below = b + t
    return np.stack(np.broadcast_arrays(t / below, -a * t / below ** 2), axis=-1)


def curves(jac=None, **options):
    """Three curves at once."""
    def entry(wrap=same):
        given = {name: wrap(value, name) if callable(value) else value for name, value in options.items()}
        return curve_fit_batch(wrap(model, "func"), T, CURVES, STARTS, return_fvec=True,
                               jac=None if jac is None else wrap(jac, "jac"), **given)
    return entry


FULL = {"full_output": True}
CURVES = np.tile(Y, (3, 1))
BOUNDS = ([0.0, 0.0], [2.5, 10.0])
ENTRIES = {
    "lmdif": fit(), "lmder": fit(Dfun=jacobian),
    "lmdif, full": fit(**FULL), "lmder, full": fit(Dfun=jacobian, **FULL),
    "col_deriv": fit(Dfun=by_columns, col_deriv=True, **FULL),
    "diag": fit(diag=[1.0, 2.0], **FULL),
    "bounds": fit(bounds=BOUNDS, **FULL),
    "loss": fit(Dfun=jacobian, loss="soft_l1", f_scale=0.02, **FULL),
    "own loss": fit(loss=huber, f_scale=0.02, **FULL),
    "callback": fit(callback=nothing, history=True, **FULL),
    "3-point": fit(Dfun="3-point", **FULL),
    "blocked lmdif": fit(long_residual, qr="blocked", **FULL),
    "blocked lmder": fit(long_residual, long_jacobian, qr="blocked", **FULL),
    "threads": fit(long_residual, long_jacobian, qr="blocked", threads=2),
    "threads, loss": fit(long_residual, long_jacobian, qr="blocked", threads=2, loss=huber,
                         f_scale=0.02, bounds=BOUNDS, **FULL),
    "curve_fit": curve(), "curve_fit, jac": curve(slopes),
    "least_squares": squares(), "least_squares, jac": squares(jacobian, loss="cauchy", bounds=BOUNDS),
    "batch": batch(), "batch, Dfun": batch(batch_jacobian),
    "batch, data": batch(function=lambda x, y, *args: batch_residual(x) + (Y - y), data=np.tile(Y, (3, 1))),
    "curves": curves(), "curves, jac": curves(slopes_of_curves, sigma=T),
    "curves, own loss": curves(bounds=BOUNDS, loss=huber, f_scale=0.02),
    "batch, own loss": batch(bounds=BOUNDS, loss=huber, f_scale=0.02),
}


def in_blocks(Dfun=None, **options):
    """The problem of `fit`, its data in three blocks."""
    def entry(wrap=same):
        given = {name: wrap(value, name) if callable(value) else value for name, value in options.items()}
        return leastsq_blocks(wrap(block_residual, "func"), X0, BLOCKS, full_output=True,
                              Dfun=None if Dfun is None else wrap(Dfun, "Dfun"), **given)
    return entry


def block_residual(p, block):
    return residual(p, *block)


def block_jacobian(p, block):
    return jacobian(p, *block)


BLOCKS = [(T[:5], Y[:5]), (T[5:6], Y[5:6]), (T[6:], Y[6:])]


def ask_tell(wrap=same):
    """A loop written by the user."""
    func, Dfun, lm = wrap(residual, "func"), wrap(jacobian, "Dfun"), LevenbergMarquardt(X0)
    while lm.request:
        if lm.request == "norm":
            trial = np.array(func(lm.x_eval))
            lm.tell_norm(trial)
            f = trial if lm.accepted else f             # noqa: F821
        else:
            lm.tell_model(Dfun(lm.x_eval), f)
    return lm.x, lm.cov_x, {"nfev": lm.nfev}, lm.message, lm.ier


def errors(wrap=same):
    found = covariance(wrap(residual, "func"), ENTRIES["lmdif"]()[0])
    return found.x, found.cov


def intervals(wrap=same):
    found = confidence_intervals(wrap(residual, "func"), ENTRIES["lmder"]()[0], (), wrap(jacobian, "Dfun"),
                                 method="profile")
    return found.x, found.lower, found.upper


# Entries whose loop runs in Python, or with our Python between the user's functions and the core.
IN_PYTHON = {
    "curve_fit, bounds": curve(slopes, bounds=BOUNDS, sigma=T, loss="soft_l1", f_scale=0.05),
    "curve_fit, 3-point": curve("3-point", covariance="accurate"),
    "least_squares, own loss": squares("cs", loss=huber, f_scale=0.02),
    "least_squares, callback": squares("3-point", callback=nothing, bounds=BOUNDS),
    "strict": fit(Dfun=jacobian, strict=True, **FULL),
    "blocks": in_blocks(), "blocks, Dfun": in_blocks(block_jacobian, callback=nothing),
    "blocks, own loss": in_blocks(block_jacobian, loss=huber, f_scale=0.02, bounds=BOUNDS),
    "ask/tell": ask_tell, "covariance": errors, "intervals": intervals,
}


_ROWS, _F = long_jacobian(X0), long_residual(X0)
_PARTS = (_ROWS[:5000], _F[:5000]), (_ROWS[5000:].astype("f4"), _F[5000:])


def accumulate():
    """Rows pushed into two accumulators, which are merged; calls no function of the user."""
    one, other = RowAccumulator(2), RowAccumulator(2)
    one.push(*_PARTS[0])
    other.push(*_PARTS[1])
    one.merge(other)
    return one.triangle(), one.rows, one.fnorm, one.finite


def told():
    """The machine is told what `ask_tell` tells it; calls no function of the user."""
    lm = LevenbergMarquardt(X0)
    for tell, values in _TOLD:
        getattr(lm, tell)(*values)
    return lm.x, lm.ier, lm.nfev, lm.qtf, lm.ipvt, lm.cov_x


def _what_is_told():
    lm, f = LevenbergMarquardt(X0), None
    while lm.request:
        if lm.request == "norm":
            yield "tell_norm", (trial := residual(lm.x_eval),)
            lm.tell_norm(trial)
            f = trial if lm.accepted else f
        else:
            yield "tell_model", (J := jacobian(lm.x_eval), f)
            lm.tell_model(J, f)


_TOLD = list(_what_is_told())


def restored(thing):
    """A copy made by pickling."""
    make, arguments, state = thing.__reduce__()
    again = make(*arguments)
    again.__setstate__(state)
    return again


def pickled():
    # no generator expression: CPython 3.12.1 crashes when it cannot allocate one
    rows, model, norm = restored(_PICKLED[0]), restored(_PICKLED[1]), restored(_PICKLED[2])
    return rows.triangle(), model.points(), model.x_eval, [(lm.x, lm.bounds, lm.fault, lm.qtf, lm.ipvt) for lm in (model, norm)]


def _what_is_pickled():
    """An accumulator; a machine with bounds that asks for a model, and one without bounds that asks for a norm."""
    rows = RowAccumulator(2)
    rows.push(*_PARTS[0])
    model, norm = LevenbergMarquardt(X0, bounds=BOUNDS, diag=[1.0, 2.0]), LevenbergMarquardt(X0)
    for lm, events in (model, 1), (norm, 2):
        for tell, told in _TOLD[:events]:
            getattr(lm, tell)(*told)
    return rows, model, norm


_PICKLED = _what_is_pickled()
_RHO = np.ones((3, T.size))


_AT_X0 = np.array(X0), residual(X0), jacobian(X0)


def checked():
    """MINPACK's check of Jacobians, losses, and the object made of a compiled function."""
    x, f, J = _AT_X0
    return (_core.chkder(x), _core.chkder(x, f, J, f), _core.weigh(2, 0.1, f, True),
            _core.weigh(lambda z: _RHO, 0.1, f, True), _core.compiled(1, 2, 3, 0, None) is None)


def loaded():
    """Load the module again."""
    spec = importlib.util.find_spec("leastsq._core")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.isa, module.RowAccumulator.__name__


class _Unnamed:
    """A callable without a name, of the wrong shape; it allocates nothing."""

    def __call__(self, p, _shape=np.ones((2, 3))):
        return _shape


def refused(*args, **options):
    """What leastsq says about a mistaken call."""
    def entry(wrap=same):
        given = {name: wrap(value, name) if hasattr(value, "__name__") else value for name, value in options.items()}
        try:
            leastsq(wrap(args[0], "func") if callable(args[0]) else args[0], *args[1:], **given)
        except (TypeError, ValueError, OverflowError) as error:
            return [type(error).__name__, str(error), *getattr(error, "__notes__", ())]
        raise AssertionError("not refused")
    return entry


REFUSED = {
    "one residual": refused(lambda p: [1.0], X0),
    "one integer": refused(lambda p, *args: np.array([1], np.int32), X0, args=tuple(range(9))),
    "few residuals": refused(lambda p: [1.0, 1.0], [1.0] * 3),
    "matrix": refused(lambda p: np.ones((2, 2)), X0),
    "complex": refused(lambda p: residual(p) + 1j, X0),
    "ragged": refused(lambda p: [[1.0], [1.0, 2.0]], X0),
    "changed size": refused(lambda p: residual(p)[int(p[0] != X0[0]):], X0),
    "Dfun, rows": refused(residual, X0, Dfun=lambda p: jacobian(p)[1:]),
    "Dfun, transposed": refused(residual, X0, Dfun=by_columns),
    "Dfun, by columns": refused(residual, X0, Dfun=jacobian, col_deriv=True),
    "Dfun, unnamed": refused(residual, X0, Dfun=_Unnamed()),
    "Dfun, text": refused(residual, X0, Dfun=lambda p: "text"),
    "loss, shape": refused(residual, X0, loss=lambda z: z),
    "loss, two rows": refused(residual, X0, loss=lambda z: [z, z]),
    "loss, short": refused(residual, X0, loss=lambda z: [z[1:]] * 3),
    "loss, complex": refused(residual, X0, loss=lambda z: 1j * z),
    "x0": refused(residual, []),
    "x0, text": refused(residual, ["text"]),
    "func": refused(1, X0),
    "Dfun": refused(residual, X0, Dfun=1),
    "diag": refused(residual, X0, diag=[1.0]),
    "diag, negative": refused(residual, X0, diag=[1.0, -1.0]),
    "ftol": refused(residual, X0, ftol=-1),
    "gtol": refused(residual, X0, gtol="1"),
    "factor": refused(residual, X0, factor=0),
    "maxfev": refused(residual, X0, maxfev=1.5),
    "maxfev, large": refused(residual, X0, maxfev=2 ** 70),
    "epsfcn": refused(residual, X0, epsfcn=float("nan")),
    "full_output": refused(residual, X0, full_output="yes"),
}


def compiled_entries(path):
    """Entries without a Python function of the user; `path` is the library built from compiled_problems.c."""
    library = ct.CDLL(str(path))
    rosenbrock = CFunction(library.rosenbrock, 2), CFunction(library.rosenbrock_jacobian, 2)
    linear = CFunction(library.linear_full_rank, LONG), CFunction(library.linear_full_rank_jacobian, LONG)
    lanes = (CFunction(library.rosenbrock_in_lanes, 2, lanes=8), CFunction(library.rosenbrock_jacobian_in_lanes, 2, lanes=8))
    starts = np.array([[-1.2, 1.0], [1.0, -1.0], [0.5, 0.5], [3.0, 3.0]])
    return {
        "compiled lmdif": lambda: leastsq(rosenbrock[0], starts[0], **FULL),
        "compiled lmder": lambda: leastsq(rosenbrock[0], starts[0], Dfun=rosenbrock[1], **FULL),
        "compiled threads": lambda: leastsq(linear[0], X0, Dfun=linear[1], qr="blocked", threads=2,
                                            **FULL),
        "compiled batch": lambda: leastsq_batch(rosenbrock[0], starts, threads=2),
        "compiled batch, Dfun": lambda: leastsq_batch(rosenbrock[0], starts, Dfun=rosenbrock[1],
                                                      threads=2, return_fvec=True, diag=[1.0, 2.0]),
        "compiled batch, loss": lambda: leastsq_batch(rosenbrock[0], starts, loss="huber", threads=2,
                                                      bounds=(-2, starts + 1)),
        "compiled batch, lanes": lambda: leastsq_batch(lanes[0], starts, threads=2),
        "compiled batch, lanes, Dfun": lambda: leastsq_batch(lanes[0], starts, Dfun=lanes[1], return_fvec=True, threads=2),
        "compiled batch, lanes, loss": lambda: leastsq_batch(lanes[0], starts, Dfun=lanes[1], loss="huber",
                                                             bounds=(-2, starts + 1)),
        "accumulator": accumulate, "machine": told, "pickles": pickled, "checks": checked, "load": loaded,
    }


def values(result):
    """Everything that a result holds, as a list; the lists of equal fits are equal."""
    if isinstance(result, dict):
        return [v for key in sorted(result) for v in [key, *values(result[key])]]
    if isinstance(result, (tuple, list)):
        return [v for item in result for v in values(item)]
    if hasattr(result, "popt"):                                 # of curve_fit_batch
        return values([result.popt, result.pcov, result.ier, result.nfev, result.njev, result.fnorm, result.fvec])
    if hasattr(result, "cov_x"):                                # a batch
        return values([result.x, result.ier, result.nfev, result.njev, result.fnorm, result.cov_x,
                       result.fvec])
    if isinstance(result, np.ndarray):
        return [result.shape, result.tobytes()]
    if hasattr(result, "cov"):                                  # of a covariance
        return values([result.x, result.cov])
    return [result]
