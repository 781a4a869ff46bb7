"""Convolved projections cut back into skycells: Zarr groups or FITS files; overlaps of neighbours are the same bits."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import xarray as xr
import zarr
from astropy.io import fits

from lensflow.errors import BadInput, BadOption
from lensflow.ps1.cells import Rect
from lensflow.ps1.outputs import SCHEMA
from lensflow.ps1.removed import GROUP, write_removed
from lensflow.ps1.tessellation import Geometry, Skycell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from lensflow.ps1.tessellation import Projection

    Piece = tuple[tuple[slice, slice], NDArray[Any]]  # where, and what

Format = Literal["fits", "fits-projection", "cells", "flat", "removed"]
NAMES = ("flux", "mask", "coverage")
STORED = {"flux": ">f4", "mask": ">i2", "coverage": ">f4"}  # in FITS; uint16 is int16 with BZERO 32768
BLOCK = 2880  # bytes; FITS headers and images fill whole blocks
PARTIAL = ".partial"  # ends the name of what is not complete


def export(store: Path, out: Path, *, format: Format = "fits", cells: tuple[str, ...] = ()) -> list[Path]:  # noqa: A002
    """Write a finished store of convolved projections in the formats of the field.

    Parameters
    ----------
    store
        The Zarr store of the run.
    out
        Folder (FITS) or Zarr store (cells, flat) to write.
    format
        ``fits``: a file a skycell, flux with MASK and COVERAGE extensions; ``fits-projection``: a file a projection;
        ``cells``: Zarr groups /PPPP/skycell.PPPP.0YX/{flux,mask,coverage}; ``flat``: {skycell}_data, {skycell}_mask;
        ``removed``: a CSV table a projection of the sources that were removed as bright stars.
    cells
        Names of skycells; all that were selected in the run by default.

    Returns
    -------
    list of Path
        The files or Zarr groups written.

    Raises
    ------
    BadInput
        If the store is not one of convolved projections, or does not hold a cell.
    BadOption
        If the format is unknown.
    """
    if format not in get_args(Format):
        raise BadOption(f"format: found {format!r}, expected {', '.join(get_args(Format))}")
    out = Path(out)
    with _open(Path(store)) as tree:
        geometry = Geometry(int(json.loads(tree.attrs["options"])["scale"]))
        chosen = _chosen(tree, cells, Path(store))
        if format == "fits":
            return [_to_fits(tree, cell, geometry, out) for cell in chosen]
        if format == "fits-projection":
            return [_projection_to_fits(tree, number, out) for number in sorted({cell.projection for cell in chosen})]
        if format == "removed":
            return [_removed(tree, number, chosen, out) for number in sorted({cell.projection for cell in chosen})]
        return [_to_zarr(tree, cell, geometry, out, flat=format == "flat") for cell in chosen]


def _open(store: Path) -> xr.DataTree:
    if not (store / "zarr.json").is_file():
        raise BadInput(f"{store}: found no Zarr store, expected the output of a run of ps1_convolution")
    tree = xr.open_datatree(store, engine="zarr", chunks=None, consolidated=False)
    if tree.attrs.get("schema") != SCHEMA:
        tree.close()
        raise BadInput(
            f"{store}: schema: found {tree.attrs.get('schema')!r}, expected {SCHEMA}; "
            "give the output of a run of ps1_convolution"
        )
    return tree


def _chosen(tree: xr.DataTree, names: tuple[str, ...], store: Path) -> list[Skycell]:
    held = {Skycell.parse(name) for node in tree.children.values() for name in node.attrs["cells"]}
    wanted = {Skycell.parse(name) for name in names} or held
    if wanted - held:
        raise BadInput(f"{store}: found no {min(wanted - held)}, only {len(held)} cells such as {min(held)}")
    return sorted(wanted)


def cell_crop(node: xr.Dataset, cell: Skycell, projection: Projection) -> dict[str, NDArray[Any]]:
    """Return the variables of a node on the whole rectangle of a cell: NaN, 0 and 0 where the node has no pixels.

    Parameters
    ----------
    node
        A convolved projection.
    cell, projection
        The cell and its grid.
    """
    y0, x0 = projection.cell_origin(cell.y, cell.x)
    full = Rect(y0, x0, y0 + projection.height, x0 + projection.width)
    corner = int(node["y"][0]), int(node["x"][0])
    box = Rect(*corner, corner[0] + node.sizes["y"], corner[1] + node.sizes["x"])
    part = full.common(box)
    source = part.moved(-box.y0, -box.x0).slices
    target = part.moved(-full.y0, -full.x0).slices
    crop: dict[str, NDArray[Any]] = {}
    for name in NAMES:
        values = node[name].variable[source]
        crop[name] = np.full(full.shape, np.nan if name == "flux" else 0, values.dtype)
        crop[name][target] = values.values
    return crop


def _node(tree: xr.DataTree, number: int) -> xr.Dataset:
    return tree.children[f"{number:04d}"].to_dataset(inherit=False)


def _header(node: xr.Dataset, wcs: dict[str, float | str]) -> fits.Header:
    header = fits.Header()
    header.update(wcs)
    header["BUNIT"] = "counts/s"
    header["TESS_ID"] = "RINGS.V3"
    header["HIERARCH FPA.ZP"] = node.attrs["zero_point"]
    header["KERSIGMA"] = (node.attrs["sigma_px"], "sigma of the Gaussian kernel, px")
    header["KERRAD"] = (node.attrs["radius_px"], "radius of the kernel, px")
    return header


def _to_fits(tree: xr.DataTree, cell: Skycell, geometry: Geometry, out: Path) -> Path:
    projection, node = geometry.projection(cell.projection), _node(tree, cell.projection)
    wcs = node.attrs["wcs"]
    header = _header(
        node,
        projection.wcs_keys(origin=projection.cell_origin(cell.y, cell.x), crval=(wcs["CRVAL1"], wcs["CRVAL2"])),
    )
    header["SKYCELL"] = str(cell)
    crop = cell_crop(node, cell, projection)
    whole = {name: iter([((slice(None), slice(None)), values)]) for name, values in crop.items()}
    return _write(out / f"rings.v3.{cell}.convolved.fits", header, crop["flux"].shape, whole)


def _projection_to_fits(tree: xr.DataTree, number: int, out: Path) -> Path:
    node = _node(tree, number)
    shape = node.sizes["y"], node.sizes["x"]
    path = out / f"rings.v3.projection.{number:04d}.convolved.fits"
    return _write(path, _header(node, node.attrs["wcs"]), shape, {name: _pieces(node[name].variable) for name in NAMES})


def _pieces(variable: xr.Variable) -> Iterator[Piece]:
    """Yield a variable by stored chunks: each is read once, and one is held at a time."""
    height, width = variable.encoding.get("chunks", variable.shape)
    for y in range(0, variable.shape[0], height):
        for x in range(0, variable.shape[1], width):
            place = slice(y, y + height), slice(x, x + width)
            yield place, variable[place].values


def _write(path: Path, header: fits.Header, shape: tuple[int, int], images: dict[str, Iterator[Piece]]) -> Path:
    """Write flux, MASK and COVERAGE piece by piece; the file has its name when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL)
    partial.unlink(missing_ok=True)
    for name, pieces in images.items():
        stored = np.dtype(STORED[name])
        size = math.prod(shape) * stored.itemsize
        with partial.open("ab") as file:
            file.write(_hdu_header(name, header, shape).tostring().encode("ascii"))
            start = file.tell()
            file.truncate(start + -(-size // BLOCK) * BLOCK)
            if hasattr(os, "posix_fallocate"):  # a full disk is an error here, and a dead process later
                os.posix_fallocate(file.fileno(), start, size)
        pixels = np.memmap(partial, stored, "r+", offset=start, shape=shape)
        for place, values in pieces:
            # int16 with BZERO 32768: the top bit turned
            pixels[place] = (values ^ np.uint16(0x8000)).view(np.int16) if name == "mask" else values
        pixels.flush()
    return partial.replace(path)


def _hdu_header(name: str, header: fits.Header, shape: tuple[int, int]) -> fits.Header:
    first = name == NAMES[0]
    made = (fits.PrimaryHDU() if first else fits.ImageHDU(name=name.upper())).header
    made["BITPIX"] = 16 if name == "mask" else -32
    made["NAXIS"] = 2
    made.insert("NAXIS", ("NAXIS1", shape[1]), after=True)
    made.insert("NAXIS1", ("NAXIS2", shape[0]), after=True)
    if first:
        made["EXTEND"] = True
    made.extend(header, strip=False)
    if not first:
        del made["BUNIT"]
    if name == "mask":
        made["BZERO"], made["BSCALE"] = 32768, 1
    return made


def _removed(tree: xr.DataTree, number: int, cells: list[Skycell], out: Path) -> Path:
    node = tree.children[f"{number:04d}"]
    if GROUP not in node.children:
        raise BadInput(f"projection {number}: found no table of removed sources, expected a run with stars gaia")
    path = out / f"rings.v3.projection.{number:04d}.removed.csv"
    return write_removed(node.children[GROUP].to_dataset(inherit=False), cells, path)


def _to_zarr(tree: xr.DataTree, cell: Skycell, geometry: Geometry, out: Path, *, flat: bool) -> Path:
    projection, node = geometry.projection(cell.projection), _node(tree, cell.projection)
    crop = cell_crop(node, cell, projection)
    wcs = node.attrs["wcs"]
    keys = projection.wcs_keys(origin=projection.cell_origin(cell.y, cell.x), crval=(wcs["CRVAL1"], wcs["CRVAL2"]))
    folder = out if flat else out / f"{cell.projection:04d}" / str(cell)
    root = zarr.open_group(out, mode="a", zarr_format=3)
    group = root if flat else root.require_group(f"{cell.projection:04d}/{cell}")
    names = {"flux": f"{cell}_data", "mask": f"{cell}_mask"} if flat else {name: name for name in NAMES}
    for name, stored in names.items():
        array = group.create_array(
            stored + PARTIAL,
            shape=crop[name].shape,
            dtype=crop[name].dtype,
            chunks=tuple(min(1024, n) for n in crop[name].shape),
            fill_value=np.nan if name == "flux" else 0,
            dimension_names=("y", "x"),
            attributes={"wcs": keys, "zero_point": node.attrs["zero_point"], "sigma_px": node.attrs["sigma_px"]},
            overwrite=True,
        )
        array[:] = crop[name]
        shutil.rmtree(folder / stored, ignore_errors=True)
        (folder / (stored + PARTIAL)).replace(folder / stored)
    return folder
