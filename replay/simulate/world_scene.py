"""One attack being made: who comes, from where, and what the API answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detector.core.events import I64
from replay.simulate import api
from replay.simulate.columns import EventColumns, columns
from replay.simulate.keys import State
from replay.simulate.settings import DAY_US, HOUR_US, MINUTE_US
from replay.simulate.traffic import app_addresses, response_bytes, success_of
from replay.simulate.world_keys import UNSEEN, WorldKey
from replay.simulate.world_moves import logu, read_routes
from replay.simulate.world_places import host_in, network_in
from replay.simulate.world_plan import Plan
from replay.simulate.world_settings import CELL_US, MOBILE

F64 = npt.NDArray[np.float64]
Who = tuple[I64, I64]  # address and client of each request

_AREA = np.array([r.area for r in api.routes()])
_OPEN = (api.COMMON_AREA, api.GUESS_AREA)


@dataclass(frozen=True, slots=True)
class Scene:
    """``len(ts_us)`` requests on a victim, in time order; methods make their columns."""

    plan: Plan
    rng: np.random.Generator
    key: WorldKey
    ts_us: I64

    @property
    def n(self) -> int:
        """Number of requests."""
        return len(self.ts_us)

    @property
    def usual(self) -> State:
        """The victim's own way when the attack begins, or when it was last used."""
        return self.key.state_at(min(int(self.ts_us[0]), self.key.dies_us))

    def foreign(self, n: int = 1) -> list[int]:
        """Networks in blocks the victim never comes from; newcomers have the same choice."""
        places, key = self.plan.places, self.key
        out = []
        for _ in range(n):
            hosting = key.kind == MOBILE or self.rng.random() < 0.6
            pick = places.hosting if hosting else places.home
            out.append(pick(self.rng, key.blocks))
        return out

    def sibling(self) -> int:
        """A network the victim never used in a block it does use: the same provider."""
        used = [a >> 8 for a, _ in self.usual.addresses if a < 1 << 32]
        block = int(self.rng.choice(used)) >> 8
        for _ in range(100):
            network = network_in(self.rng, block)
            if network >> 8 not in used and network not in self.key.pool:
                break
        return network

    def at(self, networks: list[int]) -> I64:
        """Addresses of one host per network; the attacker stays at one for a while."""
        hosts = np.array([host_in(self.rng, network) for network in networks])
        spell = (self.ts_us - self.ts_us[0]) // int(logu(self.rng, 0.5, 12) * HOUR_US)
        return np.asarray(hosts[(spell + int(self.rng.integers(9))) % len(hosts)], np.int64)

    def everywhere(self) -> I64:
        """A new home address for each request: a pool of residential proxies."""
        return self.plan.places.homes(self.rng, self.n) | self.rng.integers(2, 254, self.n)

    def other_client(self) -> I64:
        """A program of the catalogue that the victim does not use."""
        words, rng = self.plan.words, self.rng
        used = {words.clients[c].split("/")[0] for c, _ in self.usual.clients}
        sdks = [text.format(m, 4) for text, majors in api.FAMILIES for m in majors]
        shelf = (api.GENERIC, api.BY_HAND, sdks)[int(rng.choice(3, p=[0.5, 0.25, 0.25]))]
        texts = [t for t in shelf if t.split("/")[0] not in used] or list(api.GENERIC)
        return np.full(self.n, words.client(str(rng.choice(texts))))

    def own_client(self) -> I64:
        """The victim's main program, as a careful thief copies it."""
        weights = [w for _, w in self.usual.clients]
        return np.full(self.n, self.usual.clients[int(np.argmax(weights))][0])

    def inside(self) -> Who:
        """The victim's own sources and program: the key misused from within."""
        if self.key.kind == MOBILE:
            users = (self.key.users * self.rng.random(self.n) ** 2).astype(np.int64)
            where = app_addresses(np.full(self.n, self.key.number), self.ts_us, users)
            return where, self.own_client()
        spots = np.array([a for a, _ in self.usual.addresses])
        return spots[self.rng.integers(len(spots), size=self.n)], self.own_client()

    def outsider(self) -> Who:
        """A new network (sometimes two or three) and mostly another program."""
        networks = self.foreign(1 + int(self.rng.random() < 0.25) * int(self.rng.integers(1, 3)))
        return self.at(networks), self.other_client()

    def anyone(self, inside: float) -> Who:
        """From within with a probability, else an outsider."""
        return self.inside() if self.rng.random() < inside else self.outsider()

    def own_routes(self) -> I64:
        """Routes in the victim's own proportions."""
        routes = self.usual.routes
        weight = np.array([w for _, w in routes])
        numbers = np.array([r for r, _ in routes])
        return np.asarray(self.rng.choice(numbers, self.n, p=weight / weight.sum()), np.int64)

    def loot(self, own_share: float) -> I64:
        """The victim's routes, else what a curious stranger tries, a little of it denied."""
        key, rng = self.key, self.rng
        used = {r for r, _ in self.usual.routes}
        table = api.routes()
        other = [r for a in key.allowed for r in api.routes_where(a) if r not in used]
        other = [r for r in other if table[r].method == "GET"] or list(used)
        outside = [a for a in range(api.N_AREAS) if a not in key.allowed]
        denied = [r for a in rng.permutation(outside)[:3] for r in api.routes_where(int(a))[:2]]
        some = rng.permutation(other)[: int(rng.integers(3, 12))]
        u = rng.random(self.n)
        route = np.where(u < own_share, self.own_routes(), rng.choice(some, self.n))
        is_denied = u > 1 - 0.06 * (1 - own_share)
        return np.where(is_denied, rng.choice(denied, self.n) if denied else route, route)

    def reading(self, *, numbered: bool = False) -> I64:
        """One ``GET .../{id}`` route of the victim's, with numbers for ids where there are any."""
        routes = read_routes(self.key.areas)
        if numbered:
            table = api.routes()
            both = routes + read_routes(self.key.allowed)
            routes = [r for r in both if table[r].id_kind == api.ID_NUMBER][:2] or routes
        return np.full(self.n, routes[0] if self.rng.random() < 0.6 else self.rng.choice(routes))

    def some_ids(self) -> I64:
        """Objects as the owner's lists show them, and some of others."""
        wide = max(4 * self.key.ids, 200)
        return np.asarray(self.key.ids_from + self.rng.integers(0, wide, self.n), np.int64)

    def unseen_ids(self) -> I64:
        """Objects the key never asked for, each once."""
        first = self.key.ids_from + UNSEEN + int(self.rng.integers(UNSEEN))
        return np.asarray(first + self.rng.permutation(4 * self.n)[: self.n], np.int64)

    def errors(self, share: float, *codes: int) -> I64:
        """0 for what the API answers as usual, else one of the codes."""
        failed = self.rng.random(self.n) < share
        return np.where(failed, self.rng.choice(codes or (404, 404, 400, 429), self.n), 0)

    def rows(
        self, who: Who, route: I64, ident: I64, status: I64, *, may_all: bool = False
    ) -> EventColumns:
        """The requests as events; calls outside the key's areas are refused unless ``may_all``."""
        allowed = np.isin(_AREA[route], [*self.key.allowed, *_OPEN]) | may_all
        status = np.where(status == 0, success_of(route), status)
        status = np.where(allowed, status, 403)
        return columns(
            self.plan.words,
            ts_us=self.ts_us,
            key=self.key.number,
            route=route,
            ident=ident,
            address=who[0],
            client=who[1],
            status=status,
            size_bytes=response_bytes(self.rng, route, status),
            latency_ms=0,
        )


