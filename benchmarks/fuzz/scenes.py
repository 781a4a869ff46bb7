"""Small sound inputs of every form that the PS1 readers take, for the fuzz to damage."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from astropy.io import fits
from zarr.codecs import Crc32cCodec, ZstdCodec

from lensflow.ps1.simulate import simulate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
REAL = Path(os.environ.get("LENSFLOW_REAL_DATA", ROOT.parent / "shared" / "data"))
SCALE = 120  # 53 px cells
CELL = "skycell.2246.033"


@dataclass(frozen=True)
class Scene:
    """A sound input.

    Parameters
    ----------
    name
        Its form.
    folder
        The source, as the graph takes it.
    victims
        Files (of a Zarr store: arrays) that may be damaged, relative to the folder: image, mask, weight.
    scale
        Of the tessellation.
    summed
        Whether checksums cover the pixels.
    bands
        Of which the first is the victim's.
    """

    name: str
    folder: Path
    victims: tuple[str, ...]
    scale: int
    summed: bool
    bands: tuple[str, ...] = ("r", "i")


def make_scenes(out: Path) -> tuple[list[Scene], list[Path]]:
    """Write the sound inputs.

    Returns
    -------
    tuple
        The scenes, and sound files to swap with theirs: of another cell, band and size.
    """
    raw, stranger, store = out / "raw", out / "stranger", out / "store"
    options: dict[str, Any] = {"scale": SCALE, "seed": 3, "bands": ("r", "i"), "stars": 40, "galaxies": 10}
    simulate(raw, (CELL,), **options)
    simulate(stranger / "cell", ("skycell.2246.034",), **options)
    simulate(stranger / "band", (CELL,), **{**options, "bands": ("z",)})
    simulate(stranger / "size", (CELL,), **{**options, "scale": 240})
    simulate(store, (CELL,), format="zarr", **options)
    for folder in (raw, *stranger.iterdir()):  # lists, which are no input here
        shutil.rmtree(folder / "catalogs")
        shutil.rmtree(folder / "skycell_pixel_mapping")
    files = tuple(f"rings.v3.{CELL}.stk.r.unconv{kind}.fits" for kind in ("", ".mask", ".wt"))
    scenes = [Scene("raw", raw, files, SCALE, summed=False)]
    scenes.append(
        Scene("raw, GZIP masks", _raw_like(raw, out / "gzip", algorithm="GZIP_1"), files, SCALE, summed=False)
    )
    scenes.append(Scene("raw, sums", _raw_like(raw, out / "sums", checksum=True), files, SCALE, summed=True))
    cutouts = ("a.r.fits", "a.r.unconv.mask.fits", "a.r.unconv.wt.fits")
    for name, checksum, linear in (
        ("cutouts", False, True),
        ("asinh cutouts", False, False),
        ("cutouts, sums", True, True),
    ):
        folder = _cutouts(raw, out / name, checksum=checksum, linear=linear)
        scenes.append(Scene(name, folder, cutouts, SCALE, summed=checksum))
    arrays = tuple(f"2246/{CELL}/r{kind}" for kind in ("", "_mask", "_wt"))
    for name, sums in (("zarr", False), ("zarr, sums", True)):
        folder = _rechunked(store / "skycells.zarr", out / name, sums=sums)
        scenes.append(Scene(name, folder, arrays, SCALE, summed=sums))
    return [*scenes, *_real(out)], sorted(stranger.rglob("*.fits")) + sorted(raw.glob("*.fits"))


def _raw_like(raw: Path, out: Path, *, algorithm: str | None = None, checksum: bool = False) -> Path:
    out.mkdir()
    for path in raw.glob("*.fits"):
        if algorithm and "mask" in path.name:
            pixels, header = fits.getdata(path, header=True)
            image = fits.CompImageHDU(pixels, header, compression_type=algorithm, tile_shape=(1, pixels.shape[1]))
            fits.HDUList([fits.PrimaryHDU(), image]).writeto(out / path.name)
        else:
            with fits.open(path, disable_image_compression=True, memmap=False) as hdus:
                hdus.writeto(out / path.name, checksum=checksum)
    return out


def _cutouts(raw: Path, out: Path, *, checksum: bool, linear: bool) -> Path:
    """Cut 40 x 30 px out of the images: float counts, or int16 of the asinh law, uncompressed."""
    out.mkdir()
    for path in raw.glob("*.fits"):
        with fits.open(path, do_not_scale_image_data=True) as hdus:
            header, disk = hdus[1].header.copy(), hdus[1].data[5:35, 7:47].copy()
        for axis, offset in ((1, 7), (2, 5)):
            header[f"CRPIX{axis}"] -= offset
        band, kind = path.name.split(".")[6], path.name.split("unconv")[1].removesuffix(".fits")
        pixels: NDArray[Any] = disk
        if linear and not kind.startswith(".mask"):
            pixels = _linear(disk, header)
        header.remove("XTENSION", ignore_missing=True)
        image = fits.PrimaryHDU(pixels, header, do_not_scale_image_data=True)
        for key in ("BZERO", "BSCALE", "BLANK"):  # dropped by astropy with the pixels
            if key in header:
                image.header[key] = header[key]
        name = f"a.{band}.unconv{kind}.fits" if kind else f"a.{band}.fits"
        image.writeto(out / name, checksum=checksum)
    return out


def _linear(disk: NDArray[Any], header: fits.Header) -> NDArray[np.float32]:
    v = header["BZERO"] + header["BSCALE"] * disk.astype("f8")
    counts: NDArray[Any] = header["BOFFSET"] + 2 * header["BSOFTEN"] * np.sinh(v / (2.5 / np.log(10)))
    counts[disk == header["BLANK"]] = np.nan
    for key in ("BZERO", "BSCALE", "BLANK", "BOFFSET", "BSOFTEN"):
        del header[key]
    return counts.astype(np.float32)


def _rechunked(store: Path, out: Path, *, sums: bool) -> Path:
    """Copy a store with four chunks an array, all of them stored, with or without a checksum a chunk."""
    zarr.create_group(out)
    for path in sorted(store.glob("*/skycell.*/*")):
        if not path.is_dir():
            continue
        old = zarr.open_array(path, mode="r")
        new = zarr.create_array(
            out / path.relative_to(store),
            shape=old.shape,
            dtype=old.dtype,
            chunks=(32, 32),
            fill_value=old.fill_value,
            attributes=dict(old.attrs),
            compressors=[ZstdCodec(), Crc32cCodec()] if sums else [ZstdCodec()],
            config={"write_empty_chunks": True},
        )
        new[:] = old[:]
    return out


def _real(out: Path) -> Iterable[Scene]:
    """Real cutouts, if they are there."""
    for name, folder, ends in (
        ("real", "hostphot_SN2006bh", "PS1_{}.fits"),
        ("real, asinh", "derived_asinh", "*.{}.*"),
    ):
        found = [sorted((REAL / "ps1" / folder).glob(ends.format(band))) for band in "ri"]
        if not all(found):
            continue
        (out / name).mkdir()
        for (path,) in found:
            shutil.copy(path, out / name)
        yield Scene(name, out / name, (found[0][0].name,), 1, summed=False)
