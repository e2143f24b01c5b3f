"""Requests in the state directory: journalled, then applied, once and at one place."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import pytest

from detector.checkpointer import load_newest_set
from detector.cli.state import RequestStore
from detector.controls import ControlLog, Journalled, Request, alert_of
from detector.core.control import Alert, Reset
from detector.core.errors import TemporaryError
from detector.core.fleet import FleetStage
from detector.core.shard import Shard
from detector.stores.local import LocalStore
from detector.stores.memory import MemoryStore
from detector.testing import ScriptAborted
from tests.live.script import (
    SETTINGS,
    InlineCheckpointer,
    incident_log,
    result,
    runner,
    scripted,
)
from tests.live.test_runner import CrashAt
from tests.sinks.sample import EPISODE

LOG = incident_log()
KILLS = [
    *((point, nth) for point in ("run.before_control", "run.after_control") for nth in (1, 2)),
    *(("run.control_done", nth) for nth in (1, 2)),
    *(("run.after_partition_snapshots", nth) for nth in (5, 6, 7)),
]


def live(store, **more):
    return runner(
        scripted(LOG), LOG, store, controls=ControlLog(store), requests_every_s=0.0, **more
    )


def ask(store, name="1", **said):
    store.put_if_absent(f"request/{name}", msgspec.json.encode(Request(**said)))


def journal(store):
    return [msgspec.json.decode(store.get(k), type=Journalled) for k in store.list("control/")]


def through(store, wanted=("key0",), after=1500, **more):
    """A run in which resets are asked for once so many events have been folded."""
    one = live(store, **more)
    one.restore()
    while one.turn():
        if sum(one.partitions.next_offsets.values()) >= after and not store.list("control/"):
            for i, key in enumerate(wanted):
                ask(store, f"{i}", verdict="reset", key=key)
    one.shut_down()
    return one


def test_a_request_becomes_a_record_with_its_place():
    """Journalled with the next offset of every partition, applied, and deleted."""
    store = MemoryStore()
    through(store, ("key0", "key1"))
    first, second = journal(store)
    assert [(m.sequence, m.record.key) for m in (first, second)] == [(0, "key0"), (1, "key1")]
    assert set(first.offsets) == {0, 1}
    assert sum(first.offsets.values()) >= 1500
    assert store.list("request/") == []
    states = load_newest_set(store).states
    assert [Shard.from_state(s, SETTINGS).sequence for _, s in states.values()] == [1, 1]
    fleet = FleetStage.from_state(load_newest_set(store).fleet, 5.0)
    assert fleet.sequence == 1


def from_the_journal_alone(store):
    """An uninterrupted run of the same log that finds the same journal at its start."""
    fresh = MemoryStore()
    for key in store.list("control/"):
        fresh.put_if_absent(key, store.get(key))
    live(fresh).run()
    return result(fresh)


def test_records_are_applied_at_their_offsets_whatever_the_start():
    """A run that asks and a run that finds the journal end in the same state, alerts and all."""
    store = MemoryStore()
    through(store)
    assert result(store) == from_the_journal_alone(store)
    plain = MemoryStore()
    live(plain).run()
    assert result(store)[2] != result(plain)[2], "a reset that changes nothing shows nothing"


@pytest.mark.parametrize(("point", "nth"), KILLS)
def test_a_crash_around_a_record_leaves_no_trace(point, nth):
    """Dead before, between and after journal and application: applied once, as the journal says."""
    store = MemoryStore()
    with pytest.raises(ScriptAborted):
        through(store, ("key0", "key1"), step_hook=CrashAt(point, nth), kind=InlineCheckpointer)
    through(store, ("key0", "key1"))
    assert [m.record.key for m in journal(store)] == ["key0", "key1"]
    assert store.list("request/") == []
    assert result(store) == from_the_journal_alone(store)


def test_an_end_comes_by_itself():
    """An acceptance with an end is taken back, by a record of its own, at that time."""
    store = MemoryStore()
    one = live(store)
    one.restore()
    asked, key = False, ""
    while one.turn():
        alerts = [json.loads(store.get(k)) for k in store.list("alert/")]
        if alerts and not asked:
            asked, key = True, alerts[0]["key"]
            until_us = one._watermark_us + 1_000_000
            ask(store, verdict="expected", alert_id=alerts[0]["alert_id"], until_us=until_us)
    one.shut_down()
    made = journal(store)
    assert [type(m.record).__name__ for m in made] == ["Expected", "Withdrawn"]
    assert made[0].record.key == key
    assert result(store) == from_the_journal_alone(store)


def test_a_confirmed_alert_gives_its_budget_back():
    """By the command's request, also after a restart."""
    store = MemoryStore()
    live(store).run()
    alert_id = store.list("alert/")[0].removeprefix("alert/")
    ask(store, verdict="confirmed", alert_id=alert_id)
    live(store).run()
    fleet = FleetStage.from_state(load_newest_set(store).fleet, 5.0)
    live(store).run()
    assert [m.record.alert_id for m in journal(store)] == [alert_id]
    assert fleet.sequence in (-1, 0)
    again = live(store)
    again.restore()
    again._fleet.release(again._watermark_us)
    assert again._fleet._memory.budgets.raised[alert_id].is_confirmed


@pytest.mark.parametrize("value", [b"", b"{", b'{"verdict":"fine"}', b"[]", b" " * 70_000])
def test_what_is_no_request_is_refused(value):
    """Deleted, and never a record."""
    store = MemoryStore()
    store.put_if_absent("request/0", value)
    ask(store, "1", verdict="expected", alert_id="nobody")
    ask(store, "2", verdict="confirmed", alert_id="../x")
    live(store).run()
    assert store.list("request/") == store.list("control/") == []


class Full(MemoryStore):
    """Refuses control records, as a full disk would, so many times."""

    refusals = 3

    def put_if_absent(self, key, value):
        if key.startswith("control/") and self.refusals:
            self.refusals -= 1
            raise TemporaryError("disk full")
        return super().put_if_absent(key, value)


def test_a_full_disk_only_delays():
    """Nothing is applied that is not journalled; later it is."""
    store = Full()
    through(store)
    assert store.refusals == 0
    assert len(journal(store)) == 1
    assert result(store) == from_the_journal_alone(store)


def test_a_command_asks_while_the_service_holds_the_directory(tmp_path):
    """A guest takes no lock and leaves nothing but its request."""
    with LocalStore(tmp_path) as service:
        key = RequestStore(tmp_path).ask(Request("reset", key="k"))
        assert msgspec.json.decode(service.get(key), type=Request).key == "k"
        assert list((tmp_path / ",tmp").iterdir()) == []
        service.delete(key)


@pytest.mark.parametrize("channel", ["stolen", "abused"])
@pytest.mark.parametrize("has_actor", [True, False])
def test_an_alerts_record_tells_a_verdict_what_its_episode_does(channel, has_actor):
    """The journal's JSON and the episode itself give the same facts."""
    actor = EPISODE.actor if has_actor else None
    episode = replace(EPISODE, channel=channel, actor=actor, alerted_us=EPISODE.peak_us)
    assert alert_of(episode.to_record()) == Alert.of(episode)
    older = {k: v for k, v in episode.to_record().items() if k != "combined_nats"}
    assert alert_of(older) == Alert.of(episode), "journalled before there was a correction"
    assert Reset(at_us=1, key="k").name == "k||"
