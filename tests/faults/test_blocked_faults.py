"""Faults in the blocked path of `leastsq`, and its effects on the process: values that are not finite,
memory, signals, threads, forks, environment variables.

test_faults.py tests, for every path, what the user's functions may do wrong at each of their calls.
"""
import json
import os
import subprocess
import sys
import threading
from functools import cache

import guards
import compiled_problems
import numpy as np
import pytest
from test_blocked import Smooth, blocked, minpack, quiet  # noqa: F401
from test_callbacks import LAYOUTS, assert_same

from leastsq import leastsq



# --------------------------------------------------------------- not finite

@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 8192, 19999])
@pytest.mark.parametrize("method", ["lmdif", "lmder"])
def test_residuals_not_finite_at_the_start_are_named(method, row, bad):
    p = Smooth(20000, 2)

    def func(x):
        f = p.residual(x)
        f[row] = bad
        return f

    x, cov, info, mesg, ier = blocked(func, p.x0, **p.options_by_method()[method])
    assert (ier, info["nfev"], info.get("njev", 0), cov) == (9, 1, 0, None)
    assert mesg == (f"Residuals are not finite at x0: func(x)[{row}] is {bad} "
                    f"at x = {np.array2string(p.x0)}.")
    np.testing.assert_array_equal(x, p.x0)
    np.testing.assert_array_equal(info["fvec"], func(x))
    assert np.isnan(info["qtf"]).all() and np.isnan(info["fjac"].T[np.triu_indices(2)]).all()
    assert info["ipvt"].tolist() == [1, 2]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("layout", ["C", "F", "strided", "backwards", "float32", "swapped"])
@pytest.mark.parametrize("col_deriv", [0, 1])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_jacobian_not_finite_is_named_by_row_and_column(threads, col_deriv, layout, bad):
    p = Smooth(20000, 5)
    for row, column in [(0, 0), (19999, 4), (8191, 2), (8192, 0), (12345, 4)]:
        def dfun(x):
            jac = p.jacobian(x)
            jac[row, column] = bad                      # noqa: B023
            jac[row + 1:row + 3, column:] = -bad        # noqa: B023
            return LAYOUTS[layout](jac.T if col_deriv else jac)

        x, cov, info, mesg, ier = blocked(p.residual, p.x0, Dfun=dfun, col_deriv=col_deriv,
                                          threads=threads)
        assert (ier, info["nfev"], info["njev"], cov) == (9, 1, 1, None)
        assert f"residual {row} with respect to x[{column}] " in mesg
        assert f"(row {row}, column {column}) is {bad} at x = " in mesg
        np.testing.assert_array_equal(info["fvec"], p.residual(p.x0))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_differences_not_finite_are_named_by_row_and_column(bad):
    p = Smooth(20000, 5)
    for row, column in [(0, 0), (19999, 4), (8192, 3)]:
        def func(x):
            f = p.residual(x)
            if x[column] != p.x0[column]:               # noqa: B023
                f[row] = bad                            # noqa: B023
            return f

        x, _, info, mesg, ier = blocked(func, p.x0)
        assert (ier, info["nfev"]) == (9, 6)            # the Jacobian is finished first
        assert f"(row {row}, column {column}) is {bad} at x = " in mesg
        assert mesg == minpack(func, p.x0)[3]
        np.testing.assert_array_equal(x, p.x0)


def test_a_jacobian_without_finite_elements_is_named_as_on_the_minpack_path():
    p = Smooth(20000, 5)
    for value in (np.nan, np.inf):
        messages = [solver(p.residual, p.x0, Dfun=lambda x: np.full((20000, 5), value))[3]  # noqa: B023
                    for solver in (minpack, blocked)]
        assert messages[0] == messages[1] and "(row 0, column 0)" in messages[0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300], ids=str)
