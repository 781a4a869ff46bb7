"""How a run treats trouble."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

from lensflow.engine.params import Parameters
from lensflow.errors import BadOption

OnError = Literal["quarantine", "raise"]


@dataclass(frozen=True)
class Options:
    """How a run treats trouble.

    Parameters
    ----------
    on_error
        ``"quarantine"`` goes on without a block that fails for good; ``"raise"`` stops at the first.
    retries
        Attempts after the first for errors that may pass.
    strict
        Kinds of notes from science code (``("corrupt-file",)``, say) that fail the blocks they are about instead of
        being recorded only; True for all kinds.
    timeout
        Seconds that a task may take; the default is learned: ten times the longest of its kind, two minutes at least.
    accept_changes
        Resume although source, arguments, version or inputs have changed.
    failed_only
        Run the quarantined blocks only.
    window
        Blocks in flight; the default is three a worker thread.
    progress
        Show a live line; the default is to do so where somebody watches.
    chain
        How many drivers may follow this one when the SLURM job that it runs in ends before the run does.
    """

    on_error: OnError = "quarantine"
    retries: int = 3
    strict: bool | tuple[str, ...] = False
    timeout: float | None = None
    accept_changes: bool = False
    failed_only: bool = False
    window: int | None = None
    progress: bool | None = None
    chain: int = 0

    @classmethod
    def of(cls, **options: object) -> Self:
        """Check options by name and type.

        Raises
        ------
        BadOption
            If one is unknown (the nearest is named) or unfit.
        """
        chosen = cls(**Parameters.of_function(cls, "run").validate(options))  # type: ignore[arg-type]
        if (chosen.window is not None and chosen.window < 1) or chosen.retries < 0:
            raise BadOption(f"window {chosen.window} and retries {chosen.retries}: expected at least 1 and at least 0")
        if chosen.timeout is not None and not chosen.timeout > 0:
            raise BadOption(f"timeout: found {chosen.timeout}, expected more than 0 seconds")
        return chosen
