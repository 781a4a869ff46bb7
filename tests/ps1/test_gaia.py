"""Catalogues of stars: what is read of them, and which stars fall on a skycell."""

import builtins
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord
from astropy.io.fits import Header
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from lensflow.errors import BadInput, BadOption
from lensflow.ps1.gaia import STAR, check_columns, find_catalogues, moved, read_stars, stars_near, tess_magnitude
from lensflow.ps1.tessellation import Geometry

LINES = {
    "source_id": [3, 1, 2],
    "ra": [10.0, 20.0, 30.0],
    "dec": [-5.0, 0.0, 89.0],
    "phot_g_mean_mag": [12.0, 15.0, 10.0],
    "phot_bp_mean_mag": [12.5, np.nan, 11.0],
    "phot_rp_mean_mag": [11.5, 14.0, 9.0],
}


def write(path: Path, **columns: Any) -> Path:
    pd.DataFrame({**LINES, **columns}).to_csv(path, index=False)
    return path


@pytest.mark.parametrize(
    ("g", "bp", "rp", "expected"),
    [
        # by hand: 12 - .00522555 + .0891337 - .633923 + .0324473
        (12.0, 12.5, 11.5, 11.48243245),
        # c = 2: 10 - 8*.00522555 + 4*.0891337 - 2*.633923 + .0324473
        (10.0, 11.0, 9.0, 9.0793317),
        (12.0, 11.5, 12.5, 12.7608),  # c = -1: + .00522555 + .0891337 + .633923 + .0324473 = .76072955
        (15.0, np.nan, 14.0, 14.57),
        (15.0, 16.0, np.nan, 14.57),
    ],
)
def test_the_magnitude_of_tess(g: float, bp: float, rp: float, expected: float) -> None:
    assert float(tess_magnitude(g, bp, rp)) == pytest.approx(expected, abs=1e-4)
    assert float(tess_magnitude(g, bp, rp)) == pytest.approx(
        g - 0.00522555 * (bp - rp) ** 3 + 0.0891337 * (bp - rp) ** 2 - 0.633923 * (bp - rp) + 0.0324473
        if np.isfinite(bp - rp)
        else g - 0.430,
        abs=1e-12,
    )


def test_without_g_there_is_no_magnitude(tmp_path: Path) -> None:
    found = read_stars([write(tmp_path / "a.csv", phot_g_mean_mag=[np.nan, 12.0, 13.0])])
    np.testing.assert_array_equal(np.isnan(found["tess_mag"]), [False, False, True])


def test_stars_come_in_order_and_once_from_several_catalogues(tmp_path: Path) -> None:
    one, other = write(tmp_path / "a.csv"), write(tmp_path / "b.csv", source_id=[1, 7, 3], extra=["a", "b", "c"])
    found = read_stars([one, other])
    assert found["source_id"].tolist() == [1, 2, 3, 7]
    assert found["ra"].tolist()[:3] == [20.0, 30.0, 10.0]
    large = write(tmp_path / "c.csv", source_id=[5853498713190525696, 5853498713190525697, 1])
    assert read_stars([large])["source_id"].tolist() == [1, 5853498713190525696, 5853498713190525697]


def test_the_body_of_a_gaia_archive_file_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv")
    path.write_text("# %ECSV 1.0\n# ---\n" + path.read_text())
    assert len(read_stars([path])) == 3


