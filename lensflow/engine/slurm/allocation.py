"""``slurm-pilot``: everything in one job of SLURM; the driver inside it, or outside and joining it."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Self

from dask.utils import parse_bytes
from distributed import Client

from lensflow.engine.journal import Log
from lensflow.engine.slurm.certificates import issue
from lensflow.engine.slurm.cluster import DAYS
from lensflow.engine.slurm.pilot import Pilot, job_here
from lensflow.engine.slurm.queue import Listed, QueueError, look_up, sbatch, scancel
from lensflow.engine.slurm.record import Folder, shared_path
from lensflow.engine.slurm.script import Shape, Words, output, pilot_script
from lensflow.engine.slurm.states import ALIVE
from lensflow.engine.slurm.sweep import sweep
from lensflow.errors import LensflowError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

BEAT = 1.0  # s between two looks at the queue
COMING = 60.0  # s for the scheduler file to be seen after its job has been seen running


class SlurmPilot:
    """One job of SLURM with scheduler and workers in it.

    In a job of SLURM already (``SLURM_JOB_ID``), that one is used and its size counts; else one is submitted.

    Parameters
    ----------
    nodes, cores, processes, memory, walltime
        Of the job: nodes, and on each of them cores, worker processes, memory; time limit.
    memory_limit, n_workers
        Of a worker, and how many in all; replace ``memory`` and ``processes``.
    driver_memory
        Kept free on each node: scheduler and driver are on the first.
    shared_folder, security, certificate_days, host, interface, dashboard_address, silence_logs, **words
        See :class:`lensflow.engine.slurm.cluster.SlurmCluster`.

    Raises
    ------
    QueueError
        If SLURM refuses the job.
    LensflowError
        If the job ends before its scheduler is there.
    """

    def __init__(
        self,
        *,
        nodes: int = 1,
        cores: int = 1,
        processes: int | None = None,
        memory: str | int = "4GiB",
        memory_limit: str | None = None,
        n_workers: int | None = None,
        driver_memory: str | int = "1GiB",
        walltime: str = "01:00:00",
        shared_folder: str | Path = "~/.lensflow/clusters",
        security: bool = True,
        certificate_days: float = DAYS,
        host: str | None = None,
        interface: str | None = None,
        dashboard_address: str = "127.0.0.1:8787",
        silence_logs: int = 50,
        **words: Any,  # noqa: ANN401 - checked by Words
    ) -> None:
        inside = size_here(os.environ)
        nodes, cores = inside.get("nodes", nodes), inside.get("cores", cores)
        if n_workers is not None:
            processes = -(-n_workers // nodes)
        whole = inside.get("memory") or int(parse_bytes(memory))
        kept = int(parse_bytes(driver_memory))
        self.shape = Shape.of(
            cores=cores, processes=processes, memory=whole - kept, memory_limit=memory_limit, walltime=str(walltime)
        )
        given = Words.of(interface=interface, **words)
        listening = {"host": host, "interface": interface, "dashboard_address": dashboard_address}
        order = {"nodes": nodes, "keys": security, "listening": {**listening, "silence_logs": silence_logs}}
        sweep(shared_path(shared_folder))
        with ExitStack() as stack:
            self.folder = Folder.make(shared_folder)
            stack.callback(self.folder.forget_secrets)
            self._security = issue(self.folder, certificate_days) if security else None
            if inside:
                pilot = Pilot(self.folder, self.shape, nodes, given, keys=security, **order["listening"])  # type: ignore[arg-type]
                stack.callback(pilot.close)
                self.scheduler_address = str(pilot.inner.scheduler_address)
            else:
                more = {"shape": asdict(self.shape), "words": asdict(given)}
                self.folder.write_private("pilot.json", json.dumps({**order, **more}))
                asked = Shape(cores, self.shape.processes, self.shape.memory + kept, self.shape.walltime)
                job = self._submit(pilot_script(asked, nodes, given, self.folder))
                stack.callback(self._cancel, job)
                self.scheduler_address = self._await(job)
            self._open = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get_client(self) -> Client:
        """Return a new client."""
        return Client(self.scheduler_address, security=self._security)

    def close(self) -> None:
        """End scheduler and workers, and with them the job if it was submitted here."""
        self._open.close()

    def _submit(self, script: str) -> str:
        (job,) = sbatch(script, 1, array=False, words=[output(self.folder, array=False)])
        with Log(self.folder.jobs) as log:
            log.append("submitted", job=job)
        return job

    def _cancel(self, job: str) -> None:
        try:
            scancel([job])
        except QueueError as error:
            sys.stderr.write(f"job {job} could not be cancelled ({error}): cancel it by hand\n")
        with Log(self.folder.jobs) as log:
            log.append("gone", job=job, reason="the cluster is closed")

    def _await(self, job: str) -> str:
        """Wait for the job's scheduler, say why it waits itself, and return the scheduler's address."""
        told, running = "", 0.0
        while not self.folder.scheduler.exists():
            try:
                found = look_up([job]).get(job, Listed("gone"))
            except QueueError:  # nothing is known, nothing is concluded
                found = Listed("PENDING")
            if found.state not in ALIVE:
                said = "; ".join(self.folder.last_words(job)) or "none"
                raise LensflowError(
                    f"job {job} ended ({found.state}) before its scheduler was there; last words: {said}"
                )
            if found.reason not in {told, "", "None"}:
                told = found.reason
                sys.stderr.write(f"job {job} waits in SLURM's queue: {told}\n")
            running = running or (time.monotonic() if found.state == "RUNNING" else 0.0)
            if running and time.monotonic() - running > COMING:
                raise LensflowError(
                    f"job {job} runs on {found.node} and its scheduler file is not seen in {self.folder.path}: set the"
                    f" profile's shared_folder to one that every node sees; its log is {self.folder.log_of(job)}"
                )
            time.sleep(BEAT)
        return str(json.loads(self.folder.scheduler.read_text(encoding="utf-8"))["address"])


def size_here(environment: Mapping[str, str]) -> dict[str, int]:
    """Return nodes, cores and memory of the job that this process runs in, as far as SLURM says; {} outside."""
    if not job_here():
        return {}
    cores = int(environment.get("SLURM_CPUS_ON_NODE", 1))
    found = {"nodes": int(environment.get("SLURM_JOB_NUM_NODES", 1)), "cores": cores}
    if "SLURM_MEM_PER_NODE" in environment:
        found["memory"] = int(environment["SLURM_MEM_PER_NODE"]) << 20
    elif "SLURM_MEM_PER_CPU" in environment:
        found["memory"] = int(environment["SLURM_MEM_PER_CPU"]) * cores << 20
    return found
