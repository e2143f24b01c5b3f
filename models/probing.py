"""Probing: more *distinct* failing routes in a cell than the key's own history explains.

A broken client fails on the routes it always uses; a prober on routes the key has hardly
known for a day. So the count is of distinct young routes that answered 4xx in a 15-minute
cell, priced like novelty by how often
and how widely the key fails (``models.novelty.surprise``). 5xx never counts: outages are
not the client's.
Distinct routes are counted in a 64-bit linear-counting bitmap (Whang et al., 1990).
"""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np
from river.base import AnomalyDetector

from models._jit import kernel
from models.clock import cell_of, decay
from models.novelty import EVIDENCE_HALF_LIFE_CELLS, surprise

HALF_LIFE_CELLS = 2688.0
SHAPE, RATE = 1.0, 10.0
SIZE, SIZE_WEIGHT = 2.0, 2.0  # prior mean number of routes that fail together
DISTINCT_FULL = 6.0  # a broken client fails on one or two routes; from 1 + this many all counts
SHARE_FULL = 0.25
DRIFT = 2.0  # nats a cell loses when it closes: by chance alone a cell brings one
EVIDENCE_MAX = 20.0

PROBING = np.dtype(
    [
        ("bits", "u8"),  # which of 64 route classes failed in the open cell
        ("routes", "f4"),  # decayed number of distinct failing routes, open cell excluded
        ("bursts", "f4"),  # decayed number of cells in which any failed
        ("exposure", "f4"),  # decayed active cells
        ("evidence", "f4"),  # as of the last committed cell
        ("now", "f4"),  # evidence plus the open cell's, kept by observe and commit
        ("failed", "u4"),  # failed requests in the open cell
        ("requests", "u4"),  # all requests in it: the estimator's; the fold has volume's
    ],
    align=True,
)


@kernel
def popcount(bits: int) -> int:
    """Number of set bits of a uint64.

    >>> import numpy as np; popcount(np.uint64(0b1011))
    3
    """
    n = 0
    rest = np.uint64(bits)
    while rest:
        rest &= rest - np.uint64(1)
        n += 1
    return n


@kernel
def distinct_of(bits: int) -> float:
    """Estimated distinct routes behind a 64-bit sketch; at most 64 x log 64 = 266."""
    zeros = 64 - popcount(bits)
    return 64.0 * log(64.0 / max(1, zeros))


@kernel
def distinct(p: Any) -> float:
    """Estimated distinct failing routes of the open cell."""
    return distinct_of(p.bits)


@kernel
def burst_size(p: Any) -> float:
    """Usual number of routes that fail in a cell in which any does."""
    return (p.routes + SIZE * SIZE_WEIGHT) / (p.bursts + SIZE_WEIGHT)


@kernel
def usual(p: Any) -> float:
    """Expected number of distinct failing routes in an active cell."""
    return (SHAPE + p.bursts) / (RATE + p.exposure) * burst_size(p)


@kernel
def observe(p: Any, route: int, requests: int) -> None:
    """Counts one failed request on a route (a 64-bit hash) among a cell's requests so far.

    A busy key fails here and there on many routes; a prober mostly fails. So the evidence
    counts in full from a failing share of SHARE_FULL on.
    """
    p.failed += 1
    bit = np.uint64(1) << np.uint64(np.uint64(route) >> np.uint64(58))
    if p.bits & bit:
        return
    p.bits |= bit
    p.now = min(p.evidence + judged(p, p.bits, p.failed, requests), EVIDENCE_MAX)


@kernel
def judged(p: Any, bits: int, failed: int, requests: int) -> float:
    """Nats of ``failed`` of ``requests`` requests failing on the routes of a sketch.

    The sketch may be the whole key's or one source's; what is usual is the key's.
    """
    n = int(distinct_of(bits) + 0.5)
    nats = surprise(n, SHAPE + p.bursts, RATE + p.exposure, burst_size(p))
    nats *= min(1.0, (n - 1) / DISTINCT_FULL)
    return nats * min(1.0, failed / (SHARE_FULL * max(1, requests)))


@kernel
def commit(p: Any, cells: int, held: bool) -> None:
    """Closes the open cell, ``cells`` later than it opened; learns unless held."""
    keep = decay(cells, HALF_LIFE_CELLS)
    p.evidence = max(0.0, p.now - DRIFT) * decay(cells, EVIDENCE_HALF_LIFE_CELLS)
    p.now = p.evidence
    if not held and p.bits:
        p.routes += min(distinct(p), 4.0 + p.routes)
        p.bursts += 1.0
    p.routes *= keep
    p.bursts *= keep
    p.exposure = (p.exposure + 1.0) * keep
    p.bits = np.uint64(0)
    p.failed = p.requests = 0


class ErrorProbing(AnomalyDetector):
    """Evidence that somebody walks over routes that refuse the key.

    Parameters
    ----------
    status, route, time
        Feature names: HTTP status, route text, event time in seconds since 1970 UTC.
    young
        Feature that says whether the key has known the route for less than a day; where it is
        missing, every route counts.

    Examples
    --------
    >>> model = ErrorProbing()
    >>> for i in range(200):                         # a broken client: one failing route
    ...     model = model.learn_one({"t": i * 900, "status": 404, "route": "GET /old"})
    >>> model.score_one({"t": 200 * 900, "status": 404, "route": "GET /old"})
    0.0
    >>> for j in range(20):                          # a prober: twenty of them
    ...     model = model.learn_one({"t": 200 * 900, "status": 403, "route": f"GET /admin/{j}"})
    >>> model.score_one({"t": 200 * 900, "status": 403, "route": "GET /backup"}) > 10
    True
    """

    def __init__(
        self,
        status: str = "status",
        route: str = "route",
        time: str = "t",
        young: str = "young",
    ) -> None:
        self.status = status
        self.route = route
        self.time = time
        self.young = young
        self._state = np.zeros(1, PROBING)
        self._cell = -1

    def _observed(self, state: Any, x: dict[str, Any]) -> int:
        from hashlib import blake2b  # the fold gets its hashes from the decoder

        cell = max(self._cell, cell_of(int(float(x[self.time]) * 1_000_000)))
        if 0 <= self._cell < cell:
            commit(state[0], cell - self._cell, False)
        state[0]["requests"] += 1
        if 400 <= int(x.get(self.status, 0)) < 500 and x.get(self.young, True):
            digest = blake2b(str(x.get(self.route)).encode(), digest_size=8).digest()
            ident = np.uint64(int.from_bytes(digest, "big"))
            observe(state[0], ident, int(state[0]["requests"]))
        return int(cell)

    def score_one(self, x: dict[str, Any]) -> float:
        """Evidence in nats if this request came now; changes nothing."""
        if self.time not in x:
            return 0.0
        state = self._state.copy()
        self._observed(state, x)
        return float(state[0]["now"])

    def learn_one(self, x: dict[str, Any]) -> ErrorProbing:
        """Counts one request."""
        if self.time in x:
            self._cell = self._observed(self._state, x)
        return self
