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

    `leastsq` for data that come in pieces: from files, or spread over processes and
    machines.  Each block is evaluated where it is, and its part of the Jacobian
    becomes a triangle of size n + 1 there; nothing longer than that is kept or travels.

    Parameters
    ----------
    func : callable
        Residuals ``func(x, block, *args)`` of one block: real numbers, any number of them,
        none included, but for the same block always as many.  `x` is a float64
        array, shape (n,).
    x0 : array_like
        Starting estimate; n real numbers of any shape.  Not modified.
    blocks : iterable
        The blocks, of any type: arrays, slices of a `numpy.memmap`, names of files,
        objects that load themselves.  It is iterated over once for each evaluation,
        so an iterator or generator will not do.
    args : tuple, optional
        Further arguments of `func` and `Dfun`.  Anything but a tuple is taken
        as the one further argument.
    Dfun : callable or {"2-point", "3-point", "cs"}, optional
        ``Dfun(x, block, *args)``, the block's rows of the Jacobian, shape (k, n) for
        its k residuals.  If None, or by name, differences as in `leastsq`, of
        each block where it is.
    full_output : bool, optional
        Return all of the outputs below, and warn of nothing.
    col_deriv : bool, optional
        `Dfun` returns derivatives down the columns, shape (n, k).
    ftol, xtol, gtol, maxfev, epsfcn, factor, diag : optional
        As in `leastsq`.
    map : callable, optional
        ``map(f, blocks)`` calls a function for each block: the builtin, with one block in
        memory at a time; that of a `concurrent.futures.Executor`, or of an
        ``mpi4py.futures.MPIPoolExecutor``; ``imap`` of a `multiprocessing.Pool`.  For
        processes, the functions, `args` and the blocks must pickle, and each block
        travels at each evaluation: let it be a name, and func load it.
    bounds, loss, f_scale, callback, history, verbose, strategy : optional
        As in `leastsq`.

    Returns
    -------
    x : ndarray, shape (n,)
        The solution, or the best point found.
    cov_x : ndarray, shape (n, n), or None
        As `leastsq` returns it.  Only with `full_output`.
    infodict : dict
        As `leastsq` returns it, with `full_output`, but without what is as long as the
        data: ``nfev``, ``njev`` if `Dfun` is a function, ``ipvt``, ``qtf``,
        ``active_mask`` and ``multipliers`` with `bounds`, ``history`` with `history`; and

        ``fnorm``
            Norm of the residuals at `x`; with a loss, root of twice the cost.
    mesg : str
        Why it ended.  Only with `full_output`.
    ier : int
        A member of `Status`; 1, 2, 3 and 4 are success.

    Raises
    ------
    TypeError
        An argument, or what a function returns, has the wrong type; `blocks` is an
        iterator, or a string; n is larger than the number of all residuals.
    ValueError
        There are no blocks; a block has another number of residuals than before, or
        `Dfun` returns the wrong shape for it; what `leastsq` refuses.
    Exception
        Whatever `func`, `Dfun`, `blocks` or `map` raises, unchanged, with a note of the
        block it was raised in.

    Warns
    -----
    RuntimeWarning
        Without `full_output`, if `ier` is 5 to 9.

    See Also
    --------
    leastsq : with all data in memory.
    LevenbergMarquardt, RowAccumulator : what this is made of.

    Notes
    -----
    The arrays that functions are called with are their own, fresh at each call; `args`, blocks and
    other data of the caller's are handed on as they are.

    The iterates are those of `leastsq` but for roundings.  The triangles are
    merged in the order in which `map` returns them; so a map that keeps the order, as all
    of the above do, makes the same bits as the builtin.

    `nfev` counts an evaluation of all blocks as one, as `leastsq` counts it.  As no
    residuals are kept, `func` is called once more at each point where a
    Jacobian is made.  For a `strategy` it is also called at the point before, which counts; of what
    strategies do, blocks have only this.

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

    Side by side:

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
    """Refuse what cannot be iterated over again and again."""
    if isinstance(blocks, (str, bytes)):
        raise TypeError("leastsq_blocks: blocks must be an iterable of blocks, got "
                        f"{type(blocks).__name__}: one file name is [name]")
    if not hasattr(blocks, "__iter__") and not hasattr(blocks, "__getitem__"):
        raise TypeError(f"leastsq_blocks: blocks must be an iterable of blocks, got {type(blocks).__name__}")
    if isinstance(blocks, Iterator):
        raise TypeError("leastsq_blocks: blocks must be iterable more than once, got the iterator "
                        f"{type(blocks).__name__}: a list, or an object whose __iter__ begins anew")
