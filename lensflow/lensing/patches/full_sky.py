"""Power spectra of whole maps beside those of their patches."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import dask
import dask.array as da
import numpy as np

from lensflow.lensing.patches.ordering import stored_index

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lensflow.lensing.patches.kappa_sources import KappaMap
    from lensflow.lensing.patches.ordering import Ordering
    from lensflow.lensing.patches.patch_tasks import Survey

RUN = 4**11  # pixels read at once
COPIES = 5  # of a map in float64 at the worst moment: as read, turned to rings, without its mean, its harmonics, theirs


def full_sky_spectra(survey: Survey) -> da.Array:
    """Return the pseudo power spectra (zs, l = 0..2 nside) of whole maps, lazily: a task holds one map in float64."""
    count = 2 * survey.maps[0].nside + 1
    with dask.annotate(workspace=COPIES * 8 * 12 * survey.maps[0].nside ** 2):
        return da.map_blocks(
            partial(_spectrum, survey),
            chunks=((1,) * len(survey.maps), (count,)),
            dtype=np.float64,
            meta=np.empty((0, 0)),
        )


def _spectrum(survey: Survey, block_id: tuple[int, ...]) -> NDArray[np.float64]:
    from lensflow.lensing.spherical import full_sky_cl  # noqa: PLC0415 - ducc0 only where it is asked for

    one = survey.maps[block_id[0]]
    values = whole_map(one, survey.orderings[block_id[0]])
    mask = whole_map(survey.mask, survey.mask_ordering) if survey.mask else None
    found = full_sky_cl(values, mask=mask, lmax=2 * one.nside, ordering="NESTED")
    return np.asarray(found.cl)[None]


def whole_map(one: KappaMap, ordering: Ordering) -> NDArray[np.float64]:
    """Return all pixels of a map in NESTED order."""
    npix = 12 * one.nside**2
    values = np.empty(npix)
    with one.open() as reader:
        for first in range(0, npix, RUN):
            places = np.arange(first, min(first + RUN, npix))
            values[first : first + places.size] = reader.take(stored_index(places, one.nside, ordering))
    return values
