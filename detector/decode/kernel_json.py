"""Fast scanner for flat canonical events. It refuses what it is not sure about.

Taken: one JSON object of plain ASCII strings (no escapes), numbers, ``true``, ``false``,
``null``, and up to 32 levels of containers that are ``credential`` or an unknown field; known
fields at most once and of their own type. Everything else is ``SLOW`` and
goes through ``tolerant.py``, which alone decides what is wrong with a record; the scanner
never rejects. A fuzz test holds the two equal.
"""

from __future__ import annotations

import numpy as np

from detector.core.events import I16, I64, U8
from detector.decode.bytes import load8, load64, low_bytes, stop_in, store64
from detector.decode.faults import OK, SLOW
from detector.decode.rows import (
    API_KEY,
    AUTH,
    BYTES,
    CREDENTIAL,
    KEY_ID,
    METHOD,
    N_FIELDS,
    OWNER,
    PATH,
    ROUTE,
    SOURCE_IP,
    STATUS,
    TS,
    USER_AGENT,
)
from models._jit import njit

_UNKNOWN = 31
_REFUSE = -1
_DIGITS_MAX = 18  # always fits int64
_DEPTH_MAX = 32


def _word(text: bytes) -> np.uint64:
    return np.uint64(int.from_bytes(text[:8], "little"))


_TS, _KEY_ID, _API_KEY = _word(b"ts"), _word(b"key_id"), _word(b"api_key")
_METHOD, _PATH, _ROUTE = _word(b"method"), _word(b"path"), _word(b"route")
_STATUS, _BYTES, _AUTH = _word(b"status"), _word(b"bytes"), _word(b"auth")
_OWNER, _SOURCE, _AGENT = _word(b"owner"), _word(b"source_i"), _word(b"user_age")
_CREDENTIAL = _word(b"credenti")


@njit
def _field(start: int, n: int) -> int:
    """The field's number, or ``_UNKNOWN``."""
    word = low_bytes(load64(start), n)
    if n == 2:
        return TS if word == _TS else _UNKNOWN
    if n == 4:
        return PATH if word == _PATH else (AUTH if word == _AUTH else _UNKNOWN)
    if n == 5:
        if word == _BYTES:
            return BYTES
        return ROUTE if word == _ROUTE else (OWNER if word == _OWNER else _UNKNOWN)
    if n == 6:
        if word == _KEY_ID:
            return KEY_ID
        return METHOD if word == _METHOD else (STATUS if word == _STATUS else _UNKNOWN)
    if n == 7:
        return API_KEY if word == _API_KEY else _UNKNOWN
    if n == 9:
        return SOURCE_IP if word == _SOURCE and load8(start + 8) == 112 else _UNKNOWN
    if n == 10:
        if word == _AGENT and load8(start + 8) == 110 and load8(start + 9) == 116:
            return USER_AGENT
        is_credential = word == _CREDENTIAL and load8(start + 8) == 97 and load8(start + 9) == 108
        return CREDENTIAL if is_credential else _UNKNOWN
    return _UNKNOWN


@njit
def _string_end(at: int, end: int) -> int:
    """Position of the closing quote, or ``_REFUSE``."""
    while at < end:
        wide = stop_in(load64(at))
        at += wide
        if wide < 8:
            return at if at < end and load8(at) == 34 else _REFUSE
    return _REFUSE


@njit
def _digits_end(at: int, end: int) -> int:
    while at < end and 48 <= load8(at) <= 57:
        at += 1
    return at


@njit
def _number_end(at: int, end: int) -> int:
    """End of a JSON number by the grammar, or ``_REFUSE``."""
    if at < end and load8(at) == 45:
        at += 1
    stop = _digits_end(at, end)
    if stop == at or (stop - at > 1 and load8(at) == 48):
        return _REFUSE
    if stop < end and load8(stop) == 46:
        at = stop + 1
        stop = _digits_end(at, end)
        if stop == at:
            return _REFUSE
    if stop < end and (load8(stop) | 32) == 101:
        at = stop + 1
        if at < end and (load8(at) == 43 or load8(at) == 45):
            at += 1
        stop = _digits_end(at, end)
        if stop == at:
            return _REFUSE
    return stop


@njit
def _word_end(at: int, end: int) -> int:
    """End of ``null``, ``true`` or ``false``, or ``_REFUSE``."""
    if at + 4 <= end:
        a, b, c, d = load8(at), load8(at + 1), load8(at + 2), load8(at + 3)
        if a == 110 and b == 117 and c == 108 and d == 108:
            return at + 4
        if a == 116 and b == 114 and c == 117 and d == 101:
            return at + 4
        if (
            at + 5 <= end
            and a == 102
            and b == 97
            and c == 108
            and d == 115
            and load8(at + 4) == 101
        ):
            return at + 5
    return _REFUSE


@njit
def _integer(start: int, end: int) -> int:
    """The number; the caller knows that it is a plain integer of at most 18 digits."""
    is_negative = load8(start) == 45
    value = 0
    for i in range(start + (1 if is_negative else 0), end):
        value = value * 10 + load8(i) - 48
    return -value if is_negative else value


@njit
def _is_short_integer(start: int, end: int) -> bool:
    first = start + (1 if load8(start) == 45 else 0)
    return end - first <= _DIGITS_MAX and _digits_end(first, end) == end


@njit
def _blank(at: int, end: int) -> int:
    while at < end and (load8(at) == 32 or load8(at) == 10 or load8(at) == 13 or load8(at) == 9):
        at += 1
    return at


