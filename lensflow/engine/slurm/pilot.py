"""One allocation with everything in it: scheduler and workers as steps of one job, nothing on the login node.

Inside a job the scheduler runs in the driver's process. Outside, a job is submitted first, in which
``python -m lensflow.engine.slurm.pilot FOLDER`` does the same for a driver that joins it.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed import Client

from lensflow.engine.journal import Log
from lensflow.engine.slurm.certificates import security
from lensflow.engine.slurm.record import METADATA, Folder
from lensflow.engine.slurm.scheduler import announce, start
from lensflow.engine.slurm.script import JOB, NAME, Shape, Words, job_script

if TYPE_CHECKING:
    from distributed import SpecCluster

LOOP = """\
#!/usr/bin/env bash
# The workers of one node; started anew should they die as a whole.
for lf_start in 1 2 3 4 5; do
  bash {script}
  case $? in 0 | 75) break ;; esac  # it was told to end, or its scheduler is gone (see knock.py)
  sleep 2
done
"""
ENDING = 15.0  # s for workers to leave when their scheduler has
IDLE = 120.0  # s without a driver after which the job ends
BEAT = 1.0  # s


class Pilot:
    """A scheduler in this process, inside a job, and workers on each of the job's nodes.

    Parameters
    ----------
    folder
        Of the cluster.
    shape
        Of what each node gives to workers.
    nodes
        Of the job.
    words
        See :class:`lensflow.engine.slurm.script.Words`.
    keys
        Whether to encrypt and authenticate.
    **listening
        Where the scheduler listens, see :func:`lensflow.engine.slurm.scheduler.start`.
    """

    def __init__(
        self,
        folder: Folder,
        shape: Shape,
        nodes: int,
        words: Words,
        *,
        keys: bool,
        **listening: Any,  # noqa: ANN401 - of start()
    ) -> None:
        self.folder, self.shape = folder, shape
        files = folder.path / "tls"
        self.security = security(str(files / "certificate.pem"), str(files / "key.pem")) if keys else None
        self._ending = threading.Event()
        self._step: subprocess.Popen[bytes] | None = None
        with ExitStack() as stack:
            stack.callback(folder.forget_secrets)
            stack.callback(self._await_workers)  # they leave when their scheduler has
            self.inner: SpecCluster = stack.enter_context(start(self.security, **listening))
            self.client = stack.enter_context(Client(self.inner, set_as_default=False))
            announce(self.client, self.inner, folder, shape, "pilot")
            self._step = self._start_workers(nodes, words)
            stack.callback(self._ending.set)
            with Log(folder.jobs) as log:
                log.append("met", job=job_here(), node=os.environ.get("SLURM_JOB_NODELIST", ""))
            threading.Thread(target=self._mind, args=(self._step,), name="lensflow-pilot", daemon=True).start()
            self._open = stack.pop_all()

    def close(self) -> None:
        """End workers and scheduler, and remove the certificates."""
        self._open.close()

    def _start_workers(self, nodes: int, words: Words) -> subprocess.Popen[bytes]:
        name = f"{NAME}{JOB}"
        script = job_script(self.inner.scheduler_address, self.shape, words, self.folder, self.security, name=name)
        path = self.folder.write_private("workers.sh", script.replace(f"--name {name}", f"--name {name}-$SLURM_PROCID"))
        loop = self.folder.write_private("node.sh", LOOP.format(script=shlex.quote(str(path))))
        spread = [f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", f"--cpus-per-task={self.shape.cores}"]
        lasting = ["--overlap", "--mem=0", "--kill-on-bad-exit=0", "--no-kill", "--quiet"]
        output = [f"--output={self.folder.logs}/{job_here()}-%t.log", "--open-mode=append"]
        return subprocess.Popen(  # noqa: S603 - SLURM's own command
            ["srun", *spread, *lasting, *output, "bash", str(loop)],  # noqa: S607
            stdin=subprocess.DEVNULL,
        )

    def _mind(self, step: subprocess.Popen[bytes]) -> None:
        """Tell drivers when the workers are gone for good."""
        assert self._step is not None  # noqa: S101 - it is started before this thread
        code = step.wait()
        if not self._ending.is_set():
            words = "; ".join(self.folder.last_words(f"{job_here()}-0")) or "they said nothing"
            text = f"the workers of job {job_here()} have ended (srun's exit code {code}); last words: {words}"
            self.client.log_event(METADATA, {"kind": "stop", "text": f"{text}; their logs are in {self.folder.logs}"})

    def _await_workers(self) -> None:
        if self._step is None:
            return
        for end in (self._step.terminate, self._step.kill):
            try:
                self._step.wait(ENDING)
            except subprocess.TimeoutExpired:
                end()
            else:
                return


def job_here() -> str:
    """Return the job that this process runs in, as squeue writes it; "" outside."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID", "")


def serve(path: Path) -> None:
    """Be the scheduler of a pilot job until its driver has left."""
    folder = Folder(path)
    order = json.loads((path / "pilot.json").read_text(encoding="utf-8"))
    shape, words = Shape(**order["shape"]), Words.of(**order["words"])
    pilot = Pilot(folder, shape, order["nodes"], words, keys=order["keys"], **order["listening"])
    try:
        last = time.monotonic()
        while time.monotonic() - last < IDLE:
            if pilot.client.run_on_scheduler(_drivers):
                last = time.monotonic()
            time.sleep(BEAT)
    finally:
        pilot.close()


def _drivers(dask_scheduler: Any = None) -> bool:  # noqa: ANN401 - runs on the scheduler
    """Whether there is a client but the pilot's own; Dask has one more, for what nobody owns."""
    return len([name for name in dask_scheduler.clients if name.startswith("Client-")]) > 1


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
