"""A TESS full-frame image as a template needs it: its WCS, shape, sector, camera and CCD; no pixel is read."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.wcs import WCS, FITSFixedWarning, Sip

from lensflow.arrays.fits import read_image_header
from lensflow.arrays.headers import CARD, parse_header, read_units
from lensflow.errors import BadInput
from lensflow.ps1.tess.wcs import TanSip

if TYPE_CHECKING:
    from pathlib import Path

    from astropy.io.fits import Header
    from numpy.typing import NDArray

CTYPES = (("RA---TAN", "DEC--TAN"), ("RA---TAN-SIP", "DEC--TAN-SIP"))
_PLACE = re.compile(r"s(\d{4})-(\d)-(\d)-")  # tess2019357164649-s0020-3-3-0165-s_ffic.fits


@dataclass(frozen=True)
class Ccd:
    """Which CCD an image is of; None where neither the headers nor the name of the file say it."""

    sector: int | None
    camera: int | None
    ccd: int | None


def read_tess(path: Path) -> tuple[TanSip, Ccd]:
    """Read the header of a TESS image.

    Parameters
    ----------
    path
        A FITS file (its first 2-D image counts), or the text of a header, a card a line.

    Raises
    ------
    BadInput
        If the file is missing, or its header lacks a TAN or TAN-SIP WCS or the shape.
    """
    if not path.is_file():
        raise BadInput(f"{path}: no such file; give a TESS full-frame image, or its header")
    headers = [_text_header(path)] if _is_text(path) else _fits_headers(path)
    return tan_sip(headers[0], str(path)), _ccd(headers, path.name)


def _is_text(path: Path) -> bool:
    with path.open("rb") as file:
        return b"\n" in file.read(200)


def _text_header(path: Path) -> Header:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
        return parse_header("".join(line[:CARD].ljust(CARD) for line in lines))
    except ValueError as error:
        raise BadInput(f"{path}: neither FITS nor the text of a header ({error}); give one of them") from error


def _fits_headers(path: Path) -> list[Header]:
    _, image = read_image_header(path)
    return [image, next(read_units(path)).header]


def _ccd(headers: list[Header], name: str) -> Ccd:
    match = _PLACE.search(name)
    found: list[int | None] = []
    for place, key in enumerate(("SECTOR", "CAMERA", "CCD"), start=1):
        values = [header[key] for header in headers if isinstance(header.get(key), int)]
        found.append(values[0] if values else int(match[place]) if match else None)
    return Ccd(*found)


def tan_sip(header: Header, name: str) -> TanSip:
    """Return the WCS of a header.

    Parameters
    ----------
    header
        With NAXIS1, NAXIS2 and a TAN or TAN-SIP WCS of RA and Dec; its RADESYS is a label, nothing is transformed.
    name
        For errors.

    Raises
    ------
    BadInput
        If it is not such a header.
    """
    shape = tuple(header.get(key) for key in ("NAXIS2", "NAXIS1"))
    for key, size in zip(("NAXIS2", "NAXIS1"), shape, strict=True):
        if not isinstance(size, int) or size < 1:
            raise BadInput(f"{name}: {key}: found {size!r}, expected the size of the image; give the whole header")
    wcs = _parsed(header, name)
    ctype = tuple(wcs.wcs.ctype)
    if ctype not in CTYPES:
        raise BadInput(f"{name}: CTYPE1, CTYPE2: found {ctype}, expected {CTYPES[1]}; give a TESS full-frame image")
    if wcs.cpdis1 or wcs.cpdis2 or wcs.det2im1 or wcs.det2im2:
        raise BadInput(f"{name}: found lookup tables of distortion, expected only SIP; give a TESS full-frame image")
    a, b = (_coefficients(wcs.sip, which) for which in "ab")
    return TanSip(_keys(wcs, header, a, b), (shape[0], shape[1]), a, b)


def _parsed(header: Header, name: str) -> Any:  # noqa: ANN401 - astropy has no types
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FITSFixedWarning)  # dates and units of TESS headers, of no use here
            wcs = WCS(header, naxis=2)
            wcs.wcs.set()
    except Exception as error:  # wcslib and the parser of SIP have many
        reason = " ".join(str(error).split())
        raise BadInput(f"{name}: its WCS cannot be read ({reason}); give a TESS full-frame image") from error
    return wcs


def _coefficients(sip: Sip | None, which: str) -> NDArray[np.float64]:
    found = None if sip is None else getattr(sip, which)
    return np.zeros((1, 1)) if found is None else np.array(found, np.float64)


def _keys(wcs: Any, header: Header, a: NDArray[np.float64], b: NDArray[np.float64]) -> dict[str, float | int | str]:  # noqa: ANN401
    """Return the WCS in the plain form: CD in degrees and the SIP terms, whatever spelling the header had."""
    cd = wcs.pixel_scale_matrix
    suffix = "-SIP" if a.size > 1 or b.size > 1 else ""
    keys: dict[str, float | int | str] = {"CTYPE1": "RA---TAN" + suffix, "CTYPE2": "DEC--TAN" + suffix}
    for i in (0, 1):
        keys[f"CUNIT{i + 1}"] = "deg"
        keys[f"CRVAL{i + 1}"] = float(wcs.wcs.crval[i])
        keys[f"CRPIX{i + 1}"] = float(wcs.wcs.crpix[i])
        keys |= {f"CD{i + 1}_{j + 1}": float(cd[i, j]) for j in (0, 1)}
    keys["LONPOLE"] = float(wcs.wcs.lonpole)
    keys["RADESYS"] = str(header.get("RADESYS", "ICRS"))
    keys["EQUINOX"] = float(header.get("EQUINOX", 2000.0))
    return keys | (sip_keys("A", a) | sip_keys("B", b) if suffix else {})


def sip_keys(letter: str, coefficients: NDArray[np.float64]) -> dict[str, float | int | str]:
    """Return SIP coefficients as FITS keys: A_ORDER, A_2_0 ... without the zeros."""
    terms = {f"{letter}_{p}_{q}": float(coefficients[p, q]) for p, q in np.argwhere(coefficients).tolist()}
    return {f"{letter}_ORDER": max(2, len(coefficients) - 1), **terms}


def refined(keys: dict[str, float | int | str], n: float, shift: tuple[float, float] = (0.0, 0.0)) -> dict[str, Any]:
    """Return the keys of an image whose pixels are divided n x n, and whose scene is moved by (dx, dy) old pixels.

    Notes
    -----
    Borders of the image stay where they are: CRPIX' = (CRPIX + dx - 1/2) n + 1/2. The SIP terms take and return
    new pixels: A'_pq = A_pq n^(1 - p - q). Moving CRPIX alone moves the scene rigidly, distortion included.
    """
    fine: dict[str, Any] = dict(keys)
    for axis, moved in zip((1, 2), shift, strict=True):
        fine[f"CRPIX{axis}"] = (float(keys[f"CRPIX{axis}"]) + moved - 0.5) * n + 0.5
        for other in (1, 2):
            fine[f"CD{axis}_{other}"] = float(keys[f"CD{axis}_{other}"]) / n
    for key, value in keys.items():
        letter, _, powers = key.partition("_")
        if letter in {"A", "B"} and powers != "ORDER":
            p, q = map(int, powers.split("_"))
            fine[key] = float(value) * n ** (1 - p - q)
    return fine
