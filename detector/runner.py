"""The live loop: one thread that polls, scores, journals and marks the barriers."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from threading import Event

import structlog

from detector.checkpointer import Barrier, Checkpointer, Written
from detector.control_desk import ControlDesk
from detector.controls import ControlLog
from detector.core.episodes import CHANNELS, THROTTLE, Episode
from detector.core.errors import KeywatchError, TemporaryError
from detector.core.events import RecordBatch
from detector.core.fleet import LOWEST, THROTTLES_PER_WEEK, FleetStage
from detector.core.fleet_silences import Silence, grid
from detector.core.ports import Source
from detector.decode import DeadLetterFile
from detector.outbox import Outbox
from detector.partitions import Engine, Partition, Partitions
from detector.telemetry import (
    Alerted,
    Assigned,
    BatchFolded,
    Metrics,
    Pulse,
    Recommended,
    Silent,
    SnapshotFailed,
    SnapshotWritten,
)
from detector.watchdog import Deadline

_PULSE_EVERY_S = 1.0
_COMMIT_WAIT_S = 2.0

_log = structlog.get_logger("keywatch.run")


@dataclass(frozen=True, slots=True)
class RunSettings:
    """The loop's own limits."""

    poll_timeout_s: float = 0.5
    snapshot_every_s: float = 30.0
    snapshot_every_events: int = 1_000_000
    stop_timeout_s: float = 25.0
    idle_after_s: float = 60.0
    throttles_per_week: float = THROTTLES_PER_WEEK
    requests_every_s: float = 1.0


