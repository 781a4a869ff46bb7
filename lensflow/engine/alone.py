"""Run one block in this process: ``python -m lensflow.engine.alone FOLDER DRIVER`` (see isolate.run_alone)."""

import ctypes
import faulthandler
import os
import resource
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import cloudpickle
import dask
from dask.callbacks import Callback
from dask.utils import key_split

from lensflow import events

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(folder: Path, driver: int) -> None:
    """Compute the tasks of ``folder/order`` and write record, notes and error to ``folder/answer``."""
    _end_with(driver)
    faulthandler.enable()  # a crash says where it happened
    faulthandler.register(signal.SIGUSR1)  # so does a process that hangs, when it is asked

    def begun(key: Any, *_: object) -> None:  # noqa: ANN401 - a Dask key
        (folder / "task").write_text(key_split(key), encoding="utf-8")

    def ended(*_: object) -> None:
        (folder / "task").write_text("", encoding="utf-8")

    record, error = None, None
    with events.collect() as notes:
        try:
            tasks, key, memory = cloudpickle.loads((folder / "order").read_bytes())
            if memory:
                resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
            with Callback(pretask=begun, posttask=ended):
                record = dask.get(tasks, key)
        except Exception as raised:  # noqa: BLE001 - carried to the driver, which raises it
            error = _fit_to_travel(raised)
            error.add_note(traceback.format_exc())  # frames do not travel
    draft = folder / "answer.part"
    draft.write_bytes(cloudpickle.dumps((record, notes, error)))
    draft.replace(folder / "answer")


def _end_with(driver: int) -> None:
    """Do not outlive the driver."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != driver:  # it died before
        os._exit(1)


def _fit_to_travel(error: Exception) -> Exception:
    """Return the error itself, or its words where it cannot be pickled and unpickled."""
    try:
        cloudpickle.loads(cloudpickle.dumps(error))
    except Exception:  # noqa: BLE001 - a custom exception may fail in any way
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
