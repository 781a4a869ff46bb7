"""What the engine costs a block: ``lensflow.run`` against bare ``client.map`` on 2 000 trivial blocks.

Both write every block to a Zarr array. The engine's run also checksums, journals, keeps order, counts
statistics and reports.
"""

import statistics
import tempfile
import time
from pathlib import Path

import dask.array as da
import numpy as np
import xarray as xr
import zarr
from distributed import Client, wait

import lensflow as lf

BLOCKS, SHAPE, ROUNDS = 2_000, (4, 4), 3
GOAL_MS = 2.0


def make(place: int) -> np.ndarray:
    """Return a trivial block."""
    return np.full(SHAPE, place, np.float32)


def chunk(block_id: tuple[int, ...] | None = None) -> np.ndarray:
    """Return a trivial block as a chunk."""
    return make(block_id[0] if block_id else 0)


def write(place: int, path: str) -> int:
    """Make a trivial block and write it, as bare code would."""
    stored = zarr.open_array(path, mode="r+")
    stored[place * SHAPE[0] : (place + 1) * SHAPE[0]] = make(place)
    return place


def bare(client: Client, folder: Path) -> float:
    """Return the seconds of a bare ``client.map`` that writes."""
    path = str(folder / "bare.zarr")
    zarr.create_array(path, shape=(BLOCKS * SHAPE[0], SHAPE[1]), chunks=SHAPE, dtype="f4", fill_value=np.nan)
    begun = time.perf_counter()
    wait(client.map(write, range(BLOCKS), path=path, pure=False))
    return time.perf_counter() - begun


def silent(client: Client) -> float:
    """Return the seconds of a bare ``client.map`` that writes nothing."""
    begun = time.perf_counter()
    wait(client.map(make, range(BLOCKS), pure=False))
    return time.perf_counter() - begun


def engine(client: Client, folder: Path) -> float:
    """Return the seconds of a run of the same blocks, planning and report included."""
    lazy = da.map_blocks(chunk, chunks=((SHAPE[0],) * BLOCKS, (SHAPE[1],)), dtype="f4")
    begun = time.perf_counter()
    lf.run(xr.Dataset({"a": (("y", "x"), lazy)}), folder / "engine.zarr", client=client, progress=False)
    return time.perf_counter() - begun


def compare() -> dict[str, object]:
    """Return the overhead a block in milliseconds; ours and peer are seconds for all blocks."""
    ours, peer, nothing = [], [], []
    with lf.cluster("local", n_workers=2, dashboard_address="127.0.0.1:0") as client:
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory() as name:
                nothing.append(silent(client))
                peer.append(bare(client, Path(name)))
                ours.append(engine(client, Path(name)))
    best, other, none = (statistics.median(one) for one in (ours, peer, nothing))
    overhead = 1000 * (best - other) / BLOCKS
    return {
        "name": "overhead",
        "ours": round(best, 3),
        "peer": round(other, 3),
        "ratio": round(best / other, 3),
        "overhead_ms_a_block": round(overhead, 3),
        "against_map_without_writing_ms_a_block": round(1000 * (best - none) / BLOCKS, 3),
        "goal": f"overhead <= {GOAL_MS} ms a block",
        "met": overhead <= GOAL_MS,
        "conditions": f"{BLOCKS} blocks of {SHAPE} float32, 2 worker processes of 1 thread, median of {ROUNDS}",
    }
