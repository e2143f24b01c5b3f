"""The actors' part of the fold: what a source that is not the key's own brings and does."""

from __future__ import annotations

from typing import Any

import numpy as np

from detector.core.kernel_fields import is_replaced
from detector.core.kernel_sources import is_young
from detector.core.network import distance_km
from detector.core.tables import find_tag, mix64
from models import actor as actors_
from models import enumeration, misses, novelty, owner, probing, sequence
from models._jit import kernel
from models.clock import CELL_US, cell_of, decay

ACTOR_ENTRY_MIN = 1.0  # nats of novelty that make a source worth a record of its own
ACTORS_MAX = 128  # made in 56 days; at most twice as many are remembered
SIZE_MAX = 1 << 40  # of one response, in the sums of leaked bytes


@kernel
def find_actor(
    s: Any, slot: int, network: int, block: int, client: int, ts_us: int, entry: float
) -> int:
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
    a.block, a.first_us, a.last_cell = block, ts_us, key.cell
    _clear(a)
    a.owned, a.expected = key.owned, expected_by(s, slot, ts_us)
    return place


@kernel
def _clear(a: Any) -> None:
    a.served = a.served_bytes = a.counted_bytes = 0
    a.requests = a.count = a.foreign = a.foreign_routes = 0
    a.excess = a.volume = a.mix = a.mix_route = a.route = a.area = a.concurrency = 0.0
    a.probing = a.probing_now = a.enumeration = a.sequence = a.travel = a.denied = a.misses = 0.0
    a.switches = a.counted = a.failed = 0
    a.route_new = a.area_new = 0
    a.route_last = a.bits = np.uint64(0)


@kernel
def expected_by(s: Any, slot: int, ts_us: int) -> float:
    """Requests expected of the key until now, since it was born."""
    key = s.keys[slot]
    elapsed_us: Any = min(max(ts_us - np.int64(key.cell) * CELL_US, 0), CELL_US)
    return float(key.expected + elapsed_us / CELL_US * s.volume[slot].mean)


@kernel
def actor_usual(s: Any, slot: int) -> float:
    """Requests a new source of this key usually makes in a cell."""
    key = s.keys[slot]
    floor = max(actors_.USUAL_FLOOR, 0.3 * s.volume[slot].mean)
    weight = actors_.USUAL_WEIGHT
    return float((key.actor_sum + weight * floor) / (key.actor_weight + weight))


@kernel
def foreign_share(key: Any, young: float, prior: float) -> float:
    """Share of the key's requests that usually goes to values it has known for a day at most."""
    weight = actors_.FOREIGN_ROUTE_WEIGHT
    return float((young + weight * prior) / (key.total + weight))


@kernel
def _open_cell(s: Any, slot: int, a: Any) -> None:
    """Closes the actor's own cell: its volume and its errors are judged per cell."""
    key = s.keys[slot]
    step = actors_.volume_evidence(float(a.count), actor_usual(s, slot))
    a.volume = min(actors_.VOLUME_MAX, 0.98 * a.volume + step)
    v = s.volume[slot]
    beyond = actors_.excess_evidence(float(a.count), v.mean, v.size)
    a.excess = min(max(0.0, 0.98 * a.excess + beyond), actors_.VOLUME_MAX)
    if key.hold_cell < key.cell and not is_replaced(s, slot, novelty.NETWORK, a.network):
        key.actor_sum = 0.98 * key.actor_sum + a.count
        key.actor_weight = 0.98 * key.actor_weight + 1.0
    cells = key.cell - a.last_cell
    fade = decay(cells, novelty.EVIDENCE_HALF_LIFE_CELLS)
    a.probing = max(0.0, a.probing_now - probing.DRIFT) * fade
    a.probing_now = a.probing
    a.enumeration *= decay(cells, enumeration.EVIDENCE_HALF_LIFE_CELLS)
    a.misses *= decay(cells, misses.EVIDENCE_HALF_LIFE_CELLS)
    a.sequence *= decay(cells, sequence.EVIDENCE_HALF_LIFE_CELLS)
    a.last_cell, a.count, a.failed = key.cell, 0, 0
    a.bits = np.uint64(0)


@kernel
def actor_request(
    s: Any, slot: int, a: Any, status: int, size_bytes: int, route: int, young: bool
) -> None:
    """Counts one request of an actor, and the routes that refuse it."""
    if a.last_cell != s.keys[slot].cell:
        _open_cell(s, slot, a)
    a.requests += 1
    a.count += 1
    if status < 400:
        a.served += 1
        a.served_bytes += min(size_bytes, SIZE_MAX)
    if not 400 <= status < 500:
        return
    if not young:
        return
    a.failed += 1
    bit = np.uint64(1) << np.uint64(np.uint64(route) >> np.uint64(58))
    if a.bits & bit == 0:
        a.bits |= bit
        nats = probing.judged(s.probing[slot], a.bits, a.failed, a.count)
        a.probing_now = min(a.probing + nats, probing.EVIDENCE_MAX)


@kernel
def usual_areas(key: Any, a: Any) -> float:
    """Share of the key's other requests that goes to areas as young as the actor."""
    young = actors_.share_as_young(key.newborn, key.young, key.cell - cell_of(a.first_us))
    prior, weight = actors_.FOREIGN_PRIOR, actors_.FOREIGN_WEIGHT
    return _share_of_others(key, a, young - a.foreign, prior, weight)


@kernel
def usual_routes(key: Any, a: Any) -> float:
    """The same for routes."""
    age = key.cell - cell_of(a.first_us)
    young = actors_.share_as_young(key.newborn_route, key.young_route, age)
    prior, weight = actors_.FOREIGN_ROUTE_PRIOR, actors_.FOREIGN_ROUTE_WEIGHT
    return _share_of_others(key, a, young - a.foreign_routes, prior, weight)


