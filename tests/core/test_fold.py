"""The fold: what it promises whatever the batches, shards and restarts."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.episodes import Candidate
from detector.core.events import AUTH_FAILED, EventBatch
from detector.core.fleet import HOLD_US, FleetStage
from detector.core.kernel_episodes import HOLD_SHARE
from detector.core.kernels import TRIES_MAKE_A_KEY
from detector.core.registry import KeyRegistry, RegistryEntry
from detector.core.settings import ShardSettings
from detector.core.shard import Shard, state_digest
from detector.core.tables import PER_KEY
from replay.run import Engine
from tests.core.logs import MINUTE_US, START_US, batch_of, fleet_log, h64

DAY_US = 86_400_000_000


def with_quiet_days(log: EventBatch) -> EventBatch:
    """The log and three more days in which only one key is active: time to close episodes."""
    last_us = int(log.ts_us[-1])
    rows = [
        (last_us + h * 3_600_000_000, "key5", "10.5.0", "sdk/2", "GET /v1/thing1/0", 200)
        for h in range(1, 72)
    ]
    return EventBatch.concat([log, batch_of(rows)])


LOG = with_quiet_days(fleet_log(7))
FAR_US = 1 << 62


def run(log: EventBatch, cuts: list[int], n_shards: int = 1) -> tuple[list, list, str]:
    """Alerts, episodes and digest of a log cut at the given rows."""
    engine = Engine([Shard(ShardSettings()) for _ in range(n_shards)], FleetStage(5))
    for lo, hi in zip([0, *cuts], [*cuts, len(log)], strict=True):
        engine.fold(log.take(slice(lo, hi)))
    episodes = engine.finish()
    return engine.alerts, episodes, state_digest(engine.shards)


@pytest.fixture(scope="module")
def whole() -> tuple[list, list, str]:
    return run(LOG, [])


def test_the_log_is_worth_testing(whole):
    """The thief and the prober become alerts, or the tests below would compare nothing."""
    alerts, episodes, _ = whole
    assert {(a.key, a.channel) for a in alerts} >= {("key0", "stolen"), ("key1", "abused")}
    assert any(e.state == "closed" for e in episodes)


def test_an_alert_is_the_line_of_its_own_event(whole):
    """Score at or over the threshold, severity and action to match, cold keys included.

    It comes at once, or a minute later when others might have shown the same.
    """
    for alert in whole[0]:
        assert alert.score >= alert.threshold
        assert alert.severity in ("medium", "high", "critical")
        assert alert.action != "none"
        assert 0 <= alert.alerted_us - alert.last_seen_us <= HOLD_US


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, len(LOG)), max_size=12), st.sampled_from([1, 4, 12]))
def test_batches_and_shards_do_not_matter(cuts, n_shards):
    """Any split of a log over batches and 1, 4 or 12 shards gives byte-identical results."""
    assert repr(run(LOG, sorted(cuts), n_shards)) == repr(run(LOG, []))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, len(LOG)))
def test_a_restored_shard_goes_on_as_if_nothing_had_happened(cut):
    """State through bytes at any event gives the same candidates, episodes and digest."""
    one = Shard(ShardSettings())
    whole = one.fold(LOG)
    other = Shard(ShardSettings())
    first = other.fold(LOG.take(slice(0, cut)))
    other = Shard.from_state(other.to_state(), ShardSettings())
    rest = other.fold(LOG.take(slice(cut, None)))
    assert repr(whole) == repr(first + rest)
    assert one.digest() == other.digest()
    assert repr(one.close_all()) == repr(other.close_all())


def test_a_batch_of_one_event_at_a_time():
    """Even single events fold to the same state."""
    log = LOG.take(slice(0, 400))
    one, many = Shard(ShardSettings()), Shard(ShardSettings())
    one.fold(log)
    for i in range(len(log)):
        many.fold(log.take(slice(i, i + 1)))
    assert one.digest() == many.digest()


def test_growing_tables_changes_nothing():
    """Thousands of keys and values force every table to grow; the digest does not notice."""
    rows = [
        (
            START_US + i * 1000,
            f"k{i % 3000}",
            f"10.{i % 200}.{i % 7}",
            f"c/{i % 11}",
            f"GET /a/{i}",
            200,
        )
        for i in range(12_000)
    ]
    log = batch_of(rows)
    one, many = Shard(ShardSettings()), Shard(ShardSettings())
    one.fold(log)
    for i in range(0, len(log), 977):
        many.fold(log.take(slice(i, i + 977)))
    assert one.n_keys == 3000
    assert one.digest() == many.digest()


def test_counters_account_for_every_event(whole):
    """Events are folded, or no_key, late, failed authentication, or over the key cap."""
    shard = Shard(ShardSettings(keys_max=5))
    shard.fold(LOG)
    counters = shard.counters
    assert counters["events"] == len(LOG)
    assert counters["no_key"] == 120
    assert shard.n_keys == 5
    assert counters["keys_over_cap"] > 0


def test_failed_authentication_changes_no_key():
    """Rows with failed authentication train nothing: a key's arrays stay as they are."""
    log = LOG.take(slice(0, 500))
    noise = log.take(np.arange(200))
    noise.auth[:] = AUTH_FAILED
    shard, other = Shard(ShardSettings()), Shard(ShardSettings())
    shard.fold(log)
    other.fold(log)
    other.fold(noise)
    assert other.counters["auth_failed"] == 200
    for name in set(PER_KEY) - {"episodes"}:
        assert getattr(shard._state, name).tobytes() == getattr(other._state, name).tobytes(), name


