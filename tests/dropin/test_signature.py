"""The signature of leastsq, and the values that each argument may have."""
import inspect
import sys
from collections import namedtuple

import guards
import numpy as np
import pytest

from leastsq import leastsq

from enzyme import T, X0, Y, jacobian, residual, by_columns as jacobian_by_columns

NAMES = ("func", "x0", "args", "Dfun", "full_output", "col_deriv", "ftol", "xtol",
         "gtol", "maxfev", "epsfcn", "factor", "diag")
SCIPY_SIGNATURE = ("(func, x0, args=(), Dfun=None, full_output=False, col_deriv=False, "
                   "ftol=1.49012e-08, xtol=1.49012e-08, gtol=0.0, maxfev=0, "
                   "epsfcn=None, factor=100, diag=None)")


class Recorder:
    """A function that records its points; consecutive equal points once."""

    def __init__(self, function):
        self.function, self.points, self.calls = function, [], 0

    def __call__(self, x, *args):
        self.calls += 1
        if not self.points or not np.array_equal(self.points[-1], x):
            self.points.append(np.array(x, float))
        return self.function(x, *args)


def assert_same(one, other):
    """Two results of leastsq are equal, bit for bit."""
    assert len(one) == len(other)
    for a, b in zip(one, other):
        if isinstance(a, dict):
            assert list(a) == list(b)
            assert_same(list(a.values()), list(b.values()))
        else:
            np.testing.assert_array_equal(a, b)


# ---------------------------------------------------------------- signature


def test_signature_begins_with_scipys():
    parameters = [p.replace(annotation=inspect.Parameter.empty)
                  for p in inspect.signature(leastsq).parameters.values()]
    assert str(inspect.Signature(parameters[:13])) == SCIPY_SIGNATURE
    assert all(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters[:13])


def test_extensions_are_keyword_only_with_defaults():
    for p in list(inspect.signature(leastsq).parameters.values())[13:]:
        assert p.kind is p.KEYWORD_ONLY and p.default is not p.empty, p


def test_all_thirteen_may_be_positional():
    values = (residual, list(X0), (T, Y), jacobian_by_columns, True, True, 1e-3, 1e-4,
              1e-5, 50, 1e-10, 2.0, [1.0, 3.0])
    assert_same(leastsq(*values), leastsq(**dict(zip(NAMES, values))))


@pytest.mark.parametrize("position, value", [
    (6, 0.5), (7, 0.5), (8, 0.9), (9, 1), (10, 1e-3), (11, 0.05), (12, [1.0, 50.0])])
def test_positional_option_lands_where_it_should(position, value):
    values = [residual, list(X0), (), None, True, False, 1e-10, 1e-10, 0.0, 0, None, 0.1,
              None]
    plain = leastsq(*values)
    values[position] = value
    changed = leastsq(*values)
    options = {"ftol": 1e-10, "xtol": 1e-10, "factor": 0.1} | {NAMES[position]: value}
    assert_same(changed, leastsq(residual, X0, full_output=True, **options))
    assert not np.array_equal(plain[0], changed[0])


def test_too_many_positional_arguments_are_refused():
    with pytest.raises(TypeError):
        leastsq(residual, X0, (), None, False, False, 1e-8, 1e-8, 0.0, 0, None, 100,
                None, None)


@pytest.mark.parametrize("keyword", ["foo", "dfun", "x_scale", "method"])
def test_unknown_keyword_is_refused(keyword):
    with pytest.raises(TypeError, match=keyword):
        leastsq(residual, X0, **{keyword: None})


def test_x0_and_func_are_required():
    with pytest.raises(TypeError, match="x0"):
        leastsq(residual)
    with pytest.raises(TypeError, match="func"):
        leastsq(x0=X0)


# --------------------------------------------------------------------- args


@pytest.mark.parametrize("args", [[1.0, 2.0], T, "text", {"a": 1}, None, 7, 2.5, range(3)],
                         ids=lambda a: type(a).__name__)
def test_args_that_is_not_a_tuple_is_one_argument(args):
    got = []

    def func(p, *rest):
        got.append(rest)
        return residual(p)

    def dfun(p, *rest):
        got.append(rest)
        return jacobian(p)

    leastsq(func, X0, args=args, Dfun=dfun)
    assert got and all(len(rest) == 1 and rest[0] is args for rest in got)


