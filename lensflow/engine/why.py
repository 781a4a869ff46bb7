"""Why something is not there: a paragraph for each failure, of what failed, where, what was tried, and what to do."""

from __future__ import annotations

import textwrap
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lensflow.engine import journal
from lensflow.engine.afar import (
    before_it_began,
    driver_on_its_way,
    end_of_driver,
    last_words,
    reason_to_stop,
)
from lensflow.engine.lock import holder_of
from lensflow.engine.params import nearest
from lensflow.engine.progress import size
from lensflow.engine.report.story import CAUSES
from lensflow.engine.workjobs import accounts, lost
from lensflow.errors import UnknownName

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lensflow.engine.rundir import RunDirectory

WIDTH = 100  # columns of a paragraph
WORDS = 8  # last lines that are quoted
HOW = {"worker": "on a worker", "alone": "alone in a process of its own", "large": "on a large worker"}
CURES = {
    "raised": "Mend what the error names, then run `{}`.",
    "input": "Replace or repair the input it names, then run `{}`.",
    "killed": "Look at the last lines for what ends the process; when it is mended, run `{}`.",
    "memory": "Give a worker more memory, or make blocks smaller: run `{}`.",
    "time": "If it is only slow, allow it more time, else find what it waits for: run `{}`.",
    "note": "Repair the input, or accept the note: run `{}`.",
}


@dataclass(frozen=True)
class Explanation:
    """Why a block, or the run, is not what it should be.

    Parameters
    ----------
    block
        Its identifier; "" for what concerns the whole run.
    paragraph
        What happened.
    words
        The last lines its process, or Dask about it, had logged.
    command
        What to run next, "" if nothing is to be done.
    """

    block: str
    paragraph: str
    words: tuple[str, ...] = ()
    command: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)

    def __str__(self) -> str:
        head = textwrap.fill(self.paragraph, WIDTH, break_long_words=False, break_on_hyphens=False)
        quoted = [f"    {line}" for line in self.words[-WORDS:]]
        return "\n".join([head, *(["  last lines:", *quoted] if quoted else [])])


def explain(directory: RunDirectory, block: str | None = None) -> list[Explanation]:
    """Explain each failure of a run, or what became of one block.

    Parameters
    ----------
    directory
        Of the run; no driver is needed.
    block
        An identifier such as ``2246/flux[3,0]``.

    Raises
    ------
    UnknownName
        If there is no such block; the nearest is named.
    """
    if not directory.exists():
        return [Explanation("", before_it_began(directory), last_words(directory, WORDS))]
    facts = _Facts(directory)
    if block is not None:
        return [facts.of_block(block)]
    return [*facts.of_run(), *facts.failures()]


