"""Dormancy: a key wakes after a silence far longer than any it has shown.

Gaps of a key are heavy-tailed (nights, weekends, holidays), so the record so far is the
yardstick: under a Pareto tail of index ALPHA, P(gap > g | gap > longest) = (longest/g)^ALPHA.
"""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np
from river.base import AnomalyDetector

from models._jit import kernel
from models.clock import CELLS_PER_DAY, cell_of, decay

ALPHA = 3.0
LONGEST_FLOOR_CELLS = 4.0 * CELLS_PER_DAY  # a long weekend is nobody's dormancy
EVIDENCE_MAX = 6.0
HALF_LIFE_CELLS = 48.0  # 12 hours

DORMANCY = np.dtype(
    [
        ("longest", "i4"),  # longest silence so far, in cells
        ("gap", "i4"),  # the silence it last woke from
        ("before", "i4"),  # the longest one before that
        ("evidence", "f4"),
    ],
    align=True,
)


@kernel
def surprise(gap_cells: float, longest_cells: float) -> float:
    """Nats of a gap beyond the longest so far.

    >>> surprise(96.0, 400.0), round(surprise(8 * 96.0, 0.0), 2), surprise(40 * 96.0, 0.0)
    (0.0, 2.08, 6.0)
    """
    floor = max(longest_cells, LONGEST_FLOOR_CELLS)
    return min(EVIDENCE_MAX, ALPHA * log(gap_cells / floor)) if gap_cells > floor else 0.0


@kernel
def commit(d: Any, cells: int, held: bool) -> None:
    """The key is seen again ``cells`` after its last active cell."""
    woken = surprise(float(cells), float(d.longest))
    d.evidence = max(woken, d.evidence * decay(cells, HALF_LIFE_CELLS))
    if woken > 0.0:
        d.gap, d.before = cells, d.longest
    if not held:
        d.longest = max(d.longest, cells)


class Dormancy(AnomalyDetector):
    """Evidence that a sleeping key was woken up.

    Parameters
    ----------
    time
        Feature with the event time, seconds since 1970 UTC.

    Examples
    --------
    >>> model = Dormancy()
    >>> for day in range(10):
    ...     model = model.learn_one({"t": day * 86_400})
    >>> model.score_one({"t": 12 * 86_400}), model.score_one({"t": 60 * 86_400})
    (0.0, 6.0)
    """

    def __init__(self, time: str = "t") -> None:
        self.time = time
        self._state = np.zeros(1, DORMANCY)
        self._cell = -1

    def _advanced(self, state: Any, x: dict[str, Any]) -> int:
        cell = max(self._cell, cell_of(int(float(x[self.time]) * 1_000_000)))
        if 0 <= self._cell < cell:
            commit(state[0], cell - self._cell, False)
        return int(cell)

    def score_one(self, x: dict[str, Any]) -> float:
        """Evidence in nats if this request came now; changes nothing."""
        if self.time not in x:
            return 0.0
        state = self._state.copy()
        self._advanced(state, x)
        return float(state[0]["evidence"])

    def learn_one(self, x: dict[str, Any]) -> Dormancy:
        """Notes that the key is awake."""
        if self.time in x:
            self._cell = self._advanced(self._state, x)
        return self
