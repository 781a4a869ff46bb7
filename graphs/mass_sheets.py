"""Mass sheets: the light-cone mesh of a FastPM simulation as HEALPix maps of overdensity, one a shell."""

from pathlib import Path
from typing import Literal

import xarray as xr

from lensflow.lensing.mesh.simulate_usmesh import simulate_usmesh as simulate
from lensflow.lensing.mesh.usmesh import open_usmesh
from lensflow.lensing.pictures.picture_maps import picture_sheets as picture
from lensflow.lensing.sheets.sheet_export import export
from lensflow.lensing.sheets.sheet_options import PIXELS, SheetOptions
from lensflow.lensing.sheets.sheet_outputs import sheet_tree

__all__ = ["DEMO", "export", "graph", "inputs", "picture", "simulate"]

DEMO = {
    "simulate": {"nside": 64, "slices": (40, 60), "seed": 7},
    "graph": {"sheet_range": (40, 60)},
}


def graph(
    usmesh: Path,
    *,
    sheet_range: tuple[int, int] = (20, 100),
    chunk_size: int = 4_194_304,
    validation_level: Literal["strict", "lenient", "off"] = "strict",
    dataset: str = "HEALPIX",
    pixel_order: Literal["nest", "ring"] = "nest",
    plan: Literal["auto", "scan"] = "auto",
    cosmology: tuple[float, float, float] | None = None,
    seed: int | None = None,
    pixels_per_block: int = PIXELS,
) -> xr.DataTree:
    """Add up the rows of a light-cone mesh in the pixels of its shells, relative to the mean of the simulation.

    Parameters
    ----------
    usmesh
        The BigFile of the mesh, which holds Header and HEALPIX.
    sheet_range
        The first slice in scale factor, and one past the last.
    chunk_size
        Rows that a task reads at a time.
    validation_level
        ``strict``: bytes are held against their sums, bad rows are errors; ``lenient``: sheets with bad rows are
        quarantined; ``off``: bad rows are left out and noted.
    dataset
        Block of the maps, such as HEALPIX/1 in files of several species.
    pixel_order
        Of the pixels in the IDs, whatever healpix.scheme says.
    plan
        ``scan`` reads all rows to find those of each sheet; ``auto`` only where a few show that they are unsorted.
    cosmology
        OmegaM, OmegaLambda and h; those of the Header by default.
    seed
        Of the simulation; that of its ParamFile, or _sNNN in its path, by default.
    pixels_per_block
        Pixels of a block, a power of 4.

    Returns
    -------
    xr.DataTree
        delta (sheet, pixel) f4, NESTED; of each sheet its scale factors, redshift, distances in Mpc/h, counts of
        rows, sums and moments, status 1 if it is quarantined. Node ``parts``, if strict: which parts were verified.

    Raises
    ------
    BadInput, BadOption
        If the mesh is damaged or has no such slices; if an option is out of range.
    """
    options = SheetOptions(
        sheet_range=sheet_range,
        chunk_size=chunk_size,
        validation_level=validation_level,
        dataset=dataset,
        pixel_order=pixel_order,
        plan=plan,
        cosmology=cosmology,
        seed=seed,
        pixels_per_block=pixels_per_block,
    )
    return sheet_tree(open_usmesh(usmesh, dataset=dataset, cosmology=cosmology, seed=seed), options)


def inputs(usmesh: Path, *, dataset: str = "HEALPIX", **_: object) -> list[Path]:
    """List what the graph reads, for fingerprints."""
    maps = Path(usmesh) / dataset
    return [Path(usmesh) / "Header", maps / "attr-v2", maps / "ID", maps / "Mass"]
