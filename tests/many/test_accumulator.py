"""`RowAccumulator`: however the rows are split, the triangle is that of all rows."""
import copy
import doctest
import gc
import os
import pickle
import re
import subprocess
import sys
import threading
import tracemalloc
import weakref

import numpy as np
import pytest

import leastsq
from kernels import ROOT
from leastsq import RowAccumulator

EPS = np.finfo(float).eps
SIZES = [(0, 2), (1, 1), (1, 3), (255, 1), (256, 3), (257, 3), (1000, 10), (3000, 33), (700, 100)]


def rows_of(m, n, seed=0):
    rng = np.random.default_rng([m, n, seed])
    return rng.standard_normal((m, n))*10.0**rng.uniform(-3, 3, n), rng.standard_normal(m)


def accumulated(*blocks):
    a = RowAccumulator(blocks[0][0].shape[1])
    for J, f in blocks:
        assert a.push(J, f) is None
    return a


def assert_same(one, other):
    """Two accumulators hold the same rows, to the bit."""
    assert one.rows == other.rows
    np.testing.assert_array_equal(one.triangle(), other.triangle())
    assert (one.n, one.fnorm, one.finite, one.fault) == (other.n, other.fnorm, other.finite, other.fault)


def assert_is_triangle_of(T, A):
    """Assert T'T = A'A, each element relative to the norms of its two columns."""
    assert T.dtype == np.float64 and T.flags.c_contiguous and T.flags.writeable and T.flags.owndata
    assert T.shape == 2*(A.shape[1],)
    np.testing.assert_array_equal(T, np.triu(T))
    size = np.sqrt((A*A).sum(axis=0))
    size[size == 0] = 1
    T, A = T/size, A/size
    assert np.abs(T.T @ T - A.T @ A).max(initial=0) <= 30*EPS*np.sqrt(A.shape[1])


# ---------------------------------------------------------------- pushing


@pytest.mark.parametrize("m, n", SIZES)
def test_the_triangle_is_that_of_the_rows(m, n):
    J, f = rows_of(m, n)
    a = accumulated((J, f))
    assert (a.n, a.rows, a.finite, a.fault) == (n, m, True, None)
    assert_is_triangle_of(a.triangle(), np.column_stack([J, f]))
    np.testing.assert_allclose(a.fnorm, np.linalg.norm(f), rtol=10*EPS)


@pytest.mark.parametrize("m, n", SIZES)
def test_how_rows_are_split_changes_no_bit(m, n):
    J, f = rows_of(m, n)
    whole = accumulated((J, f))
    for size in (1, 7, 256, 300):
        assert_same(whole, accumulated(*[(J[k:k + size], f[k:k + size]) for k in range(0, max(m, 1), size)]))


def test_a_triangle_stands_for_its_rows():
    J, f = rows_of(900, 5)
    T = accumulated((J[:500], f[:500])).triangle()
    a = accumulated((T[:, :5], T[:, 5]), (J[500:], f[500:]))
    assert a.rows == 6 + 400
    assert_is_triangle_of(a.triangle(), np.column_stack([J, f]))


def test_small_columns_keep_their_digits():
    """J'J would lose them: its condition is the square of J's."""
    t = np.linspace(0, 1, 500)
    J = np.column_stack([np.ones(500), 1 + 1e-9*t, 1 + 1e-9*t**2])
    T = accumulated((J, t)).triangle()
    x = np.linalg.lstsq(T[:, :3], T[:, 3], rcond=None)[0]
    np.testing.assert_allclose(x, [-1e9, 1e9, 0], rtol=1e-5, atol=1e4)


def _packed(a):
    """A matrix whose elements are nine bytes apart, and so not aligned."""
    records = np.zeros(a.shape, "i1,f8")
    records["f1"] = a
    return records["f1"]


LAYOUTS = {
    "C": lambda a: a.copy(order="C"),
    "Fortran": lambda a: a.copy(order="F"),
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "reversed": lambda a: a[::-1, ...].copy()[::-1],
    "every other": lambda a: np.repeat(a, 2, axis=0)[::2],
    "swapped": lambda a: a.astype(">f8"),
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
    "list": lambda a: a.tolist(),
    "packed": _packed,
}


