"""What makes two runs the same run: graph source, arguments, version, geometry and the inputs' fingerprints."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from lensflow.engine.blocks import groups
from lensflow.engine.catalog import PROVENANCE, Graph, plain
from lensflow.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import xarray as xr

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


def identify(tree: xr.DataTree, graph: Graph | None, arguments: dict[str, object]) -> Identity:
    """Return the identity of a run of ``tree``, made by ``graph`` with ``arguments`` (or by hand: None)."""
    made = tree.attrs.get(PROVENANCE, {})
    return Identity(
        graph=made.get("graph", "(a dataset made by hand)"),
        source_sha256=made.get("source_sha256", ""),
        arguments=plain(arguments),
        version=version("lensflow"),
        geometry=_geometry(tree),
        inputs=fingerprints(graph.inputs(arguments)) if graph else {},
    )


def _geometry(tree: xr.DataTree) -> str:
    described = [
        (group, str(name), list(map(str, one.dims)), list(one.shape), str(one.dtype), plain(one.chunks or ()))
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
                zarr = any((path / name).exists() for name in ZARR_METADATA)
                found.update(_below(str(path), metadata_only=zarr))
            else:
                stat = path.stat()
                found[str(path)] = [stat.st_size, stat.st_mtime_ns]
        except FileNotFoundError as error:
            raise BadInput(f"{path}: no such file or folder; check the path") from error
    return found


def _below(folder: str, *, metadata_only: bool) -> Iterator[tuple[str, list[int]]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                # chunks of a Zarr v3 array lie under c/: nothing to fingerprint there
                if not (metadata_only and entry.name == "c"):
                    yield from _below(entry.path, metadata_only=metadata_only)
            elif not metadata_only or entry.name in ZARR_METADATA:
                stat = entry.stat()
                yield entry.path, [stat.st_size, stat.st_mtime_ns]
