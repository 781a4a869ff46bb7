"""The sources that were removed from the skycells of a projection, as a table that is stored beside its image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr

from lensflow import events
from lensflow.ps1.stars import NOBODY, REMOVED, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from dask.delayed import Delayed
    from numpy.typing import NDArray

    from lensflow.ps1.tessellation import Skycell

SLOTS = 4096  # rows a cell
FIELDS: tuple[str, ...] = REMOVED.names or ()
GROUP = "removed"  # of the table, below the group of its projection

_STORED = {"x": "x_px", "y": "y_px"}  # x and y are the coordinates of the image, which its groups inherit
_ABOUT: dict[str, dict[str, Any]] = {
    "source_id": {"long_name": f"source_id of Gaia, {NOBODY} where the catalogue has no star"},
    "ra": {"units": "deg", "long_name": "right ascension, as in the catalogue"},
    "dec": {"units": "deg", "long_name": "declination, as in the catalogue"},
    "x_px": {"units": "px", "long_name": "position in the skycell, 0-based; outside of it only wings were removed"},
    "y_px": {"units": "px", "long_name": "position in the skycell, 0-based; outside of it only wings were removed"},
    "tess_mag": {"units": "mag", "long_name": "magnitude in the band of TESS"},
    "segment_id": {"long_name": "number of the removed segment in the skycell"},
    "reason": {
        "long_name": "why the source was removed",
        "flag_values": [reason.value for reason in Reason],
        "flag_meanings": " ".join(reason.name.lower() for reason in Reason),
    },
    "count": {"long_name": "sources removed from the skycell; the first 4096 have a slot"},
}


def removed_table(rows: Mapping[Skycell, Delayed]) -> xr.Dataset:
    """Return the table of a projection, lazily.

    Parameters
    ----------
    rows
        Of each cell.

    Returns
    -------
    xr.Dataset
        source_id, ra, dec, x_px, y_px, tess_mag, segment_id and reason (cell, slot); count (cell).
    """
    slots = _stacked(rows, _slots, (1, SLOTS), REMOVED)
    fields = {
        _STORED.get(name, name): (("cell", "slot"), da.map_blocks(_field, slots, field=name, dtype=REMOVED[name]))
        for name in FIELDS
    }
    count = _stacked(rows, _count, (1,), np.dtype("i4"))
    table = xr.Dataset({**fields, "count": (("cell",), count)})
    for name, about in _ABOUT.items():
        fill = np.nan if table[name].dtype.kind == "f" else 0
        table[name].attrs = dict(about)
        table[name].encoding = {"chunks": (1, SLOTS)[: table[name].ndim], "fill_value": fill}
    return table.assign_attrs(cells=[str(cell) for cell in sorted(rows)])


def _stacked(
    rows: Mapping[Skycell, Delayed],
    take: Callable[[NDArray[np.void]], NDArray[Any]],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
) -> da.Array:
    made = dask.delayed(take, pure=True, traverse=False)
    meta = np.empty((0,) * len(shape), dtype)
    return da.concatenate([da.from_delayed(made(one), shape, meta=meta) for _, one in sorted(rows.items())])


def _slots(rows: NDArray[np.void]) -> NDArray[np.void]:
    if len(rows) > SLOTS:
        message = f"{len(rows)} sources were removed from a skycell, {SLOTS} of them are listed"
        events.note("removed-table-full", message, found=len(rows), listed=SLOTS)
    slots = np.zeros((1, SLOTS), REMOVED)
    for name in FIELDS:
        if REMOVED[name].kind == "f":
            slots[name] = np.nan
    slots[0, : len(rows)] = rows[:SLOTS]
    return slots


def _count(rows: NDArray[np.void]) -> NDArray[np.int32]:
    return np.array([len(rows)], np.int32)


def _field(slots: NDArray[np.void], *, field: str) -> NDArray[np.generic]:
    return np.ascontiguousarray(slots[field])


def write_removed(table: xr.Dataset, cells: list[Skycell], path: Path) -> Path:
    """Write the sources that were removed from some cells as CSV: a line each, with the name of its cell.

    Parameters
    ----------
    table
        Of a projection, as it was stored.
    cells
        Which to write; those that the table does not hold are left out.
    path
        Of the file.
    """
    names = list(table.attrs["cells"])
    names_back = {stored: name for name, stored in _STORED.items()}
    parts = []
    for cell in cells:
        if str(cell) in names:
            one = table.isel(cell=names.index(str(cell)))
            part = one.drop_vars("count").isel(slot=slice(0, min(int(one["count"]), SLOTS))).to_dataframe()
            parts.append(part.reset_index(drop=True).assign(cell=str(cell)).rename(columns=names_back))
    columns = ["cell", *FIELDS]
    lines = pd.concat(parts)[columns] if parts else pd.DataFrame(columns=columns)
    lines["reason"] = lines["reason"].map({reason.value: reason.name.lower() for reason in Reason})
    path.parent.mkdir(parents=True, exist_ok=True)
    lines.to_csv(path, index=False)
    return path
