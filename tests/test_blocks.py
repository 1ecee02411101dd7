"""leastsq_blocks: the answers of leastsq, however the data are cut and whoever evaluates."""
import concurrent.futures
import functools
import multiprocessing
import os
import pickle
import subprocess
import sys
import weakref
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest

import block_problems as blocks_of
import enzyme
import strd
from block_problems import by_columns, cut, cut_at, jacobian, residual, start
from leastsq import RowAccumulator, Status, leastsq, leastsq_blocks
from leastsq._block_fit import Norm, Point, Problem, merge_models, merge_norms
from test_blocked import ELSEWHERE, FALSE_END, TWO_MINIMA, WITHOUT_END, minima, minpack
from test_nist import FITS, digits, fit_id
from test_parity import RUNS

FAR_OUT = "the model underflows at the start: roundings choose between its minimum and a flat end"
HERE = Path(__file__).resolve().parent
EPS = np.finfo(float).eps


@pytest.fixture(autouse=True)
def quiet():
    """Trial points far out make the problems overflow."""
    with np.errstate(all="ignore"):
        yield


def in_blocks(func, x0, blocks, **options):
    return leastsq_blocks(func, x0, blocks, full_output=True, **options)


# --------------------------------------------------- the collections, in pieces

def ways_to_cut(m):
    """Slices of range(m): single rows, all in one, uneven and with none."""
    third = m // 3
    return {"rows": [slice(i, i + 1) for i in range(m)],
            "one": [slice(0, m)],
            "threes": [slice(i, i + 3) for i in range(0, m, 3)],
            "uneven": [slice(0, 0), slice(0, 1), slice(1, 1), slice(1, third + 1), slice(third + 1, m),
                       slice(m, m)]}


CUTS = list(ways_to_cut(9))
# Besides those of test_blocked.py: MINPACK's own path ends elsewhere too if x0 moves by its
# last bit and the residuals stand in another order.
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
        assert norm == pytest.approx(want_norm, rel=1e-7, abs=1e-8)


@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("fit", FITS, ids=fit_id)
def test_nist_problems_keep_their_digits(fit, cuts):
    """SciPy's, as they are when the model's last bits move at random."""
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
    """The data, and what leastsq makes of them, by differences and with Dfun."""
    (data,) = (rows.load() for rows in cut(M, N, M))
    return data, {method: leastsq(residual, start(N), args=(data,), full_output=True, **options)
                  for method, options in (("lmdif", {}), ("lmder", {"Dfun": jacobian}))}


def pieces(size):
    a, b = large()[0]
    return [(a[i:i + size], b[i:i + size]) for i in range(0, M, size)]


DOORS = {"lmdif": {}, "lmder": {"Dfun": jacobian}, "col_deriv": {"Dfun": by_columns, "col_deriv": True}}


def assert_same_fit(got, want, rtol=1e-10):
    np.testing.assert_allclose(got[0], want[0], rtol=rtol)
    assert (got[4], got[3], got[2]["nfev"]) == (want[4], want[3], want[2]["nfev"])
    assert got[2].get("njev") == want[2].get("njev")


@pytest.mark.parametrize("size", [1, 7, 64, 999, 2500, M])
@pytest.mark.parametrize("door", DOORS)
def test_large_fits_agree_with_memory(door, size):
    want = large()[1]["lmdif" if door == "lmdif" else "lmder"]
    got = in_blocks(residual, start(N), pieces(size), **DOORS[door])
    assert_same_fit(got, want)
    assert got[2]["fnorm"] == pytest.approx(np.linalg.norm(want[2]["fvec"]), rel=1e-13)
    np.testing.assert_allclose(got[1], want[1], rtol=1e-6, atol=1e-6 * np.abs(want[1]).max())
    np.testing.assert_array_equal(got[2]["ipvt"], want[2]["ipvt"])
    np.testing.assert_allclose(np.abs(got[2]["qtf"]), np.abs(want[2]["qtf"]), rtol=1e-4, atol=1e-6)
    assert list(got[2]) == [key for key in ("fnorm", "nfev", "njev", "ipvt", "qtf")
                            if key != "njev" or door != "lmdif"]


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
def test_any_tree_of_merges_is_a_model_of_the_same_rows(seed):
    rng = np.random.default_rng(seed)
    problem = Problem(residual, jacobian, (), False, None, None, None, 1.0)
    point = Point(start(N) + rng.random(N), 0.0, 0.0, True)
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


