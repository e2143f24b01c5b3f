"""Rows of spans become a batch of columns: the one pipeline behind every format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from detector.core.events import I16, I64, U64, Decoded, EventBatch, Names, Rejected
from detector.decode import faults, kernels
from detector.decode.key_names import KeyNames
from detector.decode.names import ClientNames, NetworkNames, RouteNames
from detector.decode.rows import TS, Rows
from detector.decode.settings import DecodeSettings
from detector.decode.siphash import derive
from detector.decode.surroundings import Surroundings
from detector.decode.timestamp import BAD, RANGE, parse_timestamp


@dataclass(slots=True)
class Places:
    """Where each row came from: its message, its place in it, its size and the broker's time."""

    source: str
    partition: int
    offsets: I64
    index: I16
    size_bytes: I64
    broker_ms: I64


class ColumnMaker:
    """Interprets rows. Holds what is remembered between batches, which changes no result.

    ``clamped_late`` and ``clamped_future`` count event times pulled to the broker's bounds.
    """

    def __init__(self, settings: DecodeSettings) -> None:
        self._settings = settings
        self._hash_keys: U64 = np.stack([derive(settings.hash_seed, p) for p in kernels.PURPOSES])
        self._keys = KeyNames(settings)
        self._routes = RouteNames(settings)
        self._clients = ClientNames(settings)
        self._networks = NetworkNames(settings)
        self._surroundings = Surroundings(settings)
        self._scratch = np.empty(kernels.SCRATCH_BYTES, np.uint8)
        self.clamped_late = 0
        self.clamped_future = 0

    @property
    def raw_keys(self) -> int:
        """Raw keys that were fingerprinted; 0 when the log held none. See ``KeyNames``."""
        return self._keys.raw_keys

    def make(self, rows: Rows, places: Places, *, is_log: bool = False) -> Decoded:
        """The accepted rows as columns, in order, and the others as values."""
        n = len(rows.fault)
        ts_us, size_bytes = np.zeros(n, np.int64), np.zeros(n, np.int64)
        status, auth = np.zeros(n, np.int16), np.zeros(n, np.uint8)
        self._times(rows, places, ts_us, is_log)
        kernels.check_numbers(rows.buf, rows.cells, rows.fault, status, auth, size_bytes)
        values, names, no_key = self._values(rows)
        batch = EventBatch(
            ts_us=ts_us,
            status=status,
            auth=auth,
            size_bytes=size_bytes,
            offset=places.offsets,
            index=places.index,
            names=names,
            **values,
        )
        refused = np.flatnonzero(rows.fault)
        if len(refused):
            batch = batch.take(np.flatnonzero(rows.fault == 0))
        return Decoded(batch, [_rejected(rows, places, row) for row in refused.tolist()], no_key)

    def _times(self, rows: Rows, places: Places, ts_us: I64, is_log: bool) -> None:
        if kernels.read_times(rows.buf, rows.cells, is_log, ts_us, rows.fault):
            for row in np.flatnonzero(rows.fault == faults.SLOW).tolist():
                time = parse_timestamp(rows.value(row, TS))
                known = {BAD: faults.BAD_TS, RANGE: faults.TS_RANGE}
                rows.fault[row] = known.get(time, faults.OK)
                ts_us[row] = max(time, 0)
        if self._settings.trust_event_time:
            return
        late, future = kernels.clamp_times(
            ts_us,
            rows.fault,
            places.broker_ms,
            int(self._settings.late_limit_s * 1e6),
            int(self._settings.future_limit_s * 1e6),
        )
        self.clamped_late += late
        self.clamped_future += future

    def _values(self, rows: Rows) -> tuple[dict[str, npt.NDArray[Any]], Names, int]:
        n, spans = len(rows.fault), (rows.buf, rows.cells, rows.fault)
        route, ident, network, address, agent, owner = np.zeros((6, n), np.uint64)
        key = np.zeros((n, 2), np.uint64)
        number = np.full(n, -1, np.int64)
        kernels.hash_routes(*spans, self._hash_keys, self._scratch, route, ident, number)
        kernels.hash_sources(*spans, self._hash_keys, network, address, agent)
        no_key = kernels.hash_keys(*spans, self._hash_keys, key, owner)
        key_hi, key_lo, keys = self._keys.columns(rows, key, owner)
        routes, areas = self._routes.columns(rows, route)
        clients = self._clients.columns(rows, agent)
        networks = self._networks.columns(rows, network, address)
        around = self._surroundings.columns(networks.column)
        blocks = networks.names | around.names  # what is no address is its own block
        names = Names(keys, networks.names, clients.names, routes.names, areas.names, blocks)
        columns: dict[str, npt.NDArray[Any]] = {
            "key_hi": key_hi,
            "key_lo": key_lo,
            "network": networks.column,
            "client": clients.column,
            "route": routes.column,
            "area": areas.column,
            "ident": ident,
            "block": around.block,
            "number": number,
            "place": around.place,
        }
        return columns, names, no_key


def _rejected(rows: Rows, places: Places, row: int) -> Rejected:
    return faults.rejected(
        int(rows.fault[row]),
        places.source,
        places.partition,
        int(places.offsets[row]),
        int(places.index[row]),
        int(places.size_bytes[row]),
    )
