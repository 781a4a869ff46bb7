"""The archive's way of storing pixels."""

from pathlib import Path

import numpy as np
import pytest
import zarr
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lensflow.ps1 import encode
from lensflow.ps1.encode import BLANK, STEPS, A, Scaling
from lensflow.ps1.maskbits import HEADER_NAMES
from lensflow.ps1.tessellation import Geometry, Skycell

# of real skycells: BZERO and BSCALE, BSOFTEN, BOFFSET
REAL = [
    Scaling(3.632996916771, 1.908685283002e-4, 413.7191922843, 17.32926559448),
    Scaling(2.28906952378201, 9.68373202071923e-05, 181.7245144826, 9.203996658325),
]
EVERY = np.arange(-32768, 32768).astype(np.int16)


def _field(seed: int, sky: float, width: float, bright: float) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    image = rng.normal(sky, width, (24, 31)).astype(np.float32)
    image.reshape(-1)[rng.integers(0, image.size, 9)] += np.float32(bright)
    image.reshape(-1)[rng.integers(0, image.size, 9)] = np.nan
    return image


images = st.builds(
    _field, st.integers(0, 2**32 - 1), sky=st.floats(-100, 1e4), width=st.floats(1e-3, 1e3), bright=st.floats(0, 1e6)
)


def half_quantum(scaling: Scaling, linear: NDArray[np.floating]) -> NDArray[np.float64]:
    """BSCALE/2 dL/dv, where dL/dv = sqrt((L - BOFFSET)^2 + 4 BSOFTEN^2)/a."""
    slope = np.hypot(np.asarray(linear, np.float64) - scaling.boffset, 2 * scaling.bsoften) / A
    return np.asarray(scaling.bscale / 2 * slope)


@pytest.mark.parametrize("scaling", REAL)
def test_every_stored_number_survives(scaling: Scaling) -> None:
    linear = scaling.decode(EVERY)
    assert np.isnan(linear[EVERY == BLANK]).all()
    assert np.isfinite(linear[EVERY != BLANK]).all()
    np.testing.assert_array_equal(scaling.encode(linear), EVERY)


def test_decoding_is_the_law_of_the_note() -> None:
    scaling = REAL[0]
    v = scaling.bzero + scaling.bscale * 1234
    expected = scaling.boffset + scaling.bsoften * (10 ** (0.4 * v) - 10 ** (-0.4 * v))  # asinh magnitudes
    assert scaling.decode(np.array([1234], np.int16)) == pytest.approx(expected, rel=1e-14)


@given(image=images)
@settings(deadline=None, max_examples=60)
def test_the_error_is_at_most_half_a_quantum(image: NDArray[np.float32]) -> None:
    scaling = Scaling.fit(image)
    disk = scaling.encode(image)
    found = scaling.decode(disk)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(image))
    np.testing.assert_array_equal(scaling.encode(found), disk)
    seen = np.isfinite(image)
    bound = np.maximum(half_quantum(scaling, found), half_quantum(scaling, image))
    assert (np.abs(found - image)[seen] <= bound[seen] * (1 + 1e-6)).all()


@given(image=images)
@settings(deadline=None, max_examples=30)
def test_the_range_is_65000_quanta_and_the_constants_fit_a_card(image: NDArray[np.float32]) -> None:
    scaling = Scaling.fit(image)
    disk = scaling.encode(image)[np.isfinite(image)]
    assert int(disk.max()) - int(disk.min()) in {STEPS - 1, STEPS, STEPS + 1}
    header = encode.scaled_header(fits.Header(), scaling)
    cards = fits.Header.fromstring(header.tostring())
    assert Scaling(cards["BZERO"], cards["BSCALE"], cards["BSOFTEN"], cards["BOFFSET"]) == scaling


def test_the_softening_follows_the_background_not_the_stars() -> None:
    rng = np.random.default_rng(5)
    image = rng.normal(20, 100, (300, 300)).astype(np.float32)
    image[rng.random(image.shape) < 0.01] += 1e5
    scaling = Scaling.fit(image)
    assert scaling.boffset == pytest.approx(20, abs=3)
    assert scaling.bsoften == pytest.approx(100 * A**0.5, rel=0.03)


