"""Faults at every call of every function of the user, through every public entry point.

An entry runs once to count the calls, then once for each k with a fault in call number k.
Each time these must hold: the user's own exception arrives, or an error or code of ours says what is
wrong; a wrong answer is never a success; inputs are unchanged; reference counts are as before; and the next
fit gives the same result as without the fault.

test_faults.py tests `leastsq` more closely, and test_compiled.py compiled functions.
"""
import dataclasses
import functools
import gc
import sys
import threading
import warnings

import entries
import numpy as np
import pytest
from enzyme import T, Y

from leastsq import OptimizeWarning, StrictError, StrictWarning, covariance, leastsq, leastsq_batch

ENTRIES = entries.ENTRIES | entries.IN_PYTHON
FUNCTIONS = [entries.residual, entries.jacobian, entries.by_columns, entries.long_residual,
             entries.long_jacobian, entries.huber, entries.model, entries.slopes, entries.batch_residual,
             entries.batch_jacobian, entries.slopes_of_curves, entries.block_residual, entries.block_jacobian, entries.nothing]
INPUTS = [T, Y, entries.STARTS, entries.CURVES, entries._T, entries._Y, *(a for block in entries.BLOCKS for a in block)]


MOST_CALLS = 3              # the number of calls, spread over the fit, that get a fault in the quick part of the suite


@pytest.fixture(autouse=True, params=[MOST_CALLS, pytest.param(10 ** 9, marks=pytest.mark.slow)], ids=["some", "every"])
def most_calls(request, monkeypatch):
    """Some of the calls; `make slow` puts a fault into every one."""
    monkeypatch.setattr(sys.modules[__name__], "MOST_CALLS", request.param)


@pytest.fixture(autouse=True, scope="module")
def little_to_collect():
    """Exclude existing objects from each garbage collection, which would take most of these tests' time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def quiet():
    """A fault makes NumPy warn in the user's functions, and some fits warn too."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        warnings.simplefilter("ignore", OptimizeWarning)
        warnings.simplefilter("ignore", StrictWarning)
        yield


class Fault:
    """Counts the calls of all of the user's functions together.  At call number k, or from there on, `act`
    gets the arguments and the result, and returns the result to use instead."""

    def __init__(self, act=None, k=None, onward=False, only=None):
        self.act, self.k, self.onward, self.only = act, k, onward, only
        self.calls, self.hit = 0, None

    def __call__(self, function, name):
        @functools.wraps(function)              # a report names the parameters
        def call(*args):
            if self.only and name not in self.only:
                return function(*args)
            self.calls += 1
            if self.act is None or not (self.calls == self.k or self.onward and self.calls > self.k):
                return function(*args)
            self.hit = name
            return self.act(args, function(*args))
        return call


def count():
    return [sys.getrefcount(thing) for thing in FUNCTIONS + INPUTS]


