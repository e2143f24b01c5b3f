"""The loop over a scripted source: order, crashes, back-pressure, watermark."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from detector.checkpointer import load_newest_set
from detector.core.errors import KeywatchError, SnapshotError, TemporaryError
from detector.core.events import RecordBatch
from detector.core.ports import Polled
from detector.partitions import Engine, Partitions
from detector.stores.memory import MemoryStore
from detector.testing import (
    ABORT,
    EOF,
    FlakySink,
    ListSink,
    ManualClock,
    ScriptAborted,
    ScriptedSource,
)
from tests.live.script import (
    SETTINGS,
    ColumnDecoder,
    InlineCheckpointer,
    incident_log,
    result,
    runner,
    scripted,
)

LOG = incident_log()
POINTS = (
    "run.polled",
    "run.folded",
    "run.before_alert",
    "run.after_alert",
    "run.before_snapshot",
    "run.after_partition_snapshots",
    "run.after_fleet_snapshot",
    "run.after_snapshot",
    "run.after_commit",
)


class CrashAt:
    """Raises at the n-th passing of one point; counts all points."""

    def __init__(self, point: str = "", nth: int = 0) -> None:
        self.seen: Counter[str] = Counter()
        self._at = (point, nth)

    def __call__(self, name: str) -> None:
        self.seen[name] += 1
        if (name, self.seen[name]) == self._at:
            raise ScriptAborted(name)


@pytest.fixture(scope="module")
def reference():
    """An uninterrupted run, and how often it passed each point."""
    store, hook = MemoryStore(), CrashAt()
    runner(scripted(LOG), LOG, store, step_hook=hook, kind=InlineCheckpointer).run()
    return result(store), hook.seen


def test_the_reference_is_worth_comparing(reference):
    """Alerts, closed episodes and several snapshots happen, and every crash point is passed."""
    (alerts, episodes, _, offsets), seen = reference
    assert {a["key"] for a in alerts} >= {"key0", "key1"}
    assert {e["alert_id"] for e in episodes if e["alerted_at"]} == {a["alert_id"] for a in alerts}
    assert sum(offsets.values()) == len(LOG)
    assert seen["run.after_snapshot"] >= 4
    assert not set(POINTS) - set(seen)


@pytest.mark.parametrize("point", POINTS)
def test_a_crash_at_any_point_leaves_no_trace(reference, point):
    """Dead at the first, a middle and the last passing: alerts, episodes, state as if nothing."""
    expected, seen = reference
    for nth in sorted({1, (seen[point] + 1) // 2, seen[point]}):
        store, source = MemoryStore(), scripted(LOG)
        with pytest.raises(ScriptAborted):
            runner(source, LOG, store, step_hook=CrashAt(point, nth), kind=InlineCheckpointer).run()
        source.close(0)
        runner(source, LOG, store).run()
        assert result(store) == expected, f"{point} {nth}"


def test_crashing_again_and_again(reference):
    """A process that dies every few turns still gets there, with the same results."""
    expected, _ = reference
    store, source = MemoryStore(), scripted(LOG)
    deaths = 0
    while True:
        try:
            runner(
                source, LOG, store, step_hook=CrashAt("run.folded", 9), snapshot_every_events=100
            ).run()
            break
        except ScriptAborted:
            deaths += 1
            source.close(0)
    assert deaths > 3
    assert result(store) == expected


def test_abort_marker(reference):
    """A script that aborts resumes behind the marker and reads from the asked offsets."""
    source = scripted(LOG)
    source.script = [*source.script[:5], ABORT, *source.script[5:]]
    store = MemoryStore()
    with pytest.raises(ScriptAborted):
        runner(source, LOG, store).run()
    runner(source, LOG, store).run()
    assert result(store) == reference[0]


@pytest.mark.parametrize("max_records", [37, 1000])
def test_how_the_client_cuts_batches_does_not_matter(reference, max_records):
    """Alerts, episodes and state do not depend on the size of polls."""
    source = scripted(LOG)
    source.max_records = max_records
    store = MemoryStore()
    runner(source, LOG, store).run()
    assert result(store) == reference[0]


class FullDisk(MemoryStore):
    """Refuses keys that start with ``refused`` as a full disk would."""

    refused = "nothing"
    refusals = 0

    def put_if_absent(self, key: str, value: bytes) -> bool:
        if key.startswith(self.refused):
            self.refusals += 1
            raise TemporaryError("disk full")
        return super().put_if_absent(key, value)


def test_input_is_held_while_alerts_cannot_be_journalled(reference):
    """With a full disk nothing more is read and nothing is lost; afterwards it goes on."""
    store, source = FullDisk(), scripted(LOG)
    one = runner(source, LOG, store)
    one.restore()
    store.refused = "alert/"
    while not store.refusals:
        assert one.turn()
    assert source.held
    before = dict(one.partitions.next_offsets)
    for _ in range(3):
        assert one.turn()
    assert one.partitions.next_offsets == before
    store.refused = "nothing"
    while one.turn():
        pass
    one.shut_down()
    assert result(store) == reference[0]


def test_failed_snapshots_cost_nothing_but_time(reference):
    """Snapshots that fail are counted and repeated; the one before is never pushed out."""
    store, source = FullDisk(), scripted(LOG)
    one = runner(source, LOG, store, snapshot_every_events=100)
    one.restore()
    one.turn()
    good = load_newest_set(store)
    store.refused = "snapshot/fleet/"
    for _ in range(30):
        assert one.turn()
        time.sleep(0.005)  # the writer's thread needs its turn
    assert store.refusals > 3
    assert load_newest_set(store) == good
    store.refused = "nothing"
    while one.turn():
        pass
    one.shut_down()
    assert result(store) == reference[0]


def test_a_failing_sink_never_stops_scoring(reference):
    """Alerts are the same with a sink that fails half of the time."""
    store = MemoryStore()
    runner(scripted(LOG), LOG, store, [FlakySink(3), ListSink()], stop_timeout_s=0.2).run()
    assert result(store) == reference[0]


def test_damaged_newest_set_falls_back_as_a_whole(reference):
    """A damaged partition snapshot takes its whole set with it; the log is read again."""
    store, source = MemoryStore(), scripted(LOG)
    runner(source, LOG, store).run()
    newest = store.list("snapshot/p00000/")[-1]
    store._values[newest] = store._values[newest][:-5]
    assert load_newest_set(store).damaged
    runner(source, LOG, store).run()
    assert result(store) == reference[0]
    assert not load_newest_set(store).damaged


def test_no_good_set_is_refused():
    """With snapshots and none good the service does not start blank by itself."""
    store = MemoryStore()
    runner(scripted(LOG), LOG, store).run()
    for key in store.list("snapshot/p00001/"):
        store._values[key] = b"rubbish"
    with pytest.raises(SnapshotError, match="none of the"):
        runner(scripted(LOG), LOG, store).run()


def test_an_offset_that_comes_again_is_an_error():
    """A record behind the expected offset stops the process: its state would be wrong."""

    class Repeating(ScriptedSource):
        def poll(self, timeout_s: float) -> Polled:
            polled = ScriptedSource.poll(self, timeout_s)
            return Polled(polled.assigned, batches=[*polled.batches, *polled.batches])

    source = scripted(LOG, kind=Repeating)
    with pytest.raises(KeywatchError, match="came again"):
        runner(source, LOG, MemoryStore()).run()


def test_commits_follow_snapshots():
    """What is committed for lag tools is exactly what a snapshot holds."""
    source, store = scripted(LOG), MemoryStore()
    runner(source, LOG, store).run()
    assert source.committed == result(store)[3]


class TestWatermark:
    """Which event time all partitions have reached."""

    def partitions(self, clock: ManualClock) -> Partitions:
        engine = Engine(lambda: ColumnDecoder(LOG), SETTINGS, 5.0)
        table = Partitions(engine, lambda _: None, clock, idle_after_s=60)
        assert table.take_over(frozenset({0, 1}), lambda wanted: dict.fromkeys(wanted, 0))
        return table

    def fold(self, table: Partitions, partition: int, rows: slice) -> int:
        table[partition].shard.fold(LOG.take(rows))
        return int(LOG.ts_us[rows].max())

    def test_the_slowest_partition_decides(self):
        """The least clock of all partitions with data."""
        table = self.partitions(ManualClock())
        early = self.fold(table, 0, slice(0, 10))
        self.fold(table, 1, slice(10, 50))
        assert table.reached_us(dict) == early

    def test_a_partition_of_which_nothing_is_known_holds_back(self):
        """Until its lag is known to be 0; then it is empty and holds nobody back."""
        table = self.partitions(ManualClock())
        reached = self.fold(table, 0, slice(0, 10))
        assert table.reached_us(dict) == 0
        assert table.reached_us(lambda: {0: 5, 1: 3}) == 0
        assert table.reached_us(lambda: {0: 5, 1: 0}) == reached

    def test_an_idle_partition_stops_holding_back_after_a_minute(self):
        """By the injected clock, never by event time."""
        clock = ManualClock()
        table = self.partitions(clock)
        early = self.fold(table, 0, slice(0, 10))
        later = self.fold(table, 1, slice(10, 50))
        clock.advance(59)
        assert table.reached_us(dict) == early
        table[1].last_data_s = clock()
        clock.advance(2)
        assert table.reached_us(dict) == later

    def test_when_all_are_idle_everything_seen_may_be_decided(self):
        """The last event's candidate does not wait for a next event that never comes."""
        clock = ManualClock()
        table = self.partitions(clock)
        self.fold(table, 0, slice(0, 10))
        later = self.fold(table, 1, slice(10, 50))
        clock.advance(61)
        assert table.reached_us(dict) == later + 1


