"""Everything about a site at once, and what could not be found out."""

from __future__ import annotations

import getpass
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lensflow.engine.site import accounts
from lensflow.engine.site.ask import Answer, ask
from lensflow.engine.site.partitions import nodes, partitions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lensflow.engine.site.accounts import Association
    from lensflow.engine.site.partitions import Partition


@dataclass(frozen=True)
class Site:
    """What SLURM says about itself.

    Parameters
    ----------
    name
        The cluster's name; empty if unknown.
    version
        The version of SLURM; empty if unknown.
    partitions
        The partitions by name.
    associations
        What this user may charge; empty where no accounts are kept.
    default_account
        What is charged where a job names no account; empty if unknown.
    scratch
        The folder of the nodes' own scratch disk; empty if unknown.
    enforced
        Whether a job needs a right account to be taken.
    unknown
        What could not be found out, in a sentence each.
    """

    name: str
    version: str
    partitions: Mapping[str, Partition]
    associations: tuple[Association, ...]
    default_account: str
    scratch: str
    enforced: bool
    unknown: tuple[str, ...]

    @property
    def default(self) -> Partition | None:
        """The partition to begin with: SLURM's default if it takes jobs, else the first that does."""
        open_ones = [one for one in self.partitions.values() if one.up and (one.usable or not one.nodes)]
        return next((one for one in open_ones if one.default), open_ones[0] if open_ones else None)


def survey(asked: Callable[..., Answer] = ask) -> Site:
    """Ask SLURM about its partitions, nodes, configuration and accounts.

    Parameters
    ----------
    asked
        Runs a command; default: on this host.
    """
    shown_partitions = asked("scontrol", "show", "partition", "--oneliner")
    shown_nodes = asked("scontrol", "show", "node", "--oneliner")
    shown_config = asked("scontrol", "show", "config")
    user = getpass.getuser()
    shown_accounts = asked(*accounts.query(user))
    shown_default = asked(*accounts.default_query(user))
    config = settings(shown_config.text)
    questions = {
        "partitions and their limits": shown_partitions,
        "cores and memory of the nodes": shown_nodes,
        "the cluster's name": shown_config,
        "accounts": shown_accounts,
    }
    return Site(
        name=config.get("ClusterName", ""),
        version=config.get("SLURM_VERSION", ""),
        partitions=partitions(shown_partitions.text, nodes(shown_nodes.text)),
        associations=accounts.associations(shown_accounts.text),
        default_account=shown_default.text.partition("\n")[0].strip(),
        scratch=config.get("TmpFS", ""),
        enforced="associations" in config.get("AccountingStorageEnforce", ""),
        unknown=tuple(f"{what}: {one.problem}" for what, one in questions.items() if not one.good),
    )


def settings(shown: str) -> dict[str, str]:
    """Read ``scontrol show config``."""
    return {key: value.strip() for key, value in re.findall(r"^(\S+)\s+= ?(.*)$", shown, flags=re.MULTILINE)}