@pytest.mark.parametrize("layout_of_f", LAYOUTS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_where_the_elements_lie_changes_no_bit(layout, layout_of_f):
    J, f = rows_of(600, 4)
    kept = J.copy(), f.copy()
    assert_same(accumulated((J, f)), accumulated_as(LAYOUTS[layout](J), LAYOUTS[layout_of_f](f)))
    np.testing.assert_array_equal(J, kept[0])
    np.testing.assert_array_equal(f, kept[1])


def accumulated_as(J, f, n=4):
    a = RowAccumulator(n)
    a.push(J=J, f=f)
    return a


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "u1", "i8", "u4", "?"])
def test_elements_of_any_type_that_fits(dtype):
    J, f = (np.round(a*3).clip(0, 100).astype(dtype) for a in rows_of(600, 4))
    assert_same(accumulated((J.astype(float), f.astype(float))), accumulated_as(J, f))


def test_repeated_rows_need_no_memory():
    row = np.array([1.0, 2.0])
    J, f = np.broadcast_to(row, (1 << 20, 2)), np.broadcast_to(3.0, 1 << 20)
    T = accumulated((J, f)).triangle()
    np.testing.assert_allclose(T.T @ T, (1 << 20)*np.outer([1, 2, 3], [1, 2, 3]), rtol=1e-11)


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("n, error", [(0, ValueError), (-3, ValueError), (2.0, TypeError), ("2", TypeError),
                                      (None, TypeError), ([2], TypeError), (1 << 80, OverflowError)])
def test_impossible_n_is_refused_by_name(n, error):
    with pytest.raises(error, match="n must"):
        RowAccumulator(n)


@pytest.mark.parametrize("n", [1 << 28, 1 << 40, (1 << 63) - 1])
def test_out_of_memory_is_a_memory_error(n):
    with pytest.raises(MemoryError):
        RowAccumulator(n)


@pytest.mark.parametrize("J, f, error, match", [
    (np.ones((4, 2)), np.ones(4), ValueError, r"J must have shape \(k, 3\), got \(4, 2\)"),
    (np.ones(3), np.ones(1), ValueError, r"J must .* got \(3,\)"),
    (np.ones((1, 4, 3)), np.ones(4), ValueError, r"J must .* got \(1, 4, 3\)"),
    (np.ones((4, 3)), np.ones(3), ValueError, r"f must have an entry for each row of J, shape \(4,\), got \(3,\)"),
    (np.ones((4, 3)), np.ones((4, 1)), ValueError, r"f must .* got \(4, 1\)"),
    (np.ones((4, 3)), 1.0, ValueError, r"f must .* got \(\)"),
    (np.ones((4, 3), complex), np.ones(4), TypeError, "J must be real .* complex128"),
    (np.ones((4, 3)), np.ones(4, complex), TypeError, "f must be real .* complex128"),
    (np.ones((4, 3), object), np.ones(4), TypeError, "J must be real .* object"),
    (np.ones((4, 3)), ["1"]*4, TypeError, "f must be real"),
    ([[1, 2, 3], [1]], [1, 2], ValueError, "J must be an array of real numbers"),
    (None, np.ones(4), TypeError, "J must be real")])
def test_rows_of_the_wrong_kind_are_refused_by_name(J, f, error, match):
    a = accumulated(rows_of(20, 3))
    before = copy.copy(a)
    with pytest.raises(error, match=match):
        a.push(J, f)
    assert_same(a, before)


def test_push_needs_both_arguments():
    with pytest.raises(TypeError):
        RowAccumulator(1).push(np.ones((1, 1)))


def test_the_users_exception_is_the_same_object():
    class Array:
        def __init__(self, raised):
            self.raised = raised

        def __array__(self, *args, **kwargs):
            raise self.raised

    a, error = accumulated(rows_of(20, 3)), RuntimeError("mine")
    for rows in ((Array(error), np.ones(4)), (np.ones((4, 3)), Array(error))):
        with pytest.raises(RuntimeError) as caught:
            a.push(*rows)
        assert caught.value is error and a.rows == 20


def test_an_array_may_push_while_it_is_read():
    a = RowAccumulator(2)

    class Array:
        def __array__(self, *args, **kwargs):
            a.push([[1.0, 2.0]], [3.0])
            return np.array([[4.0, 5.0]])

    a.push(Array(), [6.0])
    assert_same(a, accumulated((np.array([[1.0, 2.0], [4.0, 5.0]]), np.array([3.0, 6.0]))))


