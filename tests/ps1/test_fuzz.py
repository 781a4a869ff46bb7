"""Damaged inputs of the PS1 readers: every kind of fault that the fuzz has found, and a handful of its inputs."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from astropy.io import fits
from zarr.codecs import GzipCodec

from lensflow import events
from lensflow.errors import BadInput
from lensflow.ps1.bands import Scaling
from lensflow.ps1.fits_cells import list_fits
from lensflow.ps1.mosaic import stitch
from lensflow.ps1.options import Options
from lensflow.ps1.simulate import simulate
from lensflow.ps1.tessellation import Geometry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
INPUTS, SEED = 200, 20
SCALE = 120
CELL = "skycell.2246.033"
IMAGE = f"rings.v3.{CELL}.stk.r.unconv.fits"
MASK, WEIGHT = IMAGE.replace(".fits", ".mask.fits"), IMAGE.replace(".fits", ".wt.fits")
ARRAY = Path("2246", CELL, "r")


@pytest.fixture(scope="module")
def harness() -> Iterator[Any]:
    """Return the fuzz, a script."""
    spec = importlib.util.spec_from_file_location("fuzz_ps1", ROOT / "benchmarks" / "fuzz_ps1.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what changes cards byte by byte."""
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("benchmarks.fuzz.cards")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bands of a skycell; the files of r carry checksums."""
    folder = tmp_path_factory.mktemp("pristine")
    simulate(folder, (CELL,), scale=SCALE, seed=3, bands=("r", "i"), stars=40, galaxies=10)
    for path in folder.glob("*.r.*"):
        with fits.open(path, disable_image_compression=True, memmap=False) as hdus:
            hdus.writeto(path, overwrite=True, checksum=True)
    return folder


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same in a Zarr store."""
    folder = tmp_path_factory.mktemp("archive")
    return simulate(folder, (CELL,), scale=SCALE, seed=3, bands=("r", "i"), format="zarr", stars=40).source


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """Return a copy to spoil, without checksums."""
    shutil.copytree(pristine, tmp_path, dirs_exist_ok=True)
    for path in tmp_path.glob("*.r.*"):
        path.write_bytes(path.read_bytes().replace(b"CHECKSUM=", b"COMMENT  ").replace(b"DATASUM =", b"COMMENT  "))
    return tmp_path


@pytest.fixture
def store(archive: Path, tmp_path: Path) -> Path:
    """Return a copy to spoil."""
    return shutil.copytree(archive, tmp_path / "skycells.zarr")


def read(source: Path, *, on_corrupt: Any = "fail") -> tuple[NDArray[Any], ...]:
    """Read a source as the graph does."""
    options = Options(bands=("r", "i"), uncertainty=True, scale=SCALE, on_corrupt=on_corrupt)
    _, (plan,) = options.plan(source)
    return stitch(plan.layout, block_id=(0, 0))


def refused(source: Path, victim: Path, words: str) -> None:
    """Assert that damage is refused in one sentence, and masked with the same sentence as a note."""
    with pytest.raises(BadInput, match=words) as caught:
        read(source)
    sentence = str(caught.value)
    assert sentence.startswith(f"{victim}: ")
    assert "\n" not in sentence
    with events.collect() as notes:
        read(source, on_corrupt="mask")
    assert {note.message.partition("left out: ")[2] for note in notes if note.kind == "corrupt-file"} == {sentence}


def set_card(cards: Any, path: Path, key: str, value: str | None) -> None:
    content = path.read_bytes()
    changed = cards.with_card(content, key, value)
    assert changed != content
    path.write_bytes(changed)


# the fuzz itself


def test_damaged_inputs_are_masked_or_refused(harness: Any) -> None:
    found = list(harness.fuzz(INPUTS, SEED))
    bad = [one for one in found if one["outcome"] in harness.BAD]
    assert not bad, json.dumps(bad, indent=1)
    assert {one["outcome"] for one in found} >= {"intact", "masked", "recorded", "refused", "undetectable"}
    again = next(harness.fuzz(1, SEED, first=7))
    assert {key: again[key] for key in ("what", "outcome", "scene")} == {
        key: found[7][key] for key in ("what", "outcome", "scene")
    }


