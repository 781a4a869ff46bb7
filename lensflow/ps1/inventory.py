"""What a source holds, and the layout of each projection that is asked for: all that happens before a pixel is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lensflow.arrays.fits import read_image_header
from lensflow.errors import BadInput, BadOption
from lensflow.ps1.cells import check_header
from lensflow.ps1.fits_cells import list_fits
from lensflow.ps1.mosaic import Layout
from lensflow.ps1.selection import select
from lensflow.ps1.zarr_cells import is_zarr, list_zarr, read_zarr_header

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lensflow.ps1.cells import BandFiles, CellFiles
    from lensflow.ps1.combine import Recipe
    from lensflow.ps1.tessellation import Geometry, Projection, Skycell


@dataclass(frozen=True)
class Inventory:
    """The skycells of a source.

    Parameters
    ----------
    source
        The folder or Zarr store.
    geometry
        The tessellation, or its scaled copy.
    cells
        In order of name.
    ignored
        FITS files that are not skycells.
    absent
        Selected cells of projections of which there is nothing: no plan tells of them.
    """

    source: Path
    geometry: Geometry
    cells: tuple[CellFiles, ...]
    ignored: tuple[str, ...] = ()
    absent: tuple[Skycell, ...] = ()


def list_cells(source: Path, *, geometry: Geometry, bands: Sequence[str]) -> Inventory:
    """List the skycells of a folder of FITS files or of a Zarr store that have any of the bands.

    Raises
    ------
    BadInput
        If there is no such folder, or no skycell in it.
    """
    source = Path(source)
    if not source.is_dir():
        raise BadInput(f"{source}: no such folder; give one with skycells (FITS files or a Zarr store)")
    ignored: list[str] = []
    if is_zarr(source):
        found = list_zarr(source, geometry)
    else:
        found, ignored = list_fits(source, geometry)
    cells = []
    for files in found:
        kept = tuple(one for one in files.bands if one.band in bands)
        if kept:
            cells.append(type(files)(files.cell, kept))
    if not cells:
        raise BadInput(f"{source}: found no skycell in the bands {' '.join(bands)}, expected files or a Zarr store")
    return Inventory(source, geometry, tuple(cells), tuple(ignored))


@dataclass(frozen=True)
class Plan:
    """One projection to make: its layout, and what is missing from it."""

    layout: Layout
    missing: tuple[Skycell, ...]


def plan_projections(
    inventory: Inventory,
    recipe: Recipe,
    *,
    selection: Sequence[str | int] = (),
    projection: int | None = None,
    halo_cells: bool = True,
    edge: int,
    split: int,
    pad: int,
    columns_per_block: int | None = None,
    fail_on_missing: bool = False,
) -> tuple[Inventory, list[Plan]]:
    """Lay out the projections of the selected cells.

    Parameters
    ----------
    inventory
        What there is.
    recipe
        How bands are combined.
    selection, projection
        What is asked for; see :func:`lensflow.ps1.selection.select`.
    halo_cells
        Whether unselected cells next to selected ones serve beyond their edges.
    edge, split, pad, columns_per_block
        See :class:`lensflow.ps1.mosaic.Layout`.
    fail_on_missing
        Whether a selected cell that is absent is an error.

    Returns
    -------
    tuple
        The inventory, with the cells that are absent with their whole projection, and a plan for each other projection.

    Raises
    ------
    BadInput
        If nothing selected is there, something is missing that must not be, or a header contradicts its name.
    """
    there = {files.cell: files for files in inventory.cells}
    chosen = select(
        selection,
        projection=projection,
        available=there,
        geometry=inventory.geometry,
        source=inventory.source,
    )
    absent = [cell for cell in chosen if cell not in there]
    if absent and (fail_on_missing or len(absent) == len(chosen)):
        named = ", ".join(str(cell) for cell in absent[:5]) + (", ..." if len(absent) > 5 else "")
        raise BadInput(f"{inventory.source}: found no {named} ({len(absent)} of {len(chosen)} selected); add them")
    plans = []
    numbers = {cell.projection for cell in chosen if cell in there}
    for number in sorted(numbers):
        selected = tuple(cell for cell in chosen if cell.projection == number and cell in there)
        cells = _with_halo(selected, there) if halo_cells else [there[cell] for cell in selected]
        check_bands(cells, recipe)
        grid = inventory.geometry.projection(number)
        layout = Layout(
            grid,
            tuple(cells),
            selected,
            recipe,
            crval=tangent_point([there[cell] for cell in selected], grid, strict=recipe.on_corrupt == "fail"),
            edge=edge,
            split=split,
            pad=pad,
            columns_per_block=columns_per_block,
        )
        plans.append(Plan(layout, tuple(cell for cell in absent if cell.projection == number)))
    return replace(inventory, absent=tuple(cell for cell in absent if cell.projection not in numbers)), plans


def _with_halo(selected: Sequence[Skycell], there: dict[Skycell, CellFiles]) -> list[CellFiles]:
    number = selected[0].projection
    wanted = {(cell.y + dy, cell.x + dx) for cell in selected for dy in (-1, 0, 1) for dx in (-1, 0, 1)}
    return [files for cell, files in there.items() if cell.projection == number and (cell.y, cell.x) in wanted]


def check_bands(cells: Sequence[CellFiles], recipe: Recipe) -> None:
    """Refuse cells that lack a band or a weight that the recipe cannot do without."""
    for files in cells:
        for band in recipe.bands:
            one = files.band(band)
            if one is None and recipe.missing == "fail":
                raise BadInput(f"{files.cell}: found no band {band}, expected {' '.join(recipe.bands)}; add its file")
            if one is not None and one.weight is None and recipe.uncertainty:
                raise BadInput(f"{one.image}: found no weight image (wt) of band {band} of {files.cell}; add it")


def tangent_point(cells: Sequence[CellFiles], projection: Projection, *, strict: bool) -> tuple[float, float]:
    """Read CRVAL from the first file, in order of name, whose header is sound."""
    first: BadInput | None = None
    for files in cells:
        for one in files.bands:
            try:
                header = _header(one)
                check_header(header, one.image, projection, files.cell, one.band)
            except BadInput as error:
                if strict:
                    raise
                first = first or error  # a damaged file is met again, and noted, when it is read
            else:
                return float(header["CRVAL1"]), float(header["CRVAL2"])
    raise BadInput(f"{first} (nor is any other file of projection {projection.number} sound)") from first


def _header(files: BandFiles) -> Mapping[str, Any]:
    header: Mapping[str, Any]
    header = read_zarr_header(files.image) if files.format == "zarr" else read_image_header(files.image)[1]
    return header


def input_files(plans: Sequence[Plan]) -> list[Path]:
    """Return every file (of a Zarr store: the metadata of every array) that the plans will read."""
    paths = set()
    for plan in plans:
        for files in plan.layout.cells:
            for one in files.bands:
                for path in one.read(weight=plan.layout.recipe.uncertainty):
                    paths.add(Path(path, "zarr.json") if one.format == "zarr" else Path(path))
    return sorted(paths)


def check_geometry(geometry: Geometry, *, edge: int, split: int, radius: int) -> None:
    """Refuse rules of ownership that the overlap of cells cannot hold.

    Raises
    ------
    BadOption
        If so.
    """
    overlap = geometry.overlap
    if not 1 <= radius <= overlap:
        raise BadOption(f"radius: found {radius} px, expected 1..{overlap}: the overlap of skycells")
    if not 0 <= edge < overlap:
        raise BadOption(f"edge: found {edge} px, expected 0..{overlap - 1}")
    if not 0 < split < overlap:
        raise BadOption(f"split: found {split} px, expected 1..{overlap - 1}: inside the overlap of skycells")
