"""Slow drift: what a key takes per day moves away from its own past, a little every day.

One record per day: requests, bytes and identifiers never asked for before, as logarithms,
kept for 28 days. Two tests when a day closes:

- *composition*: bytes and new identifiers **per request** against the key's days 3 to 24
  back (median, MAD with a floor), counted on routes the key has used for four weeks, because
  a deploy brings other routes. A key that grows takes more of everything in proportion; a
  key that is being emptied takes more per request, or other objects. Accumulated as a CUSUM
  of robust z-scores (Page, 1954). The three newest days are left out of the reference, so a
  patient attacker does not drag it along. Bytes and identifiers have a CUSUM each: sizes of
  responses are heavy-tailed, shares of new identifiers are not, so a small lasting shift of
  the latter is far stronger evidence (``objects``).
- *ramp*: total requests and bytes by a straight line against a single step at the best place
  (log-likelihood ratio of two Gaussian fits with the same number of parameters less one).
  Permanent growth comes as a step; poisoning comes as a ramp.

A third one, *growth*, is for THROTTLE alone: the newest three days against a level that follows
weeks behind (log-likelihood ratio of twice as much against as much), less what speaks for a step.
Where days differ by a quarter, no test can tell a ramp from growth before it has tripled, and
growth is too common for alerts; a limit can be proposed.

A held day is left out of the record of what a request takes, as if it had not been. The
record of how many there were keeps it, or a ramp would be out of sight on the day it is
suspected.
Sources: Page (1954); Rousseeuw & Croux (1993) for the MAD.
"""

from __future__ import annotations

from math import log, sqrt
from typing import Any

import numpy as np
from river.base import AnomalyDetector

from models._jit import kernel
from models.clock import CELLS_PER_DAY, DAY_US, is_weekend

DAYS = 28
LAG_DAYS, REFERENCE_DAYS = 3, 24
REFERENCE_MIN = 7  # days of reference before anything is said
REQUESTS_MIN = 20.0  # a day with fewer says nothing about what a request takes
SCALE = 512.0  # logarithms are kept in 1/512 nat
FRESH_SHIFT = 24.0  # keeps the log of a share positive
SETTLED_CELLS = 28 * CELLS_PER_DAY  # a route is of old from here on,
FIRST_CELLS = 3 * CELLS_PER_DAY  # or when the key used it in its first days
FLOOR_Z = 0.15  # nats: spread that is never undercut
CUSUM_GAIN, CUSUM_DRIFT, CUSUM_MIN, CUSUM_MAX = 0.8, 0.9, -1.0, 2.0
SIZE_VARIANCE = 2.0  # squared coefficient of variation of one response: sizes are heavy-tailed
# of new identifiers: the likelihood ratio of a shift by one standard deviation
OBJECTS_FLOOR_Z, OBJECTS_SHIFT, OBJECTS_Z_MAX = 0.05, 1.0, 3.0
EVIDENCE_MAX = 12.0
RAMP_MAX = 20.0  # enough for an alert of its own: a line that good is nobody's weather
RAMP_WINDOWS_DAYS = (10, 14, 21)
RAMP_GROWTH_MIN = 0.5  # nats over the ramp's days: less is nobody's concern
MAD_TO_SIGMA = 1.4826
# of growth: days that are compared, how slowly the level they are compared with follows,
GROWTH = 2  # how rows say that growth is what counts; 1 = ramp, 0 = composition
RECENT_DAYS, FROZEN_DAYS = 3, 14.0
GROWTH_SHIFT, GROWTH_FLOOR_Z = 0.693, 0.1  # the shift asked about (twice), the least spread; nats

