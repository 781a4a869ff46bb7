"""Versions that are too old, missing, or at odds."""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lensflow.engine.doctor.versions import MINIMUM, PYTHON, SLURM, older, versions

GOOD = {"dask": "2026.8.0", "distributed": "2026.8.0", "xarray": "2026.9.0", "zarr": "3.1.6", "numpy": "2.4.6"}
JOBS = {"dask-jobqueue": "0.9.0", "cryptography": "45.0.1"}


def test_what_is_installed_here_is_in_order() -> None:
    (found,) = versions()
    assert found.level == "OK"
    assert re.search(r"python 3\.\d+.*dask 20\d\d\.", found.found)


@pytest.mark.parametrize(
    ("package", "version"),
    [("dask", "2025.12.0"), ("distributed", "2026.1.0"), ("zarr", "2.18.4"), ("numpy", "1.26.4"), ("xarray", "2025.1")],
)
def test_an_old_package_is_found_with_what_to_install(package: str, version: str) -> None:
    found = [one for one in versions(GOOD | {package: version}) if one.subject == package]
    assert found[0].level == "FIX"
    assert version in found[0].found
    assert found[0].remedy == f'pip install "{package}>={MINIMUM[package]}"'


def test_dask_and_distributed_go_in_pairs() -> None:
    (found,) = versions(GOOD | {"distributed": "2026.3.0"})
    assert found.level == "FIX"
    assert "dask 2026.8.0 with distributed 2026.3.0" in found.found
    assert found.remedy == 'pip install "dask==2026.8.0" "distributed==2026.8.0"'


def test_slurm_needs_more() -> None:
    missing = {one.subject: one for one in versions(GOOD, slurm=True)}
    assert missing.keys() == SLURM.keys()
    (old,) = versions(GOOD | JOBS | {"dask-jobqueue": "0.8.5"}, slurm=True)
    assert (old.level, old.subject) == ("FIX", "dask-jobqueue")
    (good,) = versions(GOOD | JOBS, slurm=True)
    assert good.level == "OK"


def test_an_old_python() -> None:
    (found,) = versions(GOOD, python="3.10.14")
    assert (found.level, found.subject) == ("FIX", "python")


@given(st.tuples(*[st.integers(0, 3000)] * 3), st.tuples(*[st.integers(0, 3000)] * 3))
def test_versions_are_compared_as_numbers(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    first, second = (".".join(map(str, numbers)) for numbers in (one, other))
    assert older(first, second) == (one < other)
    assert not older(first, f"{first}rc1")


def test_the_minima_are_those_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = {}
    for one in chain(project["dependencies"], *project["optional-dependencies"].values()):
        if found := re.fullmatch(r"([\w-]+)(\[\w+\])?>=([\d.]+)", one):
            asked[found[1]] = found[3]
    assert {name: asked[name] for name in MINIMUM} == MINIMUM
    assert project["requires-python"] == f">={PYTHON}"
    assert {name: asked[name] for name in SLURM if name in asked}.items() <= SLURM.items()
