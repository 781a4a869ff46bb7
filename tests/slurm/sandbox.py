"""A real SLURM on one machine: munge, a controller and several compute nodes, all on loopback, all below one folder.

It needs Debian's packages slurmctld, slurmd, slurm-client and munge (``.ci/run`` installs them), no systemd and no
root. Nodes may pretend to have more processors and memory than the machine.
"""

from __future__ import annotations

import fcntl
import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROGRAMS = (
    "setpriv",
    "munged",
    "munge",
    "slurmctld",
    "slurmd",
    "sbatch",
    "squeue",
    "scancel",
    "sinfo",
    "srun",
    "scontrol",
)
PATIENCE = 60.0  # s for daemons to answer
SYSTEM = "/usr/sbin:/sbin"  # where Debian has daemons; not on everybody's PATH

CONFIGURATION = """\
ClusterName=sandbox
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.sock
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
PlugStackConfig={folder}/plugstack.conf
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=512
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=100000,bf_interval=5
KillWait={kill_wait}
MinJobAge=300
ReturnToService=2
SlurmctldTimeout=120
SlurmdTimeout=60
JobRequeue=0
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
{memory_rule}
{accounting}
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/log/finished
{nodes}
PartitionName=debug Nodes=ALL Default=YES MaxTime=24:00:00 DefaultTime=00:30:00 State=UP OverSubscribe=NO
{extra}
"""


def missing() -> list[str]:
    """Return the programs of SLURM that are not installed."""
    return [one for one in PROGRAMS if not where(one)]


def user() -> str:
    """Return who runs the daemons."""
    return getpass.getuser()