@pytest.mark.parametrize("key", ["k", "unknown"])
def test_refused_tries_are_an_episode_about_the_key(key):
    """Thirty refused tries: ABUSED because of ``errors``, no leak counted, no learning held."""
    rows = [(START_US + m * MINUTE_US, "k", "10.0.0", "c/1", "GET /v1/a", 200) for m in range(60)]
    start_us = START_US + 61 * MINUTE_US
    tries = [
        (start_us + i * 1_000_000, key, "198.51.100", "x/1", "GET /v1/a", 401) for i in range(30)
    ]
    refused = batch_of(tries)
    refused.auth[:] = AUTH_FAILED
    shard = Shard(ShardSettings())
    shard.fold(batch_of(rows))
    held = shard._state.keys["hold_cell"].copy()
    candidates = shard.fold(refused)
    assert {(c.episode.key, c.episode.channel) for c in candidates} == {(key, "abused")}
    assert {c.episode.reasons[0].signal for c in candidates} == {"errors"}
    assert {(c.episode.requests_leaked, c.episode.bytes_leaked) for c in candidates} == {(0, 0)}
    assert candidates[-1].episode.actor is None
    known = shard._state.keys["lo"] == h64("lok")
    assert (shard._state.keys["hold_cell"][known] == held[known]).all()
    assert (shard._state.episodes["held"] == 0).all()


def test_a_name_tried_a_few_times_gets_no_state():
    """Guessing names costs no memory of keys: an unknown key has state from its eighth try on."""
    tries = [
        (START_US + i * 1_000_000, "unknown", "198.51.100", "x/1", "GET /v1/a", 401)
        for i in range(TRIES_MAKE_A_KEY)
    ]
    refused = batch_of(tries)
    refused.auth[:] = AUTH_FAILED
    shard = Shard(ShardSettings())
    shard.fold(refused.take(slice(0, -1)))
    assert shard.n_keys == 0
    shard.fold(refused.take(slice(-1, None)))
    assert shard.n_keys == 1


def test_a_late_event_is_counted_and_reopens_nothing():
    """An event more than five minutes behind its key's newest is counted as late only."""
    rows = [(START_US + m * MINUTE_US, "k", "10.0.0", "c/1", "GET /v1/a", 200) for m in range(60)]
    shard, other = Shard(ShardSettings()), Shard(ShardSettings())
    shard.fold(batch_of(rows))
    other.fold(batch_of([*rows, (START_US, "k", "10.0.0", "c/1", "GET /v1/a", 200)]))
    assert other.counters["late"] == 1
    assert shard._state.volume.tobytes() == other._state.volume.tobytes()


def test_episode_closes_a_day_after_it_falls_below_the_floor(whole):
    """The thief's episode ends 24 h after its last high score, whenever that is noticed."""
    shard = Shard(ShardSettings())
    shard.fold(LOG)
    closed = [e for e in shard.take_closed() if e.key == "key0" and e.channel == "stolen"]
    assert len(closed) == 1
    assert closed[0].closed_us == closed[0].last_seen_us + DAY_US
    assert shard.take_closed() == []


def test_leak_counts_the_thief_not_the_owner(whole):
    """requests_leaked of the stolen key is the thief's 120 requests, give or take none."""
    _, episodes, _ = whole
    stolen = next(e for e in episodes if e.key == "key0" and e.channel == "stolen")
    assert stolen.requests_leaked == 120
    assert stolen.actor.network == "198.51.100.0/24"
    assert stolen.actor.client == "curl/8"


