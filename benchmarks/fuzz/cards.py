"""Cards of the header of a FITS image changed byte by byte, and the sums that go with them."""

from __future__ import annotations

import re
import struct

BLOCK, CARD = 2880, 80


def image_header(content: bytes) -> tuple[int, int]:
    """Return the first byte of the header of the image, and of its data."""
    start = max(0, content.find(b"XTENSION"))
    end = start
    while content[end : end + CARD].rstrip() != b"END":
        end += CARD
    return start, start + -(-(end + CARD - start) // BLOCK) * BLOCK


def card(key: str, value: str) -> bytes:
    """Return the 80 bytes of a card."""
    name = f"HIERARCH {key} = {value}" if "." in key else f"{key:<8}= {value:>20}"
    return name.encode("latin-1").ljust(CARD)[:CARD]


def find_card(content: bytes, key: str) -> int | None:
    """Return where the card of a key stands in the header of the image."""
    start, stop = image_header(content)
    for at in range(start, stop, CARD):
        if re.match(rf"(HIERARCH )?{re.escape(key)} *=", content[at : at + CARD].decode("latin-1")):
            return at
    return None


def value_of(content: bytes, key: str) -> float:
    """Return the number on a card."""
    at = find_card(content, key)
    assert at is not None
    return float(content[at : at + CARD].split(b"=")[1].split(b"/")[0].strip(b" '"))


def with_card(content: bytes, key: str, value: str | None) -> bytes:
    """Return the file with another value of a card, None removes it; a card that is not there takes a free place."""
    at = find_card(content, key)
    start, stop = image_header(content)
    if at is None:
        cards = [content[i : i + CARD] for i in range(start, stop, CARD)]
        end = next(i for i, one in enumerate(cards) if one.rstrip() == b"END")
        if end + 1 == len(cards):
            return content  # no room without another block
        cards[end : end + 2] = [card(key, value or ""), cards[end]]
        return content[:start] + b"".join(cards) + content[stop:]
    new = b"COMMENT".ljust(CARD) if value is None else card(key, value)
    return content[:at] + new + content[at + CARD :]


def ones_sum(data: bytes) -> int:
    """Return the ones'-complement sum of 32-bit words, word by word as the standard has it."""
    total: int = sum(struct.unpack(f">{len(data) // 4}I", data[: len(data) // 4 * 4]))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def with_true_sums(content: bytes) -> bytes:
    """Return the file with DATASUM and CHECKSUM as they should be, as if it had been written that way."""
    start, data = image_header(content)
    content = with_card(content, "DATASUM", f"'{ones_sum(content[data:])}'")
    zeros = with_card(content, "CHECKSUM", f"'{'0' * 16}'")
    return with_card(zeros, "CHECKSUM", f"'{encoded(0xFFFFFFFF - ones_sum(zeros[start:]), zeros)}'")


def encoded(value: int, content: bytes) -> str:
    """Return the 16 letters of a checksum (FITS standard, appendix J)."""
    at = find_card(content, "CHECKSUM")
    assert at is not None
    begin = content.index(b"'", at) + 1
    punctuation = {*range(0x3A, 0x41), *range(0x5B, 0x61)}
    letters = bytearray(16)
    for i in range(4):
        byte = value >> (24 - 8 * i) & 0xFF
        four = [byte // 4 + 48 + (byte % 4 if k == 0 else 0) for k in range(4)]
        while punctuation & set(four):
            for pair in (0, 2):
                if punctuation & {four[pair], four[pair + 1]}:
                    four[pair] += 1
                    four[pair + 1] -= 1
        for k in range(4):
            letters[4 * k + i] = four[k]
    shift = (begin - image_header(content)[0]) % 4  # the letters count where they stand
    return (letters[-shift:] + letters[:-shift]).decode() if shift else letters.decode()
