"""The fleet stage: caps, young logs, holding, repetition, memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detector.core import fleet_memory
from detector.core.fleet import HOLD_US, FleetStage
from detector.core.fleet_budgets import STRONG, STRONG_AT_FIRST, strong_from
from tests.core.fleet_candidates import (
    BASE,
    DAY_US,
    HOUR_US,
    MONDAY_US,
    SETTINGS,
    WEEK_US,
    candidate,
    in_any_week,
    stream,
)

FAR_US = 1 << 60
WEAK, BLATANT = 1.01 * BASE["stolen"], 1.05 * STRONG_AT_FIRST * BASE["stolen"]


def stage(n: float = 5.0, **more) -> FleetStage:
    fleet = FleetStage(n, settings=SETTINGS, **more)
    fleet.start(MONDAY_US)
    return fleet


def decided(fleet, candidates):
    fleet.offer(candidates)
    return fleet.release(FAR_US)


def spread(n, score, every_us=HOUR_US, **more):
    return [
        candidate(MONDAY_US + (i + 1) * every_us, f"k{i}", score, number=i, **more)
        for i in range(n)
    ]


# --- caps ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 5, 20])
def test_no_seven_days_see_more_than_the_cap(n):
    """A candidate every 15 minutes for 20 days: at most ceil(1.2 N) in any seven of them."""
    fleet = stage(n)
    alerts = decided(fleet, spread(1920, BLATANT, HOUR_US // 4))
    assert in_any_week([a.alerted_us for a in alerts]) == int(np.ceil(1.2 * n - 1e-9))
    assert fleet.held_back == 1920 - len(alerts)


@pytest.mark.parametrize(("n", "weak"), [(1, 2), (4, 5), (5, 5), (20, 23), (40, 46)])
def test_something_is_left_for_what_is_strong(n, weak):
    """From N = 5 on weak candidates cannot use up the week: a blatant one still alerts."""
    fleet = stage(n)
    alerts = decided(fleet, spread(1920, WEAK, HOUR_US // 4))
    assert in_any_week([a.alerted_us for a in alerts]) == weak
    blatant = candidate(MONDAY_US + 20 * DAY_US, "blatant", 1.05 * STRONG * BASE["stolen"])
    assert len(decided(fleet, [blatant])) == (n >= 5)


def test_a_key_speaks_once_a_day():
    """People look at the key already: the other channel's crossing within 24 h is no alert."""
    fleet = stage()
    both = [
        candidate(MONDAY_US + HOUR_US, "k", BLATANT),
        candidate(MONDAY_US + 2 * HOUR_US, "k", 20.0, channel="abused"),
        candidate(MONDAY_US + 3 * HOUR_US, "other", BLATANT),
    ]
    assert [a.key for a in decided(fleet, both)] == ["k", "other"]
    assert (fleet.collapsed, fleet.held_back) == (1, 0)
    next_day = candidate(MONDAY_US + 26 * HOUR_US, "k", 22.0, channel="abused", ordinal=2)
    assert [a.channel for a in decided(fleet, [next_day])] == ["abused"]


def test_one_days_log_shows_six_blatant_thefts():
    """Far over their thresholds, they may use the week's allowance at once: N = 5 allows six."""
    alerts = decided(stage(), spread(6, BLATANT + 4.0, HOUR_US, extra=2.0))
    assert len(alerts) == 6
    assert {a.severity for a in alerts} == {"critical"}


def test_one_days_log_has_one_weak_alert():
    """What is barely over its threshold has ceil(1.2 N d / 7) alerts in the first d days."""
    fleet = stage()
    alerts = decided(fleet, spread(24 * 7 - 1, WEAK))
    for day in range(1, 8):
        until = [a for a in alerts if a.alerted_us <= MONDAY_US + day * DAY_US]
        assert len(until) <= np.ceil(6 * day / 7)
    assert len([a for a in alerts if a.alerted_us <= MONDAY_US + DAY_US]) == 1
    assert len(alerts) == 5


def test_blatant_means_far_over_its_own_threshold():
    """What a cold key must add belongs to its threshold: a raised one needs more."""
    extra = 3.0
    score = STRONG_AT_FIRST * BASE["stolen"] + 0.1
    assert len(decided(stage(), spread(3, score))) == 3
    assert len(decided(stage(), spread(3, score, extra=extra))) == 1
    assert len(decided(stage(), spread(3, score + STRONG_AT_FIRST * extra, extra=extra))) == 3


