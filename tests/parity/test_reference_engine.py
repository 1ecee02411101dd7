"""`engine="reference"`: MINPACK's own library with the same arguments, the same bits, and the same
treatment of exceptions, threads and nested fits.

All tests except those of refusals need a build with -Dreference=enabled (tools/setup.sh makes one
where it finds the library).
"""
import ctypes as ct
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest

import leastsq as package
import problems
import strd
from compiled_problems import SIGNATURE
from enzyme import At, X0, jacobian, residual
from kernels import assert_same_bits
from leastsq import CFunction, _build, leastsq
from test_parity import CORNERS, LEASTSQ, MINPACK1, RUNS, SMALL

ENGINES = ("leastsq", "reference")
solvers = pytest.mark.parametrize("solver", ["lmdif", "lmder"])


@pytest.fixture
def reference(unavailable):
    if not _build.reference:
        unavailable("this build has no engine='reference': no libminpack.a was found")


@pytest.fixture(autouse=True)
def quiet():
    with np.errstate(all="ignore"):
        yield


def assert_same_fit(got, want):
    """Two full outputs are equal, bit for bit."""
    assert got[3:] == want[3:]
    assert_same_bits(got[0], want[0], "x")
    assert (got[1] is None) == (want[1] is None)
    if want[1] is not None:
        assert_same_bits(got[1], want[1], "cov_x")
    assert got[2].keys() == want[2].keys()
    for key in want[2]:
        if key != "ipvt" or want[4] != 9:       # ours has pivoted columns of nan, too
            assert_same_bits(np.asarray(got[2][key], float), np.asarray(want[2][key], float), key)


def by_both(func, x0, Dfun=None, **options):
    """The full outputs of both engines, after asserting that they and all calls are equal."""
    outs, calls = [], []
    for engine in ENGINES:
        seen = []

        def noting(function, seen=seen):
            return function and (lambda x: seen.append((function, x.copy())) or function(x))

        outs.append(leastsq(noting(func), x0, Dfun=noting(Dfun), full_output=True, engine=engine,
                            **options))
        calls.append(seen)
    ours, theirs = calls
    assert [f for f, _ in theirs] == [f for f, _ in ours]
    assert_same_bits([x for _, x in theirs], [x for _, x in ours], "points")
    assert_same_fit(outs[1], outs[0])
    return outs[1]


# ---------------------------------------------------------------------------
# the bits


def test_the_original_is_in_the_module_and_is_called(reference, need_program):
    """It is not our solver under another name: the library's procedures are in the module, and none
    is exported."""
    module = package._core.__file__
    nm = need_program("nm")
    names = subprocess.run([nm, module], capture_output=True, text=True, check=True).stdout.split()
    assert {"lmdif_", "lmder_", "qrfac_", "lmpar_", "fdjac2_", "enorm_"} <= set(names)
    # maxfev may exceed 2**31; the original counts in 32 bits
    assert leastsq(residual, X0, maxfev=2 ** 31)[1] in (1, 2, 3)
    with pytest.raises(ValueError, match="counts in 32 bits"):
        leastsq(residual, X0, maxfev=2 ** 31, engine="reference")


@pytest.mark.parametrize("tolerances", [LEASTSQ, MINPACK1], ids=["leastsq", "minpack1"])
@solvers
@pytest.mark.parametrize("run", RUNS)
def test_both_engines_have_the_same_bits(run, solver, tolerances, reference):
    p, factor = RUNS[run]
    by_both(p.residual, p.start(factor), p.jacobian if solver == "lmder" else None, **tolerances)


@solvers
@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("name", strd.NAMES)
def test_both_engines_have_the_same_bits_on_nists_data(name, start, solver, reference):
    data = strd.load(name)
    by_both(data.residual, data.starts[start], data.jacobian if solver == "lmder" else None)


