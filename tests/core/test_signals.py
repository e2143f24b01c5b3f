"""The fold's signals, from log to episode: what raises them, and what must not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from detector.core.episodes import Candidate
from detector.core.fleet import FleetStage
from detector.core.key_state import calm
from detector.core.registry import KeyRegistry, RegistryEntry
from detector.core.settings import ShardSettings
from detector.core.shard import Shard
from detector.core.violations import NAMES
from models import combination, slow
from models.clock import DAY_US
from models.fusion import F_CONCURRENCY
from replay.tune.collect import RowTap
from tests.core.logs import MINUTE_US, START_US, batch_of, fleet_log

Row = tuple[int, str, str, str, str, int]
HOUR_US = 60 * MINUTE_US
FAR_US = 1 << 62


def candidates_of(rows: list[Row], registry: KeyRegistry | None = None) -> list[Candidate]:
    return Shard(ShardSettings(), registry).fold(batch_of(rows))


def own_rows(days: float, client: str = "sdk/2", every_us: int = 10 * MINUTE_US) -> list[Row]:
    """A key at its usual work, from one network."""
    return [
        (START_US + i * every_us, "k", "10.0.0", client, f"GET /v1/a/{i % 5}", 200)
        for i in range(int(days * DAY_US / every_us))
    ]


# --- a field that appears -----------------------------------------------------------------


def test_a_field_that_appears_raises_nothing():
    """Days without a user agent, then always one: the log has changed, not the user."""
    batch = batch_of(own_rows(12))
    before = batch.ts_us < START_US + 8 * DAY_US
    batch.client[before] = 0
    assert before.any()
    assert not before.all()
    found = Shard(ShardSettings()).fold(batch)
    assert [c.change for c in found] == ["client_came"]


def test_another_client_is_noticed_where_the_field_was_always_there():
    """The claim above is about the field: a client new beside old ones does cost something."""
    rows = own_rows(8) + [
        (START_US + 8 * DAY_US + i * MINUTE_US, "k", "198.51.100", "curl/8", f"GET /v9/x{i}", 200)
        for i in range(60)
    ]
    assert any(c.episode.channel == "stolen" for c in candidates_of(rows))


# --- hard facts -----------------------------------------------------------------------------

REQUEST: Row = (START_US + 2 * DAY_US, "k", "10.0.0", "sdk/2", "GET /v1/a/1", 200)
FACTS = {
    "out_of_grant": KeyRegistry([RegistryEntry("k", grants=("GET /v2/**",))]),
    "decoy": KeyRegistry([], ["GET /v1/a/*"]),
    "revoked": KeyRegistry([RegistryEntry("k", revoked_us=START_US)]),
    "rotated": KeyRegistry([RegistryEntry("k2", created_us=START_US, rotated_from="k")]),
}


def test_each_hard_fact_is_tried_below():
    """A new kind of fact needs a registry here."""
    assert set(FACTS) == set(NAMES) - {""}


@pytest.mark.parametrize("fact", FACTS)
def test_a_hard_fact_alerts_on_the_first_request(fact):
    """One request of a key never seen before is enough, and one alert a day is."""
    shard, fleet = Shard(ShardSettings(), FACTS[fact]), FleetStage(5)
    fleet.start(START_US)
    again = [(REQUEST[0] + i * MINUTE_US, *REQUEST[1:]) for i in range(3)]
    fleet.offer(shard.fold(batch_of(again)))
    (alert,) = fleet.release(FAR_US)
    assert alert.is_hard
    assert (alert.key, alert.alerted_us) == ("k", REQUEST[0])
    assert [r.signal for r in alert.reasons] == [fact]


def test_a_decoy_need_not_answer_and_the_others_must():
    """A refused request is a fact at a decoy only."""
    refused = [(*REQUEST[:5], 404)]
    found = {fact for fact, registry in FACTS.items() if candidates_of(refused, registry)}
    assert found == {"decoy"}


# --- STOLEN asks about an actor ---------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2])
def test_stolen_is_never_judged_without_an_actor(seed):
    """Every STOLEN episode names a source, and its own sources alone open none."""
    stolen = [
        c.episode
        for c in Shard(ShardSettings()).fold(fleet_log(seed))
        if c.episode.channel == "stolen" and not c.change
    ]
    assert stolen
    assert all(e.actor is not None for e in stolen)


def test_the_keys_own_sources_open_no_stolen_episode():
    """A flood of errors on new routes from the only source there is: ABUSED, never STOLEN."""
    flood = [
        (START_US + 9 * DAY_US + i * 1_000_000, "k", "10.0.0", "sdk/2", f"GET /admin/{i}/x", 403)
        for i in range(400)
    ]
    channels = {c.episode.channel for c in candidates_of(own_rows(9) + flood)}
    assert "abused" in channels
    assert "stolen" not in channels


def test_the_owners_return_beside_an_actor_raises_concurrency():
    """The turn is complete when the owner is back: his request raises the actor's evidence."""
    start_us = START_US + 9 * DAY_US + MINUTE_US
    thief = [
        (start_us + i * MINUTE_US, "k", "198.51.100", "curl/8", "GET /v1/a/1", 200)
        for i in range(2)
    ]
    owner = (start_us + 2 * MINUTE_US, "k", "10.0.0", "sdk/2", "GET /v1/a/1", 200)
    shard = Shard(ShardSettings())
    shard.fold(batch_of(own_rows(9) + thief))
    actors = shard._state.actors
    (at,) = np.flatnonzero(actors["tag"])
    before = float(actors["concurrency"][at]), int(actors["switches"][at])
    shard.fold(batch_of([owner]))
    assert float(actors["concurrency"][at]) > before[0]
    assert int(actors["switches"][at]) == before[1] + 1


