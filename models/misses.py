"""Misses: a key asks for objects it never asked for before, and they are refused or not there.

Whoever guesses identifiers mostly guesses wrong; whoever lists objects first does not. Each
request with an identifier new to the key is a Bernoulli trial, answered 4xx or not, against
the key's usual share. When everything fails (a broken client, an outage of the caller's
permissions), what the key's *other* requests do in the same cell is the yardstick.
Accumulated as a CUSUM (Page, 1954).
"""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np
from river.base import AnomalyDetector

from models._jit import kernel
from models.clock import cell_of, decay

P1 = 0.6
PRIOR, PRIOR_WEIGHT = 0.05, 20.0
OTHERS_WEIGHT = 4.0
TEMPER = 0.3  # requests of one job are not independent witnesses
EVIDENCE_MAX = 14.0
HALF_LIFE_CELLS = 2688.0
EVIDENCE_HALF_LIFE_CELLS = 12.0  # 3 hours

MISSES = np.dtype(
    [
        ("missed", "f4"),  # decayed requests for new identifiers that failed
        ("trials", "f4"),  # decayed requests for new identifiers
        ("cell_missed", "u4"),  # of the open cell
        ("cell_trials", "u4"),
        ("others_failed", "u4"),  # of the open cell: requests for nothing new
        ("others", "u4"),
        ("evidence", "f4"),
    ],
    align=True,
)


@kernel
def usual(m: Any) -> float:
    """Share of requests for new identifiers that fail: usually, or with everything else now."""
    before = (m.missed + PRIOR * PRIOR_WEIGHT) / (m.trials + PRIOR_WEIGHT)
    now = (m.others_failed + PRIOR * OTHERS_WEIGHT) / (m.others + OTHERS_WEIGHT)
    return max(before, now)


@kernel
def step(missed: bool, share: float) -> float:
    """Tempered nats of one request for a new identifier.

    >>> step(True, 0.05) > 0.7 > 0 > step(False, 0.05)
    True
    >>> step(True, 0.6)                                # everything fails: no news
    0.0
    """
    p0 = min(max(share, 0.02), 0.98)
    if p0 >= P1:
        return 0.0
    return TEMPER * (log(P1 / p0) if missed else log((1.0 - P1) / (1.0 - p0)))


@kernel
def observe(m: Any, is_fresh: bool, failed: bool) -> float:
    """Judges and counts one request; returns the nats it adds before any limit."""
    if not is_fresh:
        m.others += 1
        m.others_failed += failed
        return 0.0
    nats = step(failed, usual(m))
    m.cell_trials += 1
    m.cell_missed += failed
    m.evidence = min(max(m.evidence + nats, 0.0), EVIDENCE_MAX)
    return nats


@kernel
def commit(m: Any, cells: int, held: bool) -> None:
    """Closes the open cell, ``cells`` later than it opened; learns unless held."""
    if not held:
        weight = min(1.0, (10.0 + 0.1 * m.trials) / max(1, m.cell_trials))  # bounded influence
        m.missed += weight * m.cell_missed
        m.trials += weight * m.cell_trials
    keep = decay(cells, HALF_LIFE_CELLS)
    m.missed *= keep
    m.trials *= keep
    m.evidence *= decay(cells, EVIDENCE_HALF_LIFE_CELLS)
    m.cell_missed = m.cell_trials = m.others_failed = m.others = 0


class Misses(AnomalyDetector):
    """Evidence that a key guesses identifiers.

    Parameters
    ----------
    fresh, status, time
        Feature names: whether the request's identifier is new to the key, HTTP status, event
        time in seconds since 1970 UTC.

    Examples
    --------
    >>> model = Misses()
    >>> for i in range(200):
    ...     model = model.learn_one({"t": i * 300, "fresh": i % 2, "status": 200})
    >>> for i in range(30):
    ...     model = model.learn_one({"t": 60_000, "fresh": True, "status": 404})
    >>> model.score_one({"t": 60_000, "fresh": True, "status": 404}) > 10
    True
    """

    def __init__(self, fresh: str = "fresh", status: str = "status", time: str = "t") -> None:
        self.fresh = fresh
        self.status = status
        self.time = time
        self._state = np.zeros(1, MISSES)
        self._cell = -1

    def _observed(self, state: Any, x: dict[str, Any]) -> int:
        cell = max(self._cell, cell_of(int(float(x[self.time]) * 1_000_000)))
        if 0 <= self._cell < cell:
            commit(state[0], cell - self._cell, False)
        observe(state[0], bool(x.get(self.fresh)), 400 <= int(x.get(self.status, 0)) < 500)
        return int(cell)

    def score_one(self, x: dict[str, Any]) -> float:
        """Evidence in nats if this request came now; changes nothing."""
        if self.time not in x:
            return 0.0
        state = self._state.copy()
        self._observed(state, x)
        return float(state[0]["evidence"])

    def learn_one(self, x: dict[str, Any]) -> Misses:
        """Counts one request."""
        if self.time in x:
            self._cell = self._observed(self._state, x)
        return self
