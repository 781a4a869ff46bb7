"""A Dask cluster whose workers are SLURM jobs: the scheduler here, with certificates of its own, the jobs kept."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from distributed import Client

from lensflow.engine.slurm.certificates import issue
from lensflow.engine.slurm.demand import Demand
from lensflow.engine.slurm.keeper import Keeper
from lensflow.engine.slurm.record import Folder, shared_path
from lensflow.engine.slurm.scheduler import announce, start
from lensflow.engine.slurm.script import Shape, Words, job_script, output
from lensflow.engine.slurm.supervisor import Supervisor
from lensflow.engine.slurm.sweep import sweep

if TYPE_CHECKING:
    from pathlib import Path

    from distributed.security import Security

DAYS = 14.0  # that certificates are valid: longer than a run takes
HORIZON = 600.0  # s in which what is left should be done


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
        given = Words.of(interface=interface, **words)
        sweep(shared_path(shared_folder))
        with ExitStack() as stack:
            self.folder = Folder.make(shared_folder)
            stack.callback(self.folder.forget_secrets)
            self.security: Security | None = issue(self.folder, certificate_days) if security else None
            self._inner = stack.enter_context(
                start(
                    self.security,
                    host=host,
                    interface=interface,
                    dashboard_address=dashboard_address,
                    silence_logs=silence_logs,
                )
            )
            client = stack.enter_context(Client(self._inner, set_as_default=False))
            announce(client, self._inner, self.folder, self.shape, "slurm")
            self.demand = Demand(
                jobs, minimum_jobs, maximum_jobs, cores, min(horizon, self.shape.seconds), adaptive=adaptive
            )
            script = job_script(self.scheduler_address, self.shape, given, self.folder, self.security)
            self._keeper = self._keep(client, script, array=array)
            self._keeper.start()
            stack.callback(self._keeper.close)
            self._open = stack.pop_all()

    def _keep(self, client: Client, script: str, *, array: bool) -> Keeper:
        supervisor, where = Supervisor(self.shape.seconds), [output(self.folder, array=array)]
        return Keeper(client, self.folder, supervisor, self.demand, script=script, words=where, array=array)

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
