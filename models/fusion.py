"""Fusion: evidence of many families, three channels, one additive score each.

``score_c = sum_j w_cj min(z_j, cap_j)``, so ``w_cj z_j`` are the reasons. The weights are
shipped, non-negative, and were fitted on simulated fleets and real logs (docs/DETECTION.md).
There are two sets, because a first new network says little about a key of this morning and
much about one of last year: ``YOUNG_WEIGHTS`` for a key on its first day, ``WEIGHTS`` for a
settled one, and in between, for KNOWN_CELLS, in proportion to the key's age.
Several channels because one drowns abuse in theft-shaped noise, and because a throttle is
cheap and an alert is not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from river.base import AnomalyDetector

from models._jit import kernel
from models.clock import CELLS_PER_DAY
from models.families import FAMILIES

F_NETWORK, F_CLIENT, F_ROUTE, F_AREA, F_MIX = range(5)
F_ACTOR_VOLUME, F_VOLUME, F_PROBING, F_DORMANCY, F_CONCURRENCY = range(5, 10)
F_ENUMERATION, F_SEQUENCE, F_ADDITIVE, F_OFF_HOURS, F_SLOW = range(10, 15)
F_ERRORS, F_SURGE, F_TRAVEL, F_DENIED, F_MISSES, F_ROAMING = range(15, 21)
F_OBJECTS, F_EXCESS = 21, 22
N_FAMILIES = len(FAMILIES)
CAP = 9.0  # of most families, nats
# By family: its cap; weights for settled keys, for young ones; each for STOLEN, ABUSED, THROTTLE.
TABLE: dict[str, tuple[float, tuple[float, ...], tuple[float, ...]]] = {
    "new_network": (14.0, (0.48, 0.00, 0.00), (0.00, 0.00, 0.00)),
    "new_client": (9.0, (0.06, 0.00, 0.00), (0.20, 0.00, 0.00)),
    "new_route": (16.0, (0.69, 0.71, 0.00), (0.41, 0.35, 0.00)),
    "new_area": (16.0, (0.11, 0.20, 0.00), (2.41, 0.29, 0.00)),
    "foreign_mix": (14.0, (0.11, 0.06, 0.00), (0.63, 0.53, 0.00)),
    "actor_volume": (12.0, (0.00, 0.00, 0.00), (0.00, 0.00, 0.00)),
    "volume": (50.0, (0.00, 0.00, 0.00), (0.00, 0.00, 0.00)),
    "probing": (14.0, (0.06, 0.13, 0.00), (0.12, 0.93, 0.00)),
    "dormancy": (6.0, (0.75, 0.00, 0.00), (1.08, 0.00, 0.00)),
    "concurrency": (12.0, (0.07, 0.00, 0.00), (0.56, 0.00, 0.00)),
    "enumeration": (14.0, (0.70, 0.37, 0.30), (0.13, 0.69, 0.30)),
    "sequence": (9.0, (0.19, 0.09, 0.00), (0.80, 1.25, 0.00)),
    "additive": (4.0, (0.49, 0.00, 0.00), (0.31, 0.00, 0.00)),
    "off_hours": (3.0, (1.70, 0.00, 0.00), (0.66, 0.00, 0.00)),
    "slow_drift": (20.0, (0.15, 0.64, 1.00), (0.30, 1.08, 1.00)),
    "errors": (14.0, (0.00, 0.49, 0.00), (0.05, 0.70, 0.00)),
    "surge": (20.0, (0.00, 0.24, 1.00), (0.14, 0.23, 1.00)),
    "travel": (4.0, (0.59, 0.00, 0.00), (0.84, 0.00, 0.00)),
    "denied": (14.0, (0.00, 0.14, 0.00), (2.84, 1.46, 0.00)),
    "misses": (14.0, (0.49, 0.65, 0.00), (1.66, 0.82, 0.00)),
    "roaming": (14.0, (0.20, 0.00, 0.00), (0.46, 0.00, 0.00)),
    "slow_objects": (8.0, (0.15, 1.10, 2.00), (0.34, 4.00, 2.00)),
    "actor_excess": (12.0, (0.06, 0.00, 0.00), (0.00, 0.00, 0.00)),
}
CAPS = tuple(TABLE[family][0] for family in FAMILIES)
WEIGHTS = tuple(tuple(TABLE[f][1][channel] for f in FAMILIES) for channel in range(3))
YOUNG_WEIGHTS = tuple(tuple(TABLE[f][2][channel] for f in FAMILIES) for channel in range(3))
KNOWN_CELLS = 3 * CELLS_PER_DAY
QUANTUM = 1024.0  # scores are multiples of 2**-10 nats before anything compares them


@kernel
def known_degree(age_cells: int) -> float:
    """How well a key of that age is known, in [0, 1].

    >>> known_degree(0), known_degree(144), known_degree(5000)
    (0.0, 0.5, 1.0)
    """
    return min(1.0, age_cells / KNOWN_CELLS)


@kernel
def weighted(family: int, weights: Any, known: float, evidence: float) -> float:
    """One family's share of a score, nats. ``weights[2 N_FAMILIES]``: settled, then young."""
    weight = known * weights[family] + (1.0 - known) * weights[N_FAMILIES + family]
    return weight * min(evidence, CAPS[family])


