"""Commands of SLURM: how they are called, and what comes of those that fail."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lensflow.engine import batch
from lensflow.errors import LensflowError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands that tests write, before all others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def command(folder: Path, name: str, *lines: str) -> None:
    path = folder / name
    path.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
    path.chmod(0o755)


@given(st.integers(0, 40), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_durations_are_read_as_slurm_writes_them(days: int, hours: int, minutes: int, seconds: int) -> None:
    expected = float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
    assert batch.seconds(f"{days}-{hours:02d}:{minutes:02d}:{seconds:02d}") == expected
    assert batch.seconds(f"{minutes}:{seconds:02d}") == 60 * minutes + seconds


@pytest.mark.parametrize("text", ["UNLIMITED", "NOT_SET", "INVALID", "", "-", "1:x"])
def test_no_limit_is_no_number(text: str) -> None:
    assert batch.seconds(text) is None


def test_no_answer_is_no_news(slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(slurm, "squeue", 'echo "Unable to contact slurm controller (connect failure)" >&2; exit 1')
    assert batch.look("12") is None
    command(slurm, "squeue", "exec sleep 60")
    monkeypatch.setattr(batch, "LIMIT", 0.1)
    assert batch.look("12") is None
    monkeypatch.setenv("PATH", str(slurm / "nothing"))
    assert batch.look("12") is None


def test_what_slurm_refuses_is_passed_on(slurm: Path) -> None:
    command(slurm, "sbatch", 'echo "sbatch: error: invalid partition specified: nowhere" >&2; exit 1')
    with pytest.raises(LensflowError, match=r"invalid partition specified: nowhere.*lensflow\.driver"):
        batch.send("#!/bin/sh\n", ["--partition=nowhere"])


def test_a_job_sends_off_others_as_if_from_outside(
    slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "1")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    command(
        slurm,
        "sbatch",
        f'env > {tmp_path}/env; echo "$@" > {tmp_path}/words; cat > {tmp_path}/script; echo "12;cluster"',
    )
    assert batch.send("#!/bin/sh\n", ["--mem=4G"]) == "12"
    environment = (tmp_path / "env").read_text()
    assert "SLURM_MEM_PER_NODE" not in environment
    assert "SLURM_CONF=/etc/slurm.conf" in environment
    assert (tmp_path / "words").read_text() == "--parsable --mem=4G\n"
    assert (tmp_path / "script").read_text() == "#!/bin/sh\n"
