"""Corrupt-input fuzz of the PS1 readers: ``python benchmarks/fuzz_ps1.py --inputs 10000 [--seed S] [--json]``.

Each input is a small sound source of skycells with one file damaged, drawn from (seed, number) alone. It is read as
the graph reads it, once with damage masked and once refused, by a process that may die, and what came of it is

intact        the very pixels of the sound source
masked        a note names the file, and the pixels are those of a source without that band
recorded      a file that cannot be told to be a skycell is listed as ignored; or chunks that are not there are noted
refused       one sentence
system        an error of the operating system, which the engine tries again and then quarantines
undetectable  pixels differ, and nothing in the source could tell: no checksum covers what was damaged

and, none of which may be: WRONG (pixels differ and something could have told), leak (another exception), warning,
crash, hang (20 s) and memory (1 GiB more than without damage). Exit code 1 if there is any.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import os
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
LIMIT_SECONDS = 20.0
LIMIT_BYTES = 1 << 30  # above what a worker has before its first input
MARKS = np.uint16(8 | 128)  # of pixels of which a band was left out
BAD = ("WRONG", "leak", "warning", "crash", "hang", "memory")

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Pixels = tuple[NDArray[Any], ...]


def _load(path: Path) -> Any:  # noqa: ANN401 - a module
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Read:
    """What came of reading a source: pixels, or an error; and what was said."""

    pixels: Pixels | None
    error: BaseException | None
    notes: tuple[tuple[str, str], ...]  # kind, message
    ignored: tuple[str, ...]
    warned: tuple[str, ...]

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
    """Return whether the values are the same, whatever is missing round them; marks of what was left out count not."""
    if one.dtype.kind == "f":
        return np.array_equal(one[np.isfinite(one)], two[np.isfinite(two)])
    bits, others = one & ~MARKS, two & ~MARKS
    return np.array_equal(bits[bits != 0], others[others != 0])


def read(source: Path, scene: Any, *, on_corrupt: str) -> Read:  # noqa: ANN401 - of a module loaded by path
    """Read a source as the graph does, up to the blur."""
    from lensflow import events  # noqa: PLC0415 - the parent process does without
    from lensflow.ps1.mosaic import stitch  # noqa: PLC0415
    from lensflow.ps1.options import Options  # noqa: PLC0415
    from lensflow.ps1.outputs import tree  # noqa: PLC0415

    pixels: list[NDArray[Any]] = []
    error: BaseException | None = None
    ignored: tuple[str, ...] = ()
    with warnings.catch_warnings(record=True) as warned, events.collect() as notes:
        warnings.simplefilter("always")
        try:
            weights = len(scene.victims) == 3
            options = Options.from_keywords(
                bands=scene.bands, uncertainty=weights, on_corrupt=on_corrupt, scale=scene.scale
            )
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
        self.scenes, self.strangers = _load(ROOT / "benchmarks" / "fuzz_scenes.py").make_scenes(folder)
        self.fits, self.zarr = (_load(ROOT / "tests" / "ps1" / name) for name in ("damage.py", "damage_zarr.py"))
        self.whole = [read(scene.folder, scene, on_corrupt="fail") for scene in self.scenes]
        for scene, whole in zip(self.scenes, self.whole, strict=True):
            assert whole.error is None, (scene.name, whole.error)
            assert not whole.notes, (scene.name, whole.notes)
        self.lesser = [tuple(self._without(scene)) for scene in self.scenes]

    def _without(self, scene: Any) -> Iterator[Read]:  # noqa: ANN401
        """Yield what is read if the band is damaged, and if each of its files is not there."""
        for victim in (None, *scene.victims):
            source = self._copy(scene)
            path = source / (victim or scene.victims[0])
            if victim is None and path.is_dir():
                (path / "zarr.json").unlink()
            elif victim is None:
                path.write_bytes(self.fits.with_card(path.read_bytes(), "DATASUM", "'1'"))
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
            yield read(source, scene, on_corrupt="mask")

    def _copy(self, scene: Any) -> Path:  # noqa: ANN401
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
            family, what, seen = self.zarr.damage_zarr(victim, rng)
        else:
            others = [*self.strangers, *sorted(path for path in source.glob("*.fits") if path != victim)]
            done = self.fits.damage_fits(victim, rng, others)
            family, what, seen = done.family, done.what, done.seen
        lenient, strict = (read(source, scene, on_corrupt=mode) for mode in ("mask", "fail"))
        could_tell = seen == "always" or (seen == "sums" and scene.summed)
        outcome, why = _judge(lenient, strict, self.whole[k], self.lesser[k], could_tell=could_tell, source=source)
        return {
            "number": number,
            "scene": scene.name,
            "victim": victim.name,
            "family": family,
            "what": what,
            "outcome": outcome,
            "why": why,
        }


def _judge(
    lenient: Read, strict: Read, whole: Read, lesser: tuple[Read, ...], *, could_tell: bool, source: Path
) -> tuple[str, str]:
    for one in (lenient, strict):
        fault = _fault(one, source)
        if fault is not None:
            return fault
    if lenient.error is not None:
        return ("system" if isinstance(lenient.error, OSError) else "refused"), str(lenient.error)
    said = "; ".join(message for _, message in lenient.notes)
    damaged = any(kind == "corrupt-file" for kind, _ in lenient.notes)
    if damaged and strict.error is None:
        return "WRONG", f"strict reading says nothing of: {said}"
    if lenient.same(whole):
        return ("WRONG", f"noted and yet whole: {said}") if damaged else ("intact", "")
    if damaged:
        if lenient.is_made_of(whole, lesser[0]):
            return "masked", said
        # if a sum is missing, a block may take for sound what another block finds damaged
        return ("WRONG" if could_tell else "undetectable"), f"not as if it were not there: {said}"
    if any(kind == "absent-chunks" for kind, _ in lenient.notes):
        return "recorded", said
    if any(lenient.same(one) for one in lesser[1:]) and (lenient.notes or lenient.ignored != whole.ignored):
        return "recorded", f"{said} {lenient.ignored}"
    return ("WRONG", "pixels differ") if could_tell else ("undetectable", "pixels differ")


def _fault(one: Read, source: Path) -> tuple[str, str] | None:
    """Return what must not be, whatever the damage."""
    from lensflow.errors import BadInput  # noqa: PLC0415

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


# the worker: one process, many inputs


def work(seed: int) -> None:
    """Read numbers from standard input, one a line, and print what came of each."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        trial = Trial(Path(folder))
        trial.run(seed, 0)
        gc.collect()
        base = _status("VmSize")
        resource.setrlimit(resource.RLIMIT_AS, (base + LIMIT_BYTES, base + LIMIT_BYTES))
        print(json.dumps({"ready": True}), flush=True)
        for line in sys.stdin:
            found = trial.run(seed, int(line))
            print(json.dumps({**found, "peak": _status("VmHWM")}), flush=True)


