"""The skycells under a TESS CCD, against the sphere sampled densely."""

from collections import Counter
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import lensflow as lf
from lensflow.errors import BadInput
from lensflow.ps1.ccd import BUFFER, ccd_cells, cells_under, outline
from lensflow.ps1.combine import Combination
from lensflow.ps1.simulate import simulate
from lensflow.ps1.tessellation import CELLS, FIRST, LAST, RINGS_V3, Geometry, Skycell, sky_to_grid

SHAPE = 2078, 2136  # of a full-frame image
STEP = 20.8 / 3600  # deg/px


def header(ra: float, dec: float, *, turn: float = 30.0, step: float = STEP, sip: bool = True) -> fits.Header:
    """Return world coordinates such as those of TESS: TAN with a distortion of some pixels at the corners."""
    cosine, sine = step * np.cos(np.deg2rad(turn)), step * np.sin(np.deg2rad(turn))
    keys: dict[str, Any] = {
        "NAXIS": 2,
        "NAXIS1": SHAPE[1],
        "NAXIS2": SHAPE[0],
        "CTYPE1": "RA---TAN-SIP" if sip else "RA---TAN",
        "CTYPE2": "DEC--TAN-SIP" if sip else "DEC--TAN",
        "CUNIT1": "deg",
        "CUNIT2": "deg",
        "CRVAL1": ra,
        "CRVAL2": dec,
        "CRPIX1": 1045.0,
        "CRPIX2": 1001.0,
        "CD1_1": -cosine,
        "CD1_2": sine,
        "CD2_1": sine,
        "CD2_2": cosine,
    }
    if sip:
        keys |= {
            "A_ORDER": 3,
            "B_ORDER": 3,
            "A_2_0": 4e-6,
            "A_1_1": -6e-6,
            "A_0_3": 2e-9,
            "B_0_2": -5e-6,
            "B_3_0": 3e-9,
        }
    return fits.Header(keys)


def write(path: Path, wcs: fits.Header) -> Path:
    """Write an image of no pixels' worth behind an empty primary, as TESS does."""
    image = fits.ImageHDU(np.zeros(SHAPE, np.uint8))
    image.header.update({key: wcs[key] for key in wcs if not key.startswith("NAXIS")})
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(path)
    return path


def directions(ra: Any, dec: Any) -> NDArray[np.float64]:
    a, d = np.deg2rad(ra), np.deg2rad(dec)
    return np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)])


def brute(wcs: fits.Header, geometry: Geometry, *, buffer: float, points: int) -> set[Skycell]:
    """Return the cells whose usable area holds any of a dense grid of positions of an image."""
    x = np.linspace(-0.5 - buffer, SHAPE[1] - 0.5 + buffer, points)
    y = np.linspace(-0.5 - buffer, SHAPE[0] - 0.5 + buffer, points)
    ra, dec = WCS(wcs).all_pix2world(*(axis.ravel() for axis in np.meshgrid(x, y)), 0)
    middle = directions(ra, dec).mean(axis=-1)
    found: set[Skycell] = set()
    for number in range(FIRST, LAST + 1):
        grid = geometry.projection(number)
        if directions(grid.ra, grid.dec) @ middle < np.cos(np.deg2rad(15)):
            continue
        gx, gy = sky_to_grid(grid, ra, dec)
        near = np.isfinite(gx) & (gx > 0) & (gx < grid.shape[1]) & (gy > 0) & (gy < grid.shape[0])
        if near.any():
            found |= _holding(grid, gx[near], gy[near])
    return found


def _holding(grid: Any, gx: NDArray[np.float64], gy: NDArray[np.float64]) -> set[Skycell]:
    edge, found = grid.geometry.edge, set()
    for y in range(CELLS):
        for x in range(CELLS):
            y0, x0 = grid.cell_origin(y, x)
            inside = (gx >= x0 + edge) & (gx <= x0 + grid.width - 1 - edge)
            if (inside & (gy >= y0 + edge) & (gy <= y0 + grid.height - 1 - edge)).any():
                found.add(Skycell(grid.number, y, x))
    return found


