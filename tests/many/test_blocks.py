"""leastsq_blocks gives the answers of leastsq, however the data are divided and whichever map evaluates them."""
import functools
from pathlib import Path

import numpy as np
import pytest

import strd
from block_problems import by_columns, cut, cut_at, jacobian, residual, start
from leastsq import Status, leastsq, leastsq_blocks
from leastsq._many.block_fit import BlockTask, Point, merge_models, merge_norms
from leastsq._problem.derivatives import Differences
from test_blocked import (ELSEWHERE, FALSE_END, TWO_MINIMA, WITHOUT_END, assert_minpack_hangs_on_roundings,
                          assert_same_end, minima, minpack)
from test_nist import FITS, digits, fit_id
from test_parity import RUNS

FAR_OUT = "the model underflows at the start: rounding decides between its minimum and a flat region"
HERE = Path(__file__).resolve().parent


@pytest.fixture(autouse=True)
def quiet():
    """Trial points far out make the problems overflow."""
    with np.errstate(all="ignore"):
        yield


def in_blocks(func, x0, blocks, **options):
    return leastsq_blocks(func, x0, blocks, full_output=True, **options)


# --------------------------------------------------- the collections, in blocks

def ways_to_cut(m):
    """Slices of range(m): single rows, all rows in one, uneven ones, and empty ones."""
    third = m // 3
    return {"rows": [slice(i, i + 1) for i in range(m)],
            "one": [slice(0, m)],
            "threes": [slice(i, i + 3) for i in range(0, m, 3)],
            "uneven": [slice(0, 0), slice(0, 1), slice(1, 1), slice(1, third + 1), slice(third + 1, m),
                       slice(m, m)]}


CUTS = ["uneven", *(pytest.param(way, marks=pytest.mark.slow) for way in ways_to_cut(9) if way != "uneven")]
# In addition to those of test_blocked.py: the minpack path too ends elsewhere if the last bit of x0
# changes and the residuals come in another order.
ALSO_ELSEWHERE = {("watson-12-31-x10", "lmdif"): FALSE_END, ("gaussian-3-15-x100", "lmder"): FAR_OUT}


def whole(p, rows):
    """func and Dfun for slices of the residuals."""
    return (lambda x, rows: p.residual(x)[rows]), (lambda x, rows: p.jacobian(x)[rows])


@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("method", ["lmdif", "lmder"])
@pytest.mark.parametrize("run", RUNS)
def test_classic_problems_end_in_the_same_minimum(run, method, cuts):
    p, factor = RUNS[run]
    func, Dfun = whole(p, None)
    options = {"Dfun": Dfun} if method == "lmder" else {}
    want = minpack(p.residual, p.start(factor), **{"Dfun": p.jacobian} if options else {})
    x, _, info, _, ier = in_blocks(func, p.start(factor), ways_to_cut(p.m)[cuts], **options)
    norm, want_norm = np.linalg.norm(p.residual(x)), np.linalg.norm(want[2]["fvec"])
    assert info["fnorm"] == pytest.approx(norm, rel=1e-14)
    assert ier in range(1, 9)
    why = (ELSEWHERE | ALSO_ELSEWHERE).get((run, method))
    if why == WITHOUT_END:
        assert 5 in (ier, want[4]) and norm == pytest.approx(want_norm, rel=0.5)
    elif why == TWO_MINIMA:
        assert norm in minima(p) and want_norm in minima(p)
    elif why == FALSE_END:
        assert ier in (1, 2, 3) and norm < 0.5
    elif why == FAR_OUT:
        assert norm == pytest.approx(want_norm, rel=1e-7, abs=1e-8) or 0.5 < norm < 0.7
    else:
        assert_same_end(norm, want_norm, run, method)


@pytest.mark.parametrize("run, method", ALSO_ELSEWHERE)
def test_where_the_paths_differ_minpacks_own_end_depends_on_rounding(run, method):
    assert_minpack_hangs_on_roundings(run, method)