@pytest.mark.parametrize("m", [40, 20000])
def test_a_trial_not_finite_is_a_rejected_step(m, bad):
    p = Smooth(m, 3)
    count = 0

    def func(x):
        nonlocal count
        count += 1
        f = p.residual(x)
        if count in (2, 4):
            f[m - 1] = bad
        return f

    clean = blocked(p.residual, p.x0, Dfun=p.jacobian)
    x, cov, info, _, ier = blocked(func, p.x0, Dfun=p.jacobian)
    assert ier in (1, 2, 3) and cov is not None and info["nfev"] == count
    np.testing.assert_allclose(x, clean[0], rtol=1e-6)
    np.testing.assert_array_equal(info["fvec"], p.residual(x))


# ------------------------------------------------------------ subprocesses

PRELUDE = """
import json, os, resource, signal, sys, threading, time
import numpy as np
from leastsq import leastsq, show_config

def status(name):
    with open("/proc/self/status", encoding="ascii") as lines:
        return int(next(l for l in lines if l.startswith(name + ":")).split()[1])

class Linear:
    '''r = A g(x) - b with g(x) = x + x**3/100; A's bits from a generator.'''
    def __init__(self, m, n):
        self.a = np.random.default_rng(m + n).standard_normal((m, n))
        self.b = np.einsum("ij,j->i", self.a, np.arange(1.0, n + 1)) + 0.5
        self.x0 = np.zeros(n)
    def residual(self, x):
        return np.einsum("ij,j->i", self.a, x + x**3/100) - self.b
    def jacobian(self, x):
        return self.a*(1 + 3*x**2/100)
    def fit(self, **options):
        return leastsq(self.residual, self.x0, full_output=True,
                       **dict(qr="blocked", Dfun=self.jacobian) | options)

def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(
        [one[0], one[1], *one[2].values()], [other[0], other[1], *other[2].values()]))

def tasks():
    return len(os.listdir("/proc/self/task"))

def left_of(before):
    '''Threads more than before, once those that are ending have gone.'''
    for _ in range(200):
        if tasks() == before:
            break
        time.sleep(0.01)
    return tasks() - before

def say(**facts):
    print(json.dumps(facts))
"""


def script(text, timeout=120, **environment):
    """What a script prints in a process of its own, read as JSON; it must succeed, and write nothing to stderr."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("LEASTSQ_")}
    run = subprocess.run([sys.executable, "-W", "error", "-c", PRELUDE + text], timeout=timeout,
                         env=env | {"OPENBLAS_NUM_THREADS": "1"} | environment,
                         capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    return json.loads(run.stdout)


def refused(text="", **environment):
    """The last line of stderr of a script that must fail."""
    run = subprocess.run([sys.executable, "-c", "import leastsq\n" + text],
                         env=dict(os.environ) | environment, capture_output=True, text=True)
    assert run.returncode == 1
    return run.stderr.strip().splitlines()[-1]


# --------------------------------------------------------------- environment

FIT = """
p = Linear(30000, 6)
x, cov, info, mesg, ier = p.fit()
say(x=x.tolist(), diagonal=abs(info["fjac"].T[:6].diagonal()).tolist(), ier=ier,
    kernels=show_config("dicts")["kernels"])
"""


def possible_isas():
    """The instruction sets that the error for an unknown one lists."""
    text = refused(LEASTSQ_ISA="8086")
    assert text.startswith("ImportError: leastsq: LEASTSQ_ISA must be ") and text.endswith("got '8086'")
    return text.partition("must be ")[2].partition(", got")[0].replace(" or ", ", ").split(", ")


@cache
def fit_on(isa):
    return script(FIT, LEASTSQ_ISA=isa)


def test_unknown_instruction_sets_are_refused_with_what_is_possible():
    assert possible_isas()[0] == "baseline"
    for wrong in ("BASELINE", "v33"):
        assert refused(LEASTSQ_ISA=wrong).endswith(f"got '{wrong}'")


def test_every_instruction_set_gives_the_same_answer_or_says_what_is_missing():
    best = fit_on("")
    seen = []
    for isa in possible_isas():
        try:
            got = fit_on(isa)
        except AssertionError:
            text = refused(LEASTSQ_ISA=isa)
            assert f"does not support LEASTSQ_ISA={isa}; the best that it supports is {seen[-1]}" in text
            continue
        seen.append(isa)
        assert got["kernels"].endswith(f"blocked for {isa}")
        np.testing.assert_allclose(got["x"], best["x"], rtol=1e-9)
        np.testing.assert_allclose(got["diagonal"], best["diagonal"], rtol=1e-12)
        assert got["ier"] in (1, 2, 3)
    assert "baseline" in seen
    # v4 is left to those who ask for it where its vectors are computed in halves
    assert best["kernels"].rpartition(" ")[2] in ([seen[-1], "v3"] if seen[-1] == "v4" else [seen[-1]])


def test_number_of_threads_comes_from_the_environment():
    out = script("""
