"""Skycells as the archive has them, of a sky that is known: input for tests and trials."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from lensflow.errors import BadOption
from lensflow.ps1.lists import write_catalogue, write_selection
from lensflow.ps1.observe import FitsWriter, Telescope, ZarrWriter, write_cells
from lensflow.ps1.skymodel import BANDS, draw_scene
from lensflow.ps1.tessellation import CELLS, Geometry, Skycell
from lensflow.ps1.truth import Mode, Sky, Truth, grid_of, window_of

if TYPE_CHECKING:
    from collections.abc import Sequence


def simulate(
    out: Path,
    cells: tuple[str, ...] = (),
    *,
    projection: int = 2246,
    rows: tuple[int, int] = (3, 6),
    columns: tuple[int, int] = (3, 7),
    scale: int = 20,
    seed: int = 0,
    format: Literal["fits", "zarr"] = "fits",  # noqa: A002 - the word that everyone looks for
    mode: Literal["sky", "label", "constant", "delta"] = "sky",
    noise: bool = True,
    defects: bool = True,
    weights: bool = True,
    masks: bool = True,
    bands: tuple[str, ...] = ("r", "i", "z", "y"),
    drop: tuple[str, ...] = (),
    stars: int | None = None,
    galaxies: int | None = None,
    value: float = 1000.0,
    delta: tuple[int, int] | None = None,
    sector: int = 20,
    camera: int = 3,
    ccd: int = 3,
    quantise: bool = True,
    reuse: bool = False,
) -> Truth:
    """Write skycells of a sky that is known, in the very form of the archive.

    The sky depends on the seed alone: cells chosen differently, and other projections, show the same objects.
    The same options write the same bytes.

    Parameters
    ----------
    out
        Folder to write: the cells, ``skycell_pixel_mapping/`` and ``catalogs/``.
    cells
        Names of skycells, of any projections; by default a rectangle of one projection.
    projection
        Of the rectangle: 487 to 2643.
    rows
        Of the rectangle: first, and one past the last.
    columns
        Of the rectangle: first, and one past the last.
    scale
        Divisor of 240 by which cells are smaller than real ones: 1 is the true size, 20 makes 312 px.
    seed
        Of the sky and of the noise.
    format
        ``fits``, or ``zarr`` for one Zarr v3 store.
    mode
        ``sky`` has stars and galaxies; ``label`` gives every pixel of cell (y, x), and of its mask, the
        number 10 y + x; ``constant`` and ``delta`` have a known convolution.
    noise
        Photon noise of the sky and the objects, of each cell its own (``mode="sky"`` only).
    defects
        Gaps, streaks, spikes and blank cores (``mode="sky"`` only); saturated pixels are always marked.
    weights
        Write the variance images too.
    masks
        Write the masks.
    bands
        Which of r, i, z, y to write.
    drop
        What not to write: names of cells, or of their files as ``skycell.2246.033.i.mask``; ``.i`` for a band.
    stars
        Mean number a cell; by default 8000/scale.
    galaxies
        Mean number a cell; by default 4000/scale.
    value
        Counts/s of ``constant``, and of the one pixel of ``delta``.
    delta
        Row and column on the grid of that pixel; by default the middle of the first cell.
    sector
        TESS sector in the names of the CSV files.
    camera
        TESS camera in the names of the CSV files.
    ccd
        TESS CCD in the names of the CSV files.
    quantise
        Round to the int16 of the archive; False (Zarr only) keeps float32.
    reuse
        Give all cells of one size the pixels of the first, under their own headers: fast at the true size,
        for trials of speed. The truth then holds for the first cell only.

    Returns
    -------
    Truth
        Paths, cells, and the noiseless image on request.

    Raises
    ------
    BadOption
        If an option is out of range.
    BadInput
        If a name is not that of a skycell.
    """
    geometry = Geometry(scale)
    _check(format=format, mode=mode, seed=seed, stars=stars, galaxies=galaxies)
    _check_kept(format, bands, quantise=quantise)
    names = [Skycell.parse(name) for name in dict.fromkeys(cells)] or _rectangle(projection, rows, columns)
    _check_drop(drop, names, bands)
    grids = [(grid_of(geometry, cell.projection), cell) for cell in names]
    sky_mode = mode == "sky"
    scene = draw_scene(
        grids,
        seed=seed,
        stars=(8000 / scale if stars is None else stars) * sky_mode,
        galaxies=(4000 / scale if galaxies is None else galaxies) * sky_mode,
        defects=defects and sky_mode,
    )
    sky = Sky(mode, scene, value, delta or _middle(window_of(*grids[0])))
    telescope = Telescope(sky, seed, noise=noise and sky_mode, weights=weights, masks=masks)
    out = Path(out)
    source, writer = _writer(out, format, quantise=quantise)
    files = write_cells(writer, telescope, grids, bands=bands, drop=drop, reuse=reuse)
    selection, catalogue = _lists_of(out, sector, camera, ccd)
    write_selection(selection, grids)
    write_catalogue(catalogue, scene.stars)
    return Truth(
        root=out,
        source=source,
        selection=selection,
        catalogue=catalogue,
        cells=tuple(names),
        files=files,
        geometry=geometry,
        bands=tuple(bands),
        sky=sky,
    )


def _writer(out: Path, format: str, *, quantise: bool) -> tuple[Path, FitsWriter | ZarrWriter]:  # noqa: A002
    """Make the folder or store for the cells; return it and what writes into it."""
    source = out / "skycells.zarr" if format == "zarr" else out
    source.mkdir(parents=True, exist_ok=True)
    return source, ZarrWriter(source, quantise=quantise) if format == "zarr" else FitsWriter(source)


def _middle(window: tuple[tuple[int, int], tuple[int, int]]) -> tuple[int, int]:
    (top, bottom), (left, right) = window
    return (top + bottom) // 2, (left + right) // 2


def _lists_of(out: Path, sector: int, camera: int, ccd: int) -> tuple[Path, Path]:
    """Return where the list of skycells and the catalogue of stars of a TESS CCD belong."""
    folder, name = f"sector_{sector:04d}/camera_{camera}/ccd_{ccd}", f"s{sector:04d}_{camera}_{ccd}"
    selection = out / "skycell_pixel_mapping" / folder / f"tess_{name}_master_skycells_list.csv"
    return selection, out / "catalogs" / folder / f"gaia_catalog_{name}.csv"


def _rectangle(projection: int, rows: tuple[int, int], columns: tuple[int, int]) -> list[Skycell]:
    for name, (first, stop) in (("rows", rows), ("columns", columns)):
        if not 0 <= first < stop <= CELLS:
            raise BadOption(f"{name}: found {first} {stop}, expected first < stop within 0 and {CELLS}")
    return [Skycell(projection, y, x) for y in range(*rows) for x in range(*columns)]


def _check(*, format: str, mode: str, seed: int, stars: int | None, galaxies: int | None) -> None:  # noqa: A002
    for name, found, known in (("format", format, ("fits", "zarr")), ("mode", mode, get_args(Mode))):
        if found not in known:
            raise BadOption(f"{name}: found {found!r}, expected one of {', '.join(known)}")
    for name, number in (("seed", seed), ("stars", stars), ("galaxies", galaxies)):
        if number is not None and number < 0:
            raise BadOption(f"{name}: found {number}, expected 0 or more")


def _check_kept(format: str, bands: Sequence[str], *, quantise: bool) -> None:  # noqa: A002
    if format == "fits" and not quantise:
        raise BadOption("quantise: found False for FITS, expected format zarr, the only one that keeps float32")
    if not bands or not set(bands) <= set(BANDS):
        raise BadOption(f"bands: found {', '.join(bands) or 'none'}, expected some of {', '.join(BANDS)}")


def _check_drop(drop: Sequence[str], cells: Sequence[Skycell], bands: Sequence[str]) -> None:
    """Refuse to leave out what would not be written anyway."""
    names = {str(cell) for cell in cells}
    ends = {"", *(f".{band}{end}" for band in bands for end in ("", ".mask", ".wt"))}
    for text in drop:
        name = ".".join(text.split(".")[:3])
        if name not in names or text[len(name) :] not in ends:
            raise BadOption(
                f"drop: found {text!r}, expected a simulated cell or one of its files, "
                f"such as {cells[0]} or {cells[0]}.{bands[0]}.mask"
            )
