"""Convolved projections cut back into skycells: Zarr groups or FITS files; overlaps of neighbours are the same bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr
import zarr
from astropy.io import fits

from lensflow.errors import BadInput, BadOption
from lensflow.ps1.cells import Rect
from lensflow.ps1.outputs import SCHEMA
from lensflow.ps1.tessellation import Geometry, Skycell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from lensflow.ps1.tessellation import Projection

Format = Literal["fits", "fits-projection", "cells", "flat"]
NAMES = ("flux", "mask", "coverage")
SLAB = 1 << 24  # pixels held at a time


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
        ``cells``: Zarr groups /PPPP/skycell.PPPP.0YX/{flux,mask,coverage}; ``flat``: {skycell}_data, {skycell}_mask.
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
    tree = _open(Path(store))
    geometry = Geometry(int(json.loads(tree.attrs["options"])["scale"]))
    chosen = _chosen(tree, cells, Path(store))
    out = Path(out)
    if format == "fits":
        return [_to_fits(tree, cell, geometry, out) for cell in chosen]
    if format == "fits-projection":
        return [_projection_to_fits(tree, number, out) for number in sorted({cell.projection for cell in chosen})]
    if format in ("cells", "flat"):
        return [_to_zarr(tree, cell, geometry, out, flat=format == "flat") for cell in chosen]
    raise BadOption(f"format: found {format!r}, expected fits, fits-projection, cells or flat")


def _open(store: Path) -> xr.DataTree:
    if not (store / "zarr.json").is_file():
        raise BadInput(f"{store}: found no Zarr store, expected the output of a run of ps1_convolution")
    tree = xr.open_datatree(store, engine="zarr", chunks=None, consolidated=False)
    if tree.attrs.get("schema") != SCHEMA:
        raise BadInput(f"{store}: schema: found {tree.attrs.get('schema')!r}, expected {SCHEMA}")
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
    return tree[f"{number:04d}"].to_dataset(inherit=False)


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
        projection.wcs_keys(
            origin=projection.cell_origin(cell.y, cell.x), crval=(wcs["CRVAL1"], wcs["CRVAL2"])
        ),
    )
    header["SKYCELL"] = str(cell)
    crop = cell_crop(node, cell, projection)
    shape = crop["flux"].shape
    return _write(out / f"rings.v3.{cell}.convolved.fits", header, shape, {k: iter([v]) for k, v in crop.items()})


def _projection_to_fits(tree: xr.DataTree, number: int, out: Path) -> Path:
    node = _node(tree, number)
    rows = max(1, SLAB // node.sizes["x"])

    def slabs(name: str) -> Iterator[NDArray[Any]]:
        for start in range(0, node.sizes["y"], rows):
            yield node[name].variable[start : start + rows].values

    shape = node.sizes["y"], node.sizes["x"]
    path = out / f"rings.v3.projection.{number:04d}.convolved.fits"
    return _write(path, _header(node, node.attrs["wcs"]), shape, {name: slabs(name) for name in NAMES})


def _write(
    path: Path, header: fits.Header, shape: tuple[int, int], images: dict[str, Iterator[NDArray[Any]]]
) -> Path:
    """Write flux, MASK and COVERAGE by slabs of rows; the file appears when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    for name, slabs in images.items():
        hdu = fits.PrimaryHDU() if name == "flux" else fits.ImageHDU(name=name.upper())
        first = hdu.header
        first["BITPIX"] = 16 if name == "mask" else -32
        first["NAXIS"] = 2
        first.insert("NAXIS", ("NAXIS1", shape[1]), after=True)
        first.insert("NAXIS1", ("NAXIS2", shape[0]), after=True)
        if name == "flux":
            first["EXTEND"] = True
        first.extend(header, strip=False)
        if name != "flux":
            del first["BUNIT"]
        if name == "mask":
            first["BZERO"], first["BSCALE"] = 32768, 1
        stream = fits.StreamingHDU(str(partial), first)
        try:
            for slab in slabs:
                # uint16 is int16 with BZERO 32768: the top bit turned
                stream.write((slab ^ np.uint16(0x8000)).view(np.int16) if name == "mask" else slab)
        finally:
            stream.close()
    return partial.replace(path)


def _to_zarr(tree: xr.DataTree, cell: Skycell, geometry: Geometry, out: Path, *, flat: bool) -> Path:
    projection, node = geometry.projection(cell.projection), _node(tree, cell.projection)
    crop = cell_crop(node, cell, projection)
    root = zarr.open_group(out, mode="a", zarr_format=3)
    if flat:
        group, names = root, {"flux": f"{cell}_data", "mask": f"{cell}_mask"}
    else:
        group = root.require_group(f"{cell.projection:04d}/{cell}")
        names = {name: name for name in NAMES}
    wcs = node.attrs["wcs"]
    keys = projection.wcs_keys(
        origin=projection.cell_origin(cell.y, cell.x), crval=(wcs["CRVAL1"], wcs["CRVAL2"])
    )
    for name, stored in names.items():
        array = group.create_array(
            stored,
            shape=crop[name].shape,
            dtype=crop[name].dtype,
            chunks=tuple(min(1024, n) for n in crop[name].shape),
            fill_value=np.nan if name == "flux" else 0,
            dimension_names=("y", "x"),
            attributes={"wcs": keys, "zero_point": node.attrs["zero_point"], "sigma_px": node.attrs["sigma_px"]},
            overwrite=True,
        )
        array[:] = crop[name]
    return out if flat else out / f"{cell.projection:04d}" / str(cell)
