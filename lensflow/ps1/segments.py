"""The sources of a skycell as sets of pixels: segments that sep finds, and bright regions that it is not shown."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lensflow.errors import BadInput, BadOption

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from numpy.typing import NDArray

STRIP = 128  # rows
FARTHEST_HOME = 10  # px, a bright region without a segment so near stands alone
PIXEL_STACK = 10_000_000  # pixels over the threshold at one time
SUB_OBJECTS = 8192  # pieces of one segment while it is deblended; the 1024 of sep are few in the Milky Way

_SETTINGS = threading.Lock()  # the two limits belong to the process


class ExtractionFailed(BadInput):
    """The image of a skycell has more sources than sep can hold."""


@dataclass(frozen=True)
class Segmentation:
    """What each pixel of a skycell belongs to.

    Parameters
    ----------
    ids
        (y, x) i4: 0 background, 1..count segments, larger numbers bright regions.
    count
        Number of segments.
    home
        By id: the segment that a bright region belongs to, its own id if there is none; of a segment itself.
    touching
        (n, 2): a bright region, and a segment next to it.
    """

    ids: NDArray[np.int32]
    count: int
    home: NDArray[np.int32]
    touching: NDArray[np.int32]


def closed(mask: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """Return the morphological closing of a mask with a square: gaps narrower than it are filled.

    Parameters
    ----------
    mask
        (y, x); nothing is set beyond its border, and what is set stays set.
    size
        Side of the square, px.
    """
    reach = size - 1
    wide = np.pad(mask, reach)
    result = np.empty_like(mask)
    for row in range(0, len(mask), STRIP):  # what a strip needs stays in the cache
        grown = wide[row : row + STRIP + 2 * reach]
        for operation in (np.logical_or, np.logical_and):
            for axis in (0, 1):
                grown = _over_windows(operation, grown, size, axis)
        result[row : row + STRIP] = grown
    return result


def _over_windows(operation: np.ufunc, values: NDArray[np.bool_], size: int, axis: int) -> NDArray[np.bool_]:
    """Combine every ``size`` neighbours along an axis, doubling the reach each time."""
    reach = 1
    while reach < size:
        step = min(reach, size - reach)
        low, high = [slice(None)] * 2, [slice(None)] * 2
        low[axis], high[axis] = slice(None, -step), slice(step, None)
        values = operation(values[tuple(low)], values[tuple(high)])
        reach += step
    return values


def find_segments(
    flux: NDArray[np.float32],
    sigma: NDArray[np.float32] | float,
    unseen: NDArray[np.bool_],
    *,
    thresh: float,
) -> tuple[NDArray[np.int32], int]:
    """Return the segmentation map (0 outside, 1..n) of ``sep.extract`` with its own kernel, and n.

    Parameters
    ----------
    flux
        (y, x) counts/s.
    sigma
        Standard deviation, an image or one number.
    unseen
        Pixels that are not looked at.
    thresh
        In units of sigma.

    Raises
    ------
    ExtractionFailed
        If there are more pixels over the threshold, or more pieces in one segment, than sep can hold.
    BadOption
        If sep is not installed.

    Notes
    -----
    sep keeps Python's lock while it works: threads of one process take turns.
    """
    sep = _sep()
    with _SETTINGS:
        sep.set_extract_pixstack(min(PIXEL_STACK, flux.size + 1))
        sep.set_sub_object_limit(SUB_OBJECTS)
        try:
            objects, ids = sep.extract(flux, thresh, err=sigma, mask=unseen, segmentation_map=True)
        except Exception as error:  # sep raises nothing narrower, whatever is the matter
            raise ExtractionFailed(f"sep.extract: {error}") from error
    return ids, len(objects)


def global_rms(flux: NDArray[np.float32], unseen: NDArray[np.bool_]) -> float:
    """Return the noise of an image as ``sep.Background`` sees it, counts/s."""
    return float(_sep().Background(flux, mask=unseen).globalrms)


def _sep() -> ModuleType:
    try:
        import sep  # noqa: PLC0415 - an extra, needed here alone
    except ImportError as error:
        raise BadOption("background: sep is not installed, expected it; pip install lensflow[ps1]") from error
    module: ModuleType = sep
    return module


def with_bright(ids: NDArray[np.int32], count: int, bright: NDArray[np.bool_]) -> Segmentation:
    """Add bright regions to a map of segments, and find the segment that each belongs to.

    Parameters
    ----------
    ids, count
        From :func:`find_segments`; the map is changed: bright regions have numbers beyond ``count``.
    bright
        Pixels that were too bright to be shown to it. Regions are connected over sides and corners.
    """
    row, start, stop = _runs(bright)
    region = _components(len(row), *_neighbouring_runs(row, start, stop, bright.shape[1]))
    ids[bright] = np.repeat(region + count + 1, stop - start)
    regions = int(region.max(initial=-1)) + 1
    home, touching = _homes(ids, count, regions, _border(bright))
    return Segmentation(ids, count, home, touching)


def _runs(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return row, first and past-the-last column of each run of set pixels, in order."""
    wide = np.pad(mask, ((0, 0), (1, 1)))
    ends = np.flatnonzero(wide[:, 1:] != wide[:, :-1])
    row, column = np.divmod(ends, mask.shape[1] + 1)
    return row[::2], column[::2], column[1::2]


