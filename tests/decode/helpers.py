"""Small doors to the decoders: lists of bytes in, lists of plain values out."""

from __future__ import annotations

import json

import numpy as np

from detector.core.events import Decoded, EventBatch, RecordBatch
from detector.core.network import network_text
from detector.decode import DecodeSettings, make_decoder

SEED = b"a seed of 16 byte"
PEPPER = b"a pepper"
TS = "2026-09-21T14:15:23Z"
TS_US = 1_790_000_123_000_000


def settings(**changes) -> DecodeSettings:
    return DecodeSettings(**{"hash_seed": SEED, "pepper": PEPPER} | changes)


def records(values, *, first=0, timestamp_ms=-1, source="file.ndjson", partition=3) -> RecordBatch:
    n = len(values)
    broker = np.full(n, timestamp_ms, np.int64)
    return RecordBatch(source, partition, list(values), np.arange(first, first + n), broker)


def event(**fields) -> bytes:
    """One canonical event; a field ``ts`` is added unless given."""
    return json.dumps({"ts": TS} | fields).encode()


def decode(*values, form="canonical", timestamp_ms=-1, **changes) -> Decoded:
    decoder = make_decoder(form, settings(**changes))
    return decoder.decode(records(values, timestamp_ms=timestamp_ms))


def shown(batch: EventBatch) -> list[dict]:
    """Each event with its hashes replaced by their texts (None = 0)."""
    names, out = batch.names, []
    for i in range(len(batch)):
        key = int(batch.key_hi[i]) << 64 | int(batch.key_lo[i])
        network, block = int(batch.network[i]), int(batch.block[i])
        out.append(
            {
                "ts_us": int(batch.ts_us[i]),
                "key": names.keys[key].text if key else None,
                "network": network_text(network, names.networks) if network else None,
                "client": names.clients[int(batch.client[i])] if batch.client[i] else None,
                "route": names.routes[int(batch.route[i])] if batch.route[i] else None,
                "area": names.areas[int(batch.area[i])] if batch.area[i] else None,
                "has_ident": bool(batch.ident[i]),
                "block": network_text(block, names.blocks) if block else None,
                "number": int(batch.number[i]),
                "place": int(batch.place[i]),
                "status": int(batch.status[i]),
                "auth": int(batch.auth[i]),
                "size_bytes": int(batch.size_bytes[i]),
                "offset": int(batch.offset[i]),
                "index": int(batch.index[i]),
            }
        )
    return out


def one(**fields) -> dict:
    """The single event that these fields decode to."""
    decoded = decode(event(**fields))
    assert not decoded.rejected
    (only,) = shown(decoded.batch)
    return only


def reasons(decoded: Decoded) -> list[str]:
    return [r.reason for r in decoded.rejected]


def same(a: EventBatch, b: EventBatch) -> bool:
    """Equal columns, and equal names for every value in them."""
    columns = all(np.array_equal(getattr(a, c), getattr(b, c)) for c in EventBatch.COLUMNS)
    return columns and shown(a) == shown(b)
