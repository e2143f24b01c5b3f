"""Fusion: evidence of eleven families, two channels, one additive score each.

``score_c = sum_j w_cj min(z_j, cap_j)``, so ``w_cj z_j`` are the reasons. The weights are
shipped, non-negative, and come from masquerade and abuse injection on simulated fleets
(docs/DETECTION.md). Two channels because one drowns abuse in theft-shaped noise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from river.base import AnomalyDetector

from models._jit import kernel
from models.families import FAMILIES

F_NETWORK, F_CLIENT, F_ROUTE, F_AREA, F_MIX = range(5)
F_ACTOR_VOLUME, F_VOLUME, F_PROBING, F_DORMANCY, F_CONCURRENCY = range(5, 10)
F_ENUMERATION = 10
N_FAMILIES = len(FAMILIES)
CAP = 9.0
CAPS = (CAP, CAP, CAP, CAP, CAP, CAP, 50.0, 14.0, 6.0, CAP, 14.0)
WEIGHTS = (
    (0.65, 0.70, 0.20, 0.45, 1.00, 0.40, 0.06, 0.15, 0.50, 0.20, 0.20),  # stolen
    (0.00, 0.10, 0.25, 0.20, 0.00, 0.20, 0.10, 0.90, 0.00, 0.00, 1.00),  # abused
)
QUANTUM = 1024.0  # scores are multiples of 2**-10 nats before anything compares them


@kernel
def weighted(family: int, weights: Any, evidence: float) -> float:
    """One family's share of a score, nats."""
    return weights[family] * min(evidence, CAPS[family])


@kernel
def fuse(z: Any, weights: Any) -> float:
    """Score from ``z[N_FAMILIES]``, quantised to 2^-10 nats, at least 0.

    Routes and areas are nested: the larger of the two counts, never both.

    >>> import numpy as np
    >>> fuse(np.zeros(11), np.ones(11)), fuse(np.arange(11.0), np.ones(11))
    (0.0, 51.0)
    """
    route = weighted(F_ROUTE, weights, z[F_ROUTE])
    area = weighted(F_AREA, weights, z[F_AREA])
    total = max(route, area)
    for j in range(N_FAMILIES):
        if j not in (F_ROUTE, F_AREA):
            total += weighted(j, weights, z[j])
    return max(0.0, np.floor(total * QUANTUM + 0.5) / QUANTUM)


class EvidenceFusion(AnomalyDetector):
    """Adds weighted evidence; the features are the families' names.

    Parameters
    ----------
    channel
        ``"stolen"`` or ``"abused"``.

    Examples
    --------
    >>> model = EvidenceFusion("stolen")
    >>> model.score_one({"new_network": 6.0, "new_client": 5.0})
    7.400390625
    >>> model.reasons({"new_network": 6.0, "new_client": 5.0})[0]
    ('new_network', 3.9)
    """

    def __init__(self, channel: str = "stolen") -> None:
        self.channel = channel

    @property
    def _weights(self) -> Any:
        return np.array(WEIGHTS[("stolen", "abused").index(self.channel)])

    def _vector(self, x: dict[str, Any]) -> Any:
        return np.array([float(x.get(f, 0.0)) for f in FAMILIES])

    def score_one(self, x: dict[str, Any]) -> float:
        """The channel's score, nats."""
        return float(fuse(self._vector(x), self._weights))

    def reasons(self, x: dict[str, Any]) -> list[tuple[str, float]]:
        """Families with their share of the score, largest first."""
        z, weights = self._vector(x), self._weights
        shares = [(f, round(float(weighted(j, weights, z[j])), 6)) for j, f in enumerate(FAMILIES)]
        return sorted((s for s in shares if s[1] > 0), key=lambda s: (-s[1], s[0]))

    def learn_one(self, x: dict[str, Any]) -> EvidenceFusion:  # noqa: ARG002 - River's signature
        """The shipped weights do not move; learning from verdicts is another estimator's."""
        return self
