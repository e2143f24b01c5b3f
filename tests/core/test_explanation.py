"""An explanation is true: what would have silenced it, what stayed normal, what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from detector.core.actions import BY_RATE, advice_of
from detector.core.episodes import (
    ABUSED,
    ACTIONS,
    CHANNELS,
    COMMON_CAUSES,
    HARD_FACTS,
    NORMAL_MAX,
    SIGNALS,
    STOLEN,
    Actor,
    Candidate,
    Episode,
    Grounds,
    OwnerTraffic,
    Reason,
)
from detector.core.explain import advised, grounds_of, severity_of
from detector.core.fleet import FleetStage
from detector.core.normal import carries_on, has_gone_quiet, normal_of, owner_of
from detector.core.references import ATTACK, OWASP, REFERENCES, REFERENCES_MAX, references_of
from detector.core.rows import ROW
from detector.core.sentences import Texts
from detector.core.settings import ShardSettings
from detector.core.shard import Shard
from detector.core.silence import MARGIN_NATS, WITHOUT, silencer_of, smallest, without
from models import combination, fusion
from models.clock import CELL_US, DAY_US
from models.families import FAMILIES
from tests.core.logs import MINUTE_US, START_US, batch_of, fleet_log
from tests.sinks.sample import EPISODE

FAR_US = 1 << 62
Row = tuple[int, str, str, str, str, int]
NETWORK = "198.51.100.0/24"

# --- references -----------------------------------------------------------------------------


def test_every_signal_has_a_mapping():
    """The mapping is closed: exactly the signals; only a change of the log is no attack."""
    assert list(REFERENCES) == list(SIGNALS)
    assert [s for s in SIGNALS if not REFERENCES[s]] == ["common_cause"]
    for signal in SIGNALS[:-1]:
        assert {r.framework for r in REFERENCES[signal]} == {ATTACK, OWASP}, signal


def test_every_reference_has_a_valid_identifier_and_one_name():
    """ATT&CK technique or OWASP risk of 2023 by form, and one name for each of them."""
    forms = {ATTACK: r"T1\d{3}(\.\d{3})?", OWASP: r"API([1-9]|10):2023"}
    known = {r for references in REFERENCES.values() for r in references}
    for r in known:
        assert re.fullmatch(forms[r.framework], r.id)
    assert len({r.id for r in known}) == len({r.name for r in known}) == len(known)


@given(st.lists(st.sampled_from(SIGNALS), max_size=8))
def test_references_are_bounded_and_told_once(signals):
    """However many reasons there are."""
    found = references_of(signals)
    assert len(found) <= REFERENCES_MAX
    assert len(set(found)) == len(found)


# --- what would have silenced it ---------------------------------------------------------------

NATS = st.floats(-6, 14).map(lambda x: round(x, 3))
EVIDENCE = st.lists(NATS, min_size=fusion.N_FAMILIES, max_size=fusion.N_FAMILIES)


def row_of(z: Iterable[float], channel: int = STOLEN, **fields: float):
    row = np.zeros(1, ROW)[0]
    row["z"], row["channel"], row["actor"] = list(z), channel, 1
    for name, value in fields.items():
        row[name] = value
    return row


def episode_of(row, weights, threshold: float, score: float, **more) -> Episode:
    severity = severity_of(score, threshold)
    about = {"actor": Actor(NETWORK, "curl/8", 1, 2), "reasons": (), "key": "k"}
    return replace(
        EPISODE,
        channel=CHANNELS[int(row["channel"])],
        score=score,
        threshold=threshold,
        severity=severity,
        grounds=grounds_of(row, weights),
        **(about | more),
    )


CONTEXT = st.lists(
    st.floats(0, 3000, width=32),
    min_size=len(combination.CONTEXT),
    max_size=len(combination.CONTEXT),
)


@settings(max_examples=300, deadline=None)
@given(EVIDENCE, CONTEXT, st.sampled_from([STOLEN, ABUSED]), st.floats(0.3, 1.0))
def test_without_the_named_signals_the_score_is_below_the_threshold(z, context, channel, share):
    """By the fold's own formula, for any evidence and any threshold that it reaches."""
    weights = fusion.WEIGHTS[channel]
    row = row_of(z, channel, context=context)
    vector, w = np.array([*row["z"], *row["context"]], np.float64), np.array([*weights, *weights])

    def drift(x, w) -> float:
        return float(fusion.weighted(fusion.F_SLOW, w, 1.0, x[fusion.F_SLOW]))

    def judged() -> float:
        total = float(fusion.fuse(vector, w, 1.0))
        return float(
            combination.corrected(total, drift(vector, w), vector, combination.shipped(), channel)
        )

    score = judged()
    row["combined"], row["corrected"] = score - float(fusion.fuse(vector, w, 1.0)), 1
    threshold = round(share * score, 3)
    assume(MARGIN_NATS < threshold <= score)
    silencer = silencer_of(episode_of(row, weights, threshold, score))
    assert silencer is not None
    for signal in silencer.signals:
        assert vector[FAMILIES.index(signal)] > 0
        vector[FAMILIES.index(signal)] = 0.0
    left = judged()
    assert left < threshold
    assert silencer.score == pytest.approx(left, abs=0.002)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.sampled_from(FAMILIES[:9]), st.floats(-3, 9), min_size=1, max_size=7),
    st.floats(0.05, 20),
)
def test_no_smaller_set_would_do(shares, limit):
    """Checked against every smaller set, routes and areas nested."""
    assume(without(shares) > limit)
    found = smallest(shares, limit)
    sizes = range(1, len(found) if found else len(shares) + 1)
    for size in sizes:
        for names in combinations(shares, size):
            assert without(shares, names) > limit
    assert found is None or without(shares, found) <= limit


