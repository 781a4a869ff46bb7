"""``plan``, ``submit`` and ``resume``: from words to a finished store."""

from __future__ import annotations

import dataclasses
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lensflow.cli.catalog import Json, show
from lensflow.cli.detached import Detach, tell
from lensflow.cli.show import emit
from lensflow.engine import chain, jobs
from lensflow.engine import plan as plans
from lensflow.engine.catalog import graph as load_graph
from lensflow.engine.claim import check
from lensflow.engine.cluster import cluster, promised
from lensflow.engine.dashboard import page
from lensflow.engine.run import run as run_data
from lensflow.engine.rundir import RunDirectory
from lensflow.engine.runs import Run
from lensflow.engine.submit import send, send_job
from lensflow.engine.terms import terminated_politely
from lensflow.engine.work import Work
from lensflow.engine.workjobs import remember
from lensflow.errors import BadOption

if TYPE_CHECKING:
    import xarray as xr

    from lensflow.engine.plan import Plan

CODES = {"done": 0, "quarantined": 4, "interrupted": 130, "starting": 130}  # the last: another driver goes on with it


def plan(context: typer.Context, json: Json = False) -> None:  # noqa: FBT002 - a flag
    """Show what a job would do: blocks, tasks, bytes, memory; exit 3 if it cannot fit.

    GRAPH [WORDS...]: the words are those of `lensflow show GRAPH`, or of a job file.
    """
    if _wants_help(context):
        return
    job = jobs.parse(context.args)
    jobs.enlarged(job.settings, None)
    memory, threads = promised(job.settings.cluster, job.settings.cluster_options)
    found = plans.plan(job.graph(**job.arguments), threads=threads, out=job.settings.out)
    emit(found.as_json(), str(found), as_json=json)
    found.check(memory)


def submit(context: typer.Context, detach: Detach = False, json: Json = False) -> None:  # noqa: FBT002 - flags
    """Run a job: GRAPH [WORDS...] --out STORE, or a job file.

    GRAPH is a shipped graph, the path of your own, or a job.yaml; `lensflow show GRAPH` lists its words.
    Run the same command again to resume. With --detach the run goes on when this terminal is closed.
    """
    if _wants_help(context):
        return
    job = jobs.parse(context.args)
    if (out := job.settings.out) is None:
        raise BadOption("say where to write with --out STORE.zarr")
    job = dataclasses.replace(job, settings=jobs.enlarged(job.settings, None))
    data = job.graph(**job.arguments)
    if detach:
        directory = RunDirectory.of(out)
        tell(directory, send_job(directory, job, Work.of(data)), as_json=json)
    else:
        _run(data, job.settings, as_json=json)


def resume(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="The store, or its run directory.")],
    failed_only: Annotated[bool, typer.Option("--failed-only", help="Only the quarantined blocks.")] = False,  # noqa: FBT002
    detach: Detach = False,  # noqa: FBT002 - a flag
    json: Json = False,  # noqa: FBT002 - a flag
) -> None:
    """Go on with a run: the pending and damaged blocks only. Takes --cluster, --workers ... as submit does."""
    directory = RunDirectory.of(run)
    identity = directory.identity()
    graph = load_graph(identity.graph)
    submitted = directory.describe().get("submitted", {})
    settings = dataclasses.replace(jobs.resumed(context.args, submitted, os.environ), out=directory.out)
    settings = jobs.enlarged(settings, directory.state().memory_limit)
    if detach:
        words = ["resume", str(directory.out), *context.args, *(["--failed-only"] if failed_only else [])]
        tell(directory, send(directory, words, settings), as_json=json)
        return
    _run(graph(**identity.arguments), settings, as_json=json, failed_only=failed_only)


def _run(data: xr.Dataset | xr.DataTree, settings: jobs.Settings, *, as_json: bool, failed_only: bool = False) -> None:
    """Run on the cluster the settings name, say where it can be watched, and exit with the outcome's code."""
    assert settings.out is not None  # noqa: S101 - the callers have seen to it
    directory = RunDirectory.of(settings.out)
    chain.check(directory, settings.chain)
    check(directory, Work.of(data), accept_changes=settings.accept_changes)  # before a cluster is started
    with terminated_politely(), cluster(settings.cluster, **settings.cluster_options) as client:
        remember(directory, client)

        def show_plan(found: Plan) -> None:
            if not as_json:
                sys.stderr.write(f"{found}\ndashboard  {page(client) or 'none'}\n")

        run = run_data(
            data,
            settings.out,
            client=client,
            planned=show_plan,
            submitted=settings.submitted,
            failed_only=failed_only,
            **settings.run_options,
        )
    finish(run, as_json=as_json)


def finish(run: Run, *, as_json: bool) -> None:
    """Print where a run stands and exit with its code."""
    status = run.status
    described: dict[str, Any] = {**dataclasses.asdict(status), "report": str(run.directory.report)}
    text = f"{status}\nreport: {run.directory.report}"
    for one in run.failed.itertuples():
        text += f"\nquarantined {one.block}: {one.exception}: {one.message}"
    emit(described, text, as_json=as_json)
    raise typer.Exit(CODES.get(status.standing, 1))


def _wants_help(context: typer.Context) -> bool:
    """Answer ``submit GRAPH --help`` with the graph's own words, ``submit --help`` with the command's."""
    if "--help" not in context.args and "-h" not in context.args:
        return False
    named = [word for word in context.args if not word.startswith("-")]
    if named and not named[0].endswith((".yaml", ".yml")):
        show(named[0])
    else:
        sys.stdout.write(context.get_help() + "\n")
    return True
