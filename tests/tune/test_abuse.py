"""Abuse made of a key's own requests."""

from __future__ import annotations

import numpy as np
import pytest

from models.clock import CELL_US, DAY_US
from replay.simulate.randomness import stream
from replay.tune.abuse import abuses
from replay.tune.injection import KINDS
from tests.tune.helpers import fleet, log_of, row, times_of

DAYS = 16


@pytest.fixture(scope="module")
def found():
    return abuses(fleet(days=DAYS), 90, stream(1))


def of_kind(found, kind):
    return [i for i in found if i.kind == kind]


def own_rows(injection):
    """Rows of the victim up to the attack's end."""
    log = fleet(days=DAYS)
    rows = log.rows_of(injection.victim)
    return rows[log.events.ts_us[rows] <= injection.end_us]


def test_every_kind_is_made(found):
    """In turn, so a long log has all of them, each named in some channel."""
    kinds = {i.kind for i in found}
    assert kinds == {"flood", "scraping", "probing", "slow exfiltration"}
    assert kinds <= {kind for names in KINDS.values() for kind in names}


def test_abuse_comes_from_the_keys_own_sources(found):
    """No attack brings a network or client that the key did not have."""
    log = fleet(days=DAYS)
    for injection in found:
        rows = own_rows(injection)
        for column in ("network", "client", "block", "place"):
            own, used = getattr(log.events, column)[rows], getattr(injection.events, column)
            assert np.isin(used, own).all(), (injection.kind, column)


def test_a_flood_is_many_times_the_keys_pace(found):
    """More than five times its requests in an active cell, on its own routes."""
    log = fleet(days=DAYS)
    for injection in of_kind(found, "flood"):
        own_us = times_of(log, injection.victim, injection.start_us)[-2000:]
        pace = len(own_us) / len(np.unique(own_us // CELL_US))
        cells = max(1.0, (injection.end_us - injection.start_us) / CELL_US)
        assert len(injection.events) / cells > min(5 * pace, 20_000 / cells * 0.9)
        assert np.isin(injection.events.route, log.events.route[own_rows(injection)]).all()


def test_scraping_asks_for_new_objects_on_one_route(found):
    """All identifiers are new, the route is the key's own; some thieves count up."""
    log, counted = fleet(days=DAYS), []
    for injection in of_kind(found, "scraping"):
        assert len(np.unique(injection.events.route)) == 1
        assert not np.isin(injection.events.ident, log.events.ident).any()
        assert len(np.unique(injection.events.ident)) == len(injection.events)
        counted.append((np.diff(injection.events.number) == 1).all())
    assert 0.2 < np.mean(counted) < 0.8


def test_probing_is_refused_on_routes_the_key_never_used(found):
    """At least eight distinct routes, all answered with 403 or 404."""
    log = fleet(days=DAYS)
    for injection in of_kind(found, "probing"):
        assert not np.isin(injection.events.route, log.events.route).any()
        assert len(np.unique(injection.events.route)) >= 8
        assert set(injection.events.status.tolist()) <= {403, 404}


def test_slow_exfiltration_takes_a_week_and_more_bytes(found):
    """Up to the key's own number of extra requests, over days, larger than its own."""
    log = fleet(days=DAYS)
    assert of_kind(found, "slow exfiltration")
    for injection in of_kind(found, "slow exfiltration"):
        own_us = log.times_of(injection.victim)
        own = ((own_us >= injection.start_us - DAY_US) & (own_us <= injection.end_us)).sum()
        assert injection.end_us - injection.start_us > 5 * DAY_US
        assert len(injection.events) <= own
        rows = own_rows(injection)
        usual = log.events.size_bytes[rows].mean()
        assert injection.events.size_bytes.mean() > 1.2 * usual


def test_a_short_log_has_no_slow_attacks():
    """What needs a week to be seen is not made in a log of six days."""
    kinds = {i.kind for i in abuses(fleet(days=6), 60, stream(1))}
    assert kinds == {"flood", "scraping", "probing"}


def test_a_key_without_identifiers_is_not_scraped():
    """There is nothing to enumerate on its routes."""
    log = log_of([row(i / 4, f"k{k}") for i in range(200) for k in range(8)])
    kinds = {i.kind for i in abuses(log, 24, stream(1))}
    assert kinds == {"flood", "probing"}


def test_attacks_are_in_time_order_and_repeatable(found):
    """The same seed gives the same attacks."""
    again = abuses(fleet(days=DAYS), 90, stream(1))
    assert [i.events.ident.tolist() for i in again] == [i.events.ident.tolist() for i in found]
    for injection in found:
        assert (np.diff(injection.events.ts_us) >= 0).all()
