"""SLURM's partitions and nodes, read from ``scontrol show ... --oneliner``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PAIR = re.compile(r"(\w[\w:/]*)=((?:(?!\s\w[\w:/]*=).)*)")  # a value may hold blanks: OS=Linux 6.1 #1 SMP
TIME = re.compile(r"(\d+-)?\d+(:\d+){0,2}")
NO_LIMIT = {"UNLIMITED", "INFINITE", "NONE", "(null)", "N/A", ""}
AWAY = {"DOWN", "DRAIN", "DRAINED", "DRAINING", "FAIL", "FAILING", "NOT_RESPONDING", "MAINT", "FUTURE"}
MARKS = "*~#!%$@^-"  # what SLURM appends to a state: not answering, asleep, waking up, planned ...
EVERYBODY = {"ALL", "", "(null)"}


@dataclass(frozen=True)
class Node:
    """One computer that runs jobs.

    Parameters
    ----------
    name
        Its name.
    cores
        Processors that jobs can have.
    memory
        Memory that jobs can have, bytes.
    local_disk
        Size of its own scratch disk, bytes; 0 if SLURM was not told.
    usable
        Whether it takes jobs now or will without an administrator.
    partitions
        Where it belongs.
    """

    name: str
    cores: int
    memory: int
    local_disk: int
    usable: bool
    partitions: frozenset[str]


@dataclass(frozen=True)
class Partition:
    """A queue of SLURM and its limits.

    Parameters
    ----------
    name
        Its name.
    up
        Whether it takes jobs and starts them.
    default
        Whether jobs that name none land here.
    max_time
        Longest job, s; None without a limit.
    max_memory
        Memory a job may have on a node, bytes; None without a limit.
    max_cores
        Processors a job may have on a node; None without a limit.
    max_nodes
        Nodes a job may have; None without a limit.
    accounts
        Accounts that may use it; None for all.
    groups
        Groups that may use it; None for all.
    nodes
        Its nodes.
    """

    name: str
    up: bool
    default: bool
    max_time: int | None
    max_memory: int | None
    max_cores: int | None
    max_nodes: int | None
    accounts: frozenset[str] | None
    groups: frozenset[str] | None
    nodes: tuple[Node, ...]

    @property
    def usable(self) -> tuple[Node, ...]:
        """The nodes that take jobs."""
        return tuple(one for one in self.nodes if one.usable)

    @property
    def cores(self) -> int | None:
        """The most processors a job can have on one node; None if unknown."""
        found = [one.cores for one in self.usable or self.nodes]
        return min(max(found), self.max_cores or max(found)) if found else self.max_cores

    @property
    def memory(self) -> int | None:
        """The most memory a job can have on one node, bytes; None if unknown."""
        found = [one.memory for one in self.usable or self.nodes]
        return min(max(found), self.max_memory or max(found)) if found else self.max_memory


def partitions(shown: str, nodes: Iterable[Node] = ()) -> dict[str, Partition]:
    """Read ``scontrol show partition --oneliner``.

    Parameters
    ----------
    shown
        What the command printed.
    nodes
        The nodes, for what they have.
    """
    nodes = tuple(nodes)
    return {one["PartitionName"]: _partition(one, nodes) for one in records(shown) if "PartitionName" in one}


def nodes(shown: str) -> tuple[Node, ...]:
    """Read ``scontrol show node --oneliner``."""
    return tuple(_node(one) for one in records(shown) if "NodeName" in one)


def records(shown: str) -> Iterator[dict[str, str]]:
    """Yield the ``Key=Value`` pairs of each line."""
    for line in shown.splitlines():
        if line.strip():
            yield {key: value.strip() for key, value in PAIR.findall(line)}


def seconds(limit: str) -> int | None:
    """Read a time of SLURM: ``30`` (minutes), ``10:00``, ``1:00:00``, ``1-00``, ``1-00:00:00``; None for no limit.

    Raises
    ------
    ValueError
        If it is no time.
    """
    if limit in NO_LIMIT:
        return None
    if not TIME.fullmatch(limit):
        raise ValueError(f"{limit!r} is no time of SLURM, such as 1-12:00:00")
    days, dash, rest = limit.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:  # days-hours[:minutes[:seconds]]
        hours, minutes, rest_seconds = (*parts, 0, 0)[:3]
    elif len(parts) == 3:
        hours, minutes, rest_seconds = parts
    else:  # minutes[:seconds]
        hours, (minutes, rest_seconds) = 0, (*parts, 0)[:2]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + rest_seconds


def spelled(time: float) -> str:
    """Spell seconds as SLURM does: ``12:00:00``, ``1-00:00:00``."""
    days, rest = divmod(round(time), 86400)
    clock = f"{rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d}"
    return f"{days}-{clock}" if days else clock


def _partition(shown: dict[str, str], nodes: tuple[Node, ...]) -> Partition:
    name = shown["PartitionName"]
    per_node, per_core = _number(shown.get("MaxMemPerNode")), _number(shown.get("MaxMemPerCPU"))
    cores = _number(shown.get("MaxCPUsPerNode"))
    own = tuple(one for one in nodes if name in one.partitions)
    most = cores or max((one.cores for one in own), default=None)
    megabytes = per_node or (per_core * most if per_core and most else None)
    return Partition(
        name=name,
        up=shown.get("State", "UP") == "UP",
        default=shown.get("Default") == "YES",
        max_time=seconds(shown.get("MaxTime", "")),
        max_memory=megabytes * 2**20 if megabytes else None,
        max_cores=cores,
        max_nodes=_number(shown.get("MaxNodes")),
        accounts=_names(shown.get("AllowAccounts", "")),
        groups=_names(shown.get("AllowGroups", "")),
        nodes=own,
    )


def _node(shown: dict[str, str]) -> Node:
    cores = _number(shown.get("CPUEfctv")) or _number(shown.get("CPUTot")) or 1
    reserved = _number(shown.get("MemSpecLimit")) or 0
    return Node(
        name=shown["NodeName"],
        cores=cores,
        memory=((_number(shown.get("RealMemory")) or 0) - reserved) * 2**20,
        local_disk=(_number(shown.get("TmpDisk")) or 0) * 2**20,
        usable=not {word.rstrip(MARKS) for word in shown.get("State", "").split("+")} & AWAY,
        partitions=frozenset(filter(None, shown.get("Partitions", "").split(","))),
    )


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() and int(text) else None


def _names(text: str) -> frozenset[str] | None:
    return None if text in EVERYBODY else frozenset(text.split(","))
