"""Things that happen to one key: the material of background noise and of benign scenarios."""

from __future__ import annotations

from functools import partial
from math import exp, log

import numpy as np

from detector.core.events import I64
from replay.simulate import api
from replay.simulate.columns import columns
from replay.simulate.keys import Change, State, Weighted
from replay.simulate.settings import DAY_US, HOUR_US, MINUTE_US
from replay.simulate.traffic import Outage, dress
from replay.simulate.world_keys import WorldKey, clients_of
from replay.simulate.world_places import host_in, network_in
from replay.simulate.world_plan import Crawl, Plan, Storm
from replay.simulate.world_settings import DEVELOPER, MOBILE

_ID_KINDS = (api.ID_NUMBER, api.ID_HEX, api.ID_UUID)


def logu(rng: np.random.Generator, low: float, high: float) -> float:
    """A log-uniform number."""
    return exp(float(rng.uniform(log(low), log(high))))


def pareto(rng: np.random.Generator, low: float = 1.5, high: float = 60.0) -> float:
    """A factor with tail exponent 1.3, capped."""
    return min(high, low * exp(float(rng.standard_exponential()) / 1.3))


def new_client(
    plan: Plan, rng: np.random.Generator, key: WorldKey, at_us: int, over_us: int
) -> None:
    """A new major version (or another program) takes over in three steps."""
    old = key.state_at(at_us).clients
    if "{}" not in key.client_text:
        key.client_text = api.own_client(key.owner_name, rng)
    key.version = (key.version[0] + 1, 0)
    new = clients_of(key, plan.words)
    over_us = max(over_us, 12 * HOUR_US) if key.kind == MOBILE else over_us
    for at, share in ((0.0, 0.25), (0.4, 0.6)):
        mixed = [(c, w * (1 - share)) for c, w in old] + [(c, w * share) for c, w in new]
        key.changes.append(Change(at_us + int(at * over_us), "clients", tuple(mixed)))
    key.changes.append(Change(at_us + over_us, "clients", new))


def new_route(rng: np.random.Generator, key: WorldKey, at_us: int, n: int = 1) -> None:
    """The key begins to call routes of its own areas that it never called."""
    for step in range(n):
        used = {r for r, _ in key.state_at(at_us + step).routes}
        area = int(rng.choice(key.allowed if rng.random() < 0.3 else key.areas))
        pool = [r for r in api.routes_where(area) + api.routes_where(area, True) if r not in used]
        if pool:
            route = ((int(rng.choice(pool)), logu(rng, 0.01, 0.5)),)
            key.changes.append(Change(at_us + step, "route", route))


def new_network(
    plan: Plan, rng: np.random.Generator, key: WorldKey, at_us: int, over_us: int
) -> int:
    """All of the key's addresses move to one new network; returns its base address."""
    old = key.addresses_at(at_us)
    network = somewhere(plan, rng, key)
    spots = tuple((host_in(rng, network), w) for _, w in old)
    plan.set_addresses(key, at_us, old + spots)
    plan.set_addresses(key, at_us + over_us, spots)
    key.pool = (network, *(network_in(rng, network >> 16) for _ in key.pool[1:]))
    return network


def somewhere(plan: Plan, rng: np.random.Generator, key: WorldKey) -> int:
    """A network where such a key may turn up next."""
    if key.kind == DEVELOPER or rng.random() < 0.1:
        return plan.places.home(rng)
    return plan.places.hosting(rng)


def second_region(
    plan: Plan, rng: np.random.Generator, key: WorldKey, at_us: int, share: float
) -> None:
    """New addresses beside the old ones, which carry on."""
    old = key.addresses_at(at_us)
    network = plan.places.hosting(rng)
    total = sum(w for _, w in old)
    n = int(rng.integers(1, 4))
    more = tuple((host_in(rng, network), total * share / (1 - share) / n) for _ in range(n))
    plan.set_addresses(key, at_us, old + more)


def rotate(plan: Plan, rng: np.random.Generator, key: WorldKey, at_us: int) -> None:
    """The churn of a key's networks: one address gives way to another one, again and again."""
    spots = list(key.addresses_at(at_us))
    which = int(rng.integers(len(spots)))
    if key.kind == DEVELOPER:  # a café, a hotel, a train
        network = plan.places.home(rng)
    else:
        network = int(rng.choice(key.pool))
        if rng.random() < 0.1:  # the provider's pool is larger than what was seen so far
            network = network_in(rng, network >> 16)
    spots[which] = (host_in(rng, network), spots[which][1])
    plan.set_addresses(key, at_us, tuple(spots))
    rotate_later(plan, rng, key, at_us)


def rotate_later(plan: Plan, rng: np.random.Generator, key: WorldKey, after_us: int) -> None:
    """Plans the next change of a key's addresses, if it ever changes any."""
    if key.churn and key.kind != MOBILE:
        at_us = after_us + int(rng.exponential(1 / key.churn) * DAY_US) + MINUTE_US
        if at_us < plan.settings.end_us:
            plan.at(at_us, partial(rotate, plan, rng, key, at_us))


def spike(plan: Plan, rng: np.random.Generator, key: WorldKey, at_us: int) -> None:
    """More of the same for minutes or hours, by a heavy-tailed factor."""
    plan.rate(key.number, at_us, at_us + int(logu(rng, 0.2, 8) * HOUR_US), pareto(rng))