def test_an_owner_who_works_on_makes_the_thiefs_score_grow():
    """The same thief scores more beside the owner than alone, and concurrency is why."""

    def best(beside: bool) -> tuple[float, float]:
        start_us = START_US + 9 * DAY_US + MINUTE_US
        rows = own_rows(9)
        for i in range(20):
            at_us = start_us + i * 2 * MINUTE_US
            rows.append((at_us, "k", "198.51.100", "curl/8", f"GET /v2/b/{i % 10}", 200))
            if beside:
                rows.append((at_us + MINUTE_US, "k", "10.0.0", "sdk/2", "GET /v1/a/1", 200))
        shard = Shard(ShardSettings())
        found = [c.episode for c in shard.fold(batch_of(rows)) if c.episode.channel == "stolen"]
        weight = ShardSettings().stolen.weights[F_CONCURRENCY]
        nats = max(float(n) for n in shard._state.actors["concurrency"])
        return max(e.score for e in found), weight * nats

    alone, together = best(beside=False), best(beside=True)
    assert alone[1] < together[1]
    assert alone[0] < together[0]


# --- ramps --------------------------------------------------------------------------------------

QUIET_DAYS, RAMP_DAYS, BASE = 28, 30, 300


def grown(seed: int, growth: float = 0.0, step: float = 1.0) -> list[tuple[float, str, str]]:
    """Episodes after the quiet days of a key that grows: (traffic ratio, channel, first signal).

    Days have lognormal noise of 0.12, a weekend factor of 0.7, and requests from 8 to 20 UTC.
    The ratio is that of the day without noise and weekend.
    """
    rng, rows = np.random.default_rng(seed), list[Row]()
    for day in range(QUIET_DAYS + RAMP_DAYS):
        ratio = _ratio(day, growth, step)
        weekend = 0.7 if (day + 1) % 7 in (5, 6) else 1.0
        n = rng.poisson(BASE * ratio * weekend * np.exp(rng.normal(0, 0.12)))
        for second in np.sort(rng.uniform(8 * 3600, 20 * 3600, n)):
            ts_us = START_US + int((day * 86400 + second) * 1e6)
            rows.append((ts_us, "k", "10.0.0", "sdk/2", f"GET /v1/a/{rng.integers(5)}", 200))
    found = []
    for c in candidates_of(rows):
        day = (c.ts_us - START_US) // DAY_US
        if day >= QUIET_DAYS:
            signal = c.episode.reasons[0].signal
            found.append((_ratio(day, growth, step), c.episode.channel, signal))
    return found


def _ratio(day: int, growth: float, step: float) -> float:
    return 1.0 if day < QUIET_DAYS else step * (1 + growth) ** (day - QUIET_DAYS + 1)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("growth", [0.05, 0.10])
def test_a_ramp_is_noticed_before_it_has_tripled(growth, seed):
    """A baseline that is walked upwards a little every day: noticed before 3.3 times the quiet."""
    found = grown(seed, growth)
    drifts = [r for r, channel, signal in found if (channel, signal) == ("abused", "slow_drift")]
    assert drifts
    assert drifts[0] < 3.3


