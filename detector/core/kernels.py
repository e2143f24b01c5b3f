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
from detector.core.kernel_actors import (
    SIZE_MAX,
    actor_mix,
    actor_objects,
    actor_request,
    find_actor,
    note_place,
    note_switch,
    own_mix,
    own_values,
    places_of,
)
from detector.core.kernel_episodes import (
    Judge,
    hard_fact,
    judge,
    judge_refused,
    judge_throttle,
)
from detector.core.kernel_evidence import gather, observe_surge, stolen_view
from detector.core.kernel_fields import (
    BY_CLIENT,
    BY_NETWORK,
    before_commit,
    clear_paths,
    note_field,
    note_prefix,
    plain_route,
)
from detector.core.kernel_identifiers import is_new
from detector.core.kernel_silence import note_return
from detector.core.kernel_sources import entry_nats, is_settled, is_young, learn_usage, visit
from detector.core.rows import ROW
from detector.core.settings import OFF_ACTORS
from detector.core.tables import EXPIRY_CELLS, GONE, find_key, find_tag, mix64, needs_room
from models import (
    auth,
    combination,
    denied,
    dormancy,
    enumeration,
    misses,
    novelty,
    probing,
    sequence,
    silence,
    slow,
    surge,
    volume,
)
from models._jit import kernel
from models.clock import CELLS_PER_DAY, cell_of, decay

LATE_US = 300_000_000  # an event later than this behind its key's newest is only counted
USAGE_HALF_LIFE_CELLS = 2688.0
ROWS_MAX = 4096
TRIES_MAKE_A_KEY = 8  # refused tries before an unknown key gets state of its own


class Scratch(NamedTuple):
    """Room the fold writes into; kernels allocate nothing."""

    rows: Any  # ROW[ROWS_MAX]: what came out
    found: Any  # int64[KINDS]: places of the event's values
    z: Any  # float64[N_FEATURES]: evidence, then context


class Rules(NamedTuple):
    """What a score is made and judged by, in force from a cell on; one set, or some more.

    ``limits[set, channel]`` = (floor, threshold, cold-start extra, fusion weights ...).
    """

    since_cell: Any  # int64[sets], ascending; the first is in force from the beginning
    limits: Any
    trees: combination.Trees


@kernel
def in_force(since_cell: Any, cell: int) -> int:
    """Which set of rules counts for an event of this cell."""
    at = len(since_cell) - 1
    while at > 0 and since_cell[at] > cell:
        at -= 1
    return at


def make_scratch() -> Scratch:
    """Fresh room for one shard."""
    return Scratch(
        np.zeros(ROWS_MAX, ROW), np.zeros(novelty.KINDS, np.int64), np.zeros(combination.N_FEATURES)
    )


@kernel
def new_key(s: Any, place: int, hi: int, lo: int, ts_us: int) -> int:
    """Slot of a key that begins now; ``place`` is its free one in the index."""
    slot = s.shard[0].keys
    s.index[place] = slot + 1
    s.shard[0].keys += 1
    key = s.keys[slot]
    key.hi, key.lo = hi, lo
    key.first_us = key.last_us = ts_us
    _begin(s, slot, cell_of(ts_us))
    return slot


@kernel
def _begin(s: Any, slot: int, cell: int) -> None:
    """A life of which nothing is known yet begins in this cell."""
    key = s.keys[slot]
    key.cell = cell
    key.hold_cell = -1
    key.hold_since = GONE
    key.epoch = cell // EXPIRY_CELLS
    volume.born(s.volume[slot], cell)
    volume.open_cell(s.volume[slot], s.season[slot], cell)


