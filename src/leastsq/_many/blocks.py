"""`leastsq` for data in blocks, evaluated by any map."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from .._problem.derivatives import forward_differences
from .._problem.losses import LINEAR
from .._problem.settings import Settings, Watching
from .block_fit import Mapped, fit, parse_blocks

__all__ = ["check_blocks", "leastsq_blocks"]


def leastsq_blocks(func, x0, blocks, args=(), Dfun=None, full_output=False, col_deriv=False,
                   ftol=1.49012e-8, xtol=1.49012e-8, gtol=0.0, maxfev=0, epsfcn=None, factor=100,
                   diag=None, *, map=map, bounds=None, loss=LINEAR, f_scale=1.0,    # noqa: A002
                   callback=None, history=False, verbose=0, strategy="minpack"):
    """
    Minimize a sum of squares over blocks of data, which need not fit in memory together.

    `leastsq` for data in pieces: in files, or spread over processes and
    machines.  Each block is evaluated at its place, where its part of the Jacobian
    becomes a triangle of size n + 1; nothing longer than that is kept or sent.

    Parameters
    ----------
    func : callable
        Residuals ``func(x, block, *args)`` of one block: any number of real numbers,
        or none, but always the same number for the same block.  `x` is a float64
        array, shape (n,).
    x0 : array_like
        Starting estimate; n real numbers of any shape.  Not modified.
    blocks : iterable
        The blocks, of any type: arrays, slices of a `numpy.memmap`, names of files,
        objects that load themselves.  It is iterated over once for each evaluation,
        so it cannot be an iterator or generator.
    args : tuple, optional
        Further arguments of `func` and `Dfun`.  An object that is not a tuple is
        the only further argument.
    Dfun : callable or {"2-point", "3-point", "cs"}, optional
        ``Dfun(x, block, *args)``, the block's rows of the Jacobian, shape (k, n) for
        its k residuals.  If None, or by name, differences as in `leastsq`, made
        for each block at its place.
    full_output : bool, optional
        Return all of the outputs below, and give no warnings.
    col_deriv : bool, optional
        `Dfun` returns derivatives down the columns, shape (n, k).
    ftol, xtol, gtol, maxfev, epsfcn, factor, diag : optional
        As in `leastsq`.
    map : callable, optional
        ``map(f, blocks)`` calls a function for each block: the builtin, with one block in
        memory at a time; that of a `concurrent.futures.Executor`, or of an
        ``mpi4py.futures.MPIPoolExecutor``; ``imap`` of a `multiprocessing.Pool`.  For
        processes, the functions, `args` and the blocks must pickle, and each block
        is sent at each evaluation: make it a name, and let func load the data.
    bounds, loss, f_scale, callback, history, verbose, strategy : optional
        As in `leastsq`.

    Returns
    -------
    x : ndarray, shape (n,)
        The solution, or the best point found.
    cov_x : ndarray, shape (n, n), or None
        As returned by `leastsq`.  Only with `full_output`.
    infodict : dict
        As returned by `leastsq`, but without arrays as long as the
        data: ``nfev``, ``njev`` if `Dfun` is a function, ``ipvt``, ``qtf``,
        ``active_mask`` and ``multipliers`` with `bounds`, ``history`` with `history`; and
        the following.  Only with `full_output`.

        ``fnorm``
            Norm of the residuals at `x`; with a loss, the square root of twice the cost.
    mesg : str
        Why the fit ended.  Only with `full_output`.
    ier : int
        A member of `Status`; 1, 2, 3 and 4 are success.

    Raises
    ------
    TypeError
        An argument, or the result of a function, has the wrong type; `blocks` is an
        iterator, or a string; n is larger than the number of all residuals.
    ValueError
        There are no blocks; a block has a different number of residuals than before, or
        `Dfun` returns the wrong shape for it; also as in `leastsq`.
    Exception
        Whatever `func`, `Dfun`, `blocks` or `map` raises, unchanged, with a note that
        names the block.

    Warns
    -----
    RuntimeWarning
        Without `full_output`, if `ier` is 5 to 9.

    See Also
    --------
    leastsq : with all data in memory.
    LevenbergMarquardt, RowAccumulator : the parts of this function.

    Notes
    -----
    The arrays that functions are called with are their own, fresh at each call; `args`, blocks and
    other data of the caller's are handed on as they are.

    The iterates are those of `leastsq` up to rounding.  The triangles are
    merged in the order in which `map` returns them, so a map that keeps the order, like all
    of those above, gives the same bits as the builtin.

    `nfev` counts an evaluation of all blocks as one, as in `leastsq`.  Because no
    residuals are kept, `func` is called once more at each point at which a
    Jacobian is computed.  With a `strategy` it is also called at the previous point, which counts; blocks do not
    support the other evaluations of strategies.

    Examples
    --------
    A decay measured in three runs:

    >>> import numpy as np
    >>> from leastsq import leastsq_blocks
    >>> def func(x, run):
    ...     t, y = run
    ...     return x[0]*np.exp(-x[1]*t) - y
    >>> t = np.linspace(0, 3, 30)
    >>> runs = [(t[k::3], 2*np.exp(-0.5*t[k::3])) for k in range(3)]
    >>> x, ier = leastsq_blocks(func, [1.0, 1.0], runs)
    >>> x.round(6), ier in (1, 2, 3, 4)
    (array([2. , 0.5]), True)

    In parallel:

    >>> from concurrent.futures import ThreadPoolExecutor
    >>> with ThreadPoolExecutor(2) as pool:
    ...     y, ier = leastsq_blocks(func, [1.0, 1.0], runs, map=pool.map)
    >>> np.array_equal(x, y)
    True
    """
    check_blocks(blocks)
    if not callable(map):
        raise TypeError(f"leastsq_blocks: map must be callable, got {type(map).__name__}")
    problem = parse_blocks(func, x0, args, Dfun, forward_differences(epsfcn, "leastsq_blocks"), bounds, (loss, f_scale))
    return fit(partial(Mapped, blocks, map), problem, x0, Settings(ftol, xtol, gtol, maxfev, factor, diag, strategy=strategy),
               Watching(callback, history, verbose), full_output=full_output, col_deriv=col_deriv,
               with_mask=bounds is not None)


def check_blocks(blocks):
    """Refuse objects that cannot be iterated over repeatedly."""
    if isinstance(blocks, (str, bytes)):
        raise TypeError("leastsq_blocks: blocks must be an iterable of blocks, got "
                        f"{type(blocks).__name__}: for one file give [name]")
    if not hasattr(blocks, "__iter__") and not hasattr(blocks, "__getitem__"):
        raise TypeError(f"leastsq_blocks: blocks must be an iterable of blocks, got {type(blocks).__name__}")
    if isinstance(blocks, Iterator):
        raise TypeError("leastsq_blocks: blocks must be iterable more than once, got the iterator "
                        f"{type(blocks).__name__}: give a list, or an object whose __iter__ starts again")
