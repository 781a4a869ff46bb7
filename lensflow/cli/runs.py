"""``status``, ``report`` and ``verify``: a run on disk, looked at from anywhere."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from lensflow.cli.catalog import Json
from lensflow.cli.show import emit
from lensflow.engine.runs import Run
from lensflow.errors import BadInput

RunPath = Annotated[str, typer.Argument(metavar="RUN", help="The store, or its run directory.")]
MaybeRun = Annotated[str | None, typer.Argument(metavar="[RUN]", help="The store; default: all in this folder.")]


def status(run: MaybeRun = None, json: Json = False) -> None:  # noqa: FBT002 - a flag
    """Show where a run stands, from its journal: works while its driver is dead."""
    paths = [run] if run else [str(one.parent) for one in sorted(Path.cwd().glob("*.run/run.json"))]
    if not paths:
        raise BadInput(f"{Path.cwd()}: no runs here; give the path of a store")
    found = [Run.open(path).status for path in paths]
    described = [{**dataclasses.asdict(one), "pending": one.pending} for one in found]
    emit(described[0] if run else described, "\n".join(map(str, found)), as_json=json)


def report(run: RunPath, json: Json = False) -> None:  # noqa: FBT002 - a flag
    """Write the report anew (HTML and JSON) and print its path."""
    path = Run.open(run).report()
    emit({"report": str(path), "json": str(path.with_suffix(".json"))}, str(path), as_json=json)


def verify(run: RunPath, json: Json = False) -> None:  # noqa: FBT002 - a flag
    """Read every block back against its checksum; exit 0 clean, 1 damaged or unfinished, 4 quarantined blocks."""
    verdict = Run.open(run).verify()
    emit({**dataclasses.asdict(verdict), "clean": verdict.clean}, str(verdict), as_json=json)
    if not verdict.clean:
        raise typer.Exit(1 if verdict.damaged or verdict.pending else 4)
