"""Faults injected at every call of the user's functions: what the caller sees, what stays unchanged,
and that the next fit is right."""
import gc
import re
import sys
import threading
import traceback
import tracemalloc
import warnings

import guards
import numpy as np
import pytest

from leastsq import leastsq

X0 = (1.0, 1.0)


def michaelis_menten(m):
    """func, and Dfun by rows and by columns; only + - * /, so that they have the same bits on every machine."""
    t = np.linspace(1.0, 13.0, m)
    y = 3 * t / (2 + t) + np.resize([1, -2, 3, -1, 0, 2, -3, 1, 1, -2, 0, 1], m) / 64

    def residual(p):
        return p[0] * t / (p[1] + t) - y

    def jacobian(p):
        return np.stack([t / (p[1] + t), -p[0] * t / (p[1] + t) ** 2], axis=1)

    def by_columns(p):
        return jacobian(p).T

    return residual, jacobian, by_columns


residual, jacobian, by_columns = michaelis_menten(12)
# Large enough for the solver to release the GIL between the calls.
large_residual, large_jacobian, _ = michaelis_menten(1 << 14)
METHODS = {"lmdif": (residual, {}), "lmder": (residual, {"Dfun": jacobian}),
         "col_deriv": (residual, {"Dfun": by_columns, "col_deriv": True}),
         "large lmdif": (large_residual, {}),
         "large lmder": (large_residual, {"Dfun": large_jacobian}),
         "blocked lmdif": (residual, {"qr": "blocked"}),
         "blocked lmder": (residual, {"qr": "blocked", "Dfun": jacobian}),
         "large threaded": (large_residual, {"qr": "blocked", "threads": 2, "Dfun": large_jacobian})}
EVERY_METHOD = pytest.mark.parametrize("method", METHODS)


def fit(method, wrap=lambda function: function, x0=X0, **options):
    """A full fit through one entry point, with the user's functions wrapped."""
    func, own_options = METHODS[method]
    options = own_options | options
    if "Dfun" in options:
        options["Dfun"] = wrap(options["Dfun"])
    return leastsq(wrap(func), x0, full_output=True, **options)


def assert_same(one, other):
    """Two results of leastsq are equal, bit for bit."""
    assert len(one) == len(other)
    for a, b in zip(one, other):
        if isinstance(a, dict):
            assert list(a) == list(b)
            assert_same(list(a.values()), list(b.values()))
        else:
            np.testing.assert_array_equal(a, b)


class Fault:
    """Wraps func and Dfun and counts their calls together.  At call number k (or from k on) `act` gets x and
    the result, and returns the result to use instead."""

    def __init__(self, act, k, onward=False):
        self.act, self.k, self.onward = act, k, onward
        self.calls, self.hit, self.points = 0, None, []

    def __call__(self, function):
        def call(x):
            self.calls += 1
            self.points.append(x.copy())
            result = function(x)
            if self.calls == self.k or self.onward and self.calls > self.k:
                self.hit = "func" if function in (residual, large_residual) else "Dfun"
                return self.act(x, result)
            return result
        return call


def count(method):
    fault = Fault(None, None)
    fit(method, fault)
    return fault.calls


def at_every_call(method, act, check, onward=False):
    """Run a fit with the fault at call number k, for each k; check(k, fault, outcome) gets its result or its
    exception.  Afterwards x0, reference counts and the next fit must be as without the fault."""
    clean, x0, calls = fit(method), np.array(X0), count(method)
    func, options = METHODS[method]
    watched = (func, options.get("Dfun"), x0)[:3 if "Dfun" in options else 1]
    counts = None
    for k in range(1, calls + 1):
        fault = Fault(act, k, onward)
        try:
            outcome = fit(method, fault, x0)
        except BaseException as error:
            outcome = error
        check(k, fault, outcome)
        assert fault.hit
        np.testing.assert_array_equal(x0, X0)
        outcome = fault = None
        now = [sys.getrefcount(w) for w in watched]
        assert counts is None or now == counts
        counts = now
    assert_same(fit(method), clean)


