"""Control records: what people say changes the baseline of one key, at one place in the log."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from detector.core import key_state
from detector.core.control import Alert, Confirmed, Expected, Reset, Withdrawn, about, end_of
from detector.core.episodes import STOLEN
from detector.core.events import EventBatch
from detector.core.layout import PAIR
from detector.core.lessons import LESSONS_MAX, SETS_MAX, Lessons
from detector.core.settings import ShardSettings
from detector.core.shard import Shard, state_digest
from detector.core.tables import PER_KEY
from models.clock import CELLS_PER_DAY, DAY_US
from models.families import FAMILIES
from tests.core.logs import MINUTE_US, START_US, batch_of

SETTINGS = ShardSettings()
PLAIN = (1.0,) * len(FAMILIES)  # what weights are multiplied by before anybody has said anything
THIEF, PROGRAM = "198.51.100.0/24", "curl/8"
DAYS = 8
THEFT_US = START_US + DAYS * DAY_US


def owner_rows(start_us, days, key="k", seed=1):
    rng = np.random.default_rng(seed)
    for minute in np.flatnonzero(rng.random(int(days * 1440)) < 0.2).tolist():
        route = f"GET /v1/things/{int(rng.integers(4))}"
        yield (
            start_us + minute * MINUTE_US,
            key,
            f"10.0.{int(rng.integers(2))}",
            "sdk/2",
            route,
            200,
        )


def thief_rows(start_us, n=60, key="k", network="198.51.100", routes=9, step_us=20_000_000):
    for j in range(n):
        route = f"GET /v2/dump{j % routes}/{j % 3}"
        yield start_us + j * step_us, key, network, "curl/8", route, 200


def log_of(*parts: Iterable) -> EventBatch:
    return batch_of(sorted(row for part in parts for row in part))


HISTORY = log_of(owner_rows(START_US, DAYS), owner_rows(START_US, DAYS, "other", 2))
THEFT = log_of(thief_rows(THEFT_US), owner_rows(THEFT_US, 0.02, seed=3))


def stolen():
    """A shard with a theft under way, and the alert about it."""
    shard = Shard(SETTINGS)
    shard.fold(HISTORY)
    over = [c for c in shard.fold(THEFT) if c.over_threshold and c.episode.channel == "stolen"]
    assert over, "the theft must be worth an alert"
    return shard, over[-1].episode


def said(verdict, alert, at_us, **more):
    return about(verdict, Alert.of(alert), at_us, PLAIN, **more)


NOW_US = THEFT_US + 40 * MINUTE_US
LATER = log_of(thief_rows(NOW_US + MINUTE_US, n=40))


def scores(shard, batch, channel="stolen"):
    return [c.episode.score for c in shard.fold(batch) if c.episode.channel == channel]


def test_what_is_expected_is_the_keys_own():
    """The source and its routes cost nothing more, the episode is closed, learning goes on."""
    shard, alert = stolen()
    assert (alert.actor.network, alert.actor.client) == (THIEF, PROGRAM)
    assert shard.control(said("expected", alert, NOW_US))
    closed = shard.take_closed(NOW_US + 1)
    ours = [e for e in closed if e.channel == "stolen"]
    assert [(e.alert_id, e.closed_us) for e in ours] == [(alert.alert_id, NOW_US)]
    assert shard._state.keys["hold_cell"][0] == -1
    assert scores(shard, LATER) == []
    untold, _ = stolen()
    assert max(scores(untold, LATER), default=0.0) > 0.0 or untold._book.open, (
        "else it says nothing"
    )


def test_another_thief_is_still_a_thief():
    """What was accepted is one source: a stranger from elsewhere is judged as before."""
    shard, alert = stolen()
    shard.control(said("expected", alert, NOW_US))
    other = log_of(thief_rows(NOW_US + DAY_US, network="203.0.113", routes=12))
    other.route[:] += np.uint64(1)  # other routes than the ones accepted
    assert max(scores(shard, other)) >= SETTINGS.stolen.threshold


def test_a_key_and_its_source_can_be_named_without_an_alert():
    """Network and client by their texts do what the alert's id does."""
    named, _ = stolen()
    by_id, alert = stolen()
    named.control(Expected(at_us=NOW_US, key="k", network=THIEF, client=PROGRAM))
    by_id.control(said("expected", alert, NOW_US))
    assert scores(named, LATER) == scores(by_id, LATER) == []
    pairs = [key_state.known_values(s._state, 0).places for s in (named, by_id)]
    entries = [
        s._state.pairs["entry"][p].tolist() for s, p in zip((named, by_id), pairs, strict=True)
    ]
    assert entries[0] == entries[1]


