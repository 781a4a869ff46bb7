"""BigFile containers, written and read; the header of a real one."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lensflow.errors import BadInput
from lensflow.lensing.mesh.bigfile import folded, open_block, read_attrs
from lensflow.lensing.mesh.bigfile_write import write_block
from lensflow.lensing.mesh.row_sums import byte_sum


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=40), st.sampled_from(["<i8", "<f4", "<u1"]))
def test_parts_come_back_with_their_names_and_sums(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], dtype: str
) -> None:
    rng = np.random.default_rng(len(lengths))
    parts = [rng.integers(0, 100, n).astype(dtype) for n in lengths]
    path = tmp_path_factory.mktemp("block")
    write_block(path, parts, dtype=dtype)
    block = open_block(path)
    block.check_sizes()
    assert [part.path.name for part in block.parts] == [f"{k:06X}" for k in range(len(lengths))]
    assert block.rows == sum(lengths)
    for index, values in enumerate(parts):
        np.testing.assert_array_equal(block.read(index, 0, len(values)), values)
        np.testing.assert_array_equal(block.read(index, len(values) // 2, len(values)), values[len(values) // 2 :])
        assert block.parts[index].byte_sum == byte_sum(values) == sum(values.tobytes())


@settings(deadline=None)
@given(st.binary(max_size=4000), st.integers(0, 4000))
def test_sums_of_bytes_add(content: bytes, cut: int) -> None:
    values = np.frombuffer(content, np.uint8)
    assert byte_sum(values) == sum(content)
    assert byte_sum(values[:cut]) + byte_sum(values[cut:]) == sum(content)


def test_sums_of_bytes_do_not_overflow_their_lanes() -> None:
    assert byte_sum(np.full(1 << 16, 255, np.uint8)) == 255 << 16


def test_part_names_are_hexadecimal_beyond_nine(tmp_path: Path) -> None:
    write_block(tmp_path, [np.arange(3)] * 20)
    assert (tmp_path / "000013").is_file()
    assert not (tmp_path / "000019").is_file()
    assert open_block(tmp_path).parts[-1].path.name == "000013"


@pytest.mark.parametrize("spelling", ["<S1", "<a1"])
def test_attributes_in_both_spellings_of_text(tmp_path: Path, spelling: str) -> None:
    attrs = {
        "healpix.scheme": "RING",
        "ParamFile": "nc = 3\nrandom_seed = 7 -- [ x ]\n" + "a" * 200,
        "BoxSize": 3750.0,
        "MassTable": np.arange(6.0),
        "size": np.arange(3),
        "nside": 64,
        "empty": "",
    }
    write_block(tmp_path, attrs=attrs, text_type=spelling)
    found = open_block(tmp_path).attrs
    assert "Too Long" in (tmp_path / "attr-v2").read_text()
    assert found.keys() == attrs.keys()
    for name, value in attrs.items():
        np.testing.assert_array_equal(found[name], value)
    assert open_block(tmp_path).members == 0


def test_the_bytes_count_and_not_the_text_beside_them(tmp_path: Path) -> None:
    (tmp_path / "attr-v2").write_text(
        "a.b <i8 1 0500000000000000 #HUMANE [ 7 ]\nc <S1 3 524E00 #HUMANE [ ... (Too Long) ]\n"
    )
    assert read_attrs(tmp_path / "attr-v2") == {"a.b": 5, "c": "RN"}


@pytest.mark.parametrize("line", ["a <i8 1 05 #HUMANE [ 5 ]", "a <i8 one 05", "a <q9 1 050505050505050505 #HUMANE [ ]"])
def test_damaged_attributes_are_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "attr-v2").write_text(line + "\n")
    with pytest.raises(BadInput, match="attr-v2"):
        read_attrs(tmp_path / "attr-v2")


def test_a_short_part_and_an_absent_one_are_named(tmp_path: Path) -> None:
    write_block(tmp_path, [np.arange(5), np.arange(4)])
    part = tmp_path / "000001"
    part.write_bytes(part.read_bytes()[:-3])
    with pytest.raises(BadInput, match=r"000001: found 29 bytes, expected 32"):
        open_block(tmp_path).check_sizes()
    with pytest.raises(BadInput, match="became shorter"):
        open_block(tmp_path).read(1, 0, 4)
    part.unlink()
    with pytest.raises(BadInput, match=r"000001: found no file, expected a part of 32 bytes"):
        open_block(tmp_path).check_sizes()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "DTYPE: <i8\nNMEMB: 1\nNFILE: 2\n000000: 3 : 3 : 3\n",
        "DTYPE: <i8\nNMEMB: 1\nNFILE: 1\n000000: 3 : 65536 : 3\n",
        "DTYPE: <i8\nNMEMB: 1\nNFILE: 1\n000001: 3 : 3 : 3\n",
        "DTYPE: >i8\nNMEMB: 1\nNFILE: 0\n",
        "DTYPE: <i8\nNMEMB: 1\nNFILE: 1\n000000: x : 3 : 3\n",
    ],
)
def test_damaged_headers_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "header").write_text(text)
    with pytest.raises(BadInput, match="header"):
        open_block(tmp_path)


def test_no_block_at_all(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="found no file, expected a block of a BigFile"):
        open_block(tmp_path / "nowhere")


def test_folding() -> None:
    assert folded(0x1_0000) == 1
    assert folded(0xFFFF_FFFF) == 0xFFFF
    assert folded(0x1_FFFF) == 1


def test_a8_a_real_snapshot(real_data: Path) -> None:
    snapshot = real_data / "bigfile" / "example_bigfile" / "PART_272"
    position = open_block(snapshot / "0" / "Position")
    assert len(position.parts) == 1237
    assert position.parts[-1].path.name == "0004D4"
    assert (position.rows, position.members, position.dtype) == (165_988_309_584, 3, np.dtype("<f8"))
    with pytest.raises(BadInput, match="000000: found no file"):
        position.check_sizes()
    header = open_block(snapshot / "Header")
    assert len(header.attrs) == 19
    assert header.attrs["HubbleParam"] == 0.6774
    assert header.attrs["TotNumPart"][0] == position.rows
    assert header.attrs["CodeVersion"] == "5.0.0.dev1_18698f5583"
