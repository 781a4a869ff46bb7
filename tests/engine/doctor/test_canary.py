"""One worker that comes up, computes and writes; and those that do not."""

from __future__ import annotations

import copy
import json
import os
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from distributed import Scheduler

from lensflow.engine.doctor import canary as canary_module
from lensflow.engine.doctor.cage import send
from lensflow.engine.doctor.canary import PACKAGES, alike, canary, chain, main, no_worker
from lensflow.engine.doctor.wanted import Wanted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from distributed import Client

PROFILE = """\
lensflow:
  cluster:
    class: {made}
    options: {options}
distributed:
  worker:
    memory:
      target: false
      spill: false
"""


@pytest.fixture
def profile(tmp_path: Path) -> Callable[..., str]:
    def make(made: str = "distributed.LocalCluster", options: str = "{threads_per_worker: 1}") -> str:
        path = tmp_path / "mine.yaml"
        path.write_text(PROFILE.format(made=made, options=options))
        return str(path)

    return make


def left_over(above: int) -> list[psutil.Process]:
    return [one for one in psutil.Process(above).children(recursive=True) if "doctor.canary" in " ".join(one.cmdline())]


def test_a_canary_of_its_own(tmp_path: Path) -> None:
    found = send("local", tmp_path, wait=60)
    assert {one.subject: one.level for one in found} == {"workers": "OK", "canary": "OK"}
    assert not any(tmp_path.iterdir())
    assert not left_over(os.getpid())


def test_a_canary_among_the_workers_of_others(client: Client, tmp_path: Path) -> None:
    found = list(canary(Wanted.of(client.scheduler.address), tmp_path, wait=10))
    assert [(one.subject, one.level) for one in found if one.level != "OK"] == []
    assert {"workers", "canary", "clock", "spill place"} <= {one.subject for one in found}
    assert client.nthreads()  # left as they were


def test_a_folder_that_the_workers_write_elsewhere(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canary_module, "_read", lambda _path: None)
    found = list(canary(Wanted.of(client.scheduler.address), tmp_path, wait=10))
    (bad,) = [one for one in found if one.level == "FIX"]
    assert "is not seen here" in bad.found
    assert "share" in bad.remedy


def test_a_worker_whose_clock_is_off(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    late = SimpleNamespace(time=lambda: time.time() - 3600, monotonic=time.monotonic, sleep=time.sleep)
    monkeypatch.setattr(canary_module, "time", late)  # here only: the worker has the right one
    found = list(canary(Wanted.of(client.scheduler.address), tmp_path, wait=10))
    (bad,) = [one for one in found if one.level == "FIX"]
    assert bad.subject == "clock"
    assert "behind the worker's" in bad.found


def test_no_worker_at_an_address(tmp_path: Path) -> None:
    """A scheduler without workers, in a thread with a loop of its own."""
    import asyncio  # noqa: PLC0415

    address: list[str] = []
    up, done = threading.Event(), threading.Event()

    async def serve() -> None:
        async with Scheduler(host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0") as scheduler:
            address.append(scheduler.address)
            up.set()
            while not done.is_set():  # noqa: ASYNC110 - an event of threads
                await asyncio.sleep(0.05)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert up.wait(30)
        (found,) = canary(Wanted.of(address[0]), tmp_path, wait=0.5)
    finally:
        done.set()
        thread.join(30)
    assert found.level == "FIX"
    assert f"dask worker {address[0]}" in found.remedy


def test_a_canary_that_hangs_is_ended(profile: Callable[..., str], tmp_path: Path) -> None:
    (found,) = send(profile(), tmp_path, wait=0, besides=0.5)
    assert found.level == "FIX"
    assert "was stopped" in found.found
    assert not left_over(os.getpid())


@pytest.fixture
def asked(tmp_path: Path) -> Callable[[str], list[dict[str, str]]]:
    """Return a function that runs what the canary's process runs, here, and gives what it leaves."""

    def run(profile: str) -> list[dict[str, str]]:
        answer = tmp_path / "answer.json"
        main(json.dumps({"profile": profile, "folder": str(tmp_path), "wait": 5, "answer": str(answer)}))
        found: list[dict[str, str]] = json.loads(answer.read_text())
        return found

    return run


def test_a_profile_that_its_class_refuses(
    profile: Callable[..., str], asked: Callable[[str], list[dict[str, str]]]
) -> None:
    (found,) = asked(profile(made="fractions.Fraction", options="{no_such_option: 1}"))
    assert found["level"] == "FIX"
    assert "no_such_option" in found["found"]


def test_a_class_that_cannot_be_imported(
    profile: Callable[..., str], asked: Callable[[str], list[dict[str, str]]]
) -> None:
    (found,) = asked(profile(made="no_such_package.Cluster"))
    assert found["level"] == "FIX"
    assert "no_such_package.Cluster" in found["found"]


def test_a_canary_that_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends without a word: here because its interpreter does not find the package."""
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    (found,) = send("local", tmp_path, wait=5)
    assert found.level == "FIX"
    assert found.found.startswith("failed: ")


def test_the_causes_of_an_error_are_told() -> None:
    first = OSError(28, "No space left on device")
    second = RuntimeError("Nanny failed to start.")
    second.__cause__ = first
    assert (
        chain(second) == "RuntimeError: Nanny failed to start.; because of OSError: [Errno 28] No space left on device"
    )


@pytest.mark.parametrize("kind", ["local", "slurm", "address"])
def test_every_kind_of_silence_has_a_remedy(kind: Any) -> None:
    assert no_worker(Wanted("mine", kind), 60).remedy


@pytest.fixture
def compared(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get_versions(packages=list(PACKAGES))
    return copy.deepcopy(found)


@pytest.mark.parametrize(
    ("package", "version", "level"),
    [("distributed", "2026.3.0", "FIX"), ("numpy", "2.0.0", "WARN"), ("zarr", None, "WARN")],
)
def test_workers_with_other_packages(compared: dict[str, Any], package: str, version: str | None, level: str) -> None:
    assert [one.level for one in alike(compared)] == ["OK"]
    next(iter(compared["workers"].values()))["packages"][package] = version
    (found,) = alike(compared)
    assert found.level == level
    assert f"{package} {version or 'missing'} on the workers" in found.found


def test_workers_with_another_python(compared: dict[str, Any]) -> None:
    next(iter(compared["workers"].values()))["host"]["python"] = "3.13.1.final.0"
    (found,) = alike(compared)
    assert found.level == "FIX"
    assert "python 3.13.1 on the workers" in found.found