def test_other_keys_are_left_alone():
    """No byte of another key changes, whatever is said about this one."""
    for record in (
        Expected(at_us=NOW_US, key="k", network=THIEF),
        Confirmed(at_us=NOW_US, key="k", network=THIEF),
        Reset(at_us=NOW_US, key="k"),
    ):
        shard, _ = stolen()
        before = [getattr(shard._state, name)[1].tobytes() for name in PER_KEY]
        known = key_state.known_values(shard._state, 1)
        pairs = shard._state.pairs[known.places].tobytes()
        assert shard.control(record)
        assert before == [getattr(shard._state, name)[1].tobytes() for name in PER_KEY]
        assert shard._state.pairs[key_state.known_values(shard._state, 1).places].tobytes() == pairs


def test_an_unknown_key_changes_nothing():
    """A record about a key of another shard leaves no trace here."""
    shard, _ = stolen()
    before = shard.digest()
    assert not shard.control(Reset(at_us=NOW_US, key="nobody"))
    assert not shard.control(Expected(at_us=NOW_US, key="nobody", network=THIEF))
    assert shard.digest() == before


def test_what_is_expected_until_a_time_is_news_again_afterwards():
    """After its end the source is judged as on its first day."""
    shard, alert = stolen()
    record = said("expected", alert, NOW_US, until_us=NOW_US + 2 * DAY_US)
    shard.control(record)
    during = log_of(thief_rows(NOW_US + DAY_US), owner_rows(NOW_US, 2, seed=4))
    assert scores(shard, during) == []
    assert shard.control(end_of(record))
    after = log_of(thief_rows(NOW_US + 2 * DAY_US + MINUTE_US, routes=12))
    assert max(scores(shard, after)) >= SETTINGS.stolen.threshold


def test_expected_abuse_is_quiet_for_a_week_and_then_usual():
    """The channel opens nothing for seven days of the key's time; STOLEN goes on."""
    shard = Shard(SETTINGS)
    shard.fold(HISTORY)
    walk = log_of(
        (THEFT_US + j * 5_000_000, "k", "10.0.0", "sdk/2", f"GET /v3/p{j % 40}/{j}", 403)
        for j in range(400)
    )
    over = [c.episode for c in shard.fold(walk) if c.episode.channel == "abused"]
    assert over
    at_us = int(walk.ts_us[-1]) + MINUTE_US
    shard.control(about("expected", Alert.of(over[-1]), at_us, PLAIN))
    again = replace(walk, ts_us=walk.ts_us + 60 * MINUTE_US)
    assert scores(shard, again, "abused") == []
    quiet = shard._state.episodes["quiet_cell"][0]
    assert quiet[STOLEN] == 0
    much_later = replace(walk, ts_us=walk.ts_us + 9 * DAY_US, route=walk.route + np.uint64(7))
    assert max(scores(shard, much_later, "abused")) > 0


def test_a_confirmed_thief_is_not_established_by_time():
    """Three weeks of the thief's presence: unconfirmed it is the key's own, confirmed it is not."""

    def after_three_weeks(record):
        shard, alert = stolen()
        if record:
            shard.control(said("confirmed", alert, NOW_US))
        for day in range(1, 22):
            start_us = NOW_US + day * DAY_US
            shard.fold(log_of(thief_rows(start_us, n=6), owner_rows(start_us, 0.9, seed=day)))
        known = key_state.known_values(shard._state, 0)
        networks = known.where(known.kinds == 0)
        texts = [shard._texts.network(v) for v in networks.values.tolist()]
        return int(shard._state.pairs["days"][networks.places[texts.index(THIEF)]])

    assert after_three_weeks(False) >= 3
    assert after_three_weeks(True) <= 1


def test_what_was_confirmed_teaches_nothing():
    """Cells in which the confirmed source is at work leave level and churn as they were."""
    shard, alert = stolen()
    shard.control(said("confirmed", alert, NOW_US))
    shard.fold(log_of(thief_rows(NOW_US + 15 * DAY_US, n=1)))  # past every hold by suspicion
    before = shard._state.novelty["new"][0].copy()
    batch = log_of(thief_rows(NOW_US + 15 * DAY_US + MINUTE_US, routes=30))
    shard.fold(batch)
    shard.fold(log_of(owner_rows(NOW_US + 15 * DAY_US + 60 * MINUTE_US, 0.05, seed=9)))
    assert (shard._state.novelty["new"][0] <= before).all()


