"""What is remembered of a block: a checksum that any change alters, numbers that numpy agrees with."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lensflow.engine import record
from lensflow.engine.record import Digest, checksum, digest

KINDS = ["?", "u1", "<i2", ">i4", "<u8", "<f2", "<f4", ">f8", "<c8", "<c16"]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=6)


def arrays(kinds: list[str] = KINDS) -> st.SearchStrategy[np.ndarray[Any, Any]]:
    return st.sampled_from(kinds).flatmap(lambda kind: hnp.arrays(np.dtype(kind), SHAPES))


@pytest.fixture(params=[1, 7, 1 << 20])
def slab(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Look at so many elements together."""
    monkeypatch.setattr(record, "SLAB", request.param)
    return int(request.param)


@given(values=arrays())
@settings(deadline=None, max_examples=60)
def test_the_checksum_is_of_the_values_and_not_of_their_place_in_memory(values: np.ndarray[Any, Any]) -> None:
    expected = checksum(values)
    assert checksum(np.array(values, order="F")) == expected
    assert checksum(np.repeat(values[..., None], 2, axis=-1)[..., 0]) == expected
    assert len(expected) == 32


@given(values=arrays(["<f4", "<i2", "?", "<c8"]), data=st.data())
@settings(deadline=None, max_examples=60)
def test_one_flipped_bit_alters_the_checksum(values: np.ndarray[Any, Any], data: st.DataObject) -> None:
    raw = bytearray(values.tobytes())
    if not raw:
        return
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= 1 << data.draw(st.integers(0, 7))
    flipped = np.frombuffer(bytes(raw), values.dtype).reshape(values.shape)
    if values.dtype.kind in "fc" and np.ravel(np.isnan(values) & np.isnan(flipped))[place // values.dtype.itemsize]:
        assert checksum(flipped) == checksum(values)  # one NaN is as good as another
    else:
        assert checksum(flipped) != checksum(values)


def test_shape_and_type_alter_the_checksum() -> None:
    values = np.zeros((4, 6), "<f4")
    others = [
        values.reshape(6, 4), values.reshape(24), values.reshape(4, 6, 1), values[:, :5],
        values.astype(">f4"), values.astype("<i4"), values.view("<u4"), values.view("u1"),
    ]  # fmt: skip
    assert len({checksum(one) for one in [values, *others]}) == len(others) + 1


def test_empty_arrays_of_other_shapes_differ() -> None:
    assert checksum(np.zeros((0, 3))) != checksum(np.zeros((0, 4)))


def test_the_checksum_does_not_depend_on_the_slab(slab: int) -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(13, 5, 3)).astype("f4")
    record.SLAB = 1 << 20
    whole = checksum(values), digest(values)
    record.SLAB = slab
    assert checksum(values) == whole[0]
    assert digest(values).mean == pytest.approx(whole[1].mean, rel=1e-12)


@given(values=arrays(["?", "u1", "<i2", "<u8", "<f4", "<f8"]))
@settings(deadline=None, max_examples=100)
def test_statistics_are_numpys_of_the_finite_values(values: np.ndarray[Any, Any]) -> None:
    finite = values[np.isfinite(values)]
    if finite.size and np.abs(finite.astype("f8")).max() > 1e300:
        return  # sums overflow: see below
    found = digest(values)
    assert found.nbytes == values.nbytes
    assert found.nan_fraction == pytest.approx(1 - finite.size / values.size if values.size else 0)
    if finite.size == 0:
        assert (found.minimum, found.maximum, found.mean) == (None, None, None)
        return
    assert found.minimum == float(finite.min())
    assert found.maximum == float(finite.max())
    assert found.mean == pytest.approx(float(finite.mean(dtype="f8")), rel=1e-9, abs=1e-300)


@pytest.mark.filterwarnings("ignore:overflow encountered")
@given(values=arrays())
@settings(deadline=None, max_examples=100)
def test_every_digest_fits_into_json(values: np.ndarray[Any, Any]) -> None:
    """Infinity and NaN are not JSON: the journal refuses them, and the run would end."""
    text = json.dumps(digest(values).as_json(), allow_nan=False)
    assert Digest(**json.loads(text)) == digest(values)


@pytest.mark.parametrize(
    "values",
    [
        np.full(3, 1.7e308),  # the sum is beyond float64
        np.full(3, 1.7e308 + 1.7e308j),  # the modulus is
    ],
    ids=["float64", "complex128"],
)
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_huge_values_fit_into_json(values: np.ndarray[Any, Any]) -> None:
    json.dumps(digest(values).as_json(), allow_nan=False)


def test_complex_values_are_judged_by_their_modulus() -> None:
    found = digest(np.array([3 + 4j, 0j, np.nan + 1j, complex(np.inf, 0)]))
    assert (found.minimum, found.maximum, found.mean, found.nan_fraction) == (0.0, 5.0, 2.5, 0.5)


def test_nothing_is_copied_of_a_large_array(slab: int) -> None:
    """Slabs are views of contiguous arrays."""
    values = np.ones((64, 8), "f4")
    for part in record._slabs(values):
        assert np.shares_memory(part, values)
        assert part.size <= max(8, slab)
