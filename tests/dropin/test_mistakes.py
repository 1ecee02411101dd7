"""Common mistakes, and messages that help and name only things that the caller wrote."""
import re
import warnings

import numpy as np
import pytest

import leastsq

T = np.linspace(0, 4, 20)
Y = 2*np.exp(-T) + 0.5
COLUMNS = np.stack([np.exp(-T), -T*np.exp(-T), np.ones(20)], axis=1)


def f(t, a, k, c):
    return a*np.exp(-k*t) + c


def star(t, *p):
    return f(t, *p)


def parameters_first(p, x):
    return p[0]*np.exp(-p[1]*x) + p[2]


def slopes(p):
    return np.stack([np.exp(-p[1]*T), -p[0]*T*np.exp(-p[1]*T), np.ones(20)], axis=1)


def residual(p):
    return f(T, *p) - Y


def curve(*args, **options):
    return lambda package: package.curve_fit(*args, **options)


def solve(*args, **options):
    return lambda package: package.leastsq(*args, **options)


def minimize(*args, **options):
    return lambda package: package.least_squares(*args, **{"method": "lm"} | options)


# the mistake, and words that a message must contain; "ours": the message is this package's, SciPy has another one or none
MISTAKES = {
    "p0 too short": (curve(f, T, Y, [1, 1]), ["2 parameters", "`p0`", "(t, a, k, c)", "3 parameters"]),
    "p0 too long": (curve(f, T, Y, [1, 1, 1, 1]), ["4 parameters", "`p0`", "3 parameters"]),
    "any number of parameters, no p0": (curve(star, T, Y), ["f(t, *p)", "give p0"]),
    "no parameters": (curve(lambda t: t, T, Y), ["f(xdata, a, b, ...)", "(t)"]),
    "parameters by name only": (curve(lambda t, *, a, b: a*t + b, T, Y), ["keyword-only arguments"]),
    "x and y of different length": (curve(f, T, Y[:10]), ["`xdata` and `ydata` differ in length", "20 points", "10 in ydata"]),
    "model of the wrong length": (curve(lambda t, a: a*np.ones(7), T, Y), ["f must return one value", "20 entries of ydata",
                                                                          "got shape (7,)"]),
    "parameters first": (curve(parameters_first, T, Y, [1, 1, 0]), ["lambda xdata, *p: f(p, xdata)", "(p, x)"]),
    "parameters first, no p0": (curve(parameters_first, T, Y), ["f(xdata, x)", "zero", "does f", "use them"]),
    "one vector of parameters": (curve(lambda t, p: p[0]*t, T, Y, [1, 1, 0]), ["lambda xdata, *p: f(xdata, p)"]),
    "a parameter without effect": (curve(lambda t, a, b: a*np.exp(-t), T, Y), ["derivatives by b are zero", "does f use it?"]),
    "two parameters that are one": (curve(lambda t, a, b, c: a*np.exp(-t) + 0*b + 0*c, T, Y), ["derivatives by b and c"]),
    "as many parameters as data": (curve(f, T[:3], Y[:3]), ["no more data than parameters", "absolute_sigma"]),
    "a start where all derivatives are zero": (
        curve(lambda t, a, k: a*k*t, T, Y, [0, 0], full_output=True),
        ["All derivatives are zero at p0, by a and k", "Start elsewhere"]),
    "the same in leastsq": (
        solve(lambda p: p[0]*p[1]*T - Y, [0, 0], full_output=True),
        ["at x0, by x[0] and x[1]", "Start elsewhere"]),
    "the same in least_squares": (minimize(lambda p: p[0]*p[1]*T - Y, [0, 0]), ["at x0, by x[0] and x[1]", "Start elsewhere"]),
    "the same without full_output": (solve(lambda p: p[0]*p[1]*T - Y, [0, 0]), ["All derivatives are zero"], "ours"),
    "a Jacobian of the wrong sign": (
        solve(residual, [1, 1, 0], Dfun=lambda p: -slopes(p), full_output=True),
        ["No step was accepted", "cosine 0.9", "Dfun is not the derivative of func", "sign"]),
    "without full_output": (solve(residual, [1, 1, 0], Dfun=lambda p: -slopes(p)), ["No step was accepted", "sign"], "ours"),
    "the same in curve_fit": (
        curve(f, T, Y, [1, 1, 0], jac=lambda t, *p: -slopes(p)),
        ["No step was accepted", "p0", "jac is not the derivative of f"], "ours"),
    "the same in least_squares, too": (
        minimize(residual, [1, 1, 0], jac=lambda p: -slopes(p)), ["No step was accepted", "jac is not the derivative of fun"]),
    "a misspelt option": (curve(f, T, Y, maxfve=100), ["curve_fit() got", "'maxfve'", "did you mean 'maxfev'?"], "ours"),
    "Dfun in curve_fit": (curve(f, T, Y, Dfun=slopes), ["curve_fit() got", "`jac`"], "ours"),
    "max_nfev without bounds": (curve(f, T, Y, max_nfev=9), ["curve_fit() got", "'maxfev'"], "ours"),
    "args that is a tuple": (
        solve(lambda p, q: p[0]*q - 1, [1.0], args=(1.0, 2.0)),
        ["func(x, *args)", "2 entries", "args=(value,)"]),
    "args forgotten": (solve(lambda p, q: p[0]*q - 1, [1.0]), ["func(x)", "args=(value, ...)"]),
    "scalars instead of one array": (minimize(lambda a, b: a*T + b - Y, [1, 1]), ["fun(x)", "one array x holds all parameters"]),
    "a sum of squares": (
        solve(lambda p: np.sum(residual(p)**2), [1, 1, 0]),
        ["return the residuals", "not the sum of their squares"]),
    "the same in least_squares, m = 1": (
        minimize(lambda p: np.sum(residual(p)**2), [1, 1, 0]), ["return the residuals", "not the sum of their squares"]),
    "ydata a column": (curve(f, T, Y[:, None]), ["`ydata` must be 1-D, got shape (20, 1)", "ydata.ravel()"], "ours"),
    "ydata an image": (curve(f, T, Y.reshape(4, 5)), ["`ydata` must be 1-D, got shape (4, 5)", "ydata.ravel()"]),
    "ydata and model images": (
        curve(lambda t, a, k, c: f(t, a, k, c).reshape(4, 5), T, Y.reshape(4, 5)), ["`ydata` must be 1-D", ".ravel()"], "ours"),
    "model a column": (curve(lambda t, a, k, c: f(t, a, k, c)[:, None], T, Y), ["f must return a 1-D array", ".ravel()"], "ours"),
    "complex ydata": (curve(f, T, Y + 0j), ["discards the imaginary part", "`ydata`", "ydata.view(float)"]),
    "complex model": (
        curve(lambda t, a: a*np.exp(1j*t), T, Y),
        ["the array that f returns", "complex128", ".view(float)"], "ours"),
    "complex residuals": (solve(lambda p: residual(p) + 0j, [1, 1, 0]), ["func returns", "complex128", ".view(float)"], "ours"),
    "complex fun": (minimize(lambda p: residual(p) + 0j, [1, 1, 0]), ["fun returns", "complex128", ".view(float)"], "ours"),
    "arguments in another order": (curve(T, Y, f), ["an array of shape (20,)", "curve_fit(f, xdata, ydata)"]),
    "a model that returns nothing": (curve(lambda t, a: None, T, Y), ["NoneType", "return statement"]),
    "a model that is not finite": (
        curve(lambda t, a: np.log(-a)*t, T, Y), ["f(xdata, *p)[0] - ydata[0] is nan", "at p0"], "ours"),
    "nan in ydata": (curve(f, T, np.where(T > 3, np.nan, Y)), ["`ydata`[15] is nan", "5"]),
    "sigma with a zero": (curve(f, T, Y, sigma=np.zeros(20)), ["`sigma` must not be zero", "index 0"], "ours"),
    "sigma of another length": (curve(f, T, Y, sigma=np.ones(5)), ["(5,)", "(20,)"]),
    "p0 outside of its bounds": (curve(f, T, Y, [1, 1, -1], bounds=(0, 9)), ["`p0` is infeasible", "-1.0", "[0.0, 9.0]"], "ours"),
    "bounds as pairs": (curve(f, T, Y, [1, 1, 1], bounds=[(0, 9)]*3), ["`bounds`", "zip(*bounds)"], "ours"),
    "words for numbers": (curve(f, T, list("abc")), ["`ydata` must be real numbers"]),
    "fewer data than parameters": (curve(f, T[:2], Y[:2]), ["a, k and c", "more data"]),
    "one datum": (curve(lambda t, a, b: a*t + b, T[:1], Y[:1]), ["parameters, a and b"]),
    "no function": (solve(3, [1.0]), ["func must be callable", "int"], "ours"),
    "no start": (solve(residual, None), ["x0 must be real numbers"], "ours"),
    "Dfun transposed": (solve(residual, [1, 1, 0], Dfun=lambda p: slopes(p).T), ["(20, 3)", "(3, 20)", "col_deriv=True"]),
    "jac transposed": (curve(f, T, Y, jac=lambda t, *p: slopes(p).T), ["`jac` must return", "(20, 3)", "return its .T"], "ours"),
    "evaluations that run out": (
        curve(f, T, Y, maxfev=3),
        ["maxfev = 3", "a = ", "k = ", "sum of squares", "give p0", "larger maxfev"]),
    "a method that does not exist": (curve(f, T, Y, method="levenberg"), ["`method`", "'levenberg'"], "ours"),
    "a loss that does not exist": (curve(f, T, Y, loss="soft_l2"), ["`loss`", "'soft_l2'", "soft_l1"], "ours"),
    "jac that is not a scheme": (curve(f, T, Y, jac="3point"), ["`jac`", "3-point"], "ours"),
    "maxfev that is not an integer": (curve(f, T, Y, maxfev=1.5), ["curve_fit: maxfev must be an integer"], "ours"),
    "jac with other arguments": (curve(f, T, Y, jac=slopes), ["jac is called as jac(xdata, *p)", "(p)"], "ours"),
    "a model that drops the imaginary part": (
        curve(lambda t, a, k, c: f(t, a, k, c).real, T, Y, jac="cs"),
        ["'3-point'", "f(xdata, *p) with a complex a", "imaginary part"], "ours"),
}
# SciPy's messages, to the letter: they name leastsq's arguments whichever function was called
SCIPYS = [r"leastsq: there is a mismatch between the input and output shape of the 'Dfun' argument '.*'\.", r"\(func parameters=",
          r"The number of func parameters=", r"Improper input: func input vector length N=\d+ must not exceed func output vector",
          r"The cosine of the angle between func\(x\)", r"unexpected keyword argument 'Dfun'"]
