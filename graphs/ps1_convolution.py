"""PS1 convolution: skycells stitched into projection images and blurred to the resolution of TESS."""

from pathlib import Path

import xarray as xr
from dask.delayed import Delayed

from lensflow.ps1.blur import convolve
from lensflow.ps1.export import export
from lensflow.ps1.inventory import Plan
from lensflow.ps1.mosaic import projection_image
from lensflow.ps1.options import Options, inputs
from lensflow.ps1.outputs import projection_node, tree
from lensflow.ps1.picture import before_after, picture
from lensflow.ps1.removed import GROUP as REMOVED
from lensflow.ps1.removed import removed_rows, removed_table
from lensflow.ps1.signature import takes
from lensflow.ps1.simulate import simulate
from lensflow.ps1.wholecells import clean_cells, cleaned_image, star_catalogue

__all__ = ["DEMO", "before_after", "export", "graph", "inputs", "picture", "simulate"]

DEMO = {  # 3 x 4 cells, as the list of a CCD names them; one is missing
    "simulate": {"projection": 2246, "scale": 20, "seed": 7, "stars": 150, "drop": ("skycell.2246.045",)},
    "graph": {"selection": ("20/3/3",), "scale": 20},
}


@takes(Options)
def graph(source: Path, **options: object) -> xr.DataTree:
    """Stitch PS1 skycells into images of their projections and convolve them with a Gaussian.

    Parameters
    ----------
    source
        Folder of skycells: raw FITS files of the archive, linear or asinh-scaled cutouts, or a Zarr v3 store.

    Returns
    -------
    xr.DataTree
        A node a projection: flux (y, x) f4 in counts/s, mask u2, coverage f4; uncertainty f4, origin u1 if asked for.
        Below it ``removed`` (cell, slot), what was removed with the stars.

    Raises
    ------
    BadInput, BadOption
        If the source is absent, empty or contradicts the tessellation; if an option is out of range.
    """
    chosen = Options.from_keywords(**options)
    inventory, plans = chosen.plan(source)
    stars = star_catalogue(chosen.catalogues(source), epoch=chosen.epoch)
    nodes: dict[str, xr.Dataset] = {}
    for plan in plans:
        nodes |= _projection(plan, chosen, stars)
    return tree(nodes, inventory=inventory, plans=plans, options=chosen.record())


def _projection(plan: Plan, options: Options, stars: Delayed | None) -> dict[str, xr.Dataset]:
    layout, rows = plan.layout, {}
    if options.whole_cells(plan):  # background, stars: a task a skycell, which blocks are stitched of
        cells = clean_cells(layout, options.cleaning, stars)
        rows = {} if stars is None else removed_rows(cells)
        image = cleaned_image(layout, cells, uncertainty=options.uncertainty, origin=options.origin, beside=rows)
    else:  # linearised, combined, pasted by ownership: blocks read the rows that they need
        image = projection_image(layout, origin=options.origin)
    sigma, radius = options.sigma_px, options.radius_px
    blurred = convolve(image, sigma=sigma, radius=radius, nan=options.nan, min_coverage=options.min_coverage)
    name = f"{layout.projection.number:04d}"
    nodes = {name: projection_node(image, blurred, plan)}
    return nodes | ({f"{name}/{REMOVED}": removed_table(rows, layout.projection.number)} if rows else {})
