"""asv suite of lensflow.arrays: the blur of a quarter of a skycell, and the size of halo graphs."""

from __future__ import annotations

from typing import Any, ClassVar

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import optimize

from lensflow.arrays.gaussian import gaussian_blur, gaussian_blur_masked, gaussian_blur_variance
from lensflow.arrays.overlap import map_overlap

SIZE = 3120  # px
RADIUS = 470  # px


class Gaussian:
    """All three ways of the blur, plain and with invalid pixels."""

    params: ClassVar[list[float]] = [2.5, 8.0, 20.0, 40.0, 60.0, 78.0, 100.0]
    param_names: ClassVar[list[str]] = ["sigma"]

    def setup(self, sigma: float) -> None:
        self.options: dict[str, Any] = {"sigma": sigma, "radius": RADIUS}
        self.image = np.random.default_rng(0).random((SIZE, SIZE), dtype=np.float32)
        self.holes = self.image.copy()
        self.holes[100:400, 300:900] = np.nan

    def time_plain(self, _sigma: float) -> None:
        gaussian_blur(self.image, **self.options)

    def time_masked_valid(self, _sigma: float) -> None:
        gaussian_blur_masked(self.image, **self.options)

    def time_masked_hole(self, _sigma: float) -> None:
        gaussian_blur_masked(self.holes, **self.options)

    def time_variance(self, _sigma: float) -> None:
        gaussian_blur_variance(self.holes, **self.options)

    def peakmem_masked_hole(self, _sigma: float) -> None:
        gaussian_blur_masked(self.holes, **self.options)


class Copy:
    """The measure of the blur: a copy of the same image."""

    def setup(self) -> None:
        self.image = np.random.default_rng(0).random((SIZE, SIZE), dtype=np.float32)

    def time_copy(self) -> None:
        self.image.copy()


class Overlap:
    """Building and size of the graph of row bands with a halo."""

    params: ClassVar[list[int]] = [10, 1000]
    param_names: ClassVar[list[str]] = ["bands"]

    def setup(self, bands: int) -> None:
        data = da.ones((bands * 100, 50), chunks=(100, 50), dtype=np.float32)
        self.image = xr.DataArray(data, dims=("y", "x"))

    def _graph(self) -> xr.DataArray:
        return map_overlap(np.negative, self.image, depth={"y": 40}, boundary="valid")

    def time_build(self, _bands: int) -> None:
        self._graph()

    def time_optimise(self, _bands: int) -> None:
        optimize(self._graph())

    def track_tasks_per_band(self, bands: int) -> float:
        (optimised,) = optimize(self._graph())
        return len(optimised.__dask_graph__()) / bands
