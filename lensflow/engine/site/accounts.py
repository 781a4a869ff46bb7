"""Accounts: who may charge what, read from ``sacctmgr``; many sites keep none."""

from __future__ import annotations

from dataclasses import dataclass

from lensflow.engine.site.partitions import seconds

FIELDS = ("Account", "Partition", "MaxWall", "QOS", "DefaultQOS")
SHOW = ("sacctmgr", "--noheader", "--parsable2", "show")


@dataclass(frozen=True)
class Association:
    """What a user may do with an account.

    Parameters
    ----------
    account
        The account.
    partition
        The partition this holds for; empty for all.
    max_time
        Longest job, s; None without a limit.
    qos
        The qualities of service that may be asked for.
    """

    account: str
    partition: str
    max_time: int | None
    qos: tuple[str, ...]


def query(user: str) -> tuple[str, ...]:
    """Return the command that lists a user's associations."""
    return (*SHOW, "associations", f"user={user}", f"format={','.join(FIELDS)}")


def default_query(user: str) -> tuple[str, ...]:
    """Return the command that tells a user's default account."""
    return (*SHOW, "user", user, "format=DefaultAccount")


def associations(shown: str) -> tuple[Association, ...]:
    """Read the answer to that command."""
    found = []
    for line in shown.splitlines():
        account, partition, wall, qos, default = (*line.split("|"), *[""] * len(FIELDS))[: len(FIELDS)]
        if account:
            offered = tuple(filter(None, qos.split(",")))
            preferred = (default, *(one for one in offered if one != default)) if default in offered else offered
            found.append(Association(account, partition, seconds(wall), preferred))
    return tuple(found)
