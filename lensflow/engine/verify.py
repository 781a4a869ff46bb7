"""Read a store back and hold every block against the checksum that was journalled when it was written."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lensflow.engine import store
from lensflow.engine.journal import Log
from lensflow.engine.lock import Lock
from lensflow.engine.record import checksum
from lensflow.errors import LensflowError

if TYPE_CHECKING:
    from collections.abc import Callable

    from lensflow.engine.journal import State
    from lensflow.engine.rundir import RunDirectory

UNSETTLED = 60.0  # s that a written file may take to reach the disk: twice Linux's dirty_expire_centisecs


@dataclass(frozen=True)
class Verdict:
    """What reading back has shown: how many blocks were held against the journal, and what is wrong with which."""

    checked: int
    damaged: dict[str, str]
    pending: int
    quarantined: int

    @property
    def clean(self) -> bool:
        """Whether every block is there and as it was written."""
        return not (self.damaged or self.pending or self.quarantined)

    def __str__(self) -> str:
        parts = [f"{self.checked} blocks read back, {len(self.damaged)} damaged"]
        if self.pending:
            parts.append(f"{self.pending} not yet written")
        if self.quarantined:
            parts.append(f"{self.quarantined} quarantined")
        lines = [f"  {block}: {reason}" for block, reason in self.damaged.items()]
        if self.damaged:
            lines.append("  resume the run to mend them")
        return "\n".join([", ".join(parts), *lines])


def recheck(directory: RunDirectory, state: State) -> dict[str, str]:
    """Read back the blocks that were journalled last before a driver died, and return the damaged ones.

    A killed process loses nothing that the journal names, a crashed machine may: the kernel writes files out
    half a minute late, and not in order.
    """
    if not state.sessions or "ended" in state.sessions[-1] or not state.done:
        return {}
    latest = max(record["t"] for record in state.done.values())
    recent = {block: one for block, one in state.done.items() if one["t"] > latest - UNSETTLED}
    token = uuid.uuid4().hex
    found = {block: _damage(directory, block, record, token) for block, record in recent.items()}
    return {block: reason for block, reason in found.items() if reason}


def verify(directory: RunDirectory, progress: Callable[[int, int], None] | None = None) -> Verdict:
    """Read every finished block back; journal the damaged ones so that ``resume`` writes them anew.

    Parameters
    ----------
    directory
        The run.
    progress
        Called with (blocks read, blocks in all).

    Raises
    ------
    RunLocked
        If a live process is writing the store.
    """
    total = directory.describe()["blocks"]
    with Lock(directory.lock):
        state, token = directory.state(), uuid.uuid4().hex
        damaged = dict(state.damaged)
        for count, (block, record) in enumerate(state.done.items(), start=1):
            reason = _damage(directory, block, record, token)
            if reason:
                damaged[block] = reason
            if progress:
                progress(count, len(state.done))
        with Log(directory.journal) as journal:
            for block in damaged.keys() - state.damaged.keys():
                journal.append("damaged", block=block, reason=damaged[block])
    pending = total - len(state.done) - len(state.quarantined) - len(state.damaged)
    return Verdict(len(state.done), damaged, pending, len(state.quarantined))


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
