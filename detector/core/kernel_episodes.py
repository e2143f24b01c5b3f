"""The judging half of the fold: evidence to score, score to episode, episode to row."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from detector.core.episodes import ABUSED, STOLEN, THROTTLE
from detector.core.kernel_actors import SIZE_MAX
from detector.core.kernel_evidence import fill_context, fill_evidence, known_of
from detector.core.kernel_fields import is_under_prefix
from detector.core.rows import CLOSE, HARD, OPEN, PEAK
from detector.core.settings import OFF_COLD, OFF_HOLD
from models import combination, fusion
from models._jit import kernel
from models.clock import CELLS_PER_DAY, DAY_US

CLOSE_AFTER_US = DAY_US  # below the floor for this long closes an episode
EPISODE_MAX_US = 7 * DAY_US
STEP_NATS = 0.25  # a new maximum is reported when it is this much higher
HOLD_CELLS = 48  # 12 hours
HOLD_MAX_CELLS = 3 * CELLS_PER_DAY  # a period of holds lasts no longer
HOLD_AGAIN_CELLS = 14 * CELLS_PER_DAY  # and the next one begins no sooner after its beginning
HOLD_SHARE = 0.6  # of the threshold: from here on nothing is learned
SUSPECT_PAUSE_US = 3_600_000_000  # a suspicion that rests for an hour is over
SUSPECT_SHARE = 0.5  # of the floor: from here on requests count as possibly leaked
COLD_CELLS = 3 * CELLS_PER_DAY


class Judge(NamedTuple):
    """What an event is judged by: ``limits`` as in ``Rules``, of one set."""

    limits: Any
    trees: combination.Trees


@kernel
def _fill_row(s: Any, row: Any, slot: int, channel: int, kind: int, ts_us: int, event: int) -> None:
    key, e = s.keys[slot], s.episodes[slot, channel]
    row.kind, row.channel, row.slot, row.event = kind, channel, slot, event
    row.ts_us, row.ordinal = ts_us, key.ordinal
    row.opened_us, row.opened_ordinal = e.opened_us, e.opened_ordinal
    row.above_us, row.suspect_us = e.above_us, e.suspect_us
    row.leak_requests, row.leak_bytes = e.leak_requests, e.leak_bytes
    row.over = e.over


@kernel
def expired(e: Any, now_us: int) -> bool:
    """True when an open episode is over as of ``now_us``."""
    return (
        now_us - e.above_us > CLOSE_AFTER_US or now_us - e.opened_us > EPISODE_MAX_US
    ) and e.opened_us != 0


@kernel
def clear(e: Any) -> None:
    """Forgets a closed episode, and its suspicion unless that is still fresh."""
    e.opened_us = 0
    e.opened_ordinal = np.uint64(0)
    e.peak = 0.0
    e.over = e.held = 0
    e.suspect_us = 0
    e.leak_requests = 0
    e.leak_bytes = 0


@kernel
def _suspect(e: Any, ts_us: int) -> None:
    """Notes since when evidence has been gathering without an hour's pause."""
    rested = ts_us - e.suspect_last_us > SUSPECT_PAUSE_US and e.opened_us == 0
    if e.suspect_us == 0 or rested:
        e.suspect_us = ts_us
        e.leak_requests, e.leak_bytes = 0, 0
    e.suspect_last_us = max(e.suspect_last_us, ts_us)


@kernel
def _count_leak(s: Any, e: Any, actor_place: int, served_bytes: int) -> None:
    """Counts what the suspected party got: this request, or all of a new actor's.

    ``served_bytes`` is negative for a request that was refused: nothing leaked by it.
    """
    if actor_place < 0:
        if served_bytes >= 0:
            e.leak_requests += 1
            e.leak_bytes += served_bytes
        return
    a = s.actors[actor_place]
    e.leak_requests += a.served - a.counted
    e.leak_bytes += a.served_bytes - a.counted_bytes
    a.counted, a.counted_bytes = a.served, a.served_bytes
    e.suspect_us = min(e.suspect_us, a.first_us)


