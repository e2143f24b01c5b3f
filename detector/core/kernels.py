"""The fold: state, event -> state, evidence. One compiled loop, events in log order.

For each event: age the key to the event's cell, look its values up, score, then learn.
Scores use what was known before the event; everything about a cell is committed once,
when the key's next event falls in a later cell. So the way a log is cut into batches
cannot matter, and the evidence is complete on the very event that makes it so.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from detector.core.tables import (
    CLOSE,
    EXPIRY_CELLS,
    HARD,
    OPEN,
    PEAK,
    find_key,
    find_tag,
    mix64,
    needs_room,
    note_value,
)
from models import actor as actors_
from models import dormancy, enumeration, fusion, novelty, probing, volume
from models._jit import njit
from models.clock import CELLS_PER_DAY, cell_of, decay

LATE_US = 300_000_000  # an event later than this behind its key's newest is only counted
DAY_US = 86_400_000_000
CLOSE_AFTER_US = DAY_US  # below the floor for this long closes an episode
EPISODE_MAX_US = 7 * DAY_US
STEP_NATS = 0.25  # a new maximum is reported when it is this much higher
HOLD_CELLS = 48  # 12 hours
HOLD_SHARE = 0.6  # of the threshold: from here on nothing is learned
SUSPECT_SHARE = 0.5  # of the floor: from here on requests count as possibly leaked
ACTOR_ENTRY_MIN = 1.0  # nats of novelty that make a source worth a record of its own
ENTRY_UNIT = 16.0
VALUES_MAX = (256, 64, 500, 128)  # distinct networks, clients, routes, areas of a key
USAGE_HALF_LIFE_CELLS = 2688.0
COLD_CELLS = 3 * CELLS_PER_DAY
AUTH_FAILED = 2
STOLEN, ABUSED = 0, 1


@njit
def _new_key(s: Any, place: int, hi: int, lo: int, ts_us: int) -> int:
    slot = s.shard[0].keys
    s.index[place] = slot + 1
    s.shard[0].keys += 1
    key = s.keys[slot]
    key.hi, key.lo = hi, lo
    key.first_us = key.last_us = ts_us
    key.cell = cell_of(ts_us)
    key.hold_cell = -1
    key.hard_day = -1
    volume.born(s.volume[slot], key.cell)
    volume.open_cell(s.volume[slot], s.season[slot], key.cell)
    return slot


@njit
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
    volume.open_cell(s.volume[slot], s.season[slot], cell)


@njit
def _visit(s: Any, slot: int, kind: int, value: int, found: Any) -> bool:
    """Looks a value up and notes the visit; ``found[kind]`` = its place, -1 if none.

    True when the value is new to the key. Past the cap of a kind nothing is new.
    """
    found[kind] = -1
    if value == 0:
        return False
    key = s.keys[slot]
    tag = mix64(key.lo ^ np.uint64(kind + 1), value)
    place = find_tag(s.pairs, tag)
    if place >= 0 and key.cell - s.pairs[place].last_cell <= EXPIRY_CELLS:
        _revisit(s.pairs[place], key)
        found[kind] = place
        return False
    n = s.novelty[slot]
    if n.new[kind] + n.fresh[kind] >= VALUES_MAX[kind]:
        s.shard[0].values_over_cap += 1
        return False
    if place < 0:
        place = -1 - place
        s.shard[0].pairs += 1
    pair = s.pairs[place]
    pair.tag = tag
    pair.first_cell = pair.last_cell = key.cell
    pair.cells = pair.days = pair.entry = 0
    pair.count = 1
    if key.hold_cell < key.cell:
        pair.cells = pair.days = 1
    if key.ordinal > 1:
        nats = novelty.observe(n, kind, key.cells == 0)
        pair.entry = np.uint8(min(255.0, nats * ENTRY_UNIT))
    found[kind] = place
    note_value(s, kind, value)
    return True


@njit
def _revisit(pair: Any, key: Any) -> None:
    pair.count += 1
    if pair.last_cell == key.cell:
        return
    if key.hold_cell < key.cell:
        pair.cells = min(pair.cells + 1, 65535)
        if pair.last_cell // CELLS_PER_DAY != key.cell // CELLS_PER_DAY or pair.days == 0:
            pair.days = min(pair.days + 1, 255)
    pair.last_cell = key.cell


@njit
def _entry(s: Any, slot: int, place: int) -> float:
    """What is left of a value's surprise: it fades as the value becomes the key's own."""
    if place < 0:
        return 0.0
    pair, key = s.pairs[place], s.keys[slot]
    if pair.entry == 0:
        return 0.0
    before = pair.cells - (1 if pair.last_cell == key.cell and pair.cells > 0 else 0)
    age = key.cell - pair.first_cell
    own = actors_.established(before, pair.days, age, key.cells)
    return pair.entry / ENTRY_UNIT * (1.0 - own)


@njit
def _find_actor(s: Any, slot: int, network: int, client: int, ts_us: int, entry: float) -> int:
    """The actor's place; made when its entry is surprising enough; -1 = established."""
    key = s.keys[slot]
    tag = mix64(mix64(key.lo, network), client)
    place = find_tag(s.actors, tag)
    if place >= 0 and key.cell - s.actors[place].last_cell <= actors_.LIFE_CELLS:
        return place
    if entry < ACTOR_ENTRY_MIN:
        return -1
    if place < 0:
        place = -1 - place
        s.shard[0].actors += 1
    a = s.actors[place]
    a.tag, a.key_lo, a.network, a.client = tag, key.lo, network, client
    a.first_us, a.last_cell, a.bytes = ts_us, key.cell, 0
    a.requests = a.count = a.failed = a.foreign = 0
    a.volume = a.mix = a.route = a.area = a.concurrency = 0.0
    a.switches = a.counted = 0
    a.route_new = a.area_new = 0
    a.route_last = np.uint64(0)
    return place


