"""The looking-up half of the fold: what of an event is new to its key, and who brings it."""

from __future__ import annotations

from typing import Any

import numpy as np

from detector.core.tables import EXPIRY_CELLS, find_tag, mix64, note_value
from models import actor as actors_
from models import novelty
from models._jit import kernel
from models.clock import CELLS_PER_DAY

ACTOR_ENTRY_MIN = 1.0  # nats of novelty that make a source worth a record of its own
ENTRY_UNIT = 16.0
# Distinct networks, clients, routes and areas, and actors, that a key may add in 56 days:
# past it nothing of that kind is new any more. So at most twice as many are remembered.
VALUES_MAX = (256, 64, 500, 128)
ACTORS_MAX = 128
SIZE_MAX = 1 << 40  # of one response, in the sums of leaked bytes


@kernel
def visit(s: Any, slot: int, kind: int, value: int, found: Any) -> bool:
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
    if key.values[kind] >= VALUES_MAX[kind]:
        s.shard[0].values_over_cap += 1
        return False
    key.values[kind] += 1
    if place < 0:
        place = -1 - place
        s.shard[0].pairs += 1
    pair = s.pairs[place]
    pair.tag = tag
    pair.first_cell = pair.last_cell = key.cell
    pair.cells = pair.days = pair.entry = 0
    if key.hold_cell < key.cell:
        pair.cells = pair.days = 1
    if key.ordinal > 1:
        nats = novelty.observe(n, kind, key.cells == 0)
        pair.entry = np.uint8(min(255.0, nats * ENTRY_UNIT))
    found[kind] = place
    note_value(s, kind, value)
    return True


@kernel
def _revisit(pair: Any, key: Any) -> None:
    if pair.last_cell == key.cell:
        return
    if key.hold_cell < key.cell:
        pair.cells = min(pair.cells + 1, 65535)
        if pair.last_cell // CELLS_PER_DAY != key.cell // CELLS_PER_DAY or pair.days == 0:
            pair.days = min(pair.days + 1, 255)
    pair.last_cell = key.cell


@kernel
def entry_nats(s: Any, slot: int, place: int) -> float:
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


@kernel
def find_actor(s: Any, slot: int, network: int, client: int, ts_us: int, entry: float) -> int:
    """The actor's place; made when its entry is surprising enough; -1 = established."""
    key = s.keys[slot]
    tag = mix64(mix64(key.lo, network), client)
    place = find_tag(s.actors, tag)
    if place >= 0 and key.cell - s.actors[place].last_cell <= actors_.LIFE_CELLS:
        return place
    if entry < ACTOR_ENTRY_MIN or key.actors >= ACTORS_MAX:
        return -1
    key.actors += 1
    if place < 0:
        place = -1 - place
        s.shard[0].actors += 1
    a = s.actors[place]
    a.tag, a.key_lo, a.network, a.client = tag, key.lo, network, client
    a.first_us, a.last_cell = ts_us, key.cell
    a.served = a.served_bytes = a.counted_bytes = 0
    a.requests = a.count = a.foreign = 0
    a.volume = a.mix = a.route = a.area = a.concurrency = 0.0
    a.switches = a.counted = 0
    a.route_new = a.area_new = 0
    a.route_last = np.uint64(0)
    return place


@kernel
def actor_usual(s: Any, slot: int) -> float:
    """Requests a new source of this key usually makes in a cell."""
    key = s.keys[slot]
    floor = max(actors_.USUAL_FLOOR, 0.3 * s.volume[slot].mean)
    weight = actors_.USUAL_WEIGHT
    return (key.actor_sum + weight * floor) / (key.actor_weight + weight)


@kernel
def foreign_share(key: Any) -> float:
    """Share of the key's requests that usually goes to areas it has known for a day at most."""
    weight = actors_.FOREIGN_WEIGHT
    return (key.young + weight * actors_.FOREIGN_PRIOR) / (key.total + weight)


@kernel
def actor_event(
    s: Any, slot: int, a: Any, status: int, size_bytes: int, foreign: bool, has_area: bool
) -> None:
    """Counts one request of an actor and updates its own evidence."""
    key = s.keys[slot]
    if a.last_cell != key.cell:
        step = actors_.volume_evidence(float(a.count), actor_usual(s, slot))
        a.volume = min(actors_.VOLUME_MAX, 0.98 * a.volume + step)
        if key.hold_cell < key.cell:
            key.actor_sum = 0.98 * key.actor_sum + a.count
            key.actor_weight = 0.98 * key.actor_weight + 1.0
        a.last_cell, a.count = key.cell, 0
    a.requests += 1
    a.count += 1
    if status < 400:
        a.served += 1
        a.served_bytes += min(size_bytes, SIZE_MAX)
    if has_area:
        a.mix = actors_.mix_add(a.mix, actors_.mix_step(foreign, foreign_share(key)))
        a.foreign += foreign


@kernel
def note_switch(s: Any, slot: int, actor_place: int, network: int, elapsed_us: int) -> None:
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


@kernel
def learn_usage(s: Any, slot: int, area_place: int) -> None:
    """How much of the key's traffic goes to areas it has only known for a day."""
    key = s.keys[slot]
    if area_place < 0 or key.hold_cell >= key.cell:
        return
    pair = s.pairs[area_place]
    key.total += 1.0
    if pair.entry > 0 and key.cell - pair.first_cell < CELLS_PER_DAY:
        key.young += 1.0