def test_an_episode_below_its_threshold_needs_nothing():
    """There is nothing to silence."""
    row = row_of([2.0] * fusion.N_FAMILIES)
    assert silencer_of(episode_of(row, fusion.WEIGHTS[STOLEN], 99.0, 9.0)) is None


def test_every_signal_has_words():
    """For the sentence that names it."""
    assert set(WITHOUT) == set(SIGNALS)


@pytest.mark.parametrize("fact", HARD_FACTS)
def test_a_hard_fact_says_what_would_make_it_none(fact):
    """It is no score: only the registry or the decoys' list can be otherwise."""
    silencer = silencer_of(replace(EPISODE, reasons=(Reason(fact, 20.0, 1.0, 0.0, "x"),)))
    assert silencer is not None
    assert silencer.signals == (fact,)
    assert silencer.text.startswith("Quiet if")


def test_an_expected_network_of_a_known_client_leaves_no_actor():
    """Then nothing about the source is new, and STOLEN asks nothing."""
    z = np.zeros(fusion.N_FAMILIES)
    z[[fusion.F_NETWORK, fusion.F_MIX, fusion.F_ACTOR_VOLUME]] = 9.0, 14.0, 12.0
    row, weights = row_of(z), fusion.WEIGHTS[STOLEN]
    score = float(fusion.fuse(z, np.array([*weights, *weights]), 1.0))
    episode = episode_of(row, weights, score - 1.0, score)
    assert episode.grounds.expected == (("network", 0.0),)
    silencer = silencer_of(episode)
    assert silencer is not None
    assert f"Quiet too if {NETWORK} were expected" in silencer.text


def test_an_expected_value_that_is_not_enough_is_not_named_alone():
    """From an expected network a new client is still an actor: where one will not do, both are."""
    z = np.full(fusion.N_FAMILIES, 9.0)
    row, weights = row_of(z), fusion.WEIGHTS[STOLEN]
    score = float(fusion.fuse(z, np.array([*weights, *weights]), 1.0))
    silencer = silencer_of(episode_of(row, weights, 8.0, score))
    assert silencer is not None
    assert f"{NETWORK} and client curl/8 were both expected" in silencer.text


# --- what to do ----------------------------------------------------------------------------------

