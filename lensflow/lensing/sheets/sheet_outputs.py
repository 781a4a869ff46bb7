"""Mass sheets as they are stored: variables, coordinates, attributes, and notes on what a user must hear of."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from lensflow import events
from lensflow.errors import BadInput
from lensflow.lensing.mesh.pieces import Binning
from lensflow.lensing.mesh.rows import RowPlan, plan_rows
from lensflow.lensing.mesh.usmesh import note_doubts
from lensflow.lensing.sheets.sheet_values import QUARANTINED, SHEET, VERIFIED
from lensflow.lensing.sheets.sheets import SheetGraph, Shells

if TYPE_CHECKING:
    import dask.array as da

    from lensflow.lensing.mesh.usmesh import UsMesh
    from lensflow.lensing.sheets.sheet_options import SheetOptions

SCHEMA = "mass_sheets/1"
PARTS = "parts"  # the node on parts of the mesh
_ABOUT: dict[str, dict[str, Any]] = {
    "delta": {"units": "1", "long_name": "overdensity relative to the mean density of the simulation"},
    "sheet": {"long_name": "slice in scale factor"},
    "a_min": {"units": "1", "long_name": "least scale factor"},
    "a_max": {"units": "1", "long_name": "largest scale factor"},
    "z": {"units": "1", "long_name": "redshift of the middle in scale factor"},
    "chi_min": {"units": "Mpc/h", "long_name": "comoving distance of the near side"},
    "chi_max": {"units": "Mpc/h", "long_name": "comoving distance of the far side"},
    "chi_mid": {"units": "Mpc/h", "long_name": "mean comoving distance by volume"},
    "n_rows": {"long_name": "rows that have mass and belong to the sheet"},
    "n_occupied": {"long_name": "pixels with mass"},
    "n_duplicate": {"long_name": "rows whose pixel has another row: their masses were added"},
    "n_zero_mass": {"long_name": "rows of zero mass among those of the sheet, dropped"},
    "n_bad": {"long_name": "rows whose mass or ID is not as it should be"},
    "offset_error": {"long_name": "rows that aemitIndex places elsewhere"},
    "mass_sum": {"units": "1e10 Msun/h", "long_name": "mass in rows"},
    "map_sum": {"units": "1e10 Msun/h", "long_name": "mass in pixels"},
    "delta_mean": {"units": "1", "long_name": "mean of delta in float64"},
    "delta_std": {"units": "1", "long_name": "standard deviation of delta in float64"},
    "delta_min": {"units": "1", "long_name": "least delta in float64"},
    "delta_max": {"units": "1", "long_name": "largest delta in float64"},
    "status": {
        "long_name": "whether the sheet may be used",
        "flag_values": [0, 1],
        "flag_meanings": "good quarantined",
        "quarantine_value": QUARANTINED,
    },
    "verified": {
        "long_name": "whether the bytes of the part, and rows that are of no sheet, are as its header says",
        "flag_values": [0, 1],
        "flag_meanings": "no yes",
    },
    "byte_sum_id": {"long_name": "sum of the bytes of ID modulo 2^32"},
    "byte_sum_mass": {"long_name": "sum of the bytes of Mass modulo 2^32"},
}


def sheet_tree(mesh: UsMesh, options: SheetOptions) -> xr.DataTree:
    """Return the sheets of a mesh, lazily.

    Parameters
    ----------
    mesh
        What is read.
    options
        As asked for.

    Raises
    ------
    BadInput, BadOption
        If the mesh has fewer slices, or a sheet has no rows and is judged strictly.
    """
    sheets, chunk = options.sheets(mesh), options.chunk(mesh)
    strict = options.validation_level == "strict"
    note_doubts(mesh, pixel_order=options.pixel_order)
    plan = plan_rows(
        mesh,
        sheets,
        chunk=chunk,
        scan=options.plan == "scan",
        strict=strict,
        nested=options.pixel_order == "nest",
    )
    _note_rows(mesh, plan, strict=strict)
    shells = Shells.of(mesh, sheets)
    binning = Binning(mesh.nside, mesh.nslices, options.chunk_size, options.validation_level, options.pixel_order)
    delta, values, parts = SheetGraph(mesh, plan, binning, shells, chunk).arrays()
    root = _sheets(delta, values, plan, shells)
    for name, variable in root.variables.items():
        variable.attrs = dict(_ABOUT[str(name)])
    root.attrs = _attrs(mesh, options, plan)
    tree = xr.DataTree(root)
    if strict:
        tree[PARTS] = xr.DataTree(_parts(mesh, parts, plan))
    return tree


def _sheets(delta: da.Array, values: da.Array, plan: RowPlan, shells: Shells) -> xr.Dataset:
    dataset = xr.Dataset({"delta": (("sheet", "pixel"), delta)})
    dataset["delta"].encoding = {"chunks": (1, delta.chunks[1][0])}
    for name in SHEET.names or ():
        dataset[name] = ("sheet", values[name])
    dataset["status"].encoding = {"fill_value": QUARANTINED}  # until it is written
    dataset["offset_error"] = ("sheet", np.array([one.offset_error for one in plan.sheets], np.int64))
    dataset = dataset.assign_coords(sheet=np.array([one.sheet for one in plan.sheets], np.int32))
    return dataset.assign_coords({name: ("sheet", values) for name, values in asdict(shells).items()})


def _parts(mesh: UsMesh, values: da.Array, plan: RowPlan) -> xr.Dataset:
    """Return what is known of the parts that sheets were read from."""
    dataset = xr.Dataset({name: ("part", values[name]) for name in VERIFIED.names or ()})
    for name, variable in dataset.variables.items():
        variable.attrs = dict(_ABOUT[str(name)])
    first, last = (np.array([pick(one.sheets) for one in plan.parts], np.int32) for pick in (min, max))
    return dataset.assign_coords(
        part=("part", np.array([one.part for one in plan.parts], np.int32), {"long_name": "number of the part"}),
        first_sheet=("part", first, {"long_name": "first sheet that has rows of it"}),
        last_sheet=("part", last, {"long_name": "last sheet that has rows of it"}),
        rows=("part", np.array([mesh.ids.parts[one.part].rows for one in plan.parts], np.int64)),
    )


def _attrs(mesh: UsMesh, options: SheetOptions, plan: RowPlan) -> dict[str, Any]:
    seed = {} if mesh.seed is None else {"seed": mesh.seed}
    return {
        "schema": SCHEMA,
        "nside": mesh.nside,
        "ordering": "NESTED",
        "nslices": mesh.nslices,
        "rhobar": mesh.rhobar,
        "BoxSize": mesh.box_size,
        "NC": mesh.particles,
        "OmegaM": mesh.cosmology.omega_m,
        "OmegaLambda": mesh.cosmology.omega_lambda,
        "HubbleParam": mesh.cosmology.h,
        **seed,
        "source": str(mesh.path),
        "source_digest": mesh.digest,
        "rows_beyond": plan.beyond,
        "options": json.dumps(options.record(), sort_keys=True),
    }


def _note_rows(mesh: UsMesh, plan: RowPlan, *, strict: bool) -> None:
    """Say which sheets have no rows, which rows the writer's index misplaces, and which are left out."""
    empty = [one.sheet for one in plan.sheets if one.empty]
    where = mesh.path / mesh.dataset
    if empty and strict:
        raise BadInput(
            f"{where}: found no rows of sheet {empty[0]} ({len(empty)} such), expected some; "
            "choose another sheet_range, or validation_level lenient"
        )
    for sheet in empty:
        events.note("empty-sheet", f"{where}: sheet {sheet} has no rows", sheet=sheet)
    wrong = sum(one.offset_error for one in plan.sheets)
    if wrong:
        message = f"{where}: aemitIndex places {wrong} rows in wrong sheets; it is not used: rows are found by their ID"
        events.note("offsets", message, rows=wrong)
    if plan.beyond:
        message = f"{where}: {plan.beyond} rows lie beyond the last slice (a > 1): left out"
        events.note("beyond-last-slice", message, rows=plan.beyond)
