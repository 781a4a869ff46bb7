"""Which patches of a sky that was tiled from one box look along its axes, where structure repeats."""

from __future__ import annotations

from math import pi, sqrt
from typing import TYPE_CHECKING

import numpy as np

from lensflow.errors import BadOption

if TYPE_CHECKING:
    from numpy.typing import NDArray

# deg: patches that the sky is first cut into; others have no published number
POINTS = {5: 1083, 10: 273, 15: 121, 20: 67, 25: 43, 30: 31}
GOLDEN = (1 + sqrt(5)) / 2


def fibonacci_centres(size_deg: float, n_points: int | None = None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return theta and phi in degrees of the patches of a size, without those that touch the poles.

    Parameters
    ----------
    size_deg
        Side of a patch.
    n_points
        How many the whole sky has, odd; by default as published for sizes of 5, 10, ... 30 degrees.
    """
    count = POINTS.get(int(size_deg)) if n_points is None and float(size_deg).is_integer() else n_points
    if count is None or count % 2 == 0:
        raise BadOption(f"n_points: found {n_points} for patches of {size_deg:g} deg, expected an odd number")
    index = np.arange(count) - (count - 1) // 2
    theta = pi / 2 + np.arcsin(2 * index / count)
    phi = np.mod(2 * pi * index / GOLDEN, 2 * pi)
    reach = sqrt(2) * np.radians(size_deg)
    kept = (theta > reach) & (theta < pi - reach)
    return np.degrees(theta[kept]), np.degrees(phi[kept])


def replication_affected(theta: NDArray[np.float64], phi: NDArray[np.float64], size_deg: float) -> NDArray[np.bool_]:
    """Return whether patches lie within half a diagonal of the planes theta = 90 and phi = 0, 90, 180, 270 degrees.

    Differences of phi are not multiplied by sin(theta), as published.
    """
    half = size_deg / sqrt(2)
    planes = np.array([0.0, 90.0, 180.0, 270.0, 360.0])
    near: NDArray[np.bool_] = (np.abs(phi[:, None] - planes) <= half).any(axis=1)
    return near | (np.abs(theta - 90) <= half)