def test_merging_leaves_the_parts_as_they_are():
    problem = Problem(residual, jacobian, (), False, None, None, None, 1.0)
    parts = [problem.model(Point(start(N), 0.0, 0.0, True), k, b) for k, b in enumerate(pieces(1000))]
    before = [part.accumulator.triangle() for part in parts]
    once, twice = (merge_models(parts).accumulator.triangle() for _ in range(2))
    np.testing.assert_array_equal(once, twice)
    for part, triangle in zip(parts, before):
        np.testing.assert_array_equal(part.accumulator.triangle(), triangle)


@pytest.mark.parametrize("scale", [1e-200, 1e-160, 1e160, 1e200])
def test_norms_neither_overflow_nor_underflow(scale):
    f = np.arange(1.0, 9)
    problem = Problem(lambda x, block: scale * f[block], "2-point", (), False, None, None, None, 1.0)
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
def test_steps_fit_the_precision_of_func(dtype):
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


# ---------------------------------------------------------------------- maps

SPAWN = multiprocessing.get_context("spawn")
SHAPE = 600, 4
WORK = cut(*SHAPE, 100)


@functools.cache
def by_builtin():
    return in_blocks(residual, start(4), WORK, loss="huber")


def assert_same_bits(got):
    want = by_builtin()
    np.testing.assert_array_equal(got[0], want[0])
    np.testing.assert_array_equal(got[1], want[1])
    np.testing.assert_array_equal(got[2]["qtf"], want[2]["qtf"])
    assert (got[2]["nfev"], got[2]["fnorm"], got[3:]) == (want[2]["nfev"], want[2]["fnorm"], want[3:])


def test_threads_make_the_bits_of_the_builtin_map():
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert_same_bits(in_blocks(residual, start(4), WORK, loss="huber", map=pool.map))


def test_processes_make_the_bits_of_the_builtin_map():
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=SPAWN) as pool:
        assert_same_bits(in_blocks(residual, start(4), WORK, loss="huber", map=pool.map))
        with pytest.raises(blocks_of.Refused) as caught:
            leastsq_blocks(blocks_of.raises, start(4), WORK, map=pool.map)
    assert caught.value.args == ("bad luck", 100)
    assert caught.value.__notes__ == ["leastsq_blocks: in block 1"]


@pytest.mark.parametrize("method", ["map", "imap"])
def test_a_pool_of_multiprocessing_makes_the_bits_of_the_builtin_map(method):
    with SPAWN.Pool(2) as pool:
        assert_same_bits(in_blocks(residual, start(4), WORK, loss="huber", map=getattr(pool, method)))


def test_a_pool_may_return_blocks_out_of_order():
    with SPAWN.Pool(2) as pool:
        got = in_blocks(residual, start(4), WORK, loss="huber", map=pool.imap_unordered)
    # Each time another order of the sums: forward differences carry roundings of 1e-8, and where
    # the iteration stops within xtol = 1.5e-8 is a matter of chance.
    np.testing.assert_allclose(got[0], by_builtin()[0], rtol=1e-8)
    assert got[4] in (1, 2, 3)


@pytest.mark.slow
def test_mpi_makes_the_bits_of_the_builtin_map(need_program):
    pytest.importorskip("mpi4py")
    mpiexec = need_program("mpiexec")
    done = subprocess.run(
        [mpiexec, "--oversubscribe", "-n", "2", sys.executable, "-m", "mpi4py.futures",
         str(HERE / "block_problems.py")], capture_output=True, text=True, timeout=120,
        env=os.environ | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["100 ['leastsq_blocks: in block 1']", "same bits"]


def test_a_killed_worker_is_an_error():
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=SPAWN) as pool, \
            pytest.raises(BrokenProcessPool):
        leastsq_blocks(blocks_of.dies, start(4), WORK, map=pool.map)


def test_a_map_that_loses_blocks_is_found_out():
    with pytest.raises(ValueError, match="map must return a result for each of the 4 blocks, got 3"):
        leastsq_blocks(decay, [2, 1, .4], ROWS, map=lambda f, blocks: list(map(f, blocks))[1:])


# -------------------------------------------------------------------- memory

class Live:
    """Blocks that know how many of them there are."""

    def __init__(self):
        self.alive, self.most = weakref.WeakSet(), 0

    def __iter__(self):
        for rows in ROWS:
            block = Block(rows)
            self.alive.add(block)
            self.most = max(self.most, len(self.alive))
            yield block
            del block


class Block:
    def __init__(self, rows):
        self.rows = rows