@njit
def _actor_usual(s: Any, slot: int) -> float:
    """Requests a new source of this key usually makes in a cell."""
    key = s.keys[slot]
    floor = max(actors_.USUAL_FLOOR, 0.3 * s.volume[slot].mean)
    weight = actors_.USUAL_WEIGHT
    return (key.actor_sum + weight * floor) / (key.actor_weight + weight)


@njit
def _actor_event(
    s: Any, slot: int, a: Any, status: int, size_bytes: int, foreign: bool, has_area: bool
) -> None:
    """Counts one request of an actor and updates its own evidence."""
    key = s.keys[slot]
    if a.last_cell != key.cell:
        step = actors_.volume_evidence(float(a.count), _actor_usual(s, slot))
        a.volume = min(actors_.VOLUME_MAX, 0.98 * a.volume + step)
        if key.hold_cell < key.cell:
            key.actor_sum = 0.98 * key.actor_sum + a.count
            key.actor_weight = 0.98 * key.actor_weight + 1.0
        a.last_cell, a.count = key.cell, 0
    a.requests += 1
    a.count += 1
    a.bytes += size_bytes
    if 400 <= status < 500:
        a.failed += 1
    if has_area:
        weight = actors_.FOREIGN_WEIGHT
        p0 = (key.young + weight * actors_.FOREIGN_PRIOR) / (key.total + weight)
        a.mix = actors_.mix_add(a.mix, actors_.mix_step(foreign, p0))
        a.foreign += foreign


@njit
def _switch(s: Any, slot: int, actor_place: int, network: int, elapsed_us: int) -> None:
    """Two networks in turn within minutes: the owner and somebody else at once."""
    key = s.keys[slot]
    near = elapsed_us <= actors_.SWITCH_US and network != 0 and key.source != 0
    switched = near and network != key.source
    if actor_place >= 0 and switched and s.actors[actor_place].requests > 1:
        a = s.actors[actor_place]
        a.switches += 1
        step = actors_.switch_step(key.switches, key.pairs)
        a.concurrency = min(actors_.CONCURRENCY_MAX, a.concurrency + step)
    if near and key.hold_cell < key.cell:
        key.pairs += 1.0
        key.switches += switched
    key.source = network


