"""Quick tests of an installed copy that need only NumPy and pytest.

`tools/wheels.py` and cibuildwheel run this file alone, on every wheel, so it imports nothing from the
other tests.
"""
import importlib.metadata
import inspect
import pickle
import re
import subprocess
import sys
import sysconfig
import threading

import numpy as np
import pytest

import leastsq as package
from leastsq import leastsq

T = np.linspace(0, 4, 50)
TRUTH = np.array([2.5, 1.3, 0.5])
Y = TRUTH[0] * np.exp(-TRUTH[1] * T) + TRUTH[2]
START = [1.0, 1.0, 0.0]


def model(t, a, b, c):
    return a * np.exp(-b * t) + c


def residual(p):
    return model(T, *p) - Y


def jacobian(p):
    e = np.exp(-p[1] * T)
    return np.column_stack([e, -p[0] * T * e, np.ones_like(T)])


def test_the_version_is_that_of_the_distribution():
    assert package.__version__ == importlib.metadata.version("leastsq")


def test_numpy_is_all_that_it_needs():
    needed = [line for line in importlib.metadata.requires("leastsq") if "extra ==" not in line]
    assert {re.match(r"[\w-]+", line)[0] for line in needed} == {"numpy"}


def test_every_public_name_is_there_and_documented():
    for name in package.__all__:
        thing = getattr(package, name)
        if inspect.isroutine(thing) or inspect.isclass(thing):
            assert thing.__doc__, name


def test_completion_shows_public_names_only():
    assert dir(package) == sorted(package.__all__)


def test_importing_it_imports_neither_scipy_nor_matplotlib():
    code = "import sys, leastsq; print(sorted({'scipy', 'matplotlib', 'numba', 'cffi'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python has the GIL")
def test_importing_it_leaves_the_gil_off():
    code = "import sys, leastsq; print(sys._is_gil_enabled())"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("False", "")


@pytest.mark.parametrize("qr", ["minpack", "blocked"])
@pytest.mark.parametrize("dfun", [None, jacobian, "3-point"], ids=["differences", "Dfun", "3-point"])
def test_a_fit_finds_the_parameters(qr, dfun):
    p, cov, info, message, ier = leastsq(residual, START, Dfun=dfun, full_output=True, qr=qr)
    assert ier in (1, 2, 3, 4), message
    assert p == pytest.approx(TRUTH, rel=1e-6)
    assert info["fvec"] == pytest.approx(residual(p), abs=1e-12)
    j = jacobian(p)
    assert cov == pytest.approx(np.linalg.inv(j.T @ j), rel=1e-4)


def test_the_blocked_kernels_agree_with_minpacks_on_a_long_fit():
    rng = np.random.default_rng(1)
    a = rng.standard_normal((20_000, 6))
    y = a @ np.arange(1, 7) + rng.standard_normal(len(a))

    def rows(p):
        return a @ p - y

    fits = [leastsq(rows, np.zeros(6), Dfun=lambda p: a, qr=qr, threads=threads)[0]
            for qr, threads in (("minpack", 1), ("blocked", 1), ("blocked", 2))]
    assert fits[1] == pytest.approx(fits[0], rel=1e-12)
    assert np.array_equal(fits[1], fits[2])
    assert fits[0] == pytest.approx(np.linalg.lstsq(a, y, rcond=None)[0], rel=1e-10)


def test_bounds_hold():
    p, ier = leastsq(residual, [1, 1, 1], bounds=([0, 0, 0.6], [9, 9, 9]))
    assert ier in (1, 2, 3, 4)
    assert p[2] == 0.6


def test_curve_fit_and_least_squares_find_them_too():
    p, cov = package.curve_fit(model, T, Y, START)
    assert p == pytest.approx(TRUTH, rel=1e-6)
    assert cov.shape == (3, 3)
    result = package.least_squares(residual, START, method="lm")
    assert result.success and result.x == pytest.approx(TRUTH, rel=1e-6)


def test_a_batch_gives_the_same_as_single_fits():
    starts = np.array([START, [2.0, 1.0, 0.1], [1.0, 2.0, 0.3]])
    batch = package.leastsq_batch(lambda p: p[:, :1] * np.exp(-p[:, 1:2] * T) + p[:, 2:] - Y, starts)
    for k, start in enumerate(starts):
        assert batch.x[k] == pytest.approx(leastsq(residual, start)[0], rel=1e-9)


def test_uncertainties_are_reported(capsys):
    fit = leastsq(lambda p: residual(p) + 0.01 * np.sin(40 * T), START, full_output=True)
    text = str(package.report(fit, func=lambda p: residual(p) + 0.01 * np.sin(40 * T)))
    assert re.search(r"\d", text)
    package.show_config()
    assert package.__version__ in capsys.readouterr().out


def test_the_users_exception_arrives_unchanged():
    mistake = KeyError("mine")

    def fails(p):
        raise mistake

    with pytest.raises(KeyError) as caught:
        leastsq(fails, START)
    assert caught.value is mistake


def test_improper_input_names_the_argument():
    with pytest.raises((TypeError, ValueError), match="diag"):
        leastsq(residual, START, diag=[1.0])
    with pytest.raises(TypeError, match="func output vector length M=2"):
        leastsq(lambda p: p[:2], START)


def test_fits_run_in_threads_and_within_each_other():
    def nested(p):
        leastsq(residual, START)
        return residual(p)

    alone = leastsq(residual, START)[0]
    results = [None] * 4

    def work(k):
        results[k] = leastsq(nested, START)[0]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(results))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        assert np.array_equal(result, alone)


def test_a_status_survives_pickling_and_the_module_runs_from_a_command_line():
    status = package.Status(1)
    assert pickle.loads(pickle.dumps(status)) is status
    done = subprocess.run([sys.executable, "-m", "leastsq"], capture_output=True, text=True, check=True)
    assert package.__version__ in done.stdout.splitlines()[0]
