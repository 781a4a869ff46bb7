"""What a run has cost so far, and what all of it will cost by that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lensflow.engine.journal import read

if TYPE_CHECKING:
    from lensflow.engine.rundir import RunDirectory

ENOUGH = 8  # blocks before anything is said, or all there are
HOUR = 3600.0  # s


def core_hours(directory: RunDirectory, *, blocks: int, nbytes: int) -> float | None:
    """Estimate what the whole of a run costs from the tasks of its earlier sessions.

    Parameters
    ----------
    directory
        Of the run; it need not exist.
    blocks, nbytes
        Blocks of the whole run, and uncompressed bytes of its output.

    Returns
    -------
    float or None
        Seconds of all tasks a byte written, times the bytes of the run, in hours; a task keeps one core busy.
        None where too few blocks have been written since tasks were first timed.
    """
    batches = [one for one in read(directory.tasks) if one["event"] == "tasks"]
    if not batches:
        return None
    seconds: float = sum(row[3] for batch in batches for row in batch["rows"])
    begun = min((row[2] for batch in batches for row in batch["rows"]), default=0.0)
    done = [one for one in directory.state().done.values() if one.get("began", 0.0) >= begun]
    written: int = sum(variable["nbytes"] for one in done for variable in one.get("variables", {}).values())
    if len(done) < min(ENOUGH, blocks) or not written or not seconds:
        return None
    return seconds / written * nbytes / HOUR