@pytest.mark.parametrize("Dfun", [None, "given"])
def test_one_block_is_in_memory_at_a_time(Dfun):
    blocks = Live()
    Dfun = Dfun and (lambda x, block: decay_jacobian(x, block.rows))
    x, ier = leastsq_blocks(lambda x, block: decay(x, block.rows), [2, 1, .4], blocks, Dfun=Dfun)
    assert ier in (1, 2, 3, 4) and blocks.most == 1 and len(blocks.alive) == 0


@pytest.mark.parametrize("n", [1, 7, 30])
@pytest.mark.parametrize("Dfun", ["2-point", jacobian])
def test_only_triangles_travel(Dfun, n):
    problem = Problem(residual, Dfun, (), False, None, None, None, 1.0)
    sizes = []
    for m in (n, 100, 20000):
        (block,) = (rows.load() for rows in cut(m, n, m))
        part = problem.model(Point(start(n), 0.0, 0.0, True), 0, block)
        assert part.rows == m
        sizes.append((len(pickle.dumps(part)), len(pickle.dumps(problem.norm(start(n), 0, block)))))
    models, norms = np.array(sizes).T
    assert max(models) <= 8 * (n + 1) * (n + 2) / 2 + 1000 and np.ptp(models) < 16
    assert max(norms) < 400 and np.ptp(norms) < 16


# -------------------------------------------------------- bad input and faults

ENZYME = [slice(0, 5), slice(5, 6), slice(6, 12)]


def enzyme_residual(x, rows):
    return enzyme.residual(x, enzyme.T[rows], enzyme.Y[rows])


def enzyme_jacobian(x, rows):
    return enzyme.jacobian(x, enzyme.T[rows], enzyme.Y[rows])


def refuses(error, match, *, func=enzyme_residual, x0=enzyme.X0, blocks=ENZYME, **options):
    with pytest.raises(error, match=match) as caught:
        leastsq_blocks(func, x0, blocks, **options)
    return caught.value


def never(x, block):
    raise AssertionError("called")


@pytest.mark.parametrize("blocks, error, match", [
    ((slice(0, 12) for _ in range(1)), TypeError, "iterable more than once, got the iterator generator"),
    (iter(ENZYME), TypeError, "iterable more than once, got the iterator list_iterator"),
    (map(slice, ENZYME), TypeError, "iterable more than once, got the iterator map"),
    ([], ValueError, "at least one block, got none"),
    (np.zeros((0, 3)), ValueError, "at least one block, got none"),
    ("data.f64", TypeError, r"one file name is \[name\]"),
    (b"data.f64", TypeError, r"one file name is \[name\]"),
    (None, TypeError, "NoneType"), (3, TypeError, "int"),
])
def test_blocks_that_are_none(blocks, error, match):
    refuses(error, match, func=never, blocks=blocks)


@pytest.mark.parametrize("options, error, match", [
    (dict(func=3), TypeError, "func must be callable, got int"),
    (dict(Dfun=3), TypeError, "Dfun must be callable"),
    (dict(Dfun="4-point"), TypeError, "Dfun must be callable"),
    (dict(map=3), TypeError, "map must be callable, got int"),
    (dict(full_output=None), TypeError, "full_output must be an integer"),
    (dict(col_deriv="no"), TypeError, "col_deriv must be an integer"),
    (dict(history=True), ValueError, "history=True needs full_output=True"),
    (dict(ftol=-1.0), TypeError, "ftol must be zero or positive"),
    (dict(xtol=None), TypeError, "xtol must be a real number"),
    (dict(factor=0), TypeError, "factor must be positive"),
    (dict(epsfcn=np.nan), TypeError, "epsfcn must be a number or None, got nan"),
    (dict(epsfcn="a"), TypeError, "epsfcn must be a real number"),
    (dict(maxfev=1.5), TypeError, "integer"),
    (dict(diag=[1]), ValueError, "diag"), (dict(diag=[1, 0]), TypeError, "diag"),
    (dict(bounds=(3, 4)), ValueError, "infeasible"), (dict(bounds=3), ValueError, "bounds"),
    (dict(loss="l2"), ValueError, "loss"), (dict(f_scale=0), ValueError, "f_scale"),
    (dict(callback=3), TypeError, "callback"), (dict(verbose=9), ValueError, "verbose"),
    (dict(x0=[1j, 2]), TypeError, "x0"), (dict(x0=[]), TypeError, "x0"), (dict(x0="ab"), TypeError, "x0"),
])
def test_arguments_out_of_range_are_refused_before_func_is_called(options, error, match):
    refuses(error, match, **{"func": never} | options)