@solvers
@pytest.mark.parametrize("corner", [*CORNERS, "diag", "epsfcn", "negative maxfev"])
def test_settings_reach_the_original(corner, solver, reference):
    infos = set()
    for run in SMALL:
        p, factor = RUNS[run]
        more = {"diag": dict(diag=10.0 ** np.arange(p.n)), "epsfcn": dict(epsfcn=1e-6),
                "negative maxfev": dict(maxfev=-1, ftol=0, xtol=0)}
        Dfun = p.jacobian if solver == "lmder" else None
        infos.add(by_both(p.residual, p.start(factor), Dfun, **(CORNERS | more)[corner])[4])
    assert infos


def test_derivatives_down_the_columns_and_float32(reference):
    p = problems.problem("bard")
    by_both(p.residual, p.x0, lambda x: p.jacobian(x).T, col_deriv=True)
    by_both(lambda x: p.residual(x).astype(np.float32), p.x0)
    by_both(lambda x: float(x[0] - 3) ** 3, 5.0)


def test_without_full_output_and_from_curve_fit(reference):
    for engine in ENGINES:
        x, ier = leastsq(residual, X0, engine=engine)
        assert ier in (1, 2, 3)
        with pytest.warns(RuntimeWarning, match="maxfev = 3"):
            assert leastsq(residual, X0, maxfev=3, engine=engine)[1] == 5
    assert_same_bits(x, leastsq(residual, X0)[0], "x")
    t = np.arange(1.0, 9.0)
    ours, theirs = (package.curve_fit(lambda t, a, b: a / (b + t), t, 3 / (2 + t), engine=engine)
                    for engine in ENGINES)
    assert_same_bits(theirs[0], ours[0], "popt")
    assert_same_bits(theirs[1], ours[1], "pcov")


# ---------------------------------------------------------------------------
# not finite: our rule, in both engines


@solvers
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_both_engines_treat_residuals_not_finite_alike(bad, solver, reference):
    """At every call of func: at x0, at trial points, for differences."""
    p = problems.problem("bard")
    Dfun = p.jacobian if solver == "lmder" else None
    total = leastsq(p.residual, p.x0, Dfun=Dfun, full_output=True)[2]["nfev"]
    seen = set()

    def spoiled(f):
        f[4:7] = bad
        return f

    for k in range(1, total + 1):
        outs = [leastsq(At(p.residual, spoiled, k), p.x0, Dfun=Dfun, full_output=True, engine=engine)
                for engine in ENGINES]
        assert_same_fit(outs[1], outs[0])
        seen.add(outs[1][4])
    assert seen & {1, 2, 3}
    assert 9 in seen or bad == 1e300 and Dfun


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_jacobian_not_finite_ends_both_alike(bad, reference):
    p = problems.problem("bard")

    def spoiled(j):
        j[7, 1] = bad
        return j

    for k in range(1, leastsq(p.residual, p.x0, Dfun=p.jacobian, full_output=True)[2]["njev"] + 1):
        outs = [leastsq(p.residual, p.x0, Dfun=At(p.jacobian, spoiled, k), full_output=True,
                        engine=engine) for engine in ENGINES]
        assert outs[1][4] == 9
        assert_same_fit(outs[1], outs[0])


def test_only_the_original_accepts_a_step_that_is_not_finite(reference):
    """Residuals that nearly overflow give a step of nan.  In the original, comparisons with nan
    happen to accept it; we reject it."""
    p = problems.problem("bard")

    def spoiled(f):
        f[4:7] = 1e308
        return f

    ours, theirs = (leastsq(At(p.residual, spoiled, 1), p.x0, Dfun=p.jacobian, full_output=True,
                            engine=engine) for engine in ENGINES)
    assert np.isnan(theirs[0]).all() and theirs[4] == 9
    assert ours[0].tolist() == p.x0.tolist() and ours[4] == 5


# ---------------------------------------------------------------------------
# the context of a callback


class Custom(BaseException):
    pass


