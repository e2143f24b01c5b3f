"""What a shard must know besides its log: the shipped thresholds and its limits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.fusion import WEIGHTS, YOUNG_WEIGHTS

# What can be switched off to see what it is worth. The first ones concern the fold, which reads
# them as bits; the others its rules and the fleet stage.
MECHANISMS = ("hold", "actors", "cold", "log", "combination", "causes", "cap", "budget")
OFF_HOLD, OFF_ACTORS, OFF_COLD, OFF_LOG = (1 << i for i in range(4))


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
        Fusion weights for settled keys, one per family of ``models.fusion.FAMILIES``.
    young_weights
        The same for keys on their first day; none: the weights of settled keys.
    """

    floor: float
    threshold: float
    cold_extra: float
    weights: tuple[float, ...]
    young_weights: tuple[float, ...] = ()

    @property
    def weights_of_young(self) -> tuple[float, ...]:
        """One per family, whether given or not."""
        return self.young_weights or self.weights

    def weights_at(self, known: float) -> tuple[float, ...]:
        """The weights for a key that is settled to that degree, in [0, 1]."""
        both = zip(self.weights, self.weights_of_young, strict=True)
        return tuple(known * settled + (1.0 - known) * young for settled, young in both)


@dataclass(frozen=True, slots=True)
class ShardSettings:
    """Settings of the fold; part of what makes two runs comparable."""

    stolen: ChannelLimits = ChannelLimits(
        floor=2.0,
        threshold=10.5,
        cold_extra=2.5,
        weights=WEIGHTS[0],
        young_weights=YOUNG_WEIGHTS[0],
    )
    abused: ChannelLimits = ChannelLimits(
        floor=2.0,
        threshold=10.5,
        cold_extra=2.5,
        weights=WEIGHTS[1],
        young_weights=YOUNG_WEIGHTS[1],
    )
    # Decided under a budget of its own: the threshold is only where a recommendation may begin.
    throttle: ChannelLimits = ChannelLimits(
        floor=4.0, threshold=9.0, cold_extra=3.0, weights=WEIGHTS[2], young_weights=YOUNG_WEIGHTS[2]
    )
    keys_max: int = 2_000_000
    learn_from_verdicts: bool = False
    without: tuple[str, ...] = ()  # among MECHANISMS; for measurements only

    @property
    def off(self) -> int:
        """The mechanisms switched off, a bit each in the order of ``MECHANISMS``."""
        return sum(1 << i for i, name in enumerate(MECHANISMS) if name in self.without)

    @property
    def channels(self) -> tuple[ChannelLimits, ...]:
        """In the order of ``core.episodes.CHANNELS``."""
        return self.stolen, self.abused, self.throttle

    def limits(self) -> npt.NDArray[np.float64]:
        """``[channel, (floor, threshold, cold_extra, *weights, *young_weights)]``."""
        rows = [
            [c.floor, c.threshold, c.cold_extra, *c.weights, *c.weights_of_young]
            for c in self.channels
        ]
        return np.array(rows, np.float64)
