"""Fast scanner for nginx's combined format (and the common one, which is its beginning).

``addr ident user [time] "request" status bytes "referer" "agent" "forwarded-for"``; the
last three are optional. Quoted fields may hold backslash escapes, which are kept as they are.
A user may hold blanks. A request that is not ``METHOD target ...`` is an event without a
route: scanners of the internet send such things to every port.
"""

from __future__ import annotations

import numpy as np

from detector.core.events import I16, I64, U8
from detector.decode.bytes import load8, store64
from detector.decode.faults import BAD_LINE, BAD_LINE_NUMBER, OK
from detector.decode.rows import (
    BYTES,
    CHAIN,
    KEY_ID,
    METHOD,
    N_FIELDS,
    PATH,
    SOURCE_IP,
    STATUS,
    TS,
    USER_AGENT,
)
from models._jit import njit

_BAD = -1


@njit
def _until(at: int, end: int, byte: int) -> int:
    while at < end and load8(at) != byte:
        at += 1
    return at if at < end else _BAD


@njit
def _quoted_end(at: int, end: int) -> int:
    """Position of the closing quote; a backslash protects the next byte."""
    while at < end and load8(at) != 34:
        at += 2 if load8(at) == 92 else 1
    return at if at < end else _BAD


@njit
def _set(field: int, first: int, stop: int, row: int, base: int) -> None:
    if stop > first and not (stop == first + 1 and load8(first) == 45):
        store64(row + 16 * field, first - base)
        store64(row + 16 * field + 8, stop - first)


@njit
def _request(first: int, stop: int, row: int, base: int) -> None:
    """``METHOD target[ HTTP/x]``; anything else leaves method and path missing."""
    space = _until(first, stop, 32)
    if space <= first or space + 1 >= stop:
        return
    for i in range(first, space):
        if not 65 <= load8(i) <= 90 and load8(i) != 45 and load8(i) != 95:
            return
    target = space + 1
    target_end = _until(target, stop, 32)
    if target_end < 0:
        target_end = stop
    if load8(target) == 47 or load8(target) == 42 or _until(target, target_end, 58) > 0:
        _set(METHOD, first, space, row, base)
        _set(PATH, target, target_end, row, base)


@njit
def _number(first: int, stop: int) -> int:
    """Digits or ``-`` (0); ``_BAD`` otherwise."""
    if stop == first + 1 and load8(first) == 45:
        return 0
    if stop <= first or stop - first > 18:
        return _BAD
    value = 0
    for i in range(first, stop):
        if load8(i) < 48 or load8(i) > 57:
            return _BAD
        value = value * 10 + (load8(i) - 48)
    return value


@njit
def _head(at: int, end: int, row: int, base: int) -> int:
    """Address, user and time; the position after the bracket, or ``_BAD``."""
    space = _until(at, end, 32)
    if space <= at:
        return _BAD
    _set(SOURCE_IP, at, space, row, base)
    ident_end = _until(space + 1, end, 32)
    if ident_end < 0:
        return _BAD
    at = ident_end + 1
    bracket = _until(at, end, 91)
    while bracket > 0 and load8(bracket - 1) != 32:  # a user such as a[1] is no time
        bracket = _until(bracket + 1, end, 91)
    if bracket < at + 2:
        return _BAD
    close = _until(bracket, end, 93)
    if close < 0:
        return _BAD
    _set(KEY_ID, at, bracket - 1, row, base)
    _set(TS, bracket + 1, close, row, base)
    return close + 1


@njit
def _tail(at: int, end: int, row: int, base: int) -> bool:
    """Up to three quoted fields: referer, agent, forwarded-for."""
    for k in range(3):
        if at == end:
            return k != 1
        if at + 1 >= end or load8(at) != 32 or load8(at + 1) != 34:
            return False
        close = _quoted_end(at + 2, end)
        if close < 0:
            return False
        if k == 1:
            _set(USER_AGENT, at + 2, close, row, base)
        elif k == 2:
            _set(CHAIN, at + 2, close, row, base)
        at = close + 1
    return at == end


@njit
def _line(at: int, end: int, row: int, base: int) -> tuple[int, int, int]:
    """One line: its fault, status and size."""
    while end > at and (load8(end - 1) == 10 or load8(end - 1) == 13 or load8(end - 1) == 32):
        end -= 1
    at = _head(at, end, row, base)
    if at < 0 or at + 1 >= end or load8(at) != 32 or load8(at + 1) != 34:
        return BAD_LINE, 0, 0
    close = _quoted_end(at + 2, end)
    if close < 0 or close + 1 >= end or load8(close + 1) != 32:
        return BAD_LINE, 0, 0
    _request(at + 2, close, row, base)
    first = close + 2
    space = _until(first, end, 32)
    if space < 0:
        return BAD_LINE, 0, 0
    stop = _until(space + 1, end, 32)
    if stop < 0:
        stop = end
    status, size = _number(first, space), _number(space + 1, stop)
    if status < 0 or size < 0:
        return BAD_LINE_NUMBER, 0, 0
    fault = OK if _tail(stop, end, row, base) else BAD_LINE
    return fault, status, size


@njit
def scan_lines(buf: U8, bounds: I64, cells: I64, fault: I16) -> int:
    """Fills the rows whose fault is 0. Returns how many have a forwarded-for field."""
    base = np.int64(buf.ctypes.data)
    table = np.int64(cells.ctypes.data)
    chains = 0
    for i in range(len(fault)):
        if fault[i] != OK:
            continue
        row = table + i * 16 * N_FIELDS
        fault[i], status, size = _line(base + bounds[i], base + bounds[i + 1], row, base)
        cells[i, STATUS, 0], cells[i, BYTES, 0] = status, size
        chains += cells[i, CHAIN, 1] > 0
    return chains


@njit
def mark_not_ascii(buf: U8, bounds: I64, marks: U8) -> int:
    """Sets ``marks[i]`` for records with a byte of 128 or more; returns their count."""
    count = 0
    for i in range(len(bounds) - 1):
        for at in range(bounds[i], bounds[i + 1]):
            if buf[at] >= 128:
                marks[i] = 1
                count += 1
                break
    return count
