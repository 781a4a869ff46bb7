"""What a FastPM light-cone mesh says of itself: its blocks of rows, its slices and its cosmology."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lensflow import events
from lensflow.errors import BadInput
from lensflow.lensing.cosmology import CRITICAL, Cosmology
from lensflow.lensing.mesh.bigfile import Block, open_block, read_attrs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

PixelOrder = Literal["nest", "ring"]
ID_TYPES, MASS_TYPES = ("<i8", "<u8"), ("<f4", "<f8")
SEED = re.compile(r"\brandom_seed\s*=\s*(\d+)")
SEED_IN_PATH = re.compile(r"_s(\d+)")
DARK_ENERGY = re.compile(r"\bw(?:0|a)(?:_fld)?\s*=\s*[-+.\d]+")
LUA_COMMENT = re.compile(r"--.*")
MEAN_DENSITY_TOLERANCE = 1e-6
NSIDE_MOST = 1 << 20  # IDs of a thousand slices then fit 63 bits


@dataclass(frozen=True)
class UsMesh:
    """A mesh, opened by its headers.

    Parameters
    ----------
    path, dataset
        The BigFile, and the name of its block of maps.
    ids, mass
        The columns: slice*npix + pixel, and mass in 1e10 Msun/h.
    nside, nslices
        Resolution, and number of slices in scale factor.
    edges
        The nslices + 1 edges of the slices.
    offsets
        Where an index of the writer says that slices begin, None without one; wrong once slices straddle batches.
    scheme
        Pixel order as the writer states it, which is wrong.
    cosmology
        The background.
    box_size, particles
        Side of the box in Mpc/h, and particles along it.
    rhobar
        Mean density of the simulation in 1e10 Msun/h / (Mpc/h)^3.
    seed
        Of the simulation; None if nobody says.
    digest
        SHA-256 of the headers.
    """

    path: Path
    dataset: str
    ids: Block
    mass: Block
    nside: int
    nslices: int
    edges: tuple[float, ...]
    offsets: NDArray[np.int64] | None
    scheme: str
    cosmology: Cosmology
    box_size: float
    particles: int
    rhobar: float
    seed: int | None
    digest: str

    @property
    def npix(self) -> int:
        """Pixels of a sheet."""
        return 12 * self.nside**2


def open_usmesh(
    path: str | Path,
    *,
    dataset: str = "HEALPIX",
    cosmology: tuple[float, float, float] | None = None,
    seed: int | None = None,
) -> UsMesh:
    """Open a mesh by its headers, and hold the sizes of its parts against them.

    Parameters
    ----------
    path
        The BigFile.
    dataset
        Block of the maps; ``HEALPIX/<species>`` in files of several species.
    cosmology
        OmegaM, OmegaLambda and h instead of those of the Header.
    seed
        Of the simulation, instead of that in the ParamFile or the path.

    Raises
    ------
    BadInput
        If a block or a part is missing or not as long as its header says, or headers contradict each other.
    """
    path = Path(path)
    header, maps = path / "Header", path / dataset
    if not (header / "attr-v2").is_file():
        raise BadInput(f"{header}: found no attributes, expected the Header of a FastPM file; check the path")
    run, about = read_attrs(header / "attr-v2"), read_attrs(maps / "attr-v2")
    ids, mass = (_column(maps / name, types) for name, types in (("ID", ID_TYPES), ("Mass", MASS_TYPES)))
    _check_lengths(ids, mass)
    nside, edges = _slices(about, maps)
    offsets = about.get("aemitIndex.offset")
    return UsMesh(
        path=path,
        dataset=dataset,
        ids=ids,
        mass=mass,
        nside=nside,
        nslices=len(edges) - 1,
        edges=edges,
        offsets=None if offsets is None else np.atleast_1d(offsets).astype(np.int64),
        scheme=str(about.get("healpix.scheme", "")).strip().upper(),
        cosmology=Cosmology(*(cosmology or (_number(run, name, header) for name in COSMOLOGY))),
        box_size=_number(run, "BoxSize", header),
        particles=int(_number(run, "NC", header)),
        rhobar=_mean_density(run, header),
        seed=_seed(run, path, seed),
        digest=_digest([header / "attr-v2", maps / "attr-v2", ids.path / "header", mass.path / "header"]),
    )


COSMOLOGY = ("OmegaM", "OmegaLambda", "HubbleParam")


def _column(path: Path, types: tuple[str, ...]) -> Block:
    block = open_block(path)
    if block.members != 1 or block.dtype.newbyteorder("<").str not in types:
        raise BadInput(
            f"{path}/header: found {block.members} x {block.dtype}, expected one {' or '.join(types)} a record"
        )
    block.check_sizes()
    return block


def _check_lengths(ids: Block, mass: Block) -> None:
    if [part.rows for part in ids.parts] != [part.rows for part in mass.parts]:
        raise BadInput(
            f"{mass.path}: found {mass.rows} rows in {len(mass.parts)} parts, expected {ids.rows} in {len(ids.parts)}, "
            "part by part as long as those of ID; copy the blocks again"
        )


def _number(attrs: Mapping[str, Any], name: str, path: Path) -> float:
    value = attrs.get(name)
    if not isinstance(value, int | float) or not np.isfinite(value):
        raise BadInput(f"{path}: {name}: found {'nothing' if value is None else repr(value)}, expected a number")
    return float(value)


def _slices(about: Mapping[str, Any], path: Path) -> tuple[int, tuple[float, ...]]:
    """Return nside and the edges of the slices."""
    nside = int(_number(about, "healpix.nside", path))
    if not (0 < nside <= NSIDE_MOST and nside & (nside - 1) == 0):
        raise BadInput(f"{path}: healpix.nside: found {nside}, expected a power of two")
    npix = int(_number(about, "healpix.npix", path)) if "healpix.npix" in about else 12 * nside**2
    if npix != 12 * nside**2:
        raise BadInput(f"{path}: healpix.npix: found {npix}, expected {12 * nside**2} for healpix.nside {nside}")
    if "aemitIndex.edges" not in about:
        raise BadInput(f"{path}: aemitIndex.edges: found nothing, expected the scale factors between slices")
    edges = np.atleast_1d(np.asarray(about["aemitIndex.edges"], np.float64))
    count = int(about.get("healpix.nslices", len(edges) - 1))
    if count < 1 or len(edges) != count + 1 or not (np.diff(edges) > 0).all() or not 0 <= edges[0] < edges[-1] <= 1:
        raise BadInput(
            f"{path}: aemitIndex.edges: found {len(edges)} edges from {edges[0]:g} to {edges[-1]:g}, expected "
            f"{count + 1}, increasing from 0 to 1"
        )
    return nside, tuple(edges.tolist())


def _mean_density(run: Mapping[str, Any], path: Path) -> float:
    """Return the mean density of cold dark matter, the second of the masses of particles."""
    masses = np.atleast_1d(np.asarray(run.get("MassTable", ()), np.float64))
    if len(masses) < 2 or not masses[1] > 0:
        raise BadInput(f"{path}: MassTable: found {masses.tolist()}, expected the mass of a particle in the second")
    return float(masses[1] * (_number(run, "NC", path) / _number(run, "BoxSize", path)) ** 3)


def _seed(run: Mapping[str, Any], path: Path, given: int | None) -> int | None:
    found = SEED.search(LUA_COMMENT.sub("", str(run.get("ParamFile", "")))) or SEED_IN_PATH.search(str(path))
    return given if given is not None else int(found[1]) if found else None


def _digest(paths: list[Path]) -> str:
    total = hashlib.sha256()
    for path in paths:
        total.update(path.read_bytes() if path.exists() else b"")
    return total.hexdigest()


def note_doubts(mesh: UsMesh, *, pixel_order: PixelOrder) -> None:
    """Say what in the headers of a mesh a user must hear of."""
    run = read_attrs(mesh.path / "Header" / "attr-v2")
    if mesh.scheme == "RING" and pixel_order == "nest":
        message = f"{mesh.path / mesh.dataset}: healpix.scheme says RING, as FastPM writes it; its pixels are NESTED"
        events.note("pixel-order", message, file=str(mesh.path))
    expected = CRITICAL * mesh.cosmology.omega_m
    if abs(mesh.rhobar / expected - 1) > MEAN_DENSITY_TOLERANCE:
        message = (
            f"{mesh.path}/Header: the mean density of MassTable is {mesh.rhobar:.8g}, that of OmegaM {expected:.8g}: "
            "overdensities are relative to the former"
        )
        events.note("mean-density", message, file=str(mesh.path))
    masses = np.atleast_1d(np.asarray(run["MassTable"], np.float64))
    if masses[0] != 0 or (len(masses) > 2 and masses[2] != 0):
        message = f"{mesh.path}/Header: MassTable has particles beside cold dark matter: overdensities are of it alone"
        events.note("other-species", message, file=str(mesh.path))
    dark = DARK_ENERGY.search(LUA_COMMENT.sub("", str(run.get("ParamFile", ""))))
    if dark:
        message = f"{mesh.path}/Header: ParamFile has {dark[0]!r}: distances are those of a cosmological constant"
        events.note("dark-energy", message, file=str(mesh.path))
    if mesh.seed is None:
        message = f"{mesh.path}: neither ParamFile nor path names a random seed; give the option seed"
        events.note("no-seed", message, file=str(mesh.path))
