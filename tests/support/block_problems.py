"""A problem in blocks, for tests that evaluate it in other processes too.

The model is A g(x) with g(x) = x + x²/8, computed by sums in NumPy's own order, so that
a block has the same bits in whichever process it is evaluated.
"""
import os
import signal

import numpy as np

from leastsq import leastsq_blocks


class Rows:
    """A block that makes itself where it is needed: rows `start` to `stop` of the data."""

    def __init__(self, m, n, start, stop):
        self.m, self.n, self.start, self.stop = m, n, start, stop

    def load(self):
        rng = np.random.default_rng([self.m, self.n])
        a = rng.integers(-99, 100, (self.m, self.n)) / 64 + 4.0 * np.eye(self.m, self.n)
        b = a.sum(axis=1) + rng.integers(-9, 10, self.m) / 512
        return a[self.start:self.stop], b[self.start:self.stop]


def cut(m, n, size):
    """Blocks of `size` rows, the last one shorter."""
    return [Rows(m, n, start, min(start + size, m)) for start in range(0, m, size)]


def cut_at(m, n, places):
    return [Rows(m, n, start, stop) for start, stop in zip([0, *places], [*places, m])]


def residual(x, block):
    a, b = block.load() if isinstance(block, Rows) else block
    return np.einsum("ij,j->i", a, x + x * x / 8) - b


def jacobian(x, block):
    a, _ = block.load() if isinstance(block, Rows) else block
    return a * (1 + x / 4)


def by_columns(x, block):
    return jacobian(x, block).T


def start(n):
    return np.full(n, 0.25)


class Refused(Exception):
    """An exception with two arguments, which does not pickle by default."""

    def __init__(self, what, where):
        super().__init__(what, where)
        self.what, self.where = what, where


def raises(x, block):
    if block.start > 0 and x[0] != 0.25:
        raise Refused("bad luck", block.start)
    return residual(x, block)


def dies(x, block):
    if block.start > 0 and x[0] != 0.25:
        os.kill(os.getpid(), signal.SIGKILL)
    return residual(x, block)


def main():
    """A fit by the pool of mpi4py.futures, compared with one by the builtin map."""
    from mpi4py.futures import MPIPoolExecutor
    blocks = cut(600, 4, 100)
    want = leastsq_blocks(residual, start(4), blocks, full_output=True)
    with MPIPoolExecutor() as pool:
        got = leastsq_blocks(residual, start(4), blocks, full_output=True, map=pool.map)
        ranks = set(pool.map(rank, range(8)))
        try:
            leastsq_blocks(raises, start(4), blocks, map=pool.map)
        except Refused as error:
            print(error.where, error.__notes__)
    assert 0 not in ranks
    assert np.array_equal(got[0], want[0]) and got[3:] == want[3:]
    print("same bits")


def rank(_):
    from mpi4py import MPI
    return MPI.COMM_WORLD.Get_rank()


if __name__ == "__main__":
    main()
