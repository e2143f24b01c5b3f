"""The background traffic of a world: how many, when, from where, what, with which result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from detector.core.events import I64
from replay.simulate import api, randomness
from replay.simulate.columns import EventColumns, columns
from replay.simulate.keys import Weighted
from replay.simulate.settings import DAY_US, HOUR_US
from replay.simulate.traffic import (
    Outage,
    app_addresses,
    errors_of,
    response_bytes,
    success_of,
)
from replay.simulate.world_keys import UNSEEN, WorldKey
from replay.simulate.world_plan import Crawl, Plan, Storm
from replay.simulate.world_settings import CELL_US, CELLS_PER_DAY, DEVELOPER, MOBILE, START_US

F64 = npt.NDArray[np.float64]

EVENTS_PER_CHUNK = 220_000
FACTOR_MAX = 100.0  # times its usual, a key's requests at most
FLEETS_MAX = 2.0  # times the fleet's usual, one key's requests at most
NEW_USERS, USERS_A_DAY = 0.04, 0.02  # share of an app's requests, and of its users
STICKY_US = 3 * HOUR_US  # a developer stays at one place and tool that long
_AR = 0.96  # memory of a key's level from cell to cell
_PAGES_PER_S = 0.4
_GRACE_US = 1 << 62


def cells_per_chunk(per_day: float) -> int:
    """How many cells are made at once: a divisor of a day's, for bounded memory."""
    fitting = [n for n in range(1, CELLS_PER_DAY + 1) if CELLS_PER_DAY % n == 0]
    small = [n for n in fitting if n * per_day / CELLS_PER_DAY <= EVENTS_PER_CHUNK]
    return max(small, default=1)


class Choices:
    """Many weighted lists; one pick from each row's list costs two look-ups (Walker's alias)."""

    def __init__(self) -> None:
        self._number: dict[Weighted, int] = {}
        self._first, self._size = [0], [0]
        self._share: list[float] = []
        self._alias: list[int] = []
        self._value: list[int] = []

    def add(self, weighted: Weighted) -> int:
        """The number of a list, the same for the same list."""
        number = self._number.setdefault(weighted, len(self._number))
        if number + 1 == len(self._first):
            share, alias = _alias_table([w for _, w in weighted])
            first = self._first[-1]
            self._size[-1] = len(weighted)
            self._first.append(first + len(weighted))
            self._size.append(0)
            self._share += share
            self._alias += [first + a for a in alias]
            self._value += [v for v, _ in weighted]
        return number

    def close(self) -> None:
        """To be called once, after the last ``add``."""
        self._arrays = tuple(
            np.array(a) for a in (self._first, self._size, self._share, self._alias, self._value)
        )

    def pick(self, number: I64, u: F64) -> I64:
        """For each row a value of its list, by a number in [0, 1)."""
        first, size, share, alias, value = self._arrays
        x = u * size[number]
        whole = x.astype(np.int64)
        at = first[number] + whole
        return np.asarray(value[np.where(x - whole < share[at], at, alias[at])], np.int64)


def _alias_table(weights: list[float]) -> tuple[list[float], list[int]]:
    n, total = len(weights), sum(weights)
    scaled = [w * n / total for w in weights]
    alias = list(range(n))
    small = [i for i in range(n) if scaled[i] < 1]
    large = [i for i in range(n) if scaled[i] >= 1]
    while small and large:
        i, j = small.pop(), large[-1]
        alias[i] = j
        scaled[j] -= 1 - scaled[i]
        if scaled[j] < 1:
            small.append(large.pop())
    return scaled, alias


@dataclass(frozen=True, slots=True)
class _Draft:
    """Events of one chunk grouped by key, before they have a source, a route, an answer."""

    ts_us: I64
    key: I64
    bounds: I64

    def window(self, key: int, start_us: int, end_us: int) -> I64:
        """Rows of one key within a time."""
        lo, hi = int(self.bounds[key]), int(self.bounds[key + 1])
        ts_us = self.ts_us[lo:hi]
        return lo + np.flatnonzero((ts_us >= start_us) & (ts_us < end_us))


