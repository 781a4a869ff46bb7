"""Damaged skycells: sound scenes, what happens to files, and what may come of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Seen = Literal["always", "sums", "never"]


@dataclass(frozen=True)
class Damage:
    """What was done to a file, and who must notice.

    ``"always"``: the reader, by the file's own structure and meaning; ``"sums"``: only a checksum can tell;
    ``"never"``: nobody can.
    """

    family: str
    what: str
    seen: Seen
