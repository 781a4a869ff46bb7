"""What the loss of a worker costs: ``lensflow.run`` against ``dask.array.store``, one of two workers killed half way.

Both write the same two variables of the same graph into Zarr arrays, each on a cluster as it comes, and lose the same
worker after the same number of blocks begun. The graph leaves a file for every band read and for every block begun.
"""

import os
import signal
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import dask.array as da
import xarray as xr
import zarr
from distributed import Client

import lensflow as lf

Writer = Callable[[xr.Dataset, Path, Client], None]
GRAPH = Path(__file__).resolve().parents[2] / "tests" / "engine" / "slow_graph.py"
BANDS, SECONDS, WINDOW, ROUNDS = 80, 0.04, 6, 3
KILL_AFTER = BANDS // 2  # blocks begun


def ours(data: xr.Dataset, folder: Path, client: Client) -> None:
    """Write a dataset with lensflow."""
    lf.run(data, folder / "ours.zarr", client=client, window=WINDOW, progress=False)


def peer(data: xr.Dataset, folder: Path, client: Client) -> None:
    """Write a dataset with plain Dask."""
    arrays = [data[name].data for name in ("smooth", "raw")]
    targets = [
        zarr.create_array(folder / f"{number}.zarr", shape=one.shape, chunks=one.chunksize, dtype=one.dtype)
        for number, one in enumerate(arrays)
    ]
    client.compute(da.store(arrays, targets, lock=False, compute=False), sync=True)


def marks(folder: Path) -> Counter[int]:
    """Count the files left for each band."""
    return Counter(int(path.name.split(".")[0]) for path in folder.glob("*.*.*"))


def lose(write: Writer) -> tuple[int, int, float]:
    """Write, lose a worker half way; return blocks begun again, bands read again, and seconds."""
    with tempfile.TemporaryDirectory() as name, CLUSTERS[write]() as client:
        log = Path(name, "log")
        (log / "blocks").mkdir(parents=True)
        victim = min(client.run(os.getpid).values())
        killer = threading.Thread(target=kill, args=(victim, log / "blocks"), daemon=True)
        data = lf.graph(GRAPH)(bands=BANDS, seconds=SECONDS, log=str(log))
        assert isinstance(data, xr.Dataset)
        begun = time.perf_counter()
        killer.start()
        write(data, Path(name), client)
        seconds = time.perf_counter() - begun
        killer.join()
        blocks, reads = (sum(count - 1 for count in marks(one).values()) for one in (log / "blocks", log))
        assert len(marks(log / "blocks")) == BANDS
        return blocks, reads, seconds


def as_dask_comes() -> Client:
    """Start a cluster with Dask's own settings: ours has every task of a dead worker run alone, which only we do."""
    return Client(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50)


CLUSTERS: dict[Writer, Callable[[], AbstractContextManager[Client]]] = {
    ours: partial(lf.cluster, "local", n_workers=2, dashboard_address="127.0.0.1:0"),
    peer: as_dask_comes,
}


def kill(victim: int, blocks: Path) -> None:
    """Kill a process when half of the blocks have been begun."""
    while len(marks(blocks)) < KILL_AFTER:
        time.sleep(0.005)
    os.kill(victim, signal.SIGKILL)


def compare() -> dict[str, object]:
    """Return the blocks done again: ours and the peer's are medians."""
    mine, theirs = ([lose(one) for _ in range(ROUNDS)] for one in (ours, peer))
    (blocks, reads, seconds), (their_blocks, their_reads, their_seconds) = (
        (statistics.median(column) for column in zip(*runs, strict=True)) for runs in (mine, theirs)
    )
    return {
        "name": "worker-loss",
        "ours": blocks,
        "peer": their_blocks,
        "ratio": round(blocks / max(their_blocks, 1), 3),
        "most": max(one[0] for one in mine),
        "bands_read_again": {"ours": reads, "peer": their_reads},
        "seconds": {"ours": round(seconds, 2), "peer": round(their_seconds, 2)},
        "goal": f"at most the window of {WINDOW} blocks begun again",
        "met": max(one[0] for one in mine) <= WINDOW,
        "conditions": f"{BANDS} blocks of {2 * SECONDS:g} s, 2 worker processes, one killed after {KILL_AFTER} blocks,"
        f" median of {ROUNDS}",
    }
