"""Convergence on the pixels of a patch, sampled from a HEALPix map on the sphere: no image is turned afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from lensflow.lensing.patches import pixelisation
from lensflow.lensing.patches.ordering import stored_index

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lensflow.lensing.patches.ordering import Ordering
    from lensflow.lensing.patches.patches import Patch
    from lensflow.lensing.patches.readers import PixelReader

Interpolation = Literal["bilinear", "nearest"]
BAND = 1 << 18  # pixels worked on at once: their four indices and weights take 17 MB


def sample(
    reader: PixelReader, patch: Patch, *, ordering: Ordering = "NESTED", interpolation: Interpolation = "bilinear"
) -> NDArray[np.float64]:
    """Return the image (side, side) of a patch, NaN where a pixel that it needs is missing.

    Parameters
    ----------
    reader
        Of the map: gives the values of stored pixels.
    patch
        Where.
    ordering
        In which the map is stored.
    interpolation
        ``bilinear`` between four pixels of HEALPix, or the ``nearest`` one.
    """
    image = np.empty((patch.side, patch.side))
    rows = max(1, BAND // patch.side)
    for first in range(0, patch.side, rows):
        last = min(first + rows, patch.side)
        directions = patch.directions(first, last).reshape(-1, 3)
        if interpolation == "nearest":
            values = reader.take(stored_index(pixelisation.nearest(directions, reader.nside), reader.nside, ordering))
            image[first:last] = values.reshape(last - first, -1)
            continue
        pixels, weights = pixelisation.bilinear(directions, reader.nside, *pixelisation.rings(reader.nside))
        values = reader.take(stored_index(pixels, reader.nside, ordering))
        values *= weights
        image[first:last] = values.sum(axis=0).reshape(last - first, -1)
    return image
