"""Common causes: storms, campaigns, client releases and changed logs are told once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detector.core.fleet import FleetStage
from detector.core.fleet_storms import usual_keys
from tests.core.fleet_candidates import (
    BASE,
    DAY_US,
    HOUR_US,
    MONDAY_US,
    SETTINGS,
    WEEK_US,
    candidate,
)

FAR_US = 1 << 60
MINUTE_US = 60_000_000
NOON_US = MONDAY_US + 12 * HOUR_US
OVER = BASE["stolen"] + 1.0


def stage(n: float = 20.0) -> FleetStage:
    """A stage over a log of four weeks, in which nothing stood out."""
    fleet = FleetStage(n, settings=SETTINGS)
    fleet.start(MONDAY_US - 4 * WEEK_US)
    return fleet


def decided(fleet, candidates):
    fleet.offer(candidates)
    return fleet.release(FAR_US)


def rising(at_us, key, nats, steps=4, **more):
    """An episode that rises to its full evidence within three minutes."""
    rows = []
    for i in range(steps):
        part = {s: round(n * (i + 1) / steps, 3) for s, n in nats.items()}
        score = round(sum(part.values()), 3)
        if score >= 4.0:
            row_us = at_us + i * MINUTE_US
            rows.append(
                candidate(row_us, key, score, nats=part, ordinal=i + 1, opened_us=at_us, **more)
            )
    return rows


def notices(alerts):
    return [a for a in alerts if a.key == "*"]


def text_of(alert):
    return alert.reasons[0].text


# --- storms ----------------------------------------------------------------------------------


def outage(n, every_us=2_000_000, at_us=NOON_US, **more):
    return [
        c
        for i in range(n)
        for c in rising(
            at_us + i * every_us,
            f"k{i}",
            {"probing": 11.5},
            channel="abused",
            owner=f"o{i % 40}",
            **more,
        )
    ]


@pytest.mark.parametrize("n", [1.0, 5.0, 40.0])
def test_a_storm_of_200_keys_is_one_notice(n):
    """200 keys rise over the threshold by one signal within minutes: one row, no alert."""
    fleet = stage(n)
    [notice] = decided(fleet, outage(200))
    assert (notice.key, notice.severity, notice.action) == ("*", "medium", "notify")
    assert notice.reasons[0].signal == "common_cause"
    assert "keys of" in text_of(notice)
    assert "at once: probing" in text_of(notice)
    assert "outage" in text_of(notice)
    assert (fleet.collapsed, fleet.notices, fleet.held_back) == (200, 1, 0)


def test_a_storm_that_strikes_at_once_is_at_most_one_alert_and_one_notice():
    """200 keys jump over the threshold within a second, without any sign before."""
    jumps = [
        candidate(NOON_US + i * 5000, f"k{i}", 14.0, channel="abused", nats={"probing": 14.0})
        for i in range(200)
    ]
    alerts = decided(stage(), jumps)
    assert len(notices(alerts)) == 1
    assert len(alerts) <= 2


def test_eight_keys_are_no_storm():
    """Below the least size each key is an alert."""
    alerts = decided(stage(), outage(8))
    assert sorted(a.key for a in alerts) == [f"k{i}" for i in range(8)]


def test_a_storm_needs_an_hour():
    """The same 60 keys, one every half hour, are alerts up to the cap and no notice."""
    alerts = decided(stage(), outage(60, HOUR_US // 2))
    assert len(alerts) == 24
    assert notices(alerts) == []


def test_a_thief_in_a_storm_is_still_an_alert():
    """Evidence of another kind stands although the storm's signal is left out."""
    thief = candidate(
        NOON_US + 5 * MINUTE_US,
        "victim",
        30.0,
        nats={"new_network": 6.0, "foreign_mix": 9.0, "probing": 15.0},
        network="203.0.113.0/24",
        client="curl/8",
    )
    alerts = decided(stage(), [*outage(100), thief])
    assert [a.key for a in alerts if a.key != "*"] == ["victim"]
    assert len(notices(alerts)) == 1


def test_what_is_usual_is_no_storm():
    """A fleet in which ten keys an hour come near by this signal needs far more for a storm."""
    rng, days = np.random.default_rng(1), 6
    fleet, began_us = FleetStage(5.0, settings=SETTINGS), MONDAY_US - days * DAY_US
    fleet.start(began_us)
    hours = np.sort(rng.uniform(0, 24 * days, 240 * days))
    usual = [
        candidate(began_us + int(t * HOUR_US), f"u{i}", 7.0, channel="abused", nats={"probing": 7})
        for i, t in enumerate(hours)
    ]
    decided(fleet, usual)
    storm = fleet._memory.causes.storms.by_signal["probing"]
    assert usual_keys(storm.hours, MONDAY_US, began_us) > 7
    alerts = decided(fleet, outage(40, at_us=MONDAY_US))
    assert notices(alerts) == []
    assert len(alerts) + fleet.held_back == 40