p = Linear(70000, 8)
before, seen, ended = tasks(), set(), threading.Event()
def watch():
    while not ended.is_set():
        seen.add(tasks() - before - 1)
watcher = threading.Thread(target=watch)
watcher.start()
first, repeated = p.fit(), True
for _ in range(300):
    repeated = repeated and same(p.fit(), first)
    if 2 in seen:
        break
ended.set()
watcher.join()
say(most=max(seen), left=left_of(before), same=repeated and same(first, p.fit(threads=1)))
""", LEASTSQ_NUM_THREADS="3")
    assert out == {"most": 2, "left": 0, "same": True}


@pytest.mark.parametrize("text", ["0", "257", "two", *(pytest.param(text, marks=pytest.mark.slow)
                                                        for text in ("-1", "1.5"))])
def test_other_numbers_of_threads_in_the_environment_are_refused(text):
    assert refused(LEASTSQ_NUM_THREADS=text) == (
        f"ValueError: leastsq: LEASTSQ_NUM_THREADS must be an integer from 1 to 256, got {text!r}")


# -------------------------------------------------------------------- threads

def test_threaded_fits_run_in_threads_at_the_same_time():
    p = Smooth(20000, 6)
    expected = {method: blocked(p.residual, p.x0, **options) for method, options in p.options_by_method().items()}
    gate, failures = threading.Barrier(4), []

    def work():
        try:
            gate.wait(30)
            for _ in range(4):
                for method, options in p.options_by_method().items():
                    assert_same(blocked(p.residual, p.x0, threads=3, **options), expected[method])
                with pytest.raises(ZeroDivisionError):
                    blocked(p.residual, p.x0, Dfun=lambda x: 1 // 0)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures and not any(thread.is_alive() for thread in threads)


@guards.LINUX
def test_a_fit_runs_with_fewer_threads_if_no_more_can_be_started():
    out = script("""
if resource.getrlimit(resource.RLIMIT_STACK)[0] != 1 << 30:     # of threads, from the next exec on
    resource.setrlimit(resource.RLIMIT_STACK, (1 << 30, resource.RLIM_INFINITY))
    os.execv(sys.executable, sys.orig_argv)
