"""The saved form of a shard: a versioned header in JSON, then plain arrays. No pickle.

``MAGIC | header length u32 | header | arrays | names | texts | book | controls``. The envelope
(offset, checksum) belongs to the snapshot store; here only structure is checked, and a
mismatch is refused by name, never guessed.
"""

from __future__ import annotations

import struct
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from detector.core import tables
from detector.core.book import EpisodeBook
from detector.core.errors import SnapshotError
from detector.core.events import KeyName
from detector.core.sentences import Texts
from detector.core.tables import State
from detector.core.verdicts import Controls
from models.auth import AUTH
from models.clock import cell_of
from models.memory import PAGE

MAGIC = b"KWSHARD1"
LENGTH = struct.Struct("<I")
VERSION = 3

_TABLES = tuple(tables.LIFE_CELLS)


class ArrayHeader(msgspec.Struct):
    """Where an array is and what it must look like."""

    name: str
    layout: str
    rows: int
    length_bytes: int


class Header(msgspec.Struct):
    """First part of a saved shard."""

    version: int
    arrays: list[ArrayHeader]
    names_bytes: int
    texts_bytes: int
    book_bytes: int
    controls_bytes: int


def _layout(dtype: np.dtype[Any]) -> str:
    return str(dtype.descr)


def encode(
    state: State, names: list[KeyName], texts: Texts, book: EpisodeBook, controls: Controls
) -> bytes:
    """Bytes from which ``decode`` makes an equal shard."""
    n_keys = int(state.shard["keys"][0])
    arrays = {name: getattr(state, name)[:n_keys] for name in tables.PER_KEY}
    clock_us = int(state.shard["clock_us"][0])
    for name, life_cells in tables.LIFE_CELLS.items():
        arrays[name] = tables.alive(getattr(state, name), clock_us, life_cells)
    arrays["values"] = state.values[state.values != 0]
    arrays["shard"] = state.shard
    bodies = {name: _clean(array).tobytes() for name, array in arrays.items()}
    extra = [msgspec.msgpack.encode(part) for part in (names, texts.tables, book, controls)]
    header = Header(
        version=VERSION,
        arrays=[
            ArrayHeader(name, _layout(a.dtype), len(a), len(bodies[name]))
            for name, a in arrays.items()
        ],
        names_bytes=len(extra[0]),
        texts_bytes=len(extra[1]),
        book_bytes=len(extra[2]),
        controls_bytes=len(extra[3]),
    )
    head = msgspec.json.encode(header)
    return b"".join([MAGIC, LENGTH.pack(len(head)), head, *bodies.values(), *extra])


def decode(data: bytes) -> tuple[State, list[KeyName], Texts, EpisodeBook, Controls]:
    """The parts of the shard that ``encode`` saved. Raises ``SnapshotError``."""
    try:
        header, at = _header(data)
        arrays: dict[str, npt.NDArray[Any]] = {}
        blank = tables.blank(keys=1, pairs=1, actors=1)
        for a in header.arrays:
            like = getattr(blank, a.name)
            if _layout(like.dtype) != a.layout:
                raise SnapshotError(f"snapshot array {a.name} has another layout than this build's")
            flat = np.frombuffer(data, like.dtype, count=_items(like, a.rows), offset=at)
            arrays[a.name] = flat.reshape(a.rows, *like.shape[1:])
            at += a.length_bytes
        sizes = header.names_bytes, header.texts_bytes, header.book_bytes, header.controls_bytes
        ends = np.cumsum([at, *sizes]).tolist()
        if ends[-1] != len(data):
            raise SnapshotError("snapshot length does not match its header")
        names = msgspec.msgpack.decode(data[ends[0] : ends[1]], type=list[KeyName])
        texts = msgspec.msgpack.decode(data[ends[1] : ends[2]], type=tuple[dict[int, str], ...])
        book = msgspec.msgpack.decode(data[ends[2] : ends[3]], type=EpisodeBook)
        controls = msgspec.msgpack.decode(data[ends[3] : ends[4]], type=Controls)
        state = _state(arrays)
        if len(names) != int(state.shard["keys"][0]):
            raise SnapshotError("snapshot holds another number of names than of keys")
    except (msgspec.MsgspecError, ValueError, KeyError, struct.error, AttributeError) as e:
        raise SnapshotError(f"snapshot is damaged: {e}") from e
    return state, names, Texts(texts), book, controls


