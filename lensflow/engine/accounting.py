"""What SLURM's accounting knows of jobs that have ended; nothing where it keeps none."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lensflow.engine.progress import size

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

LIMIT = 15.0  # s for sacct
FIELDS = ("JobID", "State", "ExitCode", "MaxRSS", "NodeList")
MANY = 500  # jobs that are asked for in one call
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True)
class Ended:
    """How a job ended.

    Parameters
    ----------
    job
        Its number.
    state, code
        SLURM's word, such as TIMEOUT, and ``exit code:signal``.
    peak
        Bytes that the largest of its steps occupied, None where it was not looked at.
    nodes
        Where it ran.
    """

    job: str
    state: str
    code: str
    peak: int | None
    nodes: str

    def __str__(self) -> str:
        parts = [self.state]
        number, _, signal = self.code.partition(":")
        if number not in {"", "0"}:
            parts.append(f"exit code {number}")
        if signal not in {"", "0"}:
            parts.append(f"signal {signal}")
        if self.peak:
            parts.append(f"peak memory {size(self.peak)}")
        where = f" on {self.nodes}" if self.nodes and self.nodes != "None assigned" else ""
        return f"SLURM says of job {self.job}{where}: {', '.join(parts)}"


def ended(jobs: Iterable[str]) -> dict[str, Ended]:
    """Return how jobs ended, by number: those that SLURM's accounting knows; none where it does not answer.

    Where no accounts are kept there may be a line a job of those that are complete, without its memory and without
    the numbers of an array's jobs.
    """
    wanted = sorted(set(jobs))[:MANY]
    found = _asked(wanted)
    if found is None:
        found = _asked([job for job in wanted if "_" not in job], "--completion")
    return {job: one for job, one in (found or {}).items() if job in wanted}


def _asked(jobs: Sequence[str], *words: str) -> dict[str, Ended] | None:
    """Return what sacct says of jobs, None where it refuses to."""
    program = shutil.which("sacct")
    if not jobs or program is None:
        return {}
    command = [program, *words, "--noheader", "--parsable2", f"--format={','.join(FIELDS)}", f"--jobs={','.join(jobs)}"]
    try:
        done = subprocess.run(  # noqa: S603 - SLURM's own command
            command, capture_output=True, text=True, check=False, timeout=LIMIT, env=_plain(os.environ)
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return None if done.returncode else parsed(done.stdout)


def _plain(environment: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in environment.items() if not key.startswith("SACCT_")}


def parsed(lines: str) -> dict[str, Ended]:
    """Read what sacct prints: a line for each job, and below it one for each of its steps."""
    found: dict[str, Ended] = {}
    for line in lines.splitlines():
        parts = line.split("|")
        if len(parts) != len(FIELDS):
            continue
        name, state, code, peak, nodes = parts
        job, _, step = name.partition(".")
        if not step:
            found[job] = Ended(job, state, code, _bytes(peak), nodes)
        elif job in found and (used := _bytes(peak)) is not None:
            known = found[job]
            found[job] = Ended(job, known.state, known.code, max(used, known.peak or 0), known.nodes)
    return found


def _bytes(text: str) -> int | None:
    number, unit = text.strip().rstrip("KMGT"), text.strip()[-1:]
    try:
        return int(float(number) * UNITS[unit if unit in UNITS else ""]) if number else None
    except ValueError:
        return None