def test_more_parameters_than_residuals():
    with pytest.raises(TypeError, match="Improper input: func input vector length N=3 must not exceed "
                                        "func output vector length M=2"):
        leastsq_blocks(lambda x, rows: x[:1], [1, 2, 3], [0, 1])


class Changed:
    """enzyme's function, but that call number k for the block is changed."""

    def __init__(self, function, change, k=0, block=1):
        self.function, self.change, self.k, self.block, self.calls = function, change, k, ENZYME[block], 0

    def __call__(self, x, rows):
        value = self.function(x, rows)
        if rows != self.block:
            return value
        self.calls += 1
        return self.change(value) if self.calls == self.k + 1 else value


BAD_RESIDUALS = {
    "2-D": (lambda f: f[:, None], ValueError, r"func returns must be 0-d or 1-D, got shape \(1, 1\)"),
    "complex": (lambda f: f + 1j, TypeError, "func returns must be real numbers"),
    "text": (lambda f: "no", TypeError, "func returns must be real numbers"),
    "None": (lambda f: None, TypeError, "func returns must be real numbers"),
    "ragged": (lambda f: [[1], [1, 2]], ValueError, None),
}


@pytest.mark.parametrize("k", [0, 3])
@pytest.mark.parametrize("bad", BAD_RESIDUALS)
def test_residuals_that_are_none_name_the_block(bad, k):
    change, error, match = BAD_RESIDUALS[bad]
    caught = refuses(error, match, func=Changed(enzyme_residual, change, k), Dfun=enzyme_jacobian)
    assert caught.__notes__ == ["leastsq_blocks: in block 1"]


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("change", [lambda f: f[:0], lambda f: np.ones(2)])
def test_a_block_that_changes_size(change, k):
    caught = refuses(ValueError, None, func=Changed(enzyme_residual, change, k), Dfun=None)
    assert "block 1" in str(caught) + str(getattr(caught, "__notes__", ""))
    assert "before" in str(caught) or "changed size between calls" in str(caught)


@pytest.mark.parametrize("shape", [(1, 3), (2, 2), (1,), (0, 2), (1, 1, 1)])
def test_a_jacobian_of_another_shape_names_the_block(shape):
    caught = refuses(ValueError, r"must have shape \(1, 2\) for the 1 residuals of this block, got ",
                     Dfun=Changed(enzyme_jacobian, lambda J: np.ones(shape)))
    assert str(shape) in str(caught) and caught.__notes__ == ["leastsq_blocks: in block 1"]


def test_a_transposed_jacobian_is_refused():
    refuses(ValueError, r"must have shape \(5, 2\) .* got \(2, 5\)",
            Dfun=lambda x, rows: enzyme_jacobian(x, rows).T)
    refuses(ValueError, r"must have shape \(2, 5\) .* got \(5, 2\)", Dfun=enzyme_jacobian, col_deriv=True)


def test_a_jacobian_of_one_row_may_be_a_vector():
    blocks = [slice(i, i + 1) for i in range(12)]
    want = leastsq_blocks(enzyme_residual, enzyme.X0, blocks, Dfun=enzyme_jacobian)
    got = leastsq_blocks(enzyme_residual, enzyme.X0, blocks,
                         Dfun=lambda x, rows: enzyme_jacobian(x, rows).ravel())
    np.testing.assert_array_equal(got[0], want[0])


class Mine(BaseException):
    pass


@pytest.mark.parametrize("which", ["func", "Dfun"])
@pytest.mark.parametrize("error", [ZeroDivisionError("x"), KeyboardInterrupt(), SystemExit(3), Mine(1, 2)],
                         ids=lambda error: type(error).__name__)
def test_an_exception_arrives_as_it_is_from_any_call(error, which):
    functions = {"func": enzyme_residual, "Dfun": enzyme_jacobian}

    def throw(value):
        raise error
    k = 0
    while True:
        faulty = Changed(functions[which], throw, k)
        error.__notes__ = []
        try:
            leastsq_blocks(**functions | {which: faulty}, x0=enzyme.X0, blocks=ENZYME)
        except BaseException as caught:
            assert caught is error and caught.__notes__ == ["leastsq_blocks: in block 1"]
        else:
            assert faulty.calls == k > 3
            return
        k += 1


def test_stop_iteration_ends_no_map_in_silence():
    def throw(value):
        raise StopIteration
    caught = refuses(RuntimeError, "StopIteration was raised in block 1",
                     func=Changed(enzyme_residual, throw, 3))
    assert type(caught.__cause__) is StopIteration