def test_alert_names_come_from_the_closed_list(whole):
    """Every reason's signal is one of the documented ones; scores are 2^-10 multiples."""
    from detector.core.episodes import SIGNALS

    alerts, episodes, _ = whole
    for e in alerts + episodes:
        assert {r.signal for r in e.reasons} <= set(SIGNALS)
        assert e.score * 1024 == int(e.score * 1024)
        assert all(c.isprintable() for c in e.alert_id)


def candidate(i: int, score: float, ts_us: int, hard: bool = False) -> Candidate:
    shard = Shard(ShardSettings())
    shard.fold(LOG)
    like = next(e for e in shard.close_all() if e.channel == "stolen")
    episode = replace(like, alert_id=f"{i:020x}", score=score, opened_us=ts_us)
    return Candidate(ts_us, 1, hard, True, episode)


def test_fleet_survives_being_asked_twice():
    """Candidates offered again after a restore raise no second alert."""
    shard = Shard(ShardSettings())
    candidates = shard.fold(LOG)
    fleet = FleetStage(5)
    fleet.start(int(LOG.ts_us[0]))
    fleet.offer(candidates)
    alerts = fleet.release(FAR_US)
    again = FleetStage.from_state(fleet.to_state(), 5)
    again.offer(candidates)
    assert alerts
    assert again.release(FAR_US) == []


def test_many_hard_facts_collapse():
    """More than 20 keys outside their grants within an hour become one notice."""
    base = candidate(0, 20.0, START_US, hard=True)
    fleet = FleetStage(5)
    fleet.start(START_US)
    for i in range(50):
        episode = replace(base.episode, alert_id=f"{i:020x}", key=f"k{i}")
        fleet.offer([replace(base, ts_us=START_US + i, episode=episode)])
    alerts = fleet.release(FAR_US)
    assert len(alerts) == 21
    assert [a.key for a in alerts].count("*") == 1


def test_what_is_merely_unusual_becomes_usual():
    """A benign move to a new network below the threshold is held for 12 h, then learned."""
    hour_us = 60 * MINUTE_US
    rows = []
    for i in range(24 * 20):
        network = "10.1.0" if i < 24 * 8 else "10.2.0"
        rows += [
            (START_US + i * hour_us + j * MINUTE_US, "k", network, "c/1", "GET /v1/a/1", 200)
            for j in (1, 20, 40)
        ]
    limits = replace(ShardSettings().stolen, floor=2.0, threshold=5.0)
    shard = Shard(ShardSettings(stolen=limits, without=("combination",)))
    shard.fold(batch_of(rows))
    episode = shard.close_all()[0]
    assert episode.channel == "stolen"
    assert HOLD_SHARE * 5.0 <= episode.score < 5.0
    settled_us = START_US + 24 * 16 * hour_us
    assert episode.last_seen_us < settled_us


def held_after(days: float) -> tuple[bool, float]:
    """Whether a newcomer's cell held learning of a key so old, and the newcomer's score."""
    step_us = 10 * MINUTE_US
    rows = [
        (START_US + i * step_us, "k", "10.1.0", "c/1", "GET /v1/a/1", 200)
        for i in range(int(days * DAY_US / step_us))
    ]
    start_us = START_US + len(rows) * step_us
    rows += [
        (start_us + j * MINUTE_US, "k", "10.9.0", "c/2", f"GET /v{j % 3 + 2}/b{j}", 200)
        for j in range(1)
    ]
    shard = Shard(ShardSettings(without=("combination",)))
    score = max(c.episode.score for c in shard.fold(batch_of(rows)))
    key = shard._state.keys[0]
    return bool(key["hold_cell"] >= key["cell"]), score


def test_a_new_key_holds_learning_from_a_higher_score_on():
    """The same newcomer is held at a settled key; a new key would keep calling its owner new."""
    held, score = held_after(20.0)
    limits = ShardSettings().stolen
    assert held
    held, score = held_after(0.5)
    raised = limits.cold_extra * (1 - 0.5 / 3)
    assert HOLD_SHARE * limits.threshold < score < HOLD_SHARE * limits.threshold + raised
    assert not held


