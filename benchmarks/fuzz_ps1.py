"""Corrupt-input fuzz of the PS1 readers: ``python benchmarks/fuzz_ps1.py --inputs 10000 [--seed S] [--json]``.

Each input is a small sound source of skycells with one file damaged, drawn from (seed, number) alone (real cutouts
are among the sources where LENSFLOW_REAL_DATA holds them). It is read as the graph reads it, once with damage masked
and once refused, by a process that may die, and what came of it is

intact        the very pixels of the sound source
masked        a note names the file, and the pixels are those of a source without that band
recorded      a file that cannot be told to be a skycell is listed as ignored, a missing band or chunk is noted
refused       one sentence
system        an error of the operating system, which the engine tries again and then quarantines
undetectable  pixels differ, and nothing in the source could tell: no checksum covers what was damaged

and, none of which may be: WRONG (pixels differ and something could have told), leak (another exception), warning,
crash, hang (20 s) and memory (1 GiB more than without damage). Exit code 1 if there is any.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
LIMIT_SECONDS = 20.0
LIMIT_BYTES = 1 << 30  # above what a worker has before its first input
BAD = ("WRONG", "leak", "warning", "crash", "hang", "memory")

if TYPE_CHECKING:
    from collections.abc import Iterator


def work(seed: int) -> None:
    """Read numbers from standard input, one a line, and print what came of each."""
    sys.path.insert(0, str(ROOT))
    from benchmarks.fuzz.trial import Trial  # noqa: PLC0415 - heavy, and the parent process does without

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
        return json.loads(line) if line else None

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
