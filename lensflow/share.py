"""Where the shipped graph files and cluster profiles are: beside the package in a checkout, inside it in a wheel."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """Return the folder of shipped files called ``name`` (``"graphs"`` or ``"cluster"``).

    Raises
    ------
    FileNotFoundError
        If neither a wheel's nor a checkout's folder exists.
    """
    for place in (PACKAGE / "_share" / name, PACKAGE.parent / name):
        if place.is_dir():
            return place
    raise FileNotFoundError(f"the installation of lensflow lacks its {name}/ folder beside {PACKAGE}: reinstall it")
