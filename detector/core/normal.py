"""What stayed normal as of a row, and whether the owner carries on: sentences with their counts.

A sentence is only there when the signal had data to judge with, and found nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp
from typing import Any

from detector.core.episodes import NORMAL_MAX, OwnerTraffic
from detector.core.sentences import Texts
from models import fusion, novelty
from models.clock import CELLS_PER_DAY

QUIET_NATS = 0.5  # evidence below this is none
KNOWN_CELLS = CELLS_PER_DAY  # a value is the key's own after a day
LEVEL_CELLS = CELLS_PER_DAY  # a key's level is known after a day
HOURS_CELLS = 5 * CELLS_PER_DAY  # its hours after five
ROUTED_MIN = 20.0  # requests that tell which routes a key uses
COUNT_MIN = 3  # requests in a cell, or of an actor, that can be called normal
IDENTS_MIN = 5
BYTES_KNOWN = 0.01  # log of bytes per request: below it the log has no sizes
BYTES_RATIO = VOLUME_RATIO = 1.5
CARRIES_SHARE, QUIET_SHARE = 0.5, 0.25  # of the requests expected of the owner
CARRIES_MIN, QUIET_MIN = 3.0, 10.0


def normal_of(row: Any, texts: Texts) -> tuple[str, ...]:
    """At most NORMAL_MAX sentences, what helps most to judge first."""
    if row["tries"]:
        return ("access: the requests counted here were all refused, nothing was let in",)
    found = (sentence(row, texts) for sentence in SENTENCES)
    return tuple(text for text in found if text)[:NORMAL_MAX]


def owner_of(row: Any) -> OwnerTraffic | None:
    """What the established sources did since the actor came; None before the key's level is known.

    The expectation is the key's own, by hour of the day.
    """
    if not row["actor"] or row["age_cells"] < LEVEL_CELLS:
        return None
    own = max(0, round(float(row["owner_requests"])))
    expected = round(max(0.0, float(row["owner_expected"])), 1)
    turns = int(row["actor_switches"])
    return OwnerTraffic(own, expected, turns, _owner_text(own, expected, turns))


def carries_on(owner: OwnerTraffic | None) -> bool:
    """True when the key's established sources are clearly at work beside the actor."""
    if owner is None:
        return False
    return owner.requests >= max(CARRIES_MIN, CARRIES_SHARE * owner.expected)


def has_gone_quiet(owner: OwnerTraffic | None) -> bool:
    """True when they are clearly not: the actor may be the owner, after a move."""
    if owner is None or owner.turns or owner.expected < QUIET_MIN:
        return False
    return owner.requests < QUIET_SHARE * owner.expected


def _owner_text(own: int, expected: float, turns: int) -> str:
    owner, is_early = OwnerTraffic(own, expected, turns, ""), expected < QUIET_MIN
    counts = f"{_n(own, 'request')} since it came, {expected:,.0f} expected"
    if own == 0 and expected < 1.0:
        text = "too early to say whether the key's own sources carry on: nothing was due yet"
    elif carries_on(owner):
        text = f"the key's own sources carry on beside it: {counts}"
    elif has_gone_quiet(owner):
        text = f"the key's own sources have gone quiet, as after a move: {counts}"
    elif not is_early:
        text = f"the key's own sources do less than usual beside it: {counts}"
    else:
        text = f"too early to say whether the key's own sources carry on: {counts}"
    return (
        f"{text}; {_n(turns, 'turn')} with another network of the key in minutes" if turns else text
    )


def _n(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _is_quiet(row: Any, *families: int) -> bool:
    return all(float(row["z"][j]) < QUIET_NATS for j in families)


def _days(cells: int) -> str:
    return f"first seen with this key {_n(cells // CELLS_PER_DAY, 'day')} ago"


def _routes(row: Any, _: Texts) -> str:
    if row["routed"] < ROUTED_MIN or not _is_quiet(row, fusion.F_ROUTE, fusion.F_AREA):
        return ""
    if not row["actor"]:
        is_new = row["fresh"][novelty.ROUTE] or row["fresh"][novelty.AREA]
        return "" if is_new else "routes: none in this 15 min is new to the key"
    n = int(row["actor_requests"])
    if n < COUNT_MIN or row["actor_foreign"] or row["actor_foreign_routes"]:
        return ""
    return f"routes: all {n:,} requests of the source go where the key has been before"


def _network(row: Any, texts: Texts) -> str:
    if row["network_age"] < KNOWN_CELLS or not _is_quiet(row, fusion.F_NETWORK):
        return ""
    return f"network: {texts.network(int(row['source']))}, {_days(int(row['network_age']))}"


def _client(row: Any, texts: Texts) -> str:
    if row["client_age"] < KNOWN_CELLS or not _is_quiet(row, fusion.F_CLIENT):
        return ""
    return f"client: {texts.client(int(row['client']))}, {_days(int(row['client_age']))}"


def _volume(row: Any, _: Texts) -> str:
    count, mean = int(row["count"]), float(row["mean"])
    if row["age_cells"] < LEVEL_CELLS or count > VOLUME_RATIO * mean:
        return ""
    if not _is_quiet(row, fusion.F_VOLUME, fusion.F_SURGE):
        return ""
    return f"volume: {_n(count, 'request')} in this 15 min, {mean:.1f} usual for this hour"


def _refusals(row: Any, _: Texts) -> str:
    n = int(row["answered"])
    if row["refused"] or n < COUNT_MIN or not row["status"]:
        return ""
    if not _is_quiet(row, fusion.F_PROBING, fusion.F_DENIED, fusion.F_MISSES):
        return ""
    return f"errors: none of {n:,} requests in this 15 min was answered 4xx"


def _idents(row: Any, _: Texts) -> str:
    new, total, usual = int(row["idents_new"]), int(row["idents"]), float(row["idents_usual"])
    if total < IDENTS_MIN or new > usual * total:
        return ""
    if not _is_quiet(row, fusion.F_ENUMERATION, fusion.F_SEQUENCE):
        return ""
    return f"objects: {new} of {total} ids in this 15 min are new to the key, usual {usual:.0%}"


def _hours(row: Any, _: Texts) -> str:
    mean, level = float(row["mean"]), float(row["mean_usual"])
    if row["age_cells"] < HOURS_CELLS or mean < 0.5 * level:
        return ""
    if not _is_quiet(row, fusion.F_OFF_HOURS):
        return ""
    return (
        f"hours: the key usually works at this hour, {mean:.1f} requests in 15 min against"
        f" {level:.1f} over the day"
    )


def _bytes(row: Any, _: Texts) -> str:
    usual, last = float(row["slow_usual"][1]), float(row["slow_last"][1])
    if usual < BYTES_KNOWN or not _is_quiet(row, fusion.F_SLOW):
        return ""
    ratio = exp(last - usual)
    if not 1 / BYTES_RATIO <= ratio <= BYTES_RATIO:
        return ""
    return f"bytes per request: {ratio:.1f} times the usual on the last full day"


SENTENCES: tuple[Callable[[Any, Texts], str], ...] = (
    _routes,
    _network,
    _client,
    _volume,
    _refusals,
    _idents,
    _hours,
    _bytes,
)
