"""Headers of FITS files, read with suspicion: sizes are checked against the file before anything trusts them."""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, BinaryIO

from astropy.io import fits
from astropy.io.fits import Card, Header
from astropy.io.fits.card import Undefined

from lensflow.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

BLOCK = 2880  # bytes, the unit of which a FITS file is made
CARD = 80  # bytes
LONGEST = 1024  # blocks of a header: 36 864 cards, ten times what stacks of a hundred exposures have
UNITS = 1000  # headers and data units of a file, far more than any image has
NO_FILE = {errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}  # of a name: trying again is no use
PRINTABLE = bytes(range(32, 127))
AS_TEXT = bytes(byte if byte in PRINTABLE else ord("?") for byte in range(256))
KEYED = re.compile(r"((?=.{8}= )[A-Z0-9_-]+ *|HIERARCH [^=]*[^= ] *)= *(?P<value>.*)")  # KEY = value / comment
PLAIN = re.compile(r"([+-]?(\d+\.?\d*|\.\d+)([ED][+-]?\d+)?|[TF]|'([^']|'')*') *(/.*)?")  # what any reader takes
BITPIX = (8, 16, 32, 64, -32, -64)


@dataclass(frozen=True)
class Unit:
    """A header and where it and its data lie in the file.

    Parameters
    ----------
    index
        0 for the first of the file.
    header
        The cards; those that are not FITS are left out.
    start, data, stop
        The first byte of the header, of the data, and of what follows.
    size
        Bytes of data without their padding.
    """

    index: int
    header: Header
    start: int
    data: int
    stop: int
    size: int

    @property
    def span(self) -> tuple[int, int, int]:
        """(start, data, stop)."""
        return self.start, self.data, self.stop


def read_units(path: Path) -> Iterator[Unit]:
    """Yield the headers of a FITS file one by one, none of whose data reaches beyond the end of the file.

    Raises
    ------
    BadInput
        If it is not FITS, or shorter than its headers say.
    OSError
        If the system cannot read the file.
    """
    with open_file(path) as file:
        size = file.seek(0, 2)
        start = index = 0
        while start < size and index < UNITS:
            header, data = _read_header(file, start, path)
            if header is None:
                if index == 0:
                    raise BadInput(
                        f"{path}: found no FITS header, expected one that begins with SIMPLE; fetch it again"
                    )
                return  # what follows the last unit is nobody's
            unit = _unit(index, header, start, data, path)
            if unit.stop > size:
                raise BadInput(
                    f"{path}: the file is truncated: found {size} bytes, expected at least {unit.stop}; fetch it again"
                )
            yield unit
            start, index = unit.stop, index + 1


def open_file(path: Path) -> BinaryIO:
    """Open a file for reading bytes.

    Raises
    ------
    BadInput
        If its name is that of something else, such as a folder or a link to itself.
    OSError
        If the system cannot read it, now.
    """
    try:
        return path.open("rb")
    except OSError as error:
        if is_systems_fault(error):
            raise
        raise BadInput(f"{path}: found no file ({error.strerror}), expected a FITS file; fetch it again") from error


def is_systems_fault(error: Exception) -> bool:
    """Return whether the disk or the memory is to blame, and trying again may help, rather than the file."""
    if isinstance(error, OSError):
        return error.errno is not None and error.errno not in NO_FILE
    return isinstance(error, MemoryError)


def parse_header(text: str) -> Header:
    """Return the cards of a text without line breaks that state a value; not comments, nor such as ``KEY = NaN``.

    Who needs a value that is not FITS then misses it, nobody else does.
    """
    text = text.encode("ascii", "replace").translate(AS_TEXT).decode("ascii")
    cards = (text[at : at + CARD] for at in range(0, len(text), CARD))
    return Header.fromstring("".join(card for card in cards if _has_value(card)))


def _has_value(card: str) -> bool:
    keyed = KEYED.fullmatch(card)
    if keyed is None:
        return False
    if PLAIN.fullmatch(keyed["value"].rstrip()):
        return True  # asking astropy for every value would take most of the time of opening a file
    try:
        return not isinstance(Card.fromstring(card).value, Undefined)
    except fits.VerifyError:
        return False


def whole_number(header: Mapping[str, object], key: str, path: str | Path, *, least: int, most: int) -> int:
    """Return the value of a card that must be an integer of a range.

    Raises
    ------
    BadInput
        If it is not.
    """
    value = header.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        found = "nothing" if value is None else repr(value)
        raise BadInput(f"{path}: {key}: found {found}, expected an integer {least}..{most}; fetch the file again")
    return value


def _read_header(file: BinaryIO, start: int, path: Path) -> tuple[Header | None, int]:
    """Return a header and the first byte after it; None if there is none here."""
    file.seek(start)
    text = bytearray()
    for _ in range(LONGEST):
        block = file.read(BLOCK)
        if not text and not block.startswith((b"SIMPLE  =", b"XTENSION=")):
            return None, start
        if len(block) < BLOCK:
            break
        text += block
        if any(block[card : card + CARD].rstrip() == b"END" for card in range(0, BLOCK, CARD)):
            return parse_header(text.decode("latin-1")), start + len(text)
    raise BadInput(f"{path}: the file is truncated: found a header without END in {len(text)} bytes; fetch it again")


def _unit(index: int, header: Header, start: int, data: int, path: Path) -> Unit:
    if header.get("BITPIX") not in BITPIX:
        raise BadInput(f"{path}: BITPIX: found {header.get('BITPIX')!r}, expected one of {BITPIX}; fetch it again")
    huge = 1 << 62
    axes = whole_number(header, "NAXIS", path, least=0, most=999)
    sizes = [whole_number(header, f"NAXIS{i}", path, least=0, most=huge) for i in range(1, axes + 1)]
    groups = whole_number(header, "GCOUNT", path, least=1, most=huge) if "GCOUNT" in header else 1
    extra = whole_number(header, "PCOUNT", path, least=0, most=huge) if "PCOUNT" in header else 0
    size = abs(header["BITPIX"]) // 8 * groups * (extra + (prod(sizes) if sizes else 0))
    return Unit(index, header, start, data, data + -(-size // BLOCK) * BLOCK, size)
