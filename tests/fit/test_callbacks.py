"""How leastsq calls the user's functions, and which results of theirs it accepts."""
import array
import sys
import warnings
import weakref
from functools import partial

import numpy as np
import pytest

from leastsq import leastsq

from enzyme import At, T, X0, Y, by_columns, jacobian, residual


def assert_same(one, other):
    """Two results of leastsq are equal, bit for bit."""
    assert len(one) == len(other)
    for a, b in zip(one, other):
        if isinstance(a, dict):
            assert list(a) == list(b)
            assert_same(list(a.values()), list(b.values()))
        else:
            np.testing.assert_array_equal(a, b)


WITH_AND_WITHOUT = pytest.mark.parametrize(
    "options", [{}, {"Dfun": jacobian}, {"Dfun": by_columns, "col_deriv": True}],
    ids=["lmdif", "lmder", "col_deriv"])


def full(func=residual, x0=X0, **options):
    return leastsq(func, x0, full_output=True, **options)


# ------------------------------------------------------------------- counts


@pytest.mark.parametrize("limits", [{}, {"maxfev": 1}, {"maxfev": 5}, {"xtol": 0, "ftol": 0},
                                    {"factor": 0.1}, {"gtol": 0.5}], ids=str)
def test_func_runs_exactly_nfev_times(limits):
    func = At(residual, None, None)
    info = full(func, **limits)[2]
    assert func.calls == info["nfev"] and "njev" not in info


@pytest.mark.parametrize("limits", [{}, {"maxfev": 1}, {"maxfev": 5}, {"xtol": 0, "ftol": 0},
                                    {"factor": 0.1}, {"gtol": 0.5}], ids=str)
def test_dfun_runs_exactly_njev_times(limits):
    func, dfun = At(residual, None, None), At(jacobian, None, None)
    info = full(func, Dfun=dfun, **limits)[2]
    assert (func.calls, dfun.calls) == (info["nfev"], info["njev"])


def test_first_call_is_at_x0_and_columns_follow():
    seen = []
    full(lambda p: seen.append(p) or residual(p), (2, 3), epsfcn=1e-4)
    np.testing.assert_allclose(seen[:3], [[2, 3], [2.02, 3], [2, 3.03]], rtol=1e-12)


# -------------------------------------------------------------- the argument x


@WITH_AND_WITHOUT
@pytest.mark.parametrize("x0", [X0, np.ones(2, int), np.ones(2, "f4")],
                         ids=["float64", "int", "float32"])
def test_x_is_a_fresh_owned_float64_vector(options, x0):
    def check(p):
        assert type(p) is np.ndarray and p.dtype == np.float64 and p.shape == (2,)
        assert p.dtype.isnative and p.base is None and p.flags.owndata
        assert p.flags.writeable and p.flags.aligned and p.flags.c_contiguous
        return p

    options = dict(options)
    if "Dfun" in options:
        options["Dfun"] = lambda p, dfun=options["Dfun"]: dfun(check(p))
    assert leastsq(lambda p: residual(check(p)), x0, **options)[1] in (1, 2, 3)


def keep_array(p):
    return p


def keep_view(p):
    return p[:]


def keep_memoryview(p):
    return memoryview(p)


def keep_reversed(p):
    return p[::-1]


@WITH_AND_WITHOUT
@pytest.mark.parametrize("keep", [keep_array, keep_view, keep_memoryview, keep_reversed])
@pytest.mark.parametrize("every", [1, 2, 3])
def test_a_stored_x_is_never_changed(options, keep, every):
    kept, copies, calls = [], [], [0]

    def store(p):
        calls[0] += 1
        if calls[0] % every == 0:
            kept.append(keep(p))
            copies.append(np.array(kept[-1]))
        return p

    options = dict(options)
    if "Dfun" in options:
        options["Dfun"] = lambda p, dfun=options["Dfun"]: dfun(store(p))
    result = full(lambda p: residual(store(p)), **options)
    assert len(kept) > 3
    np.testing.assert_array_equal([np.array(k) for k in kept], copies)
    assert not any(np.shares_memory(a, b) for i, a in enumerate(kept) for b in kept[:i])
    assert not any(np.shares_memory(result[0], np.asarray(k)) for k in kept)
    assert_same(result, full(**options))


@WITH_AND_WITHOUT
def test_x_seen_through_a_weak_reference_dies_or_stays(options):
    seen = []

    def func(p):
        for ref, copy in seen:
            alive = ref()
            assert alive is None or np.array_equal(alive, copy)
        seen.append((weakref.ref(p), p.copy()))
        return residual(p)

    assert full(func, **options)[4] in (1, 2, 3)
    assert all(ref() is None for ref, _ in seen)


