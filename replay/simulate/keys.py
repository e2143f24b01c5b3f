"""One simulated key: its class, rhythm, sources and routes, and how they change with time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from replay.simulate import addresses, api, randomness
from replay.simulate.columns import Vocabulary
from replay.simulate.settings import HOUR_US, FleetSettings, KeyClass

Weighted = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Change:
    """From ``at_us`` on, the key's addresses or clients are these, or it has one more route."""

    at_us: int
    what: Literal["addresses", "clients", "route"]
    value: Weighted


@dataclass(frozen=True, slots=True)
class State:
    """Where a key comes from and what it calls, with weights."""

    addresses: Weighted
    clients: Weighted
    routes: Weighted

    def after(self, change: Change) -> State:
        """The state once ``change`` has happened."""
        if change.what == "addresses":
            return State(change.value, self.clients, self.routes)
        if change.what == "clients":
            return State(self.addresses, change.value, self.routes)
        kept = tuple(r for r in self.routes if r[0] != change.value[0][0])
        return State(self.addresses, self.clients, kept + change.value)


@dataclass(slots=True)
class KeyPlan:
    """Everything fixed about a key. ``rate`` is its mean events per hour."""

    number: int
    name: str
    owner: str
    key_class: KeyClass
    rate: float
    utc_offset_h: float
    amplitude: float
    weekend: float
    burst_shape: float
    drift: float
    errors: float
    broken_route: int
    ids_from: int
    ids: int
    areas: tuple[int, ...]
    allowed_areas: tuple[int, ...]
    state: State
    client_text: str
    family: int
    version: tuple[int, int]
    period_cells: int
    phase_cells: int
    users: int
    born_us: int
    networks: tuple[int, ...]
    changes: list[Change] = field(default_factory=list)

    def epochs(self) -> Iterator[tuple[int, State]]:
        """(from_us, state) in time order; the first is in force from the beginning of time."""
        state = self.state
        yield -(1 << 62), state
        for change in sorted(self.changes, key=lambda c: c.at_us):
            state = state.after(change)
            yield change.at_us, state

    def state_at(self, ts_us: int) -> State:
        """The state in force at a time."""
        *_, (_, state) = (e for e in self.epochs() if e[0] <= ts_us)
        return state


_MEDIAN_RATE = {
    KeyClass.SERVER: 1.0,
    KeyClass.CLOUD: 1.4,
    KeyClass.MOBILE: 3.0,
    KeyClass.DEVELOPER: 0.3,
    KeyClass.BATCH: 0.35,
}


def classes(seed: int, settings: FleetSettings) -> list[KeyClass]:
    """A class for every key, in the settings' shares, shuffled."""
    shares = np.array(settings.shares) / sum(settings.shares)
    bounds = np.round(np.cumsum(shares) * settings.n_keys)
    numbers = np.searchsorted(bounds, np.arange(settings.n_keys), side="right")
    randomness.stream(seed, randomness.CLASSES).shuffle(numbers)
    return [KeyClass(min(int(n), 4)) for n in numbers]


def make_key(
    seed: int, number: int, key_class: KeyClass, settings: FleetSettings, words: Vocabulary
) -> KeyPlan:
    """The key ``number`` of the fleet; its rate is relative until the fleet scales it."""
    rng = randomness.stream(seed, randomness.KEYS, number)
    owner = api.owner_name(rng)
    areas = tuple(int(a) for a in rng.permutation(api.N_AREAS)[: int(rng.integers(1, 4))])
    more = rng.permutation(api.N_AREAS)[: int(rng.integers(1, 6))]
    spread = settings.rate_sigma * (0.5 if key_class == KeyClass.MOBILE else 1.0)
    rate = _MEDIAN_RATE[key_class] * float(np.exp(spread * np.clip(rng.normal(), -2.0, 2.0)))
    networks, spots = _addresses(rng, key_class)
    text, family, version = _client(rng, owner, key_class)
    plan = KeyPlan(
        number=number,
        name=f"key_{owner.replace('-', '')}_{int(rng.integers(1 << 24)):06x}",
        owner=owner,
        key_class=key_class,
        rate=rate,
        utc_offset_h=float(rng.choice([-8, -5, -5, 0, 1, 1, 1, 2, 5.5, 9])),
        amplitude=float(rng.uniform(*_AMPLITUDE[key_class])),
        weekend=float(rng.uniform(*_WEEKEND[key_class])),
        burst_shape=float(rng.uniform(*_BURST[key_class])),
        drift=float(rng.uniform(0.1, 0.4)),
        errors=float(np.clip(0.008 * np.exp(0.9 * rng.normal()), 0, 0.08)),
        broken_route=-1,
        ids_from=int(rng.integers(10_000, 9_000_000)),
        ids=_id_space(rng, key_class, rate),
        areas=areas,
        allowed_areas=tuple(sorted(set(areas) | {int(a) for a in more})),
        state=State(spots, (), own_routes(rng, areas, key_class)),
        client_text=text,
        family=family,
        version=version,
        period_cells=int(rng.choice([12, 12, 72, 288])),
        phase_cells=int(rng.integers(288)),
        users=int(rng.integers(300, 3000)),
        born_us=settings.start_us - int(rng.integers(30, 900)) * 24 * HOUR_US,
        networks=networks,
    )
    plan.state = State(spots, clients_of(rng, plan, words), plan.state.routes)
    if rng.random() < 0.07:
        plan.broken_route = plan.state.routes[int(rng.integers(len(plan.state.routes)))][0]
    return plan


