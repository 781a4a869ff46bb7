"""What crashes, disks and hands do to files between two runs: found by ``verify``, mended by ``resume``."""

from __future__ import annotations

import io
import json
import shutil
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

from lensflow.cli import main

from .scenario import scenario
from .stage import BANDS, Stage, block

if TYPE_CHECKING:
    from pathlib import Path


def found_by_verify(stage: Stage) -> None:
    """See that ``verify`` finds the damage named, and nothing else."""
    with redirect_stdout(io.StringIO()) as said:
        code = main(["verify", str(stage.out), "--json"])
    verdict = json.loads(said.getvalue())
    if code != 1 or set(verdict["damaged"]) != stage.named:
        stage.problems.append(f"verify ends with {code} and names {verdict}, damaged were {sorted(stage.named)}")


def victim(stage: Stage) -> Path:
    """Choose a chunk and name its block as damaged."""
    band = stage.rng.randrange(BANDS)
    stage.named.add(block(band))
    return stage.out / stage.rng.choice(["smooth", "raw"]) / "c" / str(band) / "0"


@scenario("deleted-chunk", finished=True)
def deleted_chunk(stage: Stage) -> None:
    """A chunk is gone."""
    victim(stage).unlink()
    found_by_verify(stage)


@scenario("flipped-bit", finished=True)
def flipped_bit(stage: Stage) -> None:
    """One bit of a chunk is the other way round."""
    chunk = victim(stage)
    content = bytearray(chunk.read_bytes())
    content[stage.rng.randrange(len(content))] ^= 1 << stage.rng.randrange(8)
    chunk.write_bytes(content)
    found_by_verify(stage)


@scenario("emptied-chunk", finished=True)
def emptied_chunk(stage: Stage) -> None:
    """A machine crash: the journal lacks its end, and a chunk that it names has never reached the disk."""
    chunk = victim(stage)
    chunk.write_bytes(chunk.read_bytes()[: stage.rng.choice([0, 100])])
    journal = stage.run_folder / "journal.jsonl"
    lines = [line for line in journal.read_text().splitlines() if json.loads(line)["event"] != "end"]
    journal.write_text("\n".join(lines) + "\n")


@scenario("torn-line", finished=True)
def torn_line(stage: Stage) -> None:
    """The last line of the journal that names a block is torn: that block alone is done again."""
    journal = stage.run_folder / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    last = max(place for place, line in enumerate(lines) if json.loads(line)["event"] == "done")
    torn = lines[last][: stage.rng.randrange(1, len(lines[last]) - 1)]
    stage.named.add(json.loads(lines[last])["block"])
    journal.write_text("".join(lines[:last]) + torn)


@scenario("truncated-journal", finished=True)
def truncated_journal(stage: Stage) -> None:
    """The end of the journal is lost: the blocks it named are done again, no other."""
    journal = stage.run_folder / "journal.jsonl"
    content = journal.read_bytes()[: stage.rng.randrange(journal.stat().st_size)]
    journal.write_bytes(content)
    kept = {json.loads(line).get("block") for line in content.decode().splitlines(keepends=True) if line.endswith("\n")}
    stage.named |= set(map(block, range(BANDS))) - kept


@scenario("half-a-template", finished=True)
def half_a_template(stage: Stage) -> None:
    """The driver died while it wrote the template: part of the metadata is missing, the journal is empty."""
    (stage.run_folder / "journal.jsonl").write_text("")
    shutil.rmtree(stage.out / stage.rng.choice(["smooth", "raw", "x"]))
    (stage.out / "raw" / "zarr.json").unlink(missing_ok=True)
    stage.named |= set(map(block, range(BANDS)))


@scenario("missing-run-directory", finished=True)
def missing_run_directory(stage: Stage) -> None:
    """The run directory is gone: nobody writes over a store of unknown origin until it has been removed."""
    stage.log = stage.folder / "log"
    stage.remember()
    stage.copied = False
    shutil.rmtree(stage.run_folder)
    stage.expect(stage.resume().wait(), 1, says="no lensflow run here")
    stage.expect(stage.submit().wait(), 2, says="choose another --out, or remove it")
    if stage.run_folder.exists() or len(list(stage.out.rglob("0"))) < BANDS:
        stage.problems.append("a refused submit has touched something")
    shutil.rmtree(stage.out)  # the remedy that it names
    stage.expect(stage.submit().wait(), 0)
