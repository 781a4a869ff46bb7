"""The command line: ``lensflow`` or ``python -m lensflow``. One thin command a verb."""

from lensflow.cli.app import main

__all__ = ["main"]
