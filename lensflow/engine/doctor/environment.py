"""What the shell hands down to workers: threads of numerical libraries, open files."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING

from lensflow.engine.doctor.finding import Finding, ok, warn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lensflow.engine.doctor.wanted import Wanted

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
FILES = 1024  # open files: a scheduler holds two or three a worker, a worker one a stored chunk and peer


def threads(wanted: Wanted, environment: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Look at how many threads a task's numerical libraries will start.

    Parameters
    ----------
    wanted
        The profile: Dask sets the variables it names, but only those that the shell does not.
    environment
        The shell's variables.
    """
    configured = wanted.setting("distributed.nanny.pre-spawn-environ", {})
    seen = {name: environment.get(name, str(configured.get(name) or "")) for name in THREADS}
    loud = [name for name in THREADS if name in environment and seen[name] != "1"]
    if loud:
        told = ", ".join(f"{name}={environment[name]}" for name in loud)
        yield warn("threads", f"{told} in the shell: every worker starts so many a task", f"unset {' '.join(loud)}")
    unset = [name for name in THREADS if not seen[name]]
    if unset:
        yield warn(
            "threads",
            f"{', '.join(unset)} unset: every worker starts a thread a core, each task",
            f"distributed.nanny.pre-spawn-environ.{unset[0]}: 1 in the profile",
        )
    if not loud and not unset:
        yield ok("threads", "numerical libraries keep to one thread a task")


def open_files(limit: tuple[int, int] | None = None) -> Iterator[Finding]:
    """Look at how many files a process may hold open.

    Parameters
    ----------
    limit
        The soft and the hard limit; default: this process's.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE) if limit is None else limit
    unlimited = soft == resource.RLIM_INFINITY
    if not unlimited and soft < FILES:
        enough = f"ulimit -n {FILES if hard == resource.RLIM_INFINITY else min(4 * FILES, hard)}"
        yield warn("open files", f"{soft} a process, expected {FILES} or more", enough)
    else:
        yield ok("open files", "no limit" if unlimited else f"{soft} a process")
