"""The WCS of templates against astropy: planes, distortion, headers as they come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.io.fits import Header
from astropy.wcs import WCS

from lensflow.errors import BadInput, BadOption
from lensflow.ps1.cells import Rect
from lensflow.ps1.tess.image import Ccd, read_tess, refined, tan_sip
from lensflow.ps1.tess.knots import Placement
from lensflow.ps1.tess.simulate import tess_header
from lensflow.ps1.tess.sources import Occupancy, Source
from lensflow.ps1.tess.wcs import project, tangent_plane
from lensflow.ps1.tessellation import Geometry

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

CENTRES = [(118.0, 46.0), (0.0, 2.0), (359.99, -38.0), (240.0, 89.9), (12.0, 90.0), (77.0, -90.0)]


def sky(directions: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y, z = directions
    return np.rad2deg(np.arctan2(y, x)) % 360, np.rad2deg(np.arctan2(z, np.hypot(x, y)))


def apart(one: Any, other: Any) -> float:
    """Return the largest distance between positions, arcsec."""
    (a, d), (b, e) = np.deg2rad(one), np.deg2rad(other)
    return float(np.rad2deg(np.hypot(d - e, np.cos(d) * np.sin((a - b) / 2) * 2)).max() * 3600)


@pytest.mark.parametrize("centre", CENTRES)
@pytest.mark.parametrize("pole", [180.0, 0.0, 37.0])
def test_tangent_planes_are_those_of_astropy(centre: tuple[float, float], pole: float) -> None:
    header = tess_header(centre, shape=(200, 300), sip=False)
    header["LONPOLE"] = pole
    image = tan_sip(header, "test")
    x, y = np.meshgrid(np.linspace(0, 299, 7), np.linspace(0, 199, 5))
    expected = WCS(header).all_pix2world(x, y, 0)
    assert apart(sky(np.tensordot(image.matrix, np.stack([x, y, np.ones_like(x)]), 1)), expected) < 1e-7


def test_the_pole_of_the_tessellation_is_the_right_way_round() -> None:
    """Trap: without LONPOLE FITS turns the grid of 2643 by 180 degrees."""
    keys = Geometry().projection(2643).wcs_keys()
    expected = WCS(Header(keys)).wcs_pix2world([[100.0, 200.0]], 0)[0]
    found = sky(tangent_plane(keys) @ np.array([100.0, 200.0, 1.0]))
    assert apart(found, expected) < 1e-7


@pytest.mark.parametrize("centre", CENTRES)
def test_pixels_of_a_projection_are_where_astropy_says(centre: tuple[float, float]) -> None:
    """The whole way at the size of TESS: exact at knots, 1e-3 px between; measured 2e-5."""
    header = tess_header(centre, shape=(2078, 2136), rotation=31)
    image = tan_sip(header, "test")
    keys = Geometry().projection(2246).wcs_keys(crval=centre)
    source = Source(2246, "", (57000, 58000), (5809, 1024), tangent_plane(keys), np.zeros(3), ())
    placement = Placement(image, source, 1, 2.0)
    assert placement.spacing == 64
    for corner in ((29000, 29000), (8000, 31000), (41000, 12000)):
        rect = Rect(*corner, corner[0] + 256, corner[1] + 320)
        knots = placement.knots(rect)
        y, x = np.mgrid[rect.y0 : rect.y1 : 7, rect.x0 : rect.x1 : 11]
        world = WCS(Header(keys)).wcs_pix2world(x.ravel(), y.ravel(), 0)
        exact = WCS(header).all_world2pix(*world, 0, tolerance=1e-9)
        for values, expected in zip((knots.u, knots.v), exact, strict=True):
            row = knots.along_rows(values)[::7]
            column = np.arange(0, rect.shape[1], 11)
            cell, t = column // 64, column % 64 / 64
            found = (1 - t) * row[:, cell] + t * row[:, cell + 1]
            assert np.abs(found.ravel() - expected).max() < 5e-5


def test_distortion_and_its_inverse() -> None:
    header = tess_header((50.0, -20.0), shape=(2078, 2136))
    image = tan_sip(header, "test")
    x, y = np.meshgrid(np.linspace(-2, 2137, 40), np.linspace(-2, 2079, 41))
    far = image.undistorted(x, y)
    assert np.hypot(far[0] - x, far[1] - y).max() > 20  # px: the distortion is real
    assert (
        apart(sky(np.tensordot(image.matrix, np.stack([*far, np.ones_like(x)]), 1)), WCS(header).all_pix2world(x, y, 0))
        < 1e-6
    )
    back = image.distorted(*far, reach=image.reach(3), margin=3)
    np.testing.assert_allclose(back, (x, y), atol=1e-8)
    outside = image.distorted(*image.undistorted(x + 5000, y), reach=image.reach(3), margin=3)
    assert np.isnan(outside).all()


def test_behind_the_plane_there_is_nothing() -> None:
    here, there = (tangent_plane(Geometry().projection(number).wcs_keys()) for number in (1322, 1367))  # RA 0, 180
    assert np.isnan(project(np.linalg.inv(there) @ here, np.array([3e4]), np.array([3e4]))).all()


@pytest.mark.parametrize(("n", "shift"), [(1, (0.3, -0.4)), (3, (0.0, 0.0)), (4, (1.5, 0.25))])
def test_refined_keys_show_the_same_sky(n: int, shift: tuple[float, float]) -> None:
    header = tess_header((10.0, 80.0), shape=(100, 120))
    fine = WCS(Header(refined(tan_sip(header, "test").keys, n, shift)))
    x, y = np.meshgrid(np.linspace(0, 119, 5), np.linspace(0, 99, 5))
    moved = [(values + by + 0.5) * n - 0.5 for values, by in zip((x, y), shift, strict=True)]
    assert apart(fine.all_pix2world(*moved, 0), WCS(header).all_pix2world(x, y, 0)) < 1e-7


def test_a_union_of_rectangles() -> None:
    held = Occupancy.of([Rect(0, 0, 4, 4), Rect(2, 3, 6, 8), Rect(10, 0, 12, 2)])
    y, x = np.mgrid[-2:14, -2:10]
    expected = np.zeros(x.shape, bool)
    for y0, x0, y1, x1 in ((0, 0, 4, 4), (2, 3, 6, 8), (10, 0, 12, 2)):
        expected |= (y >= y0) & (y < y1) & (x >= x0) & (x < x1)
    np.testing.assert_array_equal(held.holds(x.astype(float), y.astype(float)), expected)
    assert not held.holds(np.array([np.nan]), np.array([1.0])).any()


def test_spacing_follows_the_pixels_of_the_template() -> None:
    image = tan_sip(tess_header((118.0, 46.0), shape=(50, 60)), "test")
    spacing = {}
    for scale, n in ((1, 1), (1, 2), (20, 1), (40, 1), (40, 4)):
        keys = Geometry(scale).projection(2246).wcs_keys(crval=(118.0, 46.0))
        source = Source(2246, "", (100, 100), (100, 100), tangent_plane(keys), np.zeros(3), ())
        spacing[scale, n] = Placement(image, source, n, 2.0).spacing
    assert spacing == {(1, 1): 64, (1, 2): 32, (20, 1): 2, (40, 1): 1, (40, 4): 1}


def test_knots_that_are_too_far_apart_are_refused() -> None:
    """One row between two knots would cross two borders, and one of them would be lost."""
    image = tan_sip(tess_header((118.0, 46.0), shape=(50, 60)), "test")
    keys = Geometry(20).projection(2246).wcs_keys(crval=(118.0, 46.0))
    source = Source(2246, "", (2900, 2900), (100, 100), tangent_plane(keys), np.zeros(3), ())
    placement = Placement(image, source, 1, 2.0)
    middle = Rect(1440, 1440, 1472, 1472)
    assert placement.knots(middle).spacing == 2
    placement.__dict__["spacing"] = 8
    with pytest.raises(BadInput, match=r"8 pixels of projection 2246 span [12]\.\d+ of its pixels"):
        placement.knots(middle)


def test_a_header_in_a_file_of_any_kind(tmp_path: Path) -> None:
    header = tess_header((118.0, 46.0), shape=(50, 60))
    text = tmp_path / "header.txt"
    header.totextfile(text)
    image = tmp_path / "tess2019357164649-s0020-3-4-0165-s_ffic.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.zeros((50, 60), np.float32), header)]).writeto(image)
    primary = tmp_path / "other.fits"
    header["CAMERA"], header["CCD"], header["SECTOR"] = 2, 1, 7
    fits.PrimaryHDU(np.zeros((50, 60), np.float32), header).writeto(primary)
    packed = tmp_path / "packed.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(np.zeros((50, 60), np.float32), header)]).writeto(packed)
    found = [read_tess(path) for path in (text, image, primary, packed)]
    assert [one.shape for one, _ in found] == [(50, 60)] * 4
    assert all(one.keys == found[0][0].keys for one, _ in found)
    assert [ccd for _, ccd in found] == [Ccd(None, None, None), Ccd(20, 3, 4), Ccd(7, 2, 1), Ccd(7, 2, 1)]


def test_pc_and_cdelt_are_another_spelling_of_cd() -> None:
    header = tess_header((118.0, 46.0), shape=(50, 60))
    other = header.copy()
    for i in (1, 2):
        other[f"CDELT{i}"] = 0.005
        for j in (1, 2):
            other[f"PC{i}_{j}"] = other.pop(f"CD{i}_{j}") / 0.005
    found, expected = tan_sip(other, "test").keys, tan_sip(header, "test").keys
    for key, value in expected.items():
        assert found[key] == (pytest.approx(value, rel=1e-12) if isinstance(value, float) else value)


def test_what_is_no_tess_image_is_refused(tmp_path: Path) -> None:
    good = tess_header((118.0, 46.0), shape=(50, 60))
    for key, value, match in (
        ("NAXIS1", None, "NAXIS1: found None"),
        ("NAXIS2", 0, "NAXIS2: found 0"),
        ("CTYPE2", "GLAT-TAN", "its WCS cannot be read .*Inconsistent"),
        ("CTYPE", ("RA---ZEA", "DEC--ZEA"), "CTYPE1, CTYPE2: found .*expected .*TAN-SIP"),
        ("CTYPE", ("DEC--TAN-SIP", "RA---TAN-SIP"), "CTYPE1, CTYPE2: found|its WCS cannot be read"),
        ("A_ORDER", None, "its WCS cannot be read"),
    ):
        bad = good.copy()
        if value is None:
            del bad[key]
        elif isinstance(value, tuple):
            bad["CTYPE1"], bad["CTYPE2"] = value
        else:
            bad[key] = value
        with pytest.raises(BadInput, match=match):
            tan_sip(bad, "bad.fits")
    with pytest.raises(BadInput, match="no such file"):
        read_tess(tmp_path / "none.fits")
    (tmp_path / "short.txt").write_text("SIMPLE  =                    T\nNAXIS   =                    0\n")
    with pytest.raises(BadInput, match="NAXIS2: found None"):
        read_tess(tmp_path / "short.txt")
    (tmp_path / "noise.fits").write_bytes(b"no header at all " * 200)
    with pytest.raises(BadInput, match="found no FITS header"):
        read_tess(tmp_path / "noise.fits")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" * 99)
    with pytest.raises(BadInput, match="neither FITS nor the text of a header"):
        read_tess(tmp_path / "a.png")
    with pytest.raises(BadOption, match="shape, pixel"):
        tess_header((0.0, 0.0), shape=(0, 5))
