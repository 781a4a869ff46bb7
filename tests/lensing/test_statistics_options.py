"""Options of the patch statistics: refused while building."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

import lensflow as lf
from lensflow.errors import BadOption
from lensflow.lensing.patches.statistics_options import DEFAULT_STATISTICS, STATISTICS, Options


def test_defaults_are_those_of_the_graph() -> None:
    signature = inspect.signature(lf.graph("kappa_statistics"))
    defaults = {name: one.default for name, one in signature.parameters.items() if name != "maps"}
    assert defaults == {one.name: one.default for one in fields(Options)}


def test_default_bins_and_statistics() -> None:
    chosen = Options()
    assert chosen.nu_edges == (-4, -3, -2, -1, 0, 1, 2, 3, 4)
    expected = [300, 400.0564, 533.4838, 711.4121, 948.6833, 1265.0895, 1687.0240, 2249.6826, 3000]
    np.testing.assert_allclose(chosen.l_edges, expected, rtol=1e-7)
    assert {"starlet", "full_sky_cl"} == set(STATISTICS) - set(DEFAULT_STATISTICS)
    chosen.check_grid(10, 2048)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"statistics": ("pdf", "spectrum")}, "statistics: found spectrum, expected power_spectrum, bispectrum, pdf"),
        ({"statistics": ()}, "statistics: found none"),
        ({"ngal": (-1.0,)}, "ngal: found"),
        ({"ngal": ()}, "ngal: found"),
        ({"ngal": (7.0, 7.0000001)}, "ngal: found .*differ in six digits"),
        ({"zs": (1.0, 1.0)}, "zs: found"),
        ({"smoothing_lengths": (float("nan"),)}, "smoothing_lengths: found"),
        ({"epsilon": 0.0}, "epsilon: found 0"),
        ({"epsilon": float("inf")}, "epsilon: found inf"),
        ({"patch_size_deg": 61.0}, "patch_size_deg: found 61.*at most 60"),
        ({"xsize": 7}, "xsize: found 7, expected 8 or more"),
        ({"min_valid": 1.5}, "min_valid: found"),
        ({"realisation": -1}, "realisation: found -1"),
        ({"patches_per_block": 0}, "patches_per_block: found 0"),
        ({"nu_edges": (0.0, 0.0)}, "nu_edges: found .*increasing"),
        ({"nu_edges": (0.0,)}, "nu_edges: found"),
        ({"l_edges": (300.0, 200.0)}, "l_edges: found"),
        ({"l_edges": (-1.0, 200.0)}, "l_edges: found -1"),
        ({"snr_sigma": 0.0}, "snr_sigma: found 0"),
        ({"pixel_scale_arcmin": -1.0}, "pixel_scale_arcmin: found -1"),
    ],
)
def test_values_out_of_range_are_refused(words: dict[str, Any], message: str) -> None:
    with pytest.raises(BadOption, match=message):
        Options(**words)


@pytest.mark.parametrize(
    ("words", "size", "pixels", "message"),
    [
        ({"l_edges": (300.0, 4000.0)}, 10, 200, "l_edges: found 4000, expected at most 3600"),
        ({}, 10, 100, "l_edges: found 3000, expected at most 1800"),
        (
            {"smoothing_lengths": (2.0, 0.1)},
            10,
            2048,
            r"smoothing_lengths: found 0\.1 arcmin, expected at least 0\.146",
        ),
    ],
)
def test_what_pixels_do_not_resolve_is_refused(words: dict[str, Any], size: float, pixels: int, message: str) -> None:
    with pytest.raises(BadOption, match=message):
        Options(**words).check_grid(size, pixels)


def test_an_apron_is_as_wide_as_the_widest_kernel() -> None:
    assert Options(boundary="apron").apron(60 * 10 / 2048) == int(4 * 10 / (600 / 2048) + 0.5)
    assert Options().apron(0.3) == 0
    assert Options(boundary="apron", smoothing_lengths=()).apron(0.3) == 0
