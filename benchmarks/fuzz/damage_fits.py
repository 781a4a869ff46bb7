"""What happens to FITS files on their way: each kind of damage is drawn from a random generator and done to a file."""

from __future__ import annotations

import gzip
import re
import struct
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.fuzz import Damage
from benchmarks.fuzz.cards import BLOCK, CARD, card, find_card, image_header, value_of, with_card, with_true_sums

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.random import Generator

    from benchmarks.fuzz import Seen

NUMBERS = ("EXPTIME", "BZERO", "BSCALE", "BSOFTEN", "BOFFSET", "BLANK", "CRPIX1", "CRPIX2")  # any could be true
MEANING = ("FPA.ZP", "FPA.FILTERID", "SKYCELL", "CRVAL1", "CRVAL2", "CDELT1", "CDELT2", "PC001001", "PC002002")
SHAPE = ("SIMPLE", "XTENSION", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "PCOUNT", "GCOUNT", "EXTEND")
TABLE = (
    *("TFIELDS", "TTYPE1", "TFORM1", "THEAP", "ZIMAGE", "ZBITPIX", "ZNAXIS", "ZNAXIS1", "ZNAXIS2", "ZTILE1", "ZTILE2"),
    *("ZCMPTYPE", "ZNAME1", "ZVAL1", "ZNAME2", "ZVAL2", "ZQUANTIZ", "ZBLANK", "TDIM1", "TSCAL1", "TZERO1", "TNULL1"),
)
SUMS = ("CHECKSUM", "DATASUM")
SIZES = ("0", "-1", "1", str(2**31), str(10**12), str(2**63))
ODD = ("'abc'", "T", "", "''", "1.5", "NaN", "(1.0, 2.0)", "12345678901234567890", "-7", "0", "1E999", "'1", "= =")
NOT_A_NUMBER = ("NaN", "1E999", "-1E999", "'nan'", "T", "")


