"""Loops over rows and pixels that numpy has no words for, compiled; each runs on one thread, in the order of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

# places in the counts of rows
KEPT, ZERO_MASS, BAD_MASS, BAD_ID, FOREIGN, ELSEWHERE, FIRST_BAD = range(7)
COUNTS: Final = 7
RUN: Final = 1024  # rows or pixels added up before they join the total: rounding stays below 1e-13
LANES: Final = 0x00FF00FF00FF00FF  # every other byte of eight
LANE: Final = 0xFFFF
WORDS: Final = 64  # of eight bytes before a lane of 16 bits could overflow: 2 x 255 x 64 < 2^16


@njit(cache=True, nogil=True)
def add_rows(
    ids: NDArray[np.int64],
    mass: NDArray[Any],
    window: tuple[int, int, int],
    total: NDArray[np.float64],
    counts: NDArray[np.int64],
) -> float:
    """Add the masses of rows to the pixels of one run of a sheet, and count the rows by kind.

    Parameters
    ----------
    ids, mass
        Of the rows.
    window
        The first ID of the sheet, the first of the next, and one past the last ID that there can be.
    total
        Masses of the pixels from the first ID of the sheet and ``counts[-1]`` on; added to.
    counts
        Kept, of zero mass, of bad mass, of bad ID, of other sheets, of other pixels of the sheet, and the first bad or
        foreign row counted from the first of all calls (-1: none), then rows seen before, then the first pixel.

    Returns
    -------
    float
        The sum of the masses kept.
    """
    low, high, limit = window
    first = low + counts[COUNTS + 1]
    size = len(total)
    kept, bad = 0.0, -1
    zero = bad_mass = bad_id = foreign = elsewhere = added = 0
    for begin in range(0, len(ids), RUN):
        run = 0.0
        for i in range(begin, min(begin + RUN, len(ids))):
            m = np.float64(mass[i])
            if m == 0.0:
                zero += 1
                continue
            key = ids[i]
            if m > 0.0 and m < np.inf and key >= low and key < high:
                place = key - first
                if 0 <= place < size:
                    total[place] += m
                    run += m
                    added += 1
                else:
                    elsewhere += 1
                continue
            if not (m > 0.0 and m < np.inf):
                bad_mass += 1
            elif key < 0 or key >= limit:
                bad_id += 1
            else:
                foreign += 1
            if bad < 0:
                bad = i
        kept += run
    if bad >= 0 and counts[FIRST_BAD] < 0:
        counts[FIRST_BAD] = counts[COUNTS] + bad
    counts[KEPT] += added
    counts[ZERO_MASS] += zero
    counts[BAD_MASS] += bad_mass
    counts[BAD_ID] += bad_id
    counts[FOREIGN] += foreign
    counts[ELSEWHERE] += elsewhere
    counts[COUNTS] += len(ids)
    return kept


@njit(cache=True, nogil=True)
def _sum_words(words: NDArray[np.uint64]) -> int:
    """Return the sum of the bytes of words: four lanes of 16 bits take every other byte, and then the others."""
    total = np.uint64(0)
    mask, lane = np.uint64(LANES), np.uint64(LANE)
    for begin in range(0, len(words), WORDS):
        lanes = np.uint64(0)
        for i in range(begin, min(begin + WORDS, len(words))):
            word = words[i]
            lanes += (word & mask) + ((word >> np.uint64(8)) & mask)
        total += (lanes & lane) + ((lanes >> np.uint64(16)) & lane)
        total += ((lanes >> np.uint64(32)) & lane) + (lanes >> np.uint64(48))
    return int(total)


def byte_sum(values: NDArray[Any]) -> int:
    """Return the sum of all bytes of a contiguous array."""
    content = values.view(np.uint8)
    whole = len(content) // 8 * 8
    return int(_sum_words(content[:whole].view(np.uint64))) + int(content[whole:].sum(dtype=np.uint64))


@njit(cache=True, nogil=True)
def moments(mass: NDArray[np.float64], scale: float) -> tuple[int, float, float, float, float, float]:
    """Return pixels that are not 0, sum, least and largest of masses, and sums of mass*scale - 1 and its square."""
    occupied = 0
    total = first = second = 0.0
    least, most = np.inf, -np.inf
    for begin in range(0, len(mass), RUN):
        a = b = c = 0.0
        for i in range(begin, min(begin + RUN, len(mass))):
            m = mass[i]
            delta = m * scale - 1.0
            a += m
            b += delta
            c += delta * delta
            occupied += m != 0.0
            least, most = min(least, m), max(most, m)
        total += a
        first += b
        second += c
    return occupied, total, least, most, first, second


@njit(cache=True, nogil=True)
def scan_rows(
    ids: NDArray[np.int64],
    mass: NDArray[Any],
    npix: int,
    spans: NDArray[np.int64],
    state: NDArray[np.int64],
) -> None:
    """Find where the rows of each slice lie, going on from earlier calls.

    Parameters
    ----------
    ids, mass
        Of the next rows.
    npix
        IDs a slice.
    spans
        For each slice and all beyond the last: first row, one past the last, rows, latest ID, and whether IDs turned.
    state
        Rows seen before, the latest slice, whether slices turned (those beyond the last aside), bad rows, the first
        of them (-1: none).
    """
    last = len(spans) - 1
    for i in range(len(ids)):
        m = np.float64(mass[i])
        if m == 0.0:
            continue
        row, key = state[0] + i, ids[i]
        if not (m > 0.0 and m < np.inf) or key < 0 or key >= 2 * last * npix:
            state[3] += 1
            if state[4] < 0:
                state[4] = row
            continue
        k = min(key // npix, last)
        if k < last:
            state[2] |= k < state[1]
            state[1] = k
        if spans[k, 2] == 0:
            spans[k, 0] = row
        elif key < spans[k, 3]:
            spans[k, 4] = 1
        spans[k, 1] = row + 1
        spans[k, 2] += 1
        spans[k, 3] = key
    state[0] += len(ids)
