"""Writing skycells as the archive does: asinh-scaled int16 rows, compressed by Rice's code, in FITS or Zarr.

The law (IPP's note on asinh compression): v = a asinh((L - BOFFSET) / (2 BSOFTEN)), a = 2.5/ln 10, and
DISK = (v - BZERO) / BSCALE rounded to int16, with L in counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import asinh, log, sqrt
from typing import TYPE_CHECKING, Self

import numpy as np
from astropy.io import fits

from lensflow.ps1.maskbits import HEADER_NAMES

if TYPE_CHECKING:
    from pathlib import Path

    import zarr
    from numpy.typing import ArrayLike, NDArray

    from lensflow.ps1.tessellation import Projection, Skycell

A = 2.5 / log(10)
BLANK = 32767  # DISK where there is no value
STEPS = 65000  # quanta from the faintest to the brightest pixel
SOFTEST = 1.0  # counts, the least BSOFTEN: an image without noise has no width of its own
SAMPLE = 1 << 20  # pixels from which the background is measured
SLAB = 1 << 21  # pixels worked on at a time
CHUNK = 1024  # px, of the Zarr form


@dataclass(frozen=True)
class Scaling:
    """The four constants that turn counts into int16 and back."""

    bzero: float
    bscale: float
    bsoften: float
    boffset: float

    @classmethod
    def fit(cls, linear: NDArray[np.float32]) -> Self:
        """Choose the constants for an image in counts (y, x), NaN allowed.

        BOFFSET is the mean of the background and BSOFTEN sqrt(a) times its standard deviation, both clipped
        at 3 sigma so that stars do not widen the quanta of the sky; BZERO is the middle of the range of v.
        """
        mean, width = _background(linear)
        boffset, bsoften = _rounded(mean), _rounded(max(sqrt(A) * width, SOFTEST))
        low, high = (
            A * asinh((float(end) - boffset) / (2 * bsoften)) if np.isfinite(end) else 0.0
            for end in (np.fmin.reduce(linear, axis=None), np.fmax.reduce(linear, axis=None))
        )
        return cls(_rounded((low + high) / 2), _rounded((high - low) / STEPS or 1 / STEPS), bsoften, boffset)

    def stretched(self, linear: ArrayLike) -> NDArray[np.float64]:
        """Return v = a asinh((L - BOFFSET) / (2 BSOFTEN)) of counts."""
        v = np.array(linear, np.float64)
        v -= self.boffset
        v /= 2 * self.bsoften
        np.arcsinh(v, out=v)
        v *= A
        return v

    def encode(self, linear: ArrayLike) -> NDArray[np.int16]:
        """Turn counts into the stored int16, NaN into BLANK."""
        image = np.asarray(linear)
        disk = np.empty(image.shape, np.int16)
        step = max(1, SLAB // max(1, image[:1].size))
        for start in range(0, len(image), step):
            v = self.stretched(image[start : start + step])
            v -= self.bzero
            v /= self.bscale
            np.rint(v, out=v)
            np.clip(v, -BLANK - 1, BLANK - 1, out=v)
            np.copyto(v, BLANK, where=np.isnan(v))
            disk[start : start + step] = v
        return disk

    def values(self, disk: NDArray[np.int16]) -> NDArray[np.float64]:
        """Return v = BZERO + BSCALE DISK, NaN where blank."""
        return np.where(disk == BLANK, np.nan, self.bzero + self.bscale * disk.astype(np.float64))

    def decode(self, disk: NDArray[np.int16]) -> NDArray[np.float64]:
        """Return counts L = BOFFSET + 2 BSOFTEN sinh(v/a), NaN where blank."""
        return self.boffset + 2 * self.bsoften * np.sinh(self.values(disk) / A)


def _rounded(value: float) -> float:
    return float(f"{value:.12E}")  # what a header card holds, so that the file states the very constants used


def _background(linear: NDArray[np.float32]) -> tuple[float, float]:
    sample = linear.reshape(-1)[:: max(1, linear.size // SAMPLE)].astype(np.float64)
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return 0.0, 0.0
    for _ in range(5):
        centre, width = np.median(sample), sample.std()
        sample = sample[np.abs(sample - centre) <= 3 * width]
    return float(sample.mean()), float(sample.std())


def cell_header(
    projection: Projection, cell: Skycell, band: str, *, exptime: float, gain: float, saturation: float
) -> fits.Header:
    """Return the cards of a stack's header that say where and what the cell is.

    No RADESYS, no CD, and the rotation in the PC001001 spelling that FITS gave up: as the archive has it.
    """
    crpix1, crpix2 = projection.cell_crpix(cell.y, cell.x)
    scale = projection.geometry.pixel_scale
    return fits.Header(
        [
            ("CTYPE1", "RA---TAN"),
            ("CTYPE2", "DEC--TAN"),
            ("CRVAL1", projection.ra),
            ("CRVAL2", projection.dec),
            ("CRPIX1", crpix1),
            ("CRPIX2", crpix2),
            ("CDELT1", scale),
            ("CDELT2", scale),
            ("PC001001", -1.0),
            ("PC001002", 0.0),
            ("PC002001", 0.0),
            ("PC002002", 1.0),
            ("NINPUTS", max(1, round(exptime / 43)), "Number of input images"),
            ("STK_TYPE", "DEEP_STACK", "type of stack"),
            ("SKYCELL", str(cell), "type of stack"),
            ("TESS_ID", "RINGS.V3", "type of stack"),
            ("HIERARCH FPA.FILTERID", f"{band}.00000", "Filter used (parsed, abstract name)"),
            ("HIERARCH FPA.FILTER", f"{band}.00000", "Filter used (instrument name)"),
            ("HIERARCH FPA.ZP", 25.0, "Magnitude zero point"),
            ("HIERARCH CELL.GAIN", gain, "CCD gain (e/count)"),
            ("HIERARCH CELL.SATURATION", saturation, "Saturation level (counts)"),
            ("EXPTIME", exptime, "Exposure time (sec)"),
            ("HIERARCH CELL.TRIMSEC", f"[1:{projection.width},1:{projection.height}]", "Trim section"),
        ]
    )


def scaled_header(header: fits.Header, scaling: Scaling) -> fits.Header:
    """Return a copy of a header with the cards of the asinh scaling."""
    cards = header.copy()
    cards["BZERO"] = (scaling.bzero, "Scaling: TRUE = BZERO + BSCALE * DISK")
    cards["BSCALE"] = (scaling.bscale, "Scaling: TRUE = BZERO + BSCALE * DISK")
    cards["BLANK"] = (BLANK, "Value of pixels without data")
    cards["BSOFTEN"] = (scaling.bsoften, "Scaling: LINEAR = 2 * BSOFTEN * sinh(TRUE/a)")
    cards["BOFFSET"] = (scaling.boffset, "Scaling: UNCOMP = BOFFSET + LINEAR")
    return cards


def mask_header(header: fits.Header) -> fits.Header:
    """Return a copy of a header with the names and values of the mask bits."""
    cards = header.copy()
    cards["MSKNUM"] = (len(HEADER_NAMES), "Number of named mask entries")
    for number, (name, value) in enumerate(HEADER_NAMES):
        cards[f"MSKNAM{number:02d}"] = name
        cards[f"MSKVAL{number:02d}"] = value
    return cards


def write_scaled_fits(path: Path, disk: NDArray[np.int16], header: fits.Header, scaling: Scaling) -> None:
    """Write an image or weight file: an empty HDU 0, then int16 rows compressed by RICE_1."""
    hdu = fits.CompImageHDU(disk, header, compression_type="RICE_1", tile_shape=(1, disk.shape[1]))
    hdu.header.update(scaled_header(fits.Header(), scaling))  # afterwards: astropy drops them at first
    _write(path, hdu)


def write_mask_fits(path: Path, mask: NDArray[np.uint16], header: fits.Header) -> None:
    """Write a mask file: an empty HDU 0, then uint16 rows (BZERO 32768) compressed by RICE_1."""
    _write(
        path,
        fits.CompImageHDU(mask, mask_header(header), compression_type="RICE_1", tile_shape=(1, mask.shape[1])),
    )


def _write(path: Path, hdu: fits.CompImageHDU) -> None:
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path, overwrite=True)


def readdress_fits(base: Path, path: Path, header: fits.Header) -> None:
    """Write a compressed file anew under another name and place, its pixels as they are."""
    with fits.open(base, disable_image_compression=True, memmap=True) as hdus:
        hdus[1].header.update(header)
        hdus.writeto(path, overwrite=True)


def write_zarr(
    group: zarr.Group, name: str, values: NDArray[np.float32] | NDArray[np.uint16], header: fits.Header
) -> None:
    """Write v (float32, fill NaN) or a mask (uint16, fill 0) as an array that carries its FITS cards."""
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=(min(CHUNK, values.shape[0]), min(CHUNK, values.shape[1])),
        fill_value=np.nan if values.dtype.kind == "f" else 0,
        attributes={"header": header.tostring(sep="", padding=False)},
        config={"write_empty_chunks": True},  # so that a chunk that is not there is one that was lost
        overwrite=True,
    )
    array[:] = values
