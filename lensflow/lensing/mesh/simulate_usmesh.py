"""Light-cone meshes as FastPM writes them, of shells that are known: input for tests and trials."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import xarray as xr

from lensflow.errors import BadOption
from lensflow.lensing.cosmology import CRITICAL, Cosmology
from lensflow.lensing.mesh.bigfile_write import write_block
from lensflow.lensing.mesh.mesh_batches import Batches, Fault, Rows, harm
from lensflow.lensing.random_fields import Field, draw_field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

SPREAD = 0.2  # rms of delta at a = 1, less before
KNEE = 50.0  # l of the default spectrum A (1 + l/50)^-2
IGNORED = ("1", "LL-0.200", "RFOF")  # blocks of particles and halos beside the maps


@dataclass(frozen=True)
class Universe:
    """A simulation: the cosmology, its box in Mpc/h, and particles along it."""

    cosmology: Cosmology
    box_size: float
    particles: int

    @property
    def particle_mass(self) -> float:
        """Mass of a particle, 1e10 Msun/h."""
        return CRITICAL * self.cosmology.omega_m / self.density

    @property
    def density(self) -> float:
        """Particles a (Mpc/h)^3."""
        return float((self.particles / self.box_size) ** 3)

    def volumes(self, edges: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the volumes of the shells between scale factors, (Mpc/h)^3."""
        chi = self.cosmology.chi(edges)
        return 4 * pi / 3 * (chi[:-1] ** 3 - chi[1:] ** 3)


def simulate_usmesh(
    out: Path,
    *,
    nside: int = 64,
    nslices: int = 100,
    slices: tuple[int, int] = (20, 100),
    NC: int = 512,  # noqa: N803 - as the Header has it
    BoxSize: float = 3750.0,  # noqa: N803 - the same
    cosmology: tuple[float, float, float] = (0.309, 0.691, 0.6774),
    cl: tuple[float, ...] | None = None,
    field: Field = "gaussian",
    poisson: bool = True,
    seed: int = 0,
    batches: int = 12,
    parts: int = 2,
    order: Literal["sorted", "shuffled"] = "sorted",
    quirks: bool = True,
    faults: tuple[Fault, ...] = (),
) -> xr.Dataset:
    """Write a mesh of independent shells, in the very form of FastPM.

    Parameters
    ----------
    out
        BigFile to write.
    nside, nslices
        Resolution of the maps, and slices between a = 0 and 1.
    slices
        The first slice that has rows, and one past the last.
    NC
        Particles along the box.
    BoxSize
        Mpc/h.
    cosmology
        OmegaM, OmegaLambda and h.
    cl
        Power spectrum of delta from l = 0 on, of all shells or of each; by default A (1 + l/50)^-2, rms .2 a.
    field
        Gaussian, clipped at -1, or lognormal.
    poisson
        Whether masses are whole particles.
    seed
        Of everything that is random.
    batches
        Time steps at which rows were appended.
    parts
        Files of each batch, of unequal length.
    order
        Of the rows of a slice.
    quirks
        Batches end inside slices, with 5 % of the pixels in both; rows of no mass, and rows beyond the last slice.
    faults
        What to break in the middle slice: truncated, flipped, negative, nan, id, short.

    Returns
    -------
    xr.Dataset
        What was written: delta (sheet, pixel) f8, NESTED, of the masses in the rows; mass_sum, particles (sheet);
        cl (sheet, ell). Attribute fault_sheet says where faults are.

    Raises
    ------
    BadOption
        If an option is out of range.
    """
    if not 0 <= slices[0] < slices[1] <= nslices:
        raise BadOption(f"slices: found {slices[0]},{slices[1]}, expected first < stop within 0 and {nslices}")
    universe = Universe(Cosmology(*cosmology), BoxSize, NC)
    edges = np.linspace(0, 1, nslices + 1)
    sheets = range(*slices)
    spectra = _spectra(cl, nside, edges[slices[0] + 1 : slices[1] + 1])
    volumes = universe.volumes(edges)[sheets.start : sheets.stop]
    rng = np.random.default_rng(seed)
    layout = Batches(batches, parts, nslices, 12 * nside**2, order, quirks=quirks)
    truth = np.empty((len(sheets), 12 * nside**2))
    rows: list[Rows] = []
    for i, sheet in enumerate(sheets):
        expected = universe.density * volumes[i] / (12 * nside**2)
        number = expected * (1 + draw_field(spectra[i], nside, field=field, rng=rng))
        count = rng.poisson(number).astype(np.float64) if poisson else number
        mine = layout.rows_of(sheet, sheets, count, universe.particle_mass, rng)
        truth[i] = sum(np.bincount(one.pixel, one.mass, 12 * nside**2) for one in mine)
        rows += mine
    _write(Path(out), layout, rows, universe, seed=seed, nside=nside, faults=faults, rng=rng)
    middle = (sheets.start + sheets.stop) // 2
    if {"truncated", "flipped"} & set(faults):
        harm(Path(out) / "HEALPIX", faults, range(middle * 12 * nside**2, (middle + 1) * 12 * nside**2))
    mean = CRITICAL * universe.cosmology.omega_m * volumes / (12 * nside**2)
    return xr.Dataset(
        {
            "delta": (("sheet", "pixel"), truth / mean[:, None] - 1),
            "mass_sum": ("sheet", truth.sum(axis=1)),
            "particles": ("sheet", universe.density * volumes),
            "cl": (("sheet", "ell"), spectra),
        },
        coords={"sheet": np.array(sheets, np.int32)},
        attrs={"nside": nside, "ordering": "NESTED", "seed": seed, "fault_sheet": middle},
    )


