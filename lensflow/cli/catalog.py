"""``list`` and ``show``: which graphs there are, and what one of them takes."""

from __future__ import annotations

from typing import Annotated

import typer

from lensflow.cli.show import JSON_HELP, emit, options_table, print_rich
from lensflow.engine.catalog import graph, shipped, summary
from lensflow.engine.cluster import profiles
from lensflow.engine.jobs import ENGINE, table, words_of
from lensflow.events import plain

Json = Annotated[bool, typer.Option("--json", help=JSON_HELP)]
VERBS = ("simulate", "export", "picture", "inputs")


def list_graphs(json: Json = False) -> None:  # noqa: FBT002 - a flag
    """Show the graphs and cluster profiles that come with lensflow."""
    graphs = {name: summary(path) for name, path in shipped().items()}
    width = max(map(len, graphs), default=0)
    lines = ["graphs", *(f"  {name:<{width}}  {text}" for name, text in graphs.items())]
    lines += ["cluster profiles", *(f"  {name}" for name in profiles())]
    emit({"graphs": graphs, "profiles": list(profiles())}, "\n".join(lines), as_json=json)


def show(
    name: Annotated[str, typer.Argument(metavar="GRAPH", help="Name of a shipped graph, or path of a file.")],
    json: Json = False,  # noqa: FBT002 - a flag
) -> None:
    """Show a graph's help: what it does and every word it takes."""
    found = graph(name)
    words_of(found)
    if json:
        words = {
            one.name: {
                "type": one.describe(),
                "default": None if one.required else plain(one.default),
                "required": one.required,
                "help": one.help,
            }
            for one in found.parameters.entries
        }
        emit({"name": found.name, "path": found.path, "summary": found.summary, "parameters": words}, "", as_json=True)
        return
    opening = (found.__doc__ or "").partition("\nParameters\n")[0].strip()
    offered = [verb for verb in VERBS if found.offers(verb)]
    print_rich(
        f"[bold]{found.name}[/bold]  {found.summary}",
        f"{found.path}\n\n{opening}\n",
        options_table("its own words", table(found.parameters)),
        "",
        options_table("words of submit and plan", table(ENGINE)),
        f"\nIt also offers: {', '.join(offered)}" if offered else "",
    )
