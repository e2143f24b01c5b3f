"""Small fleets in memory, and bags of evidence made by hand."""

from __future__ import annotations

from functools import cache

import numpy as np

from detector.core.events import EventBatch
from detector.core.settings import ChannelLimits, ShardSettings
from models.families import FAMILIES
from replay.simulate.world import World, WorldSettings
from replay.tune.collect import Bags
from replay.tune.log import Log
from tests.core.logs import START_US, batch_of

HOUR_US = 3_600_000_000
# Weights by hand, so that these tests do not hang on those that are shipped.
BY_HAND = {
    "new_network": 0.65,
    "new_client": 0.7,
    "new_route": 0.2,
    "new_area": 0.45,
    "foreign_mix": 1.0,
    "actor_volume": 0.4,
    "volume": 0.06,
    "probing": 0.3,
    "dormancy": 0.5,
    "enumeration": 0.3,
    "additive": 0.5,
}
STOLEN = tuple(BY_HAND.get(family, 0.0) for family in FAMILIES)
ABUSED = tuple(
    {"probing": 0.9, "enumeration": 1.0, "slow_drift": 0.6}.get(f, 0.0) for f in FAMILIES
)
THROTTLE = tuple({"slow_drift": 1.0, "surge": 1.0}.get(f, 0.0) for f in FAMILIES)
SETTINGS = ShardSettings(
    stolen=ChannelLimits(floor=4.0, threshold=13.75, cold_extra=3.0, weights=STOLEN),
    abused=ChannelLimits(floor=4.0, threshold=10.9, cold_extra=3.0, weights=ABUSED),
    throttle=ChannelLimits(floor=4.0, threshold=9.0, cold_extra=3.0, weights=THROTTLE),
    without=("combination",),
)


@cache
def fleet(keys: int = 60, days: int = 10, seed: int = 1) -> Log:
    """A simulated fleet without attacks."""
    settings = WorldSettings(
        seed=seed,
        keys=keys,
        days=days,
        quiet_days=days - 1,
        requests_per_day=100_000,
        attacks_per_scenario=0,
    )
    return Log.of(EventBatch.concat([batch for batch, _ in World(settings).batches()]))


def row(hours, key, *, network="10.0.0", client="sdk/2", route="GET /v1/a", status=200):
    return (START_US + round(hours * HOUR_US), key, network, client, route, status)


def log_of(rows) -> Log:
    return Log.of(batch_of(sorted(rows)))


def times_of(log: Log, key: int, until_us: int):
    times_us = log.times_of(key)
    return times_us[times_us < until_us]


def bags_of(unit, extra=0.0, **families) -> Bags:
    """Bags with these units, one row each entry; every other family is 0."""
    z = np.zeros((len(unit), len(FAMILIES)), np.float32)
    for name, values in families.items():
        z[:, FAMILIES.index(name)] = values
    return Bags.of(np.array(unit, np.int64), z, np.full(len(unit), extra))
