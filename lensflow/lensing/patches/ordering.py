"""In which order a HEALPix map is stored: what its label says, and what its pixels say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import healpy
import numpy as np

from lensflow.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

Ordering = Literal["NESTED", "RING", "n2r_twice", "r2n_twice"]
ORDERINGS: tuple[Ordering, ...] = get_args(Ordering)
SAMPLED = 200_000  # pixels whose neighbours are looked at
SAMPLED_LARGE = 10_000  # the same where scattered reads go to disk
LARGE = 4096  # nside beyond which they do
SEED = 20250  # the same pixels each time: the check gives the same answer
CLEAR = 5.0  # standard errors by which another ordering must win


def stored_index(nested: NDArray[np.int64], nside: int, ordering: Ordering) -> NDArray[np.int64]:
    """Return where pixels, given by their true NESTED numbers, stand in a map stored in ``ordering``.

    Parameters
    ----------
    nested
        Of any shape.
    nside
        Of the map.
    ordering
        ``n2r_twice`` is a NESTED map that was turned to RING twice; ``r2n_twice`` a RING map turned to NESTED twice.
    """
    if ordering == "NESTED":
        return nested
    if ordering == "RING":
        return healpy.nest2ring(nside, nested)  # type: ignore[no-any-return]
    if ordering == "n2r_twice":
        return healpy.nest2ring(nside, healpy.nest2ring(nside, nested))  # type: ignore[no-any-return]
    return healpy.ring2nest(nside, nested)  # type: ignore[no-any-return]


def nested_index(stored: NDArray[np.int64], nside: int, ordering: Ordering) -> NDArray[np.int64]:
    """Return the true NESTED numbers of the pixels at places of a map stored in ``ordering``."""
    if ordering == "NESTED":
        return stored
    if ordering == "RING":
        return healpy.ring2nest(nside, stored)  # type: ignore[no-any-return]
    if ordering == "n2r_twice":
        return healpy.ring2nest(nside, healpy.ring2nest(nside, stored))  # type: ignore[no-any-return]
    return healpy.nest2ring(nside, stored)  # type: ignore[no-any-return]


def likeness(take: Callable[[NDArray[np.int64]], NDArray[np.float64]], nside: int) -> tuple[dict[Ordering, float], int]:
    """Return, for each ordering, the mean product of neighbours over the variance, and of how many pairs at least.

    Parameters
    ----------
    take
        Gives the values of stored pixels.
    nside
        Of the map.
    """
    npix = 12 * nside**2
    rng = np.random.default_rng(SEED)
    places = rng.integers(0, npix, min(SAMPLED if nside <= LARGE else SAMPLED_LARGE, npix))
    values = take(places)
    mean, variance = np.nanmean(values), np.nanvar(values)
    found: dict[Ordering, float] = {}
    pairs = 8 * places.size
    for ordering in ORDERINGS:
        around = healpy.get_all_neighbours(nside, nested_index(places, nside, ordering), nest=True)
        there = stored_index(np.where(around < 0, 0, around), nside, ordering)
        products = (take(there) - mean) * (values - mean)
        counted = (around >= 0) & np.isfinite(products)
        pairs = min(pairs, int(counted.sum()))
        found[ordering] = float(products[counted].mean() / variance) if counted.any() and variance > 0 else 0.0
    return found, pairs


def check_ordering(
    take: Callable[[NDArray[np.int64]], NDArray[np.float64]], nside: int, declared: Ordering, *, name: str
) -> None:
    """Hold the ordering that a map declares against its pixels: neighbours on the sky are alike.

    Parameters
    ----------
    take, nside
        As for :func:`likeness`.
    declared
        What the map is taken for.
    name
        Of the map, for the message.

    Raises
    ------
    BadInput
        If another ordering fits clearly better; it is named.
    """
    found, pairs = likeness(take, nside)
    winner = max(found, key=found.__getitem__)
    if pairs and found[winner] - found[declared] > CLEAR / np.sqrt(pairs):
        raise BadInput(
            f"{name}: ordering: found {declared}, but neighbours are alike ({found[winner]:.2f} against "
            f"{found[declared]:.2f}) if it is {winner}; give --ordering {winner}, or --no-ordering-check to go on"
        )
