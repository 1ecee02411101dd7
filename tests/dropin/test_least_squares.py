"""least_squares side by side with SciPy's: the same minima, fields and refusals."""
import ctypes
import inspect

import numpy as np
import pytest

import leastsq as package
from leastsq import CFunction, OptimizeResult, curve_fit, least_squares, leastsq

T = np.linspace(0, 4, 60)
Y = 2.5 * np.exp(-1.3 * T) + .5 + .02 * np.random.default_rng(3).standard_normal(T.size)
X0 = [2.0, 1.0, .6]
LOSSES = ["linear", "soft_l1", "huber", "cauchy", "arctan"]
TIGHT = {"ftol": 1e-14, "xtol": 1e-14, "gtol": 1e-14}


def fun(p, t=T, y=Y):
    return p[0] * np.exp(-p[1] * t) + p[2] - y


def jac(p, t=T, y=Y):
    e = np.exp(-p[1] * t)
    return np.stack([e, -p[0] * t * e, np.ones_like(t)], axis=1)


@pytest.fixture(scope="module")
def scipys():
    return pytest.importorskip("scipy.optimize",
                               reason="SciPy, which this compares with, is not installed").least_squares


def test_signature_is_scipys(scipys):
    ours = inspect.signature(least_squares).parameters
    theirs = inspect.signature(scipys).parameters
    for name, p in ours.items():
        if name in theirs and name != "method":
            assert p.default == theirs[name].default or name in ("x_scale", "kwargs")
    common = [name for name in theirs if name in ours]
    assert list(ours)[:len(common)] == common
    assert ours["method"].default == "lm"


@pytest.mark.parametrize("how", ["2-point", "3-point", "cs", jac])
@pytest.mark.parametrize("options", [
    {}, {"x_scale": 1.0}, {"x_scale": [2.0, 1, .1]}, {"x_scale": "jac"}, {"ftol": None},
    {"gtol": None, "xtol": None}, {"bounds": (0, 9)}, {"bounds": ([0, 0, .55], [9, 1.2, 9])},
    {"bounds": ([0, 0, .55], 9), "loss": "soft_l1", "f_scale": .05}, {"loss": "cauchy"},
    {"diff_step": 1e-6}, {"diff_step": [1e-6, 1e-7, 1e-6]},
], ids=str)
def test_result_is_scipys(scipys, how, options):
    if how == "cs" and "diff_step" in options:
        options = options | {"diff_step": 1e-20}
    got = least_squares(fun, X0, how, **options)
    kept = {k: v for k, v in options.items() if k not in ("ftol", "xtol", "gtol", "diff_step")}
    x0 = np.clip(X0, .01, 8.9)
    want = scipys(fun, x0, how, **TIGHT | kept)
    assert list(got) == list(want) + ["multipliers"]*("bounds" in options)
    assert got.cost <= want.cost * (1 + 1e-6)
    np.testing.assert_allclose(got.x, want.x, rtol=2e-4)
    np.testing.assert_allclose(got.fun, fun(got.x))
    scale = np.abs(want.jac).max()
    np.testing.assert_allclose(got.jac, want.jac, atol=2e-3 * scale)
    np.testing.assert_array_equal(got.active_mask, want.active_mask)
    assert got.active_mask.dtype.kind == "i" and got.jac.shape == (60, 3)
    assert got.success and got.status in (1, 2, 3, 4) and isinstance(got.message, str)
    assert (got.njev is None) == (how is not jac)
    free = got.active_mask == 0
    assert got.optimality == pytest.approx(np.abs(got.grad[free]).max(), abs=1e-12)
    np.testing.assert_allclose(got.grad[~free], want.grad[~free], rtol=1e-3)


