"""Masquerades made of a log's own sessions."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from detector.core.events import EventBatch
from models.clock import CELL_US, DAY_US
from replay.simulate.randomness import stream
from replay.tune.injection import EVENTS_BEFORE, LATER_PART, PER_VICTIM_MAX
from replay.tune.splice import PER_CELL_MAX, REQUESTS_MAX, sessions, splices
from tests.tune.helpers import HOUR_US, fleet, log_of, row


@pytest.fixture(scope="module")
def found():
    return splices(fleet(), 60, stream(1))


def test_as_many_thefts_as_asked_for(found):
    """Sixty from sixty keys, and of each victim three at most."""
    assert len(found) == 60
    assert max(Counter(i.victim for i in found).values()) <= PER_VICTIM_MAX


def test_a_theft_is_a_session_of_one_other_key(found):
    """The requests are real ones of a single donor, at their own times, in order."""
    log = fleet()
    real = {
        (t, k) for t, k in zip(log.events.ts_us.tolist(), log.events.key_lo.tolist(), strict=True)
    }
    for injection in found:
        donors = np.unique(injection.events.key_lo)
        own = log.events.key_lo[log.rows_of(injection.victim)[0]]
        assert len(donors) == 1
        assert donors[0] != own
        times_us = injection.events.ts_us
        assert (np.diff(times_us) >= 0).all()
        assert all((t, int(donors[0])) in real for t in times_us.tolist())


def test_the_victim_is_known_and_lives_on(found):
    """Twenty events and three days before, an event of its own after, in the log's later part."""
    log = fleet()
    for injection in found:
        times_us = log.times_of(injection.victim)
        assert (times_us <= injection.start_us).sum() >= EVENTS_BEFORE
        assert injection.start_us - times_us[0] >= 3 * DAY_US
        assert times_us[-1] > injection.end_us
        assert injection.start_us >= log.at_us(LATER_PART)


def test_no_thief_floods(found):
    """At most 60 requests a cell and 2000 in all; floods are a kind of their own."""
    for injection in found:
        cells = injection.events.ts_us // CELL_US
        assert np.unique(cells, return_counts=True)[1].max() <= PER_CELL_MAX
        assert 3 <= len(injection.events) <= REQUESTS_MAX


def test_equal_seeds_give_equal_thefts(found):
    """The same again for the same seed, others for another."""

    def shape(injections):
        return [(i.victim, i.start_us, len(i.events)) for i in injections]

    assert shape(splices(fleet(), 60, stream(1))) == shape(found)
    assert shape(splices(fleet(), 60, stream(2))) != shape(found)


def test_keys_of_one_owner_do_not_rob_each_other():
    """An owner's second key at work is no theft."""
    log = fleet(days=6)
    same = replace(log, owners=("acme",) * log.n_keys)
    assert splices(log, 5, stream(1))
    assert splices(same, 5, stream(1)) == []


def test_a_pause_of_more_than_an_hour_ends_a_session():
    """Two visits of a key are two sessions, and a visit of two requests is none."""
    early = [row(i / 10, "a") for i in range(5)]
    late = [row(5 + i / 10, "a") for i in range(4)]
    lost = [row(9 + i / 10, "a") for i in range(2)]
    log = log_of([*early, *late, *lost, row(0.3, "b"), row(0.4, "b"), row(0.5, "b")])
    s = sessions(log, 0)
    found = sorted(
        (log.names[k].text, n) for k, n in zip(s.donor.tolist(), s.size.tolist(), strict=True)
    )
    assert found == [("a", 4), ("a", 5), ("b", 3)]


def test_a_steady_key_is_cut_into_sessions():
    """A server that never pauses can be a donor: 2000 requests are a session."""
    log = log_of([row(i / 40, "server") for i in range(4500)])
    assert sessions(log, 0).size.tolist() == [2000, 2000, 500]


def test_the_requests_are_spliced_as_they_were(found):
    """Every column but the time of a thinned session's neighbours comes from the donor."""
    log, injection = fleet(), found[0]
    donor = int(np.searchsorted(np.unique(log.events.key_lo), injection.events.key_lo[0]))
    rows = log.rows_of(donor)
    at = rows[np.searchsorted(log.events.ts_us[rows], injection.events.ts_us)]
    for column in EventBatch.COLUMNS:
        mine, theirs = getattr(injection.events, column), getattr(log.events, column)[at]
        if len(np.unique(injection.events.ts_us)) == len(at):
            assert (mine == theirs).all(), column


def test_some_thieves_are_slower_than_their_victims(found):
    """Part of the sessions is thinned, so that small thieves are seen in training too."""
    log, slower = fleet(), 0
    for injection in found:
        hours = 1 + (injection.end_us - injection.start_us) / HOUR_US
        own_us = log.times_of(injection.victim)
        own_us = own_us[own_us < injection.start_us]
        pace = len(own_us) / len(np.unique(own_us // HOUR_US))
        slower += len(injection.events) / hours < pace
    assert slower >= len(found) // 4