# ------------------------------------------------------------ faults that raise


class Own(BaseException):
    pass


@EVERY_METHOD
@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, MemoryError, Own])
def test_any_call_may_raise(method, kind):
    made = []

    def act(x, result):
        made.append(kind("mine"))
        raise made[-1]

    def check(k, fault, outcome):
        assert outcome is made.pop() and outcome.args == ("mine",)
        assert fault.calls == k
        assert outcome.__cause__ is None and outcome.__context__ is None
        assert traceback.extract_tb(outcome.__traceback__)[-1].name == "act"
        outcome.__traceback__ = None

    at_every_call(method, act, check)


# ----------------------------------------------------- faults in what functions return


@EVERY_METHOD
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("whole", [False, True], ids=["one", "all"])
def test_any_call_may_return_values_not_finite(method, value, whole):
    clean, func = fit(method), METHODS[method][0]

    def act(x, result):
        result = np.array(result)
        result[... if whole else -1] = value
        return result

    def check(k, fault, outcome):
        x, cov, info, mesg, ier = outcome
        assert ier in (1, 2, 3, 9)
        if k == 1 or fault.hit == "Dfun" or "lmdif" in method and k <= 3:
            assert ier == 9
        if "lmdif" not in method and fault.hit == "func" and k > 1:
            assert ier != 9                             # at a trial point: a rejected step
        if ier == 9:
            assert cov is None and fault.calls == info["nfev"] + info.get("njev", 0)
            assert k <= fault.calls < k + 2             # a Jacobian that has been begun is finished
            np.testing.assert_array_equal(info["fvec"], func(x) if k > 1 else act(x, func(x)))
        else:
            np.testing.assert_allclose(x, clean[0], rtol=1e-5)
            np.testing.assert_array_equal(info["fvec"], func(x))
            assert cov is not None
        assert any(np.array_equal(x, p) for p in fault.points)

    at_every_call(method, act, check)


def refuse(kinds, name_of, at_first=None):
    def check(k, fault, outcome):
        if k == 1 and at_first:
            assert isinstance(outcome, at_first), repr(outcome)
        else:
            assert isinstance(outcome, kinds), repr(outcome)
            assert name_of is None or fault.hit in str(outcome)
            assert fault.calls == k
    return check


@EVERY_METHOD
@pytest.mark.parametrize("act", [
    lambda x, r: None, lambda x, r: r + 0j, lambda x, r: r.astype(object), lambda x, r: "text",
    lambda x, r: {}, lambda x, r: r.astype(str), lambda x, r: r.astype("m8[s]"),
    lambda x, r: fit, lambda x, r: NotImplemented],
    ids=["None", "complex", "object", "text", "dict", "strings", "times", "function", "singleton"])
def test_any_call_may_return_something_other_than_an_array_of_reals(method, act):
    at_every_call(method, act, refuse(TypeError, True))


@EVERY_METHOD
@pytest.mark.parametrize("act", [
    lambda x, r: np.array(r)[:-1], lambda x, r: np.concatenate([r, r]), lambda x, r: x[:1],
    lambda x, r: [], lambda x, r: np.float64(1)], ids=["short", "double", "of x", "empty", "0-d"])
def test_any_call_may_return_a_wrong_size(method, act):
    def check(k, fault, outcome):
        if k == 1:          # no error yet: the second call contradicts the size, or n > m
            assert isinstance(outcome, (TypeError, ValueError))
            text = "changed size|Shape should be|^Improper input: func input vector length N=2"
        else:
            assert isinstance(outcome, ValueError if fault.hit == "func" else TypeError)
            assert fault.calls == k
            text = "changed size between calls" if fault.hit == "func" else "Shape should be"
        assert re.search(text, str(outcome)), outcome

    at_every_call(method, act, check)


@EVERY_METHOD
def test_any_call_may_return_too_many_dimensions(method):
    at_every_call(method, lambda x, r: np.reshape(r, (1, 2, -1)),
                  refuse((TypeError, ValueError), True))


