"""The last task of a block, run on a worker: put its chunks into the store and say what was put there."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lensflow.engine import store
from lensflow.engine.record import digest

if TYPE_CHECKING:
    from lensflow.engine.blocks import Grid

Runs = tuple[tuple[int, int], ...]  # (length, how often in a row)


@dataclass(frozen=True)
class Target:
    """Where the chunks of one grid go. Small: it travels with every block."""

    path: str
    group: str
    names: tuple[str, ...]
    runs: tuple[Runs, ...]
    token: str

    @classmethod
    def of(cls, grid: Grid, path: Path, token: str) -> Target:
        """Describe a grid's place in a store; equal neighbouring chunk lengths are counted, not listed."""
        return cls(str(path), grid.group, grid.names, tuple(_count(one) for one in grid.chunks), token)

    def region(self, index: tuple[int, ...]) -> tuple[slice, ...]:
        """Return the elements of the block at ``index``."""
        return tuple(_extent(runs, place) for runs, place in zip(self.runs, index, strict=True))


def _count(lengths: tuple[int, ...]) -> Runs:
    runs: list[tuple[int, int]] = []
    for length in lengths:
        if runs and runs[-1][0] == length:
            runs[-1] = (length, runs[-1][1] + 1)
        else:
            runs.append((length, 1))
    return tuple(runs)


def _extent(runs: Runs, place: int) -> slice:
    start = 0
    for length, times in runs:
        if place < times:
            return slice(start + place * length, start + (place + 1) * length)
        place -= times
        start += length * times
    raise IndexError(place)


def write_block(*chunks: np.ndarray, target: Target, block_id: tuple[int, ...]) -> np.ndarray:
    """Write one chunk of every variable and return the record, wrapped so that it can be a Dask chunk."""
    begun, ticked = time.time(), time.perf_counter()  # the second goes on as ever where the clock is put
    region = target.region(block_id)
    digests: dict[str, Any] = {}
    for name, values in zip(target.names, chunks, strict=True):
        wanted = tuple(part.stop - part.start for part in region)
        if values.shape != wanted:
            raise ValueError(
                f"variable {name!r} of block {block_id}: the graph made a chunk of shape {values.shape},"
                f" its metadata promise {wanted}"
            )
        stored = store.open_array(target.path, target.group, name, target.token, "r+")
        _check_type(name, block_id, values, stored.dtype)
        values = np.asarray(values, dtype=stored.dtype, order="C")  # noqa: PLW2901 - what is stored is what counts
        stored[region or ...] = values
        digests[name] = digest(values).as_json()
    record = {
        "region": [[part.start, part.stop] for part in region],
        "variables": digests,
        "began": begun,
        "seconds": round(time.perf_counter() - ticked, 6),
        "peak_rss": peak_rss(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
    }
    wrapped = np.empty((1,) * len(block_id), dtype=object)
    wrapped[...] = record
    return wrapped


def _check_type(name: str, block_id: tuple[int, ...], values: np.ndarray, stored: np.dtype[Any]) -> None:
    """Refuse values that the stored type cannot hold: numpy would wrap, cut and unmask them without a word."""
    rule: Literal["same_kind", "safe"] = "same_kind" if stored.kind in "fc" else "safe"
    if np.ma.isMaskedArray(values) or not (values.dtype.kind == "b" or np.can_cast(values.dtype, stored, rule)):
        made = f"a masked array of {values.dtype}" if np.ma.isMaskedArray(values) else str(values.dtype)
        raise ValueError(
            f"variable {name!r} of block {block_id}: the graph made {made}, its metadata promise {stored};"
            " give map_blocks the true dtype, or convert in the graph"
        )


def peak_rss() -> int:
    """Return the largest resident memory this process has had, bytes.

    Linux's ``VmHWM``: unlike ``ru_maxrss`` it does not inherit the size of the process that forked this one.
    """
    try:
        with Path("/proc/self/status").open(encoding="ascii") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import psutil  # noqa: PLC0415 - only where /proc is missing

        return int(psutil.Process().memory_info().rss)
