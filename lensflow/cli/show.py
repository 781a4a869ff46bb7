"""How results are put on the terminal: as text for people, as JSON for programs."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lensflow.engine.params import Parameter

JSON_HELP = "Print one JSON object instead of text."


def emit(found: Any, text: str, *, as_json: bool) -> None:  # noqa: ANN401 - any JSON value
    """Print a result."""
    sys.stdout.write((json.dumps(found, default=str) if as_json else text) + "\n")


def options_table(title: str, parameters: Iterable[Parameter]) -> Table:
    """Return a table of parameters: spelling, type, default, help."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in ("word", "type", "default", "meaning"):
        table.add_column(column, overflow="fold", no_wrap=column == "word")
    for one in parameters:
        spelled = one.name.upper() if one.positional else one.option
        default = "required" if one.required else _default(one.default)
        table.add_row(spelled, escape(one.describe()), escape(default), escape(one.help))
    return table


def _default(value: object) -> str:
    if value is None or value == ():
        return "-"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value)


def print_rich(*things: object) -> None:
    """Print tables and marked-up text to the terminal."""
    console = Console()
    for one in things:
        console.print(one)