def test_the_fuzz_tells_silent_damage_from_what_nobody_can_see(cards: Any, pristine: Path, tmp_path: Path) -> None:
    trial: Any = sys.modules.get("benchmarks.fuzz.trial") or importlib.import_module("benchmarks.fuzz.trial")
    assert cards is not None
    pixels = (np.ones((2, 2), np.float32), np.zeros((2, 2), np.uint16))
    whole = trial.Read(pixels, None, (), (), ())
    other = trial.Read((pixels[0] * 2, pixels[1]), None, (), (), ())
    noted = trial.Read(other.pixels, None, (("corrupt-file", f"{tmp_path}: x"),), (), ())
    assert trial._judge(whole, whole, (), could_tell=True)[0] == "intact"
    assert trial._judge(other, whole, (noted,), could_tell=True)[0] == "WRONG"
    assert trial._judge(other, whole, (noted,), could_tell=False)[0] == "undetectable"
    assert trial._judge(noted, whole, (other,), could_tell=True)[0] == "masked"
    assert trial._judge(trial.Read(pixels, None, noted.notes, (), ()), whole, (other,), could_tell=True)[0] == "WRONG"
    assert trial._compare(noted, noted)[0] == "WRONG"
    for error in (KeyError("x"), BadInput("two\nlines"), BadInput("no file")):
        assert trial._fault(trial.Read(None, error, (), (), ()), pristine)[0] == "leak"
    assert trial._fault(trial.Read(None, MemoryError(), (), (), ()), pristine)[0] == "memory"


