"""HEALPix pixels of many directions at once: the nearest one, and the four around with their bilinear weights.

Compiled, since a patch asks for sixteen million of them. Numbers are NESTED. In quarters of a turn the centres of
ring i, 1..4 nside - 1, are at t = (j + shift) / nside in the belt and (j + shift) / i around the north pole.
Source: Gorski et al. 2005, ApJ 622, 759.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

HALF_PI = np.pi / 2


class Rings(NamedTuple):
    """The rings of pixels, from the north pole; 0 and 4 nside stand for the poles."""

    theta: NDArray[np.float64]
    length: NDArray[np.int64]
    shift: NDArray[np.float64]


@lru_cache(maxsize=4)
def rings(nside: int) -> Rings:
    """Return colatitude, number of pixels, and half a pixel's shift (0 or .5) of the first, of each ring."""
    i = np.arange(4 * nside + 1)
    polar = np.minimum(i, 4 * nside - i)
    cap = 2 * np.arcsin(np.minimum(polar, nside) / (np.sqrt(6) * nside))
    theta = np.where(polar <= nside, np.where(i <= 2 * nside, cap, np.pi - cap), 0.0)
    belt = polar > nside
    theta[belt] = np.arccos((2 * nside - i[belt]) * 2 / (3 * nside))
    shift = np.where(polar < nside, 0.5, np.where((i - nside) % 2 == 0, 0.5, 0.0))
    return Rings(theta, 4 * np.minimum(polar, nside), shift)


