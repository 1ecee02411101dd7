"""The extension's private functions, which only the package calls: whatever the arguments, they accept
or refuse them and never crash."""
import ctypes as ct
import gc

import compiled_problems
import numpy as np
import pytest
from enzyme import X0, jacobian, residual
from test_ask_tell import sealed

from leastsq import CFunction, LevenbergMarquardt, RowAccumulator, _core, leastsq, leastsq_batch
from leastsq._many.lock_step import Slab

M, N, COUNT = 3, 2, 2
F, J, X = np.ones(M), np.ones((M, N)), np.array(X0)
BOTH = np.arange(COUNT)
LOW, HIGH = np.full(N, -9.0), np.full(N, 9.0)


def residuals(p):
    return J @ p - F + [1, 2, 3]


def slab(request=None, strategy=0):
    """A slab of two problems whose machines ask for the norm, or have been told it."""
    made = Slab(COUNT, M, N, bounded=True, strategy=strategy > 0)
    made.state["strategy"] = made.state["changes"] = strategy
    made.state["n"], made.state["maxfev"], made.state["scaling"], made.state["factor"] = N, 9, 1, 100
    made.w[:, 0] = X
    _core.batch_start(made.arrays, BOTH)
    if request == "model":
        _core.batch_tell_norm(made.arrays, BOTH, np.ones((COUNT, M)), None, None)
    return made.arrays


def results():
    """Arrays for the results of two problems: x, ier, nfev, njev, fnorm, cov, fvec, multipliers."""
    return [np.zeros((COUNT, N)), *(np.zeros(COUNT, np.int64) for _ in range(3)), np.zeros(COUNT),
            np.zeros((COUNT, N, N)), np.zeros((COUNT, M)), np.zeros((COUNT, N))]


def solve_arguments():
    return [residual, X, (), jacobian, True, False, 1e-8, 1e-8, 0.0, 0, None, 100.0, np.ones(N), 0, 1,
            (LOW, HIGH, 1, 1.0, None, 1)]


def machine_arguments():
    return [X, 1e-8, 1e-8, 0.0, 0, 100.0, np.ones(N), LOW, HIGH, None, 1]


def told(*answers):
    """A machine that has been told these answers."""
    machine = LevenbergMarquardt(X)
    for answer in answers:
        machine.tell_norm(answer) if machine.request == "norm" else machine.tell_model(answer, F)
    return machine


def felt():
    """A machine whose request is "feeler"."""
    machine = LevenbergMarquardt(X, strategy="robust")
    machine.tell_norm(F)
    machine.tell_model(J, F)
    assert machine.request == "feeler"
    return machine


def rows(f=F):
    folded = RowAccumulator(N)
    folded.push(J, f)
    return folded


SPOILED = rows([1.0, np.nan, 1.0])


@pytest.fixture(scope="module")
def library(need_program, tmp_path_factory):
    return ct.CDLL(str(compiled_problems.build(need_program("cc"), tmp_path_factory.mktemp("private"))))


@pytest.fixture(scope="module")
def compiled_arguments(library):
    """make() returns new arguments of batch_compiled."""
    residuals, derivatives = (_core.compiled(ct.cast(function, ct.c_void_p).value, M, 0, 0, library)
                              for function in (library.linear_full_rank, library.linear_full_rank_jacobian))

    def make():
        x, ier, nfev, njev, fnorm, cov, fvec, multipliers = results()
        return [residuals, derivatives, 0, 0, x, np.ones((COUNT, M)), np.ones(N), (LOW, np.tile(HIGH, (COUNT, 1))),
                (1, 1.0), (1e-8, 1e-8, 0.0, 99, 1e-16, 0.3, 1.0, 2), ier, nfev, njev, fnorm, cov, fvec, multipliers,
                np.zeros(COUNT, np.int32), 1, None]
    return make


