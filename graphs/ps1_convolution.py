"""PS1 convolution: skycells stitched into projection images and blurred to the resolution of TESS."""

from pathlib import Path
from typing import Literal

import xarray as xr

from lensflow.ps1.blur import convolve
from lensflow.ps1.export import export
from lensflow.ps1.inventory import Plan
from lensflow.ps1.mosaic import projection_image
from lensflow.ps1.options import Options, inputs
from lensflow.ps1.outputs import projection_node, tree
from lensflow.ps1.picture import before_after, picture
from lensflow.ps1.simulate import simulate

__all__ = ["DEMO", "before_after", "export", "graph", "inputs", "picture", "simulate"]

DEMO = {  # 3 x 4 cells, as the list of a CCD names them; one is missing
    "simulate": {"projection": 2246, "scale": 20, "seed": 7, "stars": 150, "drop": ("skycell.2246.045",)},
    "graph": {"selection": ("20/3/3",), "scale": 20},
}


def graph(
    source: Path,
    *,
    projection: int | None = None,
    selection: tuple[str, ...] = (),
    bands: tuple[str, ...] = ("r", "i", "z", "y"),
    weights: tuple[float, ...] | None = None,
    missing: Literal["renormalise", "skip", "fail"] = "renormalise",
    invalid_bits: int = 0,
    sigma: float = 60.0,
    radius: int | None = None,
    nan: Literal["normalise", "zero"] = "normalise",
    min_coverage: float = 0.2,
    uncertainty: bool = False,
    on_missing: Literal["record", "fail"] = "record",
    on_corrupt: Literal["mask", "fail"] = "mask",
    edge: int | None = None,
    split: int | None = None,
    halo_cells: bool = True,
    fill: Literal["nearest", "none"] = "nearest",
    pad: int | None = None,
    columns_per_block: int | None = None,
    origin: bool = False,
    scale: int = 1,
) -> xr.DataTree:
    """Stitch PS1 skycells into images of their projections and convolve them with a Gaussian.

    Parameters
    ----------
    source
        Folder of skycells: raw FITS files of the archive, linear or asinh-scaled cutouts, or a Zarr v3 store.
    projection
        Only this projection (487..2643); all by default.
    selection
        Names of skycells, projections, lists (.csv), sector/camera/ccd or images (.fits) of TESS CCDs; all by default.
    bands
        Bands to combine.
    weights
        Weight of each band; .238, .344, .283, .135 for r, i, z, y by default.
    missing
        If a band of a pixel is missing: scale up the others, skip it (which dims the pixel), or fail.
    invalid_bits
        Mask bits (a sum) that turn a pixel of a band to NaN before combining; 8575 is useful.
    sigma
        Width of the Gaussian in px of 0.25", 1..200.
    radius
        Radius of the kernel in px of 0.25", at most 480; 470 by default.
    nan
        Divide by the coverage, or take NaN as zero.
    min_coverage
        Flux is NaN where less of the kernel than this falls on valid pixels.
    uncertainty
        Also make the standard deviation of the flux from the weight images.
    on_missing
        A selected cell that is absent is recorded as a hole, or an error.
    on_corrupt
        A damaged file is masked and noted, or an error.
    edge
        Unused pixels of 0.25" at the edges of a cell; 10 by default.
    split
        Pixels of 0.25" from the start of an overlap to the border of ownership; 240, the middle, by default.
    halo_cells
        Whether unselected cells next to selected ones serve beyond their edges.
    fill
        Where no cell of a projection reaches: the nearest other projection of the source that does, or nothing.
    pad
        Pixels of 0.25" beyond the selected cells that are filled, not less than the radius; 480 by default.
    columns_per_block
        Width of blocks in cells, if whole rows do not fit the memory; cells at a border are then read twice.
    origin
        Also store where each pixel comes from.
    scale
        Pixels of the source are this many times 0.25" wide (simulated small skies); a divisor of 240.

    Returns
    -------
    xr.DataTree
        A node a projection: flux (y, x) f4 in counts/s, mask u2, coverage f4; uncertainty f4, origin u1 if asked for.

    Raises
    ------
    BadInput, BadOption
        If the source is absent, empty or contradicts the tessellation; if an option is out of range.
    """
    options = Options.from_keywords(**{key: value for key, value in locals().items() if key != "source"})
    inventory, plans = options.plan(source)
    nodes = {plan.layout.projection.number: _projection(plan, options) for plan in plans}
    return tree(nodes, inventory=inventory, plans=plans, options=options.record())


def _projection(plan: Plan, options: Options) -> xr.Dataset:
    image = projection_image(plan.layout, origin=options.origin)  # linearised, combined, pasted by ownership
    sigma, radius = options.sigma_px, options.radius_px
    blurred = convolve(image, sigma=sigma, radius=radius, nan=options.nan, min_coverage=options.min_coverage)
    return projection_node(image, blurred, plan)
