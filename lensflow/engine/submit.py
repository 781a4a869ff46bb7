"""Runs that go on by themselves: a job is handed to a driver that outlives whoever submitted it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lensflow.engine import batch, jobs
from lensflow.engine.claim import check
from lensflow.engine.cluster import profile, running
from lensflow.engine.detach import in_background, in_slurm, prepare, variables, write_job
from lensflow.engine.rundir import RunDirectory
from lensflow.engine.runs import Run
from lensflow.engine.work import Work
from lensflow.errors import BadOption

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import xarray as xr

    from lensflow.engine.submission import Submission


def submit(
    data: xr.DataArray | xr.Dataset | xr.DataTree,
    out: Path | str,
    **words: Any,  # noqa: ANN401 - checked by the engine's own table
) -> Run:
    """Send a lazy dataset off to be written by a driver of its own, and return at once.

    The driver is a process of this machine that survives the notebook, or a job of SLURM where the profile is one
    of SLURM's. :func:`lensflow.open_run` finds the run again.

    Parameters
    ----------
    data
        What a graph returned, unchanged: the driver calls the graph again.
    out
        Path of the store.
    **words
        Those of ``lensflow submit``: ``cluster="slurm"``, ``workers=4``, ``chain=3``.

    Returns
    -------
    Run
        Its ``status`` tells how far it is.

    Raises
    ------
    BadOption
        If no graph file can make the dataset, or a word is unfit.
    RunLocked
        If another driver is at work on the store.
    StoreConflict
        If the store was made from something else.
    """
    work = Work.of(data)
    if work.graph is None:
        raise BadOption(
            "the dataset was made or changed by hand, and a driver of its own cannot make it again: put what you did"
            " into a graph file, or write it from here with run()"
        )
    values = jobs.ENGINE.validate({**words, "out": out})
    job = jobs.Job(work.graph, work.graph.bind(**work.identity.arguments), jobs.settings(**values))  # type: ignore[arg-type]
    directory = RunDirectory.of(out)
    send_job(directory, job, work)
    return Run(directory)


def send_job(directory: RunDirectory, job: jobs.Job, work: Work) -> Submission:
    """Hand a job to a driver of its own; what can be refused is refused now.

    Parameters
    ----------
    directory
        Of its run.
    job
        What is to be done.
    work
        What its graph has returned here.
    """
    check(directory, work, accept_changes=job.settings.accept_changes)
    _refuse_chain(job.settings)
    prepare(directory)
    path = write_job(directory, job)
    return send(directory, ["submit", str(path)], job.settings, without=variables(job))


def send(
    directory: RunDirectory,
    words: Sequence[str],
    settings: jobs.Settings,
    *,
    without: Sequence[str] = (),
) -> Submission:
    """Start a driver with the words it is told: as a job where the profile is one of SLURM's, else here.

    Parameters
    ----------
    directory
        Of its run.
    words
        What ``lensflow`` is told.
    settings
        Where it runs.
    without
        Variables of this process's environment that it does not get.
    """
    _refuse_chain(settings)
    prepare(directory)
    wanted = for_slurm(settings)
    if wanted is None:
        return in_background(directory, words, without=without)
    options, prologue = wanted
    forget = [f"unset {' '.join(without)}"] if without else []
    return in_slurm(directory, words, options, [*prologue, *forget])


def for_slurm(settings: jobs.Settings) -> tuple[list[str], list[str]] | None:
    """Return the options of ``sbatch`` and the first lines of a driver's job, None where it is no job of SLURM."""
    if running(settings.cluster):
        return None
    section = profile(settings.cluster)["lensflow"]
    kind = section["cluster"]["class"].lower()
    if "driver" not in section and "slurm" not in kind:
        return None
    driver = section.get("driver") or {}
    cluster = {**(section["cluster"].get("options") or {}), **settings.cluster_options}
    prologue = driver.get("prologue", cluster.get("job_script_prologue")) or ()
    return batch.options(driver, cluster, whole="pilot" in kind), [str(one) for one in prologue]


def _refuse_chain(settings: jobs.Settings) -> None:
    if settings.chain and for_slurm(settings) is None:
        raise BadOption(
            f"--chain {settings.chain}: found the profile {settings.cluster}, expected one of SLURM, for it is a job of"
            " SLURM that the next follows; choose one with --cluster, or leave --chain away"
        )
