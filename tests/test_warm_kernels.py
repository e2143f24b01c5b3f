"""After the warm-up nothing compiles in the loop, where it would stall the poll."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUN = """
import gc
from numba.core.dispatcher import Dispatcher
from detector.assembly import make_engine, warm_kernels
from detector.config import Config
from detector.core.shard import Shard
from tests.core.logs import START_US, batch_of

def compiled():
    found = [d for d in gc.get_objects() if isinstance(d, Dispatcher)]
    return {(d.py_func.__module__, d.py_func.__name__, s) for d in found for s in d.signatures}

engine = make_engine(Config(), None, bytes(32))
warm_kernels(engine)
warm = compiled()

cell_us, day_us = 900_000_000, 86_400_000_000
rows = [(START_US + i * cell_us, "k", "10.0.0", "c/1", "GET /v1/a", 200) for i in range(300)]
theft_us = START_US + 300 * cell_us
rows += [
    (theft_us + i * 1_000_000, "k", f"198.51.{i % 5}", "x/1", f"GET /v1/z{i}", 200)
    for i in range(200)
]
later_us = theft_us + 600_000_000
rows += [
    (later_us + i * 1000, f"k{i}", f"10.0.{i % 7}", f"c/{i % 9}", f"GET /v1/{i}", 200)
    for i in range(5000)
]
rows.append((theft_us + 40 * day_us, "q", "10.0.0", "c/1", "GET /v1/a", 200))
log, shard = batch_of(rows), Shard(engine.settings)
assert shard.fold(log.take(slice(0, 500)))
assert not shard.take_closed()
shard = Shard.from_state(shard.to_state(), engine.settings)
before = shard.nbytes
shard.fold(log.take(slice(500, None)))
assert shard.take_closed(), "no episode was swept"
assert shard.nbytes > 2 * before, "no table grew"
Shard.from_state(shard.to_state(), engine.settings)
cold = {(m, n) for m, n, _ in compiled() - warm if m.startswith("detector")}
assert not cold, f"compiled after the warm-up: {sorted(cold)}"
"""


def test_nothing_compiles_after_the_warm_up():
    """Fold, growth, an episode closed by the clock, snapshot and restore: all were warm."""
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
