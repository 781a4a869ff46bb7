"""Templates of TESS images: convolved Pan-STARRS projections summed into TESS pixels, block by block of TESS rows.

A block works out which projection owns each of its pixels, reads the stored chunks that these reach into one after the
other, and sums them tile by tile for all offsets. It holds one chunk of flux and mask and its own sums, whatever the
size of the sky: 20 bytes (32 if split by area) a pixel of the block and offset, and 6 bytes a pixel of a stored chunk,
10 while it is decoded; some 100 MB at the true size.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, prod
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from lensflow.errors import BadInput, BadOption
from lensflow.ps1.tess.binning import Pixels, runs_of, sum_runs
from lensflow.ps1.tess.knots import Placement
from lensflow.ps1.tess.owners import NOBODY, owners
from lensflow.ps1.tess.sources import tiles_of
from lensflow.ps1.tess.splitting import sum_pieces

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from lensflow.ps1.tess.binning import Window
    from lensflow.ps1.tess.knots import Knots
    from lensflow.ps1.tess.sources import Source
    from lensflow.ps1.tess.wcs import TanSip

    Shift = tuple[float, float]

Assign = Literal["centre", "area"]
ROWS = 128  # TESS rows a block: a stored chunk is some 70 TESS rows high, so few are read by more than two blocks
FEWEST = 8  # rows a block, however finely TESS pixels are divided
FARTHEST = 100.0  # TESS px, of an offset
MASK_BITS = 16
SUMS = 32  # bytes a pixel of a block and offset, while it is made
OWNER = 8  # the same where TESS pixels are divided, more
CHUNK = 24  # bytes a pixel of a stored chunk while it is decoded and sorted out


@dataclass(frozen=True, eq=False)
class Layout:
    """All that is known of the templates before a pixel is read.

    Parameters
    ----------
    image
        The TESS image.
    sources
        The projections, by rising number.
    offsets
        (dx, dy) of each template in TESS pixels.
    assign
        ``centre`` or ``area``.
    ignore_bits
        Mask bits of pixels that are not summed.
    oversample
        Divides TESS pixels n x n.
    rows
        TESS rows a block; by default 128, fewer where pixels are divided.
    """

    image: TanSip
    sources: tuple[Source, ...]
    offsets: tuple[Shift, ...]
    assign: Assign = "centre"
    ignore_bits: int = 4096
    oversample: int = 1
    rows: int | None = None

    def __post_init__(self) -> None:
        if self.assign not in get_args(Assign):
            raise BadOption(f"assign: found {self.assign!r}, expected {' or '.join(get_args(Assign))}")
        if not 0 <= self.ignore_bits < 2**MASK_BITS:
            raise BadOption(
                f"ignore_bits: found {self.ignore_bits}, expected a sum of mask bits, 0..{2**MASK_BITS - 1}"
            )
        if not 1 <= self.oversample <= 16:
            raise BadOption(f"oversample: found {self.oversample}, expected 1..16")
        if self.rows is not None and self.rows < 1:
            raise BadOption(f"rows_per_block: found {self.rows}, expected 1 or more")

    @property
    def chunks(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Chunks of the result (offset, y, x): all offsets and whole rows."""
        height, width = self.image.shape
        rows = min(self.rows or max(FEWEST, ROWS // self.oversample), height)
        whole, rest = divmod(height, rows)
        down = (rows * self.oversample,) * whole + ((rest * self.oversample,) if rest else ())
        return (len(self.offsets),), down, (width * self.oversample,)

    @property
    def workspace(self) -> int:
        """Bytes that making a block takes beside it, at most: sums before they are rounded, and a chunk of a source."""
        sums = prod(chunks[0] for chunks in self.chunks) * (SUMS + (OWNER if self.oversample > 1 else 0))
        return sums + max(prod(source.chunks) for source in self.sources) * CHUNK

    def block(self, index: int) -> tuple[int, int]:
        """Return the TESS rows of a block: first, and one past the last."""
        down = self.chunks[1]
        return sum(down[:index]) // self.oversample, sum(down[: index + 1]) // self.oversample

    def placement(self, source: Source) -> Placement:
        """Return how the pixels of a source map to those of a template that is not moved."""
        # round the image knots need what lies between them, and the longest offset
        margin = 2.0 + max(max(abs(dx), abs(dy)) for dx, dy in self.offsets)
        return Placement(self.image, source, self.oversample, margin)

    @property
    def dtypes(self) -> dict[str, type]:
        """Names and types of the result; parts of pixels are counted if ``assign`` is ``area``."""
        count = np.float32 if self.assign == "area" else np.int32
        return {"FLUX_SUM": np.float32, "COUNT": count, "MASK": count, "USED": count}

    @property
    def counted(self) -> type:
        """The type that pixels, or parts of them, are counted in."""
        return np.float64 if self.assign == "area" else np.int32


def parse_offsets(offsets: Sequence[str | Sequence[float]]) -> tuple[Shift, ...]:
    """Return offsets given as (dx, dy), or as text ``dx/dy`` of a command line.

    Raises
    ------
    BadOption
        If there is none, one twice, or one that is not two numbers within 100 px.
    """
    found: list[Shift] = []
    for one in offsets:
        words = one.split("/") if isinstance(one, str) else one
        try:
            dx, dy = (float(word) + 0.0 for word in words)  # + 0: no minus zero in names of files
        except ValueError as error:
            raise BadOption(f"offsets: found {one!r}, expected dx/dy in TESS pixels such as 0.3/-0.4") from error
        if not (isfinite(dx) and isfinite(dy) and max(abs(dx), abs(dy)) <= FARTHEST):
            raise BadOption(f"offsets: found {one!r}, expected at most {FARTHEST:g} TESS pixels")
        found.append((dx, dy))
    if not found or len(set(found)) < len(found):
        raise BadOption(f"offsets: found {list(offsets)}, expected one or more, each once")
    return tuple(found)


def check_overlap(layout: Layout, store: Path) -> None:
    """Refuse a store that shows another part of the sky; points on every cell and on the image are asked.

    Raises
    ------
    BadInput
        If no projection overlaps the image.
    """
    height, width = layout.image.shape
    for source in layout.sources:
        placement = layout.placement(source)
        for cell in source.usable:
            places = np.meshgrid(np.linspace(cell.x0, cell.x1, 9), np.linspace(cell.y0, cell.y1, 9))
            u, v = placement.tess_pixels(*places)
            if ((u > 0) & (u < width) & (v > 0) & (v < height)).any():
                return
    for y in np.linspace(0, height - 1, 9).astype(int).tolist():
        owner, _ = owners(layout.image, layout.sources, (y, y + 1), (0.0, 0.0))
        if (owner != NOBODY).any():
            return
    numbers = ", ".join(f"{source.number:04d}" for source in layout.sources)
    raise BadInput(f"{store}: its projections {numbers} do not overlap the TESS image; give the header of another CCD")


def bin_block(layout: Layout, *, block_id: tuple[int, ...]) -> tuple[NDArray[Any], ...]:
    """Make one block of all templates: FLUX_SUM, COUNT, MASK and USED (offset, y, x) of its TESS rows."""
    rows, n = layout.block(block_id[1]), layout.oversample
    shape = len(layout.offsets), (rows[1] - rows[0]) * n, layout.image.shape[1] * n
    sums: list[NDArray[Any]] = [
        np.zeros(shape, np.float64 if name == "FLUX_SUM" else layout.counted) for name in layout.dtypes
    ]
    found = [owners(layout.image, layout.sources, rows, offset) for offset in layout.offsets]
    owner = [np.repeat(np.repeat(one, n, axis=0), n, axis=1) if n > 1 else one for one, _ in found]
    for k, source in enumerate(layout.sources):
        touched = [tiles[k] for _, tiles in found if k in tiles]
        for knots, pixels in _tiles(layout, source, np.logical_or.reduce(touched)) if touched else ():
            for place, (dx, dy) in enumerate(layout.offsets):
                here = knots.moved(dx * n, dy * n)
                window = sum_runs(runs_of(here), pixels) if layout.assign == "centre" else sum_pieces(here, pixels)
                if window is not None:
                    below = window._replace(v0=window.v0 - rows[0] * n)
                    _add([one[place] for one in sums], below, owner[place] == k)
    sums[0][sums[1] == 0] = np.nan
    return tuple(total.astype(dtype, copy=False) for total, dtype in zip(sums, layout.dtypes.values(), strict=True))


def _tiles(layout: Layout, source: Source, touched: NDArray[np.bool_]) -> Iterator[tuple[Knots, Pixels]]:
    """Read the touched tiles of a source, a stored chunk at a time."""
    placement = layout.placement(source)
    for extent, tiles in tiles_of(source, touched):
        flux, mask = source.read("flux", extent), source.read("mask", extent)
        knots = placement.knots(extent)
        for tile in tiles:
            part = tile.moved(-extent.y0, -extent.x0)
            yield knots.part(part), Pixels.of(flux[part.slices], mask[part.slices], layout.ignore_bits)
        del flux, mask  # before the next are read


def _add(sums: Sequence[NDArray[Any]], window: Window, mine: NDArray[np.bool_]) -> None:
    """Add a window to the block where the block's pixels are owned by the window's projection."""
    height, width = window.sums[0].shape
    top, bottom = max(window.v0, 0), min(window.v0 + height, mine.shape[0])
    left, right = max(window.u0, 0), min(window.u0 + width, mine.shape[1])
    if top >= bottom or left >= right:
        return
    inner = slice(top - window.v0, bottom - window.v0), slice(left - window.u0, right - window.u0)
    outer = slice(top, bottom), slice(left, right)
    owned = mine[outer]
    for total, part in zip(sums, window.sums, strict=True):
        total[outer] += np.where(owned, part[inner], 0).astype(total.dtype)