@pytest.mark.parametrize(
    ("ra", "dec", "turn"),
    [(150.0, 62.0, 30.0), (0.5, 45.0, 200.0), (359.9, 2.0, 75.0), (30.0, 89.5, 10.0), (200.0, 80.0, 300.0)],
)
def test_the_cells_are_those_that_hold_a_position_of_the_image(
    tmp_path: Path, ra: float, dec: float, turn: float
) -> None:
    wcs = header(ra, dec, turn=turn)
    path = write(tmp_path / "tess2020-s0020-3-3_ffic.fits", wcs)
    found = set(map(Skycell.parse, ccd_cells(str(path), RINGS_V3)))
    sampled = brute(wcs, RINGS_V3, buffer=BUFFER, points=250)  # 3' apart: touches of a corner slip through
    assert sampled <= found
    assert len(found - sampled) < 0.01 * len(found)
    assert 850 < len(found) < 1500  # the grids overlap most at the pole
    assert 12 <= len({cell.projection for cell in found}) <= 30


@given(st.floats(0, 360), st.floats(-25, 90), st.floats(0, 360), st.sampled_from([0.02, 0.3, 1.0]))
@settings(max_examples=10, deadline=None)
def test_images_of_any_size_anywhere(ra: float, dec: float, turn: float, size: float) -> None:
    wcs = header(ra, dec, turn=turn, step=STEP * size, sip=False)
    x, y = (np.array([-0.5, SHAPE[k] - 0.5]) for k in (1, 0))
    border = directions(*WCS(wcs).all_pix2world(x[[0, 1, 1, 0]], y[[0, 0, 1, 1]], 0))
    found = set(cells_under(border.T, Geometry(20)))  # great circles: no distortion
    sampled = brute(wcs, Geometry(20), buffer=0, points=100)
    assert sampled <= found
    assert len(found - sampled) <= max(3, 0.03 * len(found))


