"""The counters for Prometheus: on Dask's own page, right, and bounded in number."""

from __future__ import annotations

import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import prometheus_client
import pytest
from prometheus_client.parser import text_string_to_metric_families

import lensflow as lf
from lensflow.engine.board import OTHER, Board
from lensflow.engine.metrics import SECONDS, STAGES, Histogram, Measured, expose, withdraw

if TYPE_CHECKING:
    from distributed import Client

SLOW = Path(__file__).parent / "slow_graph.py"


def exposed() -> dict[str, float]:
    text = prometheus_client.generate_latest().decode()
    return samples(text)


def samples(text: str, out: str = "") -> dict[str, float]:
    """Return the values on a page by name and labels; of runs only that of a store: other tests' are shown as well."""
    found = {}
    families = list(text_string_to_metric_families(text))
    infos = [one.labels for family in families for one in family.samples if one.name == "lensflow_run_info"]
    runs = {labels["run"] for labels in infos if labels["out"] == out}
    for family in families:
        for one in family.samples:
            if "run" in one.labels and one.labels["run"] not in runs:
                continue
            labels = ",".join(f"{name}={value}" for name, value in sorted(one.labels.items()) if name != "run")
            found[f"{one.name}{{{labels}}}"] = one.value
    return found


def test_a_value_on_a_bound_belongs_below_it() -> None:
    found = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 9.0):
        found.add(value)
    assert found.buckets() == [("1", 2.0), ("2", 4.0), ("+Inf", 5.0)]
    assert found.total == 14.0


def test_schedulers_of_one_process_are_added_up_and_withdrawn() -> None:
    one, other = Measured(Board()), Measured(Board())
    for measured in (one, other):
        expose(measured)
        measured.task("blur", 0.2)
    assert exposed()["lensflow_task_seconds_count{stage=blur}"] == 2
    withdraw(other)
    assert exposed()["lensflow_task_seconds_count{stage=blur}"] == 1
    withdraw(one)
    assert "lensflow_task_seconds_count{stage=blur}" not in exposed()


def test_the_number_of_stages_is_bounded() -> None:
    measured = Measured(Board())
    for number in range(STAGES + 50):
        measured.task(f"stage{number}", 1.0)
    assert len(measured.stages) == STAGES + 1
    assert measured.stages[OTHER].buckets()[-1] == ("+Inf", 50.0)
    assert len(SECONDS) < 20


def test_dasks_own_page_shows_a_runs_blocks(client: Client, tmp_path: Path) -> None:
    run = lf.run(lf.graph(SLOW)(bands=9), tmp_path / "a.zarr", client=client)
    address = client.dashboard_link.rpartition("/")[0]
    with urllib.request.urlopen(f"{address}/metrics", timeout=20) as answer:
        found = samples(answer.read().decode(), str(run.directory.out))
    assert found["lensflow_blocks_total{state=done}"] == run.status.done == 9
    assert found["lensflow_blocks_pending{}"] == 0
    assert found["lensflow_written_bytes_total{}"] == 9 * 2 * 8 * 64 * 4
    assert found["lensflow_block_seconds_count{}"] >= 9
    assert found["lensflow_task_seconds_count{stage=write-smooth}"] >= 9
    assert any(name.startswith("dask_scheduler_workers") for name in found), "beside Dask's own"
    assert found["lensflow_run_info{name=slow_graph,out=%s,outcome=done}" % run.directory.out] == pytest.approx(1)  # noqa: UP031
