"""asv suite of lensflow.engine: planning, and the cost of a block."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import ClassVar

import dask.array as da
import numpy as np
import xarray as xr

import lensflow as lf
from lensflow.arrays.overlap import map_overlap
from lensflow.engine.record import digest


def bands(count: int) -> xr.Dataset:
    """Return row bands that need a halo."""
    data = da.ones((count * 8, 8), chunks=(8, 8), dtype=np.float32)
    image = xr.DataArray(data, dims=("y", "x"), name="flux")
    return map_overlap(np.negative, image, depth={"y": 2}).to_dataset(name="flux")


class Planning:
    """Optimising and cutting the graph, and walking through its memory."""

    params: ClassVar[list[int]] = [100, 2000]
    param_names: ClassVar[list[str]] = ["blocks"]

    def setup(self, blocks: int) -> None:
        self.data = bands(blocks)

    def time_plan(self, _blocks: int) -> None:
        lf.plan(self.data)

    def peakmem_plan(self, _blocks: int) -> None:
        lf.plan(self.data)

    def track_tasks_per_block(self, blocks: int) -> float:
        return lf.plan(self.data).tasks / blocks


class Running:
    """A run of trivial blocks on one worker: all that is not computing."""

    params: ClassVar[list[int]] = [50]
    param_names: ClassVar[list[str]] = ["blocks"]
    timeout = 120

    def setup(self, blocks: int) -> None:
        self.data = bands(blocks)
        self.manager = lf.cluster("local", n_workers=1, dashboard_address="127.0.0.1:0")
        self.client = self.manager.__enter__()

    def teardown(self, _blocks: int) -> None:
        self.manager.__exit__(None, None, None)

    def time_run(self, _blocks: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            lf.run(self.data, Path(folder, "a.zarr"), client=self.client, progress=False)


class Digest:
    """Checksum and statistics of a block, against the bytes they look at."""

    params: ClassVar[list[int]] = [1 << 20, 1 << 24]
    param_names: ClassVar[list[str]] = ["pixels"]

    def setup(self, pixels: int) -> None:
        self.values = np.random.default_rng(0).random((pixels // 1024, 1024), dtype=np.float32)

    def time_digest(self, _pixels: int) -> None:
        digest(self.values)

    def time_copy(self, _pixels: int) -> None:
        self.values.copy()