def _status(key: str) -> int:
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return int(text.split(f"{key}:")[1].split()[0]) << 10


class Worker:
    """A process that reads damaged inputs; started again if it dies."""

    def __init__(self, seed: int) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **dict.fromkeys(("OMP_NUM_THREADS",), "1")}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--worker", "--seed", str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=environment,
        )
        assert self._answer(120) == {"ready": True}

    def ask(self, number: int) -> dict[str, Any]:
        """Return what came of an input; ``hang`` or ``crash`` if nothing came."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{number}\n")
        return self._answer(LIMIT_SECONDS) or {"number": number}

    def _answer(self, seconds: float) -> dict[str, Any] | None:
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            return None
        line = self.process.stdout.readline()
        return json.loads(line) if line else None  # type: ignore[no-any-return]

    def close(self) -> str:
        """End the process and say how it had ended."""
        code = self.process.poll()
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        return "hang" if code is None else "crash"


def fuzz(inputs: int, seed: int, *, first: int = 0) -> Iterator[dict[str, Any]]:
    """Yield what came of each input."""
    worker = Worker(seed)
    try:
        for number in range(first, first + inputs):
            found = worker.ask(number)
            if "outcome" not in found:
                time.sleep(0.2)  # a dying process closes its pipes before it is gone
                found |= {"outcome": worker.close(), "scene": "?", "family": "?", "what": "?", "victim": "?", "why": ""}
                worker = Worker(seed)
            yield found
    finally:
        worker.close()


def table(found: list[dict[str, Any]], key: str) -> str:
    """Return the counts of outcomes by family or scene."""
    outcomes = ["intact", "masked", "recorded", "refused", "system", "undetectable", *BAD]
    kept = [one for one in outcomes if any(each["outcome"] == one for each in found)]
    counts = Counter((each[key], each["outcome"]) for each in found)
    lines = [f"{key:<18}" + "".join(f"{one:>14}" for one in kept)]
    for name in [*sorted({each[key] for each in found}), "all"]:
        row = (sum(n for (k, o), n in counts.items() if o == one and name in (k, "all")) for one in kept)
        lines.append(f"{name:<18}" + "".join(f"{n:>14}" for n in row))
    return "\n".join(lines)


def main() -> None:
    """Run the fuzz."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--json", action="store_true", help="print one JSON object an input")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given.seed)
        return
    began = time.perf_counter()
    found = []
    for one in fuzz(given.inputs, given.seed, first=given.first):
        found.append(one)
        if given.json:
            print(json.dumps(one), flush=True)
        elif one["outcome"] in BAD:
            print(*(one[key] for key in ("number", "outcome", "scene", "victim", "family", "what", "why")), sep=" | ")
    if not given.json:
        peak = max(one.get("peak", 0) for one in found) >> 20
        print(table(found, "family"), table(found, "scene"), sep="\n\n")
        print(
            f"\n{len(found)} inputs in {time.perf_counter() - began:.0f} s, peak memory {peak} MiB, seed {given.seed}"
        )
    sys.exit(any(one["outcome"] in BAD for one in found))


if __name__ == "__main__":
    main()
