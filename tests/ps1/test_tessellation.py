"""The tessellation against the survey's own table, headers and astropy."""

import re
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from lensflow.errors import BadInput, BadOption
from lensflow.ps1.maskbits import HEADER_NAMES, MASK_VALUE, MaskBit
from lensflow.ps1.tessellation import (
    FIRST,
    LAST,
    RINGS_V3,
    Geometry,
    Projection,
    Skycell,
    grid_to_sky,
    locate,
    rings,
    sky_to_grid,
)

SCALES = [n for n in range(1, 241) if 240 % n == 0]
numbers = st.integers(FIRST, LAST)
scales = st.sampled_from(SCALES)
fractions = st.floats(0, 1)


def wcs_of(keys: dict[str, float | str]) -> WCS:
    return WCS(fits.Header(keys))


def pixel_of(wcs: WCS, x: float, y: float) -> tuple[float, float]:
    ra, dec = wcs.wcs_pix2world([[x, y]], 0)[0]
    return float(ra), float(dec)


# A1


def test_a1_ring_table_is_that_of_the_survey(real_data: Path) -> None:
    with fits.open(real_data / "ps1" / "grid" / "ps1grid.fits") as hdus:
        table = hdus[1].data
    for key in ("ZONE", "PROJCELL", "NBAND", "DEC", "XCELL", "YCELL", "CRPIX1", "CRPIX2"):
        assert [getattr(ring, key.lower()) for ring in rings()] == table[key].tolist(), key
    for key in ("DEC_MIN", "DEC_MAX"):
        np.testing.assert_allclose([getattr(ring, key.lower()) for ring in rings()], table[key], rtol=0, atol=1e-11)


def test_a1_ring_table_covers_every_projection_and_declination_once() -> None:
    for south, north in zip(rings(), rings()[1:], strict=False):
        assert north.projcell == south.projcell + south.nband
        assert north.dec_min == south.dec_max
        assert (north.zone, north.dec) == (south.zone + 1, south.dec + 4)
    assert (rings()[0].projcell, rings()[-1].projcell) == (FIRST, LAST)
    assert sum(ring.nband for ring in rings()) == 2157


def test_a1_mask_bits_are_those_of_a_real_header(real_data: Path) -> None:
    text = (real_data / "ps1" / "PS1_MASK_HEADER.txt").read_text()
    listed = text.split("bit values:")[1].split("(MASK.VALUE")[0]
    found = {name: int(value) for name, value in re.findall(r"([A-Z]+(?:\.[A-Z]+)?) (\d+)", listed)}
    assert dict(HEADER_NAMES) == found
    assert len(HEADER_NAMES) == int(re.findall(r"MSKNUM=(\d+)", text)[0])


def test_a1_mask_bits_fill_sixteen_bits() -> None:
    assert [bit.value for bit in MaskBit] == [1 << position for position in range(16)]
    assert MaskBit["BURNTOOL"].name == "SUSPECT"
    bad = ("DETECTOR", "FLAT", "DARK", "BLANK", "CTE", "SAT", "LOW", "CR", "CONV_BAD")
    assert sum(MaskBit[name] for name in bad) == MASK_VALUE


# A2

HEADERS = [
    # cell, NAXIS, CRPIX, CRVAL of real headers
    ("skycell.2180.097", (6320, 6284), (-11440.5, -22976.0), (121.764701843296, 42.0)),
    ("skycell.0714.074", (6255, 6265), (6016.5, -11329.5), (0.0, -26.0)),
    ("skycell.2247.041", (6307, 6289), (23546.0, 6051.0), (123.75, 46.0)),
    ("skycell.2559.028", (6365, 6350), (-17416.5, 17850.0), (229.0909118652344, 70.0)),
    ("skycell.2556.080", (6365, 6350), (29663.5, -17370.0), (196.363636, 70.0)),
    ("skycell.2629.049", (6481, 6429), (-23763.0, 6191.0), (240.0, 82.0)),
    ("skycell.2629.068", (6481, 6429), (-17762.0, -5707.0), (240.0, 82.0)),
]


