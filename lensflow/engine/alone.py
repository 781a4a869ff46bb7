"""Run one block in this process: ``python -m lensflow.engine.alone ORDER ANSWER`` (see quarantine.run_alone)."""

import resource
import sys
from pathlib import Path

import cloudpickle
import dask

from lensflow import events


def main(order: Path, answer: Path) -> None:
    """Compute the tasks of an order file and write record, notes and error to the answer file."""
    record, error = None, None
    with events.collect() as notes:
        try:
            tasks, key, memory_limit = cloudpickle.loads(order.read_bytes())
            if memory_limit:
                resource.setrlimit(resource.RLIMIT_DATA, (memory_limit, memory_limit))
            record = dask.get(tasks, key)
        except Exception as raised:  # noqa: BLE001 - carried to the driver, which raises it
            error = _fit_to_travel(raised)
    draft = answer.with_suffix(".part")
    draft.write_bytes(cloudpickle.dumps((record, notes, error)))
    draft.replace(answer)


def _fit_to_travel(error: Exception) -> Exception:
    """Return the error itself, or its words where it cannot be pickled and unpickled."""
    try:
        cloudpickle.loads(cloudpickle.dumps(error))
    except Exception:  # noqa: BLE001 - a custom exception may fail in any way
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
