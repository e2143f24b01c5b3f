"""A log that changed: what so many keys show at once that it is not about any of them.

The fold tells of each key whose requests all show the same change (``core.changes``). Enough keys
of several owners within an hour make it a change of the log: one notice, and what the change
explains of a candidate does not count while it lasts. A candidate that may be one of them
waits until that is clear.
"""

from __future__ import annotations

import msgspec

from detector.core.fleet_storms import USUAL_HOURS, usual_keys
from detector.core.fleet_window import (
    DAY_US,
    HOUR_US,
    Finding,
    Mark,
    Notice,
    Sight,
    Window,
    expire,
    owned,
    owners,
    put,
    recent,
    some_keys,
)

WAIT_US = 5 * 60_000_000  # that long a candidate waits for others to show the same change
FACT_WAIT_US = 15 * 60_000_000  # and a hard fact that would be none without a path's prefix
COMPANY_US, COMPANY = 15 * 60_000_000, 2  # keys that showed it lately, so that it is worth waiting
OWNERS = 3
# Keys within an hour that make a change of the log: this share of those with candidates in the last
# week, at least and at most so many, and so many times what is usual for this very change.
SHARE, KEYS_LEAST, KEYS_MOST, FACTOR = 0.1, 12, 100, 6.0
LASTS_US = DAY_US // 2  # after the last key that told of it
REMEMBERED_US = 56 * DAY_US
CHANGES_MAX, KEYS_MAX, NOTICED_MAX = 1024, 256, 64
NEWS_NATS = 1.0
_SOURCE = (
    *("new_network", "actor_volume", "concurrency", "travel", "additive"),
    *("off_hours", "dormancy"),
)
_PATHS = ("new_route", "new_area", "foreign_mix")
_HINTS = {
    "network": "a proxy in front of the API, or a log that lost the client's address"
    " (X-Forwarded-For)",
    "client": "a proxy or log format that rewrites the user agent",
    "prefix": "a gateway or log format that puts it before every path",
    "no_network": "a log format or field mapping that lost the client's address",
    "no_client": "a log format or field mapping that lost the user agent",
    "network_came": "a log format that has begun to write it",
    "client_came": "a log format that has begun to write it",
}
_WHAT = {
    "network": "show the network {} and no other",
    "client": "show the client {} and no other",
    "prefix": "have all their paths begin with {}",
    "no_network": "lack the client's address",
    "no_client": "lack the user agent",
    "network_came": "have an address for the first time",
    "client_came": "have a user agent for the first time",
}


class _Change(msgspec.Struct):
    window: Window = {}
    hours: dict[int, int] = {}  # hour -> keys that told of it


class LogChanges(msgspec.Struct):
    """Windows of one hour by change, and the changes that many keys showed."""

    changes: dict[str, _Change] = {}
    noticed: dict[str, int] = {}  # change -> the latest time a key told of it

    def observe(
        self, change: str, key: str, owner: str, now_us: int, start_us: int, keys: int
    ) -> Finding:
        """Counts a key; has a notice when it completes the evidence.

        ``keys`` are those with candidates in the last week.
        """
        seen = self.changes.get(change) or _Change()
        window, hour = seen.window, now_us // HOUR_US
        expire(window, now_us - HOUR_US)
        limit = max(
            min(max(SHARE * keys, KEYS_LEAST), KEYS_MOST),
            FACTOR * usual_keys(seen.hours, now_us, start_us),
        )
        if key not in window and change not in self.noticed:
            seen.hours[hour] = seen.hours.get(hour, 0) + 1
        put(window, key, Mark(now_us, owner, "", "", 0.0, False), KEYS_MAX)
        put(self.changes, change, seen, CHANGES_MAX)
        if change in self.noticed:
            self.noticed[change] = now_us
        elif len(window) >= limit and owners(window) >= OWNERS:
            put(self.noticed, change, now_us, NOTICED_MAX)
        else:
            return Finding()
        return Finding(0.0, change, lambda: _notice(change, window), is_urgent=True)

    def judge(self, sight: Sight) -> Finding | None:
        """What the changes that last explain of a candidate; ``None`` if they do not concern it."""
        concerned = [c for c in self._of(sight) if self._lasts(c, sight.now_us)]
        if not concerned:
            return None
        signals, is_source = set[str](), False
        for change in concerned:
            kind = change.partition("/")[0]
            signals |= set(_PATHS if kind == "prefix" else _SOURCE)
            signals |= {"new_client"} if kind == "client" else set()
            is_source |= kind != "prefix"
        # a thief comes with something that did not change: with a client, or a network
        left = [s for s in ("new_client", "new_network") if s not in signals]
        is_anybody = sight.share(*left) < NEWS_NATS
        collapse = is_source and sight.channel == "stolen" and is_anybody
        return Finding(-sight.explained(*sorted(signals)), concerned[0], None, collapse)

    def has_company(self, sight: Sight) -> bool:
        """True when other keys have just told of a change that the candidate may be part of."""
        since_us = sight.now_us - COMPANY_US
        found = [c for c in self._of(sight) if not self._lasts(c, sight.now_us)]
        windows = [self.changes[c].window for c in found if c in self.changes]
        return any(recent(w, since_us) > COMPANY for w in windows)

    def was_noticed(self, change: str) -> bool:
        """True for a change that many keys showed within the last eight weeks."""
        return change in self.noticed

    def forget(self, now_us: int) -> None:
        """Drops what no window counts any more."""
        oldest = now_us // HOUR_US - USUAL_HOURS
        for seen in self.changes.values():
            expire(seen.window, now_us - HOUR_US)
            seen.hours = {h: n for h, n in seen.hours.items() if h >= oldest}
        self.changes = {c: s for c, s in self.changes.items() if s.window or s.hours}
        self.noticed = {c: t for c, t in self.noticed.items() if t > now_us - REMEMBERED_US}

    def _of(self, sight: Sight) -> list[str]:
        """Changes that a candidate may be due to."""
        found = list[str]()
        if sight.throttle:
            return found
        for kind, value in (("network", sight.network), ("client", sight.client)):
            if value and sight.nats.get(f"new_{kind}", 0.0) > 0.0:
                found.append(f"{kind}/{value}")
        if sight.share(*_PATHS) >= NEWS_NATS:
            found += [c for c in self.changes if c.startswith("prefix/")]
        return found

    def _lasts(self, change: str, now_us: int) -> bool:
        return self.noticed.get(change, -DAY_US) > now_us - LASTS_US


def _notice(change: str, window: Window) -> Notice:
    kind, _, value = change.partition("/")
    text = (
        f"data_quality: the log changed: {owned(window)} {_WHAT[kind].format(value)} within an"
        f" hour, and nothing else about them changed. Look for {_HINTS[kind]}. Nothing is learned"
        f" of it, and it raises no alert. Keys: {some_keys(window)}"
    )
    network = value if kind == "network" else ""
    return Notice("common_cause", "medium", text, len(window), 0.0, network)
