"""The unit of work: a batch of decoded events as columns.

There is no Python object per event between the wire and a candidate. A value that
matters to the statistics (network, client, route, area) travels as a 64-bit number; its
text travels once, in ``Names``, for the sentences people read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

AUTH_UNKNOWN, AUTH_OK, AUTH_FAILED = 0, 1, 2

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
U32 = npt.NDArray[np.uint32]
I16 = npt.NDArray[np.int16]
U8 = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class KeyName:
    """What people and gateways call a key. Never the secret itself.

    ``text`` is the non-secret ``key_id`` or the fingerprint of a raw key (``fp_...``);
    ``credential`` holds the gateway's own non-secret ids, for revocation.
    """

    text: str
    owner: str | None = None
    credential: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class Names:
    """Text of the hashed values of a batch. A cache: it may hold more, never less."""

    keys: dict[int, KeyName] = field(default_factory=dict)
    networks: dict[int, str] = field(default_factory=dict)
    clients: dict[int, str] = field(default_factory=dict)
    routes: dict[int, str] = field(default_factory=dict)
    areas: dict[int, str] = field(default_factory=dict)
    blocks: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EventBatch:
    """n accepted events in log order, one NumPy array per field, all of length n.

    - ``ts_us``      event time, microseconds since 1970 UTC (int64)
    - ``key_hi, key_lo``  128-bit keyed hash of the key's text; both 0 = no key
    - ``network``    /24 or /48 packed as in ``core.network``; 0 = unknown
    - ``client``     64-bit keyed hash of the client's text; 0 = unknown
    - ``route``      64-bit keyed hash of ``METHOD template``; 0 = unknown
    - ``area``       64-bit keyed hash of the leading part of the template; 0 = unknown
    - ``ident``      64-bit keyed hash of the identifiers cut out of the path; 0 = none
    - ``block``      /16, /32 or autonomous system of ``network``, packed likewise; 0 = unknown
    - ``number``     the last of those identifiers that is digits only, below 2^53; -1 = none
                     (int64)
    - ``place``      position by ``core.network.pack_place``; 0 = unknown (uint32)
    - ``status``     HTTP status; 0 = unknown (int16)
    - ``auth``       AUTH_UNKNOWN, AUTH_OK or AUTH_FAILED (uint8)
    - ``size_bytes`` response bytes; 0 = unknown (int64)
    - ``offset``     position of the message in its partition or file (int64)
    - ``index``      position of the event in its message (int16)
    """

    ts_us: I64
    key_hi: U64
    key_lo: U64
    network: U64
    client: U64
    route: U64
    area: U64
    ident: U64
    block: U64
    number: I64
    place: U32
    status: I16
    auth: U8
    size_bytes: I64
    offset: I64
    index: I16
    names: Names

    COLUMNS: ClassVar[tuple[str, ...]] = (
        "ts_us",
        "key_hi",
        "key_lo",
        "network",
        "client",
        "route",
        "area",
        "ident",
        "block",
        "number",
        "place",
        "status",
        "auth",
        "size_bytes",
        "offset",
        "index",
    )
    DTYPES: ClassVar[tuple[type[np.generic], ...]] = (
        np.int64,
        np.uint64,
        np.uint64,
        np.uint64,
        np.uint64,
        np.uint64,
        np.uint64,
        np.uint64,
        np.uint64,
        np.int64,
        np.uint32,
        np.int16,
        np.uint8,
        np.int64,
        np.int64,
        np.int16,
    )

    def __len__(self) -> int:
        return len(self.ts_us)

    def take(self, rows: npt.NDArray[np.intp] | slice) -> EventBatch:
        """The given rows, in the given order, sharing ``names``."""
        columns = {c: getattr(self, c)[rows] for c in self.COLUMNS}
        return EventBatch(**columns, names=self.names)

    @classmethod
    def empty(cls) -> EventBatch:
        """A batch of no events."""
        columns: dict[str, Any] = {
            c: np.empty(0, d) for c, d in zip(cls.COLUMNS, cls.DTYPES, strict=True)
        }
        return cls(**columns, names=Names())

    @classmethod
    def concat(cls, batches: Sequence[EventBatch]) -> EventBatch:
        """All events of ``batches``, in order; of two names for a value the first one stays."""
        names = Names()
        for batch in reversed(batches):
            for kind in Names.__slots__:
                getattr(names, kind).update(getattr(batch.names, kind))
        if not batches:
            return cls.empty()
        columns = {c: np.concatenate([getattr(b, c) for b in batches]) for c in cls.COLUMNS}
        return cls(**columns, names=names)


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Undecoded messages of one partition (or file), in order.

    ``timestamp_ms`` is the broker's record timestamp, -1 where there is none.
    """

    source: str
    partition: int
    values: Sequence[bytes]
    offsets: I64
    timestamp_ms: I64

    def __len__(self) -> int:
        return len(self.values)

    def part(self, low: int, high: int) -> RecordBatch:
        """Messages ``low`` to ``high`` - 1."""
        rows = slice(low, high)
        return RecordBatch(
            self.source,
            self.partition,
            self.values[rows],
            self.offsets[rows],
            self.timestamp_ms[rows],
        )


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that could not be decoded: a value, not an exception.

    ``reason`` is from the closed list in ``core.errors.REJECT_REASONS``; ``detail`` is one
    sentence without a raw secret; ``size_bytes`` the record's length.
    """

    source: str
    partition: int
    offset: int
    index: int
    reason: str
    detail: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a decoder made of a record batch: lines = accepted + rejected.

    ``no_key`` counts the accepted events whose key is missing; they are in ``batch``.
    """

    batch: EventBatch
    rejected: Sequence[Rejected]
    no_key: int
