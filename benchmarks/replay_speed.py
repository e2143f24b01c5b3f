"""Replay speed on a generated log: ``python -m benchmarks.replay_speed [events] [keys] [runs]``.

Defaults: 3,000,000 events over 100,000 keys (Zipf), 3 runs. Each run is a process of its own
on warm kernel caches, so start-up is in the wall time and not in the engine's own figure.
Beside it, in the same round, a careful pure-Python loop that only counts per key and minute
(msgspec, dictionaries): machines are noisy, ratios are not.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LOOP = """
import sys, msgspec, time
class E(msgspec.Struct):
    ts: str
    key_id: str | None = None
    path: str | None = None
    source_ip: str | None = None
decode = msgspec.json.Decoder(E).decode
began = time.perf_counter()
volume, networks, areas, n = {}, {}, {}, 0
with open(sys.argv[1], "rb") as f:
    for line in f:
        e = decode(line)
        n += 1
        at = (e.key_id, e.ts[:16])
        volume[at] = volume.get(at, 0) + 1
        networks.setdefault(e.key_id, set()).add(e.source_ip.rpartition(".")[0])
        areas.setdefault(e.key_id, set()).add(e.path.split("/", 3)[2])
print(n / (time.perf_counter() - began))
"""


def main() -> None:
    """Generates the log once, then runs interleaved rounds and prints medians."""
    defaults = (3_000_000, 100_000, 3)
    given = [int(a) for a in sys.argv[1:4]]
    events, keys, runs = [*given, *defaults[len(given) :]]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "big.ndjson")
        _generate(log, keys, events)
        ours: list[dict[str, float]] = []
        loops: list[float] = []
        for number in range(runs + 1):  # the first round warms caches and is not counted
            began_s = time.perf_counter()
            _run(["-m", "detector", "replay", str(log), "-o", f"{folder}/out"])
            wall_s = time.perf_counter() - began_s
            summary = json.loads(Path(folder, "out", "summary.json").read_text())
            loop = float(_run(["-c", LOOP, str(log)]))
            if number:
                ours.append({"wall_s": wall_s, **summary})
                loops.append(loop)
    rate = statistics.median(o["events_per_s"] for o in ours)
    loop = statistics.median(loops)
    print(f"{events:,} events, {ours[0]['keys']:,} keys seen, {runs} rounds, one core each")
    print(f"keywatch replay      {rate:>12,.0f} events/s (engine, medians)")
    print(f"  whole process      {events / statistics.median(o['wall_s'] for o in ours):>12,.0f}")
    print(f"  state              {ours[0]['bytes_per_key']:>12,.0f} bytes per key")
    print(f"pure-Python counting {loop:>12,.0f} events/s")
    print(f"ratio                {rate / loop:>12.1f}")


def _generate(log: Path, keys: int, events: int) -> None:
    from replay.simulate import write_big_fleet

    write_big_fleet(log, keys, events, 1)


def _run(arguments: list[str]) -> str:
    command = [sys.executable, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - our own
    return done.stdout


if __name__ == "__main__":
    main()
