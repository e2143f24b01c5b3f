"""Our own detector as a method among others: the engine of replay, fed with a world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from detector.core.episodes import Candidate, Episode
from detector.core.errors import UsageError
from detector.core.events import EventBatch
from detector.core.fleet import LOWEST, FleetStage
from detector.core.kernel_episodes import COLD_CELLS
from detector.core.registry import KeyRegistry
from detector.core.settings import MECHANISMS, ChannelLimits, ShardSettings
from detector.core.shard import Shard
from models.clock import CELL_US
from models.families import FAMILIES
from replay.engine import END_US, Engine
from replay.evaluation.feedback import Feedback
from replay.evaluation.keys import KeyIndex
from replay.evaluation.points import (
    NO_KEY,
    Points,
    alerts_of_episodes,
    notes_of_episodes,
    points_of_episodes,
)
from replay.evaluation.record import Answer

QUANTUM = 1024.0  # scores are multiples of 2**-10 nats


class Ours:
    """Folds batches through one shard and the fleet stage, exactly as a replay does.

    Parameters
    ----------
    settings
        Thresholds and weights of the fold.
    keys
        The world's keys.
    registry
        Grants and owners, if the world has any.
    stated
        Budgets a fleet stage is run for, false alerts per week. The first one's stage is the
        engine's; the others get the same candidates, which costs little.
    feedback
        Verdicts on the alerts of each budget. Then every budget has a shard of its own, because
        what people say changes baselines; episodes stay those of a run without verdicts.
    """

    def __init__(
        self,
        settings: ShardSettings,
        keys: KeyIndex,
        registry: KeyRegistry | None,
        stated: Sequence[float],
        feedback: Feedback | None = None,
    ) -> None:
        self._keys, self._settings = keys, settings
        self._shard = _Tapped(settings, registry)
        self._stated = tuple(stated)
        stages = [FleetStage(n, settings=settings, lowest=LOWEST) for n in self._stated]
        self._engine = Engine([self._shard], stages[0])
        for stage in stages:
            stage.population = self._engine.keys_by
        self._others = [(stage, list[Episode]()) for stage in stages[1:]]
        self._answered = [] if feedback is None else [self._engine_for(n, feedback) for n in stated]
        self._born_us = np.full(len(keys), NO_KEY, np.int64)

    @property
    def alerts(self) -> list[Episode]:
        """Alerts and notices raised so far at the first stated budget."""
        return self._engine.alerts

    @property
    def late(self) -> int:
        """Events that came too late to count."""
        return self._shard.counters["late"]

    def observe(self, batch: EventBatch) -> None:
        """Folds a batch; batches follow each other in event time, but for late shipments."""
        if not len(batch):
            return
        self._note_births(batch)
        self._engine.fold(batch)
        candidates, self._shard.taken = self._shard.taken, []
        for stage, raised in self._others:
            stage.start(int(batch.ts_us[0]))
            stage.offer(candidates)
            raised += stage.release(self._engine.last_us)
        for engine in self._answered:
            engine.fold(batch)

    def answer(self) -> Answer:
        """Episodes as points, what they say, and the alerts really raised."""
        episodes = self._engine.finish() + self._engine.surges
        for stage, raised in self._others:
            raised += stage.release(END_US)
        raised_by = [self._engine.alerts, *(raised for _, raised in self._others)]
        if self._answered:
            for engine in self._answered:
                engine.finish()
            raised_by = [engine.alerts for engine in self._answered]
        number_of = self._keys.number_of
        online = {
            n: (alerts_of_episodes(raised, number_of), notes_of_episodes(raised))
            for n, raised in zip(self._stated, raised_by, strict=True)
        }
        points = self._less_handicap(points_of_episodes(episodes, number_of))
        return Answer(points, notes_of_episodes(episodes), online)

    def _engine_for(self, per_week: float, feedback: Feedback) -> Engine:
        stage = FleetStage(per_week, settings=self._settings, lowest=LOWEST)
        shard = Shard(self._settings, self._shard.registry)
        return Engine([shard], stage, review=feedback.review)

    def _note_births(self, batch: EventBatch) -> None:
        number = self._keys.of(batch)
        fresh = np.flatnonzero((number != NO_KEY) & (self._born_us[number] == NO_KEY))
        # from the last to the first, so that the first event of a key is what stays
        self._born_us[number[fresh[::-1]]] = batch.ts_us[fresh[::-1]]

    def _less_handicap(self, points: Points) -> Points:
        """Scores less what a young key's threshold is raised by: one threshold fits all keys."""
        cells = points.ts_us // CELL_US - self._born_us[points.key] // CELL_US
        cold = np.where(points.key == NO_KEY, 0.0, np.clip(1.0 - cells / COLD_CELLS, 0.0, 1.0))
        extra = np.zeros(len(points.key))
        for channel, limits in enumerate(self._settings.channels):
            extra[points.channel == channel] = limits.cold_extra
        return replace(points, score=points.score - np.round(extra * cold * QUANTUM) / QUANTUM)


class _Tapped(Shard):
    """A shard that also keeps the candidates it gave until somebody takes them."""

    def __init__(self, settings: ShardSettings, registry: KeyRegistry | None) -> None:
        super().__init__(settings, registry)
        self.taken: list[Candidate] = []

    def fold(self, batch: EventBatch) -> list[Candidate]:
        candidates = super().fold(batch)
        self.taken += candidates
        return candidates


def offset(settings: ShardSettings) -> tuple[float, float]:
    """The shipped thresholds: what a common threshold over both channels is measured from."""
    return settings.stolen.threshold, settings.abused.threshold


def without(settings: ShardSettings, signals: str) -> ShardSettings:
    """The settings with a signal's weight 0 in every channel, or those of several: ``a+b``.

    A name may also be a mechanism of ``core.settings``, which is switched off. Raises
    ``UsageError``.

    >>> less = without(ShardSettings(), "new_network+hold")
    >>> less.stolen.weights[0], less.without
    (0.0, ('hold',))
    """
    unknown = [s for s in signals.split("+") if s not in FAMILIES and s not in MECHANISMS]
    if unknown:
        raise UsageError(
            f"--ablate {unknown[0]}: signals are {', '.join(FAMILIES)}; mechanisms are"
            f" {', '.join(MECHANISMS)}"
        )
    kept = [float(family not in signals.split("+")) for family in FAMILIES]

    def cut(limits: ChannelLimits) -> ChannelLimits:
        return replace(
            limits,
            weights=tuple(w * k for w, k in zip(limits.weights, kept, strict=True)),
            young_weights=tuple(w * k for w, k in zip(limits.weights_of_young, kept, strict=True)),
        )

    return replace(
        settings,
        stolen=cut(settings.stolen),
        abused=cut(settings.abused),
        throttle=cut(settings.throttle),
        without=tuple(m for m in MECHANISMS if m in signals.split("+")),
    )