@EVERY_METHOD
@pytest.mark.parametrize("huge", [
    np.broadcast_to(0.0, 10 ** 15), np.broadcast_to(np.int8(0), 2 ** 62),
    np.broadcast_to(np.float32(0), 2 ** 60 - 1)], ids=["1e15", "2**62", "2**60-1"])
def test_any_call_may_return_a_huge_array(method, huge):
    # Nothing of that size can be allocated, so anything but an exception is a crash.
    at_every_call(method, lambda x, r: huge,
                  refuse((TypeError, ValueError), None, (MemoryError, ValueError, OverflowError)))


@pytest.mark.parametrize("shape", [(10 ** 9, 10 ** 6), (2 ** 31, 2 ** 31), (12, 2 ** 50)], ids=str)
def test_huge_jacobian_is_refused(shape):
    with pytest.raises(TypeError, match="Shape should be"):
        leastsq(residual, X0, Dfun=lambda p: np.broadcast_to(np.int8(0), shape))


@EVERY_METHOD
def test_from_any_call_on_one_buffer_may_be_reused(method):
    clean, buffers = fit(method), {}

    def act(x, result):
        out = buffers.setdefault(np.shape(result), np.empty(np.shape(result)))
        out[...] = result
        return out

    at_every_call(method, act, lambda k, fault, outcome: assert_same(outcome, clean), onward=True)


@EVERY_METHOD
def test_any_call_may_spoil_x_and_the_last_result(method):
    clean, results = fit(method), []

    def act(x, result):
        x[:] = 1e300
        for old in results:
            old[...] = np.nan
        results[:] = [np.array(result)]
        return results[0]

    at_every_call(method, act, lambda k, fault, outcome: assert_same(outcome, clean), onward=True)


# -------------------------------------------------------- faults of control flow


@EVERY_METHOD
@pytest.mark.parametrize("inner", ["lmdif", "col_deriv", "large lmder"])
def test_any_call_may_fit_again(method, inner):
    clean, inner_clean = fit(method), fit(inner)

    def act(x, result):
        assert_same(fit(inner), inner_clean)
        with pytest.raises(ZeroDivisionError):
            leastsq(lambda p: 1 // 0, X0)
        return result

    at_every_call(method, act, lambda k, fault, outcome: assert_same(outcome, clean))


@EVERY_METHOD
def test_any_call_may_fit_in_another_thread(method):
    clean = fit(method)

    def act(x, result):
        got = []
        thread = threading.Thread(target=lambda: got.append(fit(method)))
        thread.start()
        thread.join(30)
        assert_same(got[0], clean)
        return result

    at_every_call(method, act, lambda k, fault, outcome: assert_same(outcome, clean))


def test_func_may_drop_the_last_reference_to_itself_and_its_arguments():
    class Vanishing:
        gone = 0

        def __del__(self):
            type(self).gone += 1

        def __call__(self, p, box, *rest):
            box.clear()
            gc.collect()
            return residual(p)

    box = [Vanishing(), Vanishing()]
    box.append(box)
    x, ier = leastsq(box[0], [1.0, 1.0], (box,))
    assert ier in (1, 2, 3) and Vanishing.gone == 2
    np.testing.assert_array_equal(x, leastsq(residual, X0)[0])


@pytest.mark.parametrize("error", [
    SystemExit(3), GeneratorExit(), StopIteration(), Warning(), BaseExceptionGroup("", [Own()])],
    ids=lambda error: type(error).__name__)
@EVERY_METHOD
def test_exceptions_that_python_treats_specially_arrive_too(method, error):
    def check(k, fault, outcome):
        assert outcome is error
        error.__traceback__ = error.__context__ = None

    def act(x, result):
        raise error

    at_every_call(method, act, check)


def test_endless_recursion_ends_in_recursion_error():
    def func(p):
        return leastsq(func, p)[0]

    with pytest.raises(RecursionError):
        leastsq(func, X0)
    assert_same(fit("lmdif"), fit("lmdif"))


def test_warning_in_func_turned_into_an_error_is_the_users_exception():
    def func(p):
        warnings.warn("mine", UserWarning, stacklevel=1)
        return residual(p)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="mine"):
            leastsq(func, X0)


