"""What dead drivers have left behind: jobs that wait for a scheduler that is gone, certificates, old records."""

from __future__ import annotations

import json
import logging
import shutil
import socket
import time
from typing import TYPE_CHECKING, Any

import psutil

from lensflow.engine.slurm.queue import QueueError
from lensflow.engine.slurm.record import PREFIX, Folder, cancel

if TYPE_CHECKING:
    from pathlib import Path

OLD = 30 * 86400.0  # s after which the record of a cluster that has ended is of no use

logger = logging.getLogger("lensflow")


def sweep(shared: Path) -> None:
    """Cancel jobs and remove certificates of clusters whose driver died on this host; remove old records."""
    for path in sorted(shared.glob(f"{PREFIX}*")):
        folder = Folder(path)
        described = _described(folder)
        if folder.scheduler.exists():
            if described.get("host") == socket.gethostname() and not _lives(described):
                _bury(folder)
        elif time.time() - path.stat().st_mtime > OLD:
            shutil.rmtree(path, ignore_errors=True)


def _described(folder: Folder) -> dict[str, Any]:
    try:
        found = json.loads((folder.path / "cluster.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # it is being made, or torn by the death of its driver
        return {}
    return found if isinstance(found, dict) else {}


def _lives(described: dict[str, Any]) -> bool:
    """Whether the process that made a cluster is there; another one may have its number by now."""
    try:
        return bool(psutil.Process(described["pid"]).create_time() <= described["started"])
    except psutil.Error:
        return False


def _bury(folder: Folder) -> None:
    try:
        left = cancel(folder.path)
    except QueueError as error:
        logger.warning("%s: the jobs of this dead cluster could not be cancelled (%s)", folder.path, error)
        return
    folder.forget_secrets()
    if left:
        logger.warning("%s: cancelled %d jobs that a dead driver had left", folder.path, len(left))
