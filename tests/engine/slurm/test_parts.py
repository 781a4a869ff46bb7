"""The parts that need no SLURM: what is parsed, written, counted, and concluded."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import dask
import pytest
from distributed import Client, LocalCluster, get_worker
from hypothesis import given
from hypothesis import strategies as st

from lensflow.engine.cluster import cluster, profile
from lensflow.engine.slurm import knock, queue
from lensflow.engine.slurm.allocation import size_here
from lensflow.engine.slurm.causes import explained
from lensflow.engine.slurm.certificates import issue
from lensflow.engine.slurm.demand import Demand, LargeDemand
from lensflow.engine.slurm.inquest import find
from lensflow.engine.slurm.queue import Listed, QueueError, sbatch, scancel, squeue
from lensflow.engine.slurm.record import Folder, cancel, jobs, pending
from lensflow.engine.slurm.script import NANNY, Shape, Words, job_name, job_of, job_script, pilot_script, seconds
from lensflow.engine.slurm.states import Action
from lensflow.engine.slurm.sweep import OLD, sweep
from lensflow.engine.slurm.workers import Activity
from lensflow.errors import BadInput, BadOption

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHAPE = Shape.of(cores=4, processes=None, memory="8GiB", memory_limit=None, walltime="01:00:00")


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Put a command of SLURM's name on the path that does what a shell script says."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def make(name: str, script: str) -> None:
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)

    return make


@given(days=st.integers(0, 30), rest=st.integers(0, 86399))
def test_time_left_is_read_as_squeue_writes_it(days: int, rest: int) -> None:
    hours, minutes, last = rest // 3600, rest // 60 % 60, rest % 60
    if days:
        text = f"{days}-{hours:02}:{minutes:02}:{last:02}"
    else:
        text = f"{hours}:{minutes:02}:{last:02}" if hours else f"{minutes}:{last:02}"
    assert queue.seconds(text) == days * 86400 + rest


@pytest.mark.parametrize("text", ["UNLIMITED", "INVALID", "NOT_SET", ""])
def test_no_time_limit(text: str) -> None:
    assert queue.seconds(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30", 1800), ("01:30", 90), ("01:00:00", 3600), ("2-00", 172800), ("1-01:30", 91800), ("1-00:00:01", 86401)],
)
def test_walltime_is_read_as_sbatch_reads_it(text: str, expected: float) -> None:
    assert seconds(text) == expected


def test_squeue_that_fails_is_no_answer(command: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    command("squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(QueueError, match="Unable to contact") as failed:
        squeue("x")
    assert failed.value.passing
    monkeypatch.setattr(queue, "ASKING", 0.2)
    command("scancel", "exec sleep 5")
    with pytest.raises(QueueError, match="did not answer within"):
        queue._ask("scancel", "1", limit=0.2)


def test_squeue_is_read(command: Callable[[str, str], None]) -> None:
    command("squeue", "echo '7_0|RUNNING|29:58|n1|None'; echo '7_1|PENDING|30:00||Resources'")
    found = squeue("x")
    assert found == {"7_0": Listed("RUNNING", 1798.0, "n1", "None"), "7_1": Listed("PENDING", 1800.0, "", "Resources")}


def test_many_jobs_are_one_call(command: Callable[[str, str], None], tmp_path: Path) -> None:
    command("sbatch", f'echo "$@" >> {tmp_path}/calls; echo "$SLURM_JOB_ID" >> {tmp_path}/inherited; echo "7;cluster"')
    assert sbatch("script", 50) == [f"7_{place}" for place in range(50)]
    assert (tmp_path / "calls").read_text().splitlines() == ["--parsable --array=0-49"]
    assert len(sbatch("script", 2500)) == 2500
    assert len((tmp_path / "calls").read_text().splitlines()) == 4  # SLURM takes a thousand at once
    assert sbatch("script", 2, array=False) == ["7", "7"]


def test_jobs_inherit_no_sizes_of_the_drivers_job(
    command: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "99")
    command("sbatch", 'echo "7$SLURM_CPUS_PER_TASK"')
    assert sbatch("script", array=False) == ["7"]


def test_cancelling_what_is_over_is_no_matter(command: Callable[[str, str], None]) -> None:
    command("scancel", "echo 'scancel: error: Kill job error on job id 7: Invalid job id specified' >&2; exit 1")
    scancel(["7"])
    scancel([])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cores": 2, "processes": 4}, "processes <= cores"),
        ({"walltime": "an hour"}, "walltime 'an hour'"),
        ({"memory": "300MiB"}, "more than 512MiB"),
    ],
)
def test_shapes_that_cannot_be(options: dict[str, object], message: str) -> None:
    words: dict[str, object] = {"cores": 4, "processes": 2, "memory": "8GiB", "memory_limit": None, "walltime": "30"}
    with pytest.raises(BadOption, match=message):
        Shape.of(**{**words, **options})  # type: ignore[arg-type]


@given(st.integers(1, 64), st.integers(1 << 30, 1 << 40))
def test_workers_and_their_nanny_fit_the_job(processes: int, memory: int) -> None:
    shape = Shape.of(cores=64, processes=processes, memory=memory, memory_limit=None, walltime="30")
    assert shape.worker_memory * shape.processes + NANNY <= memory
    larger = Shape.of(cores=64, processes=processes, memory=1, memory_limit="2GiB", walltime="30")
    assert larger.worker_memory == 2 << 30


def test_the_script_says_no_secret_and_asks_for_what_the_profile_says(tmp_path: Path) -> None:
    folder = Folder.make(tmp_path)
    keys = issue(folder, 1)
    words = Words(queue="long", account="me", job_extra_directives=["--qos=x"], job_script_prologue=["module load y"])
    with dask.config.set({"secret.token": "hush"}):
        script = job_script("tls://10.0.0.1:99", SHAPE, words, folder, keys)
    for part in ("-p long", "-A me", "--qos=x", "--mem=8192M", "--cpus-per-task=4", "-t 01:00:00", "--no-requeue"):
        assert f"#SBATCH {part}\n" in script
    assert "--nworkers 4 --nanny" in script
    assert "--dashboard-address 127.0.0.1:0" in script
    assert script.index("module load y") < script.index("knock.py") < script.index("dask_worker")
    key = (folder.path / "tls" / "key.pem").read_text()
    assert key.splitlines()[1] not in script
    assert "hush" not in script
    assert "hush" in (folder.path / "dask.json").read_text()  # its owner's alone
    for name in ("dask.json", "tls/key.pem"):
        assert stat.S_IMODE((folder.path / name).stat().st_mode) == 0o600
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)  # noqa: S607
    pilot = pilot_script(SHAPE, 3, words, folder)
    assert "#SBATCH --nodes=3\n" in pilot
    assert "#SBATCH -n 1" not in pilot
    subprocess.run(["bash", "-n"], input=pilot, text=True, check=True)  # noqa: S607


def test_an_option_that_there_is_not() -> None:
    with pytest.raises(BadOption, match=r"no option 'quue'.*Did you mean 'queue'"):
        Words.of(quue="long")


@pytest.mark.parametrize("name", ["slurm", "slurm-pilot"])
def test_the_shipped_profiles_are_whole(name: str) -> None:
    found = profile(name)
    options = found["lensflow"]["cluster"]["options"]
    shape = {key: options[key] for key in ("cores", "memory", "walltime")}
    assert Shape.of(processes=None, memory_limit=None, **shape).seconds >= 3600
    assert found["distributed"]["scheduler"]["allowed-failures"] == 0


@pytest.mark.parametrize(
    ("worker", "job"), [("slurm-12_3-0", "12_3"), ("slurm-12_3", "12_3"), ("slurm-7-1-0", "7"), (0, None), ("a", None)]
)
def test_workers_are_named_after_their_job(worker: object, job: str | None) -> None:
    assert job_of(worker) == job


@pytest.mark.parametrize(
    ("state", "workers", "expected"),
    [
        ("CANCELLED", "none", "taken"),
        ("PREEMPTED", "none", "taken"),
        ("NODE_FAIL", "none", "taken"),
        ("TIMEOUT", "none", "taken"),
        ("FAILED", "none", "suspect"),
        ("OUT_OF_MEMORY", "none", "suspect"),
        ("RUNNING", "back", "suspect"),
        ("RUNNING", "none", "unclear"),
        ("COMPLETING", "none", "unclear"),
        (None, "none", "taken"),
    ],
)
def test_who_is_suspected_when_a_worker_dies(state: str | None, workers: str, expected: str) -> None:
    finding = find(Listed(state) if state else None, "7_0", workers == "back")
    assert ("unclear" if finding is None else "suspect" if finding.suspect else "taken") == expected


def begin(total: int) -> dict[str, object]:
    return {"run": "r", "event": "begin", "total": total, "done": [], "quarantined": []}


def news(done: int) -> dict[str, object]:
    return {"run": "r", "event": "news", "done": [["b", 1.0, 1]] * done}


def test_jobs_follow_what_is_left() -> None:
    demand = Demand(jobs=2, minimum=0, maximum=10, slots=4, horizon=600.0)
    assert demand.wanted() == 2
    demand.hear(begin(2000))
    assert demand.wanted() == 2  # nothing is known yet
    for now in range(100):
        demand.pass_time(float(now), Activity({}, 8))  # 8 threads at work
    demand.hear(news(80))
    assert demand.block == pytest.approx(9.9)
    worth = [demand.wanted()]
    assert worth == [8]  # 1920 blocks of 9.9 s on 4 threads each within 600 s
    for left in range(1919, -1, -1):
        demand.hear(news(1))
        worth.append(demand.worth())
        assert worth[-1] * 4 < left + 4  # no thread without a block
    assert worth == sorted(worth, reverse=True)  # no swinging
    assert demand.wanted() == 8  # not at once
    demand.hear({"run": "r", "event": "end"})
    assert demand.worth() == 0
    demand.pass_time(130.0, Activity({}, 0))
    assert demand.wanted() == 8  # another run may follow
    demand.pass_time(170.0, Activity({}, 0))
    assert demand.wanted() == 0
    demand.hear(begin(10))
    assert demand.wanted() == 2  # up again for the next run


@given(st.lists(st.integers(0, 50), max_size=50), st.integers(1, 20), st.integers(0, 3))
def test_never_past_maximum_nor_below_minimum(steps: list[int], maximum: int, minimum: int) -> None:
    demand = Demand(jobs=min(maximum, 3), minimum=min(minimum, maximum), maximum=maximum, slots=1, horizon=60.0)
    demand.hear(begin(1000))
    for now, done in enumerate(steps):
        demand.pass_time(30.0 * now, Activity({}, 3))
        demand.hear(news(done))
        assert min(minimum, maximum) <= demand.wanted() <= maximum


def test_the_record_and_who_is_left(command: Callable[[str, str], None], tmp_path: Path) -> None:
    folder = Folder.make(tmp_path / "shared")
    lines = [("submitted", "7_0"), ("submitted", "7_1"), ("pending", "7_1"), ("running", "7_0"), ("gone", "7_0")]
    text = [json.dumps({"t": 1.0, "event": event, "job": job, "reason": "why"}) for event, job in lines]
    folder.jobs.write_text("\n".join([*text, '{"t": 2.0, "event": "say", "text": "x"}']) + "\n")
    assert {job: one.phase for job, one in jobs(folder.path).items()} == {"7_0": "gone", "7_1": "pending"}
    command("squeue", "exit 1")
    assert pending(folder.path) == {"7_1": "why"}  # SLURM does not answer: as noted
    command("scancel", f'echo "$@" > {tmp_path}/cancelled')
    assert cancel(folder.path) == ["7_1"]
    assert (tmp_path / "cancelled").read_text() == "7_1\n"
    with pytest.raises(BadInput, match="no such folder"):
        jobs(tmp_path / "none")


def test_records_of_clusters_long_gone_are_removed(tmp_path: Path) -> None:
    kept, old, living = (Folder.make(tmp_path) for _ in range(3))
    for one in (kept, old, living):
        one.describe()
    living.scheduler.touch()  # this process has it
    for one in (old, living):
        os.utime(one.path, (time.time() - 2 * OLD,) * 2)
    sweep(tmp_path)
    assert [one.path.exists() for one in (kept, old, living)] == [True, False, True]


def test_what_the_last_words_of_a_job_mean(tmp_path: Path) -> None:
    folder = Folder.make(tmp_path)
    complaint = Action("say", text="job 7_0 ended (FAILED) before a worker of it came")
    assert "likely cause: the profile's interface, a firewall" in explained(complaint, folder)
    folder.log_of("7_0").write_text("lensflow: nobody answers at a:1 from n1 ([SSL: CERTIFICATE_VERIFY_FAILED])\n")
    assert "likely cause: TLS" in explained(complaint, folder)
    folder.log_of("7_0").write_text("ModuleNotFoundError: No module named 'distributed'\n")
    assert "Python there lacks a package" in explained(complaint, folder)
    assert explained(Action("say", text="SLURM says: no"), folder) == "SLURM says: no"


def test_a_knock_at_a_door_behind_which_nobody_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(knock, "PAUSE", 0.0)
    assert knock.main(["127.0.0.1", "9"]) == knock.REFUSED
    assert "lensflow: nobody answers at 127.0.0.1:9" in capsys.readouterr().err


def test_a_pilot_takes_the_size_of_its_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert size_here({}) == {}
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    there = {"SLURM_JOB_NUM_NODES": "3", "SLURM_CPUS_ON_NODE": "8", "SLURM_MEM_PER_CPU": "1000"}
    assert size_here(there) == {"nodes": 3, "cores": 8, "memory": 8000 << 20}


def test_files_that_are_no_scheduler_files(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text("{}")
    with pytest.raises(BadInput, match="not a scheduler file"), cluster(tmp_path / "s.json"):
        pass


def test_a_drained_worker_ends_its_task_and_takes_no_other() -> None:
    """What retiring rests on."""

    def slow(seconds: float) -> str:
        time.sleep(seconds)
        return str(get_worker().address)

    words = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "silence_logs": 50, "threads_per_worker": 1}
    with (
        dask.config.set({"distributed.scheduler.worker-saturation": 1.0}),
        LocalCluster(n_workers=2, **words) as local,
        Client(local) as client,
    ):
        drained, other = sorted(client.nthreads())
        held = client.submit(slow, 0, workers=[drained], pure=False)
        held.result()
        running = client.submit(slow, 2, workers=[drained], allow_other_workers=True, pure=False)
        time.sleep(0.5)
        assert list(client.retire_workers([drained], close_workers=False, remove=False)) == [drained]
        later = client.map(slow, [0.05] * 10, pure=False)
        assert set(client.gather(later)) == {other}
        assert running.result() == drained
        client.retire_workers([drained], close_workers=True, remove=True)
        assert client.gather([held, running]) == [drained, drained]  # their results have moved
        assert list(client.nthreads()) == [other]


def test_the_knock_uses_only_pythons_own_library() -> None:
    others = "[one for one in ('dask', 'lensflow') if one in sys.modules]"
    code = f"import runpy, sys; runpy.run_path({knock.__file__!r}); print({others})"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"


def test_large_jobs_are_wanted_while_blocks_wait_for_them_and_a_minute_more() -> None:
    demand = LargeDemand(2)
    assert demand.wanted() == 0
    for now, enlarged, wanted in ((1.0, 1, 1), (2.0, 5, 2), (3.0, 1, 2), (50.0, 0, 2), (64.0, 0, 0), (65.0, 1, 1)):
        demand.pass_time(now, Activity({}, 4, enlarged, begun=enlarged))
        assert demand.wanted() == wanted
    assert demand.block == 2.0


def test_large_jobs_have_a_name_a_size_and_workers_of_their_own(tmp_path: Path) -> None:
    folder = Folder.make(tmp_path)
    words = Words.of(worker_extra_args=["--no-dashboard"])
    plain, large = (job_script("tcp://127.0.0.1:1", SHAPE, words, folder, None, large=large) for large in (False, True))
    assert "--resources large=1" in large
    assert "--no-dashboard" in large
    assert f"-J {job_name(folder, large=True)}" in large
    assert "--resources" not in plain
    assert job_name(folder) != job_name(folder, large=True)


@pytest.mark.parametrize(
    "large",
    [
        {"cores": 2},
        {"memory": "8GiB", "maximum_jobs": 0},
        {"memory": "8GiB", "maximum_jobs": "two"},
        "8GiB",
        {"memory": "1GiB"},
    ],
)
def test_a_large_class_without_memory_or_jobs_is_refused(large: object, tmp_path: Path) -> None:
    with (
        pytest.raises(BadOption, match=r"profile: large: found .*, expected a mapping"),
        cluster("slurm", interface="lo", shared_folder=str(tmp_path), large=large),
    ):
        pass
