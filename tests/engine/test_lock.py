"""One writer a store: of several who try one wins; the dead and the silent lose their lock, the living never."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from lensflow.engine import lock as locks
from lensflow.engine.lock import SILENCE, Lock, alive, holder_of
from lensflow.errors import OutputError, RunLocked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


def held_by(path: Path, *, silent: float = 0.0, **fields: Any) -> dict[str, Any]:
    """Leave a lock file as another process would, last touched some seconds ago."""
    holder = {
        "token": "theirs",
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": psutil.Process().create_time(),
        "since": "2026-01-01 00:00:00",
        **fields,
    }
    path.write_text(json.dumps(holder))
    then = time.time() - silent
    os.utime(path, (then, then))
    return holder


def a_dead_pid() -> int:
    done = subprocess.Popen(["true"])  # noqa: S607
    done.wait()
    return done.pid


def test_a_lock_is_held_and_given_back(path: Path) -> None:
    with Lock(path):
        holder = holder_of(path)
        assert holder is not None
        assert (holder["pid"], holder["host"]) == (os.getpid(), socket.gethostname())
    assert not path.exists()
    assert list(path.parent.iterdir()) == [], "nothing is left behind"


def test_a_lock_is_given_back_after_an_error(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Lock(path):
        _ = 1 / 0
    assert not path.exists()


def test_the_living_are_respected(path: Path) -> None:
    with Lock(path):
        mine = path.read_text()
        with pytest.raises(RunLocked, match=f"being written by process {os.getpid()} on {socket.gethostname()} since"):
            Lock(path).__enter__()
        assert path.read_text() == mine
    assert not path.exists()


def test_the_lock_of_a_dead_process_is_taken_over(path: Path) -> None:
    held_by(path, pid=a_dead_pid())
    assert holder_of(path) is None
    with Lock(path):
        assert json.loads(path.read_text())["token"] != "theirs"  # noqa: S105
    assert list(path.parent.iterdir()) == []


def test_a_process_that_has_only_inherited_the_number_is_not_the_holder(path: Path) -> None:
    held_by(path, started=psutil.Process().create_time() - 3600)
    with Lock(path):
        pass


def test_a_killed_holder_whose_parent_has_not_noticed_is_dead(path: Path) -> None:
    """A zombie writes nothing; in a container nobody may ever reap it."""
    driver = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        held_by(path, pid=driver.pid, started=psutil.Process(driver.pid).create_time())
        assert holder_of(path) is not None
        driver.send_signal(signal.SIGKILL)
        while psutil.Process(driver.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        assert holder_of(path) is None
        with Lock(path):
            pass
    finally:
        driver.kill()
        driver.wait()


def test_another_host_is_respected_until_it_falls_silent(path: Path) -> None:
    held_by(path, host="elsewhere", silent=SILENCE - 20)
    with pytest.raises(RunLocked, match="on elsewhere"):
        Lock(path).__enter__()
    held_by(path, host="elsewhere", silent=SILENCE + 20)
    with Lock(path):
        pass


def test_a_process_number_on_another_host_says_nothing(path: Path) -> None:
    held_by(path, host="elsewhere", pid=a_dead_pid())
    assert holder_of(path) is not None
    held_by(path, host="elsewhere", silent=2 * SILENCE)
    assert holder_of(path) is None


@pytest.mark.parametrize("text", [b"", b"{", b"\0" * 40, b"\xff\xfe", b"[]", b"{}", b'{"token": "x"}'])
def test_a_damaged_lock_does_not_lock_for_ever(path: Path, text: bytes) -> None:
    path.write_bytes(text)
    then = time.time() - 10 * SILENCE
    os.utime(path, (then, then))
    with Lock(path):
        pass


def test_an_empty_lock_may_be_about_to_be_written(path: Path) -> None:
    path.write_text("")
    assert alive({}, path)
    with pytest.raises(RunLocked):
        Lock(path).__enter__()


def test_a_lock_that_others_have_taken_over_is_not_removed(path: Path) -> None:
    with Lock(path):
        held_by(path)
    assert json.loads(path.read_text())["token"] == "theirs"  # noqa: S105


def test_the_heart_beats(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "BEAT", 0.02)
    with Lock(path):
        os.utime(path, (1, 1))
        deadline = time.monotonic() + 20
        while path.stat().st_mtime < 1000 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert path.stat().st_mtime > 1000


def test_the_heart_goes_on_beating_when_the_file_was_away_for_a_moment(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One who breaks a stale lock may move a live one aside by mistake and give it back."""
    monkeypatch.setattr(locks, "BEAT", 0.02)
    with Lock(path):
        aside = path.with_name("aside")
        path.rename(aside)
        time.sleep(0.2)  # several beats
        aside.rename(path)
        os.utime(path, (1, 1))
        deadline = time.monotonic() + 1
        while path.stat().st_mtime < 1000 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert path.stat().st_mtime > 1000, "from another host this holder would look dead"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        Lock(tmp_path / "none" / "lock").__enter__()


