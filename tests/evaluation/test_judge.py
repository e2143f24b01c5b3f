"""The judge's rules, one by one, on points made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from replay.evaluation.judge import (
    FALSE,
    NEUTRAL,
    OUTSIDE,
    TRUE,
    Budget,
    judge,
    leaked,
    precision_at,
    thresholds,
    throttle_thresholds,
)
from replay.evaluation.points import ABUSED, HARD, STOLEN, THROTTLE, Note, points_of_series
from tests.evaluation.helpers import HOUR_US, KEYS, at, attack, level, points, stolen, truth_by_hand


def verdicts(made, truth, tau=1.0, notes=()):
    """(hour, verdict) of every alert, and who was caught."""
    judged = judge(made.alerts(level(tau)), truth, notes)
    hours = ((judged.alerts.ts_us - truth.test_us[0]) / HOUR_US).tolist()
    return list(zip(hours, judged.verdict.tolist(), strict=True)), judged


@pytest.mark.parametrize(
    ("hour", "verdict"),
    [
        (99.9, FALSE),  # before the attack
        (100, TRUE),  # its first request
        (110, TRUE),
        (111, TRUE),  # an hour after its last
        (111.1, NEUTRAL),
        (134, NEUTRAL),  # a day after its last
        (134.1, FALSE),
        (-1, OUTSIDE),  # before the test period
        (14 * 24, OUTSIDE),  # its end is not part of it
    ],
)
def test_an_alert_belongs_to_an_attack_from_its_start_to_an_hour_after(hour, verdict):
    """An hour of grace; up to a day after, the attack's echo is neither true nor false."""
    found, judged = verdicts(
        points(stolen("a", (hour, 5.0))), truth_by_hand([attack("a", 100, 110)])
    )
    assert [v for _, v in found] == [verdict]
    assert judged.caught.tolist() == [0 if verdict == TRUE else -1]


def test_another_keys_alert_is_false():
    """Time alone does not make an alert true."""
    found, _ = verdicts(points(stolen("b", (105, 5.0))), truth_by_hand([attack("a", 100, 110)]))
    assert found == [(105, FALSE)]


def test_only_the_first_alert_is_the_catch():
    """Later ones on the key are neutral until a day after the attack, then false."""
    made = points(*(stolen("a", (h, 5.0)) for h in (102, 105, 120, 140)))
    found, judged = verdicts(made, truth_by_hand([attack("a", 100, 110)]))
    assert found == [(102, TRUE), (105, NEUTRAL), (120, NEUTRAL), (140, FALSE)]
    assert judged.caught.tolist() == [0]


def test_a_unit_that_spoke_before_the_attack_is_not_its_catch():
    """An episode that crossed beforehand is a false alert, however high it rises later."""
    made = points(stolen("a", (90, 5.0), (105, 9.0)))
    truth = truth_by_hand([attack("a", 100, 110)])
    found, judged = verdicts(made, truth)
    assert found == [(90, FALSE)]
    assert judged.caught.tolist() == [-1]
    found, judged = verdicts(made, truth, tau=9.0)
    assert found == [(105, TRUE)], "at a higher threshold it had not crossed before"


def test_one_key_of_a_campaign_is_enough():
    """The first alert on any of its keys catches it; those on its other keys are neutral."""
    made = points(stolen("b", (103, 5.0)), stolen("c", (104, 5.0)), stolen("d", (104, 5.0)))
    found, judged = verdicts(made, truth_by_hand([attack("abc", 100, 110)]))
    assert found == [(103, TRUE), (104, NEUTRAL), (104, FALSE)]
    assert judged.caught.tolist() == [0]


def test_a_notice_catches_the_campaign_whose_network_it_names():
    """A collapsed notice is true by its network and time, and else one false alert."""
    truth = truth_by_hand([attack("abc", 100, 110)])
    made = points(stolen("*", (103, 5.0)))
    for network, verdict in (("10.9.9.0/24", TRUE), ("10.1.1.0/24", FALSE), (None, FALSE)):
        found, _ = verdicts(made, truth, notes=[Note((), network)])
        assert found == [(103, verdict)]
    assert verdicts(made, truth)[0] == [(103, FALSE)], "one that says nothing names nothing"
    late = points(stolen("*", (140, 5.0)))
    assert verdicts(late, truth, notes=[Note((), "10.9.9.0/24")])[0] == [(140, FALSE)]


def test_one_alert_may_catch_two_attacks_on_a_key():
    """Overlapping attacks are both caught by an alert in the time of both."""
    made = points(stolen("a", (105, 5.0)))
    _, judged = verdicts(made, truth_by_hand([attack("a", 100, 110), attack("a", 104, 120)]))
    assert judged.caught.tolist() == [0, 0]


def test_leak_counts_requests_up_to_the_alert_and_all_of_a_miss():
    """The alerting request is leaked too; a missed attack leaks everything."""
    attacks = [attack("a", 100, 109, requests=10), attack("b", 100, 109, requests=10)]
    truth = truth_by_hand(attacks)
    judged = judge(points(stolen("a", (102, 5.0))).alerts(level(1.0)), truth)
    requests, size_bytes = leaked(judged, truth)
    assert requests.tolist() == [3, 10]
    assert size_bytes.tolist() == [300, 1000]


def test_a_caught_key_does_not_stop_a_campaign_on_others():
    """Each key leaks until an alert names it; a notice about the network stops them all."""
    truth = truth_by_hand([attack("ab", 100, 109, requests=10)])
    made = points(stolen("a", (101, 5.0)))
    assert leaked(judge(made.alerts(level(1.0)), truth), truth)[0].tolist() == [2 + 10]
    notice, notes = points(stolen("*", (101, 5.0))), [Note((), "10.9.9.0/24")]
    assert leaked(judge(notice.alerts(level(1.0)), truth, notes), truth)[0].tolist() == [4]