def error_storm(plan: Plan, rng: np.random.Generator, key: WorldKey, at_us: int) -> int:
    """A client's bug: it repeats one failing call, sometimes very often; when it ends."""
    end_us = at_us + int(logu(rng, 0.3, 10) * HOUR_US)
    routes = [r for r, _ in key.state_at(at_us).routes]
    status = int(rng.choice([400, 404, 404, 422, 429, 403, 401, 500]))
    route = int(rng.choice(routes)) if rng.random() < 0.8 else -1
    share = float(rng.uniform(0.2, 0.9))
    plan.storms.append(Storm(key.number, at_us, end_us, share, status, route))
    plan.rate(key.number, at_us, end_us, logu(rng, 1.0, 6.0))
    return end_us


def crawl(plan: Plan, rng: np.random.Generator, key: WorldKey, at_us: int) -> int:
    """A job reads many objects the key never read; when it ends."""
    end_us = at_us + int(logu(rng, 0.5, 6) * HOUR_US)
    routes = tuple(read_routes(key.areas))[: int(rng.integers(1, 3))]
    in_sequence = bool(rng.random() < 0.4)
    plan.crawls.append(Crawl(key.number, at_us, end_us, routes, in_sequence))
    plan.rate(key.number, at_us, end_us, logu(rng, 1.5, 12.0))
    return end_us


def read_routes(areas: tuple[int, ...]) -> list[int]:
    """The ``GET .../{id}`` routes of areas, their main collection first."""
    table = api.routes()
    found = [r for a in areas for r in api.routes_where(a) if is_read(table[r])]
    return sorted(found, key=lambda r: -table[r].weight)


def is_read(route: api.Route) -> bool:
    """Whether a route reads one object by its identifier."""
    return route.method == "GET" and route.id_kind in _ID_KINDS and "export" not in route.before


def outage(plan: Plan, rng: np.random.Generator, at_us: int) -> list[int]:
    """A service of the API fails for minutes; its users get 5xx and retry. Its users."""
    area = int(rng.choice(plan.some(rng, at_us).areas))
    end_us = at_us + int(rng.uniform(10, 60) * MINUTE_US)
    users = [k.number for k in plan.keys if area in k.areas]
    plan.outages.append(Outage(area, at_us, end_us, float(rng.uniform(0.4, 0.95))))
    for key in users:
        plan.rate(key, at_us, end_us, float(rng.uniform(2, 4)))
    return users


def by_hand(plan: Plan, rng: np.random.Generator, key: WorldKey, at_us: int) -> int:
    """Somebody at the customer tries something with the production key from home; its end."""
    end_us = at_us + int(logu(rng, 4, 90) * MINUTE_US)
    if not key.born_us <= at_us < min(key.dies_us, plan.settings.end_us - 2 * HOUR_US):
        return end_us
    n = int(rng.integers(2, 26))
    ts_us: I64 = np.sort(rng.integers(at_us // 1000, end_us // 1000, n)) * 1000
    known = [r for r, _ in key.state_at(at_us).routes]
    route = np.asarray(rng.choice(known, n), np.int64)
    if rng.random() < 0.4:
        others = api.routes_where(int(rng.choice(key.allowed)))
        route[int(rng.integers(n)) :] = rng.choice(others)
    status = np.where(rng.random(n) < 0.15, rng.choice([400, 404, 404, 401, 422], n), 200)
    if rng.random() < 0.2:  # and also tries something the key may not do
        tried = rng.random(n) < 0.2
        route = np.where(tried, rng.choice(rng.choice(forbidden(key), 2), n), route)
        status = np.where(tried, 403, status)
    size, _ = dress(rng, route, status)
    plan.visits.append(
        columns(
            plan.words,
            ts_us=ts_us,
            key=key.number,
            route=route,
            ident=key.ids_from + rng.integers(0, max(min(key.ids, 30), 2), n),
            address=host_in(rng, plan.places.home(rng)),
            client=plan.words.client(str(rng.choice(api.BY_HAND))),
            status=status,
            size_bytes=size,
            latency_ms=0,
        )
    )
    return end_us


def refused(plan: Plan, rng: np.random.Generator, key: WorldKey, at_us: int) -> int:
    """A release calls endpoints the key has no right to, until somebody notices; its end."""
    end_us = at_us + int(logu(rng, 0.1, 30) * HOUR_US)
    if not key.born_us <= at_us < min(key.dies_us, plan.settings.end_us - 31 * HOUR_US):
        return end_us
    state, n = key.state_at(at_us), int(logu(rng, 2, 80))
    pool = rng.permutation(forbidden(key))[: int(rng.integers(1, 4))]
    route = np.asarray(rng.choice(pool, n), np.int64)
    spots = np.array([a for a, _ in state.addresses])
    status = np.full(n, 403)
    size, _ = dress(rng, route, status)
    plan.visits.append(
        columns(
            plan.words,
            ts_us=np.sort(rng.integers(at_us // 1000, end_us // 1000, n)) * 1000,
            key=key.number,
            route=route,
            ident=key.ids_from + rng.integers(0, max(min(key.ids, 30), 2), n),
            address=spots[rng.integers(len(spots), size=n)],
            client=state.clients[0][0],
            status=status,
            size_bytes=size,
            latency_ms=0,
        )
    )
    return end_us


def forbidden(key: WorldKey) -> I64:
    """Routes outside what the key may call."""
    areas = [a for a in range(api.N_AREAS) if a not in key.allowed]
    return np.array([r for a in areas for r in api.routes_where(a)] or [0], np.int64)


def set_clients(key: WorldKey, at_us: int, clients: Weighted) -> None:
    """From ``at_us`` on the key's requests come from these programs."""
    key.changes.append(Change(at_us, "clients", clients))


def with_clients(state: State, clients: Weighted) -> State:
    """The state with other programs."""
    return State(state.addresses, clients, state.routes)
