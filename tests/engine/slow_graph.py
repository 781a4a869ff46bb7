"""A graph for the tests: row bands with a halo, slow enough to be killed in the middle, every read counted."""

import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import dask.array as da
import numpy as np
import xarray as xr


@dataclass(frozen=True)
class Reader:
    """A class of the graph file's own: workers cannot import it."""

    log: str
    seconds: float
    rows: int

    def __call__(self, block_id: tuple[int, ...] = (0, 0)) -> np.ndarray:
        """Return a band of rows and leave a file that says it has been read."""
        time.sleep(self.seconds)
        if self.log:
            Path(self.log, f"{block_id[0]}.{os.getpid()}.{uuid.uuid4().hex}").touch()
        rng = np.random.default_rng(block_id[0])
        return rng.normal(size=(self.rows, 64)).astype("f4")


def smooth(band: np.ndarray, seconds: float = 0.0) -> np.ndarray:
    """Average three rows."""
    time.sleep(seconds)
    padded = np.pad(band, ((1, 1), (0, 0)), mode="edge")
    mean: np.ndarray = (padded[:-2] + padded[1:-1] + padded[2:]) / np.float32(3)
    return mean


def graph(*, bands: int = 24, rows: int = 8, log: str = "", seconds: float = 0.0) -> xr.Dataset:
    """Smooth bands of noise.

    Parameters
    ----------
    bands
        Number of row bands.
    rows
        Rows in a band.
    log
        Folder in which each read leaves a file.
    seconds
        Time a read and a smoothing take.
    """
    read = Reader(log, seconds, rows)
    source = da.map_blocks(read, chunks=((rows,) * bands, (64,)), dtype="f4", meta=np.empty((0, 0), "f4"))
    smoothed = da.map_overlap(
        smooth, source, depth={0: 2, 1: 0}, boundary="none", dtype="f4", allow_rechunk=False, seconds=seconds
    )
    return xr.Dataset({"smooth": (("y", "x"), smoothed), "raw": (("y", "x"), source)}, coords={"x": np.arange(64)})
