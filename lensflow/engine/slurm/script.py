"""The script that every job of a cluster runs: dask-jobqueue writes it, from the profile's words."""

from __future__ import annotations

import json
import math
import shlex
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import dask
from dask.utils import parse_bytes

from lensflow.engine.params import nearest
from lensflow.engine.slurm import knock
from lensflow.engine.slurm.record import LARGE
from lensflow.errors import BadOption, LensflowError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distributed.security import Security

    from lensflow.engine.slurm.record import Folder

LARGE_WORKER = ("--resources", f"{LARGE}=1")
NAME = "slurm-"  # what the names of these workers begin with; the job's id follows
JOB = "${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}"  # as squeue writes it
NANNY = 256 << 20  # bytes of a job's memory that its workers leave to the process that minds them
LOOPBACK_PAGES = ("--dashboard-address", "127.0.0.1:0")  # of workers: plain HTTP, so nobody else may reach them


@dataclass(frozen=True)
class Shape:
    """What one job asks for, and how it is shared out.

    Parameters
    ----------
    cores, processes
        Of a job; the worker processes share the cores.
    memory
        Bytes of a job.
    walltime
        As SLURM writes it: minutes, HH:MM:SS, D-HH:MM:SS.
    """

    cores: int
    processes: int
    memory: int
    walltime: str

    @classmethod
    def of(
        cls, *, cores: int, processes: int | None, memory: str | int, memory_limit: str | None, walltime: str
    ) -> Shape:
        """Check the profile's words.

        Raises
        ------
        BadOption
            If they cannot be.
        """
        count = processes or cores
        if cores < 1 or count < 1 or count > cores:
            raise BadOption(f"profile: found cores {cores} and processes {count}, expected 1 <= processes <= cores")
        if seconds(walltime) is None:
            raise BadOption(f"profile: found walltime {walltime!r}, expected such as 01:00:00 or 2-00:00:00")
        job = int(parse_bytes(memory)) if memory_limit is None else count * int(parse_bytes(memory_limit)) + NANNY
        if job <= 2 * NANNY:
            raise BadOption(f"profile: found memory {memory}, expected more than {2 * NANNY >> 20}MiB a job")
        return cls(cores, count, job, walltime)

    @property
    def threads(self) -> int:
        """Threads of a worker process."""
        return self.cores // self.processes

    @property
    def worker_memory(self) -> int:
        """Bytes of a worker process, a whole number of MiB: the job's script says it in these."""
        return ((self.memory - NANNY) // self.processes >> 20) << 20

    @property
    def seconds(self) -> float:
        """The walltime, in s."""
        return seconds(self.walltime) or math.inf


def seconds(walltime: str) -> float | None:
    """Return a time limit as sbatch reads it, in s: a number alone is minutes, two are minutes and seconds."""
    days, dash, rest = str(walltime).rpartition("-")
    parts = rest.split(":")
    if not all(one.isdigit() for one in (*parts, *([days] if dash else []))) or len(parts) > 3:
        return None
    numbers = [int(one) for one in parts]
    if dash:  # D-HH, D-HH:MM, D-HH:MM:SS
        hours, minutes, last = (*numbers, 0, 0)[:3]
        return float(int(days) * 86400 + hours * 3600 + minutes * 60 + last)
    if len(numbers) == 1:
        return 60.0 * numbers[0]
    return float(sum(one * scale for one, scale in zip(reversed(numbers), (1, 60, 3600), strict=False)))


@dataclass(frozen=True)
class Words:
    """What the profile says beside the shape of a job: dask-jobqueue's options by their names.

    Parameters
    ----------
    queue, account
        SLURM's partition, and who pays.
    interface
        The network between nodes, such as ib0.
    local_directory
        Where workers keep their files, on the node; the shell of the job reads it.
    job_script_prologue, job_extra_directives, worker_extra_args
        Shell lines before the workers start, further words for sbatch, further words for ``dask worker``.
    death_timeout
        Seconds that workers try to reach the scheduler.
    python
        Of the nodes; the default is the driver's.
    """

    queue: str | None = None
    account: str | None = None
    interface: str | None = None
    local_directory: str | None = None
    job_script_prologue: Sequence[str] = ()
    job_extra_directives: Sequence[str] = ()
    worker_extra_args: Sequence[str] = ()
    death_timeout: float = 60.0
    python: str | None = None

    @classmethod
    def of(cls, **given: Any) -> Words:  # noqa: ANN401 - checked here
        """Check the names of a profile's options.

        Raises
        ------
        BadOption
            If there is none of a name.
        """
        known = [one.name for one in fields(cls)]
        for name in given:
            if name not in known:
                raise BadOption(f"profile: no option {name!r} of a SLURM cluster.{nearest(name, known)}")
        return cls(**given)


def job_name(folder: Folder, *, large: bool = False) -> str:
    """Return the name that squeue knows a cluster's jobs by, or those of its large class."""
    return f"lensflow-{folder.id}" + (f"-{LARGE}" if large else "")


def job_script(
    address: str,
    shape: Shape,
    words: Words,
    folder: Folder,
    security: Security | None,
    *,
    name: str = NAME + JOB,
    large: bool = False,
) -> str:
    """Return the script of a job that starts workers of a scheduler; ``name`` is what the shell makes their name of.

    Nothing in it is secret: certificates are named by path, Dask's configuration travels in a file of the folder.

    Raises
    ------
    LensflowError
        If dask-jobqueue is missing.
    """
    if large:
        words = replace(words, worker_extra_args=[*words.worker_extra_args, *LARGE_WORKER])
    job = _job(
        address,
        shape,
        words,
        folder,
        large=large,
        name=name,
        security=security,
        protocol="tls://" if security else None,
        job_script_prologue=prologue(address, words, folder, security),
    )
    return str(job.job_script())


def pilot_script(shape: Shape, nodes: int, words: Words, folder: Folder) -> str:
    """Return the script of a job of several nodes that brings its own scheduler."""
    each = replace(words, job_extra_directives=[f"--nodes={nodes}", "--ntasks-per-node=1", *words.job_extra_directives])
    header = str(_job("", shape, each, folder, skip=["#SBATCH -n "]).job_header)
    start = shlex.join([_python(words), "-m", "lensflow.engine.slurm.pilot", str(folder.path)])
    lines = ["#!/usr/bin/env bash", header, *words.job_script_prologue, _configured(folder), f"exec {start}"]
    return "\n".join(lines) + "\n"


def _job(
    address: str,
    shape: Shape,
    words: Words,
    folder: Folder,
    *,
    skip: Sequence[str] = (),
    large: bool = False,
    **more: Any,  # noqa: ANN401 - of SLURMJob
) -> Any:  # noqa: ANN401 - a SLURMJob
    try:
        from dask_jobqueue.slurm import SLURMJob  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise LensflowError("SLURM profiles need the package dask-jobqueue; install lensflow[slurm]") from error
    given = {"queue": words.queue, "account": words.account, "python": words.python, "interface": words.interface}
    return SLURMJob(
        address,
        job_name=job_name(folder, large=large),
        cores=shape.cores,
        processes=shape.processes,
        memory=shape.worker_memory * shape.processes,
        job_mem=f"{shape.memory >> 20}M",
        walltime=shape.walltime,
        nanny=True,
        death_timeout=words.death_timeout,
        local_directory=words.local_directory,
        log_directory=str(folder.logs),
        job_directives_skip=["#SBATCH -e ", "#SBATCH -o ", *skip],  # ours are named as squeue names the job
        job_extra_directives=["--no-requeue", "--open-mode=append", *words.job_extra_directives],
        worker_extra_args=[*LOOPBACK_PAGES, *words.worker_extra_args],
        **{key: value for key, value in given.items() if value is not None},
        **more,
    )


def output(folder: Folder, *, array: bool) -> str:
    """Return sbatch's word for where a job's output goes."""
    return f"--output={folder.logs}/{'%A_%a' if array else '%j'}.log"


def prologue(address: str, words: Words, folder: Folder, security: Security | None) -> list[str]:
    """Return the shell lines before the workers start: the site's, Dask's configuration, a knock at the scheduler."""
    door = urlsplit(address)
    script = folder.write_private("knock.py", Path(knock.__file__).read_text(encoding="utf-8"))
    files = [security.tls_worker_cert, security.tls_worker_key] if security else []
    command = shlex.join(map(str, [_python(words), script, door.hostname, door.port, *files]))
    return [*words.job_script_prologue, _configured(folder), f"{command} || exit $?"]


def _python(words: Words) -> str:
    return words.python or dask.config.get("jobqueue.slurm.python", None) or sys.executable


def _configured(folder: Folder) -> str:
    return f"export DASK_CONFIG={shlex.quote(configuration(folder))}"


def configuration(folder: Folder) -> str:
    """Keep this process's Dask configuration in the folder, for its workers; return the path."""
    text = json.dumps(dask.config.config, default=str)
    return str(folder.write_private("dask.json", text))


def job_of(worker: object) -> str | None:
    """Return the job that a worker, given by its name, belongs to; None if it is of no job."""
    name = str(worker)
    return name.removeprefix(NAME).partition("-")[0] if name.startswith(NAME) else None