def at_every_call(entry, act, check, onward=False, only=("func", "Dfun", "jac", "loss")):
    fit, counting = ENTRIES[entry], Fault(only=only)
    clean, counts = entries.values(fit(counting)), None
    before = [array.tobytes() for array in INPUTS]
    calls = counting.calls
    for k in sorted({1 + i * (calls - 1) // max(MOST_CALLS - 1, 1) for i in range(MOST_CALLS)}
                    if calls > MOST_CALLS else range(1, calls + 1)):
        fault = Fault(act, k, onward, only)
        try:
            outcome = fit(fault)
        except BaseException as error:
            outcome = error
        assert fault.hit
        check(fault, outcome)
        if isinstance(outcome, BaseException):
            outcome.__traceback__ = None
        outcome = fault = None
        if counts != count():
            gc.collect()
            assert counts in (None, count())
            counts = count()
    assert before == [array.tobytes() for array in INPUTS]
    assert entries.values(fit()) == clean


def in_turn(*values, quick=1):
    """Values for a parametrised test; only the first few belong to the quick part of the suite."""
    return [*values[:quick], *(pytest.param(*(value if isinstance(value, tuple) else (value,)),
                                            marks=pytest.mark.slow) for value in values[quick:])]


EVERY_ENTRY = pytest.mark.parametrize("entry", ENTRIES)
WITH_CALLBACK = [entry for entry in ENTRIES if "callback" in entry or entry == "blocks, Dfun"]


# ------------------------------------------------------------ faults that raise

class Own(BaseException):
    pass


class Unnoted(Exception):
    """An exception to which no note can be added, as to a frozen dataclass."""

    def add_note(self, note):
        raise AttributeError("cannot assign to field '__notes__'")


# These evaluate func near the answer, at steps that they choose themselves.  Where func raises what
# mathematical functions raise outside their domain, they take a shorter step.
PROBING = ["covariance", "curve_fit, 3-point", "strict"]


@EVERY_ENTRY
@pytest.mark.parametrize("kind", in_turn(KeyboardInterrupt, ValueError, Unnoted, MemoryError, Own, quick=3))
def test_any_call_may_raise(entry, kind):
    made = []

    def act(args, result):
        made.append(kind("mine"))
        raise made[-1]

    def check(fault, outcome):
        if kind is ValueError and entry in PROBING and outcome is not made[-1]:
            assert entries.values(outcome)[:2] == entries.values(ENTRIES[entry]())[:2]     # x
            made.clear()
            return
        assert outcome is made.pop() and outcome.args == ("mine",)
        assert fault.calls == fault.k
        assert outcome.__cause__ is None and outcome.__context__ is None

    at_every_call(entry, act, check, only=("func", "Dfun", "jac", "loss", "callback"))


# ----------------------------------------------------- faults in what functions return

def answers(result):
    """[(x, success, code)] of whatever an entry returns."""
    if isinstance(result, dict):
        return [(result["x"], result["success"], result["status"])]
    if hasattr(result, "popt"):                                 # of curve_fit_batch
        return list(zip(result.popt, result.success, result.ier))
    if hasattr(result, "success"):                              # a batch
        return list(zip(result.x, result.success, result.ier))
    if isinstance(result[-1], int):
        return [(result[0], result[-1] in (1, 2, 3, 4), result[-1])]
    return [(result[0], True, None)]                            # uncertainties: a failure is an exception


@EVERY_ENTRY
@pytest.mark.parametrize("value", in_turn(np.nan, np.inf, -np.inf))
@pytest.mark.parametrize("whole", in_turn(False, True), ids=["one", "all"])
def test_a_value_that_is_not_finite_never_leads_to_a_wrong_success(entry, value, whole):
    right = answers(ENTRIES[entry]())

    def act(args, result):
        result = np.array(result)
        result[... if whole else -1] = value
        return result

    def check(fault, outcome):
        if isinstance(outcome, BaseException):
            # curve_fit's for a fit that failed; those of uncertainties name what they cannot use
            assert type(outcome) in (RuntimeError, ValueError, StrictError), repr(outcome)
            assert any(word in str(outcome) for word in ("finite", "nan", "inf")), repr(outcome)
            return
        for (x, success, code), (want, _, _) in zip(answers(outcome), right, strict=True):
            assert np.isfinite(x).all()
            if success:
                np.testing.assert_allclose(x, want, rtol=1e-3)      # about the square root of ftol, 1.5e-8
            else:
                assert code == (-3 if isinstance(outcome, dict) else 9)

    at_every_call(entry, act, check)


def says(entry, kinds, *words):
    """A check that the error has one of these types, and names the faulty function or contains one of the words."""
    def check(fault, outcome):
        if entry in (*PROBING, "ask/tell") and not isinstance(outcome, BaseException):
            assert entries.values(outcome)[:2] == entries.values(ENTRIES[entry]())[:2]     # x
            return
        if isinstance(outcome, StrictError):
            return
        assert isinstance(outcome, kinds), repr(outcome)
        text = str(outcome)
        names = {"func": ("func", "fun", "f ", "model", "esidual"), "Dfun": ("Dfun", "acobian", "J "),
                 "jac": ("jac", "acobian", "Dfun"), "loss": ("loss",)}[fault.hit]
        assert any(name in text for name in (*names, *words)), repr(outcome)
    return check


@EVERY_ENTRY
@pytest.mark.parametrize("act", in_turn(
    lambda args, r: None, lambda args, r: np.asarray(r) + 0j if np.isrealobj(r) else None,
           lambda args, r: np.asarray(r).astype(object),
    lambda args, r: "text", lambda args, r: {}, lambda args, r: np.asarray(r).astype("m8[s]"), quick=2),
    ids=["None", "complex", "object", "text", "dict", "times"])
def test_any_call_may_return_something_other_than_an_array_of_reals(entry, act):
    at_every_call(entry, act, says(entry, TypeError, "unsupported operand", "ufunc"))


@EVERY_ENTRY
@pytest.mark.parametrize("act", in_turn(
    lambda args, r: np.asarray(r)[..., :-1], lambda args, r: np.concatenate([r, r], axis=-1),
    lambda args, r: np.asarray(r)[..., :0], lambda args, r: np.asarray(r)[None, None]),
    ids=["short", "double", "empty", "deep"])
def test_any_call_may_return_a_wrong_shape(entry, act):
    at_every_call(entry, act, says(entry, (TypeError, ValueError), "broadcast", "shape"))


@EVERY_ENTRY
@pytest.mark.parametrize("huge", in_turn(np.broadcast_to(0.0, 10 ** 15), np.broadcast_to(np.int8(0), 2 ** 62)),
                         ids=["1e15", "2**62"])
def test_any_call_may_return_a_huge_array(entry, huge):
    def check(fault, outcome):
        if entry in PROBING and not isinstance(outcome, BaseException):
            assert entries.values(outcome)[:2] == entries.values(ENTRIES[entry]())[:2]     # x
        else:
            assert isinstance(outcome, (TypeError, ValueError, MemoryError, OverflowError)), repr(outcome)

    at_every_call(entry, lambda args, r: huge, check)


@EVERY_ENTRY
def test_from_any_call_on_one_buffer_may_be_reused(entry):
    clean, buffers = entries.values(ENTRIES[entry]()), {}

    def act(args, result):
        result = np.asarray(result)
        out = buffers.setdefault((result.shape, result.dtype), np.empty_like(result))
        out[...] = result
        return out

    at_every_call(entry, act, lambda fault, outcome: same(outcome, clean), onward=True)


@EVERY_ENTRY
def test_any_call_may_spoil_its_argument_and_the_last_result(entry):
    clean, results = entries.values(ENTRIES[entry]()), {}

    def act(args, result):
        new = np.array(result)
        if isinstance(args[0], np.ndarray) and args[0].shape != T.shape:        # (that one is the user's own)
            args[0][...] = 1e300
        results.setdefault(new.shape, new)[...] = np.nan        # an equal shape mostly means the same function
        results[new.shape] = new = np.array(result)
        return new

    at_every_call(entry, act, lambda fault, outcome: same(outcome, clean), onward=True)


def same(outcome, clean):
    if isinstance(outcome, BaseException):
        raise outcome
    assert entries.values(outcome) == clean


@EVERY_ENTRY
def test_any_call_may_return_an_unaligned_array(entry):
    clean = entries.values(ENTRIES[entry]())

    def act(args, result):
        result = np.asarray(result)
        room = np.zeros(result.nbytes + 1, "u1")[1:].view(result.dtype).reshape(result.shape)
        room[...] = result
        assert not room.flags.aligned
        return room

    at_every_call(entry, act, lambda fault, outcome: same(outcome, clean), onward=True)


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int


@EVERY_ENTRY
def test_an_exception_that_is_frozen_arrives_as_it_is(entry):
    def fail(function, name):
        @functools.wraps(function)
        def call(*args):
            raise Frozen(3)
        return call
    with pytest.raises(Frozen) as caught:
        ENTRIES[entry](fail)
    assert caught.value.code == 3


# -------------------------------------------------------- faults of control flow

@EVERY_ENTRY
@pytest.mark.parametrize("inner", in_turn("threads", "lmdif", "batch, Dfun", "blocks"))
def test_any_call_may_fit_again(entry, inner):
    clean, inner_clean = entries.values(ENTRIES[entry]()), entries.values(ENTRIES[inner]())

    def act(args, result):
        assert entries.values(ENTRIES[inner]()) == inner_clean
        with pytest.raises(ZeroDivisionError):
            leastsq(lambda p: 1 // 0, entries.X0)
        return result

    at_every_call(entry, act, lambda fault, outcome: same(outcome, clean),
                  only=("func", "Dfun", "jac", "loss", "callback"))


@EVERY_ENTRY
def test_any_call_may_fit_in_another_thread(entry):
    clean = entries.values(ENTRIES[entry]())

    def act(args, result):
        got = []
        thread = threading.Thread(target=lambda: got.append(entries.values(ENTRIES[entry]())))
        thread.start()
        thread.join(60)
        assert got == [clean]
        return result

    at_every_call(entry, act, lambda fault, outcome: same(outcome, clean),
                  only=("func", "Dfun", "jac", "loss", "callback"))


@pytest.mark.parametrize("entry", WITH_CALLBACK)
def test_a_callback_may_end_the_fit_at_any_call(entry):
    def check(fault, outcome):
        (x, success, code), = answers(outcome)
        assert not success and code in (11, -2) and np.isfinite(x).all()

    at_every_call(entry, lambda args, result: True, check, only=("callback",))


# ------------------------------------------- defects that these tests found

@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("call", [leastsq, lambda f, x0, **o: leastsq_batch(lambda x: f(x[0])[None], [x0], **o)],
                         ids=["leastsq", "leastsq_batch"])
def test_a_loss_without_a_slope_does_not_make_columns_of_zeros(call, value):
    """It did: the Jacobian was 0, and the start passed for a converged fit, with ier 4."""
    def loss(z):
        return np.array([z, np.full_like(z, value), 0*z])

    out = call(entries.residual, entries.X0, loss=loss, **({"full_output": True} if call is leastsq else {}))
    assert (out[-1] if call is leastsq else out.ier[0]) == 9


def test_a_residual_that_is_not_finite_is_not_taken_for_one_that_a_loss_flattens():
    out = leastsq(lambda p: np.append(entries.residual(p), np.nan), entries.X0, full_output=True,
                  loss=lambda z: np.array([np.fmin(z, 1), np.ones_like(z), np.zeros_like(z)]))
    assert out[-1] == 9 and "func(x)[12] is nan" in out[3]


def test_a_complex_step_sees_a_nan_that_has_no_imaginary_part():
    def func(p):
        f = entries.residual(p)
        if np.iscomplexobj(p):
            f[3] = np.nan
        return f

    assert leastsq(func, entries.X0, Dfun="cs")[-1] == 9


def test_a_complex_step_tolerates_a_func_that_writes_into_its_argument():
    def func(p):
        f = entries.residual(p)
        p[...] = 7
        return f

    np.testing.assert_array_equal(leastsq(func, entries.X0, Dfun="cs")[0],
                                  leastsq(entries.residual, entries.X0, Dfun="cs")[0])


@pytest.mark.parametrize("entry", ["curve_fit, bounds", "least_squares, jac", "intervals"])
@pytest.mark.parametrize("act, kind, text", [
    (lambda r: r + 0j, TypeError, "complex128"), (lambda r: r.astype("m8[s]"), TypeError, "timedelta64"),
    (lambda r: r[:, :1], ValueError, "shape")],
    ids=["complex", "times", "short"])
def test_the_jacobian_at_the_solution_is_checked_like_any_other(entry, act, kind, text):
    counting = Fault(only=("jac", "Dfun"))
    ENTRIES[entry](counting)
    last = counting.calls if entry != "intervals" else 1
    with pytest.raises(kind, match=text):
        ENTRIES[entry](Fault(lambda args, r: act(r), last, only=("jac", "Dfun")))


@pytest.mark.parametrize("entry", ["curve_fit, bounds", "intervals"])
def test_the_jacobian_at_the_solution_must_be_finite(entry):
    test_the_jacobian_at_the_solution_is_checked_like_any_other(
        entry, lambda r: r * np.nan, ValueError, "not finite|is nan")


def test_a_probe_near_the_answer_may_leave_the_domain_but_not_change_shape():
    x = leastsq(entries.residual, entries.X0)[0]
    with pytest.raises(ValueError, match="vector"):
        covariance(lambda p: entries.residual(p) if np.array_equal(p, x) else entries.residual(p)[None], x)
