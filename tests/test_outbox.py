"""The outbox: journal before send, at least once, nobody blocks anybody, nothing is lost."""

from __future__ import annotations

import json
import random
from threading import Event, Thread
from time import monotonic, sleep

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.errors import DeliveryError, TemporaryError
from detector.outbox import GIVE_UP_AFTER_S, Outbox
from detector.stores.memory import MemoryStore
from tests.sinks.sample import (
    BASE_S,
    FlakySink,
    HangingSink,
    ListSink,
    ManualClock,
    ScriptedSink,
    make_alert,
)


def make_outbox(store, sinks, clock=None, **options) -> Outbox:
    clock = clock or ManualClock()
    return Outbox(store, sinks, clock, clock.sleep, **options)


def eventually(condition, timeout_s: float = 10) -> None:
    end = monotonic() + timeout_s
    while not condition():
        assert monotonic() < end, "did not happen in time"
        sleep(0.002)


def settled(outbox: Outbox) -> bool:
    return all(c["queued"] == 0 for c in outbox.counters.values())


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def test_an_alert_reaches_every_sink_once(store):
    """Two sinks, ten alerts: each gets each, in order, and the marks are there."""
    sinks = [ListSink("one"), ListSink("two")]
    outbox = make_outbox(store, sinks)
    assert all(outbox.record(make_alert(n)) for n in range(10))
    assert outbox.stop(10)
    assert sinks[0].ids == sinks[1].ids == [f"{n:020x}" for n in range(10)]
    assert len(store.list("sent/")) == 20
    assert outbox.counters == {
        n: {"queued": 0, "sent": 10, "failed": 0, "dead": 0} for n in ("one", "two")
    }


def test_the_journal_comes_before_any_send(store):
    """At the moment of delivery the alert's record is in the store and its mark is not."""
    seen = []

    class Spy(ListSink):
        def deliver(self, alert):
            key = alert["alert_id"]
            seen.append((store.get(f"alert/{key}"), store.get(f"sent/{key}/list")))

    outbox = make_outbox(store, [Spy()])
    alert = make_alert()
    outbox.record(alert)
    assert outbox.stop(10)
    [(journal, mark)] = seen
    assert json.loads(journal) == alert
    assert mark is None


def test_an_alert_that_cannot_be_journalled_is_not_taken(store):
    """A full disk is the caller's problem at once, and nothing goes out."""

    class Full(MemoryStore):
        def put_if_absent(self, key, value):
            if key.startswith("alert/"):
                raise TemporaryError("no space left")
            return super().put_if_absent(key, value)

    sink = ListSink()
    outbox = make_outbox(Full(), [sink])
    with pytest.raises(TemporaryError):
        outbox.record(make_alert())
    assert outbox.stop(10)
    assert sink.ids == []


def test_a_repeated_alert_is_journalled_and_sent_once(store):
    """After a crash the log is read again: the same id says False and is not sent again."""
    sink = ListSink()
    outbox = make_outbox(store, [sink])
    assert outbox.record(make_alert(1))
    assert not outbox.record(make_alert(1))
    eventually(lambda: settled(outbox))
    assert not outbox.record(make_alert(1))
    assert outbox.stop(10)
    assert len(sink.ids) == 1


def test_the_first_record_of_an_alert_stands(store):
    """An alert is never rewritten, whatever comes later under its id."""
    outbox = make_outbox(store, [])
    outbox.record(make_alert(1, score=20.0))
    outbox.record(make_alert(1, score=99.0))
    assert [a["score"] for a in outbox.alerted()] == [20.0]


def test_recover_delivers_what_was_left_in_order_and_nothing_twice(store):
    """The next process sends the unsent, oldest first; the sent and the dead stay as they are."""
    hanging = HangingSink("s")
    outbox = make_outbox(store, [hanging])
    for n in (5, 3, 8, 1):
        outbox.record(make_alert(n))
    assert not outbox.stop(0.05)
    store.put_if_absent(f"sent/{5:020x}/s", b"{}")
    store.put_if_absent(f"dead/{8:020x}/s", b"{}")

    sink = ListSink("s")
    again = make_outbox(store, [sink])
    assert again.recover() == 2
    assert again.stop(10)
    assert sink.ids == [f"{n:020x}" for n in (1, 3)]
    third = make_outbox(store, [ListSink("s")])
    assert third.recover() == 0
    assert third.stop(10)
    hanging.release.set()


def test_recover_and_a_replayed_record_do_not_send_twice(store):
    """An alert found by recover and recorded again from the log goes out once."""
    make_outbox(store, [HangingSink("s")]).record(make_alert(1))
    sink = HangingSink("s")
    again = make_outbox(store, [sink])
    assert again.recover() == 1
    sink.entered.wait(10)
    assert not again.record(make_alert(1))
    sink.release.set()
    assert again.stop(10)
    assert len(sink.ids) == 1


