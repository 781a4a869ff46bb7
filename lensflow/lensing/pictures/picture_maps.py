"""Quick looks at mass sheets and convergence maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lensflow.lensing.pictures.picture_sky import draw_sky, sky_outline, thin_map

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

MAPS = 3  # skies in a row
BAD = "#c0392b"


def picture_sheets(tree: xr.DataTree) -> Figure:
    """Draw the overdensity of a near, a middle and a far sheet, and below them how good the sheets are.

    Parameters
    ----------
    tree
        The result of mass_sheets, lazy or opened from a store; of each sheet that is shown one chunk is held at a time.
    """
    sheets = tree.to_dataset()
    figure, skies, below = _figure(min(MAPS, sheets.sizes["sheet"]), panels=3)
    order = np.argsort(sheets["chi_min"].values)  # nearest first, whatever the order of the sheets
    good = [index for index in order if not _quarantined(sheets)[index]] or list(order)
    edge = len(good) // 6  # the nearest sheets hold next to nothing
    for axes, index in zip(skies, _spread(good[edge : len(good) - edge], len(skies)), strict=False):
        one = sheets.isel(sheet=index)
        draw_sky(figure, axes, thin_map(one["delta"]), label=r"overdensity $\delta$")
        axes.set_title(f"sheet {int(one['sheet'])}: z {float(one['z']):.3g}, {_distances(one)}", fontsize=10)
    _draw_quality(below, sheets)
    return figure


def sheet_quality(sheets: xr.Dataset) -> Figure:
    """Draw mean, scatter and counts of all sheets against redshift; quarantined ones are marked.

    Parameters
    ----------
    sheets
        The result of mass_sheets; the pixels are not read.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - drawing is rare, and its imports are slow

    figure = Figure(figsize=(14, 3.6), layout="constrained")
    _draw_quality([figure.add_subplot(1, 3, k + 1) for k in range(3)], sheets)
    return figure


def picture_kappa(tree: xr.DataTree) -> Figure:
    """Draw the convergence for the lowest, a middle and the highest source redshift; below them the lensing weights.

    Parameters
    ----------
    tree
        The result of kappa_maps, lazy or opened from a store; of each map that is shown one chunk is held at a time.
    """
    maps = tree.to_dataset()
    figure, skies, below = _figure(min(MAPS, maps.sizes["zs"]), panels=2)
    moments = []
    for axes, index in zip(skies, _spread(range(maps.sizes["zs"]), len(skies)), strict=False):
        one = maps.isel(zs=index)
        thin = thin_map(one["kappa"])
        draw_sky(figure, axes, thin, label=r"convergence $\kappa$")
        axes.set_title(f"sources at z {float(one['zs']):g}", fontsize=10)
        moments.append((float(one["zs"]), thin[np.isfinite(thin)]))
    _draw_histograms(below[0], moments, maps["zs"].values)
    _draw_weights(below[1], maps)
    return figure


def _figure(count: int, *, panels: int) -> tuple[Figure, list[Any], list[Any]]:
    from matplotlib.figure import Figure  # noqa: PLC0415 - as above

    figure = Figure(figsize=(15, 6.8), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(1.1, 1))
    skies, below = (part.subplots(1, n, squeeze=False)[0] for part, n in zip(parts, (count, panels), strict=True))
    for axes in skies:
        sky_outline(axes)
    return figure, list(skies), list(below)


def _spread(indices: Any, count: int) -> list[int]:  # noqa: ANN401 - any sequence of indices
    chosen = np.unique(np.round(np.linspace(0, len(indices) - 1, count)).astype(int))
    return [int(indices[k]) for k in chosen]


def _distances(sheet: xr.Dataset) -> str:
    return rf"{float(sheet['chi_min']):.0f}-{float(sheet['chi_max']):.0f} Mpc/h"


def _quarantined(sheets: xr.Dataset) -> Any:  # noqa: ANN401 - a boolean array
    return sheets["status"].values > 0 if "status" in sheets else np.zeros(sheets.sizes["sheet"], bool)


