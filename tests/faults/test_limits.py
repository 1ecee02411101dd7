"""Sizes, counts and ways of running at their limits."""
import resource
import signal
import subprocess
import sys
import threading
import time

import compiled_problems
import enzyme
import guards
import numpy as np
import pytest
from enzyme import X0, jacobian, residual

from leastsq import leastsq, leastsq_blocks

MOST = 2 ** 63 - 1


def python(text):
    """Run in a process of its own, which must succeed and write nothing to stderr."""
    run = subprocess.run([sys.executable, "-c", "from enzyme import *\nfrom leastsq import leastsq\n" + text],
                         capture_output=True, text=True, timeout=120,
                         cwd=enzyme.__file__.rpartition("/")[0])
    assert run.returncode == 0, run.stderr
    return run


@pytest.mark.parametrize("maxfev", [2 ** 31 - 1, 2 ** 31, 2 ** 32, MOST, -MOST - 1, -1, 0])
def test_maxfev_may_be_any_integer_of_64_bits(maxfev):
    np.testing.assert_array_equal(leastsq(residual, X0, maxfev=maxfev)[0], leastsq(residual, X0)[0])


@pytest.mark.parametrize("maxfev", [MOST + 1, -MOST - 2, 10 ** 100])
def test_maxfev_beyond_is_refused(maxfev):
    with pytest.raises(OverflowError, match="maxfev must fit in 64 bits"):
        leastsq(residual, X0, maxfev=maxfev)


@pytest.mark.parametrize("qr", ["minpack", "blocked"])
@pytest.mark.parametrize("n", [1, 2, 17])
def test_as_many_residuals_as_parameters(n, qr):
    target = np.arange(1.0, n + 1)
    x, ier = leastsq(lambda p: p * p - target, np.ones(n), qr=qr)
    assert ier in (1, 2, 3, 4)
    np.testing.assert_allclose(x, np.sqrt(target), rtol=1e-7)       # convergence is quadratic beyond the square root of ftol


@pytest.mark.slow
def test_two_thousand_parameters():
    """A linear problem takes one full step, to the answer that lstsq gives too."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2500, 2000)), rng.standard_normal(2500)
    x, ier = leastsq(lambda p: a @ p - b, np.zeros(2000), Dfun=lambda p: a, factor=1e6)
    assert ier in (1, 2, 3, 4)
    # both have errors of the order of eps times the condition number, which is about 20
    np.testing.assert_allclose(x, np.linalg.lstsq(a, b, rcond=None)[0], atol=1e-9)


@pytest.mark.slow
def test_a_hundred_million_residuals_in_blocks():
    rows = 10 ** 6
    t = np.arange(rows) / rows

    def func(p, k):
        return p[0] * t + p[1] + k - (3 * t + 2 + k)

    x, ier = leastsq_blocks(func, [1.0, 1.0], range(100), Dfun=lambda p, k: np.stack([t, np.ones(rows)], 1))
    assert ier in (1, 2, 3, 4)
    np.testing.assert_allclose(x, [3, 2], rtol=1e-9)


@pytest.mark.slow
def test_a_hundred_thousand_fits_need_no_more_memory():
    def peak(fits):
        for _ in range(fits):
            leastsq(residual, X0, Dfun=jacobian, full_output=True)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    assert peak(100_000) - peak(1000) < 1000        # kB: 10 bytes a fit


def test_sixty_four_threads_fit_at_once():
    gate, results = threading.Barrier(64), []

    def work():
        gate.wait(60)
        results.append(leastsq(residual, X0)[0].tobytes())

    threads = [threading.Thread(target=work) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 64 and set(results) == {leastsq(residual, X0)[0].tobytes()}


def test_the_module_may_be_loaded_again():
    python("""
import importlib, sys
import leastsq as package, leastsq._core as core
first = leastsq(residual, X0)[0].tobytes()
importlib.reload(core), importlib.reload(package)
assert package.leastsq(residual, X0)[0].tobytes() == first
for name in [name for name in sys.modules if name.partition(".")[0] == "leastsq"]:
    del sys.modules[name]
import leastsq as again
assert again is not package and again.leastsq(residual, X0)[0].tobytes() == first
assert package.leastsq(residual, X0)[0].tobytes() == first
""")


@guards.SUBINTERPRETERS
def test_a_subinterpreter_with_its_own_gil_is_refused():
    """As the module's slots say; NumPy refuses too."""
    run = python("""
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
other = interpreters.create()
code = '''
try:
    import leastsq._core
except ImportError as error:
    print(error)
'''
try:
    failure = interpreters.run_string(other, code)
finally:
    interpreters.destroy(other)
assert not failure, failure
""")
    assert "subinterpreter" in run.stdout


def test_an_interpreter_may_end_while_daemon_threads_fit():
    run = python("""
import threading, time
big = np.random.default_rng(0).standard_normal((100000, 20))
def small():
    while True:
        leastsq(residual, X0)
def large():
    while True:
        leastsq(lambda x: big @ x - 1, np.ones(20), Dfun=lambda x: big, qr="blocked", threads=2)
for work in (small, large, small, large):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.3)
""".replace("np.", "numpy.").replace("import threading", "import numpy, threading"))
    assert run.stderr == ""


def test_an_interpreter_may_end_while_the_daemon_thread_of_a_pool_waits(need_program, tmp_path):
    library = compiled_problems.build(need_program("cc"), tmp_path)
    run = python(f"""
import ctypes, numpy, threading, time
from leastsq import CFunction, leastsq_batch
rosenbrock = CFunction(ctypes.CDLL({str(library)!r}).rosenbrock, 2)
starts = numpy.full((1000000, 2), [-1.2, 1.0])
threading.Thread(target=lambda: leastsq_batch(rosenbrock, starts, threads=2), daemon=True).start()
time.sleep(0.3)
""")
    assert run.stderr == ""


def alarm_in(seconds):
    """Ctrl-C after `seconds` of this process's processor time."""
    def interrupt(number, frame):
        raise KeyboardInterrupt
    old = signal.signal(signal.SIGPROF, interrupt)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    return old


@pytest.mark.parametrize("phase", ["func", "Dfun", "callback", "loss", "between"])
def test_ctrl_c_in_any_phase_ends_the_fit_at_once(phase):
    spent = []

    def busy(name):
        if name == phase and not spent:
            spent.append(time.process_time())
            while time.process_time() < spent[0] + 5:
                pass

    def func(p):
        busy("func")
        return residual(p)

    def Dfun(p):
        busy("Dfun")
        return jacobian(p)

    def loss(z):
        busy("loss")
        return np.array([z, np.ones_like(z), np.zeros_like(z)])

    options = {"callback": lambda state: busy("callback"), "loss": loss} if phase in ("callback", "loss") else {}
    old = alarm_in(0.1)
    began = time.process_time()
    try:
        with pytest.raises(KeyboardInterrupt):
            while True:
                leastsq(func, X0, Dfun=Dfun, **options)
        took = time.process_time() - began - 0.1
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, old)
    assert took < 0.1
    assert leastsq(residual, X0)[1] in (1, 2, 3)
