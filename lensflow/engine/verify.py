"""Read a store back and hold every block against the checksum that was journalled when it was written."""

from __future__ import annotations

import os
import uuid
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from lensflow.engine import store, template
from lensflow.engine.journal import Log
from lensflow.engine.lock import Lock
from lensflow.engine.record import checksum
from lensflow.errors import LensflowError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lensflow.engine.journal import State
    from lensflow.engine.rundir import RunDirectory

UNSETTLED = 60.0  # s that a written file may take to reach the disk: twice Linux's dirty_expire_centisecs


@dataclass(frozen=True)
class Verdict:
    """What reading back has shown: how many blocks were looked at, and which of them, and which metadata, are wrong."""

    checked: int
    damaged: dict[str, str]
    altered: tuple[str, ...]
    pending: int
    quarantined: int

    @property
    def clean(self) -> bool:
        """Whether every block is there and as it was written."""
        return not (self.damaged or self.altered or self.pending or self.quarantined)

    def __str__(self) -> str:
        parts = [f"{self.checked} blocks read back, {len(self.damaged)} damaged"]
        if self.pending:
            parts.append(f"{self.pending} not yet written")
        if self.quarantined:
            parts.append(f"{self.quarantined} quarantined")
        lines = [f"  {block}: {reason}" for block, reason in self.damaged.items()]
        lines += [f"  {file}: missing or not what was written" for file in self.altered]
        if lines:
            lines.append("  resume the run to mend them")
        return "\n".join([", ".join(parts), *lines])


def died(state: State) -> bool:
    """Whether the last driver ended without saying so, or the machine has been started anew right after."""
    if not state.sessions:
        return False
    last = max((record["t"] for record in state.done.values()), default=0.0)
    return "ended" not in state.sessions[-1] or psutil.boot_time() > last - UNSETTLED


def recheck(directory: RunDirectory, state: State, *, everything: bool) -> dict[str, str]:
    """Read back the blocks that may have been lost without the journal knowing, and return the damaged ones.

    A killed process loses nothing that the journal names, a crashed machine may: the kernel writes files out
    half a minute late, and not in order. So the last blocks before a death are looked at, or all of them.
    """
    if not state.done or not (everything or died(state)):
        return {}
    return _damaged(directory, state.done if everything else unsettled(state))


def unsettled(state: State) -> dict[str, dict[str, Any]]:
    """Return the last blocks written, by the journal's order: clocks jump."""
    latest_first = list(state.done.items())[::-1]
    since = latest_first[0][1]["t"] - UNSETTLED
    return dict(takewhile(lambda item: item[1]["t"] >= since, latest_first))


def _damaged(directory: RunDirectory, records: Mapping[str, dict[str, Any]]) -> dict[str, str]:
    token = uuid.uuid4().hex
    found = {block: _damage(directory, block, record, token) for block, record in records.items()}
    return {block: reason for block, reason in found.items() if reason}


def verify(directory: RunDirectory) -> Verdict:
    """Read every finished block back; journal the damaged ones so that ``resume`` writes them anew.

    Metadata, attributes and coordinates are held against the template. A run directory that cannot be written
    (an archive) is looked at all the same; then nothing is journalled.

    Raises
    ------
    RunLocked
        If a live process is writing the store.
    """
    total = directory.describe()["blocks"]
    writable = os.access(directory.path, os.W_OK)
    with Lock(directory.lock) if writable else nullcontext():
        state = directory.state()
        found = _damaged(directory, state.done)
        if writable and found:
            with Log(directory.journal) as journal:
                for block, reason in found.items():
                    journal.append("damaged", block=block, reason=reason)
    return Verdict(
        checked=len(state.done),
        damaged={**state.damaged, **found},
        altered=tuple(map(str, template.altered(directory))),
        pending=total - len(state.done) - len(state.quarantined) - len(state.damaged),
        quarantined=len(state.quarantined),
    )


def _damage(directory: RunDirectory, block: str, record: dict[str, Any], token: str) -> str | None:
    """Say what is wrong with a block, None if nothing is."""
    if "region" not in record or "variables" not in record:
        return "its entry in the journal is damaged"
    group, _, _ = block.rpartition("[")[0].rpartition("/")
    region = tuple(slice(start, stop) for start, stop in record["region"])
    for name, written in record["variables"].items():
        try:
            stored = store.array(directory.out, group, name, token)
            values = np.asarray(stored[region or ...])
        except LensflowError as error:
            return str(error)
        except (OSError, RuntimeError, ValueError) as error:  # what zarr's codecs raise on altered bytes
            return f"{name} cannot be read ({type(error).__name__}: {error})"
        if checksum(values) != written["checksum"]:
            hole = _is_fill(values, stored.fill_value)
            return f"{name} is missing" if hole else f"{name} is not what was written"
    return None


def _is_fill(values: np.ndarray, fill: Any) -> bool:  # noqa: ANN401 - a number
    if values.dtype.kind in "fc" and np.isnan(fill):
        return bool(np.isnan(values).all())
    return bool((values == fill).all())