def test_gradient_is_that_of_the_cost():
    def cost(x):
        return least_squares(fun, x, jac, loss="cauchy", f_scale=.3, max_nfev=1).cost
    got = least_squares(fun, X0, jac, loss="cauchy", f_scale=.3, max_nfev=1)
    x, h = got.x, 1e-6

    def rho(p):
        return .5 * .3 ** 2 * np.sum(np.log1p((fun(p) / .3) ** 2))
    numerical = [(rho(x + h * e) - rho(x - h * e)) / (2 * h) for e in np.eye(3)]
    np.testing.assert_allclose(got.grad, numerical, rtol=1e-6, atol=1e-8)
    assert got.cost == pytest.approx(rho(x), rel=1e-12)


def test_status_is_scipys(scipys):
    for options in ({"max_nfev": 3}, {"ftol": 1e-2}, {"xtol": 1e-2}, {"gtol": .05},
                    {"ftol": 1e-3, "xtol": 1e-3}):
        got = least_squares(fun, X0, jac, **options)
        want = scipys(fun, X0, jac, method="lm", **options)
        assert (got.status, got.message, got.success) == (want.status, want.message, want.success)
        assert got.nfev == want.nfev or abs(got.nfev - want.nfev) <= 1
        np.testing.assert_allclose(got.x, want.x, rtol=1e-10)


def test_tolerances_below_rounding_end_in_success():
    got = least_squares(fun, X0, jac, ftol=None, xtol=1e-15, gtol=None)
    assert got.success and got.optimality < 1e-6


def test_calls_are_counted_without_differences():
    calls = []

    def counted(p):
        calls.append(p.copy())
        return fun(p)
    got = least_squares(counted, X0)
    again = least_squares(fun, X0, jac)
    assert got.nfev <= again.nfev + 2 and len(calls) > got.nfev
    limited = least_squares(fun, X0, max_nfev=2)
    assert limited.nfev == 2 and limited.status == 0 and not limited.success


def test_args_and_kwargs():
    t, y = T[:30], Y[:30]
    want = least_squares(lambda p: fun(p, t, y), X0).x
    for options in ({"args": (t, y)}, {"kwargs": {"t": t, "y": y}}, {"args": [t], "kwargs": {"y": y}}):
        np.testing.assert_array_equal(least_squares(fun, X0, **options).x, want)
        assert least_squares(fun, X0, jac, **options).success


def test_scalar_x0_and_residual():
    got = least_squares(lambda x: x[0] - 3.0, 1.0)
    assert got.x == pytest.approx([3]) and got.fun.shape == (1,) and got.jac.shape == (1, 1)


def test_all_fixed():
    got = least_squares(fun, X0, bounds=(X0, X0))
    np.testing.assert_array_equal(got.x, X0)
    assert got.success and got.optimality == 0 and "fixed" in got.message


def test_callbacks():
    seen = []
    least_squares(fun, X0, callback=lambda x: seen.append(x))
    assert len(seen) > 2 and seen[0].tolist() == X0

    def on_result(intermediate_result):
        assert isinstance(intermediate_result, OptimizeResult)
        seen.append(intermediate_result.cost)
        return intermediate_result.nit == 2
    got = least_squares(fun, X0, callback=on_result)
    assert got.status == -2 and not got.success and got.cost == pytest.approx(seen[-1])

    def stop(x):
        raise StopIteration
    assert least_squares(fun, X0, callback=stop).status == -2
    with pytest.raises(TypeError, match="`callback` must be callable"):
        least_squares(fun, X0, callback=3)


def test_verbose(capsys):
    least_squares(fun, X0, verbose=2)
    text = capsys.readouterr().out
    assert text.startswith(" Iteration") and "termination condition is satisfied" in text


def test_result_is_a_dict_with_attributes():
    got = least_squares(fun, X0)
    assert got["x"] is got.x and "cost: " in repr(got) and "nfev" in dir(got)
    got.mine = 3
    assert got["mine"] == 3
    with pytest.raises(AttributeError, match="nothing"):
        got.nothing
    assert repr(OptimizeResult()) == "OptimizeResult()" and package.least_squares is least_squares


