"""Pictures of patches: one of them without and with shape noise, and all of them on the sky."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from lensflow.lensing.patches.patch_statistics import (
    TOO_FEW as WITHOUT,  # the status from which on a patch has no values
)
from lensflow.lensing.pictures.picture_sky import EMPTY, mollweide, sky_outline

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

LIMITS = (0.5, 99.5)  # percentiles between which an image is drawn
CORNERS = 15  # points along a side of a patch that is drawn on the sky


def patch_pair(
    clean: NDArray[np.floating], noisy: NDArray[np.floating], *, size_deg: float, titles: tuple[str, str] | None = None
) -> Figure:
    """Draw the convergence of one patch without and with noise, each with its own colours.

    Parameters
    ----------
    clean, noisy
        Images (y, x) of the same patch; masked pixels are NaN.
    size_deg
        Its side.
    titles
        Of both.
    """
    from matplotlib import colormaps  # noqa: PLC0415 - drawing is rare, and its imports are slow
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(11, 5.1), layout="constrained")
    colours = colormaps["magma"].with_extremes(bad=EMPTY)
    half = size_deg / 2
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, image, title in zip(panels, (clean, noisy), titles or ("without noise", "with shape noise"), strict=True):
        finite = image[np.isfinite(image)]
        low, high = np.percentile(finite, LIMITS) if finite.size else (0, 1)
        shown = axes.imshow(
            np.ma.masked_invalid(image),
            origin="lower",
            extent=(-half, half, -half, half),
            cmap=colours,
            vmin=low,
            vmax=high,
        )
        figure.colorbar(shown, ax=axes, extend="both", label=r"convergence $\kappa$", shrink=0.9)
        scatter = finite.std() if finite.size else np.nan
        axes.set_title(f"{title}\nstandard deviation {scatter:.2g}", fontsize=10)
        axes.set_xlabel("degrees")
    panels[0].set_ylabel("degrees")
    return figure


def patch_map(dataset: xr.Dataset) -> Figure:
    """Draw where the patches lie, coloured by their mean convergence where it is known.

    Patches that look along the axes of a tiled box have a red border; those without values are grey.

    Parameters
    ----------
    dataset
        The result of kappa_statistics: one of its source redshifts, the first, is shown.
    """
    from matplotlib import colormaps  # noqa: PLC0415 - as above
    from matplotlib.collections import PolyCollection  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(10, 5.6), layout="constrained")
    axes = figure.add_subplot()
    sky_outline(axes, graticule=True)
    values, label = _colouring(dataset)
    affected = dataset["rip"].values.astype(bool) if "rip" in dataset.variables else np.zeros(values.size, bool)
    colours = colormaps["viridis"].with_extremes(bad=EMPTY)
    for kept, edge, width, order in ((~affected, "black", 0.5, 1), (affected, "#d62728", 1.2, 2)):
        shapes, owners = _shapes(dataset, np.flatnonzero(kept))
        squares = PolyCollection(shapes, cmap=colours, edgecolors=edge, linewidths=width, zorder=order)
        squares.set_array(np.ma.masked_invalid(values[owners]))
        finite = values[np.isfinite(values)]
        squares.set_clim(*(np.percentile(finite, (1, 99)) if finite.size else (0, 1)))
        axes.add_collection(squares)
    if label:
        figure.colorbar(squares, ax=axes, orientation="horizontal", shrink=0.5, pad=0.02, label=label, extend="both")
    said = f"{values.size} patches, {int(affected.sum())} of them replication affected (red)"
    failed = int((dataset["status"].values >= WITHOUT).sum()) if "status" in dataset else 0
    axes.set_title(said + (f", {failed} without values (grey)" if failed else ""), fontsize=11)
    return figure


def _colouring(dataset: xr.Dataset) -> tuple[NDArray[np.float64], str]:
    """Return a number a patch and what it is."""
    if "mean" not in dataset:
        return np.ones(dataset.sizes["patch"]), ""
    mean = dataset["mean"].isel(zs=0)
    density = int(np.argmin(dataset["ngal"].values))
    return mean.isel(ngal=density).values.astype(float), rf"mean $\kappa$, sources at z {float(mean['zs']):g}"


def _shapes(dataset: xr.Dataset, chosen: NDArray[np.intp]) -> tuple[list[Any], NDArray[np.intp]]:
    """Return outlines in the plane of the picture, and which patch each belongs to: two where the border cuts one."""
    theta, phi = (_radians(dataset[name]) for name in ("theta", "phi"))
    options = dataset.attrs.get("options", "{}")
    size, turn = (_option(options, *one) for one in (("patch_size_deg", 10.0), ("rotation_deg", 45.0)))
    shapes, owners = [], []
    for index in chosen:
        colatitude, longitude = _outline(theta[index], phi[index], np.radians(size), np.radians(turn))
        for part in _cut(colatitude, longitude - phi[index], phi[index]):
            shapes.append(np.stack(part, axis=-1))
            owners.append(index)
    return shapes, np.array(owners, np.intp)


def _outline(theta: float, phi: float, size: float, turn: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return colatitude and longitude along the border of a square on the plane that touches the sky at its centre."""
    side = np.linspace(-0.5, 0.5, CORNERS) * size
    low, high = np.full(CORNERS, -size / 2), np.full(CORNERS, size / 2)
    u, v = np.concatenate([side, high, side[::-1], low]), np.concatenate([low, side, high, side[::-1]])
    east, north = v * np.sin(turn) - u * np.cos(turn), u * np.sin(turn) + v * np.cos(turn)
    up = np.cos(theta) + north * np.sin(theta)
    out = np.sin(theta) - north * np.cos(theta)
    return np.arctan2(np.hypot(out, east), up), phi + np.arctan2(east, out)


def _cut(
    theta: NDArray[np.float64], away: NDArray[np.float64], phi: float
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return the outline in the plane, twice where it crosses phi = 180 degrees: cut at the border on either side."""
    centre = (phi + np.pi) % (2 * np.pi) - np.pi
    away = (away + np.pi) % (2 * np.pi) - np.pi
    edge = np.pi * (1 - 1e-9)
    parts = [np.clip(centre + away, -edge, edge)]
    if np.abs(centre + away).max() > np.pi:
        parts.append(np.clip(centre + away - np.sign(centre) * 2 * np.pi, -edge, edge))
    return [mollweide(theta, longitude) for longitude in parts]


def _radians(angle: xr.DataArray) -> NDArray[np.float64]:
    values = angle.values.astype(float)
    return np.radians(values) if str(angle.attrs.get("units", "rad")).startswith("deg") else values


def _option(options: str, name: str, default: float) -> float:
    return float(json.loads(options).get(name, default))
