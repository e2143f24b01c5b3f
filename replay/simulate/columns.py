"""Simulated events as columns, and their NDJSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from detector.core.events import I64, U64
from replay.simulate import addresses, api
from replay.simulate.randomness import mix

NO_ATTACK = -1
LATENCY_MS_MAX = 20_000  # written latencies stop here
_EPOCH_DAY = date(1970, 1, 1).toordinal()


Texts = npt.NDArray[np.object_]


def _objects(texts: Iterable[str]) -> Texts:
    return np.array(list(texts), dtype=object)


@dataclass(slots=True)
class Vocabulary:
    """Texts behind the numbers of the columns; grows while a fleet is being built.

    An empty client's text is written as ``null``.
    """

    routes: tuple[api.Route, ...] = field(default_factory=api.routes)
    keys: list[str] = field(default_factory=list)
    owners: list[str | None] = field(default_factory=list)
    clients: list[str] = field(default_factory=list)
    _client_numbers: dict[str, int] = field(default_factory=dict)
    _pieces: tuple[tuple[int, int], tuple[Texts, Texts, Texts]] | None = None

    def client(self, text: str) -> int:
        """The number of a client's text, the same for the same text."""
        number = self._client_numbers.setdefault(text, len(self.clients))
        if number == len(self.clients):
            self.clients.append(text)
        return number

    def pieces(self) -> tuple[Texts, Texts, Texts]:
        """What lines say about keys, clients and owners, by number; made once."""
        size = len(self.keys), len(self.clients)
        if self._pieces is None or self._pieces[0] != size:
            keys = (f'"key_id":{json.dumps(k)},' for k in self.keys)
            agents = (json.dumps(c) if c else "null" for c in self.clients)
            clients = (f'","user_agent":{agent},"bytes":' for agent in agents)
            owners = ("" if o is None else f',"owner":{json.dumps(o)}' for o in self.owners)
            ends = (f'"{owner}}}\n' for owner in owners)
            self._pieces = size, (_objects(keys), _objects(clients), _objects(ends))
        return self._pieces[1]


@dataclass(frozen=True, slots=True)
class EventColumns:
    """n simulated events in time order; all columns int64, of length n.

    ``ident`` is the number behind the identifier in the path, ``address`` as in
    ``simulate.addresses``, ``serial`` the event's number in the fleet (its request id),
    ``attack`` the number of the label it belongs to or ``NO_ATTACK``. The last one never
    reaches a line.
    """

    ts_us: I64
    key: I64
    route: I64
    ident: I64
    address: I64
    client: I64
    status: I64
    size_bytes: I64
    latency_ms: I64
    serial: I64
    attack: I64
    vocabulary: Vocabulary

    def __len__(self) -> int:
        return len(self.ts_us)

    def take(self, rows: npt.NDArray[np.intp] | slice) -> EventColumns:
        """The given rows, in the given order."""
        return self.with_columns(**{c: getattr(self, c)[rows] for c in COLUMNS})

    def with_columns(self, **changed: I64) -> EventColumns:
        """The same events with some columns replaced."""
        own: dict[str, Any] = {c: getattr(self, c) for c in COLUMNS} | changed
        return EventColumns(vocabulary=self.vocabulary, **own)

    def lines(self) -> list[bytes]:
        """One canonical JSON object per event, without line end."""
        return self.block().split(b"\n")[:-1]

    def block(self) -> bytes:
        """The lines in one piece, each with its line end."""
        step = 16_384  # the pieces of so many rows stay in the processor's cache
        parts = [self.take(slice(i, i + step)) for i in range(0, len(self), step)]
        return b"".join(map(_block, parts))


COLUMNS = tuple(f for f in EventColumns.__slots__ if f != "vocabulary")


def columns(vocabulary: Vocabulary, **given: Any) -> EventColumns:
    """Columns from arrays or single numbers; serials and attack default to 0 and none."""
    n = max(len(v) for v in given.values() if isinstance(v, np.ndarray))
    values = {"serial": 0, "attack": NO_ATTACK} | given
    full: dict[str, Any] = {c: np.broadcast_to(np.asarray(values[c], np.int64), n) for c in COLUMNS}
    return EventColumns(vocabulary=vocabulary, **full)