def _spectra(cl: ArrayLike | None, nside: int, a: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the power spectrum of each shell."""
    if cl is not None:
        return np.array(np.broadcast_to(np.asarray(cl, np.float64), (len(a), np.shape(cl)[-1])))
    ell = np.arange(3 * nside)
    shape = (1 + ell / KNEE) ** -2.0
    shape[0] = 0
    unit = ((2 * ell + 1) * shape).sum() / (4 * pi)
    spectra: NDArray[np.float64] = SPREAD**2 * a[:, None] ** 2 * shape / unit
    return spectra


def _write(
    out: Path,
    layout: Batches,
    rows: Sequence[Rows],
    universe: Universe,
    *,
    seed: int,
    nside: int,
    faults: tuple[Fault, ...],
    rng: np.random.Generator,
) -> None:
    """Write all blocks."""
    maps = out / "HEALPIX"
    columns, offsets = layout.columns(rows, faults, rng)
    for name, dtype in (("ID", "<i8"), ("Aemit", "<f4"), ("Mass", "<f4"), ("Rmom", "<f4")):
        write_block(maps / name, columns[name], dtype=dtype)
    sizes = np.diff(offsets)
    write_block(
        maps,
        attrs={
            "healpix.nside": nside,
            "healpix.npix": 12 * nside**2,
            "healpix.nslices": layout.nslices,
            "healpix.scheme": "RING",
            "aemitIndex.edges": np.linspace(0, 1, layout.nslices + 1),
            "aemitIndex.size": sizes,
            "aemitIndex.offset": offsets,
        },
    )
    background = universe.cosmology
    mass = np.array([0, universe.particle_mass, 0, 0, 0, 0])
    text = f"-- a light cone\nnc = {universe.particles}\nboxsize = {universe.box_size}\nrandom_seed = {seed}\n"
    write_block(
        out / "Header",
        attrs={
            "NC": universe.particles,
            "BoxSize": universe.box_size,
            "MassTable": mass,
            "OmegaM": background.omega_m,
            "OmegaLambda": background.omega_lambda,
            "HubbleParam": background.h,
            "ParamFile": text,
            "Time": 0.1,
            "ScalingFactor": 0.1,
        },
    )
    for name in IGNORED:
        write_block(out / name / "ID", [np.arange(3)])
