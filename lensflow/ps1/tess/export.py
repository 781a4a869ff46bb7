"""Templates as FITS files: one a template, under the names that difference imaging looks for."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr
from astropy.io import fits

from lensflow.errors import BadInput, BadOption
from lensflow.ps1.tess.image import refined
from lensflow.ps1.tess.outputs import TEMPLATES

if TYPE_CHECKING:
    from collections.abc import Mapping

NAMES = ("FLUX_SUM", "COUNT", "MASK", "USED")
PARTIAL = ".partial"  # ends the name of what is not complete
LEVEL = 6  # of gzip


def export(
    store: Path,
    out: Path,
    *,
    sector: int | None = None,
    camera: int | None = None,
    ccd: int | None = None,
) -> list[Path]:
    """Write a finished store of templates as gzipped FITS files, one an offset.

    Parameters
    ----------
    store
        The Zarr store of the run.
    out
        Folder to write to.
    sector
        Of TESS, for the names of the files; by default as the header of the image or its name said.
    camera
        The same.
    ccd
        The same.

    Returns
    -------
    list of Path
        ``syndiff_template_sSSSS_C_K_dxX_dyY.fits.gz`` (``_osN`` before ``_dx`` where pixels are divided): an empty
        primary HDU, then FLUX_SUM, COUNT, MASK and USED. DX_SHIFT and DY_SHIFT say how the scene is moved, and
        the WCS is that of the moved scene: an object is where the header says.

    Raises
    ------
    BadInput
        If the store is not one of templates.
    BadOption
        If sector, camera or CCD are not known, or two offsets would have the same name.
    """
    out = Path(out)
    with _open(Path(store)) as data:
        given = {"sector": sector, "camera": camera, "ccd": ccd}
        place = {key: data.attrs.get(key) if value is None else value for key, value in given.items()}
        unknown = [key for key, value in place.items() if value is None]
        if unknown:
            raise BadOption(f"{unknown[0]}: the header of the TESS image did not say; give --{unknown[0]}")
        names = [file_name(place, dx, dy, data.attrs["oversample"]) for dx, dy in data.attrs["offset"]]
        if len(set(names)) < len(names):
            raise BadOption(f"offsets: two are the same to 0.001 px ({max(names, key=names.count)}); export them apart")
        out.mkdir(parents=True, exist_ok=True)
        return [_write(out / name, data.isel(offset=i), place) for i, name in enumerate(names)]


def file_name(place: Mapping[str, Any], dx: float, dy: float, oversample: int) -> str:
    """Return the name of the file of a template."""
    fine = f"_os{oversample}" if oversample > 1 else ""
    where = f"s{place['sector']:04d}_{place['camera']}_{place['ccd']}"
    return f"syndiff_template_{where}{fine}_dx{_rounded(dx):.3f}_dy{_rounded(dy):.3f}.fits.gz"


def _rounded(shift: float) -> float:
    return round(shift, 3) + 0.0  # no minus zero


def _open(store: Path) -> xr.Dataset:
    if not (store / "zarr.json").is_file():
        raise BadInput(f"{store}: found no Zarr store, expected the output of a run of tess_templates")
    data: xr.Dataset = xr.open_zarr(store, chunks=None, consolidated=False, mask_and_scale=False)
    if data.attrs.get("schema") != TEMPLATES:
        data.close()
        raise BadInput(
            f"{store}: schema: found {data.attrs.get('schema')!r}, expected {TEMPLATES}; "
            "give the output of a run of tess_templates"
        )
    return data


def _write(path: Path, one: xr.Dataset, place: Mapping[str, Any]) -> Path:
    """Write the images of one template; the file has its name when it is complete."""
    header = template_header(one, place)
    hdus = fits.HDUList([fits.PrimaryHDU(header=_without_wcs(header, one))])
    for name in NAMES:
        hdu = fits.ImageHDU(one[name].values, header=header, name=name)
        hdu.header["BUNIT"] = "counts/s" if name == "FLUX_SUM" else "pixel"
        hdus.append(hdu)
    hdus.verify("exception")
    partial = path.with_name(path.name + PARTIAL)
    # neither the name nor the time in the gzip header: the same templates are the same bytes
    with partial.open("wb") as file, gzip.GzipFile("", "wb", LEVEL, file, mtime=0) as packed:
        hdus.writeto(packed)
    return partial.replace(path)


def template_header(one: xr.Dataset, place: Mapping[str, Any]) -> fits.Header:
    """Return the FITS header of one template: the WCS of its scene, and what it was made of.

    Parameters
    ----------
    one
        A dataset of templates at one offset.
    place
        Sector, camera and CCD.
    """
    attrs = one.attrs
    dx, dy, n = float(one["dx"]), float(one["dy"]), attrs["oversample"]
    header = fits.Header()
    header.update(refined(attrs["wcs"], 1, (dx * n, dy * n)))
    header["DX_SHIFT"] = (dx, "[px] the scene is moved by this much in x")
    header["DY_SHIFT"] = (dy, "[px] the same in y, TESS pixels")
    header["OVERSAMP"] = (n, "TESS pixels are divided n x n")
    header["ASSIGN"] = (attrs["assign"], "how PS1 pixels are assigned")
    header["IGNBITS"] = (attrs["ignore_bits"], "PS1 mask bits that are not summed")
    header["PHOTZP"] = (attrs["zero_point"], "[mag] AB zero point of FLUX_SUM")
    for key, value in place.items():
        header[key.upper()] = (value, "of TESS")
    return header


def _without_wcs(header: fits.Header, one: xr.Dataset) -> fits.Header:
    bare = header.copy()
    for key in one.attrs["wcs"]:
        del bare[key]
    return bare
