"""Flat square images of convergence: how wide they are, and their pixels."""

from __future__ import annotations

from math import isclose
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits

from lensflow.errors import BadInput
from lensflow.lensing.patches.masks import blank_unseen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from lensflow.lensing.patches.kappa_sources import KappaMap


def read_flat(path: Path) -> NDArray[np.float64]:
    """Return the first image of a FITS file as float64, NaN where nothing was observed.

    Raises
    ------
    BadInput
        If there is no square image.
    """
    with fits.open(path) as units:
        data = next((unit.data for unit in units if unit.is_image and unit.header.get("NAXIS", 0) == 2), None)
    if data is None or data.shape[0] != data.shape[1]:
        raise BadInput(f"{path}: found {'none' if data is None else data.shape}, expected a square image")
    return blank_unseen(data.astype(np.float64))


def flat_geometry(maps: Sequence[KappaMap], pixel_scale_arcmin: float | None) -> tuple[float, int]:
    """Return side in degrees and in pixels of flat images, which must be alike.

    Parameters
    ----------
    maps
        The images.
    pixel_scale_arcmin
        For headers that have neither ANGLE (the side, deg) nor CDELT (a pixel, deg).

    Raises
    ------
    BadInput
        If one is not square, of unknown scale, or unlike the first.
    """
    found = [_geometry(one, pixel_scale_arcmin) for one in maps]
    for one, (size, pixels) in zip(maps, found, strict=True):
        if pixels != found[0][1] or not isclose(size, found[0][0], rel_tol=1e-9):
            raise BadInput(
                f"{one.path}: found {pixels} pixels over {size:g} deg, expected {found[0][1]} over {found[0][0]:g} "
                f"as in {maps[0].path.name}; run images of other sizes on their own"
            )
    return found[0]


def _geometry(one: KappaMap, pixel_scale_arcmin: float | None) -> tuple[float, int]:
    header: Mapping[str, Any] = one.attrs
    rows, columns = int(header["NAXIS2"]), int(header["NAXIS1"])
    if rows != columns:
        raise BadInput(f"{one.path}: found {rows} x {columns} pixels, expected a square image; cut it")
    if "ANGLE" in header:
        return float(header["ANGLE"]), rows
    if "CDELT1" in header:
        return abs(float(header["CDELT1"])) * rows, rows
    if pixel_scale_arcmin is None:
        raise BadInput(f"{one.path}: found neither ANGLE nor CDELT1, expected one; or give --pixel-scale-arcmin")
    return pixel_scale_arcmin * rows / 60, rows
