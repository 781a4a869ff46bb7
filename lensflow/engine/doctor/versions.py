"""Versions: of Python and of the packages that a run leans on, too old or at odds with each other."""

from __future__ import annotations

import platform
import re
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from lensflow.engine.doctor.finding import Finding, fix, ok

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

PYTHON = "3.11"
MINIMUM = {"dask": "2026.1.1", "distributed": "2026.1.1", "xarray": "2026.2", "zarr": "3.1.3", "numpy": "2"}
SLURM = {"dask-jobqueue": "0.9", "cryptography": "42"}  # what a SLURM profile needs besides
WHY = {
    "dask": "it has CVE-2026-23528",
    "distributed": "it has CVE-2026-23528",
    "dask-jobqueue": "its options had other names",
}


def versions(
    installed: Mapping[str, str] | None = None, *, python: str | None = None, slurm: bool = False
) -> Iterator[Finding]:
    """Look at the versions of Python and the packages.

    Parameters
    ----------
    installed
        Version by package; default: what is installed.
    python
        Version of Python; default: this one.
    slurm
        Whether what a SLURM profile needs is looked at as well.
    """
    wanted = MINIMUM | (SLURM if slurm else {})
    found = installed_versions(wanted) if installed is None else installed
    python = python or platform.python_version()
    bad = [*_python(python), *_packages(found, wanted), *_pair(found)]
    told = ", ".join(f"{name} {found[name]}" for name in wanted if name in found)
    yield from bad or [ok("versions", f"python {python}, {told}")]


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def older(one: str, other: str) -> bool:
    """Whether a version is older than another, by its leading numbers."""
    return _numbers(one) < _numbers(other)


def _numbers(text: str) -> tuple[int, ...]:
    release = re.match(r"\d+(\.\d+)*", text)
    numbers = [int(part) for part in release.group().split(".")] if release else []
    return (*numbers, 0, 0, 0)[:3]  # 2026.2 is 2026.2.0


def _python(found: str) -> Iterator[Finding]:
    if older(found, PYTHON):
        yield fix("python", f"{found}, expected {PYTHON} or later", f"conda create -n lensflow python={PYTHON}")


def _packages(found: Mapping[str, str], wanted: Mapping[str, str]) -> Iterator[Finding]:
    for name, least in wanted.items():
        remedy = f'pip install "{name}>={least}"'
        if name not in found:
            yield fix(name, "not installed", remedy)
        elif older(found[name], least):
            why = f" ({WHY[name]})" if name in WHY else ""
            yield fix(name, f"{found[name]}, expected {least} or later{why}", remedy)


def _pair(found: Mapping[str, str]) -> Iterator[Finding]:
    dask, distributed = found.get("dask"), found.get("distributed")
    if dask and distributed and _numbers(dask) != _numbers(distributed):
        yield fix(
            "dask",
            f"dask {dask} with distributed {distributed}: they are only tested in pairs",
            f'pip install "dask=={max(dask, distributed, key=_numbers)}"'
            f' "distributed=={max(dask, distributed, key=_numbers)}"',
        )