_AMPLITUDE = {
    KeyClass.SERVER: (0.05, 0.6),
    KeyClass.CLOUD: (0.3, 0.7),
    KeyClass.MOBILE: (0.5, 0.8),
    KeyClass.DEVELOPER: (0.8, 0.8),
    KeyClass.BATCH: (0.0, 0.0),
}
_WEEKEND = {
    KeyClass.SERVER: (0.4, 1.0),
    KeyClass.CLOUD: (0.3, 0.95),
    KeyClass.MOBILE: (0.9, 1.4),
    KeyClass.DEVELOPER: (0.0, 0.12),
    KeyClass.BATCH: (1.0, 1.0),
}
_BURST = {
    KeyClass.SERVER: (0.8, 6.0),
    KeyClass.CLOUD: (0.8, 4.0),
    KeyClass.MOBILE: (4.0, 12.0),
    KeyClass.DEVELOPER: (0.12, 0.4),
    KeyClass.BATCH: (3.0, 20.0),
}


def _id_space(rng: np.random.Generator, key_class: KeyClass, rate: float) -> int:
    """How many objects a key touches: mostly few and again, sometimes each one once."""
    if key_class in (KeyClass.SERVER, KeyClass.BATCH) and rng.random() < 0.08:
        return 2_000_000  # a crawler or a synchronising partner: almost every id is new
    return int(rng.integers(40, 400) * (1 + rate))


def _addresses(rng: np.random.Generator, key_class: KeyClass) -> tuple[tuple[int, ...], Weighted]:
    """The networks a key may rotate through, and the addresses it starts from."""
    if key_class == KeyClass.CLOUD:
        networks = tuple(addresses.hosting_network(rng) for _ in range(int(rng.integers(6, 48))))
        n = int(rng.integers(2, 8))
        chosen = [addresses.host_in(rng, int(rng.choice(networks))) for _ in range(n)]
        return networks, tuple((a, 1.0) for a in chosen)
    if key_class == KeyClass.DEVELOPER:
        networks = tuple(addresses.home_network(rng) for _ in range(int(rng.integers(1, 3))))
        weights = (1.0, 0.5)[: len(networks)]
        spots = [addresses.host_in(rng, n) for n in networks]
        return networks, tuple(zip(spots, weights, strict=True))
    where = addresses.private_network if rng.random() < 0.06 else addresses.hosting_network
    network = where(rng)
    hosts = 1 if key_class == KeyClass.BATCH else int(rng.integers(1, 5))
    spots = [addresses.host_in(rng, network) for _ in range(hosts)]
    if key_class == KeyClass.SERVER and rng.random() < 0.25:
        spots.append(addresses.host_in(rng, where(rng)))
    return (network,), tuple((s, 1.0) for s in spots)


def _client(
    rng: np.random.Generator, owner: str, key_class: KeyClass
) -> tuple[str, int, tuple[int, int]]:
    """Text (with ``{}`` for versions where it has them), SDK family or -1, version."""
    version = (int(rng.integers(1, 7)), int(rng.integers(12)))
    if key_class == KeyClass.MOBILE:
        return owner.replace("-", " ").title().replace(" ", "") + "App/{}.{}.0", -1, version
    draw = rng.random()
    if draw < 0.35:
        family = int(rng.integers(len(api.FAMILIES)))
        text, majors = api.FAMILIES[family]
        return text, family, (majors[0], version[1])
    if draw < 0.6:
        return api.own_client(owner, rng), -1, version
    return str(rng.choice(api.GENERIC)), -1, version


def clients_of(rng: np.random.Generator, plan: KeyPlan, words: Vocabulary) -> Weighted:
    """The clients of a key at its version: an app has phones, a developer has tools at hand."""
    major, minor = plan.version
    text = plan.client_text.format(major, minor)
    if plan.key_class == KeyClass.MOBILE:
        phones = (" (iPhone; iOS 17.4)", " (Android 14; Pixel 8)", " (Android 13; SM-A546B)")
        older = plan.client_text.format(major, max(minor - 1, 0))
        new = [(words.client(text + p), 0.28) for p in phones]
        return tuple(new + [(words.client(older + p), 0.05) for p in phones])
    if plan.key_class == KeyClass.DEVELOPER:
        by_hand = words.client(str(rng.choice(api.BY_HAND)))
        return (words.client(text), 0.6), (by_hand, 0.4)
    return ((words.client(text), 1.0),)


def own_routes(rng: np.random.Generator, areas: tuple[int, ...], key_class: KeyClass) -> Weighted:
    """A few routes that carry the traffic, and a thin tail of rare ones."""
    table = api.routes()
    pool = np.array([r for a in areas for r in api.routes_where(a)])
    weight = np.array([table[r].weight for r in pool])
    n = min(len(pool) - 2, int(rng.integers(2, 4) + rng.integers(1, 7)))
    liking = weight * rng.random(len(pool))
    order = np.argsort(-liking, kind="stable")
    main = order[:n]
    shares = weight[main] * rng.gamma(1.2, 1.0, n) + 1e-3
    mixed = [(int(pool[i]), float(s / shares.sum())) for i, s in zip(main, shares, strict=True)]
    rest = order[n : n + int(rng.integers(1, 4))]
    tail = 0.02 if key_class == KeyClass.DEVELOPER else 0.003
    mixed += [(int(pool[i]), float(tail * rng.random())) for i in rest]
    common = api.routes_where(api.COMMON_AREA)
    mixed += [(r, float(rng.uniform(0.01, 0.06))) for r in common if rng.random() < 0.25]
    return tuple(mixed)
