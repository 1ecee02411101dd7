"""Fits to data on a cluster, with Dask (an optional extra, ``dask``).

`leastsq_blocks` is like `leastsq.leastsq_blocks`, but its blocks stay on the workers;
`leastsq` takes a residual function that returns a `dask.array.Array`.  Workers compute and
merge triangles of size n + 1; each evaluation returns one triangle.
"""

from __future__ import annotations

from functools import partial

from ._many.block_fit import fit, parse_blocks
from ._many.blocks import check_blocks
from ._many.dask_schedulers import Blocks, Chunks, Cluster, the_client
from ._problem.derivatives import forward_differences
from ._problem.losses import LINEAR
from ._problem.settings import Settings, Watching

__all__ = ["leastsq", "leastsq_blocks"]


def leastsq_blocks(func, x0, blocks, args=(), Dfun=None, full_output=False, col_deriv=False,
                   ftol=1.49012e-8, xtol=1.49012e-8, gtol=0.0, maxfev=0, epsfcn=None, factor=100,
                   diag=None, *, client=None, timeout=60.0, bounds=None, loss=LINEAR, f_scale=1.0,
                   callback=None, history=False, verbose=0, strategy="minpack"):
    """
    `leastsq.leastsq_blocks` on a cluster: blocks are sent to the workers once and stay there.

    Parameters
    ----------
    func : callable
        Residuals ``func(x, block, *args)`` of one block, real numbers; called on the workers.
    x0 : array_like
        Starting estimate; n real numbers of any shape.  Not modified.
    blocks : iterable
        The blocks: arrays, names of files, or any objects that pickle, which are sent to the
        workers; or futures and delayed objects, whose values are computed on the workers and
        never sent to this process.
    args, Dfun, full_output, col_deriv, ftol, xtol, gtol, maxfev, epsfcn, factor, diag : optional
        As in `leastsq.leastsq_blocks`.
    client : distributed.Client, optional
        The cluster; None: the client that was made last.
    timeout : float, optional
        Seconds to wait for a worker if none is left.
    bounds, loss, f_scale, callback, history, verbose, strategy : optional
        As in `leastsq.leastsq_blocks`.

    Returns
    -------
    x, ier, or x, cov_x, infodict, mesg, ier
        As from `leastsq.leastsq_blocks`.

    Raises
    ------
    ImportError
        Dask is not installed.
    TypeError, ValueError
        As in `leastsq.leastsq_blocks`; `client` is not a client.
    RuntimeError
        No worker has been left for `timeout` seconds, or there is no scheduler; workers that hold
        data were lost repeatedly; a future among the blocks was cancelled.
    distributed.KilledWorker
        A block ended the process of each worker that got it.
    Exception
        Any exception of `func`, `Dfun` or a task that makes a block, with a note that names the block.

    See Also
    --------
    leastsq.leastsq_blocks : the same with any map, on one machine or many.

    Notes
    -----
    The arrays that functions are called with are their own, fresh at each call; `args`, blocks and
    other data of the caller's are handed on as they are.

    Each evaluation has one task for each block, and a tree of tasks that merge eight triangles at a
    time; the driver sends x and gets one triangle.  The tree follows the order of the blocks,
    so that the result depends neither on the number of workers nor on the order in which they finish.

    A worker that dies during a fit costs only time: Dask recomputes the results of its tasks,
    and blocks that this process sent are sent again, for which `blocks` is iterated over
    once more.

    Examples
    --------
    >>> import numpy as np
    >>> from distributed import Client
    >>> from leastsq.dask import leastsq_blocks
    >>> def func(x, run):
    ...     t, y = run
    ...     return x[0]*np.exp(-x[1]*t) - y
    >>> t = np.linspace(0, 3, 30)
    >>> runs = [(t[k::3], 2*np.exp(-0.5*t[k::3])) for k in range(3)]
    >>> with Client(processes=False, dashboard_address=":0") as client:
    ...     x, ier = leastsq_blocks(func, [1.0, 1.0], runs, client=client)
    >>> x.round(6), ier in (1, 2, 3, 4)
    (array([2. , 0.5]), True)
    """
    check_blocks(blocks)
    cluster = Cluster(the_client(client), timeout)
    problem = parse_blocks(func, x0, args, Dfun, forward_differences(epsfcn, "leastsq_blocks"), bounds, (loss, f_scale))
    return fit(partial(Blocks, blocks, cluster), problem, x0, Settings(ftol, xtol, gtol, maxfev, factor, diag, strategy=strategy),
               Watching(callback, history, verbose), full_output=full_output, col_deriv=col_deriv,
               with_mask=bounds is not None)


