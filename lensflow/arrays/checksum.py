"""The checksums of FITS: ones'-complement sums that tell a damaged file from a sound one (FITS standard 4.4.2.7)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from lensflow.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

    from astropy.io.fits import Header

    from lensflow.arrays.headers import Unit

ALL_ONES = 0xFFFFFFFF  # the sum of a whole unit whose CHECKSUM is right: minus zero
PIECE = 1 << 17  # bytes read and summed at a time: they stay in the cache, three times as fast
REMEMBERED = 4096  # files found sound: blocks above each other share them


def ones_complement_sum(file: BinaryIO, start: int, stop: int) -> int:
    """Return the ones'-complement sum of the big-endian 32-bit words of a file between two bytes.

    Parameters
    ----------
    file
        Open for reading.
    start, stop
        The first byte and one past the last, a multiple of four apart.
    """
    buffer = bytearray(PIECE)
    words = np.frombuffer(buffer, ">u4")
    native = np.empty(words.shape, np.uint32)
    total = 0
    file.seek(start)
    left = stop - start
    while left > 0:
        read = file.readinto(memoryview(buffer)[: min(left, PIECE)])  # type: ignore[attr-defined]
        if not read:
            break  # a short file is found by its size
        part = slice(0, read // 4)
        np.copyto(native[part], words[part])
        total += int(native[part].sum(dtype=np.uint64))
        left -= read
    while total >> 32:
        total = (total & ALL_ONES) + (total >> 32)
    return total


def check_sums(path: Path, unit: Unit) -> None:
    """Hold an image's bytes against the DATASUM and CHECKSUM of its header, if it states any.

    A file once found sound is not read again by this process unless its size or its time changes.

    Raises
    ------
    BadInput
        If they differ.
    """
    header = unit.header
    stated, checksum = _datasum(header, path), str(header.get("CHECKSUM", "")).strip()
    if stated is None and not checksum:
        return
    stat = path.stat()
    _check(path, stat.st_size, stat.st_mtime_ns, unit.span, stated, whole=bool(checksum))


def _datasum(header: Header, path: Path) -> int | None:
    """Return DATASUM, a text of digits; None if it is absent, or empty, which the standard calls undefined."""
    found = header.get("DATASUM", "")
    text = "" if found is None else str(found).strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise BadInput(f"{path}: DATASUM: found {found!r}, expected a text of digits; fetch the file again")
    return int(text)


@lru_cache(maxsize=REMEMBERED)
def _check(
    path: Path, _size: int, _changed: int, span: tuple[int, int, int], stated: int | None, *, whole: bool
) -> None:
    header_start, data_start, stop = span
    with path.open("rb") as file:
        data = ones_complement_sum(file, data_start, stop)
        if stated is not None and data != stated:
            raise BadInput(f"{path}: DATASUM: found pixels that add up to {data}, expected {stated}; fetch it again")
        if whole:
            total = data + ones_complement_sum(file, header_start, data_start)
            if total % ALL_ONES:  # all ones and zero are both nothing
                raise BadInput(
                    f"{path}: CHECKSUM: found a header that adds up to {total % ALL_ONES}, expected 0: "
                    "it has been changed since; fetch the file again"
                )
