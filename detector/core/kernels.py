"""The fold: state, event -> state, evidence. One compiled loop, events in log order.

For each event: age the key to the event's cell, look its values up, score, then learn.
Scores use what was known before the event; everything about a cell is committed once,
when the key's next event falls in a later cell. So the way a log is cut into batches
cannot matter, and the evidence is complete on the very event that makes it so.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from detector.core.episodes import ABUSED, STOLEN
from detector.core.events import AUTH_FAILED
from detector.core.kernel_episodes import gather, hard_fact, judge, stolen_view
from detector.core.kernel_sources import (
    SIZE_MAX,
    actor_event,
    entry_nats,
    find_actor,
    learn_usage,
    note_switch,
    visit,
)
from detector.core.tables import EXPIRY_CELLS, ROW, find_key, needs_room
from models import dormancy, enumeration, fusion, novelty, probing, volume
from models._jit import kernel
from models.clock import cell_of, decay

LATE_US = 300_000_000  # an event later than this behind its key's newest is only counted
USAGE_HALF_LIFE_CELLS = 2688.0
ROWS_MAX = 4096


class Scratch(NamedTuple):
    """Room the fold writes into; kernels allocate nothing."""

    rows: Any  # ROW[ROWS_MAX]: what came out
    found: Any  # int64[KINDS]: places of the event's values
    z: Any  # float64[N_FAMILIES]: evidence


def make_scratch() -> Scratch:
    """Fresh room for one shard."""
    return Scratch(
        np.zeros(ROWS_MAX, ROW), np.zeros(novelty.KINDS, np.int64), np.zeros(fusion.N_FAMILIES)
    )


@kernel
def _new_key(s: Any, place: int, hi: int, lo: int, ts_us: int) -> int:
    slot = s.shard[0].keys
    s.index[place] = slot + 1
    s.shard[0].keys += 1
    key = s.keys[slot]
    key.hi, key.lo = hi, lo
    key.first_us = key.last_us = ts_us
    key.cell = cell_of(ts_us)
    key.hold_cell = key.hard_day = -1
    key.hold_since = -(1 << 30)
    key.epoch = key.cell // EXPIRY_CELLS
    volume.born(s.volume[slot], key.cell)
    volume.open_cell(s.volume[slot], s.season[slot], key.cell)
    return slot


@kernel
def _advance(s: Any, slot: int, cell: int) -> None:
    """Commits the key's open cell and opens ``cell``."""
    key = s.keys[slot]
    gap = cell - key.cell
    held = key.hold_cell >= key.cell
    volume.commit(s.volume[slot], s.season[slot], key.cell, cell, held)
    novelty.commit(s.novelty[slot], gap, held)
    probing.commit(s.probing[slot], gap, held)
    dormancy.commit(s.dormancy[slot], gap, held)
    enumeration.commit(s.enumeration[slot], gap, held)
    keep = decay(gap, USAGE_HALF_LIFE_CELLS)
    key.young *= keep
    key.total *= keep
    fade = decay(gap, novelty.EVIDENCE_HALF_LIFE_CELLS)
    key.own_route *= fade
    key.own_area *= fade
    key.switches *= keep
    key.pairs *= keep
    key.cells += 1
    key.cell = cell
    if cell // EXPIRY_CELLS != key.epoch:
        key.epoch, key.actors = cell // EXPIRY_CELLS, 0
        for kind in range(novelty.KINDS):
            key.values[kind] = 0
    volume.open_cell(s.volume[slot], s.season[slot], cell)