def _clean(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A copy whose padding bytes are zero: NumPy leaves old memory in them."""
    clean = np.zeros(array.shape, array.dtype)
    clean[:] = array
    return clean


def _items(like: npt.NDArray[Any], rows: int) -> int:
    return rows * int(np.prod(like.shape[1:], dtype=np.int64))


def _header(data: bytes) -> tuple[Header, int]:
    if data[: len(MAGIC)] != MAGIC:
        raise SnapshotError("not a shard snapshot, or one of a version this build does not read")
    (length,) = LENGTH.unpack_from(data, len(MAGIC))
    at = len(MAGIC) + LENGTH.size
    header = msgspec.json.decode(data[at : at + length], type=Header)
    if header.version != VERSION:
        raise SnapshotError(f"snapshot version {header.version}; this build reads {VERSION}")
    return header, at + length


def _room(n: int) -> int:
    """A power of two that holds n at the tables' load factor."""
    return 1 << max(10, int((n + tables.TABLE_SLACK + 1) / tables.TABLE_LOAD).bit_length())


def _state(arrays: dict[str, npt.NDArray[Any]]) -> State:
    """Live tables around saved rows; places differ from before, results do not."""
    shard = arrays["shard"].copy()
    n_keys = int(shard["keys"][0])
    for name in (*_TABLES, "values"):  # counted, not believed: a full table would never end
        shard[name] = len(arrays[name])
    if any(len(arrays[name]) != n_keys for name in tables.PER_KEY):
        raise SnapshotError("snapshot arrays disagree about the number of keys")
    room = tables.blank(
        keys=_room(n_keys), pairs=_room(len(arrays["pairs"])), actors=_room(len(arrays["actors"]))
    )._asdict()
    room["auth"] = np.zeros(_room(len(arrays["auth"])), AUTH)
    room["pages"] = np.zeros(_room(len(arrays["pages"])), PAGE)
    for name in tables.PER_KEY:
        room[name][:n_keys] = arrays[name]
    tables.refill_index(room["index"], room["keys"], n_keys)
    for name in _TABLES:
        tables.refill_table(room[name], arrays[name])
    room["values"] = np.zeros(_room(len(arrays["values"])), np.uint64)
    tables.refill_values(room["values"], arrays["values"])
    room["shard"] = shard
    return State(**room)


def canonical_rows(state: State) -> dict[str, npt.NDArray[Any]]:
    """The rows that matter of a shard, without places."""
    n_keys = int(state.shard["keys"][0])
    rows = {name: getattr(state, name)[:n_keys] for name in tables.PER_KEY}
    for name in _TABLES:
        table = getattr(state, name)
        rows[name] = table[table["tag"] != 0]
    return rows


def canonical_bytes(parts: list[dict[str, npt.NDArray[Any]]], clock_us: int) -> bytes:
    """Rows of all shards in key and tag order; expired records are left out."""
    if not parts:
        return b""
    merged = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    order = np.lexsort((merged["keys"]["lo"], merged["keys"]["hi"]))
    out = [_clean(merged[name][order]).tobytes() for name in tables.PER_KEY]
    for name, life in tables.LIFE_CELLS.items():
        table = merged[name]
        alive = table[table["last_cell"] >= cell_of(clock_us) - life]
        out.append(_clean(alive[np.argsort(alive["tag"])]).tobytes())
    return b"".join(out)
