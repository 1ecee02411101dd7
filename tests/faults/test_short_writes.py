"""Compiled functions that write less than they should: old contents of memory are never fitted."""
import ctypes as ct

import numpy as np
import pytest
from compiled_problems import SIGNATURE

from leastsq import CFunction, StrictError, leastsq, leastsq_batch

M, N = 5, 2
T = np.arange(M)/M
HONEST, SHORT_F, SHORT_J = 0.0, 1.0, 2.0        # values of a problem's data


def f_of(x):
    return x[0] + x[1]*T - np.cos(T)


def _asked(data, default):
    return default if not data else ct.cast(data, ct.POINTER(ct.c_double))[0]


def functions(default, m=M):
    """func and Dfun; three of m numbers are not written if the data, or else the default, say so."""
    @SIGNATURE
    def func(m, n, x, f, data):
        for i in range(m - 3*(_asked(data, default) == SHORT_F)):
            f[i] = x[0] + x[1]*i/M - np.cos(i/M)
        return 0

    @SIGNATURE
    def dfun(m, n, x, jac, data):
        for k in range(m*n - 3*(_asked(data, default) == SHORT_J)):
            jac[k] = 1.0 if k < m else (k - m)/M
        return 0
    return CFunction(func, m), CFunction(dfun, m)


@pytest.fixture(autouse=True)
def memory_full_of_numbers():
    """Fill freed memory with numbers that a fit would accept."""
    junk = [np.full(size, 7.5) for size in (M, M*N, 4*M, 60, 200) for _ in range(200)]
    del junk


def named(ier, info, message, short):
    return ier == 9 and np.isnan(info["qtf"]).all() and (
        f"func(x)[{M - 3}] is nan" if short == SHORT_F else f"derivative of residual {M - 3} with respect to x[1]") in message


@pytest.mark.parametrize("options", [{}, {"bounds": (-5, 5)}, {"loss": "huber"}, {"qr": "blocked"},
                                     {"qr": "blocked", "threads": 2},
                                     {"qr": "blocked", "bounds": (-5, 5), "loss": "cauchy"}], ids=str)
@pytest.mark.parametrize("short", [SHORT_F, SHORT_J])
def test_what_is_not_written_is_named(short, options):
    func, Dfun = functions(short)
    _, _, info, message, ier = leastsq(func, [3.0, 3.0], Dfun=Dfun, full_output=True, **options)
    assert named(ier, info, message, short)
    if short == SHORT_F:
        _, _, info, message, ier = leastsq(func, [3.0, 3.0], full_output=True, **options)
        assert named(ier, info, message, short)
    # also after a fit whose numbers are still in memory
    good = functions(HONEST)
    for _ in range(3):
        assert leastsq(good[0], [3.0, 3.0], Dfun=good[1], full_output=True, **options)[4] in (1, 2, 3, 4)
        assert leastsq(func, [3.0, 3.0], Dfun=Dfun, full_output=True, **options)[4] == 9


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("short", [SHORT_F, SHORT_J])
@pytest.mark.parametrize("options", [{}, {"bounds": (-5, 5), "loss": "soft_l1"}], ids=str)
def test_each_problem_of_a_batch_starts_from_clean_memory(short, threads, options):
    func, Dfun = functions(HONEST)
    data = np.resize([HONEST, HONEST, short], (30, 1))
    result = leastsq_batch(func, np.full((30, N), 3.0), data, Dfun=Dfun, threads=threads, return_fvec=True, **options)
    bad = data[:, 0] == short
    assert (result.ier[bad] == 9).all() and result.success[~bad].all()
    if short == SHORT_F:
        assert np.isnan(result.fvec[bad, M - 3:]).all() and np.isfinite(result.fvec[bad, :M - 3]).all()
        assert (leastsq_batch(func, np.full((30, N), 3.0), data, threads=threads).ier[bad] == 9).all()


def test_strict_finds_a_function_that_writes_less_later():
    calls = []

    @SIGNATURE
    def later(m, n, x, f, data):
        calls.append(1)
        for i in range(m - 3*(len(calls) > 1)):
            f[i] = x[0] + x[1]*i/M - np.cos(i/M)
        return 0
    with pytest.raises(StrictError, match="different residuals for the same x"):
        leastsq(CFunction(later, M), [3.0, 3.0], strict=True)


@pytest.mark.parametrize("compiled", ["func", "Dfun", "both"])
def test_strict_takes_compiled_functions(compiled):
    func, Dfun = functions(HONEST)
    want = leastsq(func, [3.0, 3.0], Dfun=Dfun, full_output=True)
    given = {"Dfun": Dfun if compiled != "func" else lambda x: np.stack([np.ones(M), T], axis=1)}
    func = func if compiled != "Dfun" else f_of
    got = leastsq(func, [3.0, 3.0], full_output=True, strict=True, col_deriv=compiled == "both", **given)
    np.testing.assert_array_equal(got[0], want[0])
    assert got[4] == want[4] and got[2]["nfev"] == want[2]["nfev"]
    with pytest.raises(TypeError, match="args must be empty with a CFunction"):
        leastsq(func, [3.0, 3.0], args=(1,), strict=True, **given)


def test_strict_finds_the_missing_numbers_and_the_wrong_ones():
    for short, said in ((SHORT_F, r"func\(x0?\)\[2\] = nan"), (SHORT_J, "not finite|nan")):
        func, Dfun = functions(short)
        with pytest.raises((StrictError, ValueError), match=said):
            leastsq(func, [3.0, 3.0], Dfun=Dfun, strict=True)

    @SIGNATURE
    def flipped(m, n, x, jac, data):
        for k in range(m*n):
            jac[k] = -1.0 if k < m else (k - m)/M
        return 0
    with pytest.raises(StrictError, match="sign"):
        leastsq(functions(HONEST)[0], [3.0, 3.0], Dfun=CFunction(flipped, M), strict=True)
