"""Path templating and route text over bytes. ``template.py`` states the rules."""

from __future__ import annotations

import numpy as np

from detector.core.events import U8
from detector.decode.bytes import PAD_BYTES, copy, load8, store8
from detector.decode.template import (
    METHOD_BYTES_MAX,
    NUMBER_MAX,
    PATH_BYTES_MAX,
    SEGMENT_BYTES_MAX,
    SEGMENTS_MAX,
    TEMPLATE_BYTES_MAX,
    VERSION_SEGMENTS,
)
from models._jit import njit

# method, blank, template, "/..."
ROUTE_SCRATCH_BYTES = METHOD_BYTES_MAX + 1 + TEMPLATE_BYTES_MAX + 4 + PAD_BYTES
IDENT_SCRATCH_BYTES = 2 * PATH_BYTES_MAX + PAD_BYTES

_LETTER, _DIGIT, _HEX, _PLAIN, _PATH_END, _CUT, _LOWER = 1, 2, 4, 8, 16, 32, 64
_NUMBER = _DIGIT | _HEX | _PLAIN


def _classes() -> U8:
    table = np.zeros(256, np.uint8)
    for code in range(128):
        char = chr(code)
        table[code] |= _LETTER * char.isalpha() | _DIGIT * char.isdigit()
        table[code] |= _HEX * (char in "0123456789abcdefABCDEF")
        table[code] |= _LOWER * ("a" <= char <= "z")
        table[code] |= _PATH_END * (char in "?#") | _CUT * (char in "/;?#")
        table[code] |= _PLAIN * (char.isalnum() or char in "-._~!$&'()*+,=:")
    return table


_CLASS = _classes()
_REST = np.frombuffer(b"/...", np.uint8)
_ID = np.frombuffer(b"/{id}", np.uint8)
_OTHER = np.frombuffer(b"OTHER", np.uint8)
_HEX_DIGITS = np.frombuffer(b"0123456789ABCDEF", np.uint8)

LITERAL, IDENTIFIER, PLACEHOLDER, CLOSED = 0, 1, 2, 3
_U = np.uint64


@njit
def _put(at: int, text: U8) -> int:
    for byte in text:
        store8(at, byte)
        at += 1
    return at


@njit
def _core_end(start: int, end: int) -> int:
    """End of a segment without its ``:port`` and its extension."""
    at = end
    while at > start and end - at < 6 and _class_at(at - 1) & _DIGIT:
        at -= 1
    if at < end and end - at <= 5 and at - 1 > start and load8(at - 1) == 58:
        end = at - 1
    at = end
    while at > start and end - at < 6 and _class_at(at - 1) & (_LETTER | _DIGIT):
        at -= 1
    wide = end - at
    if 1 <= wide <= 5 and at - 1 > start and load8(at - 1) == 46 and _class_at(at) & _LETTER:
        end = at - 1
    return end


@njit
def _is_random(start: int, end: int) -> bool:
    """Rule 6 for one run of letters and digits."""
    groups = in_row = 0
    has_word = is_mixed = False
    was_digit = False
    for i in range(start, end):
        kind = _class_at(i)
        is_digit = kind & _DIGIT != 0
        groups += is_digit and not was_digit
        is_mixed = is_mixed or (groups > 0 and not is_digit)
        in_row = in_row + 1 if kind & _LOWER else 0
        has_word = has_word or in_row >= 5
        was_digit = is_digit
    n = end - start
    return (n >= 10 and groups >= 2) or (n >= 14 and is_mixed and not has_word)