@pytest.mark.parametrize("args", [(), (T,), (T, Y), namedtuple("Data", "t y")(T, Y),
                                  ((T, Y),)], ids=["none", "one", "two", "named", "nested"])
def test_tuple_args_are_spread_over_func_and_dfun(args):
    got = []

    def func(p, *rest):
        got.append(rest)
        return residual(p)

    def dfun(p, *rest):
        got.append(rest)
        return jacobian(p)

    leastsq(func, X0, args=args, Dfun=dfun)
    assert got
    for rest in got:
        assert len(rest) == len(args) and all(a is b for a, b in zip(rest, args))


# ----------------------------------------------------------------------- x0


@pytest.mark.parametrize("x0", [
    [1, 1], (1, 1), (1.0, True), [[1.0, 1.0]], [[1.0], [1.0]], np.ones((2, 1)),
    np.ones((1, 1, 2)), np.ones(2, "f2"), np.ones(2, "f4"), np.ones(2, "i1"),
    np.ones(2, "u8"), np.ones(2, ">f8"), np.ones(4)[::2], np.ones(2)[::-1],
    np.array([True, True]), memoryview(np.ones(2))],
    ids=["ints", "tuple", "mixed", "row", "column", "column-array", "3-D", "float16",
         "float32", "int8", "uint64", "swapped", "strided", "reversed", "bool",
         "memoryview"])
def test_x0_of_any_real_kind_starts_the_same_fit(x0):
    x, ier = leastsq(residual, x0)
    expected, _ = leastsq(residual, np.ones(2))
    assert ier in (1, 2, 3)
    np.testing.assert_array_equal(x, expected)
    assert type(x) is np.ndarray and x.dtype == np.float64 and x.shape == (2,)


@pytest.mark.parametrize("x0", [1, 1.0, np.float32(1), np.array(1.0), np.array(1), [1.0],
                                [[1.0]], True])
def test_scalar_x0_is_a_vector_of_one(x0):
    seen = []

    def func(p):
        seen.append(p.shape)
        return p * T - T ** 2

    x, ier = leastsq(func, x0)
    assert set(seen) == {(1,)}
    assert x.shape == (1,) and x.dtype == np.float64 and ier in (1, 2, 3)
    np.testing.assert_allclose(x, (T ** 3).sum() / (T ** 2).sum(), rtol=1e-7)


def test_x0_in_two_dimensions_is_flattened_in_c_order():
    for order in "CF":
        x0 = np.array([[1.0, 2.0], [3.0, 4.0]], order=order)
        x, _ = leastsq(lambda p: p - [1.0, 2.0, 3.0, 4.0], x0)
        np.testing.assert_array_equal(x, [1, 2, 3, 4])


@pytest.mark.parametrize("dtype", ["f8", "f4", "i8", ">f8"])
@pytest.mark.parametrize("writeable", [True, False])
def test_x0_is_not_modified_and_not_returned(dtype, writeable):
    x0 = np.ones(2, dtype)
    x0.flags.writeable = writeable
    x, _ = leastsq(residual, x0)
    assert not np.shares_memory(x, x0)
    np.testing.assert_array_equal(x0, np.ones(2, dtype))
    start = [1.0, 1.0]
    leastsq(residual, start)
    assert start == [1.0, 1.0]


def test_x0_changed_by_func_during_the_fit_does_not_matter():
    x0 = np.ones(2)

    def func(p):
        x0[:] = np.nan
        return residual(p)

    np.testing.assert_array_equal(leastsq(func, x0)[0], leastsq(residual, X0)[0])


def test_subclass_of_ndarray_as_x0_is_seen_as_a_plain_array():
    class Sub(np.ndarray):
        pass

    seen = []

    def func(p):
        seen.append(type(p))
        return residual(p)

    x, _ = leastsq(func, np.ones(2).view(Sub))
    assert type(x) is np.ndarray and set(seen) == {np.ndarray}