@njit
def _learn_usage(s: Any, slot: int, area_place: int) -> None:
    """How much of the key's traffic goes to areas it has only known for a day."""
    key = s.keys[slot]
    if area_place < 0 or key.hold_cell >= key.cell:
        return
    pair = s.pairs[area_place]
    key.total += 1.0
    if pair.entry > 0 and key.cell - pair.first_cell < CELLS_PER_DAY:
        key.young += 1.0


@njit
def _gather(s: Any, slot: int, actor_place: int, found: Any, z: Any) -> None:
    """Fills ``z`` with the families' evidence as of this event."""
    n = s.novelty[slot]
    z[:] = 0.0
    z[fusion.F_VOLUME] = volume.evaluate(s.volume[slot], s.keys[slot].cell)
    z[fusion.F_PROBING] = s.probing[slot].now
    z[fusion.F_ENUMERATION] = s.enumeration[slot].evidence
    z[fusion.F_ROUTE] = n.now[novelty.ROUTE]
    z[fusion.F_AREA] = n.now[novelty.AREA]
    if actor_place < 0:
        return
    a = s.actors[actor_place]
    z[fusion.F_NETWORK] = _entry(s, slot, found[novelty.NETWORK])
    z[fusion.F_CLIENT] = _entry(s, slot, found[novelty.CLIENT])
    z[fusion.F_DORMANCY] = s.dormancy[slot].evidence
    mature = actors_.maturity(s.keys[slot].cells)
    z[fusion.F_MIX] = mature * min(a.mix, fusion.CAP) * actors_.alien(z[fusion.F_NETWORK])
    now = actors_.volume_evidence(float(a.count), _actor_usual(s, slot))
    z[fusion.F_ACTOR_VOLUME] = mature * min(a.volume + now, fusion.CAP)
    z[fusion.F_CONCURRENCY] = mature * a.concurrency


@njit
def _stolen_view(s: Any, slot: int, actor_place: int, z: Any) -> None:
    """STOLEN asks about one source: what an actor brought is its own, the rest the owner's."""
    key = s.keys[slot]
    mature = actors_.maturity(key.cells)
    route, area = key.own_route, key.own_area
    if actor_place >= 0:
        route, area = s.actors[actor_place].route, s.actors[actor_place].area
    z[fusion.F_ROUTE] = mature * min(route, fusion.CAP)
    z[fusion.F_AREA] = mature * min(area, fusion.CAP)


@njit
def _fill_row(s: Any, row: Any, slot: int, channel: int, kind: int, ts_us: int, event: int) -> None:
    key, e = s.keys[slot], s.episodes[slot, channel]
    row.kind, row.channel, row.slot, row.event = kind, channel, slot, event
    row.ts_us, row.ordinal = ts_us, key.ordinal
    row.opened_us, row.opened_ordinal = e.opened_us, e.opened_ordinal
    row.above_us, row.suspect_us = e.above_us, e.suspect_us
    row.leak_requests, row.leak_bytes = e.leak_requests, e.leak_bytes
    row.over = e.over


