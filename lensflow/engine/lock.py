"""One writer a store: a lock file with host, process and heartbeat that works on shared filesystems."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any, Self

import psutil

from lensflow.errors import OutputError, RunLocked

if TYPE_CHECKING:
    from pathlib import Path

BEAT = 10.0  # s between heartbeats
PATIENCE = 5.0  # s to compete for a dead holder's lock
GUARD = 30.0  # s after which the guard of a lock being broken is itself taken for left behind
SILENCE = 120.0  # s without a heartbeat after which a holder on another host counts as dead


class Lock:
    """Hold ``path`` while the block of a ``with`` statement runs.

    A holder on this host is judged by its process (identity and start time), one on another host by the age of
    its heartbeat, both read from the file's own clock so that clocks may differ between hosts.

    Raises
    ------
    RunLocked
        On entry, if a live process holds it; the sentence says who and since when.
    OutputError
        On entry, if the folder cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._token = uuid.uuid4().hex
        self._stop = threading.Event()
        self._lost = False
        self._beat: threading.Thread | None = None

    def __enter__(self) -> Self:
        patience = time.monotonic() + PATIENCE
        while time.monotonic() < patience:
            if self._create():
                self._beat = threading.Thread(target=self._keep_beating, name="lensflow-lock", daemon=True)
                self._beat.start()
                return self
            self._break_if_stale()
        raise RunLocked(f"{self.path}: others keep taking this lock; try again")

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._beat is not None:
            self._beat.join()
        if _read(self.path).get("token") == self._token:
            self.path.unlink(missing_ok=True)

    def _create(self) -> bool:
        holder = {
            "token": self._token,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": psutil.Process().create_time(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        draft = self.path.with_name(f"{self.path.name}.{self._token}")
        try:
            draft.write_text(json.dumps(holder), encoding="utf-8")
            os.link(draft, self.path)  # atomic, and fails if the lock exists, on NFS as well
        except FileExistsError:
            return False
        except OSError as error:
            raise OutputError(
                f"{self.path.parent}: cannot be written ({error.strerror}); choose another --out"
            ) from error
        finally:
            draft.unlink(missing_ok=True)
        return True

    def _break_if_stale(self) -> None:
        """Remove a dead holder's lock, one process at a time: whoever looked before another's turn looks again."""
        self._refuse_if_alive(_read(self.path))
        guard = self.path.with_name(f"{self.path.name}.breaking")
        try:
            os.close(os.open(guard, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            if _age(guard) > GUARD:  # its maker died in these few lines
                guard.unlink(missing_ok=True)
            time.sleep(0.05)
            return
        try:
            holder = _look(self.path)
            if holder is not None:  # gone already: what is there by now is somebody's own
                self._refuse_if_alive(holder)
                self.path.unlink(missing_ok=True)
        finally:
            guard.unlink(missing_ok=True)

    def _refuse_if_alive(self, holder: dict[str, Any]) -> None:
        if alive(holder, self.path):
            raise RunLocked(
                f"{self.path.parent}: being written by process {holder.get('pid')} on {holder.get('host')}"
                f" since {holder.get('since')}; wait for it, or stop it"
            )

    def check(self) -> None:
        """Make sure that the lock is still this holder's.

        Raises
        ------
        RunLocked
            If another took it for dead: a machine that slept for minutes finds its run taken over.
        """
        if self._lost:
            raise RunLocked(
                f"{self.path.parent}: this process was silent for so long that another took the run over; what it has"
                " done is safe, and the other goes on"
            )

    def _keep_beating(self) -> None:
        while not self._stop.wait(BEAT):
            with contextlib.suppress(OSError):  # a file system that blinks: the next beat counts
                if _read(self.path).get("token", self._token) != self._token:
                    self._lost = True
                    return
                os.utime(self.path)


def alive(holder: dict[str, Any], path: Path) -> bool:
    """Whether the process that a lock file names is still at work."""
    return _alive(holder, _age(path)) if holder else _age(path) < BEAT  # empty: being written this very moment


def _alive(holder: dict[str, Any], age: float) -> bool:
    if holder["host"] != socket.gethostname():
        return age < SILENCE
    try:
        process = psutil.Process(holder["pid"])
        started: float = holder["started"]
        return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - started) < 1.0
    except psutil.NoSuchProcess:
        return False


def holder_of(path: Path) -> dict[str, Any] | None:
    """Return who holds the lock at ``path`` now, None if nobody alive does; touches nothing."""
    holder = _read(path)
    try:
        age = time.time() - path.stat().st_mtime
    except OSError:
        return None
    return holder if holder and _alive(holder, age) else None


def _age(path: Path) -> float:
    """Return the seconds since the last heartbeat, by the file system's clock."""
    probe = path.with_name(f"{path.name}.clock.{uuid.uuid4().hex}")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")
    except OSError:  # a read-only view: the local clock must do
        return time.time() - path.stat().st_mtime
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    return _look(path) or {}


def _look(path: Path) -> dict[str, Any] | None:
    """Return what a lock file says: nothing of a damaged one, None where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        return {}
    return found if isinstance(found, dict) and {"host", "pid", "started"} <= found.keys() else {}
