"""The application: its commands, and how an error becomes one sentence and an exit code."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import typer

from lensflow.cli import catalog, demo, doctor, init, remote, run, runs, verbs
from lensflow.errors import LensflowError

if TYPE_CHECKING:
    from collections.abc import Sequence

EPILOG = (
    "Exit codes: 0 done, 1 failed, 2 usage, 3 infeasible plan, 4 finished with quarantined blocks,"
    " 5 locked by another run, 130 interrupted. Every command takes --json, and --debug for tracebacks."
)

app = typer.Typer(
    name="lensflow",
    help="Astronomy batch jobs as lazy Dask graphs.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
LOOSE = {"allow_extra_args": True, "ignore_unknown_options": True}  # words that only a graph or the engine knows
OPEN = {**LOOSE, "help_option_names": []}  # --help may be meant for the graph that is named

app.command("list")(catalog.list_graphs)
app.command("show")(catalog.show)
app.command("plan", context_settings=OPEN)(run.plan)
app.command("submit", context_settings=OPEN)(run.submit)
app.command("resume", context_settings=LOOSE)(run.resume)
app.command("status")(remote.status)
app.command("logs")(remote.logs)
app.command("cancel")(remote.cancel)
app.command("report")(runs.report)
app.command("why")(runs.why)
app.command("verify")(runs.verify)
app.command("export", context_settings=LOOSE)(verbs.export)
app.command("simulate", context_settings=OPEN)(verbs.simulate)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.command("init")(init.init)


def main(words: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    given = list(sys.argv[1:] if words is None else words)
    debug = "--debug" in given
    given = [word for word in given if word != "--debug"]
    try:
        code = app(args=given, prog_name="lensflow", standalone_mode=True)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except KeyboardInterrupt:
        return 130
    except LensflowError as error:
        if debug:
            raise
        tell(error, as_json="--json" in given)
        return error.exit_code
    except Exception as error:
        if debug:
            raise
        unforeseen = LensflowError(f"{type(error).__name__}: {error}; --debug shows where it comes from")
        tell(unforeseen, as_json="--json" in given)
        return unforeseen.exit_code
    return int(code or 0)


def tell(error: LensflowError, *, as_json: bool) -> None:
    """Print an error: one sentence, or one JSON object."""
    if as_json:
        sys.stdout.write(json.dumps({"error": type(error).__name__, "message": str(error)}) + "\n")
    else:
        sys.stderr.write(f"lensflow: {error}\n")
