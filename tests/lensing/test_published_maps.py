"""Published flat convergence maps through the graph and into HDF5, without the packages that LensingSSC needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import xarray as xr

import lensflow as lf
from lensflow.lensing.skies.stats_read import read_stats_hdf5
from lensflow.lensing.skies.stats_write import export_hdf5

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("name", "side"), [("ktng_kappa360v2.fits", 360), ("exp_colombia_true_convergence_map.fits", 256)]
)
def test_every_pixel_counts_and_every_statistic_is_finite(
    real_data: Path, tmp_path: Path, name: str, side: int
) -> None:
    """T11: number density 0 divides by nothing."""
    lazy = lf.graph("kappa_statistics")(
        real_data / "lensing" / "cosmostat" / name,
        pixel_scale_arcmin=0.29,
        zs=(1.0,),
        seed=1,
        smoothing_lengths=(1, 2),
        ngal=(0, 30),
        l_edges=(500, 1000, 2000, 4000, 8000),
        nu_edges=(-20, -2, -1, 0, 1, 2, 60),
    )
    assert isinstance(lazy, xr.Dataset)
    found = lazy.compute(scheduler="synchronous")
    assert (found["n_pix"] == side**2).all()
    np.testing.assert_array_equal(found["pdf_counts"].sum("nu_bin"), found["n_pix"])  # none beyond the bins
    for key in ("power_spectrum", "pdf", "peaks", "minima", "v0", "v1", "v2", "moments", "sigma0", "sigma1", "mean"):
        assert np.isfinite(found[key]).all(), key
    assert (found["status"] == 0).all()
    (path,) = export_hdf5(found, tmp_path)
    back = read_stats_hdf5(path)
    assert "theta" not in back.coords
    for one in found.data_vars.values():
        np.testing.assert_allclose(back[str(one.name)], one, rtol=1e-6, atol=1e-30, err_msg=str(one.name))