def where(program: str) -> str | None:
    """Return the path of a program, None if it is not installed."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{SYSTEM}")


@dataclass
class Sandbox:
    """One SLURM, from ``with`` until its end.

    Parameters
    ----------
    nodes, cpus, memory
        Compute nodes n1, n2, ..., and what each of them claims to have; memory in MiB.
    kill_wait
        Seconds between SLURM's polite signal and the last one.
    kill_over_memory
        Whether SLURM ends a job that outgrows its memory.
    extra
        Further lines of slurm.conf: a second partition, preemption, ...
    """

    nodes: int = 2
    cpus: int = 4
    memory: int = 8000
    kill_wait: int = 5
    kill_over_memory: bool = True
    extra: str = ""
    folder: Path = field(init=False)
    port: int = field(init=False)
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _before: str | None = None

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="lensflow-slurm-", dir="/tmp"))
        self.folder.chmod(0o755)
        self._before = os.environ.get("SLURM_CONF")
        try:
            with _one_at_a_time():
                self._start_daemons()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.configuration.exists() and "slurmctld" in self._running:
            self.cancel_all()
        for name in reversed(list(self._running)):
            self._end(name)
        if self._before is None:
            os.environ.pop("SLURM_CONF", None)
        else:
            os.environ["SLURM_CONF"] = self._before
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def configuration(self) -> Path:
        """The slurm.conf; ``SLURM_CONF`` points to it."""
        return self.folder / "slurm.conf"

    def cancel_all(self) -> None:
        """End every job, else its processes would outlive the nodes."""
        ask("scancel", f"--user={user()}")
        self.drained()

    def drained(self, seconds: float = 30.0) -> bool:
        """Wait for the queue to be empty; return whether it is."""
        return any(not queued() for _ in _until(seconds))

    def start_controller(self) -> None:
        """Start slurmctld: the first time, or after it was killed."""
        self._start("slurmctld", "slurmctld", "-D", "-f", str(self.configuration))

    def kill_controller(self) -> None:
        """Kill slurmctld: squeue, sbatch and scancel fail until it is started again."""
        controller = self._running.pop("slurmctld")
        controller.kill()
        controller.wait()

    def _start_daemons(self) -> None:
        self._configure()
        self._start_munge()
        self._start_bookkeeper()
        self.start_controller()
        for name in self._names():
            (self.folder / "spool" / name).mkdir(parents=True)
            self._start(name, "slurmd", "-D", "-f", str(self.configuration), "-N", name)
        self._await_nodes()

    def _start_bookkeeper(self) -> None:
        """Start what keeps the accounts, if anything does."""

    def _names(self) -> list[str]:
        return [f"n{number + 1}" for number in range(self.nodes)]

    def _configure(self) -> None:
        self.port = port = _free_ports(self.nodes + 2)  # of the controller, the nodes, and a bookkeeper if there is one
        line = "NodeName={} NodeHostname=localhost NodeAddr=127.0.0.1 Port={} CPUs={} RealMemory={} State=UNKNOWN"
        nodes = [line.format(one, port + 1 + at, self.cpus, self.memory) for at, one in enumerate(self._names())]
        for one in ("state", "spool", "log"):
            (self.folder / one).mkdir()
        (self.folder / "plugstack.conf").touch()
        (self.folder / "log" / "finished").touch()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        filled = CONFIGURATION.format(
            port=port,
            user=user(),
            folder=self.folder,
            nodes="\n".join(nodes),
            kill_wait=self.kill_wait,
            memory_rule="JobAcctGatherParams=OverMemoryKill" if self.kill_over_memory else "",
            accounting=self._accounting(),
            extra=self.extra,
        )
        self.configuration.write_text(filled)
        os.environ["SLURM_CONF"] = str(self.configuration)

    def _accounting(self) -> str:
        """Return the lines of slurm.conf on accounting; there is none, but for a line a job in a file."""
        return "AccountingStorageType=accounting_storage/none"

    def _start_munge(self) -> None:
        words = [f"--{one}={self.folder}/munge.{two}" for one, two in (("socket", "sock"), ("key-file", "key"))]
        more = [f"--{one}-file={self.folder}/munge.{one}" for one in ("pid", "seed", "log")]
        self._start("munged", "munged", "--foreground", *words, *more)
        self._await("munged", (self.folder / "munge.sock").exists)

    def _await_nodes(self) -> None:
        def idle() -> bool:
            return ask("sinfo", "-h", "-N", "-p", "debug", "-o", "%N %t").stdout.split()[1::2] == ["idle"] * self.nodes

        self._await("nodes that are idle", idle)

    def _await(self, what: str, there: Callable[[], bool]) -> None:
        for _ in _until(PATIENCE):
            if there():
                return
        raise TimeoutError(f"no {what} within {PATIENCE:g} s:\n{self.said()}")

    def said(self) -> str:
        """Return the last lines of the daemons' logs."""
        logs = [*self.folder.glob("log/*.log"), *self.folder.glob("*.out"), *self.folder.glob("munge.log")]
        return "\n".join(f"--- {one}\n" + "\n".join(one.read_text().splitlines()[-8:]) for one in logs)

    def _start(self, name: str, program: str, *words: str) -> None:
        leash = ["setpriv", "--pdeathsig", "TERM"]  # a killed test session leaves no daemons behind
        command = [*leash, where(program) or program, *words]
        with (self.folder / f"{name}.out").open("ab") as out:
            # a session of its own: Ctrl-C in the terminal is for the tests, which end it in their turn
            self._running[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )

    def _end(self, name: str) -> None:
        process = self._running.pop(name, None)
        if process is None:
            return
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ask(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of SLURM."""
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


def queued() -> list[str]:
    """Return what squeue lists: job, state, name."""
    found = ask("squeue", "-h", "-r", "-o", "%i %T %j")
    return found.stdout.splitlines() if found.returncode == 0 else ["squeue does not answer"]


def _until(seconds: float, pause: float = 0.1) -> Iterator[None]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(pause)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Let no other sandbox of this user look for free ports before the daemons of this one have taken theirs."""
    with Path(tempfile.gettempdir(), f"lensflow-slurm-{os.geteuid()}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _free_ports(count: int) -> int:
    """Return the first of several ports in a row that nobody uses."""
    for first in range(20000 + os.getpid() % 5000, 60000, count):
        with_all = []
        try:
            for port in range(first, first + count):
                one = socket.socket()
                with_all.append(one)
                one.bind(("127.0.0.1", port))
        except OSError:
            continue
        finally:
            for one in with_all:
                one.close()
        return first
    raise OSError("no free ports in a row")


if __name__ == "__main__":  # for a look by hand: a shell with a SLURM around it
    with Sandbox():
        subprocess.run([os.environ.get("SHELL", "bash")], check=False)
