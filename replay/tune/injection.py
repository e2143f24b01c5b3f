"""Attacks made from a log: what one is, who can be its victim, and the log that holds them.

Every attack works on a copy of its victim's history, under a key of its own. Evidence depends
on a key's own events alone, so no attack is in another's way, no clean key is touched, and
the donor of a splice keeps its events.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from detector.core.episodes import ABUSED, STOLEN, THROTTLE
from detector.core.events import U64, EventBatch, Names
from models.clock import DAY_US
from replay.tune.log import Log

# Of each channel the attacks it should see. A flood looks like many a benign burst: it is
# answered by slowing down, not by an alert.
KINDS = {
    STOLEN: ("elsewhere", "same network"),
    ABUSED: ("scraping", "probing", "slow exfiltration"),
    THROTTLE: ("scraping", "slow exfiltration", "flood"),
}
HOUR_US = 3_600_000_000
EVENTS_BEFORE = 20  # of a victim, before anything happens to it
HISTORY_US = 3 * DAY_US  # likewise, in a log at least twice as long
LATER_PART = 0.4  # of the log's span is over when the first attack may begin
PER_VICTIM_MAX = 3
GROUP_EVENTS = 2_000_000


@dataclass(frozen=True, slots=True)
class Injection:
    """One attack. ``events`` are its requests, in event-time order, under whatever key."""

    kind: str
    victim: int
    events: EventBatch

    @property
    def start_us(self) -> int:
        """Its first request."""
        return int(self.events.ts_us[0])

    @property
    def end_us(self) -> int:
        """Its last request."""
        return int(self.events.ts_us[-1])


@dataclass(frozen=True, slots=True)
class Chance:
    """A key that can be a victim: it is active at ``from_us`` or later, and at ``until_us``."""

    key: int
    from_us: int
    until_us: int


def chances(log: Log, rng: np.random.Generator) -> list[Chance]:
    """Keys with enough history that go on living, shuffled."""
    found = []
    history_us = HISTORY_US if log.span_us >= 2 * HISTORY_US else 0
    for key in rng.permutation(log.n_keys).tolist():
        times_us = log.times_of(key)
        if len(times_us) <= EVENTS_BEFORE:
            continue
        known_us = max(int(times_us[EVENTS_BEFORE]), int(times_us[0]) + history_us)
        from_us, until_us = max(known_us, log.at_us(LATER_PART)), int(times_us[-1])
        next_us = times_us[np.searchsorted(times_us, min(from_us, until_us))]
        if next_us < until_us:
            found.append(Chance(key, from_us, until_us))
    return found


def random_u64(rng: np.random.Generator, n: int) -> U64:
    """Numbers that nothing in the log has: stand-ins for keyed hashes, never 0."""
    return rng.integers(1, 1 << 64, n, np.uint64)


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A random number, each of its orders of magnitude as likely."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


@dataclass(frozen=True, slots=True)
class InjectedLog:
    """A log in which each attack has a key of its own; ``key_lo[i]`` is that of attack i.

    Of its texts it has only those of the keys: nobody reads a sentence about it.
    """

    events: EventBatch
    key_lo: U64


def injected(
    log: Log, injections: Sequence[Injection], rng: np.random.Generator
) -> Iterator[InjectedLog]:
    """Logs that together hold all attacks, in their order, about 2 million events each."""
    group: list[EventBatch] = []
    for injection in injections:
        group.append(_attacked(log, injection, random_u64(rng, 2)))
        if sum(map(len, group)) >= GROUP_EVENTS:
            yield _joined(group)
            group = []
    if group:
        yield _joined(group)


def _attacked(log: Log, injection: Injection, key: U64) -> EventBatch:
    """The victim's events up to the end of the attack, and the attack's, under a new key."""
    rows = log.rows_of(injection.victim)
    rows = rows[log.events.ts_us[rows] <= injection.end_us]
    parts = log.events.take(rows), injection.events
    columns = {c: np.concatenate([getattr(b, c) for b in parts]) for c in EventBatch.COLUMNS}
    columns["key_hi"][:], columns["key_lo"][:] = key
    wide = int(key[0]) << 64 | int(key[1])
    names = Names(keys={wide: log.names[injection.victim]})
    return in_order(EventBatch(**columns, names=names))


def _joined(group: Sequence[EventBatch]) -> InjectedLog:
    keys = np.array([part.key_lo[0] for part in group])
    return InjectedLog(in_order(EventBatch.concat(group)), keys)


def in_order(events: EventBatch) -> EventBatch:
    """The events by time; those of one time stay in their order."""
    return events.take(np.argsort(events.ts_us, kind="stable"))
