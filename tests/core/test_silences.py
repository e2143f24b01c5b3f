"""Silences: each told once, at a time that follows from the key alone; many at once are one."""

from __future__ import annotations

import numpy as np
import pytest

from detector.core.fleet import FleetStage
from detector.core.fleet_silences import KEYS_MAX, WAITING_MAX, Silence, Silences
from detector.core.settings import ShardSettings
from detector.core.shard import Shard
from models.clock import CELL_US, CELLS_PER_DAY, DAY_US
from models.silence import HORIZON_CELLS, SPEAKS_NATS, KeySilence
from replay.engine import Engine
from tests.core.logs import MINUTE_US, START_US, batch_of

DAY_MINUTES = 1440
HOUR_US = 60 * MINUTE_US


def rows_of(key, speaks, days=12, share=0.3, seed=1):
    """A request in ``share`` of the minutes in which ``speaks(minute)`` holds."""
    rng = np.random.default_rng(seed)
    for minute in np.flatnonzero(rng.random(days * DAY_MINUTES) < share).tolist():
        if speaks(minute):
            yield START_US + minute * MINUTE_US, key, "10.0.0", "c/1", "GET /a/b", 200


def day_of(minute):
    return minute // DAY_MINUTES


def log_of(*parts):
    return batch_of(sorted(row for part in parts for row in part))


ALWAYS = lambda _: True  # noqa: E731
OTHERS = [row for k in range(3) for row in rows_of(f"other{k}", ALWAYS, seed=5 + k)]


def heard(log, shards=1, cut=5000, restart=False):
    engine = Engine([Shard(ShardSettings()) for _ in range(shards)], FleetStage(5))
    for low in range(0, len(log), cut):
        engine.fold(log.take(slice(low, low + cut)))
        if restart:
            states = [s.to_state() for s in engine.shards]
            engine.shards = [Shard.from_state(s, ShardSettings()) for s in states]
            engine.fleet = FleetStage.from_state(engine.fleet.to_state(), 5)
    engine.finish()
    return engine.silences


def test_a_steady_key_that_stops_is_told_within_hours():
    """18 requests an hour, then none: told after an hour or two, not before 12 nats."""
    log = log_of(rows_of("k", lambda m: day_of(m) < 10), OTHERS)
    (told,) = heard(log)
    assert told.key == "k"
    assert told.nats >= SPEAKS_NATS
    assert HOUR_US // 2 < told.at_us - told.since_us < 3 * HOUR_US
    assert told.at_us % CELL_US == 0


def test_a_silence_that_ends_is_told_once_and_the_next_is_dearer():
    """Found when the key comes back; a pause it is known for by then is free."""
    speaks = lambda m: day_of(m) != 8 and day_of(m) != 10  # noqa: E731
    (told,) = heard(log_of(rows_of("k", speaks), OTHERS))
    assert told.since_us < START_US + 8 * DAY_US
    assert told.at_us < START_US + 9 * DAY_US


def test_nights_and_weekends_are_nobodys_silence():
    """A key of office hours is quiet every night and two days a week, and nothing is said."""

    def office(minute):
        weekday = (day_of(minute) + 1) % 7 not in (5, 6)  # the log begins on a Tuesday
        return weekday and 8 * 60 <= minute % DAY_MINUTES < 18 * 60

    assert heard(log_of(rows_of("k", office, days=26), rows_of("o", ALWAYS, days=26))) == []


def test_a_young_key_is_not_missed():
    """Three days say too little of a key's pauses."""
    assert heard(log_of(rows_of("k", lambda m: day_of(m) < 3), OTHERS)) == []


def test_an_outage_of_the_log_is_one_record():
    """Twelve keys stop at once and come back six hours later: one line, no line for each."""
    out = lambda m: not 9 * DAY_MINUTES <= m < 9 * DAY_MINUTES + 360  # noqa: E731
    rows = [row for k in range(12) for row in rows_of(f"k{k}", out, seed=20 + k)]
    told = heard(log_of(rows))
    assert [s.key for s in told] == ["*"]
    assert told[0].keys == 12
    assert "outage" in told[0].text


MIXED = log_of(
    rows_of("gone", lambda m: day_of(m) < 10, seed=2),
    rows_of("paused", lambda m: day_of(m) != 9, seed=3),
    rows_of("slow", lambda m: day_of(m) < 9, share=0.02, seed=4),
    OTHERS,
)


@pytest.mark.parametrize(
    ("shards", "cut", "restart"),
    [(1, 97, False), (1, 10**6, False), (4, 1500, False), (1, 3000, True)],
)
def test_batches_shards_and_restarts_do_not_matter(shards, cut, restart):
    """The same records in the same order, whoever finds them first."""
    reference = heard(MIXED)
    assert {s.key for s in reference} == {"gone", "paused", "slow"}
    assert heard(MIXED, shards, cut, restart) == reference


def one(key, at_us, since_us=0):
    return Silence(at_us, key, None, since_us, 20.0, 13.0)


def test_what_was_swept_is_not_told_again():
    """A key that comes back after its silence was told brings it once more: it is dropped."""
    silences = Silences()
    silences.hear([one("k", 10 * HOUR_US)])
    assert [s.key for s in silences.take(11 * HOUR_US)] == ["k"]
    silences.hear([one("k", 10 * HOUR_US)])
    assert silences.take(20 * HOUR_US) == []
    assert (silences.told, silences.collapsed) == (1, 0)


def test_up_to_eight_at_a_time_are_told_one_by_one():
    """Eight are eight lines, nine are one; a second outage of the same day adds none."""
    for n, keys in ((KEYS_MAX, KEYS_MAX), (KEYS_MAX + 1, 1)):
        silences = Silences()
        silences.hear(one(f"k{i}", 10 * HOUR_US, i * 10 * HOUR_US) for i in range(n))
        assert len(silences.take(12 * HOUR_US)) == keys
    silences.hear(one(f"m{i}", 15 * HOUR_US, i) for i in range(20))
    assert silences.take(17 * HOUR_US) == []
    assert (silences.collapsed, silences.notices) == (KEYS_MAX + 21, 1)


def test_what_waits_is_bounded():
    """A whole fleet that falls silent does not fill the memory."""
    silences = Silences()
    silences.hear(one(f"k{i}", HOUR_US) for i in range(WAITING_MAX + 5))
    assert len(silences.waiting) == WAITING_MAX
    assert silences.collapsed == 5


def test_the_estimator_and_the_fold_agree():
    """One formula: the estimator's score reaches the mark where the fold tells the silence."""
    log = log_of(rows_of("k", lambda m: day_of(m) < 10), OTHERS)
    (told,) = heard(log)
    model = KeySilence()
    for ts_us, *_ in rows_of("k", lambda m: day_of(m) < 10):
        model = model.learn_one({"t": ts_us / 1e6})
    assert model.score_one({"t": told.at_us / 1e6}) == pytest.approx(told.nats, abs=1e-3)
    assert model.score_one({"t": (told.at_us - CELL_US) / 1e6}) < SPEAKS_NATS
    assert HORIZON_CELLS == 28 * CELLS_PER_DAY
