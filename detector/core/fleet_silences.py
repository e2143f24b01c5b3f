"""Silences of keys, told once each, and once for all of them where many fall silent together.

They accuse nobody and are in no budget of alerts. A silence waits for an hour of event time after
it is due: more than KEYS_MAX that are due within an hour of it, or that began within half an hour
of it, are one outage (of the log, of a gateway, or a public holiday) and one record with key ``*``.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

import msgspec

from detector.core.episodes import alert_id, rfc3339
from detector.core.fleet_window import DAY_US, HOUR_US
from models.clock import CELL_US

KEYS_MAX = 8
HOLD_US = HOUR_US
TOGETHER_US = HOUR_US // 2
WAITING_MAX = 100_000  # more at once are an outage anyway, and counted as such


class Silence(msgspec.Struct, array_like=True, frozen=True):
    """A key that spoke last at ``since_us`` and was missed by ``at_us``."""

    at_us: int
    key: str
    owner: str | None
    since_us: int
    expected: float
    nats: float
    keys: int = 1

    def to_record(self) -> dict[str, object]:
        """One line of ``silences.ndjson``."""
        return {
            "key": self.key,
            "owner": self.owner,
            "severity": "info",
            "since": rfc3339(self.since_us),
            "at": rfc3339(self.at_us),
            "expected": round(self.expected, 1),
            "nats": round(self.nats, 3),
            "keys": self.keys,
            "text": self.text,
        }

    @property
    def silence_id(self) -> str:
        """Identity: of the key and the last request before it, or of the time of an outage."""
        since_us = self.at_us if self.key == "*" else self.since_us
        return alert_id(self.key, "silence", since_us, 0)

    @property
    def text(self) -> str:
        """What happened, for people."""
        hours = (self.at_us - self.since_us) / HOUR_US
        if self.key == "*":
            return (
                f"{self.keys} keys fell silent at about the same time: look for an outage of the"
                " log, a gateway or a network, or a holiday"
            )
        return f"no request for {hours:.1f} h, in which {self.expected:,.0f} were expected"


class Silences(msgspec.Struct):
    """What waits, and the silences of the last hours.

    ``swept_us`` is how far the fleet's clock was taken; what is due before it was heard of then.
    """

    swept_us: int = -1
    waiting: list[Silence] = []
    recent: list[tuple[int, int]] = []  # (at_us, since_us)
    told_us: int = -DAY_US
    told: int = 0
    collapsed: int = 0
    notices: int = 0

    def hear(self, found: Iterable[Silence]) -> None:
        """Takes silences in any order; what is due before ``swept_us`` was heard before."""
        for one in found:
            if one.at_us <= self.swept_us:
                continue
            if len(self.waiting) < WAITING_MAX:
                self.waiting.append(one)
            else:
                self.collapsed += 1

    def take(self, until_us: int, *, is_end: bool = False) -> list[Silence]:
        """What can be told once all silences due by ``until_us`` were heard, in order of time."""
        self.swept_us = max(self.swept_us, until_us)
        ready_us = until_us if is_end else until_us - HOLD_US
        self.waiting.sort(key=lambda s: (s.at_us, s.key))
        n = bisect_right([s.at_us for s in self.waiting], ready_us)
        if n == 0:
            return []
        known = [*self.recent, *((s.at_us, s.since_us) for s in self.waiting)]
        due, begun = sorted(a for a, _ in known), sorted(b for _, b in known)
        taken, self.waiting = self.waiting[:n], self.waiting[n:]
        out = [record for s in taken for record in self._tell(s, due, begun)]
        marks = [*self.recent, *((s.at_us, s.since_us) for s in taken)]
        self.recent = [m for m in marks if m[0] > ready_us - DAY_US][-WAITING_MAX:]
        return out

    def _tell(self, s: Silence, due: list[int], begun: list[int]) -> list[Silence]:
        near = max(_within(due, s.at_us, HOLD_US), _within(begun, s.since_us, TOGETHER_US))
        if near <= KEYS_MAX:
            self.told += 1
            return [s]
        self.collapsed += 1
        if s.at_us < self.told_us + DAY_US:
            return []
        self.told_us = s.at_us
        self.notices += 1
        return [msgspec.structs.replace(s, key="*", owner=None, expected=0.0, nats=0.0, keys=near)]


def grid(watermark_us: int) -> int:
    """How far silences may be taken at this watermark: a whole cell behind it, for late events."""
    return (watermark_us // CELL_US - 1) * CELL_US


def _within(times: list[int], at_us: int, span_us: int) -> int:
    return bisect_right(times, at_us + span_us) - bisect_left(times, at_us - span_us)