def overwrite(p):
    p[:] = np.nan


def make_read_only(p):
    p.flags.writeable = False


def enlarge(p):
    p.resize(1000, refcheck=False)


def shrink(p):
    p.resize(0, refcheck=False)


def make_column(p):
    p.resize((2, 1), refcheck=False)


def sort_in_place(p):
    p.sort()


def read_as_integers(p, dtype=np.int64):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)     # NumPy is about to forbid this
        p.dtype = dtype


def swap_bytes(p):
    read_as_integers(p, p.dtype.newbyteorder())


@WITH_AND_WITHOUT
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("harm", [overwrite, make_read_only, enlarge, shrink, make_column,
                                  sort_in_place, read_as_integers, swap_bytes], ids=lambda f: f.__name__)
def test_changing_x_does_not_change_the_fit(options, harm, keep):
    kept = []

    def harmed(function):
        def call(p):
            assert p.shape == (2,) and p.flags.writeable
            result = function(p)
            harm(p)
            if keep:
                kept.append(p)
            return result
        return call

    options = dict(options)
    expected = full(**options)
    if "Dfun" in options:
        options["Dfun"] = harmed(options["Dfun"])
    assert_same(full(harmed(residual), **options), expected)


def test_x_itself_may_be_the_result():
    x, _, info, _, ier = full(lambda p: p, [3.0, -4.0, 5.0])
    assert ier in (1, 2, 3, 4)
    np.testing.assert_allclose(x, 0, atol=1e-7)
    np.testing.assert_array_equal(info["fvec"], x)
    assert_same(full(lambda p: p[::-1], [3.0, -4.0]), full(lambda p: p[::-1].copy(), [3.0, -4.0]))


# ------------------------------------------------------------------- results


def unaligned(a):
    room = np.zeros(a.nbytes + 1, np.uint8)[1:]
    view = room.view(np.float64).reshape(a.shape)
    view[...] = a
    assert not view.flags.aligned
    return view


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def strided(a):
    return np.repeat(np.repeat(a, 3, axis=0), 2, axis=-1)[::3, ..., ::2] if a.ndim > 1 \
        else np.repeat(a, 3)[::3]


def backwards(a):
    return np.flip(np.flip(a).copy())


class Sub(np.ndarray):
    pass


class ArrayLike:
    def __init__(self, a):
        self.a = a

    def __array__(self, dtype=None, copy=None):
        return self.a if dtype is None else self.a.astype(dtype)


SAME_VALUES = {
    "list": lambda a: a.tolist(), "tuple": lambda a: tuple(map(tuple, a)) if a.ndim > 1
    else tuple(a), "list of scalars": list, "F": np.asfortranarray, "strided": strided,
    "backwards": backwards, "read-only": read_only, "unaligned": unaligned,
    "swapped": lambda a: a.astype(a.dtype.newbyteorder()), "subclass": lambda a: a.view(Sub),
    "__array__": ArrayLike, "memoryview": lambda a: memoryview(np.ascontiguousarray(a)),
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "broadcast": lambda a: np.broadcast_to(a, (3,) + a.shape)[1]}


@pytest.mark.parametrize("name", [*SAME_VALUES, "array.array"])
@pytest.mark.parametrize("options", [{}, {"Dfun": jacobian}], ids=["lmdif", "lmder"])
def test_residuals_of_every_kind_are_read_alike(name, options):
    convert = SAME_VALUES.get(name) or partial(array.array, "d")
    assert_same(full(lambda p: convert(residual(p)), **options), full(**options))


@pytest.mark.parametrize("name", SAME_VALUES)
@pytest.mark.parametrize("dfun, col_deriv", [(jacobian, 0), (by_columns, 1)])
def test_jacobians_of_every_kind_are_read_alike(name, dfun, col_deriv):
    convert = SAME_VALUES[name]
    result = full(Dfun=lambda p: convert(dfun(p)), col_deriv=col_deriv)
    assert_same(result, full(Dfun=jacobian))


@pytest.mark.parametrize("kind, epsilon", [
    ("f2", 2.0 ** -10), ("f4", 2.0 ** -23), (">f4", 2.0 ** -23), ("i8", 2.0 ** -52),
    ("i1", 2.0 ** -52), ("u8", 2.0 ** -52), (">i4", 2.0 ** -52), (bool, 2.0 ** -52)], ids=str)
def test_residuals_and_jacobians_of_other_dtypes_are_widened(kind, epsilon):
    def narrow(function):
        return lambda p: np.abs(32 * function(p)).astype(kind)

    def wide(function):
        return lambda p: narrow(function)(p).astype(float)

    assert_same(full(narrow(residual)), full(wide(residual), epsfcn=epsilon))
    assert_same(full(narrow(residual), Dfun=narrow(jacobian)),
                full(wide(residual), Dfun=wide(jacobian)))


