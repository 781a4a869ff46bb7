"""Columns of FITS tables that hold long runs of numbers, read a run at a time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lensflow.arrays.headers import open_file, whole_number
from lensflow.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from lensflow.arrays.headers import Unit

# letter of TFORM -> type in the file, type in memory
FORMS = {
    "E": (">f4", "f4"),
    "D": (">f8", "f8"),
    "B": ("u1", "f4"),
    "I": (">i2", "f4"),
    "J": (">i4", "f8"),
    "K": (">i8", "f8"),
}


@dataclass(frozen=True)
class Place:
    """Where the pixels of one column lie: row ``r`` holds ``repeat`` of them, ``offset`` bytes after its start."""

    data: int
    width: int
    offset: int
    repeat: int
    stored: str
    wanted: str
    scale: float
    zero: float


@dataclass(frozen=True)
class Pixels:
    """The pixels of a column of a file.

    Parameters
    ----------
    path, count
        The file, and how many it holds.
    place
        Where they lie.
    """

    path: Path
    count: int
    place: Place

    def read(self, start: int, stop: int) -> NDArray[np.floating]:
        """Return a run of pixels, f4 or f8.

        Raises
        ------
        BadInput
            If the file ends before it.
        """
        place = self.place
        start, stop, _ = slice(start, stop).indices(self.count)
        first, last = start // place.repeat, -(-stop // place.repeat)
        with open_file(self.path) as file:
            file.seek(place.data + first * place.width)
            content = file.read((last - first) * place.width)
        if len(content) < (last - first) * place.width:
            raise BadInput(f"{self.path}: the file became shorter while it was read; fetch it again")
        shape, strides = (last - first, place.repeat), (place.width, np.dtype(place.stored).itemsize)
        whole = np.ndarray(shape, place.stored, content, place.offset, strides)
        values = whole.astype(place.wanted).reshape(-1)[start - first * place.repeat :][: stop - start]
        return values if (place.scale, place.zero) == (1, 0) else values * place.scale + place.zero


def find_column(unit: Unit, column: int | str, path: Path) -> Place:
    """Find a column of numbers in a table, by number or name.

    Raises
    ------
    BadInput
        If there is none.
    """
    header = unit.header
    count = whole_number(header, "TFIELDS", path, least=1, most=999)
    names = [str(header.get(f"TTYPE{number}", "")).strip() for number in range(1, count + 1)]
    if isinstance(column, str):
        if column not in names:
            raise BadInput(f"{path}: found the columns {', '.join(names)}, expected {column}")
        column = names.index(column)
    if not 0 <= column < count:
        raise BadInput(f"{path}: found {count} columns, expected one with the number {column}")
    offset = 0
    for number in range(1, column + 2):
        form = str(header.get(f"TFORM{number}", "")).strip()
        match = re.fullmatch(r"(\d*)([BIJKED])", form)
        if match is None:
            raise BadInput(f"{path}: TFORM{number}: found {form!r}, expected numbers such as 1024E")
        repeat, (stored, wanted) = int(match[1] or 1), FORMS[match[2]]
        size = repeat * np.dtype(stored).itemsize
        offset += size
    width = whole_number(header, "NAXIS1", path, least=1, most=1 << 31)
    if repeat < 1 or offset > width:
        raise BadInput(f"{path}: NAXIS1: found {width} bytes, expected {offset} or more, as TFORM says")
    scale, zero = (float(header.get(f"{key}{column + 1}", value)) for key, value in (("TSCAL", 1), ("TZERO", 0)))
    return Place(unit.data, width, offset - size, repeat, stored, wanted, scale, zero)
