"""A process that forks while another thread of it works on one of our objects."""
import os
import select
import signal
import threading

import numpy as np
import pytest

from leastsq import LevenbergMarquardt, RowAccumulator

pytestmark = [pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork"),
              pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")]

N = 60
J = np.random.default_rng(0).standard_normal((3000, N))
F = J.sum(1)


def uses_of_rows(rows):
    other = RowAccumulator(N)
    return [lambda: rows.rows, lambda: rows.fault, lambda: rows.fnorm, rows.triangle, lambda: rows.push(J[:3], F[:3]),
            lambda: rows.merge(other), lambda: other.merge(rows), rows.__reduce__, lambda: repr(rows), lambda: rows.finite]


def uses_of_machine(lm):
    state = LevenbergMarquardt(np.ones(N)).__reduce__()[2]
    return [lambda: lm.request, lambda: lm.x, lambda: lm.ipvt, lambda: lm.cov_x, lambda: lm.tell_norm(1.0), lm.points,
            lambda: lm.tell_model(J, F), lm.__reduce__, lambda: lm.__setstate__(state), lambda: lm.accepted, lambda: lm.bounds]


def in_child(act):
    """What `act` returns in a forked child, as a string; None if it does not end."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            os.write(write, act().encode())
        finally:
            os._exit(0)
    os.close(write)
    answer = None
    if select.select([read], [], [], 30)[0]:
        answer = os.read(read, 1 << 16).decode()
    else:
        os.kill(pid, signal.SIGKILL)
    os.close(read)
    os.waitpid(pid, 0)
    return answer


def outcomes(uses):
    """The outcome of each use: "ok", "busy", or the message of another error."""
    ends = []
    for use in uses:
        try:
            use()
            ends.append("ok")
        except RuntimeError as error:
            ends.append("busy" if "when the process forked" in str(error) else str(error))
    return ends


def busy_until(stop, work):
    def loop():
        while not stop.is_set():
            work()
    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    return thread


def forks(uses, work, most=60):
    """Fork until a child finds the object busy: then every use there must say so.  In other children every use must work."""
    stop, found = threading.Event(), False
    thread = busy_until(stop, work)
    try:
        for _ in range(most):
            said = in_child(lambda: "|".join(outcomes(uses)))
            assert said is not None, "a child waits forever"
            found = "busy" in said
            if found:
                break
    finally:
        stop.set()
        thread.join()
    assert found, "no child found it busy"
    return said.split("|")


def test_an_accumulator_that_was_busy_says_so_in_the_child():
    rows = RowAccumulator(N)
    assert set(forks(uses_of_rows(rows), lambda: rows.push(J, F))) == {"busy"}
    assert outcomes(uses_of_rows(rows)) == ["ok"]*10            # the parent is not affected


def test_a_machine_that_was_busy_says_so_in_the_child():
    lm = LevenbergMarquardt(np.ones(300))
    lm.tell_norm(1e9)
    lm.tell_model(np.random.default_rng(1).standard_normal((300, 300)), np.full(300, 1.0))
    state = lm.__reduce__()[2]

    def work():
        lm.__setstate__(state)
        lm.tell_norm(1e12)              # rejected: a shorter step, with the lock held
    small = LevenbergMarquardt(np.ones(N))
    ends = forks([lambda: lm.request, lambda: lm.x, lambda: lm.ipvt, lambda: lm.cov_x, lambda: lm.tell_norm(1.0), lm.points,
                  lm.__reduce__, lambda: lm.__setstate__(state), lambda: lm.accepted, lambda: lm.bounds], work)
    assert set(ends) == {"busy"}
    assert "busy" not in outcomes(uses_of_machine(small))


def test_the_child_may_use_objects_that_were_idle():
    rows, stop = RowAccumulator(N), threading.Event()
    rows.push(J, F)
    others = RowAccumulator(N)
    thread = busy_until(stop, lambda: others.push(J, F))
    try:
        for _ in range(3):
            assert in_child(lambda: "|".join(outcomes(uses_of_rows(rows)))) == "|".join(["ok"]*10)
    finally:
        stop.set()
        thread.join()


def test_threads_of_the_child_take_turns_as_usual():
    rows = RowAccumulator(N)
    rows.push(J, F)

    def act():
        threads = [threading.Thread(target=lambda: [rows.push(J, F) for _ in range(5)]) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return in_child(lambda: str(rows.rows))             # and a child's child
    assert in_child(act) == str(16*len(F))
