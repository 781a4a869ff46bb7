"""One worker, started as a run would start it: it comes up, computes, and writes a file that the driver reads.

It runs in a process of its own (``python -m lensflow.engine.doctor.canary``), so that whatever it does,
the doctor can end it.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed import get_worker

from lensflow.engine.cluster import cluster, running
from lensflow.engine.doctor.clocks import compared
from lensflow.engine.doctor.environment import THREADS
from lensflow.engine.doctor.finding import Finding, fix, ok, warn
from lensflow.engine.doctor.output import trial
from lensflow.engine.doctor.spill import judge, spills
from lensflow.engine.doctor.waiting import late, over
from lensflow.engine.doctor.wanted import Wanted
from lensflow.engine.progress import duration
from lensflow.engine.slurm.record import METADATA
from lensflow.errors import LensflowError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from distributed import Client

SUBJECT = "canary"
LOOK = 1.0  # s between two looks at the job of a worker that has yet to come
ANSWER = 30  # s for a worker that is up to compute and to write
SEEN = 10.0  # s for what a worker wrote to be seen here: NFS remembers for a while what was not there
PACKAGES = ("lensflow", "xarray", "zarr")  # besides those that Dask compares itself
SMALL: dict[str, dict[str, Any]] = {  # a cluster as small as it can be
    "local": {"n_workers": 1, "dashboard_address": "127.0.0.1:0"},
    "slurm": {"n_workers": 1},
}
NUMBERS = 1_000_000


def canary(wanted: Wanted, folder: Path, *, wait: float) -> Iterator[Finding]:
    """Start one worker through the profile, or take one where a scheduler's address is given, and try it.

    Parameters
    ----------
    wanted
        The profile.
    folder
        Where a run would write.
    wait
        How long a worker may take to come up, s.
    """
    begun = time.monotonic()
    with cluster(wanted.name, **SMALL.get(wanted.kind, {})) as client:
        if wanted.kind == "other":
            client.cluster.scale(1)
        if not _comes(client, wait):
            yield no_worker(wanted, time.monotonic() - begun, client)
            return
        up = duration(time.monotonic() - begun)
        kept = None if running(wanted.name) else _folder(client)
        yield from alike(client.get_versions(packages=list(PACKAGES)))
        yield from _try(client, wanted, folder, up)
    if kept is not None:  # its job came up: nobody will ask what became of it
        shutil.rmtree(kept, ignore_errors=True)


def _comes(client: Client, wait: float) -> bool:
    """Wait for a worker, but not for one whose job has ended; return whether it has come."""
    folder = _folder(client)
    end = time.monotonic() + wait
    while (left := end - time.monotonic()) > 0:
        try:
            client.wait_for_workers(1, timeout=min(left, LOOK))
        except TimeoutError:
            if folder is not None and over(folder):
                return False
        else:
            return True
    return False


def _folder(client: Client) -> Path | None:
    """Return where a SLURM cluster keeps what became of its jobs, None for any other."""
    described = client.get_metadata([METADATA], default=None)
    return Path(described["folder"]) if isinstance(described, dict) and described.get("kind") == "slurm" else None


def no_worker(wanted: Wanted, wait: float, client: Client | None = None) -> Finding:
    """Say why no worker may have come."""
    folder = _folder(client) if client is not None else None
    told = f"no worker came up within {duration(wait)}"
    if wanted.kind == "address":
        return fix(SUBJECT, told, f"dask worker {wanted.name}, on the hosts that are to work")
    if client is not None and folder is not None:
        return late(folder, client.scheduler.address, told)
    if wanted.kind == "slurm":
        causes = "squeue --me says whether its job waits (give --wait more) or runs (interface, firewall or TLS)"
        return fix(SUBJECT, told, causes)
    return fix(SUBJECT, told, "memory_limit, preload and the other options of workers in the profile")


def alike(found: Mapping[str, Any]) -> Iterator[Finding]:
    """Compare the versions on the workers with those here, from ``Client.get_versions``.

    Parameters
    ----------
    found
        Versions of the client, the scheduler and each worker.
    """
    here = _packages(found["client"])
    there = {one: _packages(answer) for one, answer in found["workers"].items()}
    differ: dict[str, str] = {}
    for packages in there.values():
        for name, version in packages.items():
            if version != here.get(name):
                differ[name] = f"{name} {version or 'missing'} on the workers, {here.get(name) or 'missing'} here"
    remedy = "one environment for both, e.g. the same conda environment on a shared file system"
    deadly = {"python", "lensflow", "dask", "distributed", "cloudpickle", "msgpack"} & differ.keys()
    if deadly:
        yield fix("workers", "; ".join(differ.values()), remedy)
    elif differ:
        yield warn("workers", "; ".join(differ.values()), remedy)
    else:
        yield ok("workers", f"the same Python and packages as here ({len(here)} compared)")


def _packages(one: Mapping[str, Any]) -> dict[str, str | None]:
    python = str(one["host"]["python"]).rsplit(".", 2)[0]  # 3.11.7.final.0
    return {**one["packages"], "python": python}


def _try(client: Client, wanted: Wanted, folder: Path, up: str) -> Iterator[Finding]:
    """Let a worker compute and write, look at its clock, threads and spill place."""
    with trial(folder) as place:
        path = place / uuid.uuid4().hex
        before = time.time()
        task = client.submit(sing, str(path), spills=spills(wanted), pure=False, retries=0)
        song = task.result(timeout=ANSWER)
        after = time.time()
        read = _read(path)
    where = song["host"]
    if song["sum"] != NUMBERS * (NUMBERS - 1) // 2:
        yield fix(SUBJECT, f"a worker on {where} added up wrongly", "another node: this one's memory or CPU is bad")
    if read != song["word"]:
        told = f"what a worker on {where} wrote to {folder} is not seen here within {duration(SEEN)}"
        yield fix(SUBJECT, told, "--out: a folder on a file system that all hosts share")
    else:
        yield ok(SUBJECT, f"a worker on {where} was up in {up}, computed, and wrote what is read here")
    seen = [compared(f"the worker's on {where}", song["time"], before, after)]
    seen += [Finding(**{**one, "found": f"on {where}: {one['found']}"}) for one in song["spill"]]
    yield from (one for one in seen if one.level != "OK" or wanted.hosts == "many")  # one host was looked at before
    loud = [f"{name}={value}" for name, value in song["threads"].items() if value != "1"]
    if loud:
        remedy = f"distributed.nanny.pre-spawn-environ.{loud[0].partition('=')[0]}: 1 in the profile"
        yield warn("threads", f"on {where}: {', '.join(loud)}", remedy)


def sing(path: str, *, spills: bool) -> dict[str, Any]:
    """Compute something and write a file, on a worker; tell what it is like there.

    Parameters
    ----------
    path
        The file to write.
    spills
        Whether the worker's folder must take spilled results.
    """
    import os  # noqa: PLC0415 - runs on the worker
    import socket  # noqa: PLC0415

    import numpy as np  # noqa: PLC0415

    total = int(np.arange(NUMBERS, dtype="i8").sum())
    word = uuid.uuid4().hex
    with Path(path).open("w", encoding="ascii") as file:
        file.write(word)
        file.flush()
        os.fsync(file.fileno())
    folder = Path(get_worker().local_directory)
    return {
        "host": socket.gethostname(),
        "sum": total,
        "word": word,
        "time": time.time(),
        "threads": {name: os.environ.get(name, "unset") for name in THREADS},
        "spill": [dataclasses.asdict(one) for one in judge(folder, spills=spills)],
    }


def _read(path: Path) -> str | None:
    """Read what a worker wrote, with patience for a file system that is late to show it."""
    end = time.monotonic() + SEEN
    while time.monotonic() < end:
        if path.is_file() and (found := path.read_text(encoding="ascii")):
            return found
        time.sleep(0.2)
    return None


def chain(error: BaseException) -> str:
    """Spell an error and those it came from: Dask's own says only that something failed to start."""
    told = []
    seen: BaseException | None = error
    while seen is not None:
        text = f"{type(seen).__name__}: {seen}".strip(": ")
        if text not in told:
            told.append(text)
        seen = seen.__cause__ or seen.__context__
    return "; because of ".join(told)


def main(request: str) -> None:
    """Run the canary that a request (JSON) describes, and write its findings where the request says."""
    asked = json.loads(request)
    found: list[Finding] = []
    try:
        found.extend(canary(Wanted.of(asked["profile"]), Path(asked["folder"]), wait=asked["wait"]))
    except LensflowError as error:
        found.append(fix(SUBJECT, str(error), f"change that in the profile {asked['profile']}"))
    except Exception as error:  # noqa: BLE001 - whatever it is, the doctor reports it
        found.append(
            fix(SUBJECT, f"failed: {chain(error)}", "what the last of these names, in the profile or the node")
        )
    finally:
        text = json.dumps([dataclasses.asdict(one) for one in found])
        Path(asked["answer"]).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