OWNERS = st.none() | st.builds(
    OwnerTraffic, st.integers(0, 90), st.floats(0, 90), st.integers(0, 5), st.just("x")
)
ADVISED = st.builds(
    lambda channel, severity, signals, owner, separable, key: replace(
        EPISODE,
        key=key,
        channel=channel,
        severity=severity,
        reasons=tuple(Reason(s, 5.0, 1.0, 0.0, "x") for s in signals),
        owner_carries_on=owner,
        grounds=Grounds(is_separable=separable),
    ),
    st.sampled_from(CHANNELS),
    st.sampled_from(["info", "low", "medium", "high", "critical"]),
    st.lists(st.sampled_from(FAMILIES), max_size=3),
    OWNERS,
    st.booleans(),
    st.just("k"),
)
STRONGEST = {
    "info": "none",
    "low": "none",
    "medium": "block_actor",
    "high": "suspend",
    "critical": "revoke",
}


@settings(max_examples=300, deadline=None)
@given(ADVISED)
def test_no_action_is_stronger_than_the_evidence(episode):
    """By severity; and every action comes with its sentence."""
    action, why = advice_of(episode)
    assert why.endswith(".")
    if episode.channel == "throttle":
        assert action == "throttle"
    else:
        assert ACTIONS.index(action) <= ACTIONS.index(STRONGEST[episode.severity])
    if action == "block_actor":
        assert episode.grounds.is_separable
    if episode.grounds.is_separable and episode.channel == "stolen":
        assert action in ("block_actor", "notify", "none")


@pytest.mark.parametrize("severity", ["medium", "high", "critical"])
@pytest.mark.parametrize("signal", BY_RATE)
def test_what_is_only_much_is_throttled(signal, severity):
    """``surge`` and ``slow_drift`` among them, as the strongest reason."""
    assert {"surge", "slow_drift", "enumeration", "actor_volume"} <= set(BY_RATE)
    reasons = (Reason(signal, 5.0, 1.0, 0.0, "x"),)
    episode = replace(EPISODE, channel="abused", severity=severity, reasons=reasons)
    assert advice_of(episode)[0] == "throttle"


def test_an_owner_who_may_have_moved_is_asked_first():
    """At medium severity nobody is cut off whose own sources went quiet when the new one came."""
    for own, action in ((0, "notify"), (40, "block_actor")):
        owner = OwnerTraffic(own, 40.0, 0, "x")
        grounds = Grounds(is_separable=True)
        episode = replace(EPISODE, severity="medium", owner_carries_on=owner, grounds=grounds)
        assert advice_of(episode)[0] == action


def test_one_network_of_a_pool_is_not_worth_a_block():
    """Of three new networks in a quarter of an hour, none is the thief's alone."""
    z = np.full(fusion.N_FAMILIES, 5.0)
    for fresh, separable in ((1, True), (3, False)):
        row = row_of(z)
        row["fresh"][0] = fresh
        assert grounds_of(row, fusion.WEIGHTS[STOLEN]).is_separable == separable


def test_a_network_of_the_keys_own_is_not_blocked():
    """A new client in the owner's network: the block would hit the owner."""
    z = np.full(fusion.N_FAMILIES, 5.0)
    z[fusion.F_NETWORK] = 0.0
    assert not grounds_of(row_of(z), fusion.WEIGHTS[STOLEN]).is_separable


# --- what stayed normal -------------------------------------------------------------------------


def own_rows(days: float, status: int = 200) -> list[Row]:
    every_us = 5 * MINUTE_US
    return [
        (START_US + i * every_us, "k", "10.0.0", "sdk/2", f"GET /v1/a/{i % 5}", status)
        for i in range(int(days * DAY_US / every_us))
    ]


def thief_rows(start_us: int, n: int, route: str = "GET /v1/a/{}", status: int = 200) -> list[Row]:
    return [
        (start_us + i * MINUTE_US, "k", "198.51.100", "curl/8", route.format(i % 5), status)
        for i in range(n)
    ]


def last_of(rows: list[Row], channel: str = "stolen") -> Episode:
    candidates = Shard(ShardSettings()).fold(batch_of(sorted(rows)))
    return [c.episode for c in candidates if c.episode.channel == channel and not c.change][-1]


def labels(episode: Episode) -> set[str]:
    return {text.split(":")[0] for text in episode.normal}


