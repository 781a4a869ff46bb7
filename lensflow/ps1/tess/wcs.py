"""The sky as TESS and Pan-STARRS images see it: tangent planes as 3 x 3 matrices, and the SIP distortion of TESS.

A pixel (x, y), 0-based, of a tangent-plane image lies in the direction ``matrix @ (x, y, 1)``, in the axes of the
equator and not normalised. No angle is wrapped anywhere: RA 0 and the poles are places like any other, and between
two tangent planes pixels map by the product of two matrices (Calabretta & Greisen 2002; SIP: Shupe et al. 2005).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.polynomial.polynomial import polyder, polyval2d

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

STEPS = 20  # of Newton's method; 4 suffice for TESS
CONVERGED = 1e-9  # px


def tangent_plane(keys: Mapping[str, float | str]) -> Floats:
    """Return the matrix that turns 0-based pixels (x, y, 1) of a TAN image into directions.

    Parameters
    ----------
    keys
        FITS keys CRVAL1/2, CRPIX1/2, CD1_1 .. CD2_2 in degrees, LONPOLE (180 if absent).
    """
    ra, dec, pole = (np.deg2rad(float(keys.get(key, default))) for key, default in _ANGLES)
    east = np.array([-np.sin(ra), np.cos(ra), 0.0])
    north = np.array([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)])
    cd = np.deg2rad([[float(keys[f"CD{i}_{j}"]) for j in (1, 2)] for i in (1, 2)])
    # LONPOLE turns the native axes: with 180 degrees x is east and y is north
    turn = pole - np.pi
    cd = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) @ cd
    offset = cd @ [1 - float(keys["CRPIX1"]), 1 - float(keys["CRPIX2"])]
    plane = np.array([[*cd[0], offset[0]], [*cd[1], offset[1]], [0.0, 0.0, 1.0]])
    matrix: Floats = np.column_stack([east, north, np.cross(east, north)]) @ plane
    return matrix


_ANGLES = (("CRVAL1", 0.0), ("CRVAL2", 0.0), ("LONPOLE", 180.0))


def project(matrix: Floats, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Apply a matrix to (x, y, 1) and divide by the third coordinate; NaN behind the tangent plane."""
    u, v, w = (row[0] * x + row[1] * y + row[2] for row in matrix)
    w = np.where(w > 0, w, np.nan)
    return u / w, v / w


class Box(NamedTuple):
    """A rectangle of positions."""

    x0: float
    y0: float
    x1: float
    y1: float

    @classmethod
    def around(cls, x: Floats, y: Floats) -> Box:
        """Return the smallest one that holds all positions."""
        return cls(float(x.min()), float(y.min()), float(x.max()), float(y.max()))

    def grown(self, margin: float) -> Box:
        """Return the box with a margin on all sides."""
        return Box(self.x0 - margin, self.y0 - margin, self.x1 + margin, self.y1 + margin)

    def holds(self, x: Floats, y: Floats) -> NDArray[np.bool_]:
        """Whether positions lie inside; NaN does not."""
        inside: NDArray[np.bool_] = (x >= self.x0) & (x <= self.x1) & (y >= self.y0) & (y <= self.y1)
        return inside


@dataclass(frozen=True, eq=False)
class TanSip:
    """A TAN-SIP image: pixels to directions and back.

    Parameters
    ----------
    keys
        Its FITS keys, as :func:`lensflow.ps1.tess.image.read_tess` gathers them.
    shape
        (rows, columns).
    a, b
        SIP coefficients of x and y, [p, q] of u^p v^q; shape (1, 1) without distortion.
    """

    keys: dict[str, float | int | str]
    shape: tuple[int, int]
    a: Floats
    b: Floats

    @property
    def matrix(self) -> Floats:
        """Directions of undistorted pixels."""
        return tangent_plane(self.keys)

    @property
    def corner(self) -> tuple[float, float]:
        """The reference pixel, 0-based."""
        return float(self.keys["CRPIX1"]) - 1, float(self.keys["CRPIX2"]) - 1

    def undistorted(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Return where pixels would be without distortion: x + A(u, v), y + B(u, v), u and v from CRPIX."""
        u, v = x - self.corner[0], y - self.corner[1]
        return x + polyval2d(u, v, self.a), y + polyval2d(u, v, self.b)

    def reach(self, margin: float) -> Box:
        """Return the undistorted box that holds the image with a margin in pixels."""
        rows, columns = self.shape
        box = Box(0, 0, columns - 1, rows - 1).grown(margin + 0.5)
        along_x, along_y = np.linspace(box.x0, box.x1, 33), np.linspace(box.y0, box.y1, 33)
        return Box.around(*self.undistorted(*np.meshgrid(along_x, along_y)))

    def distorted(self, x: Floats, y: Floats, *, reach: Box, margin: float) -> tuple[Floats, Floats]:
        """Return the pixels that would be at (x, y) without distortion: the inverse of :meth:`undistorted`.

        Parameters
        ----------
        x, y
            Undistorted positions.
        reach
            Outside of this box there is no answer (NaN): far away the polynomials lead back into the image.
        margin
            Pixels round the image within which an answer counts.
        """
        rows, columns = self.shape
        inside = reach.holds(x, y)
        with np.errstate(all="ignore"):  # far outside of the image it may diverge, and then says NaN
            u, v = self._newton(x[inside] - self.corner[0], y[inside] - self.corner[1])
        u, v = u + self.corner[0], v + self.corner[1]
        counts = Box(0, 0, columns - 1, rows - 1).grown(margin + 0.5).holds(u, v)
        full = np.full((2, *x.shape), np.nan)
        full[0][inside], full[1][inside] = np.where(counts, u, np.nan), np.where(counts, v, np.nan)
        return full[0], full[1]

    def _newton(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Solve u + A(u, v) = x, v + B(u, v) = y; NaN where it does not converge."""
        slopes = [polyder(one, axis=axis) for one in (self.a, self.b) for axis in (0, 1)]
        u, v = x.copy(), y.copy()
        step = np.zeros_like(u)
        for _ in range(STEPS):
            a_u, a_v, b_u, b_v = (polyval2d(u, v, one) for one in slopes)
            f, g = u + polyval2d(u, v, self.a) - x, v + polyval2d(u, v, self.b) - y
            determinant = (1 + a_u) * (1 + b_v) - a_v * b_u
            du, dv = ((1 + b_v) * f - a_v * g) / determinant, ((1 + a_u) * g - b_u * f) / determinant
            u, v = u - du, v - dv
            step = np.maximum(np.abs(du), np.abs(dv))
            if not step.size or step.max() < CONVERGED:
                return u, v
        lost = ~(step < CONVERGED)
        return np.where(lost, np.nan, u), np.where(lost, np.nan, v)
