"""Real processes, really killed: what is lost is at most what was in flight, and the bytes come out the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import dask.array as da
import numpy as np
import psutil
import pytest
import xarray as xr

import lensflow as lf
from lensflow.engine.journal import read

SLOW = Path(__file__).parents[1] / "slow_graph.py"
BANDS, WORKERS, WINDOW = 40, 2, 6
WAIT = 120  # s for anything to happen at all


def submit(out: Path, log: Path) -> list[str]:
    words = ["submit", str(SLOW), "--bands", str(BANDS), "--seconds", "0.05", "--log", str(log), "--out", str(out)]
    return [sys.executable, "-m", "lensflow", *words, "--workers", str(WORKERS), "--window", str(WINDOW)]


def done(out: Path) -> int:
    return sum(one["event"] == "done" for one in read(out.with_name(out.name + ".run") / "journal.jsonl"))


def wait_for(blocks: int, out: Path) -> None:
    end = time.monotonic() + WAIT
    while done(out) < blocks:
        assert time.monotonic() < end, "the run makes no progress"
        time.sleep(0.01)


def reads_of(log: Path) -> Counter[int]:
    return Counter(int(path.name.split(".")[0]) for path in log.iterdir())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "log").mkdir()
    subprocess.run(submit(folder / "a.zarr", folder / "log"), check=True, capture_output=True, timeout=WAIT)
    assert reads_of(folder / "log") == Counter(range(BANDS))
    return folder / "a.zarr"


def same_pixels(one: Path, other: Path) -> bool:
    """Compare two stores byte by byte, but for the arguments: the folder of the read log differs."""
    chunks = {path.relative_to(one) for path in one.rglob("*") if path.is_file() and path.name != "zarr.json"}
    others = {path.relative_to(other) for path in other.rglob("*") if path.is_file() and path.name != "zarr.json"}
    assert len(chunks) >= 2 * BANDS
    return chunks == others and all((one / path).read_bytes() == (other / path).read_bytes() for path in chunks)


def test_driver_killed_in_mid_run(tmp_path: Path, undisturbed: Path) -> None:
    out, log = tmp_path / "a.zarr", tmp_path / "log"
    log.mkdir()
    driver = subprocess.Popen(submit(out, log), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(8, out)
    workers = psutil.Process(driver.pid).children(recursive=True)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    finished = done(out)
    assert finished < BANDS
    assert lf.Run.open(out).status.standing == "died"
    psutil.wait_procs(workers, timeout=WAIT)

    resumed = subprocess.run(
        [sys.executable, "-m", "lensflow", "resume", str(out), "--workers", str(WORKERS)],
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT,
    )
    assert resumed.returncode == 0, resumed.stderr
    run = lf.Run.open(out)
    first, second = run.directory.state().sessions
    assert second["pending"] == BANDS - finished
    assert "ended" not in first
    # a band is read again only if its block, or a neighbour's, was in flight: the window and its two halos
    again = {band for band, count in reads_of(log).items() if count > 1}
    assert len(again) <= WINDOW + 2
    assert run.verify().clean
    assert same_pixels(out, undisturbed)


def test_worker_killed_in_mid_run(tmp_path: Path, undisturbed: Path) -> None:
    out, log = tmp_path / "a.zarr", tmp_path / "log"
    log.mkdir()
    driver = subprocess.Popen(submit(out, log), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(8, out)
    records = [one for one in read(tmp_path / "a.zarr.run" / "journal.jsonl") if one["event"] == "done"]
    os.kill(records[-1]["pid"], signal.SIGKILL)
    assert driver.wait(timeout=WAIT) == 0
    run = lf.Run.open(out)
    assert run.status.quarantined == 0
    written = Counter(one["block"] for one in read(run.directory.journal) if one["event"] == "done")
    assert set(written.values()) == {1}
    again = {band for band, count in reads_of(log).items() if count > 1}
    assert len(again) <= WINDOW + 2
    assert run.verify().clean
    assert same_pixels(out, undisturbed)


def test_driver_killed_while_it_writes_the_template(tmp_path: Path, undisturbed: Path) -> None:
    out, log = tmp_path / "a.zarr", tmp_path / "log"
    log.mkdir()
    subprocess.run(submit(out, log), check=True, capture_output=True, timeout=WAIT)
    # what such a death leaves: run.json, part of the metadata, an empty journal
    (tmp_path / "a.zarr.run" / "journal.jsonl").write_text("")
    (out / "smooth" / "zarr.json").unlink()
    subprocess.run(submit(out, log), check=True, capture_output=True, timeout=WAIT)
    assert lf.Run.open(out).verify().clean
    assert same_pixels(out, undisturbed)


def test_machine_crash_after_the_journal_and_before_the_disk(tmp_path: Path, undisturbed: Path) -> None:
    out, log = tmp_path / "a.zarr", tmp_path / "log"
    log.mkdir()
    subprocess.run(submit(out, log), check=True, capture_output=True, timeout=WAIT)
    # what such a crash leaves: the journal ends without an end, a chunk it names is empty, another is gone
    journal = tmp_path / "a.zarr.run" / "journal.jsonl"
    lines = [line for line in journal.read_text().splitlines() if '"event": "end"' not in line]
    journal.write_text("\n".join(lines[:-3]) + "\n" + lines[-3][:40])
    (out / "smooth" / "c" / "20" / "0").write_bytes(b"")
    (out / "raw" / "c" / "25" / "0").unlink()
    subprocess.run(submit(out, log), check=True, capture_output=True, timeout=WAIT)
    assert lf.Run.open(out).verify().clean
    assert same_pixels(out, undisturbed)


def test_a_block_that_kills_its_worker_is_blamed_alone(tmp_path: Path) -> None:
    def deadly(block_id: tuple[int, ...] = (0, 0)) -> np.ndarray:
        if block_id[0] == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.02)
        return np.full((2, 3), block_id[0], "f4")

    lazy = da.map_blocks(deadly, chunks=((2,) * 20, (3,)), dtype="f4", meta=np.empty((0, 0), "f4"))
    with lf.cluster("local", n_workers=2, dashboard_address="127.0.0.1:0") as client:
        run = lf.run(xr.Dataset({"a": (("y", "x"), lazy)}), tmp_path / "a.zarr", client=client)
    assert run.failed.block.tolist() == ["a[7,0]"]
    assert "signal 9" in run.failed.message[0]
    assert run.status.done == 19


def test_ctrl_c_in_a_terminal_finishes_what_is_in_flight(tmp_path: Path, undisturbed: Path) -> None:
    out, log = tmp_path / "a.zarr", tmp_path / "log"
    log.mkdir()
    driver = subprocess.Popen(
        submit(out, log), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    wait_for(8, out)
    os.killpg(driver.pid, signal.SIGINT)  # a terminal signals every process of the job, the workers too
    _, said = driver.communicate(timeout=WAIT)
    assert driver.returncode == 130
    assert b"finishing the blocks in flight" in said
    assert b"Traceback" not in said
    run = lf.Run.open(out)
    assert 8 <= run.status.done < BANDS
    assert run.status.standing == "interrupted"
    subprocess.run(submit(out, log), check=True, capture_output=True, timeout=WAIT)
    # what was in flight was finished: only halos, whose rows no finished block keeps, are read again
    again = {band for band, count in reads_of(log).items() if count > 1}
    assert len(again) <= 3
    assert same_pixels(out, undisturbed)


def test_an_interrupt_does_not_reach_a_block_that_runs_alone(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(
        "import os, signal, sys, time\nimport dask.array as da, numpy as np, xarray as xr\n"
        "def make(block_id=None):\n"
        "    if block_id[0] == 1:\n"
        "        if 'lensflow.engine.alone' not in ' '.join(sys.orig_argv): os.kill(os.getpid(), signal.SIGKILL)\n"
        f"        open({str(tmp_path / 'alone')!r}, 'w').close(); time.sleep(1.5)\n"
        "    return np.zeros((2, 3), 'f4')\n"
        "def graph() -> xr.Dataset:\n"
        "    lazy = da.map_blocks(make, chunks=((2,) * 4, (3,)), dtype='f4', meta=np.empty((0, 0), 'f4'))\n"
        "    return xr.Dataset({'a': (('y', 'x'), lazy)})\n"
    )
    command = [
        sys.executable,
        "-m",
        "lensflow",
        "submit",
        str(mine),
        "--out",
        str(tmp_path / "a.zarr"),
        "--workers",
        "1",
    ]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    end = time.monotonic() + WAIT
    while not (tmp_path / "alone").exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    assert driver.wait(timeout=WAIT) == 0  # it was the last block: drained means done
    run = lf.Run.open(tmp_path / "a.zarr")
    assert run.status.quarantined == 0
    assert run.verify().clean


def test_a_second_driver_is_refused_while_the_first_runs(tmp_path: Path) -> None:
    out, log = tmp_path / "a.zarr", tmp_path / "log"
    log.mkdir()
    first = subprocess.Popen(submit(out, log), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(2, out)
    second = subprocess.run(submit(out, log), capture_output=True, text=True, check=False, timeout=WAIT)
    assert second.returncode == 5
    assert second.stderr.startswith("lensflow: ")
    assert f"process {first.pid}" in second.stderr
    assert "Traceback" not in second.stderr
    assert first.wait(timeout=WAIT) == 0