def test_a_thief_on_known_routes_beside_the_owner():
    """Routes, volume and errors are called normal with their counts; the owner carries on."""
    start_us = START_US + 9 * DAY_US
    e = last_of(own_rows(9.1) + thief_rows(start_us + 1, 20))
    assert e.actor is not None
    expected = f"routes: all {e.actor.requests} requests of the source go where"
    assert any(text.startswith(expected) for text in e.normal)
    assert "errors" in labels(e)
    assert e.owner_carries_on is not None
    assert e.owner_carries_on.turns > 0
    assert f"{e.owner_carries_on.turns} turn" in e.owner_carries_on.text


def test_the_owners_requests_are_counted_from_the_actors_first_on():
    """One request in five minutes beside it, up to the event that the explanation is as of."""
    start_us = START_US + 9 * DAY_US
    own, thief = own_rows(9 + 2 / 24), thief_rows(start_us + 1, 120, "GET /v7/x{}")
    episode = last_of(own + thief)
    owner = episode.owner_carries_on
    assert owner is not None
    assert carries_on(owner)
    since = sum(start_us < r[0] <= episode.curve[-1][0] for r in own)
    assert since > 5
    assert abs(owner.requests - since) <= since * 0.5 + 1
    assert owner.expected == pytest.approx(owner.requests, rel=0.3, abs=3)


def test_a_move_is_not_called_carrying_on():
    """The owner's sources stop when the new one comes."""
    start_us = START_US + 9 * DAY_US
    moved = [
        (start_us + i * 5 * MINUTE_US, "k", "198.51.100", "curl/8", f"GET /v7/x{i}", 200)
        for i in range(40)
    ]
    candidates = Shard(ShardSettings()).fold(batch_of(own_rows(9) + moved))
    owners = [c.episode.owner_carries_on for c in candidates if c.episode.channel == "stolen"]
    assert owners
    assert not any(carries_on(o) for o in owners)


def test_a_log_without_statuses_says_nothing_of_errors():
    """Nothing was refused as far as it is known, but it is not known."""
    start_us = START_US + 9 * DAY_US
    e = last_of(own_rows(9.1, status=0) + thief_rows(start_us + 1, 20, status=0))
    assert "errors" not in labels(e)


def test_a_key_on_its_first_day_has_no_usual_to_compare_with():
    """Neither volume nor hours, nor what the owner's sources owe."""
    rows = own_rows(0.4) + thief_rows(START_US + int(0.35 * DAY_US) + 1, 30, "GET /v7/x{}")
    e = last_of(rows)
    assert not {"volume", "hours"} & labels(e)
    assert e.owner_carries_on is None


def test_a_log_that_had_no_routes_says_nothing_of_them():
    """The claim about routes needs requests that show which the key uses."""
    batch = batch_of(sorted(own_rows(9.1) + thief_rows(START_US + 9 * DAY_US + 1, 9)))
    batch.route[:] = batch.area[:] = 0
    episodes = [c.episode for c in Shard(ShardSettings()).fold(batch)]
    assert episodes
    assert not any("routes" in labels(e) for e in episodes)


CONTRADICTS = {
    "routes": {"new_route", "new_area", "foreign_mix"},
    "network": {"new_network"},
    "client": {"new_client"},
    "volume": {"volume", "surge"},
    "errors": {"probing", "denied", "misses"},
    "objects": {"enumeration", "sequence"},
    "hours": {"off_hours"},
    "bytes per request": {"slow_drift"},
    "access": set(SIGNALS) - {"errors"},
}


@pytest.fixture(scope="module")
def candidates() -> list[Candidate]:
    return [c for seed in (1, 2, 3) for c in Shard(ShardSettings()).fold(fleet_log(seed))]


def test_nothing_is_a_reason_and_normal_at_once(candidates):
    """In every candidate of logs with thieves and probers; and never more than the limit."""
    assert sum(bool(c.episode.normal) for c in candidates) > 20
    for c in candidates:
        signals = {r.signal for r in c.episode.reasons}
        assert len(c.episode.normal) <= NORMAL_MAX
        for label in labels(c.episode):
            assert not CONTRADICTS[label] & signals


