"""Pan-STARRS pixels split between TESS pixels by the area they share: ``assign="area"``."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lensflow.ps1.tess.binning import Parts, run_parts, runs_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lensflow.ps1.tess.binning import Pixels, Window
    from lensflow.ps1.tess.knots import Knots

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

FLAT = 1e-7  # TESS px; a side that rises less is taken as level


class Pieces(NamedTuple):
    """Pieces of pixels: which pixel of the flattened tile, in which TESS pixel, and which part of it."""

    pixel: Ints
    u: Ints
    v: Ints
    part: Floats


class Coordinate(NamedTuple):
    """u or v of a tile, linear between knots.

    Parameters
    ----------
    rows
        At the columns of the knots, in every row.
    along_x, along_y
        Slopes between two knots in every row: those of the knots round it.
    """

    rows: Floats
    along_x: Floats
    along_y: Floats

    @classmethod
    def of(cls, knots: Knots, values: Floats) -> Coordinate:
        """Return u or v of a tile from the values at its knots."""
        rows = knots.along_rows(values)
        down = np.diff(values, axis=0)[np.arange(knots.shape[0]) // knots.spacing] / knots.spacing
        return cls(rows, np.diff(rows, axis=1) / knots.spacing, (down[:, :-1] + down[:, 1:]) / 2)

    @property
    def reach(self) -> Floats:
        """How far a pixel, a parallelogram, reaches from its centre."""
        reach: Floats = (np.abs(self.along_x) + np.abs(self.along_y)) / 2
        return reach

    def crosses(self, spacing: int, columns: int) -> NDArray[np.bool_]:
        """Whether pixels reach over a border, which lie at whole numbers and a half."""
        step = np.arange(spacing, dtype=np.float64)
        place = self.rows[:, :-1, None] + self.along_x[:, :, None] * step
        place -= np.rint(place)
        far = np.abs(place, out=place) > (0.5 - self.reach)[:, :, None]
        crossing: NDArray[np.bool_] = far.reshape(len(far), -1)[:, :columns]
        return crossing


def sum_pieces(knots: Knots, pixels: Pixels) -> Window | None:
    """Sum the pixels of a tile by the area that they share with TESS pixels; None where no coordinate is known.

    Notes
    -----
    Pixels that lie in one TESS pixel, nearly all of them, are summed by runs; those that cross a border in pieces.
    """
    u, v = Coordinate.of(knots, knots.u), Coordinate.of(knots, knots.v)
    cut = (u.crosses(knots.spacing, knots.shape[1]) | v.crosses(knots.spacing, knots.shape[1])).ravel()
    pieces = pieces_of(knots, u, v, np.flatnonzero(cut))
    whole = run_parts(runs_of(knots), pixels.without(cut), ~cut)
    part, at = pieces.part, pieces.pixel
    used = part if pixels.used is None else part * pixels.used[at]
    masked = None if pixels.masked is None else part * pixels.masked[at]
    split = Parts(pieces.u, pieces.v, pixels.flux[at] * part, part, masked, used)
    return whole.joined(split).gathered()


def pieces_of(knots: Knots, u: Coordinate, v: Coordinate, pixel: Ints) -> Pieces:
    """Split pixels of a tile: parallelograms with the slopes of the knots. The parts of a pixel sum to 1."""
    row, column = np.divmod(pixel, knots.shape[1])
    cell, step = np.divmod(column, knots.spacing)
    (pu, ux, uy), (pv, vx, vy) = (
        (one.rows[row, cell] + one.along_x[row, cell] * step, one.along_x[row, cell], one.along_y[row, cell])
        for one in (u, v)
    )
    known = np.isfinite(pu + pv + ux + uy + vx + vy)
    pixel = pixel[known]
    pu, pv, ux, uy, vx, vy = (values[known] for values in (pu, pv, ux, uy, vx, vy))
    reach_u, reach_v = (np.abs(ux) + np.abs(uy)) / 2, (np.abs(vx) + np.abs(vy)) / 2
    low_u, low_v = _whole(pu - reach_u), _whole(pv - reach_v)
    wide, high = _whole(pu + reach_u) - low_u, _whole(pv + reach_v) - low_v
    found = []
    for j, i in product(range(int(high.max(initial=0)) + 1), range(int(wide.max(initial=0)) + 1)):
        one = np.flatnonzero((i <= wide) & (j <= high))
        iu, iv = low_u[one] + i, low_v[one] + j
        sides = (ux[one], vx[one]), (uy[one], vy[one])
        part = shared_area(pu[one] - iu + 0.5, pv[one] - iv + 0.5, sides)
        found.append(Pieces(pixel[one], iu, iv, part / np.abs(ux[one] * vy[one] - uy[one] * vx[one])))
    return Pieces(*(np.concatenate(values) for values in zip(*found, strict=True)))


def _whole(values: Floats) -> Ints:
    return np.floor(values + 0.5).astype(np.int64)


def shared_area(x: Floats, y: Floats, sides: tuple[tuple[Floats, Floats], tuple[Floats, Floats]]) -> Floats:
    """Return the area that parallelograms share with the unit square.

    Parameters
    ----------
    x, y
        Their centres; the square is 0..1, 0..1.
    sides
        Their two sides, as vectors.

    Notes
    -----
    Green: the area is the integral of clamp(y, 0, 1) dx along the outline, x clipped to 0..1.
    """
    (ax, ay), (bx, by) = sides
    corners = [(x + (p * ax + q * bx) / 2, y + (p * ay + q * by) / 2) for p, q in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    outline = zip(corners, [*corners[1:], corners[0]], strict=True)
    return np.abs(sum(_below(*start, *end) for start, end in outline))


def _below(x1: Floats, y1: Floats, x2: Floats, y2: Floats) -> Floats:
    """Integrate clamp(y, 0, 1) dx along a side, over the part of it with 0 <= x <= 1."""
    a, b = x1.clip(0, 1), x2.clip(0, 1)
    slope = (y2 - y1) / np.where(x1 == x2, 1.0, x2 - x1)  # an upright side has no dx
    ya, yb = y1 + (a - x1) * slope, y1 + (b - x1) * slope
    rise = yb - ya
    level = np.abs(rise) < FLAT
    mean = np.where(level, ((ya + yb) / 2).clip(0, 1), (_ramp(yb) - _ramp(ya)) / np.where(level, 1.0, rise))
    below: Floats = (b - a) * mean
    return below


def _ramp(y: Floats) -> Floats:
    """Integrate clamp(y, 0, 1) dy from 0."""
    inside = y.clip(0, 1)
    ramp: Floats = inside * inside / 2 + (y - inside) * (y > 1)
    return ramp
