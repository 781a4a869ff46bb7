"""A Dask cluster whose workers are SLURM jobs: the scheduler here, with certificates of its own, the jobs kept."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from distributed import Client, Scheduler, SpecCluster

from lensflow.engine.slurm.certificates import issue
from lensflow.engine.slurm.demand import Demand
from lensflow.engine.slurm.keeper import Keeper
from lensflow.engine.slurm.record import METADATA, Folder
from lensflow.engine.slurm.script import Shape, Words, job_script, output
from lensflow.engine.slurm.supervisor import Supervisor
from lensflow.errors import BadOption

if TYPE_CHECKING:
    from pathlib import Path

    from distributed.security import Security

DAYS = 14.0  # that certificates are valid: longer than a run takes
HORIZON = 600.0  # s in which what is left should be done
LOOPBACK = {"lo", "127.0.0.1", "localhost", "::1"}


class SlurmCluster:
    """A scheduler in this process, and workers in jobs of SLURM.

    Parameters
    ----------
    cores, processes, memory, walltime
        Of a job: cores, worker processes that share them (one a core by default), memory, time limit.
    memory_limit
        Of a worker; replaces ``memory``.
    jobs, n_workers
        Jobs at first, or workers.
    minimum_jobs, maximum_jobs
        At least and at most, as the work grows and shrinks.
    adaptive
        Whether the number of jobs follows what is left to do.
    horizon
        Seconds in which what is left should be done.
    array
        Submit many jobs by one sbatch.
    shared_folder
        Every node sees it; the cluster's folder is made there.
    security
        Encrypt and authenticate: only off where nobody else can reach the host.
    certificate_days
        For how long the certificates are valid.
    host, interface
        Where the scheduler listens; workers listen on the same interface.
    dashboard_address
        Of Dask's pages: plain HTTP, so this host only, reached through ssh.
    silence_logs
        Level below which Dask's logs are dropped.
    **words
        See :class:`lensflow.engine.slurm.script.Words`.

    Raises
    ------
    QueueError
        If SLURM refuses the first jobs.
    BadOption
        If an option is unknown or unfit.
    """

    def __init__(
        self,
        *,
        cores: int = 1,
        processes: int | None = None,
        memory: str | int = "4GiB",
        memory_limit: str | None = None,
        walltime: str = "01:00:00",
        jobs: int = 1,
        n_workers: int | None = None,
        minimum_jobs: int = 0,
        maximum_jobs: int = 10,
        adaptive: bool = True,
        horizon: float = HORIZON,
        array: bool = True,
        shared_folder: str | Path = "~/.lensflow/clusters",
        security: bool = True,
        certificate_days: float = DAYS,
        host: str | None = None,
        interface: str | None = None,
        dashboard_address: str = "127.0.0.1:8787",
        silence_logs: int = 50,
        **words: Any,  # noqa: ANN401 - checked by Words
    ) -> None:
        self.shape = Shape.of(
            cores=cores, processes=processes, memory=memory, memory_limit=memory_limit, walltime=str(walltime)
        )
        if n_workers is not None:
            jobs = -(-n_workers // self.shape.processes)
            maximum_jobs = max(maximum_jobs, jobs)
        if not security and not {host, interface} & LOOPBACK:
            raise BadOption(
                "profile: security is off and the scheduler would listen to the network, where anybody could run code"
                " as you; leave it on, or set interface: lo"
            )
        given = _words(interface=interface, **words)
        with ExitStack() as stack:
            self.folder = Folder.make(shared_folder)
            stack.callback(self.folder.forget_secrets)
            self.security: Security | None = issue(self.folder, certificate_days) if security else None
            inner = stack.enter_context(self._scheduler(host, interface, dashboard_address, silence_logs))
            self._client = stack.enter_context(Client(inner, set_as_default=False))
            self._inner = inner
            self._describe()
            self.demand = Demand(
                jobs, minimum_jobs, maximum_jobs, cores, min(horizon, self.shape.seconds), adaptive=adaptive
            )
            self._keeper = Keeper(
                self._client,
                self.folder,
                Supervisor(self.shape.seconds),
                self.demand,
                script=job_script(inner.scheduler_address, self.shape, given, self.folder, self.security),
                words=[output(self.folder, array=array)],
                array=array,
            )
            self._keeper.start()
            stack.callback(self._keeper.close)
            self._open = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<SlurmCluster {self.scheduler_address}, {len(self._keeper.supervisor.jobs)} jobs, {self.folder.path}>"

    @property
    def scheduler_address(self) -> str:
        """Where the scheduler is."""
        return str(self._inner.scheduler_address)

    @property
    def dashboard_link(self) -> str:
        """Address of Dask's dashboard, on this host."""
        return str(self._inner.dashboard_link)

    def get_client(self) -> Client:
        """Return a new client."""
        return Client(self._inner)

    def scale(self, jobs: int) -> None:
        """Ask for so many jobs, from now on."""
        self.demand.scale(jobs)

    def close(self) -> None:
        """Cancel all jobs, end the scheduler, remove the certificates; the record of the jobs stays."""
        self._open.close()

    def _scheduler(self, host: str | None, interface: str | None, dashboard: str, silence: int) -> SpecCluster:
        options = {
            "protocol": "tls://" if self.security else "tcp://",
            "security": self.security,
            "host": host,
            "interface": interface if host is None else None,
            "port": 0,
            "dashboard_address": dashboard,
        }
        spec = {"cls": Scheduler, "options": options}
        return SpecCluster(workers={}, scheduler=spec, security=self.security, silence_logs=silence, name="slurm")

    def _describe(self) -> None:
        """Say where the scheduler is and what its workers will be, to drivers and in the folder."""
        said = {
            "folder": str(self.folder.path),
            "kind": "slurm",
            "memory_limit": self.shape.worker_memory,
            "threads": self.shape.threads,
            "walltime": self.shape.seconds,
        }
        self._client.set_metadata([METADATA], said)
        self.folder.describe(address=self.scheduler_address, dashboard=self.dashboard_link, **said)
        reach = {"address": self.scheduler_address, "type": "Scheduler"}
        if self.security:
            folder = self.folder.path / "tls"
            reach |= {"certificate": str(folder / "certificate.pem"), "key": str(folder / "key.pem")}
        self.folder.write_private("scheduler.json", json.dumps(reach, indent=1))


def _words(**given: Any) -> Words:  # noqa: ANN401 - checked here
    known = Words.__dataclass_fields__
    for name in given:
        if name not in known:
            raise BadOption(f"profile: no option {name!r} of a SLURM cluster; there are {', '.join(sorted(known))}")
    return Words(**given)