@pytest.mark.parametrize("x0", [
    1j, [1 + 0j, 1], np.ones(2, "c8"), "abc", ["1", "2"], np.array(["1", "2"]), b"1", None,
    [None, 1], [object(), 1], np.ones(2, object), {}, np.datetime64("2020-01-01"),
    np.zeros(2, "m8[s]"), np.zeros(2, [("a", "f8")]),
    pytest.param(np.ones(2, "longdouble"),
                 marks=guards.LONGDOUBLE)],
    ids=lambda v: f"{type(v).__name__}-{np.asarray(v).dtype}")
def test_x0_without_safe_cast_is_refused_before_func_is_called(x0):
    func = Recorder(residual)
    with pytest.raises(TypeError, match="x0"):
        leastsq(func, x0)
    assert func.calls == 0


def test_ragged_x0_is_refused_before_func_is_called():
    func = Recorder(residual)
    with pytest.raises(ValueError):                     # NumPy's own
        leastsq(func, [1.0, [2.0, 3.0]])
    assert func.calls == 0


# ------------------------------------------------------------------- maxfev


def slow(x):
    """exp(-x), on which Gauss-Newton takes steps of length one forever."""
    return np.exp(-x)


@pytest.mark.parametrize("maxfev", [0, -1, -(10 ** 6)])
@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("with_dfun", [False, True])
def test_default_maxfev(maxfev, n, with_dfun):
    dfun = (lambda x: -np.diag(np.exp(-x))) if with_dfun else None
    limit = (100 if with_dfun else 200) * (n + 1)
    _, cov, info, mesg, ier = leastsq(slow, np.zeros(n), Dfun=dfun, maxfev=maxfev,
                                      full_output=True)
    assert (ier, mesg) == (5, f"Number of calls to function has reached maxfev = {limit}.")
    assert limit <= info["nfev"] <= limit + n


class Index:
    def __index__(self):
        return 7


@pytest.mark.parametrize("maxfev", [7, np.int64(7), np.uint8(7), np.array(7), Index()])
def test_maxfev_is_an_integer_of_any_kind(maxfev):
    *_, info, mesg, ier = leastsq(slow, 0.0, maxfev=maxfev, full_output=True)
    assert (ier, mesg) == (5, "Number of calls to function has reached maxfev = 7.")
    assert info["nfev"] == 7            # x0, then a column and a step three times


@pytest.mark.parametrize("maxfev", [2.0, None, "10", 1j, [10], np.float64(3)])
def test_maxfev_of_another_type_is_refused(maxfev):
    with pytest.raises(TypeError):
        leastsq(residual, X0, maxfev=maxfev)


def test_maxfev_may_be_as_large_as_a_c_int():
    assert_same(leastsq(residual, X0, maxfev=2 ** 31 - 1), leastsq(residual, X0))


@pytest.mark.parametrize("maxfev", [2 ** 31, 2 ** 40, sys.maxsize])
def test_maxfev_may_be_as_large_as_a_size(maxfev):
    assert_same(leastsq(residual, X0, maxfev=maxfev), leastsq(residual, X0))


@pytest.mark.parametrize("maxfev", [2 ** 63, 2 ** 80])
def test_maxfev_beyond_the_largest_size_is_refused(maxfev):
    with pytest.raises(OverflowError):
        leastsq(residual, X0, maxfev=maxfev)


# ------------------------------------------------------------------- epsfcn


def first_step(func, x0, **options):
    func = Recorder(func)
    leastsq(func, x0, full_output=True, maxfev=1, **options)
    return func.points[1] - func.points[0]


@pytest.mark.parametrize("kind, epsilon", [
    (np.float64, 2.0 ** -52), (np.float32, 2.0 ** -23), (np.float16, 2.0 ** -10),
    (np.int64, 2.0 ** -52), (np.int16, 2.0 ** -52), (bool, 2.0 ** -52), (">f4", 2.0 ** -23),
    (list, 2.0 ** -52)], ids=str)
def test_default_step_follows_the_dtype_of_the_first_residuals(kind, epsilon):
    def func(p):
        r = 8 * residual(p)
        return r.tolist() if kind is list else r.astype(kind)

    step = first_step(func, [4.0, 1.0])
    np.testing.assert_allclose(step, [4 * np.sqrt(epsilon), 0], rtol=1e-6)


