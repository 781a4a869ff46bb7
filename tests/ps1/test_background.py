"""Background and stars of whole skycells: each cell as sep itself has it, then stitched, stored and exported."""

from pathlib import Path
from typing import Any

import dask
import numpy as np
import pandas as pd
import pytest
import sep
import xarray as xr
import zarr
from astropy.io.fits import Header
from astropy.wcs import WCS
from dask.core import get_dependencies
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

import lensflow as lf
from lensflow import events
from lensflow.errors import BadInput, BadOption
from lensflow.ps1 import background, segments, wholecells
from lensflow.ps1.background import Cleaning, clean_cell, exact_median
from lensflow.ps1.bands import A
from lensflow.ps1.export import export
from lensflow.ps1.gaia import read_stars, stars_near
from lensflow.ps1.mosaic import Layout, projection_image
from lensflow.ps1.options import Options
from lensflow.ps1.removed import SLOTS
from lensflow.ps1.simulate import simulate
from lensflow.ps1.tessellation import Geometry, Skycell, sky_to_grid
from lensflow.ps1.truth import Truth
from lensflow.ps1.wholecells import cleaned_pieces, star_catalogue

SCALE = 20
LIMIT = 17.0  # TESS magnitude: the small sky has no brighter stars than it needs
BANDS = ("r", "i")
GRAPH = lf.graph("ps1_convolution")
SEP: dict[str, Any] = {"background": "sep", "bands": BANDS}
GAIA: dict[str, Any] = {**SEP, "stars": "gaia", "gaia": ("20/3/3",), "tmag_limit": LIMIT}


