"""Segments and bright regions as sets of pixels, against scipy and brute force."""

import sys
from typing import Any

import numpy as np
import pytest
import sep
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray
from scipy import ndimage

from lensflow.errors import BadOption
from lensflow.ps1 import segments
from lensflow.ps1.segments import ExtractionFailed, closed, find_segments, with_bright

MASKS = npst.arrays(np.bool_, npst.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=25))


def sky(seed: int = 0) -> NDArray[np.float32]:
    """Noise of 0.1 with round sources of many brightnesses, and a hole."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:200, :220]
    image = rng.normal(0, 0.1, y.shape)
    for flux in np.geomspace(2, 3000, 40):
        at = rng.uniform(0, 200, 2)
        image += flux * np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / 8)
    image[50:60, 100:130] = np.nan
    return np.asarray(image, np.float32)


@given(mask=MASKS, size=st.integers(1, 22))
@settings(deadline=None, max_examples=60)
def test_closing_is_that_of_a_sky_without_border(mask: NDArray[np.bool_], size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "STRIP", 7)
        check_closing(mask, size)
    check_closing(mask, size)


def check_closing(mask: NDArray[np.bool_], size: int) -> None:
    wide = ndimage.binary_closing(np.pad(mask, 2 * size), structure=np.ones((size, size)))
    expected = wide[2 * size : -2 * size, 2 * size : -2 * size]
    np.testing.assert_array_equal(closed(mask, size), expected)
    assert (closed(mask, size) >= mask).all()  # nothing is lost at the edges


def test_gaps_of_nineteen_pixels_are_closed_and_of_twenty_are_not() -> None:
    mask = np.zeros((60, 60), np.bool_)
    mask[:, 10] = mask[:, 30] = mask[:, 51] = True
    found = closed(mask, 20)
    assert found[30, 10:31].all()
    assert not found[30, 31:51].any()


def test_segments_are_those_of_sep_itself() -> None:
    flux = sky()
    sigma = np.full(flux.shape, 0.1, np.float32)
    unseen = (flux > 5) | np.isnan(flux)
    sep.set_extract_pixstack(10_000_000)
    objects, expected = sep.extract(flux, 2.5, err=sigma, mask=unseen, segmentation_map=True)
    ids, count = find_segments(flux, sigma, unseen, thresh=2.5)
    np.testing.assert_array_equal(ids, expected)
    assert count == len(objects) > 20


def test_more_sources_than_sep_can_hold_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "PIXEL_STACK", 50)
    with pytest.raises(ExtractionFailed, match="limit of 50 active object pixels"):
        find_segments(sky(), 0.1, np.isnan(sky()), thresh=2.5)


def test_without_sep_the_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sep", None)
    with pytest.raises(BadOption, match=r"pip install lensflow\[ps1\]"):
        find_segments(sky(), 0.1, np.isnan(sky()), thresh=2.5)


@given(bright=MASKS, data=st.data())
@settings(deadline=None, max_examples=150)
def test_bright_regions_are_connected_and_belong_to_the_nearest_segment(bright: NDArray[np.bool_], data: Any) -> None:
    pixels = data.draw(npst.arrays(np.int32, bright.shape, elements=st.integers(0, 3), fill=st.just(0)))
    ids = np.where(bright, 0, pixels).astype(np.int32)
    before = ids.copy()
    found = with_bright(ids, 3, bright)
    label, count = ndimage.label(bright, np.ones((3, 3)))
    assert len(found.home) == count + 4
    np.testing.assert_array_equal(found.ids[~bright], before[~bright])
    there = np.argwhere(before > 0)
    for region in range(1, count + 1):
        own = np.argwhere(label == region)
        [number] = {int(found.ids[y, x]) for y, x in own}
        assert number > 3
        assert (found.ids[label != region] != number).all()
        squares = ((own[:, None, :] - there[None]) ** 2).sum(axis=2).min(axis=0) if len(there) else np.array([10**6])
        beside = (
            {int(before[y, x]) for (y, x), square in zip(there, squares, strict=True) if square <= 2}
            if len(there)
            else set()
        )
        assert {int(one) for region_id, one in found.touching if region_id == number} == beside
        if squares.min() > segments.FARTHEST_HOME**2:
            assert found.home[number] == number
        else:
            assert found.home[number] == min(before[y, x] for y, x in there[squares == squares.min()])
    np.testing.assert_array_equal(found.home[:4], range(4))
