"""Actors: a key's not yet established sources (network x client), each with its own record.

A source is established to the degree that it carried a share of the key's active cells,
or wholly once it was seen on three days over a week. Until then what is new about it
counts, so a small thief in a busy key stands out and can be named.
"""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np
from river.base import AnomalyDetector

from models._jit import kernel
from models.clock import CELLS_PER_DAY, cell_of
from models.volume import llr

ESTABLISHED_SHARE = 0.3  # of the key's active cells
ESTABLISHED_YOUNG_CELLS = 24  # a key is not known sooner, so its sources are not either
ESTABLISHED_DAYS, ESTABLISHED_CELLS = 3, 7 * CELLS_PER_DAY
RHO, SIZE = 8.0, 1.0 / 1.5  # a thief takes eight times what a new source usually takes
VOLUME_MAX = 12.0
EXCESS_RHO, EXCESS_STEP_MAX = 3.0, 4.0
USUAL_WEIGHT = 5.0
USUAL_FLOOR = 4.0  # requests in a cell that no new source is blamed for
FOREIGN_P1, FOREIGN_MIN_P0 = 0.85, 0.02
# a prior of its own for areas: it, not the key's age, is what excuses a young key
FOREIGN_PRIOR, FOREIGN_WEIGHT = 0.35, 40.0
FOREIGN_ROUTE_PRIOR, FOREIGN_ROUTE_WEIGHT = 0.35, 40.0
# requests of one visit are not independent witnesses
FOREIGN_TEMPER, FOREIGN_ROUTE_TEMPER = 0.15, 0.1
FOREIGN_RANGE = (-1.0, 14.0)
NEWBORN_CELLS = 4  # an hour
MATURE_CELLS = 8.0  # active cells after which half of what is foreign to a key counts
SWITCH_US = 600_000_000  # two sources within ten minutes are in use at once
SWITCH_P1, SWITCH_PRIOR, SWITCH_WEIGHT = 0.5, 0.05, 20.0
SWITCH_TEMPER = 0.25
CONCURRENCY_MAX = 12.0
LIFE_CELLS = 28 * CELLS_PER_DAY

ACTOR = np.dtype(
    [
        ("tag", "u8"),  # hash of (key, network, client); 0 = free slot
        ("key_lo", "u8"),
        ("network", "u8"),
        ("client", "u8"),
        ("block", "u8"),
        ("by_block", "u1"),  # the block was at least as surprising as the network
        ("first_us", "i8"),
        ("served", "u4"),  # requests that were not refused
        ("served_bytes", "i8"),
        ("last_cell", "i4"),
        ("requests", "u4"),
        ("count", "u4"),  # requests in its open cell
        ("foreign", "u4"),  # requests to areas the key did not use before this actor came
        ("volume", "f4"),  # evidence
        ("excess", "f4"),  # evidence
        ("mix", "f4"),  # evidence
        ("route", "f4"),  # evidence of the routes it brought along
        ("area", "f4"),  # evidence of the areas it brought along
        ("concurrency", "f4"),  # evidence that the owner is at work at the same time
        ("counted", "u4"),  # of the served ones, how many were counted as leaked
        ("counted_bytes", "i8"),
        ("switches", "u4"),  # times it followed another source within SWITCH_US
        ("route_new", "u2"),
        ("area_new", "u2"),
        ("route_last", "u8"),  # the newest route it brought, for the explanation
        ("foreign_routes", "u4"),  # requests to routes the key did not use before it came
        ("mix_route", "f4"),  # evidence
        ("bits", "u8"),  # which of 64 route classes failed for it in its open cell
        ("failed", "u4"),  # its failed requests in that cell
        ("probing", "f4"),  # evidence, open cell excluded
        ("probing_now", "f4"),
        ("enumeration", "f4"),  # evidence of its own identifiers
        ("sequence", "f4"),
        ("travel", "f4"),
        ("denied", "f4"),
        ("misses", "f4"),
        ("owned", "f8"),  # the key's counts when it came
        ("expected", "f8"),
    ],
    align=True,
)


@kernel
def established(cells: int, days: int, age_cells: int, key_cells: int) -> float:
    """Degree in [0, 1] to which a value belongs to the key.

    >>> established(30, 1, 90, 100), established(3, 1, 0, 100), established(30, 3, 700, 9000)
    (1.0, 0.1, 1.0)
    """
    if days >= ESTABLISHED_DAYS and age_cells >= ESTABLISHED_CELLS:
        return 1.0
    return min(1.0, cells / (ESTABLISHED_SHARE * max(ESTABLISHED_YOUNG_CELLS, key_cells)))


@kernel
def volume_evidence(count: float, usual: float) -> float:
    """Nats for "eight times what a new source of this key usually takes in a cell".

    >>> volume_evidence(3.0, 4.0), volume_evidence(200.0, 4.0) > 2.5
    (0.0, True)
    """
    if count <= usual:
        return 0.0
    return min(max(llr(count, usual, SIZE, RHO), 0.0), VOLUME_MAX)


