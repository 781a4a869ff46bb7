"""The whole PS1 chain beside a program that only reads the same files and writes the same bytes.

Ours: skycells in Rice-compressed FITS are read, linearised, combined, masked, stitched, convolved and written by
``lensflow.run``. The peer, on the same worker processes: every file is read and decompressed by plain astropy, every
stored chunk of our output is compressed and written by plain zarr, and nothing else; a task a file and a task a chunk.
Ours is timed from the folder to the last block, planning and journal included; the report that is drawn afterwards is
given beside it. Rounds alternate. Allow five minutes, 5 GiB of disk and 8 GiB of memory.
"""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import zarr
from astropy.io import fits
from distributed import wait

import lensflow as lf

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Client

NUMBER, ROWS, COLUMNS = 2246, (2, 8), (3, 4)  # six rows of one skycell, 39.7 Mpx each
VARIABLES = ("flux", "mask", "coverage")
WORKERS, ROUNDS = 2, 3
GOAL = 1.5


def simulate(cells: Path) -> None:
    """Write the skycells; all show the same pixels, under their own headers."""
    verb = lf.graph("ps1_convolution").verb("simulate")
    verb(cells, projection=NUMBER, rows=ROWS, columns=COLUMNS, scale=1, reuse=True, weights=False)


def chain(cells: Path, out: Path, client: Client) -> float:
    """Run the whole chain, from the folder to the finished store, and return the seconds that the report took after."""
    lf.run(lf.graph("ps1_convolution")(cells, projection=NUMBER), out, client=client, progress=False)
    return time.time() - float(report(out)["sessions"][-1]["ended"])


def read(path: str) -> int:
    """Read and decompress a FITS file as plain code does at its fastest."""
    with fits.open(path, memmap=False, do_not_scale_image_data=True) as hdus:
        return int(hdus[1].section[:].nbytes)


def write(chunk: tuple[str, int, int], pixels: str, out: str) -> int:
    """Compress and write one stored chunk of a variable."""
    name, row, column = chunk
    stored = zarr.open_array(f"{out}/{NUMBER}/{name}", mode="r+")
    height, width = stored.chunks
    area = slice(row * height, (row + 1) * height), slice(column * width, (column + 1) * width)
    values = np.load(f"{pixels}/{name}.npy", mmap_mode="r")[area]
    stored[area] = values
    return int(values.nbytes)


def plain(cells: Path, store: Path, pixels: Path, out: Path, client: Client) -> float:
    """Read every file and write every chunk that the chain reads and writes; there is no report."""
    shutil.copytree(store, out, ignore=lambda _, names: [name for name in names if name == "c"])
    chunks = []
    for name in VARIABLES:
        grid = zarr.open_array(store, path=f"{NUMBER}/{name}", mode="r").cdata_shape
        chunks += [(name, *index) for index in product(*map(range, grid))]
    files = [str(path) for path in sorted(cells.glob("*.fits"))]
    jobs = client.map(read, files, pure=False)
    jobs += client.map(write, chunks, pixels=str(pixels), out=str(out), pure=False)
    wait(jobs)
    client.gather(jobs)
    return 0.0


class Round(NamedTuple):
    """What a round took, s."""

    wall: float
    workers: float  # CPU
    driver: float  # CPU, that of the scheduler included
    report: float  # of the wall time that came after, not in it


def clocked(work: Callable[[Path], float], folder: Path, client: Client) -> Round:
    """Time a round."""

    def clock() -> tuple[float, float, float]:
        return time.perf_counter(), sum(client.run(time.process_time).values()), time.process_time()

    with tempfile.TemporaryDirectory(dir=folder) as name:
        before = clock()
        after_all = work(Path(name) / "out.zarr")
        wall, workers, driver = (after - start for after, start in zip(clock(), before, strict=True))
        return Round(*(round(one, 2) for one in (wall - after_all, workers, driver, after_all)))


def report(store: Path) -> dict[str, Any]:
    """Return the report of a run."""
    found: dict[str, Any] = json.loads((store.with_name(f"{store.name}.run") / "report.json").read_text())
    return found


def stages(store: Path) -> list[dict[str, Any]]:
    """Return what a run's report says of its tasks: seconds of all of them, by stage."""
    return [{"stage": one["stage"], "tasks": one["count"], "seconds": one["total"]} for one in report(store)["stages"]]


def compare() -> dict[str, Any]:
    """Time both and return the record, ready for JSON."""
    options = {"n_workers": WORKERS, "memory_limit": 0, "dashboard_address": "127.0.0.1:0"}
    with tempfile.TemporaryDirectory() as name, lf.cluster("local", **options) as client:
        folder = Path(name)
        cells, store, pixels = (folder / part for part in ("cells", "first.zarr", "pixels"))
        simulate(cells)
        chain(cells, store, client)  # makes what the peer writes, and warms up
        pixels.mkdir()
        for variable in VARIABLES:
            np.save(pixels / variable, np.asarray(zarr.open_array(store, path=f"{NUMBER}/{variable}", mode="r")[...]))
        ours, peer = [], []
        for _ in range(ROUNDS):
            peer.append(clocked(lambda out: plain(cells, store, pixels, out, client), folder, client))
            ours.append(clocked(lambda out: chain(cells, out, client), folder, client))
        stored = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
        taken = sum(path.stat().st_size for path in cells.glob("*.fits"))
        table = stages(store)
    chain_s, plain_s = (Round(*map(statistics.median, zip(*rounds, strict=True))) for rounds in (ours, peer))
    ratio = statistics.median(one.wall / two.wall for one, two in zip(ours, peer, strict=True))
    return {
        "name": f"ps1: {(ROWS[1] - ROWS[0]) * (COLUMNS[1] - COLUMNS[0])} skycells of true size, FITS to Zarr",
        "ours": chain_s.wall,
        "peer": plain_s.wall,
        "ratio": round(ratio, 3),
        "goal": f"<= {GOAL} x reading, decompressing, compressing and writing alone",
        "met": ratio <= GOAL,
        "cpu_seconds_of_workers": [chain_s.workers, plain_s.workers],
        "cpu_seconds_of_driver": [chain_s.driver, plain_s.driver],
        "cpu_ratio_of_workers": round(chain_s.workers / plain_s.workers, 3),
        "report_seconds": chain_s.report,
        "wall_of_rounds": [[one.wall, two.wall] for one, two in zip(ours, peer, strict=True)],
        "read_gib": round(taken / 2**30, 2),
        "stored_gib": round(stored / 2**30, 2),
        "table": table,
        "conditions": f"{WORKERS} worker processes of 1 thread, files in the page cache, medians of {ROUNDS} rounds",
    }


if __name__ == "__main__":
    print(json.dumps(compare(), indent=1))