def test_fits_run_in_eight_threads_at_once():
    gate, failures = threading.Barrier(8), []
    starts = [(1.0 + i / 8, 1.0 + i / 4) for i in range(8)]
    expected = [{method: fit(method, x0=start) for method in METHODS} for start in starts]

    def work(i):
        try:
            gate.wait(30)
            for _ in range(10):
                for method in METHODS:
                    assert_same(fit(method, x0=starts[i]), expected[i][method])
                with pytest.raises(ZeroDivisionError):
                    leastsq(lambda p: 1 // 0, X0)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures and not any(thread.is_alive() for thread in threads)


# ------------------------------------------------------- references and memory


@EVERY_METHOD
@pytest.mark.parametrize("end", ["success", "raise", "complex", "size", "improper", "diag",
                                 "not finite", "x0"])
def test_reference_counts_stay_as_they_were(method, end):
    def spoil(r):
        return {"raise": lambda: 1 // 0, "complex": lambda: r + 0j, "size": lambda: r[1:],
                "not finite": lambda: r * np.nan}.get(end, lambda: r)()

    class Counted:
        calls = 0

        def __call__(self, p, extra, scale):
            self.calls += 1
            return spoil(right(p)) if self.calls == 2 else right(p)

    def dfun(p, extra, scale):
        return options["Dfun"](p)

    func, extra, scale, diag = Counted(), object(), 1e300 / 3, np.ones(3 if end == "diag" else 2)
    x0 = np.ones(2, complex if end == "x0" else float)
    args = (extra, scale)
    right, options = METHODS[method]
    given = options | ({"Dfun": dfun} if "Dfun" in options else {})

    def once():
        func.calls = 0
        try:
            return leastsq(func, x0, args, full_output=True, diag=diag,
                           ftol=-1.0 if end == "improper" else 1e-8, **given)[-1]
        except (ArithmeticError, TypeError, ValueError):
            return None

    ends = {once()}
    before = [sys.getrefcount(thing) for thing in (func, dfun, extra, scale, x0, args, diag)]
    ends |= {once() for _ in range(20)}
    after = [sys.getrefcount(thing) for thing in (func, dfun, extra, scale, x0, args, diag)]
    assert after == before
    assert len(ends) == 1 and (ends <= {1, 2, 3, 9}) == (end in ("success", "not finite"))


SMALL = [method for method in METHODS if "large" not in method]


def resident_pages():
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1])


def some_fits(number):
    """`number` fits, which end in every possible way."""
    huge = np.zeros((12, 2), complex)
    for _ in range(number // 10):
        for method in SMALL:
            fit(method, maxfev=2)
            fit(method)
        for bad in (dict(diag=[1.0]), dict(ftol=-1.0), dict(Dfun=lambda p: huge),
                    dict(Dfun=lambda p: 1 // 0)):
            try:
                leastsq(residual, X0, **bad)
            except (TypeError, ValueError, ArithmeticError):
                pass


def least_growth(measure, number):
    """The least growth in three rounds: a leak grows in every round, a cache does not."""
    sizes = []
    some_fits(number)               # fills Python's cache of attribute names
    for _ in range(4):
        gc.collect()
        sizes.append(measure())
        some_fits(number)
    return min(after - before for before, after in zip(sizes, sizes[1:]))


@pytest.mark.slow
@guards.LINUX
def test_twenty_thousand_fits_do_not_grow_the_process():
    # 32 bytes lost in each successful full fit would be 17 pages of 4 kB.
    assert least_growth(resident_pages, 5000) < 12


def test_fits_leave_no_allocation_behind():
    tracemalloc.start()
    try:
        # 32 bytes lost in each successful full fit would be 9600.
        assert least_growth(lambda: tracemalloc.get_traced_memory()[0], 1000) < 5000
    finally:
        tracemalloc.stop()
