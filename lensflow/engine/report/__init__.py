"""The report of a run: one self-contained HTML page and the same as JSON; and two runs side by side."""

from lensflow.engine.report.compare import compare, write_comparison
from lensflow.engine.report.facts import gather
from lensflow.engine.report.page import write_report

__all__ = ["compare", "gather", "write_comparison", "write_report"]
