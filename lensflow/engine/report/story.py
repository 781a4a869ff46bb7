"""A run told in a sentence: how much is written, in what time, what was lost and why."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from lensflow.engine.progress import duration

if TYPE_CHECKING:
    from collections.abc import Mapping

CAUSES = {
    "raised": "raised an error",
    "input": "had bad input",
    "killed": "killed its process",
    "memory": "needed too much memory",
    "time": "did not end",
    "note": "met a note that strict mode refuses",
}


def sentence(facts: Mapping[str, Any]) -> str:
    """Tell what happened, from what :func:`facts.gather` has collected."""
    blocks, sessions = facts["blocks"], facts["sessions"]
    parts = [_written(blocks, facts["seconds"], sessions[-1] if sessions else {})]
    if facts["quarantined"]:
        causes = Counter(CAUSES.get(one.get("cause", ""), "failed") for one in facts["quarantined"])
        parts.append(f"{blocks['quarantined']} quarantined ({_listed(causes)})")
    if blocks["damaged"]:
        parts.append(f"{blocks['damaged']} found damaged since")
    missing = blocks["total"] - blocks["done"] - blocks["quarantined"] - blocks["damaged"]
    if missing:
        parts.append(f"{missing} missing")
    happened = Counter(one.get("what") for one in facts["workers"])
    for what, said in (("died", "died"), ("hung", "hung and was started anew")):
        if happened[what]:
            parts.append(f"a worker {said} {_times(happened[what])}")
    if blocks["retried"]:
        parts.append(f"{_count(blocks['retried'], 'attempt')} failed and {_was(blocks['retried'])} repeated")
    if len(sessions) > 1:
        parts.append(f"it took {len(sessions)} sessions")
    if facts["notes"]:
        parts.append(f"{_count(len(facts['notes']), 'note')} on the input")
    return "; ".join(parts) + "."


def _written(blocks: Mapping[str, Any], seconds: float, session: Mapping[str, Any]) -> str:
    done, total = blocks["done"], blocks["total"]
    text = f"All {total} blocks are written" if done == total else f"{done} of {total} blocks are written"
    if done and seconds:
        text += f", in {duration(seconds)}"
    workers = session.get("workers")
    return f"{text} on {_count(workers, 'worker')}" if done and workers else text


def _listed(counts: Mapping[str, int]) -> str:
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{count} {what}" for what, count in counts.items())


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _was(number: int) -> str:
    return "was" if number == 1 else "were"


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")
