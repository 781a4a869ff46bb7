"""Tile-compressed images read by rows: any rows of any tiling are those of astropy, which decodes the whole."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from lensflow.arrays.fits import FitsImage


@st.composite
def images(draw: st.DrawFn) -> dict[str, Any]:
    """An image, how it is compressed, and which rows are wanted."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    kind = draw(st.sampled_from(["u1", "i2", "i4"]))
    values = rng.normal(100, 20, (height, width)).astype(kind)
    form = {"compression_type": draw(st.sampled_from(["RICE_1", "GZIP_1", "GZIP_2"]))}
    tile = draw(st.integers(1, height)), draw(st.integers(1, width))
    start = draw(st.integers(0, height))
    return {"values": values, "form": form, "tile": tile, "rows": (start, draw(st.integers(start, height)))}


@settings(deadline=None, max_examples=60)
@given(images())
def test_any_rows_of_any_tiles_are_those_of_astropy(image: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.fits"
        hdu = fits.CompImageHDU(image["values"], tile_shape=image["tile"], **image["form"])
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
        with fits.open(path, do_not_scale_image_data=True) as hdus:
            expected = np.array(hdus[1].data)
        start, stop = image["rows"]
        with FitsImage(path) as opened:
            found = opened.rows(start, stop)
            whole = opened.rows(0, len(expected))
    np.testing.assert_array_equal(found, expected[start:stop])
    np.testing.assert_array_equal(whole, expected)


@pytest.mark.parametrize("tile", [(1, 60), (3, 25)])
@pytest.mark.parametrize("seed", [1, 9990, 10000])  # of 10000: the last ones start again at the first
@pytest.mark.parametrize("method", [-1, 1, 2])  # no dither, and the two kinds of it
def test_the_noise_that_dithered_tiles_carry_is_taken_off(
    tmp_path: Path, method: int, seed: int, tile: tuple[int, int]
) -> None:
    values = np.random.default_rng(3).normal(100, 20, (40, 60)).astype(np.float32)
    path = tmp_path / "image.fits"
    quantised = {"quantize_level": 4.0, "quantize_method": method, "dither_seed": seed}
    hdu = fits.CompImageHDU(values, compression_type="RICE_1", tile_shape=tile, **quantised)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    with fits.open(path) as hdus:
        expected = np.array(hdus[1].data)
    assert (expected != values).any()
    with FitsImage(path) as opened:
        for start, stop in ((0, 40), (17, 31), (39, 40)):
            np.testing.assert_array_equal(opened.rows(start, stop), expected[start:stop])


@pytest.mark.parametrize("order", ["upside down", "scattered"])
def test_tiles_may_lie_in_any_order(tmp_path: Path, order: str) -> None:
    values = np.random.default_rng(1).integers(-3000, 3000, (12, 50), dtype=np.int16)
    path = tmp_path / "image.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(values, compression_type="RICE_1")]).writeto(path)
    with fits.open(path, disable_image_compression=True) as hdus:
        start, count = hdus[1]._data_offset, len(hdus[1].data)
    content = bytearray(path.read_bytes())
    table = np.frombuffer(content, ">i4", 2 * count, start).reshape(count, 2)
    places = np.arange(count)[::-1] if order == "upside down" else np.random.default_rng(2).permutation(count)
    heap = start + table.nbytes
    tiles = [bytes(content[heap + begin : heap + begin + length]) for length, begin in table]
    moved, at = np.empty_like(table), 0
    for i in places:
        moved[i] = len(tiles[i]), at
        content[heap + at : heap + at + len(tiles[i])] = tiles[i]
        at += len(tiles[i])
    del table  # which holds the buffer
    content[start : start + moved.nbytes] = moved.tobytes()
    path.write_bytes(content)
    with FitsImage(path) as opened:
        np.testing.assert_array_equal(opened.rows(3, 9), values[3:9])
        np.testing.assert_array_equal(opened.rows(0, 12), values)
