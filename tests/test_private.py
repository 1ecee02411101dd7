"""The extension's own functions, which only the package calls: whatever an argument is,
they refuse it or can do with it, and never crash."""
import ctypes as ct

import numpy as np
import pytest
from enzyme import X0, jacobian, residual
from test_compiled import library, library_path  # noqa: F401

from leastsq import LevenbergMarquardt, RowAccumulator, _core
from leastsq._lock_step import Slab

M, N, COUNT = 3, 2, 2
F, J, X = np.ones(M), np.ones((M, N)), np.array(X0)
BOTH = np.arange(COUNT)
LOW, HIGH = np.full(N, -9.0), np.full(N, 9.0)


def slab(request=None):
    """A slab of two problems whose machines want the norm, or have been told it."""
    made = Slab(COUNT, M, N, bounded=True)
    made.state["n"], made.state["maxfev"], made.state["scaling"], made.state["factor"] = N, 9, 1, 100
    made.w[:, 0] = X
    _core.batch_start(made.arrays, BOTH)
    if request == "model":
        _core.batch_tell_norm(made.arrays, BOTH, np.ones((COUNT, M)), None, None)
    return made.arrays


def results():
    """Room for what comes of two problems: x, ier, nfev, njev, fnorm, cov, fvec."""
    return [np.zeros((COUNT, N)), *(np.zeros(COUNT, np.int64) for _ in range(3)), np.zeros(COUNT),
            np.zeros((COUNT, N, N)), np.zeros((COUNT, M))]


def solve_arguments():
    return [residual, X, (), jacobian, True, False, 1e-8, 1e-8, 0.0, 0, None, 100.0, np.ones(N), 0, 1,
            (LOW, HIGH, 1, 1.0, None)]


def machine_arguments():
    return [X, 1e-8, 1e-8, 0.0, 0, 100.0, np.ones(N), LOW, HIGH, None]


def told(*answers):
    """A machine to which that was told."""
    machine = LevenbergMarquardt(X)
    for answer in answers:
        machine.tell_norm(answer) if machine.request == "norm" else machine.tell_model(answer, F)
    return machine


def rows():
    folded = RowAccumulator(N)
    folded.push(J, F)
    return folded


@pytest.fixture(scope="session")
def compiled_arguments(library):                                # noqa: F811
    """Makes those of batch_compiled anew."""
    residuals, derivatives = (_core.compiled(ct.cast(function, ct.c_void_p).value, M, 0, library)
                              for function in (library.linear_full_rank, library.linear_full_rank_jacobian))

    def make():
        x, ier, nfev, njev, fnorm, cov, fvec = results()
        return [residuals, derivatives, 0, 0, x, np.ones((COUNT, M)), np.ones(N), (LOW, np.tile(HIGH, (COUNT, 1))),
                (1, 1.0), (1e-8, 1e-8, 0.0, 99, 1e-16, 100.0), ier, nfev, njev, fnorm, cov, fvec,
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
    "compiled": (_core.compiled, lambda: [1, 2, 3, None]),
    "solve": (_core.solve, solve_arguments),
    "Machine": (_core.Machine, machine_arguments),
    "tell_norm": (lambda *args: told().tell_norm(*args), lambda: [1.0, 1]),
    "tell_norm, residuals": (lambda *args: told().tell_norm(*args), lambda: [F, 1]),
    "tell_model": (lambda *args: told(F).tell_model(*args), lambda: [J, F]),
    "tell_model, evaluations": (lambda n: told(F).tell_model(J, F, evaluations=n), lambda: [2]),
    "tell_model, folded": (lambda *args: told(F).tell_model(*args), lambda: [rows()]),
    "Machine, state": (lambda state: told().__setstate__(state), lambda: [told(F).__reduce__()[2]]),
    "RowAccumulator": (_core.RowAccumulator, lambda: [N]),
    "push": (lambda *args: rows().push(*args), lambda: [J, F]),
    "merge": (lambda other: rows().merge(other), lambda: [rows()]),
    "RowAccumulator, state": (lambda state: rows().__setstate__(state), lambda: [rows().__reduce__()[2]]),
}


def wrong(good):
    """What may stand in the place of a good argument by mistake."""
    yield object()
    yield "text"
    if isinstance(good, np.ndarray):
        yield from [good[["n"]]] if good.dtype.names else [np.ones(good.shape, kind) for kind in ("i8", "f8", "c16")]
        yield good[..., None]
        yield good[:1]
        yield np.concatenate([good, good])
        yield good[:0]
        yield np.concatenate([good, good], axis=-1)
        yield np.repeat(good, 2, axis=-1)[..., ::2]         # the same values, elsewhere
    elif isinstance(good, tuple):
        yield good[:-1]
        yield (*good, None)
        for k, part in enumerate(good):
            for bad in wrong(part):
                yield (*good[:k], bad, *good[k + 1:])
    elif isinstance(good, (int, float)):
        yield from (-1, 2 ** 31, 2 ** 70, -2 ** 70, 10.0 ** 9, float("nan"), None)
    elif isinstance(good, bytes):
        yield from (b"", good[:-1], good[:-8], good[:16], good + bytes(8), bytes(len(good)))
        for k in range(0, len(good), 8):                    # each word
            yield good[:k] + bytes(7) + b"\x7f" + good[k + 8:]


# Addresses are taken at their word.
TRUSTED = {("batch_compiled", 2), ("batch_compiled", 3)}
# What a function of Python's may raise for such an argument, each by its own name.
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


def test_any_number_of_arguments_but_the_right_one_is_refused(call):
    name, function, make = call
    arguments = make()
    for wrong_number in ([], arguments[:-1], [*arguments, *arguments]):
        if (name, len(wrong_number)) not in (("chkder", 1), ("tell_norm", 1), ("tell_norm, residuals", 1)):
            with pytest.raises(TypeError):
                function(*wrong_number)