SLOW = np.dtype(
    [
        ("day", "i4"),  # the open day, days since 1970; 0 = none yet
        ("requests", "u4"),  # of the open day
        ("settled", "u4"),  # those on routes of old; the next two count only these
        ("fresh", "u4"),
        ("bytes", "f8"),
        ("ring", "u2", (3, DAYS)),  # logs: requests; bytes and new ids per settled one; 0 = none
        ("cusum", "f4"),
        ("objects", "f4"),  # evidence of new identifiers
        ("ramp", "f4"),
        ("growth", "f4"),
        ("recent", "f4"),  # mean log requests of the newest days; 0 = not known
        ("frozen", "f4", (2,)),  # log requests a day and its spread, weeks behind; 0 = not known
        ("weekend", "f4"),  # log requests of weekend days less that of weekdays
        ("usual", "f4", (3,)),  # reference medians as of the last closed day
        ("last", "f4", (3,)),  # the last closed day
    ],
    align=True,
)


@kernel
def evidence(s: Any) -> float:
    """Nats as of the last closed day: the larger of bytes and ramp."""
    return max(s.cusum, s.ramp)


@kernel
def _value(s: Any, metric: int, day: int) -> float:
    """A recorded day's number: 0 requests, 1 bytes and 2 new identifiers per request; -1 = none."""
    kept = s.ring[metric, day % DAYS]
    return kept / SCALE if kept > 0 else -1.0


@kernel
def _median(s: Any, metric: int, day: int, centre: float) -> float:
    """Median over the reference days of ``day``, of |value - centre| when centre >= 0; -1 = few.

    Selection by counting: 22 values, nothing to allocate.
    """
    n = 0
    for i in range(LAG_DAYS, REFERENCE_DAYS + 1):
        n += _value(s, metric, day - i) >= 0.0
    if n < REFERENCE_MIN:
        return -1.0
    for i in range(LAG_DAYS, REFERENCE_DAYS + 1):
        v = _value(s, metric, day - i)
        if v < 0.0:
            continue
        v = abs(v - centre) if centre >= 0.0 else v
        below = equal = 0
        for j in range(LAG_DAYS, REFERENCE_DAYS + 1):
            w = _value(s, metric, day - j)
            if w < 0.0:
                continue
            w = abs(w - centre) if centre >= 0.0 else w
            below += w < v
            equal += w == v
        if below <= n // 2 < below + equal:
            return v
    return -1.0


@kernel
def robust_z(s: Any, metric: int, day: int) -> float:
    """How far a day's number is above its reference, in robust standard deviations."""
    v = _value(s, metric, day)
    if v < 0.0 or s.settled < 1:
        return 0.0
    centre = _median(s, metric, day, -1.0)
    if centre < 0.0:
        return 0.0
    s.usual[metric] = centre
    s.last[metric] = v
    spread = MAD_TO_SIGMA * _median(s, metric, day, centre)
    if metric == 2:  # the spread of the days before has the noise of counting in it
        variance = max(spread * spread, 1.0 / (1.0 + s.fresh)) + OBJECTS_FLOOR_Z**2
    else:
        variance = spread * spread + SIZE_VARIANCE / s.settled + FLOOR_Z**2
    return (v - centre) / sqrt(variance)


@kernel
def weekend_offset(s: Any, day: int) -> float:
    """Mean log requests of the weekend days less that of the weekdays, 8 to 27 days back."""
    n0, n1, sum0, sum1 = 0, 0, 0.0, 0.0
    for i in range(8, DAYS):
        v = _value(s, 0, day - i)
        if v < 0.0:
            continue
        if is_weekend((day - i) * CELLS_PER_DAY):
            n1 += 1
            sum1 += v
        else:
            n0 += 1
            sum0 += v
    return sum1 / n1 - sum0 / n0 if n0 >= 2 and n1 >= 2 else 0.0


@kernel
def _level(s: Any, day: int) -> float:
    """Log requests of a day, weekends raised to weekdays; -1 = none."""
    v = _value(s, 0, day)
    if v < 0.0 or not is_weekend(day * CELLS_PER_DAY):
        return v
    return max(0.0, v - s.weekend)


@kernel
def _line_error(s: Any, day: int, days: int, slope: float, centre: float) -> float:
    total = 0.0
    for i in range(days):
        v = _level(s, day - i)
        if v >= 0.0:
            total += (v - centre - slope * (days / 2.0 - i)) ** 2
    return total


