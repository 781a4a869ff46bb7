"""Where pixels of a projection lie in a template: exact at knots, bilinear between them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lensflow.errors import BadInput
from lensflow.ps1.tess.wcs import project

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lensflow.ps1.cells import Rect
    from lensflow.ps1.tess.sources import Source
    from lensflow.ps1.tess.wcs import Box, TanSip

    Floats = NDArray[np.float64]

SPACING = 64  # px between knots at most: bilinear to 1e-5 TESS px at 0.25"
APART = 0.9  # px of the template from knot to knot at most; 1 must not be passed anywhere
POINTS = 33  # along each axis of the image and its margin, where the slope is taken


class Knots(NamedTuple):
    """Coordinates in the template at the knots of a rectangle of pixels, NaN far from the TESS image.

    Parameters
    ----------
    u, v
        x and y in pixels of the template, at rows and columns 0, spacing, 2 spacing ... of the rectangle.
    spacing
        Pixels between knots, a power of 2.
    shape
        Of the rectangle, (rows, columns); the last knots lie on its end or beyond.
    """

    u: Floats
    v: Floats
    spacing: int
    shape: tuple[int, int]

    def moved(self, dx: float, dy: float) -> Knots:
        """Return the knots of a scene that is moved by (dx, dy)."""
        return self._replace(u=self.u + dx, v=self.v + dy)

    def part(self, rect: Rect) -> Knots:
        """Return the knots of a part, whose first row and column are multiples of the spacing."""
        k = self.spacing
        inner = slice(rect.y0 // k, -(-rect.y1 // k) + 1), slice(rect.x0 // k, -(-rect.x1 // k) + 1)
        return Knots(self.u[inner], self.v[inner], k, rect.shape)

    def along_rows(self, values: Floats) -> Floats:
        """Return u or v in every row, at the columns of the knots."""
        row = np.arange(self.shape[0])
        band, t = row // self.spacing, (row % self.spacing / self.spacing)[:, None]
        return (1 - t) * values[band] + t * values[band + 1]


@dataclass(frozen=True, eq=False)
class Placement:
    """How the pixels of a projection map to those of a template.

    Parameters
    ----------
    image
        The TESS image.
    source
        The projection.
    oversample
        Divides TESS pixels n x n.
    margin
        TESS px round the image within which coordinates are asked for.
    """

    image: TanSip
    source: Source
    oversample: int
    margin: float

    @cached_property
    def matrix(self) -> Floats:
        """Pixels of the projection to undistorted TESS pixels: tangent plane to tangent plane, exact."""
        matrix: Floats = np.linalg.inv(self.image.matrix) @ self.source.matrix
        return matrix

    @cached_property
    def reach(self) -> Box:
        """Undistorted positions that may belong to the image."""
        return self.image.reach(self.margin)

    @cached_property
    def spacing(self) -> int:
        """Pixels between knots: 64, or fewer so that knots are less than a pixel of the template apart."""
        rows, columns = self.image.shape
        across, down = (np.linspace(-self.margin, size - 1 + self.margin, POINTS) for size in (columns, rows))
        u, v = np.meshgrid(across, down)
        back = np.linalg.inv(self.matrix).astype(np.float64, copy=False)
        x, y = project(back, *self.image.undistorted(u, v))
        moved = [self.tess_pixels(x + 1, y), self.tess_pixels(x, y + 1)]
        steps = [np.abs(new - old) for pair in moved for new, old in zip(pair, (u, v), strict=True)]
        steepest = max(float(np.fmax.reduce(step, axis=None, initial=0.0)) for step in steps) * self.oversample
        spacing = SPACING
        while spacing > 1 and spacing * steepest > APART:
            spacing //= 2
        return spacing

    def tess_pixels(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Return the TESS pixels (u, v) of pixels of the projection, NaN far from the image."""
        return self.image.distorted(*project(self.matrix, x, y), reach=self.reach, margin=self.margin)

    def knots(self, rect: Rect) -> Knots:
        """Return the knots of a rectangle of the projection.

        Raises
        ------
        BadInput
            If the distortion is so uneven that knots are more than a pixel of the template apart.
        """
        (rows, columns), k, n = rect.shape, self.spacing, self.oversample
        x = rect.x0 + np.arange(-(-columns // k) + 1, dtype=np.float64) * k
        y = rect.y0 + np.arange(-(-rows // k) + 1, dtype=np.float64) * k
        u, v = self.tess_pixels(*np.meshgrid(x, y))
        steps = [np.abs(np.diff(values, axis=axis)) for values in (u, v) for axis in (0, 1)]
        farthest = max(float(np.fmax.reduce(step, axis=None, initial=0.0)) for step in steps) * n
        if k > 1 and farthest > 1:
            raise BadInput(
                f"the TESS image: {k} pixels of projection {self.source.number:04d} span {farthest:.2f} of its pixels, "
                f"expected {APART} at most; check the SIP terms of its header"
            )
        return Knots((u + 0.5) * n - 0.5, (v + 0.5) * n - 0.5, k, rect.shape)
