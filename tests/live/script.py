"""A log of columns behind a scripted source, and the real loop over it without a broker."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import Future

import numpy as np

from detector.checkpointer import Barrier, Checkpointer, Written, load_newest_set
from detector.controls import ControlLog
from detector.core.events import Decoded, EventBatch, RecordBatch
from detector.core.ports import CheckpointStore, Sink
from detector.core.settings import ShardSettings
from detector.core.shard import Shard, state_digest
from detector.outbox import Outbox
from detector.partitions import Engine
from detector.runner import Runner, RunSettings
from detector.telemetry import Metrics
from detector.testing import EOF, ListSink, ScriptedSource
from tests.core.logs import MINUTE_US, START_US, fleet_log

SETTINGS = ShardSettings()


class InlineCheckpointer(Checkpointer):
    """Writes at once, so that the number of snapshots does not depend on a thread's luck."""

    def submit(self, barrier: Barrier) -> Future[Written]:
        done: Future[Written] = Future()
        done.set_result(self.write(barrier))
        return done


class ColumnDecoder:
    """Decodes records of ``scripted``: each value is the row of its event in the log."""

    def __init__(self, log: EventBatch) -> None:
        self._log = log

    def decode(self, records: RecordBatch) -> Decoded:
        rows = np.array([int(v) for v in records.values], np.int64)
        return Decoded(self._log.take(rows), [], 0)


def incident_log(seed: int = 7) -> EventBatch:
    """Two days with a thief and a prober at their end, then quiet until the episodes close."""
    incident, after = fleet_log(seed, keys=8, hours=50), fleet_log(seed + 1, keys=8, hours=60)
    quiet = after.take(after.ts_us < START_US + 56 * 60 * MINUTE_US)
    quiet.ts_us[:] += int(incident.ts_us[-1]) + MINUTE_US - START_US
    return EventBatch.concat([incident, quiet])


def scripted(
    log: EventBatch,
    partitions: int = 2,
    rows: int = 150,
    kind: type[ScriptedSource] = ScriptedSource,
) -> ScriptedSource:
    """The log dealt out to partitions by key, in turns of ``rows`` events each."""
    owner = (log.key_lo % np.uint64(partitions)).astype(int)
    script: list = []
    done = [0] * partitions
    for low in range(0, len(log), rows):
        for p in range(partitions):
            mine = [i for i in range(low, min(low + rows, len(log))) if owner[i] == p]
            if mine:
                offsets = np.arange(done[p], done[p] + len(mine), dtype=np.int64)
                done[p] += len(mine)
                values = [b"%d" % i for i in mine]
                stamps = np.full(len(mine), -1, np.int64)
                script.append(RecordBatch("scripted", p, values, offsets, stamps))
    return kind([*script, EOF], frozenset(range(partitions)))


def runner(
    source: ScriptedSource,
    log: EventBatch,
    store: CheckpointStore,
    sinks: list[Sink] | None = None,
    step_hook: Callable[[str], None] = lambda _: None,
    kind: type[Checkpointer] = Checkpointer,
    controls: ControlLog | None = None,
    **settings: float,
) -> Runner:
    limits = {"snapshot_every_events": 400, "snapshot_every_s": 1e9, **settings}
    engine = Engine(lambda: ColumnDecoder(log), SETTINGS, 5.0)
    outbox = Outbox(store, sinks or [ListSink()], time.time, time.sleep)
    return Runner(
        source,
        engine,
        kind(store, 3, step_hook),
        outbox,
        Metrics(),
        RunSettings(**limits),  # type: ignore[arg-type]
        step_hook=step_hook,
        controls=controls,
    )


def result(store: CheckpointStore) -> tuple[list, list, str, dict[int, int]]:
    """What a run leaves behind: alerts, closed episodes, state digest, next offsets."""
    read = lambda kind: [json.loads(store.get(k) or b"") for k in store.list(f"{kind}/")]  # noqa: E731
    found = load_newest_set(store)
    shards = [Shard.from_state(body, SETTINGS) for _, body in found.states.values()]
    offsets = {p: offset for p, (offset, _) in found.states.items()}
    return read("alert"), read("episode"), state_digest(shards), offsets