@njit
def _fill_evidence(s: Any, row: Any, slot: int, actor_place: int, z: Any) -> None:
    n, v, p, d = s.novelty[slot], s.volume[slot], s.probing[slot], s.dormancy[slot]
    for j in range(fusion.N_FAMILIES):
        row.z[j] = z[j]
    for kind in range(novelty.KINDS):
        row.fresh[kind] = n.fresh[kind]
        row.bursts[kind] = n.bursts[kind]
    row.exposure, row.count, row.mean = n.exposure, v.count, v.mean
    row.failing_routes = probing.distinct(p)
    row.failing_usual = (probing.SHAPE + p.bursts) / (probing.RATE + p.exposure)
    row.failed, row.gap, row.longest = p.failed, d.gap, d.longest
    e = s.enumeration[slot]
    row.idents, row.idents_new, row.idents_usual = e.cell_total, e.cell_fresh, enumeration.share(e)
    row.actor = actor_place >= 0
    if actor_place >= 0:
        a = s.actors[actor_place]
        row.network, row.client, row.route = a.network, a.client, a.route_last
        row.actor_first_us, row.actor_requests = a.first_us, a.requests
        row.actor_count, row.actor_usual = a.count, _actor_usual(s, slot)
        row.actor_foreign = a.foreign
        row.actor_route_new, row.actor_area_new = a.route_new, a.area_new
        row.actor_switches = a.switches


@njit
def expired(e: Any, clock_us: int) -> bool:
    """True when an open episode is over as of the shard's clock."""
    return (
        clock_us - e.above_us > CLOSE_AFTER_US or clock_us - e.opened_us > EPISODE_MAX_US
    ) and e.opened_us != 0


@njit
def clear(e: Any) -> None:
    """Forgets a closed episode, and its suspicion unless that is still fresh."""
    e.opened_us = 0
    e.opened_ordinal = np.uint64(0)
    e.peak = 0.0
    e.over = 0
    e.suspect_us = 0
    e.leak_requests = 0
    e.leak_bytes = 0


@njit
def _suspect(e: Any, ts_us: int) -> None:
    """Notes since when evidence has been gathering without a day's pause."""
    if e.suspect_us == 0 or ts_us - e.suspect_last_us > CLOSE_AFTER_US:
        e.suspect_us = ts_us
        if e.opened_us == 0:
            e.leak_requests, e.leak_bytes = 0, 0
    e.suspect_last_us = ts_us


@njit
def _count_leak(s: Any, e: Any, actor_place: int, size_bytes: int) -> None:
    """Counts what the suspected party took: this request, or all of a new actor's."""
    if actor_place < 0:
        e.leak_requests += 1
        e.leak_bytes += size_bytes
        return
    a = s.actors[actor_place]
    fresh = a.requests - a.counted
    e.leak_requests += fresh
    e.leak_bytes += a.bytes if fresh == a.requests else size_bytes
    a.counted = a.requests
    e.suspect_us = min(e.suspect_us, a.first_us)


@njit
def _judge(
    s: Any,
    slot: int,
    channel: int,
    actor_place: int,
    z: Any,
    limits: Any,
    ts_us: int,
    event: int,
    size_bytes: int,
    rows: Any,
    n_rows: int,
) -> int:
    """Moves the episode of one channel by one event; returns the new number of rows."""
    key, e = s.keys[slot], s.episodes[slot, channel]
    if expired(e, s.shard[0].clock_us):
        _fill_row(s, rows[n_rows], slot, channel, CLOSE, ts_us, event)
        clear(e)
        n_rows += 1
    floor, base = limits[channel, 0], limits[channel, 1]
    score = fusion.fuse(z, limits[channel, 3:])
    if score < SUSPECT_SHARE * floor:
        return n_rows
    _suspect(e, ts_us)
    if channel == ABUSED:  # the whole key is under suspicion, from the first sign on
        _count_leak(s, e, -1, size_bytes)
    if score >= HOLD_SHARE * base:
        key.hold_cell = max(key.hold_cell, key.cell + HOLD_CELLS)
    if score < floor:
        return n_rows
    if channel == STOLEN:  # one source is, its earlier requests included
        _count_leak(s, e, actor_place, size_bytes)
    cold = max(0.0, 1.0 - (key.cell - s.volume[slot].born_cell) / COLD_CELLS)
    threshold = base + limits[channel, 2] * cold
    e.above_us = ts_us
    crossed = score >= threshold and e.over == 0
    kind = PEAK
    if e.opened_us == 0:
        e.opened_us, e.opened_ordinal, kind = ts_us, key.ordinal, OPEN
    elif not crossed and score < e.peak + STEP_NATS:
        return n_rows
    e.peak = max(e.peak, score)
    e.over = e.over or crossed
    row = rows[n_rows]
    _fill_row(s, row, slot, channel, kind, ts_us, event)
    _fill_evidence(s, row, slot, actor_place, z)
    row.score, row.threshold = score, threshold
    return n_rows + 1