@njit
def _core_is_identifier(start: int, end: int, follows_id: bool) -> bool:
    """Rules 2 to 6 for a core that holds a digit and is no version."""
    letters = in_row = hexes = 0
    run = start
    for i in range(start, end):
        kind = _class_at(i)
        in_row = in_row + 1 if kind & _DIGIT else 0
        if in_row >= 3:
            return True
        letters += kind & _LETTER
        hexes += (kind & _HEX) >> 2
        if not kind & (_LETTER | _DIGIT):
            if i - run >= 10 and _is_random(run, i):
                return True
            run = i + 1
    if end - run >= 10 and _is_random(run, end):
        return True
    if letters == 0 or (hexes >= 8 and _is_hex(start, end)):
        return True
    # letters first, digits after them, nothing else
    digits = end - start - letters
    if letters > 2 or not _is_all(start, letters, _LETTER):
        return False
    if not _is_all(start + letters, digits, _DIGIT):
        return False
    return digits >= 2 or (follows_id and letters == 1)


@njit
def _is_all(start: int, n: int, kind: int) -> bool:
    for i in range(start, start + n):  # noqa: SIM110 - numba compiles no generators
        if not _class_at(i) & kind:
            return False
    return True


@njit
def _is_hex(start: int, end: int) -> bool:
    for i in range(start, end):  # noqa: SIM110 - numba compiles no generators
        if not _class_at(i) & _HEX and load8(i) != 45:
            return False
    return True


@njit
def segment_kind(start: int, end: int, seen: int, position: int, follows_id: bool) -> int:
    """``LITERAL``, ``IDENTIFIER`` or ``PLACEHOLDER``.

    ``seen`` joins the classes of its bytes, with ``_PLAIN`` taken away if one has it not.
    """
    n = end - start
    if n == 0:
        return LITERAL
    first = load8(start)
    if first == 58 or (first == 123 and load8(end - 1) == 125):
        return PLACEHOLDER
    if n > SEGMENT_BYTES_MAX or not seen & _PLAIN or seen == _NUMBER:
        return IDENTIFIER
    if not seen & _DIGIT:
        return LITERAL
    end = _core_end(start, end)
    digits = 0
    for i in range(start, end):
        digits += (_class_at(i) & _DIGIT) >> 1
    if digits == 0:
        return LITERAL
    if (first | 32) == 118 and end - start - 1 == digits and digits <= 2:
        return LITERAL if position < VERSION_SEGMENTS else IDENTIFIER
    return IDENTIFIER if _core_is_identifier(start, end, follows_id) else LITERAL


@njit
def _class_at(at: int) -> int:
    return _CLASS[_U(load8(at))]


@njit
def _scan_name(at: int, end: int) -> tuple[int, int]:
    """End of a segment's name (at ``/;?#``) and the classes seen in it."""
    seen, all_plain = 0, _PLAIN
    while at < end:
        kind = _class_at(at)
        if kind & _CUT:
            break
        seen |= kind
        all_plain &= kind
        at += 1
    return at, (seen & ~_PLAIN) | all_plain


@njit
def _segment_end(at: int, end: int) -> int:
    """End of a segment's parameters (at ``/?#``)."""
    while at < end and load8(at) != 47 and not _class_at(at) & _PATH_END:
        at += 1
    return at


@njit
def _after_host(start: int, end: int) -> int:
    """Where the path of an absolute URL begins; ``start`` for a plain path."""
    at = start
    while at < end and at - start < 9 and _class_at(at) & _LETTER:
        at += 1
    is_url = 1 <= at - start <= 8 and at + 2 < end
    if not (is_url and load8(at) == 58 and load8(at + 1) == 47 and load8(at + 2) == 47):
        return start
    at += 3
    while at < end and load8(at) != 47 and load8(at) != 63 and load8(at) != 35:
        at += 1
    return at


@njit
def _keep(start: int, end: int, ids: int) -> int:
    """Appends a cut-out part and its NUL; an empty part leaves no trace."""
    if end <= start:
        return ids
    ids = copy(start, end, ids)
    store8(ids, 0)
    return ids + 1


