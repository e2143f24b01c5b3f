"""From plans to events: how many, when, from where, what, with which result. All vectorised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from detector.core.events import I64
from replay.simulate import addresses, api, randomness
from replay.simulate.columns import EventColumns, Vocabulary, columns
from replay.simulate.keys import KeyPlan, State
from replay.simulate.settings import DAY_US, HOUR_US, MINUTE_US, KeyClass

F64 = npt.NDArray[np.float64]

CELL_US = 5 * MINUTE_US
CELLS_PER_HOUR = HOUR_US // CELL_US
_AR = 0.85  # hour-to-hour memory of a key's level


@dataclass(frozen=True, slots=True)
class RateChange:
    """These keys' rate is multiplied by ``factor`` from ``start_us`` until ``end_us``."""

    keys: tuple[int, ...]
    start_us: int
    end_us: int
    factor: float


@dataclass(frozen=True, slots=True)
class Outage:
    """Calls to an area fail with 5xx with this probability."""

    area: int
    start_us: int
    end_us: int
    probability: float


class _Choices:
    """Weighted choices for many states at once: one search in one sorted array."""

    def __init__(self, groups: Sequence[Sequence[tuple[Any, float]]]) -> None:
        parts = []
        for i, group in enumerate(groups):
            ends = np.cumsum([w for _, w in group])
            ends /= ends[-1]
            ends[-1] = 1.0
            parts.append(i + ends)
        self._ends = np.concatenate(parts)
        self._last = np.cumsum([len(g) for g in groups]) - 1

    def pick(self, group: I64, u: F64) -> I64:
        """For each row, the position of its choice among all choices of all groups."""
        found = np.searchsorted(self._ends, group + u, side="right")
        return np.asarray(
            np.minimum(found, self._last[group]), np.int64
        )  # group + u may round up to the next group