@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("fit", FITS, ids=fit_id)
def test_nist_problems_keep_their_digits(fit, cuts):
    """At least the digits that SciPy keeps when the model's last bits change at random."""
    data = strd.load(fit["data set"])
    func, Dfun = whole(data, None)
    x0 = data.starts[fit["start"] - 1]
    options = {"Dfun": Dfun} if fit["jacobian"] else {}
    got = digits(in_blocks(func, x0, ways_to_cut(data.m)[cuts], **options)[0], data)
    assert got >= fit["digits under noise"]


# ------------------------------------------- large and well-conditioned: 1e-10

M, N = 5000, 7


@functools.cache
def large():
    """The data, and leastsq's fits to them, by differences and with Dfun."""
    (data,) = (rows.load() for rows in cut(M, N, M))
    return data, {method: leastsq(residual, start(N), args=(data,), full_output=True, **options)
                  for method, options in (("lmdif", {}), ("lmder", {"Dfun": jacobian}))}


def pieces(size):
    a, b = large()[0]
    return [(a[i:i + size], b[i:i + size]) for i in range(0, M, size)]


METHODS = {"lmdif": {}, "lmder": {"Dfun": jacobian}, "col_deriv": {"Dfun": by_columns, "col_deriv": True}}


def assert_same_fit(got, want, rtol=1e-10):
    np.testing.assert_allclose(got[0], want[0], rtol=rtol)
    assert (got[4], got[3], got[2]["nfev"]) == (want[4], want[3], want[2]["nfev"])
    assert got[2].get("njev") == want[2].get("njev")


@pytest.mark.parametrize("size", [pytest.param(1, marks=pytest.mark.slow), 7, 64, 999, 2500, M])
@pytest.mark.parametrize("method", METHODS)
def test_large_fits_agree_with_fits_in_memory(method, size):
    want = large()[1]["lmdif" if method == "lmdif" else "lmder"]
    got = in_blocks(residual, start(N), pieces(size), **METHODS[method])
    assert_same_fit(got, want)
    assert got[2]["fnorm"] == pytest.approx(np.linalg.norm(want[2]["fvec"]), rel=1e-13)
    np.testing.assert_allclose(got[1], want[1], rtol=1e-6, atol=1e-6 * np.abs(want[1]).max())
    np.testing.assert_array_equal(got[2]["ipvt"], want[2]["ipvt"])
    np.testing.assert_allclose(np.abs(got[2]["qtf"]), np.abs(want[2]["qtf"]), rtol=1e-4, atol=1e-6)
    assert list(got[2]) == [key for key in ("fnorm", "nfev", "njev", "ipvt", "qtf")
                            if key != "njev" or method != "lmdif"]


@pytest.mark.parametrize("seed", range(20))
def test_blocks_may_be_merged_in_any_order(seed):
    rng = np.random.default_rng(seed)
    places = sorted(rng.integers(0, M + 1, rng.integers(1, 40)))
    blocks = [(a, b) for a, b in (rows.load() for rows in cut_at(M, N, places))]

    def disordered(function, blocks):
        results = [function(block) for block in blocks]
        rng.shuffle(results)
        return results

    assert_same_fit(in_blocks(residual, start(N), blocks, map=disordered), large()[1]["lmdif"])


@pytest.mark.parametrize("seed", range(5))
def test_any_tree_of_merges_gives_the_model_of_the_same_rows(seed):
    rng = np.random.default_rng(seed)
    problem = BlockTask(residual, Dfun=jacobian)
    point = Point(start(N) + rng.random(N), Differences(), 0.0, True)
    parts = [problem.model(point, k, block) for k, block in enumerate(pieces(100))]
    norms = [problem.norm(point.x, k, block) for k, block in enumerate(pieces(100))]
    whole = problem.model(point, 0, large()[0])
    while len(parts) > 1:
        few = rng.integers(2, 6)
        chosen = sorted(rng.choice(len(parts), min(few, len(parts)), replace=False))
        parts.append(merge_models([parts[k] for k in chosen]))
        norms.append(merge_norms([norms[k] for k in chosen]))
        for k in reversed(chosen):
            del parts[k], norms[k]
    (got,), (norm,) = parts, norms
    assert got.rows == norm.rows == M and got.fault is norm.fault is None
    t, want = got.accumulator.triangle(), whole.accumulator.triangle()
    np.testing.assert_allclose(np.abs(t), np.abs(want), rtol=1e-10, atol=1e-10)
    assert norm.norm == pytest.approx(np.linalg.norm(residual(point.x, large()[0])), rel=1e-14)