@kernel
def _step_error(s: Any, day: int, days: int, cut: int) -> float:
    """Squared error of two levels, the newer ``cut`` days and the rest."""
    total = 0.0
    for part in range(2):
        n, mean, square = 0, 0.0, 0.0
        for i in range(cut if part == 0 else days - cut):
            v = _level(s, day - i - (0 if part == 0 else cut))
            if v >= 0.0:
                n += 1
                mean += v
                square += v * v
        if n > 0:
            total += square - mean * mean / n
    return max(total, 0.0)


@kernel
def ramp_over(s: Any, day: int, days: int) -> float:
    """Nats for "growing a little every day" against "one step up", over ``days``; 0 = no growth."""
    n, sx, sy, sxx, sxy = 0, 0.0, 0.0, 0.0, 0.0
    for i in range(days):
        v = _level(s, day - i)
        if v >= 0.0:
            x = days / 2.0 - i
            n += 1
            sx += x
            sy += v
            sxx += x * x
            sxy += x * v
    if n < days - 2:
        return 0.0
    slope = (sxy - sx * sy / n) / (sxx - sx * sx / n)
    if slope * days < RAMP_GROWTH_MIN:
        return 0.0
    noise = n * 0.03 * 0.03  # days are never known better than this
    line = _line_error(s, day, days, slope, sy / n - slope * sx / n) + noise
    step = 1e300
    for cut in range(1, days):
        step = min(step, _step_error(s, day, days, cut))
    return 0.5 * n * log((step + noise) / line)


@kernel
def ramp(s: Any, day: int) -> float:
    """The largest over a fast, a middling and a slow ramp."""
    best = 0.0
    for days in RAMP_WINDOWS_DAYS:
        best = max(best, ramp_over(s, day, days))
    return min(RAMP_MAX, best)


@kernel
def recent_level(s: Any, day: int) -> float:
    """Mean log requests of the newest days, weekends raised to weekdays; 0 = one has none."""
    total = 0.0
    for i in range(RECENT_DAYS):
        v = _level(s, day - i)
        if v < 0.0:
            return 0.0
        total += v
    return total / RECENT_DAYS


@kernel
def _follow(s: Any, day: int) -> None:
    """Moves the frozen level towards the reference days' median, and its spread likewise.

    At once where the newest days agree with that median: a level that has held for half of the
    reference is the key's own. A ramp is always ahead of it, and is followed slowly.
    """
    centre = _median(s, 0, day, -1.0)
    if centre < 0.0:
        return
    spread = MAD_TO_SIGMA * _median(s, 0, day, centre)
    is_settled = s.recent > 0.0 and abs(s.recent - centre) < 0.5 * GROWTH_SHIFT
    gain = 1.0 if is_settled or s.frozen[0] <= 0.0 else 1.0 / FROZEN_DAYS
    s.frozen[0] += gain * (centre - s.frozen[0])
    s.frozen[1] += gain * (spread - s.frozen[1])


@kernel
def growth(s: Any, day: int) -> float:
    """Nats for twice the frozen level over the newest days, less those for a single step."""
    if s.recent <= 0.0 or s.frozen[0] <= 0.0:
        return 0.0
    beyond = s.recent - s.frozen[0]
    variance = s.frozen[1] * s.frozen[1] / RECENT_DAYS + GROWTH_FLOOR_Z * GROWTH_FLOOR_Z
    nats = min(RAMP_MAX, GROWTH_SHIFT * (beyond - 0.5 * GROWTH_SHIFT) / variance)
    against = 0.0
    for days in RAMP_WINDOWS_DAYS:
        against = min(against, ramp_over(s, day, days))
    return max(0.0, nats + against)


