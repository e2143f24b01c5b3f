"""Surge: far more requests in a cell than usual, priced by the key's own history of surges.

No volume statistic of one key can tell a flood from a benign spike of the same size. What
differs is how often this key surges, and how far. So surges beyond THREE times the expected
count arrive as a Gamma-Poisson process in the key's active cells, and their size has a
Pareto tail whose index is the key's own (Hill, 1975, shrunk to a heavy prior):

    nats(x) = -log P(surge in a cell) + alpha log(x / (THREE mean))

A nightly batch job prices itself; a server that never surged does not. The evidence is for
a cheap, reversible answer (a throttle), not for waking anybody.
"""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np
from river.base import AnomalyDetector

from models import volume
from models._jit import kernel
from models.clock import cell_of, decay

THREE = 3.0
COUNT_MIN = 15.0  # requests in a cell that harm nobody, whatever is usual
SHAPE, RATE = 0.5, 200.0  # prior: half a surge in two days of activity
ALPHA, ALPHA_WEIGHT = 1.3, 2.0  # prior tail: benign spikes are heavy-tailed
EVIDENCE_MAX = 20.0
HALF_LIFE_CELLS = 2688.0
EVIDENCE_HALF_LIFE_CELLS = 4.0  # an hour

SURGE = np.dtype(
    [
        ("surges", "f4"),  # decayed cells in which a surge began
        ("excess", "f4"),  # decayed sum of log(x / (THREE mean)) over them
        ("exposure", "f4"),  # decayed active cells
        ("evidence", "f4"),  # as of the last committed cell
        ("now", "f4"),
        ("surging", "u1"),  # the last committed cell was part of a surge
    ],
    align=True,
)


@kernel
def surprise(excess: float, shape: float, rate: float, alpha: float) -> float:
    """Nats of a surge ``exp(excess)`` times beyond where surges begin.

    >>> surprise(1.0, 0.5, 200.0, 1.3) < surprise(3.0, 0.5, 200.0, 1.3)
    True
    >>> surprise(1.0, 40.0, 800.0, 1.3) < surprise(1.0, 0.5, 800.0, 1.3)
    True
    """
    begins = 1.0 - (rate / (rate + 1.0)) ** shape
    return -log(max(begins, 1e-9)) + alpha * excess


@kernel
def excess_of(count: float, mean: float) -> float:
    """Log of how far a count is beyond where surges begin; negative when it is not."""
    return log(max(count, 1e-9) / max(THREE * mean, COUNT_MIN))


@kernel
def alpha_of(g: Any) -> float:
    """Tail index of the key's own surges."""
    return (g.surges + ALPHA_WEIGHT) / (g.excess + ALPHA_WEIGHT / ALPHA)


@kernel
def evaluate(g: Any, count: float, mean: float) -> None:
    """Sets ``now`` for the open cell's count so far."""
    excess = excess_of(count, mean)
    if excess <= 0.0:
        return
    nats = surprise(excess, SHAPE + g.surges, RATE + g.exposure, alpha_of(g))
    g.now = min(EVIDENCE_MAX, max(g.now, nats))


@kernel
def commit(g: Any, count: float, mean: float, cells: int, held: bool) -> None:
    """Closes a cell, ``cells`` later than it opened; a surge counts once, when it begins."""
    excess = excess_of(count, mean)
    if not held and excess > 0.0 and not g.surging:
        g.surges += 1.0
        g.excess += min(excess, 4.0)  # bounded influence
    g.surging = excess > 0.0 and cells == 1
    keep = decay(cells, HALF_LIFE_CELLS)
    g.surges *= keep
    g.excess *= keep
    g.exposure = (g.exposure + 1.0) * keep
    g.evidence = g.now * decay(cells, EVIDENCE_HALF_LIFE_CELLS)
    g.now = g.evidence


class Surge(AnomalyDetector):
    """Evidence that a key floods, in the light of its own earlier surges.

    Parameters
    ----------
    time
        Feature with the event time, seconds since 1970 UTC.

    Examples
    --------
    >>> model = Surge()
    >>> for i in range(3 * 96):                      # three days, 4 requests a cell
    ...     for j in range(4):
    ...         model = model.learn_one({"t": i * 900 + j})
    >>> model.score_one({"t": 3 * 96 * 900})
    0.0
    >>> for j in range(800):
    ...     model = model.learn_one({"t": 3 * 96 * 900 + j})
    >>> model.score_one({"t": 3 * 96 * 900 + 800}) > 10
    True
    """

    def __init__(self, time: str = "t") -> None:
        self.time = time
        self._volume = np.zeros(1, volume.VOLUME)
        self._season = np.zeros(24, np.float32)
        self._state = np.zeros(1, SURGE)
        self._cell = -1

    def _advanced(self, v: Any, season: Any, state: Any, cell: int) -> None:
        if self._cell < 0:
            volume.born(v[0], cell)
            volume.open_cell(v[0], season, cell)
        elif cell > self._cell:
            commit(state[0], float(v[0]["count"]), float(v[0]["mean"]), cell - self._cell, False)
            volume.commit(v[0], season, self._cell, cell, False)
            volume.open_cell(v[0], season, cell)
        v[0]["count"] += 1
        if volume.speaks(v[0], cell):
            evaluate(state[0], float(v[0]["count"]), float(v[0]["mean"]))

    def score_one(self, x: dict[str, Any]) -> float:
        """Evidence in nats if this request came now; changes nothing."""
        if self.time not in x:
            return 0.0
        cell = max(self._cell, cell_of(int(float(x[self.time]) * 1_000_000)))
        v, season, state = self._volume.copy(), self._season.copy(), self._state.copy()
        self._advanced(v, season, state, cell)
        return float(state[0]["now"])

    def learn_one(self, x: dict[str, Any]) -> Surge:
        """Counts one request."""
        if self.time in x:
            cell = max(self._cell, cell_of(int(float(x[self.time]) * 1_000_000)))
            self._advanced(self._volume, self._season, self._state, cell)
            self._cell = cell
        return self
