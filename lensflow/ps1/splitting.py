"""Pan-STARRS pixels split between TESS pixels by the area they share: ``assign="area"``."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lensflow.ps1.binning import Parts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lensflow.ps1.binning import Pixels, Window
    from lensflow.ps1.template_knots import Knots

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

FLAT = 1e-7  # TESS px; a side that rises less is taken as level


class Pieces(NamedTuple):
    """Pieces of pixels: which pixel of the flattened tile, in which TESS pixel, and which part of it."""

    pixel: Ints
    u: Ints
    v: Ints
    part: Floats


def sum_pieces(knots: Knots, pixels: Pixels) -> Window | None:
    """Sum the pixels of a tile by the area that they share with TESS pixels; None where no coordinate is known."""
    pieces = pieces_of(knots)
    if not pieces.pixel.size:
        return None
    part = pieces.part
    used = part if pixels.used is None else part * pixels.used[pieces.pixel]
    masked = None if pixels.masked is None else part * pixels.masked[pieces.pixel]
    return Parts(pieces.u, pieces.v, pixels.flux[pieces.pixel] * part, part, masked, used).gathered()


def pieces_of(knots: Knots) -> Pieces:
    """Split every pixel of a tile: a parallelogram with the slopes of its knots. The parts of a pixel sum to 1."""
    u, ux, uy = _linear(knots, knots.u)
    v, vx, vy = _linear(knots, knots.v)
    known = np.flatnonzero(np.isfinite(u + v + ux + uy + vx + vy))
    u, v, ux, uy, vx, vy = (values.ravel()[known] for values in (u, v, ux, uy, vx, vy))
    reach_u, reach_v = (np.abs(ux) + np.abs(uy)) / 2, (np.abs(vx) + np.abs(vy)) / 2
    low_u, high_u = _whole(u - reach_u), _whole(u + reach_u)
    low_v, high_v = _whole(v - reach_v), _whole(v + reach_v)
    inside = (low_u == high_u) & (low_v == high_v)
    found = [Pieces(known[inside], low_u[inside], low_v[inside], np.ones(int(inside.sum())))]
    cut = np.flatnonzero(~inside)
    across, down = (int((high - low).max(initial=0)) + 1 for high, low in ((high_u, low_u), (high_v, low_v)))
    for j, i in product(range(down), range(across)):
        one = cut[(low_u[cut] + i <= high_u[cut]) & (low_v[cut] + j <= high_v[cut])]
        iu, iv = low_u[one] + i, low_v[one] + j
        sides = (ux[one], vx[one]), (uy[one], vy[one])
        part = shared_area(u[one] - iu + 0.5, v[one] - iv + 0.5, sides)
        found.append(Pieces(known[one], iu, iv, part / np.abs(ux[one] * vy[one] - uy[one] * vx[one])))
    return Pieces(*(np.concatenate(values) for values in zip(*found, strict=True)))


def _linear(knots: Knots, values: Floats) -> tuple[Floats, Floats, Floats]:
    """Return u or v of every pixel of a tile, and its slopes along x and y: those of the knots round it."""
    rows, columns = knots.shape
    k = knots.spacing
    column = np.arange(columns)
    cell, t = column // k, column % k / k
    row = knots.along_rows(values)
    along_x = np.diff(row, axis=1) / k
    along_y = np.diff(values, axis=0)[np.arange(rows) // k] / k
    return (
        (1 - t) * row[:, cell] + t * row[:, cell + 1],
        along_x[:, cell],
        (along_y[:, :-1] + along_y[:, 1:])[:, cell] / 2,
    )


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