def test_a_buffer_makes_it_wider(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits", header(150, 62))
    plain, wide = (set(cells_under(outline(path, buffer=buffer), RINGS_V3)) for buffer in (0, 200))
    assert plain < wide
    assert wide >= brute(header(150, 62), RINGS_V3, buffer=200, points=100)


def test_other_selections_stay_as_they_are() -> None:
    for item in ("2246", "skycell.2246.033", "list.csv", "20/3/3"):
        assert ccd_cells(item, RINGS_V3) == (item,)


def test_images_without_a_place_on_the_sky_are_refused(tmp_path: Path) -> None:
    bare = tmp_path / "bare.fits"
    fits.PrimaryHDU(np.zeros((3, 3), np.uint8)).writeto(bare)
    with pytest.raises(BadInput, match="CTYPE1"):
        ccd_cells(str(bare), RINGS_V3)
    with pytest.raises(BadInput, match="outside of RINGS"):
        ccd_cells(str(write(tmp_path / "south.fits", header(80, -75))), RINGS_V3)
    with pytest.raises(BadInput, match="degrees from its middle"):
        ccd_cells(str(write(tmp_path / "wide.fits", header(80, 20, step=0.1, sip=False))), RINGS_V3)
    broken = header(80, 20, sip=False)
    broken["CD1_1"] = broken["CD1_2"] = 0.0
    with pytest.raises(BadInput, match=r"broken\.fits: found world coordinates"):
        ccd_cells(str(write(tmp_path / "broken.fits", broken)), RINGS_V3)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Skycells of two projections, and the images of two small CCDs that overlap where they meet."""
    out = tmp_path_factory.mktemp("shared")
    images = []
    for ccd, ra in ((2, 120.6), (3, 121.0)):
        small = header(ra, 46.1, step=STEP / 24, sip=False)
        images.append(str(write(out / f"tess2019357164649-s0020-3-{ccd}-0165-s_ffic.fits", small)))
    cells = tuple(dict.fromkeys(cell for path in images for cell in ccd_cells(path, Geometry(40))))
    words: dict[str, Any] = {"mode": "constant", "format": "zarr", "bands": ("r",), "weights": False, "masks": False}
    return simulate(out, cells, scale=40, **words).source, images


def reads(
    source: Path, selection: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, **words: Any
) -> Counter[tuple[str, int]]:
    """Compute a selection, and return how often each row of each skycell was read."""
    found: Counter[tuple[str, int]] = Counter()
    slabs = Combination.slabs

    def counted(self: Combination, start: int, stop: int) -> Any:
        found.update((str(self.cell.cell), row) for row in range(start, stop))
        return slabs(self, start, stop)

    lazy = lf.graph("ps1_convolution")(source, selection=selection, scale=40, bands=("r",), **words)
    with monkeypatch.context() as patch:
        patch.setattr(Combination, "slabs", counted)
        dask.compute(*(node.to_dataset() for node in lazy.children.values()), scheduler="sync")
    return found


def test_cells_that_ccds_share_are_read_once(shared: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    source, images = shared
    one, other = (set(ccd_cells(path, Geometry(40))) for path in images)
    assert {name.split(".")[1] for name in one & other} == {"2246", "2247"}
    alone = {"fill": "none", "halo_cells": False}
    both = reads(source, tuple(images), monkeypatch, **alone)
    assert {name for name, _ in both} == one | other
    assert set(both.values()) == {1}
    apart = [reads(source, (path,), monkeypatch, **alone) for path in images]
    again = sum(count for counts in apart for (name, _), count in counts.items() if name in one & other)
    once = sum(count for (name, _), count in both.items() if name in one & other)
    assert again > 1.8 * once  # what is spared
    filled = reads(source, tuple(images), monkeypatch)
    assert sum(filled.values()) < 2 * len(filled)  # what fills in the other projection is read for that too


def test_each_ccd_keeps_the_list_of_its_cells(shared: tuple[Path, list[str]], tmp_path: Path) -> None:
    source, images = shared
    one, other = (sorted(ccd_cells(path, Geometry(40))) for path in images)
    graph = lf.graph("ps1_convolution")
    made = graph(source, selection=tuple(images), scale=40, bands=("r",))
    assert made.attrs["ccds"] == {"20/3/2": one, "20/3/3": other}
    assert set(made.attrs["selection"]) == {*one, *other}
    backwards = graph(source, selection=tuple(images[::-1]), scale=40, bands=("r",))
    assert list(backwards.attrs["ccds"].items()) == list(made.attrs["ccds"].items())
    part = graph(source, selection=tuple(images), projection=2246, scale=40, bands=("r",))
    assert part.attrs["ccds"]["20/3/2"] == [name for name in one if ".2246." in name]
    listed = tmp_path / "mine.csv"
    listed.write_text("NAME\n" + "\n".join(one) + "\n")
    lists = graph(source, selection=("20/3/3", str(listed), other[0]), scale=40, bands=("r",)).attrs["ccds"]
    assert lists == {"20/3/3": sorted({*one, *other}), "mine.csv": one}  # the simulator lists all that it wrote
    for alone in (images[0], one[0]):  # however a selection of one is spelled, the result is the same
        assert "ccds" not in graph(source, selection=(alone,), scale=40, bands=("r",)).attrs


def test_ccds_that_share_cells_are_one_selection(tmp_path: Path) -> None:
    words = {"mode": "constant", "format": "zarr", "bands": ("r",), "weights": False}
    source = simulate(tmp_path, rows=(3, 6), columns=(3, 7), scale=40, **words).source  # type: ignore[arg-type]
    small = {"step": STEP / 16, "sip": False}
    paths = [str(write(tmp_path / f"{k}.fits", header(ra, 46.2, **small))) for k, ra in enumerate((119.0, 119.6))]  # type: ignore[arg-type]
    one, other = (set(ccd_cells(path, Geometry(40))) for path in paths)
    there = {f"skycell.2246.0{y}{x}" for y in range(3, 6) for x in range(3, 7)}
    assert one & other & there
    assert one - other & there
    made = lf.graph("ps1_convolution")(source, selection=tuple(paths), scale=40, bands=("r",))
    assert set(made["2246"].attrs["cells"]) == (one | other) & there
    assert set(made.attrs["selection"]) == one | other