INTERNAL = r"_core|Curve|_Functions|_Watched|\bleastsq\._|memory at|\[ *0\. +0\.2|object at 0x"
NOT_THEIRS = {"curve_fit": r"\bfunc\b|\bDfun\b|leastsq\(\)|leastsq:|\bx0\b|x\[\d",
              "least_squares": r"\bfunc\b|\bDfun\b|leastsq\(\)|leastsq:", "leastsq": r"\bjac\b|\bfun\b|\bp0\b"}


def everything_said(call, package=leastsq):
    """(error or None, its message, all other messages: notes, warnings, the fit's message)."""
    with warnings.catch_warnings(record=True) as caught, np.errstate(all="ignore"):
        warnings.simplefilter("always")
        try:
            result, error = call(package), None
        except Exception as raised:
            result, error = None, raised
    others = [*getattr(error, "__notes__", []), *(str(w.message) for w in caught)]
    if isinstance(result, tuple):
        others += [part for part in result if isinstance(part, str)]
    others += [result.message] if hasattr(result, "message") else []
    return error, "" if error is None else str(error), others


@pytest.mark.parametrize("name", MISTAKES)
def test_messages_help_and_name_only_what_the_caller_wrote(name):
    call, wanted, *_ = MISTAKES[name]
    _, text, others = everything_said(call)
    everything = "\n".join([text, *others])
    assert [words for words in wanted if words not in everything] == [], everything
    for words in SCIPYS:
        everything = re.sub(words, "", everything)
    if name == "arguments in another order":            # SciPy's message shows the whole array
        everything = "\n".join(others)
    caller = {curve: "curve_fit", solve: "leastsq", minimize: "least_squares"}[_called(call)]
    assert re.findall(INTERNAL, everything) == re.findall(NOT_THEIRS[caller], everything) == [], everything


