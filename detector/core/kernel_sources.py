"""The looking-up part of the fold: what of an event is new to its key."""

from __future__ import annotations

from typing import Any

import numpy as np

from detector.core.kernel_fields import is_replaced
from detector.core.tables import BARRED, EXPIRY_CELLS, find_tag, mark_pair, mix64, note_value
from models import actor as actors_
from models import novelty, slow
from models._jit import kernel
from models.clock import CELLS_PER_DAY

ENTRY_UNIT = 16.0
# Distinct networks, clients, routes, areas and blocks that a key may add in 56 days: past it
# nothing of that kind is new any more. So at most twice as many are remembered.
VALUES_MAX = (256, 64, 500, 128, 256)


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
    is_broken = is_replaced(s, slot, kind, value)
    s.fields[slot].had[kind] |= not is_broken
    learns = key.hold_cell < key.cell and not is_broken
    if place >= 0 and key.cell - s.pairs[place].last_cell <= EXPIRY_CELLS:
        _revisit(s.pairs[place], key, learns)
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
    mark_pair(pair, key.hi, kind)
    pair.first_cell = pair.last_cell = key.cell
    pair.cells = pair.days = pair.entry = pair.owned = 0
    if learns:
        pair.cells = pair.days = 1
    nats = novelty.observe(n, kind)
    pair.entry = np.uint8(min(255.0, nats * ENTRY_UNIT))
    found[kind] = place
    note_value(s, kind, value)
    return True


@kernel
def _revisit(pair: Any, key: Any, learns: bool) -> None:
    if pair.mark & BARRED:  # confirmed to be a thief's: this cell teaches nothing
        key.hold_cell, learns = max(key.hold_cell, key.cell), False
    if pair.last_cell == key.cell:
        return
    if learns:
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
def is_young(s: Any, key: Any, place: int) -> bool:
    """True for a value the key has known for less than a day, its founding ones excepted."""
    return is_younger(s, key, place, CELLS_PER_DAY)


@kernel
def is_younger(s: Any, key: Any, place: int, cells: int) -> bool:
    """True for a value known for less than so many cells, the founding ones excepted."""
    if place < 0:
        return False
    pair = s.pairs[place]
    return pair.entry > 0 and key.cell - pair.first_cell < cells


@kernel
def is_settled(s: Any, slot: int, found: Any) -> bool:
    """True for a request on a route the key has used for four weeks, or from its first days."""
    place = found[novelty.ROUTE]
    if place < 0:
        return False
    first, born = s.pairs[place].first_cell, s.volume[slot].born_cell
    return first - born <= slow.FIRST_CELLS or s.keys[slot].cell - first >= slow.SETTLED_CELLS


@kernel
def learn_usage(s: Any, slot: int, found: Any) -> None:
    """How much of the key's traffic goes to areas and routes it has only known for a while."""
    key = s.keys[slot]
    if found[novelty.AREA] < 0 or key.hold_cell >= key.cell:
        return
    key.total += 1.0
    key.young += is_young(s, key, found[novelty.AREA])
    key.young_route += is_young(s, key, found[novelty.ROUTE])
    key.newborn += is_younger(s, key, found[novelty.AREA], actors_.NEWBORN_CELLS)
    key.newborn_route += is_younger(s, key, found[novelty.ROUTE], actors_.NEWBORN_CELLS)
