"""A first profile from SLURM's recorded words."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lensflow.cli import init as init_command
from lensflow.cli import main
from lensflow.engine.site import profile as profiles_module
from lensflow.engine.site.accounts import associations
from lensflow.engine.site.ask import Answer
from lensflow.engine.site.choose import choose
from lensflow.engine.site.partitions import nodes, partitions, records, seconds, spelled
from lensflow.engine.site.profile import compose, put, write
from lensflow.engine.site.survey import Site, survey
from lensflow.errors import BadInput, BadOption

if TYPE_CHECKING:
    from collections.abc import Mapping

RECORDED = Path(__file__).with_name("recorded")
NAMES = {
    "partition": "partitions.txt",
    "node": "nodes.txt",
    "config": "config.txt",
    "associations": "associations.txt",
    "user": "default_account.txt",
}
TEMPLATE = """\
# SLURM
lensflow:
  cluster:
    class: lensflow.engine.slurm.SlurmCluster
    options:
      # queue: debug   # site: the partition
      cores: 1
      memory: 4GiB     # of a job
      walltime: "01:00:00"
      # interface: ib0

      # a comment about what follows
      array: true
distributed:
  worker:
    memory:
      spill: false
"""
MEBIBYTE = 2**20


def asked(*words: str, **_: object) -> Answer:
    return Answer((RECORDED / next(NAMES[word] for word in words if word in NAMES)).read_text())


@pytest.fixture
def site() -> Site:
    return survey(asked)


def options(text: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text)["lensflow"]["cluster"]["options"]
    return found


def test_partitions_as_slurm_shows_them(site: Site) -> None:
    assert list(site.partitions) == ["debug", "short", "closed"]
    debug, short, closed = site.partitions.values()
    assert (debug.default, debug.up, debug.max_time, debug.cores, debug.memory) == (
        True,
        True,
        86400,
        4,
        6000 * MEBIBYTE,
    )
    assert (short.max_time, short.max_memory, short.memory) == (600, 2000 * MEBIBYTE, 2000 * MEBIBYTE)
    assert not closed.up
    assert [one.name for one in debug.nodes] == ["n1", "n2"]
    assert (site.name, site.version, site.enforced, site.default_account) == ("sandbox", "22.05.8", False, "root")
    assert [one.account for one in site.associations] == ["astro", "root"]
    assert site.unknown == ()


def test_values_that_hold_blanks() -> None:
    (found,) = records("NodeName=n1 OS=Linux 6.1.0 #1 SMP @0  RealMemory=6000 Reason=fan broken [root@2026] CPUTot=4")
    assert found["OS"] == "Linux 6.1.0 #1 SMP @0"
    assert (found["RealMemory"], found["CPUTot"]) == ("6000", "4")


@pytest.mark.parametrize(
    ("state", "usable"),
    [
        ("IDLE", True),
        ("MIXED+PLANNED", True),
        ("ALLOCATED*", True),
        ("IDLE+POWERED_DOWN", True),  # wakes up for a job
        ("IDLE+DRAIN", False),
        ("DOWN*", False),
        ("DOWN+NOT_RESPONDING", False),
    ],
)
def test_nodes_that_take_jobs(state: str, usable: bool) -> None:  # noqa: FBT001
    (found,) = nodes(f"NodeName=n1 CPUTot=64 RealMemory=256000 MemSpecLimit=6000 State={state} Partitions=a,b")
    assert found.usable == usable
    assert found.memory == 250000 * MEBIBYTE
    assert found.partitions == {"a", "b"}


def test_a_partition_that_counts_memory_by_core() -> None:
    node = nodes("NodeName=n1 CPUTot=16 RealMemory=256000 State=IDLE Partitions=a")
    found = partitions("PartitionName=a MaxTime=UNLIMITED MaxMemPerCPU=4000 State=UP", node)["a"]
    assert (found.max_time, found.memory, found.cores) == (None, 64000 * MEBIBYTE, 16)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30", 1800),
        ("10:00", 600),
        ("01:00:00", 3600),
        ("1-00", 86400),
        ("1-12:30", 131400),
        ("7-00:00:00", 604800),
        ("UNLIMITED", None),
        ("NONE", None),
    ],
)
def test_times_of_slurm(text: str, expected: int | None) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["12h", "1:2:3:4", "-5", "1-", "a-00:00"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="no time of SLURM"):
        seconds(text)


@given(st.integers(1, 10**8))
def test_times_there_and_back(time: int) -> None:
    assert seconds(spelled(time)) == time


def test_choices(site: Site) -> None:
    chosen, unknown = choose(site, {"eth0": "10.0.0.1", "ib0": "10.1.0.1"})
    values = {one.key: one.value for one in chosen}
    assert values == {
        "queue": "debug",
        "walltime": '"04:00:00"',
        "cores": "4",
        "processes": "4",
        "memory": "6000MiB",
        "account": "root",
        "interface": "ib0",
    }
    assert unknown == []


def test_choices_keep_to_the_limits(site: Site) -> None:
    values = {one.key: one.value for one in choose(site, {}, partition="short", account="astro")[0]}
    assert (values["walltime"], values["memory"], values["account"]) == ('"00:10:00"', "2000MiB", "astro")


def test_a_scratch_disk_that_slurm_names(site: Site) -> None:
    chosen, _ = choose(dataclasses.replace(site, scratch="/local/scratch"), {})
    assert next(one.value for one in chosen if one.key == "local_directory") == '"${SLURM_TMPDIR:-/local/scratch}"'


def test_what_cannot_be_found_out_is_said() -> None:
    def less(*words: str, **named: object) -> Answer:
        if "sacctmgr" in words or "config" in words:
            return Answer(problem=f"{words[0]} is not installed here", missing=True)
        return asked(*words, **named)

    chosen, unknown = choose(survey(less), {})
    assert {one.key for one in chosen} == {"queue", "walltime", "cores", "processes", "memory"}
    told = "\n".join(unknown)
    assert "accounts: sacctmgr is not installed here" in told
    assert "interface" in told
    assert "local_directory" in told


def test_choices_that_cannot_be(site: Site) -> None:
    with pytest.raises(BadOption, match="Did you mean 'short'"):
        choose(site, {}, partition="shrt")
    with pytest.raises(BadOption, match="expected one of astro, root"):
        choose(site, {}, account="physics")
    nothing = survey(lambda *words, **_: Answer(problem=f"{words[0]} is not installed here", missing=True))
    with pytest.raises(BadInput, match="scontrol is not installed here"):
        choose(nothing, {})


def test_the_profile_keeps_what_it_does_not_know(site: Site) -> None:
    chosen, unknown = choose(site, {"eth0": "10.0.0.1"})
    text = compose(site, chosen, [*unknown, "the weather: not asked"], template=TEMPLATE)
    found = options(text)
    assert found == {
        "queue": "debug",
        "cores": 4,
        "memory": "6000MiB",
        "walltime": "04:00:00",  # a string: YAML reads it without quotes as 14400
        "interface": "eth0",
        "array": True,
        "processes": 4,
        "account": "root",
    }
    assert yaml.safe_load(text)["distributed"] == {"worker": {"memory": {"spill": False}}}
    assert "# NOT FOUND OUT: the weather: not asked" in text
    assert "# a comment about what follows" in text
    assert text.count("memory:") == 2


def test_putting_twice_changes_nothing(site: Site) -> None:
    chosen, _ = choose(site, {"eth0": "10.0.0.1"})
    once = put(TEMPLATE.splitlines(), chosen)
    assert put(once, chosen) == once


def test_nothing_is_overwritten(tmp_path: Path, site: Site) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("precious")
    with pytest.raises(BadInput, match="exists and is left as it is"):
        write(path, compose(site, [], [], template=TEMPLATE))
    assert path.read_text() == "precious"


def test_accounts_with_limits_of_a_partition() -> None:
    found = associations("astro|gpu|1-00:00:00|normal,high|high\n|||\nlab||||\n")
    assert [(one.account, one.partition, one.max_time, one.qos) for one in found] == [
        ("astro", "gpu", 86400, ("high", "normal")),
        ("lab", "", None, ()),
    ]


@pytest.fixture
def at_a_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(init_command, "survey", lambda: survey(asked))
    monkeypatch.setattr(init_command, "template", lambda: TEMPLATE)
    return tmp_path


def test_init_as_typed(at_a_site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--site"]) == 0
    said = capsys.readouterr().out
    assert "lensflow doctor --cluster sandbox.yaml" in said
    assert options((at_a_site / "sandbox.yaml").read_text())["queue"] == "debug"
    assert main(["init", "--site"]) == 1
    assert "exists and is left as it is" in capsys.readouterr().err


def test_init_for_programs(at_a_site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--site", "--partition", "short", "--out", "mine.yaml", "--json"]) == 0
    said: Mapping[str, Any] = json.loads(capsys.readouterr().out)
    assert said["profile"] == "mine.yaml"
    assert said["chosen"]["walltime"] == "00:10:00"
    assert (at_a_site / "mine.yaml").is_file()


def test_init_needs_to_know_what(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init"]) == 2
    assert "lensflow init --site" in capsys.readouterr().err


def test_the_template_is_the_shipped_profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "slurm.yaml").write_text(TEMPLATE)
    monkeypatch.setattr(profiles_module, "profiles", lambda: {"slurm": tmp_path / "slurm.yaml"})
    assert profiles_module.template() == TEMPLATE