@kernel
def excess_evidence(count: float, mean: float, size: float) -> float:
    """Nats for "three times what the whole key usually takes in a cell", by one new source.

    A move, or a second region, brings at most what the key usually does.

    >>> excess_evidence(10.0, 12.0, 2.0) < 0 < excess_evidence(40.0, 12.0, 2.0)
    True
    """
    return min(llr(count, max(mean, USUAL_FLOOR), size, EXCESS_RHO), EXCESS_STEP_MAX)


@kernel
def mix_step(foreign: bool, p0: float, temper: float) -> float:
    """Nats of one request: to an area foreign to the key, or to one of its own.

    >>> mix_step(True, 0.1, 0.2) > 0 > mix_step(False, 0.1, 0.2)
    True
    """
    p0 = min(max(p0, FOREIGN_MIN_P0), 0.9 * FOREIGN_P1)
    ratio = FOREIGN_P1 / p0 if foreign else (1.0 - FOREIGN_P1) / (1.0 - p0)
    return temper * log(ratio)


@kernel
def mix_add(mix: float, step: float) -> float:
    """Adds a step within FOREIGN_RANGE."""
    return min(max(mix + step, FOREIGN_RANGE[0]), FOREIGN_RANGE[1])


@kernel
def share_as_young(newborn: float, young: float, age_cells: int) -> float:
    """Requests that usually go to values no older than ``age_cells``.

    Between those known for less than an hour (``newborn``) and less than a day (``young``),
    by the logarithm of the age: an actor is judged by what a key does in as long a time.

    >>> share_as_young(1.0, 9.0, 0), share_as_young(1.0, 9.0, 96), share_as_young(1.0, 9.0, 900)
    (1.0, 9.0, 9.0)
    """
    if age_cells <= NEWBORN_CELLS:
        return newborn
    part = log(age_cells / NEWBORN_CELLS) / log(CELLS_PER_DAY / NEWBORN_CELLS)
    return newborn + min(1.0, part) * (young - newborn)


@kernel
def maturity(key_cells: int) -> float:
    """Share in [0, 1) of what is foreign to a key that counts: a young key explores.

    >>> maturity(0), maturity(8), maturity(792)
    (0.0, 0.5, 0.99)
    """
    return key_cells / (key_cells + MATURE_CELLS)


@kernel
def alien(network_nats: float) -> float:
    """Share of an actor's own behaviour that counts, by how new its network is.

    A deploy brings a new client and new routes, from the network of old; a thief brings
    the network too.

    >>> alien(0.0), alien(2.0), alien(9.0)
    (0.5, 1.0, 1.0)
    """
    return min(1.0, 0.5 + 0.25 * network_nats)


@kernel
def switch_step(switches: float, pairs: float) -> float:
    """Nats of one switch back to an actor, given how often this key switches anyway.

    >>> switch_step(0.0, 1000.0) > 1 > switch_step(500.0, 1000.0)
    True
    """
    p0 = (switches + SWITCH_WEIGHT * SWITCH_PRIOR) / (pairs + SWITCH_WEIGHT)
    return SWITCH_TEMPER * max(0.0, log(SWITCH_P1 / p0))


class ActorVolume(AnomalyDetector):
    """Evidence that one source takes far more than a new source of this key usually does.

    Parameters
    ----------
    source, time
        Feature names: the source (network and client), event time in seconds since 1970.
    usual
        Requests a new source usually takes in a 15-minute cell.
    sources_max
        Sources counted per cell; more are not told apart.

    Examples
    --------
    >>> model = ActorVolume()
    >>> for _ in range(300):
    ...     model = model.learn_one({"t": 0, "source": "198.51.100.0/24 curl/8"})
    >>> model.score_one({"t": 1, "source": "203.0.113.0/24 sdk/2"})
    0.0
    >>> model.score_one({"t": 1, "source": "198.51.100.0/24 curl/8"}) > 2
    True
    """

    def __init__(
        self,
        source: str = "source",
        time: str = "t",
        usual: float = USUAL_FLOOR,
        sources_max: int = 256,
    ) -> None:
        self.source = source
        self.time = time
        self.usual = usual
        self.sources_max = sources_max
        self._counts: dict[Any, int] = {}
        self._cell = -1

    def score_one(self, x: dict[str, Any]) -> float:
        """Evidence in nats if this request came now; changes nothing."""
        if self.time not in x or self.source not in x:
            return 0.0
        same_cell = cell_of(int(float(x[self.time]) * 1_000_000)) <= self._cell
        count = self._counts.get(x[self.source], 0) if same_cell else 0
        return float(volume_evidence(count + 1.0, self.usual))

    def learn_one(self, x: dict[str, Any]) -> ActorVolume:
        """Counts one request."""
        if self.time in x and self.source in x:
            cell = cell_of(int(float(x[self.time]) * 1_000_000))
            if cell > self._cell:
                self._counts, self._cell = {}, cell
            if x[self.source] in self._counts or len(self._counts) < self.sources_max:
                self._counts[x[self.source]] = self._counts.get(x[self.source], 0) + 1
        return self
