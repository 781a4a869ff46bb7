"""Mass sheets of simulated meshes against their truth, whatever the order, the chunks and the labels."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr

import lensflow as lf
from lensflow.errors import BadInput, BadOption
from lensflow.lensing.mesh import bin_rows as binning
from lensflow.lensing.mesh.bigfile import Block, open_block, read_attrs
from lensflow.lensing.mesh.bigfile_write import write_block
from lensflow.lensing.mesh.pieces import Rows
from lensflow.lensing.mesh.simulate_usmesh import simulate_usmesh
from lensflow.lensing.mesh.usmesh import open_usmesh

GRAPH = lf.graph("mass_sheets")
RANGE = (50, 58)
WORDS: dict[str, Any] = {"slices": RANGE, "batches": 4, "NC": 256, "seed": 3}
NAMES = ("delta", "n_rows", "n_occupied", "n_duplicate", "mass_sum", "map_sum", "delta_mean", "delta_std")


@pytest.fixture(autouse=True)
def quiet() -> Any:
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def meshes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, xr.Dataset]]:
    folder = tmp_path_factory.mktemp("meshes")
    return {
        order: (folder / order, simulate_usmesh(folder / order, nside=64, order=order, **WORDS))
        for order in ("sorted", "shuffled")
    }


@pytest.fixture
def harmed(tmp_path: Path) -> Callable[..., tuple[Path, int]]:
    """Return a function that simulates a mesh with faults: its path, and the sheet they are in."""

    def make(*faults: str, **words: Any) -> tuple[Path, int]:
        truth = simulate_usmesh(tmp_path / "mesh", nside=16, faults=faults, **WORDS | words)  # type: ignore[arg-type]
        return tmp_path / "mesh", truth.attrs["fault_sheet"]

    return make


def run(path: Path, **words: Any) -> xr.Dataset:
    """Compute sheets, parts as well."""
    tree = GRAPH(path, **{"sheet_range": RANGE, **words})
    nodes = [one.to_dataset(inherit=False) for one in (tree, *tree.children.values())]
    computed: xr.Dataset = dask.compute(*nodes, scheduler="sync")[0]
    return computed


def notes(path: Path, **words: Any) -> list[str]:
    from lensflow.engine.catalog import notes_of  # noqa: PLC0415 - what a run would report

    return [note.kind for note in notes_of(GRAPH(path, **{"sheet_range": RANGE, **words}))]


@pytest.mark.parametrize("order", ["sorted", "shuffled"])
def test_a1_sheets_are_the_truth(meshes: dict[str, tuple[Path, xr.Dataset]], order: str) -> None:
    path, truth = meshes[order]
    found = run(path)
    np.testing.assert_allclose(found.delta, truth.delta, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.map_sum, truth.mass_sum, rtol=1e-12)
    np.testing.assert_allclose(found.mass_sum, truth.mass_sum, rtol=1e-12)
    # sum (1 + delta) V_pix rhobar = sum Mass, of the map in float64
    volume = 4 * np.pi / 3 * (found.chi_max**3 - found.chi_min**3)
    np.testing.assert_allclose(
        (1 + found.delta_mean) * volume * found.attrs.get("rhobar", 1), truth.mass_sum, rtol=1e-12
    )
    for name, expected in (
        ("delta_mean", truth.delta.mean("pixel")),
        ("delta_std", truth.delta.std("pixel")),
        ("delta_min", truth.delta.min("pixel")),
        ("delta_max", truth.delta.max("pixel")),
    ):
        np.testing.assert_allclose(found[name], expected, rtol=1e-9, atol=1e-12)
    assert (found.n_occupied == (truth.delta > -1).sum("pixel")).all()
    assert (found.n_duplicate == found.n_rows - found.n_occupied).all()
    assert found.n_duplicate.sum() > 100
    assert found.n_zero_mass.sum() > 0
    assert not found.n_bad.any()
    assert not found.status.any()
    assert GRAPH(path, sheet_range=RANGE).attrs["rows_beyond"] >= 40


@pytest.mark.parametrize("order", ["sorted", "shuffled"])
def test_a1_at_a_higher_resolution(tmp_path: Path, order: str) -> None:
    words = {**WORDS, "slices": (55, 57), "NC": 512, "order": order}
    truth = simulate_usmesh(tmp_path / "mesh", nside=512, **words)
    found = run(tmp_path / "mesh", sheet_range=(55, 57), pixels_per_block=4**9)
    np.testing.assert_allclose(found.delta, truth.delta, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("order", ["sorted", "shuffled"])
@pytest.mark.parametrize("words", [{"chunk_size": 997}, {"chunk_size": 50_000}, {"plan": "scan"}], ids=str)
@pytest.mark.parametrize("pixels", [4**4, 4**6, 4**11])
def test_a2_neither_reads_nor_chunks_matter(
    meshes: dict[str, tuple[Path, xr.Dataset]], order: str, words: dict[str, Any], pixels: int
) -> None:
    path, _ = meshes[order]
    whole, found = run(path), run(path, pixels_per_block=pixels, **words)
    np.testing.assert_array_equal(found.delta, whole.delta)
    for name in NAMES[1:]:
        np.testing.assert_allclose(found[name], whole[name], rtol=1e-12, atol=1e-14)


def test_a2_workers_do_not_matter(meshes: dict[str, tuple[Path, xr.Dataset]]) -> None:
    path, _ = meshes["shuffled"]
    whole = run(path, pixels_per_block=4**6)
    tree = GRAPH(path, sheet_range=RANGE, pixels_per_block=4**6)
    for workers in (2, 4):
        found = tree.to_dataset().compute(scheduler="threads", num_workers=workers)
        for name in NAMES:
            assert found[name].values.tobytes() == whole[name].values.tobytes()


def copy_with(path: Path, to: Path, **attrs: Any) -> Path:
    """Copy a mesh with other attributes of its maps; None takes one away."""
    shutil.copytree(path, to)
    old = read_attrs(to / "HEALPIX" / "attr-v2")
    new = {name: attrs.get(name.partition(".")[2], value) for name, value in old.items()}
    write_block(to / "HEALPIX", attrs={name: value for name, value in new.items() if value is not None})
    return to


@pytest.mark.parametrize("scheme", ["RING", "NEST", None])
def test_a3_t3_the_scheme_is_not_believed(
    meshes: dict[str, tuple[Path, xr.Dataset]], tmp_path: Path, scheme: str | None
) -> None:
    path = copy_with(meshes["sorted"][0], tmp_path / "mesh", scheme=scheme)
    np.testing.assert_array_equal(run(path).delta, run(meshes["sorted"][0]).delta)
    assert notes(path).count("pixel-order") == (scheme == "RING")


@pytest.mark.parametrize("kind", ["permuted", "zero", "removed", "short"])
def test_a3_t4_offsets_are_not_believed(meshes: dict[str, tuple[Path, xr.Dataset]], tmp_path: Path, kind: str) -> None:
    offset = read_attrs(meshes["sorted"][0] / "HEALPIX" / "attr-v2")["aemitIndex.offset"]
    changed = {"permuted": offset[::-1].copy(), "zero": offset * 0, "removed": None, "short": offset[:5]}[kind]
    path = copy_with(meshes["sorted"][0], tmp_path / "mesh", offset=changed)
    found = run(path)
    np.testing.assert_array_equal(found.delta, run(meshes["sorted"][0]).delta)
    assert (found.offset_error > 0).all()
    assert notes(path).count("offsets") == 1


def test_t4_the_writers_own_offsets_are_wrong_where_slices_straddle_batches(
    meshes: dict[str, tuple[Path, xr.Dataset]], tmp_path: Path
) -> None:
    assert run(meshes["sorted"][0]).offset_error.sum() > 0
    simulate_usmesh(tmp_path / "mesh", nside=16, **WORDS, quirks=False)
    assert not run(tmp_path / "mesh").offset_error.any()
    assert "offsets" not in notes(tmp_path / "mesh")


def test_nslices_may_be_absent(meshes: dict[str, tuple[Path, xr.Dataset]], tmp_path: Path) -> None:
    path = copy_with(meshes["sorted"][0], tmp_path / "mesh", nslices=None)
    assert open_usmesh(path).nslices == 100


def change_header(path: Path, **attrs: Any) -> None:
    write_block(path / "Header", attrs={**read_attrs(path / "Header" / "attr-v2"), **attrs})


def test_a5_t8_coordinates_follow_the_header(harmed: Callable[..., tuple[Path, int]]) -> None:
    path, _ = harmed()
    before = run(path)
    change_header(path, OmegaM=0.25, OmegaLambda=0.75)
    found = run(path)
    assert (found.chi_max > before.chi_max * 1.02).all()
    assert notes(path).count("mean-density") == 1
    given = run(path, cosmology=(0.309, 0.691, 0.6774))
    np.testing.assert_array_equal(given.chi_max, before.chi_max)
    assert "mean-density" not in notes(path, cosmology=(0.309, 0.691, 0.6774))


def test_a5_t8_the_mean_density_is_that_of_the_mass_table(harmed: Callable[..., tuple[Path, int]]) -> None:
    path, _ = harmed()
    before = run(path)
    table = read_attrs(path / "Header" / "attr-v2")["MassTable"]
    change_header(path, MassTable=table * 0.5 + np.array([1, 0, 0, 0, 0, 0]))
    np.testing.assert_allclose(1 + run(path).delta, 2 * (1 + before.delta), rtol=1e-6)
    assert {"mean-density", "other-species"} <= set(notes(path))


def test_a5_a_shells_own_mean_is_kept(tmp_path: Path) -> None:
    """The mean of a shell is the super-sample mode: 3 % more mass is 3 % more delta."""
    path = tmp_path / "mesh"
    simulate_usmesh(path, nside=16, **{**WORDS, "seed": 0}, cl=(0.0,) * 10, poisson=False)
    np.testing.assert_allclose(run(path).delta_mean, 0, atol=1e-6)
    masses = open_block(path / "HEALPIX" / "Mass")
    write_block(
        path / "HEALPIX" / "Mass",
        [masses.read(k, 0, part.rows) * np.float32(1.03) for k, part in enumerate(masses.parts)],
        dtype="<f4",
    )
    np.testing.assert_allclose(run(path).delta_mean, 0.03, atol=1e-6)


@pytest.mark.parametrize("fault", ["flipped", "negative", "nan", "id"])
@pytest.mark.parametrize("words", [{}, {"plan": "scan"}, {"pixels_per_block": 4**4}], ids=str)
def test_a6_faults_are_errors_that_name_block_and_part(
    harmed: Callable[..., tuple[Path, int]], fault: str, words: dict[str, Any]
) -> None:
    path, _ = harmed(fault, parts=5)
    assert len(open_usmesh(path).ids.parts) == 20
    with pytest.raises(BadInput, match=r"(HEALPIX/(ID|Mass)/0000[01][0-9A-F]: )"):
        run(path, **words)


@pytest.mark.parametrize("fault", ["truncated", "short"])
def test_a6_lengths_are_checked_while_building(harmed: Callable[..., tuple[Path, int]], fault: str) -> None:
    path, _ = harmed(fault)
    with pytest.raises(BadInput, match=r"HEALPIX/Mass") as error:
        GRAPH(path, sheet_range=RANGE)
    assert "expected" in str(error.value)


@pytest.mark.parametrize("fault", ["negative", "nan", "id"])
@pytest.mark.parametrize("order", ["sorted", "shuffled"])
@pytest.mark.parametrize("pixels", [4**3, 4**11])
def test_a6_lenient_quarantines_that_sheet_alone(
    harmed: Callable[..., tuple[Path, int]], fault: str, order: str, pixels: int
) -> None:
    path, sheet = harmed(fault, order=order)
    found = run(path, validation_level="lenient", pixels_per_block=pixels)
    clean = run(harmed(order=order)[0])
    assert found.status.sel(sheet=sheet) == 1
    assert found.status.sum() == 1
    assert found.n_bad.sel(sheet=sheet) == 1
    assert np.isnan(found.delta.sel(sheet=sheet)).all()
    assert np.isnan(found.delta_mean.sel(sheet=sheet))
    others = found.sheet != sheet
    np.testing.assert_array_equal(found.delta[others], clean.delta[others])


@pytest.mark.parametrize("fault", ["negative", "nan", "id"])
def test_off_leaves_bad_rows_out(harmed: Callable[..., tuple[Path, int]], fault: str) -> None:
    path, sheet = harmed(fault)
    found = run(path, validation_level="off")
    assert found.n_bad.sel(sheet=sheet) == found.n_bad.sum() == 1
    assert np.isfinite(found.delta).all()
    assert not found.status.any()


def test_a_flipped_byte_in_rows_of_no_sheet_is_found_as_well(harmed: Callable[..., tuple[Path, int]]) -> None:
    path, sheet = harmed("flipped", parts=1, batches=1)
    with pytest.raises(BadInput, match="add up to"):
        run(path, sheet_range=(sheet - 2, sheet))
    run(path, sheet_range=(sheet - 2, sheet), validation_level="lenient")


def test_sheets_without_rows(harmed: Callable[..., tuple[Path, int]]) -> None:
    path, _ = harmed()
    with pytest.raises(BadInput, match=r"no rows of sheet 48 \(2 such\)"):
        run(path, sheet_range=(48, 52))
    found = run(path, sheet_range=(48, 52), validation_level="lenient")
    np.testing.assert_array_equal(found.status, [1, 1, 0, 0])
    np.testing.assert_array_equal(np.isnan(found.delta).all("pixel"), [True, True, False, False])


def unsorted_copy(path: Path, to: Path) -> Path:
    """Copy a mesh with all its rows in one part, batch after batch, the last batch first."""
    shutil.copytree(path, to)
    for name in ("ID", "Mass"):
        block = open_block(path / "HEALPIX" / name)
        parts = [block.read(k, 0, part.rows) for k, part in enumerate(block.parts)]
        shutil.rmtree(to / "HEALPIX" / name)
        write_block(to / "HEALPIX" / name, [np.concatenate(parts[::-1])], dtype=block.dtype.str)
    return to


@pytest.mark.parametrize("pixels", [4**6, 4**11])
def test_slices_out_of_order_are_found_by_reading_all_rows(
    meshes: dict[str, tuple[Path, xr.Dataset]], tmp_path: Path, pixels: int
) -> None:
    path = unsorted_copy(meshes["sorted"][0], tmp_path / "mesh")
    found, expected = run(path, pixels_per_block=pixels), run(meshes["sorted"][0])
    np.testing.assert_allclose(found.delta, expected.delta, rtol=1e-6, atol=1e-6)
    assert notes(path).count("unsorted-part") == 1
    assert "unsorted-part" not in notes(path, plan="scan")


def test_a_row_out_of_place_is_an_error_and_a_scan_finds_it(tmp_path: Path) -> None:
    """One row of another sheet among many is not seen by planning, but by the task that reads it."""
    path = tmp_path / "mesh"
    simulate_usmesh(path, nside=64, **{**WORDS, "batches": 1}, quirks=False)
    block = open_block(path / "HEALPIX" / "ID")
    ids = [block.read(k, 0, part.rows) for k, part in enumerate(block.parts)]
    ids[0][len(ids[0]) // 3] += 3 * 12 * 64**2
    write_block(path / "HEALPIX" / "ID", ids)
    with pytest.raises(BadInput, match=r"ID/000000.*choose plan scan"):
        run(path)
    assert (run(path, plan="scan").n_rows.sum()) == sum(map(len, ids))


def test_other_writers_may_number_pixels_by_ring(meshes: dict[str, tuple[Path, xr.Dataset]], tmp_path: Path) -> None:
    import healpy  # noqa: PLC0415

    path = tmp_path / "mesh"
    shutil.copytree(meshes["sorted"][0], path)
    block = open_block(path / "HEALPIX" / "ID")
    ids = [block.read(k, 0, part.rows) for k, part in enumerate(block.parts)]
    npix = 12 * 64**2
    write_block(path / "HEALPIX" / "ID", [one - one % npix + healpy.nest2ring(64, one % npix) for one in ids])
    for pixels in (4**6, 4**11):
        found = run(path, pixel_order="ring", pixels_per_block=pixels)
        np.testing.assert_allclose(found.delta, run(meshes["sorted"][0]).delta, rtol=1e-6, atol=1e-6)
    assert "pixel-order" not in notes(path, pixel_order="ring")


@pytest.mark.parametrize("order", ["sorted", "shuffled"])
@pytest.mark.parametrize("pixels", [4**6, 4**11])
def test_id_and_mass_are_read_once(
    meshes: dict[str, tuple[Path, xr.Dataset]], monkeypatch: pytest.MonkeyPatch, order: str, pixels: int
) -> None:
    read: list[tuple[str, int, int]] = []
    whole = Block.read

    def counting(block: Block, index: int, start: int, stop: int) -> Any:
        read.append((str(block.parts[index].path), start, stop))
        return whole(block, index, start, stop)

    tree = GRAPH(meshes[order][0], sheet_range=RANGE, pixels_per_block=pixels)
    monkeypatch.setattr(Block, "read", counting)
    dask.compute(tree.to_dataset(), tree["parts"].to_dataset(), scheduler="sync")
    parts = {int(part) for part in tree["parts"].part.values}
    mesh = open_usmesh(meshes[order][0])
    for block in (mesh.ids, mesh.mass):
        for number in parts:
            mine = sorted((start, stop) for path, start, stop in read if path == str(block.parts[number].path))
            starts, stops = zip(*mine, strict=True)
            # every row of every part that sheets are in, once: rows planned and rows of no sheet are all rows
            assert starts[1:] == stops[:-1]
            assert (starts[0], stops[-1]) == (0, block.parts[number].rows)


def test_the_seed_is_in_the_param_file_the_option_or_the_path(harmed: Callable[..., tuple[Path, int]]) -> None:
    path, _ = harmed()
    assert open_usmesh(path).seed == 3
    assert open_usmesh(path, seed=5).seed == 5
    change_header(path, ParamFile="-- random_seed = 9\nnc = 2\n")
    assert open_usmesh(path).seed is None
    assert "no-seed" in notes(path)
    moved = path.rename(path.with_name("usmesh_s104"))
    assert open_usmesh(moved).seed == 104
    change_header(moved, ParamFile="w0_fld = -0.9\n")
    assert "dark-energy" in notes(moved)


def test_headers_that_contradict_themselves(harmed: Callable[..., tuple[Path, int]], tmp_path: Path) -> None:
    path, _ = harmed()
    with pytest.raises(BadInput, match=r"healpix.npix: found 7, expected 3072"):
        open_usmesh(copy_with(path, tmp_path / "npix", npix=7))
    with pytest.raises(BadInput, match=r"healpix.nside: found 3"):
        open_usmesh(copy_with(path, tmp_path / "nside", nside=3))
    with pytest.raises(BadInput, match=r"aemitIndex.edges"):
        open_usmesh(copy_with(path, tmp_path / "edges", edges=np.array([0.0, 0.5])))
    with pytest.raises(BadInput, match="found no file, expected a block"):
        open_usmesh(path, dataset="HEALPIX/2")
    change_header(path, OmegaLambda=0.5)
    with pytest.raises(BadInput, match="option cosmology"):
        open_usmesh(path)
    shutil.rmtree(path / "Header")
    with pytest.raises(BadInput, match="expected the Header"):
        open_usmesh(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [("sheet_range", (58, 50)), ("sheet_range", (50, 101)), ("chunk_size", 0), ("pixels_per_block", 1000)],
)
def test_options_out_of_range(harmed: Callable[..., tuple[Path, int]], name: str, value: Any) -> None:
    path, _ = harmed()
    with pytest.raises(BadOption, match=name):
        GRAPH(path, **{"sheet_range": RANGE, name: value})


def test_what_is_said_of_the_source(meshes: dict[str, tuple[Path, xr.Dataset]]) -> None:
    attrs = GRAPH(meshes["sorted"][0], sheet_range=RANGE).attrs
    assert attrs["schema"] == "mass_sheets/1"
    assert (attrs["nside"], attrs["ordering"], attrs["nslices"], attrs["seed"]) == (64, "NESTED", 100, 3)
    assert (attrs["OmegaM"], attrs["OmegaLambda"], attrs["HubbleParam"]) == (0.309, 0.691, 0.6774)
    assert attrs["rhobar"] == pytest.approx(27.7455 * 0.309, rel=1e-12)
    assert json.loads(attrs["options"])["sheet_range"] == list(RANGE)


def test_bytes_are_not_summed_unless_asked(
    meshes: dict[str, tuple[Path, xr.Dataset]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(_: object) -> int:
        raise AssertionError("summed")

    monkeypatch.setattr(binning, "byte_sum", never)
    run(meshes["sorted"][0], validation_level="off")
    with pytest.raises(AssertionError, match="summed"):
        run(meshes["sorted"][0])


def test_rows_are_read_in_pieces(meshes: dict[str, tuple[Path, xr.Dataset]]) -> None:
    mesh = open_usmesh(meshes["sorted"][0])
    from lensflow.lensing.mesh.part_rows import Span  # noqa: PLC0415

    rows = Rows(mesh.ids.only(0), mesh.mass.only(0), Span(0, 10, 35))
    assert [len(ids) for ids, _ in rows.read(10)] == [10, 10, 5]
