"""What verdicts have taught: fusion weights, and from when on each set of them is in force.

Verdicts given by the end of event day D make the weights that are in force from 00:00 of day
D + 2, for every event of that time or later: one whole day in which every partition may arrive.
Each shard keeps the same verdicts in the same order, so all of them have the same weights.
"""

from __future__ import annotations

import msgspec
import numpy as np

from detector.core.control import Confirmed, Control, Expected, Withdrawn
from detector.core.episodes import CHANNELS
from detector.core.kernels import Rules
from detector.core.settings import ShardSettings
from models import combination
from models.clock import CELL_US, CELLS_PER_DAY, DAY_US
from models.families import FAMILIES
from models.verdicts import VerdictWeights

LESSONS_MAX = 500  # the newest verdicts count
SETS_MAX = 8
IN_FORCE_AFTER_DAYS = 2


class Lesson(msgspec.Struct, array_like=True, frozen=True):
    """One verdict: nats by signal under the configured weights, and whether the alert was true."""

    name: str
    channel: str
    shares: dict[str, float]
    is_true: bool


class WeightSet(msgspec.Struct, array_like=True, frozen=True):
    """What weights are multiplied by, by channel and family; in force from a cell on."""

    since_cell: int
    factors: tuple[tuple[float, ...], ...]


class Lessons(msgspec.Struct):
    """The verdicts learned from, and the newest sets of weights they made."""

    told: list[Lesson] = []
    sets: list[WeightSet] = []

    def take(self, record: Control, settings: ShardSettings) -> bool:
        """Learns from a verdict on an alert, or forgets one; True when weights changed."""
        if not settings.learn_from_verdicts:
            return False
        left = [lesson for lesson in self.told if lesson.name != record.name]
        if isinstance(record, Expected | Confirmed) and record.shares:
            is_true = isinstance(record, Confirmed)
            left.append(Lesson(record.name, record.channel, record.shares, is_true))
        elif not isinstance(record, Withdrawn) or len(left) == len(self.told):
            return False
        self.told = left[-LESSONS_MAX:]
        day = record.at_us // DAY_US + IN_FORCE_AFTER_DAYS
        made = WeightSet(day * CELLS_PER_DAY, self._factors(settings))
        older = [s for s in self.sets if s.since_cell < made.since_cell]
        self.sets = [*older, made][-SETS_MAX:]
        return True

    def rules(self, settings: ShardSettings) -> Rules:
        """All sets as the fold takes them; the first is the configured one."""
        shipped = settings.limits()
        limits = np.repeat(shipped[np.newaxis], 1 + len(self.sets), axis=0)
        for i, made in enumerate(self.sets):
            limits[1 + i, :, 3:] *= np.tile(np.array(made.factors), 2)  # settled and young keys
        since = np.array([0, *(s.since_cell for s in self.sets)], np.int64)
        off = "combination" in settings.without
        return Rules(since, limits, combination.NONE if off else combination.shipped())

    def factors_at(self, ts_us: int, channel: int) -> tuple[float, ...]:
        """What a channel's weights are multiplied by for an event of this time."""
        for made in reversed(self.sets):
            if made.since_cell <= ts_us // CELL_US:
                return made.factors[channel]
        return (1.0,) * len(FAMILIES)

    def _factors(self, settings: ShardSettings) -> tuple[tuple[float, ...], ...]:
        return tuple(
            self._learned(name, limits.weights, limits.threshold)
            for name, limits in zip(CHANNELS, settings.channels, strict=True)
        )

    def _learned(
        self, channel: str, start: tuple[float, ...], threshold: float
    ) -> tuple[float, ...]:
        model = VerdictWeights(channel, start, threshold_nats=threshold)
        for lesson in self.told:
            if lesson.channel == channel:
                model.learn_shares(lesson.shares, lesson.is_true)
        return model.factors()
