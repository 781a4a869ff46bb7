"""The scheduler of a cluster: where it listens, who may talk to it, and how drivers and workers find it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from distributed import Scheduler, SpecCluster

from lensflow.engine.slurm.record import LARGE, METADATA
from lensflow.errors import BadOption

if TYPE_CHECKING:
    from distributed import Client
    from distributed.security import Security

    from lensflow.engine.slurm.record import Folder
    from lensflow.engine.slurm.script import Shape

LOOPBACK = {"lo", "127.0.0.1", "localhost", "::1"}


def start(
    security: Security | None, *, host: str | None, interface: str | None, dashboard_address: str, silence_logs: int
) -> SpecCluster:
    """Start a scheduler in this process; it has no workers yet.

    Raises
    ------
    BadOption
        If the network could reach it without certificates.
    """
    if security is None and not {host, interface} & LOOPBACK:
        raise BadOption(
            "profile: security is off and the scheduler would listen to the network, where anybody could run code"
            " as you; leave it on, or set interface: lo"
        )
    options = {
        "protocol": "tls://" if security else "tcp://",
        "security": security,
        "host": host,
        "interface": interface if host is None else None,
        "port": 0,
        "dashboard_address": dashboard_address,
    }
    spec = {"cls": Scheduler, "options": options}
    return SpecCluster(workers={}, scheduler=spec, security=security, silence_logs=silence_logs, name="lensflow")


def announce(
    client: Client, cluster: SpecCluster, folder: Folder, shape: Shape, kind: str, *, large: Shape | None = None
) -> None:
    """Say where a scheduler is and what its workers will be: to drivers, and in the cluster's folder."""
    said = {
        "folder": str(folder.path),
        "kind": kind,
        "memory_limit": shape.worker_memory,
        "threads": shape.threads,
        "walltime": shape.seconds,
        LARGE: large.worker_memory if large else None,
    }
    client.set_metadata([METADATA], said)
    folder.describe(address=cluster.scheduler_address, dashboard=str(cluster.dashboard_link), **said)
    reach = {"type": "Scheduler", "address": cluster.scheduler_address, "dashboard": str(cluster.dashboard_link)}
    if cluster.security.require_encryption:
        reach |= {"certificate": cluster.security.tls_client_cert, "key": cluster.security.tls_client_key}
    folder.write_private("scheduler.json", json.dumps(reach, indent=1))