@pytest.mark.parametrize(("name", "naxis", "crpix", "crval"), HEADERS)
def test_a2_formula_gives_the_headers(
    name: str, naxis: tuple[int, int], crpix: tuple[float, float], crval: tuple[float, float]
) -> None:
    cell = Skycell.parse(name)
    grid = RINGS_V3.projection(cell.projection)
    assert (grid.width, grid.height) == naxis
    assert grid.cell_crpix(cell.y, cell.x) == crpix
    assert (grid.ra, grid.dec) == pytest.approx(crval, rel=0, abs=2e-5)


# A3: a cutout's (CRPIX1, CRPIX2) or file, the pixel (x, y) of the cell where it starts, and that of the grid

CUTOUTS = [
    ("skycell.1329.005", (-571.0, 25134.0), (811, 3923), (29611, 3923)),
    ("skycell.0637.097", (-13531.5, -28105.5), (2183, 5191), None),
    ("skycell.1329.005", "hostphot_SN2006bh/PS1_r.fits", (811, 3923), (29611, 3923)),
    ("skycell.1226.009", "frb190608/frb190608_panstarrs_iband.fits", (1270, 1540), (53569, 1540)),
    ("skycell.1226.009", "frb190608/frb190608_panstarrs_rband.fits", (1290, 1560), (53589, 1560)),
]


@pytest.mark.parametrize(("name", "header", "on_cell", "on_grid"), CUTOUTS)
def test_a3_cutouts_start_on_a_pixel(
    name: str,
    header: tuple[float, float] | str,
    on_cell: tuple[int, int],
    on_grid: tuple[int, int] | None,
    request: pytest.FixtureRequest,
) -> None:
    if isinstance(header, str):
        cards = fits.getheader(request.getfixturevalue("real_data") / "ps1" / header)
        crpix = cards["CRPIX1"], cards["CRPIX2"]
    else:
        crpix = header
    cell = Skycell.parse(name)
    grid = RINGS_V3.projection(cell.projection)
    origin = tuple(np.subtract(grid.cell_crpix(cell.y, cell.x), crpix))
    assert origin == pytest.approx(on_cell, rel=0, abs=1e-6)
    if on_grid is not None:
        assert np.add(origin, grid.cell_origin(cell.y, cell.x)[::-1]) == pytest.approx(on_grid, rel=0, abs=1e-6)


# A4

Case = tuple[str, int, tuple[int, int], tuple[int, int], tuple[float, float]]
SKY: list[Case] = [
    # file, projection, grid (x, y) of its first pixel, its pixel (x, y), RA and Dec
    ("hostphot_SN2006bh/PS1_r.fits", 1329, (29611, 3923), (0, 0), (27.96029581, 0.25519223)),
    ("hostphot_SN2006bh/PS1_r.fits", 1329, (29611, 3923), (239, 239), (27.94370556, 0.27177414)),
    ("hostphot_SN2006bh/PS1_r.fits", 1329, (29611, 3923), (119, 126), (27.95203542, 0.26393413)),
    ("frb190608/frb190608_panstarrs_rband.fits", 1226, (53589, 1560), (0, 0), (334.02825928, -7.90654077)),
]


@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")  # obsolete keys of real headers
@pytest.mark.parametrize("case", SKY)
def test_a4_cutouts_lie_where_their_headers_say(case: Case, real_data: Path) -> None:
    file, number, first, pixel, sky = case
    header = fits.getheader(real_data / "ps1" / file)
    crval = header["CRVAL1"], header["CRVAL2"]
    keys = RINGS_V3.projection(number).wcs_keys(origin=first[::-1], crval=crval)
    assert pixel_of(WCS(header), *pixel) == pytest.approx(sky, rel=0, abs=1e-8)
    assert pixel_of(wcs_of(keys), *pixel) == pytest.approx(pixel_of(WCS(header), *pixel), rel=0, abs=1e-11)


