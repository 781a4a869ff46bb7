"""Options of the PS1 convolution: checked, and turned into pixels of the scale at hand."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from math import isfinite
from pathlib import Path
from typing import Any, Literal, Self

from lensflow.errors import BadOption
from lensflow.ps1.background import Cleaning
from lensflow.ps1.bands import BANDS, WEIGHTS
from lensflow.ps1.ccd import ccd_cells
from lensflow.ps1.combine import Missing, Recipe
from lensflow.ps1.gaia import check_columns, find_catalogues
from lensflow.ps1.inventory import Inventory, Plan, check_geometry, input_files, list_cells, plan_projections
from lensflow.ps1.neighbours import all_plans, with_sources
from lensflow.ps1.tessellation import Geometry

NARROWEST, WIDEST = 1.0, 200.0  # px, sigma that the kernel is made for
NARROWEST_SCALED = 0.3  # px, in scaled copies of the sky


@dataclass(frozen=True)
class Options:
    """Options of the graph, as they are called there; lengths in px of 0.25".

    Parameters
    ----------
    projection
        Only this projection (487..2643); all by default.
    selection
        Names of skycells, projections, lists (.csv), sector/camera/ccd or images (.fits) of TESS CCDs; all by default.
    bands
        Bands to combine.
    weights
        Weight of each band; .238, .344, .283, .135 for r, i, z, y by default.
    missing
        If a band of a pixel is missing: scale up the others, skip it (which dims the pixel), or fail.
    invalid_bits
        Mask bits (a sum) that turn a pixel of a band to NaN before combining; 8575 is useful.
    sigma
        Width of the Gaussian in px of 0.25", 1..200.
    radius
        Radius of the kernel in px of 0.25", at most 480; 470 by default.
    nan
        Divide by the coverage, or take NaN as zero.
    min_coverage
        Flux is NaN where less of the kernel than this falls on valid pixels.
    uncertainty
        Also make the standard deviation of the flux from the weight images.
    background
        ``sep``: what is no source becomes 0, a skycell at a time; needs weight images.
    bright_sigma
        Pixels brighter than this many sigma (the median) belong to sources without being searched for them.
    thresh
        Sources are found above this many sigma.
    stars
        ``gaia``: bright stars and saturated ones are removed, with a table of what was; needs background sep.
    gaia
        Catalogues of stars (.csv, .parquet), or sector/camera/ccd of them; by default those of the selection.
    tmag_limit
        Stars brighter than this magnitude in the band of TESS are removed.
    epoch
        Julian year to which proper motions carry the stars, 2012 for instance; as catalogued by default.
    on_sep_error
        If sep cannot hold the sources of a skycell: an error, or it is kept as it is and noted.
    uncertainty_missing
        If a skycell lacks weight images that are needed: an error, or its uncertainty is estimated and noted.
    on_missing
        A selected cell that is absent is recorded as a hole, or an error.
    on_corrupt
        A damaged file is masked and noted, or an error.
    edge
        Unused pixels of 0.25" at the edges of a cell; 10 by default.
    split
        Pixels of 0.25" from the start of an overlap to the border of ownership; 240, the middle, by default.
    halo_cells
        Whether unselected cells next to selected ones serve beyond their edges.
    fill
        Where no cell of a projection reaches: the nearest other projection of the source that does, or nothing.
    pad
        Pixels of 0.25" beyond the selected cells that are filled, not less than the radius; 480 by default.
    columns_per_block
        Width of blocks in cells, if whole rows do not fit the memory; cells at a border are then read twice.
    origin
        Also store where each pixel comes from.
    scale
        Pixels of the source are this many times 0.25" wide (simulated small skies); a divisor of 240.

    Raises
    ------
    BadOption
        If one is out of range.
    """

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
    background: Literal["none", "sep"] = "none"
    bright_sigma: float = 50.0
    thresh: float = 2.5
    stars: Literal["none", "gaia"] = "none"
    gaia: tuple[str, ...] = ()
    tmag_limit: float = 13.0
    epoch: float | None = None
    on_sep_error: Literal["fail", "keep"] = "fail"
    uncertainty_missing: Literal["fail", "estimate"] = "fail"
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
        _choice("uncertainty_missing", self.uncertainty_missing, ("fail", "estimate"))
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
        if self.epoch is not None and not 1900 <= self.epoch <= 2100:
            raise BadOption(f"epoch: found {self.epoch}, expected a Julian year such as 2012")
        _ = self.recipe, self.cleaning  # their own checks

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
            self.uncertainty or self.background == "sep",
            self.on_corrupt,
        )

    @property
    def cleaning(self) -> Cleaning:
        """What is done to whole skycells."""
        return Cleaning(
            background=self.background,
            bright_sigma=self.bright_sigma,
            thresh=self.thresh,
            stars=self.stars,
            tmag_limit=self.tmag_limit,
            on_sep_error=self.on_sep_error,
            uncertainty=self.uncertainty,
        )

    def whole_cells(self, plan: Plan) -> bool:
        """Whether the skycells of a projection are worked on as a whole; if not, blocks read the rows they need."""
        without = any(one.weight is None for files in plan.layout.cells_read for one in files.bands)
        return self.background == "sep" or (self.uncertainty and without)

    @property
    def sigma_px(self) -> float:
        """Width of the kernel in px of the source."""
        return self.sigma / self.geometry.scale

    @property
    def radius_px(self) -> int:
        """Radius of the kernel in px of the source."""
        return self.geometry.radius if self.radius is None else round(self.radius / self.scale)

    @property
    def kernel(self) -> dict[str, Any]:
        """How images are convolved: what :func:`lensflow.ps1.blur.convolve` takes."""
        return {
            "sigma": self.sigma_px,
            "radius": self.radius_px,
            "nan": self.nan,
            "min_coverage": self.min_coverage,
        }

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
        recipe = self.recipe
        selection = tuple(name for item in self.selection for name in ccd_cells(item, self.geometry))
        # weights that are missing are an error of the plan only if they cannot be estimated
        strict = self.uncertainty_missing == "fail"
        inventory, plans = plan_projections(
            inventory,
            recipe if strict else replace(recipe, uncertainty=False),
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
        return inventory, [replace(plan, layout=plan.layout.combining(recipe)) for plan in plans]

    def catalogues(self, source: Path) -> tuple[Path, ...]:
        """Find the catalogues of stars, none if stars stay, and look at their columns.

        Raises
        ------
        BadInput
            If one is missing, or lacks a column.
        BadOption
            If none is named.
        """
        if self.stars == "none":
            return ()
        found = find_catalogues(self.gaia, self.selection, Path(source))
        for path in found:
            check_columns(path, motion=self.epoch is not None)
        return found

    def record(self) -> dict[str, Any]:
        """Return the options as they go into attributes; the selection stands in cells, in order, beside them."""
        options = asdict(self)
        del options["selection"]
        return {**options, "weights": self.recipe.weights}


def inputs(source: Path, **keywords: object) -> list[Path]:
    """List every file that the graph would read with the same keywords, for fingerprints."""
    options = Options.from_keywords(**keywords)
    return [*input_files(all_plans(options.plan(source)[1])), *options.catalogues(source)]


def _choice(name: str, found: str, choices: tuple[str, ...]) -> None:
    if found not in choices:
        raise BadOption(f"{name}: found {found!r}, expected {' or '.join(choices)}")
