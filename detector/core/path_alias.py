"""Paths that differ only by a first segment: what a gateway's new prefix does to a log.

Routes are hashes in the fold, so their texts are compared here, once per text. The table says
of a route which other known route it becomes without its first segment; whether that means
anything for a key is the fold's to say (``core.kernel_log``).
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import numpy as np

from models._jit import kernel

TEXTS_MAX = 200_000  # route texts compared per shard; later ones get no alias
ALIAS = np.dtype([("tag", "u8"), ("plain", "u8"), ("prefix", "u8")], align=True)


def without_prefix(route_text: str) -> tuple[str, str] | None:
    """The first segment of a route's path, and the route without it; ``None`` if nothing is left.

    >>> without_prefix("GET /api/v1/orders/{id}"), without_prefix("GET /health")
    (('/api', 'GET /v1/orders/{id}'), None)
    """
    method, _, path = route_text.partition(" ")
    head, _, rest = path[1:].partition("/")
    if not path.startswith("/") or not head or head[0] == "{" or not rest:
        return None
    return f"/{head}", f"{method} /{rest}"


def prefix_id(prefix: str) -> int:
    """A number for a prefix: the same in every process, never 0."""
    return int.from_bytes(blake2b(prefix.encode(), digest_size=8).digest(), "big") or 1


class PathAliases:
    """The alias of every route text met so far. What it has not met is known to no key.

    ``table`` is for the kernels; ``prefixes`` has the texts of their prefixes.
    """

    def __init__(self) -> None:
        self.table = np.zeros(64, ALIAS)
        self.prefixes: dict[int, str] = {}
        self._hash_of: dict[str, int] = {}
        self._known: set[int] = set()
        self._waiting: dict[str, list[tuple[int, str]]] = {}
        self._count = 0

    def learn(self, routes: Mapping[int, str]) -> None:
        """Takes in the route texts of a batch, by hash."""
        new = [h for h in routes if h not in self._known]
        for value in new[: max(0, TEXTS_MAX - len(self._known))]:
            text = routes[value]
            self._known.add(value)
            self._hash_of[text] = value
            for longer, prefix in self._waiting.pop(text, ()):
                self._enter(longer, value, prefix)
            split = without_prefix(text)
            if split is None:
                continue
            prefix, plain = split
            if plain in self._hash_of:
                self._enter(value, self._hash_of[plain], prefix)
            else:
                self._waiting.setdefault(plain, []).append((value, prefix))

    def _enter(self, value: int, plain: int, prefix: str) -> None:
        if 2 * (self._count + 1) > len(self.table):
            old = self.table[self.table["tag"] != 0]
            self.table = np.zeros(2 * len(self.table), ALIAS)
            for row in old:
                _put(self.table, row["tag"], row["plain"], row["prefix"])
        number = prefix_id(prefix)
        self.prefixes[number] = prefix
        _put(self.table, np.uint64(value), np.uint64(plain), np.uint64(number))
        self._count += 1


@kernel
def find_alias(table: Any, route: Any) -> Any:
    """Place of a route's alias, -1 if it has none."""
    mask = np.uint64(len(table) - 1)
    at = np.uint64(route) & mask
    while table[at].tag != 0:
        if table[at].tag == route:
            return np.int64(at)
        at = (at + np.uint64(1)) & mask
    return -1


@kernel
def _put(table: Any, route: Any, plain: Any, prefix: Any) -> None:
    mask = np.uint64(len(table) - 1)
    at = np.uint64(route) & mask
    while table[at].tag != 0 and table[at].tag != route:
        at = (at + np.uint64(1)) & mask
    table[at].tag, table[at].plain, table[at].prefix = route, plain, prefix
