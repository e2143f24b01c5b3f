"""Nanoseconds of fold per event, decoding apart: ``python -m benchmarks.fold_speed``.

One million events over 100,000 keys, decoded before the clock starts, five folds from an
empty state; the first compiles or loads the kernels and is not counted.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from detector.core.settings import ShardSettings
from detector.core.shard import Shard
from detector.decode import DecodeSettings, make_decoder
from detector.decode.seed import PUBLIC_SEED
from replay.merge import open_inputs
from replay.simulate import write_big_fleet

EVENTS, KEYS, RUNS = 1_000_000, 100_000, 5


def main() -> None:
    """Prints the median."""
    decoder = make_decoder("canonical", DecodeSettings(PUBLIC_SEED, trust_event_time=True))
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "big.ndjson")
        write_big_fleet(log, KEYS, EVENTS, 1)
        batches = [decoder.decode(records).batch for records in open_inputs([log])[0].blocks()]
    taken_s = []
    for _ in range(RUNS + 1):
        shard = Shard(ShardSettings())
        began_s = time.perf_counter()
        for batch in batches:
            shard.fold(batch)
        taken_s.append(time.perf_counter() - began_s)
    median_ns = statistics.median(taken_s[1:]) / EVENTS * 1e9
    print(f"{median_ns:,.0f} ns an event, {shard.n_keys:,} keys (median of {RUNS})")


if __name__ == "__main__":
    main()
