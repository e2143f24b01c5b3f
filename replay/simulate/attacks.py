"""Attacks by name: each function makes the requests of one attack on one victim key.

Attackers use the address blocks and client texts that customers use; what gives them away
is only that it is not *this* key's way of being used. The simulated API enforces each key's
areas: calls outside them are answered 403, so no attack wins outside the declared grants.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from detector.core.errors import UsageError
from detector.core.events import I64
from replay.simulate import addresses, api, randomness
from replay.simulate.columns import EventColumns, columns
from replay.simulate.keys import KeyPlan, State
from replay.simulate.settings import DAY_US, AttackPlan, KeyClass
from replay.simulate.traffic import RateChange, dress

if TYPE_CHECKING:
    from replay.simulate.fleet import Fleet

REQUESTS_MAX = 2_000_000


@dataclass(frozen=True, slots=True)
class Scene:
    """One attack being made: ``n`` requests at ``ts_us`` on ``victim``."""

    fleet: Fleet
    rng: np.random.Generator
    victim: KeyPlan
    ts_us: I64

    @property
    def n(self) -> int:
        """Number of requests."""
        return len(self.ts_us)

    @property
    def usual(self) -> State:
        """The victim's own way when the attack begins."""
        return self.victim.state_at(int(self.ts_us[0]))

    def stranger(self) -> tuple[I64, int]:
        """Addresses of one new network (sometimes two), and a client the victim never uses."""
        pick = addresses.hosting_network if self.rng.random() < 0.6 else addresses.home_network
        networks = [pick(self.rng) for _ in range(1 + int(self.rng.random() < 0.25))]
        hosts = np.array([addresses.host_in(self.rng, n) for n in networks])
        used = {self.fleet.words.clients[c].split("/")[0] for c, _ in self.usual.clients}
        sdks = [text.format(majors[0], 4) for text, majors in api.FAMILIES]
        texts = [t for t in (*api.GENERIC, *sdks) if t.split("/")[0] not in used]
        client = self.fleet.words.client(str(self.rng.choice(texts)))
        return hosts[self.rng.integers(len(hosts), size=self.n)], client

    def owner(self) -> tuple[I64, int]:
        """The victim's own addresses and client: the key misused from inside."""
        spots = np.array([a for a, _ in self.usual.addresses])
        return spots[self.rng.integers(len(spots), size=self.n)], self.usual.clients[0][0]

    def rows(self, who: tuple[I64, int], route: I64, ident: I64, status: I64) -> EventColumns:
        """The requests as events, with the API's answer to what the key may not call."""
        area = np.array([r.area for r in api.routes()])[route]
        allowed = np.isin(area, [*self.victim.allowed_areas, api.COMMON_AREA, api.GUESS_AREA])
        status = np.where(allowed, status, 403)
        size, latency = dress(self.rng, route, status)
        return columns(
            self.fleet.words,
            ts_us=self.ts_us,
            key=self.victim.number,
            route=route,
            ident=ident,
            address=who[0],
            client=who[1],
            status=status,
            size_bytes=size,
            latency_ms=latency,
        )


def _some_ids(scene: Scene) -> I64:
    """Objects as the owner would see them listed, and some of others."""
    return scene.victim.ids_from + scene.rng.integers(0, max(4 * scene.victim.ids, 200), scene.n)


def _loot(scene: Scene, own_share: float) -> I64:
    """Routes of somebody who looks what a key gives: some of the owner's, mostly others."""
    own = np.array([r for r, w in scene.usual.routes if w > 0.02])
    other = [r for a in scene.victim.allowed_areas for r in api.routes_where(a)]
    outside = [a for a in range(api.N_AREAS) if a not in scene.victim.allowed_areas]
    denied = [r for a in outside[:3] for r in api.routes_where(a)[:2]]
    table = api.routes()
    other = [r for r in other if table[r].method == "GET"] + list(
        api.routes_where(api.COMMON_AREA)[:2]
    )
    keep = scene.rng.permutation(len(other))[: int(scene.rng.integers(4, 12))]
    pool = np.array(other)[keep]
    u, n = scene.rng.random(scene.n), scene.n
    route = np.where(u < own_share, scene.rng.choice(own, n), scene.rng.choice(pool, n))
    return np.where(u > 0.96, scene.rng.choice(denied, n), route)


