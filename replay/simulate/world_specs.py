"""The sizes of the attack scenarios: duration, rate, victims, and the causes they leave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from replay.simulate import world_attacks as a
from replay.simulate.columns import EventColumns
from replay.simulate.world_scene import Scene
from replay.simulate.world_settings import CLOUD, DEVELOPER, MOBILE, SERVER

DAY_MIN = 24 * 60
_STEADY = (SERVER, CLOUD, DEVELOPER)
STRANGER = ("new_network", "new_client", "actor_volume", "additive", "concurrency")
_NEW = ("new_network", "new_route", "new_area", "foreign_mix", "actor_volume", "denied")
_BESIDE = ("additive", "concurrency")
_MUCH = ("volume", "surge", "actor_volume")


def _one(_rng: np.random.Generator) -> int:
    return 1


def _few(rng: np.random.Generator) -> int:
    return int(rng.integers(1, 13))


@dataclass(frozen=True, slots=True)
class Spec:
    """How big an attack is, log-uniform within each range, and what a good explanation names.

    To ``causes`` those of a ``STRANGER`` are added where the program is not the victim's.
    ``ratio`` is requests over the victim's own per 15 minutes; ``per_cell`` gives them outright
    instead. ``make`` is for one victim, ``make_one`` for each of many. ``kinds`` are the
    victims' classes (none = any), ``thin`` allows less than one request in 15 minutes, ``early``
    starts with the test period, ``own_min`` is the least the victim itself does in 15 minutes,
    where such a key is free. ``shape`` is ``any`` (sessions where it is long), ``flat``,
    ``burst``, ``night``, ``ramp`` or ``day`` (the owner's rhythm).
    """

    causes: tuple[str, ...]
    minutes: tuple[float, float]
    make: Callable[[Scene], EventColumns] | None = None
    ratio: tuple[float, float] = (0.01, 100)
    per_cell: tuple[float, float] | None = None
    kinds: tuple[int, ...] = ()
    victims: int = 1
    granted: bool = False
    thin: bool = False
    early: bool = False
    shape: str = "any"
    requests_min: int = 4
    own_min: float = 0.0
    sources: Callable[[np.random.Generator], int] = _one
    make_one: Callable[[Scene, int, int], EventColumns] = a.one_of_a_campaign


SPECS = {
    "A01": Spec((*_NEW, *_BESIDE), (10, 3 * DAY_MIN), a.new_place_and_program, kinds=_STEADY),
    "A02": Spec((*_NEW, *_BESIDE), (10, 3 * DAY_MIN), a.same_provider, kinds=(SERVER, CLOUD)),
    "A03": Spec(
        (*_NEW, *_BESIDE),
        (30, 3 * DAY_MIN),
        a.residential_proxies,
        (0.01, 30),
        kinds=_STEADY,
        requests_min=10,
    ),
    "A04": Spec(
        ("new_network", "actor_volume", *_BESIDE), (10, 14 * DAY_MIN), a.perfect_copy, kinds=_STEADY
    ),
    "A05": Spec(
        (*_NEW, *_BESIDE),
        (12 * 60, 14 * DAY_MIN),
        a.quiet,
        per_cell=(0.25, 1.25),
        thin=True,
        shape="flat",
    ),
    "A06": Spec(
        (*_NEW, *_BESIDE), (30, 3 * DAY_MIN), a.in_the_crowd, (0.01, 10), kinds=(MOBILE, CLOUD)
    ),
    "A07": Spec(
        ("new_network", "foreign_mix", "actor_volume", "concurrency", "additive"),
        (20, DAY_MIN),
        a.side_by_side,
        (0.1, 10),
        kinds=(SERVER, CLOUD),
        shape="day",
        own_min=3.0,
    ),
    "A08": Spec(("dormancy", *_NEW), (10, 2 * DAY_MIN), a.dormant, per_cell=(1, 300)),
    "A09": Spec((*_NEW, *_BESIDE), (10, DAY_MIN), a.fresh, per_cell=(1, 300)),
    "A10": Spec(_MUCH, (20, 6 * 60), a.flood, (8, 100), shape="flat", own_min=3.0),
    "A11": Spec((*_MUCH, *_NEW), (1, 5), a.burst, per_cell=(30, 1000), shape="burst"),
    "A12": Spec(
        (*_MUCH, "new_network", "additive"),
        (30, 6 * 60),
        ratio=(1.5, 6),
        victims=50,
        shape="flat",
        own_min=0.5,
        sources=_few,
        make_one=a.one_of_a_flood,
    ),
    "A13": Spec(
        ("enumeration", "sequence", "misses", *_MUCH),
        (15, 2 * DAY_MIN),
        a.enumerate_in_sequence,
        (0.05, 50),
        requests_min=40,
    ),
    "A14": Spec(
        ("enumeration", "misses", "probing", *_MUCH),
        (15, 2 * DAY_MIN),
        a.guess_identifiers,
        (0.05, 50),
        requests_min=40,
    ),
    "A15": Spec(
        ("enumeration", "slow_drift"),
        (60, 3 * DAY_MIN),
        a.scrape_at_usual_rate,
        (0.5, 1.5),
        requests_min=40,
    ),
    "A16": Spec(
        ("probing", "errors", "denied", "misses", "new_route", "new_area", "foreign_mix"),
        (10, 12 * 60),
        a.probe,
        per_cell=(5, 300),
        requests_min=12,
    ),
    "A17": Spec(("out_of_grant",), (10, 12 * 60), a.outside_grants, per_cell=(1, 60), granted=True),
    "A18": Spec(
        ("slow_drift", "enumeration", "volume", "sequence"),
        (7 * DAY_MIN, 14 * DAY_MIN),
        a.exfiltrate_slowly,
        (0.2, 1.0),
        kinds=(SERVER, CLOUD),
        thin=True,
        early=True,
        shape="day",
        requests_min=50,
        own_min=1.0,
    ),
    "A19": Spec(
        ("off_hours", *_NEW, *_BESIDE),
        (3 * DAY_MIN, 12 * DAY_MIN),
        a.at_night,
        (0.05, 10),
        kinds=_STEADY,
        shape="night",
    ),
    "A20": Spec(
        (*_NEW, "additive", "slow_drift", "volume"),
        (10 * DAY_MIN, 14 * DAY_MIN),
        a.poison,
        (0.05, 0.5),
        kinds=(SERVER, CLOUD),
        thin=True,
        early=True,
        shape="ramp",
        requests_min=50,
        own_min=1.0,
    ),
    "A21": Spec(_NEW, (60, DAY_MIN), per_cell=(1, 20), victims=30, make_one=a.one_of_a_campaign),
    "A22": Spec(
        ("new_route", "new_area", "foreign_mix", "denied"),
        (30, 7 * DAY_MIN),
        a.insider,
        (0.02, 5),
        kinds=_STEADY,
    ),
}
