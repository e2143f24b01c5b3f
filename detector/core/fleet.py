"""The fleet stage: one sequential merge of candidates that decides what becomes an alert.

It keeps the promise "at most N false alerts a week" by shipped thresholds and a hard cap:
never more than ``ceil(1.2 N)`` statistical alerts in seven days, and in a log of d days
never more than ``max(1, ceil(1.2 N d / 7))``. Hard facts are outside that budget; more
than HARD_KEYS_MAX keys in an hour collapse into one notice. Offering a candidate again
(after a restart) changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from heapq import heapify, heappop, heappush
from math import ceil

import msgspec

from detector.core.episodes import Candidate, Episode, Reason, alert_id, alerted
from models.clock import DAY_US

HOUR_US = 3_600_000_000
WEEK_US = 7 * DAY_US
MEMORY_US = 35 * DAY_US
PEAKS_MAX = 100_000
HARD_KEYS_MAX = 20
CAP_FACTOR = 1.2


class _Memory(msgspec.Struct):
    """What the stage must remember; idempotent under re-offered candidates."""

    start_us: int = -1
    decided_us: int = -1
    swept_us: int = -1
    forgotten: int = 0
    # alert_id -> (opened, channel, peak)
    peaks: dict[str, tuple[int, str, float]] = {}
    # alert_id -> alerted_us
    alerts: dict[str, int] = {}
    # alert_id -> time of hard facts; a key reports each fact once a day
    hard: dict[str, int] = {}
    # key -> time of its latest hard fact, oldest first
    hard_keys: dict[str, int] = {}
    capped: dict[str, int] = {}
    waiting: list[Candidate] = []


@dataclass(slots=True)
class FleetStage:
    """Turns candidates into alerts, in (event time, key) order.

    Parameters
    ----------
    false_alerts_per_week
        N, over the whole fleet. The cap follows it; thresholds are the shard's.
    """

    false_alerts_per_week: float
    _memory: _Memory = field(default_factory=_Memory)
    _heap: list[tuple[tuple[int, str, int, str], int, Candidate]] = field(default_factory=list)
    _pushed: int = 0

    @property
    def held_back(self) -> int:
        """Episodes over the threshold that the cap kept from alerting."""
        return len(self._memory.capped.keys() - self._memory.alerts.keys())

    def start(self, ts_us: int) -> None:
        """Notes the earliest event time of the log."""
        memory = self._memory
        memory.start_us = ts_us if memory.start_us < 0 else min(memory.start_us, ts_us)

    def offer(self, candidates: Iterable[Candidate]) -> None:
        """Takes candidates in any order."""
        for c in candidates:
            self._pushed += 1
            heappush(self._heap, (c.order, self._pushed, c))

    def release(self, watermark_us: int) -> list[Episode]:
        """Decides every candidate older than the watermark; returns the new alerts."""
        alerts = []
        while self._heap and self._heap[0][2].ts_us < watermark_us:
            alert = self._decide(heappop(self._heap)[2])
            if alert is not None:
                alerts.append(alert)
        self._forget()
        return alerts

    def to_state(self) -> bytes:
        """The stage as bytes, candidates still waiting included."""
        self._memory.waiting = [c for _, _, c in sorted(self._heap)]
        return msgspec.msgpack.encode(self._memory)

    @classmethod
    def from_state(cls, data: bytes, false_alerts_per_week: float) -> FleetStage:
        """The stage that ``to_state`` described."""
        stage = cls(false_alerts_per_week, msgspec.msgpack.decode(data, type=_Memory))
        stage.offer(stage._memory.waiting)
        heapify(stage._heap)
        return stage

    def _decide(self, c: Candidate) -> Episode | None:
        memory, episode = self._memory, c.episode
        memory.decided_us = max(memory.decided_us, c.ts_us)
        if c.hard:
            return self._decide_hard(c)
        known = memory.peaks.get(episode.alert_id)
        peak = max(episode.score, known[2]) if known else episode.score
        if known or len(memory.peaks) < PEAKS_MAX:
            memory.peaks[episode.alert_id] = (episode.opened_us, episode.channel, peak)
        if not c.over_threshold or episode.alert_id in memory.alerts:
            return None
        if not self._within_cap(c.ts_us):
            memory.capped[episode.alert_id] = c.ts_us
            return None
        memory.alerts[episode.alert_id] = c.ts_us
        return alerted(episode, c.ts_us, self._return_period_days(c))

    def _within_cap(self, ts_us: int) -> bool:
        n = CAP_FACTOR * self.false_alerts_per_week
        days = max(0.0, (ts_us - self._memory.start_us) / DAY_US)
        before = [at for at in self._memory.alerts.values() if at <= ts_us]
        in_week = sum(at > ts_us - WEEK_US for at in before)
        so_far = self._memory.forgotten + len(before)
        return in_week < ceil(n) and so_far < max(1, ceil(n * days / 7))

    def _return_period_days(self, c: Candidate) -> float:
        """Days of log per episode of this channel that scored at least as high."""
        as_high = sum(
            channel == c.episode.channel and peak >= c.episode.score and opened <= c.ts_us
            for opened, channel, peak in self._memory.peaks.values()
        )
        oldest = max(self._memory.start_us, c.ts_us - MEMORY_US)
        return round(max((c.ts_us - oldest) / DAY_US, 0.01) / max(1, as_high), 2)

    def _decide_hard(self, c: Candidate) -> Episode | None:
        memory, episode = self._memory, c.episode
        if episode.alert_id in memory.hard:
            return None
        memory.hard[episode.alert_id] = c.ts_us
        memory.hard_keys.pop(episode.key, None)
        memory.hard_keys[episode.key] = c.ts_us
        while next(iter(memory.hard_keys.values())) <= c.ts_us - HOUR_US:
            del memory.hard_keys[next(iter(memory.hard_keys))]
        if len(memory.hard_keys) <= HARD_KEYS_MAX:
            return alerted(episode, c.ts_us, None)
        notice = _collapsed(c, len(memory.hard_keys))
        if notice.alert_id in memory.hard:
            return None
        memory.hard[notice.alert_id] = c.ts_us
        return notice

    def _forget(self) -> None:
        """Drops what is older than any window, once per day of decided candidates."""
        memory = self._memory
        if memory.decided_us - memory.swept_us < DAY_US:
            return
        memory.swept_us, old = memory.decided_us, memory.decided_us - MEMORY_US
        kept = {k: v for k, v in memory.alerts.items() if v > old}
        memory.forgotten += len(memory.alerts) - len(kept)
        memory.alerts = kept
        memory.peaks = {k: v for k, v in memory.peaks.items() if v[0] > old}
        memory.capped = {k: v for k, v in memory.capped.items() if v > old}
        memory.hard = {k: v for k, v in memory.hard.items() if v > memory.decided_us - 2 * DAY_US}


def _collapsed(c: Candidate, n_keys: int) -> Episode:
    """One notice for a registry or grants that look wrong, per day."""
    day_us = c.ts_us // DAY_US * DAY_US
    text = f"{n_keys} keys succeeded outside their grants within an hour"
    reason = Reason("out_of_grant", c.episode.score, n_keys, 0.0, f"{text}: check the registry")
    return replace(
        alerted(c.episode, c.ts_us, None),
        alert_id=alert_id("*", "abused/out_of_grant", day_us, 0),
        key="*",
        owner=None,
        severity="medium",
        reasons=(reason,),
        credential=(),
    )
