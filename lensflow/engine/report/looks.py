"""Quick looks at what was written: the graph's own picture, and each variable drawn by what its values are like."""

from __future__ import annotations

import base64
import io
import traceback
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from lensflow.engine.catalog import PROVENANCE
from lensflow.engine.catalog import graph as load_graph
from lensflow.engine.report.classes import classes, draw_classes
from lensflow.engine.report.outlines import draw_outlines, outlines
from lensflow.errors import LensflowError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from lensflow.engine.rundir import RunDirectory

SIDE = 720  # px of a look, at most
MOST = 24  # variables that are drawn
SKEWED = 4.0  # times that the bright side of a distribution is longer than the faint one, for a stretch
LIMITS = (1.0, 99.5)  # percentiles between which an image is drawn
EMPTY = "#9e9e9e"  # no value
DARK = "#404040"  # lines on light colours

Look = dict[str, str]


def looks(directory: RunDirectory) -> dict[str, Any]:
    """Draw the store of a run.

    A report must not fail because a picture does: what went wrong is said in its place.

    Returns
    -------
    dict
        ``own``: the look that the graph's ``picture`` verb draws, None if it has none; ``each``: a look a variable;
        ``more``: variables that were not drawn. A look is a ``name`` and a ``png`` (base64), or a ``problem``
        with its ``traceback``.
    """
    try:
        # not chunked: a picture reads few pixels, and a graph of all chunks would cost more than they do
        with xr.open_datatree(directory.out, engine="zarr", consolidated=False) as tree:
            variables = list(_drawable(tree))
            each = [_look(name, partial(_draw, name, one, about)) for name, one, about in variables[:MOST]]
            return {"own": _own(tree), "each": each, "more": max(0, len(variables) - MOST)}
    except Exception as error:  # noqa: BLE001 - shown in the report
        return {"own": _problem("the store", error), "each": [], "more": 0}


def _own(tree: xr.DataTree) -> Look | None:
    """Draw what the graph's ``picture`` verb draws, None where it has no such verb."""
    made_by = tree.attrs.get(PROVENANCE, {}).get("graph")
    if not made_by:
        return None
    try:
        graph = load_graph(made_by)
    except LensflowError as error:  # the file is not there any more
        return _problem("picture", error)
    return _look("picture", partial(graph.verb("picture"), tree)) if graph.offers("picture") else None


def _look(name: str, draw: Callable[[], Figure]) -> Look:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a plot's warnings are not the run's
            return {"name": name, "png": _png(draw())}
    except Exception as error:  # noqa: BLE001 - shown in the report
        return _problem(name, error)


def _problem(name: str, error: Exception) -> Look:
    return {"name": name, "problem": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return base64.b64encode(buffer.getvalue()).decode()


def _drawable(tree: xr.DataTree) -> Iterator[tuple[str, xr.DataArray, Mapping[Any, Any]]]:
    """Return the variables that can be drawn: name, values, and the attributes of their group."""
    for node in tree.subtree:
        for name, variable in node.data_vars.items():
            if variable.ndim and variable.size and variable.dtype.kind in "biuf":
                yield f"{node.path}/{name}".replace("//", "/").lstrip("/"), variable, node.attrs


def _draw(name: str, variable: xr.DataArray, about: Mapping[Any, Any]) -> Figure:
    """Draw the first image, or the first line, of a variable, thinned to what a page can show."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - half a second that a run need not pay

    plane = variable[(0,) * max(0, variable.ndim - 2)]
    steps = [max(1, -(-length // SIDE)) for length in plane.shape]
    thin = plane[tuple(slice(None, None, step) for step in steps)].load()
    wide = thin.ndim == 1 or thin.shape[1] > 1.6 * thin.shape[0]
    figure = Figure(figsize=(6.4, 3.6 if wide else 4.8), layout="constrained")
    axes = figure.add_subplot()
    if thin.ndim == 1:
        thin.plot.line(ax=axes)
    else:
        colour = _image(figure, axes, thin)
        draw_outlines(axes, outlines(about, thin), colour=colour)
    every = f", one pixel in {max(steps)}" if max(steps) > 1 else ""
    first = f", the first of {variable.size // max(plane.size, 1)}" if variable.ndim > 2 else ""
    axes.set_title(f"{name}{first}{every}", fontsize=9)
    return figure


def _image(figure: Figure, axes: Axes, image: xr.DataArray) -> str:
    """Draw an image, and return a colour that can be seen on it."""
    values = image.values
    (top, bottom), (left, right) = (_ends(image, dim) for dim in image.dims)
    options: dict[str, Any] = {"origin": "lower", "aspect": "auto", "extent": (left, right, top, bottom)}
    options["interpolation"] = "nearest"
    if abs(right - left) and 0.25 < abs((bottom - top) / (right - left)) < 4:
        options["aspect"] = "equal"
    axes.set_xlabel(str(image.dims[1]))
    axes.set_ylabel(str(image.dims[0]))
    kinds = classes(image)
    if kinds is not None:
        draw_classes(figure, axes, kinds, options)
        return DARK
    norm, said = stretch(values)
    drawn = axes.imshow(np.ma.masked_invalid(values), cmap=_map("viridis"), norm=norm, **options)
    label = " ".join(filter(None, [str(image.attrs.get("units", "")), said]))
    figure.colorbar(drawn, ax=axes, label=label)
    return "white"


def _ends(image: xr.DataArray, dim: object) -> tuple[float, float]:
    """Return the outer edges of an axis: of its coordinate where it has a numeric one."""
    length = image.sizes[dim]
    coordinate = image.coords.get(dim)
    if coordinate is None or coordinate.dtype.kind not in "iuf" or length < 2:
        return -0.5, length - 0.5
    first, last = float(coordinate[0]), float(coordinate[-1])
    half = (last - first) / (length - 1) / 2
    return first - half, last + half


def stretch(values: NDArray[Any]) -> tuple[Any, str]:
    """Return a norm for an image and what to call it: asinh where few pixels are far brighter than the rest."""
    from matplotlib.colors import AsinhNorm, Normalize  # noqa: PLC0415 - see _draw

    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values.ravel()
    if not finite.size:
        return Normalize(0, 1), "(no values)"
    low, middle, high = (float(one) for one in np.percentile(finite, (LIMITS[0], 50.0, LIMITS[1])))
    if high <= low:
        low, high = float(finite.min()), float(finite.max())
    if high - middle > SKEWED * (middle - low) and high > middle > low:
        width = 3 * (middle - low) or 1.0  # linear within a few times the scatter of the faint side
        return AsinhNorm(linear_width=width, vmin=low, vmax=high), "(asinh)"
    return Normalize(low, high if high > low else low + 1), ""


def _map(name: str) -> Any:  # noqa: ANN401 - a matplotlib colour map
    from matplotlib import colormaps  # noqa: PLC0415 - see _draw

    chosen = colormaps[name].copy()
    chosen.set_bad(EMPTY)
    return chosen