@kernel
def _hold(key: Any, e: Any) -> None:
    """Nothing is learned for 12 hours; renewed only where it came to an alert.

    What is merely unusual must be able to become usual, and what nobody objects to as well:
    a period of holds ends after three days, and learning has eleven before the next.
    """
    if e.held and not e.over:
        return
    if key.cell - key.hold_since >= HOLD_AGAIN_CELLS:
        key.hold_since = key.cell
    if key.cell - key.hold_since < HOLD_MAX_CELLS:
        key.hold_cell = max(key.hold_cell, key.cell + HOLD_CELLS)
    e.held = 1


@kernel
def _score(s: Any, slot: int, channel: int, actor_place: int, z: Any, by: Judge) -> float:
    """The sum of the evidence, corrected by what it means together; fills in the context."""
    weights, known = by.limits[channel, 3:], known_of(s, slot)
    score = fusion.fuse(z, weights, known)
    if channel == THROTTLE or score < combination.FROM_NATS:
        return float(score)
    fill_context(s, slot, actor_place, z)
    drift = fusion.weighted(fusion.F_SLOW, weights, known, z[fusion.F_SLOW])
    return float(combination.corrected(score, drift, z, by.trees, channel))


@kernel
def _cold(s: Any, slot: int) -> float:
    """How new the key is: 1 with its first event, 0 from COLD_CELLS on."""
    if s.shard[0].off & OFF_COLD:
        return 0.0
    return max(0.0, 1.0 - (s.keys[slot].cell - s.volume[slot].born_cell) / COLD_CELLS)


@kernel
def _holds_from(base: float, extra: float, cold: float) -> float:
    """The score that holds learning, nats.

    A new key's is raised by as much as its alert threshold: where its first novelties held, those
    of its owner would stay novelties.
    """
    return HOLD_SHARE * base + extra * cold


@kernel
def judge(
    s: Any,
    slot: int,
    channel: int,
    actor_place: int,
    z: Any,
    by: Judge,
    ts_us: int,
    event: int,
    served_bytes: int,
    rows: Any,
    n_rows: int,
) -> int:
    """Moves the episode of one channel by one event; returns the new number of rows."""
    e = s.episodes[slot, channel]
    n_rows = _close_if_over(s, slot, channel, ts_us, event, rows, n_rows)
    floor, base = by.limits[channel, 0], by.limits[channel, 1]
    score = _score(s, slot, channel, actor_place, z, by)
    if score < SUSPECT_SHARE * floor or e.quiet_cell >= s.keys[slot].cell:
        return n_rows
    _suspect(e, ts_us)
    if channel != STOLEN:  # the whole key is under suspicion, from the first sign on
        _count_leak(s, e, -1, served_bytes)
    holds = channel != THROTTLE and s.shard[0].off & OFF_HOLD == 0
    if holds and score >= _holds_from(base, by.limits[channel, 2], _cold(s, slot)):
        _hold(s.keys[slot], e)
    if score < floor:
        return n_rows
    if channel == STOLEN:  # one source is, its earlier requests included
        _count_leak(s, e, actor_place, served_bytes)
    return _raise(s, slot, channel, actor_place, z, by, score, ts_us, event, rows, n_rows)


@kernel
def judge_throttle(
    s: Any,
    slot: int,
    actor_place: int,
    z: Any,
    by: Judge,
    ts_us: int,
    event: int,
    served_bytes: int,
    rows: Any,
    n_rows: int,
) -> int:
    """THROTTLE: a limit may be proposed for growth, which accuses nobody."""
    drift = z[fusion.F_SLOW]
    z[fusion.F_SLOW] = max(drift, s.slow[slot].growth)
    n_rows = judge(s, slot, THROTTLE, actor_place, z, by, ts_us, event, served_bytes, rows, n_rows)
    z[fusion.F_SLOW] = drift
    return n_rows


