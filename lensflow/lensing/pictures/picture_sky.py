"""What pictures are made of: maps thinned by runs of pixels, Mollweide's projection, an axis of multipoles."""

from __future__ import annotations

from math import isqrt, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

RUN = 4**11  # pixels read at a time: a stored chunk
SHOWN = 128  # nside of what is shown, about a pixel of a panel
WIDTH = 900  # px of the image of a sky
EMPTY = "#d0d0d0"  # no value
LIMITS = (0.5, 99.5)  # percentiles between which a map is drawn
SKEWED = 2.5  # times that the bright side is longer than the faint one, for a stretch


def thin_map(pixels: xr.DataArray, nside: int = SHOWN) -> NDArray[np.float64]:
    """Return the means of the finite pixels below each pixel of a coarser map, holding one run of pixels at a time.

    Parameters
    ----------
    pixels
        One map (pixel,), NEST: the children of a pixel stand side by side.
    nside
        Of the result, at most; a map that is coarser is returned as it is.
    """
    length = pixels.sizes["pixel"]
    below = max(1, length // (12 * nside**2))
    thin = np.empty(length // below)
    run = max(RUN, below)
    for start in range(0, length, run):
        part = pixels.isel(pixel=slice(start, start + run)).values.astype(np.float64).reshape(-1, below)
        finite = np.isfinite(part)
        count = finite.sum(axis=1)
        total = np.where(finite, part, 0).sum(axis=1)
        first = start // below
        thin[first : first + len(part)] = np.divide(total, count, out=np.full(len(part), np.nan), where=count > 0)
    return thin


def mollweide(theta: NDArray[np.float64], phi: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return x in -2..2, to the west, and y in -1..1 of colatitudes and longitudes in rad; phi 0 is in the middle."""
    latitude = np.pi / 2 - np.asarray(theta, np.float64)
    angle = latitude.copy()
    for _ in range(12):  # Newton's steps for 2 a + sin 2a = pi sin(latitude); slow only at the poles, where x is 0
        slope = 2 + 2 * np.cos(2 * angle)
        error = 2 * angle + np.sin(2 * angle) - np.pi * np.sin(latitude)
        angle -= np.divide(error, slope, out=np.zeros_like(error), where=slope > 1e-9)
    longitude = (np.asarray(phi) + np.pi) % (2 * np.pi) - np.pi
    return -2 / np.pi * longitude * np.cos(angle), np.sin(angle)


def mollweide_image(values: NDArray[np.float64], width: int = WIDTH) -> NDArray[np.float64]:
    """Return an image (width/2, width), south at the bottom and east to the left, of a NEST map; NaN beside the sky."""
    import ducc0  # noqa: PLC0415 - a compiled extension that plain imports need not pay

    nside = isqrt(values.size // 12)
    x, y = ((np.arange(count) + 0.5) / count * 2 - 1 for count in (width, width // 2))
    angle = np.arcsin(y)[:, None]
    latitude = np.arcsin(np.clip((2 * angle + np.sin(2 * angle)) / np.pi, -1, 1))
    longitude = -np.pi * x[None, :] / np.cos(angle)
    inside = np.abs(longitude) <= np.pi
    theta = np.broadcast_to(np.pi / 2 - latitude, inside.shape)[inside]
    pixel = ducc0.healpix.Healpix_Base(nside, "NEST").ang2pix(
        np.stack([theta, longitude[inside] % (2 * np.pi)], axis=-1)
    )
    image = np.full(inside.shape, np.nan)
    image[inside] = values[pixel]
    return image


def draw_sky(figure: Any, axes: Any, values: NDArray[np.float64], *, label: str, cmap: str = "magma") -> None:  # noqa: ANN401 - matplotlib's
    """Draw a NEST map with a colour bar below; the colours end at percentiles .5 and 99.5."""
    from matplotlib import colormaps  # noqa: PLC0415 - drawing is rare, and its imports are slow
    from matplotlib.colors import Normalize  # noqa: PLC0415

    colours = colormaps[cmap].with_extremes(bad=EMPTY)
    shown = axes.imshow(
        np.ma.masked_invalid(mollweide_image(values)),
        origin="lower",
        extent=(-2, 2, -1, 1),
        cmap=colours,
        norm=_stretch(values),
        interpolation="nearest",
    )
    shown.set_clip_path(sky_outline(axes))
    bar = figure.colorbar(shown, ax=axes, orientation="horizontal", extend="both", fraction=0.05, pad=0.03, shrink=0.6)
    bar.set_label(label)
    if type(shown.norm) is Normalize:
        bar.ax.locator_params(nbins=4)


def _stretch(values: NDArray[np.float64]) -> Any:  # noqa: ANN401 - matplotlib's
    """Return a linear norm, or an asinh one where the bright side is far longer than the faint one."""
    from matplotlib.colors import AsinhNorm, Normalize  # noqa: PLC0415 - as above

    finite = values[np.isfinite(values)]
    if not finite.size:
        return Normalize(0, 1)
    low, middle, high = (float(one) for one in np.percentile(finite, (LIMITS[0], 50, LIMITS[1])))
    if high - middle > SKEWED * (middle - low) > 0:
        return AsinhNorm(linear_width=middle - low, vmin=low, vmax=high)
    if high <= low:  # nearly all pixels are alike: of a near sheet most are empty
        high = float(finite.max())
    return Normalize(low, high if high > low else low + 1)


def multipole_axis(axes: Any) -> None:  # noqa: ANN401 - matplotlib's
    """Make the x axis logarithmic in multipoles, with few and plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter  # noqa: PLC0415 - as above

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(r"$\ell$")


def sky_outline(axes: Any, *, graticule: bool = False) -> Any:  # noqa: ANN401 - matplotlib's
    """Draw the border of the sky, and lines every 30 degrees if asked for; return the border."""
    from matplotlib.patches import Ellipse  # noqa: PLC0415 - as above

    border = Ellipse((0, 0), 4, 2, facecolor="none", edgecolor="black", lw=0.8, zorder=3)
    axes.add_patch(border)
    axes.set_xlim(-2.02, 2.02)
    axes.set_ylim(-1.02, 1.02)
    axes.set_aspect("equal")
    axes.axis("off")
    if graticule:
        axes.text(2, -0.98, "longitude 0 in the middle,\nfrom there to the left", ha="right", fontsize=7, color="0.4")
        grey = {"color": "0.8", "lw": 0.5, "zorder": 0}
        along = np.linspace(1e-3, np.pi - 1e-3, 181)
        for degrees in range(-150, 180, 30):
            axes.plot(*mollweide(along, np.full(along.size, np.radians(degrees))), **grey)
        for degrees in range(30, 180, 30):
            half = 2 * sqrt(1 - mollweide(np.array([np.radians(degrees)]), np.zeros(1))[1].item() ** 2)
            height = mollweide(np.array([np.radians(degrees)]), np.zeros(1))[1].item()
            axes.plot([-half, half], [height, height], **grey)
    return border