@pytest.mark.parametrize("options, error, words", [
    ({"method": "LM"}, ValueError, "`method` must be 'trf', 'dogbox' or 'lm'."),
    ({"method": np.ones(3)}, ValueError, "`method` must be"),
    ({"tr_solver": "svd"}, ValueError, "`tr_solver` must be None, 'exact' or 'lsmr'."),
    ({"tr_solver": np.ones(3)}, ValueError, "`tr_solver` must be None, 'exact' or 'lsmr'."),
    ({"tr_options": "regularize"}, TypeError, "`tr_options` must be a dict or None, got str"),
    ({"jac_sparsity": np.ones((60, 3))}, ValueError, r"`jac_sparsity` must be None, got array[^\n]{,50}: .* dense"),
    ({"jac": "4-point"}, ValueError, "`jac` must be .*, got '4-point'"),
    ({"jac": None}, ValueError, "`jac` must be"),
    ({"x_scale": -1}, ValueError, "`x_scale` must be"),
    ({"x_scale": [1, np.nan, 1]}, ValueError, "`x_scale` must be"),
    ({"x_scale": "column"}, ValueError, "`x_scale` must be"),
    ({"x_scale": [1, 2]}, ValueError, "Inconsistent shapes between `x_scale`"),
    ({"diff_step": [1e-3, 1e-3]}, ValueError, "Inconsistent shapes between `diff_step`"),
    ({"diff_step": 0}, ValueError, "`diff_step` must be"),
    ({"ftol": None, "xtol": None, "gtol": None}, ValueError, "At least one of the tolerances"),
    ({"ftol": -1.0}, TypeError, "ftol must be zero or positive"),
    ({"xtol": "a"}, TypeError, "`xtol` must be a real number or None, got 'a'"),
    ({"gtol": [1e-8]}, TypeError, r"`gtol` must be a real number or None, got \[1e-08\]"),
    ({"gtol": np.nan}, TypeError, "gtol must be zero or positive, got nan"),
    ({"diff_step": "a"}, TypeError, "`diff_step` must be real numbers .*, got str"),
    ({"diff_step": 1j}, TypeError, "`diff_step` must be real numbers .*, got complex"),
    ({"args": 3}, TypeError, "`args` must be a tuple, got int"),
    ({"kwargs": 3}, TypeError, "`kwargs` must be a dict, got int"),
    ({"bounds": (None, 5)}, ValueError, "`bounds` must be real numbers, got None: -inf and inf"),
    ({"max_nfev": 0}, ValueError, "`max_nfev` must be None or positive integer"),
    ({"max_nfev": 2.5}, ValueError, "`max_nfev` must be None or positive integer"),
    ({"bounds": (1, 2, 3)}, ValueError, "`bounds` must contain 2 elements"),
    ({"bounds": (5, 9)}, ValueError, "`x0` is infeasible"),
    ({"loss": "l1"}, ValueError, "`loss` must be one of"),
    ({"loss": "huber", "f_scale": 0}, ValueError, "`f_scale` must be positive"),
    ({"workers": 0}, ValueError, "workers must be positive"),
    ({"workers": 2, "jac": jac}, ValueError, "workers evaluate differences"),
    ({"verbose": 7}, ValueError, "`verbose` must be in"),
    ({"jac": lambda p: np.ones((2, 2))}, ValueError, r"`jac` has wrong shape: expected \(60, 3\), actual \(2, 2\)"),
    ({"jac": lambda p: [[1, 2], [3, 4]]}, TypeError, "Shape should be"),
    ({"jac": lambda p: {}}, TypeError, "must be real numbers .*, got dict"),
    ({"jac": lambda p: jac(p).T}, ValueError, r"`jac` has wrong shape: expected \(60, 3\), actual \(3, 60\)"),
    ({"jac": lambda p: Sparse()}, ValueError, "only with dense Jacobian matrices"),
])
def test_bad_options_are_named(options, error, words):
    with pytest.raises(error, match=words):
        least_squares(fun, X0, **options)


