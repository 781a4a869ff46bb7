"""From shear to convergence on a flat patch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import fft

from lensflow.errors import BadInput

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def kaiser_squires(g1: ArrayLike, g2: ArrayLike) -> NDArray[np.float64]:
    """Return the convergence (E mode) of a flat shear field with periodic edges.

    K = [(f1^2 - f2^2) G1 + 2 f1 f2 G2] / (f1^2 + f2^2), f1 along axis 1; its mean, which shear does not tell, is 0
    (Kaiser and Squires 1993).

    Parameters
    ----------
    g1, g2
        Shear components on the same grid (y, x), square pixels.

    Raises
    ------
    BadInput
        If they are no images of one shape, or not finite throughout.
    """
    first, second = np.asarray(g1, np.float64), np.asarray(g2, np.float64)
    if first.ndim != 2 or first.shape != second.shape or not first.size:
        raise BadInput(f"shear: found shapes {first.shape} and {second.shape}, expected two images of one shape (y, x)")
    invalid = int(np.count_nonzero(~(np.isfinite(first) & np.isfinite(second))))
    if invalid:
        raise BadInput(f"shear: found {invalid} pixels that are not finite, expected none; set them to 0 where masked")
    f1, f2 = fft.fftfreq(first.shape[1])[None, :], fft.fftfreq(first.shape[0])[:, None]
    square = f1**2 + f2**2
    square[0, 0] = 1.0  # the numerator is 0 there
    modes = ((f1**2 - f2**2) * fft.fft2(first) + 2 * f1 * f2 * fft.fft2(second)) / square
    kappa: NDArray[np.float64] = fft.ifft2(modes).real
    return kappa
