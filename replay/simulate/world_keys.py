"""The keys of a world: class, owner, rate, rhythm, sources, routes and identifiers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from replay.simulate import api, randomness
from replay.simulate.columns import Vocabulary
from replay.simulate.keys import Change, State, Weighted, own_routes
from replay.simulate.settings import HOUR_US, KeyClass
from replay.simulate.world_places import Places, host_in, network_in
from replay.simulate.world_settings import (
    CELLS_PER_DAY,
    CLOUD,
    DEVELOPER,
    MOBILE,
    SERVER,
    SHARES,
    SPARSE,
    START_US,
    WorldSettings,
)

OWNERS_PER_KEY = 0.35
GRANTED_EVERY = 10  # keys: one of these has its grants declared
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
UNSEEN = 10_000_000  # identifiers; beyond so many from its first, a key sees none by itself
RATE_SHARE_MAX = 0.08  # of the fleet, for one key
_SIGMA = {SERVER: 2.0, CLOUD: 2.0, MOBILE: 1.2, DEVELOPER: 1.5, SPARSE: 1.0}
_MEDIAN = {SERVER: 1.0, CLOUD: 1.5, MOBILE: 15.0, DEVELOPER: 0.2, SPARSE: 0.01}
# what a key does when nothing happens: bursts (shape of a gamma), rhythm, session width
_BURST = {
    SERVER: (0.7, 8.0),
    CLOUD: (0.8, 5.0),
    MOBILE: (4.0, 15.0),
    DEVELOPER: (0.1, 0.4),
    SPARSE: (0.02, 0.1),
}
_AMPLITUDE = {
    SERVER: (0.05, 0.7),
    CLOUD: (0.2, 0.75),
    MOBILE: (0.5, 0.85),
    DEVELOPER: (0.8, 0.8),
    SPARSE: (0.0, 0.6),
}
_WEEKEND = {
    SERVER: (0.35, 1.0),
    CLOUD: (0.3, 1.0),
    MOBILE: (0.9, 1.4),
    DEVELOPER: (0.0, 0.15),
    SPARSE: (0.3, 1.0),
}


@dataclass(slots=True)
class WorldKey:
    """Everything fixed about a key. ``rate`` is its mean requests per 15 minutes.

    ``pool`` are the /24s it may rotate through, ``churn`` how often a day it does; ``blocks``
    the /16s it ever uses benignly. Identifiers are ``ids_from`` and up to ``ids`` more, the
    smaller ones the more often the larger ``ids_power``; a share ``fresh`` is newer than all.
    """

    number: int
    name: str
    owner: int
    owner_name: str
    kind: int
    rate: float
    shape: float
    drift: float
    session: float
    zone_h: float
    amplitude: float
    peak_h: float
    weekend: float
    ids_from: int
    ids: int
    ids_power: float
    fresh: float
    errors: float
    broken_route: int
    areas: tuple[int, ...]
    allowed: tuple[int, ...]
    granted: bool
    state: State
    pool: tuple[int, ...]
    churn: float
    client_text: str
    family: int
    version: tuple[int, int]
    users: int
    nightly: tuple[float, float, float]
    born_us: int
    dies_us: int = 1 << 60
    rotated_from: str | None = None
    blocks: set[int] = field(default_factory=set)
    changes: list[Change] = field(default_factory=list)

    def epochs(self) -> list[tuple[int, State]]:
        """(from_us, state) in time order; the first is in force from the beginning of time."""
        out = [(-(1 << 62), self.state)]
        for change in sorted(self.changes, key=lambda c: c.at_us):
            out.append((change.at_us, out[-1][1].after(change)))
        return out

    def state_at(self, ts_us: int) -> State:
        """The state in force at a time."""
        state = self.state
        for change in sorted((c for c in self.changes if c.at_us <= ts_us), key=lambda c: c.at_us):
            state = state.after(change)
        return state

    def addresses_at(self, ts_us: int) -> Weighted:
        """The addresses in force at a time."""
        at_us, spots = -1, self.state.addresses
        for change in self.changes:
            if change.what == "addresses" and at_us <= change.at_us <= ts_us:
                at_us, spots = change.at_us, change.value
        return spots


@dataclass(frozen=True, slots=True)
class _Owner:
    number: int
    name: str
    zone_h: float
    family: int
    own_client: str
    areas: tuple[int, ...]
    block: int


def make_keys(settings: WorldSettings, places: Places, words: Vocabulary) -> list[WorldKey]:
    """All keys of a world, the mean of their rates as the settings ask, before happenings."""
    rng = randomness.stream(settings.seed, randomness.WORLD, 1)
    owners = _owners(rng, max(10, round(settings.keys * OWNERS_PER_KEY)), places)
    kinds = _kinds(rng, settings.keys)
    rates = _rates(rng, kinds, settings.per_day / CELLS_PER_DAY)
    crowd = (1.0 + np.arange(len(owners))) ** -0.6
    of_owner = rng.choice(len(owners), settings.keys, p=crowd / crowd.sum())
    keys = []
    for number in range(settings.keys):
        owner = owners[int(of_owner[number])]
        key = _key(settings, places, number, int(kinds[number]), float(rates[number]), owner)
        key.state = State(key.state.addresses, clients_of(key, words), key.state.routes)
        words.keys.append(key.name)
        words.owners.append(key.owner_name)
        keys.append(key)
    return keys


def _owners(rng: np.random.Generator, n: int, places: Places) -> list[_Owner]:
    out: list[_Owner] = []
    seen: set[str] = set()
    while len(out) < n:
        name = api.owner_name(rng)
        while name in seen:  # letters, because digits in a program's name are cut off
            name += "-" + "".join(rng.choice(list(_LETTERS), 2))
        seen.add(name)
        zone_h = float(rng.choice([-8, -5, -5, 0, 1, 1, 1, 2, 5.5, 9]))
        family = int(rng.integers(len(api.FAMILIES)))
        areas = tuple(int(a) for a in rng.permutation(api.N_AREAS)[: int(rng.integers(2, 6))])
        client = api.own_client(name, rng)
        block = places.hosting(rng) >> 16
        out.append(_Owner(len(out), name, zone_h, family, client, areas, block))
    return out


def _kinds(rng: np.random.Generator, n: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    bounds = np.round(np.cumsum(SHARES) * n)
    kinds = np.searchsorted(bounds, np.arange(n), side="right").clip(0, len(SHARES) - 1)
    return np.asarray(rng.permutation(kinds), np.int64)


def _rates(
    rng: np.random.Generator,
    kinds: np.ndarray[tuple[int], np.dtype[np.int64]],
    total: float,
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Requests per 15 minutes: lognormal, no key above its share of the fleet."""
    z = np.clip(rng.standard_normal(len(kinds)), -3.0, 3.0)
    sigma = np.array([_SIGMA[k] for k in range(len(SHARES))])[kinds]
    rates = np.array([_MEDIAN[k] for k in range(len(SHARES))])[kinds] * np.exp(sigma * z)
    for _ in range(50):  # what is cut off one key is spread over the others
        rates *= total / rates.sum()
        limit = max(RATE_SHARE_MAX, 2.5 / len(kinds)) * total
        if rates.max() <= limit * 1.001:
            break
        rates = np.minimum(rates, limit)
    return np.asarray(rates, np.float64)


