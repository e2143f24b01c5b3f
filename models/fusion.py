"""Fusion: evidence of many families, three channels, one additive score each.

``score_c = sum_j w_cj min(z_j, cap_j)``, so ``w_cj z_j`` are the reasons. The weights are
shipped, non-negative, and were fitted on simulated fleets and real logs (docs/DETECTION.md).
Several channels because one drowns abuse in theft-shaped noise, and because a throttle is
cheap and an alert is not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from river.base import AnomalyDetector

from models._jit import kernel
from models.families import FAMILIES

F_NETWORK, F_CLIENT, F_ROUTE, F_AREA, F_MIX = range(5)
F_ACTOR_VOLUME, F_VOLUME, F_PROBING, F_DORMANCY, F_CONCURRENCY = range(5, 10)
F_ENUMERATION, F_SEQUENCE, F_ADDITIVE, F_OFF_HOURS, F_SLOW = range(10, 15)
F_ERRORS, F_SURGE, F_TRAVEL, F_DENIED, F_MISSES = range(15, 20)
N_FAMILIES = len(FAMILIES)
CAP = 9.0
CAPS = (
    *(14.0, CAP, 16.0, 16.0, 14.0, 12.0, 50.0, 14.0, 6.0, 12.0),
    *(14.0, 9.0, 4.0, 3.0, 12.0, 14.0, 20.0, 4.0, 14.0, 14.0),
)
# Rows: network client route area mix actor volume probing dormancy concurrency,
#       enumeration sequence additive off_hours slow errors surge travel denied misses
WEIGHTS = (
    (
        *(0.49, 0.16, 0.48, 0.35, 0.53, 0.26, 0.00, 0.07, 0.64, 0.15),
        *(0.88, 0.25, 0.58, 0.39, 0.18, 0.00, 0.06, 0.50, 0.10, 0.55),
    ),  # stolen
    (
        *(0.04, 0.13, 0.44, 0.17, 0.13, 0.00, 0.00, 0.41, 0.00, 0.00),
        *(0.61, 0.24, 0.05, 0.00, 0.64, 0.60, 0.14, 0.00, 0.40, 0.38),
    ),  # abused
    (
        *(0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00, 0.00),
        *(0.30, 0.00, 0.00, 0.00, 1.00, 0.00, 1.00, 0.00, 0.00, 0.00),
    ),  # throttle
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
    >>> z = np.zeros(20); z[:5] = 1.0, 2.0, 3.0, 4.0, 5.0
    >>> fuse(np.zeros(20), np.ones(20)), fuse(z, np.ones(20))
    (0.0, 12.0)
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
        ``"stolen"``, ``"abused"`` or ``"throttle"``.

    Examples
    --------
    >>> model = EvidenceFusion("stolen")
    >>> model.score_one({"new_network": 6.0, "new_client": 5.0})
    3.740234375
    >>> model.reasons({"new_network": 6.0, "new_client": 5.0})[0]
    ('new_network', 2.94)
    """

    def __init__(self, channel: str = "stolen") -> None:
        self.channel = channel

    @property
    def _weights(self) -> Any:
        return np.array(WEIGHTS[("stolen", "abused", "throttle").index(self.channel)])

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
