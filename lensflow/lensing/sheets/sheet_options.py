"""Options of the graph of mass sheets, checked."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from lensflow.errors import BadOption

if TYPE_CHECKING:
    from lensflow.lensing.mesh.pieces import Level
    from lensflow.lensing.mesh.usmesh import PixelOrder, UsMesh

PIXELS = 4**11  # NEST pixels of a chunk


@dataclass(frozen=True)
class SheetOptions:
    """Options, as the graph describes them.

    Raises
    ------
    BadOption
        If one is out of range.
    """

    sheet_range: tuple[int, int] = (20, 100)
    chunk_size: int = 4_194_304
    validation_level: Level = "strict"
    dataset: str = "HEALPIX"
    pixel_order: PixelOrder = "nest"
    plan: Literal["auto", "scan"] = "auto"
    cosmology: tuple[float, float, float] | None = None
    seed: int | None = None
    pixels_per_block: int = PIXELS

    def __post_init__(self) -> None:
        first, stop = self.sheet_range
        if not 0 <= first < stop:
            raise BadOption(f"sheet_range: found {first},{stop}, expected a first sheet and one past the last")
        if self.chunk_size < 1:
            raise BadOption(f"chunk_size: found {self.chunk_size}, expected 1 or more rows")
        for name, known in (
            ("validation_level", ("strict", "lenient", "off")),
            ("pixel_order", ("nest", "ring")),
            ("plan", ("auto", "scan")),
        ):
            if getattr(self, name) not in known:
                raise BadOption(f"{name}: found {getattr(self, name)!r}, expected {' or '.join(known)}")
        if self.pixels_per_block not in {4**order for order in range(1, 30)}:
            raise BadOption(f"pixels_per_block: found {self.pixels_per_block}, expected a power of 4 such as {PIXELS}")

    def sheets(self, mesh: UsMesh) -> range:
        """Return the slices wanted of a mesh.

        Raises
        ------
        BadOption
            If it has fewer.
        """
        if self.sheet_range[1] > mesh.nslices:
            raise BadOption(
                f"sheet_range: found {self.sheet_range[0]},{self.sheet_range[1]}, expected at most {mesh.nslices}: "
                f"{mesh.path} has no more slices"
            )
        return range(*self.sheet_range)

    def chunk(self, mesh: UsMesh) -> int:
        """Return the pixels of a chunk of a mesh."""
        return min(self.pixels_per_block, mesh.npix)

    def record(self) -> dict[str, Any]:
        """Return the options as they go into attributes."""
        return asdict(self)
