"""Blocks of BigFile containers, written as FastPM's C library writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lensflow.lensing.mesh.bigfile import MODULUS, folded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

LONGEST = 80  # letters of the text beside an attribute; more is "Too Long"


def write_block(
    path: Path,
    parts: Iterable[NDArray[Any]] = (),
    *,
    dtype: str = "<i8",
    attrs: Mapping[str, Any] | None = None,
    text_type: str = "<S1",
) -> None:
    """Write a block: raw parts, header and attributes.

    Parameters
    ----------
    path
        Its folder.
    parts
        The records (rows,) of each part; none for a block of attributes alone.
    dtype
        Of the records.
    attrs
        Attributes: text, numbers and arrays of numbers.
    text_type
        ``<S1``, as the C writer does with a NUL at the end, or ``<a1`` as the python writer does without.
    """
    path.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, values in enumerate(parts):
        content = np.ascontiguousarray(values, dtype).tobytes()
        (path / f"{number:06X}").write_bytes(content)
        total = int(np.frombuffer(content, np.uint8).sum(dtype=np.uint64)) % MODULUS
        lines.append(f"{number:06X}: {len(values)} : {total} : {folded(total)}\n")
    header = f"DTYPE: {dtype}\nNMEMB: {1 if lines else 0}\nNFILE: {len(lines)}\n"
    (path / "header").write_text(header + "".join(lines), encoding="ascii")
    described = (_attribute(name, value, text_type) for name, value in sorted((attrs or {}).items()))
    (path / "attr-v2").write_text("".join(described), encoding="ascii")


def _attribute(name: str, value: object, text_type: str) -> str:
    if isinstance(value, str):
        content = value.encode() + (b"\0" if text_type == "<S1" else b"")
        kind, members = text_type, len(content)
        human = "".join(letter if letter.isprintable() else " " for letter in value)
    else:
        values = np.atleast_1d(np.asarray(value))
        stored = values.astype(values.dtype.newbyteorder("<"))
        content, kind, members = stored.tobytes(), f"<{stored.dtype.kind}{stored.dtype.itemsize}", len(stored)
        human = " ".join(f"{one:g}" if kind[1] == "f" else str(one) for one in values.tolist())
    if len(human) > LONGEST:
        human = human[:LONGEST] + " ... (Too Long) "
    return f"{name} {kind} {members} {content.hex().upper()} #HUMANE [ {human} ]\n"
