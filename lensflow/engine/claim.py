"""Who may write a store: refuse what belongs to others, hold the lock, bring run directory and template up to date."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lensflow.engine import template
from lensflow.engine.blocks import described
from lensflow.engine.journal import Log, State
from lensflow.engine.lock import Lock, holder_of
from lensflow.engine.submission import record
from lensflow.engine.verify import died, recheck
from lensflow.engine.work import Work, occupied
from lensflow.errors import OutputError, RunLocked, StoreConflict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lensflow.engine.plan import Plan
    from lensflow.engine.rundir import RunDirectory


def check(directory: RunDirectory, work: Work, *, accept_changes: bool) -> None:
    """Refuse, touching nothing, to write where another run writes or has written.

    Raises
    ------
    RunLocked
        If a live process holds the store.
    StoreConflict
        If what is there was made from something else, or by something else.
    """
    holder = holder_of(directory.lock)
    if holder and holder.get("pid") != os.getpid():
        raise RunLocked(
            f"{directory.out}: being written by process {holder['pid']} on {holder['host']} since {holder['since']};"
            " wait for it, or stop it"
        )
    if not directory.exists():
        if occupied(directory.out):
            raise StoreConflict(
                f"{directory.out}: exists and no lensflow run made it (there is no {directory.path.name});"
                " choose another --out, or remove it"
            )
        return
    old = directory.identity()
    if old.key == work.identity.key:
        return
    changes = "; ".join(work.identity.changes_since(old))
    if old.geometry != work.identity.geometry:
        raise StoreConflict(
            f"{directory.out}: belongs to another run ({changes}); choose another --out, or remove it and"
            f" {directory.path.name}"
        )
    if not accept_changes:
        raise StoreConflict(
            f"{directory.out}: was begun from something else ({changes}); give --accept-changes to go on"
            " with it all the same, or choose another --out"
        )


@contextmanager
def claimed(directory: RunDirectory) -> Iterator[Lock]:
    """Hold the run directory's lock; take the directory away again if nothing came of it."""
    try:
        directory.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{directory.path}: cannot be made ({error.strerror}); choose another --out") from error
    with Lock(directory.lock) as lock:
        try:
            yield lock
        finally:
            if not directory.exists() and not record(directory).exists():  # else its log tells what went wrong
                shutil.rmtree(directory.path, ignore_errors=True)


def open_run(directory: RunDirectory, work: Work, plan: Plan, submitted: Mapping[str, object]) -> State:
    """Bring run directory and store up to date and return what has been done so far."""
    state = directory.state()
    changes = work.identity.changes_since(directory.identity()) if directory.exists() else ["it is new"]
    if directory.exists() and changes:
        with Log(directory.events) as events:
            message = f"went on with blocks of an earlier session although {'; '.join(changes)}"
            events.append("note", kind="accepted-changes", message=message, fields={})
    if changes or not directory.template.exists():
        template.make(directory, work)
    if changes:
        source = work.graph.source if work.graph else None
        more = {
            "plan": plan.as_json(),
            "blocks": len(work.blocks),
            "grids": described(work.grids),
            "submitted": dict(submitted),
        }
        directory.write(work.identity, source=source, **more)
    restored = template.restore(directory)
    if died(state):
        template.sweep(directory)
    with Log(directory.journal) as journal:
        for block, reason in recheck(directory, state, everything=bool(restored)).items():
            journal.append("damaged", block=block, reason=reason)
    return directory.state()
