"""The fleet: keys, what happens to them, attacks on them, and the stream of their events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from detector.core.episodes import rfc3339
from replay.labels import Label, label_of
from replay.simulate import api, attacks, happenings, keys, randomness
from replay.simulate.columns import EventColumns, Vocabulary, merged
from replay.simulate.happenings import Happening
from replay.simulate.keys import KeyPlan
from replay.simulate.settings import DAY_US, HOUR_US, AttackPlan, FleetSettings
from replay.simulate.traffic import Outage, RateChange, Traffic

# A chunk is a day where that is not too much memory (about 1 kB per event with its line).
EVENTS_PER_CHUNK = 250_000


class Fleet:
    """A simulated fleet. Equal settings and seed give equal events on every machine.

    Numbers come from NumPy's ``PCG64`` streams; NumPy may change how a distribution uses its
    stream between feature releases, so exact lines hold for one NumPy version.

    Build it, add happenings and attacks if wanted (``replay.simulate.happenings``,
    ``inject``), then read ``chunks`` once.

    >>> fleet = Fleet(FleetSettings(n_keys=3, hours=2, events_per_day=500), seed=1)
    >>> rows = [len(chunk) for chunk in fleet.chunks()]
    >>> len(rows), sum(rows) > 0
    (1, True)
    """

    def __init__(self, settings: FleetSettings, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self.words = Vocabulary()
        self.rate_changes: list[RateChange] = []
        self.outages: list[Outage] = []
        self.visits: list[EventColumns] = []
        self.happenings: list[Happening] = []
        self.labels: list[Label] = []
        self.victims: set[int] = set()
        self._attacks: list[EventColumns] = []
        self.plans: list[KeyPlan] = [
            keys.make_key(seed, number, key_class, settings, self.words)
            for number, key_class in enumerate(keys.classes(seed, settings))
        ]
        self._name_and_scale()
        happenings.plan_happenings(self)
        for plan in settings.attacks:
            self.inject(plan)

    def _name_and_scale(self) -> None:
        scale = self.settings.events_per_day / 24 / sum(p.rate for p in self.plans)
        seen: set[str] = set()
        for plan in self.plans:
            plan.rate *= scale
            if plan.name in seen:
                plan.name += f"_{plan.number}"
            seen.add(plan.name)
            self.words.keys.append(plan.name)
            self.words.owners.append(plan.owner)

    def note(self, kind: str, keys_: tuple[int, ...], start_us: int, end_us: int) -> Happening:
        """Records a benign happening."""
        happening = Happening(kind, keys_, start_us, end_us)
        self.happenings.append(happening)
        return happening

    def inject(self, plan: AttackPlan) -> Label:
        """Adds an attack; its label is the last of ``labels``."""
        number = len(self._attacks)
        rows = attacks.make_attack(self, plan, number)
        self._attacks.append(rows.with_columns(attack=np.full(len(rows), number)))
        victim = int(rows.key[0])
        self.victims.add(victim)
        self.labels.append(label_of(self.words.keys[victim], plan.kind, rows.ts_us))
        return self.labels[-1]

    def chunks(self) -> Iterator[EventColumns]:
        """All events in time order, by the day, or by the hour for a busy fleet."""
        settings = self.settings
        extra = merged([*self.visits, *self._attacks]) if self.visits or self._attacks else None
        traffic = Traffic(
            self.plans, self.words, self.rate_changes, self.outages, settings.start_us
        )
        rng = randomness.stream(self.seed, randomness.TRAFFIC)
        hours = 24 if settings.events_per_day <= EVENTS_PER_CHUNK else 1
        serial, salt = 0, int(randomness.mix(np.array([self.seed & (1 << 62) - 1]), 11)[0] >> 2)
        for start_us in range(settings.start_us, settings.end_us, hours * HOUR_US):
            end_us = min(start_us + hours * HOUR_US, settings.end_us)
            rows = traffic.rows(rng, start_us, (end_us - start_us) // HOUR_US)
            if extra is not None:
                lo, hi = np.searchsorted(extra.ts_us, [start_us, end_us])
                rows = merged([rows, extra.take(slice(int(lo), int(hi)))]) if hi > lo else rows
            yield rows.with_columns(serial=salt + serial + np.arange(len(rows)))
            serial += len(rows)

    def registry(self) -> list[dict[str, Any]]:
        """Registry records (the contract's form) of every key.

        Two in three declare their grants: the whole of each area the API lets them call.
        """
        return [self._registry_record(plan) for plan in self.plans]

    def _registry_record(self, plan: KeyPlan) -> dict[str, Any]:
        rng = randomness.stream(self.seed, randomness.KEYS, plan.number, 1)
        names = api.area_names()
        grants = [f"* /{v}/{names[a]}/**" for a in plan.allowed_areas for v in ("v1", "v2")]
        grants += [f"* /{v}/{names[a]}" for a in plan.allowed_areas for v in ("v1", "v2")]
        common = [f"{r.method} {r.before}" for r in api.routes() if r.area == api.COMMON_AREA]
        return {
            "key": plan.name,
            "owner": plan.owner,
            "tags": [plan.key_class.name.lower()],
            "class": "never" if rng.random() < 0.05 else "approve",
            "plan": str(rng.choice(["starter", "business", "enterprise"])),
            "environment": "production",
            "grants": grants + common if rng.random() < 0.67 else None,
            "created_at": rfc3339(plan.born_us - plan.born_us % DAY_US),
        }


def simulate(settings: FleetSettings, seed: int) -> Iterator[EventColumns]:
    """The events of ``Fleet(settings, seed)`` in time order, chunk by chunk."""
    return Fleet(settings, seed).chunks()
