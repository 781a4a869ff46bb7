"""Mass sheets the whole way, on worker processes: a simulated mesh in, a verified store and FITS files out."""

import inspect
import json
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from dask.utils import key_split

import lensflow as lf
from lensflow.cli import main
from lensflow.engine.tasks import lower
from lensflow.engine.work import Work
from lensflow.lensing.mesh.simulate_usmesh import simulate_usmesh

GRAPH = lf.graph("mass_sheets")
SLICES = ["--nslices", "20", "--slices", "10,20", "--NC", "256", "--seed", "5"]
SIMULATED: dict[str, Any] = {"nside": 16, "nslices": 20, "slices": (10, 20), "NC": 256, "seed": 5}
WORDS = ["--sheet-range", "10,20"]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mesh made by the command line's own verb."""
    folder = tmp_path_factory.mktemp("mesh") / "usmesh"
    assert main(["simulate", "mass_sheets", str(folder), "--nside", "16", *SLICES]) == 0
    return folder


@pytest.fixture(scope="module")
def sheets(mesh: Path) -> Path:
    out = mesh.parent / "sheets.zarr"
    assert main(["submit", "mass_sheets", str(mesh), *WORDS, "--out", str(out), "--workers", "2"]) == 0
    return out


def test_the_store_holds_what_the_graph_means(sheets: Path, tmp_path: Path) -> None:
    truth = simulate_usmesh(tmp_path, **SIMULATED)
    with xr.open_datatree(sheets, engine="zarr", consolidated=False) as tree:
        np.testing.assert_allclose(tree["delta"], truth.delta, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(tree["map_sum"], truth.mass_sum, rtol=1e-12)
        assert not tree.to_dataset()["status"].any()
        assert tree["parts"].to_dataset()["verified"].all()
        assert tree["delta"].encoding["chunks"] == (1, 3072)
    kinds = set(lf.Run.open(sheets).notes.kind)
    assert kinds == {"pixel-order", "offsets", "beyond-last-slice"}


@pytest.mark.parametrize("fault", ["nan", "flipped"])
def test_faults_end_a_strict_run_and_what_they_spoil_is_not_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: Any
) -> None:
    truth = simulate_usmesh(tmp_path / "mesh", **SIMULATED, faults=(fault,))
    bad, out = truth.attrs["fault_sheet"], tmp_path / "a.zarr"
    assert main(["submit", "mass_sheets", str(tmp_path / "mesh"), *WORDS, "--out", str(out), "--workers", "1"]) == 4
    failed = lf.Run.open(out).failed
    assert failed.message.str.contains("HEALPIX/Mass/0000").all()
    if fault == "nan":
        with xr.open_zarr(out, consolidated=False) as read:
            assert read.status.sel(sheet=bad) == 1
            assert np.isnan(read.delta.sel(sheet=bad)).all()
            assert not read.status.sel(sheet=bad - 3)
    capsys.readouterr()
    assert main(["submit", "kappa_maps", str(out), "--zs", "1", "--out", str(tmp_path / "k.zarr")]) != 0
    assert "quarantined" in capsys.readouterr().err


def test_export_writes_a_file_a_sheet(sheets: Path, tmp_path: Path) -> None:
    assert main(["verify", str(sheets)]) == 0
    assert main(["export", str(sheets), str(tmp_path), "--sheets", "10,19"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["delta-sheet-10.fits", "delta-sheet-19.fits"]


def test_building_is_lazy(mesh: Path) -> None:
    def refuse(*_: object, **__: object) -> Any:
        raise AssertionError("computed")

    with dask.config.set(scheduler=refuse):
        tree = GRAPH(mesh, sheet_range=(10, 20))
        with pytest.raises(AssertionError, match="computed"):
            tree["delta"].compute()


def test_pixels_and_sums_share_the_reading_of_rows(mesh: Path) -> None:
    """A tally is asked for with its pixels: what later blocks wait for is small."""
    work = Work.of(GRAPH(mesh, sheet_range=(10, 20), pixels_per_block=4**4))
    tasks = lower(work.tree, work.grids, Path("o.zarr"), "0" * 8).tasks
    count = {name: sum(key_split(key) == name for key in tasks) for name in ("bin-rows", "tally")}
    assert count == {"bin-rows": 10 * 12, "tally": 10 * 12}
    plan = lf.plan(work.tree)
    assert plan.shared_tasks == 10 * 12
    assert plan.shared_bytes == 0
    assert plan.tasks < 5 * plan.blocks


def test_building_80_sheets_takes_few_tasks_a_block(mesh: Path) -> None:
    plan = lf.plan(GRAPH(mesh, sheet_range=(10, 20), pixels_per_block=4**3))  # 48 chunks a sheet
    assert plan.blocks > 10 * 48
    assert plan.tasks * (80 * 192) / (10 * 48) < 200_000


def test_inputs_are_what_is_read(mesh: Path) -> None:
    found = GRAPH.verb("inputs")(usmesh=mesh, sheet_range=(10, 20))
    assert [path.relative_to(mesh).as_posix() for path in found] == [
        "Header",
        "HEALPIX/attr-v2",
        "HEALPIX/ID",
        "HEALPIX/Mass",
    ]
    assert all(path.exists() for path in found)


def test_the_demonstration_uses_words_that_exist() -> None:
    demo = GRAPH.module.DEMO
    assert set(demo["simulate"]) <= set(inspect.signature(GRAPH.verb("simulate")).parameters)
    assert GRAPH.bind("somewhere", **demo["graph"])["sheet_range"] == demo["simulate"]["slices"]


def test_a_changed_mesh_is_another_run(mesh: Path, sheets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Identity is the engine's; the graph says which files it is about."""
    header = mesh / "HEALPIX" / "attr-v2"
    before = header.read_text()
    header.write_text(before + "extra <i8 1 0000000000000000 #HUMANE [ 0 ]\n")
    try:
        assert main(["resume", str(sheets)]) == 2
        assert "attr-v2" in capsys.readouterr().err
    finally:
        header.write_text(before)


def test_options_are_in_the_attributes(mesh: Path) -> None:
    options = json.loads(GRAPH(mesh, sheet_range=(10, 20), chunk_size=7).attrs["options"])
    assert (options["chunk_size"], options["validation_level"]) == (7, "strict")
