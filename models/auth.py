"""Errors of authentication: somebody keeps trying a key (or its name) and is refused.

Each request is a Bernoulli trial, refused or not, against the key's own usual share of
refused ones. What is refused says nothing against the key's owner: the evidence is *about* the
key, trains no baseline, and names nobody. Accumulated as a CUSUM (Page, 1954).
"""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np
from river.base import AnomalyDetector

from models._jit import kernel
from models.clock import cell_of, decay

P1 = 0.9
PRIOR, PRIOR_WEIGHT = 0.05, 10.0
TRUST = 100.0  # successes after which half of the refused ones count as usual
TEMPER = 0.25  # a client with an old secret retries: its tries are one witness
EVIDENCE_MAX = 14.0
HALF_LIFE_CELLS = 2688.0
EVIDENCE_HALF_LIFE_CELLS = 288.0  # 3 days: slow guessing must add up

AUTH = np.dtype(
    [
        ("tag", "u8"),  # the key's hash; 0 = free slot
        ("last_cell", "i4"),
        ("tries", "u4"),  # refused ones, so far
        ("refused", "f4"),  # decayed, of closed cells
        ("passed", "f4"),
        ("cell_refused", "u4"),
        ("evidence", "f4"),
    ],
    align=True,
)


@kernel
def step(refused: bool, usual: float) -> float:
    """Tempered nats of one request.

    >>> step(True, 0.05) > 0.7 > 0 > step(False, 0.05)
    True
    """
    p0 = min(max(usual, 0.01), 0.85)
    return TEMPER * (log(P1 / p0) if refused else log((1.0 - P1) / (1.0 - p0)))


@kernel
def usual_share(a: Any, passed: float) -> float:
    """Share of this key's requests that are usually refused; ``passed`` counts its successes.

    A key that never succeeds has no usual: being refused all the time is not a habit.
    """
    refused = a.refused * passed / (passed + TRUST)
    return (refused + PRIOR * PRIOR_WEIGHT) / (refused + passed + PRIOR_WEIGHT)


@kernel
def refuse(a: Any, cell: int, passed: float) -> None:
    """Counts one refused request. What one cell teaches is bounded."""
    if cell > a.last_cell:
        learned = min(float(a.cell_refused), 2.0 + 0.1 * a.refused)
        a.refused = (a.refused + learned) * decay(cell - a.last_cell, HALF_LIFE_CELLS)
        a.evidence *= decay(cell - a.last_cell, EVIDENCE_HALF_LIFE_CELLS)
        a.last_cell, a.cell_refused = cell, 0
    a.tries += 1
    a.cell_refused += 1
    a.evidence = min(EVIDENCE_MAX, a.evidence + step(True, usual_share(a, passed)))


class RefusedTries(AnomalyDetector):
    """Evidence that a key is being tried by somebody who does not have it.

    Parameters
    ----------
    refused, time
        Feature names: whether authentication failed, event time in seconds since 1970 UTC.

    Examples
    --------
    >>> model = RefusedTries()
    >>> for i in range(30):
    ...     model = model.learn_one({"t": i * 60, "refused": True})
    >>> model.score_one({"t": 1800, "refused": True}) > 10
    True
    """

    def __init__(self, refused: str = "refused", time: str = "t") -> None:
        self.refused = refused
        self.time = time
        self._state = np.zeros(1, AUTH)
        self._passed = 0.0

    def score_one(self, x: dict[str, Any]) -> float:
        """Evidence in nats if this request came now; changes nothing."""
        if self.time not in x or not x.get(self.refused):
            return float(self._state[0]["evidence"])
        state = self._state.copy()
        refuse(state[0], cell_of(int(float(x[self.time]) * 1_000_000)), self._passed)
        return float(state[0]["evidence"])

    def learn_one(self, x: dict[str, Any]) -> RefusedTries:
        """Counts one request."""
        if self.time in x and x.get(self.refused):
            refuse(self._state[0], cell_of(int(float(x[self.time]) * 1_000_000)), self._passed)
        elif self.time in x:
            self._passed += 1.0
        return self
