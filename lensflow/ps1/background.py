"""A whole skycell made ready to be stitched: combined, its background zeroed, its bright stars removed.

These stages look at all of a cell at once, and at nothing but the cell and the catalogue: a cell is the same in
whatever selection it stands.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite
from typing import TYPE_CHECKING, Literal

import numpy as np

from lensflow import events
from lensflow.errors import BadInput, BadOption
from lensflow.ps1.combine import Combination
from lensflow.ps1.gaia import stars_near
from lensflow.ps1.segments import ExtractionFailed, closed, find_segments, global_rms, with_bright
from lensflow.ps1.stars import REMOVED, Stars, remove_stars
from lensflow.ps1.tessellation import grid_to_sky

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lensflow.ps1.cells import CellFiles, Rect
    from lensflow.ps1.combine import Recipe
    from lensflow.ps1.segments import Segmentation
    from lensflow.ps1.tessellation import Projection

SAMPLE = 997  # every so many pixels are looked at first; prime, so that columns take turns
CLOSING = 20  # px of 0.25", side of the square that closes bright regions


@dataclass(frozen=True)
class Cleaning:
    """What is done to a whole skycell once its bands are combined.

    Parameters
    ----------
    background
        ``"sep"``: pixels outside segments and bright regions become 0.
    bright_sigma
        Bright is more than this times the median of sigma.
    thresh
        Of the segments, in sigma.
    stars
        ``"gaia"``: bright stars are removed, too.
    tmag_limit
        TESS magnitude; brighter stars are removed.
    on_sep_error
        If sep fails: an error, or the cell is kept as it is and noted.
    uncertainty
        Whether the variance is wanted further on.

    Raises
    ------
    BadOption
        If a value is out of range, or stars are to be removed without segments.
    """

    background: Literal["none", "sep"] = "none"
    bright_sigma: float = 50.0
    thresh: float = 2.5
    stars: Literal["none", "gaia"] = "none"
    tmag_limit: float = 13.0
    on_sep_error: Literal["fail", "keep"] = "fail"
    uncertainty: bool = False

    def __post_init__(self) -> None:
        for name, choices in (
            ("background", ("none", "sep")),
            ("stars", ("none", "gaia")),
            ("on_sep_error", ("fail", "keep")),
        ):
            if getattr(self, name) not in choices:
                raise BadOption(f"{name}: found {getattr(self, name)!r}, expected {' or '.join(choices)}")
        for name in ("bright_sigma", "thresh"):
            if not (isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise BadOption(f"{name}: found {getattr(self, name)}, expected a positive number of sigma")
        if not isfinite(self.tmag_limit):
            raise BadOption(f"tmag_limit: found {self.tmag_limit}, expected a magnitude")
        if self.stars == "gaia" and self.background != "sep":
            raise BadOption("stars: found 'gaia' without background, expected background sep: stars are its segments")


@dataclass(frozen=True)
class CleanCell:
    """A skycell, or a part of it, that is ready to be stitched.

    Parameters
    ----------
    rect
        What is here, in pixels of the cell.
    flux, mask
        (y, x) of that rectangle: counts/s, bits.
    variance
        (counts/s)^2, if asked for.
    removed
        Rows of sources that were removed, x and y in pixels of the cell.
    tangents
        CRVAL in degrees of each band.
    """

    rect: Rect
    flux: NDArray[np.float32]
    mask: NDArray[np.uint16]
    variance: NDArray[np.float32] | None
    removed: NDArray[np.void]
    tangents: dict[str, tuple[float, float]]

    def crop(self, rect: Rect) -> CleanCell:
        """Return a copy of some pixels (of the cell), without what is known of the cell as a whole."""
        here = rect.moved(-self.rect.y0, -self.rect.x0).slices
        variance = None if self.variance is None else self.variance[here].copy()
        return CleanCell(rect, self.flux[here].copy(), self.mask[here].copy(), variance, self.removed[:0], {})


def clean_cell(
    files: CellFiles, projection: Projection, recipe: Recipe, cleaning: Cleaning, stars: NDArray[np.void] | None = None
) -> CleanCell:
    """Read a skycell, combine its bands, and clean the image.

    Parameters
    ----------
    files, projection, recipe
        The cell, its grid, how its bands are combined.
    cleaning
        What to do.
    stars
        The catalogue: source_id, ra, dec, tess_mag.

    Raises
    ------
    BadInput
        If sep fails and ``on_sep_error`` is ``"fail"``; if a file is damaged and the recipe says so.

    Notes
    -----
    Memory: 10 bytes a pixel of flux, mask and sigma; beside them 4 of segments, 3 of masks, and the pixel stack
    of sep, at most 10^7 pixels.
    """
    cell = _combined(files, projection, recipe)
    if cleaning.background == "sep":
        try:
            ids, count, bright = _segmented(
                cell, files, cleaning, closing=max(1, round(CLOSING / projection.geometry.scale))
            )
        except ExtractionFailed as error:
            if cleaning.on_sep_error == "fail":
                raise BadInput(
                    f"{files.cell}: {error}; raise thresh, mask bad pixels by invalid_bits, or set on_sep_error to keep"
                ) from error
            events.note("background-failed", f"{files.cell} was left as it is: {error}", cell=str(files.cell))
        else:
            np.copyto(cell.flux, 0, where=~((ids > 0) | bright | np.isnan(cell.flux)))
            if cleaning.stars == "gaia" and stars is not None:
                found = with_bright(ids, count, bright)
                removed = _without_stars(cell, found, files, projection, limit=cleaning.tmag_limit, stars=stars)
                cell = replace(cell, removed=removed)
    return cell if cleaning.uncertainty else replace(cell, variance=None)


def _combined(files: CellFiles, projection: Projection, recipe: Recipe) -> CleanCell:
    """Combine the bands of the whole cell; a missing weight leaves no variance."""
    used = [one for one in files.bands if one.band in recipe.bands]
    weighted = recipe.uncertainty and all(one.weight is not None for one in used)
    combination = Combination(files, projection, replace(recipe, uncertainty=weighted))
    rect = files.rect
    flux, mask = np.full(rect.shape, np.nan, np.float32), np.zeros(rect.shape, np.uint16)
    variance = np.full(rect.shape, np.nan, np.float32) if recipe.uncertainty else None
    for slab in combination.slabs(rect.y0, rect.y1):
        here = slab.rect.moved(-rect.y0, -rect.x0).slices
        flux[here], mask[here] = slab.flux, slab.mask
        if variance is not None and slab.variance is not None:
            variance[here] = slab.variance
    if variance is not None and not weighted:
        variance = _estimated(flux, files)
    return CleanCell(rect, flux, mask, variance, np.empty(0, REMOVED), combination.tangents())


def _estimated(flux: NDArray[np.float32], files: CellFiles) -> NDArray[np.float32]:
    """Return one variance for all pixels with a value: the global rms of the image squared."""
    there = np.isfinite(flux)
    rms = global_rms(flux, ~there) if there.any() else 0.0
    events.note(
        "uncertainty-estimated",
        f"{files.cell} lacks weight images: its uncertainty is the rms of the image, {rms:.4g} counts/s",
        cell=str(files.cell),
        rms=rms,
    )
    return np.where(there, np.float32(rms**2), np.float32(np.nan))


def _segmented(
    cell: CleanCell, files: CellFiles, cleaning: Cleaning, *, closing: int
) -> tuple[NDArray[np.int32], int, NDArray[np.bool_]]:
    """Return the segmentation map, the number of segments, and where the cell is bright."""
    if cell.variance is None:
        raise BadInput(f"{files.cell}: found no uncertainty, expected one for the background; a recipe must make it")
    sigma = np.sqrt(cell.variance, out=None if cleaning.uncertainty else cell.variance)
    bright = cell.flux > cleaning.bright_sigma * exact_median(sigma)
    if cleaning.stars == "gaia":
        bright = closed(bright, closing)
    unseen = bright | ~(np.isfinite(cell.flux) & (sigma > 0))
    ids, count = find_segments(cell.flux, sigma, unseen, thresh=cleaning.thresh)
    return ids, count, bright


def exact_median(values: NDArray[np.float32]) -> float:
    """Return the median of the numbers that are not NaN, NaN if all are.

    A sample tells between which values it lies, so that few need to be sorted: a tenth of the time of ``nanmedian``.
    """
    total = values.size - np.count_nonzero(np.isnan(values))
    if not total:
        return float("nan")
    sample = values.ravel()[::SAMPLE]
    sample = np.sort(sample[~np.isnan(sample)])
    middle = np.array([(total - 1) // 2, total // 2])
    for part in (0.0, 0.01):  # equal values, as many as there may be, are found without sorting any
        low, high = (sample[int(place * len(sample))] if len(sample) else np.nan for place in (0.5 - part, 0.5 + part))
        below, through = np.count_nonzero(values < low), np.count_nonzero(values <= high)
        ranks = middle - below
        if ranks[0] >= 0 and middle[1] < through:
            if low == high:
                return float(low)
            near = values[(values >= low) & (values <= high)]
            return float(np.partition(near, ranks)[ranks].mean(dtype=np.float64))
    known = values[~np.isnan(values)]  # the sample misleads, or there is none
    return float(np.partition(known, middle)[middle].mean(dtype=np.float64))


def _without_stars(
    cell: CleanCell,
    found: Segmentation,
    files: CellFiles,
    projection: Projection,
    *,
    limit: float,
    stars: NDArray[np.void],
) -> NDArray[np.void]:
    """Remove stars from the flux and return what was removed."""
    ra, dec = next(iter(cell.tangents.values()), (projection.ra, projection.dec))
    grid, rect = replace(projection, ra=ra, dec=dec), files.rect
    y0, x0 = projection.cell_origin(files.cell.y, files.cell.x)
    corner = y0 + rect.y0, x0 + rect.x0
    # wings reach about as far as cells overlap: a star farther outside shines on pixels that another cell owns
    near = Stars(*stars_near(stars, grid, corner, rect.shape, margin=projection.geometry.overlap))
    rows = remove_stars(cell.flux, cell.mask, found, near, limit=limit)
    unknown = np.isnan(rows["ra"])
    rows["ra"][unknown], rows["dec"][unknown] = grid_to_sky(
        grid, rows["x"][unknown] + corner[1], rows["y"][unknown] + corner[0]
    )
    rows["x"] += rect.x0
    rows["y"] += rect.y0
    return rows
