"""Which pixels of a patch count: masks, missing values, and the pixels whose neighbours count too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Edge = Literal["crop", "wrap"]
UNSEEN = -1.6375e30  # what HEALPix maps hold where nothing was observed
# (down, across): the pixels that second derivatives and the search for peaks look at
STENCIL = ((-2, 0), (-1, -1), (-1, 0), (-1, 1), (0, -2), (0, -1), (0, 1), (0, 2), (1, -1), (1, 0), (1, 1), (2, 0))


def blank_unseen(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Write NaN over UNSEEN, and return the values."""
    values[values < UNSEEN / 2] = np.nan  # no convergence is as low; float32 rounds UNSEEN
    return values


def valid_pixels(image: NDArray[np.float64], mask: NDArray[np.floating] | None = None) -> NDArray[np.bool_]:
    """Return where the image is finite and the mask, if there is one, above 1/2."""
    valid: NDArray[np.bool_] = np.isfinite(image)
    if mask is not None:
        valid &= mask > 0.5
    return valid


def eroded(valid: NDArray[np.bool_], edge: Edge = "crop") -> NDArray[np.bool_]:
    """Return where a pixel and its twelve neighbours within two pixels are valid.

    Parameters
    ----------
    valid
        Of the patch.
    edge
        ``wrap``: neighbours beyond the border are those of the other side; ``crop``: they do not matter.
    """
    padded = np.pad(valid, 2, mode="wrap") if edge == "wrap" else np.pad(valid, 2, constant_values=True)
    rows, columns = valid.shape
    inside = valid.copy()
    for down, across in STENCIL:
        inside &= padded[2 + down : 2 + down + rows, 2 + across : 2 + across + columns]
    return inside
