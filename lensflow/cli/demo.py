"""``demo``: the whole way once on simulated data: simulate, run, verify, report, picture."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lensflow.cli.catalog import Json
from lensflow.cli.run import finish
from lensflow.engine.catalog import Graph, graph
from lensflow.engine.cluster import cluster
from lensflow.engine.run import run
from lensflow.errors import BadOption, LensflowError

if TYPE_CHECKING:
    from lensflow.engine.runs import Run

DEFAULT = "ps1_convolution"


def demo(
    name: Annotated[str, typer.Argument(metavar="[GRAPH]", help="A graph whose file has a DEMO.")] = DEFAULT,
    folder: Annotated[Path, typer.Option(help="Where to put everything.")] = Path("demo"),
    workers: Annotated[int, typer.Option(help="Worker processes.")] = 2,
    json: Json = False,  # noqa: FBT002 - a flag
) -> None:
    """Simulate a small field, run the graph on it with live progress, verify it, write report and pictures."""
    made = graph(name)
    words = getattr(made.module, "DEMO", None)
    if words is None:
        raise BadOption(f"{made.path}: has no DEMO, the words for simulate and graph that a demonstration needs")
    folder = folder.absolute()
    source, store = folder / "input", folder / f"{made.name}.zarr"
    begun = time.monotonic()
    if source.exists():
        _say("found", f"{source}, simulated before")
    else:
        _say("simulate", f"{source}")
        draft = source.with_name("input.draft")
        made.verb("simulate")(draft, **words["simulate"])
        draft.rename(source)
    _say("run", f"{store}")
    lazy = made(source, **words["graph"])
    with cluster("local", n_workers=workers) as client:
        _say("watch", f"{client.dashboard_link}")
        done = run(lazy, store, client=client)
    _say("verify", str(done.verify()))
    for path in _pictures(made, done, folder):
        _say("picture", str(path))
    _say("done", f"in {time.monotonic() - begun:.0f} s")
    finish(done, as_json=json)


def _say(what: str, text: str) -> None:
    sys.stderr.write(f"{what:>9}  {text}\n")


def _pictures(made: Graph, done: Run, folder: Path) -> list[Path]:
    """Draw the graph's quick look into the folder, before and after where it can."""
    if not made.offers("before_after"):
        return []
    arguments = made.bind(**done.directory.identity().arguments)
    try:
        figure = made.verb("before_after")(done.open_store(), **arguments)
    except (ValueError, OSError) as error:
        raise LensflowError(f"the picture could not be drawn ({error}); the store is unharmed") from error
    path = folder / "before_after.png"
    figure.savefig(path, dpi=120)
    return [path]
