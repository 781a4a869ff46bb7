"""``lensflow doctor``: what on this machine, or between its hosts, would spoil a run, and what mends it."""

from lensflow.engine.doctor.examination import examine
from lensflow.engine.doctor.finding import Finding

__all__ = ["Finding", "examine"]
