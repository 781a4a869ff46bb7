"""The notebooks run from top to bottom, and are kept without outputs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbclient import NotebookClient

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
pytestmark = pytest.mark.filterwarnings("default")  # Jupyter's own


def execute(cells: list[Any], folder: Path) -> str:
    """Run cells in a kernel of their own and return all they show."""
    notebook = nbformat.v4.new_notebook(cells=cells)  # type: ignore[no-untyped-call]
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return "".join(str(cell.get("outputs", "")) for cell in notebook.cells)


def cells_of(name: str) -> list[Any]:
    notebook = nbformat.read(FOLDER / name, as_version=4)  # type: ignore[no-untyped-call]
    return list(notebook.cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, tmp_path: Path) -> None:
    cells = cells_of(path.name)
    assert not any(cell.get("outputs") for cell in cells), "keep notebooks stripped (nbstripout)"
    shown = execute(cells, tmp_path)
    drawn = [cell for cell in cells if cell.cell_type == "code" and 'verb("picture")' in cell.source]
    assert drawn
    for cell in drawn:  # a figure is shown as a picture only if matplotlib was told so before
        assert "image/png" in str(cell.outputs), cell.source
    assert "lensflow run" in shown
    assert "Warning" not in shown


def part(cells: list[Any], holds: Callable[[str], bool]) -> int:
    """Return the place of the first cell whose source is what is looked for."""
    return next(place for place, cell in enumerate(cells) if cell.cell_type == "code" and holds(cell.source))


def test_a_run_is_found_again_by_another_kernel(tmp_path: Path) -> None:
    cells = cells_of("00_start_here.ipynb")
    again = part(cells, lambda source: "open_run" in source)
    begun = execute(cells[:again], tmp_path)
    assert "standing</th><td style='text-align:left'>starting" in begun  # sent off, and not waited for
    shown = execute(cells[again:], tmp_path)  # nothing of the first kernel is left
    assert "standing</th><td style='text-align:left'>done" in shown
    assert "Verdict(checked=" in shown
