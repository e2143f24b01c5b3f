"""Who is attacked when, how long and how hard; and the attacks' ground truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from detector.core.errors import UsageError
from detector.core.events import I64
from detector.core.network import network_text
from detector.decode.client import client_of
from replay.simulate.columns import EventColumns
from replay.simulate.settings import DAY_US, HOUR_US, MINUTE_US
from replay.simulate.world_batch import networks
from replay.simulate.world_keys import WorldKey
from replay.simulate.world_moves import logu
from replay.simulate.world_plan import Plan
from replay.simulate.world_scene import F64, Scene, night, sessions, shaped, steady
from replay.simulate.world_settings import CELL_US, MOBILE, START_US, Attack
from replay.simulate.world_specs import SPECS, STRANGER, Spec

REST_US = 3 * DAY_US  # between two attacks on one key
REQUESTS_MAX = 60_000  # of one attack on one key
RATE_MIN, RATE_MAX = 1.0, 1000.0  # per active 15 minutes
NETWORKS_MAX = 16
NOBODY_LEFT = "no key is left for another {}: ask for fewer attacks or more keys"
_TRIES = 60


class Cast:
    """Plans all attacks of a world. ``reserve`` before ``Plan.run``, ``perform`` after it."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._busy: dict[int, list[tuple[int, int]]] = {}
        self._fated: dict[str, list[tuple[WorldKey, int]]] = {}
        self.attacks: list[Attack] = []
        self.rows: list[EventColumns] = []

    def reserve(self) -> None:
        """Chooses the keys that fall asleep early, or are born, for the sake of an attack."""
        plan, wanted = self._plan, self._plan.settings.attacks
        for name in ("A08", "A09"):
            rng = plan.stream(10, int(name[1:]))
            for _ in range(plan.settings.attacks_per_scenario * (name in wanted)):
                pool = [k for k in plan.keys if k.number not in plan.reserved and k.kind != MOBILE]
                if len(pool) < len(plan.keys) // 2:
                    raise UsageError(NOBODY_LEFT.format(name))
                pool = sorted(pool, key=lambda k: -k.rate)[: len(pool) // 2]
                key = pool[int(rng.integers(len(pool)))]
                at_us = plan.test_time(rng, DAY_US)
                if name == "A08":
                    asleep_us = int(rng.uniform(0.5, 3) * DAY_US)
                    key.dies_us = START_US + min(asleep_us, plan.settings.quiet_days * DAY_US // 2)
                else:
                    key.born_us = at_us - int(logu(rng, 0.3, 20) * HOUR_US)
                plan.reserved.add(key.number)
                self._fated.setdefault(name, []).append((key, at_us))

    def perform(self) -> None:
        """Makes the rows and the ground truth of all attacks, the choosiest scenarios first."""
        settings = self._plan.settings

        def choice(name: str) -> tuple[bool, int, bool]:
            spec = SPECS[name]
            return not spec.granted, -spec.victims, not spec.kinds

        for name in sorted(settings.attacks, key=choice):
            rng = self._plan.stream(11, int(name[1:]))
            for instance in range(settings.attacks_per_scenario):
                make = SPECS[name].make
                if make is None:
                    self._many(name, SPECS[name], rng)
                else:
                    self._one(name, SPECS[name], make, rng, instance)

    def _one(
        self,
        name: str,
        spec: Spec,
        make: Callable[[Scene], EventColumns],
        rng: np.random.Generator,
        instance: int,
    ) -> None:
        for _ in range(_TRIES):
            start_us, end_us = self._span(spec, rng)
            ratio = logu(rng, *spec.ratio)
            fated = self._fated.get(name)
            if fated:
                key, at_us = fated[instance]
                start_us, end_us = at_us, min(at_us + end_us - start_us, self._plan.settings.end_us)
                break
            found = self._victim(spec, rng, start_us, end_us, ratio)
            if found is not None:
                key = found
                break
        else:
            raise UsageError(NOBODY_LEFT.format(name))
        scene = self._scene(spec, rng, key, (start_us, end_us), ratio)
        self._record(name, spec, [scene], [make(scene)])

    def _many(self, name: str, spec: Spec, rng: np.random.Generator) -> None:
        plan = self._plan
        start_us, end_us = self._span(spec, rng)
        free = [k for k in plan.settled(start_us) if self._is_free(k.number, start_us, end_us)]
        free = [free[int(i)] for i in rng.permutation(len(free))]
        own = np.array([plan.own_rate(k, start_us) for k in free])
        chosen = _unrelated(free, own, spec.own_min)[: min(spec.victims, len(plan.keys) // 5)]
        if not chosen:
            raise UsageError(NOBODY_LEFT.format(name))
        avoid = set().union(*(k.blocks for k in chosen))
        sources = [plan.places.hosting(rng, avoid) for _ in range(spec.sources(rng))]
        scenes, rows, client = [], [], -1
        for at, key in enumerate(chosen):
            begin_us = start_us + int(rng.uniform(0, 0.2) * (end_us - start_us))
            scene = self._scene(spec, rng, key, (begin_us, end_us), logu(rng, *spec.ratio))
            client = int(scene.other_client()[0]) if client < 0 else client
            scenes.append(scene)
            rows.append(spec.make_one(scene, sources[at % len(sources)], client))
        self._record(name, spec, scenes, rows)

    def _span(self, spec: Spec, rng: np.random.Generator) -> tuple[int, int]:
        settings = self._plan.settings
        room_us = settings.end_us - settings.test_us
        length_us = int(min(logu(rng, *spec.minutes) * MINUTE_US, 0.95 * room_us))
        latest_us = settings.end_us - length_us
        if spec.early:
            latest_us = min(latest_us, settings.test_us + DAY_US // 2)
        start_us = int(rng.integers(settings.test_us, latest_us))
        return start_us - start_us % 1000, start_us + length_us

    def _is_free(self, key: int, start_us: int, end_us: int) -> bool:
        spans = self._busy.get(key, ())
        free = all(end_us + REST_US <= a or b + REST_US <= start_us for a, b in spans)
        return free and not self._plan.is_paused(key, start_us - DAY_US, end_us)

    def _victim(
        self, spec: Spec, rng: np.random.Generator, start_us: int, end_us: int, ratio: float
    ) -> WorldKey | None:
        """A free key of the right kind whose own rate makes the ratio possible, if there is one."""
        plan = self._plan
        pool = [
            k
            for k in plan.settled(start_us, *spec.kinds)
            if k.granted or not spec.granted
            if self._is_free(k.number, start_us, end_us)
        ]
        if not pool:
            return None
        own = np.array([plan.own_rate(k, start_us) for k in pool])
        pool, own = _busy_enough(pool, own, spec.own_min)
        if spec.per_cell is None:
            log_rate = np.log(np.maximum(own * ratio, 1e-9))
            off = np.maximum(np.log(RATE_MIN) - log_rate, log_rate - np.log(RATE_MAX))
            near = np.flatnonzero(off <= max(0.0, float(off.min()) + 0.3))
        else:
            near = np.arange(len(pool))
        weight = own[near] ** 0.2
        return pool[int(rng.choice(near, p=weight / weight.sum()))]

    def _scene(
        self,
        spec: Spec,
        rng: np.random.Generator,
        key: WorldKey,
        span: tuple[int, int],
        ratio: float,
    ) -> Scene:
        start_us, end_us = span
        rate = ratio * self._plan.own_rate(key, start_us)
        if spec.per_cell is not None:
            rate = logu(rng, *spec.per_cell)
        rate = float(np.clip(rate, 0.02 if spec.thin else RATE_MIN, RATE_MAX))
        self._busy.setdefault(key.number, []).append((start_us, end_us))
        return Scene(self._plan, rng, key, _times(spec, rng, key, (start_us, end_us), rate))

    def _record(
        self, name: str, spec: Spec, scenes: Sequence[Scene], rows: Sequence[EventColumns]
    ) -> None:
        number = len(self.attacks)
        self.rows += [r.with_columns(attack=np.full(len(r), number)) for r in rows]
        address = np.concatenate([r.address for r in rows])
        clients = np.concatenate([r.client for r in rows])
        ts_us = np.concatenate([r.ts_us for r in rows])
        ratios = [self._ratio(s) for s in scenes]
        words = self._plan.words
        own = {client for client, _ in scenes[0].usual.clients}
        strange = () if own >= set(rows[0].client.tolist()) else STRANGER
        self.attacks.append(
            Attack(
                number,
                name,
                tuple(s.key.name for s in scenes),
                int(ts_us.min()),
                int(ts_us.max()),
                tuple(network_text(n) for n in _common(networks(address).astype(np.int64))),
                tuple(sorted({client_of(words.clients[c]) for c in _common(clients)})),
                tuple(dict.fromkeys((*spec.causes, *strange))),
                float(np.median(ratios)),
            )
        )

    def _ratio(self, scene: Scene) -> float:
        cells = len(np.unique(scene.ts_us // CELL_US))
        return scene.n / cells / max(self._plan.own_rate(scene.key, int(scene.ts_us[0])), 1e-9)


def _busy_enough(pool: list[WorldKey], own: F64, own_min: float) -> tuple[list[WorldKey], F64]:
    """The keys that do so much in 15 minutes themselves; the busiest tenth if none does."""
    least = min(own_min, float(np.quantile(own, 0.9)))
    keep = np.flatnonzero(own >= least)
    return [pool[i] for i in keep.tolist()], own[keep]


def _unrelated(pool: list[WorldKey], own: F64, own_min: float) -> list[WorldKey]:
    """The keys by preference: busy enough ones first, and one key of each owner before a second."""
    seen: dict[int, int] = {}
    rank = []
    for at, key in enumerate(pool):
        seen[key.owner] = seen.get(key.owner, -1) + 1
        rank.append((own[at] < own_min, seen[key.owner], at))
    return [pool[at] for _, _, at in sorted(rank)]


def _common(values: I64) -> list[int]:
    """The most frequent values, at most so many as are listed."""
    found, counts = np.unique(values, return_counts=True)
    return [int(v) for v in found[np.argsort(-counts, kind="stable")][:NETWORKS_MAX]]


def _times(
    spec: Spec, rng: np.random.Generator, key: WorldKey, span: tuple[int, int], rate: float
) -> I64:
    """The times of an attack's requests, ``rate`` per active 15 minutes."""
    start_us, end_us = span
    cells = (end_us - start_us) / CELL_US
    duty = 1.0
    if spec.shape == "any" and end_us - start_us > DAY_US // 2:
        duty = logu(rng, 0.05, 0.8)
    if spec.shape == "night":
        duty = 5 / 24
    if spec.shape == "burst":
        cells = 1.0
    n = int(np.clip(round(rate * cells * duty), spec.requests_min, REQUESTS_MAX))
    if n == REQUESTS_MAX:  # shorter rather than slower
        end_us = start_us + int(n / (rate * duty) * CELL_US)
    if spec.shape == "night":
        return shaped(rng, start_us, end_us, n, night(key.zone_h))
    if spec.shape == "ramp":
        growth, quiet = float(rng.uniform(0.1, 0.3)), float(rng.uniform(0.3, 0.6))
        return shaped(rng, start_us, end_us, n, _ramp(start_us, end_us, growth, quiet))
    if spec.shape == "day":
        return shaped(rng, start_us, end_us, n, _office(key))
    if duty < 1:
        return sessions(rng, start_us, end_us, n, duty)
    return steady(rng, start_us, end_us, n)


def _ramp(start_us: int, end_us: int, growth: float, quiet: float) -> Callable[[I64], F64]:
    def weight(ts_us: I64) -> F64:
        days = (ts_us - start_us - quiet * (end_us - start_us)) / DAY_US
        return np.asarray((1 + growth) ** np.maximum(days, 0))

    return weight


def _office(key: WorldKey) -> Callable[[I64], F64]:
    """The owner's own rhythm of the day."""

    def weight(ts_us: I64) -> F64:
        hour = (ts_us + int(key.zone_h * HOUR_US)) % DAY_US / HOUR_US
        return np.asarray(1 + key.amplitude * np.cos((hour - key.peak_h) * (np.pi / 12)))

    return weight