@njit
def _query_values(at: int, end: int, ids: int) -> int:
    """Keeps what follows the first ``=`` of each parameter, or all of it, up to ``#``."""
    while at < end and load8(at) != 35:
        value = stop = at
        has_value = False
        while stop < end and load8(stop) != 38 and load8(stop) != 35:
            if load8(stop) == 61 and not has_value:
                value, has_value = stop + 1, True
            stop += 1
        ids = _keep(value, stop, ids)
        at = stop + 1 if stop < end and load8(stop) == 38 else stop
    return ids


@njit
def last_number(ids: int, ids_end: int) -> int:
    """The last of the kept identifiers that is a number; see ``template.last_number``."""
    stop = ids_end - 1
    while stop > ids:
        at = stop
        while at > ids and _class_at(at - 1) & _DIGIT:
            at -= 1
        if at < stop and (at == ids or load8(at - 1) == 0):
            value = 0
            for i in range(at, stop):
                value = min(value * 10 + load8(i) - 48, NUMBER_MAX + 1)
            if value <= NUMBER_MAX:
                return value
        while at > ids and load8(at - 1) != 0:
            at -= 1
        stop = at - 1
    return -1


@njit
def write_template(start: int, n: int, at: int, ids: int) -> tuple[int, int]:
    """Writes a path's template to ``at`` and its identifiers to ``ids``; where both end."""
    end = start + min(n, PATH_BYTES_MAX)
    i = _after_host(start, end)
    base, count = at, 0
    is_open, follows_id = True, False
    while i < end and not _class_at(i) & _PATH_END:
        if load8(i) == 47:
            i += 1
            continue
        stop, seen = _scan_name(i, end)
        if stop > i:
            kind = segment_kind(i, stop, seen, count, follows_id)
            if is_open:
                wide = stop - i if kind == LITERAL else 4
                is_open = count < SEGMENTS_MAX and at - base + 1 + wide <= TEMPLATE_BYTES_MAX
                count += is_open
                at = _put_segment(i, stop, kind if is_open else CLOSED, at)
            follows_id = kind != LITERAL
            if kind == IDENTIFIER or (kind == LITERAL and not is_open):
                ids = _keep(i, stop, ids)
        i = stop
        if i < end and load8(i) == 59:
            i = _segment_end(stop, end)
            ids = _keep(stop + 1, i, ids)
    if at == base:
        store8(at, 47)
        at += 1
    if i < end and load8(i) == 63:
        ids = _query_values(i + 1, end, ids)
    return at, ids


@njit
def _put_segment(start: int, end: int, kind: int, at: int) -> int:
    if kind == CLOSED:
        return _put(at, _REST)
    if kind != LITERAL:
        return _put(at, _ID)
    store8(at, 47)
    return copy(start, end, at + 1)


@njit
def write_route(start: int, n: int, at: int) -> int:
    """Writes a route that the log names itself; see ``template.route_template``."""
    base = at
    for i in range(start, start + n):
        byte = load8(i)
        is_printable = 0x21 <= byte <= 0x7E
        if at - base + (1 if is_printable else 3) > TEMPLATE_BYTES_MAX:
            return _put(at, _REST)
        if is_printable:
            store8(at, byte)
            at += 1
        else:
            store8(at, 37)
            store8(at + 1, _HEX_DIGITS[byte >> 4])
            store8(at + 2, _HEX_DIGITS[byte & 15])
            at += 3
    return at


@njit
def write_method(start: int, n: int, at: int) -> int:
    """Writes the method and a blank; see ``template.method_name``."""
    base = at
    is_method = n <= METHOD_BYTES_MAX
    if is_method:
        for i in range(start, start + n):
            byte = load8(i)
            if _CLASS[byte] & _LETTER:
                store8(at, byte & 0xDF)
            elif byte == 45 or byte == 95:
                store8(at, byte)
            else:
                is_method = False
                break
            at += 1
    if not is_method:
        at = _put(base, _OTHER)
    if at == base:
        store8(at, 45)
        at += 1
    store8(at, 32)
    return at + 1
