"""The predicted peak memory of a worker beside the measured one, on arrays that dominate it.

There is no peer: Dask predicts nothing. Each case runs on a fresh worker process; what is measured is the largest
resident memory (VmHWM) that the worker journals with its blocks. PS1 is simulated at three sizes, the last being
the real one (6240 px a skycell, 3.2 GiB): allow a quarter of an hour and 8 GiB of memory.
"""

import tempfile
from functools import partial
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import xarray as xr

import lensflow as lf
from lensflow.arrays.overlap import map_overlap
from lensflow.engine import sizes

BANDS, ROWS, COLUMNS, DEPTH = 6, 2500, 10_000, 100  # a band is 95 MiB
SCALES = (4, 2, 1)
THREADS = (1, 2)
GOAL = 0.2


def make(rows: int, columns: int, block_id: tuple[int, ...] = (0, 0)) -> np.ndarray:
    """Return a band."""
    return np.full((rows, columns), block_id[0], np.float32)


def double(band: np.ndarray) -> np.ndarray:
    """Return twice the band."""
    return band * np.float32(2)


def source() -> xr.DataArray:
    """Return a lazy image of bands."""
    lazy = da.map_blocks(
        partial(make, ROWS, COLUMNS), chunks=((ROWS,) * BANDS, (COLUMNS,)), dtype="f4", meta=np.empty((0, 0), "f4")
    )
    return xr.DataArray(lazy, dims=("y", "x"), name="flux")


def chain() -> xr.Dataset:
    """Return ten element-wise operations in a row."""
    image = source()
    for step in range(10):
        image = image * np.float32(1.5) if step % 2 else image + np.float32(step)
    return image.to_dataset(name="flux")


def mean() -> xr.Dataset:
    """Return the mean of all rows."""
    return source().mean("y").to_dataset(name="flux")


def columns() -> xr.Dataset:
    """Return rows rechunked to columns."""
    return source().chunk(y=-1, x=COLUMNS // BANDS).to_dataset(name="flux")


def merged() -> xr.Dataset:
    """Return two bands in one."""
    return source().chunk(y=2 * ROWS).to_dataset(name="flux")


def halo() -> xr.Dataset:
    """Return bands with a halo, and the bands beside them."""
    image = source()
    return map_overlap(double, image, depth={"y": DEPTH}).to_dataset(name="flux").assign(raw=image)


def grids() -> xr.Dataset:
    """Return variables on different grids: the sum over all bands holds half of them."""
    image = source()
    return xr.Dataset({"flux": image * 2, "rows": image.mean("x"), "columns": image.sum("y")})


def ps1(scale: int, folder: Path) -> xr.Dataset | xr.DataTree:
    """Return the convolution of simulated skycells."""
    graph = lf.graph("ps1_convolution")
    cells = folder / f"cells-{scale}"
    if not cells.exists():
        graph.verb("simulate")(cells, projection=2246, scale=scale, reuse=True, weights=False)
    return graph(cells, projection=2246, scale=scale)


def measure(case: str, lazy: xr.Dataset | xr.DataTree, threads: int, folder: Path) -> dict[str, object]:
    """Run a case on a fresh worker and return its row of the table."""
    planned = lf.plan(lazy, threads=threads)
    options = {"n_workers": 1, "threads_per_worker": threads, "memory_limit": 0}
    with (
        tempfile.TemporaryDirectory(dir=folder) as out,
        lf.cluster("local", dashboard_address="127.0.0.1:0", **options) as client,
    ):
        run = lf.run(lazy, Path(out) / "out.zarr", client=client, progress=False)
        measured = int(run.blocks.peak_rss.max())
    return {
        "case": case,
        "block_bytes": planned.largest_block,
        "threads": threads,
        "predicted": planned.peak_memory,
        "measured": measured,
        "ratio": round(planned.peak_memory / measured, 3),
        "peak_step": planned.peak_step,
    }


def compare() -> dict[str, object]:
    """Return predicted and measured peaks of all cases; ours is the ratio that is farthest from one."""
    table = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for threads in THREADS:
            for build in (chain, mean, columns, merged, halo, grids):
                with dask.config.set(array_plugins=[sizes.remember]):
                    lazy = build()
                table.append(measure(build.__name__, lazy, threads, folder))
            table += [measure(f"ps1, scale {scale}", ps1(scale, folder), threads, folder) for scale in SCALES]
    worst = max((float(str(row["ratio"])) for row in table), key=lambda ratio: abs(ratio - 1))
    return {
        "name": "memory",
        "ours": worst,
        "peer": None,
        "ratio": worst,
        "table": table,
        "goal": f"predicted within {GOAL:.0%} of measured",
        "met": abs(worst - 1) <= GOAL,
        "conditions": f"one worker process; bands of {ROWS} x {COLUMNS} float32; VmHWM of the worker",
    }
