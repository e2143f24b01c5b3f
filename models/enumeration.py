"""Enumeration: a key asks for identifier after identifier that it never asked for before.

Each request that carries an identifier is a Bernoulli trial, new to the key or not, judged
against the key's own usual share of new ones, so a crawler that always asks for new ones
is no news. Recently used identifiers are remembered in a Bloom filter of two generations
(Bloom, 1970): its false "seen" answers only weaken the evidence, and the usual share is
measured through the same filter. Accumulated as a CUSUM (Page, 1954).
"""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np
from river.base import AnomalyDetector

from models._jit import kernel
from models.clock import cell_of, decay

WORDS = 16  # 64-bit words of both generations: 128 bytes a key, some 130 to 260 identifiers
HALF = WORDS // 2
FILL_MAX = 205  # set bits of 512 after which a new generation begins
TEMPER = 0.3  # requests of one job are not independent witnesses
P1_MIN, P1_GAIN = 0.85, 0.6
PRIOR_NEW, PRIOR_WEIGHT = 0.7, 20.0
EVIDENCE_MAX = 20.0
HALF_LIFE_CELLS = 2688.0
EVIDENCE_HALF_LIFE_CELLS = 12.0  # 3 hours

ENUMERATION = np.dtype(
    [
        ("fresh", "f4"),  # decayed requests for identifiers new to the key
        ("total", "f4"),  # decayed requests with an identifier
        ("cell_fresh", "u4"),  # of the open cell
        ("cell_total", "u4"),
        ("bits", "u2"),  # set bits of the young generation
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
def _remember(seen: Any, e: Any, ident: int) -> bool:
    """Enters an identifier's hash; True when it was in neither generation."""
    word_a, bit_a = (ident >> np.uint64(6)) & np.uint64(HALF - 1), ident & np.uint64(63)
    word_b, bit_b = (
        (ident >> np.uint64(38)) & np.uint64(HALF - 1),
        (ident >> np.uint64(32)) & np.uint64(63),
    )
    a, b = np.uint64(1) << bit_a, np.uint64(1) << bit_b
    young = seen[word_a] & a != 0 and seen[word_b] & b != 0
    old = seen[HALF + word_a] & a != 0 and seen[HALF + word_b] & b != 0
    e.bits += (seen[word_a] & a) == 0
    seen[word_a] |= a
    e.bits += (seen[word_b] & b) == 0
    seen[word_b] |= b
    if e.bits >= FILL_MAX:
        for j in range(HALF):
            seen[HALF + j], seen[j] = seen[j], np.uint64(0)
        e.bits = 0
    return not (young or old)


@kernel
def observe(e: Any, seen: Any, ident: int) -> bool:
    """Judges and counts one request with an identifier (a 64-bit hash); True when it is new."""
    is_new = _remember(seen, e, np.uint64(ident))
    e.cell_total += 1
    e.cell_fresh += is_new
    value = e.evidence + step(is_new, share(e))
    e.evidence = min(max(value, 0.0), EVIDENCE_MAX)
    return is_new


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
        self._seen = np.zeros(WORDS, np.uint64)
        self._cell = -1

    def _observed(self, state: Any, seen: Any, x: dict[str, Any]) -> int:
        from hashlib import blake2b  # the fold gets its hashes from the decoder

        cell = max(self._cell, cell_of(int(float(x[self.time]) * 1_000_000)))
        if 0 <= self._cell < cell:
            commit(state[0], cell - self._cell, False)
        if x.get(self.ident) is not None:
            digest = blake2b(str(x[self.ident]).encode(), digest_size=8).digest()
            observe(state[0], seen, np.uint64(int.from_bytes(digest, "big")))
        return int(cell)

    def score_one(self, x: dict[str, Any]) -> float:
        """Evidence in nats if this request came now; changes nothing."""
        if self.time not in x:
            return 0.0
        state, seen = self._state.copy(), self._seen.copy()
        self._observed(state, seen, x)
        return float(state[0]["evidence"])

    def learn_one(self, x: dict[str, Any]) -> Enumeration:
        """Remembers the identifier."""
        if self.time in x:
            self._cell = self._observed(self._state, self._seen, x)
        return self
