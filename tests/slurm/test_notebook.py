"""The first notebook on a real SLURM: all that it says of clusters is true there, too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from nbclient import NotebookClient

import lensflow as lf
from lensflow.engine.cluster import profile

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "00_start_here.ipynb"
HERE = 'where, size = "local", {"n_workers": 2}'


@pytest.mark.filterwarnings("default")  # Jupyter's own
def test_the_first_notebook_runs_in_jobs(site: Any, tmp_path: Path) -> None:
    found = profile("slurm")
    found["lensflow"]["cluster"]["options"] |= {**site.options, "jobs": 1}
    found["lensflow"]["driver"] = {"walltime": "00:10:00", "memory": "1G"}
    (where := tmp_path / "site.yaml").write_text(yaml.safe_dump(found))
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    (cell,) = [one for one in notebook.cells if one.source == HERE]
    cell.source = f"where, size = {str(where)!r}, {{}}"
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    for name in ("2246.zarr", "sharper.zarr"):
        run = lf.open_run(tmp_path / name)
        assert run.status.standing == "done"
        assert run.verify().clean
    sent = json.loads((tmp_path / "sharper.zarr.run" / "submission.json").read_text())
    assert (sent["how"], bool(sent["job"])) == ("slurm", True)
