"""Sequence: a key counts through numeric identifiers, one after the other.

Each request with a numeric identifier is a Bernoulli trial: within two of one of the last
four numbers, or not. A walker does so most of the time; what is usual for the key (paging,
a job that works through its own orders) is learned. Four numbers are kept so that a walk
shows through the owner's traffic between its steps. Accumulated as a CUSUM (Page, 1954).
"""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np
from river.base import AnomalyDetector

from models._jit import kernel
from models.clock import cell_of, decay

KEPT = 4
STEP_MAX = 2  # a walker may skip deleted objects
P1 = 0.6
PRIOR, PRIOR_WEIGHT = 0.05, 20.0
TEMPER = 0.4  # steps of one walk are not independent witnesses
EVIDENCE_MAX = 14.0
HALF_LIFE_CELLS = 2688.0
EVIDENCE_HALF_LIFE_CELLS = 12.0  # 3 hours

SEQUENCE = np.dtype(
    [
        ("numbers", "i8", (KEPT,)),  # the last ones plus 1; 0 = none yet
        ("steps", "f4"),  # decayed trials that were steps
        ("trials", "f4"),  # decayed
        ("cell_steps", "u4"),  # of the open cell
        ("cell_trials", "u4"),
        ("at", "u1"),  # where the next number goes
        ("evidence", "f4"),
    ],
    align=True,
)


@kernel
def share(q: Any) -> float:
    """Usual share of steps, open cell excluded."""
    return (q.steps + PRIOR * PRIOR_WEIGHT) / (q.trials + PRIOR_WEIGHT)


@kernel
def step_nats(is_step: bool, usual: float) -> float:
    """Tempered nats of one trial.

    >>> step_nats(True, 0.05) > 0.9 > 0 > step_nats(False, 0.05)
    True
    >>> step_nats(True, 0.7)                           # a key that always counts up: no news
    0.0
    """
    p0 = min(max(usual, 0.02), 0.98)
    if p0 >= P1:
        return 0.0
    return TEMPER * (log(P1 / p0) if is_step else log((1.0 - P1) / (1.0 - p0)))


@kernel
def observe(q: Any, number: int) -> float:
    """Judges and counts one numeric identifier; returns its nats (0 for a repeated one)."""
    is_step = False
    for j in range(KEPT):
        if q.numbers[j] == 0:
            continue
        gap = abs(q.numbers[j] - 1 - number)
        if gap == 0:
            return 0.0
        is_step = is_step or gap <= STEP_MAX
    q.numbers[q.at] = number + 1
    q.at = (q.at + 1) % KEPT
    q.cell_trials += 1
    q.cell_steps += is_step
    nats = step_nats(is_step, share(q))
    q.evidence = min(max(q.evidence + nats, 0.0), EVIDENCE_MAX)
    return nats


@kernel
def commit(q: Any, cells: int, held: bool) -> None:
    """Closes the open cell, ``cells`` later than it opened; learns unless held."""
    if not held:
        weight = min(1.0, (10.0 + 0.1 * q.trials) / max(1, q.cell_trials))  # bounded influence
        q.steps += weight * q.cell_steps
        q.trials += weight * q.cell_trials
    keep = decay(cells, HALF_LIFE_CELLS)
    q.steps *= keep
    q.trials *= keep
    q.evidence *= decay(cells, EVIDENCE_HALF_LIFE_CELLS)
    q.cell_steps = q.cell_trials = 0


class Sequence(AnomalyDetector):
    """Evidence that a key counts through numeric identifiers.

    Parameters
    ----------
    number, time
        Feature names: the numeric identifier in the request (a negative one or None: there
        is none), event time in seconds since 1970 UTC.

    Examples
    --------
    >>> model = Sequence()
    >>> for i in range(400):                          # orders as they come
    ...     model = model.learn_one({"t": i * 300, "number": 7919 * i % 10007})
    >>> for i in range(40):                           # then one after the other
    ...     model = model.learn_one({"t": 400 * 300, "number": 50000 + i})
    >>> model.score_one({"t": 400 * 300, "number": 50040}) > 10
    True
    """

    def __init__(self, number: str = "number", time: str = "t") -> None:
        self.number = number
        self.time = time
        self._state = np.zeros(1, SEQUENCE)
        self._cell = -1

    def _observed(self, state: Any, x: dict[str, Any]) -> int:
        cell = max(self._cell, cell_of(int(float(x[self.time]) * 1_000_000)))
        if 0 <= self._cell < cell:
            commit(state[0], cell - self._cell, False)
        number = x.get(self.number)
        if number is not None and int(number) >= 0:
            observe(state[0], int(number))
        return int(cell)

    def score_one(self, x: dict[str, Any]) -> float:
        """Evidence in nats if this request came now; changes nothing."""
        if self.time not in x:
            return 0.0
        state = self._state.copy()
        self._observed(state, x)
        return float(state[0]["evidence"])

    def learn_one(self, x: dict[str, Any]) -> Sequence:
        """Remembers the number."""
        if self.time in x:
            self._cell = self._observed(self._state, x)
        return self
