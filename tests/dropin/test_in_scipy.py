"""This package in SciPy's place; and its classes, which are subclasses of SciPy's where SciPy is loaded."""
import copy
import functools
import multiprocessing
import pickle
import subprocess
import sys
import threading
import types
import warnings

import numpy as np
import pytest

import leastsq
from leastsq._scipy import outcome

scipys = pytest.importorskip("scipy.optimize", reason="SciPy, in whose place this is put, is not installed")

NAMES = ["leastsq", "curve_fit", "least_squares"]
T = np.linspace(0, 4, 21)
Y = 2.5*np.exp(-1.3*T) + 0.01*np.cos(40*T)


def model(t, a, b):
    return a*np.exp(-b*t)


def fun(p):
    return model(T, *p) - Y


@pytest.fixture
def client():
    """A module that has imported SciPy's names before."""
    module = types.ModuleType("client_of_scipy")
    exec("from scipy.optimize import leastsq, least_squares as solve, curve_fit", vars(module))
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


def test_names_are_replaced_where_they_were_imported_and_come_back(client):
    before = [getattr(scipys, name) for name in NAMES]
    with leastsq.in_scipy() as place:
        assert client.leastsq is scipys.leastsq is sys.modules["scipy.optimize._minpack_py"].leastsq
        assert not any(getattr(scipys, name) is theirs for name, theirs in zip(NAMES, before))
        client.leastsq(fun, [1, 1])
        client.solve(fun, [1, 1], bounds=(0, 9))
        client.curve_fit(model, T, Y)
        client.curve_fit(model, T, Y, method="dogbox")
        late = types.ModuleType("late_client")
        exec("from scipy.optimize import leastsq as mine", vars(late))
        sys.modules["late_client"] = late
        assert "in place; answered 4 calls, passed on 0" in repr(place)
    assert place.calls == {"leastsq": 1, "least_squares": 1, "curve_fit": 2} and not place.passed_on
    assert before == [getattr(scipys, name) for name in NAMES] == [client.leastsq, client.curve_fit, client.solve]
    assert sys.modules.pop("late_client").mine is before[0]


def test_it_stays_without_a_context_until_restored():
    before = scipys.leastsq
    place = leastsq.in_scipy()
    assert scipys.leastsq is not before and scipys.leastsq.__name__ == "leastsq" and scipys.leastsq.__wrapped__ is before
    place.restore()
    place.restore()
    assert scipys.leastsq is before and "SciPy's own are back" in repr(place)


@pytest.mark.parametrize("first", [0, 1])
def test_several_contexts_may_end_in_any_order(first):
    before = scipys.leastsq
    places = [leastsq.in_scipy()]
    scipys.leastsq(fun, [1, 1])
    places.append(leastsq.in_scipy())
    scipys.leastsq(fun, [1, 1])
    places[first].restore()
    assert scipys.leastsq is not before
    scipys.leastsq(fun, [1, 1])
    places[1 - first].restore()
    assert scipys.leastsq is before and [place.calls["leastsq"] for place in places] == [[2, 2], [3, 1]][first]


def test_an_exception_ends_the_context_and_its_call_is_counted():
    before = scipys.leastsq
    with pytest.raises(ZeroDivisionError):
        with leastsq.in_scipy() as place:
            scipys.leastsq(lambda x: 1//0, [1.0])
    assert scipys.leastsq is before and place.calls == {"leastsq": 1}


def test_answers_agree_with_those_of_scipy():
    def answers():
        x, cov, info, mesg, ier = scipys.leastsq(fun, [1, 1], full_output=True)
        result = scipys.least_squares(fun, [1, 1], bounds=(0, [9, 1.0]))
        few = scipys.least_squares(lambda p: fun(p)[:1], [1, 1])         # by default not "lm"
        popt, pcov, more, _, status = scipys.curve_fit(model, T, Y, bounds=(0, [9, 1.0]), full_output=True)
        plain = scipys.curve_fit(model, T, Y, full_output=True)[2]
        return [x, cov, info["fvec"], info["ipvt"], plain["ipvt"], ier, result.x, result.status > 0, few.cost, popt, pcov,
                more["fvec"], status > 0, scipys.root(lambda p: p - 2, [1, 1], method="lm").x]
    want = answers()
    with leastsq.in_scipy() as place:
        got = answers()
    for a, b in zip(got, want):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-8)
    assert place.calls["leastsq"] == 2 and place.calls["least_squares"] == 2        # `root` calls leastsq


def test_ipvt_and_fjac_are_those_of_the_installed_scipy():
    def by_hand():
        _, cov, info, _, _ = scipys.leastsq(lambda p: fun(p[::-1])*[p[0]], [1.3, 2.0], full_output=True)
        return info["ipvt"], info["fjac"]
    want = by_hand()
    with leastsq.in_scipy():
        got = by_hand()
    np.testing.assert_array_equal(got[0], want[0])
    np.testing.assert_allclose(got[1], want[1], rtol=1e-9, atol=1e-12)