def _called(call):
    return next(function for function in (curve, solve, minimize) if call.__qualname__.startswith(function.__name__ + "."))


@pytest.mark.parametrize("name", [name for name, mistake in MISTAKES.items() if len(mistake) == 2])
def test_scipys_own_text_comes_first_and_unchanged(name):
    scipy = pytest.importorskip("scipy.optimize")
    ours, text, others = everything_said(MISTAKES[name][0])
    theirs, their_text, their_others = everything_said(MISTAKES[name][0], scipy)
    assert type(ours) is type(theirs) and text == their_text.replace(".Shape", ". Shape")
    for said in their_others:
        assert any(own.startswith(said) for own in others), (said, others)


def test_a_long_array_is_not_printed_in_a_note():
    error, _, notes = everything_said(curve(np.arange(10**5), Y, f))
    assert isinstance(error, TypeError) and max(map(len, notes)) < 100


# ------------------------------------------------------------ what must not change

@pytest.mark.parametrize("raised", [
    TypeError("takes 2 positional arguments but 3 were given"), ValueError("operands could not be broadcast together"),
    TypeError("leastsq: the array that func returns must be 0-d or 1-D, got shape (1, 2)"),
    TypeError("unsupported operand type(s) for -: 'a'")])
@pytest.mark.parametrize("function", ["leastsq", "curve_fit", "least_squares"])
def test_errors_of_the_users_own_function_arrive_unchanged_and_without_notes(raised, function):
    text = str(raised)

    def fails(*args):
        raise raised
    with pytest.raises(type(raised)) as caught:
        leastsq.curve_fit(fails, T, Y, [1, 1]) if function == "curve_fit" else getattr(leastsq, function)(fails, [1, 1])
    assert caught.value is raised and str(raised) == text and not hasattr(raised, "__notes__")