def test_default_step_ignores_the_dtype_of_later_residuals_and_of_x0():
    x0 = np.array([4.0, 1.0], "f4")

    def func(p):
        return residual(p).astype(np.float64 if len(func.points) < 4 else np.float32)

    func = Recorder(func)
    leastsq(func, x0, full_output=True, maxfev=5)
    start, column, _, trial, second_column = func.points[:5]
    np.testing.assert_allclose(column - start, [4 * 2.0 ** -26, 0], rtol=1e-6)
    np.testing.assert_allclose(second_column - trial, [trial[0] * 2.0 ** -26, 0], rtol=1e-6)


@pytest.mark.parametrize("epsfcn, relative", [
    (1e-4, 1e-2), (np.float32(2.0 ** -20), 2.0 ** -10), (0, 2.0 ** -26), (1e-30, 2.0 ** -26),
    (-1.0, 2.0 ** -26), (1, 1.0)])
def test_epsfcn_sets_the_step_but_not_below_rounding(epsfcn, relative):
    np.testing.assert_allclose(first_step(residual, [-4.0, 1.0], epsfcn=epsfcn),
                               [4 * relative, 0], rtol=1e-6)


def test_step_at_zero_is_absolute():
    np.testing.assert_allclose(first_step(residual, [0.0, 1.0], epsfcn=1e-6), [1e-3, 0],
                               rtol=1e-6)


# -------------------------------------------------------- flags, tolerances


@pytest.mark.parametrize("flag", [0, 1, True, False, 2, -1, np.int64(1), np.int8(0)])
def test_flags_are_integers_or_bools(flag):
    assert len(leastsq(residual, X0, full_output=flag)) == (5 if flag else 2)
    dfun = jacobian_by_columns if flag else jacobian
    assert_same(leastsq(residual, X0, Dfun=dfun, col_deriv=flag),
                leastsq(residual, X0, Dfun=jacobian))


@pytest.mark.parametrize("flag", [None, "a", 1.0, [], np.float64(1)], ids=repr)
def test_flags_of_another_type_are_refused(flag):
    with pytest.raises(TypeError):
        leastsq(residual, X0, full_output=flag)
    dfun = jacobian_by_columns if flag else jacobian
    with pytest.raises(TypeError):
        leastsq(residual, X0, Dfun=dfun, col_deriv=flag)


@pytest.mark.parametrize("name", ["ftol", "xtol", "gtol", "factor"])
@pytest.mark.parametrize("value", [None, "1e-8", 1j, [1e-8], np.ones(2)], ids=repr)
def test_tolerances_that_are_not_numbers_are_refused(name, value):
    with pytest.raises(TypeError):
        leastsq(residual, X0, **{name: value})


@pytest.mark.parametrize("value", ["1e-8", 1j, [1e-8]], ids=repr)
def test_epsfcn_that_is_not_a_number_is_refused(value):
    with pytest.raises(TypeError):
        leastsq(residual, X0, epsfcn=value)


@pytest.mark.parametrize("name", ["ftol", "xtol", "gtol", "factor", "epsfcn"])
@pytest.mark.parametrize("kind", [int, np.float32, np.array, np.int64, bool])
def test_tolerances_are_real_numbers_of_any_kind(name, kind):
    assert_same(leastsq(residual, X0, full_output=True, **{name: kind(1)}),
                leastsq(residual, X0, full_output=True, **{name: 1.0}))


# ---------------------------------------------------------------- callables


@pytest.mark.parametrize("value", [None, 3, "a", T, []], ids=lambda v: type(v).__name__)
def test_func_must_be_callable(value):
    with pytest.raises(TypeError, match="callable"):
        leastsq(value, X0)


@pytest.mark.parametrize("value", [0, 3, "a", T, [], False], ids=lambda v: type(v).__name__)
def test_dfun_must_be_callable_and_is_checked_before_func_is_called(value):
    func = Recorder(residual)
    with pytest.raises(TypeError, match="callable"):
        leastsq(func, X0, Dfun=value)
    assert func.calls == 0


def test_callables_of_every_kind_work():
    from functools import partial

    class Model:
        def method(self, p):
            return residual(p)

        def __call__(self, p):
            return residual(p)

        @staticmethod
        def static(p):
            return residual(p)

    expected = leastsq(residual, X0)
    for func in (Model().method, Model(), Model.static, partial(residual, t=T),
                 lambda p: residual(p)):
        assert_same(leastsq(func, X0), expected)
