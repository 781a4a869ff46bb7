"""Where a run runs: a profile (plain Dask configuration) becomes a cluster and a client."""

from __future__ import annotations

import importlib
import json
import socket
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
import dask
import psutil
import yaml
from dask.utils import parse_bytes
from distributed import Client

from lensflow import share
from lensflow.engine.logs import quiet
from lensflow.engine.params import nearest
from lensflow.engine.slurm.certificates import security
from lensflow.engine.slurm.record import LARGE, METADATA, Folder
from lensflow.engine.slurm.script import Shape
from lensflow.errors import BadInput, UnknownName

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def profiles() -> dict[str, Path]:
    """Return the profiles that come with lensflow, by name."""
    return {path.stem: path for path in sorted(share.folder("cluster").glob("*.yaml"))}


def profile(name: str | Path) -> dict[str, Any]:
    """Read a profile by name or path.

    Raises
    ------
    UnknownName
        If no shipped profile has the name; the nearest one is named.
    BadInput
        If the file is missing or not a profile.
    """
    known = profiles()
    path = known.get(str(name), Path(name))
    if not path.is_file():
        if path.suffix in {".yaml", ".yml"} or len(path.parts) > 1:
            raise BadInput(f"{path}: no such profile file")
        raise UnknownName(
            f"no cluster profile is called {str(name)!r}; there are {', '.join(known)}, or give the path of a"
            f" YAML file, or a scheduler's address.{nearest(str(name), known)}"
        )
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise BadInput(f"{path}: not valid YAML ({error})") from error
    if not isinstance(found, dict) or "class" not in found.get("lensflow", {}).get("cluster", {}):
        raise BadInput(f"{path}: not a cluster profile: lensflow.cluster.class is missing")
    return found


@contextmanager
def cluster(name: str | Path = "local", **options: Any) -> Iterator[Client]:  # noqa: ANN401 - whatever the class takes
    """Start a cluster from a profile, or join one by its address, and give a client for it.

    Parameters
    ----------
    name
        ``"local"``, another profile's name, the path of a YAML file; or, to join a running cluster, its address such
        as ``tcp://host:8786``, its scheduler file (.json), or its folder.
    **options
        Replace single values of the profile, e.g. ``n_workers=2, memory_limit="8GiB"``.
    """
    if running(name):
        with _quiet(), _join(name) as client:
            yield client
        return
    found = profile(name)
    wanted = found.pop("lensflow")["cluster"]
    made = _class(wanted["class"])
    chosen = {**wanted.get("options", {}), **options}
    if isinstance(chosen.get("dashboard_address"), str):
        chosen["dashboard_address"] = _free(chosen["dashboard_address"])
    with dask.config.set(_dotted(found)), _quiet(), made(**chosen) as started, started.get_client() as client:
        yield client


def running(name: str | Path) -> bool:
    """Whether a name means a cluster that somebody has started: an address, a scheduler file, a cluster's folder."""
    path = Path(name)
    return "://" in str(name) or path.suffix == ".json" or (path.is_dir() and str(name) not in profiles())


def _join(name: str | Path) -> Client:
    """Return a client of a running cluster, with its certificates where its scheduler file names some."""
    address, keys = str(name), None
    if "://" not in address:
        path = Folder(Path(name)).scheduler if Path(name).is_dir() else Path(name)
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            address = found["address"]
        except OSError as error:
            raise BadInput(
                f"{path}: no scheduler file ({error.strerror}); the cluster has ended, or give its address"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{path}: not a scheduler file, which is JSON with an address ({error})") from error
        if "certificate" in found:
            keys = security(found["certificate"], found["key"])
    try:
        return Client(address, security=keys)
    except (OSError, TypeError) as error:  # the second: an address that asks for certificates, and there are none
        raise BadInput(f"{name}: no Dask scheduler answers at {address} ({error}); check the address") from error


def _free(address: str) -> str:
    """Return the address, with any free port if another program has the wanted one."""
    host, _, port = address.rpartition(":")
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, int(port)))
        except OSError:
            return f"{host}:0"
    return address


