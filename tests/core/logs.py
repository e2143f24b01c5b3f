"""Small logs as columns, made from a seed: several keys, a few of them abused."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from detector.core.events import EventBatch, KeyName, Names
from detector.core.network import pack_blocks, pack_v4

START_US = 1_790_035_200_000_000  # a Tuesday, 00:00 UTC
MINUTE_US = 60_000_000


def h64(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def batch_of(
    rows: list[tuple[int, str, str, str, str, int]],
    numbers: Sequence[int] = (),
    places: Sequence[int] = (),
) -> EventBatch:
    """Rows are (ts_us, key, network as a.b.c, client, route, status), in log order.

    ``numbers`` and ``places`` are those columns; none given = none in any request.
    """
    names = Names()
    columns = {
        c: np.zeros(len(rows), d)
        for c, d in zip(EventBatch.COLUMNS, EventBatch.DTYPES, strict=True)
    }
    for i, (ts_us, key, network, client, route, status) in enumerate(rows):
        columns["ts_us"][i], columns["status"][i], columns["offset"][i] = ts_us, status, i
        columns["size_bytes"][i] = 1000
        if key:
            hi, lo = h64("hi" + key), h64("lo" + key)
            columns["key_hi"][i], columns["key_lo"][i] = hi, lo
            names.keys[hi << 64 | lo] = KeyName(key)
        a, b, c = (int(part) for part in network.split("."))
        columns["network"][i] = pack_v4(a << 24 | b << 16 | c << 8)
        area = "/" + "/".join(route.split(" ")[1].split("/")[1:3])
        for field, table, text in (
            ("client", names.clients, client),
            ("route", names.routes, route),
            ("area", names.areas, area),
        ):
            columns[field][i] = h64(field + text)
            table[h64(field + text)] = text
    columns["block"] = pack_blocks(columns["network"])
    columns["number"][:] = numbers or -1
    columns["place"][:] = places or 0
    return EventBatch(**columns, names=names)


def fleet_log(seed: int, keys: int = 12, hours: int = 60) -> EventBatch:
    """Ordinary keys with their own sources and routes; a thief and a prober near the end."""
    rng = np.random.default_rng(seed)
    rows = []
    for k in range(keys):
        rate = float(rng.lognormal(0.3, 0.8))
        routes = [f"GET /v1/thing{k % 4}/{r}" for r in range(int(rng.integers(2, 6)))]
        for minute in np.flatnonzero(rng.random(hours * 60) < min(0.5, rate / 15)):
            ts_us = START_US + int(minute) * MINUTE_US + int(rng.integers(0, MINUTE_US))
            status = 404 if rng.random() < 0.02 else 200
            route = routes[int(rng.integers(len(routes)))]
            rows.append(
                (ts_us, f"key{k}", f"10.{k}.{int(rng.integers(2))}", "sdk/2", route, status)
            )
    late_us = START_US + (hours - 2) * 60 * MINUTE_US
    for j in range(120):
        ts_us = late_us + j * 20_000_000
        rows.append((ts_us, "key0", "198.51.100", "curl/8", f"GET /v2/dump{j % 9}/{j % 3}", 200))
        rows.append((ts_us + 7, "key1", "10.1.0", "sdk/2", f"GET /admin/{j}/x", 403))
        rows.append((ts_us + 9, "", "10.9.9", "bot/1", "GET /health", 200))
    return batch_of(sorted(rows))
