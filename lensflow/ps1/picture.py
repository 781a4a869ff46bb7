"""Quick look at convolved projections: flux, mask and coverage on the sky, and the stitched image beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dask.array as da
import numpy as np

from lensflow.ps1.mosaic import projection_image
from lensflow.ps1.options import Options
from lensflow.ps1.outputs import within_selection
from lensflow.ps1.picture_panels import (
    Stretch,
    draw_borders,
    draw_coverage,
    draw_flux,
    draw_mask,
    mask_kinds,
    panels,
    sky_axes,
    thinned_wcs,
)

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

PIXELS = 700  # along the longer side of a panel
PROJECTIONS = 6  # at most, one row of panels each
SLAB = 4096  # rows of a stored image that are averaged at a time


def picture(tree: xr.DataTree) -> Figure:
    """Draw flux (asinh stretch), mask and coverage of each projection, thinned to some 700 pixels a side.

    Borders and names of skycells are drawn over them, dashed where one is missing.

    Parameters
    ----------
    tree
        The result of the graph, lazy or opened from a store; only every n-th pixel is loaded.

    Returns
    -------
    matplotlib.figure.Figure
        A row of panels a projection (the first six), RA and Dec on the axes.
    """
    names = sorted(tree.children)[:PROJECTIONS]
    nodes = [tree.children[name].to_dataset(inherit=False) for name in names]
    figure, rows = panels(nodes, columns=3)
    for name, node, row in zip(names, nodes, rows, strict=True):
        step = _step(node)
        wcs = thinned_wcs(node.attrs["wcs"], step)
        thin = node[["flux", "mask", "coverage"]].isel(y=slice(None, None, step), x=slice(None, None, step)).load()
        stretch = Stretch.of(thin["flux"].values)
        flux, mask, coverage = (sky_axes(figure, panel, wcs, first=panel is row[0]) for panel in row)
        draw_flux(figure, [flux], [thin["flux"].values], stretch)
        draw_mask(figure, mask, mask_kinds(thin["mask"].values, empty=np.isnan(thin["flux"].values)))
        draw_coverage(figure, coverage, thin["coverage"].values)
        for axes, colour in ((flux, "white"), (mask, "#404040"), (coverage, "#404040")):
            draw_borders(axes, node, step=step, colour=colour)
        flux.set_title(f"{name}: flux, sigma {_width(node)}")
    return figure


def before_after(tree: xr.DataTree, source: Path, **words: object) -> Figure:
    """Draw the stitched image of the first projection beside its convolution, stretched alike.

    Parameters
    ----------
    tree
        The result of the graph, lazy or opened from a store.
    source
        What it was made from; its cells are stitched once more.
    **words
        The other arguments of the graph.
    """
    options = Options.from_keywords(**words)
    _, plans = options.plan(source)
    layout = plans[0].layout
    name = f"{layout.projection.number:04d}"
    node = tree.children[name].to_dataset(inherit=False)
    pad, step = layout.pad, _step(node)
    stitched = projection_image(layout)["flux"].isel(y=slice(pad, -pad), x=slice(pad, -pad)).data
    before = np.asarray(coarse(within_selection(stitched, layout), step))
    after = np.asarray(coarse(_lazy(node["flux"]), step))
    figure, [row] = panels([node], columns=2)
    wcs = thinned_wcs(node.attrs["wcs"], step, mean=True)
    left, right = (sky_axes(figure, panel, wcs, first=panel is row[0]) for panel in row)
    draw_flux(figure, [left, right], [before, after], Stretch.of(before))
    draw_borders(left, node, step=step, mean=True)
    count = len(node.attrs["cells"])
    left.set_title(f"{name}: {count} skycell{'s' if count > 1 else ''}, stitched")
    right.set_title(f"convolved, sigma {_width(node)}")
    return figure


def _width(node: xr.Dataset) -> str:
    """Return the width of the kernel as text: 1.2 px (15 arcsec)."""
    sigma = float(node.attrs["sigma_px"])
    return f'{sigma:g} px = {sigma * 3600 * abs(node.attrs["wcs"]["CD2_2"]):.2g}"'


def _step(node: xr.Dataset) -> int:
    return max(1, -(-max(node.sizes["y"], node.sizes["x"]) // PIXELS))


def _lazy(image: xr.DataArray) -> da.Array:
    lazy: da.Array = (image if image.chunks else image.chunk(y=SLAB, x=-1)).data
    return lazy


def coarse(image: da.Array, step: int) -> da.Array:
    """Return the mean of the finite pixels of every ``step`` x ``step`` of an image (y, x), lazily."""
    if step == 1:
        return image
    coarsened: da.Array = da.coarsen(_mean, image, {0: step, 1: step}, trim_excess=True)
    return coarsened


def _mean(values: NDArray[np.float32], axis: tuple[int, ...] | None = None) -> NDArray[np.float32]:
    finite = np.isfinite(values)
    count = finite.sum(axis=axis, dtype=np.float32)
    total = np.where(finite, values, np.float32(0)).sum(axis=axis)
    mean: NDArray[np.float32] = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    return mean