def _key(
    settings: WorldSettings, places: Places, number: int, kind: int, rate: float, owner: _Owner
) -> WorldKey:
    rng = randomness.stream(settings.seed, randomness.WORLD, 2, number)
    areas = tuple(int(a) for a in rng.permutation(owner.areas)[: int(rng.integers(1, 4))])
    more = rng.permutation(api.N_AREAS)[: int(rng.integers(1, 5))]
    pool, spots = _sources(rng, kind, owner, places)
    text, family, version = _client(rng, kind, owner)
    as_class = KeyClass.DEVELOPER if kind == DEVELOPER else KeyClass.SERVER
    key = WorldKey(
        number=number,
        name=f"key_{owner.name.replace('-', '')}_{int(rng.integers(1 << 24)):06x}{number:04x}",
        owner=owner.number,
        owner_name=owner.name,
        kind=kind,
        rate=rate,
        shape=float(rng.uniform(*_BURST[kind])),
        drift=float(rng.uniform(0.1, 0.5)),
        session=float(rng.uniform(0.05, 0.6)) if kind in (DEVELOPER, SPARSE) else 1.0,
        zone_h=owner.zone_h,
        amplitude=float(rng.uniform(*_AMPLITUDE[kind])),
        peak_h=19.5 if kind == MOBILE else float(rng.normal(14, 2)),
        weekend=float(rng.uniform(*_WEEKEND[kind])),
        ids_from=int(rng.integers(10_000, 9_000_000)),
        ids=0,
        ids_power=float(rng.uniform(1.5, 4.0)),
        fresh=float(rng.beta(1, 6)),
        errors=float(np.clip(0.008 * np.exp(1.0 * rng.normal()), 0, 0.1)),
        broken_route=-1,
        areas=areas,
        allowed=tuple(sorted(set(areas) | {int(a) for a in more})),
        granted=number % GRANTED_EVERY == 3,
        state=State(spots, (), own_routes(rng, areas, as_class)),
        pool=pool,
        churn=_churn(rng, kind),
        client_text=text,
        family=family,
        version=version,
        users=int(np.clip(rate * CELLS_PER_DAY * np.exp(rng.normal(-0.5, 0.8)), 300, 9000)),
        nightly=_nightly(rng, kind),
        born_us=START_US - int(rng.integers(30, 900)) * 24 * HOUR_US,
    )
    _set_ids(rng, key)
    if rng.random() < 0.07:
        key.broken_route = key.state.routes[int(rng.integers(len(key.state.routes)))][0]
    key.blocks = {network >> 16 for network in pool} | {a >> 16 for a, _ in spots}
    return key


