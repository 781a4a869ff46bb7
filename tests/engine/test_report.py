"""The report: all that happened is on the page, nothing on it is code, and it is written whatever happened."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr

from lensflow.engine import store
from lensflow.engine.identity import Identity
from lensflow.engine.journal import Log
from lensflow.engine.plan import Plan
from lensflow.engine.record import digest
from lensflow.engine.report import gather, write_report
from lensflow.engine.rundir import RunDirectory
from lensflow.engine.runs import Run
from lensflow.engine.work import Work

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = "<script>alert(1)</script>\"'&<img src=x onerror=alert(2)>"
PLAN = Plan(4, 9, 2, 2048, 4096, 1024, 1, 100, 2, 2**30, "blur")
VALUES = np.arange(16.0).reshape(4, 4)


class Page(HTMLParser):
    """The elements, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def record(values: np.ndarray[Any, Any], *, name: str = "a", seconds: float = 0.5) -> dict[str, Any]:
    return {
        "attempts": 1,
        "region": [],
        "variables": {name: digest(values).as_json()},
        "began": 0.0,
        "seconds": seconds,
        "peak_rss": 3 * 2**20,
        "host": "h",
        "pid": 5,
    }


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    """A run of four blocks: three done, one given up, and all kinds of trouble on the way."""
    found = RunDirectory.of(tmp_path / "o.zarr")
    found.path.mkdir()
    identity = Identity(HOSTILE, "abc123", {"sigma": 60.0, "note": HOSTILE}, "1.0", "geo", {f"/in/{HOSTILE}": [1, 2]})
    found.write(identity, source=HOSTILE, plan=PLAN.as_json(), blocks=4)
    work = Work.of(xr.Dataset({"a": (("y", "x"), da.from_array(VALUES, chunks=2))}))
    store.create(found.out, work.tree, work.layouts)
    with Log(found.journal) as journal:
        journal.append("session", host=HOSTILE, pid=1, workers=2, threads=4, dashboard=None, pending=4, total=4)
        for place, block in enumerate(list(work.blocks)[:3]):
            values = VALUES[block.region]
            if place == 0:
                values = np.where(values == 0, np.nan, values)
            journal.append("done", block=block.id, **record(values, seconds=float(place + 1)))
        journal.append(
            "quarantined", block="a[1,1]", attempts=3, exception="ValueError", message=HOSTILE, traceback=HOSTILE
        )
        journal.append("end", outcome="quarantined", seconds=75.0)
    with Log(found.events) as events:
        events.append("note", kind=HOSTILE, message=f"{HOSTILE} one", fields={"file": HOSTILE})
        events.append("note", kind="corrupt-file", message="b.fits is short", fields={})
        events.append("retry", block="a[1,1]", attempt=1, wait=0.5, exception="OSError", message="m", traceback="t")
        events.append("error", kind="BlockFailed", message=f"stopped by {HOSTILE}")
    return found


def page_of(directory: RunDirectory) -> Page:
    return Page(write_report(directory).read_text(encoding="utf-8"))


def test_hostile_text_is_shown_and_never_run(directory: RunDirectory) -> None:
    page = page_of(directory)
    assert "script" not in page.tags
    assert page.tags.count("img") == 1, "the quick look alone"
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    for told in (f"{HOSTILE} one", f"stopped by {HOSTILE}", f"ValueError: {HOSTILE}", f"process 1 on {HOSTILE}"):
        assert told in page.text


def test_the_page_is_self_contained(directory: RunDirectory) -> None:
    page = page_of(directory)
    assert not {"link", "iframe", "object"} & set(page.tags)
    assert all((value or "").startswith("data:image/png;base64,") for name, value in page.attributes if name == "src")
    assert not [value for name, value in page.attributes if name == "href"]


def test_the_page_tells_the_story(directory: RunDirectory) -> None:
    text = page_of(directory).text
    for told in (
        "3 of 4 blocks are written, in 75 s on 2 workers; 1 quarantined (failed);",
        "1 attempt failed and was repeated; 2 notes on the input.",
        f"lensflow resume {directory.out} --failed-only",
        "a[1,1]",
        "3 attempts",
        "corrupt-file : 1",  # the kind is bold
        "b.fits is short",
        "predicted 1.0 GiB (at blur), measured 3.0 MiB",
        "75 s",
        "abc123",
        "1, 2.0 KiB on disk",
    ):
        assert told in text


def test_the_picture_is_a_picture(directory: RunDirectory) -> None:
    (source,) = [value for name, value in page_of(directory).attributes if name == "src"]
    assert base64.b64decode((source or "").partition(",")[2]).startswith(b"\x89PNG")


