"""The named benign scenarios: what looks like an attack and is none. Each occurs on purpose.

``add_benign`` plans one to a few instances of each in the test period and records them in
``Plan.happenings``. A scenario's function runs when its time has come, so it sees the keys as
everything before it left them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import numpy as np

from replay.simulate import world_moves as moves
from replay.simulate import world_noise
from replay.simulate.settings import DAY_US, HOUR_US, MINUTE_US
from replay.simulate.world_benign_log import LOG_SCENARIOS
from replay.simulate.world_keys import WorldKey, clients_of
from replay.simulate.world_moves import logu
from replay.simulate.world_places import host_in, network_in
from replay.simulate.world_plan import FOREVER_US, Crawl, Plan, Storm, Zone
from replay.simulate.world_settings import CLOUD, DEVELOPER, LOG_CHANGES, MOBILE, SERVER

LOAD_TOOLS = ("k6/0.49.0 (https://k6.io/)", "Apache-JMeter/5.6.3", "Go-http-client/2.0")
Scenario = Callable[[Plan, np.random.Generator, int], None]


def add_benign(plan: Plan) -> None:
    """Plans every scenario the settings ask for."""
    for number, name in enumerate(plan.settings.benign):
        rng = plan.stream(9, number)
        if name == "L01":
            name = str(rng.choice(LOG_CHANGES))
        scenario, often = _SCENARIOS.get(name, (LOG_SCENARIOS.get(name), 0))
        assert scenario is not None
        for _ in range(1 + len(plan.keys) * often // 2000):
            at_us = plan.test_time(rng, DAY_US)
            if name == "B09":
                at_us = _last_night(plan, rng) or at_us
            if name in ("B10", "B20"):  # they choose keys that must not have lived before
                scenario(plan, rng, at_us)
            else:
                plan.at(at_us, partial(scenario, plan, rng, at_us))


def _last_night(plan: Plan, rng: np.random.Generator) -> int | None:
    """The evening of a month's last day in the test period, if it has any."""
    days = range(plan.settings.test_us, plan.settings.end_us, DAY_US)
    last = [d for d in days if datetime.fromtimestamp(d / 1e6 + 86_400, UTC).day == 1]
    return last[0] + int(rng.uniform(19, 23) * HOUR_US) if last else None


def sdk_release(plan: Plan, rng: np.random.Generator, at_us: int) -> None:
    """B01: a new SDK major version, adopted by 60 % of its users over an hour to three days."""
    family = int(rng.choice([k.family for k in plan.keys if k.family >= 0]))
    keys, end_us = world_noise.sdk_release(plan, rng, family, at_us)
    plan.note("B01", keys, at_us, end_us)


def deploy(plan: Plan, rng: np.random.Generator, at_us: int) -> None:
    """B02: a customer's release: new client and new routes at once, on all of its servers."""
    one = plan.some(rng, at_us, SERVER, CLOUD)
    keys = [k for k in plan.settled(at_us, SERVER, CLOUD) if k.owner == one.owner][:8]
    over_us = int(logu(rng, 2, 60) * MINUTE_US)
    for key in keys:
        moves.new_client(plan, rng, key, at_us, over_us)
        moves.new_route(rng, key, at_us, int(rng.integers(2, 6)))
    plan.note("B02", [k.number for k in keys], at_us, at_us + over_us)


def marketing(plan: Plan, rng: np.random.Generator, at_us: int) -> None:
    """B03: a campaign multiplies the traffic of a tenth of the keys by 2 to 20 for hours."""
    keys, end_us = world_noise.marketing(plan, rng, at_us, logu(rng, 2, 20))
    plan.note("B03", keys, at_us, end_us)


def holiday(plan: Plan, rng: np.random.Generator, at_us: int) -> None:
    """B04: a public holiday in a third of the world is a Sunday in the middle of the week."""
    day_us = at_us - at_us % DAY_US
    zones = rng.permutation([-8, -5, 0, 1, 2, 5.5, 9])[:3]
    keys = [k.number for k in plan.keys if k.zone_h in zones]
    plan.holidays.append((day_us, tuple(keys)))
    plan.note("B04", keys, day_us, day_us + DAY_US)


def new_office(plan: Plan, rng: np.random.Generator, at_us: int) -> None:
    """B05: a new office or egress: all requests come from a new network, nothing else changes."""
    key = plan.some(rng, at_us, SERVER, DEVELOPER)
    over_us = int(logu(rng, 1, 120) * MINUTE_US)
    moves.new_network(plan, rng, key, at_us, over_us)
    plan.note("B05", [key.number], at_us, at_us + over_us)


