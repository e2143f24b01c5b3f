"""A lane: arrival order, back-off per alert, one probe while the receiver is down."""

from __future__ import annotations

import random

import pytest

from detector.lane import BACKOFF_MAX_S, BACKOFF_MIN_S, RETRY_AFTER_MAX_S, Lane


def make_lane(queue_max: int = 100) -> Lane:
    return Lane(random.Random(7), queue_max)


def test_ids_come_out_in_order_and_once():
    """A queued id is not queued again before it is done."""
    lane = make_lane()
    assert [lane.add(i) for i in "abca"] == [True, True, True, False]
    assert [lane.take(0)[0] for _ in range(4)] == ["a", "b", "c", None]
    assert not lane.add("a")  # still being delivered
    lane.succeeded("a", 0)
    assert lane.add("a")


def test_an_empty_lane_waits_for_an_addition():
    """(None, None) means: until somebody adds."""
    assert make_lane().take(5) == (None, None)


def test_backoff_grows_with_full_jitter_between_its_limits():
    """Between 1 s and a ceiling that doubles up to 15 min; different seeds differ."""
    lane = make_lane()
    lane.add("a")
    now, waits = 0.0, []
    for _ in range(40):
        alert_id, _ = lane.take(now)
        assert alert_id == "a"
        lane.failed("a", now, None)
        assert lane.take(now)[0] is None
        waits.append(lane.take(now)[1])
        now += waits[-1]
    assert min(waits) >= BACKOFF_MIN_S
    assert max(waits) <= BACKOFF_MAX_S
    assert waits[0] <= 2
    assert waits[1] <= 4
    assert max(waits[12:]) > 450
    assert len(set(waits)) == 40


def test_one_bad_alert_does_not_hold_up_the_others():
    """While the bad one backs off, later ones go out at once."""
    lane = make_lane()
    lane.add("bad")
    now = 0.0
    for n in range(20):
        if lane.take(now)[0] == "bad":
            lane.failed("bad", now, None)
        lane.add(f"good{n}")
        assert lane.take(now)[0] == f"good{n}"
        lane.succeeded(f"good{n}", now)
        now += 1000


def test_a_receiver_that_is_down_is_probed_not_hammered():
    """1,000 alerts waiting for a day cost a few hundred attempts, not a thousand each round."""
    lane = make_lane(2000)
    for n in range(1000):
        lane.add(f"{n:04}")
    now, attempts = 0.0, 0
    while now < 86_400:
        alert_id, wait_s = lane.take(now)
        if alert_id is None:
            now += wait_s
            continue
        attempts += 1
        lane.failed(alert_id, now, None)
    assert 86_400 / BACKOFF_MAX_S <= attempts < 300


def test_the_first_success_after_a_failure_releases_all():
    """Nobody sits out a 15 minute back-off when the receiver is back."""
    lane = make_lane()
    for n in range(50):
        lane.add(f"{n:02}")
    now = 0.0
    for _ in range(30):
        alert_id, wait_s = lane.take(now)
        if alert_id is None:
            now += wait_s
        else:
            lane.failed(alert_id, now, None)
    alert_id, wait_s = lane.take(now)
    if alert_id is None:
        now += wait_s
        alert_id, _ = lane.take(now)
    lane.succeeded(alert_id, now)
    rest = [lane.take(now)[0] for _ in range(49)]
    assert None not in rest
    assert len(set(rest)) == 49


@pytest.mark.parametrize(("asked_s", "waits_s"), [(1, 1), (30, 30), (3600, 3600), (10**8, 3600)])
def test_a_receivers_wish_pauses_the_whole_lane(asked_s, waits_s):
    """Retry-After counts for every alert, up to an hour."""
    lane = make_lane()
    lane.add("a")
    lane.add("b")
    lane.failed(lane.take(0)[0], 0, asked_s)
    assert lane.take(0) == (None, waits_s)
    assert lane.take(waits_s - 0.5)[0] is None
    assert {lane.take(waits_s)[0], lane.take(waits_s)[0]} == {"a", "b"}
    assert RETRY_AFTER_MAX_S == 3600


def test_a_clock_set_back_does_not_stop_the_lane_for_long():
    """A pause noted before a jump of a year ends within the longest pause there is."""
    lane = make_lane()
    lane.add("a")
    lane.failed(lane.take(4e7)[0], 4e7, 30)
    assert lane.take(0)[1] <= RETRY_AFTER_MAX_S


def test_beyond_the_limit_ids_are_left_to_the_store():
    """A full lane takes no more, says so, and tells when there is room again."""
    lane = make_lane(4)
    assert [lane.add(str(n)) for n in range(6)] == [True] * 4 + [False] * 2
    assert lane.overflowed
    assert not lane.is_half_empty
    for _ in range(2):
        lane.dropped(lane.take(0)[0])
    assert lane.is_half_empty