def truncate(path: Path, rng: Generator) -> Damage:
    content = path.read_bytes()
    size = int(rng.choice([0, int(rng.integers(len(content))), BLOCK * int(rng.integers(len(content) // BLOCK))]))
    path.write_bytes(content[:size])
    return Damage("truncated", f"to {size} of {len(content)} bytes", "always")


def append(path: Path, rng: Generator) -> Damage:
    size = int(rng.choice([1, 100, BLOCK, 10000]))
    path.write_bytes(path.read_bytes() + (rng.bytes(size) if rng.random() < 0.7 else bytes(size)))
    return Damage("appended", f"{size} bytes", "always")


def flip_bits(path: Path, rng: Generator) -> Damage:
    content = bytearray(path.read_bytes())
    start, data = image_header(bytes(content))
    table = 0
    if b"ZCMPTYPE" in content[start:data]:
        table = int(value_of(bytes(content), "NAXIS1") * value_of(bytes(content), "NAXIS2"))
    places = {"header": (0, data), "table": (data, data + table), "pixels": (data + table, len(content))}
    name = str(rng.choice([name for name, (low, high) in places.items() if high > low]))
    for _ in range(int(rng.integers(1, 9))):
        content[int(rng.integers(*places[name]))] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)
    return Damage(f"bits of {name}", "1 to 8 flipped", "sums")


def change_card(path: Path, rng: Generator) -> Damage:
    """Give a keyword a value of another type, or none, or take it away, or state it twice."""
    content = path.read_bytes()
    keys = NUMBERS + MEANING + SHAPE + (TABLE if b"ZCMPTYPE" in content else ()) + SUMS
    key = str(rng.choice([key for key in keys if find_card(content, key) is not None] or keys))
    how = str(rng.choice(["type", "type", "type", "removed", "twice"]))
    value = None if how == "removed" else str(rng.choice(ODD))
    if how == "twice":
        at = find_card(content, key) or 0
        first = content[at : at + CARD]
        after = with_card(content, "ANOTHER", "0")
        free = find_card(after, "ANOTHER") or at
        new = card(key, str(value))
        ordered = (first, new) if rng.random() < 0.5 else (new, first)
        content = after[:at] + ordered[0] + after[at + CARD : free] + ordered[1] + after[free + CARD :]
    else:
        content = with_card(content, key, value)
    number = value is not None and re.fullmatch(r"-?[0-9.]+", value) and key in NUMBERS
    seen = _write(path, content, rng, seen="sums" if number else "always")
    return Damage(f"keyword {how}", f"{key} = {value}", seen)


def change_wcs(path: Path, rng: Generator) -> Damage:
    key = str(rng.choice(["CRVAL1", "CRVAL2", "CDELT1", "CDELT2", "CRPIX1", "CRPIX2", "PC001001", "CD1_1", "PC1_1"]))
    value = str(rng.choice([*NOT_A_NUMBER, "0", "1E300", "-1", "1E-30"]))
    possible = key.startswith("CRPIX") and value in ("0", "-1", "1E-30")
    seen = _write(path, with_card(path.read_bytes(), key, value), rng, seen="sums" if possible else "always")
    return Damage("wcs", f"{key} = {value}", seen)


def change_size(path: Path, rng: Generator) -> Damage:
    content = path.read_bytes()
    compressed = b"ZCMPTYPE" in content
    key = str(rng.choice(["NAXIS1", "NAXIS2", *(["ZNAXIS1", "ZNAXIS2", "PCOUNT"] if compressed else ["NAXIS"])]))
    step = int(rng.choice([-1, 1]))
    value = str(rng.choice([*SIZES, str(int(value_of(content, key)) + step)]))
    close = not compressed and value not in SIZES
    seen = _write(path, with_card(content, key, value), rng, seen="sums" if close else "always")
    return Damage("size", f"{key} = {value}", seen)


def change_structure(path: Path, rng: Generator) -> Damage:
    key, values = [
        ("BITPIX", ("7", "-16", "16", "32", "-64", "8")),
        ("ZBITPIX", ("7", "32", "8", "-32", "64")),
        ("ZCMPTYPE", ("'RICE_9'", "'PLIO_1'", "'HCOMPRESS_1'", "'GZIP_1'", "'GZIP_2'", "'RICE_1'", "'NOCOMPRESS'")),
        ("ZTILE1", ("0", "-1", "7", str(2**31), "1")),
        ("ZTILE2", ("0", "-1", "7", str(2**31))),
        ("ZVAL1", ("0", "-1", "7", "31", str(2**31))),
        ("ZVAL2", ("0", "-1", "1", "3", "4", "8")),
        ("PCOUNT", ("0", "-1", "10", str(2**40))),
        ("THEAP", ("0", "-1", "1", "5000", str(2**40))),
        ("GCOUNT", ("0", "2", "-1", str(2**40))),
        ("TFIELDS", ("0", "2", "999", str(2**31))),
        ("TFORM1", ("'1PB'", "'1QB'", "'1PI'", "'8A'", "'1PB(99999999)'", "'XYZ'")),
        ("TTYPE1", ("'UNCOMPRESSED_DATA'", "'GZIP_COMPRESSED_DATA'", "'ZSCALE'", "'X'")),
    ][int(rng.integers(13))]
    value = str(rng.choice(values))
    content = path.read_bytes()
    same_size = key == "BITPIX" and b"ZCMPTYPE" not in content
    possible = same_size or value.startswith("'GZIP_")  # the two differ in the order of bytes
    seen = _write(path, with_card(content, key, value), rng, seen="sums" if possible else "always")
    return Damage("structure", f"{key} = {value}", seen)


def change_scaling(path: Path, rng: Generator) -> Damage:
    content = path.read_bytes()
    key = str(rng.choice(["BSCALE", "BZERO", "BOFFSET", "BSOFTEN", "EXPTIME", "BLANK", "FPA.ZP"]))
    value = str(rng.choice([*NOT_A_NUMBER, "0", "-1", "1E300", "2.5", "1E-300", "7"]))
    possible = value in ("0", "-1", "2.5", "7", "1E-300") and key != "FPA.ZP"
    wrong = value in ("0", "1E-300") and key in ("BSCALE", "BSOFTEN", "EXPTIME")
    seen = _write(path, with_card(content, key, value), rng, seen="sums" if possible and not wrong else "always")
    return Damage("scaling", f"{key} = {value}", seen)


def change_tiles(path: Path, rng: Generator) -> Damage:
    """Spoil the table that says where the compressed tiles lie."""
    content = bytearray(path.read_bytes())
    if b"ZCMPTYPE" not in content:
        return flip_bits(path, rng)
    _, data = image_header(bytes(content))
    rows, heap = int(value_of(bytes(content), "NAXIS2")), int(value_of(bytes(content), "PCOUNT"))
    first, other = (data + 8 * int(rng.integers(rows)) for _ in range(2))
    length, offset = struct.unpack(">ii", content[first : first + 8])
    how = str(rng.choice(["beyond", "negative", "huge", "overlap", "empty", "short", "swapped", "shifted"]))
    content[first : first + 8] = {
        "beyond": struct.pack(">ii", length, heap - length + 1),
        "negative": struct.pack(">ii", *((-length, offset) if rng.random() < 0.5 else (length, -8))),
        "huge": struct.pack(">ii", 2**31 - 1, offset),
        "overlap": bytes(content[other : other + 8]) if other != first else struct.pack(">ii", length, offset + 1),
        "empty": struct.pack(">ii", 0, 0),
        "short": struct.pack(">ii", int(rng.integers(1, length)), offset),
        "swapped": bytes(content[other : other + 8]),
        "shifted": struct.pack(">ii", length, max(0, offset - 1)),
    }[how]
    if how == "swapped":
        content[other : other + 8] = struct.pack(">ii", length, offset)
    seen = _write(path, bytes(content), rng, seen="sums" if how == "short" else "always")
    return Damage("tiles", how, "never" if how == "swapped" else seen)  # a sum is the same in any order


def swap(path: Path, rng: Generator, others: list[Path]) -> Damage:
    """Put another sound file in the place of this one."""
    other = others[int(rng.integers(len(others)))]
    path.write_bytes(other.read_bytes())
    kinds = ["mask" if "mask" in one.name else "weight" if "wt" in one.name else "image" for one in (path, other)]
    like = sorted(kinds) == ["image", "weight"] and ".r." in other.name and "stranger" not in other.parts
    return Damage("swapped", f"{other.name} in place of {path.name}", "never" if like else "always")


def wrong_sums(path: Path, rng: Generator) -> Damage:
    key = str(rng.choice(SUMS))
    value = f"'{int(rng.integers(1 << 32))}'" if key == "DATASUM" else f"'{rng.bytes(8).hex()}'"
    path.write_bytes(with_card(path.read_bytes(), key, value))
    return Damage("sums", f"{key} = {value}", "always")


def foreign_bytes(path: Path, rng: Generator) -> Damage:
    """Put bytes that are not ASCII into the header."""
    content = bytearray(path.read_bytes())
    _, data = image_header(bytes(content))
    for _ in range(int(rng.integers(1, 40))):
        content[int(rng.integers(data))] = int(rng.integers(128, 256)) if rng.random() < 0.8 else int(rng.integers(32))
    path.write_bytes(content)
    return Damage("foreign bytes", "in the header", "sums")


def other_thing(path: Path, rng: Generator) -> Damage:
    """Put something in place of the file that is not FITS at all."""
    content = path.read_bytes()
    how = str(rng.choice(["page", "gzip", "folder", "loop", "dangling", "zeros", "noise", "tail"]))
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how in ("loop", "dangling"):
        path.symlink_to(path.name if how == "loop" else "nowhere")
    else:
        path.write_bytes(
            {
                "page": b"<!DOCTYPE html><html><head><title>404 Not Found</title></head></html>\n" * 50,
                "gzip": gzip.compress(content),
                "zeros": bytes(len(content)),
                "noise": rng.bytes(len(content)),
                "tail": content[len(content) // 2 :],
            }[how]
        )
    return Damage("no FITS", how, "always")


def zero_run(path: Path, rng: Generator) -> Damage:
    """Leave a hole of zeros, as a file has that was not written to its end."""
    content = path.read_bytes()
    _, data = image_header(content)
    at = int(rng.integers(data, len(content)))
    size = int(rng.choice([512, 4096, len(content)]))
    path.write_bytes(content[:at] + bytes(len(content[at : at + size])) + content[at + size :])
    return Damage("holes", f"{size} zeros at {at}", "sums")


def _write(path: Path, content: bytes, rng: Generator, *, seen: Seen = "always") -> Seen:
    """Write the damaged file, in half of the cases with its true sums, so that the other checks are tried too."""
    restated = rng.random() < 0.5 and find_card(content, "DATASUM") is not None
    path.write_bytes(with_true_sums(content) if restated else content)
    return "never" if restated and seen == "sums" else seen


PLAIN: tuple[Callable[[Path, Generator], Damage], ...] = (
    *(truncate, append, flip_bits, flip_bits, flip_bits, change_card, change_card, change_wcs, change_size),
    *(change_structure, change_structure, change_scaling, change_tiles, wrong_sums, foreign_bytes, other_thing),
    zero_run,
)


def damage_fits(path: Path, rng: Generator, others: list[Path]) -> Damage:
    """Do one kind of damage to a FITS file.

    Parameters
    ----------
    path
        The file.
    rng
        Of which kind, and where.
    others
        Sound files of other purposes, bands, cells and sizes.
    """
    number = int(rng.integers(len(PLAIN) + 1))
    if number == len(PLAIN):
        return swap(path, rng, others)
    with np.errstate(over="ignore"):
        return PLAIN[number](path, rng)
