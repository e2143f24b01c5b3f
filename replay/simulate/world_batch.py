"""Simulated events as the decoder's columns, without writing and reading their lines."""

from __future__ import annotations

from typing import Any

import numpy as np

from detector.core.events import AUTH_FAILED, AUTH_UNKNOWN, I64, U64, EventBatch, KeyName, Names
from detector.core.network import pack_blocks
from detector.decode.client import client_of
from detector.decode.key_names import key_hash
from detector.decode.siphash import derive, hash_text
from detector.decode.template import area_of, path_template
from replay.simulate import addresses, api
from replay.simulate.columns import EventColumns, Vocabulary, ident_texts
from replay.simulate.world_hash import hash_idents

_V4_TAG, _V6_TAG = np.uint64(1 << 60), np.uint64(2 << 60 | 0x20010DB8 << 16)


class BatchMaker:
    """Turns columns of numbers into an ``EventBatch``: each text is hashed once.

    With the seed of a decoder, the batch equals what that decoder makes of the lines.
    """

    def __init__(self, words: Vocabulary, hash_seed: bytes) -> None:
        self.names = Names()
        hashes = [key_hash(text, hash_seed) for text in words.keys]
        self._key_hi = np.array([h >> 64 for h in hashes], np.uint64)
        self._key_lo = np.array([h & (1 << 64) - 1 for h in hashes], np.uint64)
        for number, text, owner in zip(hashes, words.keys, words.owners, strict=True):
            self.names.keys[number] = KeyName(text, owner)
        self._client = self._texts(
            [client_of(c) for c in words.clients], derive(hash_seed, "client"), self.names.clients
        )
        routes = [route_text(r) for r in words.routes]
        self._route = self._texts(routes, derive(hash_seed, "route"), self.names.routes)
        areas = [area_of(text) for text in routes]
        self._area = self._texts(areas, derive(hash_seed, "area"), self.names.areas)
        self._ident_key = derive(hash_seed, "ident")
        self._kinds = np.array([r.id_kind for r in words.routes], np.int64)
        self._prefixes = np.zeros((len(words.routes), 16), np.uint8)
        for i, route in enumerate(words.routes):
            if route.id_kind == api.ID_HEX:
                prefix = route.before.rpartition("/")[2].encode()
                self._prefixes[i, : 1 + len(prefix)] = [len(prefix), *prefix]

    @staticmethod
    def _texts(texts: list[str], key: U64, names: dict[int, str]) -> U64:
        hashes = [hash_text(text, key) if text else 0 for text in texts]
        names.update((h, text) for h, text in zip(hashes, texts, strict=True) if h)
        return np.array(hashes, np.uint64)

    def batch(self, rows: EventColumns, first_offset: int) -> EventBatch:
        """The rows, in order; their offsets count from ``first_offset``."""
        n = len(rows)
        ident, number = np.empty(n, np.uint64), np.empty(n, np.int64)
        hash_idents(
            rows.route, rows.ident, self._kinds, self._prefixes, self._ident_key, ident, number
        )
        network = networks(rows.address)
        columns: dict[str, Any] = {
            "ts_us": rows.ts_us,
            "key_hi": self._key_hi[rows.key],
            "key_lo": self._key_lo[rows.key],
            "network": network,
            "block": pack_blocks(network),
            "client": self._client[rows.client],
            "route": self._route[rows.route],
            "area": self._area[rows.route],
            "ident": ident,
            "number": number,
            "place": np.zeros(n, np.uint32),
            "status": rows.status.astype(np.int16),
            "auth": np.where(rows.status == 401, AUTH_FAILED, AUTH_UNKNOWN).astype(np.uint8),
            "size_bytes": rows.size_bytes,
            "offset": first_offset + np.arange(n),
            "index": np.zeros(n, np.int16),
        }
        return EventBatch(**{c: columns[c] for c in EventBatch.COLUMNS}, names=self.names)


def networks(address: I64) -> U64:
    """Addresses of the simulation as packed networks.

    >>> from detector.core.network import network_text
    >>> found = networks(np.array([0xCB007118, addresses.V6 | 0xA1 << 16 | 9])).tolist()
    >>> [network_text(n) for n in found]
    ['203.0.113.0/24', '2001:db8:a1::/48']
    """
    raw = address.astype(np.uint64)
    v4 = _V4_TAG | raw >> np.uint64(8)
    v6 = _V6_TAG | raw >> np.uint64(16) & np.uint64(0xFFFF)
    return np.where(address < addresses.V6, v4, v6)


def route_text(route: api.Route) -> str:
    """The route as the decoder names it: method and template of a path of this route."""
    [ident] = ident_texts(np.array([route.id_kind]), np.array([8_812_340]))
    template, _ = path_template(f"{route.before}{ident}{route.after}".encode())
    return f"{route.method} {template}"
