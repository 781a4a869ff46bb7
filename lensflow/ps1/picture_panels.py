"""What pictures of projections are made of: panels on the sky, a stretch, kinds of masks, borders of skycells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lensflow.ps1.maskbits import MaskBit
from lensflow.ps1.outlines import ATTRIBUTE

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

EMPTY = "#9e9e9e"  # no value
SMALL = 2.8  # pt, the smallest letters of a name
INSET = 0.1  # of the width of a skycell: beyond what it shares with the next

_KINDS = (
    ("none", MaskBit(0)),
    ("other", MaskBit(0)),  # any bit that is not below
    ("spike, ghost,\nstreak, cosmic ray", MaskBit.SPIKE | MaskBit.GHOST | MaskBit.STREAK | MaskBit.CR),
    ("saturated,\nstar core", MaskBit.SAT | MaskBit.STARCORE),
    ("no data", MaskBit.DETECTOR | MaskBit.BLANK),
    ("no skycell", MaskBit(0)),
)
_COLOURS = ("#ffffff", "#fed976", "#6baed6", "#e6550d", "#252525", EMPTY)


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


def panels(nodes: list[xr.Dataset], *, columns: int) -> tuple[Figure, list[list[Any]]]:
    """Return a figure as high as its rows of panels need, and their places in it."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - drawing is rare, and its imports are slow

    wide = 16 / columns - 1.6  # inches of a panel without labels and colour bar
    heights = [wide * min(max(node.sizes["y"] / node.sizes["x"], 0.15), 2.0) + 1.1 for node in nodes]
    figure = Figure(figsize=(16, sum(heights)), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.1, w_pad=0.1)  # type: ignore[union-attr, call-arg]
    grid = figure.add_gridspec(len(nodes), columns, height_ratios=heights)
    return figure, [[grid[row, column] for column in range(columns)] for row in range(len(nodes))]


def sky_axes(figure: Figure, panel: Any, keys: dict[str, float | str], *, first: bool) -> Any:  # noqa: ANN401 - WCSAxes
    """Return a panel with RA and Dec on its axes; the names of Dec stand at the first only."""
    from astropy.io.fits import Header  # noqa: PLC0415 - as above
    from astropy.wcs import WCS  # noqa: PLC0415

    axes = figure.add_subplot(panel, projection=WCS(Header(keys)))
    axes.set_facecolor(EMPTY)
    axes.coords[0].set_axislabel("RA (deg)")
    axes.coords[1].set_axislabel("Dec (deg)" if first else " ")
    axes.coords[1].set_ticklabel_visible(first)
    for coordinate, side in zip(axes.coords, "bl", strict=True):  # not where the title is
        coordinate.set_ticklabel_position(side)
        coordinate.set_axislabel_position(side)
        coordinate.set_major_formatter("d.dd")
        coordinate.set_ticks(number=5)
    return axes


def _show(axes: Any, image: NDArray[Any], **words: Any) -> Any:  # noqa: ANN401 - WCSAxes
    return axes.imshow(image, origin="lower", interpolation="nearest", **words)


def draw_flux(figure: Figure, axes: list[Any], images: list[NDArray[np.float32]], stretch: Stretch) -> None:
    """Draw images with one stretch and one colour bar."""
    for one, image in zip(axes, images, strict=True):
        shown = _show(one, stretch(image), cmap="magma", vmin=-1, vmax=stretch.top)
    places, labels = stretch.ticks()
    bar = figure.colorbar(shown, ax=axes[-1], pad=0.02, fraction=0.05)
    bar.set_ticks(places, labels=labels)
    bar.ax.set_title("counts/s", fontsize="medium", loc="left")


def draw_mask(figure: Figure, axes: Any, kinds: NDArray[np.uint8]) -> None:  # noqa: ANN401 - WCSAxes
    """Draw the kinds of trouble of `mask_kinds`."""
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


def draw_coverage(figure: Figure, axes: Any, coverage: NDArray[np.float32]) -> None:  # noqa: ANN401 - WCSAxes
    """Draw what of the kernel fell on pixels with a value."""
    shown = _show(axes, coverage, cmap="viridis", vmin=0, vmax=1)
    figure.colorbar(shown, ax=axes, pad=0.02, fraction=0.05)
    axes.set_title("coverage")


def draw_borders(axes: Any, node: xr.Dataset, *, step: int, mean: bool = False, colour: str = "white") -> None:  # noqa: ANN401
    """Draw the borders of skycells, thin and with small names, on an image of every ``step``-th pixel of a node.

    Parameters
    ----------
    axes
        With the image.
    node
        The projection: its attribute ``outlines`` says where its skycells lie.
    step, mean
        How it was thinned; see `thinned_wcs`.
    colour
        Of lines and names.
    """
    first = (step - 1) / 2 if mean else 0.0  # which pixel the centre of the first thinned one is
    y0, x0 = (float(node[axis][0]) + first for axis in ("y", "x"))
    limits = axes.get_xlim(), axes.get_ylim()
    points = 72 * axes.get_figure().get_figwidth() / 4.8 / max(limits[0][1] - limits[0][0], limits[1][1] - limits[1][0])
    for one in node.attrs.get(ATTRIBUTE, []):
        x, y = (np.array(one["x"]) - x0) / step, (np.array(one["y"]) - y0) / step
        style = "--" if one.get("dashed") else "-"
        axes.plot([*x, x[0]], [*y, y[0]], style, color=colour, lw=0.4, alpha=0.7)
        size = min(points * np.ptp(x) / (0.9 * len(one["name"])), 6.0)
        if size >= SMALL:
            corner = x.min() + INSET * np.ptp(x), y.min() + INSET * np.ptp(y)
            axes.text(*corner, one["name"], color=colour, fontsize=size, alpha=0.85)
    axes.set_xlim(limits[0])
    axes.set_ylim(limits[1])
