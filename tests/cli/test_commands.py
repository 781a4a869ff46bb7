"""Each command as a user types it: what it prints, what it leaves, how it exits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import xarray as xr

import lensflow as lf
from lensflow.cli import main

if TYPE_CHECKING:
    from collections.abc import Sequence

SLOW = str(Path(__file__).parents[1] / "engine" / "slow_graph.py")

MINE = '''"""A graph of a user's own, with helpers and a dataclass."""
import math
from dataclasses import dataclass, field

import dask.array as da
import numpy as np
import xarray as xr


@dataclass(frozen=True)
class Wave:
    length: float
    harmonics: list = field(default_factory=lambda: [1, 2])

    def at(self, place):
        return sum(math.sin(place * order / self.length) for order in self.harmonics)


def row(wave, place):
    return np.full((4, 10), wave.at(place), "f4")


def make(block_id=None, wave=None):
    assert isinstance(wave, Wave)
    return row(wave, block_id[0])


def graph(*, rows: int = 6, length: float = 2.0) -> xr.Dataset:
    """Make waves.

    Parameters
    ----------
    rows
        How many bands.
    length
        Wave length, px.
    """
    data = da.map_blocks(make, chunks=((4,) * rows, (10,)), dtype="f4", wave=Wave(length))
    return xr.Dataset({"wave": (("y", "x"), data)})
'''


def lensflow(words: Sequence[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lensflow", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, timeout=120)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's own graph, submitted by path, on worker processes that cannot import it."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "mine.py").write_text(MINE)
    done = lensflow(["submit", "mine.py", "--length", "3", "--out", "waves.zarr", "--workers", "2"], folder)
    assert done.returncode == 0, done.stderr
    assert "waves.zarr: done, 6 of 6 blocks" in done.stdout
    assert "memory" in done.stderr  # the plan
    return folder


def test_a_users_own_file_runs_on_workers_that_cannot_import_it(finished: Path) -> None:
    with xr.open_zarr(finished / "waves.zarr", consolidated=False) as written:
        expected = [np.sin(row / 3) + np.sin(row * 2 / 3) for row in range(6)]
        np.testing.assert_allclose(written.wave[::4, 0], expected, rtol=1e-6)
        assert written.attrs["lensflow"]["arguments"] == {"rows": 6, "length": 3.0}


def test_status_verify_report_resume(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(finished / "waves.zarr")
    assert main(["status", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["standing"] == "done"
    assert main(["verify", out]) == 0
    assert "6 blocks read back, 0 damaged" in capsys.readouterr().out
    assert main(["report", out, "--json"]) == 0
    assert Path(json.loads(capsys.readouterr().out)["report"]).read_text().startswith("<!doctype html>")
    assert main(["resume", out, "--workers", "1"]) == 0
    assert "done, 6 of 6" in capsys.readouterr().out


def test_status_of_all_runs_in_a_folder(finished: Path) -> None:
    shown = lensflow(["status"], finished)
    assert shown.returncode == 0
    assert shown.stdout.count("waves.zarr: done") == 1


def test_list_and_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    assert "ps1_convolution" in listed
    assert "local" in listed
    assert main(["show", "ps1_convolution", "--json"]) == 0
    words = json.loads(capsys.readouterr().out)["parameters"]
    assert words["sigma"] == {"type": "number", "default": 60.0, "required": False, "help": words["sigma"]["help"]}
    assert "Gaussian" in words["sigma"]["help"]
    assert main(["show", SLOW]) == 0
    assert "--bands" in capsys.readouterr().out


def test_plan_says_what_a_run_would_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", SLOW, "--bands", "12", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["blocks"] == 12
    assert plan["output_bytes"] == 2 * 12 * 8 * 64 * 4
    assert main(["plan", SLOW, "--memory", "100MiB"]) == 3
    assert "a worker would need" in capsys.readouterr().err


def test_a_job_file_with_a_profile(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "job.yaml").write_text(
        "graph: ./mine.py\nout: waves.zarr\nworkers: 1\n"
        "profiles:\n  testing: {rows: 2, length: 5}\n  production: {rows: 9}\n"
    )
    done = lensflow(["submit", "job.yaml", "--profile", "testing", "--length", "4", "--json"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["total"] == 2
    assert lf.Run.open(tmp_path / "waves.zarr").directory.identity().arguments == {"rows": 2, "length": 4.0}


BAD = {
    "misspelt option": (["--lenght", "3"], 2, "Did you mean '--length'?"),
    "word of the wrong type": (["--rows", "many"], 2, "--rows: found 'many', expected integer"),
    "no output": (["--rows", "3", "--out", ""], 2, "--out"),
    "unknown cluster": (["--out", "x.zarr", "--cluster", "slurn"], 2, "no cluster profile"),
    "missing value": (["--length"], 2, "--length needs a value"),
    "no workers": (["--out", "x.zarr", "--workers", "0"], 2, "--workers: found 0, expected at least 1"),
    "left over": (["sky.fits"], 2, "no place for 'sky.fits'"),
    "unwritable output": (["--out", "/proc/nothing/x.zarr", "--workers", "1"], 1, "cannot be made"),
    "output below a file": (["--out", "mine.py/x.zarr", "--workers", "1"], 1, "cannot be made"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_words_get_one_sentence_and_touch_nothing(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words, code, sentence = BAD[case]
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    assert main(["submit", "./mine.py", *words]) == code
    said = capsys.readouterr().err.splitlines()
    assert sentence in said[-1]
    assert said[-1].startswith("lensflow: ")
    assert not any("Traceback" in line for line in said)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["submit", "ps1_convolutoin"], 2, "Did you mean 'ps1_convolution'?"),
        (["submit", "./missing.py"], 1, "no such graph file"),
        (["submit"], 2, "name a graph"),
        (["status", "nowhere.zarr"], 1, "no lensflow run here"),
        (["verify", "nowhere.zarr"], 1, "no lensflow run here"),
        (["resume", "nowhere.zarr"], 1, "no lensflow run here"),
        (["submit", "job.yaml"], 1, "cannot be read"),
    ],
)
def test_bad_names(words: list[str], code: int, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == code
    assert sentence in capsys.readouterr().err


def test_errors_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "ps1_convolutoin", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"] == "UnknownName"


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(lf.errors.UnknownName):
        main(["submit", "ps1_convolutoin", "--debug"])


def test_a_misspelt_command_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sumbit"]) == 2
    assert "submit" in capsys.readouterr().err