def region_rotation(plan: Plan, rng: np.random.Generator, at_us: int) -> None:
    """B06: a cloud NAT's pool moves to another region: /24s never seen, address by address."""
    key = plan.some(rng, at_us, CLOUD)
    blocks = plan.places.region(rng)
    key.pool = tuple(network_in(rng, int(rng.choice(blocks))) for _ in range(len(key.pool)))
    key.churn = max(key.churn, 0.5)
    spots = list(key.addresses_at(at_us))
    for i in range(len(spots)):
        spots[i] = (host_in(rng, int(rng.choice(key.pool))), spots[i][1])
        plan.set_addresses(key, at_us + i * 20 * MINUTE_US, tuple(spots))
    plan.note("B06", [key.number], at_us, at_us + len(spots) * 20 * MINUTE_US)


def migration(plan: Plan, rng: np.random.Generator, at_us: int) -> None:
    """B07: a full migration: other provider, other client, other hours of the day."""
    key = plan.some(rng, at_us, SERVER, CLOUD)
    over_us = int(logu(rng, 3, 120) * MINUTE_US)
    moves.new_network(plan, rng, key, at_us, over_us)
    moves.new_client(plan, rng, key, at_us, over_us)
    plan.zones.append(Zone(key.number, at_us, key.zone_h + float(rng.choice([-9, -6, 6, 9]))))
    plan.note("B07", [key.number], at_us, at_us + over_us)


def scale_out(plan: Plan, rng: np.random.Generator, at_us: int) -> None:
    """B08: a second region beside the first, which carries on: additive, like a thief."""
    key = plan.some(rng, at_us, SERVER, CLOUD)
    share = float(rng.uniform(0.15, 0.5))
    moves.second_region(plan, rng, key, at_us, share)
    plan.rate(key.number, at_us, FOREVER_US, 1 / (1 - share))
    plan.note("B08", [key.number], at_us, FOREVER_US)


def month_end(plan: Plan, rng: np.random.Generator, at_us: int) -> None:
    """B09: the month's last night: jobs of eight to forty times the usual on a few keys."""
    keys = {plan.some(rng, at_us, SERVER, CLOUD).number for _ in range(3)}
    end_us = at_us + int(rng.uniform(1, 6) * HOUR_US)
    for key in sorted(keys):
        plan.rate(key, at_us, end_us, float(rng.uniform(8, 40)))
    plan.note("B09", sorted(keys), at_us, end_us)


def rotation(plan: Plan, rng: np.random.Generator, at_us: int) -> None:
    """B10: a key is replaced: the new one has the old one's client, sources and routes."""
    old = plan.some(rng, at_us, SERVER, CLOUD)
    new = _unborn(plan, rng, 1, at_us)[0]
    plan.reserved |= {old.number}
    overlap_us = int(logu(rng, 0.1, 72) * HOUR_US)
    old.dies_us = at_us + overlap_us
    plan.at(at_us, partial(_inherit, plan, old, new, at_us))
    plan.note("B10", [old.number, new.number], at_us, at_us + overlap_us)


def _inherit(plan: Plan, old: WorldKey, new: WorldKey, at_us: int) -> None:
    new.state, new.changes, new.pool = old.state_at(at_us), [], old.pool
    new.blocks, new.rotated_from = set(old.blocks), old.name
    new.areas, new.allowed, new.granted = old.areas, old.allowed, old.granted
    new.owner, new.owner_name = old.owner, old.owner_name
    plan.words.owners[new.number] = old.owner_name
    new.client_text, new.family, new.version = old.client_text, old.family, old.version
    new.kind, new.rate, new.shape, new.session = old.kind, old.rate, old.shape, old.session
    new.ids_from, new.ids, new.ids_power = old.ids_from, old.ids, old.ids_power
    new.zone_h, new.churn, new.broken_route = old.zone_h, old.churn, old.broken_route


def apps(plan: Plan, rng: np.random.Generator, at_us: int) -> None:
    """B11: mobile apps: a thousand to a hundred thousand addresses, all the time; one grows."""
    keys = [k for k in plan.keys if k.kind == MOBILE]
    plan.rate(int(rng.choice([k.number for k in keys])), at_us, FOREVER_US, logu(rng, 1.5, 4))
    plan.note("B11", [k.number for k in keys], plan.settings.test_us, plan.settings.end_us)


def crawler(plan: Plan, rng: np.random.Generator, at_us: int) -> None:
    """B12: a partner synchronises: over 90 % of the identifiers are new to the key."""
    key = plan.some(rng, at_us, SERVER, CLOUD)
    routes = tuple(moves.read_routes(key.areas)[:1])
    end_us = at_us + int(logu(rng, 2, 48) * HOUR_US)
    plan.crawls.append(Crawl(key.number, at_us, end_us, routes, bool(rng.random() < 0.5)))
    plan.rate(key.number, at_us, end_us, logu(rng, 1, 8))
    plan.note("B12", [key.number], at_us, end_us)