@pytest.mark.parametrize(("pixel", "sky"), [row[3:] for row in SKY[:3]])
def test_a4_nominal_grid_gives_the_positions_of_sn2006bh(pixel: tuple[int, int], sky: tuple[float, float]) -> None:
    keys = RINGS_V3.projection(1329).wcs_keys(origin=(3923, 29611))
    assert pixel_of(wcs_of(keys), *pixel) == pytest.approx(sky, rel=0, abs=1e-8)


@pytest.mark.parametrize("scale", [1, 20])
def test_a4_north_of_the_pole_projections_centre_is_ra_180(scale: int) -> None:
    grid = Geometry(scale).projection(2643)
    x, y = grid.crpix[0] - 1, grid.crpix[1] - 1
    ra, dec = pixel_of(wcs_of(grid.wcs_keys()), x, y + 100)
    assert ra == pytest.approx(180, rel=0, abs=1e-8)
    assert dec == pytest.approx(90 - 100 * grid.geometry.pixel_scale, abs=1e-6)
    assert [float(value) for value in grid_to_sky(grid, x, y + 100)] == pytest.approx([ra, dec], rel=0, abs=1e-9)


def test_a4_without_lonpole_the_pole_would_be_turned() -> None:
    grid = RINGS_V3.projection(2643)
    keys = grid.wcs_keys()
    assert keys.pop("LONPOLE") == 180
    ra, _ = pixel_of(wcs_of(keys), grid.crpix[0] - 1, grid.crpix[1] + 99)
    assert ra % 360 == pytest.approx(0, abs=1e-8)


def test_wcs_keys_are_plain_and_state_one_frame() -> None:
    keys = RINGS_V3.projection(2246).wcs_keys(origin=(5, 7), crval=(1.5, 2.5))
    assert {type(value) for value in keys.values()} == {float, str}
    assert (keys["RADESYS"], keys["EQUINOX"], keys["CRVAL1"], keys["CRVAL2"]) == ("FK5", 2000.0, 1.5, 2.5)
    whole = RINGS_V3.projection(2246).crpix
    assert (keys["CRPIX1"], keys["CRPIX2"]) == (whole[0] - 7, whole[1] - 5)


# projection of positions