def test_a_young_log_asks_more_of_what_is_blatant():
    """Thresholds are a guess at first: what is strong after a week is weak on the first day."""
    assert strong_from(MONDAY_US, MONDAY_US) == STRONG_AT_FIRST
    assert strong_from(MONDAY_US + 7 * DAY_US, MONDAY_US) == pytest.approx(STRONG)
    assert strong_from(MONDAY_US + 70 * DAY_US, MONDAY_US) == pytest.approx(STRONG)
    score = 1.05 * STRONG * BASE["stolen"]
    assert len(decided(stage(), spread(3, score))) == 1


def test_what_the_cap_held_back_may_still_alert():
    """An episode that grows when there is room again is an alert, and no longer held back."""
    fleet = stage(1.0)
    assert len(decided(fleet, spread(3, BLATANT))) == 2
    assert fleet.held_back == 1
    later_us = MONDAY_US + 6 * DAY_US + 23 * HOUR_US
    again = candidate(later_us, "k2", BLATANT + 1, ordinal=9, opened_us=MONDAY_US, number=2)
    assert decided(fleet, [again]) == []
    late = replace(again, ts_us=MONDAY_US + 7 * DAY_US + 2 * HOUR_US, ordinal=10)
    assert [a.key for a in decided(fleet, [late])] == ["k2"]
    assert fleet.held_back == 0


# --- thresholds ------------------------------------------------------------------------------


def many(days, per_day, level, seed=1, channel="stolen"):
    rng = np.random.default_rng(seed)
    return [
        candidate(
            MONDAY_US + day * DAY_US + int(t * DAY_US),
            f"k{int(rng.integers(900))}",
            round(float(level + rng.exponential(1.5)), 3),
            channel=channel,
            number=day * 1000 + i,
        )
        for day in range(days)
        for i, t in enumerate(np.sort(rng.random(per_day)))
    ]


def test_shipped_thresholds_apply_for_a_week():
    """The controller's are in force from the first midnight after seven days of log."""
    fleet = stage()
    log = many(9, 20, 4.0)
    last_us = 0
    for c in log:
        fleet.offer([c])
        fleet.release(c.ts_us + 1)
        ours = fleet.thresholds["stolen"]
        assert (ours is None) == (c.ts_us < MONDAY_US + WEEK_US)
        last_us = c.ts_us
    assert last_us > MONDAY_US + 8 * DAY_US
    assert fleet.thresholds["abused"] is None, "it had no episode"


def test_too_few_episodes_set_no_threshold():
    """A small fleet with two episodes a day keeps the shipped thresholds in its first week."""
    fleet = stage()
    decided(fleet, many(8, 2, 4.0))
    assert fleet.thresholds["stolen"] is None


@pytest.mark.parametrize("level", [4.0, 30.0])
def test_the_threshold_follows_the_fleet(level):
    """A noisy fleet gets a higher threshold than shipped, a quiet one a lower."""
    fleet = stage()
    alerts = decided(fleet, many(21, 30, level))
    ours = fleet.thresholds["stolen"]
    assert (ours > BASE["stolen"]) == (level == 30.0)
    assert ours > level
    late = [a for a in alerts if a.alerted_us > MONDAY_US + 8 * DAY_US]
    assert late
    assert all(a.score >= a.threshold for a in late)
    assert {a.severity for a in late} <= {"medium", "high", "critical"}


def test_a_quiet_fleet_can_be_kept_near_the_shipped_threshold():
    """``lowest`` bounds it, whatever N leaves unused; a throttle's never sinks below."""
    log = many(21, 30, 4.0) + many(21, 4, 4.0, seed=2, channel="throttle")
    free, bound = stage(40.0), stage(40.0, lowest=0.8)
    decided(free, log)
    decided(bound, log)
    assert free.thresholds["stolen"] < 0.7 * BASE["stolen"]
    assert bound.thresholds["stolen"] == pytest.approx(0.8 * BASE["stolen"])
    assert free.thresholds["throttle"] == BASE["throttle"]


