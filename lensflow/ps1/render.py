"""Drawing a simulated sky on the pixel grid of a projection, any window of it, the same to the last bit."""

from __future__ import annotations

from math import ceil, cos, floor, sin
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from lensflow.ps1.skymodel import ALL_BANDS, FARTHEST, shifted
from lensflow.ps1.tessellation import sky_to_grid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from lensflow.ps1.skymodel import Defect, Scene
    from lensflow.ps1.tessellation import Projection

FWHM = 3.0  # px
ALPHA = FWHM / (2 * (2 ** (1 / 3) - 1) ** 0.5)  # px, Moffat with beta 3: (1 + (R/alpha)^2)^-3
FAINT = 0.001  # counts/s a pixel, where an object ends
SCALE_LENGTH = 1 / 1.678  # of an exponential disc, in half-light radii
CUSP = 1.0  # px, the seeing that rounds the centre of a galaxy

Window: TypeAlias = tuple[tuple[int, int], tuple[int, int]]  # ((y0, y1), (x0, x1)) on the grid, half-open


def render_flux(scene: Scene, projection: Projection, window: Window, *, band: str) -> NDArray[np.float32]:
    """Return the noiseless flux (y, x) of a window of the grid, counts/s, without saturation.

    Every object is computed on the pixels of the grid and added in the order of the list, so that windows
    that overlap agree exactly.
    """
    image = np.zeros([stop - start for start, stop in window], np.float32)
    for y0, x0, stamp in _stamps(scene, projection, window, band):
        _add(image, stamp, y0 - window[0][0], x0 - window[1][0])
    return image


def _stamps(
    scene: Scene, projection: Projection, window: Window, band: str
) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
    for galaxy in _galaxies(scene, projection, window, band).tolist():
        yield _galaxy(galaxy)
    for star in _stars(scene, projection, window, band).tolist():
        yield _star(star)


def _near(
    x: NDArray[np.float64], y: NDArray[np.float64], radius: NDArray[np.float64], window: Window
) -> NDArray[np.bool_]:
    (y0, y1), (x0, x1) = window
    near: NDArray[np.bool_] = (x > x0 - radius) & (x < x1 + radius) & (y > y0 - radius) & (y < y1 + radius)
    return near


def _stars(scene: Scene, projection: Projection, window: Window, band: str) -> NDArray[np.float64]:
    """Return x, y, peak and radius of the stars that reach into a window."""
    x, y = sky_to_grid(projection, scene.stars["ra"], scene.stars["dec"])
    peak = scene.stars[f"flux_{band}"].to_numpy() * 2 / (np.pi * ALPHA**2)
    radius = np.minimum(FARTHEST, ALPHA * np.sqrt(np.maximum((peak / FAINT) ** (1 / 3) - 1, 1.0)))
    return np.stack([x, y, peak, radius], axis=1)[_near(x, y, radius, window)]


def _galaxies(scene: Scene, projection: Projection, window: Window, band: str) -> NDArray[np.float64]:
    """Return x, y, peak, radius, scale length, axis ratio and angle of the galaxies that reach into a window."""
    table = scene.galaxies
    x, y = sky_to_grid(projection, table["ra"], table["dec"])
    h, ratio = table["r_e"].to_numpy() * SCALE_LENGTH, table["axis_ratio"].to_numpy()
    peak = table[f"flux_{band}"].to_numpy() / (2 * np.pi * h * h * ratio)
    radius = np.minimum(FARTHEST, h * np.maximum(np.log(peak / FAINT), 1.0))
    # where north of the galaxy points on the grid, which turns away from the columns towards the corners
    north = sky_to_grid(projection, *shifted(table["ra"], table["dec"], 0.0, 1e-5))
    angle = np.arctan2(north[1] - y, north[0] - x) + table["angle"].to_numpy()
    return np.stack([x, y, peak, radius, h, ratio, angle], axis=1)[_near(x, y, radius, window)]


def _offsets(centre: float, radius: float) -> tuple[int, NDArray[np.float64]]:
    first = ceil(centre - radius)
    return first, np.arange(first, floor(centre + radius) + 1, dtype=np.float64) - centre


def _star(star: list[float]) -> tuple[int, int, NDArray[np.float32]]:
    x, y, peak, radius = star
    y0, dy = _offsets(y, radius)
    x0, dx = _offsets(x, radius)
    t = 1 + ((dy**2)[:, None] + dx**2) / ALPHA**2
    return y0, x0, (peak / (t * t * t)).astype(np.float32)


def _galaxy(galaxy: list[float]) -> tuple[int, int, NDArray[np.float32]]:
    x, y, peak, radius, h, ratio, angle = galaxy
    y0, dy = _offsets(y, radius)
    x0, dx = _offsets(x, radius)
    major = cos(angle) * dx + sin(angle) * dy[:, None]
    minor = (cos(angle) * dy[:, None] - sin(angle) * dx) / ratio
    r = np.sqrt(major**2 + minor**2 + CUSP**2)
    return y0, x0, (peak * np.exp(-r / h)).astype(np.float32)


def _add(image: NDArray[np.float32], stamp: NDArray[np.float32], y0: int, x0: int) -> None:
    ya, xa = max(y0, 0), max(x0, 0)
    yb, xb = min(y0 + stamp.shape[0], image.shape[0]), min(x0 + stamp.shape[1], image.shape[1])
    if ya < yb and xa < xb:
        image[ya:yb, xa:xb] += stamp[ya - y0 : yb - y0, xa - x0 : xb - x0]


def render_defects(
    scene: Scene, projection: Projection, window: Window, *, band: int
) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
    """Return the mask bits of a window and which of its pixels have no value."""
    shape = [stop - start for start, stop in window]
    mask, blank = np.zeros(shape, np.uint16), np.zeros(shape, np.bool_)
    for defect in scene.defects:
        if defect.band in (ALL_BANDS, band):
            for y, xa, xb in _rows(defect, projection, window):
                mask[y, xa:xb] |= np.uint16(defect.bits)
                blank[y, xa:xb] |= defect.blank
    return mask, blank


def _rows(defect: Defect, projection: Projection, window: Window) -> Iterator[tuple[int, int, int]]:
    """Yield row and half-open columns, within the window, of the pixel centres inside a convex polygon."""
    (top, bottom), (left, right) = window
    x, y = sky_to_grid(projection, defect.ra, defect.dec)
    if not (y.min() < bottom and y.max() >= top and x.min() < right and x.max() >= left):  # NaN: behind the sky
        return
    rows = np.arange(max(top, int(np.ceil(y.min()))), min(bottom - 1, int(np.floor(y.max()))) + 1)
    x2, y2 = np.roll(x, -1), np.roll(y, -1)
    level = np.where(y2 == y, np.inf, y2 - y)  # a level edge adds nothing to its neighbours' ends
    t = (rows[:, None] - y) / level
    cut = x + t * (x2 - x)
    crossed = (t >= 0) & (t <= 1) & np.isfinite(level)
    first = np.ceil(np.where(crossed, cut, np.inf).min(axis=1))
    last = np.floor(np.where(crossed, cut, -np.inf).max(axis=1))
    for row, a, b in zip(rows, np.clip(first, left, right), np.clip(last + 1, left, right), strict=True):
        if a < b:
            yield int(row) - top, int(a) - left, int(b) - left
