"""HEALPix maps in FITS files, against healpy and astropy, and files that are not what they claim to be."""

from pathlib import Path

import healpy
import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from lensflow.arrays import healpix_fits
from lensflow.arrays.healpix_fits import check_healpix, open_healpix, write_healpix
from lensflow.errors import BadInput


def values(nside: int, kind: str = "f4") -> np.ndarray:
    return np.random.default_rng(nside).standard_normal(12 * nside**2).astype(kind)


def write(path: Path, pixels: np.ndarray, nside: int, ordering: str = "NESTED", **keys: object) -> Path:
    return write_healpix(path, [pixels], column="DELTA", nside=nside, ordering=ordering, keys=keys)


@settings(deadline=None)
@given(st.sampled_from([1, 8, 32]), st.sampled_from(["f4", "f8"]), st.lists(st.integers(0, 12287), max_size=4))
def test_a_map_comes_back_however_it_was_cut(
    tmp_path_factory: pytest.TempPathFactory, nside: int, kind: str, cuts: list[int]
) -> None:
    pixels = values(nside, kind)
    runs = np.split(pixels, sorted(cuts))
    path = write_healpix(
        tmp_path_factory.mktemp("map") / "a.fits", iter(runs), column="K", nside=nside, ordering="NEST", keys={}
    )
    found = open_healpix(path)
    assert (found.nside, found.ordering, found.values.dtype) == (nside, "NESTED", np.dtype(kind))
    np.testing.assert_array_equal(found.values, pixels)
    np.testing.assert_array_equal(found.pixels.read(3, 9), pixels[3:9])
    check_healpix(path)


@pytest.mark.parametrize("nside", [4, 32])
def test_healpy_and_astropy_read_it(tmp_path: Path, nside: int) -> None:
    pixels = values(nside)
    path = write(tmp_path / "a.fits", pixels, nside, ZS=(1.0, "redshift"), SEED=3, BORN=True)
    np.testing.assert_array_equal(healpy.read_map(path, nest=True), pixels)
    np.testing.assert_array_equal(healpy.read_map(path, nest=False), healpy.reorder(pixels, n2r=True))
    with fits.open(path, checksum=True) as hdus:
        hdus.verify("exception")
        header = hdus[1].header
        assert header["TFORM1"] == ("1024E" if nside > 4 else "1E")
        assert (header["PIXTYPE"], header["INDXSCHM"], header["OBJECT"]) == ("HEALPIX", "IMPLICIT", "FULLSKY")
        assert (header["FIRSTPIX"], header["LASTPIX"]) == (0, 12 * nside**2 - 1)
        assert (header["ZS"], header["SEED"], header["BORN"]) == (1.0, 3, True)
    assert path.stat().st_size % 2880 == 0


@pytest.mark.parametrize("nest", [True, False])
def test_files_of_healpy_are_read(tmp_path: Path, nest: bool) -> None:  # noqa: FBT001 - a parameter of healpy
    pixels = [values(32, "f8"), values(32, "f8") + 1]
    healpy.write_map(tmp_path / "a.fits", pixels, nest=nest, dtype=np.float64, column_names=["A", "B"])
    for column in (1, "B"):
        found = open_healpix(tmp_path / "a.fits", column=column)
        assert found.ordering == ("NESTED" if nest else "RING")
        np.testing.assert_array_equal(found.values, pixels[1])
        assert found.values.dtype == np.float64
    with pytest.raises(BadInput, match="found the columns A, B, expected C"):
        open_healpix(tmp_path / "a.fits", column="C")
    with pytest.raises(BadInput, match="found 2 columns"):
        open_healpix(tmp_path / "a.fits", column=2)


def test_real_maps_are_read_as_healpy_reads_them(real_data: Path) -> None:
    for path in sorted((real_data / "healpix").glob("[wg]*.fits")):
        found = open_healpix(path)
        assert found.ordering == "RING"
        np.testing.assert_array_equal(found.values, healpy.read_map(path, dtype=None))


def test_chunks_are_read_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(healpix_fits, "CHUNK", 1000)  # that no row ends with
    pixels = values(16)
    found = open_healpix(write(tmp_path / "a.fits", pixels, 16))
    assert found.values.chunks == ((1000, 1000, 1000, 72),)
    np.testing.assert_array_equal(found.values, pixels)


def test_a_truncated_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits", values(32), 32)
    late = open_healpix(path)
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(BadInput, match="truncated"):
        open_healpix(path)
    with pytest.raises(BadInput, match="became shorter"):
        late.values.compute()


def test_a_turned_bit_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits", values(32), 32)
    content = bytearray(path.read_bytes())
    content[20000] ^= 4
    path.write_bytes(content)
    with pytest.raises(BadInput, match="DATASUM"):
        check_healpix(path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("NSIDE", 16, "NSIDE: found 16, that is 3072 pixels, and a table of 12288"),
        ("NSIDE", None, "found no NSIDE"),
        ("PIXTYPE", "OTHER", "found PIXTYPE OTHER"),
        ("INDXSCHM", "EXPLICIT", "INDXSCHM: found 'EXPLICIT'"),
        ("TFORM1", "1024A", "TFORM1: found '1024A'"),
    ],
)
def test_what_is_no_full_sky_map_is_refused(tmp_path: Path, key: str, value: object, message: str) -> None:
    path = write(tmp_path / "a.fits", values(32), 32)
    with fits.open(path, mode="update") as hdus:
        if value is None:
            del hdus[1].header[key]
        else:
            hdus[1].header[key] = value
    with pytest.raises(BadInput, match=message):
        open_healpix(path)


def test_images_and_other_files_are_no_maps(tmp_path: Path) -> None:
    fits.writeto(tmp_path / "image.fits", np.zeros((3, 3)))
    (tmp_path / "text.fits").write_text("no")
    for name, message in (("image.fits", "no binary table"), ("text.fits", "no FITS header")):
        with pytest.raises(BadInput, match=message):
            open_healpix(tmp_path / name)


@pytest.mark.parametrize("count", [3071, 3073, 9000, 0])
def test_too_few_or_too_many_pixels_leave_no_file(tmp_path: Path, count: int) -> None:
    with pytest.raises(BadInput, match="expected 3072"):
        write(tmp_path / "a.fits", np.zeros(count, np.float32), 16)
    assert not (tmp_path / "a.fits").exists()


def test_a_writer_that_dies_leaves_the_old_file(tmp_path: Path) -> None:
    old = write(tmp_path / "a.fits", values(16), 16)
    before = old.read_bytes()

    def dying() -> object:
        yield np.zeros(1000, np.float32)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_healpix(old, dying(), column="K", nside=16, ordering="NESTED", keys={})  # type: ignore[arg-type]
    assert old.read_bytes() == before
