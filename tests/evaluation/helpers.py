"""A small truth made by hand: times in hours from the start of the test period."""

from __future__ import annotations

import numpy as np

from replay.evaluation.points import STOLEN, Points
from replay.evaluation.truth import Requests, Spans, Truth
from replay.simulate.world_settings import Attack, Happening

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
START_US = 1_770_000_000_000_000
KEYS = tuple("abcdefgh")
CLASSES = ("server",) * 4 + ("mobile",) * 4


def at(hours: float) -> int:
    return START_US + round(hours * HOUR_US)


def attack(keys, start, end, *, scenario="A01", networks=("10.9.9.0/24",), ratio=2.0, requests=4):
    """An attack whose requests are spread evenly, ``requests`` for each key."""
    return Attack(
        number=0,
        scenario=scenario,
        keys=tuple(keys),
        start_us=at(start),
        end_us=at(end),
        networks=networks,
        clients=("curl/8",),
        causes=("new_network", "new_client"),
        rate_ratio=ratio,
        requests=requests * len(keys),
    )


def happening(scenario, keys, start, end):
    return Happening(scenario, tuple(keys), at(start), at(end))


def truth_by_hand(attacks=(), happenings=(), days=14):
    rows, spans = [], []
    for i, a in enumerate(attacks):
        per_key = a.requests // len(a.keys)
        for text in a.keys:
            key = KEYS.index(text)
            spans.append((key, i, a.start_us, a.end_us))
            times = np.linspace(a.start_us, a.end_us, per_key).astype(np.int64)
            rows += [(i, key, int(t), 100) for t in times]
    table = np.array(sorted(rows, key=lambda r: (r[0], r[2])), np.int64).reshape(-1, 4)
    return Truth(
        keys=KEYS,
        class_of=CLASSES,
        test_us=(START_US, START_US + days * DAY_US),
        attacks=tuple(attacks),
        happenings=tuple(happenings),
        spans=Spans.of(spans, len(KEYS)),
        happening_spans=Spans.of(
            [
                (KEYS.index(k), i, h.start_us, h.end_us)
                for i, h in enumerate(happenings)
                for k in h.keys
            ],
            len(KEYS),
        ),
        requests=Requests(
            table[:, 0].astype(np.int32), table[:, 1].astype(np.int32), table[:, 2], table[:, 3]
        ),
    )


def points(*units):
    """Units are ``(key or *, channel, (hour, score), ...)``."""
    rows = [
        (i, KEYS.index(u[0]) if u[0] != "*" else -1, u[1], at(hour), score)
        for i, u in enumerate(units)
        for hour, score in u[2:]
    ]
    unit, key, channel, ts_us, score = zip(*rows, strict=True) if rows else [()] * 5
    return Points(
        np.array(unit, np.int64),
        np.array(key, np.int32),
        np.array(channel, np.int8),
        np.array(ts_us, np.int64),
        np.array(score, np.float64),
    )


def stolen(key, *pairs):
    return (key, STOLEN, *pairs)


def level(tau, throttle=np.inf, hard=-np.inf):
    return np.array([tau, tau, throttle, hard])
