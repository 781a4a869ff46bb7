"""Quick look at templates: FLUX_SUM, COUNT and MASK of the first, on the sky."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from lensflow.ps1.picture import PIXELS
from lensflow.ps1.picture_panels import EMPTY, Stretch
from lensflow.ps1.tess.image import refined

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray


def picture(data: xr.Dataset | xr.DataTree) -> Figure:
    """Draw FLUX_SUM (asinh stretch), COUNT and the masked part of the first template, thinned to some 700 pixels.

    Parameters
    ----------
    data
        The result of the graph, lazy or opened from a store; only every n-th pixel is kept.
    """
    from astropy.io.fits import Header  # noqa: PLC0415 - drawing is rare, and its imports are slow
    from astropy.wcs import WCS  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    dataset = data.to_dataset() if isinstance(data, xr.DataTree) else data
    first = dataset.isel(offset=0)
    step = max(1, -(-max(first.sizes["y"], first.sizes["x"]) // PIXELS))
    thin = first[["FLUX_SUM", "COUNT", "MASK"]].isel(y=slice(None, None, step), x=slice(None, None, step)).load()
    figure = Figure(
        figsize=(16, 1.1 + 4.0 * min(max(thin.sizes["y"] / thin.sizes["x"], 0.2), 2.0)), layout="constrained"
    )
    dx, dy = float(first["dx"]), float(first["dy"])
    wcs = WCS(Header(_thinned(data.attrs["wcs"], step, (dx, dy), data.attrs["oversample"])))
    axes = [figure.add_subplot(1, 3, place, projection=wcs) for place in (1, 2, 3)]
    for one in axes:
        _label(one, first=one is axes[0])
    count = np.where(thin["COUNT"].values > 0, thin["COUNT"].values, np.nan)
    flux, stretch = thin["FLUX_SUM"].values, Stretch.of(thin["FLUX_SUM"].values)
    places, labels = stretch.ticks()
    bar = _show(
        figure, axes[0], stretch(flux), f"FLUX_SUM, dx {dx:g}, dy {dy:g}", cmap="magma", vmin=-1, vmax=stretch.top
    )
    bar.set_ticks(places, labels=labels)
    bar.ax.set_title("counts/s", fontsize="medium", loc="left")
    _show(figure, axes[1], count, "COUNT", cmap="viridis")
    _show(figure, axes[2], thin["MASK"].values / count, "MASK / COUNT", cmap="cividis", vmin=0, vmax=1)
    return figure


def _thinned(keys: dict[str, Any], step: int, offset: tuple[float, float], oversample: int) -> dict[str, Any]:
    """Return the WCS of every ``step``-th pixel of a moved scene: the centre of the first pixel is kept."""
    dx, dy = (shift * oversample + (step - 1) / 2 for shift in offset)
    return refined(keys, 1 / step, (dx, dy))


def _label(axes: Any, *, first: bool) -> None:  # noqa: ANN401 - WCSAxes
    axes.set_facecolor(EMPTY)
    axes.coords[0].set_axislabel("RA (deg)")
    axes.coords[1].set_axislabel("Dec (deg)" if first else " ")
    axes.coords[1].set_ticklabel_visible(first)
    for coordinate in axes.coords:
        coordinate.set_major_formatter("d.dd")
        coordinate.set_ticks(number=5)


def _show(figure: Figure, axes: Any, image: NDArray[Any], title: str, **words: Any) -> Any:  # noqa: ANN401 - WCSAxes
    """Draw an image with its colour bar, and return that."""
    shown = axes.imshow(image, origin="lower", interpolation="nearest", **words)
    axes.set_title(title)
    return figure.colorbar(shown, ax=axes, pad=0.02, fraction=0.05)
