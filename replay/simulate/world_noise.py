"""The background of a world: what befalls its keys at natural rates, all the time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from replay.simulate import api
from replay.simulate import world_moves as moves
from replay.simulate.settings import DAY_US, HOUR_US, MINUTE_US
from replay.simulate.world_keys import WorldKey
from replay.simulate.world_moves import logu
from replay.simulate.world_plan import FOREVER_US, Plan
from replay.simulate.world_settings import CLOUD, MOBILE, SERVER, START_US

# mean days between two of a kind on one key
SPIKE, MIGRATION, CURL, STORM, GROWTH, ROUTE, CRAWL = 20, 120, 120, 60, 90, 45, 300
PAUSE, REGION, BATCH, REFUSED = 400, 250, 400, 240
ADOPTION = 0.6  # of an SDK's users take a new release
DEPLOY_SHARE = 0.3  # of new routes come with a new major version of the client


def add_noise(plan: Plan) -> None:
    """Draws everything that happens by itself, key by key and for the fleet."""
    for key in plan.keys:
        _newcomer(plan, key)
        _life(plan, key)
    _fleet(plan)


def _newcomer(plan: Plan, key: WorldKey) -> None:
    """Three keys in a hundred are issued within the span."""
    rng = plan.stream(3, key.number)
    if rng.random() < 0.03 and key.number not in plan.reserved:
        key.born_us = int(rng.integers(START_US + DAY_US, plan.settings.end_us - DAY_US // 2))


def _life(plan: Plan, key: WorldKey) -> None:
    rng = plan.stream(4, key.number)
    moves.rotate_later(plan, rng, key, START_US)
    kinds: list[tuple[int, Callable[[Plan, np.random.Generator, WorldKey, int], object]]] = [
        (SPIKE, moves.spike),
        (STORM, moves.error_storm),
        (GROWTH, _grow),
        (ROUTE, _release),
        (CRAWL, moves.crawl),
        (PAUSE, _pause),
    ]
    if key.kind != MOBILE:
        kinds += [(MIGRATION, _migrate), (CURL, moves.by_hand), (REFUSED, moves.refused)]
    if key.kind in (SERVER, CLOUD):
        kinds += [(REGION, _expand), (BATCH, _batch)]
    for mean_days, act in kinds:
        for at_us in plan.times(rng, mean_days):
            plan.at(at_us, partial(act, plan, rng, key, at_us))


def _grow(plan: Plan, rng: np.random.Generator, key: WorldKey, at_us: int) -> None:
    plan.rate(key.number, at_us, FOREVER_US, float(rng.uniform(1.3, 3.0)))


def _release(plan: Plan, rng: np.random.Generator, key: WorldKey, at_us: int) -> None:
    moves.new_route(rng, key, at_us, int(rng.integers(1, 4)))
    if rng.random() < DEPLOY_SHARE:
        moves.new_client(plan, rng, key, at_us, int(logu(rng, 5, 240) * MINUTE_US))


def _migrate(plan: Plan, rng: np.random.Generator, key: WorldKey, at_us: int) -> None:
    over_us = int(logu(rng, 3, 300) * MINUTE_US)
    moves.new_network(plan, rng, key, at_us, over_us)
    moves.new_client(plan, rng, key, at_us, over_us)


def _pause(plan: Plan, rng: np.random.Generator, key: WorldKey, at_us: int) -> None:
    """Nobody needs the key for some days."""
    plan.rate(key.number, at_us, at_us + int(logu(rng, 3, 25) * DAY_US), 0.0)


def _expand(plan: Plan, rng: np.random.Generator, key: WorldKey, at_us: int) -> None:
    moves.second_region(plan, rng, key, at_us, float(rng.uniform(0.1, 0.5)))


def _batch(plan: Plan, rng: np.random.Generator, key: WorldKey, at_us: int) -> None:
    end_us = at_us + int(rng.uniform(0.5, 5) * HOUR_US)
    plan.rate(key.number, at_us, end_us, float(rng.uniform(8, 40)))


def _fleet(plan: Plan) -> None:
    rng = plan.stream(5)
    for at_us in plan.times(rng, 10):
        plan.at(at_us, partial(marketing, plan, rng, at_us, float(rng.uniform(2, 8))))
    for at_us in plan.times(rng, 7):
        plan.at(at_us, partial(moves.outage, plan, rng, at_us))
    for family in range(len(api.FAMILIES)):
        for at_us in plan.times(rng, 40):
            plan.at(at_us, partial(sdk_release, plan, rng, family, at_us))


def marketing(
    plan: Plan, rng: np.random.Generator, at_us: int, peak: float
) -> tuple[list[int], int]:
    """A tenth of the keys get a multiple of their traffic for some hours; which, until when."""
    n = max(2, len(plan.keys) // 10)
    keys = sorted(int(k) for k in rng.permutation(len(plan.keys))[:n])
    third_us = int(rng.uniform(0.7, 3) * HOUR_US)
    for step, factor in enumerate((1 + (peak - 1) / 2, peak, 1 + (peak - 1) / 4)):
        for key in keys:
            plan.rate(key, at_us + step * third_us, at_us + (step + 1) * third_us, factor)
    return keys, at_us + 3 * third_us


def sdk_release(
    plan: Plan, rng: np.random.Generator, family: int, at_us: int
) -> tuple[list[int], int]:
    """A new major version of an SDK, adopted by 60 % of its users; by whom, until when."""
    span_us = int(logu(rng, 1, 72) * HOUR_US)
    users = [k for k in plan.keys if k.family == family]
    users = [k for k in users if rng.random() < ADOPTION] or users
    for key in users:
        start_us = at_us + int(rng.uniform(0, 1) * span_us)
        over_us = int(logu(rng, 1, 60) * MINUTE_US)
        plan.at(start_us, partial(moves.new_client, plan, rng, key, start_us, over_us))
    return [k.number for k in users], at_us + span_us
