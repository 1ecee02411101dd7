"""Fits to data that lie on a cluster, with Dask (an optional extra: ``pip install leastsq[dask]``).

`leastsq_blocks` is the function of that name whose blocks stay where they are, on the workers;
`leastsq` takes a residual function that returns a `dask.array.Array`.  Workers make and
merge triangles of size n + 1; one comes back for each evaluation.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from functools import partial
from itertools import count

import numpy as np

from ._block_fit import at_block, fit, merge_models, merge_norms
from ._blocks import check_blocks
from ._derivatives import Differences
from ._losses import LINEAR

__all__ = ["leastsq", "leastsq_blocks"]

_FAN_IN = 8                 # parts that one task merges
_POLL = 1.0                 # seconds between looks at whether any worker is left
_TIMES_LOST = 5             # that data are sent anew before the fit gives up
_GOLDEN = 0.6180339887498949    # its multiples spread evenly, however many there will be


def leastsq_blocks(func, x0, blocks, args=(), Dfun=None, full_output=False, col_deriv=False,
                   ftol=1.49012e-8, xtol=1.49012e-8, gtol=0.0, maxfev=0, epsfcn=None, factor=100,
                   diag=None, *, client=None, timeout=60.0, bounds=None, loss=LINEAR, f_scale=1.0,
                   callback=None, history=False, verbose=0):
    """
    `leastsq.leastsq_blocks` on a cluster: blocks are sent to the workers once and stay there.

    Parameters
    ----------
    func : callable
        Residuals ``func(x, block, *args)`` of one block, real numbers; called on the workers.
    x0 : array_like
        Starting estimate; n real numbers of any shape.  Not modified.
    blocks : iterable
        The blocks: arrays, names of files, any objects that pickle, which are sent to the
        workers; or futures and delayed objects, whose values are made on the
        workers and never seen here.
    args, Dfun, full_output, col_deriv, ftol, xtol, gtol, maxfev, epsfcn, factor, diag : optional
        As in `leastsq.leastsq_blocks`.
    client : distributed.Client, optional
        The cluster; None: the client that was made last.
    timeout : float, optional
        Seconds to wait for a worker where none is left.
    bounds, loss, f_scale, callback, history, verbose : optional
        As in `leastsq.leastsq_blocks`.

    Returns
    -------
    x, ier, or x, cov_x, infodict, mesg, ier
        As `leastsq.leastsq_blocks`.

    Raises
    ------
    ImportError
        Dask is not installed.
    TypeError, ValueError
        As `leastsq.leastsq_blocks`; `client` is no client.
    RuntimeError
        No worker is left, for `timeout` seconds; or workers that hold data were lost
        again and again.
    Exception
        Whatever `func` or `Dfun` raises, with a note of the block it was raised in.

    See Also
    --------
    leastsq.leastsq_blocks : with any map, on one machine or many.

    Notes
    -----
    For each evaluation there is one task for each block, and a tree of tasks that merge eight at a
    time; the driver sends x and gets one triangle.  The tree follows the order of the blocks,
    so that the result does not depend on who was ready first, nor on how many workers there are.

    A worker that dies in the middle of a fit costs time only: Dask makes its tasks' results
    anew, and blocks that were sent from here are sent again, for which `blocks` is iterated
    over again.

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
    cluster = _Cluster(_the_client(client), timeout)
    return fit(partial(_Blocks, blocks, cluster), func, x0, args, Dfun, full_output, col_deriv,
               {"ftol": ftol, "xtol": xtol, "gtol": gtol}, maxfev, epsfcn, factor, diag, bounds, loss,
               f_scale, callback, history, verbose)


