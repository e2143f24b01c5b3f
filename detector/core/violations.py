"""Hard facts of a batch: which events the key registry and the decoys contradict.

The registry compares texts, which is slow; its answer for a key on a route never changes. So
answers are kept in an open-addressed table by the hashes of key and route, and an event
costs one look-up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from detector.core.events import AUTH_FAILED, I16, I64, U8, U64, EventBatch
from detector.core.path_alias import prefix_id, without_prefix
from detector.core.registry import (
    DECOY,
    NO_VIOLATION,
    OUT_OF_GRANT,
    REVOKED,
    ROTATED,
    Facts,
    KeyRegistry,
)
from models._jit import njit

PAIRS_MAX = 1 << 19  # 48 bytes a pair, at most 50 MB with the free places
_ROWS = 1 << 14  # events per round: what a round may add to the table is bounded

PAIR = np.dtype(
    [
        ("hi", np.uint64),
        ("lo", np.uint64),
        ("route", np.uint64),
        ("revoked_us", np.int64),
        ("rotated_us", np.int64),
        ("is_used", np.bool_),
        ("is_decoy", np.bool_),
        ("is_outside", np.bool_),
        ("prefix", np.uint64),
    ],
    align=True,
)

NAMES = ("", "out_of_grant", "decoy", "revoked", "rotated")
_SENTENCES = (
    "",
    "successful {}, which is not among the grants declared for this key",
    "request to the decoy {}, which exists for nobody",
    "successful {} with a key that had been revoked or had expired",
    "successful {} with a key that was replaced more than 24 h before",
)


def sentence(code: int, route_text: str) -> str:
    """What happened, for people; ``route_text`` as it was logged.

    >>> sentence(DECOY, "GET /v1/internal/backup")
    'request to the decoy GET /v1/internal/backup, which exists for nobody'
    """
    return _SENTENCES[code].format(route_text)


class ViolationTable:
    """Violation codes of events. A cache: no result depends on what it has seen before.

    When more than ``PAIRS_MAX`` pairs are known, all are forgotten.
    """

    def __init__(self, registry: KeyRegistry | None) -> None:
        self._registry = registry if registry is not None and registry.has_facts else None
        self._pairs = np.zeros(1024, PAIR)
        self._count = 0

    def codes(self, batch: EventBatch) -> U8:
        """The codes of ``judge`` alone."""
        return self.judge(batch)[0]

    def judge(self, batch: EventBatch) -> tuple[U8, U64]:
        """One code of ``core.registry`` per event, ``NO_VIOLATION`` for most, and a prefix.

        The prefix (``path_alias.prefix_id``) is that of an ``OUT_OF_GRANT`` whose path is
        granted without its first segment; else 0.

        Equal to ``KeyRegistry.violation``; an event without a key or with a refused one is
        none. Success is a status of 200 to 299.
        """
        codes = np.full(len(batch), NO_VIOLATION, np.uint8)
        prefix = np.zeros(len(batch), np.uint64)
        if self._registry is not None:
            for start in range(0, len(batch), _ROWS):
                rows = slice(start, start + _ROWS)
                self._fill(self._registry, batch.take(rows), codes[rows], prefix[rows])
        return codes, prefix

    def _fill(self, registry: KeyRegistry, batch: EventBatch, codes: U8, prefix: U64) -> None:
        self._make_room(len(batch))
        places, new = np.empty((2, len(batch)), np.int64)
        wanted = _wanted(batch.status, batch.auth, registry.has_decoys)
        n_new = _places_of(
            self._pairs, batch.key_hi, batch.key_lo, batch.route, wanted, places, new
        )
        if n_new:
            facts = [_facts(registry, batch, row) for row in new[:n_new].tolist()]
            columns = list(zip(*facts, strict=True))
            for name, column in zip((*Facts._fields, "prefix"), columns, strict=True):
                self._pairs[name][places[new[:n_new]]] = column
            self._count += n_new
        _judge(self._pairs, places, batch.ts_us, batch.status, codes, prefix)

    def _make_room(self, n: int) -> None:
        if self._count > PAIRS_MAX:
            self._pairs, self._count = np.zeros(1024, PAIR), 0
        wanted = 2 * (self._count + n)
        if wanted <= len(self._pairs):
            return
        old = self._pairs[self._pairs["is_used"]]
        self._pairs = np.zeros(1 << wanted.bit_length(), PAIR)
        hi, lo, route = (np.ascontiguousarray(old[c]) for c in ("hi", "lo", "route"))
        places, new = np.empty((2, len(old)), np.int64)
        _places_of(self._pairs, hi, lo, route, np.ones(len(old), np.bool_), places, new)
        self._pairs[places] = old


def _wanted(status: I16, auth: U8, has_decoys: bool) -> npt.NDArray[np.bool_]:
    """Events that can be a violation at all."""
    wanted: npt.NDArray[np.bool_] = auth != AUTH_FAILED
    if not has_decoys:
        wanted &= (status >= 200) & (status < 300)
    return wanted


def _facts(registry: KeyRegistry, batch: EventBatch, row: int) -> tuple[int, ...]:
    """``Facts`` of a key on a route, and the prefix without which the route is granted."""
    key = batch.names.keys[int(batch.key_hi[row]) << 64 | int(batch.key_lo[row])].text
    route = batch.names.routes.get(int(batch.route[row]))
    facts = registry.facts(key, route)
    split = without_prefix(route) if facts.is_outside and route is not None else None
    if split is None or not registry.allows(key, split[1]):
        return (*facts, 0)
    return (*facts, prefix_id(split[0]))


@njit
def _places_of(pairs: Any, hi: U64, lo: U64, route: U64, wanted: Any, places: I64, new: I64) -> int:
    """Where each wanted event's pair is (-1: not wanted, or no key); missing pairs are entered.

    ``new`` gets the first row of each of these; their number is returned. The caller made room.
    """
    mask = np.uint64(len(pairs) - 1)
    n_new = 0
    for i in range(len(places)):
        places[i] = -1
        if not wanted[i] or (hi[i] == 0 and lo[i] == 0):
            continue
        at = (lo[i] ^ route[i]) & mask
        while pairs[at].is_used and not (
            pairs[at].lo == lo[i] and pairs[at].route == route[i] and pairs[at].hi == hi[i]
        ):
            at = (at + np.uint64(1)) & mask
        if not pairs[at].is_used:
            pair = pairs[at]
            pair.is_used, pair.hi, pair.lo, pair.route = True, hi[i], lo[i], route[i]
            new[n_new] = i
            n_new += 1
        places[i] = at
    return n_new


@njit
def _judge(pairs: Any, places: I64, ts_us: I64, status: I16, codes: U8, prefix: U64) -> None:
    """``KeyRegistry.violation`` of every event with a place."""
    for i in range(len(places)):
        if places[i] < 0:
            continue
        pair = pairs[places[i]]
        if pair.is_decoy:
            codes[i] = DECOY
        elif not 200 <= status[i] < 300:
            continue
        elif ts_us[i] >= pair.revoked_us:
            codes[i] = REVOKED
        elif ts_us[i] >= pair.rotated_us:
            codes[i] = ROTATED
        elif pair.is_outside:
            codes[i] = OUT_OF_GRANT
            prefix[i] = pair.prefix
