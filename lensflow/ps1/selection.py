"""Which skycells a user asks for: names, projection numbers, or the list of a TESS CCD."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import TYPE_CHECKING

from lensflow.errors import BadInput, BadOption
from lensflow.ps1.cells import CRPIX_TOLERANCE, CRVAL_TOLERANCE
from lensflow.ps1.tessellation import Skycell

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from lensflow.ps1.tessellation import Geometry

_CCD = re.compile(r"(\d+)/([1-4])/([1-4])")  # sector/camera/ccd


def select(
    selection: Sequence[str | int],
    *,
    projection: int | None,
    available: Collection[Skycell],
    geometry: Geometry,
    source: Path,
) -> tuple[Skycell, ...]:
    """Return the skycells asked for, in order of name, whether they are available or not.

    Parameters
    ----------
    selection
        Names of skycells, numbers of projections, paths of master lists, or ``sector/camera/ccd`` of a list under
        the source or beside it; nothing means all.
    projection
        Only the cells of this projection.
    available
        What the source holds.
    geometry
        The tessellation, or its scaled copy.
    source
        Where lists are looked for.

    Raises
    ------
    BadInput
        If a list is missing, malformed or contradicts the tessellation, or a projection is not available.
    BadOption
        If an item is none of these.
    """
    chosen: set[Skycell] = set() if selection else set(available)
    for item in selection:
        chosen |= _selected(str(item), available=available, geometry=geometry, source=source)
    if projection is not None:
        geometry.projection(projection)
        _require(projection, available)
        chosen = {cell for cell in chosen if cell.projection == projection}
        if not chosen:
            raise BadOption(f"selection: found no cell of projection {projection} in it, expected some; leave one out")
    return tuple(sorted(chosen))


def _selected(item: str, *, available: Collection[Skycell], geometry: Geometry, source: Path) -> set[Skycell]:
    if re.fullmatch(r"[0-9]+", item):
        number = int(item)
        geometry.projection(number)
        _require(number, available)
        return {cell for cell in available if cell.projection == number}
    if "skycell." in item and not item.endswith(".csv"):
        return {Skycell.parse(item)}
    ccd = _CCD.fullmatch(item)
    if ccd is not None:
        return set(read_selection(find_list(source, *(int(part) for part in ccd.groups())), geometry))
    if item.endswith(".csv"):
        return set(read_selection(Path(item), geometry))
    raise BadOption(
        f"selection: found {item!r}, expected skycell.PPPP.0YX, a projection, a .csv list or sector/camera/ccd"
    )


def _require(number: int, available: Collection[Skycell]) -> None:
    present = sorted({cell.projection for cell in available})
    if number not in present:
        raise BadInput(f"projection: found no skycell of {number}, only of {', '.join(map(str, present))}; choose one")


def find_list(source: Path, sector: int, camera: int, ccd: int) -> Path:
    """Return the master list of a TESS CCD under a folder or beside it.

    Raises
    ------
    BadInput
        If there is none; the paths tried are named.
    """
    name = f"tess_s{sector:04d}_{camera}_{ccd}_master_skycells_list.csv"
    inside = Path("skycell_pixel_mapping", f"sector_{sector:04d}", f"camera_{camera}", f"ccd_{ccd}", name)
    tried = [root / inside for root in (source, source.parent)]
    for path in tried:
        if path.is_file():
            return path
    raise BadInput(f"selection: found no list of the CCD, tried {' and '.join(map(str, tried))}; give its path")


def read_selection(path: Path, geometry: Geometry) -> tuple[Skycell, ...]:
    """Read a master list of skycells (CSV); order and duplicates have no effect.

    Parameters
    ----------
    path
        Columns NAME, projection, y, x; any of NAXIS1/2, CRPIX1/2, CRVAL1/2 are held against the tessellation.
    geometry
        The tessellation, or its scaled copy.

    Raises
    ------
    BadInput
        If the file is missing or malformed, or a line contradicts itself or the tessellation.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if "NAME" not in (reader.fieldnames or ()):
                raise BadInput(f"{path}: found columns {reader.fieldnames}, expected NAME among them")
            cells = {_line(row, f"{path}: line {reader.line_num}", geometry) for row in reader}
    except FileNotFoundError as error:
        raise BadInput(f"{path}: no such list of skycells; give the path of one") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path}: found no CSV ({error}), expected a list of skycells") from error
    if not cells:
        raise BadInput(f"{path}: found no skycell, expected a line for each")
    return tuple(sorted(cells))


def _line(row: dict[str, str], place: str, geometry: Geometry) -> Skycell:
    try:
        cell = Skycell.parse(row["NAME"] or "")
    except BadInput as error:
        raise BadInput(f"{place}: NAME: {error}") from error
    for key, expected in (("projection", cell.projection), ("y", cell.y), ("x", cell.x)):
        text = row.get(key)
        if text and _value(text, place, key) != expected:
            raise BadInput(f"{place}: {key}: found {text}, expected {expected} as in {row['NAME']}; correct the list")
    projection = geometry.projection(cell.projection)
    crpix = projection.cell_crpix(cell.y, cell.x)
    checks = {
        "NAXIS1": (projection.width, 0.0),
        "NAXIS2": (projection.height, 0.0),
        "CRPIX1": (crpix[0], CRPIX_TOLERANCE),
        "CRPIX2": (crpix[1], CRPIX_TOLERANCE),
        "CRVAL1": (projection.ra, CRVAL_TOLERANCE),
        "CRVAL2": (projection.dec, CRVAL_TOLERANCE),
    }
    for key, (expected_value, tolerance) in checks.items():
        text = row.get(key)
        if not text:
            continue
        off = _value(text, place, key) - expected_value
        if key == "CRVAL1":
            off = (off + 180) % 360 - 180  # 0 and 360 are one
        if not abs(off) <= tolerance:
            raise BadInput(f"{place}: {key}: found {text}, expected {expected_value} for {cell}; correct the list")
    return cell


def _value(text: str, place: str, key: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise BadInput(f"{place}: {key}: found {text!r}, expected a number; correct the list") from error