def test_a_cold_key_must_exceed_the_threshold_in_force_by_its_extra():
    """Its handicap is added to whatever threshold applies."""
    fleet = stage()
    decided(fleet, many(21, 30, 4.0))
    ours, at_us = fleet.thresholds["stolen"], MONDAY_US + 21 * DAY_US - 1
    cold = [
        candidate(at_us, key, ours + over, extra=2.0, number=99)
        for key, over in (("a", 1.9), ("b", 2.1))
    ]
    assert [(a.key, a.threshold) for a in decided(fleet, cold)] == [("b", round(ours + 2, 3))]


def test_channels_have_budgets_of_their_own():
    """A flood of ABUSED episodes hardly moves the threshold of STOLEN."""
    alone, both = stage(), stage()
    decided(alone, many(21, 30, 4.0))
    decided(both, many(21, 30, 4.0) + many(21, 300, 20.0, seed=2, channel="abused"))
    assert alone.thresholds["stolen"] == pytest.approx(both.thresholds["stolen"], abs=2.0)
    assert both.thresholds["abused"] > 20


def test_days_without_data_earn_nothing():
    """After a gap of weeks in the log thresholds are what they were, for a week."""
    fleet = stage()
    decided(fleet, many(15, 30, 4.0))
    decided(fleet, [candidate(MONDAY_US + 15 * DAY_US, "next", 4.0, number=5)])
    before = fleet.thresholds["stolen"]
    for day in range(35, 42):
        decided(fleet, [candidate(MONDAY_US + day * DAY_US, f"k{day}", 4.0, number=5)])
        assert fleet.thresholds["stolen"] == pytest.approx(before, abs=0.7)


