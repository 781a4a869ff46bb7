"""The power spectrum of a full-sky map beside healpy.anafast, on all cores, interleaved."""

from __future__ import annotations

import json
import os
import statistics
import time
from typing import TYPE_CHECKING, Any

import ducc0
import numpy as np

from lensflow.lensing.harmonics import gaussian_map
from lensflow.lensing.spherical import full_sky_cl

CORES = len(os.sched_getaffinity(0))
if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

NSIDE = 1024
ROUNDS = 5
GOAL = 5.0  # times faster than healpy.anafast, at least, and nearer to the truth


def compare(nside: int = NSIDE, rounds: int = ROUNDS) -> dict[str, Any]:
    """Time all methods and return the record, ready for JSON."""
    os.environ["OMP_NUM_THREADS"] = str(CORES)  # compare.py pins to one; healpy reads it when it is imported
    import healpy  # noqa: PLC0415

    lmax = 2 * nside
    wanted = 1 / (1 + np.arange(lmax + 1) / 50) ** 2
    values, truth = gaussian_map(wanted, nside=nside, rng=np.random.default_rng(0), threads=CORES)
    methods: dict[str, Callable[[], NDArray[np.float64]]] = {
        "lensflow lsmr2": lambda: full_sky_cl(values, threads=CORES).cl,
        "healpy.anafast": lambda: healpy.anafast(values),
        "lensflow jacobi3": lambda: full_sky_cl(values, iterations="jacobi3", threads=CORES).cl,
        # what the peer could do with other words: no aliases from above 2 nside, and as many transforms as ours
        "healpy.anafast, lmax 2 nside": lambda: healpy.anafast(values, lmax=lmax),
        "healpy.anafast, lmax 2 nside, iter 2": lambda: healpy.anafast(values, lmax=lmax, iter=2),
    }
    seconds, cores, errors = _interleaved(methods, truth, rounds)
    ours, peer = "lensflow lsmr2", "healpy.anafast"
    ratio = seconds[peer] / seconds[ours]
    return {
        "name": f"full-sky C_l, nside {nside}, {CORES} cores",
        "ours": seconds[ours],
        "peer": seconds[peer],
        "ratio": ratio,
        "ours_error": errors[ours],
        "peer_error": errors[peer],
        "goal": f">= {GOAL:g}x healpy.anafast with its defaults, at a smaller largest error over 2 <= l <= 2 nside",
        "met": bool(ratio >= GOAL and errors[ours] < errors[peer]),
        "conditions": f"healpy {healpy.__version__}, ducc0 {ducc0.__version__}, interleaved medians of {rounds}, "
        f"wall seconds; largest |C_l / truth - 1| of one band-limited Gaussian sky, lmax {lmax}; "
        "cores = CPU over wall seconds",
        "table": [
            {"method": name, "seconds": seconds[name], "cores": cores[name], "largest_error": errors[name]}
            for name in methods
        ],
    }


def _interleaved(
    methods: dict[str, Callable[[], NDArray[np.float64]]], truth: NDArray[np.float64], rounds: int
) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """Return median seconds, cores kept busy and the largest error of each method."""
    wall: dict[str, list[float]] = {name: [] for name in methods}
    busy: dict[str, list[float]] = {name: [] for name in methods}
    errors: dict[str, float] = {}
    for _ in range(rounds):
        for name, method in methods.items():
            begin, cpu = time.perf_counter(), time.process_time()
            found = method()
            wall[name].append(time.perf_counter() - begin)
            busy[name].append((time.process_time() - cpu) / wall[name][-1])
            errors[name] = float(np.abs(found[2 : truth.size] / truth[2:] - 1).max())
    return (
        {name: statistics.median(times) for name, times in wall.items()},
        {name: statistics.median(shares) for name, shares in busy.items()},
        errors,
    )


if __name__ == "__main__":
    print(json.dumps(compare(), indent=1))
