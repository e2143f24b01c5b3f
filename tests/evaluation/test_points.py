"""What one alert is, for episodes and for series of scores."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from detector.core.episodes import Actor, Episode, Reason
from replay.evaluation.points import (
    ABUSED,
    ALERT_MAX_US,
    HARD,
    QUIET_US,
    STOLEN,
    THROTTLE,
    alerts_of_episodes,
    notes_of_episodes,
    points_of_episodes,
    points_of_series,
)
from tests.evaluation.helpers import DAY_US, HOUR_US, at, level, points, stolen


def series(*rows):
    key, hour, score = (np.array(c) for c in zip(*rows, strict=True))
    return points_of_series(key, (hour * HOUR_US).astype(np.int64), score.astype(float))


def raised(found):
    return list(zip(found.key.tolist(), (found.ts_us // HOUR_US).tolist(), strict=True))


def test_a_unit_alerts_at_its_first_point_at_or_above_the_threshold():
    """The first maximum that reaches it counts, equality included, and once per unit."""
    made = points(stolen("b", (5, 3.0), (6, 4.0), (9, 7.0)), stolen("a", (1, 3.9)))
    found = made.alerts(level(4.0))
    assert found.key.tolist() == [1]
    assert found.ts_us.tolist() == [at(6)]


def test_alerts_come_in_order_of_time():
    """Whatever the order of units, the judge sees alerts as they would have been raised."""
    made = points(stolen("b", (5, 9.0)), stolen("a", (1, 9.0)), stolen("c", (3, 9.0)))
    assert made.alerts(level(1.0)).key.tolist() == [0, 2, 1]


def test_each_channel_has_its_threshold():
    """A threshold of infinity silences a channel; facts speak at any threshold of others."""
    made = points(
        ("a", STOLEN, (1, 5.0)),
        ("b", ABUSED, (2, 5.0)),
        ("c", THROTTLE, (3, 5.0)),
        ("d", HARD, (4, 1.0)),
    )
    found = made.alerts(np.array([5.0, 6.0, 5.0, -np.inf]))
    assert found.channel.tolist() == [STOLEN, THROTTLE, HARD]
    assert made.alerts(level(np.inf, hard=np.inf)).key.tolist() == []


def test_scores_within_a_day_are_one_alert():
    """A pause of exactly 24 hours keeps the alert going; a longer one ends it."""
    assert raised(series((0, 0, 5), (0, 24, 5), (0, 48.1, 5)).alerts(level(5.0))) == [
        (0, 0),
        (0, 48),
    ]


def test_scores_below_the_threshold_do_not_keep_an_alert_going():
    """What counts as silence depends on the threshold."""
    rows = [(0, 0, 9), (0, 20, 4), (0, 40, 9)]
    assert raised(series(*rows).alerts(level(4.0))) == [(0, 0)]
    assert raised(series(*rows).alerts(level(9.0))) == [(0, 0), (0, 40)]


def test_a_score_that_stays_high_alerts_again_after_a_week():
    """An alert lasts seven days at most, counted from when it was raised."""
    rows = [(0, hour, 5) for hour in range(0, 24 * 15 + 1, 12)]
    assert raised(series(*rows).alerts(level(5.0))) == [(0, 0), (0, 7 * 24 + 12), (0, 15 * 24)]


def test_keys_do_not_silence_each_other():
    """Cool-down is a key's own; rows may come in any order and NaN is no score."""
    rows = [(1, 3, 5), (0, 2, 5), (1, 1, np.nan), (0, 1, 1)]
    assert raised(series(*rows).alerts(level(5.0))) == [(0, 2), (1, 3)]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 600), st.integers(0, 3)), max_size=60),
    st.integers(0, 4),
)
def test_a_series_alerts_as_the_plain_loop_says(rows, tau):
    """The vectorised rule equals the rule as one would write it down."""
    expected, open_us, last_us = [], {}, {}
    for key, hour, score in sorted(rows):
        ts_us = hour * HOUR_US
        if score < tau:
            continue
        over = key in open_us and ts_us - last_us[key] <= QUIET_US
        if not (over and ts_us - open_us[key] <= ALERT_MAX_US):
            open_us[key] = ts_us
            expected.append((ts_us, key))
        last_us[key] = ts_us
    made = points_of_series(
        np.array([r[0] for r in rows], np.int32),
        np.array([r[1] for r in rows], np.int64) * HOUR_US,
        np.array([r[2] for r in rows], float),
    )
    found = made.alerts(level(float(tau)))
    assert sorted(zip(found.ts_us.tolist(), found.key.tolist(), strict=True)) == sorted(expected)


def episode(key, channel, curve, **more):
    reasons = (Reason("new_client", 3.0, 1, 0.1, ""), Reason("volume", 2.0, 1, 0.1, ""))
    given = {
        "alert_id": key,
        "key": key,
        "owner": None,
        "channel": channel,
        "severity": "high",
        "state": "closed",
        "opened_us": 0,
        "first_suspicious_us": 0,
        "peak_us": 0,
        "last_seen_us": 0,
        "closed_us": 0,
        "alerted_us": None,
        "score": 9.0,
        "threshold": 8.0,
        "return_period_days": None,
        "reasons": reasons,
        "actor": None,
        "requests_leaked": 0,
        "bytes_leaked": 0,
        "action": "none",
        "simulated": True,
        "curve": tuple((t, s, 0, 0) for t, s in curve),
    }
    return Episode(**(given | more))


def test_episodes_become_points_with_what_they_say():
    """One unit an episode, one point a maximum; a fact is of the channel HARD, ``*`` of no key."""
    fact = (Reason("out_of_grant", 20.0, 1, 0, ""),)
    actor = Actor("10.9.9.0/24", "curl/8", 0, 3)
    episodes = [
        episode("a", "stolen", [(1, 4.0), (2, 6.0)], actor=actor),
        episode("b", "abused", [(3, 20.0)], reasons=fact),
        episode("*", "throttle", [(5, 7.0)]),
    ]
    made = points_of_episodes(episodes, {"a": 0, "b": 1})
    assert made.unit.tolist() == [0, 0, 1, 2]
    assert made.key.tolist() == [0, 0, 1, -1]
    assert made.channel.tolist() == [STOLEN, STOLEN, HARD, THROTTLE]
    assert made.ts_us.tolist() == [1, 2, 3, 5]
    notes = notes_of_episodes(episodes)
    assert notes[0].signals == ("new_client", "volume")
    assert [n.network for n in notes] == ["10.9.9.0/24", None, None]


def test_alerts_that_were_raised_are_taken_as_they_are():
    """Their time is when they were raised, their number the place in the list."""
    raised_alerts = [
        episode("b", "abused", [(3, 9.0)], alerted_us=2 * DAY_US),
        episode("a", "stolen", [(1, 9.0)], alerted_us=DAY_US),
    ]
    found = alerts_of_episodes(raised_alerts, {"a": 0, "b": 1})
    assert found.unit.tolist() == [1, 0]
    assert found.channel.tolist() == [STOLEN, ABUSED]