@pytest.mark.parametrize("seed", range(5))
def test_a_step_is_not_a_ramp(seed):
    """Twice the traffic from one day to the next is growth, as customers grow: no accusation."""
    found = grown(seed, step=2.0)
    assert "slow_drift" not in {signal for _, channel, signal in found if channel != "throttle"}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("growth", [0.05, 0.10])
def test_a_limit_is_proposed_for_a_ramp_about_when_it_has_tripled(growth, seed):
    """THROTTLE asks how much a key makes against weeks ago, whatever the shape of its growth."""
    found = grown(seed, growth)
    limits = [r for r, channel, signal in found if (channel, signal) == ("throttle", "slow_drift")]
    assert limits
    assert limits[0] < 3.3  # a day of 10 % late at most


def days_of(levels) -> list[Any]:
    """The state of slow drift at the end of days with so many requests."""
    state, found = np.zeros(1, slow.SLOW)[0:1], []
    for day, n in enumerate(levels):
        slow.close_day(state[0], day + 1, False)
        state["requests"] = state["settled"] = int(n)
        found.append(state[0].copy())
    return found


DAYS = np.arange(90)


def growth_of(times, seed: int, noise: float = 0.1) -> list[float]:
    """Growth at the end of each day of a key with so many times 200 requests a day."""
    levels = 200 * times * np.exp(np.random.default_rng(seed).normal(0, noise, len(times)))
    return [float(s["growth"]) for s in days_of(levels)]


@pytest.mark.parametrize("seed", range(3))
def test_growth_shows_a_ramp_and_nothing_else_of_a_steady_key(seed):
    """Ten percent a day from day 28 on shows within ten days; a steady key never does."""
    limit = ShardSettings().throttle.threshold
    ramp = growth_of(1.1 ** np.maximum(DAYS[:60] - 28, 0), seed)
    assert 33 <= next(i for i, nats in enumerate(ramp) if nats > limit) <= 38
    assert max(growth_of(np.ones(90), seed)) == 0.0


@pytest.mark.parametrize("noise", [0.05, 0.1])
@pytest.mark.parametrize("times", [5.0, 10.0])
def test_a_step_never_becomes_growth(times, noise):
    """Neither in the days after it nor weeks later, when no window has both levels any more."""
    limit = ShardSettings().throttle.threshold
    step = np.where(DAYS >= 40, times, 1.0)
    assert max(max(growth_of(step, seed, noise)) for seed in range(4)) < limit


def test_a_held_day_counts_for_a_ramp_but_not_for_what_a_request_takes():
    """A suspicion holds learning; it must not hide the ramp it is about."""
    state = np.zeros(1, slow.SLOW)
    for day in range(1, 20):
        slow.close_day(state[0], day, day > 10)
        for _ in range(100):
            slow.observe(state[0], 100, False, True)
    slow.close_day(state[0], 20, True)
    rings = state[0]["ring"][:, 1:20] > 0
    assert rings[0].sum() == 19
    assert rings[1].sum() == rings[2].sum() == 9


def test_calm_clears_every_evidence_of_slow_drift():
    """An "expected" verdict, and the heir of a rotation, begin without any of it."""
    shard = Shard(ShardSettings())
    shard.fold(batch_of(own_rows(1)))
    kinds = ("cusum", "ramp", "objects", "growth")
    for kind in kinds:
        shard._state.slow[kind][0] = 9.0
    calm(shard._state, 0)
    assert [float(shard._state.slow[kind][0]) for kind in kinds] == [0.0] * 4


# --- what trees are asked about -------------------------------------------------------------


def test_a_client_that_the_log_does_not_name_is_as_old_as_its_key():
    """A source without a client reads to the trees as one with the key's oldest, not as new."""
    start_us = START_US + 9 * DAY_US
    rows = own_rows(9)
    rows += [
        (start_us + i * MINUTE_US, "k", "198.51.100", "curl/8", f"GET /v2/b/{i}", 200)
        for i in range(6)
    ]
    batch = batch_of(rows)
    newest = batch.ts_us >= start_us
    at = combination.CONTEXT.index("client_age")
    found = []
    for is_named in (True, False):
        told = replace(batch, client=np.where(newest & (not is_named), 0, batch.client))
        taken, _ = RowTap(ShardSettings(without=("combination",))).observe(told)
        taken = taken[(taken["channel"] == 0) & (taken["ts_us"] >= start_us)]
        found.append(taken["context"][:, at])
    assert len(found[0])
    assert len(found[1])
    assert (found[0] == 0).all()
    assert (found[1] >= 9 * 96).all()
