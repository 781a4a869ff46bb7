"""BigFile containers: a block is a folder of raw parts, with a header of their lengths and sums and with attributes."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lensflow.errors import BadInput

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODULUS = 1 << 32  # of sums of bytes
TEXT = {"S", "a"}  # how the C writer and the python writer spell the type of a text's letters
PART = re.compile(r"([0-9A-Fa-f]{6,})\s*:\s*(\d+)\s*:\s*(\d+)\s*:\s*(\d+)")
ATTRIBUTE = re.compile(r"(\S+) ([<>=|]?)([A-Za-z])(\d+) (\d+) ([0-9A-Fa-f]*)(?: #HUMANE .*)?")


def folded(total: int) -> int:
    """Return the 16-bit form of a sum of bytes that headers state beside it."""
    once = (total & 0xFFFF) + (total >> 16)
    return (once & 0xFFFF) + (once >> 16)


@dataclass(frozen=True)
class Part:
    """One raw file of a block.

    Parameters
    ----------
    path
        The file; its name is its number in hexadecimal.
    rows
        How many records it holds.
    byte_sum
        The sum of its bytes modulo 2^32, as the header states it.
    """

    path: Path
    rows: int
    byte_sum: int


@dataclass(frozen=True)
class Block:
    """A block of a BigFile: a column of records in parts, or attributes alone.

    Parameters
    ----------
    path
        Its folder.
    dtype
        Of one member, little-endian.
    members
        Members of a record; 0 for attributes alone.
    parts
        The raw files, in order.
    """

    path: Path
    dtype: np.dtype[Any]
    members: int
    parts: tuple[Part, ...]

    @property
    def record(self) -> int:
        """Bytes of a record."""
        return self.members * self.dtype.itemsize

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The first record of each part, counted over the block, and one past the last."""
        return tuple(accumulate((part.rows for part in self.parts), initial=0))

    @property
    def rows(self) -> int:
        """Records of the block."""
        return self.starts[-1]

    @cached_property
    def attrs(self) -> dict[str, Any]:
        """The attributes: text, numbers, and arrays of numbers.

        Raises
        ------
        BadInput
            If they cannot be read.
        """
        return read_attrs(self.path / "attr-v2")

    def only(self, part: int) -> Block:
        """Return the block with one of its parts: small enough to travel with every task."""
        return replace(self, parts=(self.parts[part],))

    def check_sizes(self) -> None:
        """Hold the size of every part against the header.

        Raises
        ------
        BadInput
            If a part is missing or has another size.
        """
        for part in self.parts:
            expected = part.rows * self.record
            try:
                found = part.path.stat().st_size
            except FileNotFoundError as error:
                raise BadInput(
                    f"{part.path}: found no file, expected a part of {expected} bytes; copy the block again"
                ) from error
            if found != expected:
                raise BadInput(
                    f"{part.path}: found {found} bytes, expected {expected} ({part.rows} records); copy it again"
                )

    def read(self, index: int, start: int, stop: int) -> NDArray[Any]:
        """Return records ``start`` to ``stop`` of a part, as (records,) or (records, members).

        Raises
        ------
        BadInput
            If the part ends before them.
        """
        part, count = self.parts[index], (stop - start) * self.members
        with part.path.open("rb", buffering=0) as file:
            values = np.fromfile(file, self.dtype, count, offset=start * self.record)
        if len(values) != count:
            raise BadInput(
                f"{part.path}: found {start * self.members + len(values)} values, expected {stop * self.members} or "
                "more: the file became shorter; copy it again"
            )
        return values if self.members == 1 else values.reshape(-1, self.members)


def open_block(path: str | Path) -> Block:
    """Open a block by its header; neither its parts nor its attributes are looked at.

    Parameters
    ----------
    path
        Its folder.

    Raises
    ------
    BadInput
        If there is no block, or its header is damaged.
    """
    path = Path(path)
    lines = _text(path / "header").split("\n")
    fields = dict(line.split(":", 1) for line in lines[:3] if ":" in line)
    try:
        dtype, members, count = (fields[name].strip() for name in ("DTYPE", "NMEMB", "NFILE"))
        block = Block(path, _number_type(dtype), int(members), tuple(_parts(path, lines[3:])))
    except (KeyError, ValueError, TypeError) as error:
        raise BadInput(
            f"{path}/header: found {lines[:3]}, expected DTYPE, NMEMB, NFILE and a line a part ({error})"
        ) from error
    if len(block.parts) != int(count):
        raise BadInput(f"{path}/header: NFILE: found {count}, and {len(block.parts)} lines; copy the block again")
    return block


def _number_type(text: str) -> np.dtype[Any]:
    if text.startswith(">"):
        raise ValueError(f"{text} is not little-endian")
    return np.dtype(text.replace("=", "<"))


def _parts(path: Path, lines: list[str]) -> list[Part]:
    found = []
    for number, line in enumerate(filter(str.strip, lines)):
        match = PART.fullmatch(line.strip())
        if match is None or int(match[1], 16) != number:
            raise ValueError(f"line {line!r} of part {number:06X}")
        rows, total, short = int(match[2]), int(match[3]), int(match[4])
        if folded(total) != short:
            raise ValueError(f"sums {total} and {short} of part {number:06X} contradict each other")
        found.append(Part(path / match[1], rows, total))
    return found


def read_attrs(path: Path) -> dict[str, Any]:
    """Read a file of attributes; one that is absent is empty.

    Raises
    ------
    BadInput
        If a line cannot be read.
    """
    if not path.exists():
        return {}
    return dict(_attribute(path, line) for line in _text(path).split("\n") if line.strip())


def _attribute(path: Path, line: str) -> tuple[str, Any]:
    match = ATTRIBUTE.fullmatch(line.rstrip("\r"))
    if match is None:
        raise BadInput(f"{path}: found the line {line[:80]!r}, expected NAME DTYPE NMEMB HEXBYTES; copy the file again")
    name, order, kind, size, members = match[1], match[2] or "<", match[3], int(match[4]), int(match[5])
    content = bytes.fromhex(match[6]) if len(match[6]) % 2 == 0 else b""
    if len(content) != size * members:
        raise BadInput(
            f"{path}: {name}: found {len(match[6])} digits, expected {2 * size * members}; copy the file again"
        )
    if kind in TEXT:
        return name, content.rstrip(b"\0").decode("utf-8", "replace")
    try:
        values = np.frombuffer(content, f"{order}{kind}{size}")
    except TypeError as error:
        raise BadInput(f"{path}: {name}: found the type {kind}{size}, expected a number or S1") from error
    return name, values[0].item() if members == 1 else values.astype(values.dtype.newbyteorder("="))


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("latin-1")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadInput(f"{path}: found no file, expected a block of a BigFile; check the path") from error
