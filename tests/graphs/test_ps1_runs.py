"""PS1 the whole way, on worker processes: simulated archive files in, a verified store and FITS files out."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import xarray as xr
from astropy.io import fits
from astropy.wcs import WCS

import lensflow as lf
from lensflow.cli import main
from lensflow.engine.journal import read

SCALE = 40
WORDS = ["--projection", "2246", "--scale", str(SCALE)]


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rows of four cells, raw Rice-compressed FITS, made by the command line's own verb."""
    folder = tmp_path_factory.mktemp("cells")
    assert main(["simulate", "ps1_convolution", str(folder), "--scale", str(SCALE), "--seed", "3"]) == 0
    return folder


@pytest.fixture(scope="module")
def store(cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("store") / "2246.zarr"
    assert main(["submit", "ps1_convolution", str(cells), *WORDS, "--out", str(out), "--workers", "2"]) == 0
    return out


def chunks(store: Path) -> dict[str, bytes]:
    files = (path for path in store.rglob("*") if path.is_file() and path.name != "zarr.json")
    return {str(path.relative_to(store)): path.read_bytes() for path in files}


def test_the_store_holds_what_the_graph_means(cells: Path, store: Path) -> None:
    lazy = lf.graph("ps1_convolution")(cells, projection=2246, scale=SCALE)
    expected = lazy["2246"].to_dataset().compute(scheduler="sync")
    with xr.open_datatree(store, engine="zarr", consolidated=False, chunks=None) as written:
        node = written["2246"].to_dataset().load()
        assert node.mask.dtype == np.uint16
        np.testing.assert_array_equal(node.mask, expected.mask)
        for name in ("flux", "coverage"):  # this process may have more BLAS threads than a worker: other rounding
            peak = float(np.nanmax(np.abs(expected[name])))
            np.testing.assert_allclose(node[name], expected[name], rtol=0, atol=1e-6 * peak)
        centre = WCS(fits.Header(node.attrs["wcs"])).wcs_pix2world(0, 0, 0)
    assert np.isfinite(centre).all()


def test_verify_and_report(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(store)]) == 0
    assert main(["report", str(store), "--json"]) == 0
    page = Path(json.loads(capsys.readouterr().out.splitlines()[-1])["report"]).read_text()
    assert "data:image/png;base64," in page
    assert "No picture" not in page


def test_export_writes_a_fits_file_a_skycell(store: Path, tmp_path: Path) -> None:
    assert main(["export", str(store), str(tmp_path / "fits"), "--format", "fits"]) == 0
    paths = sorted((tmp_path / "fits").rglob("*.fits"))
    assert len(paths) == 12
    with fits.open(paths[0]) as hdus:
        image = next(hdu for hdu in hdus if hdu.data is not None)
        assert WCS(image.header).has_celestial
        assert np.isfinite(image.data).mean() > 0.9


