"""What a store is before its first block: metadata and coordinates. Kept beside it, so that it can be mended."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from lensflow.engine import store
from lensflow.engine.work import occupied
from lensflow.errors import OutputError, StoreConflict

if TYPE_CHECKING:
    from pathlib import Path

    from lensflow.engine.rundir import RunDirectory
    from lensflow.engine.work import Work


def make(directory: RunDirectory, work: Work) -> None:
    """Write the template of a work into the run directory; it is there whole or not at all."""
    draft = directory.template.with_name("template.draft")
    for old in (draft, directory.template):
        if old.exists():
            shutil.rmtree(old)
    store.create(draft, work.tree, work.layouts)
    draft.rename(directory.template)


def altered(directory: RunDirectory) -> list[Path]:
    """Return the files of the template that the store lacks or has otherwise, relative to both; the root's first."""
    files = [path.relative_to(directory.template) for path in directory.template.rglob("*") if path.is_file()]
    return [one for one in sorted(files, key=lambda path: (len(path.parts), path)) if not _same(directory, one)]


def _same(directory: RunDirectory, file: Path) -> bool:
    try:
        return (directory.out / file).read_bytes() == (directory.template / file).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return False


def restore(directory: RunDirectory) -> list[Path]:
    """Bring the store's metadata and coordinates to what the template says; return the files that were not.

    Raises
    ------
    StoreConflict
        If something else stands where the store was.
    OutputError
        If the place cannot be written.
    """
    if occupied(directory.out) and not (directory.out / "zarr.json").exists():
        raise StoreConflict(f"{directory.out}: is not the store of this run any more; choose another --out")
    files = altered(directory)
    try:
        for file in files:
            target = directory.out / file
            target.parent.mkdir(parents=True, exist_ok=True)
            draft = target.with_name(f"{target.name}.partial")
            shutil.copyfile(directory.template / file, draft)
            draft.replace(target)
    except OSError as error:
        raise OutputError(f"{directory.out}: cannot be written ({error.strerror}); choose another --out") from error
    return files


def sweep(directory: RunDirectory) -> None:
    """Remove what writers that were killed left of chunks they had not finished."""
    for path in directory.out.rglob("*.partial"):
        path.unlink(missing_ok=True)