def test_an_exception_of_the_blocks_arrives_as_it_is():
    error = OSError("gone")

    class Gone:
        times = 0

        def __iter__(self):
            self.times += 1
            yield from ENZYME[:2]
            if self.times == 3:
                raise error
            yield ENZYME[2]
    assert refuses(OSError, "gone", blocks=Gone()) is error


def test_blocks_that_become_fewer_or_more():
    class Fickle:
        def __init__(self, *counts):
            self.counts = list(counts)

        def __iter__(self):
            return iter(ENZYME[:self.counts.pop(0)])
    refuses(ValueError, "the same in each iteration, got 3 blocks, then 2", blocks=Fickle(3, 2))
    refuses(ValueError, "for block 2 it had no elements, now 6", blocks=Fickle(2, 3))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_residuals_at_x0_that_are_not_finite(value):
    def func(x, rows):
        f = enzyme_residual(x, rows)
        if rows.start == 6:
            f[[2, 4]] = value
        return f
    x, cov, info, mesg, ier = in_blocks(func, enzyme.X0, ENZYME)
    assert ier == Status.NOT_FINITE and cov is None and info["nfev"] == 1
    assert mesg.startswith(f"Residuals are not finite at x0: func(x)[2] in block 2 is {value} at x = [1. 1.]")
    with pytest.warns(RuntimeWarning, match="in block 2"):
        leastsq_blocks(func, enzyme.X0, ENZYME)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_jacobian_that_is_not_finite(value):
    def Dfun(x, rows):
        J = enzyme_jacobian(x, rows)
        if rows.start >= 5:
            J[-1, 1] = value
        return J
    x, cov, info, mesg, ier = in_blocks(enzyme_residual, enzyme.X0, ENZYME, Dfun=Dfun)
    assert ier == Status.NOT_FINITE and cov is None and info["njev"] == 1
    assert (f"the derivative of residual 0 with respect to x[1] (row 0, column 1) in block 1 is {value} at "
            "x = [1. 1.]") in mesg


def test_a_difference_that_is_not_finite():
    def func(x, rows):
        f = enzyme_residual(x, rows)
        if x[1] > 1 and rows.start == 6:
            f[3] = np.inf
        return f
    _, _, _, mesg, ier = in_blocks(func, enzyme.X0, ENZYME)
    assert ier == Status.NOT_FINITE and "(row 3, column 1) in block 2 is inf" in mesg


def test_a_trial_that_is_not_finite_is_a_rejected_step():
    def func(x, rows=slice(None)):
        f = enzyme_residual(x, rows)
        if abs(x[0] - 1.0) > 0.5 and rows.start in (None, 6) and x[0] < 2.0:
            f[:] = np.nan
        return f
    want = leastsq(func, enzyme.X0, full_output=True)
    got = in_blocks(func, enzyme.X0, ENZYME)
    assert (got[4], got[2]["nfev"]) == (want[4], want[2]["nfev"])
    np.testing.assert_allclose(got[0], want[0], rtol=1e-6)


def test_a_norm_that_overflows():
    _, _, _, mesg, ier = in_blocks(lambda x, rows: x + 1.5e308, [0.0], ENZYME)
    assert ier == Status.NOT_FINITE and mesg == "The norm of the residuals overflows at x = [0.]."


def test_an_empty_norm_is_neutral():
    empty = Norm(0, 0.0, EPS, None)
    assert merge_norms([empty, Norm(3, 2.0, EPS, None)]) == Norm(3, 2.0, EPS, None)


def test_row_accumulators_are_what_travels():
    problem = Problem(residual, "2-point", (), False, None, None, None, 1.0)
    part = problem.model(Point(start(4), 0.0, 0.0, True), 0, WORK[0])
    assert type(part.accumulator) is RowAccumulator and part.evaluations == 4


@pytest.mark.parametrize("run, method", ALSO_ELSEWHERE)
def test_where_the_paths_part_minpack_itself_hangs_on_roundings(run, method):
    p, factor = RUNS[run]
    norms = []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        order = rng.permutation(p.m)
        options = {"Dfun": lambda x: p.jacobian(x)[order]} if method == "lmder" else {}  # noqa: B023
        x0 = p.start(factor) * (1 + EPS * rng.integers(-2, 3, p.n))
        fit = minpack(lambda x: p.residual(x)[order], x0, **options)  # noqa: B023
        norms.append(np.linalg.norm(fit[2]["fvec"]))
        if max(norms) - min(norms) > 1e-7 * max(norms) + 1e-7:
            return
    pytest.fail(f"every one of {len(norms)} fits ends at {norms[0]}")
