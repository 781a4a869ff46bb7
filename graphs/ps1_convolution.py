"""PS1 convolution: skycells stitched into projection images and blurred to the resolution of TESS."""

from pathlib import Path

import xarray as xr
from dask.delayed import Delayed

from lensflow.ps1.blur import convolve
from lensflow.ps1.ccd import with_ccds
from lensflow.ps1.export import export
from lensflow.ps1.inventory import Plan
from lensflow.ps1.mosaic import stitched_pieces
from lensflow.ps1.options import Options, inputs
from lensflow.ps1.outlines import outlined
from lensflow.ps1.outputs import projection_node, tree
from lensflow.ps1.picture import before_after, picture
from lensflow.ps1.removed import GROUP
from lensflow.ps1.simulate import simulate
from lensflow.ps1.wholecells import cleaned_pieces, star_catalogue
from lensflow.signature import takes

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
    made = tree(nodes, inventory=inventory, plans=plans, options=chosen.record())
    return with_ccds(made, chosen.selection, geometry=chosen.geometry, source=source)


def _projection(plan: Plan, options: Options, stars: Delayed | None) -> dict[str, xr.Dataset]:
    if options.whole_cells(plan):  # background, stars: a task a skycell, which pieces are stitched of
        pieces, table = cleaned_pieces(plan.layout, options.cleaning, stars, origin=options.origin)
    else:  # linearised, combined, pasted by ownership: pieces read the rows that they need
        pieces, table = stitched_pieces(plan.layout, origin=options.origin), None
    blurred = convolve(pieces, plan.layout, **options.kernel)
    name = f"{plan.layout.projection.number:04d}"
    nodes = {name: outlined(projection_node(blurred, plan), plan)}
    return nodes | ({} if table is None else {f"{name}/{GROUP}": table})