p = Linear(70000, 8)
clean = p.fit()
limit = (status("VmSize") << 10) + (256 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    threading.Thread(target=int).start()
    refused = False
except RuntimeError:
    refused = True
say(refused=refused, same=same(clean, p.fit(threads=8)))
""")
    assert out == {"refused": True, "same": True}


@guards.LINUX
@pytest.mark.parametrize("room", [256, 2500])
def test_a_batch_runs_with_the_threads_that_can_be_started(room, need_program, tmp_path):
    """It fails only if not one can be started: each needs 1 GiB of address space here."""
    library = compiled_problems.build(need_program("cc"), tmp_path)
    out = script(f"""
if resource.getrlimit(resource.RLIMIT_STACK)[0] != 1 << 30:     # of threads, from the next exec on
    resource.setrlimit(resource.RLIMIT_STACK, (1 << 30, resource.RLIM_INFINITY))
    os.execv(sys.executable, sys.orig_argv)
import ctypes
from leastsq import CFunction, leastsq_batch
func = CFunction(ctypes.CDLL({str(library)!r}).rosenbrock, 2)
starts = np.tile([-1.2, 1.0], (40, 1))
clean = leastsq_batch(func, starts)
limit = (status("VmSize") << 10) + ({room} << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    say(same=leastsq_batch(func, starts, threads=8).x.tobytes() == clean.x.tobytes())
except RuntimeError as error:
    say(error=str(error))
""")
    assert out == ({"same": True} if room > 1024 else {"error": "leastsq_batch: no thread can be started"})


@guards.LINUX
def test_a_fork_after_threaded_fits_can_fit():
    out = script("""
p = Linear(70000, 8)
clean = p.fit(threads=3)
codes = []
for _ in range(3):
    child = os.fork()
    if child == 0:
        os._exit(0 if same(p.fit(threads=3), clean) else 1)
    codes.append(os.waitpid(child, 0)[1])
say(codes=codes, same=same(p.fit(threads=2), clean))
""")
    assert out == {"codes": [0, 0, 0], "same": True}


@guards.LINUX
def test_func_may_fork_and_its_child_may_fit():
    out = script("""
p = Linear(70000, 8)
clean = p.fit(threads=3)
codes = []
def dfun(x):
    child = os.fork()
    if child == 0:
        os._exit(0 if same(p.fit(threads=3), clean) else 1)
    codes.append(os.waitpid(child, 0)[1])
    return p.jacobian(x)
got = p.fit(threads=2, Dfun=dfun)
say(codes=set(codes) == {0}, same=same(got, clean))
""")
    assert out == {"codes": True, "same": True}


# -------------------------------------------------------------------- signals

@guards.LINUX
@pytest.mark.parametrize("where, threads", [
    ("push", 2), ("together", 2),
    *(pytest.param(*case, marks=pytest.mark.slow) for case in
      [("push", 1), ("together", 1), ("differences", 1), ("differences", 2)])])
def test_ctrl_c_ends_a_long_factorization(where, threads):
    """Measured in this process's processor time, so that the load of the machine does not matter."""
    out = script(f"""
threads, where = {threads}, {where!r}
m, n = (3000, 1500) if where == "together" else (60000, 500)     # one triangle, or chunks
values = np.random.default_rng(1).standard_normal(m + n)
jac = np.lib.stride_tricks.sliding_window_view(values, n)[:m]
calls, armed, began = 0, False, 0.0
after = 0.05
def func(x):
    global calls
    calls += 1
    if where == "differences" and calls == n + 1:
        arm()
    if where == "together":
        return values[:m] + 0
    moved = np.flatnonzero(x != 1)                      # at most one element
    return values[:m] + sum(values[j:j + m]*(x[j] - 1) for j in moved)
def dfun(x):
    arm()
    return jac
def arm():
    global began
    began = time.process_time()
    if armed:
        signal.setitimer(signal.ITIMER_PROF, after)
options = dict(qr="blocked", threads=threads, maxfev=1, Dfun=None if where == "differences" else dfun)
leastsq(func, np.ones(n), full_output=True, **options)
whole = time.process_time() - began
def interrupt(number, frame):
    raise KeyboardInterrupt
signal.signal(signal.SIGPROF, interrupt)
armed, calls = True, 0
before = tasks()
try:
    leastsq(func, np.ones(n), **options)
    took = None
except KeyboardInterrupt as error:
    took = time.process_time() - began - after
say(took=took, whole=whole, left=left_of(before))
""")
    assert out["took"] is not None, "the factorization was not interrupted"
    assert out["left"] == 0
    assert out["took"] < 0.25 * threads
    assert out["whole"] > out["took"] + 0.2             # else the interrupt has shortened nothing


# --------------------------------------------------------------------- memory

PEAK = """
m, n, qr, dfun, full_output = 100000, 60, {qr!r}, {dfun}, {full}
a = np.random.default_rng(0).standard_normal((m, n))
b = a.sum(axis=1) + 0.1
jac = a.copy()
def func(x):
    return np.einsum("ij,j->i", a, x) - b
def watched(x):
    return jac
func(np.zeros(n)), watched(np.zeros(n))                 # the user's own peak of memory
before = status("VmHWM")
out = leastsq(func, np.zeros(n), Dfun=watched if dfun else None, qr=qr, full_output=full_output)
size = m*n*8/1024
say(growth=(status("VmHWM") - before)/size, ier=out[-1])
"""


@guards.LINUX
@pytest.mark.parametrize("full", [False, True], ids=["short", "full"])
def test_a_fit_with_dfun_needs_one_vector_beside_the_users_arrays(full):
    """With 60 parameters the vector is 1.7 % of the Jacobian, and blocks and triangles 0.7 %. Full output
    takes 1.3 % more, because R touches a page in each row. Pages of the library that the first fit reads
    add some 0.3 %, and Linux counts memory in steps of 32 pages for each processor, 0.3 % each."""
    out = script(PEAK.format(qr="blocked", dfun=True, full=full))
    assert out["ier"] in (1, 2, 3, 4) and out["growth"] < (0.05 if full else 0.037)


@guards.LINUX
@pytest.mark.parametrize("full", [False, True], ids=["short", "full"])
def test_a_fit_by_differences_needs_one_jacobian_and_vectors(full):
    out = script(PEAK.format(qr="blocked", dfun=False, full=full))
    assert out["ier"] in (1, 2, 3, 4) and 0.9 < out["growth"] < 1.06


@guards.LINUX
def test_the_copy_that_the_minpack_path_makes_is_seen_in_this_measure():
    assert script(PEAK.format(qr="minpack", dfun=True, full=False))["growth"] > 0.95


@guards.LINUX
@pytest.mark.parametrize("dfun", [True, False], ids=["lmder", "lmdif"])
def test_out_of_memory_is_a_memory_error_and_nothing_is_lost(dfun):
    out = script(f"""
dfun = {dfun}
p = Linear(60000, 20)
options = dict(full_output=True, qr="blocked", threads=2, maxfev=3, Dfun=p.jacobian if dfun else None)
clean = leastsq(p.residual, p.x0, **options)
start, outcomes, right = status("VmSize"), [], True
for headroom in range(0, 60, 2):                        # in MB; J has 9.6
    limit = (start << 10) + (headroom << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    try:
        got = leastsq(p.residual, p.x0, **options)
        outcomes.append(True)
        right = right and same(got, clean)
        del got
    except MemoryError:
        outcomes.append(False)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
def resident():
    return status("VmRSS")
before = resident()
for _ in range(10):
    resource.setrlimit(resource.RLIMIT_AS, ((status("VmSize") << 10) + (4 << 20), resource.RLIM_INFINITY))
    try:
        leastsq(p.residual, p.x0, **options)
    except MemoryError:
        outcomes.append(False)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
say(succeeded=sum(outcomes), failed=len(outcomes) - sum(outcomes), right=right,
    grown=resident() - before, next=same(leastsq(p.residual, p.x0, **options), clean))
""", MALLOC_MMAP_THRESHOLD_="65536")                     # so that freed memory goes back to the system
    assert out["right"] and out["next"]
    assert out["succeeded"] > 3 and out["failed"] > 10
    assert out["grown"] < 1000                          # kB


def test_a_problem_too_large_for_any_memory_is_a_memory_error():
    huge = np.broadcast_to(0.0, 2 ** 56)
    for qr in ("blocked", None, "minpack"):
        with pytest.raises((MemoryError, ValueError)):
            leastsq(lambda x: huge, np.ones(4), qr=qr, Dfun=lambda x: np.broadcast_to(0.0, (2 ** 56, 4)))


# ------------------------------------------------------- more than 2³¹ elements

def available():
    """GiB that are available without swapping."""
    with open("/proc/meminfo", encoding="ascii") as lines:
        return int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) / 2 ** 20


def need_memory(gib):
    if not guards.IS_LINUX or available() < gib:
        pytest.skip(f"needs {gib} GiB of free memory")


# Jacobians of zeros except for some rows, among them the last: the fit must find every one.  Pages of
# zeros that are never written to take no memory.
SPARSE = """
m, n, order, dfun = {m}, {n}, {order!r}, {dfun}
assert m*n > 2**31
rng = np.random.default_rng(0)
rows = np.unique(np.r_[0, 2**31//n + 1, rng.integers(0, m, 2*n), m - 2, m - 1])
values = rng.standard_normal((rows.size, n))
b = values @ np.arange(1.0, n + 1) + 0.1*rng.standard_normal(rows.size)
jac = np.zeros((m, n) if order == "C" else (n, m))
jac = jac if order == "C" else jac.T
jac[rows] = values
f = np.zeros(m)
def func(x):
    f = np.zeros(m)
    f[rows] = values @ x - b
    return f
x, cov, info, mesg, ier = leastsq(func, np.zeros(n), Dfun=(lambda x: jac) if dfun else None,
                                  full_output=True, threads=2, gtol=1e-6)
want, rss = np.linalg.lstsq(values, b, rcond=None)[:2]
r = np.triu(info["fjac"].T[:n])
order = info["ipvt"] - 1
gram = values.T @ values
say(x=float(abs(x - want).max()), rss=float(abs(info["fvec"] @ info["fvec"] / rss[0] - 1)),
    gram=float(abs(r.T @ r - gram[np.ix_(order, order)]).max()), ier=ier,
    cov=float(abs(cov @ gram - np.eye(n)).max()), peak=status("VmHWM")/2**20,
    zeros=bool(not info["fjac"].T[m - 1].any()))
"""


def check_sparse(out, exact):
    tolerance = 1e-11 if exact else 1e-6
    assert out["ier"] in (1, 2, 3, 4) and out["zeros"]
    assert max(out["x"], out["rss"]) < tolerance
    assert out["gram"] < tolerance * 1e3 and out["cov"] < tolerance * 1e3


@pytest.mark.slow
@guards.LINUX
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_jacobian_of_more_than_two_to_31_elements(order):
    need_memory(7)
    out = script(SPARSE.format(m=110_000_000, n=20, order=order, dfun=True), timeout=1200)
    check_sparse(out, exact=True)
    assert out["peak"] < 6


@pytest.mark.slow
@guards.LINUX
def test_a_not_finite_element_beyond_two_to_31_is_named():
    need_memory(7)
    out = script("""
m, n = 110_000_000, 20
jac = np.zeros((m, n))
jac[m - 1, n - 1] = np.nan
x, cov, info, mesg, ier = leastsq(lambda x: np.zeros(m) + 1, np.ones(n), Dfun=lambda x: jac,
                                  full_output=True)
say(mesg=mesg, ier=ier)
""", timeout=1200)
    assert out["ier"] == 9 and "(row 109999999, column 19) is nan" in out["mesg"]


@pytest.mark.slow
@guards.LINUX
def test_differences_of_more_than_two_to_31_elements():
    need_memory(20)
    out = script(SPARSE.format(m=2 ** 25 + 1000, n=64, order="C", dfun=False), timeout=2400)
    check_sparse(out, exact=False)


@pytest.mark.slow
@guards.LINUX
def test_overlapping_windows_are_a_jacobian_of_more_than_two_to_31_elements():
    """A filter with 20 coefficients on a long record: the rows share memory."""
    need_memory(7)
    out = script("""
m, n = 110_000_000, 20
record = np.random.default_rng(0).standard_normal(m + n, dtype="f4")
jac = np.lib.stride_tricks.sliding_window_view(record, n)[:m]
truth = np.arange(1.0, n + 1)
piece = 1 << 20
def func(x):
    f = np.empty(m)
    for k in range(0, m, piece):
        f[k:k + piece] = jac[k:k + piece] @ (x - truth).astype("f4")
    return f
x, ier = leastsq(func, truth + 1e-3, Dfun=lambda x: jac, threads=2, maxfev=4)
say(x=float(abs(x - truth).max()), peak=status("VmHWM")/2**20)
""", timeout=1200)
    assert out["x"] < 1e-5 and out["peak"] < 6
