"""The schedulers of blocks and of chunks for `leastsq.dask`, with the interface of `block_fit.Mapped`."""

from __future__ import annotations

import threading
import time
import uuid
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import count

import numpy as np

from .._problem.arguments import noted
from .._problem.derivatives import DifferenceJacobian
from .block_fit import at_block, merge_models, merge_norms

__all__ = ["Blocks", "Chunks", "Cluster", "the_client"]

_FAN_IN = 8                 # the number of parts that one task merges
_POLL = 1.0                 # seconds between checks that a worker is left
_TIMES_LOST = 5             # limit on sending lost data again
_GOLDEN = 0.6180339887498949    # the fractional parts of any number of its multiples are spread evenly


def the_client(client, needed=True):
    """The given or default client, checked; None if there is none and none is needed."""
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
                                 "and no client exists: make one with Client()") from None
            return None
    if not isinstance(client, distributed.Client):
        raise TypeError(f"leastsq.dask: client must be a distributed.Client, got {type(client).__name__}")
    if client.asynchronous:
        raise ValueError("leastsq.dask: client must be synchronous, got one made with asynchronous=True")
    return client


class _DataLost(RuntimeError):
    """Data that a task needs are lost, and Dask cannot recompute them."""


class Cluster:
    """Runs tasks, and waits for them with a time limit; `client` is None for Dask's own scheduler."""

    def __init__(self, client, timeout):
        timeout = float(timeout)
        if not timeout >= 0:
            raise ValueError(f"leastsq.dask: timeout must not be negative, got {timeout}")
        self.client, self.timeout = client, timeout
        # Short keys, because the scheduler sends the key of every block to the driver at each evaluation.
        self._keys = map(f"b{{}}-{_token()}".format, count())

    def workers(self):
        """Addresses of the workers; waits for one."""
        deadline = time.monotonic() + self.timeout
        while not (workers := self._workers_now()):
            if time.monotonic() >= deadline:
                raise RuntimeError("leastsq.dask: no worker is left on the cluster "
                                   f"{self.client.scheduler.address}: waited {self.timeout:g} s for one")
            time.sleep(min(_POLL, self.timeout))
        return workers

    def _workers_now(self):
        return sorted(self._ask("nthreads"))

    def keys(self):
        """The keys of all data that the cluster holds."""
        # (Dask raises if it is asked for certain keys, and one of them is cancelled.)
        return {key for key, workers in self._ask("who_has").items() if workers}

    def _ask(self, question):
        if self.client.status in ("closing", "closed"):
            raise RuntimeError("leastsq.dask: the client was closed during the fit")
        try:
            return getattr(self.client, question)()
        except OSError as error:
            raise RuntimeError("leastsq.dask: the scheduler of the cluster cannot be reached") from error

    def result(self, root):
        """The computed value of the delayed object `root`."""
        if self.client is None:
            return root.compute()
        from distributed.client import FutureCancelledError, FuturesCancelledError
        future = self.client.compute(root)
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        try:
            while not done.wait(_POLL):
                self.workers()
            return future.result()
        except (FutureCancelledError, FuturesCancelledError) as error:
            self._workers_now()             # raises if the client or the scheduler is gone
            raise _DataLost("leastsq.dask: data that the fit needs were cancelled, or lost with their worker, "
                            "and cannot be recomputed from this process") from error
        except BaseException:
            with suppress(Exception):       # fails if the client is closed
                future.cancel()
            raise

    def scatter(self, block, place):
        """A future of the block, on the worker at `place`, from 0 to 1, or on one after it."""
        for times in count(1):
            workers = self.workers()
            worker, key = workers[(int(place*len(workers)) + times - 1) % len(workers)], next(self._keys)
            try:
                return self.client.scatter({key: block}, workers=[worker], hash=False)[key]
            except Exception as error:
                # If the worker has died, its connection breaks or cannot be made until the scheduler
                # notices; after that the scheduler fails in other ways (KeyError in distributed
                # 2026.8).  A worker without memory accepts no data, which ends in a TimeoutError.
                lost = isinstance(error, OSError) or worker not in self._workers_now()
                if not lost or times == _TIMES_LOST:
                    raise
                time.sleep(min(_POLL, self.timeout))
        return None


def _merged(parts, merge):
    """A tree of tasks that merges the parts in their order, as one delayed object."""
    from dask import delayed
    merge, keys = delayed(merge, pure=False), map(f"merge-{{}}-{_token()}".format, count())
    while len(parts) > 1:
        parts = [merge(parts[k:k + _FAN_IN], dask_key_name=next(keys)) for k in range(0, len(parts), _FAN_IN)]
    return parts[0]


def _token():
    """A random end of keys, which makes them unique on the cluster."""
    return uuid.uuid4().hex[:12]


def _same(value):
    return value


def _at(method, task, argument, index, block):
    return at_block(partial(getattr(task, method), argument), (index, block))[1]


