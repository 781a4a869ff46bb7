"""Values for a first profile, each with where it comes from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lensflow.engine.params import nearest
from lensflow.engine.progress import size
from lensflow.engine.site.partitions import spelled
from lensflow.errors import BadInput, BadOption

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lensflow.engine.site.partitions import Node, Partition
    from lensflow.engine.site.survey import Site

WALLTIME = 4 * 3600  # s: short jobs start sooner, and one that ends is replaced
FAST = re.compile(r"ib|hsn|opa|roce|bond")  # names of networks between nodes
COMMON = "/tmp"  # noqa: S108 - SLURM's own default, which the shipped profile ends with
MEBIBYTE = 2**20


@dataclass(frozen=True)
class Choice:
    """One value of the profile.

    Parameters
    ----------
    key
        The option.
    value
        Its value as YAML.
    why
        Where it comes from, for the comment beside it.
    """

    key: str
    value: str
    why: str


def choose(
    site: Site, interfaces: Mapping[str, str], *, partition: str | None = None, account: str | None = None
) -> tuple[list[Choice], list[str]]:
    """Choose the values that a first profile needs.

    Parameters
    ----------
    site
        What SLURM says.
    interfaces
        Address by interface of this host, without loopback.
    partition
        A partition to use; default: SLURM's own default.
    account
        An account to charge; default: this user's default.

    Returns
    -------
    tuple
        The choices, and what could not be found out.

    Raises
    ------
    BadInput
        If SLURM tells of no partition that takes jobs.
    BadOption
        If the partition does not exist or the account is not the user's.
    """
    chosen = _partition(site, partition)
    charged = _account(site, account)
    choices = [Choice("queue", chosen.name, _describe(chosen, site)), _time(chosen, site, charged)]
    unknown = list(site.unknown)
    smallest = _smallest(chosen)
    if smallest is None:
        unknown.append(f"cores and memory of {chosen.name}: SLURM tells of no node there")
    else:
        choices += _shape(chosen, smallest)
    if charged:
        own = list(dict.fromkeys(one.account for one in site.associations))
        more = f"; yours: {', '.join(own)}" if len(own) > 1 else ""
        choices.append(Choice("account", charged, f"charged for the jobs{more}"))
    elif not any(one.startswith("accounts") for one in unknown):
        unknown.append("accounts: SLURM keeps none for you here")
    if network := _interface(interfaces):
        choices.append(network)
    else:
        unknown.append("interface: this host has none but loopback")
    if not site.scratch:
        unknown.append("local_directory: SLURM names no disk of the nodes' own; the profile's default is kept")
    elif site.scratch != COMMON:
        scratch = f'"${{SLURM_TMPDIR:-{site.scratch}}}"'
        choices.append(Choice("local_directory", scratch, "a job's own, else TmpFS of SLURM: the nodes' own disk"))
    return choices, unknown


def _partition(site: Site, name: str | None) -> Partition:
    if not site.partitions:
        problem = "; ".join(site.unknown) or "scontrol show partition is empty"
        raise BadInput(f"SLURM tells of no partition ({problem}); run this on a login node of the cluster")
    if name is not None:
        if name not in site.partitions:
            listed = ", ".join(site.partitions)
            raise BadOption(
                f"--partition {name}: there is none; expected one of {listed}.{nearest(name, site.partitions)}"
            )
        return site.partitions[name]
    if site.default is None:
        raise BadInput(f"no partition of {', '.join(site.partitions)} takes jobs now; name one with --partition")
    return site.default


def _account(site: Site, name: str | None) -> str:
    own = {one.account for one in site.associations}
    if name is not None and own and name not in own:
        raise BadOption(f"--account {name}: not yours; expected one of {', '.join(sorted(own))}")
    return name or site.default_account or next((one.account for one in site.associations), "")


def _describe(chosen: Partition, site: Site) -> str:
    others = ", ".join(f"{one.name} ({_limit(one.max_time)})" for one in site.partitions.values() if one != chosen)
    nodes = f"{len(chosen.usable)} of {len(chosen.nodes)} nodes up, " if chosen.nodes else ""
    return f"{nodes}time limit {_limit(chosen.max_time)}{'; others: ' if others else ''}{others}"


def _limit(seconds: int | None) -> str:
    return spelled(seconds) if seconds else "none"


def _time(chosen: Partition, site: Site, account: str) -> Choice:
    limits = [chosen.max_time]
    limits += [
        one.max_time for one in site.associations if one.account == account and one.partition in {"", chosen.name}
    ]
    least = min((one for one in limits if one), default=None)
    value = spelled(min(least or WALLTIME, WALLTIME))
    return Choice("walltime", f'"{value}"', f"the limit is {_limit(least)}; short jobs start sooner. Keep the quotes")


def _smallest(chosen: Partition) -> Node | None:
    """Return the node with the least memory: a job of that size runs on every node."""
    return min(chosen.usable or chosen.nodes, key=lambda one: (one.memory, one.cores), default=None)


def _shape(chosen: Partition, smallest: Node) -> Iterator[Choice]:
    """Choose one job a node, one worker process a core."""
    cores = min(smallest.cores, chosen.max_cores or smallest.cores)
    memory = min(smallest.memory, chosen.max_memory or smallest.memory)
    yield Choice("cores", str(cores), f"the smallest node has {smallest.cores}")
    yield Choice("processes", str(cores), "one worker process a core")
    if memory:
        each = size(memory / cores)
        yield Choice("memory", f"{memory // MEBIBYTE}MiB", f"a job may have so much there; {each} a process")


def _interface(interfaces: Mapping[str, str]) -> Choice | None:
    """Guess the network between the nodes: a fast one if there is one, else the first."""
    names = sorted(interfaces, key=lambda name: not FAST.match(name))
    if not names:
        return None
    others = f"; others: {', '.join(names[1:])}" if names[1:] else ""
    return Choice("interface", names[0], f"a guess from this host: the nodes must have it too{others}")