class Sparse:
    def toarray(self):
        raise AssertionError


@pytest.mark.parametrize("options, note", [
    ({"x_scale": [1, -2, 1]}, "got [1, -2, 1]"), ({"x_scale": [1, 2]}, "got (2,) and (3,)"), ({"max_nfev": 2.5}, "got 2.5"),
    ({"diff_step": [1e-3, 1e-3]}, "got (2,) and (3,)"),
    ({"ftol": None, "xtol": 0, "gtol": 1e-20}, "ftol=None, xtol=0, gtol=1e-20"),
    ({"bounds": ([0, 0], 9)}, "lower bounds of shape (2,), upper bounds of shape (), for 3 parameters"),
    ({"bounds": [(0, 9), (0, 9), (0, 9)]}, "tuple(zip(*bounds))"), ({"jac": lambda p: jac(p).T}, "its transpose has that shape"),
    ({"jac": lambda p: Sparse()}, "jac returned Sparse"),
])
def test_a_note_says_what_scipys_message_leaves_out(options, note):
    with pytest.raises(ValueError) as caught:
        least_squares(fun, X0, **options)
    assert len(caught.value.__notes__) == 1 and note in caught.value.__notes__[0]


def test_bounds_given_as_pairs_are_recognised():
    def line(x):
        return np.array([x[0] - 2, x[1] - 7, 0])
    for pairs, x0, words in (([(0, 3), (0, 9)], [1, 5], "infeasible"), ([(0, 9), (5, 8)], [1, 6], "lower bound")):
        with pytest.raises(ValueError, match=words) as caught:
            least_squares(line, x0, bounds=pairs)
        assert "tuple(zip(*bounds))" in caught.value.__notes__[0]
        np.testing.assert_allclose(least_squares(line, x0, bounds=tuple(zip(*pairs))).x, [2, 7])
    with pytest.raises(ValueError, match="infeasible") as caught:
        least_squares(line, [1, 5], bounds=(0, 3))
    assert not hasattr(caught.value, "__notes__")


def test_bad_problems_are_named():
    with pytest.raises(ValueError, match="`x0` must have at least one element, got none"):
        least_squares(fun, [])
    with pytest.raises(ValueError, match=r"`x0` must not be nan, got x\[1\] = nan"):
        least_squares(fun, [1, np.nan, 1], bounds=(0, 9))
    with pytest.raises(ValueError, match="at most 1 dimension"):
        least_squares(fun, [X0])
    with pytest.raises(ValueError, match="`x0` must be real"):
        least_squares(fun, [1j, 2, 3])
    with pytest.raises(ValueError, match="not finite in the initial point"):
        least_squares(lambda p: fun(p) * np.nan, X0)
    for few, m in ((lambda p: p[:2], 2), (lambda p: p[0], 1), (lambda p: 1, 1), (lambda p: [1.0, p[0]], 2)):
        with pytest.raises(ValueError, match="number of residuals is less than the number of variables") as caught:
            least_squares(few, X0)
        assert caught.value.__notes__ == [
                f"fun returned {m} for 3 free parameters"
                + "; return the residuals, one by one, not the sum of their squares"*(m == 1)]
    with pytest.raises(ValueError, match="the array that fun returns must be an array of real numbers, got an unusable list"):
        least_squares(lambda p: [[1], p], X0)
    with pytest.raises(TypeError, match="`fun` must be callable or a CFunction, got int"):
        least_squares(3, X0)


# ---------------------------------------------------------------------------
# compiled functions

DOUBLES = ctypes.POINTER(ctypes.c_double)
SIGNATURE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int64, ctypes.c_int64, DOUBLES, DOUBLES, ctypes.c_void_p)


@SIGNATURE
def c_fun(m, n, x, f, data):
    np.ctypeslib.as_array(f, (m,))[:] = fun(np.ctypeslib.as_array(x, (n,)))
    return 0


