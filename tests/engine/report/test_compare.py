"""Two runs side by side: what differs is named, identical pixels are told from different ones, ratios are right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import lensflow as lf
from lensflow.cli import main
from lensflow.engine.report import compare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Client

    from lensflow.engine.rundir import RunDirectory

SLOW = Path(__file__).parents[1] / "slow_graph.py"


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with lf.cluster("local", n_workers=2, memory_limit="1GiB", dashboard_address="127.0.0.1:0") as one:
        yield one


@pytest.fixture(scope="module")
def runs(client: Client, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunDirectory]:
    folder = tmp_path_factory.mktemp("runs")
    graph = lf.graph(SLOW)
    words: dict[str, dict[str, float]] = {
        "one": {"bands": 5},
        "same": {"bands": 5},
        "longer": {"bands": 6},
        "slower": {"bands": 5, "seconds": 0.2},
    }
    return {
        name: lf.run(graph(**given), folder / f"{name}.zarr", client=client).directory for name, given in words.items()
    }


def test_the_same_twice(runs: dict[str, RunDirectory]) -> None:
    found = compare(runs["one"], runs["same"])
    assert found["differences"] == []
    assert found["pixels"] == {"identical": 5, "different": [], "only_first": 0, "only_second": 0}
    assert {one["what"]: one["ratio"] for one in found["figures"]}["tasks"] == 1.0


def test_other_arguments_are_named_and_other_pixels_told(runs: dict[str, RunDirectory]) -> None:
    found = compare(runs["one"], runs["longer"])
    named = {one["what"]: (one["first"], one["second"]) for one in found["differences"]}
    assert named["argument bands"] == ("5", "6")
    assert "geometry" in named
    # the last band of the one is an inner band of the other: its neighbours differ
    assert found["pixels"] == {"identical": 4, "different": ["smooth[4,0]"], "only_first": 0, "only_second": 1}
    assert {one["what"]: one["ratio"] for one in found["figures"]}["blocks"] == 1.2


def test_the_slower_one_is_slower_step_by_step(runs: dict[str, RunDirectory]) -> None:
    found = compare(runs["one"], runs["slower"])
    assert max(one["second"] for one in found["stages"] if one["second"]) >= 0.2
    assert found["pixels"]["identical"] == 5


def test_the_command_writes_a_page_and_its_numbers(
    runs: dict[str, RunDirectory], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "c.html"
    words = ["report", "--compare", str(runs["one"].out), str(runs["longer"].out), "--out", str(page)]
    assert main(words) == 0
    assert str(page) in capsys.readouterr().out
    assert "4 blocks are identical, 1 differ; 0 are in the first only, 1 in the second." in page.read_text()
    assert json.loads(page.with_suffix(".json").read_text()) == json.loads(
        json.dumps(compare(runs["one"], runs["longer"]))
    )


@pytest.mark.parametrize("words", [["report"], ["report", "--compare", "only-one.zarr"], ["report", "a", "b", "c"]])
def test_too_few_or_too_many_runs(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "Traceback" not in capsys.readouterr().err
