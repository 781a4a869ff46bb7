"""A graph for the tests: row bands with a halo, slow enough to be killed in the middle, all work counted.

In the folder ``log`` each read leaves a file. Where it has a folder ``blocks``, each block begun leaves one there,
a file ``hold`` beside it makes the blocks from a number on wait until it is gone, and a file ``poison.json`` makes a
block suffer. The arguments of a run, and with them its identity, are the same with and without.
"""

import ctypes
import json
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import dask.array as da
import numpy as np
import xarray as xr

HOARD = 1 << 24  # bytes allocated at a time by a block that allocates without bound
BREATH = 0.005  # s between: who looks after a worker's memory looks ten times a second
LONG = 3600.0  # s: for ever
SLOW = 1.5  # s: long enough to be interrupted


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
            mark(Path(self.log), block_id[0])
        rng = np.random.default_rng(block_id[0])
        return rng.normal(size=(self.rows, 64)).astype("f4")


def mark(folder: Path, band: int) -> None:
    """Leave a file for a band in a folder."""
    (folder / f"{band}.{os.getpid()}.{uuid.uuid4().hex}").touch()


def wait(log: Path, band: int) -> None:
    """Wait while this band is held back."""
    hold = log / "hold"
    with suppress(FileNotFoundError):
        while band >= int(hold.read_text(encoding="ascii")):
            time.sleep(BREATH)


def suffer(log: Path, band: int) -> None:
    """Do what the poison says, if this is the band it is meant for."""
    try:
        poison = json.loads((log / "poison.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    if poison["band"] != band:
        return
    kind, _, where = poison["kind"].partition("-")
    if where == "alone" and "lensflow.engine.alone" not in sys.orig_argv:
        kind = "kill"  # what brings it there
    if kind == "flaky":
        fail_at_times(log, band, poison["times"])
    else:
        HARM[kind](band)


def crash(_: int) -> None:
    """End this process by a segmentation fault."""
    ctypes.string_at(0)


def kill(_: int) -> None:
    """End this process at once."""
    os.kill(os.getpid(), signal.SIGKILL)


def allocate(_: int) -> None:
    """Take memory without bound."""
    hoard = []
    while True:
        hoard.append(np.ones(HOARD, np.uint8))
        time.sleep(BREATH)


def fail(band: int) -> None:
    """Raise, always."""
    raise ValueError(f"band {band} is poisoned")


def fail_at_times(log: Path, band: int, times: int) -> None:
    """Raise the first few times."""
    if len(list((log / "blocks").glob(f"{band}.*"))) <= times:
        raise OSError(f"band {band} cannot be read at the moment")


HARM: dict[str, Callable[[int], None]] = {
    "segfault": crash,
    "kill": kill,
    "memory": allocate,
    "raise": fail,
    "sleep": lambda _: time.sleep(LONG),
    "slow": lambda _: time.sleep(SLOW),
}


def smooth(band: np.ndarray, seconds: float = 0.0, log: str = "", block_id: tuple[int, ...] = (0, 0)) -> np.ndarray:
    """Average three rows."""
    if log and Path(log, "blocks").is_dir():
        mark(Path(log, "blocks"), block_id[0])
        wait(Path(log), block_id[0])
        suffer(Path(log), block_id[0])
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
        smooth,
        source,
        depth={0: 2, 1: 0},
        boundary="none",
        dtype="f4",
        meta=np.empty((0, 0), "f4"),
        allow_rechunk=False,
        seconds=seconds,
        log=log,
    )
    return xr.Dataset({"smooth": (("y", "x"), smoothed), "raw": (("y", "x"), source)}, coords={"x": np.arange(64)})
