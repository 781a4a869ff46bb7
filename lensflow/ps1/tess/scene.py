"""A simulated sky as a camera with the pixels of TESS sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.special import ndtr

from lensflow.ps1.bands import WEIGHTS
from lensflow.ps1.render import FWHM, SCALE_LENGTH

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lensflow.ps1.skymodel import Scene
    from lensflow.ps1.tess.wcs import TanSip

    Floats = NDArray[np.float64]

PSF = 15.0  # arcsec, sigma of TESS in these simulations: 60 px of Pan-STARRS
READ_NOISE = 10.0  # counts/s in a pixel, AB zero point 25
MARGIN = 10.0  # px round the image within which objects shed light on it
AT_ONCE = 1024  # objects


def tess_pixels(scene: Scene, image: TanSip, *, step: float, seed: int | None) -> NDArray[np.float32]:
    """Return the image of a sky in the band that Pan-STARRS is combined to: round Gaussians, summed over pixels.

    Parameters
    ----------
    scene
        The sky.
    image
        The camera: its WCS and shape.
    step
        Pixels of the sky survey, arcsec: sizes of the scene are in them.
    seed
        Of the noise; None for none.

    Returns
    -------
    NDArray
        (y, x) counts/s, AB zero point 25, the sky subtracted.
    """
    objects = _objects(scene)
    x, y = _places(objects, image)
    scale = np.sqrt(abs(np.linalg.det(_cd(image)))) * 3600  # arcsec a pixel
    sigma = np.hypot(PSF, objects["size"].to_numpy() * step) / scale
    flux = objects["flux"].to_numpy()
    rows, columns = image.shape
    pixels = np.zeros(image.shape)
    near = np.flatnonzero(np.isfinite(x))
    for start in range(0, near.size, AT_ONCE):
        some = near[start : start + AT_ONCE]
        down, across = (
            _shares(place[some], sigma[some], size) for place, size in zip((y, x), (rows, columns), strict=True)
        )
        pixels += (flux[some, None] * down).T @ across
    if seed is not None:
        pixels += np.random.default_rng(seed).normal(0, READ_NOISE, pixels.shape)
    return pixels.astype(np.float32)


def _objects(scene: Scene) -> pd.DataFrame:
    """Return ra, dec, flux (counts/s, all bands) and size (px, one sigma before the optics of TESS)."""
    stars = scene.stars.assign(size=FWHM / np.sqrt(8 * np.log(2)))
    # of an exponential disc of scale length h: the mean of x^2 is 3 h^2, and q^2 of that across
    squash = (1 + scene.galaxies["axis_ratio"] ** 2) / 2
    galaxies = scene.galaxies.assign(size=np.sqrt(3 * squash) * SCALE_LENGTH * scene.galaxies["r_e"])
    objects = pd.concat([stars, galaxies], ignore_index=True)
    return objects.assign(flux=sum(weight * objects[f"flux_{band}"] for band, weight in WEIGHTS.items()))


def _places(objects: pd.DataFrame, image: TanSip) -> tuple[Floats, Floats]:
    """Return pixels (x, y) of the image, NaN where an object is far from it."""
    ra, dec = (np.deg2rad(objects[key].to_numpy(np.float64)) for key in ("ra", "dec"))
    direction = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    u, v, w = np.linalg.inv(image.matrix) @ direction
    w = np.where(w > 0, w, np.nan)  # the other half of the sky
    return image.distorted(u / w, v / w, reach=image.reach(MARGIN), margin=MARGIN)


def _cd(image: TanSip) -> Floats:
    return np.array([[float(image.keys[f"CD{i}_{j}"]) for j in (1, 2)] for i in (1, 2)])


def _shares(place: Floats, sigma: Floats, size: int) -> Floats:
    """Return which part of a Gaussian falls on each pixel along one axis, (object, pixel)."""
    edges = np.arange(size + 1) - 0.5
    below: Floats = ndtr((edges - place[:, None]) / sigma[:, None])
    return np.diff(below, axis=1)
