"""The live page, on a real scheduler and in a real browser."""

from __future__ import annotations

import json
import re
import urllib.request
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from lensflow.engine.dashboard import link, page
from lensflow.engine.watch import RUNS, install

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from distributed import Client

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


def tell(scheduler: Client, run: str, event: str, **more: Any) -> None:
    scheduler.log_event(RUNS, {"run": run, "event": event, **more})


def begin(client: Client, run: str, name: str, label: str = "flux") -> None:
    grids = [{"label": label, "dims": ["y", "x"], "numblocks": [10, 10]}]
    tell(client, run, "begin", name=name, out=f"/data/{run}.zarr", grids=grids, total=100, client=client.id, threads=4)


def written(count: int, label: str = "flux") -> list[tuple[str, float, int]]:
    return [(f"{label}[{place // 10},{place % 10}]", 0.5, 1 << 20) for place in range(count)]


@pytest.fixture
def told(client: Client) -> Iterator[Client]:
    assert install(client)
    yield client
    for run in ("one", "two"):
        tell(client, run, "end", outcome="done")


def fetch(address: str) -> Any:
    with urllib.request.urlopen(address, timeout=20) as answer:
        return answer.headers, answer.read().decode()


class Text(HTMLParser):
    """The words of a page that somebody sees, and where blocks are counted."""

    def __init__(self, dom: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self._hidden = 0
        self.feed(dom)

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
        self._hidden += tag in {"script", "style", "template"}

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in {"script", "style", "template"}

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def test_the_address_is_beside_dasks_own(client: Client) -> None:
    assert page(client) == client.dashboard_link.replace("/status", "/lensflow")
    assert page(cast("Client", SimpleNamespace(dashboard_link=None))) is None, "a scheduler without a dashboard"


def test_a_dashboard_for_its_own_host_only_is_named_as_it_is_reached(client: Client) -> None:
    port = str(client.dashboard_link).partition("127.0.0.1:")[2].partition("/")[0]
    told: dict[str | None, str | None] = {f"http://127.0.0.2:{port}/status": f"http://127.0.0.1:{port}/status"}
    unchanged = (None, client.dashboard_link, "/proxy/8787/status", "https://hub.org/proxy/8787/status")
    told |= {one: one for one in unchanged}
    for said, true in told.items():
        assert link(cast("Client", SimpleNamespace(dashboard_link=said))) == true


def test_page_and_state_are_served_also_below_a_prefix(told: Client) -> None:
    begin(told, "one", "ps1_convolution")
    tell(told, "one", "news", t=1.0, done=written(37), active=["flux[9,9]"], rate=2.5, left="25 s")
    root = told.dashboard_link.rpartition("/")[0]
    for place in (f"{root}/lensflow", f"{root}/proxy/8787/lensflow"):
        headers, html = fetch(place)
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "http" not in re.sub(r"https?://www\.w3\.org\S*", "", html), "nothing is fetched from elsewhere"
        state = json.loads(fetch(f"{place}/state.json")[1])
        run = next(one for one in state["runs"] if one["run"] == "one")
        assert (run["name"], run["rate"], run["left"], run["inFlight"]) == ("ps1_convolution", 2.5, "25 s", 1)
        assert json.loads(fetch(f"{place}/state.json?since={state['version']}")[1])["runs"] == []


def test_a_browser_shows_two_runs_and_what_is_new(
    told: Client, browse: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    begin(told, "two", "slow_graph", HOSTILE)
    tell(told, "two", "news", t=1.0, notes=[(HOSTILE, HOSTILE)], quarantined=[(f"{HOSTILE}[0,0]", HOSTILE)], active=[])
    begin(told, "one", "ps1_convolution")
    tell(told, "one", "news", t=1.0, done=written(37), active=["flux[9,9]", "flux[9,8]"], rate=2.5, left="25 s")
    address = page(told)
    first = browse(address, "--dump-dom", "--virtual-time-budget=3000")
    text = Text(first.stdout).text
    assert "CONSOLE" not in first.stderr, "nothing hostile ran, nothing was refused"
    assert "owned" not in re.findall(r"<title>(.*?)</title>", first.stdout)
    assert re.search(r"<title>37 % - ps1_convolution and 1 more</title>", first.stdout)
    for word in ("37 of 100 blocks", "done 37", "in flight 2", "pending 61", "2.5 blocks/s", "25 s", "Quarantined: 1"):
        assert word in text
    assert HOSTILE in text, "shown as it is"
    assert first.stdout.count("<canvas") == 2

    tell(told, "one", "news", t=2.0, done=written(88)[37:], active=[], rate=3.0, left="4 s")
    text = Text(browse(address, "--dump-dom", "--virtual-time-budget=3000").stdout).text
    assert "88 of 100 blocks" in text
    assert "pending 12" in text
