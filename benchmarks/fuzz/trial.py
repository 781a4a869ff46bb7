"""One input damaged and read, and what came of it."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from benchmarks.fuzz.cards import with_card
from benchmarks.fuzz.damage_fits import damage_fits
from benchmarks.fuzz.damage_zarr import damage_zarr
from benchmarks.fuzz.scenes import make_scenes
from lensflow import events
from lensflow.errors import BadInput
from lensflow.ps1.mosaic import stitch
from lensflow.ps1.options import Options
from lensflow.ps1.outputs import tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from benchmarks.fuzz.scenes import Scene

    Pixels = tuple[NDArray[Any], ...]

MARKS = np.uint16(8 | 128)  # of pixels of which a band was left out


@dataclass(frozen=True)
class Read:
    """What came of reading a source: pixels, or an error; and what was said."""

    pixels: Pixels | None
    error: BaseException | None
    notes: tuple[tuple[str, str], ...]  # kind, message
    ignored: tuple[str, ...]
    warned: tuple[str, ...]

    @property
    def damaged(self) -> bool:
        """Whether a band was left out."""
        return any(kind == "corrupt-file" for kind, _ in self.notes)

    @property
    def said(self) -> str:
        """All notes."""
        return "; ".join(message for _, message in self.notes)

    def same(self, other: Read) -> bool:
        """Return whether the pixels are the same."""
        if self.pixels is None or other.pixels is None:
            return False
        pairs = zip(self.pixels, other.pixels, strict=False)
        return len(self.pixels) == len(other.pixels) and all(_equal(one, two) for one, two in pairs)

    def values(self) -> list[float]:
        """Return every flux, in order of size."""
        return sorted(
            float(value) for one in self.pixels or () for value in one[np.isfinite(one)] if one.dtype.kind == "f"
        )

    def is_made_of(self, whole: Read, lesser: Read) -> bool:
        """Return whether each block is that of the one or the other, but for marks, and for the size of a cutout."""
        if self.pixels is None or whole.pixels is None or lesser.pixels is None:
            return False
        if not len(self.pixels) == len(whole.pixels) == len(lesser.pixels):  # more or fewer blocks
            return self.values() == lesser.values()
        trios = zip(self.pixels, whole.pixels, lesser.pixels, strict=True)
        return all(_equal(one, two) or _alike(one, three) for one, two, three in trios)


def _equal(one: NDArray[Any], two: NDArray[Any]) -> bool:
    return np.array_equal(one, two, equal_nan=one.dtype.kind == "f")


def _alike(one: NDArray[Any], two: NDArray[Any]) -> bool:
    """Return whether the values are the same but for marks; of cutouts of another size those that are anything."""
    if one.dtype.kind == "u":
        one, two = one & ~MARKS, two & ~MARKS
    if one.shape == two.shape:
        return _equal(one, two)
    return np.array_equal(one[np.isfinite(one) & (one != 0)], two[np.isfinite(two) & (two != 0)])


def read(source: Path, scene: Scene, *, on_corrupt: Literal["mask", "fail"]) -> Read:
    """Read a source as the graph does, up to the blur."""
    pixels: list[NDArray[Any]] = []
    error: BaseException | None = None
    ignored: tuple[str, ...] = ()
    with warnings.catch_warnings(record=True) as warned, events.collect() as notes:
        warnings.simplefilter("always")
        try:
            weights = len(scene.victims) == 3
            options = Options(bands=scene.bands, uncertainty=weights, on_corrupt=on_corrupt, scale=scene.scale)
            inventory, plans = options.plan(source)
            ignored = inventory.ignored
            for plan in plans:
                rows, columns = plan.layout.chunks
                for index in np.ndindex(len(rows), len(columns)):
                    pixels.extend(stitch(plan.layout, block_id=index))
            tree({}, inventory=inventory, plans=plans, options={})  # notes what is missing
        except Exception as raised:  # noqa: BLE001 - what is raised is what is asked
            error = raised
    said = tuple(sorted({(note.kind, note.message) for note in notes}))
    return Read(
        None if error else tuple(pixels), error, said, ignored, tuple(str(one.message).split("\n")[0] for one in warned)
    )


class Trial:
    """Sound scenes and what they look like whole and without a file of the victim's band."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scenes, self.strangers = make_scenes(folder)
        self.whole = [read(scene.folder, scene, on_corrupt="fail") for scene in self.scenes]
        for scene, whole in zip(self.scenes, self.whole, strict=True):
            assert whole.error is None, (scene.name, whole.error)
            assert not whole.notes, (scene.name, whole.notes)
        self.lesser = [tuple(self._without(scene)) for scene in self.scenes]

    def _without(self, scene: Scene) -> Iterator[Read]:
        """Yield what is read if the band is damaged, and if each of its files is not there."""
        for victim in (None, *scene.victims):
            source = self._copy(scene)
            path = source / (victim or scene.victims[0])
            if victim is None and path.is_dir():
                (path / "zarr.json").unlink()
            elif victim is None:
                path.write_bytes(with_card(path.read_bytes(), "DATASUM", "'1'"))
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
            yield read(source, scene, on_corrupt="mask")

    def _copy(self, scene: Scene) -> Path:
        source = self.folder / "damaged"
        shutil.rmtree(source, ignore_errors=True)
        shutil.copytree(scene.folder, source)
        return source

    def run(self, seed: int, number: int) -> dict[str, Any]:
        """Damage and read one input."""
        rng = np.random.default_rng([seed, number])
        k = int(rng.integers(len(self.scenes)))
        scene = self.scenes[k]
        source = self._copy(scene)
        victim = source / scene.victims[min(int(rng.choice([0, 0, 1, 2])), len(scene.victims) - 1)]
        if victim.is_dir():
            done = damage_zarr(victim, rng)
        else:
            others = [*self.strangers, *sorted(path for path in source.glob("*.fits") if path != victim)]
            done = damage_fits(victim, rng, others)
        lenient, strict = read(source, scene, on_corrupt="mask"), read(source, scene, on_corrupt="fail")
        outcome, why = _fault(lenient, source) or _fault(strict, source) or _compare(lenient, strict)
        if not outcome:
            could_tell = done.seen == "always" or (done.seen == "sums" and scene.summed)
            outcome, why = _judge(lenient, self.whole[k], self.lesser[k], could_tell=could_tell)
        return {
            "number": number,
            "scene": scene.name,
            "victim": victim.name,
            "family": done.family,
            "what": done.what,
            "outcome": outcome,
            "why": why,
        }


