"""Bands of a cell combined: the formulas in float64, the policies for what is missing, and damaged files."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from astropy.io import fits

from lensflow import events
from lensflow.errors import BadInput, BadOption
from lensflow.ps1.bands import BANDS, WEIGHTS, A
from lensflow.ps1.combine import Combination, Recipe, agrees
from lensflow.ps1.encode import Scaling as Encoding
from lensflow.ps1.encode import write_scaled_fits
from lensflow.ps1.fits_cells import FitsBand, list_fits
from lensflow.ps1.maskbits import MASK_VALUE, MaskBit
from lensflow.ps1.simulate import simulate
from lensflow.ps1.tessellation import Geometry, Skycell

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SCALE = 40
GEOMETRY = Geometry(SCALE)
CELL = Skycell(2246, 3, 3)
PROJECTION = GEOMETRY.projection(2246)
SIZE = (37, 41)
W = tuple(WEIGHTS[band] for band in BANDS)
EXPTIME = {"r": 720.0, "i": 1860.0, "z": 720.0, "y": 500.0}
BLANK, SUSPECT = int(MaskBit.BLANK), int(MaskBit.SUSPECT)


def write(folder: Path, band: str, kind: str, pixels: NDArray[Any], *, origin: tuple[int, int] = (0, 0)) -> None:
    """Write a linear cutout: counts, bits, or variance of counts."""
    crpix = PROJECTION.cell_crpix(CELL.y, CELL.x)
    header = fits.Header(
        [
            ("CRVAL1", PROJECTION.ra),
            ("CRVAL2", PROJECTION.dec),
            ("CRPIX1", crpix[0] - origin[1]),
            ("CRPIX2", crpix[1] - origin[0]),
            ("CDELT1", PROJECTION.geometry.pixel_scale),
            ("CDELT2", PROJECTION.geometry.pixel_scale),
            ("PC001001", -1.0),
            ("SKYCELL", str(CELL)),
            ("HIERARCH FPA.FILTERID", f"{band}.00000"),
            ("EXPTIME", EXPTIME[band]),
        ]
    )
    fits.PrimaryHDU(pixels, header).writeto(folder / f"sn.{band}.unconv{kind}.fits")


@pytest.fixture(scope="module")
def scene() -> dict[str, dict[str, NDArray[Any]]]:
    """Counts/s, bits and variances with every combination of absent bands somewhere."""
    rng = np.random.default_rng(5)
    images: dict[str, dict[str, NDArray[Any]]] = {}
    for band in BANDS:
        flux = rng.normal(3, 2, SIZE)
        flux[rng.random(SIZE) < 0.4] = np.nan
        bits = (1 << rng.integers(0, 16, SIZE)).astype(np.uint16)
        variance = rng.gamma(2, 1, SIZE)
        variance[rng.random(SIZE) < 0.02] = -1.0
        images[band] = {"flux": flux, "mask": bits, "variance": variance}
    return images


@pytest.fixture(scope="module")
def folder(scene: dict[str, dict[str, NDArray[Any]]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scene")
    for band, images in scene.items():
        write(path, band, "", (images["flux"] * EXPTIME[band]).astype(np.float32))
        write(path, band, ".mask", images["mask"])
        write(path, band, ".wt", (images["variance"] * EXPTIME[band] ** 2).astype(np.float32))
    return path


class Whole:
    """A combined cell: all slabs put together."""

    def __init__(self, folder: Path, **options: Any) -> None:
        recipe = Recipe(**{"bands": BANDS, "weights": W, **options})
        (files,), _ = list_fits(folder, GEOMETRY)
        self.rect = files.rect
        shape = self.rect.shape
        self.flux, self.mask = np.full(shape, -99, np.float32), np.zeros(shape, np.uint16)
        self.variance = np.full(shape, -99, np.float32)
        with events.collect() as self.notes:
            for slab in Combination(files, PROJECTION, recipe).slabs(self.rect.y0, self.rect.y1):
                rows = slice(slab.rect.y0 - self.rect.y0, slab.rect.y1 - self.rect.y0)
                self.flux[rows], self.mask[rows] = slab.flux, slab.mask
                if slab.variance is not None:
                    self.variance[rows] = slab.variance


def expected(scene: dict[str, dict[str, NDArray[Any]]], key: str = "flux", *, bits: int = 0) -> NDArray[np.float64]:
    """Return F = w_tot sum_B w f / sum_B w, or its variance, in float64."""
    total, weight = np.zeros(SIZE), np.zeros(SIZE)
    for band in BANDS:
        seen = np.isfinite(scene[band]["flux"]) & ((scene[band]["mask"] & bits) == 0)
        values = scene[band]["flux"] if key == "flux" else scene[band]["variance"] * WEIGHTS[band]
        values = np.where((values < 0) & (key != "flux"), np.nan, values)
        total += np.where(seen, WEIGHTS[band] * values, 0)
        weight += seen * WEIGHTS[band]
    weight[weight == 0] = np.nan
    return total * (sum(W) / weight) ** (1 if key == "flux" else 2)


def test_renormalise_scales_up_what_is_left(folder: Path, scene: dict[str, dict[str, NDArray[Any]]]) -> None:
    reference = expected(scene)
    assert 0 < np.isnan(reference).sum() < 0.1 * reference.size
    np.testing.assert_allclose(Whole(folder).flux, reference, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("missing", ["skip", "fail"])
def test_skip_and_fail_let_nan_through(folder: Path, scene: dict[str, dict[str, NDArray[Any]]], missing: str) -> None:
    reference = sum(WEIGHTS[band] * scene[band]["flux"] for band in BANDS)
    found = Whole(folder, missing=missing).flux
    np.testing.assert_allclose(found, reference, rtol=1e-6, atol=1e-6)
    assert 0 < np.isfinite(found).sum() < found.size


@pytest.mark.parametrize(("missing", "level"), [("renormalise", 2.0), ("skip", 2.0 * (1 - 0.344))])
def test_a6_a_missing_i_band_dims_a_flat_source_only_when_skipped(tmp_path: Path, missing: str, level: float) -> None:
    for band in "rzy":
        write(tmp_path, band, "", np.full(SIZE, 2 * EXPTIME[band], np.float32))
    np.testing.assert_allclose(Whole(tmp_path, missing=missing).flux, level, rtol=1e-6)


def test_weights_are_those_given(tmp_path: Path) -> None:
    for band, flux in (("r", 2.0), ("i", 5.0)):
        write(tmp_path, band, "", np.full(SIZE, flux * EXPTIME[band], np.float32))
    np.testing.assert_allclose(Whole(tmp_path, bands=("r", "i"), weights=(3.0, 1.0)).flux, 11, rtol=1e-6)
    np.testing.assert_allclose(Whole(tmp_path, bands=("i",), weights=(1.0,)).flux, 5, rtol=1e-6)
    # y is configured and absent: w_tot counts it
    found = Whole(tmp_path, bands=("r", "i", "y"), weights=(3.0, 1.0, 4.0)).flux
    np.testing.assert_allclose(found, 22, rtol=1e-6)


def test_masks_are_combined_bit_by_bit_and_kept_as_stored(
    folder: Path, scene: dict[str, dict[str, NDArray[Any]]]
) -> None:
    found = Whole(folder).mask
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, np.bitwise_or.reduce([scene[band]["mask"] for band in BANDS]))
    assert found.max() >= 32768


@pytest.mark.parametrize("bits", [0, 8, 4128, MASK_VALUE, 65535])
def test_invalid_bits_take_pixels_of_a_band_out(
    folder: Path, scene: dict[str, dict[str, NDArray[Any]]], bits: int
) -> None:
    found = Whole(folder, invalid_bits=bits)
    np.testing.assert_allclose(found.flux, expected(scene, bits=bits), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(found.mask, Whole(folder).mask)  # the bits stay


def test_variance_is_that_of_the_weighted_mean(folder: Path, scene: dict[str, dict[str, NDArray[Any]]]) -> None:
    found = Whole(folder, uncertainty=True)
    reference = expected(scene, "variance")
    assert np.isnan(reference).sum() > np.isnan(expected(scene)).sum()  # a negative variance is none
    np.testing.assert_allclose(found.variance, reference, rtol=2e-6)
    np.testing.assert_array_equal(found.flux, Whole(folder).flux)


def test_variance_without_renormalising(folder: Path, scene: dict[str, dict[str, NDArray[Any]]]) -> None:
    reference = np.zeros(SIZE)
    for band in BANDS:
        variance = np.where(scene[band]["variance"] < 0, np.nan, scene[band]["variance"])
        reference += WEIGHTS[band] ** 2 * variance
        reference[np.isnan(scene[band]["flux"])] = np.nan
    np.testing.assert_allclose(Whole(folder, uncertainty=True, missing="skip").variance, reference, rtol=2e-6)


def test_a7_bands_with_different_rectangles(tmp_path: Path) -> None:
    """Outside of its rectangle a band is missing; in the corners that no rectangle covers all are."""
    write(tmp_path, "r", "", np.full((20, 30), 720, np.float32), origin=(10, 5))
    write(tmp_path, "i", "", np.full((20, 30), 3 * 1860, np.float32), origin=(20, 15))
    write(tmp_path, "i", ".mask", np.full((20, 30), 64, np.uint16), origin=(20, 15))
    found = Whole(tmp_path, bands=("r", "i"), weights=(1.0, 1.0))
    assert found.rect == (10, 5, 40, 45)
    reference = np.full((30, 40), np.nan)
    reference[:20, :30], reference[10:, 10:], reference[10:20, 10:30] = 2, 6, 4
    np.testing.assert_allclose(found.flux, reference, rtol=1e-6)
    bits = np.zeros((30, 40))
    bits[10:, 10:] = 64
    np.testing.assert_array_equal(found.mask, bits)


def test_masks_may_be_absent(tmp_path: Path) -> None:
    write(tmp_path, "r", "", np.full(SIZE, 720, np.float32))
    found = Whole(tmp_path, invalid_bits=65535)
    assert not found.mask.any()
    np.testing.assert_allclose(found.flux, 1, rtol=1e-6)


def test_any_rows_are_those_of_the_whole(pristine: Path) -> None:
    whole = Whole(pristine)
    (files,), _ = list_fits(pristine, GEOMETRY)
    for start, stop in ((0, 1), (100, 140), (120, 128), (127, 158)):
        rows = start
        for slab in Combination(files, PROJECTION, Recipe(BANDS, W)).slabs(start, stop):
            assert slab.rect.y0 == rows
            np.testing.assert_array_equal(slab.flux, whole.flux[slab.rect.y0 : slab.rect.y1])
            np.testing.assert_array_equal(slab.mask, whole.mask[slab.rect.y0 : slab.rect.y1])
            rows = slab.rect.y1
        assert rows == stop


# damaged files


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pristine")
    simulate(path, (str(CELL),), scale=SCALE, seed=4)
    return path


@pytest.fixture
def spoiled(pristine: Path, tmp_path: Path) -> Path:
    return shutil.copytree(pristine, tmp_path / "spoiled")


def path_of(folder: Path, band: str, kind: str = "") -> Path:
    return folder / f"rings.v3.{CELL}.stk.{band}.unconv{kind}.fits"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def spoil_last_tile(path: Path) -> None:
    """Make the last row undecodable: the damage shows only when all others have been read."""
    with fits.open(path, disable_image_compression=True) as hdus:
        table = hdus[1].header
        descriptors = hdus.fileinfo(1)["datLoc"] + table["NAXIS1"] * (table["NAXIS2"] - 1)
    data = bytearray(path.read_bytes())
    length, offset = np.frombuffer(data, ">i4", 2, descriptors)
    tile = descriptors + 8 + int(offset)
    data[tile : tile + int(length)] = b"\xff" * int(length)  # a code that begins no pixel
    path.write_bytes(data)


@pytest.mark.parametrize("spoil", [truncate, spoil_last_tile])
@pytest.mark.parametrize("kind", ["", ".mask"])
def test_c14_a_damaged_band_is_masked_marked_and_noted_once(
    pristine: Path, spoiled: Path, spoil: Any, kind: str
) -> None:
    damaged = path_of(spoiled, "i", kind)
    spoil(damaged)
    found = Whole(spoiled)
    for path in spoiled.glob("*.stk.i.*"):
        path.unlink()
    without = Whole(spoiled)  # as if the band had never been there
    np.testing.assert_array_equal(found.flux, without.flux)
    left = np.isfinite(found.flux)
    assert left.any()
    assert (~left).any()
    np.testing.assert_array_equal(found.mask[left], without.mask[left] | SUSPECT)
    np.testing.assert_array_equal(found.mask[~left], without.mask[~left] | BLANK)
    (note,) = found.notes
    assert note.kind == "corrupt-file"
    assert note.fields["file"] == str(damaged)
    assert (note.fields["cell"], note.fields["band"]) == (str(CELL), "i")
    assert str(damaged) in note.message
    assert str(CELL) in note.message
    assert Whole(pristine).notes == []


def test_c14_where_no_band_remains_the_cell_is_blank(spoiled: Path) -> None:
    for band in BANDS:
        truncate(path_of(spoiled, band))
    found = Whole(spoiled)
    assert np.isnan(found.flux).all()
    assert (found.mask == BLANK).all()
    assert sorted(note.fields["band"] for note in found.notes) == sorted(BANDS)


def test_c14_two_files_damaged_at_different_rows_are_two_notes(spoiled: Path) -> None:
    spoil_last_tile(path_of(spoiled, "r"))
    truncate(path_of(spoiled, "z"))
    found = Whole(spoiled)
    assert [note.fields["band"] for note in found.notes] == ["z", "r"]
    for path in (*spoiled.glob("*.stk.r.*"), *spoiled.glob("*.stk.z.*")):
        path.unlink()
    np.testing.assert_array_equal(found.flux, Whole(spoiled).flux)


@pytest.mark.parametrize("missing", ["skip", "fail"])
def test_c14_without_renormalising_a_damaged_band_leaves_nothing(spoiled: Path, missing: str) -> None:
    truncate(path_of(spoiled, "r"))
    found = Whole(spoiled, missing=missing)
    assert np.isnan(found.flux).all()
    assert (found.mask & BLANK).all()


@pytest.mark.parametrize("spoil", [truncate, spoil_last_tile])
@pytest.mark.parametrize("kind", ["", ".mask", ".wt"])
def test_c14_on_corrupt_fail_names_the_file(spoiled: Path, spoil: Any, kind: str) -> None:
    spoil(path_of(spoiled, "z", kind))
    with pytest.raises(BadInput, match=f"^{path_of(spoiled, 'z', kind)}: "):
        Whole(spoiled, on_corrupt="fail", uncertainty=True)


def test_a_damaged_weight_matters_only_if_it_is_needed(pristine: Path, spoiled: Path) -> None:
    truncate(path_of(spoiled, "r", ".wt"))
    plain = Whole(spoiled, on_corrupt="fail")
    np.testing.assert_array_equal(plain.flux, Whole(pristine).flux)
    (note,) = Whole(spoiled, uncertainty=True).notes
    assert note.fields["file"] == str(path_of(spoiled, "r", ".wt"))


def test_c10_each_band_is_read_by_its_own_constants(pristine: Path, spoiled: Path) -> None:
    """r without its weight, y with BSOFTEN 5 times as large: constants are never carried over."""
    expected = Whole(pristine)
    path_of(spoiled, "r", ".wt").unlink()
    path = path_of(spoiled, "y")
    with fits.open(path, do_not_scale_image_data=True) as hdus:
        header, disk = hdus[1].header.copy(), hdus[1].data
    law = Encoding(*(header[key] for key in ("BZERO", "BSCALE", "BSOFTEN", "BOFFSET")))
    counts = law.decode(disk)
    other = replace(law, bsoften=5 * law.bsoften)
    write_scaled_fits(path, other.encode(counts), header, other)
    found = Whole(spoiled)
    assert found.notes == []
    quantum = other.bscale / (2 * A) * np.hypot(counts - other.boffset, 2 * other.bsoften) / EXPTIME["y"]
    # the share of y, where y is the only band at worst
    bound = np.where(np.isnan(quantum), 0, quantum) + 1e-6 * np.abs(expected.flux)
    seen = np.isfinite(expected.flux)
    np.testing.assert_array_equal(np.isfinite(found.flux), seen)
    assert (np.abs(found.flux - expected.flux)[seen] <= bound[seen]).all()


def test_readers_are_closed_if_the_rows_are_not_used_up(pristine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    original = FitsBand.close

    def closing(band: FitsBand) -> None:
        closed.append(band)
        original(band)

    monkeypatch.setattr(FitsBand, "close", closing)
    (files,), _ = list_fits(pristine, GEOMETRY)
    combination = Combination(files, PROJECTION, Recipe(BANDS, W))
    slabs = combination.slabs(0, 158)
    next(slabs)
    opened = list(combination.tangents())
    slabs.close()
    assert len(closed) == len(opened) == 4


# recipes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bands": ()}, "bands: found"),
        ({"bands": ("r", "r", "i", "z")}, "bands: found"),
        ({"bands": ("red", "i", "z", "y")}, "bands: found"),
        ({"bands": tuple("abcdefghi"), "weights": (1.0,) * 9}, "bands: found 9 of them"),
        ({"weights": (1.0, 2.0)}, "weights: found 2 of them, expected one for each of"),
        ({"weights": (1.0, 2.0, 3.0, 0.0)}, "weights: found .* expected positive numbers"),
        ({"weights": (1.0, 2.0, 3.0, float("nan"))}, "weights: found .* expected positive numbers"),
        ({"missing": "ignore"}, "missing: found 'ignore', expected renormalise, skip or fail"),
        ({"on_corrupt": "ignore"}, "on_corrupt: found 'ignore', expected mask or fail"),
        ({"invalid_bits": 65536}, "invalid_bits: found 65536"),
        ({"invalid_bits": -1}, "invalid_bits: found -1"),
    ],
)
def test_recipes_that_cannot_work_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadOption, match=message):
        Recipe(**{"bands": BANDS, "weights": W, **options})


def test_tangent_points_agree_to_1e_7_deg_also_across_ra_0() -> None:
    assert agrees((0.0, 42.0), (360.0 - 9e-8, 42.0 + 9e-8))
    assert not agrees((0.0, 42.0), (2e-7, 42.0))
    assert not agrees((0.0, 42.0), (0.0, 42.0 - 2e-7))