# ---------------------------------------------------------------- merging


@pytest.mark.parametrize("m, n", SIZES)
@pytest.mark.parametrize("part", [0, 0.1, 0.5, 1])
def test_merging_adds_the_rows_and_leaves_the_other(m, n, part):
    J, f = rows_of(m, n)
    cut = int(part*m)
    a, b = accumulated((J[:cut], f[:cut])), accumulated((J[cut:], f[cut:]))
    kept = accumulated((J[cut:], f[cut:]))
    assert a.merge(b) is None
    assert a.rows == m
    assert_is_triangle_of(a.triangle(), np.column_stack([J, f]))
    b.push(J[:5], f[:5])                    # the same as if it had not been read in between
    kept.push(J[:5], f[:5])
    assert_same(b, kept)


def test_a_tree_of_merges():
    J, f = rows_of(5000, 7)
    leaves = [accumulated((J[k:k + 300], f[k:k + 300])) for k in range(0, 5000, 300)]
    while len(leaves) > 1:
        for left, right in zip(leaves[::2], leaves[1::2]):
            left.merge(right)
        leaves = leaves[::2]
    assert leaves[0].rows == 5000
    assert_is_triangle_of(leaves[0].triangle(), np.column_stack([J, f]))


def test_what_cannot_be_merged_is_refused():
    a = accumulated(rows_of(20, 3))
    before = copy.copy(a)
    with pytest.raises(ValueError, match="other must have n = 3, got n = 4"):
        a.merge(RowAccumulator(4))
    with pytest.raises(ValueError, match="the same one"):
        a.merge(a)
    for other in (None, a.triangle(), RowAccumulator):
        with pytest.raises(TypeError, match="other must be a RowAccumulator, got "):
            a.merge(other)
    assert_same(a, before)


def test_reading_changes_no_bit():
    J, f = rows_of(1000, 4)
    looked_at, left_alone = RowAccumulator(4), RowAccumulator(4)
    for k in range(0, 1000, 100):
        for a in looked_at, left_alone:
            a.push(J[k:k + 100], f[k:k + 100])
        looked_at.triangle(), looked_at.fnorm, looked_at.finite, looked_at.fault, repr(looked_at)
        RowAccumulator(4).merge(looked_at)
    assert_same(looked_at, left_alone)


# ---------------------------------------------------------------- what is not finite

PLACES = [0, 1, 255, 256, 257, 700, 999]


@pytest.mark.parametrize("make", [LAYOUTS["C"], LAYOUTS["Fortran"], LAYOUTS["every other"], np.float32],
                         ids=["C", "Fortran", "strided", "float32"])
@pytest.mark.parametrize("size", [1, 100, 256, 300, 1000])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_row_that_is_not_finite_is_named(value, size, make):
    J, f = rows_of(1000, 3)
    for row, column in [(r, c) for r in PLACES for c in range(4)]:
        bad = np.column_stack([J, f])
        bad[row:, column] = value           # and the elements after it
        bad[row + 1:] = value
        a = RowAccumulator(3)
        for k in range(0, 1000, size):
            a.push(make(bad[k:k + size, :3]), make(bad[k:k + size, 3]))
        assert not a.finite and a.rows == 1000
        np.testing.assert_equal(a.fault, (row, column, value))
        assert [type(part) for part in a.fault] == [int, int, float]


def test_the_row_of_a_fault_is_counted_after_the_rows_it_is_merged_with():
    good, bad = accumulated(rows_of(300, 2)), accumulated(rows_of(40, 2))
    bad.push([[1, 2]], [np.inf])
    good.merge(bad)
    assert good.fault == (340, 2, np.inf) and bad.fault == (40, 2, np.inf)
    good.push([[np.inf, 2]], [0])
    assert good.fault == (340, 2, np.inf)
    bad.merge(good)
    assert bad.fault == (40, 2, np.inf)


def test_a_norm_that_overflows_is_not_the_fault_of_a_row():
    a = accumulated((np.array([[1.5e308], [1.5e308], [1.0]]), np.ones(3)))
    assert (a.finite, a.fault) == (False, None)
    a = accumulated((np.array([[1e308], [1e308]]), np.ones(2)))
    assert (a.finite, a.fault) == (True, None)