def _compare(lenient: Read, strict: Read) -> tuple[str, str]:
    """Hold masking against refusing: what the one masks the other must refuse."""
    if lenient.error is not None:
        return ("system" if isinstance(lenient.error, OSError) else "refused"), str(lenient.error)
    if lenient.damaged != (strict.error is not None):
        return "WRONG", f"one reading says nothing of: {strict.error}; {lenient.said}"
    return "", ""


def _judge(lenient: Read, whole: Read, lesser: tuple[Read, ...], *, could_tell: bool) -> tuple[str, str]:
    """Hold the pixels against those of the sound source, and of one without the band or a file of it."""
    said = f"{lenient.said} {' '.join(lenient.ignored)}"
    if lenient.same(whole):
        return ("WRONG", f"noted and yet whole: {said}") if lenient.damaged else ("intact", "")
    if lenient.damaged and lenient.is_made_of(whole, lesser[0]):
        return "masked", said
    told = lenient.notes or lenient.ignored != whole.ignored
    lost = any(kind == "absent-chunks" for kind, _ in lenient.notes)
    if lost or (told and any(lenient.same(one) for one in lesser[1:])):
        return "recorded", said
    # without a sum, a block may take for sound what another block finds damaged
    return ("WRONG" if could_tell else "undetectable"), f"pixels differ; {said}"


def _fault(one: Read, source: Path) -> tuple[str, str] | None:
    """Return what must not be, whatever the damage."""
    error = one.error
    if isinstance(error, MemoryError):
        return "memory", repr(error)
    named = isinstance(error, BadInput) and str(source) in str(error) and "\n" not in str(error)
    system = isinstance(error, OSError) and error.errno is not None and error.filename is not None
    if error is not None and not (named and len(str(error)) < 1000) and not system:
        return "leak", repr(error)
    if one.warned:
        return "warning", one.warned[0]
    for kind, message in one.notes:
        if "\n" in message or (kind == "corrupt-file" and str(source) not in message):
            return "leak", f"note: {message}"
    return None
