"""``report``, ``why`` and ``verify``: a run on disk, looked at from anywhere."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from lensflow.cli.catalog import Json
from lensflow.cli.remote import RunPath
from lensflow.cli.show import emit
from lensflow.engine.report import write_comparison
from lensflow.engine.runs import Run
from lensflow.engine.why import explain
from lensflow.errors import BadOption

RunPaths = Annotated[list[str], typer.Argument(metavar="RUN...", help="The store, or its run directory.")]


def report(
    runs: RunPaths,
    compare: Annotated[bool, typer.Option("--compare", help="Set two runs side by side.")] = False,  # noqa: FBT002
    out: Annotated[Path | None, typer.Option(help="Page of a comparison; default: in the second run.")] = None,
    json: Json = False,  # noqa: FBT002 - a flag
) -> None:
    """Write the report anew (HTML and JSON) and print its path; or that of --compare RUN RUN."""
    wanted = 2 if compare else 1
    if len(runs) != wanted:
        raise BadOption(f"report{' --compare' if compare else ''}: found {len(runs)} runs, expected {wanted}")
    found = [Run.open(path) for path in runs]
    if compare:
        first, second = (one.directory for one in found)
        path = write_comparison(first, second, out or second.path / "comparison.html")
    else:
        path = found[0].report()
    emit({"report": str(path), "json": str(path.with_suffix(".json"))}, str(path), as_json=json)


def why(
    run: RunPath,
    block: Annotated[str | None, typer.Argument(metavar="[BLOCK]", help="One block; default: every failure.")] = None,
    json: Json = False,  # noqa: FBT002 - a flag
) -> None:
    """Tell in a paragraph each what failed, where, what was tried and what to do."""
    found = explain(Run.open(run).directory, block)
    text = "\n\n".join(map(str, found)) or "nothing failed"
    emit([one.as_json() for one in found], text, as_json=json)


def verify(run: RunPath, json: Json = False) -> None:  # noqa: FBT002 - a flag
    """Read every block back against its checksum; exit 0 clean, 1 damaged or unfinished, 4 quarantined blocks."""
    verdict = Run.open(run).verify()
    emit({**dataclasses.asdict(verdict), "clean": verdict.clean}, str(verdict), as_json=json)
    if not verdict.clean:
        raise typer.Exit(1 if verdict.damaged or verdict.pending else 4)