@solvers
@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, MemoryError, Custom])
def test_an_exception_at_any_call_arrives_unchanged(kind, solver, reference):
    functions = [residual, jacobian if solver == "lmder" else None]
    plain = leastsq(functions[0], X0, Dfun=functions[1], full_output=True, engine="reference")
    for which in range(2):
        for k in range(1, plain[2].get(("nfev", "njev")[which], 0) + 1):
            error = kind("mine")

            def throw(_, error=error):
                raise error

            raising = list(functions)
            raising[which] = At(functions[which], throw, k)
            with pytest.raises(kind) as caught:
                leastsq(raising[0], X0, Dfun=raising[1], engine="reference")
            assert caught.value is error
            assert raising[which].calls == k
            assert_same_fit(leastsq(functions[0], X0, Dfun=functions[1], full_output=True,
                                    engine="reference"), plain)


@solvers
def test_fits_nest_at_any_call(solver, reference):
    """With other sizes, another solver, the other engine; also when the inner fit fails."""
    outer, inner = problems.problem("bard"), problems.problem("extended_rosenbrock", n=10, m=10)
    options = dict(Dfun=outer.jacobian if solver == "lmder" else None, full_output=True,
                   engine="reference")
    plain = leastsq(outer.residual, outer.x0, **options)
    alone = [leastsq(inner.residual, inner.x0, Dfun=Dfun, full_output=True, engine="reference")
             for Dfun in (None, inner.jacobian)]

    def nested(value):
        for k, Dfun in enumerate((None, inner.jacobian)):
            assert_same_fit(leastsq(inner.residual, inner.x0, Dfun=Dfun, full_output=True,
                                    engine=engine), alone[k])
        with pytest.raises(ZeroDivisionError):
            leastsq(lambda x: 1 / 0, inner.x0, engine=engine)
        return value

    for engine in ENGINES:
        for k in range(1, plain[2]["nfev"] + 1):
            func = At(outer.residual, nested, k)
            assert_same_fit(leastsq(func, outer.x0, **options), plain)
            assert func.calls >= k


def test_fits_nest_deeply(reference):
    p = problems.problem("rosenbrock")

    def fit(depth):
        waiting = [depth] if depth else []

        def func(x):
            if waiting and x[0] == 1.0:         # near the end
                fit(waiting.pop() - 1)
            return p.residual(x)
        return leastsq(func, p.x0, full_output=True, engine="reference")

    assert_same_fit(fit(20), fit(0))


def test_fits_of_two_greenlets_take_turns(reference):
    """Within one thread, each greenlet switches to the other in every callback."""
    import greenlet
    tasks = [problems.problem("bard"), problems.problem("kowalik_osborne")]
    want = [leastsq(p.residual, p.x0, full_output=True, engine="reference") for p in tasks]
    hub = greenlet.getcurrent()

    def fit(p):
        def func(x):
            hub.switch()
            return p.residual(x)
        return leastsq(func, p.x0, full_output=True, engine="reference")

    runners = [greenlet.greenlet(fit) for _ in tasks]
    results = [None, None]
    for k, p in enumerate(tasks):
        results[k] = runners[k].switch(p)
    turns = 0
    while not all(runner.dead for runner in runners):
        turns += 1
        for k, runner in enumerate(runners):
            if not runner.dead:
                results[k] = runner.switch()
    assert turns > 20
    for got, expected in zip(results, want):
        assert_same_fit(got, expected)