@pytest.fixture(scope="module")
def sky(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """Four cells, noise of each its own."""
    out = tmp_path_factory.mktemp("sky")
    words: dict[str, Any] = {"bands": BANDS, "format": "zarr", "stars": 80, "galaxies": 30}
    return simulate(out, scale=SCALE, seed=7, rows=(3, 5), columns=(3, 5), **words)


def layout_of(sky: Truth, **words: Any) -> Layout:
    return Options(scale=SCALE, bands=BANDS, uncertainty=True, **words).plan(sky.source)[1][0].layout


def image(sky: Truth, cleaning: Cleaning | None = None, **words: Any) -> xr.Dataset:
    """The stitched image before it is convolved."""
    layout = layout_of(sky, **words)
    if cleaning is None:
        return projection_image(layout, origin=True).compute(scheduler="sync")
    pieces, _ = cleaned_pieces(layout, cleaning, star_catalogue((sky.catalogue,), epoch=None), origin=True)
    return projection_image(layout, pieces).compute(scheduler="sync")


def run(source: Path, number: int = 2246, **words: Any) -> xr.Dataset:
    return GRAPH(source, scale=SCALE, **words)[f"{number:04d}"].to_dataset().compute(scheduler="sync")


@given(values=npst.arrays(np.float32, st.integers(1, 40), elements=st.floats(-5, 5, width=32) | st.just(np.nan)))
@settings(deadline=None)
def test_the_median_of_few_is_that_of_numpy(values: NDArray[np.float32]) -> None:
    if np.isnan(values).all():
        assert np.isnan(exact_median(values))
    else:
        assert exact_median(values) == pytest.approx(float(np.nanmedian(values.astype(np.float64))))


@pytest.mark.parametrize("kind", ["noise", "steps", "odd", "sampled"])
def test_the_median_of_many_is_exact(kind: str) -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(1, 0.1, (1100, 1200 - (kind == "odd"))).astype(np.float32)
    if kind == "steps":
        values = np.rint(values * 5).astype(np.float32)
    if kind == "sampled":
        values.ravel()[:: background.SAMPLE] = 7  # the sample misleads
    values[:50] = np.nan
    assert exact_median(values) == float(np.nanmedian(values.astype(np.float64)))


def test_a_cell_is_what_sep_makes_of_it(sky: Truth) -> None:
    layout = layout_of(sky)
    for files in layout.cells[:2]:
        plain = clean_cell(files, layout.projection, layout.recipe, Cleaning(uncertainty=True))
        assert plain.variance is not None
        sigma = np.sqrt(plain.variance)
        bright = plain.flux > 50 * np.nanmedian(sigma)
        sep.set_extract_pixstack(10_000_000)
        _, found = sep.extract(plain.flux, 2.5, err=sigma, mask=bright | np.isnan(plain.flux), segmentation_map=True)
        expected = plain.flux.copy()
        expected[(found == 0) & ~bright & ~np.isnan(expected)] = 0
        clean = clean_cell(files, layout.projection, layout.recipe, Cleaning(background="sep"))
        np.testing.assert_array_equal(clean.flux, expected)
        np.testing.assert_array_equal(clean.mask, plain.mask)
        assert clean.variance is None
        assert 0.2 < float((clean.flux == 0).mean()) < 0.99
        assert np.isnan(plain.flux).sum() == np.isnan(clean.flux).sum() > 0


@pytest.mark.parametrize("columns", [None, 1])
def test_blocks_of_cleaned_cells_are_the_image_of_the_cells(sky: Truth, columns: int | None) -> None:
    """Without a background to zero, both ways to the image are one, to the last bit."""
    read = image(sky, columns_per_block=columns)
    stitched = image(sky, Cleaning(uncertainty=True), columns_per_block=columns)
    assert set(read) == set(stitched) == {"flux", "mask", "variance", "origin"}
    for name in read:
        assert read[name].to_numpy().tobytes() == stitched[name].to_numpy().tobytes()
        assert stitched[name].dtype == read[name].dtype


def test_c11_blocks_and_selection_make_no_difference_to_cleaned_cells(sky: Truth) -> None:
    cleaning = Cleaning("sep", stars="gaia", tmag_limit=LIMIT)
    whole = image(sky, cleaning)
    columns = image(sky, cleaning, columns_per_block=1)
    for name in whole:
        assert whole[name].to_numpy().tobytes() == columns[name].to_numpy().tobytes()
    part = image(sky, cleaning, selection=("skycell.2246.034",))
    area = {"y": part.y[23:-23], "x": part.x[23:-23]}
    np.testing.assert_array_equal(part.flux.sel(area), whole.flux.sel(area))


@pytest.mark.parametrize("columns", [None, 1])
def test_a_cell_is_read_and_cleaned_once(sky: Truth, columns: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def count(files: Any, *rest: Any) -> Any:
        calls.append(str(files.cell))
        return clean_cell(files, *rest)

    monkeypatch.setattr(wholecells, "clean_cell", count)
    tree = GRAPH(sky.source, scale=SCALE, columns_per_block=columns, **GAIA)
    tree.compute(scheduler="sync")
    assert sorted(calls) == [str(cell) for cell in sky.cells]


def test_parts_for_later_blocks_are_cut_with_the_first(sky: Truth) -> None:
    """Nothing but the parts of a cell may keep the cell waiting for another block."""
    layout = layout_of(sky)
    lazy, _ = cleaned_pieces(layout, Cleaning("sep"))
    graph = dict(lazy.array.__dask_graph__())
    keys = {key for key in graph if isinstance(key, tuple) and key[0].startswith("clean_cell")}
    assert len(keys) == 4
    users = [key for key in graph if keys & get_dependencies(graph, key)]
    names = {str(key).split("-", maxsplit=1)[0] for key in users}
    assert names == {"stitch_cleaned", "crop"}
    stitching = [key for key in users if str(key).startswith("stitch_cleaned")]
    assert len(stitching) == 2  # the last row of blocks lives on parts alone
    cuts = {key for key in users if str(key).startswith("crop")}
    assert cuts <= {one for key in stitching for one in get_dependencies(graph, key)}


def test_building_reads_no_pixel_and_no_star(sky: Truth) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something was computed")

    with dask.config.set(scheduler=refuse):
        tree = GRAPH(sky.source, scale=SCALE, **GAIA)
        with pytest.raises(AssertionError, match="computed"):
            tree["2246"].flux.compute()
    assert all(values.chunks for values in tree["2246/removed"].data_vars.values())


def test_inputs_hold_weights_and_catalogues(sky: Truth) -> None:
    found = GRAPH.verb("inputs")(source=sky.source, scale=SCALE, **GAIA)
    assert sky.catalogue in found
    assert len(found) == 4 * 2 * 3 + 1
    assert len(GRAPH.verb("inputs")(source=sky.source, scale=SCALE, bands=BANDS)) == 4 * 2 * 2


def blank(sky: Path, cell: str, rect: tuple[slice, slice]) -> None:
    """Make pixels of all bands of a cell in a Zarr store NaN."""
    group = zarr.open_group(sky, mode="a")
    for band in BANDS:
        group[f"{cell.split('.')[1]}/{cell}/{band}"][rect] = np.nan  # type: ignore[index]


def test_c20_pixels_without_value_do_not_become_sky(tmp_path: Path) -> None:
    words: dict[str, Any] = {"format": "zarr", "bands": BANDS, "stars": 40, "galaxies": 10, "defects": False}
    source = simulate(tmp_path, ("skycell.2246.033",), scale=SCALE, seed=3, **words).source
    hole = slice(100, 140), slice(150, 200)
    blank(source, "skycell.2246.033", hole)
    found = run(source, min_coverage=1e-6, **SEP)
    layout = Options(scale=SCALE, bands=BANDS, uncertainty=True).plan(source)[1][0].layout
    cell = clean_cell(layout.cells[0], layout.projection, layout.recipe, Cleaning("sep"))
    assert np.isnan(cell.flux[hole]).all()
    cell.flux[:1], cell.flux[-1:], cell.flux[:, :1], cell.flux[:, -1:] = (np.nan,) * 4  # the unusable edge
    width = {"sigma": 3, "mode": "constant", "radius": 23}
    coverage = gaussian_filter(np.isfinite(cell.flux).astype(np.float64), **width)
    zero_fill = gaussian_filter(np.nan_to_num(cell.flux.astype(np.float64)), **width)
    np.testing.assert_allclose(found.coverage, coverage, rtol=0, atol=1e-6)
    there = np.isfinite(found.flux.values)
    product = (found.flux * found.coverage).to_numpy()
    np.testing.assert_allclose(product[there], zero_fill[there], rtol=0, atol=2e-6 * zero_fill.max())
    assert float(found.coverage[120, 175]) < 0.01


def test_c16_another_level_of_the_sky_is_no_source(tmp_path: Path) -> None:
    """A cell whose sky is 0.1 counts/s too bright, 0.3 sigma of one band, has a median of 0 once it is cleaned."""
    words: dict[str, Any] = {"format": "zarr", "stars": 20, "galaxies": 5, "bands": ("y",), "quantise": False}
    source = simulate(tmp_path, scale=SCALE, seed=3, rows=(3, 4), columns=(3, 5), **words).source
    array = zarr.open_group(source, mode="a")["2246/skycell.2246.034/y"]
    header = Header.fromstring(array.attrs["header"])
    keys = {key: float(header[key]) for key in ("BSOFTEN", "BOFFSET", "EXPTIME")}
    stored = np.asarray(array[:])  # type: ignore[index]
    linear = keys["BOFFSET"] + 2 * keys["BSOFTEN"] * np.sinh(stored / A) + 0.1 * keys["EXPTIME"]
    array[:] = A * np.arcsinh((linear - keys["BOFFSET"]) / (2 * keys["BSOFTEN"]))  # type: ignore[index]
    options = Options(scale=SCALE, bands=("y",), weights=(1.0,), uncertainty=True, selection=("skycell.2246.033",))
    layout = options.plan(source)[1][0].layout
    halo = next(files for files in layout.cells if str(files.cell) == "skycell.2246.034")
    before, after = (clean_cell(halo, layout.projection, layout.recipe, one) for one in (Cleaning(), Cleaning("sep")))
    assert float(np.nanmedian(before.flux)) > 0.07
    assert float(np.nanmedian(after.flux)) == 0
    assert float((after.flux == 0).mean()) > 0.8


def brute_force_stars(sky: Truth, cell: Skycell, attrs: dict[str, Any]) -> pd.DataFrame:
    """Stars on the very pixels of a cell, by the catalogue and astropy's WCS."""
    table = pd.read_csv(sky.catalogue)
    colour = table.phot_bp_mean_mag - table.phot_rp_mean_mag
    with_colour = -0.00522555 * colour**3 + 0.0891337 * colour**2 - 0.633923 * colour + 0.0324473
    table["tess_mag"] = table.phot_g_mean_mag + with_colour.fillna(-0.430)
    grid = Geometry(SCALE).projection(cell.projection)
    keys = grid.wcs_keys(origin=grid.cell_origin(cell.y, cell.x), crval=(attrs["CRVAL1"], attrs["CRVAL2"]))
    table["x"], table["y"] = WCS(Header(keys)).world_to_pixel_values(table.ra, table.dec)
    return table[table.x.between(-0.5, grid.width - 0.5) & table.y.between(-0.5, grid.height - 0.5)]


def computed(sky: Truth, **words: Any) -> xr.DataTree:
    """All that the graph makes."""
    tree = GRAPH(sky.source, scale=SCALE, **{**GAIA, **words})
    assert isinstance(tree, xr.DataTree)
    return tree.compute(scheduler="sync")


def table_of(tree: xr.DataTree, number: int = 2246) -> xr.Dataset:
    return tree.children[f"{number:04d}"].children["removed"].to_dataset(inherit=False)


def rows_of(tree: xr.DataTree, number: int, cell: Skycell) -> pd.DataFrame:
    table = table_of(tree, number)
    one = table.isel(cell=table.attrs["cells"].index(str(cell)))
    rows: pd.DataFrame = one.isel(slot=slice(0, int(one["count"]))).to_dataframe()
    return rows


def test_every_bright_star_of_the_catalogue_is_listed_where_it_stands(sky: Truth) -> None:
    tree = computed(sky)
    total = 0
    for cell in sky.cells:
        rows = rows_of(tree, 2246, cell)
        expected = brute_force_stars(sky, cell, tree["2246"].attrs["wcs"])
        bright = expected[expected.tess_mag < LIMIT].set_index("source_id").sort_index()
        found = rows[(rows.reason == 1) & rows.x_px.between(0, 311) & rows.y_px.between(0, 311)]
        found = found.set_index("source_id").sort_index()
        assert found.index.tolist() == bright.index.tolist()
        np.testing.assert_allclose(found.x_px, bright.x, atol=1e-4)
        np.testing.assert_allclose(found.y_px, bright.y, atol=1e-4)
        np.testing.assert_allclose(found.tess_mag, bright.tess_mag, atol=1e-9)
        neighbours = rows[rows.reason == 2]
        assert neighbours.source_id.isin(expected.source_id).all()
        assert (neighbours.tess_mag >= LIMIT).all()
        total += len(found)
    assert total > 8


def whole_stars(found: xr.Dataset, attrs: dict[str, Any], stars: NDArray[np.void], radius: int) -> list[bool]:
    """For each star that is wholly on the image, whether nothing is left of it as far as a radius."""
    x, y = WCS(Header(attrs)).world_to_pixel_values(stars["ra"], stars["dec"])
    flux = found.flux.to_numpy()
    left = []
    for at_y, at_x in zip(
        np.rint(y).astype(int) - int(found.y[0]), np.rint(x).astype(int) - int(found.x[0]), strict=True
    ):
        if radius <= at_y < flux.shape[0] - radius and radius <= at_x < flux.shape[1] - radius:
            part = flux[at_y - radius : at_y + radius + 1, at_x - radius : at_x + radius + 1]
            if np.isfinite(part).all():
                left.append(bool((part == 0).all()))
    return left


@pytest.mark.parametrize(
    ("number", "cells"), [(2246, ("033", "034", "043", "044")), (2157, ("044", "045", "054", "055"))]
)
def test_c15_no_star_is_cut_in_half_where_cells_meet(
    number: int, cells: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Noise of each cell its own, stars everywhere, also on the borders of ownership and across RA 0."""
    out = tmp_path_factory.mktemp("borders")
    words: dict[str, Any] = {"stars": 130, "galaxies": 0, "defects": False, "format": "zarr", "bands": BANDS}
    names = tuple(f"skycell.{number}.{cell}" for cell in cells)
    truth = simulate(out, names, scale=SCALE, seed=number, **words)
    attrs = Geometry(SCALE).projection(number).wcs_keys()
    stars = read_stars([truth.catalogue])
    stars = stars[stars["tess_mag"] < LIMIT]
    cleaning = Cleaning("sep", stars="gaia", tmag_limit=LIMIT)
    radius = 4  # px; the PSF is 3 px wide, the stars have 1500 counts/s and more
    before, after = image(truth), image(truth, cleaning)
    assert sum(whole_stars(before, attrs, stars, radius)) == 0
    there = whole_stars(after, attrs, stars, radius)
    assert sum(there) == len(there) > 15
    if number == 2157:
        table = computed(truth)
        ra = np.concatenate([rows_of(table, number, cell).ra for cell in truth.cells])
        assert ra.min() < 1
        assert ra.max() > 359


def test_wings_of_a_star_on_the_next_cell_are_removed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A star beyond the edge of a cell shines over the border of ownership: half of it would be left."""
    words: dict[str, Any] = {"stars": 130, "galaxies": 0, "defects": False, "format": "zarr", "bands": BANDS}
    truth = simulate(tmp_path, ("skycell.2246.033", "skycell.2246.034"), scale=SCALE, seed=2246, **words)
    tree = computed(truth)
    rows = pd.concat([rows_of(tree, 2246, cell) for cell in truth.cells])
    grid = Geometry(SCALE).projection(2246)
    inside = rows.x_px.between(-0.5, grid.width - 0.5) & rows.y_px.between(-0.5, grid.height - 0.5)
    outside = rows[~inside]
    assert (outside.reason == 1).all()
    cleaning = Cleaning("sep", stars="gaia", tmag_limit=LIMIT)
    whole = image(truth, cleaning).flux
    monkeypatch.setattr(background, "stars_near", lambda *args, margin: stars_near(*args, margin=0 * margin))
    y, x = np.nonzero((whole == 0).to_numpy() & (image(truth, cleaning).flux != 0).to_numpy())
    assert len(y) > 20
    px, py = sky_to_grid(grid, outside.ra, outside.dec)
    distance = np.hypot(px[:, None] - x - int(whole.x[0]), py[:, None] - y - int(whole.y[0])).min(axis=0)
    assert distance.max() < 40  # it all belongs to such stars
    assert (distance > 12).any()  # also beyond the border of ownership


def test_weights_that_are_missing(sky: Truth, tmp_path: Path) -> None:
    words: dict[str, Any] = {"stars": 20, "galaxies": 5, "format": "zarr", "bands": BANDS}
    drop = ("skycell.2246.034.i.wt",)
    source = simulate(tmp_path, scale=SCALE, seed=7, rows=(3, 4), columns=(3, 5), drop=drop, **words).source
    for options in (SEP, {"uncertainty": True, "bands": BANDS}):
        with pytest.raises(BadInput, match=r"no weight image .wt. of band i of skycell\.2246\.034"):
            GRAPH(source, scale=SCALE, **options)
    estimate: dict[str, Any] = {"uncertainty_missing": "estimate"}
    with events.collect() as notes:
        found = run(source, uncertainty=True, **SEP, **estimate)
    assert found.attrs["uncertainty_estimated"] == ["skycell.2246.034"]
    assert [note.kind for note in notes] == ["uncertainty-estimated"]
    assert "skycell.2246.034 lacks weight images" in notes[0].message
    assert 0.02 < notes[0].fields["rms"] < 0.2
    assert np.isfinite(found.uncertainty.to_numpy()[np.isfinite(found.flux)]).all()
    alone = run(source, uncertainty=True, bands=BANDS, **estimate)  # without background, too
    np.testing.assert_array_equal(np.isfinite(alone.uncertainty), np.isfinite(alone.flux))
    assert "uncertainty_estimated" not in run(sky.source, uncertainty=True, bands=BANDS, **estimate).attrs


def test_too_many_sources_for_sep(sky: Truth, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "PIXEL_STACK", 30)
    with pytest.raises(BadInput, match=r"skycell\.2246\.0..: sep.extract: .*limit of 30 .*set on_sep_error to keep"):
        run(sky.source, **SEP)
    with events.collect() as notes:
        kept = run(sky.source, on_sep_error="keep", **GAIA)
    assert {note.kind for note in notes} == {"background-failed"}
    assert len(notes) == 4
    np.testing.assert_array_equal(kept.flux, run(sky.source, bands=BANDS).flux)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ({"stars": "gaia"}, "background sep"),
        ({"background": "sep", "stars": "gaia"}, "gaia"),
        ({"background": "sep", "thresh": 0.0}, "thresh"),
        ({"background": "sep", "bright_sigma": float("nan")}, "bright_sigma"),
        ({"tmag_limit": float("inf")}, "tmag_limit"),
        ({"epoch": 12.0}, "epoch"),
        ({"background": "Sep"}, "background"),
        ({"on_sep_error": "ignore"}, "on-sep-error"),
        ({"uncertainty_missing": "zero"}, "uncertainty-missing"),
    ],
)
def test_options_are_refused_while_building(sky: Truth, words: dict[str, Any], name: str) -> None:
    with pytest.raises(BadOption, match=name):
        GRAPH(sky.source, scale=SCALE, **words)


@pytest.fixture(scope="module")
def store(sky: Truth, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written by the engine."""
    out = tmp_path_factory.mktemp("store") / "2246.zarr"
    with lf.cluster("local", n_workers=2, dashboard_address="127.0.0.1:0") as client:
        run = lf.run(GRAPH(sky.source, scale=SCALE, **{**GAIA, "gaia": ()}, selection=("20/3/3",)), out, client=client)
    assert not len(run.failed)
    return out


def test_the_engine_writes_the_table_beside_the_image(sky: Truth, store: Path) -> None:
    expected = computed(sky)
    with xr.open_datatree(store, engine="zarr", consolidated=False, chunks=None) as found:
        table = table_of(found).load()
        assert table.sizes == {"cell": 4, "slot": SLOTS}
        for name, values in table_of(expected).items():
            np.testing.assert_array_equal(table[name], values)
        np.testing.assert_allclose(found["2246"].flux, expected["2246"].flux, rtol=0, atol=1e-4)


def test_c11_exports_of_neighbours_agree_in_their_overlap(store: Path, tmp_path: Path) -> None:
    export(store, tmp_path / "cells.zarr", format="cells")
    group = zarr.open_group(tmp_path / "cells.zarr", mode="r")
    left, right = (np.asarray(group[f"2246/skycell.2246.03{x}/flux"]) for x in (3, 4))
    assert left[:, -24:].tobytes() == right[:, :24].tobytes()
    assert np.isfinite(left[:, -24:]).any()


def test_the_table_as_csv(sky: Truth, store: Path, tmp_path: Path) -> None:
    [path] = export(store, tmp_path, format="removed")
    assert path.name == "rings.v3.projection.2246.removed.csv"
    lines = pd.read_csv(path)
    assert list(lines)[:7] == ["cell", "source_id", "ra", "dec", "x", "y", "tess_mag"]
    assert set(lines.reason) >= {"catalog_bright_star", "catalog_neighbor"}
    catalogue = pd.read_csv(sky.catalogue).set_index("source_id")
    known = lines[lines.source_id > 0]
    np.testing.assert_array_equal(known.ra, catalogue.loc[known.source_id].ra)
    one = pd.read_csv(export(store, tmp_path, format="removed", cells=("skycell.2246.034",))[0])
    assert set(one.cell) == {"skycell.2246.034"}
    assert len(one) == (lines.cell == "skycell.2246.034").sum()


def test_a_store_without_a_table_says_so(sky: Truth, tmp_path: Path) -> None:
    GRAPH(sky.source, scale=SCALE, bands=BANDS).to_zarr(tmp_path / "out.zarr", consolidated=False)
    with pytest.raises(BadInput, match="found no table of removed sources, expected a run with stars gaia"):
        export(tmp_path / "out.zarr", tmp_path / "csv", format="removed")
