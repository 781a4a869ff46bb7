"""Fixtures that every test may ask for."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from distributed import Client

BESIDE_REPOSITORY = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real archive data, or skip: it is too large to travel with the code."""
    folder = Path(os.environ.get("LENSFLOW_REAL_DATA") or BESIDE_REPOSITORY)
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set LENSFLOW_REAL_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def browse(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Return a function that opens a page in a headless Chromium, with further options; skip where there is none."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium: pages are not looked at in a real browser")
    profile = tmp_path_factory.mktemp("profile")

    def run(address: str, *words: str) -> "subprocess.CompletedProcess[str]":
        fixed = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"]
        command = [found, *fixed, f"--user-data-dir={profile}", "--window-size=1100,1600", *words, address]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)

    return run


@pytest.fixture(scope="session")
def idle_memory() -> Callable[..., int]:
    """Return a function that measures what a worker occupies when it has imported some modules and done nothing."""

    def measure(client: Client, *modules: str) -> int:
        def resident() -> int:
            import importlib  # noqa: PLC0415 - runs on the worker

            import psutil  # noqa: PLC0415

            for name in modules:
                importlib.import_module(name)
            return int(psutil.Process().memory_info().rss)

        found: dict[str, int] = client.run(resident)
        return max(found.values())

    return measure
