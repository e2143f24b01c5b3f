"""Masquerades: one key's real requests spliced into the life of another.

The idea is Schonlau's (Computer intrusion: detecting masquerades, Statistical Science 2001):
somebody else's true behaviour is a better thief than an invented one, and needs no labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detector.core.events import I64
from models.clock import CELL_US
from replay.tune.injection import (
    HOUR_US,
    PER_VICTIM_MAX,
    Chance,
    Injection,
    chances,
    log_uniform,
)
from replay.tune.log import Log, Rows

GAP_US = HOUR_US  # a longer pause ends a session
REQUESTS_MIN, REQUESTS_MAX = 3, 2000
PER_CELL_MAX = 60  # of a thief's requests; more is a flood, which needs no splice
THINNED_PART = 0.5  # of the thieves are slowed down to a share of their victim's pace
SHARE_MIN = 0.05
_TRIES = 8


@dataclass(frozen=True, slots=True)
class Sessions:
    """Stretches of one key's requests without a pause, by their start.

    ``rows`` are rows of the log's events, session after session; session i of ``donor[i]``
    is ``rows[first[i]:first[i] + size[i]]`` and starts at ``start_us[i]``. It is drawn with a
    chance as the root of its size, ``reach[i + 1] - reach[i]``.
    """

    rows: Rows
    first: Rows
    size: Rows
    donor: Rows
    start_us: I64
    reach: npt.NDArray[np.float64]


def sessions(log: Log, from_us: int) -> Sessions:
    """All sessions that start from a time on, of 3 to 2000 requests, at most 60 a cell.

    A longer stretch is cut into several. Vectorised over the whole log.
    """
    rows, ts_us = log.order, log.events.ts_us[log.order]
    key = np.repeat(np.arange(log.n_keys), np.diff(log.bounds))
    calm = _place_in_run((key, ts_us // CELL_US)) < PER_CELL_MAX
    rows, ts_us, key = rows[calm], ts_us[calm], key[calm]
    pause = np.diff(ts_us, prepend=ts_us[:1]) > GAP_US
    stretch = np.cumsum(pause | (np.diff(key, prepend=-1) != 0))
    piece = _place_in_run((stretch,)) // REQUESTS_MAX
    first = np.flatnonzero(_place_in_run((stretch, piece)) == 0)
    size = np.diff(first, append=len(rows))
    kept = (size >= REQUESTS_MIN) & (ts_us[first] >= from_us)
    first, size = first[kept], size[kept]
    by_start = np.argsort(ts_us[first], kind="stable")
    first, size = first[by_start], size[by_start]
    reach = np.concatenate([[0.0], np.cumsum(np.sqrt(size))])
    return Sessions(rows, first, size, key[first], ts_us[first], reach)


def _place_in_run(columns: tuple[Rows | I64, ...]) -> Rows:
    """How many rows directly before each have the same values in all columns."""
    n = len(columns[0])
    new = np.zeros(n, bool)
    new[:1] = True
    for column in columns:
        new[1:] |= column[1:] != column[:-1]
    starts = np.flatnonzero(new)
    return np.arange(n) - np.repeat(starts, np.diff(starts, append=n))


def splices(log: Log, count: int, rng: np.random.Generator) -> list[Injection]:
    """Up to ``count`` masquerades: random sessions of random donors under victims' keys.

    Requests keep their times. A victim gets one, or up to three where there are too few keys.
    Donor and victim differ, and so do their owners where both are known.
    """
    chance = chances(log, rng)
    if not chance:
        return []
    all_sessions = sessions(log, min(c.from_us for c in chance))
    found: list[Injection] = []
    for _ in range(PER_VICTIM_MAX):
        for victim in chance:
            if len(found) == count:
                return found
            donated = _donated(log, all_sessions, victim, rng)
            if donated is not None:
                found.append(_splice(log, victim, donated, rng))
    return found


def _donated(log: Log, s: Sessions, victim: Chance, rng: np.random.Generator) -> Rows | None:
    """Rows of a session that may happen to this victim, or ``None`` after a few tries."""
    low, high = np.searchsorted(s.start_us, (victim.from_us, victim.until_us))
    reach = s.reach[high] - s.reach[low]
    drawn = s.reach[low] + rng.random(_TRIES) * reach
    for i in (np.searchsorted(s.reach, drawn, side="right") - 1).tolist() if reach else []:
        donor = int(s.donor[i])
        rows = s.rows[s.first[i] : s.first[i] + s.size[i]]
        rows = rows[: round(log_uniform(rng, REQUESTS_MIN, REQUESTS_MAX))]
        alive = log.events.ts_us[rows[-1]] < victim.until_us
        if alive and donor != victim.key and not _same_owner(log, donor, victim.key):
            return rows
    return None


def _same_owner(log: Log, one: int, other: int) -> bool:
    owner = log.owners[one]
    return owner is not None and owner == log.owners[other]


def _splice(log: Log, victim: Chance, rows: Rows, rng: np.random.Generator) -> Injection:
    if rng.random() < THINNED_PART:
        rows = _thinned(log, victim, rows, rng)
    events = log.events.take(rows)
    own = log.rows_of(victim.key)
    own = own[log.events.ts_us[own] < events.ts_us[0]]
    known = np.isin(events.network, log.events.network[own])
    kind = "same network" if known.mean() > 0.5 else "elsewhere"
    return Injection(kind, victim.key, events)


def _thinned(log: Log, victim: Chance, rows: Rows, rng: np.random.Generator) -> Rows:
    """Fewer of the rows: .05 to 1 request for each the victim makes in an active hour."""
    ts_us = log.events.ts_us
    own_us = log.times_of(victim.key)
    own_us = own_us[own_us < ts_us[rows[0]]]
    active_h = len(np.unique(own_us // HOUR_US))
    hours = 1 + (ts_us[rows[-1]] - ts_us[rows[0]]) / HOUR_US
    wanted = log_uniform(rng, SHARE_MIN, 1.0) * hours * len(own_us) / active_h
    size = min(len(rows), max(REQUESTS_MIN, round(wanted)))
    return np.sort(rng.choice(rows, size, replace=False))
