"""One key's state as a whole: what is known of it, forgotten, accepted, barred or copied.

Rare work, never once per event: looking for a key's values reads the pair table once, some
milliseconds for a million pairs. A pair says only 20 bits of its owner; the rest is checked
against the values whose texts are known, so a mistake needs both a collision of those bits and
a shard with more than ``NAMES_MAX`` values.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from detector.core import tables
from detector.core.kernel_identifiers import page_name, page_tag
from detector.core.tables import (
    BARRED,
    EXPIRY_CELLS,
    GONE,
    KIND_BITS,
    State,
    find_tag,
    knows_value,
    mark_pair,
    may_be_of,
    mix64,
    unmix64,
)
from models import novelty
from models._jit import kernel

VALUES_OF_KEY_MAX = 8192  # more than the caps per kind allow, twice over
IDENTITY = ("hi", "lo", "first_us", "last_us", "ordinal", "hard_day")

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]


class Known(NamedTuple):
    """The values a key knows: place in the pair table, kind and value of each, by tag."""

    places: I64
    kinds: I64
    values: U64

    def where(self, chosen: npt.NDArray[np.bool_]) -> Known:
        """Those of ``chosen[n]``."""
        return Known(self.places[chosen], self.kinds[chosen], self.values[chosen])


@kernel
def _collect(s: Any, slot: int, places: Any, values: Any) -> int:
    kind: Any
    key, n = s.keys[slot], 0
    for i in range(len(s.pairs)):
        pair = s.pairs[i]
        if pair.tag == 0 or not may_be_of(pair, key.hi):
            continue
        if key.cell - pair.last_cell > EXPIRY_CELLS or n == len(places):
            continue
        kind = np.int64(pair.mark & KIND_BITS) - 1
        value = unmix64(pair.tag, key.lo ^ np.uint64(kind + 1))
        if knows_value(s, kind, value):
            places[n], values[n] = i, value
            n += 1
    return n


def known_values(state: State, slot: int) -> Known:
    """What the key at ``slot`` knows and has not forgotten, in an order of its own."""
    places, values = np.zeros(VALUES_OF_KEY_MAX, np.int64), np.zeros(VALUES_OF_KEY_MAX, np.uint64)
    n = _collect(state, slot, places, values)
    order = np.argsort(state.pairs["tag"][places[:n]])
    places, values = places[:n][order], values[:n][order]
    kinds = (state.pairs["mark"][places] & KIND_BITS).astype(np.int64) - 1
    return Known(places, kinds, values)


def actors_of(state: State, slot: int) -> I64:
    """Places of the key's actors, by tag."""
    actors = state.actors
    mine = (actors["key_lo"] == state.keys["lo"][slot]) & (actors["tag"] != 0)
    places = np.flatnonzero(mine & (actors["last_cell"] > GONE))
    return places[np.argsort(actors["tag"][places])]


def tags_of(state: State, places: I64) -> list[int]:
    """Tags of pairs: what they are called wherever they lie."""
    tags: list[int] = state.pairs["tag"][places].tolist()
    return tags


def places_of(state: State, tags: list[int]) -> I64:
    """Where pairs with these tags lie; those that are gone are left out."""
    wide: list[Any] = list(np.array(tags, np.uint64))
    found = [find_tag(state.pairs, tag) for tag in wide]
    return np.array([place for place in found if place >= 0], np.int64)


def accept(state: State, places: I64) -> None:
    """Makes values the key's own, as if they had been there from its first cell."""
    state.pairs["entry"][places] = 0
    state.pairs["mark"][places] &= np.uint8(0xFF ^ BARRED)


def bar(state: State, places: I64, *, lift: bool = False) -> None:
    """Keeps values from becoming the key's own by time; the cells they come in teach nothing."""
    if lift:
        state.pairs["mark"][places] &= np.uint8(0xFF ^ BARRED)
    else:
        state.pairs["mark"][places] |= np.uint8(BARRED)


def unknow(state: State, places: I64) -> None:
    """Makes values news again: the next request with one is judged as its first."""
    state.pairs["last_cell"][places] = GONE


def drop_actor(state: State, slot: int, place: int) -> None:
    """Forgets an actor, and takes what it brought out of the key's evidence."""
    a, n = state.actors[place], state.novelty[slot]
    for kind, nats in ((novelty.ROUTE, a["route"]), (novelty.AREA, a["area"])):
        for name in ("evidence", "now"):
            n[name][kind] = max(0.0, n[name][kind] - nats)
    for name in ("enumeration", "sequence", "misses"):
        row = getattr(state, name)
        row["evidence"][slot] = max(0.0, row["evidence"][slot] - a[name])
    for table, nats in ((state.probing, a["probing_now"]), (state.denied, a["denied"])):
        for name in ("evidence", "now"):
            table[name][slot] = max(0.0, table[name][slot] - nats)
    if state.keys["rival"][slot] == a["tag"]:
        state.keys["rival"][slot] = 0
    state.actors["last_cell"][place] = GONE


