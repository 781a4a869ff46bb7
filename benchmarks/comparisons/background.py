"""Background and stars of a true-size skycell beside sep alone on the same pixels.

Ours: bright regions, segments, pixels outside set to zero, stars of a catalogue removed. The peer: ``sep.extract`` with
the same threshold, noise and mask, and nothing else. CPU time of one process; rounds alternate. Allow ten minutes.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import sep

import lensflow as lf
from lensflow.ps1.background import clean_cell, exact_median
from lensflow.ps1.gaia import read_stars
from lensflow.ps1.options import Options

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 3
GOAL = 1.1
THRESH, BRIGHT = 2.5, 50.0
PIXSTACK, SUB_OBJECTS = 10_000_000, 8192  # more than sep allows by itself, as ours


def seconds(work: Callable[[], Any]) -> float:
    """Return the CPU seconds that something takes."""
    before = time.process_time()
    work()
    return time.process_time() - before


def compare() -> dict[str, Any]:
    """Time both and return the record, ready for JSON."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        simulated = lf.graph("ps1_convolution").verb("simulate")(folder, rows=(3, 4), columns=(3, 4), scale=1)
        stars = read_stars((simulated.catalogue,), epoch=None)
        options = Options(background="sep", stars="gaia", gaia=(str(simulated.catalogue),))
        layout = options.plan(simulated.source)[1][0].layout
        [files], projection, recipe = layout.cells, layout.projection, layout.recipe
        plain = Options(uncertainty=True).cleaning
        cell = clean_cell(files, projection, recipe, plain)
        assert cell.variance is not None
        sigma = np.sqrt(cell.variance)
        unseen = (cell.flux > BRIGHT * exact_median(sigma)) | ~(np.isfinite(cell.flux) & (sigma > 0))
        sep.set_extract_pixstack(PIXSTACK)
        sep.set_sub_object_limit(SUB_OBJECTS)
        ours, read, peer = [], [], []
        for _ in range(ROUNDS):
            peer.append(
                seconds(
                    lambda: sep.extract(np.nan_to_num(cell.flux), THRESH, err=sigma, mask=unseen, segmentation_map=True)
                )
            )
            read.append(seconds(lambda: clean_cell(files, projection, recipe, plain)))
            ours.append(seconds(lambda: clean_cell(files, projection, recipe, options.cleaning, stars)))
    stage = statistics.median(ours) - statistics.median(read)
    ratio = stage / statistics.median(peer)
    return {
        "name": f"background: {cell.flux.shape[0]} x {cell.flux.shape[1]} px, {len(stars)} catalogue stars",
        "ours": round(stage, 2),
        "peer": round(statistics.median(peer), 2),
        "ratio": round(ratio, 3),
        "goal": f"<= {GOAL} x sep.extract alone",
        "met": ratio <= GOAL,
        "reading_seconds": round(statistics.median(read), 2),
        "conditions": f"CPU seconds of one process, medians of {ROUNDS} rounds; reading the cell is not counted",
    }


if __name__ == "__main__":
    print(json.dumps(compare(), indent=1))