def stolen_key(scene: Scene) -> EventColumns:
    """A thief with a copy of the key, new network and client, other routes; the owner goes on."""
    route = _loot(scene, float(scene.rng.uniform(0.05, 0.45)))
    status = np.where(scene.rng.random(scene.n) < 0.04, 404, 200)
    return scene.rows(scene.stranger(), route, _some_ids(scene), status)


def stolen_quiet(scene: Scene) -> EventColumns:
    """The same thief, patient: a few requests per hour, half of them on the owner's routes."""
    route = _loot(scene, float(scene.rng.uniform(0.4, 0.7)))
    return scene.rows(scene.stranger(), route, _some_ids(scene), np.full(scene.n, 200))


def scraper(scene: Scene) -> EventColumns:
    """Walks the objects of one collection, many times faster than the key is ever used."""
    stranger = scene.rng.random() < 0.5
    route = _walked_route(scene)
    step = 1 + (scene.rng.random(scene.n) < 0.1) * scene.rng.integers(0, 3, scene.n)
    ident = scene.victim.ids_from // 2 + np.cumsum(step)
    u = scene.rng.random(scene.n)
    status = np.where(u < 0.05, 404, np.where(u < 0.06, 429, 200))
    who = scene.stranger() if stranger else scene.owner()
    return scene.rows(who, np.full(scene.n, route), ident, status)


def prober(scene: Scene) -> EventColumns:
    """Tries what the key opens: many routes, hardly any twice, mostly refused."""
    table = api.routes()
    real = [i for i, r in enumerate(table) if r.area < api.N_AREAS]
    guessed = list(api.routes_where(api.GUESS_AREA))
    share = float(scene.rng.uniform(0.2, 0.7))
    order = scene.rng.permutation(np.array(real + guessed))
    weight = np.where(np.isin(order, guessed), share / len(guessed), (1 - share) / len(real))
    route = scene.rng.choice(order, scene.n, p=weight / weight.sum())
    u = scene.rng.random(scene.n)
    guess = np.isin(route, guessed)
    status = np.where(guess, np.where(u < 0.7, 404, 403), np.where(u < 0.6, 404, 200))
    status = np.where((u > 0.93) & (status != 200), 401, status)
    who = scene.stranger() if scene.rng.random() < 0.7 else scene.owner()
    return scene.rows(who, route, _some_ids(scene), status)


def dormant_wakeup(scene: Scene) -> EventColumns:
    """A key nobody used for weeks is used again, from elsewhere."""
    silent_from = scene.ts_us[0] - int(scene.rng.uniform(15, 60)) * DAY_US
    silent_from = max(int(silent_from), scene.fleet.settings.start_us + 2 * DAY_US)
    silence = RateChange((scene.victim.number,), silent_from, 1 << 62, 0.0)
    scene.fleet.rate_changes.append(silence)
    route = _loot(scene, float(scene.rng.uniform(0.2, 0.6)))
    return scene.rows(scene.stranger(), route, _some_ids(scene), np.full(scene.n, 200))


def flood(scene: Scene) -> EventColumns:
    """The key's own program out of control or abused: own sources and routes, far too many."""
    own = [(r, w) for r, w in scene.usual.routes if w > 0.05]
    weight = np.array([w for _, w in own])
    route = scene.rng.choice([r for r, _ in own], scene.n, p=weight / weight.sum())
    ident = scene.victim.ids_from + scene.rng.integers(0, scene.victim.ids, scene.n)
    status = np.where(scene.rng.random(scene.n) < 0.05, 429, 200)
    return scene.rows(scene.owner(), route, ident, status)


def enumeration(scene: Scene) -> EventColumns:
    """Guesses identifiers in sequence to find objects of others: many 404 and some hits."""
    ident = int(scene.rng.integers(10_000, 9_000_000)) + np.arange(scene.n)
    misses = float(scene.rng.uniform(0.3, 0.8))
    status = np.where(scene.rng.random(scene.n) < misses, 404, 200)
    who = scene.stranger() if scene.rng.random() < 0.5 else scene.owner()
    return scene.rows(who, np.full(scene.n, _walked_route(scene)), ident, status)


def _walked_route(scene: Scene) -> int:
    """A ``GET .../{id}`` of one of the victim's areas."""
    area = int(scene.rng.choice(scene.victim.areas))
    pool = [r for r in api.routes_where(area) if _is_read(api.routes()[r])]
    return int(scene.rng.choice(pool))


