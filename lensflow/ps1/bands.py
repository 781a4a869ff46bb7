"""Bands and the flux scale of PS1 stacks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite, log
from typing import TYPE_CHECKING, Any

import numpy as np

from lensflow.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

BANDS = ("r", "i", "z", "y")
WEIGHTS = {"r": 0.238, "i": 0.344, "z": 0.283, "y": 0.135}  # of PS1 bands in the TESS band
ZERO_POINT = 25.0  # AB magnitude of 1 count/s (FPA.ZP)
EVERY = np.arange(65536, dtype=np.uint16).view(np.int16)  # stored values
A = 2.5 / log(10)  # 1.0857, the softening law of asinh magnitudes
SMALLEST, LARGEST = 1e-9, 1e12  # counts, seconds, steps: beyond any constant of a sound file
STEEPEST = 30.0  # v/a of the brightest pixel: BSOFTEN e^30 is 1e13 times the noise of the sky


@dataclass(frozen=True)
class Scaling:
    """How the stored numbers of an image stand for L, and L for counts/s.

    v = BZERO + BSCALE*DISK; L = BOFFSET + 2*BSOFTEN*sinh(v/a), or L = v without BSOFTEN; f = L/EXPTIME.

    Parameters
    ----------
    exptime
        Seconds, > 0.
    bzero, bscale
        The linear law of stored integers.
    blank
        The stored integer that means NaN.
    bsoften, boffset
        Counts, of the asinh law; None for linear images.
    """

    exptime: float
    bzero: float = 0.0
    bscale: float = 1.0
    blank: int | None = None
    bsoften: float | None = None
    boffset: float = 0.0

    @classmethod
    def from_header(cls, header: Mapping[str, Any], place: str, *, stored: bool = True) -> Scaling:
        """Read the scaling from a header.

        Parameters
        ----------
        header
            FITS header of an image or weight.
        place
            The file, for messages.
        stored
            False if BZERO and BSCALE have been applied already (Zarr stores).

        Raises
        ------
        BadInput
            If EXPTIME is missing or not positive, only one of BSOFTEN and BOFFSET is there, FPA.ZP is not 25, a law
            of stored integers is incomplete, or it is a mask.
        """
        exptime = _number(header, "EXPTIME", place)
        if not SMALLEST <= exptime <= LARGEST:
            raise BadInput(f"{place}: EXPTIME: found {exptime}, expected seconds > 0; fetch the file again")
        if "MSKNUM" in header:
            raise BadInput(f"{place}: MSKNUM: found a mask, expected an image or weight; rename or fetch it again")
        zero_point = _number(header, "FPA.ZP", place) if "FPA.ZP" in header else ZERO_POINT
        if zero_point != ZERO_POINT:
            raise BadInput(f"{place}: FPA.ZP: found {zero_point}, expected {ZERO_POINT}; such files cannot be mixed")
        scaling = cls(exptime)
        if "BSOFTEN" in header or "BOFFSET" in header:
            boffset, bsoften = (_number(header, key, place) for key in ("BOFFSET", "BSOFTEN"))
            if not SMALLEST <= bsoften <= LARGEST:
                raise BadInput(f"{place}: BSOFTEN: found {bsoften}, expected counts > 0; fetch the file again")
            if abs(boffset) > LARGEST:
                raise BadInput(f"{place}: BOFFSET: found {boffset}, expected counts of the sky; fetch the file again")
            scaling = replace(scaling, boffset=boffset, bsoften=bsoften)
        if not stored:
            return scaling
        return replace(scaling, **_linear_law(header, place, needed=scaling.bsoften is not None))

    def linear(self, stored: NDArray[Any]) -> NDArray[Any]:
        """Return L in counts of stored values, in their floating dtype (float64 for integers).

        Notes
        -----
        In float32 the error stays below 1e-6 of sqrt((L - BOFFSET)^2 + 4 BSOFTEN^2) for abs(v/a) < 10.
        """
        if stored.dtype.kind == "f":
            values = stored.astype(stored.dtype, copy=True)
        else:
            values = stored.astype(np.float64)
            if self.blank is not None:
                values[stored == self.blank] = np.nan
        with np.errstate(over="ignore", invalid="ignore"):  # a damaged float becomes infinite or NaN: no value
            if self.bscale != 1.0:
                values *= self.bscale
            if self.bzero != 0.0:
                values += self.bzero
            if self.bsoften is not None:
                values /= A
                np.sinh(values, out=values)
                values *= 2 * self.bsoften
                values += self.boffset
        return values

    @cached_property
    def _flux_table(self) -> NDArray[np.float32]:
        return (self.linear(EVERY) / self.exptime).astype(np.float32)

    @cached_property
    def _variance_table(self) -> NDArray[np.float32]:
        return _variance(self.linear(EVERY), self.exptime).astype(np.float32)

    @cached_property
    def _bounded(self) -> bool:
        return bool((np.abs(self._flux_table) <= LARGEST)[np.isfinite(self._flux_table)].all())

    def is_bounded(self, dtype: np.dtype[Any]) -> bool:
        """Return whether no stored value of a type stands for more than all that shines: see :func:`check_range`."""
        return dtype == np.int16 and self._bounded

    def flux(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """Return counts/s of stored values; int16 goes through a table of all 65536 values, which is exact."""
        if stored.dtype == np.int16:
            return np.take(self._flux_table, stored.view(np.uint16), mode="clip")
        values = self.linear(stored)
        with np.errstate(over="ignore", invalid="ignore"):
            values /= self.exptime
            return values.astype(np.float32, copy=False)

    def variance(self, stored: NDArray[Any]) -> NDArray[np.float32]:
        """Return the variance in (counts/s)^2 of a stored weight image: L/EXPTIME^2, NaN where negative."""
        if stored.dtype == np.int16:
            return np.take(self._variance_table, stored.view(np.uint16), mode="clip")
        with np.errstate(over="ignore", invalid="ignore"):
            return _variance(self.linear(stored), self.exptime).astype(np.float32, copy=False)


def _variance(linear: NDArray[Any], exptime: float) -> NDArray[Any]:
    linear[~(linear >= 0)] = np.nan
    linear /= exptime
    linear /= exptime
    return linear


def check_range(values: NDArray[np.float32], place: str, *, square: bool = False) -> NDArray[np.float32]:
    """Return counts/s, or their squares, unless one of them is beyond all that shines: then bits are damaged.

    Raises
    ------
    BadInput
        If a value is larger than 1e12 counts/s; infinite ones are no values, as NaN.
    """
    most = LARGEST**2 if square else LARGEST
    if not values.size or max(np.fmax.reduce(values, axis=None), -np.fmin.reduce(values, axis=None)) <= most:
        return values
    if np.max(np.abs(values), where=np.isfinite(values), initial=0.0) > most:
        # without the value: several tasks may meet the damage of one file, and their notes must be one
        raise BadInput(f"{place}: found pixels beyond {most:.0e}, which nothing is; fetch the file again")
    return values


def mask_integers(stored: NDArray[Any], *, bzero: float, place: str = "mask") -> NDArray[np.uint16]:
    """Return the bits of a stored mask; uint16 is int16 with BZERO 32768 in FITS.

    Raises
    ------
    BadInput
        If a value is not made of 16 bits.
    """
    if stored.dtype == np.int16 and bzero == 32768:
        return stored.view(np.uint16) ^ np.uint16(0x8000)
    if stored.dtype == np.uint16 and not bzero:
        return stored
    values = stored + bzero if bzero else stored
    with np.errstate(invalid="ignore"):
        bits = values.astype(np.uint16)
    if not np.array_equal(bits, values):
        raise BadInput(f"{place}: found values that are no mask bits, expected integers 0..65535; fetch the mask again")
    return bits


def mask_zero(header: Mapping[str, Any], place: str) -> float:
    """Return BZERO of a mask, 0 or half the range of its integers.

    Raises
    ------
    BadInput
        If the header is that of an image: scaled, or not of integers.
    """
    bzero = _number(header, "BZERO", place) if "BZERO" in header else 0.0
    bscale = _number(header, "BSCALE", place) if "BSCALE" in header else 1.0
    if "BSOFTEN" in header or bscale != 1 or bzero not in (0, 2**15, 2**31):
        raise BadInput(f"{place}: BZERO, BSCALE: found {bzero}, {bscale}, expected those of a mask; fetch it again")
    return bzero


def _linear_law(header: Mapping[str, Any], place: str, *, needed: bool) -> dict[str, Any]:
    """Return bzero, bscale and blank; stored integers of the asinh law (needed) must state them all."""
    integers = header.get("BITPIX", -32) > 0
    law = {"bzero": 0.0, "bscale": 1.0}
    for key in ("BZERO", "BSCALE"):
        if key in header or (needed and integers):
            law[key.lower()] = _number(header, key, place)
    key = "ZBLANK" if "ZBLANK" in header else "BLANK"
    blank = header.get(key)
    if type(blank) is not int and (blank is not None or (needed and integers)):
        found = "nothing" if blank is None else repr(blank)
        raise BadInput(f"{place}: {key}: found {found}, expected the integer that means no value; fetch it again")
    reach = (abs(law["bzero"]) + abs(law["bscale"]) * 32768) / A
    if abs(law["bscale"]) < SMALLEST or reach > (STEEPEST if needed and integers else LARGEST):
        raise BadInput(
            f"{place}: BZERO, BSCALE: found {law['bzero']}, {law['bscale']}, expected the law of 16-bit pixels; "
            "fetch the file again"
        )
    return {**law, "blank": blank}


def _number(header: Mapping[str, Any], key: str, place: str) -> float:
    found = header.get(key)
    if isinstance(found, bool) or not isinstance(found, int | float) or not isfinite(found):
        what = "nothing" if found is None else repr(found)
        raise BadInput(f"{place}: {key}: found {what}, expected a finite number; fetch the file again")
    return float(found)
