"""Graphs whose arrays are large enough for a worker's memory to tell: one of each kind of work."""

from functools import partial
from pathlib import Path
from typing import Literal

import dask.array as da
import numpy as np
import xarray as xr

from lensflow.arrays.overlap import map_overlap

Kind = Literal["chain", "mean", "std", "columns", "merged", "halo", "pair", "grids", "packed"]
DEPTH = 60


def make(rows: int, columns: int, block_id: tuple[int, ...]) -> np.ndarray:
    """Return a band of random pixels: what they compress to is no help."""
    return np.random.default_rng(block_id[0]).random((rows, columns), dtype=np.float32)


def double(band: np.ndarray) -> np.ndarray:
    """Return twice the band."""
    return band * np.float32(2)


def three(band: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return several arrays at once."""
    return double(band), (band > 0.5).astype("u2"), band + np.float32(1)


def forget_peak() -> None:
    """Let the largest memory of this process count from now on; else it never falls."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def graph(*, kind: Kind, bands: int = 5, rows: int = 1000, columns: int = 6000) -> xr.Dataset:
    """Make bands of random pixels and work on them."""
    source = da.map_blocks(
        partial(make, rows, columns), chunks=((rows,) * bands, (columns,)), dtype="f4", meta=np.empty((0, 0), "f4")
    )
    image = xr.DataArray(source, dims=("y", "x"), name="flux")
    if kind == "chain":
        for step in range(10):
            image = image * np.float32(1.5) if step % 2 else image + np.float32(step)
        return image.to_dataset(name="flux")
    if kind in ("mean", "std"):
        return (image.mean("y") if kind == "mean" else image.std("y")).to_dataset(name="flux")
    if kind in ("columns", "merged"):
        chunks = {"y": -1, "x": columns // bands} if kind == "columns" else {"y": 2 * rows, "x": -1}
        return image.chunk(chunks).to_dataset(name="flux")
    if kind == "grids":
        return xr.Dataset({"flux": image * 2, "rows": image.mean("x"), "columns": image.mean("y")})
    if kind == "packed":
        return map_overlap(three, image, depth={"y": DEPTH}, outputs={"flux": "f4", "mask": "u2", "more": "f4"})
    blurred = map_overlap(double, image, depth={"y": DEPTH}).to_dataset(name="flux")
    return blurred.assign(raw=image) if kind == "pair" else blurred