class Runner:
    """Turns a source's records into journalled alerts and snapshots.

    Each turn of the loop:

    1. poll (bounded wait; the group's heartbeats are the client's own business)
    2. take over a new assignment: keep what is in memory, restore the rest, and start every
       partition at our own offset, whatever the client remembers
    3. decode each record batch; what cannot be decoded goes to the dead letters
    4. fold it into its partition's shard
    5. offer the candidates to the fleet stage and release it up to the watermark
    6. journal each alert, then mark it in its shard; and each recommendation to limit a rate,
       which is no alert. While the journal fails, input is held and nothing else moves: what
       was decided is never lost
    7. take what people ask for into the journal of control records, and apply it
    8. when due, take a barrier and let it be written in the background
    9. commit the offsets of a finished snapshot, for lag tools only

    One thread owns it; ``stop`` may be set by any. An exception leaves the last snapshot as
    the truth: nothing is saved after an error.
    """

    def __init__(
        self,
        source: Source,
        engine: Engine,
        checkpointer: Checkpointer,
        outbox: Outbox,
        metrics: Metrics,
        settings: RunSettings = RunSettings(),
        dead_letters: DeadLetterFile | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        step_hook: Callable[[str], None] = lambda _: None,
        on_progress: Callable[[], None] = lambda: None,
        controls: ControlLog | None = None,
    ) -> None:
        self.stop = Event()
        self.partitions = Partitions(engine, checkpointer.load, monotonic, settings.idle_after_s)
        self._source = source
        self._engine = engine
        self._fleet = FleetStage(
            engine.false_alerts_per_week,
            settings.throttles_per_week,
            settings=engine.settings,
            lowest=LOWEST,
            population=self.partitions.keys_by,
        )
        self._checkpointer = checkpointer
        self._outbox = outbox
        self._metrics = metrics
        self._settings = settings
        self._dead_letters = dead_letters
        self._monotonic = monotonic
        self._step = step_hook
        self._on_progress = on_progress
        self._desk = None
        if controls is not None:
            every_s = settings.requests_every_s
            self._desk = ControlDesk(
                controls, self.partitions, metrics, every_s, monotonic, step_hook
            )
        self._watermark_us = 0
        self._pending: deque[Episode] = deque()
        self._held = False
        self._closed: list[Episode] = []
        self._silences: list[Silence] = []
        self._writing: tuple[Future[Written], Barrier] | None = None
        self._events_since = 0
        self._snapshot_s = self._pulse_s = monotonic()
        self._polled_s: float | None = None

    def run(self) -> None:
        """Runs until ``stop`` is set or a finite source ends; then stops gracefully."""
        self.restore()
        while not self.stop.is_set() and self.turn():
            pass
        self.shut_down()

    def restore(self) -> None:
        """Loads the newest snapshot set and queues what was not delivered."""
        restored = self._checkpointer.restore()
        for sentence in restored.damaged:
            _log.critical("damaged snapshot skipped", what=sentence)
        if restored.fleet is not None:
            self._fleet = FleetStage.from_state(
                restored.fleet,
                self._engine.false_alerts_per_week,
                self._settings.throttles_per_week,
                settings=self._engine.settings,
                lowest=LOWEST,
            )
            self._fleet.population = self.partitions.keys_by
        self._watermark_us = restored.watermark_us
        if self._desk is not None:
            self._desk.restore(self._fleet, self._outbox.alerted_us())
        undelivered = self._outbox.recover()
        _log.info("restored", partitions=restored.partitions, undelivered_alerts=undelivered)

    def turn(self) -> bool:
        """One turn of the loop; False when the source has ended."""
        polled = self._source.poll(self._settings.poll_timeout_s)
        self._polled_s = self._monotonic()
        self._on_progress()
        self._step("run.polled")
        if polled.assigned is not None:
            self._take_over(polled.assigned)
        for partition, offset in polled.moved.items():
            self.partitions.move(partition, offset)
        for batch in polled.batches:
            self._fold(batch)
        self._step("run.folded")
        self._decide()
        if self._desk is not None and not self._pending:
            self._desk.turn(self._fleet, self._watermark_us)
        if polled.settled:  # a join that ends while we are busy would be thrown away
            self._snapshot_if_due()
        self._pulse_if_due()
        return not polled.ended

    def shut_down(self) -> None:
        """Snapshot, commit, sinks, group: all within one deadline."""
        deadline = Deadline(self._settings.stop_timeout_s, self._monotonic)
        self._collect(wait_s=deadline.remaining_s())
        if self._pending:
            _log.error("alerts not journalled, read again after a restart", n=len(self._pending))
        elif len(self.partitions) and self._writing is None:
            self._submit()
            self._collect(wait_s=deadline.remaining_s())
            wait_s = min(_COMMIT_WAIT_S, deadline.remaining_s())
            if self._writing is None:
                self._source.commit(self.partitions.next_offsets, wait_s)
        delivered = self._outbox.stop(deadline.remaining_s() / 2)
        self._source.close(min(_COMMIT_WAIT_S, deadline.remaining_s()))
        _log.info("stopped", all_delivered=delivered)

    def not_ready(self) -> str:
        """Why this process is not ready, "" when it is: it polls and has an assignment."""
        if self._polled_s is None:
            return "not polling yet"
        if self._monotonic() - self._polled_s > self._settings.idle_after_s:
            return "has not polled for a while"
        return "" if len(self.partitions) else "no partition assigned"

    def _take_over(self, assigned: frozenset[int]) -> None:
        """Step 2."""
        self._collect(wait_s=self._settings.stop_timeout_s)
        begins_blank = self.partitions.take_over(assigned, self._source.start)
        _log.info("assigned", offsets=self.partitions.next_offsets)
        Assigned(assigned).emit(self._metrics)
        if begins_blank and self._writing is None:
            # a restart must not choose another beginning than this start did
            self._submit()
            self._collect(wait_s=self._settings.stop_timeout_s)

    def _fold(self, records: RecordBatch) -> None:
        """Steps 3 to 5 for one record batch, cut where control records take effect."""
        partition = self.partitions[records.partition]
        first = int(records.offsets[0])
        if first < partition.next_offset:
            raise KeywatchError(
                f"offset {first} of partition {records.partition} came again "
                f"(expected {partition.next_offset})"
            )
        for part in partition.parts(records):
            self._fold_part(partition, part)

    def _fold_part(self, partition: Partition, records: RecordBatch) -> None:
        decoded = partition.decoder.decode(records)
        if decoded.rejected and self._dead_letters is not None:
            self._dead_letters.append(decoded.rejected)
        if len(decoded.batch) and partition.shard.n_events == 0:
            self._fleet.start(int(decoded.batch.ts_us[0]))
        began_ns = time.perf_counter_ns()
        candidates = partition.shard.fold(decoded.batch)
        fold_ns = time.perf_counter_ns() - began_ns
        partition.next_offset, partition.changed = int(records.offsets[-1]) + 1, True
        partition.last_data_s = self._monotonic()
        self._fleet.offer(candidates)
        self._fleet.silences.hear(partition.shard.take_silences())
        self._events_since += len(records)
        n = len(decoded.batch)
        BatchFolded(n, decoded.no_key, decoded.rejected, len(candidates), fold_ns).emit(
            self._metrics
        )

    def _decide(self) -> None:
        """Steps 5 and 6."""
        reached_us = self.partitions.reached_us(self._source.lag)
        self._watermark_us = max(self._watermark_us, reached_us)
        self._pending.extend(self._fleet.release(self._watermark_us, idle=self._is_idle()))
        self._pending.extend(self._fleet.take_throttles())
        self._listen()
        while self._pending:
            decided = replace(self._pending[0], simulated=self._engine.simulated)
            self._step("run.before_alert")
            try:
                is_new = self._outbox.record(decided.to_record())
            except TemporaryError as e:
                self._hold(e)
                return
            self._step("run.after_alert")
            self._tell(self._pending.popleft(), is_new=is_new)
        if self._held:
            self._held = False
            self._source.release()
            _log.info("input goes on")

    def _listen(self) -> None:
        """Silences of keys: noted with the next snapshot, sent to nobody."""
        silences, until_us = self._fleet.silences, grid(self._watermark_us)
        if until_us <= silences.swept_us:
            return
        silences.hear(self.partitions.silences(silences.swept_us, until_us))
        for silence in silences.take(until_us):
            self._silences.append(silence)
            Silent().emit(self._metrics)
            _log.info("silence", key=silence.key, text=silence.text)

    def _tell(self, decided: Episode, *, is_new: bool) -> None:
        """Marks a journalled alert; counts it, or a recommendation, unless it was known."""
        if not _is_throttle(decided):
            self.partitions.mark_alerted(decided)
        if not is_new:
            return
        happening = Recommended() if _is_throttle(decided) else Alerted(decided)
        happening.emit(self._metrics)
        what = "throttle" if _is_throttle(decided) else "alert"
        _log.info(what, alert_id=decided.alert_id, key=decided.key, channel=decided.channel)

    def _is_idle(self) -> bool:
        """True when nothing has come for a while from any partition that is ours."""
        silent_since_s = self._monotonic() - self._settings.idle_after_s
        ours = self.partitions.assigned.values()
        return len(ours) > 0 and all(p.last_data_s <= silent_since_s for p in ours)

    def _hold(self, error: KeywatchError) -> None:
        if not self._held:
            self._held = True
            self._source.hold()
            _log.error("input held: alerts cannot be journalled", error=str(error))

    def _snapshot_if_due(self) -> None:
        """Steps 8 and 9."""
        self._collect()
        age_s = self._monotonic() - self._snapshot_s
        due = age_s >= self._settings.snapshot_every_s
        due = due or self._events_since >= self._settings.snapshot_every_events
        if due and self._writing is None and not self._pending and self.partitions.any_changed:
            self._submit()

    def _submit(self) -> None:
        """Takes a barrier: the state of this moment, between two polls, no record half done."""
        taken = self.partitions.take_closed(self._watermark_us)
        closed = self._closed + [e for e in taken if not _is_throttle(e)]
        changes = self.partitions.take_changes()
        barrier = Barrier(
            changes, self._fleet.to_state(), self._watermark_us, closed, self._silences
        )
        self._closed, self._silences, self._events_since = [], [], 0
        self._snapshot_s = self._monotonic()
        self._writing = self._checkpointer.submit(barrier), barrier

    def _collect(self, wait_s: float = 0.0) -> None:
        """Takes the result of the snapshot under way, if it is finished by then."""
        if self._writing is None:
            return
        future, barrier = self._writing
        if not future.done() and wait_s <= 0:
            return
        try:
            written = future.result(timeout=wait_s)
        except TemporaryError as e:
            self._writing = None
            self._take_back(barrier, e)
            return
        except TimeoutError:
            return
        self._writing = None
        happening = SnapshotWritten(written.size_bytes, written.duration_s, len(barrier.closed))
        happening.emit(self._metrics)
        _log.debug("snapshot", bytes=written.size_bytes, seconds=round(written.duration_s, 3))
        self._source.commit(written.offsets)
        self._step("run.after_commit")

    def _take_back(self, barrier: Barrier, error: KeywatchError) -> None:
        """The set was not completed: what it held must be in the next one."""
        self._closed = [*barrier.closed, *self._closed]
        self._silences = [*barrier.silences, *self._silences]
        self.partitions.take_back(barrier.partitions)
        SnapshotFailed().emit(self._metrics)
        _log.error("snapshot failed, the one before stays", error=str(error))

    def _pulse_if_due(self) -> None:
        now_s = self._monotonic()
        if now_s - self._pulse_s < _PULSE_EVERY_S:
            return
        self._pulse_s = now_s
        shards = [s.shard for s in self.partitions.assigned.values()]
        Pulse(
            lag=self._source.lag(),
            watermark_us=self._watermark_us,
            keys=sum(s.n_keys for s in shards),
            state_bytes=sum(s.nbytes for s in shards),
            late=sum(s.counters["late"] for s in shards),
            over_cap={
                "keys": sum(s.counters["keys_over_cap"] for s in shards),
                "values": sum(s.counters["values_over_cap"] for s in shards),
            },
            heirs={
                "inherited": sum(s.counters["heirs"] for s in shards),
                "blank": sum(s.counters["heirs_blank"] for s in shards),
            },
            snapshot_age_s=now_s - self._snapshot_s,
            held=self._held,
            dead_letters_dropped=self._dead_letters.dropped if self._dead_letters else 0,
            outbox=self._outbox.counters,
        ).emit(self._metrics)


def _is_throttle(episode: Episode) -> bool:
    return episode.channel == CHANNELS[THROTTLE]
