"""From masses in pixels to overdensities, and to what is known of a sheet and of a part: what runs on workers."""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum, sqrt
from typing import TYPE_CHECKING

import numpy as np

from lensflow import events
from lensflow.errors import BadInput
from lensflow.lensing.mesh.bigfile import MODULUS
from lensflow.lensing.mesh.bin_rows import verify_part
from lensflow.lensing.mesh.pieces import ByteSums, Tally

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lensflow.lensing.mesh.bigfile import Block
    from lensflow.lensing.mesh.part_rows import Rest
    from lensflow.lensing.mesh.pieces import Binning, Level

CONSERVATION = 1e-12  # of the mass: what adding up in another order may change
GOOD, QUARANTINED = 0, 1
SHEET = np.dtype(
    [
        ("n_rows", np.int64),
        ("n_occupied", np.int64),
        ("n_duplicate", np.int64),
        ("n_zero_mass", np.int64),
        ("n_bad", np.int64),
        ("mass_sum", np.float64),
        ("map_sum", np.float64),
        ("delta_mean", np.float64),
        ("delta_std", np.float64),
        ("delta_min", np.float64),
        ("delta_max", np.float64),
        ("status", np.uint8),
    ]
)
VERIFIED = np.dtype([("verified", np.uint8), ("byte_sum_id", np.uint32), ("byte_sum_mass", np.uint32)])

Binned = tuple["NDArray[np.float64]", Tally]


@dataclass(frozen=True)
class Sheet:
    """What a task must know of a sheet: its slice, its pixels, 1/(V_pix rhobar), and how it is judged."""

    sheet: int
    npix: int
    scale: float
    level: Level


@dataclass(frozen=True)
class Part:
    """What a task must know of a part: its columns, the rows that no sheet has, and whether all have been summed."""

    part: int
    ids: Block
    mass: Block
    rest: tuple[Rest, ...]
    scanned: bool


def tally_of(binned: Binned) -> Tally:
    """Return what became of the rows."""
    return binned[1]


def overdensity(binned: Binned, tally: Tally, complaint: str | None, where: slice, scale: float) -> NDArray[np.float32]:
    """Turn masses into m/(V_pix rhobar) - 1, stored in float32; NaN if rows of the sheet are bad.

    Parameters
    ----------
    binned
        Masses (pixels,) of a group of chunks.
    tally
        What became of its rows.
    complaint
        About any row of the sheet; None if nobody has looked at the others.
    where
        Pixels of the chunk in its group.
    scale
        1/(V_pix rhobar).

    Returns
    -------
    NDArray
        delta (1, pixels).
    """
    mass = binned[0][where]
    if complaint or tally.complaint:
        return np.full((1, len(mass)), np.nan, np.float32)
    delta = mass * scale
    delta -= 1
    return delta.astype(np.float32)[None]


def summarise(tallies: Sequence[Tally], complaint: str | None, about: Sheet) -> NDArray[np.void]:
    """Add up what is known of the pieces of a sheet, from the maps in float64.

    Parameters
    ----------
    tallies
        Of its pieces.
    complaint
        About a row of the sheet; None if nobody has looked at all of them beforehand.
    about
        The sheet.

    Returns
    -------
    NDArray
        One record.

    Raises
    ------
    BadInput
        If mass is not conserved and the sheet is judged strictly.
    """
    rows, occupied = sum(one.rows for one in tallies), sum(one.occupied for one in tallies)
    mass, total = fsum(one.mass for one in tallies), fsum(one.total for one in tallies)
    if about.level == "strict" and abs(mass - total) > CONSERVATION * mass:
        raise BadInput(f"sheet {about.sheet}: found {total!r} of mass in pixels, expected {mass!r} as in its rows")
    mean = fsum(one.first for one in tallies) / about.npix
    square = fsum(one.second for one in tallies) / about.npix
    spread = (mean, sqrt(max(square - mean**2, 0.0)))
    extremes = (min(one.least for one in tallies), max(one.most for one in tallies))
    values = (*spread, *(value * about.scale - 1 for value in extremes))
    complaint = complaint or next((one.complaint for one in tallies if one.complaint), "")
    spoilt = about.level == "lenient" and bool(complaint)
    if spoilt:
        message = f"sheet {about.sheet} is quarantined, its delta is NaN: {complaint}"
        events.note("quarantined-sheet", message, sheet=about.sheet)
        values = (np.nan,) * len(values)
    counts = (rows, occupied, rows - occupied, sum(one.zero for one in tallies), sum(one.bad for one in tallies))
    status = QUARANTINED if spoilt else GOOD
    return np.array([(*counts, mass, total, *values, status)], SHEET)


def verified(about: Part, tallies: Sequence[Tally], binning: Binning) -> NDArray[np.void]:
    """Hold a part against its header, and return a record of it.

    Raises
    ------
    BadInput
        If it is not what its header says.
    """
    if about.scanned:  # when the rows were planned
        sums = ByteSums(about.ids.rows, about.ids.parts[0].byte_sum, about.mass.parts[0].byte_sum)
    else:
        sums = verify_part(about.part, (about.ids, about.mass), about.rest, tallies, binning)
    return np.array([(1, sums.ids % MODULUS, sums.mass % MODULUS)], VERIFIED)