class Blocks:
    """The scheduler for blocks on workers."""

    def __init__(self, blocks, cluster, task):
        self.blocks, self.cluster, self.client = blocks, cluster, cluster.client
        self.task, self.future = task, None             # future: the task on the cluster
        self.held = {}              # a future of each block, by its index
        self.sent = set()           # indices of blocks whose data were sent from this process
        self._hold(())
        if not self.held:
            raise ValueError("leastsq_blocks: blocks must have at least one block, got none")

    def norm(self, x):
        return self._evaluate("norm", x, merge_norms)

    def model(self, point):
        return self._evaluate("model", point, merge_models)

    def _hold(self, lost):
        """Get futures of the blocks that are missing or lost, and of the task."""
        if self.future is None or self.future.status == "cancelled":
            # The result of a task, not scattered, so Dask can recompute it if a worker is lost.
            self.future = self.client.submit(_same, self.task, key=f"task-{_token()}")
        total = len(self.blocks) if hasattr(self.blocks, "__len__") else None
        for index, block in enumerate(self.blocks):
            if index in self.held and index not in lost:
                continue
            try:
                # Neighbours go to the same worker if the number of blocks is known.
                self.held[index] = self._future(index, block, index/total if total else index*_GOLDEN % 1)
            except Exception as error:
                _note(error, index)
                raise

    def _future(self, index, block, place):
        from dask import is_dask_collection
        from distributed import Future
        if isinstance(block, Future):
            if block.status == "cancelled":
                raise RuntimeError("leastsq.dask: a future among the blocks was cancelled, or lost its data with "
                                   "their worker, and cannot be recomputed from this process")
            return block
        if is_dask_collection(block):
            return self.client.compute(block)
        self.sent.add(index)
        return self.cluster.scatter(block, place)

    def _lost(self):
        """Blocks whose data are lost, even if the client does not know it yet."""
        keys = self.cluster.keys()
        return {index for index, future in self.held.items() if future.status == "cancelled"
                or (index in self.sent and future.key not in keys)}

    def _evaluate(self, method, argument, merge):
        from dask import delayed
        for times in count(1):
            shared, at, run = delayed(argument, traverse=False), delayed(_at, pure=False), _token()
            keys = {f"leastsq-{method}-{index}-{run}": index for index in self.held}
            parts = [at(method, self.future, shared, index, self.held[index], dask_key_name=key)
                     for key, index in keys.items()]
            try:
                return self.cluster.result(_merged(parts, merge))
            except _DataLost as error:
                if times == _TIMES_LOST:
                    raise RuntimeError(f"leastsq.dask: workers that held data were lost {times} times in one "
                                       "evaluation: does func end its process, or run out of memory?") from error
                self._hold(self._lost())
            except Exception as error:
                _note(error, self._where(error, keys))
                raise
        return None

    def _where(self, error, keys):
        """The block of an error that did not pass through `at_block`, or None."""
        index = keys.get(getattr(error, "task", None))      # of a KilledWorker
        made = (index for index, future in self.held.items() if future.status == "error")
        return next(made, None) if index is None else index


def _note(error, index):
    """Add a note that names the block, if it is known."""
    if index is not None:
        noted(error, f"leastsq_blocks: in block {index}")


def _next(x, values):
    return next(values)


def _of_chunk(method, task, argument, index, values):
    """Run a task whose block is the list of the functions' values, which `BlockTask` asks for in this order."""
    return _at(method, task, argument, index, iter(values))


class Chunks:
    """The scheduler for residuals that are Dask arrays, chunk by chunk."""

    def __init__(self, cluster, task):
        self.cluster, self.task = cluster, task
        self.of_chunk = replace(task, func=_next, args=(), col_deriv=False, Dfun=None if task.Dfun is None else _next)

    def norm(self, x):
        return self._evaluate("norm", x, merge_norms, [self._residuals(x)])

    def model(self, point):
        task, x = self.task, point.x
        f = self._residuals(x)
        if task.Dfun is not None:
            jacobian = _dask_array(task.Dfun(x.copy(), *task.args), "Dfun", 2)
            jacobian = jacobian.T if task.col_deriv else jacobian
            if jacobian.shape[1] != x.size:
                raise ValueError(f"leastsq.dask: the array that Dfun returns must have {x.size} columns, "
                                 f"got shape {jacobian.shape}")
            arrays = [f, jacobian.rechunk((f.chunks[0], -1))]
        else:
            arrays = [f, *map(self._residuals, self._points(point))]
        if point.before is not None:
            arrays.append(self._residuals(point.before))
        return self._evaluate("model", point, merge_models, arrays)

    def _points(self, point):
        """The points at which `DifferenceJacobian` needs the function."""
        points = []

        def note(function, wanted):
            points.extend(wanted)
            return [np.empty(0)]*len(wanted)

        maker = DifferenceJacobian(None, replace(point.differences, workers=note), self.task.bounds, alone=False)
        maker.factors = point.factors
        maker.largest, maker.checked = point.largest, point.checked
        maker.jacobian_at(point.x, np.empty(0))
        return points

    def _residuals(self, x):
        return _dask_array(self.task.func(x.copy(), *self.task.args), "func", 1)

    def _evaluate(self, method, argument, merge, arrays):
        from dask import delayed
        columns = [array.to_delayed().ravel().tolist() for array in arrays]
        lengths = {len(column) for column in columns}
        if len(lengths) > 1:
            raise ValueError("leastsq.dask: func must return the same chunks at every x, got "
                             f"{sorted(lengths)} of them")
        task = delayed(self.of_chunk, traverse=False)
        argument = delayed(argument, traverse=False)
        of_chunk = delayed(_of_chunk, pure=False)
        parts = [of_chunk(method, task, argument, index, list(values))
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