@njit(cache=True, nogil=True)
def _spread(value: int) -> int:
    """Put a zero between all bits."""
    x = np.uint64(value)
    x = (x | (x << np.uint64(16))) & np.uint64(0x0000FFFF0000FFFF)
    x = (x | (x << np.uint64(8))) & np.uint64(0x00FF00FF00FF00FF)
    x = (x | (x << np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    x = (x | (x << np.uint64(2))) & np.uint64(0x3333333333333333)
    x = (x | (x << np.uint64(1))) & np.uint64(0x5555555555555555)
    return int(np.int64(x))


@njit(cache=True, nogil=True)
def _belt_pixel(nside: int, rising: int, falling: int) -> int:
    """Return the pixel between two families of diagonals, counted in pixels from longitude 0."""
    up, down = rising // nside, falling // nside
    face = (up & 3) + 4 if up == down else (up & 3 if up < down else (down & 3) + 8)
    x, y = falling - down * nside, nside - 1 - (rising - up * nside)
    return face * nside * nside + _spread(x) + 2 * _spread(y)


@njit(cache=True, nogil=True)
def ring_pixel(nside: int, ring: int, j: int) -> int:
    """Return the NESTED number of the j-th pixel of a ring."""
    if nside <= ring <= 3 * nside:
        twice = 2 * j + (1 - ((ring - nside) & 1))  # longitude in halves of a pixel
        # centres lie in the middle between diagonals: both sums are odd
        if twice >= 8 * nside:
            twice -= 8 * nside
        return _belt_pixel(nside, (twice + ring - nside) >> 1, (twice + 3 * nside - ring) >> 1)
    north = ring < nside
    i = ring if north else 4 * nside - ring
    face, k = j // i, j % i
    if north:
        return face * nside * nside + _spread(nside - i + k) + 2 * _spread(nside - 1 - k)
    return (face + 8) * nside * nside + _spread(k) + 2 * _spread(i - 1 - k)


@njit(cache=True, nogil=True)
def _quarters(x: float, y: float) -> float:
    """Return the longitude in quarters of a turn, 0 <= t < 4."""
    t = np.arctan2(y, x) / HALF_PI
    if t < 0:
        t += 4.0
    return t if t < 4.0 else 0.0


@njit(cache=True, nogil=True)
def nearest(directions: NDArray[np.float64], nside: int) -> NDArray[np.int64]:
    """Return the pixel that each unit vector (points, 3) falls into, as (1, points)."""
    found = np.empty((1, directions.shape[0]), np.int64)
    for place in range(directions.shape[0]):
        x, y, z = directions[place]
        t = _quarters(x, y)
        if abs(z) <= 2 / 3:
            rising = int(np.floor(nside * (0.5 + t - 0.75 * z)))
            falling = int(np.floor(nside * (0.5 + t + 0.75 * z)))
            found[0, place] = _belt_pixel(nside, rising, falling)
            continue
        # the sine keeps its digits near the poles, 1 - |z| does not
        distance = nside * np.sqrt(3 * (x * x + y * y) / (1 + abs(z)))
        face = int(t)
        a = min(int((t - face) * distance), nside - 1)
        b = min(int((1 - t + face) * distance), nside - 1)
        if z > 0:
            found[0, place] = face * nside * nside + _spread(nside - 1 - b) + 2 * _spread(nside - 1 - a)
        else:
            found[0, place] = (face + 8) * nside * nside + _spread(a) + 2 * _spread(b)
    return found


@njit(cache=True, nogil=True)
def _on_ring(nside: int, ring: int, t: float, count: int, shift: float) -> tuple[int, int, float]:
    """Return the two pixels of a ring around a longitude and the weight of the second."""
    at = t / 4 * count - shift
    left = int(np.floor(at))
    weight = at - left
    return ring_pixel(nside, ring, left % count), ring_pixel(nside, ring, (left + 1) % count), weight


@njit(cache=True, nogil=True)
def bilinear(
    directions: NDArray[np.float64],
    nside: int,
    ring_theta: NDArray[np.float64],
    ring_count: NDArray[np.int64],
    ring_shift: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return four pixels around each unit vector (points, 3) and their weights, both (4, points).

    Two rings, linear in colatitude; on each two pixels, linear in longitude. Beyond the first ring the value at the
    pole is the mean of that ring.
    """
    count = directions.shape[0]
    pixels, weights = np.empty((4, count), np.int64), np.empty((4, count))
    for place in range(count):
        x, y, z = directions[place]
        t, theta = _quarters(x, y), np.arctan2(np.sqrt(x * x + y * y), z)
        ring = int(nside * (2 - 1.5 * z)) if abs(z) <= 2 / 3 else int(nside * np.sqrt(3 * (1 - abs(z))))
        if z < -2 / 3:
            ring = 4 * nside - 1 - ring
        ring = min(max(ring, 0), 4 * nside - 1)
        if ring_theta[ring] > theta:
            ring -= 1
        elif ring_theta[ring + 1] <= theta and ring < 4 * nside - 1:
            ring += 1
        below = (theta - ring_theta[ring]) / (ring_theta[ring + 1] - ring_theta[ring])
        for half in range(2):
            share = below if half else 1 - below
            here = ring + half
            if here in (0, 4 * nside):
                other = 1 if here == 0 else 4 * nside - 1
                for k in range(2):  # the pole: spread evenly over two opposite pixels and, below, their neighbours
                    pixels[2 * half + k, place], weights[2 * half + k, place] = ring_pixel(nside, other, k), 0.0
                continue
            first, second, weight = _on_ring(nside, here, t, ring_count[here], ring_shift[here])
            pixels[2 * half, place], weights[2 * half, place] = first, share * (1 - weight)
            pixels[2 * half + 1, place], weights[2 * half + 1, place] = second, share * weight
        if ring in (0, 4 * nside - 1):
            _spread_over_pole(nside, ring, below, pixels[:, place], weights[:, place])
    return pixels, weights


@njit(cache=True, nogil=True)
def _spread_over_pole(
    nside: int, ring: int, below: float, pixels: NDArray[np.int64], weights: NDArray[np.float64]
) -> None:
    """Give the pole's weight to the four pixels of the ring next to it, a quarter each."""
    only, near = (1, 2) if ring == 0 else (4 * nside - 1, 0)  # the ring, and the place of its two pixels
    quarter = (1 - below if ring == 0 else below) / 4
    spare = 2 - near
    taken = 0
    for j in range(4):
        pixel = ring_pixel(nside, only, j)
        if pixel == pixels[near]:
            weights[near] += quarter
        elif pixel == pixels[near + 1]:
            weights[near + 1] += quarter
        else:
            pixels[spare + taken], weights[spare + taken] = pixel, quarter
            taken += 1