def false_units(*scores, channel=STOLEN):
    return [(KEYS[i % 8], channel, (i * 40.0 % 330, s)) for i, s in enumerate(scores)]


def test_the_threshold_is_the_lowest_that_keeps_to_the_budget():
    """Two weeks at one a week: two false alerts are allowed, and the third decides."""
    truth, made = truth_by_hand(), points(*false_units(9.0, 8.0, 7.0, 6.0))
    assert thresholds(made, truth, Budget(1.0))[STOLEN] == 8.0
    assert thresholds(made, truth, Budget(1.4))[STOLEN] == 8.0
    assert thresholds(made, truth, Budget(1.5))[STOLEN] == 7.0
    assert thresholds(made, truth, Budget(50))[STOLEN] == 6.0
    assert thresholds(made, truth, Budget(0.4))[STOLEN] == np.inf


def test_ties_are_all_in_or_all_out():
    """Of equal scores none can be chosen: a tie over the budget puts the threshold above it."""
    truth, made = truth_by_hand(), points(*false_units(9.0, 7.0, 7.0, 7.0, 6.0))
    assert thresholds(made, truth, Budget(1.0))[STOLEN] == 9.0
    assert thresholds(made, truth, Budget(2.0))[STOLEN] == 7.0


def test_attacks_cost_nothing_of_the_budget():
    """True and neutral alerts do not count; the threshold may even be an attack's score."""
    truth = truth_by_hand([attack("a", 100, 110)])
    made = points(
        stolen("b", (50, 9.0)),
        stolen("a", (101, 5.0)),
        stolen("a", (102, 4.0)),
        stolen("c", (1, 3.0)),
    )
    assert thresholds(made, truth, Budget(0.5))[STOLEN] == 4.0


def test_what_is_outside_the_test_period_costs_nothing():
    """False alerts before the test period are not counted."""
    truth, made = truth_by_hand(), points(stolen("a", (-5, 9.0)), stolen("b", (5, 4.0)))
    assert thresholds(made, truth, Budget(0.4))[STOLEN] == 9.0


def test_channels_share_one_threshold_over_their_offsets():
    """A common tau on score - offset, so that one nat counts the same in both channels."""
    made = points(*false_units(12.0, 11.0, 10.5), *false_units(9.5, 8.5, channel=ABUSED))
    found = thresholds(made, truth_by_hand(), Budget(1.5, offset=(10.0, 8.0)))
    assert found[STOLEN] == 11.0
    assert found[ABUSED] == 9.0
    judged = judge(made.alerts(found), truth_by_hand())
    assert len(judged.false_rows()) == 3


def test_a_fixed_share_gives_each_channel_its_own_budget():
    """A quarter of four a fortnight is one for ABUSED and three for STOLEN."""
    made = points(*false_units(12.0, 11.0, 10.5, 10.0), *false_units(9.5, 8.5, channel=ABUSED))
    found = thresholds(made, truth_by_hand(), Budget(2.0, share_stolen=0.75))
    assert found[STOLEN] == 10.5
    assert found[ABUSED] == 9.5


def test_facts_and_throttles_are_outside_the_alert_budget():
    """They neither use it up nor are held back by it; throttles have a budget of their own."""
    made = points(
        ("a", HARD, (1, 20.0)),
        ("b", THROTTLE, (2, 30.0)),
        ("c", THROTTLE, (3, 20.0)),
        ("d", STOLEN, (4, 5.0)),
    )
    truth = truth_by_hand()
    found = thresholds(made, truth, Budget(0.5))
    assert found.tolist() == [5.0, 5.0, np.inf, -np.inf]
    judged = judge(made.alerts(found), truth)
    assert judged.verdict.tolist() == [FALSE, FALSE]
    assert len(judged.false_rows()) == 1
    assert throttle_thresholds(made, truth, 0.5).tolist() == [np.inf, np.inf, 30.0, np.inf]


def test_a_series_has_its_threshold_by_the_same_rule():
    """A key that is odd for a fortnight costs two alerts, not fourteen."""
    hours = np.arange(0, 14 * 24, 12)
    key = np.concatenate([np.zeros(len(hours)), [1, 2]])
    ts_us = np.concatenate([at(0) + hours * HOUR_US, [at(10), at(20)]])
    score = np.concatenate([np.full(len(hours), 9.0), [8.0, 7.0]])
    made = points_of_series(key, ts_us, score)
    truth = truth_by_hand()
    assert thresholds(made, truth, Budget(0.5))[STOLEN] == np.inf
    assert thresholds(made, truth, Budget(1.0))[STOLEN] == 9.0
    assert thresholds(made, truth, Budget(1.5))[STOLEN] == 8.0


def test_precision_counts_the_best_alerts_without_neutral_ones():
    """Of the two best that are true or false one is an attack's; neutral ones take no place."""
    truth = truth_by_hand([attack("a", 100, 110)])
    made = points(
        stolen("a", (101, 9.0)),
        stolen("a", (102, 8.0)),
        stolen("b", (5, 7.0)),
        stolen("c", (6, 3.0)),
    )
    assert precision_at(made, truth, 1, (0.0, 0.0)) == 1.0
    assert precision_at(made, truth, 2, (0.0, 0.0)) == 0.5
    assert precision_at(made, truth, 10, (0.0, 0.0)) == pytest.approx(1 / 3)
    assert precision_at(points(), truth, 10, (0.0, 0.0)) is None
