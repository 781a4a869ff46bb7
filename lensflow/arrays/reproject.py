"""From one tangent-plane grid to another: the exact map of pixels, and values between pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class TanGrid:
    """A gnomonic (TAN) pixel grid with north up at its tangent point and RA falling with x.

    Parameters
    ----------
    ra, dec
        The tangent point (CRVAL) in degrees.
    x, y
        Its pixel, 0-based (CRPIX - 1).
    scale
        Degrees a pixel.
    """

    ra: float
    dec: float
    x: float
    y: float
    scale: float

    @property
    def axes(self) -> NDArray[np.float64]:
        """Unit vectors (rows) towards east, north and the tangent point."""
        a, d = np.deg2rad(self.ra), np.deg2rad(self.dec)
        return np.array(
            [
                [-np.sin(a), np.cos(a), 0.0],
                [-np.sin(d) * np.cos(a), -np.sin(d) * np.sin(a), np.cos(d)],
                [np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)],
            ]
        )

    @property
    def plane(self) -> NDArray[np.float64]:
        """The matrix K: (xi, eta, 1) of the tangent plane, in radians, of a pixel (x, y, 1)."""
        s = np.deg2rad(self.scale)
        return np.array([[-s, 0.0, s * self.x], [0.0, s, -s * self.y], [0.0, 0.0, 1.0]])

    @property
    def pixel(self) -> NDArray[np.float64]:
        """The inverse of K."""
        s = np.deg2rad(self.scale)
        return np.array([[-1 / s, 0.0, self.x], [0.0, 1 / s, self.y], [0.0, 0.0, 1.0]])


class Mapped(NamedTuple):
    """Pixels of one grid on another.

    Parameters
    ----------
    x, y
        0-based pixel coordinates there.
    nearness
        cos(distance to the tangent point there)/cos(distance to the one here). Of several grids the one with the
        largest has the nearest tangent point, and its -3rd power is the ratio of the solid angles, here to there.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    nearness: NDArray[np.float64]


@dataclass(frozen=True)
class Homography:
    """The map of pixels of one grid to another, exact: (u, v, 1) ~ M (x, y, 1)."""

    matrix: NDArray[np.float64]

    @classmethod
    def between(cls, here: TanGrid, there: TanGrid) -> Homography:
        """Return the map from pixels here to pixels there: M = K'^-1 B' B^T K, with the axes B."""
        return cls(there.pixel @ there.axes @ here.axes.T @ here.plane)

    def __call__(self, x: ArrayLike, y: ArrayLike) -> Mapped:
        """Map pixels (shapes that broadcast); element by element, so that windows of a grid agree to the last bit."""
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        u, v, w = (a * x + (b * y + c) for a, b, c in self.matrix)
        u /= w
        v /= w
        return Mapped(u, v, w)


@dataclass(frozen=True)
class Bilinear:
    """Values between the pixels of an image.

    Parameters
    ----------
    corner
        Flat index of the pixel at or below each position, in x and y.
    right, up
        How far the position is from it, 0..1.
    width
        Of the image, px.
    """

    corner: NDArray[np.intp]
    right: NDArray[np.float32]
    up: NDArray[np.float32]
    width: int

    @classmethod
    def at(cls, x: NDArray[np.float64], y: NDArray[np.float64], *, origin: tuple[int, int], width: int) -> Bilinear:
        """Prepare positions.

        Parameters
        ----------
        x, y
            On the grid; the pixels at or below and one beyond must lie in the image.
        origin
            (y, x) on the grid of the first pixel of the image.
        width
            Of the image, px.
        """
        left, below = np.floor(x), np.floor(y)
        corner = (below.astype(np.intp) - origin[0]) * width + (left.astype(np.intp) - origin[1])
        return cls(corner, (x - left).astype(np.float32), (y - below).astype(np.float32), width)

    def of(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the values of an image, NaN where any of the four pixels is NaN."""
        flat = image.ravel()
        lower, upper = (self._along_x(flat, self.corner + k) for k in (0, self.width))
        # a + t (b - a) keeps a constant image constant to the last bit
        upper -= lower
        upper *= self.up
        lower += upper
        return lower

    def _along_x(self, flat: NDArray[np.float32], first: NDArray[np.intp]) -> NDArray[np.float32]:
        value = np.take(flat, first)
        step = np.take(flat, first + 1)
        step -= value
        step *= self.right
        value += step
        return value

    def nearest(self, image: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """Return the values of the nearest pixels, as for bits that cannot be averaged."""
        return np.take(image.ravel(), self.corner + (self.right >= 0.5) + (self.up >= 0.5) * self.width)
