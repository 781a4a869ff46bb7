"""The contract of a run, on real worker processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr

import lensflow as lf
from lensflow import events
from lensflow.engine.blocks import dataset_of
from lensflow.engine.journal import read
from lensflow.engine.lock import Lock
from lensflow.errors import BadInput, BadOption, BlockFailed, Infeasible, RunLocked, StoreConflict

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Client

SLOW = Path(__file__).parent / "slow_graph.py"
Bytes = dict[str, str]


def rows(function: Callable[..., np.ndarray], count: int = 12, **options: Any) -> xr.Dataset:
    lazy = da.map_blocks(function, chunks=((2,) * count, (3,)), dtype="f4", meta=np.empty((0, 0), "f4"), **options)
    return xr.Dataset({"a": (("y", "x"), lazy)})


def plain(block_id: tuple[int, ...] = (0, 0)) -> np.ndarray:
    return np.full((2, 3), block_id[0], "f4")


def test_a_graph_is_lazy_and_so_is_its_plan() -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something was computed")

    with dask.config.set(scheduler=refuse):
        lazy = lf.graph(SLOW)(bands=5)
        assert lf.plan(lazy).blocks == 5


def test_run_writes_what_the_graph_means(client: Client, tmp_path: Path) -> None:
    lazy = lf.graph(SLOW)(bands=7)
    run = lf.run(lazy, tmp_path / "a.zarr", client=client)
    assert run.status.standing == "done"
    with xr.open_zarr(tmp_path / "a.zarr", consolidated=False) as written:
        xr.testing.assert_identical(written.load().drop_attrs(), lazy.compute(scheduler="sync").drop_attrs())
    assert run.verify().clean


def test_shared_halo_work_is_done_once(client: Client, tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    lf.run(lf.graph(SLOW)(bands=40, log=str(tmp_path / "log")), tmp_path / "a.zarr", client=client)
    reads = Counter(path.name.split(".")[0] for path in (tmp_path / "log").iterdir())
    assert reads == Counter({str(band): 1 for band in range(40)})


@pytest.mark.parametrize("window", [1, 2, 5])
def test_shared_work_is_done_once_with_the_narrowest_window(client: Client, tmp_path: Path, window: int) -> None:
    (tmp_path / "log").mkdir()
    lazy = lf.graph(SLOW)(bands=12, log=str(tmp_path / "log"))
    lf.run(lazy, tmp_path / "a.zarr", client=client, window=window)
    assert len(list((tmp_path / "log").iterdir())) == 12


def test_any_number_of_workers_and_any_window_give_the_same_bytes(
    client: Client, tmp_path: Path, fingerprint: Callable[[Path], Bytes]
) -> None:
    lazy = lf.graph(SLOW)(bands=16)
    lf.run(lazy, tmp_path / "two.zarr", client=client)
    lf.run(lazy, tmp_path / "narrow.zarr", client=client, window=1)
    with lf.cluster("local", n_workers=1, threads_per_worker=3, dashboard_address="127.0.0.1:0") as other:
        lf.run(lazy, tmp_path / "threads.zarr", client=other)
    expected = fingerprint(tmp_path / "two.zarr")
    assert len(expected) > 32
    assert fingerprint(tmp_path / "narrow.zarr") == expected
    assert fingerprint(tmp_path / "threads.zarr") == expected


def test_a_second_run_does_nothing_and_a_damaged_store_is_mended(
    client: Client, tmp_path: Path, fingerprint: Callable[[Path], Bytes]
) -> None:
    out, lazy = tmp_path / "a.zarr", lf.graph(SLOW)(bands=10)
    lf.run(lazy, out, client=client)
    expected = fingerprint(out)
    again = lf.run(lazy, out, client=client)
    assert again.directory.state().sessions[-1]["pending"] == 0

    (out / "smooth" / "c" / "3" / "0").unlink()
    chunk = out / "raw" / "c" / "5" / "0"
    altered = bytearray(chunk.read_bytes())
    altered[len(altered) // 2] ^= 0xFF
    chunk.write_bytes(bytes(altered))
    verdict = again.verify()
    assert set(verdict.damaged) == {"smooth[3,0]", "smooth[5,0]"}
    assert verdict.damaged["smooth[3,0]"] == "smooth is missing"
    assert again.status.standing == "interrupted"

    mended = lf.run(lazy, out, client=client)
    assert mended.directory.state().sessions[-1]["pending"] == 2
    assert mended.verify().clean
    assert fingerprint(out) == expected


def test_another_run_on_the_store_is_refused_and_nothing_is_touched(
    client: Client, tmp_path: Path, fingerprint: Callable[[Path], Bytes]
) -> None:
    out = tmp_path / "a.zarr"
    lf.run(lf.graph(SLOW)(bands=4), out, client=client)
    before = fingerprint(tmp_path)
    with pytest.raises(StoreConflict, match="argument bands is 5, it was 4"):
        lf.run(lf.graph(SLOW)(bands=5), out, client=client)
    with pytest.raises(StoreConflict, match=r"argument seconds is 0\.001"):
        lf.run(lf.graph(SLOW)(bands=4, seconds=0.001), out, client=client)
    assert fingerprint(tmp_path) == before
    run = lf.run(lf.graph(SLOW)(bands=4, seconds=0.001), out, client=client, accept_changes=True)
    assert run.status.standing == "done"
    assert "the argument seconds is 0.001" in run.notes.message[0]  # never silent


def test_a_store_of_unknown_origin_is_left_alone(client: Client, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(StoreConflict, match="no lensflow run made it"):
        lf.run(rows(plain), tmp_path / "mine", client=client)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "thesis.tex"]


def test_two_runs_on_one_store_the_second_refuses(client: Client, tmp_path: Path) -> None:
    out = tmp_path / "a.zarr"
    lf.run(rows(plain), out, client=client)
    holder = json.dumps({"token": "x", "host": "another-host", "pid": 1, "started": 0, "since": "now"})
    (tmp_path / "a.zarr.run" / "lock").write_text(holder)
    with pytest.raises(RunLocked, match="another-host"):
        lf.run(rows(plain), out, client=client)
    (tmp_path / "a.zarr.run" / "lock").unlink()
    with Lock(tmp_path / "a.zarr.run" / "lock"), pytest.raises(RunLocked):
        lf.run(rows(plain), out, client=client)


def test_an_error_that_passes_is_retried(client: Client, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()

    def flaky(block_id: tuple[int, ...] = (0, 0)) -> np.ndarray:
        mark = Path(marks, str(block_id[0]))
        if block_id[0] in {2, 5} and not mark.exists():
            mark.touch()
            raise OSError("the file system hiccups")
        return plain(block_id)

    run = lf.run(rows(flaky), tmp_path / "a.zarr", client=client)
    assert run.status.standing == "done"
    retries = [one for one in read(run.directory.events) if one["event"] == "retry"]
    assert sorted(one["block"] for one in retries) == ["a[2,0]", "a[5,0]"]
    assert run.blocks.set_index("block").attempts["a[2,0]"] == 2


def test_a_block_that_fails_for_good_is_quarantined_with_its_reason(client: Client, tmp_path: Path) -> None:
    cure = tmp_path / "cure"

    def poisoned(block_id: tuple[int, ...] = (0, 0)) -> np.ndarray:
        if block_id[0] == 4 and not cure.exists():
            raise ValueError("this band cannot be made")
        return plain(block_id)

    data = rows(poisoned)
    data["m"] = (data.a.dims, da.ones_like(data.a.data, dtype="u2"), {"quarantine_value": 8})
    run = lf.run(data, tmp_path / "a.zarr", client=client)
    assert run.status.standing == "quarantined"
    (failed,) = run.failed.to_dict("records")
    assert failed["block"] == "a[4,0]"
    assert failed["message"] == "this band cannot be made"
    assert "poisoned" in failed["traceback"]
    with run.open_store() as written:
        assert np.isnan(written.a[8:10]).all()
        assert (written.m[8:10] == 8).all()
        assert written.a.isnull().sum() == 6
    assert "this band cannot be made" in run.report().read_text()

    lf.run(data, tmp_path / "a.zarr", client=client)  # an ordinary resume leaves it where it is
    assert run.status.quarantined == 1
    cure.touch()
    lf.run(data, tmp_path / "a.zarr", client=client, failed_only=True)
    assert run.failed.empty
    assert run.verify().clean


def test_on_error_raise_stops_at_the_first(client: Client, tmp_path: Path) -> None:
    def poisoned(block_id: tuple[int, ...] = (0, 0)) -> np.ndarray:
        raise ValueError(f"no {block_id}")

    with pytest.raises(BlockFailed, match=r"a\[\d+,0\] failed: no"):
        lf.run(rows(poisoned), tmp_path / "a.zarr", client=client, on_error="raise", retries=0)
    assert lf.Run.open(tmp_path / "a.zarr").status.standing == "failed"


def noting(block_id: tuple[int, ...] = (0, 0)) -> np.ndarray:
    if block_id[0] % 5 == 0:
        events.note("odd" if block_id[0] else "first", f"band {block_id[0]} is odd", band=block_id[0])
    return plain(block_id)


def test_notes_reach_the_run_once_and_say_where_they_were_made(client: Client, tmp_path: Path) -> None:
    run = lf.run(rows(noting), tmp_path / "a.zarr", client=client)
    assert sorted(run.notes.message) == ["band 0 is odd", "band 10 is odd", "band 5 is odd"]
    assert json.loads((run.directory.path / "report.json").read_text())["note_kinds"] == {"first": 1, "odd": 2}
    entries = [one for one in read(run.directory.events) if one["event"] == "note"]
    assert {one["worker"] for one in entries} <= client.scheduler_info(n_workers=-1)["workers"].keys()
    assert all(one["made"] <= one["t"] + 0.1 for one in entries)


@pytest.mark.parametrize(("strict", "failed"), [(True, [0, 5, 10]), (("first",), [0]), (("other",), []), (False, [])])
def test_strict_fails_the_blocks_that_the_chosen_notes_are_about(
    client: Client, tmp_path: Path, strict: tuple[str, ...] | Literal[True, False], failed: list[int]
) -> None:
    run = lf.run(rows(noting), tmp_path / "a.zarr", client=client, strict=strict)
    assert set(run.failed.block) == {f"a[{place},0]" for place in failed}
    assert all(message.startswith("strict: band") for message in run.failed.message)
    assert len(run.notes) == 3
    written = run.open_store().a.values
    assert all(np.isnan(written[2 * place]).all() == (place in failed) for place in range(12)), "fill values, no pixels"


def test_strict_reaches_every_block_that_uses_what_was_noted(client: Client, tmp_path: Path) -> None:
    source = da.map_blocks(noting, chunks=((2,) * 12, (3,)), dtype="f4", meta=np.empty((0, 0), "f4"))
    halo = da.map_overlap(lambda band: band * 1, source, depth={0: 1, 1: 0}, boundary="none", dtype="f4")
    lazy = xr.Dataset({"a": (("y", "x"), halo)})
    run = lf.run(lazy, tmp_path / "a.zarr", client=client, strict=("first",))
    assert set(run.failed.block) == {"a[0,0]", "a[1,0]"}
    with pytest.raises(BlockFailed, match="strict: band"):
        lf.run(lazy, tmp_path / "b.zarr", client=client, strict=True, on_error="raise")


def test_two_runs_on_one_client_hear_their_own_notes(client: Client, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(lf.run, rows(noting), tmp_path / f"{name}.zarr", client=client) for name in "ab"]
        assert [len(job.result().notes) for job in jobs] == [3, 3]


def test_a_plan_that_does_not_fit_is_refused_before_anything_is_written(client: Client, tmp_path: Path) -> None:
    large = xr.Dataset({"a": (("y", "x"), da.zeros((40_000, 10_000), chunks=(20_000, 10_000)) + 1)})
    with pytest.raises(Infeasible, match="a worker would need"):
        lf.run(large, tmp_path / "a.zarr", client=client)
    assert list(tmp_path.iterdir()) == []


def test_functions_that_workers_cannot_import_are_refused_not_awaited(client: Client, tmp_path: Path) -> None:
    code = "import numpy as np\ndef make(block_id=None):\n    return np.zeros((2, 3), 'f4')\n"
    (tmp_path / "onlyhere.py").write_text(code)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        import onlyhere  # type: ignore[import-not-found]  # noqa: PLC0415

        with pytest.raises(BadInput, match="No module named 'onlyhere'"):
            lf.run(rows(onlyhere.make), tmp_path / "a.zarr", client=client)


def test_interrupt_drains_and_resume_finishes(
    client: Client, tmp_path: Path, fingerprint: Callable[[Path], Bytes]
) -> None:
    lazy = lf.graph(SLOW)(bands=30, seconds=0.05)
    lf.run(lazy, tmp_path / "whole.zarr", client=client)
    journal = tmp_path / "a.zarr.run" / "journal.jsonl"

    def interrupt_in_the_middle() -> None:
        while sum(one["event"] == "done" for one in read(journal)) < 5:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    user = threading.Thread(target=interrupt_in_the_middle)
    user.start()
    run = lf.run(lazy, tmp_path / "a.zarr", client=client, window=4)
    user.join()
    status = run.status
    assert status.standing == "interrupted"
    assert 0 < status.done < 30
    lf.run(lazy, tmp_path / "a.zarr", client=client)
    assert run.status.standing == "done"
    assert fingerprint(tmp_path / "a.zarr") == fingerprint(tmp_path / "whole.zarr")


def test_changed_inputs_are_named(client: Client, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "x.txt").write_text("1")
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from pathlib import Path\nimport dask.array as da, xarray as xr\n"
        "def graph(source: Path) -> xr.Dataset:\n"
        "    value = float((source / 'x.txt').read_text())\n"
        "    return xr.Dataset({'a': (('y',), da.full(8, value, chunks=2))})\n"
    )
    graph = lf.graph(mine)
    lf.run(graph(folder), tmp_path / "a.zarr", client=client)
    (folder / "x.txt").write_text("22")
    with pytest.raises(StoreConflict, match=r"x\.txt has changed"):
        lf.run(graph(folder), tmp_path / "a.zarr", client=client)


def test_a_tree_of_groups_and_of_grids_is_written(client: Client, tmp_path: Path) -> None:
    base = da.arange(24, chunks=6, dtype="f8")
    tree = xr.DataTree.from_dict(
        {
            "/": xr.Dataset({"total": base.sum()}, attrs={"title": "root"}),
            "/a": xr.Dataset({"v": (("t",), base), "w": (("t",), base.astype("i4")), "flag": (("t",), base > 3)}),
            "/a/b": xr.Dataset({"v": (("t",), base.rechunk(12))}, coords={"t": np.arange(24)}),
            "/empty": xr.Dataset(attrs={"note": "nothing lazy here"}),
        }
    )
    run = lf.run(tree, tmp_path / "a.zarr", client=client)
    assert run.status.total == 1 + 4 + 2
    with run.open_store() as written:
        assert written["/a/flag"].dtype == bool
        assert written["/a/w"].dtype == np.int32
        for group in ("", "a", "a/b", "empty"):
            expected = dataset_of(tree, group).compute(scheduler="sync")
            xr.testing.assert_identical(dataset_of(written, group).load(), expected)
    assert run.verify().clean


def test_a_notebook_sees_the_run(client: Client, tmp_path: Path) -> None:
    run = lf.run(rows(plain), tmp_path / "a.zarr", client=client)
    html = run._repr_html_()
    assert "12 of 12" in html
    assert "blocks" in lf.plan(rows(plain))._repr_html_()
    assert run.failed.empty
    assert set(run.blocks.block) == {f"a[{row},0]" for row in range(12)}
    shutil.rmtree(tmp_path / "a.zarr")
    assert not lf.Run.open(tmp_path / "a.zarr").verify().clean
    assert lf.run(rows(plain), tmp_path / "a.zarr", client=client).verify().clean


def test_metadata_and_coordinates_are_verified_and_mended(
    client: Client, tmp_path: Path, fingerprint: Callable[[Path], Bytes]
) -> None:
    out, lazy = tmp_path / "a.zarr", lf.graph(SLOW)(bands=4)
    run = lf.run(lazy, out, client=client)
    expected = fingerprint(out)
    shutil.rmtree(out / "x" / "c")  # the values of a coordinate
    (out / "zarr.json").write_text((out / "zarr.json").read_text().replace("slow_graph", "other_graph"))
    verdict = run.verify()
    assert set(verdict.altered) == {"zarr.json", "x/c/0"}
    assert not verdict.clean
    shutil.rmtree(out / "smooth")  # and a whole variable, metadata and all
    lf.run(lazy, out, client=client)
    assert run.verify().clean
    assert fingerprint(out) == expected


def test_a_lost_journal_costs_work_but_no_file(client: Client, tmp_path: Path) -> None:
    out = tmp_path / "a.zarr"
    run = lf.run(rows(plain), out, client=client)
    (out / "thesis.tex").write_text("years of work")
    run.directory.journal.unlink()
    assert lf.run(rows(plain), out, client=client).verify().clean
    assert (out / "thesis.tex").read_text() == "years of work"


def test_what_two_grids_share_is_done_once(client: Client, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir()

    def read_row(block_id: tuple[int, ...] = (0, 0)) -> np.ndarray:
        Path(log, f"{block_id[0]}.{time.time_ns()}").touch()
        return plain(block_id)

    image = rows(read_row, count=20).a
    run = lf.run(xr.Dataset({"image": image * 2, "profile": image.sum("x")}), tmp_path / "a.zarr", client=client)
    assert run.status.total == 40
    assert Counter(path.name.split(".")[0] for path in log.iterdir()) == Counter({str(row): 1 for row in range(20)})


@pytest.mark.parametrize("made", ["float64", "int64", "masked"])
def test_values_that_the_store_cannot_hold_are_refused_not_wrapped(client: Client, tmp_path: Path, made: str) -> None:
    def wrong() -> np.ndarray:
        values = np.full((2, 3), 300)
        return np.ma.masked_less(values, 9).astype("u1") if made == "masked" else values.astype(made)

    lazy = da.map_blocks(wrong, chunks=((2,) * 3, (3,)), dtype="u1", meta=np.empty((0, 0), "u1"))
    run = lf.run(xr.Dataset({"a": (("y", "x"), lazy)}), tmp_path / "a.zarr", client=client, retries=0)
    assert run.status.quarantined == 3
    assert run.failed.message.str.contains("metadata promise uint8").all()


def test_a_graphs_dataset_changed_by_hand_is_not_taken_for_the_graphs(client: Client, tmp_path: Path) -> None:
    graph = lf.graph(SLOW)
    lf.run(graph(bands=4), tmp_path / "a.zarr", client=client)
    changed = graph(bands=4)
    changed["smooth"] = changed.smooth * 5  # its attributes still say that the graph made it
    with pytest.raises(StoreConflict, match="made by hand"):
        lf.run(changed, tmp_path / "a.zarr", client=client)
    mixed = graph(bands=4)
    mixed["smooth"] = graph(bands=4, seconds=0.001).smooth
    with pytest.raises(StoreConflict, match="made by hand"):
        lf.run(mixed, tmp_path / "a.zarr", client=client)


def test_after_a_raise_the_block_is_tried_again(client: Client, tmp_path: Path) -> None:
    cure = tmp_path / "cure"

    def poisoned(block_id: tuple[int, ...] = (0, 0)) -> np.ndarray:
        if block_id[0] == 2 and not cure.exists():
            raise ValueError("not yet")
        return plain(block_id)

    data = rows(poisoned)
    with pytest.raises(BlockFailed):
        lf.run(data, tmp_path / "a.zarr", client=client, on_error="raise")
    cure.touch()
    assert lf.run(data, tmp_path / "a.zarr", client=client, on_error="raise").status.standing == "done"


def test_options_are_checked_by_name_and_type(client: Client, tmp_path: Path) -> None:
    for options, sentence in (
        ({"on_eror": "raise"}, "Did you mean 'on_error'"),
        ({"on_error": "rise"}, "expected quarantine|raise"),
        ({"window": -1}, "expected at least 1"),
    ):
        with pytest.raises(BadOption, match=sentence.replace("|", r"\|")):
            lf.run(rows(plain), tmp_path / "a.zarr", client=client, **options)
    with pytest.raises(BadOption, match="names of run directories"):
        lf.run(rows(plain), tmp_path / "a.run", client=client)


def test_notes_that_differ_in_their_details_are_all_kept(client: Client, tmp_path: Path) -> None:
    def noting(block_id: tuple[int, ...] = (0, 0)) -> np.ndarray:
        events.note("corrupt", "a file is corrupt", file=Path(f"{block_id[0]}.fits"), value=np.float32("nan"))
        return plain(block_id)

    run = lf.run(rows(noting, count=4), tmp_path / "a.zarr", client=client)
    assert sorted(one["file"] for one in run.notes.fields) == [f"{row}.fits" for row in range(4)]


def test_a_shared_result_that_failed_is_computed_anew(client: Client, tmp_path: Path) -> None:
    """An error that passes, in what several blocks need, must not be answered again from memory."""

    def band(block_id: tuple[int, ...] = (0, 0)) -> np.ndarray:
        with (tmp_path / "tries").open("a") as file:
            file.write(f"{block_id[0]}\n")
        if block_id[0] == 3 and (tmp_path / "tries").read_text().split().count("3") == 1:
            raise OSError("the disk was away")
        return np.full((4, 3), block_id[0], "f4")

    bands = da.map_blocks(band, chunks=((4,) * 8, (3,)), dtype="f4", meta=np.empty((0, 0), "f4"))
    halo = da.map_overlap(
        np.negative, bands, depth={0: 1, 1: 0}, boundary="none", dtype="f4", meta=np.empty((0, 0), "f4")
    )
    lazy = xr.Dataset({"a": (("y", "x"), halo)})
    run = lf.run(lazy, tmp_path / "a.zarr", client=client, progress=False, window=2)
    assert run.status.standing == "done"
    assert Counter((tmp_path / "tries").read_text().split())["3"] >= 2
