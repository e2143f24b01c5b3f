"""The owner beside the actor: whether usual traffic carries on while a new source works.

- *additive*: a thief adds to the owner's traffic, a migration or a new egress replaces it.
  With E requests expected of the established sources since the actor came, n seen of them,
  and w the actor's share of all since then:
  ``log NB(n; mean E) - log NB(n; mean (1 - w) E)``, size r. Positive: the owner carries on.
- *off hours*: the actor works when the key usually sleeps:
  ``log P(active at the key's usual level) - log P(active at this hour's level)``.
- *travel*: two places in turn, farther apart than anybody moves. The pair counts by how rarely
  this key's requests do that; a bonus, never enough alone, and only with a GeoIP database.

Sources: negative binomial ratio in closed form; Freeman et al. (NDSS 2016) for the idea of the
travel row.
"""

from __future__ import annotations

from math import log
from typing import Any

from river.base import AnomalyDetector

from models._jit import kernel

ADDITIVE_RANGE = (-10.0, 4.0)
EXPECTED_MIN = 1.5  # requests the owner must owe before its silence means anything
SHARE_MIN, SHARE_MAX = 0.15, 0.98
OFF_HOURS_MAX = 3.0
SPEED_KMH, DISTANCE_KM = 1000.0, 500.0
TRAVEL_MAX = 4.0
KM_PER_DEGREE = 111.2


@kernel
def additive(owner: float, expected: float, actor: float, size: float) -> float:
    """Nats for "the owner carries on" against "the actor took over".

    >>> additive(20.0, 20.0, 60.0, 2.0) > 1.0           # busy owner, busy thief
    True
    >>> additive(0.0, 20.0, 20.0, 2.0) < -4             # the old source fell silent
    True
    >>> additive(20.0, 20.0, 1.0, 2.0)                  # too small to say
    0.0
    """
    share = min(SHARE_MAX, actor / max(1.0, actor + owner))
    if expected < EXPECTED_MIN or share < SHARE_MIN:
        return 0.0
    less = (1.0 - share) * expected
    nats = owner * log(expected * (size + less) / (less * (size + expected)))
    nats -= size * log((size + expected) / (size + less))
    return min(max(nats, ADDITIVE_RANGE[0]), ADDITIVE_RANGE[1])


@kernel
def active_share(mean: float, size: float) -> float:
    """P(at least one request in a cell) of a negative binomial."""
    return 1.0 - (size / (size + mean)) ** size


@kernel
def off_hours(mean_now: float, mean_usual: float, size: float) -> float:
    """Nats of working at an hour with ``mean_now`` expected requests a cell.

    >>> off_hours(4.0, 4.0, 2.0), off_hours(0.05, 4.0, 2.0) > 2.5
    (0.0, True)
    """
    usual, now = active_share(mean_usual, size), active_share(mean_now, size)
    return min(OFF_HOURS_MAX, max(0.0, log(usual / max(now, 1e-6))))


@kernel
def is_impossible(distance_km: float, elapsed_us: int) -> bool:
    """True when nobody moves that far in the time.

    >>> is_impossible(8000.0, 3_600_000_000), is_impossible(400.0, 1)
    (True, False)
    """
    hours = max(elapsed_us, 1) / 3.6e9
    return distance_km > DISTANCE_KM and distance_km > SPEED_KMH * hours


@kernel
def travel(leaps: float, pairs: float) -> float:
    """Nats of one impossible leap, given how often this key's requests leap anyway.

    >>> travel(0.0, 1000.0), travel(500.0, 1000.0) < 1
    (4.0, True)
    """
    return min(TRAVEL_MAX, -log((leaps + 0.5) / (pairs + 1.0)))


class OwnerCarriesOn(AnomalyDetector):
    """Evidence that the established sources of a key go on beside a new one.

    Parameters
    ----------
    owner, expected, actor
        Feature names: requests of established sources since the actor came, how many were
        expected of them, requests of the actor.
    size
        Size r of the negative binomial: 1 / r is the dispersion.

    Examples
    --------
    >>> OwnerCarriesOn().score_one({"owner": 20, "expected": 20, "actor": 60}) > 1
    True
    """

    def __init__(
        self,
        owner: str = "owner",
        expected: str = "expected",
        actor: str = "actor",
        size: float = 2.0,
    ) -> None:
        self.owner = owner
        self.expected = expected
        self.actor = actor
        self.size = size

    def score_one(self, x: dict[str, Any]) -> float:
        """Evidence in nats, negative for a hand-over."""
        counts = [float(x.get(name, 0.0)) for name in (self.owner, self.expected, self.actor)]
        return float(additive(counts[0], counts[1], counts[2], self.size))

    def learn_one(self, x: dict[str, Any]) -> OwnerCarriesOn:  # noqa: ARG002 - River's signature
        """Keeps nothing: the counts are its memory."""
        return self
