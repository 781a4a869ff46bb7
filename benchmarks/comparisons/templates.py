"""Templates beside a plain astropy program on the same pixels, and beside reading the pixels alone.

One projection of real pixel size in a Zarr store of its own, a small TESS image turned by 30 degrees. CPU seconds of
this process, all its threads: other loads of the machine matter little.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from astropy.io.fits import Header
from astropy.wcs import WCS

from lensflow.ps1.tess.image import tan_sip
from lensflow.ps1.tess.owners import owners
from lensflow.ps1.tess.simulate import tess_header
from lensflow.ps1.tess.sources import open_sources, tiles_of
from lensflow.ps1.tess.templates import Layout, bin_block
from lensflow.ps1.tessellation import Geometry, grid_to_sky

if TYPE_CHECKING:
    from collections.abc import Callable

CELLS = ((4, 5), (4, 6))  # (y, x): two neighbours, 39 Mpx each
TESS = (56, 112)  # rows and columns, inside of them
PEER_ROWS = 256  # of the projection, that the plain program is timed on; its cost is linear in pixels
REPEATS = 5
NUMBER = 2246
GOAL = 20.0  # times faster than the plain program, at least


def compare() -> dict[str, Any]:
    """Time all and return the record, ready for JSON."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "ps1.zarr"
        centre = _write(store)
        header = tess_header(centre, shape=TESS, rotation=30)
        layouts = {
            assign: Layout(
                tan_sip(header, "benchmark"), open_sources(store), ((0.0, 0.0),), assign=assign, rows=TESS[0]
            )
            for assign in ("centre", "area")
        }
        pixels = float(bin_block(layouts["centre"], block_id=(0, 0, 0))[1].sum())
        peer, agrees = _peer(store, header, layouts["centre"])
        seconds = {
            "read alone": _cpu(lambda: _read(layouts["centre"])),
            "centre": _cpu(lambda: bin_block(layouts["centre"], block_id=(0, 0, 0))),
            "area": _cpu(lambda: bin_block(layouts["area"], block_id=(0, 0, 0)), 3),
        }
    cost = {name: 1e9 * s / pixels for name, s in seconds.items()}  # ns a pixel that is summed
    return {
        "name": f"templates: {pixels / 1e6:.0f} Mpx into {TESS[0]} x {TESS[1]} TESS pixels",
        "ours": seconds["centre"],
        "peer": peer * pixels,
        "ratio": peer * pixels / seconds["centre"],
        "goal": f">= {GOAL:g}x a plain astropy program (all_world2pix and bincount), the same counts",
        "met": bool(peer * pixels >= GOAL * seconds["centre"] and agrees),
        "ratio_without_reading": peer * pixels / (seconds["centre"] - seconds["read alone"]),
        "read_ratio": seconds["centre"] / seconds["read alone"],
        "mpx_per_core_second": pixels / 1e6 / seconds["centre"],
        "mpx_per_core_second_without_reading": pixels / 1e6 / (seconds["centre"] - seconds["read alone"]),
        "conditions": f"numpy {np.__version__}; medians of {REPEATS}, CPU seconds; the plain program on pixels in "
        f"memory ({PEER_ROWS} rows, scaled by pixels), ours reads and decompresses them too",
        "table": [{"method": name, "ns_a_pixel": ns} for name, ns in (cost | {"plain astropy": 1e9 * peer}).items()],
    }


def _cpu(function: Callable[[], object], repeats: int = REPEATS) -> float:
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        function()
        times.append(time.process_time() - begin)
    return statistics.median(times)


