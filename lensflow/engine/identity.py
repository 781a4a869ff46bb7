"""What makes two runs the same run: graph source, arguments, version, geometry and the inputs' fingerprints."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from dask.base import tokenize

from lensflow.engine.blocks import groups, is_lazy
from lensflow.errors import BadInput
from lensflow.events import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import xarray as xr

    from lensflow.engine.catalog import Graph

BY_HAND = "(a dataset made by hand)"
ZARR_METADATA = {"zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata"}


@dataclass(frozen=True)
class Identity:
    """What a store was made from. ``inputs`` maps each file to (bytes, modification time in ns)."""

    graph: str
    source_sha256: str
    arguments: dict[str, Any]
    version: str
    geometry: str
    inputs: dict[str, list[int]]

    @property
    def key(self) -> str:
        """A hash of all of it."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def changes_since(self, old: Identity) -> list[str]:
        """Say in sentences what differs from an earlier identity."""
        found = []
        if self.graph != old.graph:
            found.append(f"the graph is {self.graph}, it was {old.graph}")
        elif self.source_sha256 != old.source_sha256:
            found.append(f"the source of the graph {self.graph} has changed")
        for name in sorted(self.arguments.keys() | old.arguments.keys()):
            now, then = self.arguments.get(name, "its default"), old.arguments.get(name, "its default")
            if now != then:
                found.append(f"the argument {name} is {now}, it was {then}")
        if self.version != old.version:
            found.append(f"lensflow is version {self.version}, it was {old.version}")
        found += _changed_inputs(self.inputs, old.inputs)
        if self.geometry != old.geometry:
            found.append("the output has other variables, shapes, types or chunks")
        return found


def _changed_inputs(now: dict[str, list[int]], then: dict[str, list[int]]) -> Iterator[str]:
    for label, paths in (
        ("is new", now.keys() - then.keys()),
        ("is gone", then.keys() - now.keys()),
        ("has changed", {one for one in now.keys() & then.keys() if now[one] != then[one]}),
    ):
        if paths:
            others = f" (and {len(paths) - 1} more)" if len(paths) > 1 else ""
            yield f"input {min(paths)} {label}{others}"


def identify(
    tree: xr.DataTree, graph: Graph | None, arguments: dict[str, object], sources: Iterable[Path] = ()
) -> Identity:
    """Return the identity of a run of ``tree``, made from ``sources`` by ``graph`` (None: by hand)."""
    return Identity(
        graph=graph.reference if graph else BY_HAND,
        source_sha256=graph.sha256 if graph else _tasks(tree),
        arguments=plain(arguments),
        version=version("lensflow"),
        geometry=_geometry(tree),
        inputs=fingerprints(sources),
    )


def _tasks(tree: xr.DataTree) -> str:
    """Hash what Dask calls the lazy arrays: of a dataset made by hand, only that tells one from another."""
    names = [one.data.name for _, dataset in groups(tree) for one in dataset.variables.values() if is_lazy(one)]
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()


def _geometry(tree: xr.DataTree) -> str:
    """Hash names, dimensions, shapes, types and chunks, and the values of what is in memory."""
    described = [
        (group, str(name), list(map(str, one.dims)), list(one.shape), str(one.dtype), plain(one.chunks or ()))
        + (() if is_lazy(one) else (tokenize(one.values),))
        for group, dataset in groups(tree)
        for name, one in dataset.variables.items()
    ]
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def fingerprints(paths: Iterable[Path]) -> dict[str, list[int]]:
    """Return size and modification time of every file named, or below a folder named.

    Of a Zarr store only the metadata files count: its chunks may be millions.

    Raises
    ------
    BadInput
        If a path does not exist.
    """
    found: dict[str, list[int]] = {}
    for path in paths:
        try:
            if path.is_dir():
                found.update(_below(str(path), frozenset()))
            else:
                found[str(path)] = _fingerprint(path.stat())
        except FileNotFoundError as error:
            raise BadInput(f"{error.filename or path}: no such file or folder; check the path") from error
    return found


def _below(folder: str, above: frozenset[tuple[int, int]]) -> Iterator[tuple[str, list[int]]]:
    """Walk a folder, once even where it links to itself; of Zarr groups and arrays, the metadata only."""
    stat = os.stat(folder)  # noqa: PTH116 - scandir deals in text
    here = (stat.st_dev, stat.st_ino)
    if here in above:
        return
    with os.scandir(folder) as scanned:
        entries = sorted(scanned, key=lambda entry: entry.name)
    zarr = any(entry.name in ZARR_METADATA for entry in entries)
    for entry in entries:
        if entry.is_dir():
            if not zarr or any(os.path.exists(os.path.join(entry.path, one)) for one in ZARR_METADATA):  # noqa: PTH110, PTH118
                yield from _below(entry.path, above | {here})
        elif not zarr or entry.name in ZARR_METADATA:
            yield entry.path, _fingerprint(entry.stat())


def _fingerprint(stat: os.stat_result) -> list[int]:
    return [stat.st_size, stat.st_mtime_ns]
