"""How many tasks a row band with a halo costs, and how long 100 000 of them take to plan.

The peer is what Dask makes of the same blur by itself: ``dask.array.map_overlap`` with its default boundary
handling, stored with ``dask.array.store``.
"""

import resource
import time

import dask
import dask.array as da
import numpy as np
import xarray as xr
import zarr

import lensflow as lf
from lensflow.arrays.gaussian import gaussian_blur
from lensflow.arrays.overlap import map_overlap

BANDS, PLANNED, ROWS, REACH = 200, 100_000, 64, 12
GOAL_TASKS, GOAL_SECONDS, GOAL_BYTES = 7.0, 60.0, 2e9


def read(block_id: tuple[int, ...] | None = None) -> np.ndarray:
    """Return a band of rows (never called: graphs are only counted)."""
    raise NotImplementedError(block_id)


def source(bands: int) -> xr.DataArray:
    """Return a lazy image of row bands."""
    lazy = da.map_blocks(read, chunks=((ROWS,) * bands, (ROWS,)), dtype="f4", meta=np.empty((0, 0), "f4"))
    return xr.DataArray(lazy, dims=("y", "x"), name="flux")


def blur(band: np.ndarray) -> np.ndarray:
    """Blur a band that brings its halo."""
    return gaussian_blur(band, sigma=3.0, radius=REACH)


def blurred(bands: int) -> xr.Dataset:
    """Return the blurred image as a graph would."""
    return map_overlap(blur, source(bands), depth={"y": REACH}, dtype="f4").to_dataset(name="flux")


def dask_alone(bands: int) -> float:
    """Return the tasks a band of the same blur written with Dask alone."""
    target = zarr.create_array(zarr.storage.MemoryStore(), shape=(bands * ROWS, ROWS), chunks=(ROWS, ROWS), dtype="f4")
    lazy = da.map_overlap(blur, source(bands).data, depth={0: REACH, 1: 0}, boundary="reflect", dtype="f4")
    stored = da.store(lazy, target, lock=False, compute=False)
    return len(dict(dask.optimize(stored)[0].__dask_graph__())) / bands


def compare() -> dict[str, object]:
    """Return tasks a band (ours and peer), and time and memory of planning 100 000 blocks."""
    plan = lf.plan(blurred(BANDS))
    peer = dask_alone(BANDS)
    begun = time.perf_counter()
    large = lf.plan(blurred(PLANNED))
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    ours = plan.tasks / plan.blocks
    return {
        "name": "graph-size",
        "ours": round(ours, 2),
        "peer": round(peer, 2),
        "ratio": round(peer / ours, 3),
        "planned_blocks": large.blocks,
        "plan_seconds": round(seconds, 1),
        "plan_peak_bytes": peak,
        "goal": f"<= {GOAL_TASKS:.0f} tasks a band, writing too; {PLANNED} blocks in < {GOAL_SECONDS:.0f} s, < 2 GB",
        "met": ours <= GOAL_TASKS and seconds < GOAL_SECONDS and peak < GOAL_BYTES,
        "conditions": f"row bands with a halo on one axis; tasks after optimisation at {BANDS} bands",
    }