def some_pixels(grid: Projection, number: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(grid.number)
    height, width = grid.shape
    return rng.uniform(0, width - 1, number), rng.uniform(0, height - 1, number)


@pytest.mark.parametrize("number", [487, 796, 1232, 1322, 1329, 2157, 2224, 2246, 2559, 2634, 2643])
@pytest.mark.parametrize("scale", [1, 40])
def test_positions_agree_with_astropy(number: int, scale: int) -> None:
    grid = Geometry(scale).projection(number)
    x, y = some_pixels(grid)
    wcs = wcs_of(grid.wcs_keys())
    ra, dec = wcs.wcs_pix2world(x, y, 0)
    found = sky_to_grid(grid, ra, dec)
    np.testing.assert_allclose(found, wcs.wcs_world2pix(ra, dec, 0), rtol=0, atol=2e-9)  # astropy is 1.5e-9 px off
    mine = grid_to_sky(grid, x, y)
    np.testing.assert_allclose(mine[1], dec, rtol=0, atol=1e-12)
    np.testing.assert_allclose((mine[0] - ra + 180) % 360 - 180, 0, atol=1e-12 / np.cos(np.deg2rad(dec)).min())


def exact_pixels(grid: Projection, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """TAN in extended precision."""
    degree = np.longdouble("3.14159265358979323846264338327950288") / 180
    a = (np.longdouble(1) * ra - grid.ra + 180) % 360 - 180
    a, d, d0 = a * degree, np.longdouble(1) * dec * degree, grid.dec * degree
    cosine = np.sin(d0) * np.sin(d) + np.cos(d0) * np.cos(d) * np.cos(a)
    step = grid.geometry.pixel_scale * degree
    xi = np.cos(d) * np.sin(a) / cosine / step
    eta = (np.cos(d0) * np.sin(d) - np.sin(d0) * np.cos(d) * np.cos(a)) / cosine / step
    return grid.crpix[0] - 1 - xi, grid.crpix[1] - 1 + eta


@pytest.mark.parametrize("number", [487, 796, 1322, 2157, 2224, 2246, 2559, 2643])
def test_positions_are_exact_to_a_billionth_of_a_pixel(number: int) -> None:
    grid = RINGS_V3.projection(number)
    x, y = some_pixels(grid, 500)
    ra, dec = grid_to_sky(grid, x, y)
    assert (ra.max() - ra.min() > 180) == (number in {487, 796, 1322, 2157, 2643})  # these cross RA 0
    exact = exact_pixels(grid, ra, dec)
    np.testing.assert_allclose(sky_to_grid(grid, ra, dec), np.stack(exact).astype(float), rtol=0, atol=1e-9)
    np.testing.assert_allclose(np.stack([x, y]), np.stack(exact).astype(float), rtol=0, atol=1e-9)


@given(number=numbers, scale=scales, u=fractions, v=fractions)
@settings(deadline=None, max_examples=200)
def test_pixels_survive_the_way_to_the_sky_and_back(number: int, scale: int, u: float, v: float) -> None:
    grid = Geometry(scale).projection(number)
    x, y = u * (grid.shape[1] - 1), v * (grid.shape[0] - 1)
    ra, dec = grid_to_sky(grid, x, y)
    assert 0 <= ra < 360
    assert [float(value) for value in sky_to_grid(grid, ra, dec)] == pytest.approx([x, y], rel=0, abs=2e-9)


def test_the_far_side_of_the_sky_has_no_pixel() -> None:
    x, y = sky_to_grid(RINGS_V3.projection(1322), [0.0, 180.0], [2.0, -2.0])
    assert np.isfinite([x[0], y[0]]).all()
    assert np.isnan([x[1], y[1]]).all()


# cells


@given(number=numbers, scale=scales)
@settings(deadline=None, max_examples=100)
def test_neighbours_share_the_overlap_and_fill_the_grid(number: int, scale: int) -> None:
    geometry = Geometry(scale)
    grid = geometry.projection(number)
    assert geometry.overlap * scale == 480
    assert geometry.split * 2 == geometry.overlap
    assert geometry.radius == geometry.overlap - geometry.edge
    assert grid.cell_origin(0, 1)[1] + geometry.overlap == grid.cell_origin(0, 0)[1] + grid.width
    assert grid.cell_origin(1, 0)[0] + geometry.overlap == grid.cell_origin(0, 0)[0] + grid.height
    y, x = grid.cell_origin(9, 9)
    assert (y + grid.height, x + grid.width) == grid.shape
    assert grid.cell_crpix(0, 0) == grid.crpix


@pytest.mark.parametrize("scale", [20, 40])
@pytest.mark.parametrize("number", [714, 2246, 2643])
def test_scaled_copies_show_the_same_sky(number: int, scale: int) -> None:
    true, copy = RINGS_V3.projection(number), Geometry(scale).projection(number)
    assert (copy.ra, copy.dec) == (true.ra, true.dec)
    assert copy.width == -(-(true.width - 480) // scale) + 480 // scale
    # the lower left corner of cell (5, 5) is the same place: strides grow by less than a pixel a cell
    corners = [
        grid_to_sky(grid, grid.cell_origin(5, 5)[1] - 0.5, grid.cell_origin(5, 5)[0] - 0.5) for grid in (true, copy)
    ]
    np.testing.assert_allclose(corners[1], corners[0], rtol=0, atol=1e-10 if number != 2643 else 1e-6)


def test_scale_20_is_312_pixels() -> None:
    geometry = Geometry(20)
    grid = geometry.projection(2643)
    assert (grid.width, grid.height, geometry.overlap, geometry.split) == (312, 312, 24, 12)
    assert (geometry.edge, geometry.radius, RINGS_V3.edge, RINGS_V3.radius) == (1, 23, 10, 470)


@pytest.mark.parametrize("scale", [0, -20, 7, 480])
def test_scale_must_divide_240(scale: int) -> None:
    with pytest.raises(BadOption, match=r"scale: found -?\d+, expected a divisor of 240"):
        Geometry(scale)


@pytest.mark.parametrize("number", [0, 486, 2644])
def test_there_is_no_such_projection(number: int) -> None:
    with pytest.raises(BadOption, match=f"projection: found {number}, expected a number from 487 to 2643"):
        RINGS_V3.projection(number)


@given(projection=numbers, y=st.integers(0, 9), x=st.integers(0, 9))
@settings(max_examples=50)
def test_names_survive_parsing(projection: int, y: int, x: int) -> None:
    cell = Skycell(projection, y, x)
    assert Skycell.parse(str(cell)) == cell
    assert Skycell.parse(f"rings.v3.{cell}") == cell
    assert Skycell.parse(f"skycell.{projection}.0{y}{x}") == cell


def test_names_have_four_digits_and_sort_as_the_sky_does() -> None:
    assert str(Skycell(714, 7, 4)) == "skycell.0714.074"
    cells = [Skycell(2246, 1, 0), Skycell(714, 9, 9), Skycell(2246, 0, 9)]
    assert sorted(cells) == sorted(cells, key=str)


@pytest.mark.parametrize(
    "text", ["", "skycell.2246", "skycell.2246.133", "skycell.0486.000", "skycell.2644.000", "skycell.2246.0333", "x"]
)
def test_names_that_are_none(text: str) -> None:
    with pytest.raises(BadInput, match=re.escape(f"skycell: found {text!r}")):
        Skycell.parse(text)


# locate


@given(number=numbers, scale=st.sampled_from([1, 20, 40]), y=st.integers(0, 9), x=st.integers(0, 9))
@settings(deadline=None, max_examples=200)
def test_locate_finds_the_cell_whose_middle_it_is_given(number: int, scale: int, y: int, x: int) -> None:
    geometry = Geometry(scale)
    grid = geometry.projection(number)
    y0, x0 = grid.cell_origin(y, x)
    gx, gy = x0 + grid.width / 2, y0 + grid.height / 2
    ra, dec = (float(value) for value in grid_to_sky(grid, gx, gy))
    if dec < rings()[0].dec_min:
        with pytest.raises(BadOption, match="the reach of"):
            locate(ra, dec, geometry)
        return
    cell, found_x, found_y = locate(ra, dec, geometry)
    if cell.projection == number:  # else the place belongs to a neighbour: projections overlap
        assert cell == Skycell(number, y, x)
        assert (found_x, found_y) == pytest.approx((gx, gy), rel=0, abs=2e-9)
    else:
        home = geometry.projection(cell.projection)
        assert [float(value) for value in grid_to_sky(home, found_x, found_y)] == pytest.approx(
            [ra, dec], rel=0, abs=1e-9 / max(1e-3, np.cos(np.deg2rad(dec)))
        )
    if (y, x) in {(4, 4), (4, 5), (5, 4), (5, 5)} and number != LAST:
        assert cell.projection == number


@given(ra=st.floats(0, 360), dec=st.floats(-39.98, 90))
@settings(deadline=None, max_examples=300)
def test_locate_finds_a_cell_that_holds_the_position(ra: float, dec: float) -> None:
    cell, gx, gy = locate(ra, dec)
    grid = RINGS_V3.projection(cell.projection)
    y0, x0 = grid.cell_origin(cell.y, cell.x)
    assert x0 - 0.5 <= gx <= x0 + grid.width - 0.5
    assert y0 - 0.5 <= gy <= y0 + grid.height - 0.5


def test_locate_across_ra_0() -> None:
    near = [locate(ra, 42.3)[0] for ra in (359.999, 0.0, 360.0, 0.001, -0.001)]
    assert {cell.projection for cell in near} == {2157}
    assert locate(0.0, 42.3)[1] == pytest.approx(locate(360.0, 42.3)[1], abs=1e-8)


def test_the_border_of_two_cells_is_the_middle_of_their_overlap() -> None:
    grid = RINGS_V3.projection(2246)
    border = 5 * grid.stride_x + 240
    middle = 5 * grid.stride_y + 3000
    ra, dec = grid_to_sky(grid, [border - 0.01, border + 0.01], [middle, middle])
    assert [locate(float(a), float(d))[0].x for a, d in zip(ra, dec, strict=True)] == [4, 5]