def test_quiet_weekends_are_no_gap():
    """Days without an episode count as such: the budget they leave is spent later."""
    fleet = stage(5.0)
    workdays = [c for c in many(70, 12, 4.0) if (c.ts_us - MONDAY_US) // DAY_US % 7 < 5]
    late_us = MONDAY_US + 4 * WEEK_US
    alerts = [a for a in decided(fleet, workdays) if a.alerted_us > late_us]
    assert len(alerts) / 6 == pytest.approx(2.5, rel=0.25), "one channel has half of N"


def test_a_confirmed_alert_costs_nothing():
    """It leaves room under the cap and stops counting in the tail."""
    fleet = stage(1.0)
    first = decided(fleet, spread(3, BLATANT))
    assert len(first) == 2
    fleet.confirm(first[0].alert_id)
    fleet.confirm(first[0].alert_id)
    more = [candidate(MONDAY_US + 9 * HOUR_US + i, f"m{i}", BLATANT) for i in range(3)]
    assert len(decided(fleet, more)) == 1


def test_confirmed_attacks_do_not_raise_the_threshold():
    """Four thefts a day, confirmed at once, leave the threshold where a quiet fleet has it."""
    quiet, taught, untaught = stage(20.0), stage(20.0), stage(20.0)
    noise = many(28, 20, 4.0)
    thefts = [
        candidate(MONDAY_US + (10 + i) * DAY_US + 77, f"v{i}{j}", 22.0, number=4)
        for i in range(14)
        for j in range(3)
    ]
    decided(quiet, noise)
    decided(untaught, noise + thefts)
    for c in sorted(noise + thefts, key=lambda c: c.order):
        taught.offer([c])
        for alert in taught.release(c.ts_us + 1):
            if alert.key.startswith("v"):
                taught.confirm(alert.alert_id)
    at = [f.thresholds["stolen"] for f in (quiet, taught, untaught)]
    assert at[1] == pytest.approx(at[0], abs=0.5)
    assert at[2] > at[0] + 0.5


def test_the_return_period_counts_what_was_as_high():
    """Ten days of log with four episodes of that score or more, itself included: 2.5 days."""
    fleet = stage(40.0)
    before = [
        candidate(MONDAY_US + (i + 1) * DAY_US, f"k{i}", score)
        for i, score in enumerate((15.0, 16.0, 20.0, 21.0, 22.0))
    ]
    last = candidate(MONDAY_US + 10 * DAY_US, "last", 20.0)
    alerts = decided(fleet, [*before, last])
    assert alerts[-1].key == "last"
    assert alerts[-1].return_period_days == 2.5


# --- throttles -------------------------------------------------------------------------------


def test_throttles_come_apart_and_cost_no_alert():
    """Recommendations have a budget of their own, and are never in the list of alerts."""
    fleet = stage()
    limits = spread(30, BASE["throttle"] * 1.3, channel="throttle", nats={"surge": 12.0})
    # far apart, so that they are no storm
    limits = [replace(c, ts_us=MONDAY_US + i * 5 * HOUR_US) for i, c in enumerate(limits)]
    alerts = decided(fleet, limits + spread(6, BLATANT))
    assert len(alerts) == 6
    taken = fleet.take_throttles()
    assert len(taken) == 30
    assert {(t.action, t.severity, t.channel) for t in taken} == {("throttle", "low", "throttle")}
    assert all(t.alerted_us is not None for t in taken)
    assert fleet.take_throttles() == []


def test_throttles_have_a_cap_of_their_own():
    """ceil(1.2 x 10) in any seven days, however many ask for it; alerts keep theirs."""
    fleet = stage(throttles_per_week=10.0)
    limits = spread(200, BASE["throttle"] * 2, 4 * HOUR_US, channel="throttle")
    alerts = decided(fleet, limits + spread(6, BLATANT))
    assert len(alerts) == 6
    assert in_any_week([t.alerted_us for t in fleet.take_throttles()]) == 12


def test_untaken_throttles_survive_a_restart():
    """They are part of the state until somebody took them."""
    fleet = stage()
    decided(fleet, spread(2, 20.0, channel="throttle"))
    again = FleetStage.from_state(fleet.to_state(), 5.0, settings=SETTINGS)
    assert [t.key for t in again.take_throttles()] == ["k0", "k1"]


# --- holding ---------------------------------------------------------------------------------


def probing(at_us, key, score=BLATANT, **more):
    return candidate(at_us, key, score, channel="abused", nats={"probing": score}, **more)


def test_a_lone_candidate_is_decided_at_once():
    """No other key shows the same: the alert is as of the crossing event."""
    at_us = MONDAY_US + HOUR_US
    assert [a.alerted_us for a in decided(stage(), [probing(at_us, "a")])] == [at_us]


def test_a_candidate_in_company_waits_a_minute():
    """When another key shows the same signal, the alert comes 60 s later, with the newest row."""
    fleet, at_us = stage(), MONDAY_US + HOUR_US
    fleet.offer([probing(at_us, "a", 8.0), probing(at_us + 1000, "b")])
    fleet.offer([probing(at_us + 2000, "b", BLATANT + 2, ordinal=2, opened_us=at_us + 1000)])
    due_us = at_us + 1000 + HOLD_US
    assert fleet.release(due_us) == []
    [alert] = fleet.release(due_us + 1)
    assert (alert.key, alert.alerted_us, alert.score) == ("b", due_us, BLATANT + 2)


def test_nobody_waits_when_nothing_more_comes():
    """On a log that stops, what is held is decided."""
    fleet, at_us = stage(), MONDAY_US + HOUR_US
    fleet.offer([probing(at_us, "a", 8.0), probing(at_us + 1000, "b")])
    assert fleet.release(at_us + 2000) == []
    assert [a.key for a in fleet.release(at_us + 2000, idle=True)] == ["b"]


def test_evidence_of_its_own_does_not_wait():
    """A theft that stands without the shared signal is not held."""
    at_us = MONDAY_US + HOUR_US
    theft = candidate(at_us + 9, "b", 30.0, nats={"new_network": 15.0, "foreign_mix": 15.0})
    company = candidate(at_us, "a", 10.0, nats={"foreign_mix": 10.0})
    assert [a.alerted_us for a in decided(stage(), [company, theft])] == [at_us + 9]


# --- repetition, order, memory ---------------------------------------------------------------


def mixed_log(seed=3, weeks=3):
    """Streams of all channels with storms, campaigns and releases in them."""
    log = stream(seed, "exponential", 60, weeks, "stolen")
    log += stream(seed, "saturating", 60, weeks, "abused")
    log += stream(seed, "pareto", 80, weeks, "throttle")
    at_us = MONDAY_US + 12 * DAY_US
    log += [probing(at_us + i * 10**6, f"s{i % 60}", 5.0 + i / 9, ordinal=i) for i in range(180)]
    log += [
        candidate(
            at_us + DAY_US + i * 10**7,
            f"c{i}",
            18.0,
            nats={"new_network": 6.0, "foreign_mix": 9.0},
            network="203.0.113.0/24",
            client="curl/8",
        )
        for i in range(20)
    ]
    return sorted(log, key=lambda c: c.order)


def test_any_order_and_any_batches_give_the_same():
    """Candidates of 1, 4 or 12 shards, offered in any batches, give the same alerts."""
    log = mixed_log()
    whole = stage(10.0)
    expected = decided(whole, log)
    assert len(expected) > 15
    for shards in (1, 4, 12):
        fleet, alerts = stage(10.0), []
        for begin in range(0, len(log), 257):
            part = log[begin : begin + 257]
            for shard in range(shards):
                fleet.offer([c for c in part if hash_of(c.episode.key) % shards == shard])
            alerts += fleet.release(part[-1].ts_us)
        alerts += fleet.release(FAR_US)
        assert alerts == expected
        assert fleet.to_state() == whole.to_state()


def hash_of(key):
    return sum(map(ord, key))


def test_repeated_candidates_change_nothing():
    """Offered again after a restore, at any point, they raise nothing and move no counter."""
    log = mixed_log()
    whole = decided(stage(10.0), log)
    for cut in (len(log) // 3, 2 * len(log) // 3, len(log)):
        fleet = stage(10.0)
        fleet.offer(log[:cut])
        alerts = fleet.release(log[cut - 1].ts_us)
        again = FleetStage.from_state(fleet.to_state(), 10.0, settings=SETTINGS)
        again.offer(log[:cut])
        alerts += again.release(log[cut - 1].ts_us)
        state = again.to_state()
        again.offer(log[max(0, cut - 500) : cut - 1])
        assert again.release(log[cut - 1].ts_us) == []
        assert again.to_state() == state
        again.offer(log[cut:])
        alerts += again.release(FAR_US)
        assert alerts == whole


def test_requests_that_do_not_count_can_raise_an_episode():
    """Refused requests share their key's ordinal: a higher score is a new candidate."""
    fleet, at_us = stage(), MONDAY_US + HOUR_US
    rows = [
        candidate(at_us + i, "k", score, channel="abused", opened_us=at_us)
        for i, score in enumerate((5.0, 8.0, 12.0))
    ]
    assert [a.score for a in decided(fleet, rows)] == [12.0]
    assert decided(fleet, rows) == []


def test_a_restored_stage_goes_on_as_if_nothing_had_happened():
    """State bytes in the middle of a storm, a hold and a day: the rest comes out the same."""
    log = mixed_log()
    expected = decided(stage(10.0), log)
    fleet, alerts = stage(10.0), []
    for begin in range(0, len(log), 97):
        fleet = FleetStage.from_state(fleet.to_state(), 10.0, settings=SETTINGS)
        fleet.offer(log[begin : begin + 97])
        alerts += fleet.release(log[min(begin + 96, len(log) - 1)].ts_us)
    assert alerts + fleet.release(FAR_US) == expected


def test_another_budget_applies_to_a_restored_stage():
    """N is configuration, not state: after a restart the new cap holds."""
    fleet = stage(5.0)
    assert len(decided(fleet, spread(20, BLATANT))) == 6
    again = FleetStage.from_state(fleet.to_state(), 10.0, settings=SETTINGS)
    more = [candidate(MONDAY_US + 30 * HOUR_US + i, f"m{i}", BLATANT) for i in range(20)]
    assert len(decided(again, more)) == 6


def test_memory_is_bounded(monkeypatch):
    """Past the cap the lowest of what is over are forgotten; the tail keeps its top."""
    monkeypatch.setattr(fleet_memory, "EPISODES_MAX", 1000)
    fleet = stage()
    log = many(30, 60, 4.0)
    decided(fleet, log)
    memory = fleet._memory
    assert len(memory.entries) <= 1000
    highest = sorted(c.episode.score for c in log)[-20:]
    kept = sorted(e.score for e in memory.entries.values())[-20:]
    assert kept == highest


def test_nothing_outlives_its_window():
    """Weeks after the last candidate the state is as small as at the beginning."""
    fleet = stage(10.0)
    decided(fleet, mixed_log())
    fleet.take_throttles()
    full = len(fleet.to_state())
    decided(
        fleet, [candidate(MONDAY_US + (70 + i) * DAY_US, "late", 4.0, number=i) for i in (0, 9)]
    )
    assert len(fleet.to_state()) < full / 20