def test_a_sink_that_is_added_later_does_not_get_old_alerts(store):
    """Switching Slack on must not post a year of history; from then on it gets everything."""
    first = make_outbox(store, [ListSink("old")])
    first.record(make_alert(1))
    assert first.stop(10)
    late = ListSink("late")
    second = make_outbox(store, [ListSink("old"), late])
    assert second.recover() == 0
    second.record(make_alert(1))
    second.record(make_alert(2))
    assert second.stop(10)
    third = make_outbox(store, [ListSink("old"), late])
    assert third.recover() == 0
    assert late.ids == [f"{2:020x}"]


@pytest.mark.parametrize("seed", range(5))
def test_a_flaky_sink_gets_everything_at_least_once(store, seed):
    """Half of the attempts fail, some after arrival: all arrive, each marked once."""
    sink = FlakySink(seed)
    outbox = make_outbox(store, [sink])
    for n in range(100):
        outbox.record(make_alert(n))
    eventually(lambda: settled(outbox))
    assert outbox.stop(10)
    assert set(sink.ids) == {f"{n:020x}" for n in range(100)}
    counts = outbox.counters["flaky"]
    assert counts["sent"] == len(store.list("sent/")) == 100
    assert counts["failed"] == sink.attempts - 100 > 20


def test_a_hanging_sink_blocks_neither_record_nor_the_others(store):
    """200 alerts go to the healthy sink while another one hangs in its first."""
    hanging, healthy = HangingSink(), ListSink("healthy")
    outbox = make_outbox(store, [hanging, healthy])
    started = monotonic()
    for n in range(200):
        outbox.record(make_alert(n))
    assert monotonic() - started < 5
    eventually(lambda: len(healthy.ids) == 200)
    assert hanging.ids == []
    assert not outbox.stop(0.05)
    hanging.release.set()


def test_stop_with_a_hanging_sink_returns_at_its_deadline(store):
    """What hangs is left to the next process."""
    hanging = HangingSink()
    outbox = make_outbox(store, [hanging])
    outbox.record(make_alert())
    assert hanging.entered.wait(10)
    started = monotonic()
    assert not outbox.stop(0.1)
    assert monotonic() - started < 5
    hanging.release.set()


def test_stop_does_not_wait_out_a_backoff(store):
    """A failing alert is tried, not waited for; it stays journalled and unmarked."""
    sink = ScriptedSink([DeliveryError("down", retriable=True, retry_after_s=3600)] * 9)
    blocked = Event()
    outbox = Outbox(store, [sink], ManualClock(), lambda _: blocked.wait(0.01) and None)
    outbox.record(make_alert())
    eventually(lambda: len(sink.tried) == 1)
    assert not outbox.stop(5)
    assert len(sink.tried) == 1
    assert store.list("sent/") == store.list("dead/") == []


def test_a_refused_alert_becomes_a_dead_letter_at_once(store):
    """Not retriable: one attempt, the reason is kept and inert, the next alert goes on."""
    sink = ScriptedSink([DeliveryError("channel_not_found\x1b[31m", retriable=False)])
    outbox = make_outbox(store, [sink])
    outbox.record(make_alert(1))
    outbox.record(make_alert(2))
    assert outbox.stop(10)
    assert sink.tried == [f"{1:020x}", f"{2:020x}"]
    dead = json.loads(store.get(f"dead/{1:020x}/scripted"))
    assert dead["reason"] == r"channel_not_found\x1b[31m"
    assert outbox.counters["scripted"]["dead"] == 1


def test_after_72_hours_a_failing_alert_is_given_up(store):
    """Not before, and not never; the receiver is not hammered meanwhile."""
    clock = ManualClock()
    sink = ScriptedSink([DeliveryError("down", retriable=True)] * 10_000)
    outbox = make_outbox(store, [sink], clock)
    outbox.record(make_alert())
    eventually(lambda: store.list("dead/") != [], 60)
    assert GIVE_UP_AFTER_S <= clock() - BASE_S <= GIVE_UP_AFTER_S + 1000
    assert len(sink.tried) < 900
    assert outbox.stop(10)


def test_the_72_hours_go_on_over_restarts(store):
    """The first failed attempt is journalled: a daily restart does not retry for ever."""
    for day in range(3):
        sink = ScriptedSink([DeliveryError("down", retriable=True)] * 9)
        blocked = Event()
        clock = ManualClock(BASE_S + day * 86_400)
        outbox = Outbox(store, [sink], clock, lambda _, b=blocked: b.wait(0.01) and None)
        outbox.recover()
        outbox.record(make_alert())
        eventually(lambda s=sink: len(s.tried) == 1)
        outbox.stop(5)
        assert store.list("dead/") == []
    clock = ManualClock(BASE_S + GIVE_UP_AFTER_S)
    last = make_outbox(store, [ScriptedSink([DeliveryError("down", retriable=True)])], clock)
    last.recover()
    assert last.stop(5)
    assert len(store.list("dead/")) == 1


