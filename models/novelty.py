"""Novelty of a network, block, client, route or area, priced by the key's own churn.

Bursts of new values arrive as a Gamma-Poisson process in the key's *active* cells (plus a
tenth of the calendar, so that a sleeping key gains some exposure too), with a geometric
number of values each. Not per request: requests are bursty, and a busy key would make
every new value look impossible. A phone app that meets a new network every few minutes
prices the next one at nothing.
Sources: Gamma-Poisson predictive (Gelman et al., Bayesian Data Analysis, 2.6); geometric
compound, the Polya-Aeppli distribution (Johnson et al., Univariate Discrete
Distributions, 9.7).
"""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np
from river.base import AnomalyDetector

from models._jit import kernel
from models.clock import cell_of, decay

NETWORK, CLIENT, ROUTE, AREA, BLOCK = 0, 1, 2, 3, 4
KINDS = 5
HALF_LIFE_CELLS = 2688.0  # 28 days
EVIDENCE_HALF_LIFE_CELLS = 48.0  # 12 hours
CALENDAR_SHARE = 0.1
# Prior of each kind: SHAPE new values per RATE active cells. A wide prior (small RATE) lets
# a young key's own churn speak within hours; a narrow one calls the first new value alarming.
SHAPE = (0.5, 0.4, 1.0, 0.5, 0.4)
RATE = (10.0, 10.0, 10.0, 10.0, 10.0)
SIZE = (1.5, 1.5, 2.0, 1.5, 1.5)  # prior mean length of a burst of new values, SIZE_WEIGHT bursts
SIZE_WEIGHT = 2.0
FOUNDING_MAX = 64.0  # new values that the founding cell teaches at most
OFFSET = 1.0  # nats a cell's first surprise is worth less: chance alone gives one nat
FIELD_CELLS = 8.0  # cells after which half of what is new in a field that appeared late counts
ACCUMULATED_MAX = (14.0, 10.0, 16.0, 16.0, 14.0)

NOVELTY = np.dtype(
    [
        ("new", "f4", (KINDS,)),  # decayed number of new values, open cell excluded
        ("bursts", "f4", (KINDS,)),  # decayed number of cells that brought any
        ("fresh", "u2", (KINDS,)),  # new values in the open cell
        ("evidence", "f4", (KINDS,)),  # accumulated, as of the last committed cell
        ("now", "f4", (KINDS,)),  # evidence plus the open cell's, kept by observe and commit
        ("exposure", "f4"),  # decayed active cells + CALENDAR_SHARE x calendar cells
        (
            "absent",
            "f4",
            (KINDS,),
        ),  # the part of it before the kind's first value: a field may appear
        ("present", "u1", (KINDS,)),  # the kind had a value in a committed cell
        ("seen", "u1", (KINDS,)),  # or in the open one
        ("gone", "u1", (KINDS,)),  # the open cell says nothing about the kind: its field is broken
    ],
    align=True,
)


@kernel
def surprise(x: int, shape: float, rate: float, size: float) -> float:
    """-log P(at least x new values in one active cell), nats.

    A cell brings a burst of new values with the Gamma-Poisson predictive probability
    ``1 - (rate / (rate + 1)) ** shape``; the burst's length is geometric with mean ``size``.
    New values come in bursts (one visit to an unknown corner of an API), so the second
    new value of a cell is much weaker evidence than the first.

    >>> surprise(0, 0.5, 10.0, 2.0), round(surprise(1, 0.5, 10.0, 2.0), 2)
    (0.0, 3.07)
    >>> round(surprise(5, 0.5, 10.0, 2.0) - surprise(1, 0.5, 10.0, 2.0), 2)
    2.77
    >>> round(surprise(1, 400.5, 500.0, 2.0), 2)       # bursts are usual: little news
    0.6
    """
    if x <= 0:
        return 0.0
    burst = 1.0 - (rate / (rate + 1.0)) ** shape
    longer = 1.0 - 1.0 / max(1.01, size)
    return -log(max(burst, 1e-12)) - (x - 1) * log(longer)


@kernel
def burst_size(n: Any, kind: int) -> float:
    """Usual number of new values in a cell that brings any."""
    return (n.new[kind] + SIZE[kind] * SIZE_WEIGHT) / (n.bursts[kind] + SIZE_WEIGHT)


@kernel
def surprise_of(n: Any, kind: int, x: int) -> float:
    """Surprise of x new values of a kind in the open cell, nats."""
    exposure = max(0.0, n.exposure - n.absent[kind])
    return surprise(x, SHAPE[kind] + n.bursts[kind], RATE[kind] + exposure, burst_size(n, kind))


