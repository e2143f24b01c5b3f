"""From events to a log: attacks merged in, faults of the log applied, put in arrival order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from detector.core.events import I64
from replay.simulate import api, randomness
from replay.simulate.columns import COLUMNS, EventColumns
from replay.simulate.settings import DAY_US, MINUTE_US
from replay.simulate.world_plan import NOBODY, LogChange, Plan, Wire
from replay.simulate.world_settings import CELL_US, START_US
from replay.simulate.world_traffic import Background

# A skewed clock moves events across the end of a chunk: so much is held back for the next one.
HELD_US = 11 * MINUTE_US
PREFIX = "/api"
PROXY = 10 << 24 | 7


def route_table(plan: Plan) -> tuple[api.Route, ...]:
    """The routes of a world: the second half of a world whose paths get a prefix."""
    table = api.routes()
    if not any(change.what == "path" for change in plan.log_changes):
        return table
    return table + tuple(replace(r, before=PREFIX + r.before) for r in table)


class Log:
    """The lines of a world, chunk by chunk, each chunk of bounded size."""

    def __init__(self, plan: Plan, extra: EventColumns | None) -> None:
        self._plan, self._extra = plan, extra
        self._background = Background(plan)
        seed = np.array([plan.settings.seed & (1 << 62) - 1])
        self._serial = int(randomness.mix(seed, 11)[0] >> 2)
        self._nobody = plan.words.client(NOBODY)

    def chunks(self) -> Iterator[EventColumns]:
        """All events in order of arrival, which is that of time unless a shipment was late."""
        cells = self._background.cells
        n_chunks = -(-self._plan.settings.days * (DAY_US // CELL_US) // cells)
        held: EventColumns | None = None
        arrival = np.empty(0, np.int64)
        for chunk in range(n_chunks):
            start_us = START_US + chunk * cells * CELL_US
            end_us = start_us + cells * CELL_US
            rows, arrives = self._arriving(chunk, start_us, end_us)
            if held is not None:
                rows, arrives = joined([held, rows]), np.concatenate([arrival, arrives])
            order = np.lexsort((rows.ts_us, arrives))  # a shipment keeps its own order
            limit_us = end_us - HELD_US if chunk < n_chunks - 1 else 1 << 62
            cut = int(np.searchsorted(arrives[order], limit_us))
            held, arrival = rows.take(order[cut:]), arrives[order[cut:]]
            yield rows.take(order[:cut])

    def _arriving(self, chunk: int, start_us: int, end_us: int) -> tuple[EventColumns, I64]:
        rows = self._background.rows(chunk)
        if self._extra is not None:
            lo, hi = np.searchsorted(self._extra.ts_us, [start_us, end_us])
            if hi > lo:
                rows = joined([rows, self._extra.take(slice(int(lo), int(hi)))])
        rows = rows.with_columns(serial=self._serial + np.arange(len(rows)))
        self._serial += len(rows)
        for change in self._plan.log_changes:
            rows = _changed(rows, change, self._nobody)
        arrives = rows.ts_us
        for wire in self._plan.wires:
            if wire.start_us < end_us and wire.end_us > start_us:
                rows, arrives = _faulty(rows, arrives, wire)
        return rows, arrives


def joined(parts: list[EventColumns]) -> EventColumns:
    """All rows, part after part."""
    columns: dict[str, Any] = {c: np.concatenate([getattr(p, c) for p in parts]) for c in COLUMNS}
    return EventColumns(vocabulary=parts[0].vocabulary, **columns)


def _changed(rows: EventColumns, change: LogChange, nobody: int) -> EventColumns:
    hit = (rows.ts_us >= change.at_us) & (rows.ts_us < change.end_us)
    if change.what == "client":
        return rows.with_columns(client=np.where(hit, nobody, rows.client))
    if change.what == "path":
        return rows.with_columns(route=rows.route + len(api.routes()) * hit)
    return rows.with_columns(address=np.where(hit, PROXY, rows.address))


def _faulty(rows: EventColumns, arrives: I64, wire: Wire) -> tuple[EventColumns, I64]:
    inside = (rows.ts_us >= wire.start_us) & (rows.ts_us < wire.end_us)
    hit = inside & np.isin(rows.key, wire.keys)
    if wire.what == "copy":
        again = np.flatnonzero(hit)
        return joined([rows, rows.take(again)]), np.concatenate([arrives, arrives[again]])
    if wire.what == "late":
        return rows, np.where(hit, wire.end_us, arrives)
    hit &= randomness.mix(rows.serial, 15) % np.uint64(2) == 0
    ts_us = np.where(hit, rows.ts_us + wire.skew_us, rows.ts_us)
    return rows.with_columns(ts_us=ts_us), ts_us
