"""Ask a command of SLURM and get its words, or why there are none; never wait for ever."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass

PATIENCE = 15.0  # s; a busy controller answers within a few

KEPT = {"SLURM_CONF", "SLURM_CLUSTERS"}


@dataclass(frozen=True)
class Answer:
    """What a command said.

    Parameters
    ----------
    text
        Its standard output.
    problem
        Why there is no answer, in the command's own words; empty if there is one.
    missing
        Whether the command is not installed here.
    """

    text: str = ""
    problem: str = ""
    missing: bool = False

    @property
    def good(self) -> bool:
        """Whether the command answered."""
        return not self.problem


def ask(*words: str, seconds: float = PATIENCE) -> Answer:
    """Run a command that only reads, for a bounded time.

    Parameters
    ----------
    *words
        The command and its words.
    seconds
        How long to wait for it.
    """
    # what a job inherits of its own sizes must not decide about other jobs
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_") or name in KEPT}
    try:
        done = subprocess.run(  # noqa: S603 - no shell, fixed commands
            words, capture_output=True, text=True, timeout=seconds, check=False, stdin=subprocess.DEVNULL, env=kept
        )
    except FileNotFoundError:
        return Answer(problem=f"{words[0]} is not installed here", missing=True)
    except subprocess.TimeoutExpired:
        return Answer(problem=f"{words[0]} gave no answer within {seconds:.0f} s")
    except OSError as error:
        return Answer(problem=f"{words[0]} cannot be run ({error.strerror})")
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()
        return Answer(problem=said[-1])
    return Answer(text=done.stdout)
