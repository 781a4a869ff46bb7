"""What a notebook shows, and how a run is watched where there is no notebook."""

from __future__ import annotations

import socket
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import lensflow as lf
from lensflow.engine.cards import graph_card, run_card, watch
from lensflow.engine.runs import Status
from lensflow.engine.tunnel import through_jupyter

if TYPE_CHECKING:
    from collections.abc import Iterator

LINK = "http://127.0.0.1:8787/status"


def status(**more: Any) -> Status:
    words: dict[str, Any] = {"out": "a<b>.zarr", "standing": "running", "total": 8, "done": 2, "quarantined": 1}
    words |= {"damaged": 0, "notes": 3, "seconds": 65.0, "dashboard": LINK, "driver": "process 1 on here"}
    return Status(**{**words, **more})


def test_a_run_that_is_at_work_is_linked_and_its_jobs_are_told() -> None:
    card = run_card(status(jobs=("2 jobs wait: Priority",), tunnel="ssh -N -L 1:h:1 me@h"))
    assert f"<a href='{LINK}'" in card
    assert "a&lt;b&gt;.zarr" in card
    assert "2 jobs wait: Priority" in card
    assert "<code>ssh -N -L 1:h:1 me@h</code>" in card
    assert "<progress value='3' max='8'>" in card
    assert "href" not in run_card(status(standing="done"))


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        (LINK, "/user/jo/proxy/8787/status"),
        (f"http://{socket.gethostname()}:80/status", "/user/jo/proxy/80/status"),
        ("http://node7:8787/status", "http://node7:8787/status"),
        ("/user/jo/proxy/1/status", "/user/jo/proxy/1/status"),
    ],
)
def test_a_hub_links_dashboards_of_its_own_machine_through_its_proxy(
    link: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JUPYTERHUB_SERVICE_PREFIX", raising=False)
    assert through_jupyter(link) == link
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/jo/")
    assert through_jupyter(link) == expected


def test_a_graph_shows_its_words() -> None:
    card = graph_card(lf.graph("tess_templates"))
    assert "<td style='text-align:left'>offsets</td>" in card
    assert "text or number,number,..." in card
    assert "required" in card


def test_a_run_is_watched_until_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    def looks() -> Iterator[Status]:
        yield from (status(standing="starting"), status(), status(), status(done=5), status(standing="done", done=8))

    seen = looks()

    class Watched:
        @property
        def status(self) -> Status:
            return next(seen)

    watch(Watched(), every=0.0)  # type: ignore[arg-type]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4  # what has not changed is not said again
    assert "done, 8 of 8 blocks" in lines[-1]
    assert list(seen) == []


def test_in_a_notebook_it_is_one_card_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[dict[str, str]] = []
    handle = SimpleNamespace(update=lambda data, **_: shown.append(data))
    display = SimpleNamespace(display=lambda *_, **__: handle)
    shell = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()), display=display)
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    watch(SimpleNamespace(status=status(standing="done")), every=0.0)  # type: ignore[arg-type]
    assert [set(one) for one in shown] == [{"text/plain", "text/html"}]
    assert "lensflow run" in shown[0]["text/html"]
