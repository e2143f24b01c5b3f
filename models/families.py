"""Names of the evidence families, in the order of the fusion's weights."""

from __future__ import annotations

FAMILIES = (
    "new_network",
    "new_client",
    "new_route",
    "new_area",
    "foreign_mix",
    "actor_volume",
    "volume",
    "probing",
    "dormancy",
    "concurrency",
    "enumeration",
    "sequence",
    "additive",
    "off_hours",
    "slow_drift",
    "errors",
    "surge",
    "travel",
    "denied",
    "misses",
    "roaming",
    "slow_objects",
    "actor_excess",
)