def _dotted(nested: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Spell nested configuration as dotted keys: only then does Dask change single values and keep the rest."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat.update(_dotted(value, f"{before}{key}.") if isinstance(value, dict) else {f"{before}{key}": value})
    return flat


def _class(dotted: str) -> Any:  # noqa: ANN401 - a Dask cluster class
    module, _, name = dotted.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise BadInput(f"the profile asks for {dotted}, which cannot be imported ({error}); install it") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Dask's own chatter (busy dashboard port, workers leaving) out of the live display."""
    with quiet(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Port .* is already in use", category=UserWarning)
        yield


def probe(client: Client, tasks: object) -> None:
    """Let the workers unpack some tasks before any is sent: a task that a worker cannot unpack hangs Dask for ever.

    Raises
    ------
    BadInput
        If the worker lacks a module that the graph's functions come from.
    """
    packed = cloudpickle.dumps(tasks)
    answers: dict[str, str | None] = {}
    while not answers and slots(client):  # those who answer: workers may go at any time
        answers = client.run(_unpack, packed, on_error="ignore")
    problem = next(filter(None, answers.values()), None)
    if problem:
        raise BadInput(
            f"the workers cannot load the graph's functions ({problem}): install what is missing where the workers"
            " run, or put the functions into the graph file itself"
        )


def _unpack(packed: bytes) -> str | None:
    """Return why a worker cannot unpack what it is to run, None if it can."""
    try:
        cloudpickle.loads(packed)
    except Exception as error:  # noqa: BLE001 - whatever it is, the driver reports it
        return f"{type(error).__name__}: {error}"
    return None


def slots(client: Client) -> int:
    """Return the worker threads there are now."""
    return sum(client.nthreads().values())


def worker_memory(client: Client) -> int | None:
    """Return the smallest memory limit of the workers, bytes; None where there is no limit.

    Where none is there yet, what the cluster says they will have.
    """
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    if not workers:
        return promise(client).get("memory_limit")
    limits = [one["memory_limit"] for one in workers if one.get("memory_limit")]
    return min(limits) if limits else None


def usable_memory(client: Client) -> int | None:
    """Return the bytes that a worker may occupy before Dask pauses or kills it; None without a limit."""
    return _usable(worker_memory(client))


def _usable(limit: int | None) -> int | None:
    fractions = [dask.config.get(f"distributed.worker.memory.{name}", default=False) for name in ("pause", "terminate")]
    return None if limit is None else int(limit * min((one for one in fractions if one), default=1.0))


def promise(client: Client) -> dict[str, Any]:
    """Return what a cluster of jobs says of itself and of the workers it will have; {} for others."""
    said: dict[str, Any] = client.get_metadata([METADATA], default=None) or {}
    return said


def promised(name: str | Path, options: Mapping[str, Any]) -> tuple[int | None, int]:
    """Return the usable memory (bytes, None without a limit) and the threads of a worker, as far as a profile says so.

    Parameters
    ----------
    name
        See :func:`cluster`.
    options
        Replace values of the profile.
    """
    found = {} if running(name) else profile(name)
    given = found.pop("lensflow")["cluster"].get("options", {}) if found else {}
    chosen = {**given, **options}
    limit, threads = chosen.get("memory_limit", "auto" if found else None), int(chosen.get("threads_per_worker") or 1)
    if "cores" in chosen:  # jobs of SLURM
        kept = int(parse_bytes(chosen.get("driver_memory", 0)))
        sizes = {key: chosen.get(key) for key in ("cores", "processes", "memory_limit")}
        shape = Shape.of(memory=int(parse_bytes(chosen["memory"])) - kept, walltime=str(chosen["walltime"]), **sizes)  # type: ignore[arg-type]
        limit, threads = shape.worker_memory, shape.threads
    elif limit == "auto":
        limit = psutil.virtual_memory().total // (chosen.get("n_workers") or psutil.cpu_count() or 1)
    with dask.config.set(_dotted(found)):
        return _usable(int(parse_bytes(limit)) if limit else None), threads


def large_workers(client: Client) -> int:
    """Return how many workers there are that take blocks for which memory was short elsewhere."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return sum(LARGE in (one.get("resources") or {}) for one in workers)


def has_large(client: Client) -> bool:
    """Whether there are such workers, or will be when they are asked for."""
    return bool(large_workers(client) or promise(client).get(LARGE))
