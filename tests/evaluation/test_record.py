"""From a method's answer to the result that is stored, and from results to numbers."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from replay.evaluation import measures
from replay.evaluation.measures import at_budget, measure
from replay.evaluation.points import ABUSED, HARD, THROTTLE, Note
from replay.evaluation.record import About, Answer, Result, Rules, best_scores, result_of
from replay.evaluation.table import render
from tests.evaluation.helpers import attack, happening, level, points, stolen, truth_by_hand

ABOUT = About("ours", 1, {"keys": 8, "days": 35, "quiet_days": 21}, "c0de", 1_000_000, 1.5)
THIEF = Note(("new_client", "volume", "new_network"), "10.9.9.0/24")
OTHER = Note(("volume", "dormancy", "new_network"), "10.1.1.0/24")
SILENT = Note(("error_probing",), None)


def result(made, truth, notes=(), budgets=(1.0,), about=ABOUT, **rules):
    return result_of(about, Answer(made, notes), truth, Rules(budgets, **rules))


def two_attacks():
    return truth_by_hand(
        [
            attack("a", 100, 109, scenario="A01", ratio=0.05, requests=10),
            attack("b", 200, 209, scenario="A02", ratio=10.0, requests=30),
        ]
    )


def test_a_result_says_when_each_attack_was_caught_and_what_it_cost():
    """Caught at the third of ten requests; the other missed with all its thirty."""
    found = result(points(stolen("a", (102, 9.0))), two_attacks(), [THIEF]).budgets[0]
    first, second = found.outcomes
    assert (first.requests, first.size_bytes, first.channel) == (3, 300, "stolen")
    assert (first.cause, first.network) == (True, True)
    assert (second.caught_us, second.requests, second.size_bytes) == (None, 30, 3000)
    assert (second.cause, second.network) == (None, None)


def test_an_explanation_names_a_cause_in_its_top_two():
    """The third reason does not count; a foreign network is wrong, none is no answer."""
    truth = two_attacks()
    made = points(stolen("a", (102, 9.0)), stolen("b", (202, 9.0)))
    outcomes = result(made, truth, [OTHER, SILENT]).budgets[0].outcomes
    assert [(o.cause, o.network) for o in outcomes] == [(False, False), (False, None)]
    outcomes = result(made, truth).budgets[0].outcomes
    assert [(o.cause, o.network) for o in outcomes] == [(None, None)] * 2, "rivals say nothing"


def test_leak_counts_misses_in_full():
    """Shares: 0.3 and 1; of all requests 33 of 40; medians are of what was caught."""
    m = measure([result(points(stolen("a", (102, 9.0))), two_attacks(), [THIEF])], at_budget(1.0))
    assert (m.attacks, m.caught, m.recall, m.macro) == (2, 1, 0.5, 0.5)
    assert m.leaked_share == pytest.approx(0.65)
    assert m.leaked_of_all == pytest.approx(33 / 40)
    assert m.bytes_share == pytest.approx(0.65)
    assert (m.leaked_median, m.leaked_p90) == (3, 3)
    assert m.delay_median_s == 2 * 3600
    assert (m.cause, m.network) == (1.0, 1.0)


def test_macro_recall_weighs_scenarios_alike():
    """Three attacks of one kind caught and one of another missed is a half, not three quarters."""
    attacks = [attack(k, 100, 109, scenario="A01") for k in "abc"]
    truth = truth_by_hand([*attacks, attack("d", 100, 109, scenario="A02")])
    made = points(*(stolen(k, (101, 9.0)) for k in "abc"))
    m = measure([result(made, truth)], at_budget(1.0))
    assert (m.recall, m.macro) == (0.75, 0.5)


@pytest.mark.parametrize(
    ("ratio", "size"),
    [
        (0.0, "< 0.1x"),
        (0.099, "< 0.1x"),
        (0.1, "0.1-1x"),
        (1, "1-10x"),
        (10, "> 10x"),
        (99, "> 10x"),
    ],
)
def test_thieves_are_classed_by_their_rate_against_the_keys_own(ratio, size):
    """Bounds belong to the class above them."""
    (row,) = result(points(), truth_by_hand([attack("a", 1, 2, ratio=ratio)])).attacks
    assert measures.size_of(row) == size


def test_false_alerts_are_told_by_class_and_happening():
    """An alert falls on what its own key went through, up to a day after, or on nothing."""
    truth = truth_by_hand(
        happenings=[
            happening("B01", "ab", 10, 20),
            happening("B02", "b", 12, 13),
            happening("B03", "c", 300, 301),
        ]
    )
    made = points(
        stolen("a", (15, 9.0)),
        stolen("b", (20, 9.0)),
        stolen("e", (15, 9.0)),
        stolen("c", (15, 9.0)),
    )
    results = [result(made, truth, budgets=(2.0,))]
    by_class = measures.false_by_class(results, at_budget(2.0))
    assert {c: n for c, (n, _) in by_class.items()} == {"mobile": 1, "server": 3}
    assert by_class["server"][1] == pytest.approx(3 / (4 * 2) * 1000)
    assert measures.false_by_happening(results, at_budget(2.0)) == {
        "B01": (2, 1),
        "B02": (1, 1),
        "B03": (0, 1),
        "none": (2, 0),
    }


def test_false_alerts_are_told_by_their_strongest_reason():
    """So that whoever tunes knows where to look."""
    made = points(*(stolen(k, (1, 9.0)) for k in "abcd"))
    found = result(made, truth_by_hand(), [SILENT, OTHER, OTHER], budgets=(2.0,))
    by_reason = measures.false_by_reason([found], at_budget(2.0))
    assert list(by_reason.items()) == [("volume", 2), ("error_probing", 1)]


def test_weeks_are_counted_one_by_one():
    """The worst week is what a reader of weekly alerts would have seen."""
    made = points(*(stolen(k, (h, 9.0)) for k, h in zip("abcd", (1, 2, 3, 200), strict=True)))
    found = result(made, truth_by_hand(), budgets=(2.0,))
    assert measures.weekly_false(found, found.budgets[0]) == [3, 1]
    m = measure([found], at_budget(2.0))
    assert (m.false_per_week, m.worst_week) == (2.0, 3)


def test_facts_are_stored_but_not_counted():
    """A false fact is shown; it is outside the budget."""
    found = result(points(("a", HARD, (5, 20.0))), truth_by_hand())
    assert [f.channel for f in found.budgets[0].false_alerts] == ["hard"]
    assert measure([found], at_budget(1.0)).false_per_week == 0


def test_throttles_are_judged_apart_and_together():
    """The throttle channel alone, and with alerts: whichever acted first."""
    truth = two_attacks()
    made = points(stolen("a", (105, 9.0)), ("a", THROTTLE, (101, 5.0)), ("b", THROTTLE, (202, 4.0)))
    results = [result(made, truth)]
    assert measure(results, at_budget(1.0)).caught == 1
    assert measure(results, measures.throttled).caught == 2
    both = measure(results, measures.with_throttle(1.0))
    assert both.caught == 2
    assert both.leaked_share == pytest.approx((2 / 10 + 7 / 30) / 2)
    assert measure([result(points(), truth)], measures.throttled).attacks == 0


def test_alerts_really_raised_are_judged_without_thresholds():
    """Online alerts are as they are: their number is what a budget turned out to be."""
    truth = two_attacks()
    raised = points(stolen("a", (101, 1.0)), stolen("c", (5, 1.0))).alerts(level(0.0))
    answer = Answer(points(), online={10.0: (raised, [THIEF, SILENT])})
    found = result_of(ABOUT, answer, truth, Rules((1.0,)))
    m = measure([found], measures.online_at(10.0))
    assert (m.caught, m.false_per_week, m.network) == (1, 0.5, 1.0)


def test_the_best_score_of_an_attack_is_told_even_if_missed():
    """Above the offset of its channel, in the attack's time and grace only."""
    truth = two_attacks()
    made = points(stolen("a", (99, 9.0), (109.5, 11.0), (111, 30.0)), ("a", ABUSED, (101, 8.5)))
    assert best_scores(made, truth, (10.0, 6.0)) == [2.5, None]


