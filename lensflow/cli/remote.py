"""``status``, ``logs`` and ``cancel``: a run seen and ended from any host that sees its directory."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from lensflow.cli.catalog import Json
from lensflow.cli.show import emit
from lensflow.engine import outputs
from lensflow.engine.runs import Run
from lensflow.engine.submission import last_sent
from lensflow.errors import BadInput, UnknownName

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lensflow.engine.runs import Status

EVERY = 2.0  # s between two looks
SHARE = 10  # a look may take a tenth of the time
GOING = {"starting", "running"}
RunPath = Annotated[str, typer.Argument(metavar="RUN", help="The store, or its run directory.")]
MaybeRun = Annotated[str | None, typer.Argument(metavar="[RUN]", help="The store; default: all in this folder.")]


def status(
    run: MaybeRun = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again while the run goes on.")] = False,  # noqa: FBT002
    json: Json = False,  # noqa: FBT002 - a flag
) -> None:
    """Show where a run stands, from its journal: works while its driver is dead."""
    paths = [run] if run else _here()
    runs = [Run.open(path) for path in paths]
    if watch and not json:
        _watch(runs)
        return
    found = [one.status for one in runs]
    described = [_described(one) for one in found]
    emit(described[0] if run else described, "\n".join(map(str, found)), as_json=json)


def _here() -> list[str]:
    found = {one.parent for name in ("run.json", "submission.json") for one in Path.cwd().glob(f"*.run/{name}")}
    if not found:
        raise BadInput(f"{Path.cwd()}: no runs here; give the path of a store")
    return sorted(map(str, found))


def _described(status: Status) -> dict[str, Any]:
    return {**dataclasses.asdict(status), "pending": status.pending}


def _watch(runs: list[Run]) -> None:
    """Show where runs stand until none goes on: a live picture on a terminal, else a line for each change."""
    console = Console()
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            for found in _looks(runs):
                live.update(Text("\n".join(map(str, found))), refresh=True)
        return
    shown: list[str] = []
    for found in _looks(runs):
        lines = [str(one) for one in found]
        sys.stdout.writelines(f"{line}\n" for line in lines if line not in shown)
        sys.stdout.flush()
        shown = lines


def _looks(runs: list[Run]) -> Iterator[list[Status]]:
    while True:
        begun = time.monotonic()
        found = [one.status for one in runs]
        yield found
        if not any(one.standing in GOING for one in found):
            return
        time.sleep(max(EVERY, SHARE * (time.monotonic() - begun)))


def logs(
    run: RunPath,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One file of them; default: all.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on while the run does.")] = False,  # noqa: FBT002
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Last lines of each file.")] = 50,
) -> None:
    """Print what the driver of a run, and Dask, have said."""
    found = Run.open(run)
    files = outputs.logs(found.directory)
    if not files:
        raise BadInput(f"{found.directory.path / 'logs'}: nothing was printed yet")
    if name is not None and name not in files:
        raise UnknownName(f"{found.directory.path / 'logs'}: no file {name!r}, there is {', '.join(files)}")
    chosen = {name: files[name]} if name else files
    ends = {}
    for title, path in chosen.items():
        text, ends[path] = outputs.tail(path, lines)
        sys.stdout.write(f"==> {title}\n{text}\n" if len(chosen) > 1 else f"{text}\n")
    if follow:
        first = next(iter(chosen.values()))
        for text in outputs.follow(first, ends[first], lambda: _over(found)):
            sys.stdout.write(text)
            sys.stdout.flush()


def _over(run: Run) -> bool:
    """Whether nothing more will be printed: a driver closes its cluster and says how it went after its last block."""
    sent = last_sent(run.directory)
    return run.status.standing not in GOING and not (sent and sent.alive())


def cancel(
    run: RunPath,
    now: Annotated[bool, typer.Option("--now", help="Give up the blocks in flight.")] = False,  # noqa: FBT002
    json: Json = False,  # noqa: FBT002 - a flag
) -> None:
    """End a run: finish the blocks in flight, or stop --now; of a dead driver, end what it has left in SLURM."""
    found = Run.open(run)
    said = found.cancel(now=now)
    emit({"run": str(found.directory.out), "said": said}, f"{found.directory.out}: {said}", as_json=json)
