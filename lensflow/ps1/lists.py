"""The lists beside simulated skycells: the cells of a TESS CCD, and the stars of Gaia on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lensflow.ps1.tessellation import Projection, Skycell

CENSUS = 20.7  # mag in G, the limit of the Gaia catalogue


def write_selection(path: Path, cells: Sequence[tuple[Projection, Skycell]]) -> None:
    """Write the master list of the cells of a TESS CCD."""
    rows = [
        {
            "NAME": str(cell),
            "projection": cell.projection,
            "y": cell.y,
            "x": cell.x,
            "NAXIS1": grid.width,
            "NAXIS2": grid.height,
            "CRPIX1": grid.cell_crpix(cell.y, cell.x)[0],
            "CRPIX2": grid.cell_crpix(cell.y, cell.x)[1],
            "CRVAL1": grid.ra,
            "CRVAL2": grid.dec,
        }
        for grid, cell in cells
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(path, index=False)


def write_catalogue(path: Path, stars: pd.DataFrame) -> None:
    """Write the stars that Gaia sees: G up to 20.7."""
    columns = ["source_id", "ra", "dec", *(f"phot_{band}_mean_mag" for band in ("g", "bp", "rp"))]
    path.parent.mkdir(parents=True, exist_ok=True)
    stars.loc[stars["phot_g_mean_mag"] < CENSUS, columns].to_csv(path, index=False)
