"""One job from many sources: command line > environment > job file > its profile > defaults."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from lensflow.engine.catalog import Graph
from lensflow.engine.catalog import graph as load_graph
from lensflow.engine.params import Parameter, Parameters, nearest
from lensflow.engine.settings import ENGINE, Settings, enlarged, settings
from lensflow.errors import BadInput, BadOption, UnknownName

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PREFIX = "LENSFLOW_"

__all__ = ["ENGINE", "Job", "Settings", "enlarged", "parse", "resumed", "settings", "table", "words_of"]


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
