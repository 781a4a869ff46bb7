"""One job from many sources: command line > environment > job file > its profile > defaults."""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import psutil
import yaml
from dask.utils import parse_bytes

from lensflow.engine.catalog import Graph
from lensflow.engine.catalog import graph as load_graph
from lensflow.engine.params import Parameter, Parameters, nearest
from lensflow.errors import BadInput, BadOption, UnknownName

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PREFIX = "LENSFLOW_"
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
        name, equals, value = one.partition("=")
        if not (name.strip() and equals and _is_yaml(value)):
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


@dataclass(frozen=True)
class Job:
    """A graph, its arguments, and how to run it."""

    graph: Graph
    arguments: dict[str, object]
    settings: Settings


def words_of(graph: Graph) -> Parameters:
    """Return the parameters of a graph and of the engine together.

    Raises
    ------
    BadOption
        If the graph uses a word of the engine's.
    """
    for one in ENGINE.entries:
        if one.name in graph.parameters:
            raise BadOption(f"{graph.path}: graph() may not have a parameter {one.name!r}: the engine uses that word")
    return Parameters(graph.name, (*graph.parameters.entries, *ENGINE.entries))


def parse(words: Sequence[str], environment: Mapping[str, str] | None = None) -> Job:
    """Turn the words after ``plan`` or ``submit`` into a job.

    Parameters
    ----------
    words
        A graph's name or path, or a job file (.yaml), then arguments and options.
    environment
        Where ``LENSFLOW_*`` values are taken from; the default is the process's own.

    Raises
    ------
    BadOption, UnknownName, BadInput
        If a word is missing, unknown or unfit.
    """
    if not words or words[0].startswith("--"):
        raise BadOption("name a graph, a graph file or a job file first; `lensflow list` shows the graphs")
    first, *rest = words
    surroundings = os.environ if environment is None else environment
    filed: dict[str, object] = {}
    if Path(first).suffix in {".yaml", ".yml"}:
        rest, profile = _take_profile(rest, surroundings)
        first, filed = _read_job(Path(first), profile)
    elif any(word.partition("=")[0] == "--profile" for word in rest):
        raise BadOption(f"--profile chooses among the profiles of a job file (.yaml), and {first} is none")
    graph = load_graph(first)
    known = words_of(graph)
    given = known.from_words(rest, also=("--profile", "--json", "--debug"))
    values = {**filed, **_from_environment(known, surroundings), **given}
    converted = known.validate(values)
    engine = {name: value for name, value in converted.items() if name in ENGINE}
    arguments = {name: value for name, value in values.items() if name not in ENGINE}
    return Job(graph, graph.bind(**arguments), settings(**engine))  # type: ignore[arg-type]


def resumed(words: Sequence[str], submitted: Mapping[str, object], environment: Mapping[str, str]) -> Settings:
    """Return the settings of a resume: command line > environment > what the run was submitted with.

    Raises
    ------
    BadOption, UnknownName
        If a word is unknown or unfit.
    """
    given = ENGINE.from_words(words, also=("--failed-only", "--json", "--debug"))
    known = {name: value for name, value in submitted.items() if name in ENGINE}
    return settings(**ENGINE.validate({**known, **_from_environment(ENGINE, environment), **given}))  # type: ignore[arg-type]


def _from_environment(known: Parameters, environment: Mapping[str, str]) -> dict[str, object]:
    names = {one.name: PREFIX + one.name.upper() for one in known.entries}
    return {name: environment[variable] for name, variable in names.items() if environment.get(variable)}


def _take_profile(words: list[str], environment: Mapping[str, str]) -> tuple[list[str], str | None]:
    rest, profile = [], environment.get(PREFIX + "PROFILE")
    stream = iter(words)
    for word in stream:
        if word == "--profile":
            profile = next(stream, None)
            if profile is None:
                raise BadOption("--profile needs a value: the name of a profile of the job file")
        elif word.startswith("--profile="):
            profile = word.partition("=")[2]
        else:
            rest.append(word)
    return rest, profile


def _read_job(path: Path, profile: str | None) -> tuple[str, dict[str, object]]:
    """Return the graph a job file names and its values, the profile's beneath the file's own."""
    try:
        read = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path}: the job file cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: the job file is not valid YAML ({error})") from error
    if not isinstance(read, dict) or not isinstance(read.get("graph"), str):
        raise BadInput(f"{path}: a job file needs a line 'graph: NAME', and under it the graph's own words")
    values = {str(key).replace("-", "_"): value for key, value in read.items()}
    profiles = values.pop("profiles", None) or {}
    name = str(values.pop("graph"))
    if not isinstance(profiles, dict) or not all(isinstance(one, dict | None) for one in profiles.values()):
        raise BadInput(f"{path}: profiles must be a mapping of names to the words each of them sets")
    if profile is not None and profile not in profiles:
        known = ", ".join(map(str, profiles)) or "none"
        raise UnknownName(f"{path}: no profile {profile!r}, there is {known}.{nearest(profile, map(str, profiles))}")
    base = profiles.get(profile) or {}
    return name, {**{str(key).replace("-", "_"): value for key, value in base.items()}, **values}


def table(parameters: Parameters) -> list[Parameter]:
    """Return the parameters as help shows them: places first, then options."""
    return sorted(parameters.entries, key=lambda one: not one.positional)