@njit
def _hard_fact(s: Any, slot: int, ts_us: int, event: int, rows: Any, n_rows: int) -> int:
    """A success outside the key's grants: one row per key and day."""
    day = ts_us // DAY_US
    if s.keys[slot].hard_day >= day:
        return n_rows
    s.keys[slot].hard_day = day
    _fill_row(s, rows[n_rows], slot, ABUSED, HARD, ts_us, event)
    return n_rows + 1


@njit
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
        probing.observe(s.probing[slot], b.route[i])
    if b.ident[i] != 0:
        enumeration.observe(s.enumeration[slot], s.seen[slot], b.ident[i])
    route_before, area_before = n.now[novelty.ROUTE], n.now[novelty.AREA]
    _visit(s, slot, novelty.NETWORK, b.network[i], found)
    _visit(s, slot, novelty.CLIENT, b.client[i], found)
    new_route = _visit(s, slot, novelty.ROUTE, b.route[i], found)
    new_area = _visit(s, slot, novelty.AREA, b.area[i], found)
    entry = _entry(s, slot, found[novelty.NETWORK]) + _entry(s, slot, found[novelty.CLIENT])
    place = -1
    if entry > 0.0:
        place = _find_actor(s, slot, b.network[i], b.client[i], ts_us, entry)
    route_nats = max(0.0, n.now[novelty.ROUTE] - route_before)
    area_nats = max(0.0, n.now[novelty.AREA] - area_before)
    if place >= 0:
        a, area = s.actors[place], found[novelty.AREA]
        foreign = area >= 0 and s.pairs[area].first_cell >= cell_of(a.first_us)
        foreign = foreign and s.pairs[area].entry > 0
        _actor_event(s, slot, a, status, size_bytes, foreign, area >= 0)
        a.route += route_nats
        a.area += area_nats
        a.area_new += new_area
        if new_route:
            a.route_new += 1
            a.route_last = b.route[i]
    else:
        key.own_route += route_nats
        key.own_area += area_nats
    _switch(s, slot, place, b.network[i], elapsed_us)
    _gather(s, slot, place, found, z)
    n_rows = _judge(s, slot, ABUSED, place, z, limits, ts_us, i, size_bytes, rows, n_rows)
    _stolen_view(s, slot, place, z)
    n_rows = _judge(s, slot, STOLEN, place, z, limits, ts_us, i, size_bytes, rows, n_rows)
    _learn_usage(s, slot, found[novelty.AREA])
    if b.violates[i] and 200 <= status < 300:
        n_rows = _hard_fact(s, slot, ts_us, i, rows, n_rows)
    return n_rows


@njit
def fold(s: Any, b: Any, start: int, keys_max: int, limits: Any, rows: Any) -> tuple[int, int]:
    """Folds events from ``start``; returns (next event, rows filled).

    Stops early when a table must grow or ``rows`` could overflow; the caller makes room
    and calls again. ``limits[channel]`` = (floor, threshold, cold-start extra,
    fusion weights ...).
    """
    found = np.empty(novelty.KINDS, np.int64)
    z = np.zeros(fusion.N_FAMILIES)
    n_rows, shard = 0, s.shard[0]
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
        if ts_us < key.last_us - LATE_US:
            shard.late += 1
            continue
        elapsed_us = max(0, ts_us - key.last_us)
        key.last_us = max(key.last_us, ts_us)
        n_rows = _fold_event(s, slot, elapsed_us, b, i, limits, found, z, rows, n_rows)
    return len(b.ts_us), n_rows
