"""What maps there are, how they are read, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import healpy
import numpy as np
import pytest
import zarr
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from lensflow import events
from lensflow.arrays.healpix_fits import write_healpix
from lensflow.errors import BadInput, BadOption
from lensflow.lensing.patches.flat_maps import flat_geometry, read_flat
from lensflow.lensing.patches.kappa_sources import digest, find_maps
from lensflow.lensing.patches.masks import UNSEEN
from lensflow.lensing.patches.readers import ChunkReader
from lensflow.lensing.patches.statistics_options import Options
from lensflow.lensing.patches.survey import input_files, plan_survey

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

NSIDE = 16
VALUES = np.random.default_rng(0).standard_normal(12 * NSIDE**2).astype(np.float32)
SMALL = {"patch_size_deg": 20.0, "xsize": 32, "l_edges": (20.0, 100.0), "smoothing_lengths": (60.0,), "ngal": (0.0,)}


def options(**words: Any) -> Options:
    return Options(**{**SMALL, "ordering_check": False, **words})


def healpix(folder: Path, name: str = "kappa_zs1.0_s100.fits", values: Any = VALUES, **keys: Any) -> Path:
    nside = healpy.npix2nside(values.size)
    words = {"column": "KAPPA", "nside": nside, "ordering": keys.pop("ordering", "NESTED")}
    return write_healpix(folder / name, [values], keys=keys, **words)


def store(folder: Path, zs: tuple[float, ...] = (0.5, 1.0), **attrs: Any) -> Path:
    path = folder / "kappa.zarr"
    group = zarr.open_group(path, mode="w", attributes={"nside": NSIDE, "ordering": "NESTED", "seed": 100, **attrs})
    group.create_array("kappa", data=np.stack([VALUES] * len(zs)), chunks=(1, 1000))
    group.create_array("zs", data=np.array(zs))
    return path


def flat(folder: Path, name: str = "a.fits", shape: tuple[int, int] = (40, 40), **keys: Any) -> Path:
    image = np.random.default_rng(1).standard_normal(shape).astype(">f4")
    fits.PrimaryHDU(image, fits.Header(list(keys.items()))).writeto(folder / name)
    return folder / name


def test_a_store(tmp_path: Path) -> None:
    found = find_maps(store(tmp_path))
    assert [(one.zs, one.row, one.seed, one.nside, one.ordering) for one in found] == [
        (0.5, 0, 100, NSIDE, "NESTED"),
        (1.0, 1, 100, NSIDE, "NESTED"),
    ]
    with found[1].open() as reader:
        np.testing.assert_array_equal(reader.take(np.arange(VALUES.size)), VALUES)


def test_files_by_their_headers_or_their_names(tmp_path: Path) -> None:
    healpix(tmp_path, "kappa_zs1.0_s100.fits", VALUES)
    healpix(tmp_path, "other.fits", -VALUES, ZS=0.5, SEED=100)
    found = find_maps(tmp_path)
    assert [(one.zs, one.seed) for one in found] == [(0.5, 100), (1.0, 100)]
    with found[0].open() as reader:
        np.testing.assert_array_equal(reader.take(np.arange(VALUES.size)), -VALUES)


@settings(deadline=None)
@given(length=st.integers(1, 400), seed=st.integers(0, 99), shape=st.sampled_from([(7,), (3, 5), (4, 2, 2)]))
def test_chunks_are_read_once_and_only_those_asked_for(length: int, seed: int, shape: tuple[int, ...]) -> None:
    values = VALUES[: 12 * 8**2]
    array = zarr.create_array(store={}, data=values[None], chunks=(1, length))
    reads: list[Any] = []

    class Counting:
        chunks, shape = array.chunks, array.shape

        def __getitem__(self, where: Any) -> Any:
            reads.append(where)
            return array[where]

    places = np.random.default_rng(seed).integers(0, values.size, shape)
    reader = ChunkReader(Counting(), (0,))  # type: ignore[arg-type]
    for _ in range(2):
        np.testing.assert_array_equal(reader.take(places), values[places])
    assert sorted(where[1].start for where in reads) == sorted(
        {int(one) * length for one in np.unique(places // length)}
    )


def test_what_was_not_observed_is_nan(tmp_path: Path) -> None:
    values = VALUES.copy()
    values[5] = UNSEEN
    with find_maps(healpix(tmp_path, values=values))[0].open() as reader:
        assert np.isnan(reader.take(np.array([4, 5, 6]))).tolist() == [False, True, False]


def test_flat_images_and_their_scale(tmp_path: Path) -> None:
    flat(tmp_path, "a.fits", ANGLE=3.5)
    flat(tmp_path, "b.fits", CDELT1=-3.5 / 40)
    maps = find_maps(tmp_path)
    assert flat_geometry(maps, None) == (3.5, 40)
    assert read_flat(maps[0].path).dtype == np.float64
    flat(tmp_path, "c.fits")
    assert flat_geometry(find_maps(tmp_path), 60 * 3.5 / 40) == pytest.approx((3.5, 40))
    with pytest.raises(BadInput, match=r"c\.fits: found neither ANGLE nor CDELT1"):
        flat_geometry(find_maps(tmp_path), None)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3000])


def _without_ordering(path: Path) -> None:
    with fits.open(path, mode="update") as units:
        del units[1].header["ORDERING"]


BAD: dict[str, Callable[[Path], object]] = {
    "empty": lambda folder: folder,
    "truncated": lambda folder: _cut(healpix(folder)),
    "no image": lambda folder: fits.PrimaryHDU().writeto(folder / "a.fits"),
    "two of a redshift": lambda folder: (healpix(folder), healpix(folder, "other_zs1.fits")),
    "no redshift": lambda folder: healpix(folder, "kappa_s1.fits"),
    "two kinds": lambda folder: (healpix(folder), flat(folder)),
    "two resolutions": lambda folder: (healpix(folder), healpix(folder, "k_zs2.0_s100.fits", VALUES[: 12 * 8**2])),
    "no seed": lambda folder: healpix(folder, "kappa_zs1.0.fits"),
    "not square": lambda folder: flat(folder, shape=(40, 41), ANGLE=3.5),
    "unlike": lambda folder: (flat(folder, ANGLE=3.5, ZS=1.0), flat(folder, "b.fits", ANGLE=3.6, ZS=1.0)),
    "flat without redshift": lambda folder: flat(folder, ANGLE=3.5),
    "no ordering": lambda folder: _without_ordering(healpix(folder)),
}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("empty", "found no FITS file"),
        ("no image", "found neither a table nor an image"),
        ("truncated", r"kappa_zs1\.0_s100\.fits"),
        ("two of a redshift", "ZS: found 1, which"),
        ("no redshift", "ZS: found none"),
        ("two kinds", "folders of their own"),
        ("two resolutions", "NSIDE: found"),
        ("no seed", "seed: found None.*give --seed"),
        ("not square", "expected a square image"),
        ("unlike", r"b\.fits: found 40 pixels over 3\.6 deg"),
        ("flat without redshift", "give --zs"),
        ("no ordering", "ORDERING: found ''.*give --ordering"),
    ],
)
def test_bad_input_is_refused_with_its_name(tmp_path: Path, kind: str, message: str) -> None:
    BAD[kind](tmp_path)
    with pytest.raises(BadInput, match=message):
        plan_survey(tmp_path, options(ngal=(7.0,), l_edges=(200.0, 280.0), smoothing_lengths=(60.0,)))


def test_other_stores_and_nothing_at_all_are_refused(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "x.zarr", mode="w")
    for source, message in (
        (tmp_path / "absent", "no such file or folder"),
        (store(tmp_path, nside=32), "kappa: found shape"),
        (tmp_path / "x.zarr", "expected kappa and zs"),
    ):
        with pytest.raises(BadInput, match=message):
            plan_survey(source, options())


def test_maps_may_be_chosen_by_redshift(tmp_path: Path) -> None:
    path = store(tmp_path, (0.5, 1.0, 1.5))
    assert plan_survey(path, options(zs=(1.5, 0.5))).zs == (0.5, 1.5)
    with pytest.raises(BadOption, match=r"zs: found 2, expected some of 0\.5, 1, 1\.5"):
        plan_survey(path, options(zs=(2.0,)))


def test_a_wrong_label_is_an_error_while_building(tmp_path: Path) -> None:
    waves = np.ones(healpy.Alm.getsize(40), complex)
    ring: NDArray[np.float64] = healpy.alm2map(waves, 64)
    healpix(tmp_path, values=healpy.reorder(ring, r2n=True), ordering="RING")
    with pytest.raises(BadInput, match=r"found RING.*it is NESTED"):
        plan_survey(tmp_path, options(ordering_check=True))
    assert plan_survey(tmp_path, options(ordering_check=True, ordering="NESTED")).orderings == ("NESTED",)
    with events.collect() as notes:
        plan_survey(tmp_path, options(ordering_check=True, validation_level="lenient"))
        plan_survey(tmp_path, options(ordering_check=True, validation_level="off"))
    assert [one.kind for one in notes] == ["ordering"]


def test_masks_must_fit(tmp_path: Path) -> None:
    source, images = store(tmp_path), tmp_path / "images"
    images.mkdir()
    mask = flat(images, ANGLE=3.5)
    with pytest.raises(BadInput, match="found a flat image, expected a HEALPix map"):
        plan_survey(source, options(mask=mask))
    with pytest.raises(BadInput, match="mask: expected an image of 40 x 40 pixels"):
        plan_survey(
            images, options(mask=healpix(tmp_path), zs=(1.0,), l_edges=(200.0, 900.0), smoothing_lengths=(10.0,))
        )


def test_inputs_and_digest_tell_maps_apart(tmp_path: Path) -> None:
    path, other = healpix(tmp_path), tmp_path / "mask.fits"
    other.write_bytes(path.read_bytes())
    assert input_files(path, options(mask=other)) == [path, other]
    before = digest(find_maps(path))
    healpix(tmp_path, values=np.concatenate([VALUES, VALUES, VALUES, VALUES]))
    assert digest(find_maps(path)) != before