def test_a_year_of_churn_does_not_grow_the_tables_without_end():
    """Expired pairs and actors are dropped when a table fills; the digest does not notice."""
    day_us = 86_400_000_000
    rows = [
        (START_US + d * day_us + i * 7_000_000, f"k{i % 40}", f"{d % 200}.{i}.{d // 200}", "c/1",
         f"GET /v1/a{d % 3}/x", 200)
        for d in range(400)
        for i in range(80)
    ]  # fmt: skip
    log = batch_of(rows)
    shard, other = Shard(ShardSettings()), Shard(ShardSettings())
    shard.fold(log)
    for part in range(0, len(log), 6000):
        other.fold(log.take(slice(part, part + 6000)))
        other = Shard.from_state(other.to_state(), ShardSettings())
    alive = int((shard._state.pairs["tag"] != 0).sum())
    assert alive < 20_000 < len(rows)
    assert shard.digest() == other.digest()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1 << 30), st.lists(st.integers(0, len(LOG)), max_size=6))
def test_batches_do_not_matter_for_a_log_out_of_order(seed, cuts):
    """Events up to five minutes late give the same state however the log is cut."""
    late_us = np.random.default_rng(seed).integers(0, 290_000_000, len(LOG))
    log = LOG.take(np.argsort(LOG.ts_us + late_us, kind="stable"))
    one, other = Shard(ShardSettings()), Shard(ShardSettings())
    whole = one.fold(log)
    parts = []
    for lo, hi in zip([0, *sorted(cuts)], [*sorted(cuts), len(log)], strict=True):
        parts += other.fold(log.take(slice(lo, hi)))
    assert repr(whole) == repr(parts)
    assert one.digest() == other.digest()


def test_a_broken_client_does_not_alert_every_week():
    """What nobody objects to is learned: sixty days of the same failures, at most two alerts."""
    rows = [
        (START_US + i * 900_000_000 + j, "k", "10.0.0", "c/1", f"GET /v1/a/{j}", status)
        for i in range(96 * 60)
        for j, status in [(j, 404 if j % 2 and i > 96 * 5 else 200) for j in range(16)]
    ]
    alerts, _, _ = run(batch_of(rows), [])
    assert len(alerts) <= 2


def test_a_key_has_caps_that_hold():
    """250 new values of each kind every 15 minutes for two days: the caps, not 48,000."""
    rows = [
        (START_US + i * 3_600_000, "k", f"{i % 200}.{i // 200 % 250}.{i % 250}", f"c/{i}",
         f"GET /a{i}/b", 200)
        for i in range(48_000)
    ]  # fmt: skip
    shard = Shard(ShardSettings())
    shard.fold(batch_of(rows))
    assert int((shard._state.pairs["tag"] != 0).sum()) <= 2 * (256 + 64 + 500 + 128)
    assert int((shard._state.actors["tag"] != 0).sum()) <= 2 * 128


def granted_log(keys: int) -> tuple[EventBatch, KeyRegistry]:
    """Every key succeeds once outside its grants, a second apart."""
    rows = [
        (START_US + i * 1_000_000, f"g{i}", "10.0.0", "c/1", "POST /v1/admin/x", 200)
        for i in range(keys)
    ]
    entries = [RegistryEntry(f"g{i}", grants=("GET /v1/**",)) for i in range(keys)]
    return batch_of(rows), KeyRegistry(entries)


def test_hard_facts_are_alerts_and_say_so_afterwards():
    """An episode of a hard fact is handed out once it is decided, with its alert time."""
    log, registry = granted_log(3)
    shard, fleet = Shard(ShardSettings(), registry), FleetStage(5)
    fleet.offer(shard.fold(log))
    assert shard.take_closed(shard.clock_us)[:0] == []
    for alert in fleet.release(FAR_US):
        assert alert.state == "open"
        shard.mark_alerted(alert)
    facts = shard.take_closed(FAR_US)
    assert all(f.alerted_us is not None and f.bytes_leaked == 1000 for f in facts)
    assert [f.key for f in facts][-1] == "g2"


def test_a_wrong_registry_costs_no_more_per_key():
    """20,000 keys outside their grants are decided in seconds, and leave one notice."""
    log, registry = granted_log(20_000)
    engine = Engine([Shard(ShardSettings(), registry)], FleetStage(5))
    began_s = time.perf_counter()
    engine.fold(log)
    episodes = engine.finish()
    assert time.perf_counter() - began_s < 20
    assert [a.key for a in engine.alerts].count("*") == 1
    assert sum(e.key == "*" for e in episodes) == 1
    assert len(engine.alerts) == 21