def _is_read(route: api.Route) -> bool:
    kinds = (api.ID_NUMBER, api.ID_HEX, api.ID_UUID)
    return route.method == "GET" and route.id_kind in kinds and "export" not in route.before


@dataclass(frozen=True, slots=True)
class _Kind:
    """Function, minutes, requests per hour (times the key's own rate when ``relative``)."""

    make: Callable[[Scene], EventColumns]
    minutes: tuple[float, float]
    rate: tuple[float, float]
    relative: bool = False
    victim_rate: tuple[float, float] = (0.4, 60.0)


_KINDS = {
    "stolen_key": _Kind(stolen_key, (25, 75), (50, 260)),
    "stolen_quiet": _Kind(stolen_quiet, (720, 2880), (1.5, 6)),
    "scraper": _Kind(scraper, (20, 50), (20, 60), True, (4, 60)),
    "prober": _Kind(prober, (18, 50), (120, 400)),
    "dormant_wakeup": _Kind(dormant_wakeup, (30, 90), (20, 120), False, (0.2, 10)),
    "flood": _Kind(flood, (15, 40), (15, 80), True, (3, 60)),
    "enumeration": _Kind(enumeration, (20, 60), (200, 900)),
}
_TARGETS = (KeyClass.SERVER, KeyClass.CLOUD, KeyClass.BATCH, KeyClass.DEVELOPER)


def make_attack(fleet: Fleet, plan: AttackPlan, number: int) -> EventColumns:
    """The rows of one attack; what the plan leaves open is drawn from the fleet's seed.

    Raises ``UsageError`` when no key of the fleet suits or the plan lies outside its span.
    """
    rng = randomness.stream(fleet.seed, randomness.ATTACKS, number)
    kind = _KINDS[plan.kind]
    victim = fleet.plans[_victim(fleet, rng, plan, kind)]
    span_s = (fleet.settings.end_us - fleet.settings.start_us) / 1e6
    minutes = float(np.exp(rng.uniform(*np.log(kind.minutes))))
    duration_s = plan.duration_s or min(minutes * 60, 0.5 * span_s)
    rate = float(np.exp(rng.uniform(*np.log(kind.rate))))
    rate = plan.rate or rate * (victim.rate if kind.relative else 1.0)
    start_us = plan.start_us
    if start_us is None:
        latest = fleet.settings.end_us - int(duration_s * 1e6)
        start_us = int(rng.integers((fleet.settings.start_us + 2 * latest) // 3, latest + 1))
    n = min(max(2, round(rate * duration_s / 3600)), REQUESTS_MAX)
    ts_us = _times(rng, start_us, duration_s, n)
    if ts_us[0] < fleet.settings.start_us or ts_us[-1] >= fleet.settings.end_us:
        raise UsageError(f"attack {plan.kind} does not fit into the simulated span")
    return kind.make(Scene(fleet, rng, victim, ts_us))


def _victim(fleet: Fleet, rng: np.random.Generator, plan: AttackPlan, kind: _Kind) -> int:
    if plan.victim is not None:
        if not 0 <= plan.victim < len(fleet.plans):
            raise UsageError(f"attack {plan.kind}: the fleet has no key number {plan.victim}")
        return plan.victim
    settled = fleet.settings.start_us + 2 * DAY_US
    free = [p for p in fleet.plans if p.number not in fleet.victims and p.born_us < settled]
    lo, hi = kind.victim_rate
    suited = [p for p in free if p.key_class in _TARGETS and lo <= p.rate <= hi]
    pool = suited or [p for p in free if p.key_class != KeyClass.MOBILE] or free
    if not pool:
        raise UsageError(f"attack {plan.kind}: no key is left to be attacked")
    return int(rng.choice([p.number for p in pool]))


def _times(rng: np.random.Generator, start_us: int, duration_s: float, n: int) -> I64:
    """N times from the start on, in bursts as programs and people make them."""
    gaps = rng.gamma(0.5, 1.0, n)
    gaps[0] = 0.0
    share = np.cumsum(gaps) / max(gaps.sum(), 1e-12)
    after_ms: I64 = np.round(share * duration_s * 1000).astype(np.int64)
    return (start_us // 1000 + after_ms) * 1000