@kernel
def _push(s: Any, day: int, held: bool) -> None:
    at = day % DAYS
    for m in range(3):
        s.ring[m, at] = 0
    if s.requests == 0:
        return
    s.ring[0, at] = int(SCALE * log(1.0 + s.requests))
    if s.settled >= REQUESTS_MIN and not held:
        s.ring[1, at] = 1 + min(65534, int(SCALE * log(1.0 + s.bytes / s.settled)))
        s.ring[2, at] = 1 + int(SCALE * (FRESH_SHIFT + log((s.fresh + 1.0) / s.settled)))


@kernel
def close_day(s: Any, day: int, held: bool) -> None:
    """Closes the open day and opens ``day``; days between brought nothing."""
    if s.day > 0:
        _push(s, s.day, False)
        robust_z(s, 0, s.day)
        step = CUSUM_GAIN * robust_z(s, 1, s.day) - CUSUM_DRIFT
        s.cusum = min(max(s.cusum + min(max(step, CUSUM_MIN), CUSUM_MAX), 0.0), EVIDENCE_MAX)
        z = min(max(robust_z(s, 2, s.day), -OBJECTS_Z_MAX), OBJECTS_Z_MAX)
        step = OBJECTS_SHIFT * (z - 0.5 * OBJECTS_SHIFT)
        s.objects = min(max(s.objects + step, 0.0), EVIDENCE_MAX)
        s.weekend = weekend_offset(s, s.day)
        s.ramp = ramp(s, s.day)
        s.recent = recent_level(s, s.day)
        _follow(s, s.day)
        s.growth = growth(s, s.day)
        if held:
            _push(s, s.day, True)
        for missing in range(min(day - s.day - 1, DAYS)):
            for m in range(3):
                s.ring[m, (s.day + 1 + missing) % DAYS] = 0
    s.day = day
    s.requests = s.settled = s.fresh = 0
    s.bytes = 0.0


@kernel
def observe(s: Any, size_bytes: int, is_fresh: bool, is_settled: bool) -> None:
    """Counts one request of the open day; ``is_settled``: on a route of old."""
    s.requests += 1
    if is_settled:
        s.settled += 1
        s.fresh += is_fresh
        s.bytes += size_bytes


class SlowDrift(AnomalyDetector):
    """Evidence that a key takes more, or other things, per request than it used to.

    Parameters
    ----------
    size, time
        Feature names: response bytes, event time in seconds since 1970 UTC.
    fresh
        Feature that says whether the request's identifier was new to the key.
    what
        ``"drift"``: bytes per request and the ramp; ``"objects"``: new identifiers per request.

    Examples
    --------
    >>> model = SlowDrift()
    >>> for day in range(30):                         # a month of the same
    ...     for i in range(50):
    ...         model = model.learn_one({"t": day * 86400 + i * 60, "size": 1000 + day % 3})
    >>> model.score_one({"t": 30 * 86400, "size": 1000})
    0.0
    >>> for day in range(30, 40):                     # then twice as much per request
    ...     for i in range(50):
    ...         model = model.learn_one({"t": day * 86400 + i * 60, "size": 2000})
    >>> model.score_one({"t": 40 * 86400, "size": 2000}) > 8
    True
    """

    def __init__(
        self, size: str = "size", fresh: str = "fresh", time: str = "t", what: str = "drift"
    ) -> None:
        self.size = size
        self.fresh = fresh
        self.time = time
        self.what = what
        self._state = np.zeros(1, SLOW)

    def _observed(self, state: Any, x: dict[str, Any]) -> None:
        day = int(float(x[self.time]) * 1_000_000) // DAY_US
        if day > state[0]["day"]:
            close_day(state[0], day, False)
        observe(state[0], int(x.get(self.size) or 0), bool(x.get(self.fresh)), True)

    def score_one(self, x: dict[str, Any]) -> float:
        """Evidence in nats if this request came now; changes nothing."""
        if self.time not in x:
            return 0.0
        state = self._state.copy()
        self._observed(state, x)
        return float(state[0]["objects"] if self.what == "objects" else evidence(state[0]))

    def learn_one(self, x: dict[str, Any]) -> SlowDrift:
        """Counts one request."""
        if self.time in x:
            self._observed(self._state, x)
        return self