class Timed:
    """Things with ``start_us`` and ``end_us``, to be asked which of them touch a span."""

    def __init__(self, things: Sequence[Any]) -> None:
        self._things = things
        bounds = [(t.start_us, t.end_us) for t in things] or [(0, 0)]
        self._start_us, self._end_us = np.array(bounds, np.int64).T

    def during(self, start_us: int, end_us: int) -> list[Any]:
        """Those that are going on within the span, in their order."""
        found = np.flatnonzero((self._start_us < end_us) & (self._end_us > start_us))
        return [self._things[i] for i in found.tolist()]


class Background:
    """The normal traffic of all keys. Holds the level of each key, so call ``rows`` in order."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.cells = cells_per_chunk(plan.settings.per_day)
        keys = plan.keys
        self._fields: dict[str, npt.NDArray[Any]] = {
            name: np.array([getattr(k, name) for k in keys])
            for name in (
                "kind", "rate", "shape", "drift", "session", "zone_h", "amplitude", "peak_h",
                "weekend", "ids_from", "ids", "ids_power", "fresh", "errors", "broken_route",
                "users", "nightly", "born_us", "dies_us",
            )
        }  # fmt: skip
        self._level = np.zeros(len(keys))
        grid = np.asarray(START_US + np.arange(7 * 96) * CELL_US, np.int64)
        self._normal = 1.0 / self._season(grid).mean(axis=1)
        self._zones = sorted(plan.zones, key=lambda z: z.at_us)
        self._rates, self._storms = Timed(plan.rates), Timed(plan.storms)
        self._crawls, self._outages = Timed(plan.crawls), Timed(plan.outages)
        self._compile(keys)

    def _compile(self, keys: list[WorldKey]) -> None:
        self._addresses, self._clients, self._routes = Choices(), Choices(), Choices()
        rows: list[tuple[int, int, int]] = []
        begins: list[int] = []
        first: list[int] = []
        for key in keys:
            first.append(len(rows))
            for at_us, state in key.epochs():
                begins.append(at_us)
                rows.append(
                    (
                        self._addresses.add(state.addresses),
                        self._clients.add(state.clients),
                        self._routes.add(state.routes),
                    )
                )
        for table in (self._addresses, self._clients, self._routes):
            table.close()
        self._epoch_tables = np.array(rows, np.int64).T
        begin = np.array(begins, np.int64)
        self._first_epoch = np.array(first, np.int64)
        self._next_us = np.append(begin[1:], _GRACE_US)
        self._next_us[np.append(self._first_epoch[1:], len(rows)) - 1] = _GRACE_US
        self._epoch = self._first_epoch.copy()

    def rows(self, chunk: int) -> EventColumns:
        """All background events of a chunk, key by key; ``serial`` counts within the chunk."""
        rng = self._plan.stream(8, chunk)
        start_us = START_US + chunk * self.cells * CELL_US
        end_us = start_us + self.cells * CELL_US
        draft = self._arrivals(rng, np.asarray(start_us + np.arange(self.cells) * CELL_US))
        key, ts_us = draft.key, draft.ts_us
        u = rng.random((5, len(key)))
        address, client, route = self._sources(draft, start_us, u)
        ident = self._identifiers(draft, route, u[3])
        for crawl in self._crawls.during(start_us, end_us):
            self._crawl(rng, draft, crawl, route, ident)
        status = self._status(rng, draft, route, u[4])
        for outage in self._outages.during(start_us, end_us):
            _fail(rng, draft, outage, route, status)
        for storm in self._storms.during(start_us, end_us):
            _storm(rng, draft, storm, route, ident, status)
        return columns(
            self._plan.words,
            ts_us=ts_us,
            key=key,
            route=route,
            ident=ident,
            address=address,
            client=client,
            status=status,
            size_bytes=response_bytes(rng, route, status),
            latency_ms=0,
        )

    def _arrivals(self, rng: np.random.Generator, cells: I64) -> _Draft:
        mean = self._means(rng, cells)
        # Vector exp and cos differ in the last bit between processors: rounding hides it.
        counts = rng.poisson(np.round(mean, 9))
        totals = counts.sum(axis=1)
        key = np.repeat(np.arange(len(totals)), totals)
        cell = np.repeat(np.arange(counts.size), counts.ravel())
        # a session begins anywhere in the cell and fills a part of it
        begin = rng.random(counts.size)[cell]
        share = begin + rng.random(len(key)) * self._fields["session"][key]
        share -= share >= 1.0
        after_us = (share * (CELL_US // 1000)).astype(np.int64) * 1000
        ts_us = cells[cell % len(cells)] + after_us
        return _Draft(ts_us, key, np.append(0, np.cumsum(totals)))

    def _means(self, rng: np.random.Generator, cells: I64) -> F64:
        """Expected events of each key in each cell."""
        drift, shape = self._fields["drift"], self._fields["shape"][:, None]
        levels = np.empty((len(drift), len(cells)))
        for at in range(len(cells)):
            noise = rng.standard_normal(len(drift)) * drift * (1 - _AR**2) ** 0.5
            self._level = _AR * self._level + noise
            levels[:, at] = self._level
        while self._zones and self._zones[0].at_us <= cells[0]:
            zone = self._zones.pop(0)
            self._fields["zone_h"][zone.key] = zone.zone_h
        mean = self._season(cells) * np.exp(levels - (drift**2 / 2)[:, None])
        mean *= (self._fields["rate"] * self._normal * self._plan.scale)[:, None]
        mean *= rng.gamma(shape, 1 / shape, mean.shape)
        mean = self._apply_rates(mean, cells)
        mean[self._fields["born_us"][:, None] > cells] = 0
        mean[self._fields["dies_us"][:, None] <= cells] = 0
        return np.asarray(mean, np.float64)

    def _apply_rates(self, mean: F64, cells: I64) -> F64:
        factor = np.ones(mean.shape)
        start_us, end_us = int(cells[0]), int(cells[-1]) + CELL_US
        for change in self._rates.during(start_us, end_us):
            inside = np.minimum(cells + CELL_US, change.end_us) - np.maximum(cells, change.start_us)
            share = np.clip(inside / CELL_US, 0.0, 1.0)
            factor[change.key] *= 1 + (change.factor - 1) * share
        # the gateway's own limits: for one key, whatever comes together
        most = FLEETS_MAX * self._plan.settings.per_day / CELLS_PER_DAY
        return np.asarray(np.minimum(mean * np.minimum(factor, FACTOR_MAX), most), np.float64)

    def _season(self, cells: I64) -> F64:
        """The daily and weekly shape of each key (rows) in each cell (columns)."""
        f = {name: self._fields[name][:, None] for name in self._fields if name != "nightly"}
        local = cells[None, :] + (f["zone_h"] * HOUR_US).astype(np.int64)
        hour = local % DAY_US / HOUR_US
        rest = (local // DAY_US + 3) % 7 >= 5
        for day_us, keys in self._plan.holidays:
            rest[list(keys)] |= local[list(keys)] // DAY_US == day_us // DAY_US
        wave = 1 + f["amplitude"] * np.cos((hour - f["peak_h"]) * (2 * np.pi / 24))
        office = np.exp(-(((hour - 13.3) / 3.0) ** 4))
        wave = np.where(f["kind"] == DEVELOPER, office, wave)
        wave = wave * np.where(rest, f["weekend"], 1.0)
        factor, begin, hours = (c[:, None] for c in self._fields["nightly"].T)
        return np.asarray(np.where((hour - begin) % 24 < hours, wave * factor, wave), np.float64)

    def _sources(self, draft: _Draft, start_us: int, u: F64) -> tuple[I64, I64, I64]:
        epoch = self._epochs(draft, start_us)
        sticky = self._fields["kind"][draft.key] == DEVELOPER
        spell = randomness.mix(draft.key * 1_000_003 + draft.ts_us // STICKY_US, 7)
        place = np.where(sticky, randomness.unit(spell), u[0])
        tool = np.where(sticky, randomness.unit(spell << np.uint64(20)), u[1])
        tables = self._epoch_tables
        address = self._addresses.pick(tables[0][epoch], place)
        client = self._clients.pick(tables[1][epoch], tool)
        route = self._routes.pick(tables[2][epoch], u[2])
        rows = np.flatnonzero(self._fields["kind"][draft.key] == MOBILE)
        key = draft.key[rows]
        user = self._users(key, draft.ts_us[rows], u[0][rows])
        address[rows] = app_addresses(key, draft.ts_us[rows], user)
        return address, client, route

    def _users(self, key: I64, ts_us: I64, u: F64) -> I64:
        """Which of an app's users it is: few are busy, and there are new ones every day."""
        users = self._fields["users"][key]
        is_new = randomness.unit(randomness.mix(ts_us + key, 16)) < NEW_USERS
        days = (ts_us - START_US) / DAY_US
        user = np.where(is_new, users * (1 + USERS_A_DAY * days * u), users * u**2)
        return np.asarray(user, np.int64)

    def _epochs(self, draft: _Draft, start_us: int) -> I64:
        """Which state each event's key is in."""
        while (behind := self._next_us[self._epoch] <= start_us).any():
            self._epoch += behind
        epoch = self._epoch[draft.key]
        while (behind := self._next_us[epoch] <= draft.ts_us).any():
            epoch += behind
        return np.asarray(epoch, np.int64)

    def _identifiers(self, draft: _Draft, route: I64, u: F64) -> I64:
        key, f = draft.key, self._fields
        old = (f["ids"][key] * u ** f["ids_power"][key]).astype(np.int64)
        # what is new is numbered in the order of its creation
        age_s = (draft.ts_us - START_US) / 1e6
        made = f["ids"][key] + (age_s * (f["rate"][key] * 0.0003)).astype(np.int64)
        is_fresh = randomness.unit(randomness.mix(draft.ts_us + key, 14)) < f["fresh"][key]
        ident = f["ids_from"][key] + np.where(is_fresh, made, old)
        pages = (age_s * _PAGES_PER_S).astype(np.int64) + key
        paging = (key % 2 == 0) & (_ID_KIND[route] == api.ID_PAGE)
        return np.asarray(np.where(paging, pages, ident), np.int64)

    def _crawl(
        self, rng: np.random.Generator, draft: _Draft, crawl: Crawl, route: I64, ident: I64
    ) -> None:
        rows = draft.window(crawl.key, crawl.start_us, crawl.end_us)
        rows = rows[rng.random(len(rows)) < 0.85]
        rows = rows[np.argsort(draft.ts_us[rows], kind="stable")]
        route[rows] = rng.choice(crawl.routes, len(rows))
        first = int(self._fields["ids_from"][crawl.key]) + 3 * UNSEEN + crawl.start_us % UNSEEN
        if crawl.in_sequence:
            ident[rows] = (
                first + (draft.ts_us[rows] - crawl.start_us) // 10_000_000 + np.arange(len(rows))
            )
        else:
            ident[rows] = first + rng.integers(0, UNSEEN, len(rows))

    def _status(self, rng: np.random.Generator, draft: _Draft, route: I64, u: F64) -> I64:
        chance = np.where(
            route == self._fields["broken_route"][draft.key],
            0.25,
            self._fields["errors"][draft.key],
        )
        status = success_of(route)
        failed = np.flatnonzero(u < chance)
        status[failed] = errors_of(route[failed], rng.random(len(failed)))
        return status


def _fail(rng: np.random.Generator, draft: _Draft, outage: Outage, route: I64, status: I64) -> None:
    inside = (draft.ts_us >= outage.start_us) & (draft.ts_us < outage.end_us)
    rows = np.flatnonzero(inside & (_AREA[route] == outage.area))
    rows = rows[rng.random(len(rows)) < outage.probability]
    status[rows] = np.where(rng.random(len(rows)) < 0.5, 503, 502)


def _storm(
    rng: np.random.Generator, draft: _Draft, storm: Storm, route: I64, ident: I64, status: I64
) -> None:
    rows = draft.window(storm.key, storm.start_us, storm.end_us)
    rows = rows[rng.random(len(rows)) < storm.share]
    status[rows] = storm.status
    if storm.route >= 0:
        route[rows] = storm.route
        ident[rows] = 77_777 + storm.key


_AREA = np.array([r.area for r in api.routes()])
_ID_KIND = np.array([r.id_kind for r in api.routes()])
