"""Options of the PS1 convolution: checked, and turned into pixels of the scale at hand."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal, Self

from lensflow.errors import BadOption
from lensflow.ps1.bands import BANDS, WEIGHTS
from lensflow.ps1.ccd import ccd_cells
from lensflow.ps1.combine import Missing, Recipe
from lensflow.ps1.inventory import Inventory, Plan, check_geometry, input_files, list_cells, plan_projections
from lensflow.ps1.neighbours import all_plans, with_sources
from lensflow.ps1.tessellation import Geometry

if TYPE_CHECKING:
    from pathlib import Path

NARROWEST, WIDEST = 1.0, 200.0  # px, sigma that the kernel is made for
NARROWEST_SCALED = 0.3  # px, in scaled copies of the sky


@dataclass(frozen=True)
class Options:
    """Options of the graph, by its names; lengths in px of 0.25"."""

    projection: int | None = None
    selection: tuple[str, ...] = ()
    bands: tuple[str, ...] = BANDS
    weights: tuple[float, ...] | None = None
    missing: Missing = "renormalise"
    invalid_bits: int = 0
    sigma: float = 60.0
    radius: int | None = None
    nan: Literal["normalise", "zero"] = "normalise"
    min_coverage: float = 0.2
    uncertainty: bool = False
    on_missing: Literal["record", "fail"] = "record"
    on_corrupt: Literal["mask", "fail"] = "mask"
    edge: int | None = None
    split: int | None = None
    halo_cells: bool = True
    fill: Literal["nearest", "none"] = "nearest"
    pad: int | None = None
    columns_per_block: int | None = None
    origin: bool = False
    scale: int = 1

    @classmethod
    def from_keywords(cls, **keywords: Any) -> Self:  # noqa: ANN401 - as the graph was called
        """Take the keywords of the graph; names that are no option are left alone.

        Raises
        ------
        BadOption
            If a value is out of range.
        """
        names = {one.name for one in fields(cls)}
        return cls(**{key: value for key, value in keywords.items() if key in names})

    def __post_init__(self) -> None:
        _choice("nan", self.nan, ("normalise", "zero"))
        _choice("fill", self.fill, ("nearest", "none"))
        _choice("on_missing", self.on_missing, ("record", "fail"))
        if not 0 < self.min_coverage <= 1:
            raise BadOption(f"min_coverage: found {self.min_coverage}, expected more than 0 and at most 1")
        if self.columns_per_block is not None and not 1 <= self.columns_per_block <= 10:
            raise BadOption(f"columns_per_block: found {self.columns_per_block}, expected 1..10 cells")
        least = NARROWEST if self.scale == 1 else NARROWEST_SCALED
        if not (isfinite(self.sigma) and least <= self.sigma_px and self.sigma <= WIDEST):
            raise BadOption(
                f"sigma: found {self.sigma} px ({self.sigma_px:g} px at scale {self.scale}), "
                f"expected {least:g}..{WIDEST / self.scale:g} px"
            )
        check_geometry(self.geometry, edge=self.edge_px, split=self.split_px, radius=self.radius_px)
        if self.pad_px < self.radius_px:
            raise BadOption(f"pad: found {self.pad} px, expected {self.radius_px * self.scale} or more: the radius")
        _ = self.recipe  # its own checks

    @property
    def geometry(self) -> Geometry:
        """The tessellation, or its scaled copy."""
        return Geometry(self.scale)

    @property
    def recipe(self) -> Recipe:
        """How bands are combined."""
        weights = self.weights
        if weights is None:
            unknown = [band for band in self.bands if band not in WEIGHTS]
            if unknown:
                raise BadOption(f"weights: found none for band {unknown[0]}, expected one for each of {self.bands}")
            weights = tuple(WEIGHTS[band] for band in self.bands)
        return Recipe(
            tuple(self.bands),
            tuple(float(weight) for weight in weights),
            self.missing,
            self.invalid_bits,
            self.uncertainty,
            self.on_corrupt,
        )

    @property
    def sigma_px(self) -> float:
        """Width of the kernel in px of the source."""
        return self.sigma / self.geometry.scale

    @property
    def radius_px(self) -> int:
        """Radius of the kernel in px of the source."""
        return self.geometry.radius if self.radius is None else round(self.radius / self.scale)

    @property
    def edge_px(self) -> int:
        """Unusable edge of a cell in px of the source."""
        if self.edge is None:
            return self.geometry.edge
        return max(1, round(self.edge / self.scale)) if self.edge > 0 else self.edge

    @property
    def split_px(self) -> int:
        """Border of ownership inside an overlap in px of the source."""
        return self.geometry.split if self.split is None else round(self.split / self.scale)

    @property
    def pad_px(self) -> int:
        """How far from the selected cells other projections fill in, in px of the source."""
        return self.geometry.overlap if self.pad is None else round(self.pad / self.scale)

    def plan(self, source: Path) -> tuple[Inventory, list[Plan]]:
        """List the source and lay out its projections, reading names and at most one header a projection.

        Raises
        ------
        BadInput
            If the source is absent, empty, or contradicts the tessellation.
        """
        inventory = list_cells(source, geometry=self.geometry, bands=self.bands)
        selection = tuple(name for item in self.selection for name in ccd_cells(item, self.geometry))
        inventory, plans = plan_projections(
            inventory,
            self.recipe,
            selection=selection,
            projection=self.projection,
            halo_cells=self.halo_cells,
            edge=self.edge_px,
            split=self.split_px,
            pad=self.radius_px,
            columns_per_block=self.columns_per_block,
            fail_on_missing=self.on_missing == "fail",
        )
        if self.fill == "nearest":
            plans = with_sources(plans, inventory, reach=self.pad_px)
        return inventory, plans

    def record(self) -> dict[str, Any]:
        """Return the options as they go into attributes; the selection stands in cells, in order, beside them."""
        options = asdict(self)
        del options["selection"]
        return {**options, "weights": self.recipe.weights}


def inputs(source: Path, **keywords: object) -> list[Path]:
    """List every file that the graph would read with the same keywords, for fingerprints."""
    return input_files(all_plans(Options.from_keywords(**keywords).plan(source)[1]))


def _choice(name: str, found: str, choices: tuple[str, ...]) -> None:
    if found not in choices:
        raise BadOption(f"{name}: found {found!r}, expected {' or '.join(choices)}")
