"""The log itself may change: a field vanishes or appears, one value replaces all, paths move.

The fold sees one key. When *every* request of an old key shows the same change, while the rest
of it is as ever, it may be the log and not the key. So it is told to the fleet stage, which
sees whether everybody changes (``core.fleet_log``), and meanwhile the key's baseline of that
field is neither taught nor aged, for three days at most, but for one new value. A change that
lasts is then learned.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from detector.core.path_alias import find_alias
from detector.core.rows import CHANGE
from detector.core.settings import OFF_LOG
from detector.core.tables import EXPIRY_CELLS, find_tag, mix64
from models import novelty
from models._jit import kernel
from models.clock import CELLS_PER_DAY

RUN = 3  # requests in a row that make a change
RUN_MAX = 16  # as many requests as usual end a changed path that was sure
OLD_CELLS = 32  # active cells of a key whose fields are known well enough to be missed
DETOUR_CELLS = 4
REPLACED_CELLS = 3 * CELLS_PER_DAY
TOLD_CELLS = 24  # a change that lasts is told again after six hours
TOLD_DAY_CELLS = CELLS_PER_DAY  # and after a day no more, unless it still costs novelty
NEWS_NATS = 1.0  # of a value that replaces the others, to be told
BY_NETWORK, BY_CLIENT, BY_PREFIX = 0, 1, 2  # aspects
NETWORK, CLIENT, PREFIX, NO_NETWORK, NO_CLIENT, NETWORK_CAME, CLIENT_CAME = range(1, 8)  # changes


@kernel
def is_replaced(s: Any, slot: int, kind: int, value: int) -> bool:
    """True while this value takes the place of all others of its kind: it is not learned."""
    f, key = s.fields[slot], s.keys[slot]
    aspect = BY_CLIENT if kind == novelty.CLIENT else BY_NETWORK
    if f.run[aspect] < RUN or s.shard[0].off & OFF_LOG:
        return False
    if kind == novelty.ROUTE or kind == novelty.AREA:
        return False
    own = f.block if kind == novelty.BLOCK else f.value[aspect]
    is_new = key.cell - f.since[aspect] < REPLACED_CELLS
    return bool(value == own and is_new and key.cells >= OLD_CELLS)


@kernel
def before_commit(s: Any, slot: int) -> None:
    """A cell in which a kind was never truly shown is no exposure to it.

    That something new came is learned all the same, once: a key that moves shall be known for it.
    """
    f, n, key = s.fields[slot], s.novelty[slot], s.keys[slot]
    for kind in range(novelty.KINDS):
        if not f.had[kind] and key.cells >= OLD_CELLS and s.shard[0].off & OFF_LOG == 0:
            n.gone[kind] = 1
        f.had[kind] = 0


@kernel
def note_field(
    s: Any, slot: int, aspect: int, value: int, entry: float, kind: int, ts_us: int, event: int,
    rows: Any, n_rows: int,
) -> int:  # fmt: skip
    """Counts how long a key shows one foreign value, or none; returns the new number of rows.

    ``entry`` is what is left of the value's surprise, nats.
    """
    f, n, key = s.fields[slot], s.novelty[slot], s.keys[slot]
    if value != 0 and not n.present[kind]:
        if key.cells < OLD_CELLS:
            return n_rows
        came = NETWORK_CAME if aspect == BY_NETWORK else CLIENT_CAME
        return _tell(s, slot, aspect, came, value, ts_us, event, rows, n_rows)
    is_foreign = entry > 0.0 if value != 0 else n.present[kind] != 0
    if aspect == BY_NETWORK and not (is_foreign and value == f.value[aspect]):
        _end_detour(s, slot)
    if not is_foreign:
        f.run[aspect] = 0
        return n_rows
    if f.run[aspect] == 0 or f.value[aspect] != value:
        f.run[aspect], f.value[aspect], f.since[aspect] = 0, value, key.cell
        if aspect == BY_NETWORK:
            f.before[novelty.NETWORK] = n.evidence[novelty.NETWORK]
            f.before[novelty.BLOCK] = n.evidence[novelty.BLOCK]
    f.run[aspect] = min(f.run[aspect] + 1, RUN_MAX)
    if f.run[aspect] < RUN or key.cells < OLD_CELLS:
        return n_rows
    if value == 0:
        if key.cell - f.since[aspect] >= TOLD_DAY_CELLS:
            return n_rows
        gone = NO_NETWORK if aspect == BY_NETWORK else NO_CLIENT
        return _tell(s, slot, aspect, gone, 0, ts_us, event, rows, n_rows)
    if entry < NEWS_NATS:
        return n_rows
    change = NETWORK if aspect == BY_NETWORK else CLIENT
    return _tell(s, slot, aspect, change, value, ts_us, event, rows, n_rows)


@kernel
def _end_detour(s: Any, slot: int) -> None:
    """All requests went by one foreign network for an hour or more, and now by another.

    What the key has left is no longer a part of a row of new networks (``network_nats``).
    """
    f, n, key = s.fields[slot], s.novelty[slot], s.keys[slot]
    if f.run[BY_NETWORK] < RUN or key.cell - f.since[BY_NETWORK] < DETOUR_CELLS:
        return
    if s.shard[0].off & OFF_LOG:
        return
    for kind in (novelty.NETWORK, novelty.BLOCK):
        n.evidence[kind] = min(n.evidence[kind], f.before[kind])
        n.now[kind] = min(n.now[kind], f.before[kind])


@kernel
def _tell(
    s: Any, slot: int, aspect: int, change: int, value: int, ts_us: int, event: int,
    rows: Any, n_rows: int,
) -> int:  # fmt: skip
    f, key = s.fields[slot], s.keys[slot]
    elapsed = key.cell - f.told_cell[aspect]
    if elapsed < TOLD_CELLS and (elapsed == 0 or f.told_value[aspect] == value):
        return n_rows
    if s.shard[0].off & OFF_LOG:
        return n_rows
    f.told_cell[aspect], f.told_value[aspect] = key.cell, value
    row = rows[n_rows]
    row.kind, row.slot, row.event, row.ts_us, row.ordinal = CHANGE, slot, event, ts_us, key.ordinal
    row.change, row.value = change, value
    return n_rows + 1


@kernel
def _known_since(s: Any, slot: int, route: int) -> int:
    """The cell in which the key first used a route; far in the future when it does not know it."""
    key = s.keys[slot]
    place = find_tag(s.pairs, mix64(key.lo ^ np.uint64(novelty.ROUTE + 1), route))
    if place < 0 or key.cell - s.pairs[place].last_cell > EXPIRY_CELLS:
        return 1 << 30
    return int(s.pairs[place].first_cell)


@kernel
def plain_route(s: Any, slot: int, aliases: Any, route: int, status: int) -> int:
    """The route a key knows, where a prefix has come to all of its paths; else the route itself.

    Only served requests show that a prefix came: whoever guesses paths is refused. Until three
    in a row have shown it, they are new routes like others.
    """
    f, key = s.fields[slot], s.keys[slot]
    at, served = find_alias(aliases, route), status < 400
    if at < 0:
        if f.run[BY_PREFIX] > 0 and served and _known_since(s, slot, route) < f.since[BY_PREFIX]:
            f.run[BY_PREFIX] -= 1
        return route
    plain, prefix = aliases[at].plain, aliases[at].prefix
    if s.shard[0].off & OFF_LOG:
        return route
    same = f.run[BY_PREFIX] > 0 and f.value[BY_PREFIX] == prefix
    since = f.since[BY_PREFIX] if same else key.cell
    if _known_since(s, slot, plain) > since or _known_since(s, slot, route) < since:
        return route
    if not same:
        if not served or f.run[BY_PREFIX] >= RUN:
            return route
        _begin_prefix(s, slot, prefix)
    if served:
        f.run[BY_PREFIX] = min(f.run[BY_PREFIX] + 1, RUN_MAX)
        if f.run[BY_PREFIX] == RUN:
            _end_doubt(s, slot)
    return plain if f.run[BY_PREFIX] >= RUN else route


@kernel
def _begin_prefix(s: Any, slot: int, prefix: int) -> None:
    f, n = s.fields[slot], s.novelty[slot]
    f.value[BY_PREFIX], f.since[BY_PREFIX], f.run[BY_PREFIX] = prefix, s.keys[slot].cell, 0
    f.before[novelty.ROUTE], f.before[novelty.AREA] = n.now[novelty.ROUTE], n.now[novelty.AREA]


@kernel
def _end_doubt(s: Any, slot: int) -> None:
    """What the first requests under the prefix seemed to say is taken back."""
    f, n = s.fields[slot], s.novelty[slot]
    for kind in (novelty.ROUTE, novelty.AREA):
        n.evidence[kind] = min(n.evidence[kind], f.before[kind])
        n.now[kind] = min(n.now[kind], f.before[kind])
        n.fresh[kind] = 0
    f.proved = 1


@kernel
def clear_paths(s: Any, slot: int, a: Any) -> None:
    """The same for the actor whose request proved the prefix."""
    if s.fields[slot].proved:
        s.fields[slot].proved = 0
        a.route = a.area = a.mix_route = 0.0
        a.route_new = a.area_new = 0


@kernel
def is_under_prefix(s: Any, slot: int, prefix: int) -> bool:
    """True when this prefix has come to all of the key's paths."""
    f = s.fields[slot]
    return bool(f.run[BY_PREFIX] >= RUN and f.value[BY_PREFIX] == prefix)


@kernel
def note_prefix(s: Any, slot: int, ts_us: int, event: int, rows: Any, n_rows: int) -> int:
    """Tells of a prefix for a day from its first request."""
    f = s.fields[slot]
    key = s.keys[slot]
    is_old = key.cell - f.since[BY_PREFIX] >= TOLD_DAY_CELLS
    if f.run[BY_PREFIX] < RUN or key.cells < OLD_CELLS or is_old:
        return n_rows
    return _tell(s, slot, BY_PREFIX, PREFIX, f.value[BY_PREFIX], ts_us, event, rows, n_rows)
