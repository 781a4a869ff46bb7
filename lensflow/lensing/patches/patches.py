"""Where the patches of a sky lie: centres on a Fibonacci spiral, and the directions of their pixels."""

from __future__ import annotations

from dataclasses import dataclass
from math import asin, cos, pi, radians, sin, sqrt
from typing import TYPE_CHECKING

import numpy as np

from lensflow.errors import BadOption

if TYPE_CHECKING:
    from numpy.typing import NDArray

GOLDEN = (1 + sqrt(5)) / 2
POINTS = {5.0: 1083, 10.0: 273, 15.0: 121, 20.0: 67, 25.0: 43, 30.0: 31}  # of the spiral, by size of patches in deg


def centres(size_deg: float, n_points: int | None = None) -> NDArray[np.float64]:
    """Return colatitude and longitude (patches, 2) of the centres in rad, in the order of the patch index.

    Parameters
    ----------
    size_deg
        Side of the square patches; centres within sqrt(2) sides of a pole are left out.
    n_points
        Odd number of points on the spiral; by default as LensingSSC has for its sizes.

    Raises
    ------
    BadOption
        If there is no default for the size, or the number is even or not positive.
    """
    if n_points is None:
        n_points = POINTS.get(float(size_deg))
    if n_points is None:
        sizes = ", ".join(f"{one:g}" for one in POINTS)
        raise BadOption(f"n_points: found none for patches of {size_deg:g} deg, expected one for sizes beside {sizes}")
    if n_points < 1 or n_points % 2 == 0:
        raise BadOption(f"n_points: found {n_points}, expected an odd number of points")
    i = np.arange(n_points) - (n_points - 1) // 2
    theta = pi / 2 + np.arcsin(2 * i / n_points)
    phi = (2 * pi * i / GOLDEN) % (2 * pi)
    margin = sqrt(2) * radians(size_deg)
    kept = (theta > margin) & (theta < pi - margin)
    return np.stack([theta[kept], phi[kept]], axis=1)


def replicated(positions: NDArray[np.float64], size_deg: float) -> NDArray[np.bool_]:
    """Return which patches lie on axes or equator of a tiled box, where structure repeats along the line of sight.

    Parameters
    ----------
    positions
        Of :func:`centres`.
    size_deg
        Side of the patches.
    """
    theta, phi = np.rad2deg(positions).T
    reach = sqrt(2) * size_deg / 2
    on_axis = (np.abs(phi[:, None] - np.arange(0, 361, 90)) <= reach).any(axis=1)
    near: NDArray[np.bool_] = on_axis | (np.abs(theta - 90) <= reach)
    return near


@dataclass(frozen=True)
class Patch:
    """A square on the sky: a plane that touches the sphere at the centre, its pixels equal there.

    Parameters
    ----------
    theta, phi
        Colatitude and longitude of the centre, rad.
    size_deg, pixels
        Side: of the square, and in pixels.
    rotation_deg
        By which the square is turned.
    apron
        Further pixels of the same size on each side.
    """

    theta: float
    phi: float
    size_deg: float
    pixels: int
    rotation_deg: float = 0.0
    apron: int = 0

    @property
    def side(self) -> int:
        """Pixels along a side, with the apron."""
        return self.pixels + 2 * self.apron

    def directions(self, first: int, last: int) -> NDArray[np.float64]:
        """Return the unit vectors (rows, columns, 3) of the rows ``first`` to ``last`` of the image.

        Axis 1 runs west for a patch that is not turned, axis 0 north, as in ``healpy.gnomview``.
        """
        step = radians(self.size_deg) / self.pixels
        along = (np.arange(self.side) - (self.side - 1) / 2) * step
        u, v = along[None, :], along[first:last, None]
        turn = radians(self.rotation_deg)
        east, north = v * sin(turn) - u * cos(turn), u * sin(turn) + v * cos(turn)
        st, ct, sp, cp = sin(self.theta), cos(self.theta), sin(self.phi), cos(self.phi)
        found = np.empty((last - first, self.side, 3))
        # direction = c + E e_phi - N e_theta
        found[..., 0] = st * cp - east * sp - north * ct * cp
        found[..., 1] = st * sp + east * cp - north * ct * sp
        found[..., 2] = ct + north * st
        # c, e_phi and e_theta are orthonormal: |direction|^2 = 1 + E^2 + N^2
        found /= np.sqrt(1 + east**2 + north**2)[..., None]
        return found

    def reach(self) -> float:
        """Return the angle from the centre to a corner, rad."""
        half = radians(self.size_deg) / 2 * self.side / self.pixels
        return asin(sqrt(2) * half / sqrt(1 + 2 * half**2))