CALLS = {
    "batch_start": (_core.batch_start, lambda: [slab(), BOTH]),
    "batch_tell_norm": (_core.batch_tell_norm, lambda: [slab(), BOTH, np.ones((COUNT, M)), np.ones((COUNT, M)),
                                                        (np.ones((3, COUNT, M)), 1.0)]),
    "batch_difference": (_core.batch_difference, lambda: [slab("model"), BOTH, np.ones((COUNT, M)), np.ones((COUNT, M)),
                                                          np.ones(COUNT), np.ones((COUNT, N, M)), 1]),
    "batch_tell_model": (_core.batch_tell_model, lambda: [slab("model"), BOTH, np.ones((COUNT, N, M)),
                                                          np.ones((COUNT, M)), (1, 1.0), np.zeros(COUNT, np.int64)]),
    "batch_collect": (_core.batch_collect, lambda: [slab(), BOTH, BOTH, *results()]),
    "chkder": (_core.chkder, lambda: [X, F, J, F]),
    "chkder, the point": (_core.chkder, lambda: [X]),
    "weigh": (_core.weigh, lambda: [1, 1.0, F, True]),
    "weigh, own loss": (_core.weigh, lambda: [lambda z: np.stack([z, z, z]), 1.0, F, False]),
    "compiled": (_core.compiled, lambda: [1, 2, 3, 0, None]),
    "solve": (_core.solve, solve_arguments),
    "Machine": (_core.Machine, machine_arguments),
    "Curve": (lambda *args: _core.Curve(*args)(X), lambda: [lambda t, a, b: a * t + b, F, F, F]),
    "Curve, derivatives": (lambda *args: leastsq(residuals, X, Dfun=_core.Curve(*args), full_output=True),
                           lambda: [lambda x, *p: J, None, None, F]),
    "tell_norm": (lambda *args: told().tell_norm(*args), lambda: [1.0, 1]),
    "tell_norm, residuals": (lambda *args: told().tell_norm(*args), lambda: [F, 1]),
    "tell_model": (lambda *args: told(F).tell_model(*args), lambda: [J, F]),
    "tell_model, change": (lambda change: told(F).tell_model(J, F, change=change), lambda: [np.ones(N)]),
    "tell_change": (lambda *args: felt().tell_change(*args), lambda: [np.ones(N), 1]),
    "change": (LevenbergMarquardt.change, lambda: [J, F, F]),
    "Machine, state with a strategy": (lambda state: felt().__setstate__(state), lambda: [felt().__reduce__()[2]]),
    "batch_tell_norm, strategy": (_core.batch_tell_norm, lambda: [slab(strategy=2), BOTH, np.ones((COUNT, M)), None, None]),
    "batch_tell_model, strategy": (_core.batch_tell_model, lambda: [slab("model", 2), BOTH, np.ones((COUNT, N, M)), None, None,
                                                                    np.zeros(COUNT, np.int64)]),
    "tell_model, evaluations": (lambda n: told(F).tell_model(J, F, evaluations=n), lambda: [2]),
    "tell_model, folded": (lambda *args: told(F).tell_model(*args), lambda: [rows()]),
    "Machine, state": (lambda state: told().__setstate__(state), lambda: [told(F).__reduce__()[2]]),
    "RowAccumulator": (_core.RowAccumulator, lambda: [N]),
    "push": (lambda *args: rows().push(*args), lambda: [J, F]),
    "merge": (lambda other: rows().merge(other), lambda: [rows()]),
    "RowAccumulator, state of a fault": (lambda state: rows().__setstate__(state), lambda: [SPOILED.__reduce__()[2]]),
    "Machine, state between bounds": (lambda state: LevenbergMarquardt(X, bounds=(LOW, HIGH)).__setstate__(state),
                                      lambda: [LevenbergMarquardt(X, bounds=(LOW, HIGH)).__reduce__()[2]]),
    "RowAccumulator, state": (lambda state: rows().__setstate__(state), lambda: [rows().__reduce__()[2]]),
}


