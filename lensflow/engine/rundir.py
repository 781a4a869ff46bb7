"""The run directory beside a store: who made it, from what, and how far it is."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lensflow.engine.identity import Identity
from lensflow.engine.journal import State, fold
from lensflow.errors import BadInput

SCHEMA = "lensflow-run/1"
NEEDED = {"identity", "blocks"}
PACKAGES = ("lensflow", "dask", "distributed", "xarray", "zarr", "numpy", "astropy")


@dataclass(frozen=True)
class RunDirectory:
    """Paths and contents of ``<out>.run/``."""

    out: Path

    @classmethod
    def of(cls, path: Path | str) -> RunDirectory:
        """Return the run directory of a store, given the store's path or the directory's own."""
        path = Path(path).absolute()
        return cls(path.with_suffix("") if path.suffix == ".run" else path)

    @property
    def path(self) -> Path:
        """The directory itself."""
        return self.out.with_name(self.out.name + ".run")

    @property
    def lock(self) -> Path:
        """The lock file of the one writer."""
        return self.path / "lock"

    @property
    def journal(self) -> Path:
        """Block states."""
        return self.path / "journal.jsonl"

    @property
    def events(self) -> Path:
        """Notes, retries and warnings."""
        return self.path / "events.jsonl"

    @property
    def tasks(self) -> Path:
        """What tasks took, and the memory of workers."""
        return self.path / "tasks.jsonl"

    @property
    def template(self) -> Path:
        """The store as it was before its first block."""
        return self.path / "template"

    @property
    def report(self) -> Path:
        """The HTML report; the JSON one lies beside it."""
        return self.path / "report.html"

    def describe(self) -> dict[str, Any]:
        """Return what ``run.json`` says.

        Raises
        ------
        BadInput
            If there is no run here, or its description is damaged.
        """
        try:
            found = json.loads((self.path / "run.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise BadInput(f"{self.out}: no lensflow run here ({self.path.name}/run.json is missing)") from error
        except ValueError as error:
            raise BadInput(f"{self.path / 'run.json'}: damaged ({error})") from error
        if not isinstance(found, dict) or found.get("schema") != SCHEMA or not found.keys() >= NEEDED:
            raise BadInput(f"{self.path / 'run.json'}: damaged, or not of this version (no schema {SCHEMA})")
        return found

    def exists(self) -> bool:
        """Whether a run has been described here."""
        return (self.path / "run.json").is_file()

    def identity(self) -> Identity:
        """Return the identity the run was started with."""
        described = self.describe().get("identity") or {}
        try:
            return Identity(**described)
        except TypeError as error:
            raise BadInput(f"{self.path / 'run.json'}: its identity is damaged ({error})") from error

    def state(self) -> State:
        """Return where the run stands, from the journal alone."""
        return fold(self.journal)

    def write(self, identity: Identity, **more: Any) -> None:  # noqa: ANN401 - any JSON value
        """Describe the run in ``run.json``, atomically."""
        described = {
            "schema": SCHEMA,
            "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "out": str(self.out),
            "key": identity.key,
            "identity": asdict(identity),
            "versions": versions(),
            "command": sys.argv,
            **more,
        }
        replace(self.path / "run.json", json.dumps(described, indent=1))


def replace(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old text or the new one, never half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide the pixels."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