class _Facts:
    """What the run directory says of failures."""

    def __init__(self, directory: RunDirectory) -> None:
        self.directory = directory
        self.described = directory.describe()
        self.state = directory.state()
        self.retries: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self.errors: list[dict[str, Any]] = []
        for entry in journal.read(directory.events):
            if entry["event"] == "retry":
                self.retries[str(entry.get("block"))].append(entry)
            elif entry["event"] == "error":
                self.errors.append(entry)

    def of_run(self) -> Iterator[Explanation]:
        """Explain what stopped the run, if it is not finished."""
        total = self.described["blocks"]
        pending = total - len(self.state.done) - len(self.state.quarantined) - len(self.state.damaged)
        holder, last = holder_of(self.directory.lock), self.state.sessions[-1] if self.state.sessions else {}
        why = reason_to_stop(self.directory, last.get("t", 0.0))
        if holder:
            stopping = f"; it is to stop: {why}" if why else ""
            yield Explanation("", f"The run is going on: {_process(holder)}{stopping}.{lost(self.directory)}")
        elif waiting := driver_on_its_way(self.directory):
            yield Explanation("", waiting, last_words(self.directory, WORDS))
        elif not last:
            yield Explanation("", f"No block was begun: the driver ended before. {self._again()}", (), self._resume())
        elif "ended" not in last:
            yield Explanation("", self._died(last, pending), last_words(self.directory, WORDS), self._resume())
        elif last.get("outcome") == "failed":
            said = self.errors[-1].get("message", "it did not say why") if self.errors else "it did not say why"
            text = f"The run stopped {_when(last.get('ended'))} with {pending} of {total} blocks to do: {_dot(said)}"
            yield Explanation("", f"{text} {self._again()}", last_words(self.directory, WORDS), self._resume())
        elif pending:
            text = f"The run was interrupted {_when(last.get('ended'))} with {pending} of {total} blocks to do"
            text += f": {why}." if why else "."
            yield Explanation("", f"{text} {self._again()}", (), self._resume())

    def failures(self) -> Iterator[Explanation]:
        """Explain every block that was given up or found damaged."""
        for block, entry in self.state.quarantined.items():
            yield self._quarantined(block, entry)
        for block, reason in self.state.damaged.items():
            yield self._damaged(block, reason)

    def of_block(self, block: str) -> Explanation:
        """Explain one block, whatever became of it."""
        if block in self.state.quarantined:
            return self._quarantined(block, self.state.quarantined[block])
        if block in self.state.damaged:
            return self._damaged(block, self.state.damaged[block])
        if block in self.state.done:
            return self._done(block, self.state.done[block])
        self._check(block)
        failed = self.retries[block]
        text = f"Block {block} is not written yet{f': {_tried(failed)}' if failed else ''}.{accounts(failed)}"
        return Explanation(block, f"{text} {self._again()}", _words(failed[-1:]), self._resume())

    def _check(self, block: str) -> None:
        label, _, index = block.removesuffix("]").rpartition("[")
        grids = {one["label"]: one["numblocks"] for one in self.described.get("grids", [])}
        places = index.split(",") if index else []
        counts = grids.get(label)
        if counts is not None and len(places) == len(counts) and block.endswith("]"):
            if all(one.isdigit() and int(one) < count for one, count in zip(places, counts, strict=True)):
                return
            ranges = ", ".join(f"0..{count - 1}" for count in counts)
            raise UnknownName(f"{self.directory.out}: no block {block!r}; those of {label} are {label}[{ranges}]")
        known = [*self.state.done, *self.state.quarantined, *(f"{one}[0]" for one in grids)]
        raise UnknownName(f"{self.directory.out}: no block {block!r}.{nearest(block, known)}")

    def _done(self, block: str, entry: Mapping[str, Any]) -> Explanation:
        failed = self.retries[block]
        attempts = entry.get("attempts") or len(failed) + 1
        text = f"Block {block} is written, {_when(entry.get('t'))} by {_process(entry)}"
        if failed:
            text += f", at attempt {attempts}; before: {_tried(failed)}"
        return Explanation(block, f"{text}.{accounts(failed)}", _words(failed[-1:]))

    def _quarantined(self, block: str, entry: Mapping[str, Any]) -> Explanation:
        cause = str(entry.get("cause") or "raised")
        command = self._resume("--failed-only", {"memory": "--memory x2", "time": "--timeout SECONDS"}.get(cause, ""))
        before = _tried((entry.get("tried") or self.retries[block])[: -1 if entry.get("tried") else None])
        message = _message(entry)
        place = ", ".join(str(entry[name]) for name in ("exception", "where") if entry.get(name))
        slurm = accounts(entry)
        parts = [
            f"Block {block} was given up {_when(entry.get('t'))} because it {CAUSES.get(cause, 'failed')}: {message}",
            f" ({place}).{slurm} " if place else f".{slurm} ",
            _memory(entry.get("memory")) if cause in {"killed", "memory"} else "",
            f"Before, it was tried {before}. " if before else "",
            "It holds fill values. ",
            CURES.get(cause, CURES["raised"]).format(command),
        ]
        return Explanation(block, "".join(parts), _words([entry]), command)

    def _damaged(self, block: str, reason: str) -> Explanation:
        text = f"Block {block} was written, and reading it back has shown that {_dot(reason)}"
        return Explanation(block, f"{text} {self._again()}", (), self._resume())

    def _died(self, last: Mapping[str, Any], pending: int) -> str:
        slurm = f"{end_of_driver(self.directory)}{lost(self.directory)}"
        return (
            f"The driver ({_process(last)}, begun {_when(last.get('t'))}) ended without a word: killed, or its machine"
            f" went down.{slurm} {pending} of {self.described['blocks']} blocks are to do,"
            f" those in flight among them; nothing that was written is lost. {self._again()}"
        )

    def _again(self) -> str:
        return f"To go on: `{self._resume()}`."

    def _resume(self, *words: str) -> str:
        return " ".join(["lensflow resume", str(self.directory.out), *filter(None, words)])


def _tried(entries: list[dict[str, Any]]) -> str:
    """Tell attempts in their order: where each was made and what came of it; equal ones in a row once."""
    said: list[tuple[str, int]] = []
    for one in entries:
        how, where = HOW.get(str(one.get("how")), HOW["worker"]), one.get("where")
        place = f"{how} ({where})" if where and one.get("how") != "alone" else how
        text = f"{place}: {_message(one)}" + (f" ({one['exception']})" if one.get("exception") else "")
        if said and said[-1][0] == text:
            said[-1] = (text, said[-1][1] + 1)
        else:
            said.append((text, 1))
    return "; ".join(f"{text}{f', {count} times' if count > 1 else ''}" for text, count in said)


def _message(entry: Mapping[str, Any]) -> str:
    return str(entry.get("message") or "").strip() or "it did not say why"


def _process(entry: Mapping[str, Any]) -> str:
    return f"process {entry.get('pid', '?')} on {entry.get('host', 'a host not named')}"


def _words(entries: list[Any]) -> tuple[str, ...]:
    return tuple(str(line) for one in entries for line in one.get("words") or ())[:20]


def _memory(memory: Mapping[str, Any] | None) -> str:
    used, limit = (memory or {}).get("used"), (memory or {}).get("limit")
    if used:
        return f"Its worker used {size(used)}{f' of {size(limit)}' if limit else ''} when last looked at. "
    return f"The limit was {size(limit)}. " if limit else ""


def _when(t: object) -> str:
    return time.strftime("at %Y-%m-%d %H:%M:%S", time.localtime(t)) if isinstance(t, int | float) else "at some time"


def _dot(text: str) -> str:
    return text if text.endswith(".") else f"{text}."