def wrong(good):
    """Wrong values that may be passed by mistake instead of a good argument."""
    yield object()
    yield "text"
    if isinstance(good, np.ndarray):
        yield from ([good[["n"]], np.zeros(good.shape, "V8")] if good.dtype.names
                    else [np.ones(good.shape, kind) for kind in ("i8", "f8", "c16")])
        yield np.full(good.shape, np.nan)
        yield good[..., None]
        yield good[:1]
        yield np.concatenate([good, good])
        yield good[:0]
        yield good[..., :0]
        yield np.concatenate([good, good], axis=-1)
        yield np.repeat(good, 2, axis=-1)[..., ::2]         # the same values with other strides
    elif isinstance(good, tuple):
        yield good[:-1]
        yield (*good, None)
        for k, part in enumerate(good):
            for bad in wrong(part):
                yield (*good[:k], bad, *good[k + 1:])
    elif isinstance(good, (int, float)):
        yield from (-1, 2 ** 31, 2 ** 70, -2 ** 70, 10.0 ** 9, float("nan"), None)
    elif isinstance(good, bytes):
        yield from (b"", good[:-1], good[:-8], good[:16], good + bytes(8), bytes(len(good)), sealed(good[:24], 0, 0))
        for word in range(len(good) // 8 - 2):
            yield from (sealed(good, word, value) for value in (-1, 2, 2 ** 40, np.nan, np.inf, -1.0))


# Arguments that are addresses cannot be checked.
TRUSTED = {("batch_compiled", 2), ("batch_compiled", 3)}
# What functions of Python raise for such arguments.
REFUSALS = (TypeError, ValueError, OverflowError, MemoryError, RuntimeError, AttributeError)


@pytest.fixture(autouse=True)
def quiet():
    with np.errstate(all="ignore"):
        yield


@pytest.fixture(params=[*CALLS, "batch_compiled"])
def call(request):
    if request.param in CALLS:
        return request.param, *CALLS[request.param]
    return request.param, _core.batch_compiled, request.getfixturevalue("compiled_arguments")


def test_every_wrong_argument_is_refused_or_does_no_harm(call):
    name, function, make = call
    function(*make())
    refused = 0
    for k, good in enumerate(make()):
        for bad in [] if (name, k) in TRUSTED else wrong(good):
            arguments = make()
            arguments[k] = bad
            try:
                function(*arguments)
            except REFUSALS as error:
                assert str(error) or isinstance(error, MemoryError)
                refused += 1
    assert refused > 0
    function(*make())


def test_attributes_are_refused_by_what_can_have_none():
    """Instances of subclasses have attributes; the type itself has no room for them."""
    folded = rows()
    with pytest.raises(AttributeError, match="__dict__"):
        folded.__setstate__((folded.__reduce__()[2][0], {"name": 1}))


def test_the_garbage_collector_sees_what_objects_hold():
    """Types refer to the module, the module to its types, and objects to their type."""
    held = [Unwilling(k) for k in range(4)]
    folded, machine, curve = rows(), _core.Machine(*machine_arguments()), _core.Curve(*held)
    for kind, thing in (_core.RowAccumulator, folded), (_core.Machine, machine), (_core.Curve, curve):
        assert {id(thing)} < {id(holder) for holder in gc.get_referrers(kind)}
    for part in held:
        assert any(holder is curve for holder in gc.get_referrers(part))


def test_a_compiled_function_of_more_residuals_than_memory_holds(library):
    """And no parameters are a TypeError with compiled functions too."""
    endless = CFunction(library.linear_full_rank, 2 ** 61)
    with pytest.raises(MemoryError):
        leastsq(endless, X)
    with pytest.raises(MemoryError):
        leastsq_batch(endless, np.ones((2, 2)))
    with pytest.raises(TypeError, match="x0 must have at least one element"):
        leastsq(endless, [], full_output=True)


class Unwilling:
    """An object of which no array can be made."""

    def __init__(self, error):
        self.error = error

    def __array__(self, *args, **keywords):
        raise self.error


@pytest.mark.parametrize("error", [TypeError("no"), ValueError("no")])
def test_what_cannot_become_an_array_is_named_and_the_cause_kept(error):
    with pytest.raises(type(error), match="the array that func returns must be an array of real numbers, got an "
                                          "unusable Unwilling") as caught:
        leastsq(lambda p: Unwilling(error), X)
    assert caught.value.__cause__ is error and error.__traceback__ is not None


def test_names_are_refused_where_there_are_none():
    for call, arguments in ((_core.Machine, machine_arguments()), (_core.Curve, [np.add, F, F, F]),
                            (_core.Curve(np.add, F, F, F), [X]), (_core.RowAccumulator, [N]), (rows().push, [J, F])):
        with pytest.raises(TypeError):
            call(*arguments, name=1)


def test_a_curve_without_a_name_has_its_place_for_one():
    """An exception raised by looking the name up arrives."""
    class Named:
        @property
        def __name__(self):
            raise RuntimeError("no")

    assert [_core.Curve(Unwilling(None), F, y, None).__name__ for y in (F, None)] == ["f", "jac"]
    with pytest.raises(RuntimeError, match="^no$"):
        _core.Curve(Named(), F, F, None).__name__


def test_a_machine_may_be_told_the_model_while_it_reads_one():
    machine = told(F)

    class Array:
        def __array__(self, *args, **keywords):
            machine.tell_model(J + np.eye(M, N), F)
            return J

    with pytest.raises(RuntimeError, match='tell_model: the request is "norm"'):
        machine.tell_model(Array(), F)
    assert machine.njev == 1 and machine.request == "norm"


@pytest.mark.parametrize("m", [1, 3])
@pytest.mark.parametrize("qr", ["minpack", "blocked"])
@pytest.mark.parametrize("shape", [(-1,), (-1, 1), (1, -1)])
def test_a_jacobian_of_one_parameter_may_be_a_vector(m, qr, shape):
    t = np.arange(1.0, m + 1)
    x, ier = leastsq(lambda p: p[0] * t - t, [3.0], Dfun=lambda p: t.reshape(shape), qr=qr)
    assert x[0] == pytest.approx(1, abs=1e-12) and ier in (1, 2, 3, 4)


def test_any_number_of_arguments_but_the_right_one_is_refused(call):
    name, function, make = call
    arguments = make()
    for wrong_number in ([], arguments[:-1], [*arguments, *arguments]):
        if (name, len(wrong_number)) not in (("chkder", 1), ("tell_norm", 1), ("tell_norm, residuals", 1), ("tell_change", 1)):
            with pytest.raises(TypeError):
                function(*wrong_number)
