"""What Dask says goes into the run directory, once, and not onto the terminal."""

from __future__ import annotations

import io
import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING

import distributed  # noqa: F401 - sets up its loggers
import pytest

from lensflow.engine.logs import dask_loggers, kept, quiet

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def _speaking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Dask's loggers speak, whatever earlier tests have done to them."""
    for name in ("distributed", "distributed.nanny", "distributed.client"):
        one = logging.getLogger(name)
        monkeypatch.setattr(one, "disabled", False)
        one.setLevel(logging.INFO)
    monkeypatch.setattr(logging.getLogger("distributed.nanny"), "propagate", True)


@pytest.mark.usefixtures("_speaking")
def test_warnings_are_kept_once_and_found_by_what_they_name(tmp_path: Path) -> None:
    with quiet(), kept(tmp_path / "logs" / "driver.log") as words:
        logging.getLogger("distributed.nanny").warning("worker tcp://a:1 restarts")
        logging.getLogger("distributed.client").warning("lost tcp://b:2\nand a second line")
        logging.getLogger("lensflow").warning("tcp://a:1 hangs")
        logging.getLogger("distributed.nanny").info("not worth a line")
    text = (tmp_path / "logs" / "driver.log").read_text()
    assert [text.count(part) for part in ("restarts", "lost", "second line", "hangs", "not worth")] == [1, 1, 1, 1, 0]
    assert [line.rpartition("WARNING ")[2] for line in words.about("tcp://a:1")] == [
        "worker tcp://a:1 restarts",
        "tcp://a:1 hangs",
    ]
    assert words.about("") == ()
    assert len(words.about("tcp://a:1", most=1)) == 1


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    before = {one.name: (list(one.handlers), [list(two.filters) for two in one.handlers]) for one in dask_loggers()}
    assert before, "Dask has loggers"
    with quiet(), kept(tmp_path / "logs" / "driver.log"):
        assert all(len(one.handlers) >= len(before[one.name][0]) for one in dask_loggers())
    after = {one.name: (list(one.handlers), [list(two.filters) for two in one.handlers]) for one in dask_loggers()}
    assert after == before


@pytest.mark.usefixtures("_speaking")
def test_only_the_terminal_is_quiet_and_only_until_the_last_has_left() -> None:
    class Theirs(logging.StreamHandler[io.StringIO]):
        """A handler of the user's."""

    ours, theirs = logging.StreamHandler(io.StringIO()), Theirs(io.StringIO())
    logger = logging.getLogger("distributed.nanny")
    with ExitStack() as stack:
        for handler in (ours, theirs):
            logger.addHandler(handler)
            stack.callback(logger.removeHandler, handler)
        first, second = quiet(), quiet()
        for one in (first, second):
            one.__enter__()
        logger.warning("a")
        first.__exit__(None, None, None)
        logger.warning("b")
        second.__exit__(None, None, None)
        logger.warning("c")
    assert (ours.stream.getvalue(), theirs.stream.getvalue()) == ("c\n", "a\nb\nc\n")
