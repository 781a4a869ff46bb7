"""A Dask cluster whose workers are SLURM jobs: the scheduler here, with certificates of its own, the jobs kept."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from distributed import Client

from lensflow.engine.slurm.certificates import issue
from lensflow.engine.slurm.demand import Demand, LargeDemand
from lensflow.engine.slurm.keeper import Keeper
from lensflow.engine.slurm.record import Folder, shared_path
from lensflow.engine.slurm.scheduler import announce, start
from lensflow.engine.slurm.script import Shape, Words, job_script, output
from lensflow.engine.slurm.supervisor import Supervisor
from lensflow.engine.slurm.sweep import sweep
from lensflow.errors import BadOption

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
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
    large
        Jobs for blocks for which memory was short even alone: what is different of them (memory, queue, walltime, ...).
        They have one worker of one thread, and there is one at most, unless it is said. None for no such class.
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
        large: Mapping[str, Any] | None = None,
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
        large_shape, large_words, most = _large(large, walltime, self.shape) if large else (None, {}, 0)
        if n_workers is not None:
            jobs = -(-n_workers // self.shape.processes)
            maximum_jobs = max(maximum_jobs, jobs)
        given = Words.of(interface=interface, **words)
        larger = Words.of(**{"interface": interface, **words, **large_words}) if large else None
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
            announce(client, self._inner, self.folder, self.shape, "slurm", large=large_shape)
            self.demand = Demand(
                jobs, minimum_jobs, maximum_jobs, cores, min(horizon, self.shape.seconds), adaptive=adaptive
            )
            # written before any job starts: both kinds read the same files of the folder
            script = job_script(self.scheduler_address, self.shape, given, self.folder, self.security)
            keep = partial(self._kept, client, array=array)
            if large_shape and larger:
                big = job_script(self.scheduler_address, large_shape, larger, self.folder, self.security, large=True)
                stack.enter_context(keep(big, large_shape.seconds, LargeDemand(most), large=True))
            self._keeper = stack.enter_context(keep(script, self.shape.seconds, self.demand))
            self._open = stack.pop_all()

    @contextmanager
    def _kept(
        self,
        client: Client,
        script: str,
        walltime: float,
        demand: Demand | LargeDemand,
        *,
        array: bool,
        large: bool = False,
    ) -> Iterator[Keeper]:
        """Keep the jobs of a class while the block of a ``with`` statement runs."""
        where, supervisor = [output(self.folder, array=array)], Supervisor(walltime)
        keeper = Keeper(client, self.folder, supervisor, demand, script=script, words=where, array=array, large=large)
        keeper.start()
        try:
            yield keeper
        finally:
            keeper.close()

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


def _large(given: object, walltime: str, normal: Shape) -> tuple[Shape, dict[str, Any], int]:
    """Return the shape of large jobs, what else is said of them, and how many there may be."""
    problem = BadOption(
        f"profile: large: found {given!r}, expected a mapping with the memory (or memory_limit) of such a job, more"
        f" than the {normal.worker_memory >> 20} MiB of other workers, and maximum_jobs of 1 or more"
    )
    if not isinstance(given, dict) or not {"memory", "memory_limit"} & given.keys():
        raise problem
    said = {"cores": 1, "processes": 1, "walltime": walltime, "memory": "4GiB", "memory_limit": None, **given}
    sizes = {name: said.pop(name) for name in ("cores", "processes", "memory", "memory_limit", "walltime")}
    most = said.pop("maximum_jobs", 1)
    shape = Shape.of(**{**sizes, "walltime": str(sizes["walltime"])})
    if not isinstance(most, int) or most < 1 or shape.worker_memory <= normal.worker_memory:
        raise problem
    return shape, said, most
