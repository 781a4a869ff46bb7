"""The skycells under a TESS CCD, from the world coordinates of one of its images."""

from __future__ import annotations

import re
import warnings
from math import hypot
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.wcs import WCS, FITSFixedWarning

from lensflow.arrays.fits import read_image_header
from lensflow.arrays.reproject import TanGrid
from lensflow.errors import BadInput
from lensflow.ps1.selection import find_list, read_selection
from lensflow.ps1.tessellation import CELLS, FIRST, LAST, Skycell

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr
    from numpy.typing import NDArray

    from lensflow.ps1.tessellation import Geometry, Projection

BUFFER = 10.0  # px of TESS beyond the image, for templates that are shifted by some of them
SIDE = 64  # positions along a side of the image: the distortion bends it
WIDEST = 60.0  # deg from the middle to a corner; the diagonal of a CCD is 17

_IMAGE = re.compile(r".+\.(?:fits|fit|fts)", re.IGNORECASE)
_CCD = re.compile(r"0*(\d+)/([1-4])/([1-4])")
_NAMED = re.compile(r"s(\d{4})[-_]([1-4])[-_]([1-4])(?!\d)")  # in names of images and lists of a CCD


def ccd_cells(item: str, geometry: Geometry) -> tuple[str, ...]:
    """Return the names of the skycells that a selection item stands for if it is an image, else the item itself.

    Parameters
    ----------
    item
        A path that ends in ``.fits`` is that of an image with world coordinates, such as a full-frame image of TESS.
    geometry
        The tessellation, or its scaled copy.

    Raises
    ------
    BadInput
        If the image has no celestial coordinates, or lies outside of the tessellation.
    """
    if not _IMAGE.fullmatch(item):
        return (item,)
    found = cells_under(outline(Path(item)), geometry)
    if not found:
        raise BadInput(f"{item}: found it outside of RINGS.V3, expected an image north of declination -40 degrees")
    return tuple(map(str, found))


def with_ccds(made: xr.DataTree, selection: Sequence[str], *, geometry: Geometry, source: Path) -> xr.DataTree:
    """Return convolved projections with the skycells of each CCD that was asked for.

    Several CCDs share cells, which are made once for all of them: the lists tell them apart again.

    Parameters
    ----------
    made
        Its attribute ``selection`` names the cells that the selection came to.
    selection
        As the user gave it; names of skycells and projections are of no CCD.
    geometry
        The tessellation, or its scaled copy.
    source
        Where lists are looked for.

    Returns
    -------
    xr.DataTree
        With an attribute ``ccds``, if there are several: names of cells in order, by sector/camera/ccd as the name of
        the list or image has it, or else by that name.

    Raises
    ------
    BadInput
        If a list or an image is not sound.
    """
    kept, found = set(made.attrs["selection"]), dict[str, set[str]]()
    for item in selection:
        cells = _listed(item, geometry, source)
        if cells:
            found.setdefault(_ccd_name(item), set()).update(kept.intersection(cells))
    if len(found) > 1:  # of one, the list is the selection
        made.attrs["ccds"] = {name: sorted(cells) for name, cells in sorted(found.items())}
    return made


def _listed(item: str, geometry: Geometry, source: Path) -> tuple[str, ...]:
    """Return the cells of an item of a selection that is a CCD, none for another."""
    ccd = _CCD.fullmatch(item)
    if ccd is not None or item.endswith(".csv"):
        path = Path(item) if ccd is None else find_list(source, *(int(part) for part in ccd.groups()))
        return tuple(map(str, read_selection(path, geometry)))
    return ccd_cells(item, geometry) if _IMAGE.fullmatch(item) else ()


def _ccd_name(item: str) -> str:
    place = _CCD.fullmatch(item) or _NAMED.search(Path(item).name)
    return Path(item).name if place is None else "/".join(str(int(part)) for part in place.groups())


