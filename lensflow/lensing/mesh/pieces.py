"""What tasks that read rows are told, and what they tell."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from lensflow.lensing.mesh.bigfile import Block
    from lensflow.lensing.mesh.part_rows import Span
    from lensflow.lensing.mesh.usmesh import PixelOrder

Level = Literal["strict", "lenient", "off"]


@dataclass(frozen=True)
class Rows:
    """Rows of one part: all that a task needs to read them.

    Parameters
    ----------
    ids, mass
        The columns, of which only that part.
    span
        Which rows.
    """

    ids: Block
    mass: Block
    span: Span

    def read(self, count: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.floating]]]:
        """Yield ID and mass of at most ``count`` rows at a time."""
        for start in range(self.span.start, self.span.stop, count):
            stop = min(start + count, self.span.stop)
            yield self.ids.read(0, start, stop).view(np.int64), self.mass.read(0, start, stop)


@dataclass(frozen=True)
class Binning:
    """How rows are read and judged, the same for all tasks.

    Parameters
    ----------
    nside, nslices
        Of the mesh.
    chunk_size
        Rows read at a time.
    level
        ``strict``: bad rows are an error, bytes are summed; ``lenient``: they spoil their sheet; ``off``: left out.
    pixel_order
        Of the pixel numbers in IDs.
    """

    nside: int
    nslices: int
    chunk_size: int
    level: Level
    pixel_order: PixelOrder

    @property
    def npix(self) -> int:
        """Pixels of a sheet."""
        return 12 * self.nside**2

    def nested(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return IDs whose pixels are numbered NESTED; wild ones as they are."""
        if self.pixel_order == "nest":
            return ids
        import healpy  # noqa: PLC0415 - half a second that plain use need not pay

        sane = (ids >= 0) & (ids < self.npix * self.nslices)
        pixel = np.where(sane, ids % self.npix, 0)
        return np.where(sane, ids - pixel + healpy.ring2nest(self.nside, pixel), ids)


@dataclass(frozen=True)
class Piece:
    """A run of pixels of a sheet, and the rows that may belong to it.

    Parameters
    ----------
    sheet, first, pixels
        Its slice, its first pixel, and how many.
    rows
        Of each part.
    own
        Whether rows in which it does not share belong to it alone.
    counts
        Whether rows that it does not keep are counted here: where pieces share rows, only one counts them.
    scale
        1/(V_pix rhobar), 1/(1e10 Msun/h).
    """

    sheet: int
    first: int
    pixels: int
    rows: tuple[Rows, ...]
    own: bool
    counts: bool
    scale: float


class ByteSums(NamedTuple):
    """Of rows read of a part: how many, and the sums of the bytes of their IDs and masses."""

    rows: int = 0
    ids: int = 0
    mass: int = 0

    def plus(self, other: ByteSums) -> ByteSums:
        """Add another."""
        return ByteSums(*(a + b for a, b in zip(self, other, strict=True)))


@dataclass(frozen=True)
class Tally:
    """What became of the rows of a piece.

    Parameters
    ----------
    rows, zero, bad
        Rows kept, of zero mass, and bad or out of place.
    mass
        Sum of the masses kept.
    occupied, total, least, most, first, second
        Of the map in float64: pixels with mass, sum, extremes, sums of delta and of its square.
    bytes
        Of the rows read, by part.
    complaint
        A sentence on the first bad row; empty without one.
    """

    rows: int
    zero: int
    bad: int
    mass: float
    occupied: int
    total: float
    least: float
    most: float
    first: float
    second: float
    bytes: dict[int, ByteSums] = field(default_factory=dict)
    complaint: str = ""