def leastsq(func, x0, args=(), Dfun=None, full_output=False, col_deriv=False, ftol=1.49012e-8,
            xtol=1.49012e-8, gtol=0.0, maxfev=0, epsfcn=None, factor=100, diag=None, *, client=None,
            timeout=60.0, bounds=None, loss=LINEAR, f_scale=1.0, callback=None, history=False, verbose=0):
    """
    `leastsq.leastsq` for residuals that are a Dask array.

    Parameters
    ----------
    func : callable
        ``func(x, *args)``: the residuals, a `dask.array.Array` of one dimension.  Called here;
        what it returns is computed in chunks, on the cluster.  `x` is a NumPy array.
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
        The cluster; None: the client that was made last, or without one, Dask's own
        scheduler: threads of this process.
    timeout : float, optional
        Seconds to wait for a worker where none is left.
    bounds, loss, f_scale, callback, history, verbose : optional
        As in `leastsq.leastsq`.

    Returns
    -------
    x, ier, or x, cov_x, infodict, mesg, ier
        As `leastsq.leastsq_blocks`: ``fvec`` and ``fjac`` are left out.

    Raises
    ------
    ImportError
        Dask is not installed.
    TypeError
        What a function returns is no Dask array; and as `leastsq.leastsq`.
    ValueError
        It has the wrong shape; and as `leastsq.leastsq`.
    RuntimeError
        No worker is left, for `timeout` seconds.
    Exception
        What the computation of a chunk raises, with a note of the chunk.

    Notes
    -----
    Data that `func` uses are computed anew for every evaluation unless they are kept:
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
    cluster = _Cluster(_the_client(client, needed=False), timeout)
    return fit(partial(_Chunks, cluster), func, x0, args, Dfun, full_output, col_deriv,
               {"ftol": ftol, "xtol": xtol, "gtol": gtol}, maxfev, epsfcn, factor, diag, bounds, loss,
               f_scale, callback, history, verbose)


def _the_client(client, needed=True):
    try:
        import distributed
    except ImportError:
        if client is None and not needed:
            return None
        raise ImportError("leastsq.dask needs Dask's scheduler: pip install dask distributed") from None
    if client is None:
        try:
            client = distributed.default_client()
        except ValueError:
            if needed:
                raise ValueError("leastsq.dask: client must be a distributed.Client, got None, "
                                 "and none has been made: Client() makes one") from None
            return None
    if not isinstance(client, distributed.Client):
        raise TypeError(f"leastsq.dask: client must be a distributed.Client, got {type(client).__name__}")
    if client.asynchronous:
        raise ValueError("leastsq.dask: client must be synchronous, got one made with asynchronous=True")
    return client


class _Cluster:
    """Waits for a task, but not for ever: `client` may be None for Dask's own scheduler."""

    def __init__(self, client, timeout):
        timeout = float(timeout)
        if not timeout >= 0:
            raise ValueError(f"leastsq.dask: timeout must not be negative, got {timeout}")
        self.client, self.timeout = client, timeout

    def workers(self):
        """Addresses of the workers; waits for one."""
        deadline = time.monotonic() + self.timeout
        while not (workers := sorted(self.client.nthreads())):
            if time.monotonic() >= deadline:
                raise RuntimeError("leastsq.dask: no worker is left on the cluster "
                                   f"{self.client.scheduler.address}: waited {self.timeout:g} s for one")
            time.sleep(min(_POLL, self.timeout))
        return workers

    def result(self, root):
        """What the delayed object `root` computes to."""
        if self.client is None:
            return root.compute()
        future = self.client.compute(root)
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        try:
            while not done.wait(_POLL):
                self.workers()
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def scatter(self, block, place):
        """A future of the block, on the worker at `place`, from 0 to 1, among those there are."""
        from distributed.comm import CommClosedError
        for times in count(1):
            workers = self.workers()
            worker = workers[min(int(place*len(workers)), len(workers) - 1)]
            try:
                return self.client.scatter([block], workers=[worker], hash=False)[0]
            except Exception as error:
                # A worker that has died: its connection breaks while it is not yet missed; once it
                # is, the scheduler fails in ways of its own (KeyError in distributed 2026.8).
                lost = isinstance(error, CommClosedError) or worker not in self.client.nthreads()
                if not lost or times == _TIMES_LOST:
                    raise
                time.sleep(min(_POLL, self.timeout))
        return None


def _merged(parts, merge):
    """A tree of tasks: one delayed object, in the order of the parts."""
    from dask import delayed
    merge = delayed(merge, pure=False)
    while len(parts) > 1:
        parts = [merge(parts[k:k + _FAN_IN]) for k in range(0, len(parts), _FAN_IN)]
    return parts[0]


def _same(value):
    return value


def _at(method, problem, argument, index, block):
    return at_block(partial(getattr(problem, method), argument), (index, block))[1]


