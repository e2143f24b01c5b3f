"""What the fleet stage remembers, as plain data that goes into a snapshot."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from detector.core.episodes import CHANNELS, STOLEN, Candidate, Episode
from detector.core.fleet_budgets import Budgets
from detector.core.fleet_causes import Causes
from detector.core.fleet_notices import HardFacts
from detector.core.fleet_silences import Silences
from detector.core.fleet_window import DAY_US

MEMORY_US = 35 * DAY_US
NEVER_US = (1 << 63) - 1
EPISODES_MAX, THROTTLES_MAX = 100_000, 1000
EPISODE_LIFE_US = 8 * DAY_US  # an episode is over by then, and so is what a notice was about

SEEN, CAPPED, COLLAPSED, ALERTED = range(4)


class Entry(msgspec.Struct, array_like=True):
    """An episode the stage knows.

    ``score`` is its peak. ``level`` is the highest that counted towards the budget, nats:
    without what a cold key must add, and without what common causes explain. ``ordinal`` is
    that of its newest candidate; one that is neither newer nor higher is a repetition.
    """

    opened_us: int
    channel: int
    ordinal: int
    score: float
    level: float = 0.0
    fate: int = SEEN


class Held(msgspec.Struct, array_like=True):
    """An episode over its threshold that waits to see whether others show the same."""

    due_us: int
    candidate: Candidate


class Memory(msgspec.Struct):
    """Idempotent under repeated candidates; each part has a cap or a length of time."""

    sequence: int = -1  # of the last control record applied
    start_us: int = -1
    decided_us: int = -1
    budgets: Budgets = msgspec.field(default_factory=Budgets)
    entries: dict[str, Entry] = {}
    held: dict[str, Held] = {}  # in order of arrival
    spoke: dict[str, int] = {}  # key -> time of its latest alert
    told: dict[str, int] = {}  # what a notice was about -> its time
    causes: Causes = msgspec.field(default_factory=Causes)
    hard: HardFacts = msgspec.field(default_factory=HardFacts)
    silences: Silences = msgspec.field(default_factory=Silences)
    held_back: int = 0
    collapsed: int = 0
    notices: int = 0
    throttles: list[Episode] = []  # recommended since they were last taken, the newest
    waiting: list[Candidate] = []

    def due_us(self) -> int:
        """When the first of the held candidates is to be decided."""
        return min((h.due_us for h in self.held.values()), default=NEVER_US)

    def take_due(self, due_us: int) -> Candidate:
        """Removes the held candidate of that time; of several the first that came.

        If its key has a STOLEN one waiting too, that one: a key speaks once, and this names who.
        """
        first = next(i for i, h in self.held.items() if h.due_us == due_us)
        key = self.held[first].candidate.episode.key
        episodes = [(i, h.candidate.episode) for i, h in self.held.items()]
        stolen = [i for i, e in episodes if e.key == key and e.channel == CHANNELS[STOLEN]]
        return self.held.pop(stolen[0] if stolen else first).candidate

    def settle(self, entry: Entry, fate: int) -> None:
        """Gives an episode another fate and keeps the counters right."""
        self.held_back += (fate == CAPPED) - (entry.fate == CAPPED)
        self.collapsed += (fate == COLLAPSED) - (entry.fate == COLLAPSED)
        entry.fate = fate

    def recommend(self, throttle: Episode) -> None:
        """Keeps a recommendation for whoever takes it."""
        self.throttles = [*self.throttles[1 - THROTTLES_MAX :], throttle]

    def lower(self, alert_id: str, level: float) -> None:
        """A common cause explains what an episode's level rested on, after all."""
        entry = self.entries.get(alert_id)
        if entry is not None and entry.fate != ALERTED:
            entry.level = min(entry.level, level)

    def levels(self, channel: int, since_us: int, until_us: int) -> npt.NDArray[np.float64]:
        """Levels of a channel's episodes that were opened in this time."""
        found = (
            e.level
            for e in self.entries.values()
            if e.channel == channel and since_us <= e.opened_us < until_us
        )
        return np.fromiter(found, np.float64)

    def as_high(self, channel: int, score: float, until_us: int) -> int:
        """Episodes of a channel, opened by then, that scored at least as high."""
        return sum(
            e.channel == channel and e.score >= score and e.opened_us <= until_us
            for e in self.entries.values()
        )

    def enter(self, alert_id: str, entry: Entry) -> Entry:
        """Adds an episode; at the limit the lower half of what is over makes room."""
        if len(self.entries) >= EPISODES_MAX:
            self._make_room()
        self.entries[alert_id] = entry
        return entry

    def forget(self) -> None:
        """Drops what is older than any window."""
        old_us, over_us = self.decided_us - MEMORY_US, self.decided_us - EPISODE_LIFE_US
        self.entries = {k: e for k, e in self.entries.items() if e.opened_us > old_us}
        self.spoke = {k: t for k, t in self.spoke.items() if t > self.decided_us - DAY_US}
        self.told = {k: t for k, t in self.told.items() if t > over_us}
        self.hard.forget(self.decided_us)
        self.causes.forget(self.decided_us)

    def _make_room(self) -> None:
        over_us = self.decided_us - EPISODE_LIFE_US
        names = sorted(self.entries, key=lambda k: (self._rank(k, over_us), k))
        for name in names[: EPISODES_MAX // 2]:
            del self.entries[name]

    def _rank(self, name: str, over_us: int) -> tuple[bool, float]:
        """Those that may still grow and those that alerted stay, then the highest."""
        entry = self.entries[name]
        return entry.fate == ALERTED or entry.opened_us >= over_us, entry.level
