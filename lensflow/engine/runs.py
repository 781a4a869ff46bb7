"""A run as a notebook sees it: how far it is, what failed and why, its notes, its report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import xarray as xr

from lensflow.engine import journal
from lensflow.engine.afar import reason_to_stop
from lensflow.engine.batch import look
from lensflow.engine.cancel import cancel
from lensflow.engine.cards import run_card, watch
from lensflow.engine.lock import holder_of
from lensflow.engine.progress import duration
from lensflow.engine.report import write_report
from lensflow.engine.rundir import RunDirectory
from lensflow.engine.submission import Submission, last_sent, output, starting, user
from lensflow.engine.tunnel import full_name, tunnel
from lensflow.engine.verify import Verdict, verify
from lensflow.engine.workjobs import waiting

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Standing = Literal["starting", "running", "done", "quarantined", "interrupted", "failed", "died"]
OUTCOMES: dict[str, Standing] = {"interrupted": "interrupted", "failed": "failed", "died": "died"}
FAILED = ["block", "exception", "message", "attempts", "traceback"]
NOTED = ["kind", "message", "fields"]


@dataclass(frozen=True)
class Status:
    """Where a run stands, from its journal: true while the driver is dead, too."""

    out: str
    standing: Standing
    total: int
    done: int
    quarantined: int
    damaged: int
    notes: int
    seconds: float
    dashboard: str | None
    driver: str
    stopping: str | None = None
    log: str | None = None
    tunnel: str | None = None
    jobs: tuple[str, ...] = ()

    @property
    def pending(self) -> int:
        """Blocks neither written nor given up."""
        return self.total - self.done - self.quarantined

    def __str__(self) -> str:
        parts = [f"{self.out}: {self.standing}, {self.done} of {self.total} blocks in {duration(self.seconds)}"]
        if self.quarantined:
            parts.append(f"{self.quarantined} quarantined")
        if self.damaged:
            parts.append(f"{self.damaged} found damaged")
        if self.notes:
            parts.append(f"{self.notes} notes")
        if self.standing == "running" and self.dashboard:
            parts.append(f"dashboard {self.dashboard}")
        parts += self.jobs
        if self.standing == "starting":
            parts.append(f"its driver: {self.driver}")
        if self.stopping and self.standing in {"running", "interrupted"}:
            parts.append(f"stopping: {self.stopping}" if self.standing == "running" else self.stopping)
        if self.standing == "failed" and not self.total:
            parts = [f"{self.out}: failed, its driver ({self.driver}) ended before the run began; see {self.log}"]
        if self.standing == "died":
            parts.append(f"its driver ({self.driver}) died: `lensflow resume {self.out}` goes on")
        return "; ".join(parts)


@dataclass(frozen=True)
class Run:
    """A run on disk, finished or not."""

    directory: RunDirectory

    @classmethod
    def open(cls, path: Path | str) -> Run:
        """Open a run by the path of its store or run directory.

        Raises
        ------
        BadInput
            If there is none.
        """
        run = cls(RunDirectory.of(path))
        if Submission.read(run.directory) is None:  # a driver on its way has not described the run yet
            run.directory.describe()
        return run

    @property
    def status(self) -> Status:
        """Where it stands now."""
        begins = starting(self.directory)  # before the lock is looked at: it may take that in between
        running = holder_of(self.directory.lock) is not None
        state, submission = self.directory.state(), last_sent(self.directory)
        total = self.directory.describe()["blocks"] if submission is None or self.directory.exists() else 0
        last = state.sessions[-1] if state.sessions else {}
        standing = "running" if running else "starting" if begins else self._standing(state, total)
        driver = f"process {last.get('pid')} on {last.get('host')}"
        if submission and (standing == "starting" or not last):
            found = look(submission.job) if submission.job else None
            driver = f"{submission}{f', {found}' if found else ''}"
        printed = output(self.directory)
        return Status(
            out=str(self.directory.out),
            standing=standing,
            total=total,
            done=len(state.done),
            quarantined=len(state.quarantined),
            damaged=len(state.damaged),
            notes=len(self.notes),
            seconds=state.worked,
            dashboard=last.get("dashboard"),
            driver=driver if last or submission else "none",
            stopping=reason_to_stop(self.directory, last.get("t", 0.0)),
            log=str(printed) if printed.exists() else None,
            tunnel=_tunnel(last, submission) if standing == "running" else None,
            jobs=waiting(self.directory) if running or begins else (),
        )

    def _standing(self, state: journal.State, total: int) -> Standing:
        """Return where it stands when no driver is at work."""
        if not self.directory.exists():
            return "failed"
        if len(state.done) == total:
            return "done"
        outcome = state.sessions[-1].get("outcome", "died") if state.sessions else "died"
        if outcome in {"done", "quarantined"}:
            return "quarantined" if state.quarantined else "interrupted"  # damage was found since
        return OUTCOMES.get(outcome, "died")

    def cancel(self, *, now: bool = False) -> str:
        """Ask its driver to finish the blocks in flight and end, wherever it is, or to end ``now``."""
        return cancel(self.directory, now=now)

    @property
    def failed(self) -> pd.DataFrame:
        """The quarantined blocks: block, exception, message, attempts, traceback."""
        rows = [{name: one.get(name) for name in FAILED} for one in self.directory.state().quarantined.values()]
        return pd.DataFrame(rows, columns=FAILED)

    @property
    def blocks(self) -> pd.DataFrame:
        """The written blocks: seconds, peak memory, host and, for each variable, its statistics."""
        rows = []
        for name, one in self.directory.state().done.items():
            row: dict[str, Any] = {key: one[key] for key in ("seconds", "peak_rss", "host", "pid", "attempts")}
            for variable, digest in one["variables"].items():
                row.update({f"{variable}_{key}": value for key, value in digest.items()})
            rows.append({"block": name, **row})
        return pd.DataFrame(rows)

    @property
    def notes(self) -> pd.DataFrame:
        """What science code had to say: kind, message, fields."""
        entries = (one for one in journal.read(self.directory.events) if one["event"] == "note")
        return pd.DataFrame([{name: one.get(name) for name in NOTED} for one in entries], columns=NOTED)

    def open_store(self) -> xr.DataTree:
        """Return the written data, lazily."""
        return xr.open_datatree(self.directory.out, engine="zarr", chunks={}, consolidated=False)

    def verify(self) -> Verdict:
        """Read every block back against its checksum."""
        return verify(self.directory)

    def report(self) -> Path:
        """Write ``report.html`` and ``report.json`` anew and return the path of the first."""
        return write_report(self.directory)

    def __repr__(self) -> str:
        return f"<Run {self.status}>"

    def _repr_html_(self) -> str:
        return run_card(self.status)

    def watch(self, every: float = 1.0) -> None:
        """Show how far it is until no driver is at work on it: also from a kernel that did not start it.

        Interrupting ends the looking, not the run.

        Parameters
        ----------
        every
            Seconds between two looks.
        """
        watch(self, every)


def _tunnel(session: Mapping[str, Any], submission: Submission | None) -> str | None:
    """Return the command that brings the dashboard of a run to another machine."""
    if not session.get("dashboard"):
        return None
    machine = full_name(str(session.get("host")))
    login = submission.login if submission and submission.how == "slurm" else None
    return tunnel(session["dashboard"], user=submission.user if submission else user(), machine=machine, login=login)


def open_run(path: Path | str) -> Run:
    """Open a run by the path of its store: whoever started it, wherever its driver is.

    Raises
    ------
    BadInput
        If there is none.
    """
    return Run.open(path)
