"""The state of a shard as arrays, and the open-addressed tables over them.

Everything is keyed by seeded hashes made by the decoder, so a sender cannot choose
collisions. A pair is (key, kind, value); a value not seen for ``EXPIRY_CELLS`` counts as
never seen, wherever its record still lies, so growing a table never changes a result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from detector.core import rows
from detector.core.episodes import CHANNELS
from detector.core.layout import EPISODE, FIELDS, KEY, PAIR, SHARD
from models._jit import kernel
from models.actor import ACTOR
from models.actor import LIFE_CELLS as ACTOR_LIFE_CELLS
from models.auth import AUTH
from models.clock import CELL_US
from models.denied import DENIED
from models.dormancy import DORMANCY
from models.enumeration import ENUMERATION
from models.memory import MEMORY, PAGE
from models.misses import MISSES
from models.novelty import NOVELTY
from models.probing import PROBING
from models.sequence import SEQUENCE
from models.silence import SILENCE
from models.slow import SLOW
from models.surge import SURGE
from models.volume import VOLUME

EXPIRY_CELLS = 56 * 96
EXPIRY_GRACE_CELLS = 7 * 96
HOURS = 24
ROW, OPEN, PEAK, CLOSE = rows.ROW, rows.OPEN, rows.PEAK, rows.CLOSE
HARD, CHANGE, SILENT = rows.HARD, rows.CHANGE, rows.SILENT
TABLE_LOAD, TABLE_SLACK = 0.6, 8
UNNAMED_MAX = 4096
NAMES_MAX = 500_000  # texts kept per shard; past it a value is shown as its hash

KIND_BITS, BARRED, OWNER_BITS = 7, 8, 0xF0  # of PAIR.mark
GONE = -(1 << 30)  # last cell of a record that nobody meets any more

LIFE_CELLS = {
    "pairs": EXPIRY_CELLS,
    "actors": ACTOR_LIFE_CELLS,
    "auth": EXPIRY_CELLS,
    "pages": EXPIRY_CELLS,
}


class State(NamedTuple):
    """All arrays of a shard. Row i of every per-key array is key slot i."""

    index: Any  # int32[capacity of the key table]: slot + 1, 0 = free
    keys: Any
    volume: Any
    season: Any
    novelty: Any
    probing: Any
    dormancy: Any
    enumeration: Any
    memory: Any
    sequence: Any
    slow: Any
    surge: Any
    denied: Any
    misses: Any
    fields: Any
    silence: Any
    episodes: Any
    pairs: Any
    actors: Any
    pages: Any  # identifiers that keys asked for
    auth: Any  # refused tries by key, whether the key exists or not
    values: Any  # uint64 set of the values whose text the shard has asked for
    unnamed: Any  # uint64[n, 2]: (kind, value) met since the last call, text still to take
    shard: Any


PER_KEY = (
    "keys",
    "volume",
    "season",
    "novelty",
    "probing",
    "dormancy",
    "enumeration",
    "memory",
    "sequence",
    "slow",
    "surge",
    "denied",
    "misses",
    "fields",
    "silence",
    "episodes",
)


def blank(keys: int, pairs: int, actors: int) -> State:
    """A state of no keys with room for the given powers of two."""
    return State(
        index=np.zeros(2 * keys, np.int32),
        keys=np.zeros(keys, KEY),
        volume=np.zeros(keys, VOLUME),
        season=np.zeros((keys, HOURS), np.float32),
        novelty=np.zeros(keys, NOVELTY),
        probing=np.zeros(keys, PROBING),
        dormancy=np.zeros(keys, DORMANCY),
        enumeration=np.zeros(keys, ENUMERATION),
        memory=np.zeros(keys, MEMORY),
        sequence=np.zeros(keys, SEQUENCE),
        slow=np.zeros(keys, SLOW),
        surge=np.zeros(keys, SURGE),
        denied=np.zeros(keys, DENIED),
        misses=np.zeros(keys, MISSES),
        fields=np.zeros(keys, FIELDS),
        silence=np.zeros(keys, SILENCE),
        episodes=np.zeros((keys, len(CHANNELS)), EPISODE),
        pairs=np.zeros(pairs, PAIR),
        actors=np.zeros(actors, ACTOR),
        auth=np.zeros(actors, AUTH),
        pages=np.zeros(pairs, PAGE),
        values=np.zeros(pairs, np.uint64),
        unnamed=np.zeros((UNNAMED_MAX, 2), np.uint64),
        shard=np.zeros(1, SHARD),
    )


@kernel
def mix64(a: int, b: int) -> int:
    """Mixes two 64-bit words into one that is never 0 (0 marks a free slot).

    The finaliser is MurmurHash3's; the secrecy comes from the seeded inputs.
    """
    x = np.uint64(a) ^ (np.uint64(b) * np.uint64(0x9E3779B97F4A7C15))
    x ^= x >> np.uint64(33)
    x *= np.uint64(0xFF51AFD7ED558CCD)
    x ^= x >> np.uint64(33)
    x *= np.uint64(0xC4CEB9FE1A85EC53)
    x ^= x >> np.uint64(33)
    return x or np.uint64(1)


@kernel
def unmix64(tag: int, a: int) -> int:
    """The ``b`` of which ``mix64(a, b)`` is this tag; wrong once in 2^64, where 0 became 1.

    >>> hex(unmix64(mix64(5, 0xFEDCBA9876543210), 5))
    '0xfedcba9876543210'
    """
    x = np.uint64(tag)
    x ^= x >> np.uint64(33)
    x *= np.uint64(0x9CB4B2F8129337DB)
    x ^= x >> np.uint64(33)
    x *= np.uint64(0x4F74430C22A54005)
    x ^= x >> np.uint64(33)
    return (x ^ np.uint64(a)) * np.uint64(0xF1DE83E19937733D)


@kernel
def mark_pair(pair: Any, key_hi: int, kind: int) -> None:
    """Writes into a pair what its tag does not say: its kind, and 20 bits of its key's hash."""
    pair.owner = np.uint16(np.uint64(key_hi) & np.uint64(0xFFFF))
    bits = np.uint64(key_hi) >> np.uint64(12) & np.uint64(OWNER_BITS)
    pair.mark = np.uint8(bits | np.uint64(kind + 1))


