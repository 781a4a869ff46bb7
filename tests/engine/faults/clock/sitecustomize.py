"""A wall clock that jumps: Python loads this at its start where this folder is on PYTHONPATH.

The clock is off by the seconds that the file named by FAULT_CLOCK holds. The monotonic clock goes on as ever.
"""

import os
import time
from pathlib import Path

OFFSET = Path(os.environ["FAULT_CLOCK"])
true_time = time.time


def offset() -> float:
    """Return the seconds the clock is off by; none while the file is missing or being written."""
    try:
        return float(OFFSET.read_text(encoding="ascii") or 0)
    except FileNotFoundError:
        return 0.0


time.time = lambda: true_time() + offset()
time.time_ns = lambda: int(1e9 * time.time())