def test_errors_of_a_fit_within_the_model_keep_their_words():
    def model(t, a):
        return a*leastsq.leastsq(lambda p: p[:1] + 0j, [1.0])[0]
    error, text, _ = everything_said(curve(model, T, Y))
    assert text.startswith("leastsq: the array that func returns") and isinstance(error, TypeError)


@pytest.mark.parametrize("options", [{}, {"Dfun": slopes}, {"Dfun": "3-point"}, {"bounds": ([0]*3, [9]*3)}])
@pytest.mark.parametrize("full_output", [False, True])
def test_fits_that_start_at_the_answer_are_not_warned_of(options, full_output):
    rng = np.random.default_rng(0)
    for noise in (0.0, 1e-12, 0.1):
        y = Y + noise*rng.standard_normal(20)

        def func(p):
            return f(T, *p) - y
        x, _ = leastsq.leastsq(func, [2, 1, 0.5], **options)
        for start in (x, leastsq.leastsq(func, x, ftol=0, xtol=1e-15, maxfev=200, full_output=True)[0], [2, 1, 0.5]):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                result = leastsq.leastsq(func, start, full_output=full_output, **options)
            assert not full_output or "No step" not in result[3] and "All deriv" not in result[3]


def test_a_success_at_the_start_needs_no_further_call():
    calls = []

    def func(p):
        calls.append(1)
        return residual(p)
    nfev = leastsq.leastsq(func, [1, 1, 0], Dfun=lambda p: -slopes(p), full_output=True)[2]["nfev"]
    assert len(calls) == nfev
    with pytest.warns(RuntimeWarning, match="No step was accepted") as caught:
        x, ier = leastsq.leastsq(func, [1, 1, 0], Dfun=lambda p: -slopes(p))
    assert len(calls) == 2*nfev and ier == 2 and x.tolist() == [1, 1, 0]
    assert caught[0].filename == __file__


def test_a_start_in_the_middle_of_equal_residuals_is_a_minimum():
    """The derivatives are orthogonal to the residuals, but not zero."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x, ier = leastsq.leastsq(lambda p: np.array([p[0] - 1, p[0] + 1]), [0.0])
    assert x == 0 and ier == 4


@pytest.mark.parametrize("scale", [1e-150, 1e-9, 1.0, 1e9, 1e150])
def test_units_of_residuals_and_parameters_do_not_change_the_messages(scale):
    for in_x in (1.0, 1e-12, 1e12):
        message = leastsq.leastsq(lambda p: scale*residual(p*in_x), np.array([1, 1, 0.1])/in_x,
                                  Dfun=lambda p: -scale*in_x*slopes(p*in_x), full_output=True)[3]
        assert "No step was accepted" in message
        message = leastsq.leastsq(lambda p: scale*residual(p*in_x), np.array([1, 1, 0.1])/in_x,
                                  Dfun=lambda p: scale*in_x*slopes(p*in_x), full_output=True)[3]
        assert "No step was accepted" not in message


def test_every_option_of_leastsq_is_one_of_curve_fit():
    import inspect
    options = [name for name, p in inspect.signature(leastsq.leastsq).parameters.items()][4:]
    given = {"diag": [1, 1, 1], "callback": lambda state: False, "workers": 1, "epsfcn": 1e-15, "engine": "leastsq",
             "ftol": 1e-9, "xtol": 1e-9, "gtol": 1e-9, "factor": 10, "maxfev": 99, "loss": "huber", "f_scale": 2.0,
             "strategy": "fast"}
    for name in options:
        if name in ("full_output", "bounds", "history"):
            continue
        popt, _ = leastsq.curve_fit(f, T, Y, **{name: given.get(name, 0 if name in ("col_deriv", "verbose", "strict") else None)})
        np.testing.assert_allclose(popt, [2, 1, 0.5], rtol=1e-5)