@pytest.mark.parametrize("name", list(LINES))
def test_a_missing_column_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.csv"
    pd.DataFrame({key: values for key, values in LINES.items() if key != name}).to_csv(path, index=False)
    with pytest.raises(BadInput, match=rf"a\.csv: found no column {name}, expected source_id, ra, dec"):
        check_columns(path)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"dec": [1.0, 91.0, 2.0]}, r"source_id 1: found ra 20\.0, dec 91\.0, expected degrees"),
        ({"ra": [1.0, 2.0, np.nan]}, r"source_id 2: found ra nan"),
        ({"ra": ["a", "b", "c"]}, r"column ra: .*expected numbers"),
        ({"source_id": [1, np.nan, 3]}, r"column source_id: .*expected numbers"),
        ({"source_id": ["x", "y", "z"]}, r"expected a catalogue|expected numbers"),
    ],
)
def test_damaged_catalogues_are_refused(tmp_path: Path, columns: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        read_stars([write(tmp_path / "a.csv", **columns)])


def test_no_table_at_all(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(bytes(range(256)) * 10)
    with pytest.raises(BadInput, match=r"a\.csv: found no"):
        check_columns(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("")
    with pytest.raises(BadInput, match=r"b\.csv: found no table"):
        check_columns(tmp_path / "b.csv")


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(BadOption, match="pip install pyarrow"):
        check_columns(tmp_path / "a.parquet")


def test_parquet_reads_as_csv_does(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is an extra")
    pd.DataFrame(LINES).to_parquet(tmp_path / "a.parquet")
    check_columns(tmp_path / "a.parquet")
    np.testing.assert_array_equal(read_stars([tmp_path / "a.parquet"]), read_stars([write(tmp_path / "a.csv")]))


def test_catalogues_are_found_by_path_or_by_ccd(tmp_path: Path) -> None:
    folder = tmp_path / "catalogs" / "sector_0020" / "camera_3" / "ccd_1"
    folder.mkdir(parents=True)
    path = write(folder / "gaia_catalog_s0020_3_1.csv")
    store = tmp_path / "cells.zarr"
    for source in (tmp_path, store):
        assert find_catalogues(("20/3/1",), (), source) == (path,)
        assert find_catalogues((), ("20/3/1", "2246"), source) == (path,)
    other = write(tmp_path / "a.csv")
    assert find_catalogues((str(path), str(other), "20/3/1"), (), tmp_path) == tuple(sorted((path, other)))
    with pytest.raises(BadInput, match=r"tried .*catalogs/sector_0021/camera_1/ccd_2/gaia_catalog_s0021_1_2\.csv and "):
        find_catalogues(("21/1/2",), (), tmp_path)
    with pytest.raises(BadInput, match="nowhere"):
        find_catalogues(("nowhere.csv",), (), tmp_path)
    with pytest.raises(BadOption, match="gaia: found no catalogue"):
        find_catalogues((), ("2246",), tmp_path)


def test_positions_are_taken_as_they_are_unless_an_epoch_is_asked_for(tmp_path: Path) -> None:
    motion = {"ref_epoch": [2016.0, 2016.0, np.nan], "pmra": [1000.0, np.nan, 5.0], "pmdec": [-500.0, 100.0, 5.0]}
    path = write(tmp_path / "a.csv", **motion)
    plain, then = read_stars([path]), read_stars([path], epoch=2012.0)
    assert plain["dec"].tolist() == [0.0, 89.0, -5.0]
    assert (then["dec"] - plain["dec"]) * 3.6e6 == pytest.approx([-400, 0, 2000], abs=0.05)
    assert (then["ra"] - plain["ra"]) * 3.6e6 * np.cos(np.deg2rad(5)) == pytest.approx([0, 0, -4000], abs=0.05)
    with pytest.raises(BadInput, match=r"found no column ref_epoch, pmra, pmdec \(needed to move"):
        read_stars([write(tmp_path / "b.csv")], epoch=2012.0)


@given(ra=st.floats(0, 360), dec=st.floats(-89.9999, 89.9999), east=st.floats(-1e6, 1e6), north=st.floats(-1e6, 1e6))
@settings(deadline=None, max_examples=60)
def test_moved_positions_are_as_far_away_as_they_moved(ra: float, dec: float, east: float, north: float) -> None:
    there = moved(*(np.array([value]) for value in (ra, dec, east, north)))
    distance = SkyCoord(ra, dec, unit="deg").separation(SkyCoord(*there, unit="deg")).arcsec * 1000
    assert distance[0] == pytest.approx(np.hypot(east, north), rel=1e-4, abs=0.1)


@pytest.mark.parametrize(("number", "y", "x"), [(2246, 3, 4), (2157, 4, 4), (2157, 5, 5), (2643, 4, 5), (487, 0, 9)])
def test_stars_on_a_cell_are_those_of_its_wcs(number: int, y: int, x: int) -> None:
    """C15: two of the cells lie across RA 0, one at the pole."""
    grid = replace(Geometry(20).projection(number), ra=Geometry(20).projection(number).ra + 1e-5)
    y0, x0 = grid.cell_origin(y, x)
    wcs = WCS(Header(grid.wcs_keys(origin=(y0, x0))))
    rng = np.random.default_rng(number)
    inside = rng.uniform(-80, 80 + grid.width, (2, 3000))
    ra, dec = wcs.pixel_to_world_values(*inside)
    far = rng.uniform(0, 360, 2000), rng.uniform(-90, 90, 2000)
    stars = np.zeros(5000, STAR)
    stars["source_id"] = np.arange(5000)
    stars["ra"], stars["dec"] = np.concatenate([ra, far[0]]), np.concatenate([dec, far[1]])
    found, px, py = stars_near(stars, grid, (y0, x0), (grid.height, grid.width), margin=24)
    expected = [
        k
        for k in range(3000)
        if -24.5 <= inside[0, k] <= grid.width + 23.5 and -24.5 <= inside[1, k] <= grid.height + 23.5
    ]
    assert [k for k in found["source_id"].tolist() if k < 3000] == expected
    near = found["source_id"] < 3000
    np.testing.assert_allclose(px[near], inside[0, expected], atol=1e-5)
    np.testing.assert_allclose(py[near], inside[1, expected], atol=1e-5)
    assert len(expected) > 1000
