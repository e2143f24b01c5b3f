"""The demo's scenario: two weeks of a fleet's history, then three hours with attacks in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from replay.labels import Label
from replay.simulate import happenings, randomness
from replay.simulate.fleet import Fleet
from replay.simulate.happenings import Happening
from replay.simulate.settings import HOUR_US, MINUTE_US, START_US, AttackPlan, FleetSettings
from replay.simulate.settings import KeyClass as K

LIVE_HOURS = 3


@dataclass(frozen=True, slots=True)
class DemoScenario:
    """Lines before and during the demo, what was injected, and whom the keys belong to.

    ``live_from_us`` parts the two; ``happenings`` are the benign things of the live part.
    """

    history: list[bytes]
    live: list[bytes]
    labels: Sequence[Label]
    registry: list[dict[str, Any]]
    live_from_us: int
    happenings: Sequence[Happening]


def demo_scenario(seed: int, n_keys: int = 80, days: int = 14) -> DemoScenario:
    """A stolen key, a scraper and a prober amid a deploy and other benign noise.

    History is ``days`` days and some hours of ``n_keys`` keys, 150,000 to 250,000 events at
    the defaults; the live part three hours of a working day. Victims, times, rates and
    sources vary with the seed.
    """
    rng = randomness.stream(seed, randomness.SCENARIO)
    live_from_us = START_US + (days * 24 + int(rng.integers(8, 14))) * HOUR_US
    hours = (live_from_us - START_US) // HOUR_US + LIVE_HOURS
    settings = FleetSettings(
        n_keys=n_keys,
        hours=hours,
        events_per_day=13_500,
        happenings=0.6,
        quiet_from_us=live_from_us,
    )
    fleet = Fleet(settings, seed)
    _attack(fleet, rng, live_from_us)
    _live_noise(fleet, rng, live_from_us)
    history, live = _lines(fleet, live_from_us)
    noise = [h for h in fleet.happenings if h.end_us > live_from_us]
    return DemoScenario(history, live, fleet.labels, fleet.registry(), live_from_us, noise)


def _attack(fleet: Fleet, rng: np.random.Generator, live_from_us: int) -> None:
    """Three attacks in turn, each in its own third of the live part, in any order."""
    kinds = rng.permutation(["stolen_key", "scraper", "prober"])
    for third, kind in enumerate(kinds.tolist()):
        start_us = live_from_us + int((third * 55 + rng.uniform(8, 22)) * MINUTE_US)
        duration_s = float(rng.uniform(20, 45)) * 60
        fleet.inject(AttackPlan(kind, start_us, duration_s))


def _live_noise(fleet: Fleet, rng: np.random.Generator, live_from_us: int) -> None:
    def at() -> int:
        return live_from_us + int(rng.uniform(10, 120) * MINUTE_US)

    def key(*key_classes: K, versioned: bool = False) -> int:
        used = fleet.victims | {k for h in fleet.happenings[known:] for k in h.keys}
        free = [p for p in fleet.plans if p.key_class in key_classes and p.number not in used]
        free = [p for p in free if happenings.has_version(p)] if versioned else free
        active = [p.number for p in free if p.rate >= 2 and p.born_us < fleet.settings.start_us]
        return int(rng.choice(active or [p.number for p in free or fleet.plans]))

    known = len(fleet.happenings)
    happenings.deploy(fleet, rng, key(K.SERVER, K.CLOUD, versioned=True), at())
    happenings.batch_job(fleet, rng, key(K.SERVER, K.CLOUD, K.BATCH), at())
    happenings.curl_from_home(fleet, rng, key(K.SERVER, K.CLOUD), at())
    if rng.random() < 0.5:
        happenings.egress_change(fleet, rng, key(K.SERVER), at())
    if rng.random() < 0.5:
        happenings.outage(fleet, rng, at())


def _lines(fleet: Fleet, live_from_us: int) -> tuple[list[bytes], list[bytes]]:
    history: list[bytes] = []
    live: list[bytes] = []
    for chunk in fleet.chunks():
        cut = int(np.searchsorted(chunk.ts_us, live_from_us))
        lines = chunk.lines()
        history += lines[:cut]
        live += lines[cut:]
    return history, live