def race(path: Path, count: int) -> list[str]:
    """Let some threads, each with a lock of its own, start together; return what became of each."""
    barrier, release, outcomes = threading.Barrier(count), threading.Event(), []

    def compete() -> None:
        barrier.wait()
        try:
            with Lock(path):
                outcomes.append("won")
                release.wait(20)
        except RunLocked:
            outcomes.append("lost")

    threads = [threading.Thread(target=compete) for _ in range(count)]
    for one in threads:
        one.start()
    deadline = time.monotonic() + 20
    while len(outcomes) < count and time.monotonic() < deadline:
        time.sleep(0.002)
    release.set()
    for one in threads:
        one.join()
    return sorted(outcomes)


@pytest.mark.parametrize("stale", [False, True], ids=["free", "stale"])
def test_exactly_one_wins_a_race(path: Path, stale: bool) -> None:  # noqa: FBT001 - a parameter
    gone = a_dead_pid()
    for _ in range(15):
        if stale:
            held_by(path, pid=gone)
        assert race(path, 6) == ["lost"] * 5 + ["won"]
        assert list(path.parent.iterdir()) == []


def test_a_slow_breaker_cannot_make_two_winners(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sees a stale lock and dozes off; a second takes it over; a third comes while the first wakes up."""
    held_by(path, pid=a_dead_pid())
    holding: set[str] = set()
    most: list[set[str]] = []
    release, slow = threading.Event(), threading.current_thread()
    others: list[threading.Thread] = []

    def compete(name: str) -> None:
        with contextlib.suppress(RunLocked), Lock(path):
            holding.add(name)
            most.append(set(holding))
            release.wait(20)
            holding.remove(name)

    def let_in(name: str) -> None:
        if threading.current_thread() is slow and name not in {one.name for one in others}:
            others.append(threading.Thread(target=compete, args=[name], name=name))
            others[-1].start()
            others[-1].join(0.3)  # it holds the lock by now, or has been refused, or waits for its turn

    def is_alive(holder: dict[str, Any], where: Path) -> bool:
        found = alive(holder, where)
        let_in("second")
        return found

    def read(where: Path) -> dict[str, Any]:
        if where != path:  # the lock has been moved aside
            let_in("third")
        return read_before(where)

    read_before = locks._read
    monkeypatch.setattr(locks, "alive", is_alive)
    monkeypatch.setattr(locks, "_read", read)
    try:
        with contextlib.suppress(RunLocked), Lock(path):
            holding.add("first")
            most.append(set(holding))
            time.sleep(0.1)
            holding.remove("first")
        assert max(map(len, most)) == 1, f"at the same time: {most}"
    finally:
        release.set()
        for one in others:
            one.join()


COMPETE = """
import sys, time
from pathlib import Path
from lensflow.engine.lock import Lock
from lensflow.errors import RunLocked
path, here, go = map(Path, sys.argv[1:])
here.touch()
while not go.exists():
    time.sleep(0.001)
try:
    with Lock(path):
        print("won", flush=True)
        sys.stdin.read()
except RunLocked:
    print("lost", flush=True)
"""


@pytest.fixture
def two(path: Path, tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Two processes that wait for the same moment to take the lock."""
    here, go = [tmp_path / "here0", tmp_path / "here1"], tmp_path / "go"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", COMPETE, str(path), str(one), str(go)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for one in here
    ]
    while not all(one.exists() for one in here):
        time.sleep(0.01)
        assert all(one.poll() is None for one in started)
    go.touch()
    yield started
    for one in started:
        one.kill()
        one.communicate()


def test_of_two_processes_one_wins_and_its_death_frees_the_lock(path: Path, two: list[subprocess.Popen[str]]) -> None:
    said = {one.stdout.readline().strip(): one for one in two if one.stdout}
    assert set(said) == {"won", "lost"}
    holder = holder_of(path)
    assert holder is not None
    assert holder["pid"] == said["won"].pid
    with pytest.raises(RunLocked, match=f"process {said['won'].pid} "):
        Lock(path).__enter__()
    said["won"].kill()
    said["won"].wait()
    assert path.exists(), "it had no time to clean up"
    with Lock(path):
        pass
    assert not path.exists()


def test_a_holder_that_was_taken_for_dead_stops(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "BEAT", 0.02)
    with Lock(path) as lock:
        lock.check()
        path.unlink()
        path.write_text(json.dumps({"token": "another's", "host": "elsewhere", "pid": 1, "started": 0.0}))
        time.sleep(0.5)  # many beats
        with pytest.raises(RunLocked, match="another took the run over"):
            lock.check()
    assert path.exists(), "what is another's is left alone"
