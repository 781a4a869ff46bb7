"""`map_overlap`: chunked equals whole, labels kept, lazy, each block once, few tasks, clear refusals."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from dask.base import optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from lensflow.arrays.gaussian import gaussian_blur, gaussian_blur_masked
from lensflow.arrays.overlap import map_overlap
from lensflow.errors import BadOption

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


BOUNDARIES: list[Any] = ["none", "reflect", "periodic", "nearest", "valid", 3.5]
BANDS = 30


def shifted(block: NDArray[Any], *, by: int = 1) -> NDArray[Any]:
    """Sum of neighbours `by` away along both axes; wrong at the outermost `by` elements only."""
    return sum((np.roll(block, (dy, dx), (0, 1)) for dy in (-by, 0, by) for dx in (-by, 0, by)), start=0 * block)


def cut(block: NDArray[Any], *, by: int) -> NDArray[Any]:
    return shifted(block, by=by)[by:-by, by:-by]


def weighted(a: NDArray[Any], b: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    return shifted(a) + 2 * b, shifted(b)


def grid(values: NDArray[Any], chunks: Any = None, name: str = "flux") -> xr.DataArray:
    ny, nx = values.shape
    coords = {"y": 100 + np.arange(ny), "x": 7 + np.arange(nx), "twice": ("y", 2 * np.arange(ny))}
    data = values if chunks is None else da.from_array(values, chunks=chunks)
    return xr.DataArray(data, dims=("y", "x"), coords=coords, name=name, attrs={"units": "counts/s"})


def bands(depth: int = 3) -> xr.DataArray:
    return grid(np.arange(BANDS * 10 * 8.0).reshape(BANDS * 10, 8), (10, 8)).astype(np.float32) + 0 * depth


@st.composite
def chunked(draw: st.DrawFn) -> tuple[NDArray[Any], tuple[tuple[int, ...], ...], int]:
    depth = draw(st.integers(1, 3))
    sizes = st.lists(st.integers(2 * depth + 1, 9), min_size=1, max_size=4).map(tuple)
    chunks = draw(sizes), draw(sizes)
    values = np.random.default_rng(draw(st.integers(0, 99))).random((sum(chunks[0]), sum(chunks[1])))
    return values, chunks, depth


@given(chunked(), st.sampled_from(BOUNDARIES))
@settings(deadline=None, max_examples=100)
def test_chunked_equals_whole(case: tuple[NDArray[Any], tuple[tuple[int, ...], ...], int], boundary: Any) -> None:
    values, chunks, depth = case
    halo = {"y": depth, "x": depth}
    options: dict[str, Any] = {"depth": halo, "boundary": boundary, "kwargs": {"by": depth}}
    inner = slice(depth, -depth) if boundary in ("none", "valid") else slice(None)  # elsewhere np.roll wraps
    whole = map_overlap(shifted, grid(values), **options)
    lazy = map_overlap(shifted, grid(values, chunks), **options)
    assert lazy.chunks is not None
    assert lazy.shape == lazy.compute().shape
    if boundary == "none":
        whole, lazy = whole[inner, inner], lazy[inner, inner]
    xr.testing.assert_allclose(lazy.compute(), whole, rtol=1e-14)
    assert whole.attrs == lazy.attrs == {"units": "counts/s"}
    if boundary not in ("none", "valid"):
        modes: dict[Any, Any] = {"reflect": "symmetric", "periodic": "wrap", "nearest": "edge"}
        extra = {} if boundary in modes else {"constant_values": boundary}
        padded = np.pad(values, depth, mode=modes.get(boundary, "constant"), **extra)
        np.testing.assert_allclose(whole.values, cut(padded, by=depth), rtol=1e-14)
    else:
        np.testing.assert_allclose(whole.values, cut(values, by=depth), rtol=1e-14)
    if boundary != "none":
        untrimmed = map_overlap(cut, grid(values, chunks), **options, trim=False)
        xr.testing.assert_allclose(untrimmed.compute(), whole, rtol=1e-14)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_several_arrays_and_outputs(boundary: Any) -> None:
    rng = np.random.default_rng(0)
    one, two = rng.random((20, 24)), rng.random((20, 24))
    chunks = ((6, 8, 6), (24,))
    options: dict[str, Any] = {"depth": {"y": 1}, "boundary": boundary, "outputs": {"a": "f8", "b": "f4"}}
    whole = map_overlap(weighted, grid(one), grid(two, name="other"), **options)
    lazy = map_overlap(weighted, grid(one, chunks), grid(two, chunks, "other"), **options)
    assert list(lazy) == ["a", "b"]
    assert (lazy.a.dtype, lazy.b.dtype) == (np.float64, np.float32)
    assert lazy.b.compute().dtype == np.float32
    inside = whole.isel(y=slice(1, -1)) if boundary == "none" else whole
    found = lazy.isel(y=slice(1, -1)) if boundary == "none" else lazy
    xr.testing.assert_allclose(found.compute(), inside)
    assert found.attrs == {"units": "counts/s"}


def test_numpy_and_dask_arrays_mix() -> None:
    values = np.random.default_rng(1).random((20, 8))
    mixed = map_overlap(weighted, grid(values), grid(values, (5, 8)), depth={"y": 1}, outputs={"a": "f8", "b": "f8"})
    assert mixed.a.chunks == ((5,) * 4, (8,))
    lazy = grid(values, (5, 8))
    both = map_overlap(weighted, lazy, lazy, depth={"y": 1}, outputs={"a": "f8", "b": "f8"})
    xr.testing.assert_identical(mixed.compute(), both.compute())


def test_valid_slices_coordinates() -> None:
    result = map_overlap(shifted, bands(), depth={"y": 3}, boundary="valid")
    assert result.chunks == ((7, *[10] * (BANDS - 2), 7), (8,))
    assert result.y.values[[0, -1]].tolist() == [103, 100 + BANDS * 10 - 4]
    assert result.twice.values[0] == 6
    assert result.name == "flux"
    assert map_overlap(shifted, bands(), depth={"y": 3}, name="mean").name == "mean"


def nasty(block: NDArray[Any], *, depth: int, trim: str, boundary: int, dtype: str, name: int) -> NDArray[Any]:
    assert (trim, dtype) == ("yes", "no")
    return block * depth + boundary * name


def test_options_called_depth_and_trim_reach_the_function() -> None:
    options = {"depth": 5, "trim": "yes", "boundary": 2, "dtype": "no", "name": 3}
    source = bands()
    result = map_overlap(nasty, source, depth={"y": 2}, kwargs=options)
    np.testing.assert_array_equal(result.values, source.values * 5 + 6)


def refuse(*_: Any, **__: Any) -> Any:
    raise AssertionError("computed while building")


def test_building_computes_nothing() -> None:
    def untouchable(block: NDArray[Any]) -> NDArray[Any]:
        raise AssertionError(f"called while building with {block.shape}")

    with dask.config.set(scheduler=refuse):
        for boundary in BOUNDARIES:
            result = map_overlap(untouchable, bands(), depth={"y": 3}, boundary=boundary)
            many = map_overlap(untouchable, bands(), depth={"y": 3}, boundary=boundary, outputs={"a": "f4", "b": "f4"})
        with pytest.raises(AssertionError, match="while building"):
            result.compute()
    assert many.a.dtype == np.float32
    with pytest.raises(AssertionError, match="called"):
        result.compute(scheduler="synchronous")


def test_shared_blocks_run_once() -> None:
    reads: list[Any] = []
    calls: list[Any] = []

    def read(block_id: tuple[int, ...]) -> NDArray[Any]:
        reads.append(block_id)
        return np.ones((10, 8), np.float32)

    def count(block: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        calls.append(block.shape)
        return block, block + 1

    data = da.map_blocks(read, chunks=((10,) * BANDS, (8,)), dtype="f4", meta=np.empty((0, 0), "f4"))
    image = xr.DataArray(data, dims=("y", "x"), name="flux")
    result = map_overlap(count, image, depth={"y": 4}, outputs={"a": "f4", "b": "f4"})
    result.compute(scheduler="synchronous")
    assert sorted(reads) == [(i, 0) for i in range(BANDS)]
    assert len(calls) == BANDS


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_at_most_six_tasks_a_band(boundary: Any) -> None:
    data = da.ones((BANDS * 10, 8), chunks=(10, 8), dtype="f4")
    result = map_overlap(shifted, xr.DataArray(data, dims=("y", "x")), depth={"y": 3}, boundary=boundary)
    (optimised,) = optimize(result)
    padding = 0 if boundary in ("none", "valid") else BANDS + 12  # Dask cuts its pads off band by band
    assert len(optimised.__dask_graph__()) <= 6 * BANDS + padding


def test_keys_are_deterministic_and_named() -> None:
    one, two = (map_overlap(shifted, bands(), depth={"y": 3}, kwargs={"by": 2}) for _ in range(2))
    other = map_overlap(shifted, bands(), depth={"y": 3}, kwargs={"by": 3})
    assert one.data.name == two.data.name != other.data.name
    assert one.data.name.startswith("shifted-")
    labelled = map_overlap(shifted, bands(), depth={"y": 3}, name="blur")
    assert labelled.data.name.startswith("blur-")
    pickle.loads(pickle.dumps(one.__dask_graph__()))  # noqa: S301 - our own bytes


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"depth": {"z": 1}}, "'z': expected one of"),
        ({"depth": {"y": -1}}, "'y' is -1"),
        ({"depth": {"y": True}}, "'y' is True"),
        ({"depth": {"y": 11}}, r"dimension 'y': chunk 0 has 10 elements.*depth of 11.*rechunk"),
        ({"depth": {"y": 11}, "boundary": "reflect"}, "'y'.*11"),
        ({"depth": {"y": 10}, "boundary": "valid"}, "at least 11"),
        ({"depth": {"y": 1, "x": 4}, "boundary": "valid"}, "'x'.*at least 9"),
        ({"boundary": "mirror"}, "'mirror'.*none, valid, reflect"),
        ({"boundary": None}, "boundary is None"),
        ({"trim": False}, "trim=False"),
    ],
)
def test_refusals(change: dict[str, Any], words: str) -> None:
    options: dict[str, Any] = {"depth": {"y": 3}} | change
    with pytest.raises(BadOption, match=words):
        map_overlap(shifted, bands(), **options)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (lambda a: a.transpose("x", "y"), "array 2 has the dimensions"),
        (lambda a: a[:-1], "array 2 has the shape"),
        (lambda a: a.chunk(y=20), "array 2 has the chunks"),
        (lambda a: a.assign_coords(y=a.y + 1), "different coordinates"),
    ],
)
def test_arrays_that_do_not_fit(other: Callable[[xr.DataArray], xr.DataArray], words: str) -> None:
    with pytest.raises(BadOption, match=words):
        map_overlap(weighted, bands(), other(bands()), depth={"y": 1}, outputs={"a": "f4", "b": "f4"})


def test_no_array_and_unknown_chunks() -> None:
    with pytest.raises(BadOption, match="at least one array"):
        map_overlap(shifted, depth={})
    data = bands().data
    unknown = xr.DataArray(data[data[:, 0] > 5], dims=("y", "x"))
    with pytest.raises(BadOption, match="unknown size"):
        map_overlap(shifted, unknown, depth={"y": 1})


@pytest.mark.parametrize(
    ("func", "options", "words"),
    [
        (lambda b: b[1:], {}, "expected .* with the halo"),
        (lambda b: b, {"trim": False, "boundary": "valid"}, "without the halo"),
        (lambda b: b, {"outputs": {"a": "f4", "b": "f4"}}, "expected a tuple of 2"),
        (lambda b: (b,), {"outputs": {"a": "f4", "b": "f4"}}, "expected a tuple of 2"),
    ],
)
def test_wrong_results_are_named(func: Callable[..., Any], options: dict[str, Any], words: str) -> None:
    result = map_overlap(func, bands(), depth={"y": 3}, **options)
    with pytest.raises(BadOption, match=words):
        result.compute(scheduler="synchronous")


def blur(block: NDArray[Any], *, sigma: float, radius: int) -> tuple[NDArray[Any], NDArray[Any]]:
    window = ((radius, block.shape[0] - radius), (radius, block.shape[1] - radius))
    return gaussian_blur_masked(block, sigma=sigma, radius=radius, window=window)


@pytest.mark.parametrize("sigma", [3.0, 12.0, 25.0])
@pytest.mark.parametrize("chunks", [{"y": 80}, {"y": 160}, {"y": 80, "x": 112}, {"y": 80, "x": 168}])
def test_b5_blur_does_not_depend_on_blocks(sigma: float, chunks: dict[str, int]) -> None:
    radius = 72
    image = np.random.default_rng(3).pareto(1.2, (480, 336)).astype(np.float32)
    image[200:220, 40:70] = np.nan
    flux, coverage = blur(image, sigma=sigma, radius=radius)
    lazy = map_overlap(
        blur,
        grid(image).chunk(chunks),
        depth={"y": radius, "x": radius},
        boundary="valid",
        trim=False,
        outputs={"flux": "f4", "coverage": "f4"},
        kwargs={"sigma": sigma, "radius": radius},
    )
    one, two = (lazy.compute(scheduler="threads", num_workers=n) for n in (1, 4))
    xr.testing.assert_identical(one, two)
    assert np.abs(one.flux.values - flux).max() < 1e-6 * flux.max()
    assert np.abs(one.coverage.values - coverage).max() < 1e-6
    zeros = np.nan_to_num(image)
    plain = gaussian_blur(zeros, sigma=sigma, radius=radius)[radius:-radius, radius:-radius]
    assert np.abs(one.flux.values - plain).max() < 1e-6 * plain.max()
