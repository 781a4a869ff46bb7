"""The flux scale: every stored number to counts/s, against float64; and headers that must be refused."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from lensflow.errors import BadInput
from lensflow.ps1.bands import A, Scaling, mask_integers

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLANK = 32767
GOOD = {
    "EXPTIME": 720.0,
    "BZERO": 2.289,
    "BSCALE": 9.68e-5,
    "BLANK": BLANK,
    "BSOFTEN": 181.72,
    "BOFFSET": 9.2,
    "FPA.ZP": 25.0,
}


@st.composite
def scalings(draw: st.DrawFn, *, blank: int | None = BLANK) -> Scaling:
    """Draw constants round those of the archive; v/a stays below 10."""
    bsoften = draw(st.floats(1, 1000))
    return Scaling(
        exptime=draw(st.floats(30, 5000)),
        bzero=draw(st.floats(-3, 3)),
        bscale=draw(st.floats(1e-6, 2e-4)),
        blank=blank,
        bsoften=bsoften,
        boffset=bsoften * draw(st.floats(-5, 5)),
    )


def counts(scaling: Scaling, v: NDArray[Any]) -> NDArray[np.float64]:
    assert scaling.bsoften is not None
    return scaling.boffset + 2 * scaling.bsoften * np.sinh(v.astype("f8") / A)


def softened(scaling: Scaling, linear: NDArray[np.float64]) -> NDArray[np.float64]:
    assert scaling.bsoften is not None
    return np.sqrt((linear - scaling.boffset) ** 2 + 4 * scaling.bsoften**2)


EVERY = np.arange(-32768, 32768, dtype=np.int32).astype(np.int16)


@given(scalings())
@settings(deadline=None, max_examples=40)
def test_linearisation_of_every_int16_is_exact_to_2e_6(scaling: Scaling) -> None:
    expected = counts(scaling, scaling.bzero + scaling.bscale * EVERY.astype("f8"))
    flux = scaling.flux(EVERY)
    assert flux.dtype == np.float32
    valid = EVERY != BLANK
    error = np.abs(flux.astype("f8") * scaling.exptime - expected)
    assert (error[valid] <= 2e-6 * softened(scaling, expected)[valid]).all()
    assert np.isnan(flux[~valid]).all()


@given(scalings(blank=None), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=40)
def test_linearisation_of_float32_v_is_exact_to_2e_6(scaling: Scaling, seed: int) -> None:
    """A Zarr store holds v with BZERO and BSCALE applied, in float32."""
    v = np.random.default_rng(seed).uniform(-10 * A, 10 * A, 4000).astype(np.float32)
    scaling = Scaling(scaling.exptime, bsoften=scaling.bsoften, boffset=scaling.boffset)
    before = v.copy()
    expected = counts(scaling, v)
    error = np.abs(scaling.flux(v).astype("f8") * scaling.exptime - expected)
    assert (error <= 2e-6 * softened(scaling, expected)).all()
    np.testing.assert_array_equal(v, before)  # what was read is not written over


def test_two_dimensional_and_strided_integers_are_looked_up_alike() -> None:
    scaling = Scaling.from_header(GOOD, "r.fits")
    disk = EVERY.reshape(256, 256)
    np.testing.assert_array_equal(scaling.flux(disk).ravel(), scaling.flux(EVERY))
    np.testing.assert_array_equal(scaling.flux(disk[::2, ::3]), scaling.flux(disk)[::2, ::3])


def test_integers_of_another_width_go_the_long_way_to_the_same_flux() -> None:
    scaling = Scaling.from_header(GOOD, "r.fits")
    np.testing.assert_array_equal(scaling.flux(EVERY.astype(np.int32)), scaling.flux(EVERY))
    np.testing.assert_array_equal(scaling.variance(EVERY.astype(np.int32)), scaling.variance(EVERY))


def test_linear_images_are_only_divided_by_the_exposure() -> None:
    scaling = Scaling.from_header({"EXPTIME": 720.0}, "cutout.fits")
    np.testing.assert_allclose(scaling.flux(np.array([720, -72, np.nan], np.float32)), [1, -0.1, np.nan], rtol=1e-6)


def test_variance_is_that_of_counts_a_second_and_nan_where_negative() -> None:
    scaling = Scaling.from_header(GOOD, "r.wt.fits")
    linear = counts(scaling, GOOD["BZERO"] + GOOD["BSCALE"] * EVERY.astype("f8"))
    linear[(EVERY == BLANK) | (linear < 0)] = np.nan
    assert np.isnan(linear).sum() > 1
    np.testing.assert_allclose(scaling.variance(EVERY), linear / 720**2, rtol=2e-7)


def test_zarr_values_are_not_scaled_twice() -> None:
    """C18: BZERO and BSCALE stand in the header of a store, but have been applied."""
    stored, applied = Scaling.from_header(GOOD, "r.fits"), Scaling.from_header(GOOD, "r", stored=False)
    v = (GOOD["BZERO"] + GOOD["BSCALE"] * EVERY[:-1].astype("f8")).astype(np.float32)
    bound = 2e-6 * softened(stored, counts(stored, v))
    assert (np.abs(applied.flux(v).astype("f8") - stored.flux(EVERY[:-1])) * 720 <= bound).all()
    assert applied.blank is None


@pytest.mark.parametrize("missing", ["EXPTIME", "BSOFTEN", "BOFFSET"])
def test_c10_a_missing_constant_is_an_error_that_names_file_and_key(missing: str) -> None:
    header = {key: value for key, value in GOOD.items() if key != missing}
    with pytest.raises(BadInput, match=rf"^r\.fits: {missing}: found nothing, expected a finite number"):
        Scaling.from_header(header, "r.fits")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("EXPTIME", 0.0, "EXPTIME: found 0.0, expected seconds > 0"),
        ("EXPTIME", -1.0, "EXPTIME: found -1.0"),
        ("EXPTIME", "NaN", "EXPTIME: found 'NaN'"),
        ("EXPTIME", float("inf"), "EXPTIME: found inf"),
        ("EXPTIME", True, "EXPTIME: found True"),
        ("BOFFSET", float("nan"), "BOFFSET: found nan"),
        ("BSOFTEN", 0.0, "BSOFTEN: found 0.0, expected counts > 0"),
        ("BZERO", "x", "BZERO: found 'x'"),
        ("FPA.ZP", 24.5, "FPA.ZP: found 24.5, expected 25.0"),
    ],
)
def test_c10_a_wrong_constant_is_an_error(key: str, value: object, message: str) -> None:
    with pytest.raises(BadInput, match=f"^r.fits: {message}"):
        Scaling.from_header({**GOOD, key: value}, "r.fits")


def test_zblank_stands_for_blank_in_compressed_tables() -> None:
    header = {key: value for key, value in GOOD.items() if key != "BLANK"}
    assert Scaling.from_header({**header, "ZBLANK": BLANK}, "r.fits").blank == BLANK
    assert Scaling.from_header(header, "r.fits").blank is None


def test_a_fits_header_is_read_as_a_mapping_with_its_long_keys() -> None:
    header = fits.Header(
        [(key if len(key) < 9 and "." not in key else f"HIERARCH {key}", v) for key, v in GOOD.items()]
    )
    assert Scaling.from_header(header, "r.fits") == Scaling.from_header(GOOD, "r.fits")


def test_a_scaling_survives_a_pickle() -> None:
    scaling = Scaling.from_header(GOOD, "r.fits")
    scaling.flux(EVERY)
    again = pickle.loads(pickle.dumps(scaling))  # noqa: S301
    np.testing.assert_array_equal(again.flux(EVERY), scaling.flux(EVERY))


def test_mask_bits_are_read_as_unsigned_integers() -> None:
    bits = np.array([0, 1, 8, 4128, 32767, 32768, 65535], np.uint16)
    as_stored = (bits.astype(np.int32) - 32768).astype(np.int16)
    np.testing.assert_array_equal(mask_integers(as_stored, bzero=32768), bits)
    np.testing.assert_array_equal(mask_integers(bits, bzero=0), bits)
    np.testing.assert_array_equal(mask_integers(np.array([5, 70], np.int32), bzero=0), [5, 70])
    np.testing.assert_array_equal(mask_integers(np.array([5, 70], np.uint8), bzero=10), [15, 80])
    assert mask_integers(as_stored, bzero=32768).dtype == np.uint16