def test_a_result_survives_its_file_form():
    """Encoding and decoding gives an equal result, the unbounded thresholds included."""
    found = result(points(stolen("a", (102, 9.0))), two_attacks(), [THIEF], offset=(1.0, 2.0))
    assert msgspec.json.decode(msgspec.json.encode(found), type=Result) == found


def test_the_interval_of_a_mean_covers_it_and_needs_no_luck():
    """Bootstrap over worlds and attacks: the same every time, wide for few worlds."""
    worlds = [np.array([1.0] * 6 + [0.0] * 4), np.array([1.0] * 2 + [0.0] * 8)]
    low, high = measures.bootstrap(worlds)
    assert (low, high) == measures.bootstrap(worlds)
    assert low < 0.3 < 0.5 < high
    few = measures.bootstrap([np.concatenate(worlds)])
    assert high - low > few[1] - few[0], "worlds that differ make the mean less sure"
    assert measures.bootstrap([]) == (None, None)


def test_methods_are_compared_on_the_same_attacks():
    """A method that always finds one more is better for sure, however few the attacks."""
    truth = truth_by_hand([attack(k, 100, 109) for k in "abcd"])
    all_found = result(points(*(stolen(k, (101, 9.0)) for k in "abcd")), truth)
    none_found = result(points(), truth)
    assert measures.difference([all_found], [none_found], at_budget(1.0)) == (1.0, 1.0, 1.0)
    assert measures.difference([all_found], [], at_budget(1.0)) is None


def test_tables_show_what_was_measured():
    """Every table of a full result, with the numbers of this page."""
    truth = two_attacks()
    made = points(stolen("a", (102, 9.0)), ("b", THROTTLE, (202, 4.0)), stolen("c", (5, 10.0)))
    raised = made.alerts(level(0.0))
    notes = [THIEF, SILENT, SILENT]
    answer = Answer(made, notes, {10.0: (raised, notes)})
    ours = result_of(ABOUT, answer, truth, Rules((10.0,)))
    other = result(points(), truth, budgets=(10.0,), about=About("rule", 1, ABOUT.world, "x", 1, 0))
    text = render([ours, other])
    assert "| ours | 0.50 (0.00 to 1.00) | 0.50 |" in text
    assert "| rule | +0.50 (+0.00 to +1.00) |" in text
    assert "| A01 | 1/1 | 0/1 |" in text
    assert "| < 0.1x | 1/1 | 0/1 |" in text
    assert "| server | 1 (125.00) |" in text
    assert "Made by 2 different versions of the code." in text
    for title in ("Alerts really raised", "The throttle channel", "benign happenings"):
        assert title in text
    assert render([]) == "No results.\n"


def test_a_world_without_attacks_still_has_tables():
    """Calibration runs have no attacks: shares are dashes, false alerts are counted."""
    text = render([result(points(stolen("a", (5, 9.0))), truth_by_hand(), budgets=(10.0,))])
    assert "| ours | - | - |" in text
    assert "| 0.5 |" in text
