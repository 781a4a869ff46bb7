"""Whole numbers of a few kinds as classes of a picture, named by what CF attributes say that flags mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

MOST = 16  # different values up to which whole numbers are drawn as classes
LONGEST = 28  # letters of a name


class Classes(NamedTuple):
    """Which class each pixel is of, and what each class is called."""

    place: NDArray[np.intp]
    names: list[str]


def classes(image: xr.DataArray) -> Classes | None:
    """Return the classes of an image, None if it has no values or too many different ones.

    Flags (an attribute ``flag_masks``) are classes however many combinations of bits there are: the commonest.
    """
    if image.dtype.kind not in "biu" or not image.size:
        return None
    levels, index, counts = np.unique(image.values, return_inverse=True, return_counts=True)
    index = index.reshape(image.shape)
    if levels.size <= MOST:
        return Classes(index, [_name(level, image.attrs) for level in levels.tolist()])
    if "flag_masks" not in image.attrs:
        return None
    common = np.sort(np.argsort(-counts, kind="stable")[: MOST - 1])
    place = np.full(levels.size, common.size)
    place[common] = np.arange(common.size)
    return Classes(place[index], [*(_name(level, image.attrs) for level in levels[common].tolist()), "other"])


def _name(level: int, attrs: Mapping[Any, Any]) -> str:
    """Return the meanings of the flags of a value, as the CF conventions keep them, or the value itself."""
    meanings: list[str] = str(attrs.get("flag_meanings", "")).split()
    values, masks = (np.ravel(attrs.get(key, [])).tolist() for key in ("flag_values", "flag_masks"))
    if len(values) == len(meanings) and level in values:
        return str(meanings[values.index(level)])[:LONGEST]
    if masks and len(masks) == len(meanings):
        set_here = [word for mask, word in zip(masks, meanings, strict=True) if level & mask]
        name = " ".join(set_here) or "no flag"
        return name if len(name) <= LONGEST else f"{name[: LONGEST - 3]}..."
    return str(level)


def draw_classes(figure: Figure, axes: Axes, found: Classes, options: dict[str, Any]) -> None:
    """Draw each class in a colour of its own, the first (nothing, as a rule) nearly white."""
    from matplotlib import colormaps  # noqa: PLC0415 - half a second that a run need not pay
    from matplotlib.colors import ListedColormap  # noqa: PLC0415

    count = len(found.names)
    colours = ["#f2f2f2", *colormaps["tab20"].colors][:count]  # type: ignore[attr-defined]
    drawn = axes.imshow(found.place, cmap=ListedColormap(colours), vmin=-0.5, vmax=count - 0.5, **options)
    bar = figure.colorbar(drawn, ax=axes, ticks=range(count))
    bar.ax.set_yticklabels(found.names, fontsize=7 if max(map(len, found.names)) > 5 else None)
