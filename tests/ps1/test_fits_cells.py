"""Folders of FITS files: what is found in them, and what is read of each; damaged files are errors that name them."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from astropy.io import fits

from lensflow.arrays.fits import FitsImage, read_image_header
from lensflow.errors import BadInput
from lensflow.ps1.bands import Scaling
from lensflow.ps1.cells import CellFiles, Rect, check_header
from lensflow.ps1.encode import Scaling as Encoding
from lensflow.ps1.fits_cells import FitsBand, list_fits
from lensflow.ps1.simulate import simulate
from lensflow.ps1.tessellation import Geometry, Skycell

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

SCALE = 40
GEOMETRY = Geometry(SCALE)
CELL = Skycell(2246, 3, 3)
PROJECTION = GEOMETRY.projection(2246)
IMAGE = "rings.v3.skycell.2246.033.stk.r.unconv.fits"
MASK, WEIGHT = IMAGE.replace(".fits", ".mask.fits"), IMAGE.replace(".fits", ".wt.fits")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pristine")
    simulate(folder, (str(CELL),), scale=SCALE, seed=4, bands=("r", "i"))
    return folder


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """Return a copy to spoil."""
    shutil.copytree(pristine, tmp_path, dirs_exist_ok=True)
    return tmp_path


def listed(folder: Path) -> CellFiles:
    (files,), _ = list_fits(folder, GEOMETRY)
    return files


def opened(folder: Path, *, weight: bool = True) -> FitsBand:
    files = listed(folder).band("r")
    assert files is not None
    return FitsBand(files, PROJECTION, CELL, weight=weight)


def read_all(folder: Path) -> tuple[NDArray[Any], ...]:
    band = opened(folder)
    try:
        mask = band.mask(0, PROJECTION.height)
        assert mask is not None
        return band.flux(0, PROJECTION.height), mask, band.variance(0, PROJECTION.height)
    finally:
        band.close()


def edit(path: Path, **changes: object) -> None:
    """Change cards of a compressed file, None deletes; its pixels stay as they are."""
    with fits.open(path, disable_image_compression=True, memmap=False) as hdus:
        header = hdus[1].header
        for key, value in changes.items():
            name = key.replace("__", ".")
            if value is None:
                del header[name]
            else:
                header[f"HIERARCH {name}" if "." in name else name] = value
        hdus.writeto(path, overwrite=True)


def heap_of(path: Path) -> tuple[int, int]:
    """Return the first byte and one past the last of the compressed pixels."""
    with fits.open(path, disable_image_compression=True) as hdus:
        table = hdus[1].header
        start = hdus.fileinfo(1)["datLoc"] + table["NAXIS1"] * table["NAXIS2"]
    return start, start + table["PCOUNT"]


def test_a_flat_folder_is_listed_by_names_alone(pristine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a header was read")

    monkeypatch.setattr("lensflow.ps1.fits_cells.read_image_header", refuse)
    (files,), ignored = list_fits(pristine, GEOMETRY)
    assert files.cell == CELL
    assert ignored == []
    assert [one.band for one in files.bands] == ["i", "r"]
    for one in files.bands:
        assert one.rect == files.rect == Rect(0, 0, PROJECTION.height, PROJECTION.width)
        expected = [f"rings.v3.{CELL}.stk.{one.band}.unconv{kind}.fits" for kind in ("", ".mask", ".wt")]
        assert [Path(path).name for path in one.read(weight=True)] == expected
        assert [Path(path).name for path in one.read(weight=False)] == expected[:2]


def test_a_nested_folder_is_listed_alike(folder: Path) -> None:
    nested = folder / "2246" / "033"
    nested.mkdir(parents=True)
    for path in folder.glob("*.fits"):
        path.rename(nested / path.name)
    assert [Path(one.image).parent for one in listed(folder).bands] == [nested, nested]


def test_cells_are_listed_in_order_of_name(tmp_path: Path) -> None:
    for number, yx in ((2246, "010"), (714, "099"), (2246, "009"), (1000, "000")):
        (tmp_path / f"rings.v3.skycell.{number:04d}.{yx}.stk.r.unconv.fits").touch()
    found, _ = list_fits(tmp_path, GEOMETRY)
    names = ["skycell.0714.099", "skycell.1000.000", "skycell.2246.009", "skycell.2246.010"]
    assert [str(files.cell) for files in found] == names


def test_masks_and_weights_without_their_image_are_no_cell(folder: Path) -> None:
    (folder / IMAGE).unlink()
    assert [one.band for one in listed(folder).bands] == ["i"]


def test_two_files_for_one_band_are_an_error_that_names_both(folder: Path) -> None:
    (folder / "again").mkdir()
    shutil.copy(folder / IMAGE, folder / "again" / IMAGE)
    with pytest.raises(BadInput, match=rf"again/{IMAGE}: image of band r of {CELL} is also in .*{IMAGE}; keep one"):
        list_fits(folder, GEOMETRY)


def cutout(
    path: Path, *, origin: tuple[float, float] = (20, 10), size: tuple[int, int] = (30, 40), **cards: Any
) -> None:
    """Write a linear cutout whose pixels count up."""
    crpix = PROJECTION.cell_crpix(CELL.y, CELL.x)
    pixels = np.arange(size[0] * size[1], dtype=np.float32).reshape(size)
    header = fits.Header(
        [
            ("CRVAL1", PROJECTION.ra),
            ("CRVAL2", PROJECTION.dec),
            ("CRPIX1", crpix[0] - origin[1]),
            ("CRPIX2", crpix[1] - origin[0]),
            ("CDELT1", PROJECTION.geometry.pixel_scale),
            ("CDELT2", PROJECTION.geometry.pixel_scale),
            ("PC001001", -1.0),
            ("PC002002", 1.0),
            ("SKYCELL", str(CELL)),
            ("HIERARCH FPA.FILTERID", "r.00000"),
            ("EXPTIME", 10.0),
        ]
    )
    header.update(cards)
    fits.PrimaryHDU(pixels, header).writeto(path)


def test_cutouts_are_known_by_their_header_under_any_name(tmp_path: Path) -> None:
    cutout(tmp_path / "whatever.fits")
    files = listed(tmp_path)
    assert files.cell == CELL
    assert files.bands[0].rect == Rect(20, 10, 50, 50)
    band = opened(tmp_path, weight=False)
    np.testing.assert_allclose(band.flux(3, 5), np.arange(120, 200).reshape(2, 40) / 10, rtol=1e-6)
    assert band.mask(3, 5) is None
    with pytest.raises(BadInput, match="found no weight image"):
        band.variance(0, 1)
    band.close()


def test_c19_radesys_changes_nothing(tmp_path: Path) -> None:
    """Raw skycells carry no RADESYS and cutouts say FK5: the pixels are the same pixels."""
    rects = []
    for name, cards in (("none", {}), ("fk5", {"RADESYS": "FK5", "EQUINOX": 2000.0}), ("icrs", {"RADESYS": "ICRS"})):
        (tmp_path / name).mkdir()
        cutout(tmp_path / name / "cutout.fits", **cards)
        rects.append(listed(tmp_path / name).rect)
    assert rects[0] == rects[1] == rects[2]


@pytest.mark.parametrize(
    ("origin", "cards", "message"),
    [
        ((20.5, 10), {}, r"CRPIX2: found an origin 20\.5000 px inside the skycell, expected a whole number"),
        ((20, 10.002), {}, "CRPIX1: found an origin"),
        ((-1, 10), {}, "NAXIS, CRPIX: found"),
        ((20, 130), {}, "NAXIS, CRPIX: found"),
        ((20, 10), {"CRVAL1": 1.0}, "CRVAL1: found 1.0"),
        ((20, 10), {"PC001001": 1.0}, "CDELT1, PC001001: found"),
        ((20, 10), {"SKYCELL": "skycell.9999.000"}, "SKYCELL: skycell: found 'skycell.9999.000'"),
        ((20, 10), {"CRPIX1": "x"}, "CRPIX1: found 'x', expected a number"),
    ],
)
def test_cutouts_that_do_not_lie_on_the_pixels_of_their_cell_are_errors(
    tmp_path: Path, origin: tuple[float, float], cards: dict[str, Any], message: str
) -> None:
    cutout(tmp_path / "cutout.fits", origin=origin, **cards)
    with pytest.raises(BadInput, match=rf"cutout\.fits: {message}"):
        list_fits(tmp_path, GEOMETRY)


def test_fits_files_that_are_no_skycells_are_named_and_left_alone(tmp_path: Path) -> None:
    cutout(tmp_path / "good.fits")
    fits.PrimaryHDU(np.zeros((3, 3))).writeto(tmp_path / "other.fits")
    (tmp_path / "notes.fits").write_text("not FITS at all")
    (tmp_path / "empty.fits").touch()
    (tmp_path / "readme.txt").write_text("text")
    _, ignored = list_fits(tmp_path, GEOMETRY)
    assert ignored == ["empty.fits", "notes.fits", "other.fits"]


def test_ra_wraps_and_crval_may_be_rounded() -> None:
    """C15: at RA 0 a header may say 359.99999."""
    projection, cell = GEOMETRY.projection(2157), Skycell(2157, 0, 0)
    crpix = projection.cell_crpix(0, 0)
    header = {
        "CRVAL1": 359.99999,
        "CRVAL2": projection.dec,
        "CRPIX1": crpix[0],
        "CRPIX2": crpix[1],
        "CD1_1": -projection.geometry.pixel_scale,
        "CD2_2": projection.geometry.pixel_scale,
        "NAXIS1": 5,
        "NAXIS2": 6,
    }
    assert check_header(header, "x.fits", projection, cell) == Rect(0, 0, 6, 5)
    with pytest.raises(BadInput, match="CRVAL1"):
        check_header({**header, "CRVAL1": 359.9999}, "x.fits", projection, cell)


def test_what_is_read_is_what_the_archive_wrote(pristine: Path) -> None:
    flux, mask, variance = read_all(pristine)
    for name, found, square in ((IMAGE, flux, False), (WEIGHT, variance, True)):
        with fits.open(pristine / name, do_not_scale_image_data=True) as hdus:
            header, disk = hdus[1].header, hdus[1].data
            law = Encoding(*(header[key] for key in ("BZERO", "BSCALE", "BSOFTEN", "BOFFSET")))
            expected = law.decode(disk) / header["EXPTIME"] ** (2 if square else 1)
        if square:
            expected[expected < 0] = np.nan
        np.testing.assert_allclose(found, expected, rtol=2e-7)
    assert np.isnan(flux).any()  # blank cores of saturated stars
    np.testing.assert_array_equal(mask, fits.getdata(pristine / MASK))
    assert mask.dtype == np.uint16
    assert mask.max() > 0


def test_rows_are_those_of_the_whole(pristine: Path) -> None:
    flux, mask, variance = read_all(pristine)
    band = opened(pristine)
    for start, stop in ((0, 1), (5, 77), (PROJECTION.height - 3, PROJECTION.height)):
        part = band.mask(start, stop)
        assert part is not None
        np.testing.assert_array_equal(part, mask[start:stop])
        np.testing.assert_array_equal(band.flux(start, stop), flux[start:stop])
        np.testing.assert_array_equal(band.variance(start, stop), variance[start:stop])
    band.close()


def test_only_the_tiles_of_the_rows_asked_for_are_decompressed(pristine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from astropy.io.fits.hdu.compressed import _tiled_compression  # noqa: PLC0415

    tiles = []
    original = _tiled_compression._decompress_tile

    def counting(*arguments: Any, **keywords: Any) -> Any:
        tiles.append(1)
        return original(*arguments, **keywords)

    monkeypatch.setattr(_tiled_compression, "_decompress_tile", counting)
    with FitsImage(pristine / IMAGE) as image:
        image.rows(10, 17)
    assert len(tiles) == 7


def test_gzip_compressed_masks_are_read_too(folder: Path) -> None:
    mask, header = fits.getdata(folder / MASK, header=True)
    hdu = fits.CompImageHDU(mask, header, compression_type="GZIP_1", tile_shape=(1, mask.shape[1]))
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(folder / MASK, overwrite=True)
    np.testing.assert_array_equal(read_all(folder)[1], mask)


def cut(where: Callable[[Path], int]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        path.write_bytes(path.read_bytes()[: where(path)])

    return spoil


def overwritten(content: bytes) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        start, stop = heap_of(path)
        data = bytearray(path.read_bytes())
        middle = (start + stop) // 2
        data[middle : middle + len(content)] = content
        path.write_bytes(data)

    return spoil


def replaced(old: bytes, new: bytes) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        data = path.read_bytes()
        assert old in data
        path.write_bytes(data.replace(old, new))

    return spoil


DAMAGE: dict[str, Callable[[Path], object]] = {
    "zero bytes": cut(lambda _: 0),
    "cut in the first header": cut(lambda _: 1000),
    "cut after the first header": cut(lambda _: 2880),
    "cut in the second header": cut(lambda _: 2 * 2880 + 100),
    "cut after the table": cut(lambda path: heap_of(path)[0]),
    "cut in the heap": cut(lambda path: sum(heap_of(path)) // 2),
    "cut in the last tile": cut(lambda path: heap_of(path)[1] - 10),
    "text": lambda path: path.write_text("<html>404 not found</html>"),
    "junk": lambda path: path.write_bytes(np.random.default_rng(1).bytes(20000)),
    "pixels of ones": overwritten(b"\xff" * 2000),
    "pixels of zeros": overwritten(b"\0" * 2000),
    "no size": replaced(b"ZNAXIS1 =                  158", b"ZNAXIS1 =                   xx"),
    "no algorithm": replaced(b"RICE_1", b"RICE_9"),
}


@pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyUserWarning")
@pytest.mark.parametrize("name", [IMAGE, MASK, WEIGHT])
@pytest.mark.parametrize("damage", DAMAGE)
def test_c14_a_damaged_file_is_an_error_that_names_it(folder: Path, name: str, damage: str) -> None:
    DAMAGE[damage](folder / name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(BadInput, match=rf"^{folder / name}: .*(again|expected a FITS file)"):
            read_all(folder)


CONTRADICTIONS: dict[str, tuple[dict[str, object], str]] = {
    "no exposure": ({"EXPTIME": None}, "EXPTIME: found nothing"),
    "no softening": ({"BSOFTEN": None}, "BSOFTEN: found nothing"),
    "no offset": ({"BOFFSET": None}, "BOFFSET: found nothing"),
    "other zero point": ({"FPA__ZP": 24.0}, "FPA.ZP: found 24.0, expected 25.0"),
    "other cell": ({"SKYCELL": "skycell.2246.034"}, "SKYCELL: found 'skycell.2246.034', expected 'skycell.2246.033'"),
    "no cell": ({"SKYCELL": "nonsense"}, "SKYCELL: skycell: found 'nonsense'"),
    "other band": ({"FPA__FILTERID": "z.00000"}, "FPA.FILTERID: found 'z.00000'"),
    "moved": ({"CRPIX1": 1000.0}, "CRPIX"),
    "other centre": ({"CRVAL2": 47.0}, "CRVAL2: found 47.0"),
    "mirrored": ({"PC001001": 1.0}, "PC001001: found"),
    "other scale": ({"CDELT2": 1e-4}, "CDELT2"),
    "no scale": ({"CDELT2": None}, "CDELT2: found None, expected a number"),
}


@pytest.mark.parametrize("name", [IMAGE, WEIGHT])
@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_c10_a_contradictory_header_is_an_error_that_names_it(folder: Path, name: str, what: str) -> None:
    changes, message = CONTRADICTIONS[what]
    edit(folder / name, **changes)
    with pytest.raises(BadInput, match=f"^{folder / name}: .*{message.split(',', maxsplit=1)[0]}"):
        opened(folder)


def test_c10_masks_need_no_exposure_but_their_place(folder: Path) -> None:
    edit(folder / MASK, EXPTIME=None)
    assert read_all(folder)[1].max() > 0
    edit(folder / MASK, CRPIX2=0.5)
    with pytest.raises(BadInput, match=f"^{folder / MASK}: "):
        opened(folder)


def test_naxis_of_another_ring_contradicts_the_name(folder: Path) -> None:
    pixels, header = fits.getdata(folder / IMAGE, header=True)
    short = fits.CompImageHDU(pixels[:-1], header, compression_type="RICE_1")
    fits.HDUList([fits.PrimaryHDU(), short]).writeto(folder / IMAGE, overwrite=True)
    with pytest.raises(BadInput, match=rf"^{folder / IMAGE}: NAXIS, CRPIX: found pixels \(0, 0, 157, 158\)"):
        opened(folder)


def test_a_card_that_is_not_fits_is_missed_only_by_who_needs_it(folder: Path) -> None:
    """The survey's own tables hold cards such as ``KEY = NaN``."""
    header = read_image_header(folder / IMAGE)[1]
    exposure = f"EXPTIME = {header['EXPTIME']:>20}".encode()
    gain = f"HIERARCH CELL.GAIN = {header['CELL.GAIN']}".encode()
    replaced(gain, gain[:-3] + b"NaN")(folder / IMAGE)
    assert np.isfinite(read_all(folder)[0]).any()
    replaced(exposure, b"EXPTIME = " + b"NaN".rjust(20))(folder / IMAGE)
    with pytest.raises(BadInput, match=f"^{folder / IMAGE}: EXPTIME: found nothing"):
        opened(folder)


