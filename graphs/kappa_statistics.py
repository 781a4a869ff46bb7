"""Convergence statistics: patches of the sky with shape noise, smoothed, and what lensing measures on them."""

from pathlib import Path

import xarray as xr

from lensflow.lensing.patches.statistics_options import Options
from lensflow.lensing.patches.statistics_outputs import statistics_dataset
from lensflow.lensing.patches.survey import input_files, plan_survey
from lensflow.lensing.pictures.picture_statistics import picture_statistics as picture
from lensflow.lensing.simulate_kappa import simulate_kappa as simulate
from lensflow.lensing.skies.stats_write import export
from lensflow.signature import takes

__all__ = ["DEMO", "export", "graph", "inputs", "picture", "simulate"]

DEMO = {  # 59 patches of a sky with 14 arcmin pixels
    "simulate": {"nside": 256, "seed": 7},
    "graph": {
        "patch_size_deg": 20,
        "xsize": 256,
        "ngal": (0, 30),
        "smoothing_lengths": (10, 20),
        "l_edges": (50, 80, 130, 200, 320, 500),
    },
}


@takes(Options)
def graph(maps: Path, **options: object) -> xr.Dataset:
    """Cut convergence maps into patches, add shape noise, smooth, and measure each.

    Parameters
    ----------
    maps
        A store of kappa_maps, a HEALPix FITS file or a folder of them, one a redshift; or flat square FITS images.

    Returns
    -------
    xr.Dataset
        power_spectrum and bispectrum of patches; pdf, peaks, minima, v0, v1, v2 and moments after smoothing, with
        counts; their mean, sigma0, sigma1; f_valid and status. Dimensions zs, ngal, smoothing, patch and bins.

    Raises
    ------
    BadInput, BadOption
        If maps are absent, contradict their labels or each other; if an option is out of range.
    """
    chosen = Options.from_keywords(**options)
    return statistics_dataset(plan_survey(maps, chosen), chosen)


def inputs(maps: Path, **options: object) -> list[Path]:
    """List what the graph would read with the same keywords, for fingerprints."""
    return input_files(maps, Options.from_keywords(**options))