def test_merging_does_not_change_the_parts():
    problem = BlockTask(residual, Dfun=jacobian)
    parts = [problem.model(Point(start(N), Differences(), 0.0, True), k, b) for k, b in enumerate(pieces(1000))]
    before = [part.accumulator.triangle() for part in parts]
    once, twice = (merge_models(parts).accumulator.triangle() for _ in range(2))
    np.testing.assert_array_equal(once, twice)
    for part, triangle in zip(parts, before):
        np.testing.assert_array_equal(part.accumulator.triangle(), triangle)


@pytest.mark.parametrize("scale", [1e-200, 1e-160, 1e160, 1e200])
def test_norms_neither_overflow_nor_underflow(scale):
    f = np.arange(1.0, 9)
    problem = BlockTask(lambda x, block: scale * f[block])
    parts = [problem.norm(np.ones(1), k, slice(k, k + 3)) for k in (0, 3, 6)]
    assert merge_norms(parts).norm == pytest.approx(scale * np.linalg.norm(f), rel=1e-14)


# ------------------------------------------------------------- the options

T = np.linspace(0, 4, 3000)
Y = 2.5 * np.exp(-1.3 * T) + 0.5 + 0.02 * np.sin(40 * T ** 2)
Y[::97] += 3


def decay(p, rows=slice(None)):
    return p[0] * np.exp(-p[1] * T[rows]) + p[2] - Y[rows]


def decay_jacobian(p, rows=slice(None)):
    e = np.exp(-p[1] * T[rows])
    return np.stack([e, -p[0] * T[rows] * e, np.ones_like(e)], axis=1)


def soft_l1(z):
    return np.array([2 * (np.sqrt(1 + z) - 1), (1 + z) ** -.5, -.5 * (1 + z) ** -1.5])


ROWS = [slice(0, 1000), slice(1000, 1000), slice(1000, 1001), slice(1001, 3000)]
OPTIONS = {
    "plain": {},
    **{str(loss): {"loss": loss, "f_scale": 0.05} for loss in ("soft_l1", "huber", "cauchy", "arctan")},
    "callable": {"loss": soft_l1, "f_scale": 0.05},
    "bounds": {"bounds": ([0, 0, 0], [2.2, 10, 0.8])},
    "at x0": {"bounds": ([0, 0, 0], [2, 1, 0.4])},
    "fixed": {"bounds": ([-np.inf, -np.inf, 0.4], [np.inf, np.inf, 0.4])},
    "no bounds": {"bounds": (-np.inf, np.inf)},
    "both": {"bounds": ([0, 0, 0], [2.2, 10, 0.8]), "loss": "cauchy", "f_scale": 0.05},
    "epsfcn": {"epsfcn": 1e-10}, "diag": {"diag": [1, 2, 3]}, "factor": {"factor": 0.3},
    "maxfev": {"maxfev": 6}, "gtol": {"gtol": 0.01}, "ftol": {"ftol": 0.0, "xtol": 1e-3},
}


@pytest.mark.parametrize("Dfun", ["2-point", "3-point", "cs", "given"])
@pytest.mark.parametrize("name", OPTIONS)
def test_options_mean_what_they_mean_in_leastsq(name, Dfun):
    options = dict(OPTIONS[name], Dfun={"given": decay_jacobian, "2-point": None}.get(Dfun, Dfun))
    want = leastsq(decay, [2, 1, .4], full_output=True, history=True, **options)
    got = in_blocks(decay, [2, 1, .4], ROWS, history=True, **options)
    assert_same_fit(got, want, rtol=1e-7 if Dfun == "2-point" else 1e-9)
    assert (got[1] is None) == (want[1] is None)
    if want[1] is not None:
        np.testing.assert_allclose(got[1], want[1], rtol=1e-5)
    assert ("active_mask" in got[2]) == ("bounds" in options)
    if "bounds" in options:
        np.testing.assert_array_equal(got[2]["active_mask"], want[2]["active_mask"])
    for key, values in want[2]["history"].items():
        np.testing.assert_allclose(got[2]["history"][key], values, rtol=1e-2, atol=1e-5, err_msg=key)


