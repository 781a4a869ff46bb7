"""The simulator writes what FastPM writes, looked at with other eyes than the reader's."""

from pathlib import Path

import numpy as np
import pytest

from lensflow.errors import BadOption
from lensflow.lensing.mesh.bigfile import open_block
from lensflow.lensing.mesh.simulate_usmesh import simulate_usmesh

WORDS: dict[str, object] = {"nside": 16, "slices": (50, 58), "batches": 4, "NC": 256, "seed": 2}


def lines(path: Path) -> dict[str, list[str]]:
    return {line.split(" ")[0]: line.split(" ") for line in path.read_text().splitlines()}


def test_headers_parts_and_sums(tmp_path: Path) -> None:
    simulate_usmesh(tmp_path, **WORDS, parts=6)  # type: ignore[arg-type]
    for name, size in (("ID", 8), ("Aemit", 4), ("Mass", 4), ("Rmom", 4)):
        folder = tmp_path / "HEALPIX" / name
        dtype, members, files, *parts = (folder / "header").read_text().splitlines()
        assert (dtype, members, files) == (f"DTYPE: <{'i8' if size == 8 else 'f4'}", "NMEMB: 1", "NFILE: 24")
        lengths = []
        for number, line in enumerate(parts):
            part, rows, total, short = (one.strip() for one in line.split(":"))
            content = (folder / part).read_bytes()
            assert part == f"{number:06X}"
            assert len(content) == int(rows) * size
            assert sum(content) % 2**32 == int(total)
            once = (int(total) & 0xFFFF) + (int(total) >> 16)
            assert (once & 0xFFFF) + (once >> 16) == int(short)
            lengths.append(int(rows))
        assert len(set(lengths)) > 12
    assert (tmp_path / "HEALPIX" / "ID" / "000017").is_file()


def test_attributes(tmp_path: Path) -> None:
    simulate_usmesh(tmp_path, **WORDS)  # type: ignore[arg-type]
    maps, header = lines(tmp_path / "HEALPIX" / "attr-v2"), lines(tmp_path / "Header" / "attr-v2")
    assert bytes.fromhex(maps["healpix.scheme"][3]) == b"RING\0"
    assert maps["healpix.scheme"][1:3] == ["<S1", "5"]
    for name, count in (("aemitIndex.edges", 101), ("aemitIndex.size", 102), ("aemitIndex.offset", 103)):
        assert int(maps[name][2]) == count
    assert b"random_seed = 2" in bytes.fromhex(header["ParamFile"][3])
    mass = np.frombuffer(bytes.fromhex(header["MassTable"][3]))
    assert mass[1] == pytest.approx(27.7455 * 0.309 * (3750 / 256) ** 3, rel=1e-14)
    assert not {"seed", "random_seed"} & header.keys()
    assert (tmp_path / "HEALPIX" / "header").read_text().split() == ["DTYPE:", "<i8", "NMEMB:", "0", "NFILE:", "0"]
    assert all((tmp_path / name).is_dir() for name in ("1", "LL-0.200", "RFOF"))


def rows(path: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    blocks = [open_block(path / "HEALPIX" / name) for name in ("ID", "Mass")]
    ids, mass = ([one.read(k, 0, part.rows) for k, part in enumerate(one.parts)] for one in blocks)
    return ids, mass


@pytest.mark.parametrize("order", ["sorted", "shuffled"])
def test_rows_and_quirks(tmp_path: Path, order: str) -> None:
    truth = simulate_usmesh(tmp_path, **WORDS, order=order)  # type: ignore[arg-type]
    ids, mass = rows(tmp_path)
    npix = 12 * 16**2
    every, masses = np.concatenate(ids), np.concatenate(mass)
    assert (masses == 0).sum() == 4 * 5
    assert (every // npix >= 100).sum() == 40
    for part, weight in zip(ids, mass, strict=True):  # in order of slices inside a part
        assert (np.diff(part[weight > 0] // npix) >= 0).all()
    inside = (masses > 0) & (every < 100 * npix)
    again = len(every[inside]) - len(np.unique(every[inside]))
    assert 0.03 < again / (6 * npix) < 0.07  # slices that straddle batches have 5 % of their pixels twice
    for k, sheet in enumerate(range(50, 58)):
        mine = inside & (every // npix == sheet)
        assert masses[mine].astype(np.float64).sum() == pytest.approx(truth.mass_sum.values[k], rel=1e-12)
    in_order = [np.all(np.diff(part[w > 0]) > 0) for part, w in zip(ids, mass, strict=True)]
    assert all(in_order) == (order == "sorted")


def test_without_quirks(tmp_path: Path) -> None:
    simulate_usmesh(tmp_path, **WORDS, quirks=False)  # type: ignore[arg-type]
    ids, mass = rows(tmp_path)
    every = np.concatenate(ids)
    assert (np.diff(every) > 0).all()
    assert (np.concatenate(mass) > 0).all()


def test_masses_are_whole_particles_or_not(tmp_path: Path) -> None:
    unit = 27.7455 * 0.309 * (3750 / 256) ** 3
    for poisson in (True, False):
        simulate_usmesh(tmp_path / str(poisson), **WORDS, quirks=False, poisson=poisson)  # type: ignore[arg-type]
        particles = np.concatenate(rows(tmp_path / str(poisson))[1]).astype(np.float64) / unit
        assert np.allclose(particles, np.round(particles), atol=1e-4) == poisson


def test_the_truth_is_noise_around_the_fields(tmp_path: Path) -> None:
    truth = simulate_usmesh(tmp_path, **{**WORDS, "cl": (0.0,) * 20})  # type: ignore[arg-type]
    expected = 12 * 16**2 / truth.particles
    np.testing.assert_allclose((truth.delta**2).mean("pixel"), expected, rtol=0.2)


@pytest.mark.parametrize("field", ["gaussian", "lognormal"])
def test_both_kinds_of_fields(tmp_path: Path, field: str) -> None:
    truth = simulate_usmesh(tmp_path, **{**WORDS, "poisson": False}, field=field)  # type: ignore[arg-type]
    np.testing.assert_allclose(truth.delta.std("pixel"), 0.2 * np.arange(51, 59) / 100, rtol=0.15)
    assert (truth.delta >= -1).all()


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        simulate_usmesh(tmp_path / name, **WORDS)  # type: ignore[arg-type]
    for path in (tmp_path / "a").rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_slices_out_of_range(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="slices"):
        simulate_usmesh(tmp_path, **{**WORDS, "slices": (50, 101)})  # type: ignore[arg-type]
