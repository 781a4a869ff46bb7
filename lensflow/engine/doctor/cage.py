"""The canary's process: started, waited for, and ended whatever happens."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from lensflow.engine.doctor.finding import Finding, fix

if TYPE_CHECKING:
    from collections.abc import Iterator

BESIDES = 60.0  # s for the canary to start, to compute and to clean up, besides the wait for its worker
LEAVE = 20.0  # s to take its jobs back when it is told to stop


def send(profile: str, folder: Path, *, wait: float, besides: float = BESIDES) -> list[Finding]:
    """Send the canary and return what it found.

    Parameters
    ----------
    profile
        A profile by name, path or address.
    folder
        Where a run would write.
    wait
        How long a worker may take to come up, s.
    besides
        How long everything else may take, s.
    """
    with tempfile.TemporaryDirectory(prefix="lensflow-canary-") as cage:
        answer, said = Path(cage, "answer.json"), Path(cage, "said.txt")
        request = {"profile": profile, "folder": str(folder), "wait": wait, "answer": str(answer)}
        command = [sys.executable, "-m", "lensflow.engine.doctor.canary", json.dumps(request)]
        with said.open("w", encoding="utf-8") as words, _process(command, words.fileno()) as process:
            try:
                code = process.wait(wait + besides)
            except subprocess.TimeoutExpired:
                told = f"did not come back within {wait + besides:.0f} s and was stopped"
                return [fix("canary", told, "lensflow doctor --no-canary for the other checks")]
        found = json.loads(answer.read_text(encoding="utf-8")) if answer.is_file() else []
        findings = [Finding(**one) for one in found]
        if code:
            last = said.read_text(encoding="utf-8", errors="replace").strip().splitlines() or [f"exit code {code}"]
            findings.append(fix("canary", f"failed: {last[-1]}", f"lensflow submit ... --cluster {profile} --debug"))
        return findings


@contextlib.contextmanager
def _process(command: list[str], words: int) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process in a session of its own, and end it and its children in any case."""
    process = subprocess.Popen(command, stdout=words, stderr=words, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)  # as Ctrl-C: it takes back the jobs it has submitted
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(LEAVE)
        with contextlib.suppress(ProcessLookupError):  # nobody of its session is left
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
