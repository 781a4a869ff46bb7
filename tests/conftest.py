"""Fixtures that every test may ask for."""

import os
from pathlib import Path

import pytest

BESIDE_REPOSITORY = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real archive data, or skip: it is too large to travel with the code."""
    folder = Path(os.environ.get("LENSFLOW_REAL_DATA") or BESIDE_REPOSITORY)
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set LENSFLOW_REAL_DATA to its folder")
    return folder