@kernel
def _share_of_others(key: Any, a: Any, young: float, prior: float, weight: float) -> float:
    """What is left of the key's usual once the actor's own requests are taken out."""
    total = max(0.0, key.total - float(a.requests))
    return float((min(max(young, 0.0), total) + weight * prior) / (total + weight))


@kernel
def _is_foreign(s: Any, key: Any, place: int) -> bool:
    """True for a value of the last day that no source of the key's own uses.

    Whichever actor brought it: a thief may come from many addresses.
    """
    return not s.pairs[place].owned and is_young(s, key, place)


@kernel
def actor_mix(s: Any, slot: int, a: Any, found: Any) -> None:
    """Judges where a request goes: to areas and routes of the key's own, or to foreign ones."""
    key = s.keys[slot]
    area, route = found[novelty.AREA], found[novelty.ROUTE]
    if area >= 0:
        foreign = _is_foreign(s, key, area)
        step = actors_.mix_step(foreign, usual_areas(key, a), actors_.FOREIGN_TEMPER)
        a.mix = actors_.mix_add(a.mix, step)
        a.foreign += foreign
    if route >= 0:
        foreign = _is_foreign(s, key, route)
        step = actors_.mix_step(foreign, usual_routes(key, a), actors_.FOREIGN_ROUTE_TEMPER)
        a.mix_route = actors_.mix_add(a.mix_route, step)
        a.foreign_routes += foreign


@kernel
def own_values(s: Any, found: Any) -> None:
    """Notes that an established source uses these routes and areas."""
    if found[novelty.AREA] >= 0:
        s.pairs[found[novelty.AREA]].owned = 1
    if found[novelty.ROUTE] >= 0:
        s.pairs[found[novelty.ROUTE]].owned = 1


@kernel
def own_mix(s: Any, slot: int, found: Any) -> None:
    """The same for the key's own sources: how much goes to routes known for a day at most."""
    key = s.keys[slot]
    if found[novelty.ROUTE] >= 0:
        usual = foreign_share(key, key.young_route, actors_.FOREIGN_ROUTE_PRIOR)
        young = is_young(s, key, found[novelty.ROUTE])
        step = actors_.mix_step(young, usual, actors_.FOREIGN_ROUTE_TEMPER)
        key.own_mix = actors_.mix_add(key.own_mix, step)


@kernel
def actor_objects(
    s: Any, slot: int, a: Any, is_fresh: int, step_nats: float, missed_nats: float
) -> None:
    """Adds what its identifiers say: ``is_fresh`` 1 new to the key, 0 known, -1 none."""
    if is_fresh >= 0:
        step = enumeration.step(is_fresh == 1, enumeration.share(s.enumeration[slot]))
        a.enumeration = min(max(a.enumeration + step, 0.0), enumeration.EVIDENCE_MAX)
    a.sequence = min(max(a.sequence + step_nats, 0.0), sequence.EVIDENCE_MAX)
    a.misses = min(max(a.misses + missed_nats, 0.0), misses.EVIDENCE_MAX)


@kernel
def note_switch(s: Any, slot: int, actor_place: int, network: int, elapsed_us: int) -> int:
    """Two networks in turn within minutes: the owner and somebody else at once.

    Both turns count, the actor's and the owner's return. Returns the place of the actor that
    the owner has just returned beside, else -1.
    """
    key = s.keys[slot]
    near = elapsed_us <= actors_.SWITCH_US and network != 0 and key.source != 0
    switched = near and network != key.source
    beside = -1
    if switched and actor_place >= 0 and s.actors[actor_place].requests > 1:
        _take_turn(s, slot, s.actors[actor_place])
    elif switched and actor_place < 0 and key.rival != 0:
        beside = find_tag(s.actors, key.rival)
        if beside >= 0:
            _take_turn(s, slot, s.actors[beside])
    if near and key.hold_cell < key.cell and not is_replaced(s, slot, novelty.NETWORK, network):
        key.pairs += 1.0
        key.switches += switched
    key.source = network
    key.rival = s.actors[actor_place].tag if actor_place >= 0 else np.uint64(0)
    return max(beside, -1)


@kernel
def _take_turn(s: Any, slot: int, a: Any) -> None:
    key = s.keys[slot]
    a.switches += 1
    step = actors_.switch_step(key.switches, key.pairs)
    a.concurrency = min(actors_.CONCURRENCY_MAX, a.concurrency + step)


@kernel
def places_of(s: Any, slot: int, a: Any, found: Any) -> None:
    """Places of an actor's own values, as ``visit`` would give them."""
    lo = s.keys[slot].lo
    found[novelty.NETWORK] = find_tag(
        s.pairs, mix64(lo ^ np.uint64(novelty.NETWORK + 1), a.network)
    )
    found[novelty.CLIENT] = find_tag(s.pairs, mix64(lo ^ np.uint64(novelty.CLIENT + 1), a.client))
    found[novelty.BLOCK] = find_tag(s.pairs, mix64(lo ^ np.uint64(novelty.BLOCK + 1), a.block))


@kernel
def note_place(s: Any, slot: int, actor_place: int, place: int, ts_us: int) -> None:
    """Two places in turn, farther apart than anybody moves; nothing without a GeoIP database."""
    key = s.keys[slot]
    if place == 0:
        return
    if key.place != 0:
        leap = place != key.place and owner.is_impossible(
            distance_km(key.place, place), ts_us - key.place_us
        )
        if leap and actor_place >= 0:
            a = s.actors[actor_place]
            a.travel = max(a.travel, owner.travel(key.leaps, key.moves))
        if key.hold_cell < key.cell:
            key.moves += 1.0
            key.leaps += leap
    key.place, key.place_us = place, ts_us