def test_withdrawing_a_confirmation_lets_time_establish_the_source():
    """No pair is barred any more."""
    shard, alert = stolen()
    shard.control(said("confirmed", alert, NOW_US))
    assert (shard._state.pairs["mark"] & 8).any()
    shard.control(Withdrawn(at_us=NOW_US + 1, key="k", alert_id=alert.alert_id))
    assert not (shard._state.pairs["mark"] & 8).any()


def test_after_a_reset_a_key_is_new_but_for_its_name():
    """A reset key and a key never seen before go through the same later log alike."""
    later = log_of(owner_rows(NOW_US + MINUTE_US, 6, seed=11))
    later.ident[:] = np.arange(1, len(later) + 1, dtype=np.uint64) << np.uint64(33)
    shard, _ = stolen()
    shard.fold(replace(later, ts_us=np.full(len(later), NOW_US - MINUTE_US)))
    ordinal = int(shard._state.keys["ordinal"][0])
    shard.control(Reset(at_us=NOW_US, key="k"))
    assert len(key_state.known_values(shard._state, 0).places) == 0
    assert int(shard._state.keys["ordinal"][0]) == ordinal
    assert not shard._book.open
    pages = shard._state.pages
    assert (pages["last_cell"][pages["tag"] != 0] < 0).all(), "no object it asked for is remembered"
    shard.fold(later)
    fresh = Shard(SETTINGS)
    fresh.fold(later)
    for name in PER_KEY:
        mine, new = getattr(shard._state, name)[0], getattr(fresh._state, name)[0]
        if name == "keys":
            same = [f for f in mine.dtype.names if f not in ("first_us", "ordinal")]
            assert [f for f in same if not np.array_equal(mine[f], new[f])] == []
        else:
            assert mine.tobytes() == new.tobytes(), name


def test_a_pair_takes_no_more_room_for_its_owner():
    """What tells a key's pairs apart fits into the bytes that alignment leaves."""
    assert PAIR.itemsize == 24


def test_any_key_can_be_reset():
    """Also where hashes fill all 64 bits, and where the key was refused before."""
    rows = [(START_US + i, f"key{i % 40}", "10.0.0", "c/1", "GET /a/b", 200) for i in range(400)]
    batch = batch_of(rows)
    batch.auth[:40] = 2
    shard = Shard(SETTINGS)
    shard.fold(batch)
    for i in range(40):
        assert shard.control(Reset(at_us=NOW_US, key=f"key{i}"))
        assert len(key_state.known_values(shard._state, i).places) == 0
    assert (shard._state.pairs["last_cell"][shard._state.pairs["tag"] != 0] < 0).all()
    assert not shard._state.auth["tries"].any()


def test_a_reset_keeps_the_days_of_hard_facts():
    """A fact told today is not told again because the baseline began anew."""
    shard, _ = stolen()
    shard._state.keys["hard_day"][0] = 20_000
    shard.control(Reset(at_us=NOW_US, key="k"))
    assert shard._state.keys["hard_day"][0].tolist() == [20_000] * 4


@pytest.mark.parametrize("seed", range(4))
def test_batches_shards_and_a_restart_do_not_matter(seed):
    """The same records at the same places: equal candidates and state, however it is run."""
    rng = np.random.default_rng(seed)
    log = EventBatch.concat([HISTORY, THEFT, LATER])
    _, alert = stolen()
    record = [
        said("expected", alert, NOW_US),
        said("confirmed", alert, NOW_US),
        Reset(at_us=NOW_US, key="k"),
        Reset(at_us=NOW_US, key="other"),
    ][seed]
    place = len(HISTORY) + len(THEFT)

    def run(shards, cuts, restart):
        parts = [Shard(SETTINGS) for _ in range(shards)]
        found = []
        for low, high in zip([0, *cuts], [*cuts, len(log)], strict=True):
            if low == place:
                for i, shard in enumerate(parts):
                    shard.control(record, sequence=7)
                    if restart:
                        parts[i] = Shard.from_state(shard.to_state(), SETTINGS)
                        assert parts[i].sequence == 7
            batch = log.take(slice(low, high))
            for i, shard in enumerate(parts):
                found += shard.fold(
                    batch.take(np.flatnonzero(batch.key_lo % np.uint64(shards) == i))
                )
        return sorted(found, key=lambda c: c.order), state_digest(parts)

    reference = run(1, [place], False)
    cuts = sorted({place, *rng.integers(1, len(log), 12).tolist()})
    assert run(1, cuts, True) == reference
    assert run(3, cuts, False) == reference


