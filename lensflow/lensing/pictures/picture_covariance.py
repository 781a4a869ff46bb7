"""Pictures of aggregates: ratios of two boxes with their errors, and correlation matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lensflow.errors import BadOption
from lensflow.lensing.pictures.picture_sky import multipole_axis

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr
    from matplotlib.figure import Figure

STATISTICS = ("power_spectrum", "pdf", "peaks", "minima", "v0", "v1", "v2")
NAMES = {
    "power_spectrum": "power spectrum",
    "pdf": "PDF",
    "v0": "$V_0$",
    "v1": "$V_1$",
    "v2": "$V_2$",
    "joined": "statistics",
}
WILD = 0.3  # errors above this of a ratio say that the bin holds next to nothing


def ratio_figure(
    tree: xr.DataTree,
    *,
    kind: str = "variance",
    zs: float | None = None,
    ngal: float = 0.0,
    statistics: Sequence[str] = STATISTICS,
) -> Figure:
    """Draw the ratio of variances (or means) of two boxes bin by bin, with errors, a colour a smoothing.

    Parameters
    ----------
    tree
        The result of :func:`lensflow.lensing.aggregate.aggregate` for two boxes.
    kind
        "variance" or "mean".
    zs, ngal
        Source redshift, the first by default, and galaxy density.
    statistics
        Which to draw; those that the tree lacks are passed over.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - drawing is rare, and its imports are slow

    if "ratio" not in tree.children or kind not in {"variance", "mean"}:
        raise BadOption(
            f"ratio_figure: found {kind!r} of {', '.join(tree.children)}, expected a node ratio, and variance or mean"
        )
    node = tree["ratio"].to_dataset()
    node = (node.isel(zs=0) if zs is None else node.sel(zs=zs)).sel(ngal=ngal)
    names = [name for name in statistics if f"{name}_{kind}_ratio" in node]
    columns = min(4, max(len(names), 1))
    rows = -(-len(names) // columns) if names else 1
    figure = Figure(figsize=(3.9 * columns, 3.1 * rows + 0.6), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        _draw_ratio(axes, node, f"{name}_{kind}_ratio")
        axes.set_title(NAMES.get(name, name), fontsize=10)
    for axes in panels[len(names) :]:
        axes.axis("off")
    above, below = (str(tree["ratio"].attrs.get(key, "")) for key in ("numerator", "denominator"))
    noise = f"{ngal:g} galaxies/arcmin$^2$" if ngal else "no noise"
    figure.suptitle(f"{kind} of patches, {above} / {below}; sources at z {float(node['zs']):g}, {noise}", fontsize=11)
    if ngal and any("noise_repeats" in one and bool(one["noise_repeats"].any()) for one in tree.children.values()):
        figure.text(0.99, 0.99, "noise repeats from patch to patch", color="#d62728", ha="right", va="top")
    return figure


def _draw_ratio(axes: Any, node: xr.Dataset, name: str) -> None:  # noqa: ANN401 - matplotlib's
    values, errors = node[name], node[f"{name}_error"]
    spectral = "ell_bin" in values.dims
    x = node["ell" if spectral else "nu"].values
    lengths = node["smoothing"].values if "smoothing" in values.dims else [None]
    axes.axhline(1, color="0.7", lw=0.8)
    for k, length in enumerate(lengths):
        row, error = ((one if length is None else one.isel(smoothing=k)).values for one in (values, errors))
        known = np.isfinite(row) & (error < WILD)
        step = (k - (len(lengths) - 1) / 2) * 0.12
        place = x if spectral else x + step * (x[1] - x[0])
        label = f"{length:g} arcmin" if length is not None else None
        style = {"fmt": ".-", "ms": 4, "lw": 0.8, "elinewidth": 0.8, "capsize": 1.5, "color": f"C{k}"}
        axes.errorbar(place[known], row[known], error[known], label=label, **style)
    axes.set_xlabel(r"$\nu = \kappa/\sigma_0$")
    if spectral:
        multipole_axis(axes)
    else:
        axes.legend(fontsize=7, frameon=False)


def correlation_figure(node: xr.Dataset, *, name: str = "joined", zs: float | None = None, ngal: float = 0.0) -> Figure:
    """Draw a correlation matrix; that of joined statistics has lines between them and their names beside.

    Parameters
    ----------
    node
        Of a box, from :func:`lensflow.lensing.aggregate.aggregate`.
    name
        Of a statistic with bins, or "joined".
    zs, ngal
        Source redshift, the first by default, and galaxy density.
    """
    from matplotlib import colormaps  # noqa: PLC0415 - as above
    from matplotlib.figure import Figure  # noqa: PLC0415

    matrix = node[f"{name}_corr"]
    matrix = (matrix.isel(zs=0) if zs is None else matrix.sel(zs=zs)).sel(ngal=ngal)
    for dim in ("smoothing", "config"):
        if dim in matrix.dims:
            matrix = matrix.isel({dim: 0})
    figure = Figure(figsize=(7.4, 6.4), layout="constrained")
    axes = figure.add_subplot()
    colours = colormaps["RdBu_r"].with_extremes(bad="#d0d0d0")
    shown = axes.imshow(np.ma.masked_invalid(matrix.values), cmap=colours, vmin=-1, vmax=1, interpolation="nearest")
    unknown = "; grey: the bin never varies" if np.isnan(matrix.values).any() else ""
    figure.colorbar(shown, ax=axes, label=f"correlation{unknown}", shrink=0.85)
    if name == "joined":
        _name_blocks(axes, node)
    else:
        axes.set_xlabel("bin")
        axes.set_ylabel("bin")
    samples = node[f"{name}_n_samples"]
    count = int((samples.isel(zs=0) if zs is None else samples.sel(zs=zs)).sel(ngal=ngal).values.ravel()[0])
    axes.set_title(
        f"correlation of {NAMES.get(name, name)}, {count} patches of {node.attrs['n_skies']} skies", fontsize=11
    )
    return figure


def _name_blocks(axes: Any, node: xr.Dataset) -> None:  # noqa: ANN401 - matplotlib's
    """Draw lines between statistics, thin ones between smoothings, and put names in the middle of each."""
    statistic = node["entry_statistic"].values.astype(str)
    smoothing = np.nan_to_num(node["entry_smoothing"].values)
    new = statistic[1:] != statistic[:-1]
    for place in np.flatnonzero(new | (smoothing[1:] != smoothing[:-1])):
        for line in (axes.axhline, axes.axvline):
            line(place + 0.5, color="black", lw=0.9 if new[place] else 0.25)
    bounds = np.concatenate([[0], np.flatnonzero(new) + 1, [statistic.size]])
    middles = (bounds[1:] + bounds[:-1]) / 2 - 0.5
    labels = [NAMES.get(statistic[k], statistic[k]) for k in bounds[:-1]]
    labels = [label.replace("power spectrum", "P") for label in labels]
    axes.set_xticks(middles, labels, rotation=45)
    axes.set_yticks(middles, labels)
    axes.tick_params(length=0)
