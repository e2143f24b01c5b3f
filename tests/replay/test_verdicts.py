"""``replay --verdicts``: what people said is applied at its event time, whatever the batches."""

from __future__ import annotations

import json

import pytest

from detector.core.episodes import rfc3339
from detector.core.errors import UsageError
from detector.core.fleet import LOWEST, FleetStage
from detector.core.settings import ShardSettings
from detector.core.shard import Shard, state_digest
from models.clock import DAY_US
from replay.agenda import Agenda, Wish, read_wishes
from replay.engine import Engine
from replay.evaluation.feedback import Feedback
from replay.simulate.world_settings import Attack
from tests.core.logs import MINUTE_US
from tests.core.test_control import NOW_US, THEFT_US, log_of, owner_rows, thief_rows

SETTINGS = ShardSettings()
LOG = log_of(
    (r for r in owner_rows(THEFT_US - 8 * DAY_US, 8)),
    thief_rows(THEFT_US),
    thief_rows(NOW_US + 2 * DAY_US, network="203.0.113", routes=12),
    owner_rows(THEFT_US, 4, seed=5),
)


def engine(wishes=(), shards=1, review=lambda _: None, cut=700):
    one = Engine(
        [Shard(SETTINGS) for _ in range(shards)],
        FleetStage(5, settings=SETTINGS, lowest=LOWEST),
        agenda=Agenda(wishes),
        review=review,
    )
    for low in range(0, len(LOG), cut):
        one.fold(LOG.take(slice(low, low + cut)))
    return one, [e.to_record() for e in one.finish()]


def first_alert():
    one, _ = engine()
    return next(a for a in one.alerts if a.channel == "stolen")


def test_a_verdict_on_an_alert_is_applied_at_its_time():
    """The episode it names is closed there; the summary counts what became of each verdict."""
    alert = first_alert()
    wishes = [
        Wish(NOW_US, "expected", alert_id=alert.alert_id),
        Wish(NOW_US, "confirmed", alert_id="0" * 20),
        Wish(int(LOG.ts_us[-1]) + 1, "reset", key="k"),
    ]
    one, episodes = engine(wishes)
    assert one.told() == {"applied": 1, "unknown": 1, "not_reached": 1}
    told = next(e for e in episodes if e["alert_id"] == alert.alert_id)
    assert (told["state"], told["closed_at"]) == ("closed", rfc3339(NOW_US))


@pytest.mark.parametrize("verdict", ["expected", "confirmed", "reset"])
def test_batches_and_shards_do_not_matter(verdict):
    """Alerts, episodes and state are the same for any cut of the log and any number of shards."""
    wish = Wish(NOW_US, verdict, alert_id=first_alert().alert_id)
    if verdict == "reset":
        wish = Wish(NOW_US, verdict, key="k")
    one, episodes = engine([wish])
    for shards, cut in ((1, 37), (1, 10_000), (3, 700)):
        again, others = engine([wish], shards, cut=cut)
        assert others == episodes
        assert again.alerts == one.alerts
        assert state_digest(again.shards) == state_digest(one.shards)


def test_an_end_is_an_event_of_its_own():
    """``until`` takes the acceptance back without another line in the file."""
    alert, until_us = first_alert(), NOW_US + DAY_US
    one, _ = engine([Wish(NOW_US, "expected", alert_id=alert.alert_id, until_us=until_us)])
    assert one.told()["applied"] == 2
    assert one.shards[0]._controls.standing == {}


def test_feedback_answers_by_the_truth_a_day_later():
    """An alert on an attacked key in its time is confirmed, one beside it expected."""
    attack = Attack(0, "A01", ("k",), THEFT_US, NOW_US, ("198.51.100.0/24",), (), (), 1.0)
    given = []

    def review(alert):
        wish = Feedback([attack], 1.0).review(alert)
        given.append((alert.alerted_us, wish))
        return wish

    one, _ = engine(review=review)
    verdicts = {at_us <= NOW_US + DAY_US: w.verdict for at_us, w in given if w is not None}
    assert verdicts == {True: "confirmed", False: "expected"}
    assert all(w.at_us == at_us + DAY_US for at_us, w in given if w is not None)
    assert one.told()["applied"] == sum(w.at_us <= int(LOG.ts_us[-1]) for _, w in given if w)


def test_a_confirmed_alert_gives_its_budget_back():
    """It does not count among the alerts of its week any more."""
    alert = first_alert()
    one, _ = engine([Wish(NOW_US, "confirmed", alert_id=alert.alert_id)])
    raised = one.fleet._memory.budgets.raised
    assert raised[alert.alert_id].is_confirmed
    assert not any(r.is_confirmed for k, r in raised.items() if k != alert.alert_id)


def test_a_file_of_verdicts_is_read_in_full(tmp_path):
    """Every form of a line, blank lines between."""
    at, until = rfc3339(NOW_US), rfc3339(NOW_US + MINUTE_US)
    lines = [
        {"at": at, "verdict": "expected", "alert_id": "a", "until": until},
        {"at": at, "verdict": "expected", "key": "k", "network": "10.0.0.0/24", "client": "c/1"},
        {"at": at, "verdict": "confirmed", "key": "k", "client": "c/1"},
        {"at": at, "verdict": "withdrawn", "alert_id": "a"},
        {"at": at, "verdict": "reset", "key": "k"},
    ]
    path = tmp_path / "verdicts.ndjson"
    path.write_text("\n\n".join(map(json.dumps, lines)))
    wishes = read_wishes(path)
    assert [w.verdict for w in wishes] == [line["verdict"] for line in lines]
    assert wishes[0].until_us == NOW_US + MINUTE_US
    assert {w.at_us for w in wishes} == {NOW_US}


@pytest.mark.parametrize(
    "line",
    [
        {"verdict": "expected", "alert_id": "a"},
        {"at": "soon", "verdict": "expected", "alert_id": "a"},
        {"at": "2026-01-01T00:00:00Z", "verdict": "fine", "alert_id": "a"},
        {"at": "2026-01-01T00:00:00Z", "verdict": "expected", "alert_id": "a", "key": "k"},
        {"at": "2026-01-01T00:00:00Z", "verdict": "expected", "key": "k"},
        {"at": "2026-01-01T00:00:00Z", "verdict": "expected"},
        {"at": "2026-01-01T00:00:00Z", "verdict": "reset", "key": "k", "client": "c"},
        {"at": "2026-01-01T00:00:00Z", "verdict": "reset", "alert_id": "a"},
        {
            "at": "2026-01-01T00:00:00Z",
            "verdict": "confirmed",
            "alert_id": "a",
            "until": "2027-01-01",
        },
        {
            "at": "2026-01-02T00:00:00Z",
            "verdict": "expected",
            "alert_id": "a",
            "until": "2026-01-01",
        },
        {"at": "2026-01-01T00:00:00Z", "verdict": "expected", "alert_id": "a", "why": "x"},
    ],
)
def test_a_line_that_says_something_else_is_refused(tmp_path, line):
    """With the file's name and the number of the line."""
    path = tmp_path / "verdicts.ndjson"
    path.write_text("\n" + json.dumps(line))
    with pytest.raises(UsageError, match=r"verdicts\.ndjson:2: "):
        read_wishes(path)


def test_the_log_of_these_tests_is_worth_it():
    """The theft alerts without verdicts, and the histories used here are sorted."""
    assert (LOG.ts_us[1:] >= LOG.ts_us[:-1]).all()
    assert first_alert().actor.network == "198.51.100.0/24"