@njit
def _key_end(at: int, end: int) -> int:
    """From a member's name to where its value begins, or ``_REFUSE``."""
    if at >= end or load8(at) != 34:
        return _REFUSE
    at = _string_end(at + 1, end)
    if at < 0:
        return _REFUSE
    at = _blank(at + 1, end)
    if at >= end or load8(at) != 58:
        return _REFUSE
    return _blank(at + 1, end)


@njit
def _scalar_end(at: int, end: int) -> int:
    if at >= end:
        return _REFUSE
    byte = load8(at)
    if byte == 34:
        stop = _string_end(at + 1, end)
        return stop + 1 if stop > 0 else _REFUSE
    if byte == 45 or 48 <= byte <= 57:
        return _number_end(at, end)
    return _word_end(at, end)


@njit
def _container_end(at: int, end: int) -> int:
    """End of an object or array, whatever it holds, or ``_REFUSE``.

    ``kinds`` is the stack of open containers, one bit each: 1 = object.
    """
    kinds = depth = 0
    while True:
        is_open = at < end and (load8(at) == 123 or load8(at) == 91)
        if is_open:
            if depth == _DEPTH_MAX:
                return _REFUSE
            kinds = kinds << 1 | (1 if load8(at) == 123 else 0)
            depth += 1
            at = _blank(at + 1, end)
            if at < end and load8(at) != (125 if kinds & 1 else 93):
                at = _key_end(at, end) if kinds & 1 else at
                if at < 0:
                    return _REFUSE
                continue
        else:
            at = _scalar_end(at, end)
            if at < 0:
                return _REFUSE
            at = _blank(at, end)
        # behind a value, or in front of the bracket of an empty container
        while at < end and load8(at) == (125 if kinds & 1 else 93):
            kinds >>= 1
            depth -= 1
            if depth == 0:
                return at + 1
            at = _blank(at + 1, end)
        if at >= end or load8(at) != 44:
            return _REFUSE
        at = _blank(at + 1, end)
        if kinds & 1:
            at = _key_end(at, end)
            if at < 0:
                return _REFUSE


@njit
def _set(row: int, field: int, start: int, length: int) -> None:
    """Writes one cell of a row of (start, length) pairs."""
    store64(row + 16 * field, start)
    store64(row + 16 * field + 8, length)


@njit
def _string(at: int, end: int, field: int, row: int, base: int) -> int:
    stop = _string_end(at + 1, end)
    if stop < 0 or (field >= CREDENTIAL and field != _UNKNOWN):
        return _REFUSE
    wide = stop - at - 1
    if field < STATUS and not (wide == 1 and load8(at + 1) == 45):
        _set(row, field, at + 1 - base, wide)
    return stop + 1


@njit
def _number(at: int, end: int, field: int, row: int, base: int) -> int:
    stop = _number_end(at, end)
    if stop < 0 or field == _UNKNOWN:
        return stop
    if field == TS:
        _set(row, field, at - base, stop - at)
        return stop
    if field < STATUS or not _is_short_integer(at, stop):
        return _REFUSE
    store64(row + 16 * field, _integer(at, stop))
    return stop


@njit
def _value(at: int, end: int, field: int, row: int, base: int) -> int:
    """Reads one value into its field; its end, or ``_REFUSE``."""
    byte = load8(at)
    if byte == 34:
        return _string(at, end, field, row, base)
    if byte == 45 or 48 <= byte <= 57:
        return _number(at, end, field, row, base)
    if byte == 123 or (byte == 91 and field == _UNKNOWN):
        stop = _container_end(at, end) if field in (CREDENTIAL, _UNKNOWN) else _REFUSE
        if stop > 0 and field == CREDENTIAL:
            _set(row, field, at - base, stop - at)
        return stop
    stop = _word_end(at, end)
    if stop > 0 and byte != 110 and field != _UNKNOWN:
        return _REFUSE
    return stop


@njit
def _object(at: int, end: int, row: int, base: int) -> bool:
    """Reads one event; False where the scanner is not sure."""
    at = _blank(at, end)
    if at >= end or load8(at) != 123:
        return False
    at = _blank(at + 1, end)
    seen = 0
    while at < end and load8(at) == 34:
        stop = _string_end(at + 1, end)
        if stop < 0:
            return False
        field = _field(at + 1, stop - at - 1)
        if field < 0 or (field != _UNKNOWN and seen >> field & 1):
            return False
        seen |= 1 << field
        at = _blank(stop + 1, end)
        if at >= end or load8(at) != 58:
            return False
        at = _blank(at + 1, end)
        at = _value(at, end, field, row, base) if at < end else _REFUSE
        if at < 0:
            return False
        at = _blank(at, end)
        if at < end and load8(at) == 125:
            return _blank(at + 1, end) == end
        if at >= end or load8(at) != 44:
            return False
        at = _blank(at + 1, end)
    return False


@njit
def scan_json(buf: U8, bounds: I64, cells: I64, fault: I16) -> int:
    """Fills the rows whose fault is 0; refused ones become ``SLOW``. Returns their count.

    Record i is ``buf[bounds[i] : bounds[i + 1]]``; ``cells`` are those of ``Rows``.
    """
    base = np.int64(buf.ctypes.data)
    table = np.int64(cells.ctypes.data)
    refused = 0
    for i in range(len(fault)):
        if fault[i] != OK:
            continue
        row = table + i * 16 * N_FIELDS
        if not _object(base + bounds[i], base + bounds[i + 1], row, base):
            cells[i] = 0
            fault[i] = SLOW
            refused += 1
    return refused
