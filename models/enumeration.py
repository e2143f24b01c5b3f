"""Enumeration: a key asks for identifier after identifier that it never asked for before.

Each request that carries an identifier is a Bernoulli trial, new to the key or not, judged
against the key's own usual share of new ones, so a crawler that always asks for new ones
is no news. What a key asked for is remembered by ``models.memory``; the usual share is measured
through the same memory. Accumulated as a CUSUM (Page, 1954).
"""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np
from river.base import AnomalyDetector

from models import memory
from models._jit import kernel
from models.clock import cell_of, decay

TEMPER = 0.3  # requests of one job are not independent witnesses
P1_MIN, P1_GAIN = 0.85, 0.6
PRIOR_NEW, PRIOR_WEIGHT = 0.7, 20.0
EVIDENCE_MAX = 20.0
HALF_LIFE_CELLS = 672.0  # 7 days: a growing memory knows more every week
EVIDENCE_HALF_LIFE_CELLS = 12.0  # 3 hours

ENUMERATION = np.dtype(
    [
        ("fresh", "f4"),  # decayed requests for identifiers new to the key
        ("total", "f4"),  # decayed requests with an identifier
        ("cell_fresh", "u4"),  # of the open cell
        ("cell_total", "u4"),
        ("evidence", "f4"),
    ],
    align=True,
)


@kernel
def share(e: Any) -> float:
    """Usual share of identifiers new to the key, open cell excluded."""
    return (e.fresh + PRIOR_NEW * PRIOR_WEIGHT) / (e.total + PRIOR_WEIGHT)


@kernel
def step(is_new: bool, usual: float) -> float:
    """Tempered nats of one identifier, new to the key or not.

    >>> step(True, 0.2) > 0 > step(False, 0.2)
    True
    >>> step(True, 0.95) < 0.02                        # a crawler: always new, no news
    True
    """
    p0 = min(max(usual, 0.02), 0.98)
    p1 = max(P1_MIN, p0 + P1_GAIN * (1.0 - p0))
    if p1 <= p0:
        return 0.0
    return TEMPER * (log(p1 / p0) if is_new else log((1.0 - p1) / (1.0 - p0)))


@kernel
def observe(e: Any, is_new: bool) -> None:
    """Judges and counts one request with an identifier, new to the key or not."""
    e.cell_total += 1
    e.cell_fresh += is_new
    value = e.evidence + step(is_new, share(e))
    e.evidence = min(max(value, 0.0), EVIDENCE_MAX)


@kernel
def commit(e: Any, cells: int, held: bool) -> None:
    """Closes the open cell, ``cells`` later than it opened; learns unless held."""
    if not held:
        weight = min(1.0, (10.0 + 0.1 * e.total) / max(1, e.cell_total))  # bounded influence
        e.fresh += weight * e.cell_fresh
        e.total += weight * e.cell_total
    keep = decay(cells, HALF_LIFE_CELLS)
    e.fresh *= keep
    e.total *= keep
    e.evidence *= decay(cells, EVIDENCE_HALF_LIFE_CELLS)
    e.cell_fresh = e.cell_total = 0


class Enumeration(AnomalyDetector):
    """Evidence that a key walks over objects it has never touched.

    Parameters
    ----------
    ident, time
        Feature names: the identifier in the request, event time in seconds since 1970 UTC.

    Examples
    --------
    >>> model = Enumeration()
    >>> for i in range(400):                          # twenty customers, over and over
    ...     model = model.learn_one({"t": i * 300, "ident": i % 20})
    >>> for i in range(60):                           # then all the others, one by one
    ...     model = model.learn_one({"t": 400 * 300, "ident": 1000 + i})
    >>> model.score_one({"t": 400 * 300, "ident": 2000}) > 10
    True
    """

    def __init__(self, ident: str = "ident", time: str = "t") -> None:
        self.ident = ident
        self.time = time
        self._state = np.zeros(1, ENUMERATION)
        self._memory = np.zeros(1, memory.MEMORY)
        self._pages: dict[tuple[int, int], Any] = {}
        self._cell = -1

    def _commit(self, state: Any, cell: int) -> None:
        if 0 <= self._cell < cell:
            commit(state[0], cell - self._cell, False)

    def _ident(self, x: dict[str, Any]) -> Any:
        from hashlib import blake2b  # the fold gets its hashes from the decoder

        digest = blake2b(str(x[self.ident]).encode(), digest_size=8).digest()
        return np.uint64(int.from_bytes(digest, "big"))

    def _page(self, generation: int, level: int, ident: Any) -> Any:
        number = int(memory.page_number(ident, level))
        return self._pages.get((generation, number))

    def _is_new(self, ident: Any) -> bool:
        m = self._memory[0]
        young, old = int(m["generation"]), int(m["generation"]) - 1
        for generation, level in ((young, m["level"]), (old, m["old_level"])):
            page = self._page(generation, int(level), ident)
            if page is not None and memory.holds(page[0], ident):
                return False
        return True

    def _remember(self, ident: Any) -> None:
        m = self._memory[0]
        at = int(m["generation"]), int(memory.page_number(ident, int(m["level"])))
        page = self._pages.setdefault(at, np.zeros(1, memory.PAGE))
        added = memory.enter(page[0], ident)
        memory.note_bits(m, added, share(self._state[0]))
        self._pages = {k: p for k, p in self._pages.items() if k[0] >= int(m["generation"]) - 1}

    def score_one(self, x: dict[str, Any]) -> float:
        """Evidence in nats if this request came now; changes nothing."""
        if self.time not in x:
            return 0.0
        state = self._state.copy()
        self._commit(state, self._cell_of(x))
        if x.get(self.ident) is not None:
            observe(state[0], self._is_new(self._ident(x)))
        return float(state[0]["evidence"])

    def learn_one(self, x: dict[str, Any]) -> Enumeration:
        """Remembers the identifier."""
        if self.time not in x:
            return self
        cell = self._cell_of(x)
        self._commit(self._state, cell)
        self._cell = cell
        if x.get(self.ident) is not None:
            ident = self._ident(x)
            is_new = self._is_new(ident)
            self._remember(ident)
            observe(self._state[0], is_new)
        return self

    def _cell_of(self, x: dict[str, Any]) -> int:
        return max(self._cell, cell_of(int(float(x[self.time]) * 1_000_000)))