@kernel
def _fold_event(
    s: Any,
    slot: int,
    elapsed_us: int,
    b: Any,
    i: int,
    limits: Any,
    found: Any,
    z: Any,
    rows: Any,
    n_rows: int,
) -> int:
    """Ages, looks up, scores and learns one event of a known key."""
    ts_us, status, size_bytes = b.ts_us[i], b.status[i], b.size_bytes[i]
    key, n = s.keys[slot], s.novelty[slot]
    cell = max(key.cell, cell_of(ts_us))
    if cell > key.cell:
        _advance(s, slot, cell)
    s.volume[slot].count += 1
    if 400 <= status < 500:
        probing.observe(s.probing[slot], b.route[i], s.volume[slot].count)
    if b.ident[i] != 0:
        enumeration.observe(s.enumeration[slot], s.seen[slot], b.ident[i])
    route_before, area_before = n.now[novelty.ROUTE], n.now[novelty.AREA]
    visit(s, slot, novelty.NETWORK, b.network[i], found)
    visit(s, slot, novelty.CLIENT, b.client[i], found)
    new_route = visit(s, slot, novelty.ROUTE, b.route[i], found)
    new_area = visit(s, slot, novelty.AREA, b.area[i], found)
    entry = entry_nats(s, slot, found[novelty.NETWORK]) + entry_nats(s, slot, found[novelty.CLIENT])
    place = -1
    if entry > 0.0:
        place = find_actor(s, slot, b.network[i], b.client[i], ts_us, entry)
    route_nats = max(0.0, n.now[novelty.ROUTE] - route_before)
    area_nats = max(0.0, n.now[novelty.AREA] - area_before)
    if place >= 0:
        a, area = s.actors[place], found[novelty.AREA]
        foreign = area >= 0 and s.pairs[area].first_cell >= cell_of(a.first_us)
        foreign = foreign and s.pairs[area].entry > 0
        actor_event(s, slot, a, status, size_bytes, foreign, area >= 0)
        a.route += route_nats
        a.area += area_nats
        a.area_new += new_area
        if new_route:
            a.route_new += 1
            a.route_last = b.route[i]
    else:
        key.own_route += route_nats
        key.own_area += area_nats
    note_switch(s, slot, place, b.network[i], elapsed_us)
    gather(s, slot, place, found, z)
    served = min(size_bytes, SIZE_MAX) if status < 400 else -1
    n_rows = judge(s, slot, ABUSED, place, z, limits, ts_us, i, served, rows, n_rows)
    stolen_view(s, slot, place, z)
    n_rows = judge(s, slot, STOLEN, place, z, limits, ts_us, i, served, rows, n_rows)
    learn_usage(s, slot, found[novelty.AREA])
    return n_rows


@kernel
def fold(
    s: Any, b: Any, start: int, keys_max: int, limits: Any, scratch: Scratch
) -> tuple[int, int]:
    """Folds events from ``start``; returns (next event, rows filled).

    Stops early when a table must grow or ``scratch.rows`` could overflow; the caller makes room
    and calls again. ``limits[channel]`` = (floor, threshold, cold-start extra,
    fusion weights ...).
    """
    n_rows, shard = 0, s.shard[0]
    rows, found, z = scratch.rows, scratch.found, scratch.z
    for i in range(start, len(b.ts_us)):
        if needs_room(s) or n_rows + 6 > len(rows):
            return i, n_rows
        ts_us = b.ts_us[i]
        shard.events += 1
        shard.clock_us = max(shard.clock_us, ts_us)
        hi, lo = b.key_hi[i], b.key_lo[i]
        if hi == 0 and lo == 0:
            shard.no_key += 1
            continue
        slot = find_key(s.index, s.keys, hi, lo)
        if b.auth[i] == AUTH_FAILED:
            shard.auth_failed += 1  # not the key's: it neither trains nor accuses its owner
            continue
        if slot < 0:
            if shard.keys >= keys_max:
                shard.keys_over_cap += 1
                continue
            slot = _new_key(s, -1 - slot, hi, lo, ts_us)
        key = s.keys[slot]
        key.ordinal += 1
        if b.violates[i] and 200 <= b.status[i] < 300:  # a fact, however late it is told
            n_rows = hard_fact(s, slot, ts_us, i, b.size_bytes[i], rows, n_rows)
        if ts_us < key.last_us - LATE_US:
            shard.late += 1
            continue
        elapsed_us = max(0, ts_us - key.last_us)
        key.last_us = max(key.last_us, ts_us)
        n_rows = _fold_event(s, slot, elapsed_us, b, i, limits, found, z, rows, n_rows)
    return len(b.ts_us), n_rows