@kernel
def fuse(z: Any, weights: Any, known: float) -> float:
    """Score from ``z[N_FAMILIES]``, quantised to 2^-10 nats, at least 0.

    ``weights[2 N_FAMILIES]`` are those of a settled key, then those of a young one; ``known``
    in [0, 1] says how far the key is settled.

    Routes and areas are nested: the larger of the two counts, never both.

    >>> import numpy as np
    >>> z, weights = np.zeros(N_FAMILIES), np.repeat([1.0, 0.5], N_FAMILIES)
    >>> z[:5] = 1.0, 2.0, 3.0, 4.0, 5.0
    >>> fuse(np.zeros(N_FAMILIES), weights, 1.0), fuse(z, weights, 1.0), fuse(z, weights, 0.0)
    (0.0, 12.0, 6.0)
    """
    route = weighted(F_ROUTE, weights, known, z[F_ROUTE])
    area = weighted(F_AREA, weights, known, z[F_AREA])
    total = max(route, area)
    for j in range(N_FAMILIES):
        if j not in (F_ROUTE, F_AREA):
            total += weighted(j, weights, known, z[j])
    return max(0.0, np.floor(total * QUANTUM + 0.5) / QUANTUM)


class EvidenceFusion(AnomalyDetector):
    """Adds weighted evidence; the features are the families' names.

    ``known`` in [0, 1] is a feature too: how far the key is settled, 1 where it is missing.

    Parameters
    ----------
    channel
        ``"stolen"``, ``"abused"`` or ``"throttle"``.

    Examples
    --------
    >>> model = EvidenceFusion("stolen")
    >>> model.score_one({"new_network": 6.0, "new_client": 5.0})
    3.1796875
    >>> model.reasons({"new_network": 6.0, "new_client": 5.0})[0]
    ('new_network', 2.88)
    """

    def __init__(self, channel: str = "stolen") -> None:
        self.channel = channel

    @property
    def _weights(self) -> Any:
        channel = ("stolen", "abused", "throttle").index(self.channel)
        return np.array([*WEIGHTS[channel], *YOUNG_WEIGHTS[channel]])

    def _vector(self, x: dict[str, Any]) -> Any:
        return np.array([float(x.get(f, 0.0)) for f in FAMILIES])

    def score_one(self, x: dict[str, Any]) -> float:
        """The channel's score, nats."""
        return float(fuse(self._vector(x), self._weights, float(x.get("known", 1.0))))

    def reasons(self, x: dict[str, Any]) -> list[tuple[str, float]]:
        """Families with their share of the score, largest first."""
        z, weights, known = self._vector(x), self._weights, float(x.get("known", 1.0))
        nats = [float(weighted(j, weights, known, z[j])) for j in range(N_FAMILIES)]
        shares = [(f, round(n, 6)) for f, n in zip(FAMILIES, nats, strict=True)]
        return sorted((s for s in shares if s[1] > 0), key=lambda s: (-s[1], s[0]))

    def learn_one(self, x: dict[str, Any]) -> EvidenceFusion:  # noqa: ARG002 - River's signature
        """The shipped weights do not move; learning from verdicts is another estimator's."""
        return self