@pytest.mark.parametrize("convert", [float, np.float64, np.array, np.float32,
                                     lambda v: [float(v)], lambda v: np.array([v])])
@pytest.mark.parametrize("options", [{}, {"Dfun": lambda p: [[2.0]]}], ids=["lmdif", "lmder"])
def test_scalar_residual(convert, options):
    x, ier = leastsq(lambda p: convert(2 * p[0] - 3), 1.0, **options)
    assert ier in (1, 2, 3, 4)
    np.testing.assert_allclose(x, [1.5], rtol=1e-6)


def test_reused_output_buffers_do_not_matter():
    out, jac_out = np.empty(T.size), np.empty((T.size, 2))

    def func(p):
        out[:] = residual(p)
        return out

    def dfun(p):
        jac_out[:] = jacobian(p)
        return jac_out

    def dfun_by_columns(p):
        return dfun(p).T

    assert_same(full(func), full())
    assert_same(full(func, Dfun=dfun), full(Dfun=jacobian))
    assert_same(full(func, Dfun=dfun_by_columns, col_deriv=1), full(Dfun=jacobian))


@WITH_AND_WITHOUT
def test_results_are_never_written_to_or_kept(options):
    given, copies = [], []

    def remember(a):
        given.append(np.ascontiguousarray(a))
        copies.append(given[-1].copy())
        return given[-1]

    options = dict(options)
    if "Dfun" in options:
        options["Dfun"] = lambda p, dfun=options["Dfun"]: remember(dfun(p))
    result = full(lambda p: remember(residual(p)), **options)
    for a, copy in zip(given, copies):
        np.testing.assert_array_equal(a, copy)
        assert not any(np.shares_memory(a, r) for r in (result[0], *result[2].values()))
    assert [sys.getrefcount(a) for a in given] == [sys.getrefcount(a) for a in copies]


# ------------------------------------------------------- Dfun's shape and layout


@pytest.mark.parametrize("col_deriv", [False, True])
@pytest.mark.parametrize("shape", [(12,), (12, 1), (1, 12), (3, 4)], ids=str)
def test_jacobian_of_one_column_may_have_any_shape(shape, col_deriv):
    x, ier = leastsq(lambda p: p * T - Y, 5.0, Dfun=lambda p: T.reshape(shape),
                     col_deriv=col_deriv)
    assert ier in (1, 2, 3)
    np.testing.assert_allclose(x, T @ Y / (T @ T), rtol=1e-9)


@pytest.mark.parametrize("jac", [[2.0], [[2.0]], np.array([2.0]), np.full((1, 1), 2, "i4")])
def test_jacobian_of_one_number_may_be_a_vector(jac):
    x, ier = leastsq(lambda p: 2 * p - 3, 5.0, Dfun=lambda p: jac)
    assert ier in (1, 2, 3, 4)
    np.testing.assert_allclose(x, [1.5], rtol=1e-9)


LAYOUTS = {
    "C": np.ascontiguousarray, "F": np.asfortranarray, "strided": strided,
    "backwards": backwards, "slice of C": lambda a: np.pad(a, 3)[3:-3, 3:-3],
    "slice of F": lambda a: np.asfortranarray(np.pad(a, 3))[3:-3, 3:-3],
    "float32": lambda a: a.astype("f4"), "unaligned": unaligned,
    "swapped": lambda a: a.astype(a.dtype.newbyteorder()), "int": lambda a: a.astype("i2")}


@pytest.mark.parametrize("m, n", [(3000, 37), (1025, 8), (64, 64), (65, 63), (33, 32),
                                  (700, 1), (17, 16), (9, 2)])
def test_large_jacobians_of_every_layout_are_read_alike(m, n):
    rng = np.random.default_rng(m * n)
    jac = rng.integers(-99, 100, (m, n)) + 100.0 * np.eye(m, n)
    b = rng.standard_normal(m)

    def func(x):
        return (jac * x).sum(axis=1) - b

    x0 = np.ones(n)
    expected = full(func, x0, Dfun=lambda x: jac.copy())
    np.testing.assert_allclose(expected[0], np.linalg.lstsq(jac, b, rcond=None)[0],
                               rtol=1e-6, atol=1e-9)
    for name, layout in LAYOUTS.items():
        for col_deriv in (0, 1):
            given = layout(jac.T if col_deriv else jac)
            assert_same(full(func, x0, Dfun=lambda x: given, col_deriv=col_deriv), expected)
