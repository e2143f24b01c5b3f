"""The events of a log in one compiled pass: windows per key, first-seen values, risk of a visit.

A *window* is a key and a cell of 15 minutes with at least one request. A *visit* is the first
request of a source (network and client) of a key in a window: what a log-in is to a web site.
A *young* value is one the key first showed within the last day, and not in its own first day.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from detector.core.events import AUTH_FAILED, AUTH_UNKNOWN
from models._jit import kernel
from models.clock import CELL_US, DAY_US

KEY = np.dtype(
    [
        ("hi", "u8"),
        ("lo", "u8"),
        ("first_us", "i8"),
        ("window", "i4"),  # its newest window, -1 = none
        ("visits", "i4"),
    ],
    align=True,
)
VALUE = np.dtype(
    [
        ("tag", "u8"),  # hash of (key, kind, value); 0 = free
        ("young_us", "i8"),  # the value is young before this time
        ("both_us", "i8"),  # of a source: its block and its client are both young before this time
        ("cell", "i4"),  # of a source: the cell of its last visit
        ("visits", "i4"),
        ("young", "i4"),  # requests while it was young
    ],
    align=True,
)
WINDOW = np.dtype(
    [
        ("key", "i4"),
        ("cell", "i4"),
        ("before", "i4"),  # the key's window before this one, -1 = none
        ("count", "i4"),
        ("errors", "i4"),  # answered with 4xx
        ("new_networks", "i4"),
        ("new_blocks", "i4"),
        ("new_clients", "i4"),
        ("new_routes", "i4"),
        ("risk_nats", "f4"),  # of the riskiest visit
    ],
    align=True,
)
NOTE = np.dtype([("key", "i4"), ("ts_us", "i8"), ("score", "f8")], align=True)
TOTALS = np.dtype(
    [
        ("keys", "i8"),
        ("values", "i8"),
        ("windows", "i8"),
        ("network_notes", "i8"),
        ("source_notes", "i8"),
        ("risk_notes", "i8"),
        ("visits", "i8"),
        ("blocks", "i8"),  # distinct, over all keys
    ],
    align=True,
)

LEARN_US = DAY_US  # a key's first day: everything is new, nothing is news
NETWORK_WEIGHT, BLOCK_WEIGHT = 2 / 3, 1 / 3
UNSEEN_DIVISOR = 4.0
PRIOR_WEIGHT = 0.1
LOAD = 0.6
EVENT_VALUES = 9  # at most so many new values per event

_NETWORK, _BLOCK, _CLIENT, _ROUTE, _SOURCE = (np.uint64(kind) for kind in range(1, 6))
_EVERYONE = 0xFFFF_FFFF
_ODD, _A, _B = (np.uint64(c) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_S27, _S30, _S31, _S8 = (np.uint64(s) for s in (27, 30, 31, 8))
_ONE, _NOTHING = np.uint64(1), np.uint64(0)


class State(NamedTuple):
    """All the arrays; the caller enlarges what is full, see ``room``."""

    totals: Any  # TOTALS[1]
    index: Any  # int32[power of two]: number of key + 1, 0 = free
    keys: Any  # KEY[]
    values: Any  # VALUE[power of two]
    windows: Any  # WINDOW[]
    network_notes: Any  # NOTE[]: requests of young networks
    source_notes: Any  # NOTE[]: requests of young clients from young blocks
    risk_notes: Any  # NOTE[]: risk of visits, where it is the key's highest of the window


class Columns(NamedTuple):
    """What is read of a batch, arrays of equal length."""

    ts_us: Any
    key_hi: Any
    key_lo: Any
    network: Any
    block: Any
    client: Any
    route: Any
    status: Any
    auth: Any


@kernel
def _mix(a: Any, b: Any) -> Any:
    z = (a ^ (b * _ODD)) + _ODD
    z = (z ^ (z >> _S30)) * _A
    z = (z ^ (z >> _S27)) * _B
    return z ^ (z >> _S31)


@kernel
def _tag(key: int, kind: Any, value: Any) -> Any:
    return _mix((np.uint64(key) << _S8) | kind, value) | _ONE


@kernel
def room(s: State) -> int:
    """0, or which of ``State``'s arrays must be enlarged before the next event (its position)."""
    t = s.totals[0]
    if t.keys >= LOAD * len(s.index):
        return 1
    if t.keys >= len(s.keys):
        return 2
    if t.values + EVENT_VALUES >= LOAD * len(s.values):
        return 3
    if t.windows >= len(s.windows):
        return 4
    if t.network_notes >= len(s.network_notes):
        return 5
    if t.source_notes >= len(s.source_notes):
        return 6
    return 7 if t.risk_notes >= len(s.risk_notes) else 0


