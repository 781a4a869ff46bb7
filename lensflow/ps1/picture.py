"""Quick look at convolved projections: flux, mask and coverage on the sky, and the stitched image beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import dask.array as da
import numpy as np

from lensflow.ps1.maskbits import MaskBit
from lensflow.ps1.mosaic import projection_image
from lensflow.ps1.options import Options
from lensflow.ps1.outputs import within_selection

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

PIXELS = 700  # along the longer side of a panel
PROJECTIONS = 6  # at most, one row of panels each
SLAB = 4096  # rows of a stored image that are averaged at a time
EMPTY = "#9e9e9e"  # no value

_KINDS = (
    ("none", MaskBit(0)),
    ("other", MaskBit(0)),  # any bit that is not below
    ("spike, ghost,\nstreak, cosmic ray", MaskBit.SPIKE | MaskBit.GHOST | MaskBit.STREAK | MaskBit.CR),
    ("saturated,\nstar core", MaskBit.SAT | MaskBit.STARCORE),
    ("no data", MaskBit.DETECTOR | MaskBit.BLANK),
    ("no skycell", MaskBit(0)),
)
_COLOURS = ("#ffffff", "#fed976", "#6baed6", "#e6550d", "#252525", EMPTY)


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
    names = sorted(tree.children)[:PROJECTIONS]
    nodes = [tree.children[name].to_dataset(inherit=False) for name in names]
    figure, rows = _panels(nodes, columns=3)
    for name, node, panels in zip(names, nodes, rows, strict=True):
        step = _step(node)
        wcs = thinned_wcs(node.attrs["wcs"], step)
        thin = node[["flux", "mask", "coverage"]].isel(y=slice(None, None, step), x=slice(None, None, step)).load()
        stretch = Stretch.of(thin["flux"].values)
        flux, mask, coverage = (_axes(figure, panel, wcs, first=panel is panels[0]) for panel in panels)
        _draw_flux(figure, [flux], [thin["flux"].values], stretch)
        _draw_mask(figure, mask, mask_kinds(thin["mask"].values, empty=np.isnan(thin["flux"].values)))
        _draw_coverage(figure, coverage, thin["coverage"].values)
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
    figure, [panels] = _panels([node], columns=2)
    wcs = thinned_wcs(node.attrs["wcs"], step, mean=True)
    left, right = (_axes(figure, panel, wcs, first=panel is panels[0]) for panel in panels)
    _draw_flux(figure, [left, right], [before, after], Stretch.of(before))
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


def thinned_wcs(keys: dict[str, float | str], step: int, *, mean: bool = False) -> dict[str, float | str]:
    """Return FITS keys of an image of which every ``step``-th pixel is kept, or the mean of step x step pixels."""
    thinned = dict(keys)
    first = 0.5 if mean else 1.0  # what stays where it is: the border of the first pixel, or its centre
    for axis in (1, 2):
        thinned[f"CRPIX{axis}"] = (float(keys[f"CRPIX{axis}"]) - first) / step + first
        thinned[f"CD{axis}_{axis}"] = float(keys[f"CD{axis}_{axis}"]) * step
    return thinned


class Stretch(NamedTuple):
    """An asinh stretch: linear in the noise of the sky, logarithmic in the stars."""

    middle: float  # counts/s
    soft: float
    top: float  # of the stretched values; the bottom is -1

    @classmethod
    def of(cls, flux: NDArray[np.float32]) -> Stretch:
        """Return the stretch that shows an image well."""
        finite = flux[np.isfinite(flux)]
        if not finite.size:
            return cls(0.0, 1.0, 1.0)
        low, middle, high = (float(value) for value in np.percentile(finite, (16, 50, 99.7)))
        soft = max(middle - low, 1e-6 * max(abs(middle), 1.0))  # the faint side: no object adds to it
        return cls(middle, soft, max(float(np.arcsinh((high - middle) / soft)), 1.0))

    def __call__(self, flux: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the stretched image."""
        stretched: NDArray[np.float32] = np.arcsinh((flux - np.float32(self.middle)) / np.float32(self.soft))
        return stretched

    def ticks(self) -> tuple[list[float], list[str]]:
        """Return places and labels of a colour bar: 0 and powers of ten, as far as they keep apart."""
        tens = [sign * 10.0**power for power in range(-6, 7) for sign in (-1, 1)]
        values = np.array([0.0, *tens])  # 0 first: it is always wanted
        places: list[float] = []
        labels: list[str] = []
        for value, place in zip(values, self(values.astype(np.float32)).tolist(), strict=True):
            if -1 <= place <= self.top and all(abs(place - other) > (self.top + 1) / 12 for other in places):
                places.append(place)
                labels.append(f"{value:g}")
        return places, labels