def test_a_bug_in_a_sink_is_a_failed_attempt_without_its_text(store):
    """The thread survives any exception; the text, which may hold a secret, is not kept."""
    sink = ScriptedSink([KeyError("xoxb-canary"), SystemExit("xoxb-canary")])
    outbox = make_outbox(store, [sink])
    outbox.record(make_alert())
    eventually(lambda: settled(outbox))
    assert outbox.stop(10)
    assert outbox.counters["scripted"] == {"queued": 0, "sent": 1, "failed": 2, "dead": 0}
    assert all(b"canary" not in store.get(k) for k in store.list(""))


def test_a_mark_that_cannot_be_written_does_not_send_again(store):
    """Delivered is delivered: only the mark is repeated until the store takes it."""

    class Forgetful(MemoryStore):
        refusals = 3

        def put_if_absent(self, key, value):
            if key.startswith("sent/") and self.refusals:
                self.refusals -= 1
                raise TemporaryError("no space left")
            return super().put_if_absent(key, value)

    store, sink = Forgetful(), ListSink()
    outbox = make_outbox(store, [sink])
    outbox.record(make_alert())
    eventually(lambda: settled(outbox))
    assert outbox.stop(10)
    assert len(sink.ids) == 1
    assert len(store.list("sent/")) == 1


def test_more_alerts_than_memory_wait_in_the_store(store):
    """With room for 10 ids, 500 alerts behind a hanging sink all arrive, in order, once."""
    sink = HangingSink("s")
    outbox = make_outbox(store, [sink], queue_max=10)
    for n in range(500):
        outbox.record(make_alert(n))
    assert outbox.counters["s"]["queued"] == 10
    sink.release.set()
    eventually(lambda: len(sink.ids) == 500)
    assert outbox.stop(10)
    assert sink.ids == [f"{n:020x}" for n in range(500)]


def test_an_overfull_outbox_is_not_called_drained(store):
    """Ids that did not fit count as left over."""
    sink = HangingSink("s")
    outbox = make_outbox(store, [sink], queue_max=1)
    outbox.record(make_alert(1))
    outbox.record(make_alert(2))
    assert not outbox.stop(0.05)
    sink.release.set()


def test_a_damaged_journal_record_ends_as_a_dead_letter(store):
    """It is neither sent half nor does it stop the others."""
    hanging = HangingSink("s")
    first = make_outbox(store, [hanging])
    first.record(make_alert(1))
    first.record(make_alert(2))
    assert hanging.entered.wait(10)
    store.delete(f"alert/{2:020x}")
    store.put_if_absent(f"alert/{2:020x}", b'{"alert_id": "0')
    hanging.release.set()
    assert first.stop(10)
    assert hanging.ids == [f"{1:020x}"]
    assert store.list("dead/") == [f"dead/{2:020x}/s"]
    assert [a["alert_id"] for a in first.alerted()] == [f"{1:020x}"]


@pytest.mark.parametrize("names", [["a", "a"], ["a/b"], [""], [".."]])
def test_sinks_need_names_that_can_be_told_apart(store, names):
    """The name is part of a store key."""
    with pytest.raises(ValueError, match="distinct names"):
        make_outbox(store, [ListSink(n) for n in names])


def test_an_alert_with_a_number_that_json_lacks_is_refused(store):
    """NaN in the journal would be unreadable for others: it is a bug and raises at once."""
    with pytest.raises(ValueError, match="JSON"):
        make_outbox(store, []).record(make_alert(score=float("nan")))


class Crash(BaseException):
    """The death of the process at a named point, in whichever thread it is."""


POINTS = (
    "outbox.before_journal",
    "outbox.after_journal",
    "outbox.before_send",
    "outbox.after_send",
    "outbox.after_mark",
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(POINTS), st.integers(0, 12), st.integers(0, 2**32))
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_crash_at_any_point_loses_nothing_and_repeats_at_most_one(point, nth, seed):
    """The log is read again after the crash: each alert arrives, at most one of them twice."""
    store, sink = MemoryStore(), ListSink("s")
    alerts = [make_alert(n) for n in range(12)]
    random.Random(seed).shuffle(alerts)
    left = [nth]

    def hook(name):
        if name == point:
            left[0] -= 1
            if left[0] == -1:
                dead.set()
        if dead.is_set():  # whoever passes a point after the crash is dead too
            raise Crash

    dead = Event()
    outbox = make_outbox(store, [sink], step_hook=hook)
    scoring = Thread(target=lambda: [outbox.record(a) for a in alerts], daemon=True)
    scoring.start()
    scoring.join(10)
    outbox.stop(1)

    again = make_outbox(store, [sink])
    again.recover()
    for alert in alerts:
        again.record(alert)
    assert again.stop(10)
    assert set(sink.ids) == {a["alert_id"] for a in alerts}
    assert len(sink.ids) - 12 <= (1 if dead.is_set() else 0)
    assert len(store.list("alert/")) == len(store.list("sent/")) == 12
