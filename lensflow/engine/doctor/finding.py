"""What a check found, and how checks are kept from hanging."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lensflow.engine.progress import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Level = Literal["OK", "WARN", "FIX"]


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's page.

    Parameters
    ----------
    level
        ``OK``, ``WARN`` (a run works, but not as well as it could) or ``FIX`` (a run fails, or can lose or show data).
    subject
        What was looked at, a word or two.
    found
        What was found.
    remedy
        The command or the setting that mends it; empty where nothing needs mending.
    """

    level: Level
    subject: str
    found: str
    remedy: str = ""


def ok(subject: str, found: str) -> Finding:
    """Return a finding of something in order."""
    return Finding("OK", subject, found)


def warn(subject: str, found: str, remedy: str) -> Finding:
    """Return a finding of something that can be better."""
    return Finding("WARN", subject, found, remedy)


def fix(subject: str, found: str, remedy: str) -> Finding:
    """Return a finding of something that must be mended."""
    return Finding("FIX", subject, found, remedy)


def bounded(subject: str, check: Callable[[], Iterable[Finding]], *, seconds: float, remedy: str) -> list[Finding]:
    """Run a check, but wait no longer than some seconds for it.

    A file system that hangs cannot be interrupted: the check is left behind in a thread of its own.

    Parameters
    ----------
    subject
        What a finding about the check itself is called.
    check
        The check; whatever it raises becomes a finding.
    seconds
        How long to wait.
    remedy
        What to do if it does not come back.
    """
    answers: queue.SimpleQueue[list[Finding]] = queue.SimpleQueue()

    def work() -> None:
        try:
            answers.put(list(check()))
        except Exception as error:  # noqa: BLE001 - a check that breaks is itself a finding; the others go on
            told = f"could not be looked at ({type(error).__name__}: {error})"
            answers.put([warn(subject, told, "look at it by hand")])

    threading.Thread(target=work, name=f"lensflow-doctor-{subject}", daemon=True).start()
    try:
        return answers.get(timeout=seconds)
    except queue.Empty:
        return [fix(subject, f"no answer within {duration(seconds)}", remedy)]