def test_a_worker_that_dies_or_hangs_is_told_of(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Mute:
        def __init__(self, seed: int) -> None:
            assert seed == 5

        def ask(self, number: int) -> dict[str, Any]:
            return {"number": number}

        def close(self) -> str:
            return "hang"

    monkeypatch.setattr(harness, "Worker", Mute)
    assert [one["outcome"] for one in harness.fuzz(2, 5)] == ["hang", "hang"]


# checksums


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("name", [IMAGE, MASK, WEIGHT])
def test_one_flipped_bit_of_the_pixels_contradicts_the_datasum(
    cards: Any, pristine: Path, tmp_path: Path, name: str
) -> None:
    source = shutil.copytree(pristine, tmp_path / "source")
    assert read(source)
    _, data = cards.image_header((source / name).read_bytes())
    flip(source / name, data + 53 * 8 + 500)
    refused(source, source / name, r"DATASUM: found pixels that add up to \d+, expected \d+; fetch it again")


def test_one_flipped_bit_of_the_header_contradicts_the_checksum(cards: Any, pristine: Path, tmp_path: Path) -> None:
    source = shutil.copytree(pristine, tmp_path / "source")
    at = cards.find_card((source / IMAGE).read_bytes(), "EXPTIME")
    flip(source / IMAGE, at + 28)  # another number of seconds
    refused(source, source / IMAGE, "CHECKSUM: found a header that adds up to")


def test_a_file_that_changes_after_it_was_found_sound_is_summed_again(
    cards: Any, pristine: Path, tmp_path: Path
) -> None:
    source = shutil.copytree(pristine, tmp_path / "source")
    read(source)
    _, data = cards.image_header((source / IMAGE).read_bytes())
    flip(source / IMAGE, data + 53 * 8 + 500)
    refused(source, source / IMAGE, "DATASUM")


# headers of FITS


@pytest.mark.parametrize(
    ("name", "key", "value", "words"),
    [
        # a header of a negative size was read for ever
        (IMAGE, "PCOUNT", "-100000", "PCOUNT: found -100000, expected an integer 0"),
        (IMAGE, "NAXIS2", str(10**12), "the file is truncated"),
        (IMAGE, "NAXIS1", "T", "NAXIS1: found True, expected an integer"),
        (IMAGE, "BITPIX", "7", "BITPIX: found 7, expected one of"),
        (IMAGE, "ZNAXIS1", str(2**31), "NAXIS2: found 53 compressed tiles, expected 2"),
        (IMAGE, "ZTILE1", "0", "ZTILE1: found 0, expected an integer 1..53"),
        (IMAGE, "ZVAL1", "0", "ZVAL1: found 0, expected an integer 1"),  # BLOCKSIZE 0: a loop without a step
        (IMAGE, "ZVAL2", "4", "BLOCKSIZE, BYTEPIX: found 32, 4, expected 16 or 32, and 2"),
        (IMAGE, "ZCMPTYPE", "'PLIO_1'", "ZCMPTYPE: found 'PLIO_1', expected one of RICE_1"),
        (IMAGE, "TFORM1", "'8A'", "TTYPE1, TFORM1: found 'COMPRESSED_DATA', '8A'"),
        (IMAGE, "THEAP", "1", "THEAP: found 1, expected an integer 424"),
        # not a number: no comparison with it is true, so none refused it
        (IMAGE, "CRVAL1", "1E999", "CRVAL1: found inf, expected a number"),
        (WEIGHT, "CRPIX1", "1E999", "CRPIX1: found inf, expected a number"),
        (IMAGE, "PC001001", "'abc'", "PC001001: found 'abc', expected a number"),
        (IMAGE, "BLANK", "'abc'", "BLANK: found 'abc', expected the integer"),
        (IMAGE, "BSCALE", "0", "BZERO, BSCALE: found"),
        (IMAGE, "BSCALE", "1E300", "BZERO, BSCALE: found"),
        (MASK, "BZERO", "'abc'", "BZERO: found 'abc'"),
        (MASK, "BSCALE", "2", "BZERO, BSCALE: found 32768.0, 2.0, expected those of a mask"),
        # without these the stored numbers stood for themselves, silently
        (IMAGE, "BLANK", None, "BLANK: found nothing"),
        (IMAGE, "BSCALE", None, "BSCALE: found nothing"),
        (WEIGHT, "BZERO", None, "BZERO: found nothing"),
    ],
)
def test_a_wrong_card_is_refused(
    cards: Any, folder: Path, *, name: str, key: str, value: str | None, words: str
) -> None:
    set_card(cards, folder / name, key, value)
    refused(folder, folder / name, words)


def test_cards_that_are_not_fits_say_nothing_and_warn_of_nothing(cards: Any, folder: Path) -> None:
    expected = read(folder)
    content = bytearray((folder / IMAGE).read_bytes())
    at = cards.find_card(bytes(content), "NINPUTS")
    content[at : at + 12] = b"\xff\x00inputs \xe9 ="
    (folder / IMAGE).write_bytes(content)
    for one, other in zip(read(folder), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_header_without_an_end_is_refused_before_all_is_read(cards: Any, folder: Path) -> None:
    content = (folder / IMAGE).read_bytes()
    start, _ = cards.image_header(content)
    end = content.index(b"END".ljust(80), start)
    (folder / IMAGE).write_bytes(content[:end] + b"ENX" + content[end + 3 :])
    refused(folder, folder / IMAGE, "found a header without END")


@pytest.mark.parametrize("other", [IMAGE, WEIGHT])
def test_an_image_in_the_place_of_a_mask_is_refused(folder: Path, other: str) -> None:
    shutil.copy(folder / other, folder / MASK)
    refused(folder, folder / MASK, "BZERO, BSCALE: found")


@pytest.mark.parametrize("name", [IMAGE, WEIGHT])
def test_a_mask_in_the_place_of_an_image_is_refused(folder: Path, name: str) -> None:
    shutil.copy(folder / MASK, folder / name)
    refused(folder, folder / name, "MSKNUM: found a mask")


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [loop, directory])
@pytest.mark.parametrize("name", [IMAGE, MASK])
def test_what_is_no_file_is_a_damaged_file_and_no_absent_one(
    folder: Path, name: str, spoil: Callable[[Path], None]
) -> None:
    spoil(folder / name)
    refused(folder, folder / name, "found no file")


# tiles


@pytest.mark.parametrize(
    ("row", "content"),
    [
        (3, b"\x7f\xff\xff\xff\0\0\0\0"),
        (3, b"\0\0\0\x08\xff\xff\xff\xf8"),
        (3, b"\xff\xff\xff\xf8\0\0\0\0"),
        (0, b"\0\0\0\x08\0\xff\xff\xff"),
        (3, b"\0\0\0\x08\0\0\0\x04"),  # on top of the first
        (3, b"\0" * 8),
    ],
)
def test_tiles_that_are_not_where_they_can_be_are_refused(cards: Any, folder: Path, row: int, content: bytes) -> None:
    data = bytearray((folder / IMAGE).read_bytes())
    start = cards.image_header(bytes(data))[1] + 8 * row
    data[start : start + 8] = content
    (folder / IMAGE).write_bytes(data)
    refused(folder, folder / IMAGE, "COMPRESSED_DATA: found tiles outside the .* bytes of the heap")


# uncompressed cutouts


@pytest.fixture
def cutout(folder: Path) -> Path:
    """Return a linear cutout of the band r, beside the raw band i."""
    with fits.open(folder / IMAGE) as hdus:
        header = hdus[1].header.copy()
    for key in ("XTENSION", "BZERO", "BSCALE", "BLANK", "BSOFTEN", "BOFFSET", "PCOUNT", "GCOUNT", "EXTNAME"):
        header.remove(key, ignore_missing=True)
    for axis in (1, 2):
        header[f"CRPIX{axis}"] -= 5
    for name in (IMAGE, MASK, WEIGHT):
        (folder / name).unlink()
    path = folder / "cutout.r.fits"
    fits.PrimaryHDU(np.arange(1, 1201, dtype=np.float32).reshape(30, 40), header).writeto(path)
    return path


def rows(cutout: Path) -> NDArray[np.float32]:
    from lensflow.ps1.fits_cells import FitsBand  # noqa: PLC0415

    (files,), _ = list_fits(cutout.parent, Geometry(SCALE))
    one = files.band("r")
    assert one is not None
    band = FitsBand(one, Geometry(SCALE).projection(2246), files.cell, weight=False)
    try:
        return band.flux(0, one.rect.shape[0])
    finally:
        band.close()


@pytest.mark.parametrize(("key", "value"), [("NAXIS1", "39"), ("NAXIS2", "20"), ("BITPIX", "16"), ("NAXIS2", "1")])
def test_pixels_behind_the_end_of_an_image_contradict_its_size(cards: Any, cutout: Path, key: str, value: str) -> None:
    assert rows(cutout).shape == (30, 40)
    set_card(cards, cutout, key, value)
    with pytest.raises(BadInput, match=rf"^{cutout}: NAXIS, BITPIX: found \d+ bytes of pixels and more behind them"):
        rows(cutout)


def test_a_cutout_without_pixels_is_no_image(cards: Any, cutout: Path) -> None:
    set_card(cards, cutout, "NAXIS1", "0")
    _, ignored = list_fits(cutout.parent, Geometry(SCALE))
    assert ignored == [cutout.name]


def test_a_filter_that_is_none_is_refused(cards: Any, cutout: Path) -> None:
    set_card(cards, cutout, "FPA.FILTERID", "0")
    with pytest.raises(BadInput, match=rf"^{cutout}: FPA\.FILTERID: found 0, expected r\.00000 or alike"):
        rows(cutout)


def test_pixels_brighter_than_anything_are_damage(cards: Any, cutout: Path) -> None:
    content = bytearray(cutout.read_bytes())
    _, data = cards.image_header(bytes(content))
    content[data + 400 : data + 404] = np.array(3e38, ">f4").tobytes()
    cutout.write_bytes(content)
    with pytest.raises(BadInput, match=rf"^{cutout}: found pixels beyond 1e\+12, which nothing is"):
        rows(cutout)


def test_floats_of_damaged_bits_are_no_values_and_no_warnings() -> None:
    """A NaN that signals made numpy warn of an invalid division."""
    stored = np.array([0x7FA00000, 0x7F800000, 0x7F7FFFFF, 0x00000001], np.uint32).view(np.float32)
    flux = Scaling(10.0, bsoften=80.0, boffset=3.0).flux(stored)
    assert np.isfinite(flux).tolist() == [False, False, False, True]


# Zarr


def metadata_of(store: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = store / ARRAY / "zarr.json"
    metadata = json.loads(path.read_text())
    change(metadata)
    path.write_text(json.dumps(metadata))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.update(attributes=[0, 0]), "attribute header: found list"),
        (lambda m: m.update(data_type="int32", fill_value=0), "data_type: found int32, expected float32"),
        (lambda m: m.update(fill_value=0.0), "fill_value: found 0.0, expected NaN"),
        (lambda m: m["chunk_grid"]["configuration"].update(chunk_shape=[2**20, 2**20]), "chunk_shape: found"),
        (lambda m: m.update(codecs=[]), "found no readable Zarr array"),
    ],
)
def test_metadata_of_something_else_are_refused(
    store: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    metadata_of(store, change)
    refused(store, store / ARRAY, words)


def chunk_of(store: Path) -> Path:
    return next(path for path in (store / ARRAY / "c").rglob("*") if path.is_file())


def test_a_chunk_that_lies_about_its_size_is_damage(store: Path) -> None:
    """A frame of Zstandard states how much it unpacks to, and that much was asked of the memory."""
    path = chunk_of(store)
    path.write_bytes(b"\x28\xb5\x2f\xfd" + b"\xe0" + (1 << 60).to_bytes(8, "little") + path.read_bytes()[9:])
    refused(store, store / ARRAY, "its pixels cannot be decoded")


def test_a_gzip_chunk_that_is_none_is_damage(store: Path) -> None:
    """Python's error for it is one of the operating system, without a number."""
    path = store / ARRAY
    old = zarr.open_array(path, mode="r")
    values, attributes = old[:], dict(old.attrs)
    new = zarr.create_array(
        path,
        shape=old.shape,
        dtype=old.dtype,
        chunks=old.shape,
        fill_value=np.nan,
        attributes=attributes,
        compressors=[GzipCodec()],
        overwrite=True,
    )
    new[:] = values
    read(store)
    chunk_of(store).write_bytes(b"no gzip at all")
    refused(store, path, "its pixels cannot be decoded")


@pytest.mark.parametrize("lose", [Path.unlink, directory])
def test_chunks_that_are_not_there_are_noted(store: Path, lose: Callable[[Path], object]) -> None:
    lose(chunk_of(store))
    with events.collect() as notes:
        flux = read(store)[0]
    lost = [note for note in notes if note.kind == "absent-chunks" and note.fields["file"] == str(store / ARRAY)]
    assert lost
    assert lost[0].message == f"{store / ARRAY}: 1 of 1 chunks are not stored and taken as nan"
    assert np.isfinite(flux).any()  # of the other band
