"""TESS templates: convolved Pan-STARRS projections summed into the pixels of a TESS image."""

from pathlib import Path
from typing import Literal

import xarray as xr

from lensflow.ps1.tess.export import export
from lensflow.ps1.tess.image import read_tess
from lensflow.ps1.tess.outputs import templates
from lensflow.ps1.tess.picture import picture
from lensflow.ps1.tess.simulate import simulate
from lensflow.ps1.tess.sources import open_sources
from lensflow.ps1.tess.templates import Layout, check_overlap, parse_offsets

__all__ = ["export", "graph", "inputs", "picture", "simulate"]


def graph(
    source: Path,
    tess: Path,
    *,
    offsets: tuple[str | tuple[float, float], ...] = ((0.0, 0.0),),
    assign: Literal["centre", "area"] = "centre",
    ignore_bits: int = 4096,
    oversample: int = 1,
    rows_per_block: int | None = None,
) -> xr.Dataset:
    """Sum convolved Pan-STARRS projections into the pixels of a TESS image: templates for difference imaging.

    A TESS pixel is made of one projection: the one with the nearest tangent point among those whose usable cells hold
    all its corners. Each Pan-STARRS pixel is placed by itself, with the WCS and the distortion of the TESS image.

    Parameters
    ----------
    source
        Store of a run of ps1_convolution.
    tess
        FITS file of a TESS full-frame image, or the text of its header: TAN-SIP WCS and shape.
    offsets
        A template for each: the scene is moved by dx/dy TESS pixels, such as 0/0,0.3/-0.4.
    assign
        A Pan-STARRS pixel belongs to the TESS pixel that holds its centre, or is split by area.
    ignore_bits
        Mask bits (a sum) of pixels that are counted and not summed; 4096 is STARCORE.
    oversample
        Divide TESS pixels n x n.
    rows_per_block
        TESS rows of a block; 128 by default, fewer where pixels are divided.

    Returns
    -------
    xr.Dataset
        FLUX_SUM (offset, y, x) f4 in counts/s, NaN where no projection holds the pixel; COUNT, MASK and USED: pixels
        assigned, assigned with any mask bit, and summed, i4 (f4 if split by area).

    Raises
    ------
    BadInput, BadOption
        If the store or the header is not what it should be, or they do not overlap; if an option is out of range.
    """
    image, ccd = read_tess(tess)
    layout = Layout(
        image=image,
        sources=open_sources(source),
        offsets=parse_offsets(offsets),
        assign=assign,
        ignore_bits=ignore_bits,
        oversample=oversample,
        rows=rows_per_block,
    )
    check_overlap(layout, source)
    return templates(layout, ccd)


def inputs(source: Path, tess: Path, **_: object) -> list[Path]:
    """List what the graph reads, for fingerprints."""
    return [source, tess]