def _sources(
    rng: np.random.Generator, kind: int, owner: _Owner, places: Places
) -> tuple[tuple[int, ...], Weighted]:
    """The /24s a key may rotate through, and the addresses it starts from."""
    if kind == CLOUD or (kind == SERVER and rng.random() < 0.12):
        blocks = [owner.block] if rng.random() < 0.3 else places.region(rng)
        n = int(rng.integers(6, 48)) if kind == CLOUD else int(rng.integers(2, 5))
        pool = tuple(network_in(rng, int(rng.choice(blocks))) for _ in range(n))
        spots = [host_in(rng, int(rng.choice(pool))) for _ in range(int(rng.integers(2, 8)))]
        return pool, tuple((s, 1.0) for s in spots)
    if kind == DEVELOPER:
        pool = tuple(places.home(rng) for _ in range(int(rng.integers(1, 3))))
        weights = (1.0, 0.4)[: len(pool)]
        spots = [host_in(rng, network) for network in pool]
        return pool, tuple(zip(spots, weights, strict=True))
    draw = rng.random()
    if draw < 0.04:
        network = 10 << 24 | int(rng.integers(1 << 16)) << 8  # a private link
    elif draw < 0.4:
        network = network_in(rng, owner.block)
    else:
        network = places.home(rng) if draw > 0.9 else places.hosting(rng)
    spots = [host_in(rng, network) for _ in range(int(rng.integers(1, 5)))]
    if kind == SERVER and rng.random() < 0.25:
        spots.append(host_in(rng, places.hosting(rng)))
    return (network,), tuple((s, 1.0) for s in spots)


def _churn(rng: np.random.Generator, kind: int) -> float:
    """Changes of one address a day, Gamma over keys: most servers never, cloud NAT often."""
    if kind == CLOUD:
        return float(rng.gamma(1.2, 1.2))
    if kind == DEVELOPER:
        return float(rng.gamma(0.7, 0.12))
    return float(rng.gamma(0.4, 0.05)) if kind == SERVER else 0.0


def _client(rng: np.random.Generator, kind: int, owner: _Owner) -> tuple[str, int, tuple[int, int]]:
    """Text (with ``{}`` for versions where it has them), SDK family or -1, version."""
    version = (int(rng.integers(1, 7)), int(rng.integers(12)))
    if kind == MOBILE:
        name = owner.name.replace("-", " ").title().replace(" ", "")
        return name + "App/{}.{}.0", -1, version
    draw = rng.random()
    if draw < 0.38:
        family = owner.family if rng.random() < 0.7 else int(rng.integers(len(api.FAMILIES)))
        text, majors = api.FAMILIES[family]
        return text, family, (majors[0], version[1])
    if draw < 0.6:
        return owner.own_client, -1, version
    return str(rng.choice(api.GENERIC)), -1, version


def clients_of(key: WorldKey, words: Vocabulary) -> Weighted:
    """The clients of a key at its version: an app has phones, a developer has tools at hand."""
    major, minor = key.version
    text = key.client_text.format(major, minor)
    if key.kind == MOBILE:
        phones = (" (iPhone; iOS 17.4)", " (Android 14; Pixel 8)", " (Android 13; SM-A546B)")
        older = key.client_text.format(max(major - 1, 1), 9)
        new = [(words.client(text + p), 0.31) for p in phones]
        return tuple(new + [(words.client(older + p), 0.02) for p in phones])
    if key.kind == DEVELOPER:
        by_hand = api.BY_HAND[key.number % len(api.BY_HAND)]
        return (words.client(text), 0.6), (words.client(by_hand), 0.4)
    return ((words.client(text), 1.0),)


def _set_ids(rng: np.random.Generator, key: WorldKey) -> None:
    """How many objects a key touches: few and again, or many, or each one once."""
    draw, per_day = rng.random(), key.rate * CELLS_PER_DAY
    if key.kind in (SERVER, CLOUD) and draw < 0.06:  # a crawler or a synchronising partner
        key.ids, key.ids_power, key.fresh = 2_000_000, 1.0, 0.0
        return
    key.ids = int(np.clip(rng.uniform(20, 200) * (1 + per_day) ** 0.6, 20, 500_000))
    if draw > 0.9:
        key.fresh = float(rng.uniform(0.5, 0.95))


def _nightly(rng: np.random.Generator, kind: int) -> tuple[float, float, float]:
    """A job every night: factor over the usual, hour of its start, hours; factor 1 = none."""
    if kind in (SERVER, CLOUD) and rng.random() < 0.04:
        return float(rng.uniform(8, 40)), float(rng.uniform(0, 5)), float(rng.uniform(0.25, 1.5))
    return 1.0, 0.0, 0.0
