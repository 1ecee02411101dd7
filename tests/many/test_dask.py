"""Fits on a cluster that the tests start: of two processes where that matters, otherwise of two threads."""
import importlib.util
import os
import pickle
import signal
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("distributed")
pytest.importorskip("dask.array")

from dask import config, delayed                                    # noqa: E402
from distributed import Client, KilledWorker, LocalCluster          # noqa: E402
from distributed.comm import CommClosedError                        # noqa: E402

from leastsq import leastsq_blocks                                  # noqa: E402
from leastsq._many.dask_schedulers import Cluster                                   # noqa: E402
from leastsq.dask import leastsq_blocks as on_dask                  # noqa: E402

# Warnings by Dask itself (ports in use, slow starts on a busy machine) do not concern these tests.
pytestmark = pytest.mark.filterwarnings("default")

TRUTH = np.array([2.0, 0.7, 0.3])


def cluster(workers=2, processes=True):
    return LocalCluster(n_workers=workers, threads_per_worker=1, processes=processes, dashboard_address=":0")


@pytest.fixture(scope="module")
def client():
    """Two workers that are threads of this process."""
    with cluster(processes=False) as local, Client(local, set_as_default=False) as client:
        yield client


@pytest.fixture(scope="module")
def processes():
    """Two workers that are processes; one that is killed is restarted."""
    with config.set({"distributed.comm.timeouts.connect": "60s"}), cluster() as local, \
            Client(local, set_as_default=False) as client:
        yield client


def data(m=3000, seed=0):
    t = np.linspace(0, 5, m)
    return t, TRUTH[0]*np.exp(-TRUTH[1]*t) + TRUTH[2] + 0.05*np.random.default_rng(seed).standard_normal(m)


def cut(t, y, size):
    return [(t[k:k + size], y[k:k + size]) for k in range(0, t.size, size)]


def residual(x, block):
    t, y = block
    return x[0]*np.exp(-x[1]*t) + x[2] - y


def jacobian(x, block):
    t, _ = block
    e = np.exp(-x[1]*t)
    return np.stack([e, -x[0]*t*e, np.ones_like(t)], axis=1)


# ---- blocks ------------------------------------------------------------------------

@pytest.mark.parametrize(("options", "Dfun"), [
    pytest.param({"epsfcn": 1e-12}, None, id="2-point"),
    pytest.param({"bounds": ([0, 0, 0], [5, 5, 0.25])}, "3-point", id="bounds"),
    pytest.param({"loss": "soft_l1", "f_scale": 0.05}, jacobian, id="loss")])
@pytest.mark.parametrize("where", ["client", pytest.param("processes", marks=pytest.mark.slow)])
def test_agrees_with_one_machine(request, where, options, Dfun):
    t, y = data()
    client = request.getfixturevalue(where)
    here = leastsq_blocks(residual, [1, 1, 0.1], cut(t, y, 750), Dfun=Dfun, full_output=True, **options)
    there = on_dask(residual, [1, 1, 0.1], cut(t, y, 750), Dfun=Dfun, full_output=True, client=client, **options)
    # Fewer than nine blocks are merged in one task, in order, so that the bits are those of the builtin map.
    np.testing.assert_array_equal(there[0], here[0])
    np.testing.assert_array_equal(there[1], here[1])
    assert (there[4], there[2]["nfev"], there[3]) == (here[4], here[2]["nfev"], here[3])


def test_the_bits_do_not_depend_on_the_workers(client):
    t, y = data()
    blocks = cut(t, y, 270)
    two, _ = on_dask(residual, [1, 1, 0], blocks, client=client)
    with cluster(1, processes=False) as local, Client(local, set_as_default=False) as other:
        one, _ = on_dask(residual, [1, 1, 0], blocks, client=other)
    assert np.array_equal(one, two)