def calm(state: State, slot: int) -> None:
    """Clears the evidence against a key; what is usual for it stays."""
    for table in (state.novelty, state.probing, state.denied, state.surge):
        table["evidence"][slot] = 0
        table["now"][slot] = 0
    for table in (state.enumeration, state.sequence, state.misses, state.dormancy, state.volume):
        table["evidence"][slot] = 0
    state.novelty["fresh"][slot] = 0
    state.probing["bits"][slot] = 0
    state.denied["fresh"][slot] = 0
    state.volume["cusum"][slot] = 0
    state.slow["cusum"][slot] = 0
    state.slow["ramp"][slot] = 0
    state.slow["objects"][slot] = 0
    state.slow["growth"][slot] = 0
    state.keys["own_mix"][slot] = 0
    lift_hold(state, slot)


def lift_hold(state: State, slot: int) -> None:
    """Learning goes on; a later suspicion may hold it anew."""
    state.keys["hold_cell"][slot] = -1
    state.keys["hold_since"][slot] = GONE


def forget(state: State, slot: int) -> None:
    """All of a key but its identity: its next request begins its life anew."""
    unknow(state, known_values(state, slot).places)
    state.actors["last_cell"][actors_of(state, slot)] = GONE
    state.pages["last_cell"][_pages(state, slot)[0]] = GONE
    kept = {name: state.keys[name][slot].copy() for name in IDENTITY}
    tag: Any = np.uint64(mix64(kept["hi"], kept["lo"]))
    tries = find_tag(state.auth, tag)
    if tries >= 0:
        state.auth[tries] = np.zeros((), state.auth.dtype)
        state.auth["tag"][tries], state.auth["last_cell"][tries] = tag, GONE
    for name in tables.PER_KEY:
        getattr(state, name)[slot] = np.zeros((), getattr(state, name).dtype)
    for name, value in kept.items():
        state.keys[name][slot] = value
    state.keys["cell"][slot] = state.volume["born_cell"][slot] = -1
    lift_hold(state, slot)


@kernel
def _enter(table: Any, records: Any) -> int:
    added = 0
    for i in range(len(records)):
        place = find_tag(table, records[i].tag)
        if place < 0:
            place = -1 - place
            added += 1
        table[place] = records[i]
    return added


def inherit(state: State, heir: int, parent: int, ts_us: int) -> State:
    """Gives a new key all that its predecessor has learned, none of the evidence against it.

    Its unestablished sources stay as unestablished as they are. What the new key is called,
    its hard facts, its episodes and its actors are its own. Returns the state, which may have
    grown.
    """
    own = {name: state.keys[name][heir].copy() for name in IDENTITY}
    episodes = state.episodes[heir].copy()
    for name in tables.PER_KEY:
        getattr(state, name)[heir] = getattr(state, name)[parent]
    for name, value in own.items():
        state.keys[name][heir] = value
    for name in ("first_us", "last_us"):
        state.keys[name][heir] = ts_us
    state.episodes[heir] = episodes
    state.keys["actors"][heir] = state.keys["rival"][heir] = 0
    calm(state, heir)
    known = known_values(state, parent)
    records, lo, hi = state.pairs[known.places], own["lo"], own["hi"]
    for i, (kind, value) in enumerate(zip(known.kinds.tolist(), known.values, strict=True)):
        records["tag"][i] = mix64(lo ^ np.uint64(kind + 1), value)
        barred = records["mark"][i] & np.uint8(BARRED)
        mark_pair(records[i], hi, kind)
        records["mark"][i] |= barred
    places, names = _pages(state, parent)
    pages = state.pages[places]
    pages["tag"] = [page_tag(lo, name) for name in names.tolist()]
    more = {"pairs": len(records), "pages": len(pages)}
    state = tables.grown(state, more)
    state.shard["pairs"] += _enter(state.pairs, records)
    state.shard["pages"] += _enter(state.pages, pages)
    return state


def _pages(state: State, slot: int) -> tuple[I64, U64]:
    """Where the key's memory of identifiers lies, and what its pages are called within the key."""
    m, lo = state.memory[slot], state.keys["lo"][slot]
    found = []
    for back, level in ((0, int(m["level"])), (1, int(m["old_level"]))):
        generation = (int(m["generation"]) - back) & 0xFFFF
        for number in range(1 << 2 * level):
            name = page_name(generation, number)
            tag: Any = np.uint64(page_tag(lo, name))
            place = find_tag(state.pages, tag)
            if place >= 0:
                found.append((place, name))
    places, names = zip(*found, strict=True) if found else ((), ())
    return np.array(places, np.int64), np.array(names, np.uint64)
