"""Input for templates with a known truth: skycells of a simulated sky, and the TESS image that looks at it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits

from lensflow.errors import BadOption
from lensflow.ps1.ccd import ccd_cells
from lensflow.ps1.simulate import simulate as simulate_cells
from lensflow.ps1.tess.image import tan_sip
from lensflow.ps1.tess.scene import tess_pixels
from lensflow.ps1.tessellation import Geometry, grid_to_sky

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lensflow.ps1.tessellation import Projection
    from lensflow.ps1.truth import Truth

PIXEL = 20.4  # arcsec, of TESS near the middle of a CCD
HALF = 1044.0  # px, half a CCD
# SIP terms of the size that TESS has, at that half width
_SIP = {"A_2_0": 2.0e-5, "A_1_1": 1.4e-5, "A_0_2": 3.3e-6, "B_2_0": 3.0e-6, "B_1_1": 1.7e-5, "B_0_2": 1.9e-5}
_SIP |= {"A_3_0": -4.0e-10, "A_1_2": -5.0e-10, "B_0_3": -4.5e-10, "B_2_1": -3.5e-10}


@dataclass(frozen=True)
class SimulatedTess:
    """What was written: the TESS image, the skycells, and their truth."""

    tess: Path
    source: Path
    truth: Truth

    def __str__(self) -> str:
        return f"{self.tess}, and {self.truth}"

    __repr__ = __str__  # for notebooks, as that of the truth


def simulate(
    out: Path,
    *,
    projection: int = 2246,
    rows: tuple[int, int] = (3, 6),
    columns: tuple[int, int] = (3, 7),
    centre: tuple[float, float] | None = None,
    scale: int = 20,
    seed: int = 0,
    stars: int | None = None,
    galaxies: int | None = None,
    noise: bool = True,
    shape: tuple[int, int] = (120, 160),
    rotation: float = 25.0,
    pixel: float = PIXEL,
    sector: int = 20,
    camera: int = 3,
    ccd: int = 3,
) -> SimulatedTess:
    """Write skycells as ps1_convolution reads them, and the image of a small TESS CCD in the middle of them.

    The image shows the same sky: in the band that the skycells are combined to, its background subtracted.
    Run ps1_convolution on OUT/skycells with the same scale; its store and OUT/tess...ffic.fits are the input here.

    Parameters
    ----------
    out
        Folder to write.
    projection
        Of the skycells.
    rows
        Of skycells: first, and one past the last.
    columns
        Of skycells: first, and one past the last.
    centre
        RA and Dec in degrees of the middle of the TESS image: then the skycells under it are written, of all
        projections, and projection, rows and columns have no effect.
    scale
        Divisor of 240 by which skycells are smaller than real ones.
    seed
        Of the sky and of the noise.
    stars
        Mean number a cell; by default 8000/scale.
    galaxies
        Mean number a cell; by default 4000/scale.
    noise
        Photon noise in the skycells, and noise in the TESS image.
    shape
        Rows and columns of the TESS image.
    rotation
        Of its rows against west, degrees.
    pixel
        Of TESS, arcsec.
    sector
        Of TESS.
    camera
        Of TESS.
    ccd
        Of TESS.
    """
    out = Path(out)
    geometry = Geometry(scale)
    middle = _middle(geometry.projection(projection), rows, columns) if centre is None else centre
    header = tess_header(middle, shape=shape, rotation=rotation, pixel=pixel)
    path = out / f"tess2019357164649-s{sector:04d}-{camera}-{ccd}-0165-s_ffic.fits"
    place = {"SECTOR": sector, "CAMERA": camera, "CCD": ccd, "TELESCOP": "TESS"}
    cells: tuple[str, ...] = ()
    if centre is not None:
        _write(path, np.zeros(shape, np.float32), place, header)  # for its outline
        cells = ccd_cells(str(path), geometry)
    truth = simulate_cells(
        out / "skycells",
        cells,
        projection=projection,
        rows=rows,
        columns=columns,
        scale=scale,
        seed=seed,
        stars=stars,
        galaxies=galaxies,
        noise=noise,
        sector=sector,
        camera=camera,
        ccd=ccd,
    )
    camera_image = tan_sip(header, "simulated header")
    step = geometry.pixel_scale * 3600
    _write(path, tess_pixels(truth.sky.scene, camera_image, step=step, seed=seed if noise else None), place, header)
    return SimulatedTess(path, truth.source, truth)


def _middle(grid: Projection, rows: tuple[int, int], columns: tuple[int, int]) -> tuple[float, float]:
    """Return RA and Dec of the middle of a rectangle of skycells."""
    y0, x0 = grid.cell_origin(rows[0], columns[0])
    y1, x1 = grid.cell_origin(rows[1] - 1, columns[1] - 1)
    ra, dec = grid_to_sky(grid, (x0 + x1 + grid.width - 1) / 2, (y0 + y1 + grid.height - 1) / 2)
    return float(ra), float(dec)


def _write(path: Path, pixels: NDArray[np.float32], place: dict[str, Any], header: fits.Header) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    hdus = [fits.PrimaryHDU(header=fits.Header(place)), fits.ImageHDU(pixels, header=header)]
    fits.HDUList(hdus).writeto(path, overwrite=True)


def tess_header(
    centre: tuple[float, float],
    *,
    shape: tuple[int, int],
    rotation: float = 25.0,
    pixel: float = PIXEL,
    sip: bool = True,
) -> fits.Header:
    """Return the header of a TESS image: TAN-SIP, as distorted at its corners as a real one.

    Parameters
    ----------
    centre
        RA and Dec in degrees.
    shape
        Rows and columns.
    rotation
        Degrees.
    pixel
        Arcsec.
    sip
        Whether there is a distortion.

    Raises
    ------
    BadOption
        If the shape or the pixel is not positive.
    """
    if min(shape) < 1 or pixel <= 0:
        raise BadOption(f"shape, pixel: found {shape}, {pixel}, expected sizes above 0")
    step, turn = pixel / 3600, np.deg2rad(rotation)
    rows, columns = shape
    keys: dict[str, Any] = {"NAXIS": 2, "NAXIS1": columns, "NAXIS2": rows}
    keys |= {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "CUNIT1": "deg", "CUNIT2": "deg"}
    keys |= {"CRVAL1": centre[0], "CRVAL2": centre[1], "CRPIX1": columns / 2 + 1, "CRPIX2": rows / 2 - 2}
    keys |= {"CD1_1": -step * np.cos(turn), "CD1_2": step * np.sin(turn)}
    keys |= {"CD2_1": step * np.sin(turn), "CD2_2": step * np.cos(turn)}
    keys |= {"RADESYS": "ICRS", "EQUINOX": 2000.0}
    if sip:
        keys |= {"A_ORDER": 3, "B_ORDER": 3}
        stronger = HALF / (max(shape) / 2)  # a smaller image has to bend more to be as distorted
        for key, value in _SIP.items():
            keys[key] = value * stronger ** (int(key[2]) + int(key[4]) - 1)
    else:
        keys |= {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"}
    header = fits.Header(
        {key: float(value) if isinstance(value, np.floating) else value for key, value in keys.items()}
    )
    tan_sip(header, "simulated header")
    return header