def _draw_quality(panels: list[Any], sheets: xr.Dataset) -> None:
    """Draw what is known of each sheet on three panels: mean, scatter, rows."""
    z, bad = sheets["z"].values, _quarantined(sheets)
    mean, scatter, rows = panels
    style = {"marker": ".", "ms": 4, "lw": 0.8}
    mean.axhline(0, color="0.7", lw=0.8)
    mean.plot(z[~bad], sheets["delta_mean"].values[~bad], color="#1f5f8b", **style)
    mean.set_ylabel(r"mean $\delta$ of the sheet")
    scatter.plot(z[~bad], sheets["delta_std"].values[~bad], color="#1f5f8b", **style)
    scatter.set_ylabel(r"standard deviation of $\delta$")
    scatter.set_ylim(bottom=0)
    for name, label, colour in (
        ("n_rows", "rows", "#1f5f8b"),
        ("n_duplicate", "rows on an occupied pixel", "#7fb069"),
        ("offset_error", "rows misplaced by aemitIndex", "#e08e45"),
        ("n_bad", "bad rows", BAD),
    ):
        if name in sheets and (sheets[name].values > 0).any():
            rows.plot(
                z, np.where(sheets[name].values > 0, sheets[name].values, np.nan), color=colour, label=label, **style
            )
    rows.set_ylabel("number")
    rows.set_yscale("log")
    rows.set_ylim(bottom=0.5)
    rows.legend(fontsize=8, frameon=False)
    for axes in panels:
        axes.set_xlabel("redshift of the sheet")
        for one in z[bad]:
            axes.axvline(one, color=BAD, lw=1, ls=":")
    said = f"{len(z)} sheets" + (f", {int(bad.sum())} quarantined (dotted)" if bad.any() else ", all good")
    mean.set_title(said, fontsize=10)


def _draw_histograms(axes: Any, maps: list[tuple[float, Any]], every: Any) -> None:  # noqa: ANN401 - matplotlib's
    colours = dict(zip(every.tolist(), _colours(len(every)), strict=True))
    for zs, values in maps:
        if values.size:
            low, high = np.percentile(values, (0.05, 99.95))
            density, edges = np.histogram(values, bins=80, range=(low, max(high, low + 1e-12)), density=True)
            label = f"z {zs:g}: mean {values.mean():.1e}, standard deviation {values.std():.1e}"
            axes.stairs(density, edges, color=colours[zs], label=label)
    axes.set_yscale("log")
    axes.set_xlabel(r"convergence $\kappa$ of the map shown")
    axes.set_ylabel("density of pixels")
    axes.set_ylim(top=50 * axes.get_ylim()[1])  # room for the legend
    axes.legend(fontsize=8, frameon=False, loc="upper left")


def _draw_weights(axes: Any, maps: xr.Dataset) -> None:  # noqa: ANN401 - matplotlib's
    """Draw the weight of each sheet against its redshift."""
    weights = maps["weights"].transpose("zs", "sheet").values
    sheet = maps["sheet"].values if "sheet" in maps.coords else np.arange(weights.shape[1])
    slices = maps.attrs.get("nslices")
    x = float(slices) / (sheet + 0.5) - 1 if slices else sheet  # slices are equal in scale factor
    order = np.argsort(x)
    for row, zs, colour in zip(weights, maps["zs"].values, _colours(len(weights)), strict=True):
        axes.plot(x[order], row[order], color=colour, label=f"z {zs:g}", marker=".", ms=3, lw=0.8)
    axes.set_xlabel("redshift of the sheet" if slices else "sheet")
    axes.set_ylabel("lensing weight of the sheet")
    axes.set_ylim(bottom=0)
    if slices:
        axes.set_xlim(0, 1.05 * float(maps["zs"].max()))
    axes.legend(fontsize=8, frameon=False)


def _colours(count: int) -> list[Any]:
    from matplotlib import colormaps  # noqa: PLC0415 - as above

    return [colormaps["viridis"](0.85 * k / max(count - 1, 1)) for k in range(count)]
