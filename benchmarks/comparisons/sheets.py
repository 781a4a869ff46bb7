"""Rows of a light-cone mesh to mass sheets, beside np.fromfile and np.bincount of the same rows, on one core.

The mesh is written into the folder LENSFLOW_BENCH_DIR, or a temporary one: 1.2 GB for 1e8 rows.
"""

from __future__ import annotations

import os
import platform
import resource
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
import zarr

import lensflow as lf
from lensflow.lensing.cosmology import CRITICAL
from lensflow.lensing.kappa.kappa_outputs import add_sheets
from lensflow.lensing.kappa.sheet_sources import StoredSheet
from lensflow.lensing.mesh.bigfile import open_block
from lensflow.lensing.mesh.bigfile_write import write_block

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

NSIDE, SHEETS, ROWS = 2048, (50, 52), 50_000_000  # rows a sheet
PART = 1 << 25  # rows, as FastPM cuts parts
REPEATS = 3
GOALS = {"sorted": 0.8, "shuffled": 0.3}  # of the rows a second of the loop


def compare() -> dict[str, Any]:
    """Time sorted and shuffled rows and return the record, ready for JSON."""
    folder = Path(tempfile.mkdtemp(dir=os.environ.get("LENSFLOW_BENCH_DIR")))
    try:
        rows = {order: _compare(folder / order, shuffled=order == "shuffled") for order in GOALS}
        kappa = _compare_kappa(folder / "sheets.zarr")
    finally:
        shutil.rmtree(folder)
    main = rows["sorted"]
    return {
        "name": f"mass_sheets, nside {NSIDE}, {ROWS * (SHEETS[1] - SHEETS[0]):.3g} rows, strict",
        "ours": main["ours"],
        "peer": main["loop"],
        "ratio": main["rate_ratio"],
        "goal": ">= .8 of the rows/s of np.fromfile + np.bincount, shuffled >= .3",
        "met": all(rows[order]["rate_ratio"] >= goal for order, goal in GOALS.items()),
        "kappa": kappa,
        "conditions": (
            f"numpy {np.__version__}, {platform.machine()}, one thread, medians of {REPEATS} interleaved rounds, files "
            "in the page cache; bytes summed, rows checked, moments and float32 maps made; not written to a store"
        ),
        "table": [{"rows": order, **row} for order, row in rows.items()],
    }


def _compare(mesh: Path, *, shuffled: bool) -> dict[str, float]:
    write_mesh(mesh, shuffled=shuffled)
    graph = lf.graph("mass_sheets")
    total = ROWS * (SHEETS[1] - SHEETS[0])

    def ours(**words: object) -> None:
        tree = graph(mesh, sheet_range=SHEETS, **words)
        kept = [one.to_dataset(inherit=False) for one in (tree, *tree.children.values())]
        dask.compute(*kept, scheduler="sync")

    ours()  # compiles the kernels, fills the page cache
    seconds = _interleaved(
        {
            "ours": ours,
            "ours, off": lambda: ours(validation_level="off"),
            "loop": lambda: loop(mesh),
            "building": lambda: graph(mesh, sheet_range=SHEETS),
        }
    )
    shutil.rmtree(mesh)
    return {
        **seconds,
        "rows_per_second": total / seconds["ours"],
        "rate_ratio": seconds["loop"] / seconds["ours"],
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def _compare_kappa(store: Path) -> dict[str, float]:
    """Sum one chunk of pixels of stored sheets for five redshifts, beside only reading it; the goal is .7."""
    pixels, count, rng = 4**11, 32, np.random.default_rng(0)
    stored = zarr.create_array(store, shape=(count, pixels), chunks=(1, pixels), dtype="f4")
    for place in range(count):
        stored[place] = (rng.poisson(1.3, pixels) / 1.3 - 1).astype("f4")
    readers = tuple(StoredSheet(str(store), place) for place in range(count))
    weights = rng.random((5, count))

    def ours() -> None:
        add_sheets(readers=readers, weights=weights, chunk=pixels, npix=pixels, block_id=(0, 0))

    def reading() -> None:
        for one in readers:
            one.read(0, pixels)

    ours()
    seconds = _interleaved({"ours": ours, "reading": reading})
    return {**seconds, "rate_ratio": seconds["reading"] / seconds["ours"]}


def loop(mesh: Path) -> None:
    """Do what the pipelines before do: read columns whole and add them up with numpy."""
    npix = 12 * NSIDE**2
    ids, mass = (open_block(mesh / "HEALPIX" / name) for name in ("ID", "Mass"))
    maps: dict[int, NDArray[np.float64]] = {}
    for one, other in zip(ids.parts, mass.parts, strict=True):
        keys, weights = np.fromfile(one.path, "<i8"), np.fromfile(other.path, "<f4")
        sheet = int(keys[0] // npix)  # a part has rows of one sheet here
        found = np.bincount(keys - sheet * npix, weights, npix).astype(np.float64, copy=False)
        maps[sheet] = maps[sheet] + found if sheet in maps else found


def write_mesh(
    mesh: Path, *, shuffled: bool, nside: int = NSIDE, rows: int = ROWS, sheets: tuple[int, int] = SHEETS
) -> None:
    """Write a mesh of random occupied pixels."""
    maps = mesh / "HEALPIX"
    for name, dtype in (("ID", "<i8"), ("Mass", "<f4")):
        write_block(maps / name, _columns(name, nside, rows, sheets, shuffled=shuffled), dtype=dtype)
    edges = np.linspace(0, 1, 101)
    write_block(maps, attrs={"healpix.nside": nside, "healpix.npix": 12 * nside**2, "aemitIndex.edges": edges})
    about = {"NC": 512, "BoxSize": 3750.0, "OmegaM": 0.309, "OmegaLambda": 0.691, "HubbleParam": 0.6774}
    table = np.array([0, CRITICAL * 0.309 * (3750 / 512) ** 3])
    write_block(mesh / "Header", attrs={**about, "MassTable": table, "ParamFile": "random_seed = 1\n"})


def _columns(
    name: str, nside: int, rows: int, sheets: tuple[int, int], *, shuffled: bool
) -> Iterator[NDArray[np.generic]]:
    """Yield the parts of a column, the same rows for both."""
    npix = 12 * nside**2
    for sheet in range(*sheets):
        rng = np.random.default_rng(sheet)
        for start in range(0, rows, PART):
            count = min(PART, rows - start)
            if name == "Mass":
                yield rng.random(count, np.float32) + np.float32(0.1)
                continue
            low, high = start * npix // rows, (start + count) * npix // rows
            # sorted: rising by random steps through this part's share of the pixels
            steps = rng.random(count, np.float32).cumsum(dtype=np.float64)
            pixel = low + (steps * ((high - low - 1) / steps[-1])).astype(np.int64)
            yield sheet * npix + (rng.permutation(pixel) if shuffled else pixel)


def _interleaved(methods: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of each method over rounds that run all of them."""
    times: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(REPEATS):
        for name, method in methods.items():
            begin = time.perf_counter()
            method()
            times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(found) for name, found in times.items()}