@kernel
def may_be_of(pair: Any, key_hi: int) -> bool:
    """True when those bits are this key's."""
    bits = np.uint64(key_hi) >> np.uint64(12) & np.uint64(OWNER_BITS)
    same = np.uint64(pair.mark) & np.uint64(OWNER_BITS) == bits
    return bool(same and np.uint64(pair.owner) == np.uint64(key_hi) & np.uint64(0xFFFF))


@kernel
def find_key(index: Any, keys: Any, hi: int, lo: int) -> int:
    """Slot of a key, or ``-1 - position`` of the free place where it belongs."""
    mask = np.uint64(len(index) - 1)
    at = np.uint64(lo) & mask
    while True:
        slot = index[at] - 1
        if slot < 0:
            return -1 - np.int64(at)
        if keys[slot].lo == lo and keys[slot].hi == hi:
            return np.int64(slot)
        at = (at + np.uint64(1)) & mask


@kernel
def find_tag(table: Any, tag: int) -> int:
    """Place of a tag in a table with a ``tag`` field, or ``-1 - place`` where it belongs."""
    mask = np.uint64(len(table) - 1)
    at = np.uint64(tag) & mask
    while True:
        found = table[at].tag
        if found == tag:
            return np.int64(at)
        if found == 0:
            return -1 - np.int64(at)
        at = (at + np.uint64(1)) & mask


@kernel
def refill_index(index: Any, keys: Any, n_keys: int) -> None:
    """Enters the first ``n_keys`` keys into an empty index."""
    for slot in range(n_keys):
        index[-1 - find_key(index, keys, keys[slot].hi, keys[slot].lo)] = slot + 1


@kernel
def refill_table(table: Any, records: Any) -> int:
    """Enters all records with a tag into an empty table; returns how many."""
    n = 0
    for i in range(len(records)):
        if records[i].tag != 0:
            table[-1 - find_tag(table, records[i].tag)] = records[i]
            n += 1
    return n