@kernel
def observe(n: Any, kind: int) -> float:
    """Counts one new value; returns its surprise (0 in the kind's founding cell), nats.

    ``n.now[kind]`` becomes the committed evidence plus that of the open cell. The founding
    cell is the first in which the kind has a value: the key's first, or that in which the log
    began to have the field.
    """
    if not (n.present[kind] or n.seen[kind]):
        n.seen[kind] = 1
        return 0.0  # the first one ever is no burst
    n.fresh[kind] += 1
    if not n.present[kind]:
        return 0.0
    nats = surprise_of(n, kind, n.fresh[kind])
    if (
        n.absent[kind] > 0.0
    ):  # the field is younger than the key: as much is known of it as of a key
        nats *= (n.exposure - n.absent[kind]) / (n.exposure - n.absent[kind] + FIELD_CELLS)
    now = n.evidence[kind] + max(0.0, nats - OFFSET)
    n.now[kind] = min(now, ACCUMULATED_MAX[kind])
    return nats


@kernel
def commit(n: Any, cells: int, held: bool) -> None:
    """Closes the open cell, ``cells`` later than it opened.

    While held, nothing is learned. One cell adds at most ``4 + what was known``: bounded influence.
    """
    keep = decay(cells, HALF_LIFE_CELLS)
    fade = decay(cells, EVIDENCE_HALF_LIFE_CELLS)
    for kind in range(KINDS):
        n.evidence[kind] = n.now[kind] * fade
        n.now[kind] = n.evidence[kind]
        most = 4.0 + n.new[kind] if n.present[kind] else FOUNDING_MAX
        learned = 0.0 if held else min(float(n.fresh[kind]), most)
        n.new[kind] = (n.new[kind] + learned) * keep
        n.bursts[kind] = (n.bursts[kind] + (1.0 if learned > 0.0 else 0.0)) * keep
        n.fresh[kind] = 0
    n.exposure = (n.exposure + 1.0) * keep + CALENDAR_SHARE * cells
    for kind in range(KINDS):
        n.present[kind] = n.present[kind] or n.seen[kind]
        lost = 1.0 + CALENDAR_SHARE * cells if n.gone[kind] else 0.0
        absent = n.absent[kind] * keep + lost if n.present[kind] else n.exposure
        n.absent[kind], n.gone[kind] = min(absent, n.exposure), 0


class ChurnNovelty(AnomalyDetector):
    """Evidence that a key meets more new values of a feature than it usually does.

    Parameters
    ----------
    value
        Feature whose values are watched (a network, a client, a route).
    time
        Feature with the event time, seconds since 1970 UTC.
    kind
        ``"network"``, ``"client"``, ``"route"``, ``"area"`` or ``"block"``: chooses the prior.
    values_max
        Distinct values remembered; past it nothing is new any more.

    Examples
    --------
    >>> model = ChurnNovelty()
    >>> for i in range(400):                    # a server: one network, day after day
    ...     model = model.learn_one({"t": i * 900, "value": "203.0.113.0/24"})
    >>> model.score_one({"t": 400 * 900, "value": "203.0.113.0/24"})
    0.0
    >>> round(model.score_one({"t": 400 * 900, "value": "198.51.100.0/24"}), 1)
    5.8
    """

    def __init__(
        self, value: str = "value", time: str = "t", kind: str = "network", values_max: int = 512
    ) -> None:
        self.value = value
        self.time = time
        self.kind = kind
        self.values_max = values_max
        self._state = np.zeros(1, NOVELTY)
        self._known: dict[Any, None] = {}
        self._cell = -1

    @property
    def _index(self) -> int:
        return ("network", "client", "route", "area", "block").index(self.kind)

    def _is_new(self, x: dict[str, Any]) -> bool:
        return x[self.value] not in self._known and len(self._known) < self.values_max

    def _advanced(self, state: Any, cell: int) -> None:
        if 0 <= self._cell < cell:
            commit(state[0], cell - self._cell, False)

    def score_one(self, x: dict[str, Any]) -> float:
        """Evidence in nats if this event came now; changes nothing."""
        if self.time not in x or self.value not in x or not self._known:
            return 0.0
        state = self._state.copy()
        cell = max(self._cell, cell_of(int(float(x[self.time]) * 1_000_000)))
        self._advanced(state, cell)
        if self._is_new(x):
            observe(state[0], self._index)
        return float(state[0]["now"][self._index])

    def learn_one(self, x: dict[str, Any]) -> ChurnNovelty:
        """Remembers the value and, once per cell, the churn."""
        if self.time in x and self.value in x:
            cell = max(self._cell, cell_of(int(float(x[self.time]) * 1_000_000)))
            self._advanced(self._state, cell)
            self._cell = cell
            if self._is_new(x):
                observe(self._state[0], self._index)
                self._known[x[self.value]] = None
        return self