@SIGNATURE
def c_jac(m, n, x, out, data):
    np.ctypeslib.as_array(out, (n, m))[:] = jac(np.ctypeslib.as_array(x, (n,))).T
    return 0


COMPILED, COMPILED_JAC = CFunction(c_fun, T.size), CFunction(c_jac, T.size)


@pytest.mark.parametrize("options", [{}, {"bounds": ([0, 0, .55], [9, 1.2, 9])}, {"loss": "soft_l1", "f_scale": .05},
                                     {"max_nfev": 3}], ids=str)
@pytest.mark.parametrize("functions, same", [
    ((COMPILED, COMPILED_JAC), (fun, jac)), ((COMPILED, jac), (fun, jac)), ((fun, COMPILED_JAC), (fun, jac)),
    ((COMPILED, "2-point"), (fun, "2-point")), ((COMPILED, "3-point"), (fun, "3-point")),
], ids=["both", "fun", "jac", "2-point", "3-point"])
def test_compiled_functions_give_the_same_result(functions, same, options):
    got, want = (least_squares(f, X0, j, covariance="accurate", **options) for f, j in (functions, same))
    assert list(got) == list(want)
    for name, value in want.items():
        if name == "covariance":
            np.testing.assert_allclose(got.covariance.cov, value.cov, rtol=1e-12)
        elif name == "njev" and functions[1] is COMPILED_JAC:
            assert got.njev in (value, value + 1)       # SciPy's last call is not counted here: one more
        elif name in ("grad", "optimality"):            # sums in another order
            np.testing.assert_allclose(got[name], value, rtol=1e-6, atol=1e-11)
        else:
            np.testing.assert_array_equal(got[name], value, err_msg=name)


def test_compiled_functions_refused():
    with pytest.raises(TypeError, match="`args` and `kwargs` must be empty with a CFunction"):
        least_squares(COMPILED, X0, args=(T, Y))
    with pytest.raises(TypeError, match="`jac` 'cs' needs a Python function of complex numbers"):
        least_squares(COMPILED, X0, "cs")

    @SIGNATURE
    def stops(m, n, x, f, data):
        return 7
    for how in ("2-point", COMPILED_JAC):
        with pytest.raises(ArithmeticError, match="returned 7|returning 7"):
            least_squares(CFunction(stops, T.size), X0, how)


# ---------------------------------------------------------------------------
# fewer residuals than parameters


FEW = slice(0, 60, 30)          # two residuals for three parameters


def fun_few(p):
    return fun(p)[FEW]


@pytest.mark.parametrize("how", ["2-point", "3-point", "cs", lambda p: jac(p)[FEW]], ids=["2", "3", "cs", "jac"])
@pytest.mark.parametrize("qr_loss", [{}, {"loss": "cauchy", "f_scale": .1}], ids=str)
def test_fixed_parameters_need_no_residuals(how, qr_loss):
    bounds = ([-np.inf, 1.3, -np.inf], [np.inf, 1.3, np.inf])
    got = least_squares(fun_few, [2.0, 1.3, .6], how, bounds=bounds, **qr_loss)

    def reduced(z):
        return fun_few([z[0], 1.3, z[1]])
    want = least_squares(reduced, [2.0, .6], **qr_loss)
    np.testing.assert_allclose(got.x[[0, 2]], want.x, rtol=1e-6)
    assert got.fun.shape == (2,) and got.jac.shape == (2, 3) and got.success and got.x[1] == 1.3
    np.testing.assert_allclose(got.cost, want.cost, atol=1e-12)


