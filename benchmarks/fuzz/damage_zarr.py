"""What happens to Zarr arrays on their way; see damage_fits for FITS."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from benchmarks.fuzz import Damage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.random import Generator

    from benchmarks.fuzz import Seen

CARD = 80
SEEN: dict[str, Seen] = {"bits": "sums", "swapped": "never"}  # of damage to a chunk
ODD: tuple[Any, ...] = (None, "abc", -1, 0, 1, 1.5, True, [], {}, [0, 0], [-1, 5], [2**31, 2**31], 10**30, "NaN")
CARDS: dict[str, tuple[str, ...]] = {
    "EXPTIME": ("NaN", "0", "-1", "'abc'", "T", "1E999", ""),
    "BSOFTEN": ("NaN", "0", "-1", "'abc'", "1E999", ""),
    "BOFFSET": ("NaN", "'abc'", "1E999", ""),
    "CRVAL1": ("NaN", "0", "'abc'", "1E999"),
    "CRPIX2": ("NaN", "0", "'abc'", "1E999", "1E300"),
    "CDELT1": ("NaN", "0", "'abc'", "1E999", "-1"),
    "PC001001": ("NaN", "0", "'abc'", "1"),
    "SKYCELL": ("'skycell.0714.000'", "'abc'", "7", ""),
    "FPA.FILTERID": ("'z.00000'", "7", ""),
    "FPA.ZP": ("24.0", "'abc'", "1E999"),
}


def chunks_of(array: Path) -> list[Path]:
    """Return the files of the chunks."""
    return sorted(path for path in (array / "c").rglob("*") if path.is_file())


def spoil_text(array: Path, rng: Generator) -> Damage:
    """Spoil the metadata as text."""
    path = array / "zarr.json"
    content = path.read_bytes()
    how = str(rng.choice(["removed", "empty", "truncated", "noise", "bits", "folder", "page"]))
    if how in ("removed", "folder"):
        path.unlink()
        if how == "folder":
            path.mkdir()
    else:
        spoilt = bytearray(content)
        for _ in range(int(rng.integers(1, 5))):
            spoilt[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(
            {
                "empty": b"",
                "truncated": content[: int(rng.integers(len(content)))],
                "noise": rng.bytes(200),
                "bits": bytes(spoilt),
                "page": b"<html>404 not found</html>",
            }[how]
        )
    return Damage("metadata text", how, "never" if how == "bits" else "always")


def spoil_field(array: Path, rng: Generator) -> Damage:
    """Give a field of the metadata another value, or take it away."""
    path = array / "zarr.json"
    metadata = json.loads(path.read_text())
    name = str(rng.choice([*metadata, "chunk_shape", "codec", "header"]))
    value = ODD[int(rng.integers(len(ODD)))]
    if name == "chunk_shape":
        metadata["chunk_grid"]["configuration"]["chunk_shape"] = value
    elif name == "codec":
        codecs = metadata["codecs"]
        codecs[int(rng.integers(len(codecs)))] = value if rng.random() < 0.5 else {"name": "no such codec"}
    elif name == "header":
        metadata["attributes"]["header"] = value
    elif name == "data_type":
        value = str(rng.choice(["int16", "float64", "uint8", "complex64", "bool", "string", "int32", "uint32"]))
        metadata["data_type"] = value
    elif rng.random() < 0.3:
        value = "removed"
        del metadata[name]
    else:
        metadata[name] = value
    path.write_text(json.dumps(metadata))
    return Damage("metadata field", f"{name} = {value}", "always")


def spoil_card(array: Path, rng: Generator) -> Damage:
    """Change a card of the FITS header that the array carries."""
    path = array / "zarr.json"
    metadata = json.loads(path.read_text())
    text = metadata["attributes"]["header"]
    key = str(rng.choice(list(CARDS)))
    value = str(rng.choice(CARDS[key]))
    cards = [text[at : at + CARD] for at in range(0, len(text), CARD)]
    name = f"HIERARCH {key} = " if "." in key else f"{key:<8}= "
    cards = [(name + value.rjust(20)).ljust(CARD) if one.startswith(name) else one for one in cards]
    metadata["attributes"]["header"] = "".join(cards)
    path.write_text(json.dumps(metadata))
    return Damage("header card", f"{key} = {value}", "always")


def spoil_chunk(array: Path, rng: Generator) -> Damage:
    """Spoil a chunk."""
    chunks = chunks_of(array)
    if not chunks:
        return spoil_text(array, rng)
    path, other = (chunks[int(rng.integers(len(chunks)))] for _ in range(2))
    content = bytearray(path.read_bytes())
    how = str(rng.choice(["truncated", "empty", "bits", "bits", "noise", "appended", "swapped", "folder", "zeros"]))
    if how == "folder":
        path.unlink()
        path.mkdir()
    elif how == "bits":
        for _ in range(int(rng.integers(1, 9))):
            content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
    elif how == "swapped":
        path.write_bytes(other.read_bytes())
    else:
        spoilt = {
            "truncated": bytes(content[: int(rng.integers(len(content)))]),
            "empty": b"",
            "noise": rng.bytes(len(content)),
            "appended": bytes(content) + rng.bytes(100),
            "zeros": bytes(len(content)),
        }
        path.write_bytes(spoilt[how])
    return Damage("chunk", how, SEEN.get(how, "always"))


def lose_chunks(array: Path, rng: Generator) -> Damage:
    """Take chunks away."""
    chunks = chunks_of(array)
    if not chunks or rng.random() < 0.3:
        shutil.rmtree(array / "c", ignore_errors=True)
        return Damage("chunks lost", "all", "always")
    for path in chunks[: int(rng.integers(1, len(chunks) + 1))]:
        path.unlink()
    return Damage("chunks lost", "some", "always")


def lose_array(array: Path, rng: Generator) -> Damage:
    """Take the whole array away, or put a file in its place."""
    shutil.rmtree(array)
    seen: Seen = "never" if array.name.endswith("_mask") else "always"  # a band may be without a mask
    if rng.random() < 0.5:
        array.write_bytes(b"")
        return Damage("array lost", "a file in its place", seen)
    return Damage("array lost", "all of it", seen)


KINDS: tuple[Callable[[Path, Generator], Damage], ...] = (
    *(spoil_text, spoil_text, spoil_field, spoil_field, spoil_card, spoil_chunk, spoil_chunk, spoil_chunk),
    *(lose_chunks, lose_array),
)


def damage_zarr(array: Path, rng: Generator) -> Damage:
    """Do one kind of damage to an array of a Zarr store."""
    return KINDS[int(rng.integers(len(KINDS)))](array, rng)
