"""The stitched image: lazy, in blocks that own whole stored chunks, with sizes that a plan can read."""

from pathlib import Path

import dask
import numpy as np
import pytest

from lensflow import events
from lensflow.ps1.mosaic import Layout, projection_image
from lensflow.ps1.options import Options
from lensflow.ps1.simulate import simulate


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("constant")
    return simulate(out, rows=(2, 5), columns=(2, 5), scale=40, mode="constant", value=2.5, format="zarr").source


def layout(source: Path, **words: object) -> Layout:
    return Options.from_keywords(scale=40, **words).plan(source)[1][0].layout


@pytest.mark.parametrize("columns", [None, 1, 2])
def test_blocks_are_rows_of_cells_and_the_outermost_carry_the_pad(source: Path, columns: int | None) -> None:
    plan = layout(source, columns_per_block=columns)
    down, across = plan.chunks
    stride = plan.projection.stride_x
    assert down == (plan.projection.stride_y,) * 3 + (12,)
    assert across == {None: (3 * stride + 12,), 1: (stride,) * 3 + (12,), 2: (2 * stride, stride + 12)}[columns]
    image = projection_image(plan)
    assert image.flux.chunks == plan.pieces
    assert image.flux.shape == plan.box.grown(plan.pad).shape
    assert (int(image.y[0]), int(image.x[0])) == (plan.box.y0 - plan.pad, plan.box.x0 - plan.pad)


def test_a_block_of_several_arrays_has_a_field_for_each(source: Path) -> None:
    image = projection_image(layout(source, uncertainty=True), origin=True)
    fields = [("flux", "<f4"), ("mask", "<u2"), ("variance", "<f4"), ("origin", "u1")]
    seen = []

    def remember(array: object) -> None:
        seen.append(array)

    with dask.config.set(array_plugins=[remember]):
        projection_image(layout(source, uncertainty=True), origin=True)
    packed = {one.dtype for one in seen if one.dtype.names}  # type: ignore[attr-defined]
    assert packed == {np.dtype(fields)}
    computed = image.compute(scheduler="sync")
    for name, kind in fields:
        assert image[name].dtype == computed[name].dtype == np.dtype(kind)


def test_building_reads_no_pixel(source: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something was computed")

    with dask.config.set(scheduler=refuse):
        image = projection_image(layout(source, uncertainty=True), origin=True)
        with pytest.raises(AssertionError, match="computed"):
            image.flux.compute()


def test_origin_tells_selected_from_halo_cells(source: Path) -> None:
    plan = layout(source, selection=("skycell.2246.033",))
    image = projection_image(plan, origin=True).compute(scheduler="sync")
    origin, pad = image.origin.values, plan.pad
    assert (origin[pad + 6 : -pad - 6, pad + 6 : -pad - 6] == 1).all()  # up to the middle of the overlaps
    assert (origin[pad + 5] == 2).all()
    assert (origin[:, pad + 5] == 2).all()
    alone = layout(source, selection=("skycell.2246.033",), halo_cells=False)
    origin = projection_image(alone, origin=True).compute(scheduler="sync").origin.values
    assert set(np.unique(origin)) == {0, 1}
    assert (origin[: pad + 1] == 0).all()
    assert (origin[pad + 1, pad + 1 : -pad - 1] == 1).all()


def test_variance_is_that_of_the_weighted_bands(source: Path) -> None:
    image = projection_image(layout(source, uncertainty=True, bands=("r",), weights=(1.0,))).compute(scheduler="sync")
    inside = image.variance.values[np.isfinite(image.flux.values)]
    expected = 2.5 / 720 / 1.1 + 0.12**2  # counts/s: photons of the source, and the sky
    np.testing.assert_allclose(inside, expected, rtol=1e-3)
    assert not np.isfinite(image.variance.values[~np.isfinite(image.flux.values)]).any()


def test_nothing_is_noted_of_cells_that_agree(source: Path) -> None:
    with events.collect() as notes:
        projection_image(layout(source)).compute(scheduler="sync")
    assert notes == []