def test_fits_run_in_threads(reference):
    """With Python functions, and with compiled ones, which run without the GIL."""
    tasks = [RUNS[run] for run in SMALL[:8]]

    @SIGNATURE
    def compiled(m, n, x, f, data):
        f[0], f[1] = 10 * (x[1] - x[0] * x[0]), 1 - x[0]
        return 0

    def fit(p, factor):
        return (leastsq(p.residual, p.start(factor), full_output=True, engine="reference"),
                leastsq(CFunction(compiled, 2), [-1.2, 1.0], full_output=True, engine="reference"))

    want = [fit(*task) for task in tasks]
    got = [[] for _ in tasks]
    threads = [threading.Thread(target=lambda k=k: got[k].extend(fit(*tasks[k]) for _ in range(20)))
               for k in range(len(tasks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for fits, expected in zip(got, want):
        assert len(fits) == 20
        for pair in fits:
            for one, other in zip(pair, expected):
                assert_same_fit(one, other)


@pytest.mark.parametrize("code", [1, -1, 77])
@solvers
def test_a_compiled_function_stops_both_alike_at_any_call(solver, code, reference):
    p = problems.problem("bard")
    state = {}

    def compiled(function, size):
        @SIGNATURE
        def call(m, n, x, out, data):
            state["calls"] += 1
            if state["calls"] == state["stop at"]:
                return code
            values = function(np.array(x[:n])).ravel(order="F")
            ct.memmove(out, values.ctypes.data, 8 * size)
            return 0
        return CFunction(call, p.m)

    func = compiled(p.residual, p.m)
    Dfun = compiled(p.jacobian, p.m * p.n) if solver == "lmder" else None
    state.update({"calls": 0, "stop at": 0})
    leastsq(func, p.x0, Dfun=Dfun, engine="reference")
    for stop_at in range(1, state["calls"] + 1):
        outs = []
        for engine in ENGINES:
            state.update({"calls": 0, "stop at": stop_at})
            outs.append(leastsq(func, p.x0, Dfun=Dfun, full_output=True, engine=engine))
            assert state["calls"] == stop_at and outs[-1][4] == 10
        assert_same_fit(outs[1], outs[0])


# ---------------------------------------------------------------------------
# refusals


@pytest.mark.parametrize("option", [
    dict(qr="blocked"), dict(threads=2), dict(bounds=(0, 9)), dict(loss="cauchy"),
    dict(loss=lambda z: (z, z, z)), dict(callback=print), dict(history=True, full_output=True),
    dict(verbose=1), dict(workers=2), dict(Dfun="3-point"), dict(Dfun="cs")],
    ids=range(11))
def test_what_the_original_cannot_do_is_refused_by_name(option, monkeypatch):
    monkeypatch.setattr(_build, "reference", True)
    called = []
    with pytest.raises(ValueError, match=f"original MINPACK, which cannot do {next(iter(option))}="):
        leastsq(called.append, X0, engine="reference", **option)
    assert not called


@pytest.mark.parametrize("option", [
    dict(qr="minpack"), dict(threads=1), dict(bounds=None), dict(loss="linear"), dict(callback=None),
    dict(verbose=0), dict(Dfun="2-point"), dict(strict=True)], ids=str)
def test_options_that_change_nothing_are_not_refused(option, reference):
    assert_same_fit(leastsq(residual, X0, full_output=True, engine="reference", **option),
                    leastsq(residual, X0, full_output=True))


def test_a_build_without_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(_build, "reference", False)
    with pytest.raises(ValueError, match="minpack-dev.*-Dreference=enabled"):
        leastsq(residual, X0, engine="reference")
    assert leastsq(residual, X0, engine="leastsq")[1] in (1, 2, 3)


@pytest.mark.parametrize("engine", ["minpack", "", 1, False, ["reference"], np.array("reference")])
def test_another_engine_is_refused(engine):
    with pytest.raises(ValueError, match="engine must be None, 'leastsq' or 'reference', got"):
        leastsq(residual, X0, engine=engine)


@pytest.mark.parametrize("m, n", [(2 ** 31, 1), (2 ** 30, 2), (2 ** 40, 3)])
def test_more_than_32_bits_can_count_is_refused_before_anything_is_allocated(m, n, reference):
    called = []
    func = CFunction(SIGNATURE(lambda *args: called.append(args) or 0), m)
    with pytest.raises(ValueError, match=rf"counts in 32 bits: m\*n .* got m = {m}, n = {n}"):
        leastsq(func, np.ones(n), engine="reference")
    assert not called


def test_show_config_says_whether_the_reference_is_built_in():
    shown = package.show_config("dicts")["reference"]
    assert shown == ("MINPACK's own library" if _build.reference else "not in this build")


def test_a_wheel_has_the_reference_only_on_request():
    options = (Path(__file__).parents[2] / "meson.options").read_text()
    assert "option('reference', type: 'feature', value: 'disabled'" in options
