"""A run that reads what another run has not finished writing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import xarray as xr

import lensflow as lf
from lensflow.engine.journal import Log
from lensflow.engine.rundir import RunDirectory
from lensflow.errors import BadInput

if TYPE_CHECKING:
    from distributed import Client

SLOW = Path(__file__).parent / "slow_graph.py"
READER = '''"""Reads a store."""
from pathlib import Path
import xarray as xr

def graph(source: Path) -> xr.Dataset:
    """Read a store."""
    return xr.open_zarr(source, consolidated=False, chunks={})
'''


@pytest.fixture
def reader(tmp_path: Path) -> Path:
    path = tmp_path / "reader.py"
    path.write_text(READER)
    return path


@pytest.fixture
def first(client: Client, tmp_path: Path) -> RunDirectory:
    lf.run(lf.graph(SLOW)(bands=4), tmp_path / "first.zarr", client=client, progress=False)
    return RunDirectory.of(tmp_path / "first.zarr")


def lose(directory: RunDirectory, event: str) -> None:
    block = next(iter(directory.state().done))
    with Log(directory.journal) as journal:
        journal.append(event, block=block, reason="for this test")


def test_a_finished_run_is_read_in_silence(first: RunDirectory, reader: Path, client: Client, tmp_path: Path) -> None:
    run = lf.run(lf.graph(reader)(source=first.out), tmp_path / "second.zarr", client=client, progress=False)
    assert (run.status.standing, len(run.notes)) == ("done", 0)


def test_an_unfinished_run_is_not_read(first: RunDirectory, reader: Path, client: Client, tmp_path: Path) -> None:
    lose(first, "damaged")
    lazy = lf.graph(reader)(source=first.out)
    with pytest.raises(BadInput, match=r"first.zarr is an input, and its own run lacks 1 of 4 blocks: finish it first"):
        lf.run(lazy, tmp_path / "second.zarr", client=client, progress=False)
    assert not (tmp_path / "second.zarr").exists()


def test_blocks_that_were_given_up_are_noted_and_the_rest_is_read(
    first: RunDirectory, reader: Path, client: Client, tmp_path: Path
) -> None:
    lose(first, "quarantined")
    run = lf.run(lf.graph(reader)(source=first.out), tmp_path / "second.zarr", client=client, progress=False)
    assert list(run.notes["kind"]) == ["incomplete-input"]
    assert "lacks 1 of 4 blocks, 1 quarantined" in run.notes["message"].iloc[0]
    with xr.open_zarr(tmp_path / "second.zarr", consolidated=False) as made:
        assert np.isfinite(made["raw"]).any()
