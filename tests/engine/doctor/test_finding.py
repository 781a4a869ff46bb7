"""A check is waited for, but not for ever; what it raises is told."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from lensflow.engine.doctor.finding import Finding, bounded, ok

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_a_check_that_answers() -> None:
    assert bounded("disk", lambda: [ok("disk", "fine")], seconds=5, remedy="-") == [Finding("OK", "disk", "fine")]


def test_a_check_that_hangs_is_left_behind() -> None:
    release = threading.Event()

    def hang() -> Iterator[Finding]:
        release.wait(60)
        yield ok("disk", "late")

    try:
        (found,) = bounded("disk", hang, seconds=0.05, remedy="df")
    finally:
        release.set()
    assert (found.level, found.remedy) == ("FIX", "df")
    assert "no answer" in found.found


def test_a_check_that_breaks_is_a_finding() -> None:
    def broken() -> Iterator[Finding]:
        yield ok("disk", "first half")
        raise ZeroDivisionError("sizes")

    (found,) = bounded("disk", broken, seconds=5, remedy="-")
    assert found.level == "WARN"
    assert "ZeroDivisionError: sizes" in found.found