def test_the_same_as_json(directory: RunDirectory) -> None:
    write_report(directory)
    found = json.loads((directory.path / "report.json").read_text(encoding="utf-8"))
    assert found["blocks"] == {
        "total": 4, "done": 3, "quarantined": 1, "damaged": 0, "retried": 1,
        "write_seconds": {"p5": 1.1, "p50": 2.0, "p95": 2.9}, "peak_rss": 3 * 2**20,
    }  # fmt: skip
    assert found["variables"]["a"] == {
        "nbytes": 12 * 8, "minimum": 1.0, "maximum": 13.0, "nan_fraction": pytest.approx(1 / 12),
    }  # fmt: skip
    assert found["note_kinds"] == {HOSTILE: 1, "corrupt-file": 1}
    assert found["plan"] == PLAN.as_json()
    assert found["inputs"] == 1
    assert found["sessions"][0]["outcome"] == "quarantined"
    assert found["quarantined"][0]["message"] == HOSTILE
    assert found["identity"]["arguments"]["note"] == HOSTILE
    assert "inputs" not in found["identity"]


def test_statistics_are_added_up_by_group_and_variable(directory: RunDirectory) -> None:
    with Log(directory.journal) as journal:
        for group, offset in (("g/deep", 10), ("g", 20)):
            for place in range(2):
                values = np.array([offset + place, np.nan])
                journal.append("done", block=f"{group}/b[{place}]", **record(values, name="c"))
    found = gather(directory)["variables"]
    assert found["g/deep/c"] == {"nbytes": 32, "minimum": 10.0, "maximum": 11.0, "nan_fraction": 0.5}
    assert found["g/c"]["maximum"] == 21.0


def test_a_run_that_has_only_begun(tmp_path: Path) -> None:
    found = RunDirectory.of(tmp_path / "o.zarr")
    found.path.mkdir()
    found.write(Identity("g", "", {}, "1", "geo", {}), source=None, plan=PLAN.as_json(), blocks=4)
    page = page_of(found)
    assert "0 of 4 blocks are written; 4 missing." in page.text
    assert "No picture:" in page.text


def test_a_driver_that_died_is_told(directory: RunDirectory) -> None:
    with Log(directory.journal) as journal:
        journal.append("session", host="h", pid=2, workers=0, threads=0, dashboard=None, pending=1, total=4)
    assert "did not end: killed, or still running" in page_of(directory).text


def test_a_finished_run(directory: RunDirectory) -> None:
    with Log(directory.journal) as journal:
        journal.append("done", block="a[1,1]", **record(VALUES[2:, 2:]))
    text = page_of(directory).text
    assert "All 4 blocks are written, in 75 s on 2 workers;" in text
    assert "Quarantined blocks" not in text


PICTURE = '''"""A sample."""
import dask.array as da
import xarray as xr


def graph(n: int = 4) -> xr.Dataset:
    """Make ones."""
    return xr.Dataset({"a": ("x", da.ones(n, chunks=2))})


def picture(tree):
    PICTURE
'''


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("from matplotlib.figure import Figure; return Figure()", None),
        (f"raise RuntimeError({HOSTILE!r})", f"No picture: RuntimeError: {HOSTILE}"),
        ("return None", "No picture: AttributeError"),
    ],
)
def test_the_graphs_own_picture_is_drawn_and_its_failure_told(tmp_path: Path, body: str, expected: str | None) -> None:
    path = tmp_path / "mine.py"
    path.write_text(PICTURE.replace("PICTURE", body))
    from lensflow.engine.catalog import graph  # noqa: PLC0415

    found = RunDirectory.of(tmp_path / "o.zarr")
    found.path.mkdir()
    work = Work.of(graph(path)())
    found.write(work.identity, source=work.graph.source if work.graph else None, plan=PLAN.as_json(), blocks=2)
    store.create(found.out, work.tree, work.layouts)
    page = page_of(found)
    if expected is None:
        assert "img" in page.tags
    else:
        assert expected in page.text
        assert "script" not in page.tags


@pytest.mark.parametrize(
    "data",
    [
        xr.Dataset({"line": ("x", da.ones(5, chunks=2))}),
        xr.Dataset({"cube": (("t", "y", "x"), da.ones((2, 3, 4), chunks=2))}),
        xr.Dataset({"nothing": ("x", da.ones(0, chunks=2))}),
        xr.Dataset({"scalar": ((), da.ones(()))}),
        xr.Dataset({"nan": (("y", "x"), da.full((4, 4), np.nan, chunks=2))}),
    ],
    ids=lambda data: next(iter(data.data_vars)),
)
def test_any_store_can_be_reported(tmp_path: Path, data: xr.Dataset) -> None:
    found = RunDirectory.of(tmp_path / "o.zarr")
    found.path.mkdir()
    work = Work.of(data)
    found.write(work.identity, source=None, plan=PLAN.as_json(), blocks=len(work.blocks))
    store.create(found.out, work.tree, work.layouts)
    page = page_of(found)
    assert ("img" in page.tags) != ("No picture:" in page.text)


def test_a_run_on_disk_says_where_it_stands(directory: RunDirectory) -> None:
    run = Run.open(directory.path)
    status = run.status
    assert (status.standing, status.total, status.done, status.quarantined, status.pending) == (
        "quarantined",
        4,
        3,
        1,
        0,
    )
    assert list(run.failed["block"]) == ["a[1,1]"]
    assert list(run.notes["kind"]) == [HOSTILE, "corrupt-file"]
    assert "<script>" not in run._repr_html_()
