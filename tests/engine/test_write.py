"""What the last task of a block says of itself."""

from __future__ import annotations

import itertools
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import numpy as np

from lensflow.engine import store, write

if TYPE_CHECKING:
    import pytest


def test_a_clock_that_is_put_forward_does_not_make_a_block_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    jumps = itertools.count()
    put = SimpleNamespace(time=lambda: time.time() + 3600 * next(jumps), perf_counter=time.perf_counter)
    monkeypatch.setattr(write, "time", put)
    monkeypatch.setattr(store, "open_array", lambda *_: np.zeros((2, 3), np.float32))
    region = (slice(0, 2), slice(0, 3))
    target = SimpleNamespace(names=["a"], path="", group="", token="", region=lambda _: region)
    record = write.write_block(np.ones((2, 3), np.float32), target=cast("write.Target", target), block_id=(0, 0)).item()
    assert 0 <= record["seconds"] < 60
