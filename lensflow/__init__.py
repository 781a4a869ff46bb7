"""Astronomy batch jobs as lazy Dask graphs: planned, watched, killed, resumed to the same bytes, trusted."""

from importlib.metadata import version

from lensflow.engine.catalog import Graph, graph
from lensflow.engine.cluster import cluster
from lensflow.engine.plan import Plan, plan
from lensflow.engine.run import run
from lensflow.engine.runs import Run, open_run
from lensflow.engine.submit import submit

__version__ = version("lensflow")
__all__ = ["Graph", "Plan", "Run", "cluster", "graph", "open_run", "plan", "run", "submit"]
