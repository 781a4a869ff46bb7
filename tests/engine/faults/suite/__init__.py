"""Scenarios that do real harm to real runs; loaded by path, by the tests and by ``benchmarks/faults.py``."""

from . import clocks, damage, kills, poisons, rivals, stops  # noqa: F401 - each adds its scenarios
from .disks import can_mount
from .play import Outcome, Reference, make_reference, play
from .process import end_survivors
from .scenario import SCENARIOS, Scenario

__all__ = ["SCENARIOS", "Outcome", "Reference", "Scenario", "can_mount", "end_survivors", "make_reference", "play"]