def steady(rng: np.random.Generator, start_us: int, end_us: int, n: int) -> I64:
    """N times in bursts, as programs and people make them."""
    gaps = rng.gamma(0.5, 1.0, n)
    gaps[0] = 0.0
    share = np.cumsum(gaps) / max(float(gaps.sum()), 1e-12)
    after_ms: I64 = (share * ((end_us - start_us) // 1000)).astype(np.int64)
    return (start_us // 1000 + after_ms) * 1000


def sessions(rng: np.random.Generator, start_us: int, end_us: int, n: int, duty: float) -> I64:
    """N times within sessions of an hour or so that fill a share ``duty`` of the time."""
    span_us = end_us - start_us
    length_us = max(int(min(logu(rng, 0.5, 5) * HOUR_US, span_us * duty)), MINUTE_US)
    count = max(1, round(duty * span_us / length_us))
    begin = start_us + np.sort(rng.integers(0, max(span_us - length_us, 1), count))
    ts_us = begin[rng.integers(count, size=n)] + (rng.random(n) * length_us).astype(np.int64)
    ts_us[0] = begin[0]
    return np.asarray(np.sort(ts_us) // 1000 * 1000, np.int64)


def shaped(
    rng: np.random.Generator, start_us: int, end_us: int, n: int, weight: Callable[[I64], F64]
) -> I64:
    """N times with a density given per 15 minutes by a function of the time."""
    cells = np.arange(start_us, end_us, CELL_US)
    ends = np.cumsum(weight(cells) + 1e-12)
    found = np.searchsorted(ends, rng.random(n) * ends[-1])
    ts_us = cells[found] + (rng.random(n) * CELL_US).astype(np.int64)
    return np.asarray(np.sort(np.minimum(ts_us, end_us - 1000)) // 1000 * 1000, np.int64)


def night(zone_h: float) -> Callable[[I64], F64]:
    """Weight 1 from midnight to five in a time zone, else 0."""

    def weight(ts_us: I64) -> F64:
        hour = (ts_us + int(zone_h * HOUR_US)) % DAY_US / HOUR_US
        return np.asarray(hour < 5, np.float64)

    return weight