LEARNING = replace(SETTINGS, learn_from_verdicts=True)


def test_verdicts_change_weights_from_the_day_after_the_next():
    """Given on day D they count for events from 00:00 of D + 2, not a microsecond before."""
    shard = Shard(LEARNING)
    day = START_US // DAY_US
    shares = {"new_network": 4.0}
    for i in range(3):
        record = Expected(
            at_us=START_US + i, key="k", alert_id=f"{i}", channel="stolen", shares=shares
        )
        shard.control(record)
    in_force_us = (day + 2) * DAY_US
    assert shard.factors_at(in_force_us - 1, STOLEN) == PLAIN
    learned = shard.factors_at(in_force_us, STOLEN)
    assert learned[0] < 1.0
    assert learned[1:] == PLAIN[1:]
    again = Shard.from_state(shard.to_state(), LEARNING)
    assert again.factors_at(in_force_us, STOLEN) == learned
    shard.control(Withdrawn(at_us=START_US + DAY_US, key="k", alert_id="0"))
    shard.control(Withdrawn(at_us=START_US + DAY_US, key="k", alert_id="1"))
    shard.control(Withdrawn(at_us=START_US + DAY_US, key="k", alert_id="2"))
    assert shard.factors_at(in_force_us, STOLEN) == learned
    assert shard.factors_at(in_force_us + DAY_US, STOLEN) == PLAIN


def test_a_lesson_counts_for_settled_and_young_keys_alike():
    """Both sets of weights are multiplied by the same factors, in the fold and in the reasons."""
    shard = Shard(LEARNING)
    shares = {"new_network": 4.0}
    shard.control(Expected(at_us=START_US, key="k", alert_id="a", channel="stolen", shares=shares))
    plain, learned = shard._rules.limits[:, STOLEN]
    factors = np.array(shard.factors_at(START_US + 3 * DAY_US, STOLEN))
    assert (learned[:3] == plain[:3]).all(), "floor and threshold stay"
    assert learned[3:] == pytest.approx(plain[3:] * np.tile(factors, 2))
    assert factors.min() < 1.0


def test_verdicts_teach_nothing_unless_asked_to():
    """The switch is off as shipped."""
    shard = Shard(SETTINGS)
    record = Expected(
        at_us=START_US, key="k", alert_id="a", channel="stolen", shares={"new_network": 8.0}
    )
    shard.control(record)
    assert shard.factors_at(START_US + 30 * DAY_US, STOLEN) == PLAIN


def test_scores_use_the_weights_of_their_day():
    """The same theft scores less once its reasons were called expected often enough."""
    _, alert = stolen()
    learned = Shard(LEARNING)
    learned.fold(HISTORY)
    for i in range(20):
        verdict = said("expected", alert, START_US)
        learned.control(msgspec.structs.replace(verdict, alert_id=f"{i}", key="nobody"))
    best = max(
        (c.episode for c in learned.fold(THEFT) if c.episode.channel == "stolen"),
        key=lambda e: e.score,
    )
    assert best.score < alert.score - 1.0
    of_sum = best.score - best.combined_nats
    assert sum(r.nats for r in best.reasons) <= of_sum + 0.01, "reasons are of the same weights"


def test_what_is_remembered_of_verdicts_is_bounded(monkeypatch):
    """Lessons, sets of weights and verdicts that can be taken back have limits."""
    shard = Shard(LEARNING)
    shard.fold(batch_of([(START_US, "k", "10.0.0", "sdk/2", "GET /a/b", 200)]))
    monkeypatch.setattr(Lessons, "_factors", lambda *_: (PLAIN,) * 3)
    for i in range(LESSONS_MAX + 30):
        record = Expected(
            at_us=START_US + i * DAY_US,
            key="k",
            alert_id=f"{i}",
            channel="stolen",
            shares={"new_network": 1.0},
        )
        shard.control(record)
    assert len(shard._controls.lessons.told) == LESSONS_MAX
    assert len(shard._controls.lessons.sets) == SETS_MAX
    assert shard._controls.lessons.sets[-1].since_cell % CELLS_PER_DAY == 0
