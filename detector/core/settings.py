"""What a shard must know besides its log: the shipped thresholds and its limits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.fusion import WEIGHTS


@dataclass(frozen=True, slots=True)
class ChannelLimits:
    """Scores of one channel, in nats.

    Parameters
    ----------
    floor
        An episode opens here. Lower shows more in ``episodes.ndjson`` and costs little.
    threshold
        An episode may become an alert from here on (the shipped, conservative value).
    cold_extra
        Added for a key on its first day, falling to 0 over three days.
    weights
        Fusion weights, one per family of ``models.fusion.FAMILIES``.
    """

    floor: float
    threshold: float
    cold_extra: float
    weights: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ShardSettings:
    """Settings of the fold; part of what makes two runs comparable."""

    stolen: ChannelLimits = ChannelLimits(
        floor=3.0, threshold=13.0, cold_extra=0.0, weights=WEIGHTS[0]
    )
    abused: ChannelLimits = ChannelLimits(
        floor=3.0, threshold=13.0, cold_extra=0.0, weights=WEIGHTS[1]
    )
    # Decided under a budget of its own: the threshold is only where a recommendation may begin.
    throttle: ChannelLimits = ChannelLimits(
        floor=4.0, threshold=9.0, cold_extra=3.0, weights=WEIGHTS[2]
    )
    keys_max: int = 2_000_000
    learn_from_verdicts: bool = False

    @property
    def channels(self) -> tuple[ChannelLimits, ...]:
        """In the order of ``core.episodes.CHANNELS``."""
        return self.stolen, self.abused, self.throttle

    def limits(self) -> npt.NDArray[np.float64]:
        """``[channel, (floor, threshold, cold_extra, *weights)]``."""
        rows = [[c.floor, c.threshold, c.cold_extra, *c.weights] for c in self.channels]
        return np.array(rows, np.float64)