def test_a_partition_that_goes_and_comes_back_keeps_its_place(reference):
    """Rebalances in the middle change nothing: state stays parked and goes on at its offset."""
    changes = {8: frozenset({1}), 16: frozenset[int](), 24: frozenset({0, 1})}

    class Rebalancing(ScriptedSource):
        polls = 0

        def poll(self, timeout_s: float) -> Polled:
            self.polls += 1
            if self.polls in changes:
                self._next, self._at, self._row = {}, 0, 0
                return Polled(assigned=changes[self.polls])
            idle = not self._next and self.polls > 1
            return Polled() if idle else ScriptedSource.poll(self, timeout_s)

    source = scripted(LOG, kind=Rebalancing)
    store = MemoryStore()
    runner(source, LOG, store).run()
    alerts, _, digest, offsets = result(store)
    assert ({a["alert_id"] for a in alerts}, digest, offsets) == (
        {a["alert_id"] for a in reference[0][0]},
        reference[0][2],
        reference[0][3],
    )


def test_scripted_source_deals_out_everything_once():
    """Each partition's offsets arrive in order, without gaps, however small the cuts."""
    source = scripted(LOG)
    source.max_records = 7
    source.start(dict.fromkeys(source.poll(0).assigned or ()))
    got: dict[int, list[int]] = {0: [], 1: []}
    while not (polled := source.poll(0)).ended:
        for batch in polled.batches:
            got[batch.partition] += batch.offsets.tolist()
    sizes = {0: 0, 1: 0}
    for step in source.script:
        if isinstance(step, RecordBatch):
            sizes[step.partition] += len(step)
    assert got == {p: list(range(n)) for p, n in sizes.items()}
    assert source.script[-1] is EOF
