"""The fleet stage: one sequential merge of candidates that decides what becomes an alert.

It keeps the promise "at most N false alerts a week". A controller (``models.budget``) sets the
threshold of each channel once per event day, so that N a week come out on average; until it
knows a week of the log, shipped thresholds apply. And there are never more than
``ceil(1.2 N)`` alerts and notices in any seven days (``fleet_budgets`` has the fine print).

Hard facts are outside that budget. A key speaks once a day, and what many keys share is told
once, not per key (``fleet_causes``). Offering a candidate again (after a restart) changes
nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from math import log

import msgspec

from detector.core.control import Confirmed, Control, Expected
from detector.core.episodes import CHANNELS, STOLEN, THROTTLE, Candidate, Episode, alerted
from detector.core.explain import advised, severity_of
from detector.core.fleet_budgets import strong_from
from detector.core.fleet_causes import HOLD_US
from detector.core.fleet_log import FACT_WAIT_US
from detector.core.fleet_memory import (
    ALERTED,
    CAPPED,
    COLLAPSED,
    MEMORY_US,
    NEVER_US,
    Entry,
    Held,
    Memory,
)
from detector.core.fleet_notices import HARD_KEYS_MAX, as_episode
from detector.core.fleet_silences import Silences
from detector.core.fleet_window import DAY_US, Finding, Sight, sight_of
from detector.core.settings import ShardSettings

__all__ = ["HARD_KEYS_MAX", "HOLD_US", "LOWEST", "FleetStage"]

THROTTLES_PER_WEEK = 100.0
FLEET_KEYS, FLEET_N, SLOPE_NATS = 2000.0, 5.0, 2.5
SMALLEST, LARGEST = 0.78, 1.25  # times the shipped threshold
LOWEST = 0.8  # what the service and replay use: a quiet fleet shall not be shown its noise


@dataclass(slots=True)
class FleetStage:
    """Turns candidates into alerts, in (event time, key) order.

    Parameters
    ----------
    false_alerts_per_week
        N, over the whole fleet: what thresholds and cap follow.
    throttles_per_week
        The same for recommendations to limit a rate, which are no alerts.
    stolen_share
        Share of N that STOLEN gets; ABUSED gets the rest.
    settings
        The shards' settings: shipped thresholds, floors, and what a cold key must add.
    lowest
        Share of the shipped threshold that STOLEN's and ABUSED's never fall below, however
        much of N a quiet fleet leaves unused. 0 leaves only the floors.
    population
        How many keys the log had shown by an event time. Shipped thresholds are for
        FLEET_KEYS keys at FLEET_N false alerts a week; with fewer keys for the same N they are
        lower by SLOPE nats for each factor of e, as on simulated fleets. ``None``: they stay.
    """

    false_alerts_per_week: float
    throttles_per_week: float = THROTTLES_PER_WEEK
    stolen_share: float = 0.5
    settings: ShardSettings = field(default_factory=ShardSettings)
    lowest: float = 0.0
    population: Callable[[int], int] | None = None
    _memory: Memory = field(default_factory=Memory)
    _heap: list[tuple[tuple[int, str, int, str], int, Candidate]] = field(default_factory=list)
    _pushed: int = 0
    _said: deque[tuple[Control, int | None]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        n, share = self.false_alerts_per_week, self.stolen_share
        per_week = (share * n, (1.0 - share) * n, self.throttles_per_week)
        # a throttle is never due to room in its budget: it needs what it needs from the start
        least = [limits.floor for limits in self.settings.channels]
        least[THROTTLE] = self.settings.throttle.threshold
        self._memory.budgets.configure(per_week, least)

    @property
    def held_back(self) -> int:
        """Episodes over the threshold that the cap kept from alerting."""
        return self._memory.held_back

    @property
    def collapsed(self) -> int:
        """Episodes that a common cause, or an alert about the same key, kept from alerting."""
        return self._memory.collapsed

    @property
    def notices(self) -> int:
        """Notices about many keys so far."""
        return self._memory.notices

    @property
    def thresholds(self) -> dict[str, float | None]:
        """In force per channel, nats; ``None`` while the shipped one applies."""
        budgets, at_us = self._memory.budgets, self._memory.decided_us
        known = [budgets.threshold(i) is not None for i in range(len(CHANNELS))]
        return {name: self._bar(i, at_us) if known[i] else None for i, name in enumerate(CHANNELS)}

    def start(self, ts_us: int) -> None:
        """Notes the earliest event time of the log."""
        memory = self._memory
        memory.start_us = ts_us if memory.start_us < 0 else min(memory.start_us, ts_us)

    def offer(self, candidates: Iterable[Candidate]) -> None:
        """Takes candidates in any order."""
        for c in candidates:
            self._pushed += 1
            heappush(self._heap, (c.order, self._pushed, c))

    def release(self, watermark_us: int, *, idle: bool = False) -> list[Episode]:
        """Decides every candidate older than the watermark; returns new alerts and notices.

        With ``idle`` (nothing more is coming) it does not wait for others to show the same.
        """
        raised: list[Episode] = []
        while True:
            due_us = self._memory.due_us()
            next_us = self._heap[0][2].ts_us if self._heap else NEVER_US
            said_us = self._said[0][0].at_us if self._said else NEVER_US
            if said_us <= min(watermark_us, next_us, due_us) and self._said:
                self._apply(*self._said.popleft())
            elif next_us < watermark_us and next_us <= due_us:
                raised += self._take(heappop(self._heap)[2])
            elif due_us < watermark_us or (idle and due_us < NEVER_US):
                raised += self._take_held(due_us)
            else:
                return raised

    def take_throttles(self) -> list[Episode]:
        """Recommendations to limit a key's rate, decided since the last call. Never alerts."""
        taken, self._memory.throttles = self._memory.throttles, []
        return taken

    @property
    def silences(self) -> Silences:
        """Keys that have fallen silent: no alerts, and in no budget."""
        return self._memory.silences

    def confirm(self, alert_id: str) -> None:
        """An alert was a true one: it stops counting in tail, correction and cap."""
        memory = self._memory
        if memory.budgets.confirm(alert_id) and alert_id in memory.entries:
            memory.entries[alert_id].level = 0.0

    @property
    def sequence(self) -> int:
        """Sequence number of the last control record applied; -1 = none."""
        return self._memory.sequence

    def tell(self, record: Control, sequence: int | None = None) -> None:
        """Takes a control record, in order of ``at_us``.

        ``release`` applies it before whatever is of its time or later, and after the rest.
        """
        self._said.append((record, sequence))

    def _apply(self, record: Control, sequence: int | None) -> None:
        if sequence is not None:
            self._memory.sequence = sequence
        if isinstance(record, Confirmed):
            self.confirm(record.alert_id)
        elif isinstance(record, Expected):  # somebody has answered for the key
            self._memory.spoke.pop(record.key, None)

    def to_state(self) -> bytes:
        """The stage as bytes, candidates still waiting included."""
        self._memory.waiting = [c for _, _, c in sorted(self._heap)]
        return msgspec.msgpack.encode(self._memory)

    @classmethod
    def from_state(
        cls,
        data: bytes,
        false_alerts_per_week: float,
        throttles_per_week: float = THROTTLES_PER_WEEK,
        stolen_share: float = 0.5,
        settings: ShardSettings | None = None,
        lowest: float = 0.0,
    ) -> FleetStage:
        """The stage that ``to_state`` described, under today's parameters."""
        memory = msgspec.msgpack.decode(data, type=Memory)
        stage = cls(
            false_alerts_per_week,
            throttles_per_week,
            stolen_share,
            settings or ShardSettings(),
            lowest,
            _memory=memory,
        )
        stage.offer(memory.waiting)
        memory.waiting = []
        return stage

    # --- one candidate -----------------------------------------------------------------------

    def _take(self, c: Candidate) -> list[Episode]:
        memory = self._memory
        now_us = self._reach(c.ts_us)
        if c.hard:
            return self._take_fact(c, now_us)
        if c.change:
            sight = self._sight(c, now_us)
            told = self._tell(memory.causes.hear(c, now_us, memory.start_us), c, sight)
            if c.change in memory.told:  # it goes on: no second notice after a week
                memory.told[c.change] = now_us
            return told
        entry = self._entry(c)
        if entry is None:
            return []
        sight = self._sight(c, now_us)
        changed, struck = memory.causes.observe(sight, memory.start_us)
        for alert_id, level in struck:
            memory.lower(alert_id, level)
        return self._tell(changed, c, sight) + self._judge(c, sight, entry)

    def _take_fact(self, c: Candidate, now_us: int, *, is_due: bool = False) -> list[Episode]:
        """A hard fact is an alert at once, unless it may be due to a change of the log."""
        memory = self._memory
        if c.change and memory.causes.log.was_noticed(c.change):
            return []
        if c.change and not is_due:
            memory.held.setdefault(c.episode.alert_id, Held(now_us + FACT_WAIT_US, c))
            return []
        fact = memory.hard.decide(c)
        memory.notices += fact is not None and fact.key == "*"
        return [] if fact is None else [fact]

    def _take_held(self, due_us: int) -> list[Episode]:
        c = self._memory.take_due(due_us)
        if c.hard:
            return self._take_fact(c, self._reach(due_us), is_due=True)
        alert_id = c.episode.alert_id
        entry, sight = self._memory.entries.get(alert_id), self._sight(c, self._reach(due_us))
        return [] if entry is None else self._judge(c, sight, entry, is_due=True)

    def _judge(
        self, c: Candidate, sight: Sight, entry: Entry, *, is_due: bool = False
    ) -> list[Episode]:
        memory, causes = self._memory, self._memory.causes
        concerns = causes.concerns(sight) and "causes" not in self.settings.without
        known = causes.judge(sight, memory.start_us) if concerns else Finding()
        level = sight.level + known.nats
        if not known.collapse:
            entry.level = max(entry.level, level)
        if entry.fate == ALERTED:
            return []
        over = self._is_over(sight, known.nats)
        if known.collapse if over else self._is_over(sight, max(0.0, known.nats)):
            memory.held.pop(c.episode.alert_id, None)
            memory.settle(entry, COLLAPSED)
            return self._tell(known, c, sight)
        if not over:
            return []
        wait_us = 0 if is_due else causes.wait_us(sight)
        if wait_us:
            held = memory.held.get(c.episode.alert_id)
            due_us = sight.now_us + wait_us if held is None else held.due_us
            memory.held[c.episode.alert_id] = Held(due_us, c)
            return []
        memory.held.pop(c.episode.alert_id, None)
        if not c.throttle and memory.spoke.get(sight.key, -DAY_US) > sight.now_us - DAY_US:
            memory.settle(entry, COLLAPSED)  # people are looking at this key already
            return []
        causes.networks.speak(sight)
        return self._raise(c, sight, entry, known)

    def _raise(self, c: Candidate, sight: Sight, entry: Entry, known: Finding) -> list[Episode]:
        """The episode is over its threshold, and nothing but the cap can keep it back."""
        memory, e = self._memory, c.episode
        threshold = round(sight.bar + self._extra(c), 3)
        score = e.score + (known.nats if known.reason is not None else 0.0)
        is_strong = score >= strong_from(sight.now_us, memory.start_us) * threshold
        has_room = "cap" in self.settings.without or memory.budgets.has_room(
            entry.channel, sight.now_us, memory.start_us, is_strong=is_strong
        )
        if not has_room:
            memory.settle(entry, CAPPED)
            return []
        memory.settle(entry, ALERTED)
        memory.budgets.note(e.alert_id, sight.now_us, entry.channel)
        reasons = e.reasons if known.reason is None else (*e.reasons, known.reason)
        severity = "low" if c.throttle else severity_of(score, threshold)
        decided = replace(
            e,
            score=score,
            threshold=threshold,
            severity=severity,
            reasons=tuple(sorted(reasons, key=lambda r: -r.nats)),
        )
        alert = alerted(advised(decided), sight.now_us, self._return_period_days(c))
        if c.throttle:
            memory.recommend(alert)
            return []
        memory.spoke[e.key] = sight.now_us
        return [alert]

    def _tell(self, known: Finding, c: Candidate, sight: Sight) -> list[Episode]:
        """A notice comes once, and takes its place in the week's allowance like an alert."""
        memory, channel = self._memory, _channel(c) if known.is_of_channel else STOLEN
        if known.notice is None or known.about in memory.told:
            return []
        has_room = memory.budgets.has_room(channel, sight.now_us, memory.start_us, is_strong=True)
        if not has_room and not (known.is_urgent and memory.budgets.may_overdraw(sight.now_us)):
            return []
        episode = as_episode(known, known.notice(), c, sight.now_us)
        memory.told[known.about] = sight.now_us
        memory.budgets.note(episode.alert_id, sight.now_us, channel)
        memory.notices += 1
        return [episode]

    # --- what is known of it -----------------------------------------------------------------

    def _extra(self, c: Candidate) -> float:
        """What a cold key must add to its channel's threshold."""
        return max(0.0, c.episode.threshold - self.settings.channels[_channel(c)].threshold)

    def _sight(self, c: Candidate, now_us: int) -> Sight:
        extra, bar = self._extra(c), self._bar(_channel(c), c.ts_us)
        return sight_of(c, now_us, c.episode.score - extra, bar)

    def _bar(self, channel: int, ts_us: int) -> float:
        """The controller's threshold, or the shipped one for this many keys and this N."""
        shipped, in_force = self._shipped(channel, ts_us), self._memory.budgets.threshold(channel)
        if in_force is None or "budget" in self.settings.without:
            return shipped
        return in_force if channel == THROTTLE else max(in_force, self.lowest * shipped)

    def _shipped(self, channel: int, ts_us: int) -> float:
        base = self.settings.channels[channel].threshold
        if channel == THROTTLE or self.population is None:
            return base
        keys = max(1, self.population(ts_us))
        fold = self.false_alerts_per_week / FLEET_N * FLEET_KEYS / keys
        return min(max(base - SLOPE_NATS * log(fold), SMALLEST * base), LARGEST * base)

    def _is_over(self, sight: Sight, nats: float) -> bool:
        """Over the threshold in force, once ``nats`` are added to its level."""
        return sight.level + nats >= sight.bar

    def _return_period_days(self, c: Candidate) -> float:
        """Days of log per episode of this channel that scored at least as high."""
        as_high = self._memory.as_high(_channel(c), c.episode.score, c.ts_us)
        oldest = max(self._memory.start_us, c.ts_us - MEMORY_US)
        return round(max((c.ts_us - oldest) / DAY_US, 0.01) / max(1, as_high), 2)

    def _entry(self, c: Candidate) -> Entry | None:
        """The candidate's episode; ``None`` when the candidate was decided before."""
        memory, e = self._memory, c.episode
        entry = memory.entries.get(e.alert_id)
        if entry is None and e.opened_us <= memory.decided_us - MEMORY_US:
            return None
        if entry is None:
            return memory.enter(e.alert_id, Entry(e.opened_us, _channel(c), c.ordinal, e.score))
        if (c.ordinal, e.score) <= (entry.ordinal, entry.score):
            return None
        entry.ordinal, entry.score = c.ordinal, max(entry.score, e.score)
        return entry

    def _reach(self, ts_us: int) -> int:
        """Moves the stage's time on, over midnights if need be; it never runs back."""
        memory = self._memory
        if memory.start_us < 0:
            memory.start_us = ts_us
        memory.decided_us = max(memory.decided_us, ts_us)
        if memory.budgets.reach(memory.decided_us, memory.start_us, memory.levels):
            memory.forget()
        return memory.decided_us


def _channel(c: Candidate) -> int:
    return THROTTLE if c.throttle else CHANNELS.index(c.episode.channel)