@kernel
def _key(s: State, hi: Any, lo: Any, ts_us: int) -> int:
    mask = np.uint64(len(s.index) - 1)
    place = lo & mask
    while s.index[place]:
        number = s.index[place] - 1
        if s.keys[number].lo == lo and s.keys[number].hi == hi:
            return int(number)
        place = (place + _ONE) & mask
    number = s.totals[0].keys
    s.totals[0].keys += 1
    s.index[place] = number + 1
    s.keys[number].hi, s.keys[number].lo = hi, lo
    s.keys[number].first_us = ts_us
    s.keys[number].window = -1
    return int(number)


@kernel
def reindex(s: State) -> None:
    """Fills an empty ``index`` from ``keys``."""
    mask = np.uint64(len(s.index) - 1)
    for number in range(s.totals[0].keys):
        place = s.keys[number].lo & mask
        while s.index[place]:
            place = (place + _ONE) & mask
        s.index[place] = number + 1


@kernel
def rehash(old: Any, values: Any) -> None:
    """Moves all values into a larger, empty table."""
    mask = np.uint64(len(values) - 1)
    for i in range(len(old)):
        if old[i].tag != _NOTHING:
            place = old[i].tag & mask
            while values[place].tag != _NOTHING:
                place = (place + _ONE) & mask
            values[place] = old[i]


@kernel
def _value(s: State, tag: Any) -> int:
    """Place of a value; a new one is entered, with 0 visits."""
    mask = np.uint64(len(s.values) - 1)
    place = tag & mask
    while s.values[place].tag != tag:
        if s.values[place].tag == _NOTHING:
            s.values[place].tag = tag
            s.values[place].cell = -1
            s.totals[0].values += 1
            break
        place = (place + _ONE) & mask
    return int(np.int64(place))


@kernel
def _window(s: State, key: int, cell: int) -> int:
    """Place of a key's window; late events find theirs, or open it between two others."""
    after, at = -1, s.keys[key].window
    while at >= 0 and s.windows[at].cell > cell:
        after, at = at, s.windows[at].before
    if at >= 0 and s.windows[at].cell == cell:
        return int(at)
    place = s.totals[0].windows
    s.totals[0].windows += 1
    w = s.windows[place]
    w.key, w.cell, w.before = key, cell, at
    if after >= 0:
        s.windows[after].before = place
    else:
        s.keys[key].window = place
    return int(place)


@kernel
def smoothed(count: float, total: float, unseen: float) -> float:
    """Share of a value among ``total``, with probability set aside for ``unseen`` other values."""
    if count <= 0:
        return 1 / (total + unseen)
    return count / total * (1 - unseen / (total + unseen))


@kernel
def ratio_nats(everyone: float, own: float, own_total: float) -> float:
    """Log of how much likelier a value is for anybody than for this key."""
    if own <= 0:
        own = min(1 / (own_total + 1), everyone / UNSEEN_DIVISOR)
    return math.log(everyone / own)


@kernel
def _risk_nats(s: State, key: int, network: Any, block: Any, client: Any, own: Any) -> float:
    """Risk of a visit after Freeman et al.; counts of everybody's visits are learned here too."""
    all_network = _value(s, _tag(_EVERYONE, _NETWORK, network))
    all_block = _value(s, _tag(_EVERYONE, _BLOCK, block))
    all_client = _value(s, _tag(_EVERYONE, _CLIENT, client))
    total, visits = s.totals[0].visits, s.keys[key].visits
    nats = 0.0
    if visits > 0:
        v = s.values
        unseen = 1 + s.totals[0].blocks
        share = NETWORK_WEIGHT * smoothed(v[all_network].visits, total, unseen)
        share += BLOCK_WEIGHT * v[all_block].visits / total
        mine = NETWORK_WEIGHT * v[own[0]].visits + BLOCK_WEIGHT * v[own[1]].visits
        nats = ratio_nats(share, mine / visits, visits)
        share = smoothed(v[all_client].visits, total, 1)
        nats += ratio_nats(share, v[own[2]].visits / visits, visits)
        nats += PRIOR_WEIGHT * math.log(total / (s.totals[0].keys * visits))
    if s.values[all_block].visits == 0:
        s.totals[0].blocks += 1
    s.values[all_network].visits += 1
    s.values[all_block].visits += 1
    s.values[all_client].visits += 1
    s.totals[0].visits += 1
    return nats