@kernel
def _advance(s: Any, slot: int, cell: int) -> None:
    """Commits the key's open cell and opens ``cell``."""
    key = s.keys[slot]
    if key.cell < 0:  # it was reset
        _begin(s, slot, cell)
        return
    gap = cell - key.cell
    held = key.hold_cell >= key.cell
    v = s.volume[slot]
    key.expected += v.mean
    if gap > 1:
        key.expected += (gap - 1) * volume.level_per_cell(v, key.cell)
    silence.wake(s.silence[slot], v, s.season[slot], key.cell, cell, held)
    surge.commit(s.surge[slot], float(v.count), v.mean, gap, held)
    volume.commit(s.volume[slot], s.season[slot], key.cell, cell, held)
    before_commit(s, slot)
    novelty.commit(s.novelty[slot], gap, held)
    probing.commit(s.probing[slot], gap, held)
    dormancy.commit(s.dormancy[slot], gap, held)
    enumeration.commit(s.enumeration[slot], gap, held)
    sequence.commit(s.sequence[slot], gap, held)
    denied.commit(s.denied[slot], cell, gap, held)
    misses.commit(s.misses[slot], gap, held)
    if cell // CELLS_PER_DAY > s.slow[slot].day:
        slow.close_day(s.slow[slot], cell // CELLS_PER_DAY, held)
    keep = decay(gap, USAGE_HALF_LIFE_CELLS)
    key.young *= keep
    key.young_route *= keep
    key.newborn *= keep
    key.newborn_route *= keep
    key.total *= keep
    key.switches *= keep
    key.pairs *= keep
    key.leaps *= keep
    key.moves *= keep
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
    by: Judge,
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
        n_rows = note_return(s, slot, cell, key.last_us - elapsed_us, rows, n_rows)
        _advance(s, slot, cell)
    s.volume[slot].count += 1
    observe_surge(s, slot)
    is_fresh, step_nats = -1, 0.0
    if b.ident[i] != 0:
        is_fresh = int(is_new(s, slot, b.ident[i]))
        enumeration.observe(s.enumeration[slot], is_fresh == 1)
    if b.number[i] >= 0:
        step_nats = sequence.observe(s.sequence[slot], b.number[i])
    failed = 400 <= status < 500
    missed_nats = misses.observe(s.misses[slot], is_fresh == 1, failed)
    route = plain_route(s, slot, b.aliases, b.route[i], status)
    area = b.area[i] if route == b.route[i] else np.uint64(0)
    n_rows = note_prefix(s, slot, ts_us, i, rows, n_rows)
    route_before, area_before = n.now[novelty.ROUTE], n.now[novelty.AREA]
    visit(s, slot, novelty.NETWORK, b.network[i], found)
    visit(s, slot, novelty.BLOCK, b.block[i], found)
    visit(s, slot, novelty.CLIENT, b.client[i], found)
    new_route = visit(s, slot, novelty.ROUTE, route, found)
    new_area = visit(s, slot, novelty.AREA, area, found)
    slow.observe(s.slow[slot], size_bytes, is_fresh == 1, is_settled(s, slot, found))
    denied_nats = _judge_refusals(s, slot, route, status, found)
    n_rows = _note_fields(s, slot, b, i, found, rows, n_rows)
    place = _actor_of(s, slot, b, i, ts_us, found)
    route_nats = max(0.0, n.now[novelty.ROUTE] - route_before)
    area_nats = max(0.0, n.now[novelty.AREA] - area_before)
    if place >= 0:
        a = s.actors[place]
        clear_paths(s, slot, a)
        young = is_young(s, key, found[novelty.ROUTE])
        actor_request(s, slot, a, status, size_bytes, route, young)
        a.denied = min(denied.EVIDENCE_MAX, a.denied + denied_nats)
        actor_mix(s, slot, a, found)
        actor_objects(s, slot, a, is_fresh, step_nats, missed_nats)
        _note_paths(a, route, route_nats, area_nats, new_route, new_area)
    else:
        key.owned += 1.0
        own_mix(s, slot, found)
        own_values(s, found)
    beside = note_switch(s, slot, place, b.network[i], elapsed_us)
    note_place(s, slot, place, b.place[i], ts_us)
    gather(s, slot, place, found, ts_us, z)
    served = min(size_bytes, SIZE_MAX) if status < 400 else -1
    n_rows = judge(s, slot, ABUSED, place, z, by, ts_us, i, served, rows, n_rows)
    n_rows = judge_throttle(s, slot, place, z, by, ts_us, i, served, rows, n_rows)
    learn_usage(s, slot, found)
    if beside >= 0:  # the owner is back, beside an actor: that actor is what STOLEN asks about
        place, served = beside, -1
        places_of(s, slot, s.actors[place], found)
        gather(s, slot, place, found, ts_us, z)
    stolen_view(s, slot, place, z)
    return judge(s, slot, STOLEN, place, z, by, ts_us, i, served, rows, n_rows)


@kernel
def _note_paths(
    a: Any, route: int, route_nats: float, area_nats: float, new_route: bool, new_area: bool
) -> None:
    """What of the API an actor brought to its key."""
    a.route += route_nats
    a.area += area_nats
    a.area_new += new_area
    if new_route:
        a.route_new += 1
        a.route_last = route


@kernel
def _note_fields(s: Any, slot: int, b: Any, i: int, found: Any, rows: Any, n_rows: int) -> int:
    """Whether all the key's requests lately show another network or client, or none."""
    for aspect in (BY_NETWORK, BY_CLIENT):
        kind = novelty.NETWORK if aspect == BY_NETWORK else novelty.CLIENT
        value = b.network[i] if aspect == BY_NETWORK else b.client[i]
        entry = entry_nats(s, slot, found[kind])
        n_rows = note_field(s, slot, aspect, value, entry, kind, b.ts_us[i], i, rows, n_rows)
    s.fields[slot].block = b.block[i]
    return n_rows


@kernel
def _judge_refusals(s: Any, slot: int, route: int, status: int, found: Any) -> float:
    """4xx and 403 on routes the key has hardly known for a day."""
    if not 400 <= status < 500:
        return 0.0
    if not is_young(s, s.keys[slot], found[novelty.ROUTE]):
        return 0.0
    probing.observe(s.probing[slot], route, s.volume[slot].count)
    return denied.observe(s.denied[slot], route) if status == 403 else 0.0


@kernel
def _actor_of(s: Any, slot: int, b: Any, i: int, ts_us: int, found: Any) -> int:
    """The place of the source's record when the source is not the key's own, else -1."""
    network = entry_nats(s, slot, found[novelty.NETWORK])
    block = entry_nats(s, slot, found[novelty.BLOCK])
    entry = max(network, block) + entry_nats(s, slot, found[novelty.CLIENT])
    if entry <= 0.0 or s.shard[0].off & OFF_ACTORS:
        return -1
    place = find_actor(s, slot, b.network[i], b.block[i], b.client[i], ts_us, entry)
    if place >= 0 and s.actors[place].requests == 0:
        s.actors[place].by_block = block > 0.0 and block >= network
    return place


@kernel
def _refused(
    s: Any, slot: int, b: Any, i: int, keys_max: int, by: Judge, z: Any, rows: Any, n_rows: int
) -> int:
    """A refused try: it neither trains nor accuses the key's owner; it may open an episode."""
    shard, ts_us = s.shard[0], b.ts_us[i]
    shard.auth_failed += 1
    place = find_tag(s.auth, mix64(b.key_hi[i], b.key_lo[i]))
    if place < 0:
        place = -1 - place
        shard.auth += 1
        s.auth[place].tag = mix64(b.key_hi[i], b.key_lo[i])
        s.auth[place].last_cell = cell_of(ts_us)
    known = max(slot, 0)
    a, passed = s.auth[place], float(s.keys[known].ordinal) if slot >= 0 else 0.0
    auth.refuse(a, cell_of(ts_us), passed)
    if slot < 0:
        if a.tries < TRIES_MAKE_A_KEY or shard.keys >= keys_max:
            return n_rows
        free = find_key(s.index, s.keys, b.key_hi[i], b.key_lo[i])
        slot = new_key(s, -1 - free, b.key_hi[i], b.key_lo[i], ts_us)
    return judge_refused(s, slot, a, z, by, ts_us, i, rows, n_rows)


@kernel
def _begins(s: Any, b: Any, i: int) -> bool:
    """True for an accepted event of a key that has had none so far."""
    if b.auth[i] == AUTH_FAILED or (b.key_hi[i] == 0 and b.key_lo[i] == 0):
        return False
    slot = find_key(s.index, s.keys, b.key_hi[i], b.key_lo[i])
    return slot < 0 or s.keys[slot].ordinal == 0


@kernel
def fold(
    s: Any, b: Any, start: int, asked: int, keys_max: int, rules: Rules, scratch: Scratch
) -> tuple[int, int, bool]:
    """Folds events from ``start``; returns (next event, rows filled, whether it asks).

    Stops early when a table must grow or ``scratch.rows`` could overflow; the caller makes room
    and calls again. With ``asked >= -1`` it also stops, and asks, at the first accepted event of
    each key, which may be another one's heir; the answer for event ``asked`` is known.
    """
    n_rows, shard = 0, s.shard[0]
    rows, found, z = scratch.rows, scratch.found, scratch.z
    for i in range(start, len(b.ts_us)):
        if needs_room(s) or n_rows + 12 > len(rows):
            return i, n_rows, False
        ts_us, hi, lo = b.ts_us[i], b.key_hi[i], b.key_lo[i]
        if asked >= -1 and i != asked and _begins(s, b, i):
            return i, n_rows, True
        shard.events += 1
        shard.clock_us = max(shard.clock_us, ts_us)
        by = Judge(rules.limits[in_force(rules.since_cell, cell_of(ts_us))], rules.trees)
        if hi == 0 and lo == 0:
            shard.no_key += 1
            continue
        slot = find_key(s.index, s.keys, hi, lo)
        if b.auth[i] == AUTH_FAILED:
            n_rows = _refused(s, slot, b, i, keys_max, by, z, rows, n_rows)
            continue
        if slot < 0:
            if shard.keys >= keys_max:
                shard.keys_over_cap += 1
                continue
            slot = new_key(s, -1 - slot, hi, lo, ts_us)
        key = s.keys[slot]
        key.ordinal += 1
        fact = b.fact[i]
        if fact:  # however late it is told
            n_rows = hard_fact(s, slot, fact, ts_us, i, b.size_bytes[i], rows, n_rows, b.prefix[i])
        if ts_us < key.last_us - LATE_US:
            shard.late += 1
            continue
        elapsed_us = max(0, ts_us - key.last_us)
        key.last_us = max(key.last_us, ts_us)
        n_rows = _fold_event(s, slot, elapsed_us, b, i, by, found, z, rows, n_rows)
    return len(b.ts_us), n_rows, False