@pytest.mark.parametrize("value", [0.0, 33.0, -7.5, 1e6])
def test_one_value_everywhere_is_kept(value: float) -> None:
    image = np.full((5, 7), value, np.float32)
    scaling = Scaling.fit(image)
    np.testing.assert_allclose(scaling.decode(scaling.encode(image)), value, rtol=1e-11, atol=1e-11)


def test_an_image_without_values_is_blank() -> None:
    image = np.full((5, 7), np.nan, np.float32)
    scaling = Scaling.fit(image)
    assert (scaling.encode(image) == BLANK).all()
    assert np.isfinite([scaling.bzero, scaling.bscale, scaling.bsoften, scaling.boffset]).all()


def test_slabs_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    image = _field(1, 10, 50, 1e5)
    scaling = Scaling.fit(image)
    whole = scaling.encode(image)
    monkeypatch.setattr(encode, "SLAB", 2 * image.shape[1])
    np.testing.assert_array_equal(scaling.encode(image), whole)


# files


@pytest.fixture
def header() -> fits.Header:
    cell = Skycell(714, 7, 4)
    grid = Geometry(40).projection(cell.projection)
    return encode.cell_header(grid, cell, "r", exptime=720.0, gain=1.1, saturation=1.2e6)


def test_fits_holds_the_very_int16(tmp_path: Path, header: fits.Header) -> None:
    image = _field(3, 5, 80, 1e5)
    scaling = Scaling.fit(image)
    disk = scaling.encode(image)
    encode.write_scaled_fits(tmp_path / "a.fits", disk, header, scaling)
    with fits.open(tmp_path / "a.fits", do_not_scale_image_data=True) as hdus:
        np.testing.assert_array_equal(hdus[1].data, disk)
        assert hdus[1].data.dtype.kind == "i"
        assert hdus[1].data.dtype.itemsize == 2
    with fits.open(tmp_path / "a.fits") as hdus:  # astropy undoes BZERO and BSCALE, and blanks
        np.testing.assert_allclose(hdus[1].data, scaling.values(disk), rtol=0, atol=1e-6 * STEPS * scaling.bscale)


def test_fits_masks_keep_all_sixteen_bits(tmp_path: Path, header: fits.Header) -> None:
    bits = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    encode.write_mask_fits(tmp_path / "m.fits", bits, header)
    with fits.open(tmp_path / "m.fits") as hdus:
        np.testing.assert_array_equal(hdus[1].data, bits)
        names = {hdus[1].header[f"MSKNAM{n:02d}"]: hdus[1].header[f"MSKVAL{n:02d}"] for n in range(18)}
    assert names == dict(HEADER_NAMES)
    with fits.open(tmp_path / "m.fits", disable_image_compression=True) as hdus:
        assert (hdus[1].header["BZERO"], hdus[1].header["ZBITPIX"]) == (32768, 16)


def test_a_file_at_another_address_has_the_same_pixels(tmp_path: Path, header: fits.Header) -> None:
    image = _field(4, 5, 80, 1e5)
    scaling = Scaling.fit(image)
    encode.write_scaled_fits(tmp_path / "a.fits", scaling.encode(image), header, scaling)
    other = Skycell(714, 8, 8)
    grid = Geometry(40).projection(714)
    there = encode.cell_header(grid, other, "r", exptime=720.0, gain=1.1, saturation=1.2e6)
    encode.readdress_fits(tmp_path / "a.fits", tmp_path / "b.fits", there)
    encode.write_scaled_fits(tmp_path / "c.fits", scaling.encode(image), there, scaling)
    assert (tmp_path / "b.fits").read_bytes() == (tmp_path / "c.fits").read_bytes()


def test_zarr_arrays_carry_their_cards(tmp_path: Path, header: fits.Header) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    image = np.zeros((1030, 20), np.float32)
    image[3, 4] = np.nan
    encode.write_zarr(group, "r", image, header)
    array = group["r"]
    assert isinstance(array, zarr.Array)
    text = array.attrs["header"]
    assert isinstance(text, str)
    assert len(text) % 80 == 0
    assert "\n" not in text
    assert fits.Header.fromstring(text) == header
    assert array.chunks == (1024, 20)
    assert np.isnan(array.fill_value)
    assert [type(codec).__name__ for codec in array.compressors] == ["ZstdCodec"]
    np.testing.assert_array_equal(array[:], image)