def merged(parts: Sequence[EventColumns]) -> EventColumns:
    """All rows by time; ties keep the order of ``parts``."""
    joined: dict[str, Any] = {c: np.concatenate([getattr(p, c) for p in parts]) for c in COLUMNS}
    rows = EventColumns(vocabulary=parts[0].vocabulary, **joined)
    return rows.take(np.argsort(rows.ts_us, kind="stable"))


def _block(rows: EventColumns) -> bytes:
    # Interleaving the pieces in one list and joining once is twice as fast as formatting.
    pieces = list(_pieces(rows))
    flat = [""] * (len(pieces) * len(rows))
    for i, piece in enumerate(pieces):
        flat[i :: len(pieces)] = piece
    return "".join(flat).encode()


def _pick(table: Sequence[str] | Texts, rows: I64) -> list[str]:
    return np.asarray(table, dtype=object)[rows].tolist()  # type: ignore[no-any-return]


def ident_texts(kind: I64, ident: I64) -> list[str]:
    """The identifiers as they stand in paths."""
    out: npt.NDArray[np.object_] = np.full(len(kind), "", dtype=object)
    for which in (api.ID_NUMBER, api.ID_PAGE):
        rows = kind == which
        shown = ident[rows] if which == api.ID_NUMBER else 1 + ident[rows] % 20
        out[rows] = list(map(str, shown.tolist()))
    rows = kind == api.ID_HEX
    text = mix(ident[rows], 3).astype(">u8").tobytes().hex()
    out[rows] = [text[i : i + 14] for i in range(0, len(text), 16)]
    rows = kind == api.ID_UUID
    both = np.column_stack([mix(ident[rows], 4), mix(ident[rows], 5)])
    text = both.astype(">u8").tobytes().hex()
    out[rows] = [_uuid(text[i : i + 32]) for i in range(0, len(text), 32)]
    return out.tolist()  # type: ignore[no-any-return]


def _uuid(h: str) -> str:
    return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-a{h[17:20]}-{h[20:]}"


def _hex16(hashes: U64) -> list[str]:
    text = hashes.astype(">u8").tobytes().hex()
    return [text[i : i + 16] for i in range(0, len(text), 16)]


def _pieces(rows: EventColumns) -> Iterator[list[str]]:
    """The texts that make up the lines, column by column."""
    keys, clients, ends = rows.vocabulary.pieces()
    fixed = _tables(rows.vocabulary.routes)
    second = rows.ts_us // 1_000_000
    days, day = np.unique(second // 86_400, return_inverse=True)
    yield _pick([f'{{"ts":"{date.fromordinal(_EPOCH_DAY + d)}' for d in days.tolist()], day)
    yield _pick(fixed.time_of_day, second % 86_400)
    yield _pick(fixed.millis, rows.ts_us // 1000 % 1000)
    yield _pick(keys, rows.key)
    yield _pick(fixed.before_id, rows.route)
    yield ident_texts(fixed.id_kind[rows.route], rows.ident)
    yield _pick(fixed.after_id, rows.route)
    yield _pick(fixed.status, rows.status)
    yield _pick(fixed.high, rows.address >> 16)
    yield _pick(fixed.low, rows.address >> 32 << 16 | rows.address & 0xFFFF)
    yield _pick(clients, rows.client)
    yield list(map(str, rows.size_bytes.tolist()))
    yield _pick(fixed.latency, np.minimum(rows.latency_ms, len(fixed.latency) - 1))
    yield _hex16(mix(rows.serial, 6))
    yield _pick(ends, rows.key)


@dataclass(frozen=True, slots=True)
class _Tables:
    """Pieces that do not depend on a fleet, as arrays of objects."""

    time_of_day: Texts
    millis: Texts
    before_id: Texts
    after_id: Texts
    id_kind: I64
    status: Texts
    high: Texts
    low: Texts
    latency: Texts


@cache
def _tables(table: tuple[api.Route, ...]) -> _Tables:
    return _Tables(
        _objects(f"T{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}" for s in range(86_400)),
        _objects(f'.{i:03d}Z",' for i in range(1000)),
        _objects(f'"method":"{r.method}","path":"{r.before}' for r in table),
        _objects(f'{r.after}","status":' for r in table),
        np.array([r.id_kind for r in table]),
        _objects(f'{i},"source_ip":"' for i in range(600)),
        _objects(addresses.high_texts()),
        _objects(addresses.low_texts()),
        _objects(f',"latency_ms":{i},"request_id":"' for i in range(LATENCY_MS_MAX + 1)),
    )