class Traffic:
    """The normal traffic of a fleet. Holds the level of each key, so call ``rows`` in order."""

    def __init__(
        self,
        plans: Sequence[KeyPlan],
        words: Vocabulary,
        rate_changes: Sequence[RateChange],
        outages: Sequence[Outage],
        origin_us: int,
    ) -> None:
        self._plans, self._words, self._origin_us = plans, words, origin_us
        self._rate_changes, self._outages = rate_changes, outages
        self._class = np.array([p.key_class for p in plans])
        self._rate = np.array([p.rate for p in plans])
        self._born = np.array([p.born_us for p in plans])
        self._level = np.zeros(len(plans))
        self._errors = np.array([p.errors for p in plans])
        self._broken = np.array([p.broken_route for p in plans])
        self._ids_from = np.array([p.ids_from for p in plans])
        self._ids = np.array([p.ids for p in plans])
        self._users = np.array([p.users for p in plans])
        self._sticky_us = np.array([_STICKY_US[p.key_class] for p in plans])
        # a batch job's pulses have mean 1 by construction, and half-hour samples miss them
        batch = self._class == KeyClass.BATCH
        self._normal = 1.0 / np.where(batch, 1.0, season(plans, _half_hours()).mean(axis=1))
        self._compile([(p.number, at, s) for p in plans for at, s in p.epochs()])

    def _compile(self, epochs: list[tuple[int, int, State]]) -> None:
        self._epoch_codes = self._code(
            np.array([e[0] for e in epochs]), np.array([e[1] for e in epochs], np.int64)
        )
        pairs = [
            [((a, c), wa * wc) for a, wa in s.addresses for c, wc in s.clients]
            for _, _, s in epochs
        ]
        flat = np.array([pair for group in pairs for pair, _ in group], np.int64)
        self._source_address, self._source_client = flat[:, 0], flat[:, 1]
        self._sources = _Choices(pairs)
        self._mixes = _Choices([s.routes for _, _, s in epochs])
        self._mix_route = np.array([r for _, _, s in epochs for r, _ in s.routes])

    def _code(self, key: I64, ts_us: I64) -> I64:
        """Key and time in one number: 2^46 us are 2.2 years, 2^17 keys fit above them."""
        return (key << 46) + np.clip(ts_us - self._origin_us, 0, (1 << 46) - 1)

    def rows(self, rng: np.random.Generator, start_us: int, hours: int) -> EventColumns:
        """All events from ``start_us`` for ``hours``, in time order."""
        key, ts_us = self._arrivals(rng, start_us, hours)
        u = rng.random((3, len(key)))
        epoch = np.searchsorted(self._epoch_codes, self._code(key, ts_us), side="right") - 1
        user = (self._users[key] * u[0] ** 2).astype(np.int64)
        source = self._sources.pick(epoch, self._source_share(key, ts_us, user, u[0]))
        route = self._mix_route[self._mixes.pick(epoch, u[1])]
        mobile = self._class[key] == KeyClass.MOBILE
        address = np.where(mobile, app_addresses(key, ts_us, user), self._source_address[source])
        ident = self._ids_from[key] + (self._ids[key] * u[2] ** 2.5).astype(np.int64)
        status = self._status(rng, key, route, ts_us)
        size, latency = dress(rng, route, status)
        return columns(
            self._words,
            ts_us=ts_us,
            key=key,
            route=route,
            ident=ident,
            address=address,
            client=self._source_client[source],
            status=status,
            size_bytes=size,
            latency_ms=latency,
        )

    def _arrivals(self, rng: np.random.Generator, start_us: int, hours: int) -> tuple[I64, I64]:
        cells = start_us + np.arange(hours * CELLS_PER_HOUR) * CELL_US
        mean = self._means(rng, cells, hours)
        # Vector exp and cos differ in the last bit between processors: rounding hides it.
        counts = rng.poisson(np.round(mean, 9))
        key = np.repeat(np.arange(len(self._plans)), counts.sum(axis=1))
        cell = np.repeat(np.tile(cells, len(self._plans)), counts.ravel())
        ts_us = cell + rng.integers(0, CELL_US // 1000, len(cell)) * 1000
        order = np.argsort(ts_us, kind="stable")
        return key[order], ts_us[order]

    def _means(self, rng: np.random.Generator, cells: I64, hours: int) -> F64:
        """Expected events of each key in each cell."""
        drift = np.array([p.drift for p in self._plans])
        levels = np.empty((len(drift), hours))
        for hour in range(hours):
            noise = rng.standard_normal(len(drift)) * drift * (1 - _AR**2) ** 0.5
            self._level = _AR * self._level + noise
            levels[:, hour] = self._level
        mean = season(self._plans, cells) * np.repeat(np.exp(levels), CELLS_PER_HOUR, axis=1)
        mean *= (self._rate * self._normal / CELLS_PER_HOUR)[:, None]
        shape = np.array([p.burst_shape for p in self._plans])[:, None]
        mean *= rng.gamma(shape, 1 / shape, mean.shape)
        mean[self._born[:, None] > cells] = 0
        for change in self._rate_changes:
            inside = (cells >= change.start_us) & (cells < change.end_us)
            if inside.any():
                mean[np.ix_(np.array(change.keys), inside)] *= change.factor
        return np.asarray(mean, np.float64)

    def _source_share(self, key: I64, ts_us: I64, user: I64, u: F64) -> F64:
        """Which of its sources a key uses now: at random, by user, or one for a while."""
        sticky = self._sticky_us[key]
        spell = randomness.mix(key * 1_000_003 + ts_us // np.maximum(sticky, 1), 7)
        by_user = randomness.unit(randomness.mix(user, 8))
        chosen = np.where(sticky > 0, randomness.unit(spell), u)
        return np.where(self._class[key] == KeyClass.MOBILE, by_user, chosen)

    def _status(self, rng: np.random.Generator, key: I64, route: I64, ts_us: I64) -> I64:
        u = rng.random((2, len(key)))
        chance = np.where(route == self._broken[key], 0.25, self._errors[key])
        status = np.where(u[0] < chance, errors_of(route, u[1]), success_of(route))
        area = _AREA_OF[route]
        for outage in self._outages:
            lo, hi = np.searchsorted(ts_us, [outage.start_us, outage.end_us])
            hit = (area[lo:hi] == outage.area) & (u[1, lo:hi] < outage.probability)
            status[lo:hi][hit] = np.where(u[0, lo:hi][hit] < 0.5, 503, 502)
        return status


_STICKY_US = {
    KeyClass.SERVER: 0,
    KeyClass.CLOUD: 0,
    KeyClass.MOBILE: 0,
    KeyClass.DEVELOPER: 3 * HOUR_US,
    KeyClass.BATCH: DAY_US,
}
_ROUTES = api.routes()
_AREA_OF = np.array([r.area for r in _ROUTES])
_SIZE_OF = np.array([r.size for r in _ROUTES])
_LATENCY_OF = np.array([r.latency for r in _ROUTES])
_HAS_ID = np.array([r.id_kind in (api.ID_NUMBER, api.ID_HEX, api.ID_UUID) for r in _ROUTES])
_SUCCESS = {"GET": 200, "POST": 201, "PATCH": 200, "DELETE": 204}
_SUCCESS_OF = np.array([_SUCCESS[r.method] for r in _ROUTES])
_WRITES = np.array([r.method in ("POST", "PATCH") for r in _ROUTES])
_CODES_ID = np.array([404] * 14 + [400, 409, 429, 429, 500, 401])
_CODES_WRITE = np.array([422] * 10 + [400] * 5 + [409, 409, 429, 500, 401])
_CODES_LIST = np.array([400] * 9 + [429] * 7 + [500, 503, 503, 401])


def success_of(route: I64) -> I64:
    """The status of a call that succeeds."""
    return _SUCCESS_OF[route]


def errors_of(route: I64, u: F64) -> I64:
    """A status of a call that fails, by a number in [0, 1)."""
    slot = (u * 20).astype(np.int64)
    listed = np.where(_WRITES[route], _CODES_WRITE[slot], _CODES_LIST[slot])
    return np.where(_HAS_ID[route], _CODES_ID[slot], listed)


def app_addresses(key: I64, ts_us: I64, user: I64) -> I64:
    """Where an app's user is: a carrier's pool that moves twice a day, or a home that stays."""
    who = randomness.mix(key * 100_003 + user, 9).astype(np.int64) & (1 << 40) - 1
    spell = (ts_us + who % (12 * HOUR_US)) // (12 * HOUR_US)
    moving = randomness.mix(who + spell, 10).astype(np.int64) & (1 << 40) - 1
    carrier = who % 5
    group = np.where(carrier < 3, moving, who // 5)
    return addresses.mobile_addresses(group, moving >> 20, carrier)


def dress(rng: np.random.Generator, route: I64, status: I64) -> tuple[I64, I64]:
    """Response bytes and latency in ms that go with a route and a status."""
    noise = rng.standard_normal((2, len(route)))
    failed = status >= 400
    size = np.where(failed, 110, _SIZE_OF[route]) * np.exp(0.6 * noise[0])
    latency = np.where(failed, 8, _LATENCY_OF[route]) * np.exp(0.5 * noise[1])
    return np.round(size).astype(np.int64), 1 + np.round(latency).astype(np.int64)


def response_bytes(rng: np.random.Generator, route: I64, status: I64) -> I64:
    """Response bytes that go with a route and a status, with a heavy tail."""
    noise = rng.standard_normal(len(route), np.float32)
    size = np.where(status >= 400, 110, _SIZE_OF[route]) * np.exp(0.8 * noise)
    return np.asarray(size, np.int64)


def latency_ms(rng: np.random.Generator, route: I64, status: I64) -> I64:
    """Latency in ms that goes with a route and a status."""
    noise = rng.standard_normal(len(route), np.float32)
    latency = np.where(status >= 400, 8, _LATENCY_OF[route]) * np.exp(0.6 * noise)
    return 1 + np.asarray(latency, np.int64)


def _half_hours() -> I64:
    return np.asarray(np.arange(7 * 48) * (HOUR_US // 2), np.int64)


def season(plans: Sequence[KeyPlan], cells: I64) -> F64:
    """The daily and weekly shape of each key (rows) in each cell (columns), not normalised."""

    def get(name: str) -> npt.NDArray[Any]:
        return np.array([getattr(p, name) for p in plans])[:, None]

    local = cells[None, :] + (get("utc_offset_h") * HOUR_US).astype(np.int64)
    hour = local % DAY_US / HOUR_US
    weekend = (local // DAY_US + 3) % 7 >= 5
    key_class = get("key_class")
    peak = np.where(key_class == KeyClass.MOBILE, 19.5, 14.0)
    wave = 1 + get("amplitude") * np.cos((hour - peak) * (2 * np.pi / 24))
    office = np.exp(-(((hour - 13.3) / 3.0) ** 4))
    wave = np.where(key_class == KeyClass.DEVELOPER, office, wave)
    wave = wave * np.where(weekend, get("weekend"), 1.0)
    period = get("period_cells")
    due = (cells[None, :] // CELL_US + get("phase_cells")) % period < 2
    pulse = np.where(due, period / 2, 0.0)
    return np.where(key_class == KeyClass.BATCH, pulse, wave)