@pytest.mark.parametrize("number", [1, 9, *(pytest.param(k, marks=pytest.mark.slow) for k in (2, 8, 65))])
def test_any_number_of_blocks(client, number):
    t, y = data(650)
    x, ier = on_dask(residual, [1, 1, 0], cut(t, y, -(-650//number)), Dfun=jacobian, client=client)
    want, its_ier = leastsq_blocks(residual, [1, 1, 0], [(t, y)], Dfun=jacobian)
    np.testing.assert_allclose(x, want, rtol=1e-10)
    assert ier == its_ier


def test_blocks_that_the_workers_make(client):
    def load(k):
        t, y = data()
        return t[k::3], y[k::3]

    expected = leastsq_blocks(residual, [1, 1, 0], [load(k) for k in range(3)])[0]
    futures = [client.submit(load, k) for k in range(3)]
    later = [delayed(load)(k) for k in range(3)]
    for blocks in (futures, later):
        np.testing.assert_allclose(on_dask(residual, [1, 1, 0], blocks, client=client)[0], expected, rtol=1e-7)


def test_blocks_are_sent_once(client):
    class Counted:
        """Blocks without a known length, which count how often they are iterated over."""

        def __init__(self):
            self.times = 0

        def __iter__(self):
            self.times += 1
            yield from cut(*data(), 500)

    blocks = Counted()
    _, _, info, _, _ = on_dask(residual, [1, 1, 0], blocks, client=client, full_output=True)
    assert info["nfev"] > 4
    assert blocks.times == 1


def test_an_error_names_its_block(processes):
    def failing(x, block, bad):
        if block is not None and block[0][0] == bad:
            raise ZeroDivisionError("so it is")
        return residual(x, block)

    t, y = data()
    with pytest.raises(ZeroDivisionError, match="so it is") as caught:
        on_dask(failing, [1, 1, 0], cut(t, y, 1000), args=(t[1000],), client=processes)
    assert "in block 1" in " ".join(caught.value.__notes__)


def test_a_timeout_raised_by_the_function_arrives_unchanged(client):
    def slow(x, block):
        raise TimeoutError("the instrument is off")

    with pytest.raises(TimeoutError, match="the instrument is off"):
        on_dask(slow, [1, 1, 0], cut(*data(), 1000), client=client)


def test_residuals_that_are_not_finite_name_block_and_row(client):
    t, y = data()
    y[1234] = np.nan
    *_, message, ier = on_dask(residual, [1, 1, 0], cut(t, y, 1000), client=client, full_output=True)
    assert ier == 9
    assert "block 1" in message
    assert "[234]" in message


def test_the_driver_receives_at_most_three_triangles_for_each_worker(processes):
    """In an iteration, counting everything that its connections receive, Dask's own messages included."""
    path = Path(__file__).parents[2] / "benchmarks" / "scale.py"
    scale = importlib.util.module_from_spec(spec := importlib.util.spec_from_file_location("scale", path))
    spec.loader.exec_module(scale)
    n, received = 30, []
    with closing(scale.Counting(processes.cluster.scheduler_address)) as counting, \
            Client(counting.address, set_as_default=False) as client:
        on_dask(polynomials, np.zeros(n), np.array_split(np.linspace(0, 1, 2000), 8), client=client,
                callback=lambda state: received.append(counting.received) or len(received) == 5)
    triangle = 8*(n + 1)*(n + 2)/2
    assert len(received) == 5
    assert triangle < np.max(np.diff(received)) <= 2*3*triangle


def test_one_triangle_comes_back(client, monkeypatch):
    """Whatever the number of blocks."""
    real = Cluster.result
    sizes = []

    def result(self, root):
        value = real(self, root)
        sizes.append(len(pickle.dumps(value)))
        return value

    monkeypatch.setattr(Cluster, "result", result)
    n = 40
    grid = np.linspace(0, 1, 2000)
    largest = {}
    for blocks in (2, 50):
        sizes.clear()
        on_dask(polynomials, np.zeros(n), np.array_split(grid, blocks), client=client, callback=lambda state: True)
        largest[blocks] = max(sizes)
    assert largest[2] == largest[50]
    assert largest[2] < 8*(n + 1)*(n + 2)/2 + 400


def polynomials(x, t):
    return np.polynomial.chebyshev.chebval(2*t - 1, x) - np.exp(t*(3 + x[0]))


# ---- bad input ---------------------------------------------------------------------

@pytest.mark.parametrize(("arguments", "error", "says"), [
    ({"blocks": []}, ValueError, "at least one block"),
    ({"blocks": iter([1])}, TypeError, "more than once"),
    ({"client": "tcp://"}, TypeError, "client must be a distributed.Client, got str"),
    ({"timeout": -1}, ValueError, "timeout must not be negative"),
    ({"loss": "nonsense"}, ValueError, "loss"),
])
def test_bad_input_is_refused(client, arguments, error, says):
    with pytest.raises(error, match=says):
        on_dask(**{"func": residual, "x0": [1, 1, 0], "blocks": cut(*data(), 1000), "client": client} | arguments)


def test_without_a_client_the_error_says_how_to_make_one():
    import distributed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "default_client", lambda: (_ for _ in ()).throw(ValueError("none")))
        with pytest.raises(ValueError, match=r"no client exists: make one with Client\(\)"):
            on_dask(residual, [1, 1, 0], cut(*data(), 1000))


def test_importing_leastsq_does_not_import_dask():
    code = "import sys, leastsq, leastsq.dask; sys.exit(bool({'dask', 'distributed'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- lost workers ------------------------------------------------------------------

def killing(x, block, marker):
    """Kills its worker once, in the middle of the fit."""
    if abs(x[0] - TRUTH[0]) < 0.5:
        try:
            open(marker, "x").close()
        except FileExistsError:
            pass
        else:
            os.kill(os.getpid(), signal.SIGKILL)
    return residual(x, block)


@pytest.mark.parametrize("sent", [True, False], ids=["sent from here", "made there"])
def test_a_killed_worker_costs_only_time(processes, tmp_path, sent):
    t, y = data()
    blocks = cut(t, y, 600)
    expected = leastsq_blocks(residual, [1, 1, 0], blocks, full_output=True)
    marker = str(tmp_path/"killed")
    given = blocks if sent else [processes.submit(tuple, block, pure=False) for block in blocks]
    x, _, info, _, ier = on_dask(killing, [1, 1, 0], given, args=(marker,), client=processes, full_output=True)
    assert os.path.exists(marker)
    assert np.array_equal(x, expected[0])
    assert (ier, info["nfev"]) == (expected[4], expected[2]["nfev"])


def always_killing(x, block):
    if abs(x[0] - TRUTH[0]) < 0.5:
        os.kill(os.getpid(), signal.SIGKILL)
    return residual(x, block)


def deadly(x, block):
    if block[0][0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return residual(x, block)


@pytest.mark.slow
def test_a_block_that_kills_its_worker_again_is_named():
    with config.set({"distributed.scheduler.allowed-failures": 0}), cluster() as local, \
            Client(local, set_as_default=False) as client:
        block = client.submit(data)
        with pytest.raises(KilledWorker) as caught:
            on_dask(deadly, [1, 1, 0], [block], client=client)
    assert "in block 0" in " ".join(caught.value.__notes__)


@pytest.mark.slow
def test_a_block_whose_workers_die_is_not_sent_forever(monkeypatch):
    # Two kills instead of five: a nanny whose worker is killed while it starts may give up.
    monkeypatch.setattr("leastsq._many.dask_schedulers._TIMES_LOST", 2)
    with cluster() as local, Client(local, set_as_default=False) as client, \
            pytest.raises(RuntimeError, match="were lost 2 times in one evaluation: does func end its process"):
        on_dask(deadly, [1, 1, 0], cut(*data(), 1000), client=client)


@pytest.mark.slow
def test_a_restarted_cluster_gets_its_data_again():
    blocks, restarted = cut(*data(), 600), []

    def restart(state):
        if state.nfev > 4 and not restarted:
            restarted.append(state.nfev)
            client.restart()

    # A cluster of its own: restarting nannies that have just restarted a killed worker may take Dask minutes.
    with cluster() as local, Client(local, set_as_default=False) as client:
        x, ier = on_dask(residual, [1, 1, 0], blocks, client=client, callback=restart)
    want, its_ier = leastsq_blocks(residual, [1, 1, 0], blocks)
    assert restarted
    assert np.array_equal(x, want)
    assert ier == its_ier


def test_a_future_that_is_cancelled_cannot_be_made_again(client):
    futures = [client.submit(tuple, block, pure=False) for block in cut(*data(), 1000)]

    def cancel(state):
        futures[1].cancel(force=True)

    with pytest.raises(RuntimeError, match="a future among the blocks was cancelled") as caught:
        on_dask(residual, [1, 1, 0], futures, client=client, callback=cancel)
    assert "in block 1" in " ".join(caught.value.__notes__)


BEGUN, END = threading.Event(), threading.Event()


def waiting(x, block):
    BEGUN.set()
    END.wait(600)
    return residual(x, block)


def test_a_client_that_is_closed_ends_the_fit():
    """The client is closed in another thread, while the fit waits for a task."""
    def close():
        BEGUN.wait(600)
        client.close()

    with cluster(1, processes=False) as local, Client(local, set_as_default=False) as client:
        thread = threading.Thread(target=close)
        thread.start()
        try:
            with pytest.raises(RuntimeError, match="the client was closed during the fit"):
                on_dask(waiting, [1, 1, 0], [data()], client=client)
        finally:
            BEGUN.set()
            END.set()
            thread.join()


def test_the_fit_ends_if_no_worker_is_left():
    """Without a nanny no other worker is started."""
    with cluster(0) as local, Client(local, set_as_default=False) as client:
        worker = subprocess.Popen([sys.executable, "-m", "dask", "worker", local.scheduler_address,
                                   "--no-nanny", "--nthreads", "1", "--no-dashboard"],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            client.wait_for_workers(1, timeout=60)
            with pytest.raises(RuntimeError, match="no worker is left on the cluster .*: waited 0.2 s for one"):
                on_dask(always_killing, [1, 1, 0], cut(*data(), 1000), client=client, timeout=0.2)
        finally:
            worker.kill()
            worker.wait()


class Vanishing:
    """A client with one worker, which vanishes while a block is sent to it; another worker comes later."""

    def __init__(self, error, listed):
        self.error, self.listed, self.sent, self.status = error, listed, [], "running"

    def nthreads(self):
        return {"a": 1, "b": 1} if self.listed or not self.sent else {"b": 1}

    def scatter(self, blocks, workers, hash):
        self.sent += workers
        if len(self.sent) == 1:
            raise self.error
        return blocks


@pytest.mark.parametrize(("error", "listed"), [(CommClosedError(), True), (KeyError("a"), False)],
                         ids=["not yet missed", "missed meanwhile"])
def test_a_block_is_sent_again_where_its_worker_vanished(error, listed):
    client = Vanishing(error, listed)
    assert Cluster(client, 0.01).scatter("block", 0) == "block"
    assert client.sent[0] == "a"
    assert "b" in client.sent


def test_an_error_of_the_block_itself_is_not_a_lost_worker():
    with pytest.raises(KeyError):
        Cluster(Vanishing(KeyError("cannot be pickled"), listed=True), 1).scatter("block", 0)