def test_fixed_parameters_need_no_residuals_in_leastsq_and_curve_fit():
    bounds = ([-9, 1.3, -9], [9, 1.3, 9])
    calls = []

    def counted(p):
        calls.append(p)
        return fun_few(p)
    for extra in ({}, {"Dfun": lambda p: jac(p)[FEW]}, {"Dfun": lambda p: jac(p)[FEW].T, "col_deriv": True},
                  {"qr": "blocked"}):
        calls.clear()
        x, cov, info, mesg, ier = leastsq(counted, [2, 1.3, .6], bounds=bounds, full_output=True, **extra)
        assert ier in (1, 2, 3, 4) and info["nfev"] == len(calls)
        np.testing.assert_array_equal(info["fvec"], fun_few(x))
        a = jac(x)[FEW][:, [0, 2]]
        np.testing.assert_allclose(cov[np.ix_([0, 2], [0, 2])], np.linalg.inv(a.T @ a), rtol=1e-5)
    popt, pcov = curve_fit(lambda t, a, b, c: a * np.exp(-b * t) + c, T[FEW], Y[FEW], [2, 1.3, .6], bounds=bounds,
                           sigma=[.1, .1], absolute_sigma=True)
    np.testing.assert_allclose(popt, x, rtol=1e-6)
    np.testing.assert_allclose(pcov[np.ix_([0, 2], [0, 2])], .01 * cov[np.ix_([0, 2], [0, 2])], rtol=1e-4)
    compiled = CFunction(SIGNATURE(lambda m, n, x, f, data: c_fun_few(m, n, x, f)), 2)
    np.testing.assert_allclose(leastsq(compiled, [2, 1.3, .6], bounds=bounds)[0], x, rtol=1e-6)


def c_fun_few(m, n, x, f):
    np.ctypeslib.as_array(f, (m,))[:] = fun_few(np.ctypeslib.as_array(x, (n,)))
    return 0


@pytest.mark.parametrize("bounds", [(-9, 9), ([-9, -9, .6], [9, 9, .6])])
def test_free_parameters_do_need_residuals(bounds):
    start = [2, 1.3, .6]
    with pytest.raises(TypeError, match="must not exceed"):
        leastsq(lambda p: fun_few(p)[:1], start, bounds=bounds)
    with pytest.raises(ValueError, match="residuals is less than the number of variables"):
        least_squares(lambda p: fun_few(p)[:1], start)
    with pytest.raises(TypeError, match="must not exceed"):
        leastsq(CFunction(c_fun, 1), start, bounds=bounds)


def test_shapes_of_few_rows_are_checked():
    bounds = ([-9, 1.3, -9], [9, 1.3, 9])
    with pytest.raises(TypeError, match=r"Shape should be \(2, 3\) but it is \(2, 2\)"):
        leastsq(fun_few, [2, 1.3, .6], Dfun=lambda p: np.ones((2, 2)), bounds=bounds)
    sizes = iter([2, 1, 1])
    with pytest.raises(ValueError, match="changed size"):
        leastsq(lambda p: fun(p)[:next(sizes)], [2, 1.3, .6], Dfun=lambda p: jac(p)[:2], bounds=bounds)


def test_standard_errors_do_not_count_fixed_parameters():
    def model(t, a, b, c):
        return a * np.exp(-b * t) + c
    bounds = ([-9, 1.3, -9], [9, 1.3, 9])
    pcov = curve_fit(model, T, Y, [2, 1.3, .6], bounds=bounds)[1]
    alone = curve_fit(lambda t, a, c: model(t, a, 1.3, c), T, Y, [2, .6])[1]
    np.testing.assert_allclose(pcov[np.ix_([0, 2], [0, 2])], alone, rtol=1e-5)


def test_curve_fit_refuses_compiled_functions():
    with pytest.raises(TypeError, match="`f` must be a Python function .* got a CFunction"):
        curve_fit(COMPILED, T, Y)
    with pytest.raises(TypeError, match="`jac` must be a Python function"):
        curve_fit(lambda t, a: a * t, T, Y, jac=COMPILED_JAC)


def test_a_jacobian_that_is_not_finite_is_a_failure():
    got = least_squares(fun, X0, lambda p: jac(p) * np.nan)
    assert got.status == -3 and not got.success and "Jacobian is not finite" in got.message
