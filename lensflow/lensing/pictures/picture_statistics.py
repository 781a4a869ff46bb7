"""Pictures of statistics: each with its scatter over patches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lensflow.lensing.patches.patch_statistics import (
    TOO_FEW as WITHOUT,  # the status from which on a patch has no values
)
from lensflow.lensing.pictures.picture_sky import multipole_axis

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

DENSITIES = 3  # galaxy densities shown, from none to the highest
LABELS = {
    "power_spectrum": r"$\ell(\ell+1)P/2\pi$",
    "bispectrum": r"$\ell^4 B/(2\pi)^2$, equilateral",
    "pdf": "PDF",
    "peaks": "peaks",
    "minima": "minima",
    "peaks_counts": "peaks per patch and bin",
    "minima_counts": "minima per patch and bin",
    "v0": r"$V_0$",
    "v1": r"$V_1$ (1/arcmin)",
    "v2": r"$V_2$ (1/arcmin$^2$)",
}
SHOWN = ("power_spectrum", "bispectrum", "pdf", "peaks_counts", "minima_counts", "v0", "v1", "v2")
INSTEAD = {"peaks_counts": "peaks", "minima_counts": "minima"}  # of published files
LOGARITHMIC = {"power_spectrum", "pdf", "peaks_counts", "minima_counts", "peaks", "minima"}


def picture_statistics(tree: xr.DataTree) -> Figure:
    """Draw each statistic with its scatter over patches, for the middle source redshift and the least smoothing.

    Parameters
    ----------
    tree
        The result of kappa_statistics, lazy or opened from a store.
    """
    statistics = tree.to_dataset()
    return statistics_figure(statistics.isel(zs=statistics.sizes["zs"] // 2))


def statistics_figure(statistics: xr.Dataset, *, smoothing: float | None = None) -> Figure:
    """Draw mean and standard deviation over patches of every statistic, a colour a galaxy density.

    Parameters
    ----------
    statistics
        The result of kappa_statistics at one source redshift.
    smoothing
        In arcmin; the least by default.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - drawing is rare, and its imports are slow

    names = [name if name in statistics else INSTEAD.get(name, name) for name in SHOWN]
    names = [name for name in names if name in statistics]
    columns = min(4, max(len(names), 1))
    rows = -(-len(names) // columns) if names else 1
    figure = Figure(figsize=(3.9 * columns, 3.1 * rows + 0.7), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    length = None
    if "smoothing" in statistics.dims:
        statistics = statistics.sel(smoothing=statistics["smoothing"].min() if smoothing is None else smoothing)
        length = float(statistics["smoothing"])
    for axes, name in zip(panels, names, strict=False):
        _draw(axes, statistics, name)
    for axes in panels[len(names) :]:
        axes.axis("off")
    if panels[0].get_legend_handles_labels()[0]:
        panels[0].legend(fontsize=8, frameon=False)
    figure.suptitle(_title(statistics, length), fontsize=11)
    return figure


def _title(statistics: xr.Dataset, length: float | None) -> str:
    patches = statistics.sizes["patch"]
    failed = int((statistics["status"].values >= WITHOUT).sum()) if "status" in statistics else 0
    said = f"sources at z {float(statistics['zs']):g}, mean and scatter of {patches - failed} patches"
    said += f" ({failed} without values)" if failed else ""
    return said + (f"; smoothing {length:g} arcmin from the PDF on" if length is not None else "")


def _draw(axes: Any, statistics: xr.Dataset, name: str) -> None:  # noqa: ANN401 - matplotlib's
    """Draw one statistic at some densities."""
    values = statistics[name]
    if "config" in values.dims:
        values = values.sel(config="equilateral") if "equilateral" in values["config"].values else values.isel(config=0)
    spectral = "ell_bin" in values.dims
    x = statistics["ell" if spectral else "nu"].values
    factor = _factor(name, x)
    chosen = _densities(statistics.sizes["ngal"])
    for shift, index in enumerate(chosen):
        samples = values.isel(ngal=index).transpose("patch", ...).values.astype(float)
        samples = np.where((samples < 0) & (values.dtype.kind == "i"), np.nan, samples) * factor  # -1: not counted
        held = samples[np.isfinite(samples).any(axis=1)]
        if not len(held):
            continue
        mean, scatter = _mean_and_scatter(held)
        ngal = float(statistics["ngal"][index])
        # side by side, or bars of the same bin would hide each other
        step = (shift - (len(chosen) - 1) / 2) * 0.12
        place = x * 1.12**step if spectral else x + step * (x[1] - x[0] if x.size > 1 else 1)
        label = rf"{ngal:g} / arcmin$^2$" if ngal else "no noise"
        colour = f"C{shift}"
        axes.errorbar(
            place, mean, scatter, fmt=".-", ms=4, lw=1, elinewidth=0.8, capsize=1.5, color=colour, label=label
        )
    axes.set_xlabel(r"$\nu = \kappa/\sigma_0$")
    if spectral:
        multipole_axis(axes)
    axes.set_title(LABELS.get(name, name), fontsize=10)
    if name in LOGARITHMIC and any(line.get_ydata().max() > 0 for line in axes.lines):
        axes.set_yscale("log", nonpositive="clip")
        axes.set_ylim(bottom=_floor(axes))
    else:
        axes.axhline(0, color="0.8", lw=0.8, zorder=0)


def _floor(axes: Any) -> float:  # noqa: ANN401 - matplotlib's
    """Return half of the smallest mean that is positive: bars that reach 0 shall not stretch a logarithmic axis."""
    heights = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.lines])
    return 0.5 * float(heights[heights > 0].min())


def _mean_and_scatter(held: Any) -> tuple[Any, Any]:  # noqa: ANN401 - arrays
    count = np.isfinite(held).sum(axis=0)
    mean = np.divide(np.nansum(held, axis=0), count, out=np.full(held.shape[1], np.nan), where=count > 0)
    square = np.nansum((held - mean) ** 2, axis=0)
    return mean, np.sqrt(np.divide(square, count - 1, out=np.zeros(held.shape[1]), where=count > 1))


def _densities(count: int) -> list[int]:
    """Return the indices of the first, a middle and the last density."""
    return sorted({int(k) for k in np.round(np.linspace(0, count - 1, min(count, DENSITIES)))})


def _factor(name: str, x: Any) -> Any:  # noqa: ANN401 - an array or 1
    if name == "power_spectrum":
        return x * (x + 1) / (2 * np.pi)
    return x**4 / (2 * np.pi) ** 2 if name == "bispectrum" else 1.0