def test_the_file_of_another_scale_is_refused(folder: Path) -> None:
    files = listed(folder).band("r")
    assert files is not None
    with pytest.raises(BadInput, match="expected"):
        FitsBand(files, Geometry(1).projection(2246), CELL, weight=False)


def test_an_absent_file_is_the_disks_fault_and_can_be_tried_again(folder: Path) -> None:
    files = listed(folder).band("r")
    assert files is not None
    (folder / IMAGE).unlink()
    with pytest.raises(FileNotFoundError):
        FitsBand(files, PROJECTION, CELL, weight=False)


def test_files_are_closed_even_if_one_of_them_is_damaged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Path] = []
    original = FitsImage.close

    def closing(image: FitsImage) -> None:
        closed.append(image.path)
        original(image)

    monkeypatch.setattr(FitsImage, "close", closing)
    edit(folder / WEIGHT, EXPTIME=None)
    with pytest.raises(BadInput):
        opened(folder)
    assert closed == [folder / IMAGE, folder / MASK, folder / WEIGHT]


def test_the_scaling_of_each_file_is_its_own(folder: Path) -> None:
    edit(folder / WEIGHT, BSOFTEN=5000.0)
    band = opened(folder)
    header = read_image_header(folder / IMAGE)[1]
    assert band._scaling == Scaling.from_header(header, IMAGE)
    assert band._weight_scaling.bsoften == 5000.0
    assert band.tangent == (header["CRVAL1"], header["CRVAL2"])
    band.close()
