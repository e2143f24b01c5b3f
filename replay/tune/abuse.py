"""Abuse of a key by whoever holds it: from its own sources, with its own clients.

Each attack redraws requests the key has made and changes what makes them abuse. A storm of
errors is none of these: it is what a broken client does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from detector.core.events import I64, EventBatch
from models.clock import CELL_US, DAY_US
from replay.tune.injection import (
    EVENTS_BEFORE,
    HOUR_US,
    PER_VICTIM_MAX,
    Chance,
    Injection,
    chances,
    in_order,
    log_uniform,
    random_u64,
)
from replay.tune.log import Log, Rows

MINUTE_US = 60_000_000
RECENT = 2000  # latest requests of a key that attacks are redrawn from
FLOOD_MAX = 20_000  # requests
SLOW_DAYS_MIN, SLOW_DAYS_MAX = 7, 21
SLOW_REQUESTS_MIN = 50  # of the key itself meanwhile; fewer hide nothing

Make = Callable[[Log, Chance, np.random.Generator], EventBatch | None]


def abuses(log: Log, count: int, rng: np.random.Generator) -> list[Injection]:
    """Up to ``count`` attacks of all kinds in turn, on keys that allow them.

    A victim gets one, or up to three where there are too few keys.
    """
    chance = chances(log, rng)
    makers = _makers(log)
    found: list[Injection] = []
    for turn in range(PER_VICTIM_MAX):
        for i, victim in enumerate(chance):
            if len(found) == count:
                return found
            kind, make = makers[(i + turn) % len(makers)]
            events = make(log, victim, rng)
            if events is not None:
                found.append(Injection(kind, victim.key, events))
    return found


def _makers(log: Log) -> list[tuple[str, Make]]:
    makers: list[tuple[str, Make]] = [
        ("flood", flood),
        ("scraping", scraping),
        ("probing", probing),
    ]
    if log.at_us(1.0) - log.at_us(0.4) > (SLOW_DAYS_MIN + 1) * DAY_US:
        makers.append(("slow exfiltration", slow_exfiltration))
    return makers


def flood(log: Log, victim: Chance, rng: np.random.Generator) -> EventBatch:
    """8 to 100 times the key's pace on its own routes, for 10 minutes to 2 hours."""
    start_us, recent = _begin(log, victim, rng)
    length_us = int(log_uniform(rng, 10 * MINUTE_US, 2 * HOUR_US))
    n = round(log_uniform(rng, 8, 100) * _pace(log, recent) * length_us / CELL_US)
    n = min(FLOOD_MAX, max(n, 8))
    return _redrawn(log, rng.choice(recent, n), _times(rng, n, start_us, length_us))


def scraping(log: Log, victim: Chance, rng: np.random.Generator) -> EventBatch | None:
    """New identifiers on one of the key's routes that carry some; in half the cases counted up.

    60 to 3000 of them at half to twenty times the key's pace. ``None``: there is no such route.
    """
    start_us, recent = _begin(log, victim, rng)
    with_ident = recent[log.events.ident[recent] != 0]
    if not len(with_ident):
        return None
    route = log.events.route[rng.choice(with_ident)]
    n = round(log_uniform(rng, 60, 3000))
    per_cell = _pace(log, recent) * log_uniform(rng, 0.5, 20)
    length_us = int(np.clip(n / per_cell * CELL_US, 5 * MINUTE_US, DAY_US))
    on_route = with_ident[log.events.route[with_ident] == route]
    status = np.where(rng.random(n) < rng.uniform(-0.4, 0.4), 404, 200).astype(np.int16)
    if rng.random() < 0.5:
        number = int(rng.integers(1000, 1 << 40)) + np.arange(n)
        status[:] = 200
    elif (log.events.number[on_route] >= 0).any():
        number = rng.integers(1000, 1 << 40, n)
    else:
        number = np.full(n, -1)
    return _redrawn(
        log,
        rng.choice(on_route, n),
        _times(rng, n, start_us, length_us),
        ident=random_u64(rng, n),
        number=number.astype(np.int64),
        status=status,
    )


def probing(log: Log, victim: Chance, rng: np.random.Generator) -> EventBatch:
    """8 to 120 routes the key never used, refused with 403 or 404, in 5 minutes to 3 hours."""
    start_us, recent = _begin(log, victim, rng)
    routes = round(log_uniform(rng, 8, 120))
    n = round(routes * rng.uniform(1, 2))
    which = np.concatenate([np.arange(routes), rng.integers(0, routes, n - routes)])
    own_area = log.events.area[rng.choice(recent, routes)]
    area = np.where(rng.random(routes) < 0.7, own_area, random_u64(rng, routes))
    length_us = int(log_uniform(rng, 5 * MINUTE_US, 3 * HOUR_US))
    return _redrawn(
        log,
        rng.choice(recent, n),
        _times(rng, n, start_us, length_us),
        route=random_u64(rng, routes)[which],
        area=area[which],
        ident=np.zeros(n, np.uint64),
        number=np.full(n, -1),
        status=rng.choice(np.array([403, 404], np.int16), n),
        size_bytes=rng.integers(50, 500, n),
    )


def slow_exfiltration(log: Log, victim: Chance, rng: np.random.Generator) -> EventBatch | None:
    """1.2 to 2 times the requests for 7 to 21 days, with new identifiers and more bytes.

    ``None``: the key does not live that long, or does too little.
    """
    last_us = victim.until_us - SLOW_DAYS_MIN * DAY_US
    if last_us <= victim.from_us:
        return None
    start_us = int(rng.integers(victim.from_us, last_us))
    length_us = int(rng.uniform(SLOW_DAYS_MIN, SLOW_DAYS_MAX) * DAY_US)
    own, own_us = log.rows_of(victim.key), log.times_of(victim.key)
    own = own[(own_us >= start_us) & (own_us < start_us + length_us)]
    if len(own) < SLOW_REQUESTS_MIN:
        return None
    n = round(rng.uniform(0.2, 1.0) * len(own))
    drawn = rng.choice(own, n)
    has_ident = log.events.ident[drawn] != 0
    return _redrawn(
        log,
        drawn,
        log.events.ts_us[drawn] + rng.integers(0, MINUTE_US, n),
        ident=np.where(has_ident, random_u64(rng, n), np.uint64(0)),
        size_bytes=(log.events.size_bytes[drawn] * rng.uniform(1.5, 5)).astype(np.int64),
    )


def _begin(log: Log, victim: Chance, rng: np.random.Generator) -> tuple[int, Rows]:
    """When an attack begins: at a random request of the key; and those shortly before it."""
    own, own_us = log.rows_of(victim.key), log.times_of(victim.key)
    low, high = np.searchsorted(own_us, (victim.from_us, victim.until_us))
    at = int(rng.integers(max(low, EVENTS_BEFORE), high))
    return int(own_us[at]), own[max(0, at - RECENT) : at]


def _pace(log: Log, rows: Rows) -> float:
    """Requests in a cell in which there are any."""
    return len(rows) / len(np.unique(log.events.ts_us[rows] // CELL_US))


def _times(rng: np.random.Generator, n: int, start_us: int, length_us: int) -> I64:
    return start_us + np.sort(rng.integers(0, length_us, n))


def _redrawn(log: Log, rows: Rows, ts_us: I64, **changed: Any) -> EventBatch:
    """Copies of the rows at other times, some columns changed, in event-time order."""
    copied = log.events.take(rows)
    columns = {c: getattr(copied, c) for c in EventBatch.COLUMNS} | changed
    return in_order(EventBatch(**columns | {"ts_us": ts_us}, names=copied.names))
