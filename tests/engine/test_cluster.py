"""Profiles become clusters; what cannot is said in a sentence."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import dask
import pytest

import lensflow as lf
from lensflow.engine.cluster import profile, profiles, promised, slots, usable_memory, worker_memory
from lensflow.errors import BadInput, UnknownName

if TYPE_CHECKING:
    from pathlib import Path

    from distributed import Client


def test_a_busy_dashboard_port_is_no_obstacle() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with lf.cluster("local", n_workers=1, dashboard_address=address) as client:
            assert client.dashboard_link
            assert address not in client.dashboard_link


def test_values_of_the_profile_and_of_the_call() -> None:
    with lf.cluster("local", n_workers=1, memory_limit="500MiB", dashboard_address="127.0.0.1:0") as client:
        assert slots(client) == 1
        assert worker_memory(client) == 500 * 2**20
        (threads,) = client.run(os.environ.get, "OPENBLAS_NUM_THREADS").values()
        assert threads == "1"  # one thread a task, everywhere
        assert all("127.0.0.1" in address for address in client.nthreads())  # nobody else can reach them
        with lf.cluster(client.scheduler.address) as other:  # join a running one
            assert slots(other) == 1


def test_a_profile_by_path(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text("lensflow: {cluster: {class: distributed.LocalCluster, options: {n_workers: 1}}}")
    assert profile(own)["lensflow"]["cluster"]["options"] == {"n_workers": 1}
    assert "local" in profiles()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[1", "not valid YAML"),
        ("distributed: {}", "lensflow.cluster.class is missing"),
        ("3", "not a cluster profile"),
    ],
)
def test_bad_profiles(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(BadInput, match=sentence), lf.cluster(tmp_path / "bad.yaml"):
        pass


def test_names_that_lead_nowhere(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'local'"):
        profile("locla")
    with pytest.raises(BadInput, match="no such profile file"):
        profile(tmp_path / "none.yaml")
    (tmp_path / "odd.yaml").write_text("lensflow: {cluster: {class: nowhere.Cluster}}")
    with pytest.raises(BadInput, match="cannot be imported"), lf.cluster(tmp_path / "odd.yaml"):
        pass


def test_what_dask_leaves_of_a_limit_is_what_a_plan_may_use(client: Client) -> None:
    limit = worker_memory(client)
    assert limit is not None
    with dask.config.set({"distributed.worker.memory.pause": 0.8, "distributed.worker.memory.terminate": 0.95}):
        assert usable_memory(client) == int(0.8 * limit)
    with dask.config.set({"distributed.worker.memory.pause": False, "distributed.worker.memory.terminate": 0.95}):
        assert usable_memory(client) == int(0.95 * limit)
    with dask.config.set({"distributed.worker.memory.pause": False, "distributed.worker.memory.terminate": False}):
        assert usable_memory(client) == limit


def test_a_profile_says_what_its_workers_may_use() -> None:
    assert promised("local", {"memory_limit": "10GiB", "threads_per_worker": 2}) == (9 << 30, 2)
    assert promised("tcp://there:8786", {}) == (None, 1)
    memory, threads = promised("slurm", {"cores": 2, "processes": 2, "memory": "4GiB"})
    assert memory is not None
    assert (1.5 * 2**30 < memory <= 1.8 * 2**30, threads) == (True, 1)
