"""``doctor``: look at a machine as a run would find it."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from lensflow.cli.catalog import Json
from lensflow.cli.show import emit
from lensflow.engine.doctor import Finding, examine

if TYPE_CHECKING:
    from collections.abc import Sequence

COLOURS = {"OK": "green", "WARN": "yellow", "FIX": "bold red"}
MARGIN = 4 + 2 + 11 + 2  # a level, a subject, and what parts them


def doctor(
    cluster: Annotated[str, typer.Option(help="A profile's name or path, or a scheduler's address.")] = "local",
    out: Annotated[Path, typer.Option(help="The folder where a run would write.")] = Path(),
    wait: Annotated[float | None, typer.Option(help="Seconds a worker may take to come up.")] = None,
    canary: Annotated[bool, typer.Option("--canary/--no-canary", help="Start a worker and try it.")] = True,  # noqa: FBT002
    json: Json = False,  # noqa: FBT002 - a flag
) -> None:
    """Look for what would spoil a run: each line OK, WARN or FIX and what mends it; exit 1 if any is FIX."""
    console = Console(highlight=False, soft_wrap=True)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    found: list[Finding] = []
    for one in examine(cluster, out.absolute(), wait=wait, canary=canary):
        found.append(one)
        if not json:
            console.print(line(one, width))
    if json:
        emit({"healthy": healthy(found), "findings": [dataclasses.asdict(one) for one in found]}, "", as_json=True)
    else:
        console.print(summary(found))
    if not healthy(found):
        raise typer.Exit(1)


def healthy(found: Sequence[Finding]) -> bool:
    """Whether nothing must be mended."""
    return not any(one.level == "FIX" for one in found)


def line(one: Finding, width: int | None) -> Text:
    """Lay a finding out: level, subject, what was found, and below it what mends it.

    Parameters
    ----------
    one
        The finding.
    width
        Columns of the terminal; None where lines are to be kept whole.
    """
    indent = " " * MARGIN
    found = one.found
    if width is not None and width > 2 * MARGIN:
        found = f"\n{indent}".join(textwrap.wrap(found, width - MARGIN, break_on_hyphens=False))
    text = Text.assemble((f"{one.level:<4}", COLOURS[one.level]), f"  {one.subject:<11}  {found}")
    if one.remedy:
        text.append(f"\n{indent}-> {one.remedy}", "bold")
    return text


def summary(found: Sequence[Finding]) -> str:
    """Count the findings that ask for something."""
    counts = {level: sum(one.level == level for one in found) for level in COLOURS}
    if not counts["FIX"] and not counts["WARN"]:
        return f"{len(found)} checks, all in order"
    return f"{counts['FIX']} to fix, {counts['WARN']} to think about, {counts['OK']} in order"