# ---------------------------------------------------------------- pickles and copies

COPIES = {f"protocol {p}": lambda a, p=p: pickle.loads(pickle.dumps(a, p)) for p in range(6)}
COPIES |= {"copy": copy.copy, "deepcopy": copy.deepcopy}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("m, n", SIZES)
def test_a_copy_continues_like_the_original(m, n, how):
    J, f = rows_of(m, n)
    a = accumulated((J, f))
    b = COPIES[how](a)
    assert type(b) is RowAccumulator and b is not a
    assert_same(a, b)
    J, f = rows_of(400, n, seed=1)
    for one in a, b:
        one.push(J, f)
    assert_same(a, b)
    b.merge(RowAccumulator(n))
    a.push(J, f)
    assert b.rows != a.rows


def test_a_pickle_has_the_size_of_a_triangle():
    n = 50
    sizes = {len(pickle.dumps(accumulated(rows_of(m, n)))) for m in (0, 100, 200, 5000)}
    assert len(sizes) == 1
    assert sizes.pop() <= 8*(n + 1)*(n + 2)//2 + 250


def test_faults_are_pickled():
    a = accumulated((np.array([[1.0], [np.inf]]), np.zeros(2)))
    assert pickle.loads(pickle.dumps(a)).fault == (1, 0, np.inf)


@pytest.fixture
def state():
    a = accumulated(rows_of(100, 3))
    return a.__reduce__()[2][0]


def refused(state, error=ValueError, n=3, match="RowAccumulator"):
    a = accumulated(rows_of(50, n))
    before = copy.copy(a)
    with pytest.raises(error, match=match):
        a.__setstate__(state)
    assert_same(a, before)


def test_every_damaged_byte_is_noticed(state):
    for k in range(len(state)):
        refused((state[:k] + bytes([state[k] ^ 0x10]) + state[k + 1:], None))


def test_a_state_cut_short_or_of_something_else_is_refused(state):
    for length in range(len(state)):
        refused((state[:length], None))
    refused((state + bytes(8), None))
    refused((state, None), n=2, match="not one of n = 2")
    for nothing in (None, state, (state,), (state, None, None), (state, 1), (bytearray(state), None), ([], {})):
        refused(nothing, TypeError)


def test_a_pickle_is_read_by_the_kernels_of_another_processor(tmp_path):
    a = accumulated(rows_of(1000, 9))
    path = tmp_path / "a.pickle"
    path.write_bytes(pickle.dumps((a, a.triangle())))
    code = ("import pickle, sys, leastsq._core; assert leastsq._core.isa == 'baseline'\n"
            "a, T = pickle.load(open(sys.argv[1], 'rb')); assert (a.triangle() == T).all() and a.rows == 1000")
    subprocess.run([sys.executable, "-c", code, path], check=True, env=os.environ | {"LEASTSQ_ISA": "baseline"})


# ---------------------------------------------------------------- the object


class Named(RowAccumulator):
    def __new__(cls, n, name):
        return super().__new__(cls, n)

    def __init__(self, n, name):
        self.name = name

    def __reduce__(self):
        new, (cls, n), state = super().__reduce__()
        return new, (cls, n, None), state


class Tagged(RowAccumulator):
    pass


def test_subclasses_keep_their_attributes():
    a = Tagged(3)
    a.tag = ["x"]
    a.push(*rows_of(30, 3))
    for b in (pickle.loads(pickle.dumps(a)), copy.copy(a)):
        assert type(b) is Tagged and b.tag == ["x"]
        assert_same(a, b)
    assert "Tagged: n=3, rows=30>" in repr(a)
    a = Named(2, "mine")
    a.push(*rows_of(30, 2))
    b = pickle.loads(pickle.dumps(a))
    assert b.name == "mine"
    c = RowAccumulator(2)
    c.merge(b)
    assert c.rows == 30


def test_a_cycle_is_collected():
    a = Tagged(3)
    a.self = a
    gone = weakref.ref(a)
    del a
    gc.collect()
    assert gone() is None


def test_a_subclass_is_collected():
    class Local(RowAccumulator):
        pass

    Local(2).push(*rows_of(10, 2))
    gone = weakref.ref(Local)
    del Local
    gc.collect()
    assert gone() is None