def outage(plan: Plan, rng: np.random.Generator, at_us: int) -> None:
    """B13: a service fails with 5xx, its users retry: two to four times the usual requests."""
    users = moves.outage(plan, rng, at_us)
    plan.note("B13", users, at_us, plan.outages[-1].end_us)


def client_bug(plan: Plan, rng: np.random.Generator, at_us: int) -> None:
    """B14: a client repeats one call that is always answered with the same 4xx."""
    key = plan.some(rng, at_us, SERVER, CLOUD, DEVELOPER)
    end_us = at_us + int(logu(rng, 0.5, 24) * HOUR_US)
    route = int(rng.choice([r for r, _ in key.state_at(at_us).routes]))
    status = int(rng.choice([400, 404, 422, 403, 401]))
    share = float(rng.uniform(0.5, 0.95))
    plan.storms.append(Storm(key.number, at_us, end_us, share, status, route))
    plan.rate(key.number, at_us, end_us, logu(rng, 2, 20))
    plan.note("B14", [key.number], at_us, end_us)


def by_hand(plan: Plan, rng: np.random.Generator, at_us: int) -> None:
    """B15: a developer uses curl or Postman with the production key, from home."""
    key = plan.some(rng, at_us, SERVER, CLOUD)
    plan.note("B15", [key.number], at_us, moves.by_hand(plan, rng, key, at_us))


def load_test(plan: Plan, rng: np.random.Generator, at_us: int) -> None:
    """B16: an announced load test: a new machine, a load tool, few routes, ten to 60 times more."""
    key = plan.some(rng, at_us, SERVER, CLOUD)
    end_us = at_us + int(rng.uniform(0.3, 2.5) * HOUR_US)
    factor = logu(rng, 10, 60)
    before = key.state_at(at_us)
    network, own = moves.somewhere(plan, rng, key), sum(w for _, w in before.addresses)
    spots = tuple((host_in(rng, network), own * factor / 3) for _ in range(3))
    tool = ((plan.words.client(str(rng.choice(LOAD_TOOLS))), factor), *before.clients)
    plan.set_addresses(key, at_us, before.addresses + spots)
    plan.set_addresses(key, end_us, before.addresses)
    moves.set_clients(key, at_us, tool)
    moves.set_clients(key, end_us, before.clients)
    plan.rate(key.number, at_us, end_us, factor)
    plan.note("B16", [key.number], at_us, end_us)


def bulk_onboarding(plan: Plan, rng: np.random.Generator, at_us: int) -> None:
    """B20: a partner gets many keys within two days; none of them has any history."""
    n = max(3, min(40, len(plan.keys) // 50))
    keys = _unborn(plan, rng, n, at_us)
    for key in keys:
        key.born_us = at_us + int(rng.uniform(0, 2) * DAY_US)
        key.owner, key.owner_name = keys[0].owner, keys[0].owner_name
        plan.words.owners[key.number] = key.owner_name
        key.client_text, key.family = keys[0].client_text, keys[0].family
        clients = clients_of(key, plan.words)
        key.state = moves.with_clients(key.state, clients)
    plan.note("B20", [k.number for k in keys], at_us, at_us + 2 * DAY_US)


def _unborn(plan: Plan, rng: np.random.Generator, n: int, at_us: int) -> list[WorldKey]:
    """Keys that were never used so far and are issued now."""
    pool = [k for k in plan.keys if k.number not in plan.reserved and k.kind != MOBILE]
    chosen = [pool[int(i)] for i in rng.permutation(len(pool))[:n]]
    for key in chosen:
        key.born_us = at_us
        plan.reserved.add(key.number)
    return chosen


# how many instances more than one a fleet of 2,000 keys sees
_SCENARIOS: dict[str, tuple[Scenario, int]] = {
    "B01": (sdk_release, 0),
    "B02": (deploy, 5),
    "B03": (marketing, 0),
    "B04": (holiday, 0),
    "B05": (new_office, 7),
    "B06": (region_rotation, 5),
    "B07": (migration, 5),
    "B08": (scale_out, 7),
    "B09": (month_end, 0),
    "B10": (rotation, 7),
    "B11": (apps, 0),
    "B12": (crawler, 5),
    "B13": (outage, 0),
    "B14": (client_bug, 5),
    "B15": (by_hand, 7),
    "B16": (load_test, 2),
    "B20": (bulk_onboarding, 0),
}