def outline(path: Path, *, buffer: float = BUFFER) -> NDArray[np.float64]:
    """Return the border of an image on the sky.

    Parameters
    ----------
    path
        FITS file; the first 2-D image in it counts, with its distortion.
    buffer
        Pixels beyond the image.

    Returns
    -------
    NDArray
        Unit vectors (n, 3) round the image.

    Raises
    ------
    BadInput
        If the image has no celestial coordinates.
    """
    _, header = read_image_header(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)  # of dates and old keywords
        try:
            wcs = WCS(header)
        except (ValueError, MemoryError) as error:  # the latter of malformed coordinates too
            raise BadInput(f"{path}: found world coordinates that are not sound ({error}); fetch it again") from error
    if not wcs.has_celestial or wcs.naxis != 2:
        raise BadInput(
            f"{path}: CTYPE1, CTYPE2: found {list(wcs.wcs.ctype)}, expected RA and Dec; give a calibrated image"
        )
    x, y = _border(int(header["NAXIS1"]), int(header["NAXIS2"]), buffer)
    ra, dec = np.deg2rad(wcs.celestial.all_pix2world(x, y, 0))
    vectors = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)
    if not np.isfinite(vectors).all():
        raise BadInput(f"{path}: found pixels at no place of the sky, expected coordinates for all; fetch it again")
    return vectors


def _border(width: int, height: int, buffer: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Walk once round an image."""
    along = np.linspace(0, 1, SIDE, endpoint=False)
    low, high = -0.5 - buffer, np.array([width, height]) - 0.5 + buffer
    there = low + along[:, None] * (high - low)
    back = high + low - there
    x = np.concatenate([there[:, 0], np.full(SIDE, high[0]), back[:, 0], np.full(SIDE, low)])
    y = np.concatenate([np.full(SIDE, low), there[:, 1], np.full(SIDE, high[1]), back[:, 1]])
    return x, y


def cells_under(border: NDArray[np.float64], geometry: Geometry) -> list[Skycell]:
    """Return the cells, of all projections, whose usable area touches a polygon on the sky.

    Parameters
    ----------
    border
        Unit vectors (n, 3) round the polygon, which spans less than a hemisphere.
    geometry
        The tessellation, or its scaled copy.

    Raises
    ------
    BadInput
        If the polygon is too wide.
    """
    middle = border.mean(axis=0)
    middle /= np.linalg.norm(middle)
    radius = np.rad2deg(np.arccos(np.clip(border @ middle, -1, 1).min()))
    if not radius <= WIDEST:
        raise BadInput(f"found an image that reaches {radius:.0f} degrees from its middle, expected a TESS CCD")
    found = []
    for number in range(FIRST, LAST + 1):
        grid = geometry.projection(number)
        tan = TanGrid(grid.ra, grid.dec, grid.crpix[0] - 1, grid.crpix[1] - 1, geometry.pixel_scale)
        away = np.rad2deg(np.arccos(np.clip(tan.axes[2] @ middle, -1, 1)))
        if away < radius + hypot(*grid.shape) / 2 * geometry.pixel_scale:
            found += [Skycell(number, y, x) for y, x in _touched(border, tan, grid)]
    return found


def _touched(border: NDArray[np.float64], tan: TanGrid, grid: Projection) -> list[tuple[int, int]]:
    """Return (y, x) of the cells of a projection that a polygon touches."""
    u, v, w = tan.pixel @ tan.axes @ border.T
    corners = np.stack([u / w, v / w], axis=1)  # great circles are straight lines on the plane
    index = [(y, x) for y in range(CELLS) for x in range(CELLS)]
    first = np.array([grid.cell_origin(y, x)[::-1] for y, x in index]) + grid.geometry.edge
    last = first + np.array([grid.width, grid.height]) - 2 * grid.geometry.edge - 1
    touched = _crossed(corners, first, last) | _inside(corners, first)
    return [index[at] for at in np.flatnonzero(touched)]


def _crossed(polygon: NDArray[np.float64], first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which rectangles have part of a side of the polygon in them (Liang & Barsky 1984)."""
    start = polygon[:, None]
    step = np.roll(polygon, -1, axis=0)[:, None] - start
    step = np.where(step == 0, 1e-12, step)  # px; parallel to an edge
    to_first, to_last = (first - start) / step, (last - start) / step
    enters = np.minimum(to_first, to_last).max(axis=2)
    leaves = np.maximum(to_first, to_last).min(axis=2)
    return np.asarray(((enters <= leaves) & (leaves >= 0) & (enters <= 1)).any(axis=0))


def _inside(polygon: NDArray[np.float64], points: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which points lie in the polygon: a ray to the right crosses its border an odd number of times."""
    (x0, y0), (x1, y1) = polygon.T, np.roll(polygon, -1, axis=0).T
    px, py = points[:, :1], points[:, 1:]
    level = np.where(y1 == y0, np.inf, y1 - y0)
    crosses = ((y0 <= py) != (y1 <= py)) & (x0 + (py - y0) / level * (x1 - x0) > px)
    return np.asarray(crosses.sum(axis=1) % 2 == 1)
