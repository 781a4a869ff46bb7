"""A catalogue of stars as Gaia has it: positions, and magnitudes in the band of TESS."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from lensflow.errors import BadInput, BadOption
from lensflow.ps1.tessellation import grid_to_sky, sky_to_grid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from lensflow.ps1.tessellation import Projection

COLUMNS = ("source_id", "ra", "dec", "phot_g_mean_mag", "phot_bp_mean_mag", "phot_rp_mean_mag")
MOTION = ("ref_epoch", "pmra", "pmdec")  # Julian year, mas/yr (pmra contains the cosine of the declination)
STAR = np.dtype([("source_id", "i8"), ("ra", "f8"), ("dec", "f8"), ("tess_mag", "f8")])
MAS = np.deg2rad(1 / 3_600_000)

_CCD = re.compile(r"(\d+)/([1-4])/([1-4])")  # sector/camera/ccd


def tess_magnitude(g: ArrayLike, bp: ArrayLike, rp: ArrayLike) -> NDArray[np.float64]:
    """Return the TESS magnitude T of Gaia magnitudes.

    T = G - .00522555 c^3 + .0891337 c^2 - .633923 c + .0324473 with c = BP - RP, or G - .430 without a colour
    (Stassun et al. 2019).
    """
    g, colour = np.asarray(g, np.float64), np.asarray(bp, np.float64) - np.asarray(rp, np.float64)
    with_colour = g + 0.0324473 + colour * (-0.633923 + colour * (0.0891337 - 0.00522555 * colour))
    return np.where(np.isfinite(colour), with_colour, g - 0.430)


def find_catalogues(gaia: Sequence[str], selection: Sequence[str], source: Path) -> tuple[Path, ...]:
    """Return the catalogues that are asked for, in order of name.

    Parameters
    ----------
    gaia
        Paths (.csv, .parquet), or ``sector/camera/ccd`` of one under the source or beside it; nothing means those
        of the CCDs of the selection.
    selection
        Of the graph.
    source
        Where catalogues are looked for.

    Raises
    ------
    BadInput
        If a catalogue is missing.
    BadOption
        If there is none to look for.
    """
    items = gaia or [item for item in map(str, selection) if _CCD.fullmatch(item)]
    if not items:
        raise BadOption("gaia: found no catalogue, expected a path, or sector/camera/ccd here or in selection")
    return tuple(sorted({_find(item, source) for item in items}))


def _find(item: str, source: Path) -> Path:
    ccd = _CCD.fullmatch(item)
    if ccd is None:
        tried = [Path(item)]
    else:
        sector, camera, chip = (int(part) for part in ccd.groups())
        name = f"gaia_catalog_s{sector:04d}_{camera}_{chip}.csv"
        inside = Path("catalogs", f"sector_{sector:04d}", f"camera_{camera}", f"ccd_{chip}", name)
        tried = [root / inside for root in (source, source.parent)]
    for path in tried:
        if path.is_file():
            return path
    raise BadInput(f"gaia: found no catalogue, tried {' and '.join(map(str, tried))}; give its path")


def check_columns(path: Path, *, motion: bool = False) -> None:
    """Refuse a catalogue without the columns that are needed, reading its head only.

    Raises
    ------
    BadInput
        If one is missing, or the file is no table.
    """
    found = list(_table(path, rows=0).columns)
    missing = [name for name in (*COLUMNS, *(MOTION if motion else ())) if name not in found]
    if missing:
        why = " (needed to move stars to an epoch)" if missing[0] in MOTION else ""
        raise BadInput(f"{path}: found no column {', '.join(missing)}{why}, expected {', '.join(COLUMNS)}; add it")


def read_stars(paths: Sequence[Path], *, epoch: float | None = None) -> NDArray[np.void]:
    """Read catalogues: every star once, in order of source_id.

    Parameters
    ----------
    paths
        CSV or Parquet files.
    epoch
        Julian year to which proper motions carry the stars; None takes the positions as they are.

    Returns
    -------
    ndarray
        source_id, ra and dec in degrees, tess_mag (NaN without a G magnitude).

    Raises
    ------
    BadInput
        If a file is damaged, or a position is not one.
    """
    parts = [_stars(path, epoch) for path in paths]
    stars = np.concatenate(parts) if parts else np.empty(0, STAR)
    _, first = np.unique(stars["source_id"], return_index=True)
    return stars[first]


def _stars(path: Path, epoch: float | None) -> NDArray[np.void]:
    check_columns(path, motion=epoch is not None)
    table = _table(path, columns=[*COLUMNS, *(MOTION if epoch is not None else ())])
    stars = np.empty(len(table), STAR)
    for name in ("source_id", "ra", "dec"):
        stars[name] = _numbers(table, name, path)
    sound = (np.abs(stars["dec"]) <= 90) & np.isfinite(stars["ra"])
    if not sound.all():
        bad = stars[np.argmin(sound)]
        raise BadInput(
            f"{path}: source_id {bad['source_id']}: found ra {bad['ra']}, dec {bad['dec']}, expected degrees; mend it"
        )
    magnitudes = [_numbers(table, name, path) for name in COLUMNS[3:]]
    stars["tess_mag"] = tess_magnitude(*magnitudes)
    if epoch is not None:
        moving = [np.nan_to_num(_numbers(table, name, path)) for name in MOTION]
        years = np.where(moving[0] > 0, epoch - moving[0], 0.0)
        stars["ra"], stars["dec"] = moved(stars["ra"], stars["dec"], moving[1] * years, moving[2] * years)
    return stars


def moved(
    ra: NDArray[np.float64], dec: NDArray[np.float64], east: NDArray[np.float64], north: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return positions (deg) moved by mas to the east and north along great circles; the poles are no exception."""
    a, d = np.deg2rad(ra), np.deg2rad(dec)
    xi, eta = east * MAS, north * MAS
    # position + xi (unit vector east) + eta (unit vector north); the length does not matter
    across = np.cos(d) - eta * np.sin(d)
    turned = a + np.arctan2(xi, across)
    return np.rad2deg(turned) % 360.0, np.rad2deg(np.arctan2(np.sin(d) + eta * np.cos(d), np.hypot(across, xi)))


