"""Storms: many keys near or over their threshold at once, for the same kind of reason.

An outage, a changed path prefix or a marketing campaign moves hundreds of keys within the
hour; hundreds of thefts do not begin in the same one. While a storm lasts its signal explains
itself: a candidate must reach its threshold without it. So a thief with evidence of another
kind is still an alert in the middle of a storm.
"""

from __future__ import annotations

from functools import partial

import msgspec

from detector.core.fleet_window import (
    DAY_US,
    HOUR_US,
    Finding,
    Notice,
    Sight,
    Window,
    expire,
    owned,
    put,
    some_keys,
)

KEYS_MIN, FACTOR = 8, 6.0  # a storm has more keys in an hour than both 8 and 6 x usual
NEAR = 0.6  # of the threshold: from here on a candidate counts
MAJOR_SHARE, MAJOR_NATS = 0.25, 1.0  # of the sum: a signal that carries as much counts
USUAL_HOURS, USUAL_HOURS_MIN = 168, 24
STORM_KEYS_MAX = 4096
COMPANY = 2

# Who a request comes from is no storm: networks and clients have rules of their own. What is
# measured once a day comes at midnight for all keys.
_NEVER = (
    *("new_network", "new_client", "dormancy", "concurrency", "travel", "additive"),
    "slow_drift",
)
_PATHS = ("new_route", "new_area", "foreign_mix")
_HINTS = {
    "probing": "an outage, a changed path prefix, or a client release that calls wrong paths",
    "denied": "changed rights or grants, or a client release that calls what is not allowed",
    "errors": "an identity provider that fails, or one party trying many keys",
    "volume": "a marketing campaign, retries after an outage, or a flood over many keys",
    "surge": "a marketing campaign, retries after an outage, or a flood over many keys",
    "actor_volume": "a marketing campaign, or traffic moved to new machines",
    "enumeration": "a synchronisation all customers run, or changed identifiers in the log",
    "sequence": "a synchronisation all customers run, or changed identifiers in the log",
    "off_hours": "a public holiday, or a changed time zone or clock in the log",
}
_PATHS_HINT = "a launched or renamed part of the API, or a changed path in the log"


class _Storm(msgspec.Struct):
    window: Window = {}
    hours: dict[int, int] = {}  # hour -> keys that joined, at most the limit of the time
    since_us: int = -1
    until_us: int = -1


class Storms(msgspec.Struct):
    """Windows of one hour by signal; a throttle's signals apart from an alert's."""

    by_signal: dict[str, _Storm] = {}

    def observe(self, sight: Sight, start_us: int) -> list[tuple[str, float]]:
        """Counts a sight; ``(alert_id, nats left)`` of all keys of a storm that just began."""
        struck: list[tuple[str, float]] = []
        if sight.level < NEAR * sight.bar:
            return struck
        for signal in _major(sight):
            storm = self.by_signal.setdefault(_name(sight, signal), _Storm())
            expire(storm.window, sight.now_us - HOUR_US)
            limit = _limit(storm, sight.now_us, start_us)
            if sight.key not in storm.window:
                hour = sight.now_us // HOUR_US
                storm.hours[hour] = min(storm.hours.get(hour, 0) + 1, int(limit))
            put(storm.window, sight.key, sight.mark(_left(sight, signal)), STORM_KEYS_MAX)
            if len(storm.window) > limit:
                if storm.until_us < sight.now_us:
                    storm.since_us = sight.now_us
                    struck += [(m.alert_id, m.rest) for m in storm.window.values()]
                storm.until_us = sight.now_us + HOUR_US
        return struck

    def has_company(self, sight: Sight) -> bool:
        """True when another key showed a major signal of it within the hour."""
        return any(self._count(sight, s) >= COMPANY for s in _major(sight))

    def depends(self, sight: Sight) -> bool:
        """True when it is below the threshold without its signals that can be a storm."""
        return sight.level - sight.explained(*_major(sight)) < sight.bar

    def judge(self, sight: Sight, log_change_keys: int, start_us: int) -> Finding:
        """What the storms that last explain of it."""
        lasting = [s for s in sight.nats if s not in _NEVER and self._lasts(sight, s)]
        if not lasting:
            return Finding()
        first = min(lasting, key=lambda s: (self.by_signal[_name(sight, s)].since_us, s))
        explained = sight.explained(*lasting)
        if sight.throttle:
            return Finding(-explained)
        group = "paths" if first in _PATHS else first
        about = f"storm/{group}/{self.by_signal[first].since_us // DAY_US}"
        notice = partial(self._notice, sight, first, log_change_keys, start_us)
        return Finding(-explained, about, notice, is_of_channel=True)

    def forget(self, now_us: int) -> None:
        """Drops hours and marks that no longer count."""
        oldest = now_us // HOUR_US - USUAL_HOURS
        for storm in self.by_signal.values():
            expire(storm.window, now_us - HOUR_US)
            storm.hours = {h: n for h, n in storm.hours.items() if h >= oldest}

    def _lasts(self, sight: Sight, signal: str) -> bool:
        storm = self.by_signal.get(_name(sight, signal))
        return storm is not None and storm.until_us >= sight.now_us

    def _count(self, sight: Sight, signal: str) -> int:
        storm = self.by_signal.get(_name(sight, signal))
        if storm is None:
            return 0
        expire(storm.window, sight.now_us - HOUR_US)
        return len(storm.window)

    def _notice(self, sight: Sight, signal: str, log_change_keys: int, start_us: int) -> Notice:
        storm = self.by_signal[signal]
        window, usual = storm.window, usual_keys(storm.hours, sight.now_us, start_us)
        hint = _HINTS.get(signal, _PATHS_HINT if signal in _PATHS else "one cause for all")
        what = f"{owned(window)} at once: {signal}"
        if signal in _PATHS and len(window) >= log_change_keys:
            what = f"data_quality: the log changed: {owned(window)} call paths new to them"
        text = (
            f"{what}, within an hour; usual are {usual:.1f}. Look for {hint}. While it lasts,"
            f" alerts that rest on it are left out. Keys: {some_keys(window)}"
        )
        return Notice("common_cause", "medium", text, len(window), round(usual, 3))


def usual_keys(hours: dict[int, int], now_us: int, start_us: int) -> float:
    """Keys an hour, over the last week without the hour that has begun."""
    now_h = now_us // HOUR_US
    past = sum(n for h, n in hours.items() if now_h - USUAL_HOURS <= h < now_h)
    return past / min(max((now_us - start_us) / HOUR_US, USUAL_HOURS_MIN), USUAL_HOURS)


def _limit(storm: _Storm, now_us: int, start_us: int) -> float:
    return max(float(KEYS_MIN), FACTOR * usual_keys(storm.hours, now_us, start_us))


def _major(sight: Sight) -> list[str]:
    least = max(MAJOR_NATS, MAJOR_SHARE * sight.total)
    return [s for s, n in sight.nats.items() if n >= least and s not in _NEVER]


def _left(sight: Sight, signal: str) -> float:
    return sight.level - sight.explained(signal)


def _name(sight: Sight, signal: str) -> str:
    return f"throttle/{signal}" if sight.throttle else signal
