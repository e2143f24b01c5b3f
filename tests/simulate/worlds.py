"""A small world that several tests look at, as one set of columns."""

from __future__ import annotations

from functools import cache

import numpy as np

from replay.simulate.columns import EventColumns
from replay.simulate.world import World, WorldSettings
from replay.simulate.world_settings import START_US
from replay.simulate.world_wire import joined

DAY_US = 86_400_000_000
SMALL = {"keys": 60, "days": 4, "quiet_days": 1, "attacks_per_scenario": 1}


@cache
def small(seed: int = 5, benign: tuple[str, ...] | None = None) -> tuple[World, EventColumns]:
    """A world of 60 keys and four days, one attack of each kind, and all of its events."""
    more = {} if benign is None else {"benign": benign}
    world = World(WorldSettings(seed, **SMALL, **more))
    return world, joined(list(world.chunks()))


def attack_rows(scenario: str) -> tuple[World, EventColumns, EventColumns]:
    """The world, the scenario's requests, and the benign ones of the same keys."""
    world, rows = small()
    number = next(a.number for a in world.attacks if a.scenario == scenario)
    hostile = rows.take(np.flatnonzero(rows.attack == number))
    own = (rows.attack < 0) & np.isin(rows.key, hostile.key)
    return world, hostile, rows.take(np.flatnonzero(own))


__all__ = ["DAY_US", "SMALL", "START_US", "attack_rows", "small"]
