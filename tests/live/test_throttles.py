"""What the fleet stage decides beside alerts, in the loop: rate limits, and what it held."""

from __future__ import annotations

import json
from dataclasses import replace

from detector.core.episodes import Candidate
from detector.demo import highest
from detector.partitions import Partitions
from detector.runner import Runner
from detector.sinks.jsonl import JsonlSink
from detector.stores.memory import MemoryStore
from detector.testing import ListSink
from tests.core.fleet_candidates import BASE, candidate
from tests.core.logs import MINUTE_US, START_US
from tests.live.script import incident_log, result, runner, scripted

LOG = incident_log()
LIMIT = candidate(
    START_US + 60 * MINUTE_US, "busy", BASE["throttle"] * 2, channel="throttle", nats={"surge": 18}
)


def value(one: Runner, name: str) -> float:
    """The sum of a metric over its labels."""
    samples = (s for m in one._metrics.registry.collect() for s in m.samples)
    return sum(s.value for s in samples if s.name == name)


def through(one: Runner, *candidates: Candidate) -> Runner:
    """A run in which the fleet stage was offered these too, at its beginning."""
    one.restore()
    one._fleet.offer(candidates)
    while one.turn():
        pass
    one.shut_down()
    return one


def test_a_recommendation_is_delivered_but_is_no_alert(tmp_path):
    """Journalled and sent like alerts, with a counter of its own and none of theirs."""
    store, shown = MemoryStore(), ListSink()
    sinks = [JsonlSink(tmp_path / "alerts.ndjson"), shown]
    one = through(runner(scripted(LOG), LOG, store, sinks), LIMIT)
    records = {r["key"]: r for r in result(store)[0] if r["channel"] == "throttle"}
    assert (records["busy"]["action"], records["busy"]["severity"]) == ("throttle", "low")
    assert value(one, "keywatch_throttles_total") == len(records)
    assert value(one, "keywatch_alerts_total") == len(result(store)[0]) - len(records) > 0
    written = [json.loads(line) for line in (tmp_path / "alerts.ndjson").read_bytes().splitlines()]
    assert records["busy"] in written
    assert records["busy"] in shown.alerts


def test_a_recommendation_comes_once():
    """Decided again after a restart from nothing but the log, it is neither sent nor counted."""
    store, shown = MemoryStore(), ListSink()
    through(runner(scripted(LOG), LOG, store, [shown]), LIMIT)
    for key in store.list("snapshot/"):
        store.delete(key)
    again = through(runner(scripted(LOG), LOG, store, [shown]), LIMIT)
    assert value(again, "keywatch_throttles_total") == 0
    assert [a["key"] for a in shown.alerts].count("busy") == 1


def test_a_recommendation_changes_nothing_else():
    """Alerts, closed episodes, state and offsets are those of a run without it."""
    plain, store = MemoryStore(), MemoryStore()
    runner(scripted(LOG), LOG, plain).run()
    through(runner(scripted(LOG), LOG, store), LIMIT)
    alerts, *rest = result(store)
    expected, *others = result(plain)
    assert ([a for a in alerts if a["key"] != "busy"], rest) == (expected, others)


def test_its_closed_episode_is_not_written(monkeypatch):
    """The episodes of the contract are those that accuse."""
    stolen = replace(candidate(START_US, "gone", 20.0).episode, state="closed", closed_us=START_US)
    closed = [replace(LIMIT.episode, state="closed", closed_us=START_US), stolen]
    monkeypatch.setattr(Partitions, "take_closed", lambda *_: closed)
    store = MemoryStore()
    runner(scripted(LOG), LOG, store).run()
    assert [e["key"] for e in result(store)[1]] == ["gone"]


def test_what_waits_for_others_is_decided_when_nothing_more_comes():
    """Two keys probed at once: the second waits for a third until the log has been silent."""
    store, source = MemoryStore(), scripted(LOG)
    source.script = source.script[:1]
    one = runner(source, LOG, store)
    one.restore()
    at_us = int(LOG.ts_us[int(source.script[0].values[-1])]) - 10
    rising = (
        candidate(at_us + i, key, score, channel="abused", nats={"probing": score}, number=i)
        for i, (key, score) in enumerate((("a", 8.0), ("b", 60.0)))
    )
    one._fleet.offer(rising)
    for _ in range(5):
        one.turn()
    assert not result_alerts(store)
    for partition in one.partitions.assigned.values():
        partition.last_data_s -= 61
    one.turn()
    assert result_alerts(store) == ["b"]
    one.shut_down()


def result_alerts(store: MemoryStore) -> list[str]:
    return [json.loads(store.get(k) or b"")["key"] for k in store.list("alert/")]


def test_the_demos_message_is_about_an_accusation():
    """A rate limit that scored more is shown only where there is nothing else."""
    throttle, alert = ({"channel": c, "score": s} for c, s in (("throttle", 11.1), ("abused", 8.6)))
    assert highest([throttle, alert]) == alert
    assert highest([throttle]) == throttle
