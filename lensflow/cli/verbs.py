"""``simulate`` and ``export``: verbs that a graph file brings itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lensflow.cli.catalog import Json
from lensflow.cli.show import emit, options_table, print_rich
from lensflow.engine.catalog import Graph, graph
from lensflow.engine.jobs import table
from lensflow.engine.params import Parameters
from lensflow.engine.runs import Run
from lensflow.errors import BadOption, LensflowError
from lensflow.events import plain

if TYPE_CHECKING:
    from collections.abc import Sequence


SHOWN = 10  # paths that an export lists


def simulate(context: typer.Context, json: Json = False) -> None:  # noqa: FBT002 - a flag
    """Make input with a known truth: GRAPH OUT [WORDS...]; add --help for the words."""
    if context.args[:1] in (["--help"], ["-h"]):
        sys.stdout.write(context.get_help() + "\n")
        return
    if not context.args or context.args[0].startswith("-"):
        raise BadOption("name a graph first: lensflow simulate GRAPH OUT")
    name, *words = context.args
    done = call(graph(name), "simulate", words, {})
    if done is not None:
        emit({"simulated": plain(done)}, str(done), as_json=json)


def export(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="The store, or its run directory.")],
    json: Json = False,  # noqa: FBT002 - a flag
) -> None:
    """Write a finished store in the formats of its field: RUN OUT [WORDS...]; RUN --words lists them."""
    found = Run.open(run)
    made_by = graph(found.directory.identity().graph)
    standing = found.status
    words = [word for word in context.args if word != "--partial"]
    if standing.standing != "done" and words == context.args and not {"--help", "--words"} & set(words):
        raise LensflowError(f"{standing}; finish it first, or give --partial: missing blocks are fill values")
    done = call(made_by, "export", words, {"store": found.directory.out})
    if done is None:
        return
    paths = [str(one) for one in done] if isinstance(done, list | tuple) else [str(done)]
    shown = list(dict.fromkeys(paths))
    more = f"\n... and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    emit({"written": paths}, f"{len(paths)} written\n" + "\n".join(shown[:SHOWN]) + more, as_json=json)


def call(made_by: Graph, verb: str, words: Sequence[str], fixed: dict[str, object]) -> Any:  # noqa: ANN401 - the verb's
    """Call a verb with words from the command line; print its help and return None if they ask for it."""
    function = made_by.verb(verb)
    whole = Parameters.of_function(function, f"{made_by.name} {verb}")
    open_words = Parameters(whole.of, tuple(one for one in whole.entries if one.name not in fixed))
    if "--help" in words or "--words" in words:
        print_rich(options_table(f"lensflow {verb}: {made_by.name}", table(open_words)))
        return None
    given = open_words.from_words(words, also=("--json", "--debug"))
    values = whole.validate({**given, **fixed})
    return function(**{name: one.absolute() if isinstance(one, Path) else one for name, one in values.items()})
