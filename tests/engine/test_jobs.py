"""One job from many sources: command line > environment > job file > its profile > defaults."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lensflow.engine import jobs
from lensflow.engine.catalog import graph
from lensflow.engine.options import Options
from lensflow.errors import BadInput, BadOption, LensflowError, UnknownName

if TYPE_CHECKING:
    from collections.abc import Callable

GRAPH = '''"""A sample."""

from pathlib import Path

import xarray as xr


def graph(
    source: Path, *, sigma: float = 60.0, bands: tuple[str, ...] = ("r",), deep_field: bool = False, count: int = 1
) -> xr.Dataset:
    """Do nothing."""
    return xr.Dataset()
'''

# name, its default, what a profile, the job file, the environment and the command line say
WORDS: dict[str, tuple[Any, Any, Any, str, str]] = {
    "sigma": (60.0, 1.0, 2, "3", "4.5"),
    "bands": (("r",), ["i"], ["i", "z"], "y,z", "r,i"),
    "deep_field": (False, True, True, "yes", "true"),
    "count": (1, 11, 12, "13", "14"),
    "cluster": ("local", "a.yaml", "b.yaml", "c.yaml", "tcp://d:1"),
    "workers": (None, 2, 3, "4", "5"),
    "retries": (3, 4, 5, "6", "7"),
    "memory": (None, "1GiB", "2GiB", "3GiB", "4GiB"),
    "strict": (False, True, ["odd"], "1", "odd,corrupt-file"),
    "timeout": (None, 1, 2.5, "3", "4.5"),
    "on_error": ("quarantine", "raise", "raise", "raise", "raise"),
    "out": (None, "p.zarr", "f.zarr", "e.zarr", "c.zarr"),
}
CONVERTED: dict[str, Callable[[Any], Any]] = {
    "sigma": float,
    "bands": lambda one: tuple(one.split(",")) if isinstance(one, str) else tuple(one),
    "deep_field": bool,
    "count": int,
    "workers": int,
    "retries": int,
    "strict": lambda one: (
        {"1": True, "odd,corrupt-file": ("odd", "corrupt-file")}.get(str(one), one)
        if isinstance(one, str | bool)
        else tuple(one)
    ),
    "timeout": float,
    "out": Path,
}
SOURCES = ("profile", "file", "environment", "line")


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(GRAPH)
    return path


def found(job: jobs.Job, name: str) -> object:
    return job.arguments[name] if name in job.arguments else getattr(job.settings, name)


@given(given_by=st.fixed_dictionaries({name: st.sets(st.sampled_from(SOURCES)) for name in WORDS}))
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_nearest_source_wins(given_by: dict[str, set[str]], mine: Path, tmp_path: Path) -> None:
    said: dict[str, dict[str, Any]] = {source: {} for source in SOURCES}
    expected = {}
    for name, (default, *values) in WORDS.items():
        expected[name] = default
        for source, value in zip(SOURCES, values, strict=True):
            if source in given_by[name]:
                said[source][name] = value
                expected[name] = CONVERTED.get(name, lambda one: one)(value)
    file = tmp_path / "job.yaml"
    file.write_text(
        yaml.safe_dump({"graph": str(mine), "source": "s", **said["file"], "profiles": {"testing": said["profile"]}})
    )
    words = [f"--{name.replace('_', '-')}={value}" for name, value in said["line"].items()]
    environment = {f"LENSFLOW_{name.upper()}": value for name, value in said["environment"].items()}
    job = jobs.parse([str(file), "--profile", "testing", *words], environment)
    assert {name: found(job, name) for name in WORDS} == expected
    assert job.arguments["source"] == Path("s").absolute()


def test_a_graph_and_its_words(mine: Path) -> None:
    job = jobs.parse([str(mine), "cells", "--bands", "r,i", "--no-deep-field", "--out", "o.zarr"], {})
    assert job.graph.name == "mine"
    assert job.arguments["bands"] == ("r", "i")
    assert job.settings == jobs.settings(out=Path("o.zarr"))


def test_an_empty_variable_says_nothing(mine: Path) -> None:
    assert jobs.parse([str(mine), "cells"], {"LENSFLOW_SIGMA": "", "LENSFLOW_WORKERS": ""}).settings.workers is None


def test_the_environment_is_refused_by_name_too(mine: Path) -> None:
    with pytest.raises(BadOption, match="--sigma: found 'wide', expected number"):
        jobs.parse([str(mine), "cells"], {"LENSFLOW_SIGMA": "wide"})


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "job.yaml"
    path.write_text(text)
    return str(path)


def test_words_in_a_job_file_may_have_dashes(mine: Path, tmp_path: Path) -> None:
    file = write(tmp_path, f"graph: {mine}\nsource: s\ndeep-field: true\non-error: raise\n")
    job = jobs.parse([file], {})
    assert job.arguments["deep_field"] is True
    assert job.settings.on_error == "raise"


def test_a_dash_in_a_profile_does_not_hide_the_files_own_word(mine: Path, tmp_path: Path) -> None:
    file = write(
        tmp_path, f"graph: {mine}\nsource: s\ndeep_field: false\nprofiles: {{testing: {{deep-field: true}}}}\n"
    )
    assert jobs.parse([file, "--profile=testing"], {}).arguments["deep_field"] is False


def test_the_profile_may_come_from_the_environment(mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, f"graph: {mine}\nsource: s\nprofiles: {{testing: {{sigma: 2}}, production: {{sigma: 3}}}}\n")
    monkeypatch.delenv("LENSFLOW_PROFILE", raising=False)
    assert jobs.parse([file], {}).arguments["sigma"] == 60.0
    monkeypatch.setenv("LENSFLOW_PROFILE", "testing")
    assert jobs.parse([file]).arguments["sigma"] == 2.0
    assert jobs.parse([file, "--profile", "production"]).arguments["sigma"] == 3.0


def test_the_given_environment_is_the_whole_environment(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path, f"graph: {mine}\nsource: s\nprofiles: {{testing: {{sigma: 2}}}}\n")
    monkeypatch.delenv("LENSFLOW_PROFILE", raising=False)
    assert jobs.parse([file], {"LENSFLOW_PROFILE": "testing"}).arguments["sigma"] == 2.0
    monkeypatch.setenv("LENSFLOW_PROFILE", "testing")
    assert jobs.parse([file], {}).arguments["sigma"] == 60.0


REFUSED: dict[str, tuple[str, type[LensflowError], str]] = {
    "no graph": ("source: s\n", BadInput, "needs a line 'graph: NAME'"),
    "a list": ("- a\n- b\n", BadInput, "needs a line 'graph: NAME'"),
    "empty": ("", BadInput, "needs a line 'graph: NAME'"),
    "not YAML": ("graph: [a\n", BadInput, "not valid YAML"),
    "unknown word": ("graph: MINE\nsource: s\nsgima: 3\n", UnknownName, "'sgima'. Did you mean 'sigma'"),
    "wrong type": ("graph: MINE\nsource: s\nsigma: wide\n", BadOption, "--sigma: found 'wide', expected number"),
    "missing word": ("graph: MINE\n", BadOption, "needs SOURCE"),
    "profiles are a list": ("graph: MINE\nsource: s\nprofiles: [a]\n", BadInput, "profiles must be a mapping"),
    "unknown profile": (
        "graph: MINE\nsource: s\nprofiles: {testing2: {}}\n",
        UnknownName,
        "no profile 'testing', there is testing2. Did you mean 'testing2'",
    ),
    "a profile is a number": ("graph: MINE\nsource: s\nprofiles: {testing: 5}\n", BadInput, "profile"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_job_files_that_are_refused(mine: Path, tmp_path: Path, case: str) -> None:
    text, error, sentence = REFUSED[case]
    file = write(tmp_path, text.replace("MINE", str(mine)))
    with pytest.raises(error, match=sentence):
        jobs.parse([file, *(["--profile", "testing"] if "profile" in case else [])], {})


def test_an_empty_profile_is_one(mine: Path, tmp_path: Path) -> None:
    file = write(tmp_path, f"graph: {mine}\nsource: s\nprofiles:\n  testing:\n")
    assert jobs.parse([file, "--profile", "testing"], {}).arguments["sigma"] == 60.0


def test_a_job_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.yaml: the job file cannot be read"):
        jobs.parse([str(tmp_path / "none.yaml")], {})
    (tmp_path / "job.yaml").write_bytes(b"graph: \xff\n")
    with pytest.raises(BadInput, match=r"job\.yaml"):
        jobs.parse([str(tmp_path / "job.yaml")], {})


@pytest.mark.parametrize("words", [[], ["--out", "o.zarr"]])
def test_a_graph_must_be_named_first(words: list[str]) -> None:
    with pytest.raises(BadOption, match="name a graph"):
        jobs.parse(words, {})


def test_a_profile_needs_a_name_and_a_job_file(mine: Path, tmp_path: Path) -> None:
    file = write(tmp_path, f"graph: {mine}\nsource: s\n")
    with pytest.raises(BadOption, match="--profile needs a value"):
        jobs.parse([file, "--profile"], {})
    with pytest.raises(BadOption, match="--profile") as caught:
        jobs.parse([str(mine), "s", "--profile", "testing"], {})
    assert "Did you mean '--profile'" not in str(caught.value), "that is what was said"


def test_words_of_the_engine_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(GRAPH.replace("count", "window"))
    with pytest.raises(BadOption, match="may not have a parameter 'window'"):
        jobs.words_of(graph(path))


def test_shipped_graphs_leave_the_engine_its_words() -> None:
    pytest.importorskip("astropy")
    words = jobs.words_of(graph("ps1_convolution"))
    assert len({one.name for one in words.entries}) == len(words.entries)


def test_every_run_option_is_one_of_the_engines() -> None:
    chosen = jobs.settings(retries=5, strict=True)
    assert Options(**chosen.run_options) == Options(retries=5, strict=True)
    assert Options(**jobs.settings().run_options) == Options()


def test_the_profiles_values_are_replaced_only_by_what_was_said() -> None:
    assert jobs.settings().cluster_options == {}
    assert jobs.settings(workers=3, memory="2GiB").cluster_options == {"n_workers": 3, "memory_limit": "2GiB"}


def test_help_shows_places_first(mine: Path) -> None:
    rows = jobs.table(jobs.words_of(graph(mine)))
    assert rows[0].name == "source"
    assert all(one.help for one in rows if one.name in jobs.ENGINE)


def test_single_values_of_a_profile_are_replaced() -> None:
    words = ["queue=long", "maximum-jobs=3", "array=false", "job_extra_directives=[--qos=x]", "name=a=b"]
    assert jobs.settings(workers=2, cluster_option=tuple(words)).cluster_options == {
        "n_workers": 2,
        "queue": "long",
        "maximum_jobs": 3,
        "array": False,
        "job_extra_directives": ["--qos=x"],
        "name": "a=b",
    }


@pytest.mark.parametrize("word", ["queue", "=3", "a=[", " =1"])
def test_a_value_without_its_name_is_refused(word: str) -> None:
    with pytest.raises(BadOption, match="--cluster-option: found"):
        jobs.settings(cluster_option=(word,))


def test_a_chain_is_for_this_driver_only() -> None:
    chosen = jobs.settings(chain=3)
    assert chosen.run_options["chain"] == 3
    assert "chain" not in chosen.submitted
    with pytest.raises(BadOption, match="--chain: found -1"):
        jobs.settings(chain=-1)