class _Blocks:
    """The scheduler for blocks on workers; its contract is that of `_block_fit.Mapped`."""

    def __init__(self, blocks, cluster, problem):
        self.blocks, self.cluster, self.client = blocks, cluster, cluster.client
        # The result of a task, not scattered: Dask can make it again where a worker is lost.
        self.problem = self.client.submit(_same, problem, pure=False)
        self.held = {}
        self._send()
        if not self.held:
            raise ValueError("leastsq_blocks: blocks must have at least one block, got none")

    def norm(self, x):
        return self._evaluate("norm", x, merge_norms)

    def model(self, point):
        return self._evaluate("model", point, merge_models)

    def _send(self):
        """Blocks that no worker has go to one; neighbours go together where their number is known."""
        from dask import is_dask_collection
        from distributed import Future
        total = len(self.blocks) if hasattr(self.blocks, "__len__") else None
        for index, block in enumerate(self.blocks):
            held = self.held.get(index)
            if held is not None and held.status not in ("cancelled", "lost"):
                continue
            if isinstance(block, Future):
                self.held[index] = block
            elif is_dask_collection(block):
                self.held[index] = self.client.compute(block)
            else:
                place = index/total if total else index*_GOLDEN % 1
                self.held[index] = self.cluster.scatter(block, place)

    def _evaluate(self, method, argument, merge):
        from dask import delayed
        from distributed.client import FutureCancelledError, FuturesCancelledError
        for times in count(1):
            shared = self.client.submit(_same, argument, pure=False)
            task = delayed(_at, pure=False)
            parts = [task(method, self.problem, shared, index, block) for index, block in self.held.items()]
            try:
                return self.cluster.result(_merged(parts, merge))
            except (FutureCancelledError, FuturesCancelledError) as error:
                # Its worker is gone, and with it what was scattered there.
                if times == _TIMES_LOST:
                    raise RuntimeError(f"leastsq.dask: workers that held data were lost {times} times "
                                       "in one evaluation") from error
                self._send()
        return None


def _next(x, values):
    return next(values)


def _of_chunk(method, problem, argument, index, values):
    """The functions' values take the place of a block: `Problem` asks for them in their order."""
    return _at(method, problem, argument, index, iter(values))


class _Chunks:
    """The scheduler for residuals that are Dask arrays, chunk by chunk."""

    def __init__(self, cluster, problem):
        self.cluster, self.problem = cluster, problem
        self.of_chunk = replace(problem, func=_next, args=(), col_deriv=False,
                                Dfun=_next if callable(problem.Dfun) else problem.Dfun)

    def norm(self, x):
        return self._evaluate("norm", x, merge_norms, [self._residuals(x)])

    def model(self, point):
        problem, x = self.problem, point.x
        f = self._residuals(x)
        if callable(problem.Dfun):
            jacobian = _dask_array(problem.Dfun(x.copy(), *problem.args), "Dfun", 2)
            jacobian = jacobian.T if problem.col_deriv else jacobian
            if jacobian.shape[1] != x.size:
                raise ValueError(f"leastsq.dask: the array that Dfun returns must have {x.size} columns, "
                                 f"got shape {jacobian.shape}")
            arrays = [f, jacobian.rechunk((f.chunks[0], -1))]
        else:
            arrays = [f, *map(self._residuals, self._points(point))]
        return self._evaluate("model", point, merge_models, arrays)

    def _points(self, point):
        """Where `Differences` wants the function."""
        points = []

        def note(function, wanted):
            points.extend(wanted)
            return [np.empty(0)]*len(wanted)

        maker = Differences(None, self.problem.Dfun, self.problem.low, self.problem.high, note, point.epsfcn)
        maker.largest, maker.checked = point.largest, point.checked
        maker.jacobian_at(point.x, np.empty(0))
        return points

    def _residuals(self, x):
        return _dask_array(self.problem.func(x.copy(), *self.problem.args), "func", 1)

    def _evaluate(self, method, argument, merge, arrays):
        from dask import delayed
        columns = [array.to_delayed().ravel().tolist() for array in arrays]
        lengths = {len(column) for column in columns}
        if len(lengths) > 1:
            raise ValueError("leastsq.dask: func must return the same chunks at every x, got "
                             f"{sorted(lengths)} of them")
        problem = delayed(self.of_chunk, traverse=False)
        argument = delayed(argument, traverse=False)
        task = delayed(_of_chunk, pure=False)
        parts = [task(method, problem, argument, index, list(values))
                 for index, values in enumerate(zip(*columns, strict=True))]
        return self.cluster.result(_merged(parts, merge))


def _dask_array(value, name, ndim):
    from dask.array import Array
    if not isinstance(value, Array):
        raise TypeError(f"leastsq.dask: {name} must return a dask.array.Array, got {type(value).__name__}")
    if value.ndim != ndim:
        raise ValueError(f"leastsq.dask: the array that {name} returns must have {ndim} "
                         f"dimension{'s'*(ndim > 1)}, got shape {value.shape}")
    return value