def _neighbouring_runs(
    row: NDArray[np.int64], start: NDArray[np.int64], stop: NDArray[np.int64], width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs of runs that touch, over a side or a corner, in this row and the next."""
    line = width + 2
    first = np.searchsorted(row * line + stop, (row + 1) * line + start)
    past = np.searchsorted(row * line + start, (row + 1) * line + stop, side="right")
    number = np.maximum(past - first, 0)
    below = np.repeat(np.arange(len(row)), number)
    return below, np.arange(len(below)) - np.repeat(np.cumsum(number) - number, number) + np.repeat(first, number)


def _components(count: int, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each of ``count`` nodes the number of its connected part; parts are in order of their first node."""
    label = np.arange(count)
    while (label[one] != label[other]).any():
        low = np.minimum(label[one], label[other])
        np.minimum.at(label, label[one], low)
        np.minimum.at(label, label[other], low)
        while (label[label] != label).any():
            label = label[label]
    return np.unique(label, return_inverse=True)[1]


def _border(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the set pixels that have an unset one beside them."""
    border = mask.copy()
    border[1:-1, 1:-1] &= ~(mask[2:, 1:-1] & mask[:-2, 1:-1] & mask[1:-1, 2:] & mask[1:-1, :-2])
    return border


def _homes(
    ids: NDArray[np.int32], count: int, regions: int, border: NDArray[np.bool_]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Find the nearest segment of each bright region (of two as near: the lower number), and those that touch it."""
    home = np.arange(count + regions + 1, dtype=np.int32)
    touching = [np.empty((0, 2), np.int32)]
    y, x = np.divmod(np.flatnonzero(border), ids.shape[1])
    for square, offsets in _shells(FARTHEST_HOME):
        if not len(y):
            break
        pairs = np.concatenate([_pairs(ids, count, (y, x), offset) for offset in offsets])
        alone = home[pairs[:, 0]] > count
        np.minimum.at(home, pairs[alone, 0], pairs[alone, 1])
        if square <= 2:
            touching.append(pairs)
        if square >= 2:  # sides and corners have been seen
            left = home[ids[y, x]] > count
            y, x = y[left], x[left]
    return home, np.unique(np.concatenate(touching), axis=0)


def _pairs(
    ids: NDArray[np.int32], count: int, pixels: tuple[NDArray[np.int64], NDArray[np.int64]], offset: tuple[int, int]
) -> NDArray[np.int32]:
    """Return (region, segment) for the bright pixels that have a segment at an offset."""
    (y, x), (dy, dx) = pixels, offset
    inside = (y + dy >= 0) & (y + dy < ids.shape[0]) & (x + dx >= 0) & (x + dx < ids.shape[1])
    y, x = y[inside], x[inside]
    there = ids[y + dy, x + dx]
    hit = (there > 0) & (there <= count)
    return np.stack([ids[y[hit], x[hit]], there[hit]], axis=1)


def _shells(radius: int) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Yield the squares of distances up to a radius, and the offsets at each."""
    shells: dict[int, list[tuple[int, int]]] = {}
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            if 0 < dy * dy + dx * dx <= radius * radius:
                shells.setdefault(dy * dy + dx * dx, []).append((dy, dx))
    yield from sorted(shells.items())