def mixed_rows(seed: int) -> list[Row]:
    """A key at work, and a source that is new to it on known routes, now and then on others."""
    rng = np.random.default_rng(seed)
    rows, start_us = own_rows(6), START_US + 6 * DAY_US
    share = rng.choice([0.0, 0.02, 0.3])
    for i in range(150):
        at_us = start_us + 1 + int(i * MINUTE_US / 2)
        route = f"GET /v1/a/{rng.integers(5)}" if rng.random() > share else f"GET /v9/x{i}"
        status = 404 if rng.random() < share else 200
        rows.append((at_us, "k", "198.51.100", "curl/8", route, status))
        if i % 10 == 0:
            rows.append((at_us + 7, "k", "10.0.0", "sdk/2", "GET /v1/a/1", 200))
    return sorted(rows)


@pytest.mark.parametrize("seed", range(6))
def test_what_is_called_normal_is_so_in_the_log(seed):
    """Counts and claims of three sentences, counted again from the raw log."""
    rows = mixed_rows(seed)
    said = set()
    for c in Shard(ShardSettings()).fold(batch_of(rows)):
        past = [r for r in rows if r[0] <= c.ts_us]
        cell = [r for r in past if r[0] // CELL_US == c.ts_us // CELL_US]
        facts = {t.split(":")[0]: t for t in c.episode.normal}
        said |= set(facts)
        if "errors" in facts:
            assert all(r[5] < 400 for r in cell)
            assert f"none of {len(cell)} requests" in facts["errors"]
        if "volume" in facts:
            assert facts["volume"].startswith(f"volume: {len(cell)} request")
        if "routes" in facts and c.episode.actor is not None:
            first_us = c.episode.actor.first_seen_us
            known = {r[4] for r in past if r[0] < first_us}
            own = [r for r in past if r[2] == "198.51.100"]
            assert f"all {len(own)} requests" in facts["routes"]
            assert {r[4] for r in own} <= known
    assert "hours" in said or "errors" in said


@settings(max_examples=200, deadline=None)
@given(EVIDENCE)
def test_a_row_without_data_calls_nothing_normal(z):
    """Whatever the evidence: ages and counts of 0 are no data."""
    row = row_of(z, network_age=-1, client_age=-1)
    assert normal_of(row, Texts()) == ()
    assert owner_of(row) is None


def test_quiet_and_carrying_on_exclude_each_other():
    """For all counts."""
    for own, expected in combinations(range(0, 60, 2), 2):
        for pair in ((own, expected), (expected, own)):
            owner = OwnerTraffic(pair[0], float(pair[1]), 0, "x")
            assert not (carries_on(owner) and has_gone_quiet(owner))


# --- alerts --------------------------------------------------------------------------------------


def test_an_alert_is_explained_by_the_threshold_that_raised_it(candidates):
    """The fleet stage's own threshold: what is left without the signals is below it."""
    fleet = FleetStage(5)
    fleet.start(START_US)
    fleet.offer(candidates)
    alerts = fleet.release(FAR_US)
    assert alerts
    for alert in alerts:
        assert alert.silenced_by is not None
        assert alert.silenced_by.score < alert.threshold <= alert.score
        assert (alert.action, alert.action_reason) == advice_of(alert)


def test_a_campaigns_share_can_be_what_silences():
    """Nats that the fleet stage adds are a signal like any other."""
    row, weights = row_of([0.0] * fusion.N_FAMILIES), fusion.WEIGHTS[STOLEN]
    reasons = (Reason("campaign", 9.0, 7.0, 1.0, "x"),)
    silencer = silencer_of(episode_of(row, weights, 8.0, 9.0, reasons=reasons))
    assert silencer is not None
    assert silencer.signals == ("campaign",)


@pytest.mark.parametrize("signal", [*COMMON_CAUSES, *HARD_FACTS])
def test_a_notice_speaks_of_no_single_key(signal):
    """It is about many: the sentence names no network of one key, and blocks only a campaign."""
    notice = advised(
        replace(EPISODE, key="*", reasons=(Reason(signal, 9.0, 30.0, 1.0, "x"),), actor=None)
    )
    assert notice.silenced_by is not None
    assert notice.silenced_by.text.startswith("Quiet if")
    assert (notice.action == "block_actor") == (signal == "campaign")
