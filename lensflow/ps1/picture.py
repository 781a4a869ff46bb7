"""Quick look at convolved projections: flux, mask and coverage on the sky."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from lensflow.ps1.maskbits import MaskBit

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

PIXELS = 700  # along the longer side of a panel
PROJECTIONS = 6  # at most, one row of panels each

_KINDS = (
    ("none", MaskBit(0)),
    ("other", MaskBit(0)),  # any bit that is not below
    ("spike, ghost, streak, cosmic ray", MaskBit.SPIKE | MaskBit.GHOST | MaskBit.STREAK | MaskBit.CR),
    ("saturated, star core", MaskBit.SAT | MaskBit.STARCORE),
    ("no data", MaskBit.DETECTOR | MaskBit.BLANK),
)
_COLOURS = ("#ffffff", "#bcbcbc", "#6baed6", "#e6550d", "#252525")


def picture(tree: xr.DataTree) -> Figure:
    """Draw flux (asinh stretch), mask and coverage of each projection, thinned to some 700 pixels a side.

    Parameters
    ----------
    tree
        The result of the graph, lazy or opened from a store; only every n-th pixel is loaded.

    Returns
    -------
    matplotlib.figure.Figure
        A row of panels a projection (the first six), RA and Dec on the axes.
    """
    from astropy.io.fits import Header  # noqa: PLC0415 - drawing is rare, and its imports are slow
    from astropy.wcs import WCS  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    nodes = [(name, tree.children[name].to_dataset(inherit=False)) for name in sorted(tree.children)][:PROJECTIONS]
    heights = [max(0.15, node.sizes["y"] / node.sizes["x"]) for _, node in nodes]
    figure = Figure(figsize=(16, 1.2 + sum(4.6 * height + 0.7 for height in heights)), layout="constrained")
    grid = figure.add_gridspec(len(nodes), 3, height_ratios=heights)
    for row, (name, node) in enumerate(nodes):
        step = max(1, -(-max(node.sizes.values()) // PIXELS))
        wcs = WCS(Header(thinned_wcs(node.attrs["wcs"], step)))
        thin = node[["flux", "mask", "coverage"]].isel(y=slice(None, None, step), x=slice(None, None, step)).load()
        for column, draw in enumerate((_flux, _mask, _coverage)):
            axes = figure.add_subplot(grid[row, column], projection=wcs)
            draw(figure, axes, thin)
            _label(axes, first=column == 0)
        sigma = node.attrs["sigma_px"]
        figure.axes[-1].figure.text(0.002, 1 - (row + 0.02) / len(nodes), f"{name}, sigma {sigma:g} px", va="top")
    return figure


def thinned_wcs(keys: dict[str, float | str], step: int) -> dict[str, float | str]:
    """Return FITS keys of an image of which every ``step``-th pixel is kept, the first included."""
    thinned = dict(keys)
    for axis in (1, 2):
        thinned[f"CRPIX{axis}"] = (float(keys[f"CRPIX{axis}"]) - 1) / step + 1
        thinned[f"CD{axis}_{axis}"] = float(keys[f"CD{axis}_{axis}"]) * step
    return thinned


def _label(axes: Any, *, first: bool) -> None:  # noqa: ANN401 - WCSAxes
    axes.coords[0].set_axislabel("RA")
    axes.coords[1].set_axislabel("Dec" if first else " ")
    if not first:
        axes.coords[1].set_ticklabel_visible(False)
    for coordinate in axes.coords:
        coordinate.set_major_formatter("d.d")


def _flux(figure: Figure, axes: Any, thin: xr.Dataset) -> None:  # noqa: ANN401
    """Stretch by asinh: linear in the sky noise, logarithmic in the stars."""
    values = thin["flux"].values
    finite = values[np.isfinite(values)]
    middle, high = (np.percentile(finite, (50, 99.7)) if finite.size else (0.0, 1.0))
    soft = max(float(np.percentile(finite, 84) - middle) if finite.size else 1.0, 1e-6)
    stretched = np.arcsinh((values - middle) / soft)
    axes.set_facecolor("#9e9e9e")
    top = max(float(np.arcsinh((high - middle) / soft)), 1.0)
    shown = axes.imshow(stretched, origin="lower", cmap="magma", vmin=-1, vmax=top, interpolation="nearest")
    bar = figure.colorbar(shown, ax=axes, shrink=0.8, pad=0.01)
    ticks = np.linspace(-1, top, 6)
    bar.set_ticks(list(ticks), labels=[f"{middle + soft * np.sinh(tick):.3g}" for tick in ticks])
    axes.set_title("flux (counts/s, asinh)")


def _mask(figure: Figure, axes: Any, thin: xr.Dataset) -> None:  # noqa: ANN401
    from matplotlib.colors import ListedColormap  # noqa: PLC0415

    shown = axes.imshow(
        mask_kinds(thin["mask"].values),
        origin="lower",
        cmap=ListedColormap(list(_COLOURS)),
        vmin=-0.5,
        vmax=len(_COLOURS) - 0.5,
        interpolation="nearest",
    )
    bar = figure.colorbar(shown, ax=axes, shrink=0.8, pad=0.01)
    bar.set_ticks(range(len(_KINDS)), labels=[name.replace(", ", "\n") for name, _ in _KINDS])
    axes.set_title("mask of the owner")


def mask_kinds(mask: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Return the worst kind of trouble of each pixel: 0 none, 1 other, 2 artefact, 3 saturated, 4 no data."""
    kinds = (mask != 0).astype(np.uint8)
    for kind, (_, bits) in enumerate(_KINDS):
        kinds[(mask & np.uint16(bits)) != 0] = kind
    return kinds


def _coverage(figure: Figure, axes: Any, thin: xr.Dataset) -> None:  # noqa: ANN401
    shown = axes.imshow(thin["coverage"].values, origin="lower", cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
    figure.colorbar(shown, ax=axes, shrink=0.8, pad=0.01)
    axes.set_title("coverage")