def test_calls_that_are_refused_by_name_are_passed_on_to_scipy():
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy, in whose place this is put, is not installed")
    operator = pytest.importorskip("scipy.sparse.linalg", reason="SciPy, in whose place this is put, is not installed")
    wide = np.eye(3)
    with leastsq.in_scipy() as place:
        for options in ({"jac_sparsity": wide}, {"jac": lambda x: sparse.csr_matrix(wide)},
                        {"jac": lambda x: operator.aslinearoperator(wide)}):
            np.testing.assert_allclose(scipys.least_squares(lambda x: x - 1, np.zeros(3), **options).x, 1, rtol=1e-6)
    assert place.passed_on == {"least_squares": 3} and not place.calls
    for options in ({"jac_sparsity": wide}, {"jac": lambda x: sparse.csr_matrix(wide)}):
        with pytest.raises(ValueError, match="dense"):
            leastsq.least_squares(lambda x: x - 1, np.zeros(3), **options)


def test_callbacks_are_scipys_with_bounds():
    seen = []
    with leastsq.in_scipy():
        scipys.least_squares(fun, [1, 1], callback=lambda x: seen.append(x))
    assert seen and all(isinstance(x, np.ndarray) for x in seen)


def test_the_context_itself_does_not_warn_and_warnings_name_the_callers_line():
    outcome.known.clear()
    with leastsq.in_scipy(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scipys.curve_fit(model, T, Y, method="trf")
        assert not caught
        scipys.curve_fit(lambda x, a: a*x, [1.0], [1.0])
        scipys.leastsq(lambda x: x - 3.0, [1e-9])
        scipys.leastsq(lambda x: [x[0]**2 + 1, 1e-20*x[1]], [1.0, 1.0], maxfev=1)
    assert len(caught) == 3 and {one.filename for one in caught} == {__file__}
    assert issubclass(caught[0].category, scipys.OptimizeWarning)
    with pytest.warns(leastsq.OptimizeWarning, match="Levenberg-Marquardt"):        # still given outside
        leastsq.curve_fit(model, T, Y, method="trf")


def test_a_replacement_that_is_kept_calls_scipy_after_the_end():
    with leastsq.in_scipy() as place:
        kept = functools.partial(scipys.leastsq, fun)
        kept([1, 1])
    x, cov, info, _, _ = kept([1, 1], full_output=True)
    assert place.calls == {"leastsq": 1} and type(info) is dict


def test_threads_may_fit_and_begin_and_end_contexts():
    before, wrong = scipys.leastsq, []

    def work():
        for _ in range(20):
            with leastsq.in_scipy() as place:
                scipys.leastsq(fun, [1, 1])
            if not place.calls["leastsq"] >= 1:
                wrong.append(place)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and scipys.leastsq is before


# ---------------------------------------------------------------------------
# classes


def test_results_and_warnings_are_instances_of_scipys():
    result = leastsq.least_squares(fun, [1, 1])
    assert isinstance(result, scipys.OptimizeResult) and isinstance(result, leastsq.OptimizeResult)
    assert isinstance(leastsq.OptimizeResult(a=1), scipys.OptimizeResult) and leastsq.OptimizeResult(a=1).a == 1
    warning = leastsq.OptimizeWarning("text")
    assert isinstance(warning, scipys.OptimizeWarning) and warning.args == ("text",)
    assert result.problem.func is not None and "problem" not in result
    assert dir(result) == sorted(result) and repr(result).strip().startswith("x:")
    with pytest.raises(AttributeError, match="nothing"):
        _ = result.nothing


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_and_copies_are_results_without_the_problem(protocol):
    result = leastsq.least_squares(fun, [1, 1])
    for again in (pickle.loads(pickle.dumps(result, protocol)), copy.copy(result), copy.deepcopy(result), result.copy()):
        assert type(again) is type(result) and again.keys() == result.keys() and not hasattr(again, "problem")
        np.testing.assert_array_equal(again.x, result.x)
    warning = pickle.loads(pickle.dumps(leastsq.OptimizeWarning("text", 3), protocol))
    assert isinstance(warning, scipys.OptimizeWarning) and warning.args == ("text", 3)


READ = """
import pickle, sys
import leastsq
LOAD
result, warning = pickle.loads(bytes.fromhex(sys.argv[1]))
shared = "scipy.optimize" in sys.modules
assert isinstance(result, leastsq.OptimizeResult) and isinstance(warning, leastsq.OptimizeWarning)
assert result.status > 0 and warning.args == ("text",) and shared == bool("LOAD")
if shared:
    import scipy.optimize
    assert isinstance(result, scipy.optimize.OptimizeResult) and isinstance(warning, scipy.optimize.OptimizeWarning)
print(pickle.dumps((result, warning)).hex())
"""


def test_pickles_go_between_processes_with_scipy_and_without():
    data = pickle.dumps((leastsq.least_squares(fun, [1, 1]), leastsq.OptimizeWarning("text"))).hex()
    for load in ("", "import scipy.optimize", ""):
        command = [sys.executable, "-c", READ.replace("LOAD", load), data]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        data = done.stdout.strip()
    result, warning = pickle.loads(bytes.fromhex(data))
    assert isinstance(result, scipys.OptimizeResult) and isinstance(warning, scipys.OptimizeWarning)


def _in_another_process(x0):
    return leastsq.least_squares(fun, x0)


def test_results_come_back_from_a_pool():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (result,) = pool.map(_in_another_process, [[1, 1]])
    assert isinstance(result, scipys.OptimizeResult) and result.success