def test_one_notice_a_storm_and_another_for_the_next_day():
    """A storm is told once while it lasts; one of a later day is told again."""
    later = [
        replace(c, episode=replace(c.episode, alert_id=f"{c.episode.alert_id}x"))
        for c in outage(50, at_us=NOON_US + 2 * DAY_US)
    ]
    alerts = decided(stage(), outage(300, 10_000_000) + later)
    assert [(a.alerted_us - MONDAY_US) // DAY_US for a in notices(alerts)] == [0, 2]
    assert len(alerts) <= 3, "the first key of the second storm may speak before it is one"


def test_a_storm_of_two_signals_is_one_notice():
    """Retries bring volume and errors at once: one cause, one row."""
    log = [
        c
        for i in range(80)
        for c in rising(
            NOON_US + i * 3_000_000, f"k{i}", {"probing": 8.0, "volume": 5.0}, channel="abused"
        )
    ]
    assert len(decided(stage(), log)) == 1


def test_storms_do_not_blind_the_budget():
    """Episodes a storm explains do not count in the tail: the threshold stays where it was."""
    rng = np.random.default_rng(2)
    noise = [
        candidate(
            MONDAY_US + int(t * DAY_US),
            f"n{i}",
            round(4 + float(rng.exponential(1.5)), 3),
            channel="abused",
        )
        for i, t in enumerate(np.sort(rng.uniform(0, 16, 400)))
    ]
    calm, struck = stage(5.0), stage(5.0)
    decided(calm, noise)
    decided(struck, sorted(noise + outage(200, at_us=NOON_US + 9 * DAY_US), key=lambda c: c.order))
    before, after = calm.thresholds["abused"], struck.thresholds["abused"]
    assert after == pytest.approx(before, abs=0.7)


def test_throttles_in_a_storm_are_left_out_silently():
    """A marketing campaign throttles nobody, and nobody is told of what was not done."""
    log = [
        c
        for i in range(100)
        for c in rising(NOON_US + i * 3_000_000, f"k{i}", {"surge": 12.0}, channel="throttle")
    ]
    fleet = stage()
    assert decided(fleet, log) == []
    assert fleet.take_throttles() == []
    assert fleet.collapsed == 100


# --- one network on many keys ----------------------------------------------------------------

LOOT = {"new_network": 5.0, "new_client": 4.0, "foreign_mix": 6.0}


def visit(i, nats, at_us, network="203.0.113.0/24", client="curl/8", owner=True, **more):
    return rising(
        at_us,
        f"k{i}",
        nats,
        network=network,
        client=client,
        owner=f"o{i // 2}" if owner else None,
        **more,
    )


@pytest.mark.parametrize("owner", [True, False])
@pytest.mark.parametrize("every_us", [1_000_000, MINUTE_US, 20 * MINUTE_US])
def test_a_campaign_of_30_keys_is_at_most_four_rows(every_us, owner):
    """Three keys speak for themselves, then one notice for all, however fast they fall."""
    fleet = stage()
    log = [c for i in range(30) for c in visit(i, LOOT, NOON_US + i * every_us, owner=owner)]
    alerts = decided(fleet, log)
    assert len(alerts) <= 4
    [notice] = notices(alerts)
    assert (notice.severity, notice.channel, notice.action) == ("high", "stolen", "block_actor")
    assert notice.reasons[0].signal == "campaign"
    assert text_of(notice).startswith("campaign: network 203.0.113.0/24 on ")
    assert notice.actor is not None
    assert notice.actor.network == "203.0.113.0/24"
    assert fleet.held_back == 0
    assert fleet.collapsed >= 26


def test_each_further_key_is_evidence():
    """Twelve thefts that no key's own evidence would show: the campaign lifts them over."""
    quiet = {"new_network": 4.0, "foreign_mix": 4.0}
    alone = [c for i in range(12) for c in visit(i, quiet, NOON_US, network=f"198.51.{i}.0/24")]
    assert decided(stage(), alone) == []
    log = [c for i in range(12) for c in visit(i, quiet, NOON_US + i * 5 * MINUTE_US)]
    alerts = decided(stage(), log)
    assert len(notices(alerts)) == 1
    own = [a for a in alerts if a.key != "*"]
    assert 1 <= len(own) <= 3
    for alert in own:
        added = next(r for r in alert.reasons if r.signal == "campaign")
        assert added.nats > 5.0
        assert alert.score == pytest.approx(sum(r.nats for r in alert.reasons))
        assert alert.score >= alert.threshold


def test_four_keys_of_two_owners_prove_no_campaign():
    """Too few keys, or one owner's: nothing is added to their evidence."""
    quiet = {"new_network": 4.0, "foreign_mix": 4.0}
    few = [c for i in range(4) for c in visit(i, quiet, NOON_US + i * MINUTE_US)]
    assert decided(stage(), few) == []
    family = [
        c
        for i in range(12)
        for c in rising(
            NOON_US + i * MINUTE_US, f"k{i}", quiet, network="203.0.113.0/24", owner="acme"
        )
    ]
    assert decided(stage(), family) == []


def test_a_shared_egress_is_told_once():
    """A network that brings nothing else: three alerts and one notice, and no campaign."""
    log = [
        c
        for i in range(15)
        for c in visit(i, {"new_network": 8.0, "actor_volume": 7.0}, NOON_US + i * 10 * MINUTE_US)
    ]
    alerts = decided(stage(), log)
    assert len(alerts) == 4
    [notice] = notices(alerts)
    assert notice.reasons[0].signal == "common_cause"
    assert "proxy, office or egress" in text_of(notice)


def test_a_thief_behind_a_shared_egress_is_still_an_alert():
    """Evidence beyond the network stands."""
    log = [
        c
        for i in range(15)
        for c in visit(i, {"new_network": 8.0, "actor_volume": 7.0}, NOON_US + i * 10 * MINUTE_US)
    ]
    late_us = NOON_US + 5 * HOUR_US
    thief = visit(99, {"new_network": 6.0, "foreign_mix": 9.0, "new_area": 8.0}, late_us)
    assert decided(stage(), log + thief)[-1].key == "k99"


def test_where_keys_often_share_new_networks_it_takes_more():
    """In a fleet whose new networks usually reach three keys, five are worth little."""
    fleet = stage(40.0)
    crowd = [
        candidate(
            MONDAY_US + d * HOUR_US + j,
            f"k{d}-{j}",
            5.0,
            nats={"new_network": 5.0},
            network=f"198.51.{d}.0/24",
        )
        for d in range(100)
        for j in range(3)
    ]
    decided(fleet, crowd)
    networks = fleet._memory.causes.networks
    assert networks._usual() > 1.5
    assert networks._nats(5) == 0.0
    assert stage()._memory.causes.networks._nats(5) > 6.0


def test_a_campaign_is_told_when_the_allowance_is_used_up():
    """Its notice comes beyond the cap, at most one a day."""
    fleet = stage(1.0)
    spent = [candidate(NOON_US - HOUR_US + i, f"x{i}", 20.0) for i in range(5)]
    assert len(decided(fleet, spent)) == 2
    log = [
        c
        for network in ("203.0.113.0/24", "198.51.100.0/24")
        for i in range(30)
        for c in visit(i, LOOT, NOON_US + i * MINUTE_US, network=network, number=len(network))
    ]
    alerts = decided(fleet, sorted(log, key=lambda c: c.order))
    assert [a.key for a in alerts] == ["*"]


# --- client releases -------------------------------------------------------------------------

UPGRADE = {"new_client": 6.0, "new_route": 4.0, "actor_volume": 5.0}


def release(n, every_us=10 * MINUTE_US, client="acme-sdk/3", nats=UPGRADE):
    return [
        c
        for i in range(n)
        for c in visit(i, nats, NOON_US + i * every_us, f"10.0.{i}.0/24", client)
    ]


def test_a_client_release_is_one_low_notice():
    """Forty keys get a new version within hours: the first few may alert, then one row says why."""
    fleet = stage()
    alerts = decided(fleet, release(40))
    [notice] = notices(alerts)
    assert (notice.severity, notice.channel) == ("low", "stolen")
    assert "client acme-sdk/3 is new on" in text_of(notice)
    assert len(alerts) <= 6
    assert fleet.collapsed >= 30


def test_a_release_that_alerts_nobody_is_not_told():
    """Forty keys that stay below the threshold anyway: silence."""
    assert decided(stage(), release(40, nats={"new_client": 6.0, "new_route": 3.0})) == []


def test_a_thief_with_the_new_version_is_still_an_alert():
    """The client is explained, the network and the areas are not."""
    thief = visit(
        77,
        {"new_client": 6.0, "new_network": 6.0, "foreign_mix": 9.0},
        NOON_US + 7 * HOUR_US,
        "203.0.113.0/24",
        "acme-sdk/3",
    )
    assert decided(stage(), release(40) + thief)[-1].key == "k77"


def test_one_tool_on_many_stolen_keys_is_no_release():
    """Forty keys, one tool, each through a proxy of its own: nothing is explained away."""
    fleet = stage(5.0)
    log = [
        c
        for i in range(40)
        for c in visit(i, LOOT, NOON_US + i * 20 * MINUTE_US, f"198.51.{i}.0/24", "tool/1")
    ]
    alerts = decided(fleet, log)
    assert len(alerts) == 5
    assert fleet.notices == 0
    assert fleet.held_back == 35


def test_popularity_bounds_the_evidence():
    """Of K keys that stand out today c show the client: at most log(1 + K / c) nats remain."""
    fleet = stage()
    decided(fleet, release(20, nats={"new_client": 6.0}))
    causes = fleet._memory.causes
    last = release(21, nats={"new_client": 6.0})[-1]
    sight = fleet._sight(last, last.ts_us)
    left = 6.0 + causes.clients.judge(sight, 20).nats
    assert left == pytest.approx(np.log(1 + 20 / 20))
    assert 6.0 + causes.clients.judge(sight, 10**6).nats == pytest.approx(6.0)


# --- the log itself --------------------------------------------------------------------------


def test_a_log_that_lost_the_clients_address_is_one_notice():
    """All keys appear behind one network within the hour: the log changed, nobody was robbed."""
    log = [
        c
        for i in range(120)
        for c in visit(
            i, {"new_network": 6.0}, NOON_US + i * 5_000_000, "10.9.9.0/24", "sdk/2", steps=2
        )
    ]
    fleet = stage(5.0)
    [notice] = decided(fleet, log)
    assert text_of(notice).startswith("data_quality: the log changed: ")
    assert "X-Forwarded-For" in text_of(notice)


def test_a_log_that_lost_the_user_agent_is_one_notice():
    """All keys show the client ``unknown`` within the hour."""
    fleet = stage(5.0)
    alerts = decided(fleet, release(120, 5_000_000, "unknown", {"new_client": 6.0}))
    [notice] = alerts
    assert text_of(notice).startswith("data_quality: the log changed: ")
    assert "user agent" in text_of(notice)


def test_a_path_prefix_is_one_notice():
    """All keys call only paths that are new to them within the hour."""
    log = [
        c
        for i in range(300)
        for c in rising(
            NOON_US + i * 4_000_000,
            f"k{i}",
            {"new_area": 7.0, "foreign_mix": 8.0},
            network=f"10.0.{i}.0/24",
            client="sdk/2",
        )
    ]
    [notice] = decided(stage(), log)
    assert "path" in text_of(notice)


# --- all of it -------------------------------------------------------------------------------


def test_windows_are_bounded():
    """A flood of keys, networks, clients and owners leaves windows at their caps."""
    fleet = stage()
    log = [
        candidate(
            NOON_US + i * 1000,
            f"k{i}",
            9.0,
            nats={"new_network": 3.0, "new_client": 3.0, "foreign_mix": 3.0},
            network=f"n{i % 3000}",
            client=f"c{i % 2000}",
        )
        for i in range(6000)
    ]
    log += [
        candidate(NOON_US + HOUR_US // 2 + i, f"m{i}", 9.0, nats={"new_network": 9.0}, network="x")
        for i in range(1000)
    ]
    decided(fleet, log)
    causes = fleet._memory.causes
    assert len(causes.networks.fans) <= 1024
    assert len(causes.networks.fans["x"].window) == 256
    assert len(causes.clients.windows) <= 512
    assert all(len(s.window) <= 4096 for s in causes.storms.by_signal.values())


def test_everything_is_forgotten_in_a_week():
    """A storm, a campaign and a release of eight days ago leave no window behind."""
    fleet = stage()
    decided(fleet, sorted(outage(50) + release(30), key=lambda c: c.order))
    decided(fleet, [candidate(NOON_US + WEEK_US + i * DAY_US, "z", 4.0, number=i) for i in (1, 2)])
    causes = fleet._memory.causes
    assert list(causes.week) == ["z"]
    assert causes.clients.windows == {}
    assert causes.networks.fans == {}
    assert all(not s.window and not s.hours for s in causes.storms.by_signal.values())
