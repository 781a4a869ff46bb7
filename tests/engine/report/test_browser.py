"""The report in a real browser: it renders in light and dark, prints every detail, and complains of nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.image
import numpy as np
import pytest

import lensflow as lf

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

SLOW = Path(__file__).parents[1] / "slow_graph.py"
DARK, LIGHT = 0, 1


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    with lf.cluster("local", n_workers=1, memory_limit="1GiB", dashboard_address="127.0.0.1:0") as client:
        return lf.run(lf.graph(SLOW)(bands=30), folder / "a.zarr", client=client).directory.report


def test_it_renders_without_a_complaint(browse: Callable[..., subprocess.CompletedProcess[str]], page: Path) -> None:
    found = browse(page.as_uri(), "--dump-dom")
    assert "All 30 blocks are written" in found.stdout
    assert "CONSOLE" not in found.stderr
    assert "http" not in found.stdout.replace("http://www.w3.org", ""), "nothing is fetched"


def test_light_and_dark_are_both_readable(
    browse: Callable[..., subprocess.CompletedProcess[str]], page: Path, tmp_path: Path
) -> None:
    ground = {}
    for scheme in (LIGHT, DARK):
        shot = tmp_path / f"{scheme}.png"
        browse(page.as_uri(), f"--blink-settings=preferredColorScheme={scheme}", f"--screenshot={shot}")
        pixels = matplotlib.image.imread(shot)[..., :3]
        ground[scheme] = float(pixels[-1, 0].mean())
        # text and drawings stand out from the ground
        assert float(np.abs(pixels - pixels[-1, 0]).max()) > 0.6
    assert ground[LIGHT] > 0.9
    assert ground[DARK] < 0.2


def test_it_prints(browse: Callable[..., subprocess.CompletedProcess[str]], page: Path, tmp_path: Path) -> None:
    paper = tmp_path / "report.pdf"
    browse(page.as_uri(), f"--print-to-pdf={paper}", "--no-pdf-header-footer")
    assert paper.read_bytes().startswith(b"%PDF")
    assert 20_000 < paper.stat().st_size < 5_000_000