@kernel
def judge_refused(
    s: Any,
    slot: int,
    auth: Any,
    z: Any,
    by: Judge,
    ts_us: int,
    event: int,
    rows: Any,
    n_rows: int,
) -> int:
    """Moves the ABUSED episode about a key that refuses somebody.

    It holds no learning and counts no leak: whoever is refused could otherwise blind the key's
    baseline at will.
    """
    n_rows = _close_if_over(s, slot, ABUSED, ts_us, event, rows, n_rows)
    z[:] = 0.0
    z[fusion.F_ERRORS] = auth.evidence
    score = fusion.fuse(z, by.limits[ABUSED, 3:], known_of(s, slot))
    if score < by.limits[ABUSED, 0] or s.episodes[slot, ABUSED].quiet_cell >= s.keys[slot].cell:
        return n_rows
    _suspect(s.episodes[slot, ABUSED], ts_us)
    before = n_rows
    n_rows = _raise(s, slot, ABUSED, -1, z, by, score, ts_us, event, rows, n_rows)
    if n_rows > before:
        rows[before].tries, rows[before].tries_cell = auth.tries, auth.cell_refused
        rows[before].corrected = 0
    return n_rows


@kernel
def _close_if_over(
    s: Any, slot: int, channel: int, ts_us: int, event: int, rows: Any, n_rows: int
) -> int:
    e = s.episodes[slot, channel]
    if not expired(e, max(s.keys[slot].last_us, ts_us)):
        return n_rows
    _fill_row(s, rows[n_rows], slot, channel, CLOSE, ts_us, event)
    clear(e)
    return n_rows + 1


@kernel
def _raise(
    s: Any,
    slot: int,
    channel: int,
    actor_place: int,
    z: Any,
    by: Judge,
    score: float,
    ts_us: int,
    event: int,
    rows: Any,
    n_rows: int,
) -> int:
    """Opens the episode, or reports a new maximum or the crossing of its threshold."""
    key, e = s.keys[slot], s.episodes[slot, channel]
    threshold = by.limits[channel, 1] + by.limits[channel, 2] * _cold(s, slot)
    e.above_us = max(e.above_us, ts_us)
    crossed = score >= threshold and e.over == 0
    kind = PEAK
    if e.opened_us == 0:
        e.opened_us, e.opened_ordinal, kind = ts_us, key.ordinal, OPEN
    elif not crossed and score < e.peak + STEP_NATS:
        return n_rows
    e.peak = max(e.peak, score)
    e.over = e.over or crossed
    row = rows[n_rows]
    _fill_row(s, row, slot, channel, kind, ts_us, event)
    fill_evidence(s, row, slot, actor_place, z)
    row.combined = score - fusion.fuse(z, by.limits[channel, 3:], row.known)
    row.corrected = channel != THROTTLE and by.trees.nats.shape[1] > 0
    row.score, row.threshold = score, threshold
    return n_rows + 1


@kernel
def hard_fact(
    s: Any, slot: int, fact: int, ts_us: int, event: int, size_bytes: int, rows: Any, n_rows: int,
    prefix: int,
) -> int:  # fmt: skip
    """A deterministic fact (1 to 4, ``core.violations``): one row per key, fact and day.

    ``prefix`` is not 0 where the path would fit the grants without its first segment.
    """
    if prefix != 0 and is_under_prefix(s, slot, prefix):
        return n_rows
    day = ts_us // DAY_US + 1
    if s.keys[slot].hard_day[fact - 1] >= day:
        return n_rows
    s.keys[slot].hard_day[fact - 1] = day
    row = rows[n_rows]
    _fill_row(s, row, slot, ABUSED, HARD, ts_us, event)
    row.fact, row.prefix = fact, prefix
    row.leak_requests, row.leak_bytes = 1, min(size_bytes, SIZE_MAX)
    return n_rows + 1