def test_a_truncated_file_is_masked_noted_and_reported_and_strict_refuses(
    cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "cells"
    shutil.copytree(cells, folder)
    victim = folder / "rings.v3.skycell.2246.044.stk.i.unconv.fits"
    victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
    out = tmp_path / "a.zarr"
    words = ["submit", "ps1_convolution", str(folder), *WORDS, "--workers", "1"]
    assert main([*words, "--out", str(out)]) == 0
    run = lf.Run.open(out)
    assert run.notes.kind.tolist() == ["corrupt-file"]
    assert victim.name in run.notes.message[0]
    assert victim.name in run.report().read_text()
    with run.open_store() as written:
        assert (written["2246"].mask.values & 128 > 0).any()

    for strict in ("--strict", "--strict=corrupt-file,other"):
        shutil.rmtree(tmp_path / "strict.zarr", ignore_errors=True)
        shutil.rmtree(tmp_path / "strict.zarr.run", ignore_errors=True)
        assert main([*words, "--out", str(tmp_path / "strict.zarr"), strict]) == 4
        refused = lf.Run.open(tmp_path / "strict.zarr").failed
        assert not refused.empty
        assert refused.message.str.contains(victim.name).all()
    assert main([*words, "--out", str(tmp_path / "lax.zarr"), "--strict=other"]) == 0
    capsys.readouterr()
    assert main([*words, "--out", str(tmp_path / "stop.zarr"), "--strict", "--on-error", "raise"]) == 1
    assert victim.name in capsys.readouterr().err
    assert main([*words, "--out", str(tmp_path / "fail.zarr"), "--on-corrupt", "fail"]) == 4
    failed = lf.Run.open(tmp_path / "fail.zarr")
    assert not failed.failed.empty
    assert failed.failed.message.str.contains(victim.name).all()


def test_a_missing_band_is_noted_and_an_unfinished_store_is_not_exported(
    cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "cells"
    shutil.copytree(cells, folder)
    (folder / "rings.v3.skycell.2246.033.stk.i.unconv.fits").unlink()
    bad = folder / "rings.v3.skycell.2246.053.stk.r.unconv.fits"
    bad.write_bytes(bad.read_bytes()[:9000])
    out = str(tmp_path / "a.zarr")
    words = ["submit", "ps1_convolution", str(folder), *WORDS, "--workers", "1", "--on-corrupt", "fail"]
    assert main([*words, "--out", out]) == 4
    assert lf.Run.open(out).notes.kind.tolist() == ["missing-band"]
    assert main(["export", out, str(tmp_path / "fits")]) == 1
    assert "give --partial" in capsys.readouterr().err
    assert not (tmp_path / "fits").exists()
    assert main(["export", out, str(tmp_path / "fits"), "--partial"]) == 0


def test_a_missing_cell_is_noted_and_strict_refuses(
    cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["submit", "ps1_convolution", str(cells), "--scale", str(SCALE), "--workers", "1"]
    words += ["--selection", "skycell.2246.033,skycell.2246.037"]  # the second is not there
    assert main([*words, "--out", str(tmp_path / "a.zarr")]) == 0
    assert lf.Run.open(tmp_path / "a.zarr").notes.kind.tolist() == ["missing-cell"]
    assert main([*words, "--out", str(tmp_path / "b.zarr"), "--strict"]) == 1
    assert "skycell.2246.037" in capsys.readouterr().err


def test_killed_in_mid_run_it_ends_with_the_same_bytes(cells: Path, store: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.zarr"
    command = [sys.executable, "-m", "lensflow", "submit", "ps1_convolution", str(cells), *WORDS]
    command += ["--out", str(out), "--workers", "1", "--window", "1"]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal, end = tmp_path / "a.zarr.run" / "journal.jsonl", time.monotonic() + 120
    while not any(one["event"] == "done" for one in read(journal)):
        assert time.monotonic() < end
        time.sleep(0.005)
    workers = psutil.Process(driver.pid).children(recursive=True)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    psutil.wait_procs(workers, timeout=60)
    assert main(["resume", str(out), "--workers", "2"]) == 0
    assert lf.Run.open(out).verify().clean
    assert chunks(out) == chunks(store)


def test_any_selection_order_and_worker_count_give_the_same_bytes(cells: Path, store: Path, tmp_path: Path) -> None:
    names = [f"skycell.2246.0{y}{x}" for y in (5, 3, 4) for x in (6, 3, 5, 4)]
    words = ["submit", "ps1_convolution", str(cells), "--scale", str(SCALE), "--selection", ",".join(names + names[:3])]
    assert main([*words, "--out", str(tmp_path / "a.zarr"), "--workers", "3"]) == 0
    assert chunks(tmp_path / "a.zarr") == chunks(store)


BAD = {
    "missing folder": (["nowhere", *WORDS], 1, "nowhere"),
    "empty folder": (["empty", *WORDS], 1, "empty"),
    "wrong projection": (["cells", "--projection", "1329", "--scale", str(SCALE)], 1, "2246"),
    "impossible projection": (["cells", "--projection", "3", "--scale", str(SCALE)], 2, "487"),
    "misspelt option": (["cells", *WORDS, "--sgima", "40"], 2, "Did you mean '--sigma'?"),
    "sigma of zero": (["cells", *WORDS, "--sigma", "0"], 2, "sigma"),
    "negative sigma": (["cells", *WORDS, "--sigma", "-3"], 2, "sigma"),
    "unwritable output": (["cells", *WORDS, "--out", "/proc/nothing/a.zarr"], 1, "/proc/nothing"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_sentence_and_nothing_is_touched(
    case: str, cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words, code, hint = BAD[case]
    (tmp_path / "empty").mkdir()
    (tmp_path / "cells").symlink_to(cells)
    monkeypatch.chdir(tmp_path)
    given = words if "--out" in words else [*words, "--out", "a.zarr"]
    assert main(["submit", "ps1_convolution", *given, "--workers", "1"]) == code
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("lensflow: ")
    assert hint in said[-1]
    assert not any("Traceback" in line for line in said)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells", "empty"]


def test_a_store_that_belongs_to_another_run(cells: Path, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = chunks(store)
    words = ["submit", "ps1_convolution", str(cells), *WORDS, "--sigma", "40", "--out", str(store)]
    assert main(words) == 2
    assert "the argument sigma is 40.0, it was 60.0" in capsys.readouterr().err
    assert chunks(store) == before
