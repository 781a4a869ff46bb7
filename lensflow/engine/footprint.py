"""What a task holds while it runs: the arrays of the steps that Dask has fused into it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from dask.core import get_dependencies
from dask.order import order
from dask.utils import funcname, key_split

from lensflow.engine import sizes

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence

    Key = Hashable

VIEWS = {"getitem", "trim", "transpose", "reshape", "broadcast_to", "stack", "concatenate"}  # with one input: no copy,
COPIED = 2  # but for slices that are this many times smaller than what they are cut from (dask.array.chunk.getitem)
SPLIT = "rechunk-split"  # slices whose sizes are not known, only that of what is put together from them
MOMENTS = 16  # bytes an element: deviations from the mean and their squares, in float64 (of a variance)
MASK = 1  # byte an element: which are NaN; nansum copies the others beside it
PRODUCTS = "chunk_sum"  # products of matrices are added one by one, everything else is put together and reduced


@dataclass(frozen=True)
class Footprint:
    """The memory of a task beside its inputs.

    Parameters
    ----------
    work
        Bytes at its worst moment, its result included.
    result
        Bytes that stay until the last user of the result has ended.
    looks_at
        The input that the result is a view of, which therefore stays as long; or, where there is a ``result``, the
        input of several arrays that it is one of; else None.
    step
        The step that runs at the worst moment.
    """

    work: int
    result: int
    looks_at: Key | None
    step: str


@dataclass
class Ledger:
    """Which results are alive, and their bytes; a view keeps alive what it looks at, or its part of that.

    Parameters
    ----------
    users
        How many will still use each result.
    """

    users: Counter[Key]
    nbytes: int = 0
    sizes: dict[Key, int] = field(default_factory=dict)
    owners: dict[Key, Key] = field(default_factory=dict)

    def keep(self, key: Key, one: Footprint) -> None:
        """Note that a result is alive."""
        if one.looks_at is not None and one.result:
            part = min(one.result, self.sizes.get(one.looks_at, 0))
            if part:  # its own from now on: the rest may go before it
                self.sizes[one.looks_at] -= part
            self.nbytes -= part
        elif one.looks_at is not None:
            self.owners[key] = one.looks_at
            self.users[one.looks_at] += 1
        self.sizes[key] = one.result
        self.nbytes += one.result

    def use(self, key: Key) -> None:
        """Note that a user has ended; the last one takes the result with it."""
        self.users[key] -= 1
        if self.users[key] == 0:
            self.nbytes -= self.sizes.pop(key, 0)
            if key in self.owners:
                self.use(self.owners.pop(key))

    def root(self, key: Key) -> Key:
        """Return what a view looks at in the end; anything else is its own root."""
        while key in self.owners:
            key = self.owners[key]
        return key


class Footprints:
    """Footprints of tasks, found by looking at what was fused into them.

    Dask runs the steps of a fused task one after the other and lets go of what no later step needs; but what
    goes into a fused task stays until all of it has run, and fused tasks are fused again. So a task is walked
    through stage by stage: each stage is the same graph before one more optimisation.

    Parameters
    ----------
    stages
        Graphs, from the tasks that workers run to single operations on arrays.
    writing
        For each final task, the bytes that it needs beside its inputs.
    workspaces
        For arrays, and other layers, whose functions say so: the bytes that one call needs beside inputs and result.
    """

    def __init__(
        self,
        stages: Sequence[Mapping[Key, Any]],
        writing: Mapping[Key, int],
        workspaces: Mapping[Key, int] = MappingProxyType({}),
    ) -> None:
        self._stages = stages
        self._writing = writing
        self._workspaces = workspaces
        self._merged: dict[Key, int] | None = None
        self._found: dict[Key, Footprint] = {}

    def __iter__(self) -> Iterator[Key]:
        return iter(self._stages[0])

    @property
    def finals(self) -> Collection[Key]:
        """The keys of final tasks."""
        return self._writing.keys()

    def task(self, key: Key, stage: int = 0) -> Any:  # noqa: ANN401 - one of Dask's tasks
        """Return a task of a stage, None where it is not known.

        A task fused under another name is looked up there: Dask leaves an alias under the old one.
        """
        tasks = self._stages[stage]
        if key not in tasks:
            return None
        needs: set[Key] = get_dependencies(tasks, key)
        if len(needs) == 1 and stage + 1 < len(self._stages):
            (one,) = needs
            if one in tasks and one not in self._stages[stage + 1]:
                return self.task(one, stage)
        return tasks[key]

    def needs(self, key: Key, stage: int = 0) -> Collection[Key]:
        """Return the keys a task of a stage needs directly."""
        found: set[Key] = get_dependencies(self._stages[stage], task=self.task(key, stage))
        return found

    def steps(self, key: Key, stage: int = 0) -> list[str]:
        """Return the names of the steps that were fused into a task, in the order they run."""
        if stage == len(self._stages) - 1:
            return [key_split(key)]
        parts = self._parts(key, stage + 1, self.needs(key, stage))
        ranks = order({part: self.task(part, stage + 1) for part in parts})
        named = (name for part in sorted(parts, key=ranks.__getitem__) for name in self.steps(part, stage + 1))
        return list(dict.fromkeys(named))

    def __getitem__(self, key: Key) -> Footprint:
        """Return the footprint of a task that workers run."""
        if key not in self._found:
            self._found[key] = self._of(key, 0)
        return self._found[key]

    def _of(self, key: Key, stage: int) -> Footprint:
        """Return the footprint of a task of a stage."""
        needs = self.needs(key, stage)
        if stage == len(self._stages) - 1:
            return self._single(key, needs)
        parts = self._parts(key, stage + 1, needs)
        return self._of(key, stage + 1) if len(parts) == 1 else self._walk(key, parts, stage + 1)

    def _single(self, key: Key, needs: Collection[Key]) -> Footprint:
        step = key_split(key)
        if key in self._writing:
            return Footprint(self._writing[key], 0, None, step)
        known = self._share(key) if step == SPLIT else sizes.of_key(key)
        workspace = self._workspaces.get(key[0] if isinstance(key, tuple) else key, 0)
        if len(needs) == 1 and not workspace:
            (one,) = needs
            if sizes.is_packed(one) and not sizes.is_packed(key):
                return Footprint(0, known or 0, one, step)
            if known is None or step in VIEWS or step == SPLIT:
                small = known is not None and COPIED * known <= (sizes.of_key(one) or 0)
                if not small or step not in {"getitem", SPLIT}:
                    return Footprint(0, 0, one, step)
        working = sum(_working(self.task(key, len(self._stages) - 1), step, need) for need in needs)
        return Footprint((known or 0) + working + workspace, known or 0, None, step)

    def _share(self, key: Key) -> int | None:
        """Return the bytes of a slice: what is put together from slices, divided by their number."""
        if self._merged is None:
            self._merged = {}
            for user in self._stages[-1]:
                found = self.needs(user, len(self._stages) - 1)
                known = sizes.of_key(user)
                if known is not None:
                    self._merged.update({need: known // len(found) for need in found if key_split(need) == SPLIT})
        return self._merged.get(key)

    def _parts(self, key: Key, stage: int, inputs: Collection[Key]) -> dict[Key, Collection[Key]]:
        """Return the tasks of a stage that a task of the stage before consists of, with what each needs."""
        parts: dict[Key, Collection[Key]] = {}
        stack = [key]
        while stack:
            one = stack.pop()
            if one not in parts:
                parts[one] = self.needs(one, stage)
                stack.extend(need for need in parts[one] if need not in inputs)
        return parts

    def _walk(self, key: Key, parts: Mapping[Key, Collection[Key]], stage: int) -> Footprint:
        """Run the parts of a task one after the other and return the worst moment, and what is left."""
        users = Counter(need for needs in parts.values() for need in needs if need in parts)
        # Dask fuses what several steps of a task use after those steps have been fused: it goes into them
        users.update([part for part, count in users.items() if count > 1])
        ledger = Ledger(users)
        worst, step = 0, key_split(key)
        shares: dict[Key, int] = {}  # of inputs of several arrays: the one that is picked out
        ranks = order({part: self.task(part, stage) for part in parts})
        for part in sorted(parts, key=ranks.__getitem__):
            one = self._of(part, stage)
            if ledger.nbytes + one.work > worst:
                worst, step = ledger.nbytes + one.work, one.step
            if one.looks_at is not None and one.looks_at not in parts:
                shares[one.looks_at] = one.result
                one = replace(one, result=0)
            ledger.keep(part, one)
            for need in parts[part]:
                if need in parts:
                    ledger.use(need)
        root = ledger.root(key)
        if root in parts:
            return Footprint(worst, ledger.sizes[root], None, step)
        return Footprint(worst, shares[root], root, step)


def _working(task: Any, step: str, need: Key) -> int:  # noqa: ANN401 - one of Dask's tasks
    """Return the bytes that Dask's own reductions take beside an input and their result."""
    known, func = sizes.of_key(need) or 0, getattr(task, "func", None)
    if step.endswith(("-partial", "-aggregate")) and not step.startswith(PRODUCTS):
        return known  # what is to be reduced further is put together first
    total = MOMENTS * sizes.elements(need) if funcname(func) == "moment_chunk" else 0
    if funcname(getattr(func, "keywords", {}).get("sum")) == "nansum":
        total += known + MASK * sizes.elements(need)
    return total
