"""How and where a job runs: the engine's own words, the same for every graph."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path  # noqa: TC003 - the signature below is read at run time
from typing import Any, Literal

import psutil
import yaml
from dask.utils import parse_bytes

from lensflow.engine.params import Parameters
from lensflow.errors import BadOption

MULTIPLE = re.compile(r"x(\d+(?:\.\d+)?)")  # of the memory that a worker had before


@dataclass(frozen=True)
class Settings:
    """How and where a job runs: the engine's own words, the same for every graph."""

    out: Path | None
    cluster: str
    workers: int | None
    memory: str | None
    on_error: Literal["quarantine", "raise"]
    retries: int
    timeout: float | None
    strict: bool | tuple[str, ...]
    accept_changes: bool
    window: int | None
    cluster_option: tuple[str, ...]
    chain: int

    @property
    def cluster_options(self) -> dict[str, Any]:
        """The values that replace those of the cluster profile."""
        wanted = {"n_workers": self.workers, "memory_limit": self.memory}
        named = (one.partition("=") for one in self.cluster_option)
        return {
            **{key: value for key, value in wanted.items() if value is not None},
            **{key.strip().replace("-", "_"): yaml.safe_load(value) for key, _, value in named},
        }

    @property
    def submitted(self) -> dict[str, Any]:
        """The words that a resume needs to know: not where, not the consent to changes, nor how many may follow."""
        return {key: value for key, value in asdict(self).items() if key not in {"out", "accept_changes", "chain"}}

    @property
    def run_options(self) -> dict[str, Any]:
        """The keyword options of :func:`lensflow.run`."""
        names = ("on_error", "retries", "timeout", "strict", "accept_changes", "window", "chain")
        return {name: getattr(self, name) for name in names}


def settings(
    *,
    out: Path | None = None,
    cluster: str = "local",
    workers: int | None = None,
    memory: str | None = None,
    on_error: Literal["quarantine", "raise"] = "quarantine",
    retries: int = 3,
    timeout: float | None = None,
    strict: bool | tuple[str, ...] = False,
    accept_changes: bool = False,
    window: int | None = None,
    cluster_option: tuple[str, ...] = (),
    chain: int = 0,
) -> Settings:
    """Collect the engine's options.

    Parameters
    ----------
    out
        Path of the Zarr store to write; the run directory OUT.run is made beside it.
    cluster
        Profile name, path of a profile, or address of a running scheduler.
    workers
        Worker processes, instead of the profile's.
    memory
        Memory of a worker, such as 8GiB, instead of the profile's; with resume also x2: twice that of the last session.
    on_error
        Go on without a block that fails for good, or stop at the first.
    retries
        Attempts after the first for errors that may pass (I/O).
    timeout
        Seconds that a task of a block may take before its worker is started anew and the block run alone; the default
        is learned: ten times the longest of its kind, two minutes at least.
    strict
        Fail the blocks about which something is noted (a corrupt file, say) instead of only recording it: all notes,
        or those of some kinds with --strict=KIND,KIND.
    accept_changes
        Go on with a run although source, arguments, version or inputs have changed.
    window
        Blocks in flight; the default is three a worker thread.
    cluster_option
        A value that replaces one of the profile's, as KEY=VALUE; may be repeated.
    chain
        How many times a driver that SLURM runs may be followed by another when its own job ends before the run does.
    """
    for name, value, least in (
        ("workers", workers, 1),
        ("window", window, 1),
        ("retries", retries, 0),
        ("chain", chain, 0),
    ):
        if value is not None and value < least:
            raise BadOption(f"--{name}: found {value}, expected at least {least}")
    if timeout is not None and not timeout > 0:
        raise BadOption(f"--timeout: found {timeout:g}, expected more than 0 seconds")
    for one in cluster_option:
        key, equals, text = one.partition("=")
        if not (key.strip() and equals and _is_yaml(text)):
            raise BadOption(f"--cluster-option: found {one!r}, expected KEY=VALUE, such as n_workers=4")
    if memory is not None and not MULTIPLE.fullmatch(memory):
        try:
            parse_bytes(memory)
        except ValueError as error:
            raise BadOption(f"--memory: found {memory!r}, expected bytes with a unit, such as 8GiB") from error
    how = (on_error, retries, timeout, strict, accept_changes, window)
    return Settings(out, cluster, workers, memory, *how, cluster_option, chain)


def _is_yaml(text: str) -> bool:
    try:
        yaml.safe_load(text)
    except yaml.YAMLError:
        return False
    return True


def enlarged(settings: Settings, last: int | None) -> Settings:
    """Return settings in which a memory such as ``x2`` is spelled out.

    Parameters
    ----------
    settings
        As given.
    last
        Bytes a worker had in the run's last session, None if it had no limit or there was none.

    Raises
    ------
    BadOption
        If nothing is known that could be multiplied, or this machine has not as much.
    """
    if settings.memory is None or not (found := MULTIPLE.fullmatch(settings.memory)):
        return settings
    if last is None:
        raise BadOption(f"--memory {settings.memory}: the run has no earlier memory limit to multiply; give bytes")
    wanted, there = int(float(found[1]) * last), psutil.virtual_memory().total
    if settings.cluster != "local":
        return replace(settings, memory=str(wanted))
    if wanted > there:
        raise BadOption(
            f"--memory {settings.memory}: {wanted / 2**30:.1f} GiB a worker, and this machine has {there / 2**30:.1f};"
            " use a larger one with --cluster"
        )
    most = max(1, there // wanted)  # fewer workers, so that together they fit the machine
    return replace(settings, memory=str(wanted), workers=min(settings.workers or psutil.cpu_count() or 1, most))


ENGINE = Parameters.of_function(settings, "lensflow")