def _write(store: Path) -> tuple[float, float]:
    """Write two cells of noise and stars as ps1_convolution would, and return RA and Dec of their middle."""
    grid = Geometry().projection(NUMBER)
    y0, x0 = grid.cell_origin(*CELLS[0])
    shape = grid.height, grid.width + grid.stride_x
    rng = np.random.default_rng(0)
    # smooth like a convolved sky, so that it is compressed like one
    coarse = rng.normal(0.02, 0.01, (-(-shape[0] // 64), -(-shape[1] // 64))).astype(np.float32)
    flux = np.repeat(np.repeat(coarse, 64, axis=0), 64, axis=1)[: shape[0], : shape[1]]
    flux += rng.normal(0, 1e-5, shape).astype(np.float32)
    mask = np.where(rng.random(shape, dtype=np.float32) < 0.03, np.uint16(4), np.uint16(0))
    mask[1000:1200, 2000:2300] |= 4096
    node = xr.Dataset(
        {"flux": (("y", "x"), flux), "mask": (("y", "x"), mask)},
        coords={"y": np.arange(y0, y0 + shape[0], dtype=np.int32), "x": np.arange(x0, x0 + shape[1], dtype=np.int32)},
        attrs={
            "projection": NUMBER,
            "cells": [f"skycell.{NUMBER}.0{y}{x}" for y, x in CELLS],
            "wcs": grid.wcs_keys(origin=(y0, x0)),
        },
    )
    for values in node.data_vars.values():
        values.encoding = {"chunks": (grid.stride_y, 1024)}
    attrs = {"schema": "ps1_convolution/1", "options": json.dumps({"scale": 1})}
    tree = xr.DataTree(xr.Dataset(attrs=attrs), children={f"{NUMBER:04d}": xr.DataTree(node)})
    tree.to_zarr(store, zarr_format=3, consolidated=False)
    ra, dec = grid_to_sky(grid, x0 + shape[1] / 2, y0 + shape[0] / 2)
    return float(ra), float(dec)


def _read(layout: Layout) -> int:
    """Read and decompress what a block reads, and nothing else."""
    total = 0
    _, touched = owners(layout.image, layout.sources, layout.block(0), (0.0, 0.0))
    for k, tiles in touched.items():
        for extent, _ in tiles_of(layout.sources[k], tiles):
            total += sum(layout.sources[k].read(name, extent).nbytes for name in ("flux", "mask"))
    return total


def _peer(store: Path, header: Header, layout: Layout) -> tuple[float, bool]:
    """Return seconds a pixel of the plain program, and whether it counts the same pixels."""
    with xr.open_datatree(store, engine="zarr", chunks=None, consolidated=False) as tree:
        node = tree.children[f"{NUMBER:04d}"].to_dataset(inherit=False)
        middle = node.sizes["y"] // 2
        part = node.isel(y=slice(middle, middle + PEER_ROWS), x=slice(4800, 7200)).load()
        wcs = WCS(Header(node.attrs["wcs"]))
    flux, mask = part["flux"].values, part["mask"].values
    tess, size = WCS(header), TESS[0] * TESS[1]
    begin = time.process_time()
    y, x = np.mgrid[0 : flux.shape[0], 0 : flux.shape[1]]
    world = wcs.all_pix2world(x.ravel() + 4800, y.ravel() + middle, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        u, v = tess.all_world2pix(*world, 0, quiet=True)
    column, row = np.floor(u + 0.5).astype(int), np.floor(v + 0.5).astype(int)
    inside = (column >= 0) & (column < TESS[1]) & (row >= 0) & (row < TESS[0])
    place = (row * TESS[1] + column)[inside]
    used = (np.isfinite(flux) & ((mask & 4096) == 0)).ravel()[inside]
    weights = (np.where(used, flux.ravel()[inside], 0), None, (mask != 0).ravel()[inside], used)
    sums = [np.bincount(place, one, minlength=size) for one in weights]
    seconds = (time.process_time() - begin) / flux.size
    # TESS pixels that lie wholly in the part; a few pixels near borders differ, its inversion is good to 1e-4 px
    whole = [one.ravel() for one in bin_block(layout, block_id=(0, 0, 0))]
    same = (sums[1] > 0) & (np.abs(sums[1] - whole[1]) <= 10)
    agrees = same.sum() > 20 and np.allclose(sums[0][same], whole[0][same], rtol=3e-3)
    return seconds, bool(agrees)


if __name__ == "__main__":
    print(json.dumps(compare(), indent=1))
