"""A large log for benchmarks: size and skew of keys given, no story in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from detector.core.errors import UsageError
from replay.simulate import addresses, api, randomness
from replay.simulate.columns import EventColumns, Vocabulary, columns
from replay.simulate.output import write_ndjson
from replay.simulate.settings import START_US
from replay.simulate.traffic import dress

ROWS_PER_CHUNK = 100_000
KEYS_MAX = 10_000_000
ZIPF = 1.05
SPAN_US = 6 * 3600 * 1_000_000


def big_fleet(n_keys: int, n_events: int, seed: int) -> Iterator[EventColumns]:
    """``n_events`` events of ``n_keys`` keys over six hours of event time, in time order.

    Keys are Zipf 1.05, each with 1 to 50 addresses, one client and a window of 12 routes;
    lines are about 270 bytes. Memory is about 150 bytes per key plus 100 MB.
    """
    if not 1 <= n_keys <= KEYS_MAX or n_events < 0:
        raise UsageError(f"a benchmark log has 1 to {KEYS_MAX} keys and 0 or more events")
    rng = randomness.stream(seed, randomness.BIG)
    words = Vocabulary()
    words.keys = [f"key_{i:07d}" for i in range(n_keys)]
    words.owners = [None] * n_keys
    clients = np.array([words.client(c) for c in (*api.GENERIC, *api.BY_HAND)])
    ranks = np.cumsum(np.arange(1, n_keys + 1, dtype=np.float64) ** -ZIPF)
    ranks /= ranks[-1]
    number_of_rank = rng.permutation(n_keys)
    for start in range(0, n_events, ROWS_PER_CHUNK):
        n = min(ROWS_PER_CHUNK, n_events - start)
        rank = np.minimum(np.searchsorted(ranks, rng.random(n)), n_keys - 1)
        ts_us = START_US + (start + np.arange(n)) * SPAN_US // max(n_events, 1)
        yield _chunk(rng, words, clients, number_of_rank[rank], ts_us, start)


def _chunk(
    rng: np.random.Generator,
    words: Vocabulary,
    clients: npt.NDArray[np.int64],
    key: npt.NDArray[np.int64],
    ts_us: npt.NDArray[np.int64],
    serial: int,
) -> EventColumns:
    n, fixed = len(key), randomness.mix(key, 12)
    spread = (1 + fixed % np.uint64(50)).astype(np.int64)
    which = (rng.random(n) ** 2 * spread).astype(np.int64)
    spot = randomness.mix(key * 64 + which, 13).astype(np.int64) & (1 << 40) - 1
    real = len(api.routes()) - len(api.routes_where(api.GUESS_AREA))
    first = (fixed >> np.uint64(8)).astype(np.int64) % real
    route = (first + (rng.random(n) ** 2 * 12).astype(np.int64)) % real
    u = rng.random(n)
    status = np.where(u < 0.97, 200, np.where(u < 0.99, 404, 500))
    size, latency = dress(rng, route, status)
    return columns(
        words,
        ts_us=ts_us - ts_us % 1000,
        key=key,
        route=route,
        ident=rng.integers(1, 9_000_000, n),
        address=addresses.mobile_addresses(spot, spot >> 20, spot % 5),
        client=clients[(fixed >> np.uint64(32)).astype(np.int64) % len(clients)],
        status=status,
        size_bytes=size,
        latency_ms=latency,
        serial=serial + np.arange(n),
    )


def write_big_fleet(path: Path, n_keys: int, n_events: int, seed: int) -> int:
    """``big_fleet`` into a file, compressed as its name says; returns the number of lines."""
    return write_ndjson(path, big_fleet(n_keys, n_events, seed))