def test_callback_sees_each_iteration_and_may_end_it():
    def states(fit, *args, **options):
        seen = []

        def callback(state):
            seen.append(state)
            return len(seen) == 3
        return seen, fit(*args, full_output=True, callback=callback, **options)
    want, in_memory = states(leastsq, decay, [2, 1, .4])
    got, out = states(leastsq_blocks, decay, [2, 1, .4], ROWS)
    assert len(got) == len(want) == 3 and out[4] == in_memory[4] == Status.WATCHER
    assert out[3] == in_memory[3]
    for one, other in zip(got, want):
        np.testing.assert_allclose(one.x, other.x, rtol=1e-8)
        assert one.fnorm == pytest.approx(other.fnorm, rel=1e-8)
        assert one.gnorm == pytest.approx(other.gnorm, rel=1e-3)
        assert (one.nfev, one.njev, one.iteration) == (other.nfev, other.njev, other.iteration)


def test_verbose_prints_as_leastsq_does(capsys):
    leastsq(decay, [2, 1, .4], Dfun=decay_jacobian, verbose=2)
    want = capsys.readouterr().out.splitlines()
    leastsq_blocks(decay, [2, 1, .4], ROWS, Dfun=decay_jacobian, verbose=2)
    got = capsys.readouterr().out.splitlines()
    assert len(got) == len(want) and got[:3] == want[:3]


def test_bounds_are_kept_in_every_block():
    seen = []

    def func(x, rows):
        seen.append(x)
        return decay(x, rows)
    in_blocks(func, [2, 1, .4], ROWS, bounds=([1.9, 0.5, 0.3], [2.2, 1.0, 0.4]))
    assert (np.min(seen, axis=0) >= [1.9, 0.5, 0.3]).all()
    assert (np.max(seen, axis=0) <= [2.2, 1.0, 0.4]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_difference_steps_suit_the_precision_of_func(dtype):
    def func(x, rows=slice(None)):
        return np.asarray(decay(x, rows), dtype)
    want = leastsq(func, [2, 1, .4], full_output=True, history=True)
    got = in_blocks(func, [2, 1, .4], ROWS, history=True)
    np.testing.assert_allclose(got[2]["history"]["x"][1], want[2]["history"]["x"][1], rtol=1e-4)


def test_what_func_may_return():
    blocks = [1, 2, 4]
    for make in (float, np.float64, lambda v: [v], lambda v: (v,), np.float32):
        x, ier = leastsq_blocks(lambda x, b: make(b * x[0] - 3.0 * b), 1, blocks)
        assert ier in (1, 2, 3, 4) and x == pytest.approx([3.0], rel=1e-6)


def test_func_may_fill_one_buffer_and_write_into_x():
    buffer = np.empty(3000)

    def func(x, rows):
        out = buffer[:len(T[rows])]
        out[:] = decay(x, rows)
        x[:] = np.nan
        return out
    assert_same_fit(in_blocks(func, [2, 1, .4], ROWS), in_blocks(decay, [2, 1, .4], ROWS), rtol=0)


def test_args_follow_the_block():
    def func(x, rows, shift, *, scale=1.0):
        return decay(x, rows) + shift
    (x, ier), (y, _) = (leastsq_blocks(func, [2, 1, .4], ROWS, args) for args in ((0.5,), 0.5))
    want = leastsq(lambda x: decay(x) + 0.5, [2, 1, .4])
    np.testing.assert_allclose(x, want[0], rtol=1e-6)
    np.testing.assert_array_equal(x, y)


def test_evaluations_are_counted_once_for_all_blocks():
    calls = []

    def func(x, rows):
        calls.append(rows.start)
        return decay(x, rows)
    _, _, info, _, _ = in_blocks(func, [2, 1, .4], ROWS, Dfun=decay_jacobian)
    for rows in (ROWS[0], ROWS[3]):
        assert calls.count(rows.start) == info["nfev"] + info["njev"]


def test_failure_without_full_output_warns():
    with pytest.warns(RuntimeWarning, match="maxfev = 3") as caught:
        x, ier = leastsq_blocks(decay, [2, 1, .4], ROWS, maxfev=3)
    assert ier == 5 and caught[0].filename == __file__