@kernel
def note_value(s: Any, kind: int, value: int) -> None:
    """Asks once for the text of a value; ignored past NAMES_MAX."""
    mask = np.uint64(len(s.values) - 1)
    tag = mix64(np.uint64(kind + 1), value)
    at = tag & mask
    while s.values[at] != 0:
        if s.values[at] == tag:
            return
        at = (at + np.uint64(1)) & mask
    shard = s.shard[0]
    if shard.values >= NAMES_MAX:
        return
    s.values[at] = tag
    shard.values += 1
    s.unnamed[shard.unnamed, 0] = kind
    s.unnamed[shard.unnamed, 1] = value
    shard.unnamed += 1


@kernel
def knows_value(s: Any, kind: int, value: int) -> bool:
    """True for a value whose text was asked for; for any once no more are asked for."""
    if s.shard[0].values >= NAMES_MAX:
        return True
    mask = np.uint64(len(s.values) - 1)
    tag = mix64(np.uint64(kind + 1), value)
    at = tag & mask
    while s.values[at] != 0:
        if s.values[at] == tag:
            return True
        at = (at + np.uint64(1)) & mask
    return False


@kernel
def refill_values(values: Any, old: Any) -> None:
    """Enters all tags of ``old`` into an empty set."""
    mask = np.uint64(len(values) - 1)
    for i in range(len(old)):
        if old[i] != 0:
            at = old[i] & mask
            while values[at] != 0:
                at = (at + np.uint64(1)) & mask
            values[at] = old[i]


def alive(table: Any, clock_us: int, life_cells: int) -> Any:
    """Records that a later event may still meet; a week's grace for late senders.

    What is left out would be treated as never seen, so leaving it out changes no result.
    """
    oldest = clock_us // CELL_US - life_cells - EXPIRY_GRACE_CELLS
    return table[(table["tag"] != 0) & (table["last_cell"] >= oldest)]


def grown(state: State, room: Mapping[str, int] | None = None) -> State:
    """The same state with room for more, for ``room[table]`` records at once if need be.

    The per-key arrays double when the keys fill them. A table at 60 % load loses what has
    expired, and doubles when more than half of it is still alive: months of churn do not
    grow it without end.
    """
    n_keys, shard = int(state.shard["keys"][0]), state.shard
    arrays = state._asdict()
    if n_keys + 1 >= len(state.keys):
        for name in PER_KEY:
            old = arrays[name]
            arrays[name] = np.zeros((2 * len(old), *old.shape[1:]), old.dtype)
            arrays[name][:n_keys] = old[:n_keys]
        arrays["index"] = np.zeros(2 * len(state.index), np.int32)
        refill_index(arrays["index"], arrays["keys"], n_keys)
    for name, life_cells in LIFE_CELLS.items():
        more = (room or {}).get(name, 0)
        while int(shard[name][0]) + more >= TABLE_LOAD * len(arrays[name]) - TABLE_SLACK:
            old = arrays[name]
            living = alive(old, int(shard["clock_us"][0]), life_cells)
            factor = 2 if 2 * len(living) > shard[name][0] or more else 1
            arrays[name] = np.zeros(factor * len(old), old.dtype)
            shard[name] = refill_table(arrays[name], living)
    if int(shard["values"][0]) >= TABLE_LOAD * len(state.values) - TABLE_SLACK:
        arrays["values"] = np.zeros(2 * len(state.values), np.uint64)
        refill_values(arrays["values"], state.values)
    return State(**arrays)


@kernel
def needs_room(state: Any) -> bool:
    """True when the next event might not fit: one key, five pairs, one of each other table."""
    shard = state.shard[0]
    return (
        shard.keys + 1 >= len(state.keys)
        or shard.pairs >= TABLE_LOAD * len(state.pairs) - TABLE_SLACK
        or shard.actors >= TABLE_LOAD * len(state.actors) - TABLE_SLACK
        or shard.auth >= TABLE_LOAD * len(state.auth) - TABLE_SLACK
        or shard.pages >= TABLE_LOAD * len(state.pages) - TABLE_SLACK
        or shard.values >= TABLE_LOAD * len(state.values) - TABLE_SLACK
        or shard.unnamed + 5 > len(state.unnamed)
    )
