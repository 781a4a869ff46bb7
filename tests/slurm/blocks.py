"""Lazy datasets whose blocks take long, die, or eat memory, and leave a line where they were run."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import cloudpickle
import dask.array as da
import numpy as np
import psutil
import xarray as xr

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers have no tests


def rows(count: int, work: Callable[[int], None], runs: Path) -> xr.Dataset:
    """Return a dataset of ``count`` blocks; each calls ``work`` with its number and notes in ``runs`` that it began."""

    def block(block_id: tuple[int, ...] = (0, 0)) -> np.ndarray:
        with (runs / "begun").open("a") as file:
            file.write(f"{block_id[0]}\n")
        work(block_id[0])
        return np.full((2, 3), block_id[0], "f4")

    lazy = da.map_blocks(block, chunks=((2,) * count, (3,)), dtype="f4", meta=np.empty((0, 0), "f4"))
    return xr.Dataset({"a": (("y", "x"), lazy)})


def begun(runs: Path) -> list[int]:
    """Return the blocks that have been begun, in order, as often as they were."""
    path = runs / "begun"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def listening() -> list[str]:
    """Return the addresses on which this process listens."""
    found = psutil.Process().net_connections("tcp")
    return [one.laddr.ip for one in found if one.status == psutil.CONN_LISTEN]


def sleeping(seconds: float) -> Callable[[int], None]:
    return lambda _: time.sleep(seconds)


def deadly(victim: int) -> Callable[[int], None]:
    """Return work that kills its process at one block."""

    def work(number: int) -> None:
        time.sleep(0.1)
        if number == victim:
            os.kill(os.getpid(), signal.SIGSEGV)

    return work


def hungry(victim: int, nbytes: int) -> Callable[[int], None]:
    """Return work that takes far more memory at one block than at the others."""

    def work(number: int) -> None:
        time.sleep(0.1)
        if number == victim:
            np.ones(nbytes, "u1").sum()
            time.sleep(5)

    return work
