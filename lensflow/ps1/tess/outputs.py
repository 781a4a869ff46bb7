"""Templates as they are stored: variables, coordinates, attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
import xarray as xr

from lensflow.ps1.bands import ZERO_POINT
from lensflow.ps1.tess.image import refined
from lensflow.ps1.tess.templates import bin_block

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lensflow.ps1.tess.image import Ccd
    from lensflow.ps1.tess.templates import Layout

TEMPLATES = "tess_templates/1"  # the schema

_ABOUT: dict[str, dict[str, str]] = {
    "FLUX_SUM": {"units": "counts/s", "long_name": "sum of the flux of the pixels that are used, AB zero point 25"},
    "COUNT": {"units": "1", "long_name": "Pan-STARRS pixels assigned"},
    "MASK": {"units": "1", "long_name": "Pan-STARRS pixels assigned that have a mask bit"},
    "USED": {"units": "1", "long_name": "Pan-STARRS pixels summed: finite, and without a bit to ignore"},
}


def templates(layout: Layout, ccd: Ccd) -> xr.Dataset:
    """Return the templates of all offsets, lazily.

    Parameters
    ----------
    layout
        What to sum, and how.
    ccd
        Which CCD the image is of.

    Returns
    -------
    xr.Dataset
        ``FLUX_SUM`` (offset, y, x) f4, NaN where ``COUNT`` is 0; ``COUNT``, ``MASK``, ``USED`` i4, or f4 for parts of
        pixels; one chunk a block of rows. y and x are pixels of the TESS image, fractions where they are divided.
    """
    packed = np.dtype(list(layout.dtypes.items()))  # a field for each, so that a plan knows how large a block is
    with dask.annotate(workspace=layout.workspace):
        blocks = da.map_blocks(bin_block, layout, chunks=layout.chunks, dtype=packed, meta=np.empty((0, 0, 0), packed))
    made = xr.Dataset(
        {name: (("offset", "y", "x"), _picked(blocks, place)) for place, name in enumerate(layout.dtypes)},
        coords=_coords(layout),
        attrs=_attrs(layout, ccd),
    )
    _, down, across = layout.chunks
    for name, values in made.data_vars.items():
        values.attrs = dict(_ABOUT[str(name)])
        values.encoding = {"chunks": (1, down[0], across[0]), "fill_value": np.nan if name == "FLUX_SUM" else 0}
    return made


def _picked(blocks: da.Array, place: int) -> da.Array:
    dtype = blocks.dtype[place]
    return da.map_blocks(_pick, blocks, place=place, dtype=dtype, meta=np.empty((0, 0, 0), dtype))


def _pick(block: tuple[NDArray[Any], ...], *, place: int) -> NDArray[Any]:
    return block[place]


def _coords(layout: Layout) -> dict[str, Any]:
    n = layout.oversample
    coords: dict[str, Any] = {}
    for axis, size in zip(("y", "x"), layout.image.shape, strict=True):
        place = np.arange(size, dtype=np.int32) if n == 1 else (np.arange(size * n) + 0.5) / n - 0.5
        about = {"units": "px", "long_name": f"pixel {axis} of the TESS image, 0-based"}
        coords[axis] = (axis, place, about)
    for name, values in zip(("dx", "dy"), zip(*layout.offsets, strict=True), strict=True):
        about = {"units": "px", "long_name": f"the scene is moved by {name}, in TESS pixels"}
        coords[name] = ("offset", np.array(values, np.float64), about)
    return coords


def _attrs(layout: Layout, ccd: Ccd) -> dict[str, Any]:
    attrs: dict[str, Any] = {
        "schema": TEMPLATES,
        "wcs": refined(layout.image.keys, layout.oversample),
        "offset": [list(one) for one in layout.offsets],
        "assign": layout.assign,
        "ignore_bits": layout.ignore_bits,
        "oversample": layout.oversample,
        "projections": [source.number for source in layout.sources],
        "zero_point": ZERO_POINT,
    }
    place = {"sector": ccd.sector, "camera": ccd.camera, "ccd": ccd.ccd}
    return attrs | {key: value for key, value in place.items() if value is not None}
