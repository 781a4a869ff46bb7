"""Loaded by local workers when they start (see cluster/local.yaml): leaves Ctrl-C to the driver.

A terminal sends SIGINT to every process of the job. The driver drains; workers that died of it would take the blocks
in flight with them.
"""

import signal


def dask_setup(worker: object) -> None:  # noqa: ARG001 - Dask's signature
    """Ignore SIGINT in this worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