def test_the_type_describes_itself():
    assert RowAccumulator.__module__ == "leastsq" and "RowAccumulator" in leastsq.__all__
    with pytest.raises(TypeError):
        RowAccumulator.extra = 1
    a = RowAccumulator(7)
    for name in ("n", "rows", "fnorm", "finite", "fault", "extra"):
        with pytest.raises(AttributeError):
            setattr(a, name, 1)
    assert repr(a) == "<leastsq.RowAccumulator: n=7, rows=0>"


def test_nothing_leaks():
    J, f = rows_of(300, 20)

    def use():
        a = accumulated((J, f))
        b = pickle.loads(pickle.dumps(a))
        a.merge(b)
        a.triangle(), a.fnorm, a.finite, a.fault, repr(a)
        for wrong in ((J, f[1:]), (J[:, 1:], f), (J, "f")):
            with pytest.raises((TypeError, ValueError)):
                a.push(*wrong)
        with pytest.raises(ValueError):
            a.__setstate__((b"", None))

    def growth():
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(300):
            use()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before

    counted = RowAccumulator, J, f
    use()
    tracemalloc.start()
    try:
        before = [sys.getrefcount(thing) for thing in counted]
        assert min(growth() for _ in range(3)) < 10000      # 12000 if each use lost the smallest object
        assert [sys.getrefcount(thing) for thing in counted] == before
    finally:
        tracemalloc.stop()


def test_the_docstrings_examples_run():
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(verbose=False)
    for test in finder.find(RowAccumulator, "RowAccumulator", module=leastsq):
        runner.run(test)
    assert runner.summarize(verbose=False) == (0, runner.tries) and runner.tries > 5


def test_c_and_fortran_collect_the_same_number_of_rows():
    fortran, header = (ROOT / "fortran/kernels" / name for name in ("tsqr.F90", "kernels.h"))
    for ours, theirs in (("BLOCK_ROWS", "LSQ_BLOCK_ROWS"), ("NARROW_ROWS", "LSQ_MOST_WAITING")):
        one, other = (re.search(rf"\b{name} = (\d+)", path.read_text()) for path, name in ((fortran, ours), (header, theirs)))
        assert one[1] == other[1]


# ---------------------------------------------------------------- threads


def side_by_side(*functions):
    raised = []

    def run(function):
        try:
            function()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(f,), daemon=True) for f in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "hangs"
    assert raised == []


def test_threads_may_share_one():
    J, f = rows_of(512, 12)
    shared = RowAccumulator(12)

    def work():
        for k in range(60):
            shared.push(J, f)
            assert pickle.loads(pickle.dumps(shared)).rows % 512 == 0
            T = shared.triangle()
            assert np.isfinite(T).all() and np.isfinite(shared.fnorm)

    side_by_side(work, work, work)
    assert shared.rows == 180*512
    T = shared.triangle()/np.sqrt(180)
    assert_is_triangle_of(T, np.column_stack([J, f]))


def test_two_that_merge_each_other_do_not_deadlock():
    a, b = accumulated(rows_of(300, 10)), accumulated(rows_of(300, 10, seed=1))

    def merges(one, other):
        def work():
            for _ in range(25):
                one.merge(other)
                one.__setstate__(RowAccumulator(10).__reduce__()[2])
                one.push(*rows_of(300, 10))
        return work

    side_by_side(merges(a, b), merges(b, a))
    assert a.finite and b.finite


@pytest.mark.skipif(not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="there is no GIL")
@pytest.mark.parametrize("what", ["push", "merge", "nothing"])
def test_long_work_releases_the_gil(what):
    n = 400
    a, b, (J, f) = RowAccumulator(n), RowAccumulator(n), rows_of(3000, n)
    b.push(J, f)
    gate, passed = threading.Lock(), []

    def other():
        with gate:
            passed.append(1)

    interval = sys.getswitchinterval()
    gate.acquire()
    thread = threading.Thread(target=other, daemon=True)
    thread.start()
    sys.setswitchinterval(1000)             # so that no thread is asked to release the GIL
    try:
        gate.release()
        for _ in range(100):                # on a busy machine the other thread may be late
            if what == "push":
                a.push(J, f)
            elif what == "merge":
                a.merge(b)
            if passed:
                break
        seen = list(passed)
    finally:
        sys.setswitchinterval(interval)
    thread.join(60)
    assert seen == ([] if what == "nothing" else [1])
