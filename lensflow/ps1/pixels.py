"""What a part of a projection is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Pixels(NamedTuple):
    """An area of a projection: counts/s with NaN where there is nothing, mask bits, and maybe (counts/s)^2."""

    flux: NDArray[np.float32]
    mask: NDArray[np.uint16]
    variance: NDArray[np.float32] | None
