"""leastsq_blocks: the maps that evaluate blocks, the blocks in memory, and what is sent between processes."""
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
from block_problems import cut, jacobian, residual, start
from leastsq import RowAccumulator, leastsq_blocks
from leastsq._many.block_fit import BlockTask, Point
from leastsq._problem.derivatives import Differences
from test_blocks import ROWS, decay, decay_jacobian, in_blocks, quiet  # noqa: F401

SUPPORT = Path(__file__).resolve().parents[1] / "support"

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


def test_threads_give_the_bits_of_the_builtin_map():
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert_same_bits(in_blocks(residual, start(4), WORK, loss="huber", map=pool.map))


def test_processes_give_the_bits_of_the_builtin_map():
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=SPAWN) as pool:
        assert_same_bits(in_blocks(residual, start(4), WORK, loss="huber", map=pool.map))
        with pytest.raises(blocks_of.Refused) as caught:
            leastsq_blocks(blocks_of.raises, start(4), WORK, map=pool.map)
    assert caught.value.args == ("bad luck", 100)
    assert caught.value.__notes__ == ["leastsq_blocks: in block 1"]


@pytest.mark.parametrize("method", ["map", "imap"])
def test_a_pool_of_multiprocessing_gives_the_bits_of_the_builtin_map(method):
    with SPAWN.Pool(2) as pool:
        assert_same_bits(in_blocks(residual, start(4), WORK, loss="huber", map=getattr(pool, method)))


def test_a_pool_may_return_blocks_out_of_order():
    with SPAWN.Pool(2) as pool:
        got = in_blocks(residual, start(4), WORK, loss="huber", map=pool.imap_unordered)
    # The order of the sums changes each time.  Forward differences have rounding errors of 1e-8, so it
    # is chance where the iteration stops within xtol = 1.5e-8.
    np.testing.assert_allclose(got[0], by_builtin()[0], rtol=1e-8)
    assert got[4] in (1, 2, 3)


@pytest.mark.slow
def test_mpi_gives_the_bits_of_the_builtin_map(need_program):
    pytest.importorskip("mpi4py")
    mpiexec = need_program("mpiexec")
    done = subprocess.run(
        [mpiexec, "--oversubscribe", "-n", "2", sys.executable, "-m", "mpi4py.futures",
         str(SUPPORT / "block_problems.py")], capture_output=True, text=True, timeout=120,
        env=os.environ | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["100 ['leastsq_blocks: in block 1']", "same bits"]


def test_a_killed_worker_is_an_error():
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=SPAWN) as pool, \
            pytest.raises(BrokenProcessPool):
        leastsq_blocks(blocks_of.dies, start(4), WORK, map=pool.map)


def test_a_map_that_loses_blocks_is_detected():
    with pytest.raises(ValueError, match="map must return a result for each of the 4 blocks, got 3"):
        leastsq_blocks(decay, [2, 1, .4], ROWS, map=lambda f, blocks: list(map(f, blocks))[1:])


# -------------------------------------------------------------------- memory

class Live:
    """Blocks that count how many of them exist."""

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
def test_only_triangles_are_sent(Dfun, n):
    problem = BlockTask(residual, Dfun=Dfun if callable(Dfun) else None)
    sizes = []
    for m in (n, 100, 20000):
        (block,) = (rows.load() for rows in cut(m, n, m))
        part = problem.model(Point(start(n), Differences(), 0.0, True), 0, block)
        assert part.rows == m
        sizes.append((len(pickle.dumps(part)), len(pickle.dumps(problem.norm(start(n), 0, block)))))
    models, norms = np.array(sizes).T
    assert max(models) <= 8 * (n + 1) * (n + 2) / 2 + 1000 and np.ptp(models) < 16
    assert max(norms) < 400 and np.ptp(norms) < 16


def test_row_accumulators_are_sent():
    problem = BlockTask(residual)
    part = problem.model(Point(start(4), Differences(), 0.0, True), 0, WORK[0])
    assert type(part.accumulator) is RowAccumulator and part.evaluations == 4