def _numbers(table: pd.DataFrame, name: str, path: Path) -> NDArray[np.generic]:
    try:
        return pd.to_numeric(table[name]).to_numpy("i8" if name == "source_id" else "f8")
    except (TypeError, ValueError) as error:
        raise BadInput(f"{path}: column {name}: found {error}, expected numbers; correct the catalogue") from error


def _table(path: Path, *, columns: list[str] | None = None, rows: int | None = None) -> pd.DataFrame:
    """Read columns of a table, or only its head."""
    try:
        if path.suffix in (".parquet", ".pq"):
            import pyarrow.parquet as pq  # noqa: PLC0415 - an extra that few need

            return (
                pq.read_schema(path).empty_table().to_pandas() if rows == 0 else pd.read_parquet(path, columns=columns)
            )
        return pd.read_csv(path, usecols=columns, nrows=rows, comment="#", dtype={"source_id": "Int64"})
    except ImportError as error:
        raise BadOption(f"{path}: Parquet needs pyarrow, found none; pip install pyarrow, or give a .csv") from error
    except (ValueError, OSError) as error:  # of pandas, pyarrow and the decoders
        raise BadInput(f"{path}: found no table ({error}), expected a catalogue (.csv or .parquet)") from error


def stars_near(
    stars: NDArray[np.void], projection: Projection, corner: tuple[int, int], shape: tuple[int, int], *, margin: int
) -> tuple[NDArray[np.void], NDArray[np.float64], NDArray[np.float64]]:
    """Return the stars on a rectangle of a projection and round it, and their pixels x, y in it.

    Parameters
    ----------
    stars
        From :func:`read_stars`.
    projection
        The grid, with the tangent point of the cell's header.
    corner, shape
        (Y, X) of the first pixel of the rectangle, and its size (rows, columns).
    margin
        How far outside stars may be, px.

    Notes
    -----
    Found by unit vectors within a circle, then by the grid: no interval of RA plays a part.
    """
    middle = grid_to_sky(projection, corner[1] + (shape[1] - 1) / 2, corner[0] + (shape[0] - 1) / 2)
    radius = np.hypot(shape[0] / 2 + margin, shape[1] / 2 + margin) * projection.geometry.pixel_scale
    near = stars[_unit(stars["ra"], stars["dec"]) @ _unit(*middle) >= np.cos(np.deg2rad(radius))]
    x, y = sky_to_grid(projection, near["ra"], near["dec"])
    x, y = x - corner[1], y - corner[0]
    inside = (np.abs(x - (shape[1] - 1) / 2) <= shape[1] / 2 + margin) & (
        np.abs(y - (shape[0] - 1) / 2) <= shape[0] / 2 + margin
    )
    return near[inside], x[inside], y[inside]


def _unit(ra: ArrayLike, dec: ArrayLike) -> NDArray[np.float64]:
    a, d = np.deg2rad(ra), np.deg2rad(dec)
    return np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=-1)