@kernel
def _note(notes: Any, n: int, key: int, ts_us: int, score: float) -> None:
    notes[n].key, notes[n].ts_us, notes[n].score = key, ts_us, score


@kernel
def _visit(s: State, key: int, at: int, source: int, event: Any) -> None:
    """The first request of a source in a window."""
    ts_us, network, block, client = event
    own = (
        _value(s, _tag(key, _NETWORK, network)),
        _value(s, _tag(key, _BLOCK, block)),
        _value(s, _tag(key, _CLIENT, client)),
    )
    k, w = s.keys[key], s.windows[at]
    nats = _risk_nats(s, key, network, block, client, own)
    if nats > w.risk_nats:
        w.risk_nats = nats
        _note(s.risk_notes, s.totals[0].risk_notes, key, ts_us, nats)
        s.totals[0].risk_notes += 1
    young_us = ts_us + DAY_US if ts_us >= k.first_us + LEARN_US else 0
    for j in range(3):
        if s.values[own[j]].visits == 0:
            s.values[own[j]].young_us = young_us
    w.new_networks += s.values[own[0]].visits == 0
    w.new_blocks += s.values[own[1]].visits == 0
    w.new_clients += s.values[own[2]].visits == 0
    for j in range(3):
        s.values[own[j]].visits += 1
    k.visits += 1
    s.values[source].young_us = s.values[own[0]].young_us
    s.values[source].both_us = min(s.values[own[1]].young_us, s.values[own[2]].young_us)


@kernel
def _is_step(count: int) -> bool:
    """True for 1 to 32, then for sixteen numbers per doubling."""
    step = 1
    while count > 32 * step:
        step *= 2
    return count % step == 0


@kernel
def _young_request(s: State, key: int, source: int, event: Any) -> None:
    ts_us, network, _, client = event
    place = _value(s, _tag(key, _NETWORK, network))
    s.values[place].young += 1
    if _is_step(s.values[place].young):
        _note(s.network_notes, s.totals[0].network_notes, key, ts_us, s.values[place].young)
        s.totals[0].network_notes += 1
    if ts_us < s.values[source].both_us:
        place = _value(s, _tag(key, _CLIENT, client))
        s.values[place].young += 1
        if _is_step(s.values[place].young):
            _note(s.source_notes, s.totals[0].source_notes, key, ts_us, s.values[place].young)
            s.totals[0].source_notes += 1


@kernel
def fold(s: State, c: Columns, start: int) -> int:
    """Takes in events from ``start`` on; the number of events taken in, less than all when full.

    Requests without a key, and those whose authentication failed, are passed over, as the
    detector does.
    """
    for i in range(start, len(c.ts_us)):
        if c.key_hi[i] == _NOTHING and c.key_lo[i] == _NOTHING:
            continue
        if c.auth[i] == AUTH_FAILED or (c.auth[i] == AUTH_UNKNOWN and c.status[i] == 401):
            continue
        if room(s):
            return i
        ts_us = c.ts_us[i]
        cell = ts_us // CELL_US
        key = _key(s, c.key_hi[i], c.key_lo[i], ts_us)
        at = _window(s, key, cell)
        s.windows[at].count += 1
        s.windows[at].errors += 400 <= c.status[i] < 500
        event = (ts_us, c.network[i], c.block[i], c.client[i])
        source = _value(s, _tag(key, _SOURCE, _mix(c.network[i], c.client[i])))
        if s.values[source].cell != cell:
            s.values[source].cell = cell
            _visit(s, key, at, source, event)
        if ts_us < s.values[source].young_us:
            _young_request(s, key, source, event)
        route = _value(s, _tag(key, _ROUTE, c.route[i]))
        s.windows[at].new_routes += s.values[route].visits == 0
        s.values[route].visits = 1
    return len(c.ts_us)