def leastsq(func, x0, args=(), Dfun=None, full_output=False, col_deriv=False, ftol=1.49012e-8,
            xtol=1.49012e-8, gtol=0.0, maxfev=0, epsfcn=None, factor=100, diag=None, *, client=None,
            timeout=60.0, bounds=None, loss=LINEAR, f_scale=1.0, callback=None, history=False, verbose=0, strategy="minpack"):
    """
    `leastsq.leastsq` for residuals that are a Dask array.

    Parameters
    ----------
    func : callable
        ``func(x, *args)``: the residuals, a `dask.array.Array` of one dimension.  It is called in this
        process, and its result is computed in chunks on the cluster.  `x` is a NumPy array.
    x0 : array_like
        Starting estimate; n real numbers of any shape.  Not modified.
    args : tuple, optional
        Further arguments of `func` and `Dfun`.
    Dfun : callable or {"2-point", "3-point"}, optional
        ``Dfun(x, *args)``: the Jacobian, a Dask array of shape (m, n).  If None, or by name,
        differences as in `leastsq.leastsq`.
    full_output, col_deriv, ftol, xtol, gtol, maxfev, epsfcn, factor, diag : optional
        As in `leastsq.leastsq`.
    client : distributed.Client, optional
        The cluster; None: the client that was made last or, if there is none, Dask's own
        scheduler: threads of this process.
    timeout : float, optional
        Seconds to wait for a worker if none is left.
    bounds, loss, f_scale, callback, history, verbose, strategy : optional
        As in `leastsq.leastsq`.

    Returns
    -------
    x, ier, or x, cov_x, infodict, mesg, ier
        As from `leastsq.leastsq_blocks`, without ``fvec`` and ``fjac``.

    Raises
    ------
    ImportError
        Dask is not installed.
    TypeError
        A function returns something other than a Dask array; also as in `leastsq.leastsq`.
    ValueError
        The array has the wrong shape; also as in `leastsq.leastsq`.
    RuntimeError
        No worker has been left for `timeout` seconds, or there is no scheduler; data that `func` uses
        were lost with a worker, and Dask cannot recompute them.
    Exception
        Any exception of the computation of a chunk.

    Notes
    -----
    The arrays that functions are called with are their own, fresh at each call; `args`, blocks and
    other data of the caller's are handed on as they are.

    Data that `func` uses are recomputed for every evaluation unless they are persisted:
    ``t, y = client.persist([t, y])``.

    Examples
    --------
    >>> import dask.array as da
    >>> from leastsq.dask import leastsq
    >>> t = da.linspace(0, 3, 3000, chunks=1000)
    >>> y = (2*da.exp(-0.5*t)).persist()
    >>> x, ier = leastsq(lambda x: x[0]*da.exp(-x[1]*t) - y, [1.0, 1.0])
    >>> x.round(6), ier in (1, 2, 3, 4)
    (array([2. , 0.5]), True)
    """
    if Dfun == "cs":
        raise ValueError("leastsq.dask: Dfun must be a function, None, '2-point' or '3-point', got 'cs'")
    cluster = Cluster(the_client(client, needed=False), timeout)
    problem = parse_blocks(func, x0, args, Dfun, forward_differences(epsfcn, "leastsq_blocks"), bounds, (loss, f_scale))
    return fit(partial(Chunks, cluster), problem, x0, Settings(ftol, xtol, gtol, maxfev, factor, diag, strategy=strategy),
               Watching(callback, history, verbose), full_output=full_output, col_deriv=col_deriv,
               with_mask=bounds is not None)