def _panels(nodes: list[xr.Dataset], *, columns: int) -> tuple[Figure, list[list[Any]]]:
    """Return a figure as high as its rows of panels need, and their places in it."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - drawing is rare, and its imports are slow

    wide = 16 / columns - 1.6  # inches of a panel without labels and colour bar
    heights = [wide * min(max(node.sizes["y"] / node.sizes["x"], 0.15), 2.0) + 1.1 for node in nodes]
    figure = Figure(figsize=(16, sum(heights)), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.1, w_pad=0.1)  # type: ignore[union-attr, call-arg]
    grid = figure.add_gridspec(len(nodes), columns, height_ratios=heights)
    return figure, [[grid[row, column] for column in range(columns)] for row in range(len(nodes))]


def _axes(figure: Figure, panel: Any, keys: dict[str, float | str], *, first: bool) -> Any:  # noqa: ANN401 - WCSAxes
    from astropy.io.fits import Header  # noqa: PLC0415 - as above
    from astropy.wcs import WCS  # noqa: PLC0415

    axes = figure.add_subplot(panel, projection=WCS(Header(keys)))
    axes.set_facecolor(EMPTY)
    axes.coords[0].set_axislabel("RA (deg)")
    axes.coords[1].set_axislabel("Dec (deg)" if first else " ")
    axes.coords[1].set_ticklabel_visible(first)
    for coordinate in axes.coords:
        coordinate.set_major_formatter("d.dd")
        coordinate.set_ticks(number=5)
    return axes


def _show(axes: Any, image: NDArray[Any], **words: Any) -> Any:  # noqa: ANN401 - WCSAxes
    return axes.imshow(image, origin="lower", interpolation="nearest", **words)


def _draw_flux(figure: Figure, axes: list[Any], images: list[NDArray[np.float32]], stretch: Stretch) -> None:
    """Draw images with one stretch and one colour bar."""
    for one, image in zip(axes, images, strict=True):
        shown = _show(one, stretch(image), cmap="magma", vmin=-1, vmax=stretch.top)
    places, labels = stretch.ticks()
    bar = figure.colorbar(shown, ax=axes[-1], pad=0.02, fraction=0.05)
    bar.set_ticks(places, labels=labels)
    bar.ax.set_title("counts/s", fontsize="medium")


def _draw_mask(figure: Figure, axes: Any, kinds: NDArray[np.uint8]) -> None:  # noqa: ANN401 - WCSAxes
    from matplotlib.colors import ListedColormap  # noqa: PLC0415 - as above

    shown = _show(axes, kinds, cmap=ListedColormap(list(_COLOURS)), vmin=-0.5, vmax=len(_COLOURS) - 0.5)
    bar = figure.colorbar(shown, ax=axes, pad=0.02, fraction=0.05)
    bar.set_ticks(range(len(_KINDS)), labels=[name for name, _ in _KINDS])
    bar.ax.tick_params(length=0)
    axes.set_title("mask")


def mask_kinds(mask: NDArray[np.uint16], *, empty: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the worst trouble of each pixel: 0 none, 1 other, 2 artefact, 3 saturated, 4 no data, 5 no skycell.

    Parameters
    ----------
    mask
        Bits of the survey.
    empty
        Where there is no flux; without a bit no skycell is there.
    """
    kinds: NDArray[np.uint8] = (mask != 0).astype(np.uint8)
    for kind, (_, bits) in enumerate(_KINDS):
        kinds[(mask & np.uint16(bits)) != 0] = kind
    kinds[empty & (mask == 0)] = len(_KINDS) - 1
    return kinds


def _draw_coverage(figure: Figure, axes: Any, coverage: NDArray[np.float32]) -> None:  # noqa: ANN401 - WCSAxes
    shown = _show(axes, coverage, cmap="viridis", vmin=0, vmax=1)
    figure.colorbar(shown, ax=axes, pad=0.02, fraction=0.05)
    axes.set_title("coverage")
