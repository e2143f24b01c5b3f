"""Denied: routes that the API refuses a key for the first time.

A program asks for what it may; a stranger with its key tries what there is. Each route that
answers 403 counts once, as novelty: bursts of newly denied routes arrive as a Gamma-Poisson
process in the key's active cells (``models.novelty.surprise``). A key that is refused new
things every day prices the next one at little. Which routes were denied before is kept in a
64-bit sketch for 56 days at most; a collision only weakens the evidence.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from river.base import AnomalyDetector

from models._jit import kernel
from models.clock import cell_of, decay
from models.novelty import EVIDENCE_HALF_LIFE_CELLS, surprise

HALF_LIFE_CELLS = 2688.0
SHAPE, RATE = 0.5, 40.0  # prior: half a burst in ten active hours
SIZE, SIZE_WEIGHT = 2.0, 2.0  # prior mean number of routes denied together
OFFSET = 1.0  # nats: chance alone gives one
EVIDENCE_MAX = 14.0
SKETCH_CELLS = 56 * 96

DENIED = np.dtype(
    [
        ("bits", "u8"),  # which of 64 route classes were denied in this period
        ("since", "i4"),  # cell in which the period began
        ("fresh", "u4"),  # newly denied routes in the open cell
        ("routes", "f4"),  # decayed number of newly denied routes, open cell excluded
        ("bursts", "f4"),  # decayed number of cells that brought any
        ("exposure", "f4"),  # decayed active cells
        ("evidence", "f4"),  # as of the last committed cell
        ("now", "f4"),
    ],
    align=True,
)


@kernel
def observe(d: Any, route: int) -> float:
    """Counts one refusal of a route (a 64-bit hash); returns the nats it adds."""
    bit = np.uint64(1) << np.uint64(np.uint64(route) >> np.uint64(58))
    if d.bits & bit:
        return 0.0
    d.bits |= bit
    d.fresh += 1
    size = (d.routes + SIZE * SIZE_WEIGHT) / (d.bursts + SIZE_WEIGHT)
    nats = surprise(d.fresh, SHAPE + d.bursts, RATE + d.exposure, size)
    before = d.now
    d.now = min(EVIDENCE_MAX, max(d.now, d.evidence + max(0.0, nats - OFFSET)))
    return d.now - before


@kernel
def commit(d: Any, cell: int, cells: int, held: bool) -> None:
    """Closes the open cell, ``cells`` later than it opened; learns unless held."""
    keep = decay(cells, HALF_LIFE_CELLS)
    if not held and d.fresh > 0:
        d.routes += min(float(d.fresh), 4.0 + d.routes)  # bounded influence
        d.bursts += 1.0
    d.routes *= keep
    d.bursts *= keep
    d.exposure = (d.exposure + 1.0) * keep
    d.fresh = 0
    d.evidence = d.now * decay(cells, EVIDENCE_HALF_LIFE_CELLS)
    d.now = d.evidence
    if cell - d.since > SKETCH_CELLS:
        d.since, d.bits = cell, np.uint64(0)


class DeniedRoutes(AnomalyDetector):
    """Evidence that somebody tries routes this key is not allowed to use.

    Parameters
    ----------
    status, route, time
        Feature names: HTTP status, route text, event time in seconds since 1970 UTC.

    Examples
    --------
    >>> model = DeniedRoutes()
    >>> for i in range(400):                          # one route is refused, day after day
    ...     model = model.learn_one({"t": i * 900, "status": 403, "route": "GET /limits"})
    >>> model.score_one({"t": 400 * 900, "status": 403, "route": "GET /limits"}) < 0.1
    True
    >>> model.score_one({"t": 400 * 900, "status": 403, "route": "GET /admin/users"}) > 3
    True
    """

    def __init__(self, status: str = "status", route: str = "route", time: str = "t") -> None:
        self.status = status
        self.route = route
        self.time = time
        self._state = np.zeros(1, DENIED)
        self._cell = -1

    def _observed(self, state: Any, x: dict[str, Any]) -> int:
        from hashlib import blake2b  # the fold gets its hashes from the decoder

        cell = max(self._cell, cell_of(int(float(x[self.time]) * 1_000_000)))
        if 0 <= self._cell < cell:
            commit(state[0], cell, cell - self._cell, False)
        if int(x.get(self.status, 0)) == 403:
            digest = blake2b(str(x.get(self.route)).encode(), digest_size=8).digest()
            observe(state[0], np.uint64(int.from_bytes(digest, "big")))
        return int(cell)

    def score_one(self, x: dict[str, Any]) -> float:
        """Evidence in nats if this request came now; changes nothing."""
        if self.time not in x:
            return 0.0
        state = self._state.copy()
        self._observed(state, x)
        return float(state[0]["now"])

    def learn_one(self, x: dict[str, Any]) -> DeniedRoutes:
        """Counts one request."""
        if self.time in x:
            self._cell = self._observed(self._state, x)
        return self
