"""Pan-STARRS pixels summed into TESS pixels, at the speed of memory.

A TESS pixel is some 84 Pan-STARRS pixels wide. Coordinates are exact at knots and bilinear between them, so along a
row they are linear from knot to knot, and knots are at most one TESS pixel apart: from one knot to the next a row
crosses at most one border in x and one in y. The row falls into runs of pixels of one TESS pixel, known from the
borders alone; what is left to do for a pixel is to add it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lensflow.ps1.tess.knots import Knots

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]


class Runs(NamedTuple):
    """Runs of pixels of a tile, in its order, that cover all of it.

    Parameters
    ----------
    start
        First pixel of each run in the flattened tile.
    length
        Pixels of each run, at least 1.
    u, v
        The TESS pixel of each run.
    known
        Whether it is known: coordinates were finite.
    """

    start: Ints
    length: Ints
    u: Ints
    v: Ints
    known: NDArray[np.bool_]


def runs_of(knots: Knots) -> Runs:
    """Cut the rows of a tile where they cross a border of TESS pixels, and at every knot.

    Notes
    -----
    A pixel belongs to (floor(u + 1/2), floor(v + 1/2)). Each piece of a row between two knots depends on these
    knots alone, so how a tile came to be read makes no difference.
    """
    rows, columns = knots.shape
    begin = np.arange(0, columns, knots.spacing)
    ends = np.minimum(begin + knots.spacing, columns) - begin
    u, v = knots.along_rows(knots.u), knots.along_rows(knots.v)
    known = np.isfinite(u[:, :-1] + u[:, 1:] + v[:, :-1] + v[:, 1:])
    iu, du, cross_u = _crossing(u, known, knots.spacing, ends)
    iv, dv, cross_v = _crossing(v, known, knots.spacing, ends)
    first, second = np.minimum(cross_u, cross_v), np.maximum(cross_u, cross_v)
    offset = np.stack([np.zeros_like(first), first, second], axis=-1)
    length = np.stack([first, second - first, ends - second], axis=-1)
    to_u = np.stack([iu, iu + du * (cross_u < cross_v), iu + du], axis=-1)
    to_v = np.stack([iv, iv + dv * (cross_v < cross_u), iv + dv], axis=-1)
    start = offset + (np.arange(rows)[:, None] * columns + begin)[:, :, None]
    there = length > 0
    return Runs(
        start[there], length[there], to_u[there], to_v[there], np.broadcast_to(known[..., None], there.shape)[there]
    )


def _crossing(values: Floats, known: NDArray[np.bool_], spacing: int, ends: Ints) -> tuple[Ints, Ints, Ints]:
    """Return the TESS pixel at the start of each piece, the step (-1, 0, 1) across its border, and where that is."""
    a, b = np.where(known, values[:, :-1], 0.0), np.where(known, values[:, 1:], 0.0)
    pixel = np.floor(a + 0.5)
    step = np.clip(np.floor(b + 0.5) - pixel, -1, 1)
    slope = (b - a) / spacing
    place = (pixel + 0.5 * step - a) / np.where(step == 0, 1.0, slope)
    # a border belongs to the pixel above it: reached when rising, left behind when falling
    first = np.where(step > 0, np.ceil(place), np.floor(place) + 1)
    first = np.minimum(np.where(step == 0, spacing, first), ends)
    return pixel.astype(np.int64), step.astype(np.int64), first.astype(np.int64)


class Pixels(NamedTuple):
    """The pixels of a tile, flattened.

    Parameters
    ----------
    flux
        Zero where it is not used.
    used
        Which are summed; None if all are.
    masked
        Which have a bit; None if none has.
    """

    flux: NDArray[np.float32]
    used: NDArray[np.bool_] | None
    masked: NDArray[np.bool_] | None

    @classmethod
    def of(cls, flux: NDArray[np.float32], mask: NDArray[np.uint16], ignore_bits: int) -> Pixels:
        """Sort out what is not finite or has one of the bits to ignore."""
        masked = mask != 0
        some = bool(masked.any())
        used = np.isfinite(flux)
        if some and ignore_bits:
            used &= (mask & np.uint16(ignore_bits)) == 0
        if not used.all():
            flux = flux.copy()
            flux[~used] = 0
            return cls(flux.ravel(), used.ravel(), masked.ravel() if some else None)
        return cls(flux.ravel(), None, masked.ravel() if some else None)

    def without(self, which: NDArray[np.bool_]) -> Pixels:
        """Return the pixels with some of them taken out."""
        return Pixels(
            np.where(which, np.float32(0), self.flux),
            None if self.used is None else self.used & ~which,
            None if self.masked is None else self.masked & ~which,
        )


class Parts(NamedTuple):
    """Sums of runs, or pieces, of pixels: each in one TESS pixel (u, v).

    Parameters
    ----------
    u, v
        The TESS pixel.
    flux, counted, masked, used
        What it receives; ``masked`` is None where there is nothing.
    """

    u: Ints
    v: Ints
    flux: Floats
    counted: Floats
    masked: Floats | None
    used: Floats

    def joined(self, other: Parts) -> Parts:
        """Return both, one after the other."""
        masked = [np.zeros_like(one.flux) if one.masked is None else one.masked for one in (self, other)]
        return Parts(
            np.concatenate([self.u, other.u]),
            np.concatenate([self.v, other.v]),
            np.concatenate([self.flux, other.flux]),
            np.concatenate([self.counted, other.counted]),
            np.concatenate(masked),
            np.concatenate([self.used, other.used]),
        )

    def gathered(self) -> Window | None:
        """Sum by TESS pixels; None if there is nothing."""
        if not self.u.size:
            return None
        u0, v0 = int(self.u.min()), int(self.v.min())
        shape = int(self.v.max()) - v0 + 1, int(self.u.max()) - u0 + 1
        place = (self.v - v0) * shape[1] + (self.u - u0)

        def summed(values: Floats) -> Floats:
            total = np.bincount(place, values, minlength=shape[0] * shape[1]).astype(np.float64, copy=False)
            return total.reshape(shape)

        count = summed(self.counted)
        masked = np.zeros(shape) if self.masked is None else summed(self.masked)
        used = count if self.used is self.counted else summed(self.used)
        return Window(v0, u0, (summed(self.flux), count, masked, used))


class Window(NamedTuple):
    """Sums in a small rectangle of TESS pixels: arrays (rows, columns) of FLUX_SUM, COUNT, MASK, USED."""

    v0: int
    u0: int
    sums: tuple[Floats, Floats, Floats, Floats]


def sum_runs(runs: Runs, pixels: Pixels) -> Window | None:
    """Sum the pixels of a tile by runs, and the runs by TESS pixels; None where no coordinate is known."""
    return run_parts(runs, pixels).gathered()


def run_parts(runs: Runs, pixels: Pixels, among: NDArray[np.bool_] | None = None) -> Parts:
    """Sum the pixels of a tile by runs.

    Parameters
    ----------
    runs
        Of the tile.
    pixels
        Of the tile.
    among
        Which pixels count; all by default. The flux, use and mask of the others are taken as zero already.
    """
    count = runs.length.astype(np.float64) if among is None else _counted(among, runs.start)
    flux = np.add.reduceat(pixels.flux, runs.start, dtype=np.float64)
    used = count if pixels.used is None else _counted(pixels.used, runs.start)
    masked = None if pixels.masked is None else _counted(pixels.masked, runs.start)
    known = runs.known
    if known.all():
        return Parts(runs.u, runs.v, flux, count, masked, used)
    masked = None if masked is None else masked[known]
    count, same = count[known], used is count
    return Parts(runs.u[known], runs.v[known], flux[known], count, masked, count if same else used[known])


def _counted(which: NDArray[np.bool_], start: Ints) -> Floats:
    return np.add.reduceat(which.view(np.int8), start, dtype=np.int32).astype(np.float64)
