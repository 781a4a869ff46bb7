"""One patch of 2048^2 pixels with the default statistics beside LensTools, alternately, one core each.

LensTools 1.2 wants an old numpy: name a Python that has it in LENSFLOW_LENSTOOLS_PYTHON. Without it nothing is timed
beside ours, and the comparison is with the seconds recorded for it on another machine, which is said.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from lensflow.lensing.patches.noise import NoiseName
from lensflow.lensing.patches.patch_statistics import Recipe, measure
from lensflow.lensing.patches.smoothing import smooth
from lensflow.lensing.patches.statistics_options import Options

SIZE, PIXELS = 10.0, 2048  # deg, px
REPEATS = 3
RECORDED = 46.7  # s of LensTools 1.2 for the same set, on another machine
GOAL = 5.0  # times faster
THEIRS = r"""
import json, sys, time, warnings
warnings.simplefilter("ignore")
import numpy as np
for name in ("float", "int", "bool", "complex"):  # names that LensTools takes from an older numpy
    if name not in vars(np): setattr(np, name, eval(name))
from lenstools import ConvergenceMap
import astropy.units as u
image = np.load(sys.argv[1]); angle = float(sys.argv[2]) * u.deg
nu, l = np.linspace(-4, 4, 9), np.geomspace(300, 3000, 9)
seconds = {}
def timed(name, function, *words, **named):
    begin = time.perf_counter(); made = function(*words, **named)
    seconds[name] = seconds.get(name, 0) + time.perf_counter() - begin
    return made
kappa = ConvergenceMap(image, angle=angle)
timed("power spectrum", kappa.powerSpectrum, l)
timed("bispectra", kappa.bispectrum, l, configuration="equilateral")
timed("bispectra", kappa.bispectrum, l, ratio=0.5, configuration="folded")
timed("bispectra", kappa.bispectrum, l, ratio=0.1, configuration="folded")
for length in (2, 5, 8, 10):
    smooth = timed("smoothing", kappa.smooth, length * u.arcmin, kind="gaussian")
    snr = ConvergenceMap(smooth.data / smooth.data.std(), angle=angle)
    upside = ConvergenceMap(-snr.data, angle=angle)
    timed("PDF", snr.pdf, nu)
    timed("peaks", snr.peakCount, nu)
    timed("minima", upside.peakCount, nu)
    timed("Minkowski", snr.minkowskiFunctionals, nu)
    timed("moments", snr.moments, connected=True)
print(json.dumps(seconds))
"""


def compare() -> dict[str, Any]:
    """Time both and return the record, ready for JSON."""
    rng = np.random.default_rng(0)
    image = smooth(rng.standard_normal((PIXELS, PIXELS)), 2.0) * 0.05
    recipe, python = _recipe(), os.environ.get("LENSFLOW_LENSTOOLS_PYTHON")
    ours, theirs = [], []
    measure(image, recipe, noise=NoiseName(1, 1.0, 0, 0))  # compiles
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.npy"
        np.save(path, image)
        for repeat in range(REPEATS):
            begin = time.perf_counter()
            measure(image, recipe, noise=NoiseName(1, 1.0, repeat, 0))
            ours.append(time.perf_counter() - begin)
            if python:
                theirs.append(_lenstools(python, path))
    peer = statistics.median(sum(one.values()) for one in theirs) if theirs else RECORDED
    mine = statistics.median(ours)
    return {
        "name": f"all default statistics of a {PIXELS} x {PIXELS} patch, 4 smoothings, one noise field, one core",
        "ours": mine,
        "peer": peer,
        "ratio": peer / mine,
        "goal": f">= {GOAL:g}x faster than LensTools",
        "met": peer / mine >= GOAL if theirs else None,
        "conditions": (
            f"numpy {np.__version__}, {platform.machine()}, medians of {REPEATS}, "
            + ("LensTools 1.2 alternately on the same machine" if theirs else "LensTools NOT run: recorded elsewhere")
            + "; ours includes making the noise"
        ),
        "table": [{"step": name, "seconds": seconds} for name, seconds in theirs[0].items()] if theirs else [],
    }


def _recipe() -> Recipe:
    chosen = Options()
    return Recipe(
        size_deg=SIZE,
        pixels=PIXELS,
        statistics=chosen.statistics,
        smoothing_lengths=chosen.smoothing_lengths,
        ngal=(30.0,),
        epsilon=chosen.epsilon,
        nu_edges=chosen.nu_edges,
        l_edges=chosen.l_edges,
    )


def _lenstools(python: str, image: Path) -> dict[str, float]:
    words = [python, "-c", THEIRS, str(image), str(SIZE)]
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found
